#!/bin/sh
# Builds framelease from this tree and installs it.
set -eu

usage() {
    cat <<END
Builds framelease from this tree and installs it: the C library, and the tool 'framelease' with its programs.

Usage: [VARIABLE=VALUE]... packaging/install.sh [library] [tools]

Without a word, both are installed. These environment variables are read:

  PREFIX    where it is used (default /usr/local)
  DESTDIR   a folder in which the files are placed, as if it were / (default: none)
  LIBDIR    the folder of the library (default PREFIX/lib; Debian: PREFIX/lib/x86_64-linux-gnu)
  UNITDIR   the folder of systemd's units (default PREFIX/lib/systemd/system)
  FEATURES  cargo features of the tools (default $features)
  CARGO_C   'no' builds the library with cargo alone (default: cargo-c is used if it is installed)
  STRIP     strips the programs and the library, 'true' strips nothing (default strip)

and those of cargo: CARGO_BUILD_TARGET, CARGO_TARGET_DIR, CARGO_NET_OFFLINE.
END
}

# Each example that knows --help.
programs="capture convert decode display doctor encode fanout list node prepare publisher repair subscriber"
features=drm,g2d,mjpeg,tls,unixfd

library= tools=
for word in "$@"; do
    case $word in
    library) library=yes ;;
    tools) tools=yes ;;
    -h | --help)
        usage
        exit
        ;;
    *)
        echo "error: unknown word '$word': packaging/install.sh --help lists the words" >&2
        exit 2
        ;;
    esac
done
[ -n "$library$tools" ] || library=yes tools=yes

cd "$(dirname "$0")/.."
PREFIX=${PREFIX:-/usr/local}
LIBDIR=${LIBDIR:-$PREFIX/lib}
root=${DESTDIR:-}$PREFIX
units=${DESTDIR:-}${UNITDIR:-$PREFIX/lib/systemd/system}
built=${CARGO_TARGET_DIR:-target}/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}release
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

# cargo-c, where it is installed, and cargo alone make the same files. `cargo lab packages` compares them.
if [ -n "$library" ] && [ "${CARGO_C:-yes}" != no ] && command -v cargo-cinstall >/dev/null; then
    cargo cinstall --release --locked --package framelease-capi ${CARGO_BUILD_TARGET:+--target $CARGO_BUILD_TARGET} \
        --prefix "$PREFIX" --libdir "$LIBDIR" --destdir "${DESTDIR:-/}"
elif [ -n "$library" ]; then
    soname=libframelease.so.${version%%.*}
    cargo rustc --release --locked --package framelease-capi --lib --crate-type cdylib,staticlib -- \
        -C "link-arg=-Wl,-soname,$soname"
    lib=${DESTDIR:-}$LIBDIR
    install -d "$lib/pkgconfig" "$root/include"
    install -m 644 "$built/libframelease_capi.a" "$lib/libframelease.a"
    install -m 644 "$built/libframelease_capi.so" "$lib/libframelease.so.$version"
    ln -sf "libframelease.so.$version" "$lib/$soname"
    ln -sf "libframelease.so.$version" "$lib/libframelease.so"
    install -m 644 capi/include/framelease.h capi/include/framelease.hpp "$root/include/"
    # What a static library of Rust's needs of glibc.
    private="-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"
    sed "s|@PREFIX@|$PREFIX|; s|@LIBDIR@|$LIBDIR|; s|@VERSION@|$version|; s|@LIBS_PRIVATE@|$private|" \
        capi/framelease.pc.in >"$lib/pkgconfig/framelease.pc"
    chmod 644 "$lib/pkgconfig/framelease.pc"
fi
if [ -n "$library" ]; then
    "${STRIP:-strip}" --strip-unneeded "${DESTDIR:-}$LIBDIR/libframelease.so.$version"
    "${STRIP:-strip}" --strip-debug "${DESTDIR:-}$LIBDIR/libframelease.a"
fi

if [ -n "$tools" ]; then
    example() { if [ "$1" = doctor ]; then echo framelease-doctor; else echo "$1"; fi; }
    set --
    for name in $programs; do set -- "$@" --example "$(example "$name")"; done
    cargo build --release --locked --package framelease --no-default-features --features "${FEATURES:-$features}" "$@"
    install -d "$root/bin" "$root/libexec/framelease" "$root/share/man/man1"
    for name in $programs; do
        install -m 755 "$built/examples/$(example "$name")" "$root/libexec/framelease/$name"
        "${STRIP:-strip}" "$root/libexec/framelease/$name"
    done
    sed "s/@VERSION@/$version/" packaging/framelease >"$root/bin/framelease"
    chmod 755 "$root/bin/framelease"
    install -m 644 packaging/framelease.1 "$root/share/man/man1/"
    install -d "$units"
    sed "s|/usr/bin/framelease|$PREFIX/bin/framelease|" docs/framelease-node.service >"$units/framelease-node.service"
    chmod 644 "$units/framelease-node.service"
fi
