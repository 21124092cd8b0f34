#!/usr/bin/env bash
# Builds Debian packages from this tree: `packaging/debian.sh --help`.
set -euo pipefail

usage() {
    cat <<END
Builds Debian packages from this tree: libframelease0, libframelease-dev and framelease-tools.

Usage: packaging/debian.sh [--arch ARCH] [--output FOLDER]

  --arch ARCH      amd64, arm64 or armhf (default: this machine's). Another one needs Rust's target and gcc for it
  --output FOLDER  where the packages are placed (default target/debian)

The environment variables DEBFULLNAME and DEBEMAIL name the maintainer. SOURCE_DATE_EPOCH is the date of the packages
(default: that of the last commit), FEATURES as in packaging/install.sh.
END
}

cd "$(dirname "$0")/.."
arch=$(dpkg --print-architecture) out=target/debian
while [ $# != 0 ]; do
    case $1 in
    --arch) arch=${2:?--arch needs a value} && shift ;;
    --output) out=${2:?--output needs a value} && shift ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        echo "error: unknown word '$1': packaging/debian.sh --help lists the words" >&2
        exit 2
        ;;
    esac
    shift
done

case $arch in
amd64) target=x86_64-unknown-linux-gnu ;;
arm64) target=aarch64-unknown-linux-gnu ;;
armhf) target=armv7-unknown-linux-gnueabihf ;;
*)
    echo "error: packages can be built for amd64, arm64 and armhf, not for '$arch'" >&2
    exit 2
    ;;
esac
multiarch=$(dpkg-architecture -a"$arch" -qDEB_HOST_MULTIARCH 2>/dev/null)
if [ "$arch" != "$(dpkg --print-architecture)" ]; then
    linker=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_LINKER
    export CARGO_BUILD_TARGET=$target STRIP=$multiarch-strip "$linker=$multiarch-gcc"
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
revision=$version-1
maintainer="${DEBFULLNAME:-framelease developers} <${DEBEMAIL:-packages@framelease.example}>"

