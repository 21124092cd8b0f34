#!/bin/sh
# Prints the crates of Cargo.lock as bitbake fetches them, for contrib/meta-framelease.
set -eu
awk -F '"' '
    /^name = / { name = $2 }
    /^version = "/ { version = $2 }
    /^checksum = / {
        uris = uris "    crate://crates.io/" name "/" version " \\\n"
        sums = sums "SRC_URI[" name "-" version ".sha256sum] = \"" $2 "\"\n"
    }
    END { printf "# Written by packaging/yocto-crates.sh from Cargo.lock.\nSRC_URI += \" \\\n%s\"\n\n%s", uris, sums }
' "$(dirname "$0")/../Cargo.lock"
