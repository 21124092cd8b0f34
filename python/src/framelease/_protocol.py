"""Numbers and tables of the share protocol."""

from __future__ import annotations

HELLO, BUFFER_OK, BUFFER_FAILED, RELEASE, RETIRED = 1, 2, 3, 4, 5
WELCOME, FORMAT, BUFFER, FRAME, REVOKE, RETIRE, END, BYE, NEWER = 16, 17, 18, 19, 20, 21, 22, 23, 24
LENGTHS = {WELCOME: 24, FORMAT: 120, BUFFER: 16, FRAME: 96, REVOKE: 24, RETIRE: 12, END: 8, BYE: 20, NEWER: 16}

MAGIC = 0x50534C46  # FLSP
VERSION = 1
CRITICAL = 1
MAX_MESSAGE = 256
MAX_RELEASES = 8
MAX_SLOTS = 64
MAX_PLANES = 4
MAX_SIDE = 32768

# For each color plane: bytes of a sample group, pixels across and down that it covers.
Groups = tuple[tuple[int, int, int], ...]


def _formats(codes: str, planes: Groups) -> dict[str, Groups]:
    return dict.fromkeys((code.ljust(4) for code in codes.split()), planes)


# The table of the protocol page. Other formats are opaque.
KNOWN: dict[str, Groups] = {
    **_formats("NV12 NV21 NM12 NM21", ((1, 1, 1), (2, 2, 2))),
    **_formats("NV16 NV61 NM16 NM61", ((1, 1, 1), (2, 2, 1))),
    **_formats("NV24 NV42", ((1, 1, 1), (2, 1, 1))),
    **_formats("P010 P012", ((2, 1, 1), (4, 2, 2))),
    **_formats("YU12 YV12 YM12 YM21", ((1, 1, 1), (1, 2, 2), (1, 2, 2))),
    **_formats("422P YM16 YM61", ((1, 1, 1), (1, 2, 1), (1, 2, 1))),
    **_formats("YM24 YM42", ((1, 1, 1), (1, 1, 1), (1, 1, 1))),
    **_formats("YUYV YVYU UYVY VYUY", ((4, 2, 1),)),
    **_formats("YUV3 RGB3 BGR3", ((3, 1, 1),)),
    **_formats(
        "YUV4 AYUV XYUV VUYA VUYX YUVA YUVX AB24 XB24 AR24 XR24 BA24 RA24 BX24 RX24 RGB4 BGR4 "
        "BGRH RX30 RA30 AR30",
        ((4, 1, 1),),
    ),
    **_formats(
        "Y444 YUVO YUVP Y10 Y12 Y14 Y16 Y012 RGBP R444 AR12 XR12 RA12 RX12 AB12 XB12 GA12 BX12 "
        "RGBO AR15 XR15 RA15 RX15 AB15 XB15 BA15 BX15 RGBQ RGBR BG10 GB10 BA10 RG10 BG12 GB12 "
        "BA12 RG12 BG14 GB14 GR14 RG14 BYR2 GB16 GR16 RG16 Z16",
        ((2, 1, 1),),
    ),
    **_formats("GREY RGB1 BA81 GBRG GRBG RGGB", ((1, 1, 1),)),
    **_formats("Y10P Y10B pBAA pGAA pgAA pRAA", ((5, 4, 1),)),
    **_formats("Y12P pBCC pGCC pgCC pRCC", ((3, 2, 1),)),
    **_formats("Y14P pBEE pGEE pgEE pREE", ((7, 4, 1),)),
    **_formats("H264 HEVC VP80 MJPG JPEG FWHT", ()),
}

REASONS = {
    1: "no common protocol version",
    2: "the pool has no room for another subscriber",
    3: "access denied or too many connections",
    4: "a message that the protocol forbids",
    5: "a lease was held beyond its deadline",
    6: "the publisher is closing",
    7: "no HELLO in time",
    8: "this publisher does not grant policy block; ask for latest or fifo",
    9: "the stream was held up for longer than the publisher allows",
}
CLOSING = 6
TEMPORARY = (2, 5, 7, 9)  # the same request may be admitted later
