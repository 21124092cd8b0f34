"""What a subscriber gives, beside frames."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Event(enum.Enum):
    PAUSED = "the publisher paused the stream; leases stay valid, and the next frame continues it"
    ENDED = "the publisher closed or died; connect() or reconnect() connects again"


class Flags(enum.IntFlag):
    DAMAGED = 1
    KEY = 2
    LAST = 4
    MONOTONIC = 8  # timestamp_ns is of CLOCK_MONOTONIC, as time.monotonic_ns()
    INTERLACED = 16  # the rows of two fields, that of the first row taken first
    BOTTOM_FIRST = 32  # the other field was taken first
    TOP_FIELD = 64  # the rows of one field, that with the first row
    BOTTOM_FIELD = 128  # the rows of the other field


class Plane(NamedTuple):
    """A color plane: bytes, except for the number of rows and the index of its memory plane."""

    memory: int
    offset: int  # of the first row, in the memory plane's data
    stride: int
    row_bytes: int
    rows: int

    @property
    def end(self) -> int:
        return self.offset + self.stride * max(self.rows - 1, 0) + self.row_bytes


class Format(NamedTuple):
    """What the frames of a pool look like. The color numbers are V4L2's."""

    pool: int
    slots: int
    fourcc: str
    width: int
    height: int
    cpu_reads: int  # 0 unknown, 1 cached, 2 uncached
    writable: bool  # every subscriber can map the buffers for writing
    colorspace: int
    ycbcr_encoding: int
    quantization: int
    transfer: int
    memory_bytes: tuple[int, ...]
    planes: tuple[Plane, ...]  # none: a bitstream. Those of an opaque format have no rows

    def __str__(self) -> str:
        return f"{self.fourcc.strip()} {self.width}x{self.height}"


class Memory(NamedTuple):
    """A buffer, and a frame's data in it. The descriptor is the library's: os.dup() it to keep it."""

    fd: int
    is_dmabuf: bool
    size: int
    offset: int
    bytes: int


class Stats(NamedTuple):
    received: int  # frames that recv() gave
    dropped: int
    lost: int
    revoked: int
    connections: int
    skipped: int  # with policy latest: frames that came and were released unseen, because a newer one was there
