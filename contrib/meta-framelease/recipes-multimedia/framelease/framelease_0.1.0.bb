SUMMARY = "Zero-copy video on Linux: V4L2 frames leased to other processes as dma-bufs"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = " \
    file://LICENSE-APACHE;md5=3b83ef96387f14655fc854ddc3c6bd57 \
    file://LICENSE-MIT;md5=84ff7a7e7247f65ea22513b86cc1991c \
"

# framelease is not released yet. README.md says what to set in local.conf.
FRAMELEASE_GIT ?= ""
SRC_URI = "${FRAMELEASE_GIT}"
SRCREV ?= "${AUTOREV}"
S = "${WORKDIR}/git"
require ${BPN}-crates.inc

python () {
    if not d.getVar("FRAMELEASE_GIT"):
        raise bb.parse.SkipRecipe("FRAMELEASE_GIT names no repository")
}

inherit cargo systemd

# Without RTSPS. Its crate ring is compiled from C.
PACKAGECONFIG ??= ""
PACKAGECONFIG[tls] = ""
FEATURES = "drm,g2d,mjpeg,unixfd${@bb.utils.contains('PACKAGECONFIG', 'tls', ',tls', '', d)}"

do_compile() {
    rm -rf ${B}/image
    export RUSTFLAGS="${RUSTFLAGS}" CARGO_BUILD_TARGET="${RUST_HOST_SYS}" CARGO_TARGET_DIR="${B}/target" CARGO_NET_OFFLINE=true
    # bitbake strips, after it has taken the debug information.
    DESTDIR=${B}/image PREFIX=${prefix} LIBDIR=${libdir} UNITDIR=${systemd_system_unitdir} FEATURES=${FEATURES} STRIP=true \
        CARGO_C=no ${S}/packaging/install.sh
}

do_install() {
    cp -R --no-preserve=ownership ${B}/image/. ${D}/
}

PACKAGES =+ "${PN}-tools"
FILES:${PN}-tools = "${bindir} ${libexecdir} ${systemd_system_unitdir}"

SYSTEMD_PACKAGES = "${PN}-tools"
SYSTEMD_SERVICE:${PN}-tools = "framelease-node.service"
SYSTEMD_AUTO_ENABLE:${PN}-tools = "disable"
