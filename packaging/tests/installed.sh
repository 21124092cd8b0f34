# Run by `cargo lab packages` in a clean root of Debian with g++, pkgconf and systemd.
cd "$(mktemp -d)"
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

dpkg --install /packages/*.deb
# The checksums. The status is 0 in any case.
changed=$(dpkg --verify framelease-tools libframelease0 libframelease-dev)
[ -z "$changed" ] || fail "$changed"
[ "$(wc -l <"$(dpkg-query --control-path framelease-tools md5sums)")" -gt 15 ] || fail "files without checksums"

# The tool: help, a program, mistakes.
framelease --help >help
for program in /usr/libexec/framelease/*; do
    name=${program##*/}
    grep -q "^  $name  *[A-Z]" help || fail "framelease --help does not describe $name"
    framelease "$name" --help >"$name.help"
    head -n 1 "$name.help" | grep -q . || fail "framelease $name --help prints nothing"
done
[ "$(framelease --version)" = "framelease $(dpkg-query -Wf '${source:Upstream-Version}' framelease-tools)" ] ||
    fail "framelease --version is not the package's"
for wrong in nonsense ../framelease/list ''; do
    status=0
    framelease $wrong >out 2>error || status=$?
    [ $status = 2 ] || fail "framelease '$wrong' ends with status $status"
    [ ! -s out ] && grep -q subscriber error || fail "framelease '$wrong' does not name the programs"
done
framelease list --json | grep -q '^{' || fail "framelease list"
framelease doctor --quick >doctor || fail "framelease doctor"
framelease fanout --frames 10 --verify --json >/dev/null || fail "framelease fanout"
status=0
framelease list /dev/null 2>error || status=$?
[ $status = 1 ] || fail "the status of a program is lost: $status"

# The service: its program is there, and it is off.
unit=/usr/lib/systemd/system/framelease-node.service
systemd-analyze verify --man=no $unit 2>error || fail "systemd: $(cat error)"
[ ! -s error ] || fail "systemd: $(cat error)"
program=$(sed -n 's/^ExecStart=\([^ ]*\) node .*/\1/p' $unit)
dpkg-query --search "$program" | grep -q ^framelease-tools: || fail "ExecStart's '$program' is in no package"
[ "$(systemctl is-enabled framelease-node.service 2>&1)" = disabled ] || fail "the service is enabled"

# The library: a program linked to it, one that contains it, and one in C++.
cp /tests/hello.c .
version=$(pkg-config --modversion framelease)
gcc -Wall -Wextra -Werror hello.c $(pkg-config --cflags --libs framelease) -o hello
[ "$(./hello)" = "$version" ] || fail "hello with the shared library"
ldd hello | grep -q 'libframelease\.so\.0 => /' || fail "hello is not linked to libframelease.so.0"
gcc hello.c $(pkg-config --cflags framelease) -l:libframelease.a $(pkg-config --static --libs framelease | sed s/-lframelease//) \
    -o hello-static
! ldd hello-static | grep libframelease || fail "hello-static needs the shared library"
[ "$(./hello-static)" = "$version" ] || fail "hello with the static library"
for example in camnode consumer show; do
    gcc -Wall -Wextra -Werror /usr/share/doc/libframelease-dev/examples/$example.c \
        $(pkg-config --cflags --libs framelease) -o $example
done
framelease publisher --socket "$PWD/socket" --size 320x240 2>publisher &
trap 'kill $!' EXIT
for attempt in $(seq 100); do
    [ ! -S socket ] || break
    sleep 0.1
done
[ "$(./consumer --frames 3 "$PWD/socket" | grep -c ' mean ')" = 3 ] || fail "consumer of framelease publisher: $(cat publisher)"
trap - EXIT
kill $!
wait
printf '#include <framelease.hpp>\nint main() {}\n' >hello.cpp
g++ -Wall -Wextra -Werror hello.cpp $(pkg-config --cflags --libs framelease) -o hello-cpp

dpkg --purge libframelease-dev
./hello >/dev/null || fail "hello needs the development files"
dpkg --purge libframelease0 framelease-tools
[ -z "$(find / -xdev \( -path /packages -o -path /tests \) -prune -o -name '*framelease*' -print)" ] || fail "files are left"
