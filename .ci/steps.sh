# Sourced by .ci/run and .ci/deep: steps that can be named, and notes of what could not run.
#
#   .ci/run                all steps
#   .ci/run STEP...        these steps
#   .ci/run --list         the names of the steps
#   .ci/run --strict ...   fails at the end if something could not run that Debian, crates.io, PyPI or rustup serve.
#                          The default where CI=true.

cd "$(dirname "$0")/.."
strict=0
[ "${CI:-}" != true ] || strict=1
# Functions that run beside others leave their results in files here.
notes=$(mktemp -d)
trap 'rm -rf "$notes"' EXIT
steps=()
declare -A about=()

# A step and what it does. The function is called step_NAME, with _ for - and .
define() { steps+=("$1") about[$1]=$2; }

# Something that a registry serves could not run.
missing() { echo "NOT RUN: $1" | tee -a "$notes/missing"; }
# Something else could not run. No option makes that a failure.
absent() { echo "NOT RUN: $1" | tee -a "$notes/absent"; }

# Sets `chosen` to the named steps. Without a name it is empty.
choose() {
    chosen=()
    local word
    for word in "$@"; do
        case $word in
        --list)
            for word in "${steps[@]}"; do printf '%-14s %s\n' "$word" "${about[$word]}"; done
            exit 0
            ;;
        --strict) strict=1 ;;
        --help | -h)
            sed -n '3,7s/^#   //p' .ci/steps.sh
            exit 0
            ;;
        *)
            if [ -z "${about[$word]:-}" ]; then
                echo "$0: unknown step $word; --list names the steps" >&2
                exit 2
            fi
            chosen+=("$word")
            ;;
        esac
    done
}

do_step() {
    printf '\n== %s: %s (%s s)\n' "$1" "${about[$1]}" "$SECONDS"
    "step_${1//[-.]/_}"
}

# Lists what could not run, each line once. Fails if that must not be.
finish() {
    printf '\n== done (%s s)\n' "$SECONDS"
    cat "$notes"/missing "$notes"/absent 2>/dev/null | sort -u || true
    if [ $strict = 1 ] && [ -e "$notes/missing" ]; then
        echo "FAILED: --strict, and something that can be installed is missing"
        return 1
    fi
}

has_toolchain() {
    cargo "+$1" --version >/dev/null 2>&1 || rustup toolchain install "$1" --profile minimal >/dev/null 2>&1
}

# A cargo subcommand, installed if it can be.
has_subcommand() {
    cargo "$1" --version >/dev/null 2>&1 || cargo install --quiet --locked "cargo-$1" >/dev/null 2>&1
}