rm -rf "$out"
mkdir -p "$out/debian"
work=$(realpath "$out")
umask 022
export FEATURES=${FEATURES:-drm,g2d,mjpeg,tls,unixfd}
DESTDIR=$work/all PREFIX=/usr LIBDIR=/usr/lib/$multiarch packaging/install.sh
gzip -9n "$work"/all/usr/share/man/man1/*
# Not before the build: ring would be compiled again after each commit.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

# Moves files of the installed tree into a package, by patterns below /usr.
take() {
    local package=$1 pattern file
    shift
    for pattern in "$@"; do
        for file in "$work"/all/usr/$pattern; do
            local to=$work/$package${file#"$work/all"}
            mkdir -p "${to%/*}"
            mv "$file" "$to"
        done
    done
}

# The packages that the executables of a package need: `libc6 (>= 2.34), libgcc-s1 (>= 4.2)`.
needs() {
    printf 'Source: framelease\n\nPackage: %s\nArchitecture: any\n' "$1" >"$work/debian/control"
    (
        cd "$work"
        # The libraries of cross compilers are in packages of other names.
        find "$1" -type f -exec sh -c 'head -c 4 "$1" | grep -q ELF' _ {} \; -print0 |
            DEB_HOST_ARCH=$arch xargs -0 dpkg-shlibdeps -O "-S$1" "-l/usr/$multiarch/lib" |
            sed "s/^shlibs:Depends=//; s/-$arch-cross//g; s/:$arch//g"
    )
}

# Lists in a package the crates that it contains, with licenses and notices. Where there is a choice, MIT is enough.
crates() {
    local doc=$work/$1/usr/share/doc/$1 crate version license folder
    shift
    mkdir -p "$doc"
    cargo tree --locked --offline --edges normal,no-proc-macro --prefix none --format '{p} {l}' "$@" | sed 's/ (\*)$//' |
        LC_ALL=C sort -u | grep -v '^framelease' | while read -r crate version license; do
        for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$crate-${version#v}"; do break; done
        printf '%s %s: %s\n\n' "$crate" "$version" "$license"
        if [ -e "$folder/LICENSE-MIT" ]; then
            cat "$folder/LICENSE-MIT"
        else
            find "$folder" -maxdepth 1 \( -name 'LICENSE*' -o -name 'COPYING*' \) -exec cat {} +
        fi
        printf '\n\n\n'
    done | gzip -9n >"$doc/crates.gz"
}

# pack PACKAGE SECTION DEPENDS TITLE, with more fields on standard input and the description last.
pack() {
    local root=$work/$1 doc=$work/$1/usr/share/doc/$1
    mkdir -p "$root/DEBIAN" "$doc"
    cp packaging/debian/copyright "$doc/"
    gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
    printf 'framelease (%s) unstable; urgency=medium\n\n  * Built from the source tree. changelog.gz has the changes.\n\n -- %s  %s\n' \
        "$revision" "$maintainer" "$(date -Rud "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.Debian.gz"
    {
        printf 'Package: %s\nSource: framelease\nVersion: %s\nArchitecture: %s\n' "$1" "$revision" "$arch"
        printf 'Maintainer: %s\nSection: %s\nPriority: optional\nDepends: %s\n' "$maintainer" "$2" "$3"
        printf 'Installed-Size: %s\n' "$(du -ks --apparent-size "$root/usr" | cut -f 1)"
        cat
    } >"$root/DEBIAN/control"
    (cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    find "$root" -newermt "@$SOURCE_DATE_EPOCH" -print0 | xargs -0r touch --no-dereference --date "@$SOURCE_DATE_EPOCH"
    dpkg-deb --root-owner-group -Zxz --build "$root" "$work/$1_${revision}_$arch.deb"
}

take libframelease0 "lib/$multiarch/libframelease.so.*"
take libframelease-dev include "lib/$multiarch"
chmod 644 "$work/libframelease0/usr/lib/$multiarch"/*
mkdir -p "$work/libframelease0/DEBIAN"
echo "libframelease ${version%%.*} libframelease0 (>= $version)" >"$work/libframelease0/DEBIAN/shlibs"
echo 'activate-noawait ldconfig' >"$work/libframelease0/DEBIAN/triggers"
mkdir -p "$work/libframelease-dev/usr/share/doc/libframelease-dev"
cp -r capi/examples "$work/libframelease-dev/usr/share/doc/libframelease-dev/"
crates libframelease0 --package framelease-capi
crates libframelease-dev --package framelease-capi
depends=$(needs libframelease0)
pack libframelease0 libs "$depends" <<'END'
Multi-Arch: same
Description: zero-copy video on Linux
 framelease captures, converts, encodes, records and streams video, and lends
 frames to other processes as dma-bufs, without a copy.
 .
 This package has the shared library for programs in C and C++.
END
pack libframelease-dev libdevel "libframelease0 (= $revision)" <<'END'
Multi-Arch: same
Description: zero-copy video on Linux, files for development
 framelease captures, converts, encodes, records and streams video, and lends
 frames to other processes as dma-bufs, without a copy.
 .
 This package has the headers for C and C++, the static library, the file for
 pkg-config and examples.
END

take framelease-tools bin/framelease libexec/framelease share/man/man1/framelease.1.gz lib/systemd
mkdir -p "$work/framelease-tools/DEBIAN"
cp packaging/debian/framelease-tools/* "$work/framelease-tools/DEBIAN/"
depends=$(needs framelease-tools)
crates framelease-tools --package framelease --no-default-features --features "$FEATURES"
pack framelease-tools video "$depends" <<'END'
Description: look at video devices, and share, record and stream cameras
 framelease lends the frames of a V4L2 camera to other processes, encoders and
 displays as dma-bufs, without a copy.
 .
 This package has the program framelease. It examines video devices, shares a
 camera or a test pattern, records, encodes, serves RTSP and measures. It also
 has the systemd unit framelease-node.service, which is not enabled.
END

left=$(find "$work/all" ! -type d)
[ -z "$left" ] || { printf 'error: these files are in no package:\n%s\n' "$left" >&2; exit 1; }
