"""Takes the frames of a framelease publisher: docs/protocol.md in Python.

    with framelease.Subscriber("/run/camera/socket").connect(timeout=5) as subscriber:
        for frame in subscriber:
            print(frame.sequence, frame.format, frame.planes[0][:16].hex())

Standard library only; Python 3.9 and newer (CPython), Linux 5.3. No thread. One thread at a time uses a subscriber and its
frames. Every wait has a limit. The subscriber checks every message of the publisher.

The loop goes on after a pause of the stream (Event.PAUSED) and ends when the publisher closes or dies (Event.LOST).

A lease and its views. `frame.planes` and `frame.data()` are read-only views of the shared memory itself. `release()` (or the
end of a `with frame:`, or the next turn of the loop above) ends them: using one later raises ValueError. What was made
of them, a slice or a NumPy array, cannot be ended from here; while such a one lives, `release()` raises BufferError and the
lease is kept, so that the source does not fill a buffer that is being read. Let go of it and call `release()` again, or
leave it: each later call of the subscriber tries once more.
"""

from __future__ import annotations

import array
import enum
import errno
import fcntl
import mmap
import os
import select
import socket
import struct
import sys
import time
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple, Union

HELLO, BUFFER_OK, BUFFER_FAILED, RELEASE, RETIRED = 1, 2, 3, 4, 5
WELCOME, FORMAT, BUFFER, FRAME, REVOKE, RETIRE, END, BYE, NEWER = 16, 17, 18, 19, 20, 21, 22, 23, 24
_LENGTHS = {WELCOME: 24, FORMAT: 120, BUFFER: 16, FRAME: 96, REVOKE: 24, RETIRE: 12, END: 8, BYE: 20, NEWER: 16}

MAGIC = 0x50534C46  # FLSP
VERSION = 1
CRITICAL = 1
MAX_MESSAGE = 256
MAX_RELEASES = 8
MAX_SLOTS = 64
MAX_PLANES = 4
MAX_SIDE = 32768
_MAX_FDS = 8  # room for more than can be meant, so that a surplus is seen
_MAX_STEPS = 256  # one call handles no more, whatever a publisher sends
_PAUSE_MIN, _PAUSE_MAX = 0.01, 0.5

_F_GET_SEALS, _F_SEAL_SHRINK = 1034, 2
_DMA_BUF_IOCTL_SYNC = 0x40086200
_SYNC_READ, _SYNC_END = 1, 4

def _fits(planes: int, known: Optional[tuple]) -> bool:
    """Whether a format can have this number of color planes. An opaque one can have any."""
    if known is None:
        return planes <= MAX_PLANES
    return planes == len(known)


def _formats(codes: str, planes: tuple) -> dict:
    return dict.fromkeys((code.ljust(4) for code in codes.split()), planes)


# For each color plane: bytes of a sample group, pixels across and down that it covers. The table of the protocol page.
# Other formats are opaque.
KNOWN = {
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
_CLOSING = 6
_TEMPORARY = (2, 5, 7, 9)  # the same request may be admitted later


class Error(Exception):
    """What a publisher did, or what this process lacks. Failed system calls are OSErrors that name the socket."""


class ProtocolError(Error):
    """The publisher broke the protocol. The connection is ended."""


class Refused(Error):
    """The publisher refused this subscriber or ended the connection. The text says why.

    `reason` is the number of BYE, a key of REASONS or one of a later version. With reason 2 the quota does not fit the pool:
    `reserve` + 1 (the newest frame) + `granted` + `wanted` is more than `slots`. With other reasons these are 0."""

    reason = 0
    slots = 0  # buffers of the pool
    reserve = 0  # buffers for the driver and the publisher's process
    granted = 0  # the quotas of other subscribers
    wanted = 0  # the quota that this subscriber asked for

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may be admitted later. Never so for policy block where it is not granted."""
        return self.reason in _TEMPORARY


class Disconnected(Error):
    """Not connected, or hung up before WELCOME."""


class Exhausted(Error):
    """No file descriptor is left for any of the publisher's buffers."""


class Timeout(Error, TimeoutError):
    """Nothing came in time."""


class Event(enum.Enum):
    PAUSED = "the publisher paused the stream; leases stay valid, and the next frame continues it"
    LOST = "the stream is over, the publisher hung up: connect() or reconnect() connects again"


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
    memory_bytes: Tuple[int, ...]
    planes: Tuple[Plane, ...]  # none: a bitstream. Those of an opaque format have no rows

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
    received: int  # frames that next() gave
    dropped: int
    lost: int
    revoked: int
    connections: int
    skipped: int  # with policy latest: frames that came and were released unseen, because a newer one was there


class _Violation(Exception):
    pass


class _Buffer:
    """A descriptor that was checked, and its mapping, made once."""

    def __init__(self, fd: int, needed: int) -> None:
        self.fd = fd
        self.is_dmabuf = _is_dmabuf(fd)
        if not self.is_dmabuf:
            try:
                seals = fcntl.fcntl(fd, _F_GET_SEALS)
            except OSError:
                raise _Violation("expected a dma-buf or a memfd, got another file") from None
            if not seals & _F_SEAL_SHRINK:
                raise _Violation("expected F_SEAL_SHRINK on a memfd, it is not sealed")
        try:
            self.size = os.lseek(fd, 0, os.SEEK_END)
        except OSError as e:
            raise _Violation(f"a buffer has no size: {e}") from None
        if self.size < max(needed, 1):
            raise _Violation(f"a buffer of {self.size} bytes, its layout needs {needed}")
        self._map: Optional[mmap.mmap] = None
        self._alone = 0

    def view(self) -> memoryview:
        if self._map is None:
            self._map = mmap.mmap(self.fd, self.size, access=mmap.ACCESS_READ)
            self._alone = sys.getrefcount(self._map)
        return memoryview(self._map)

    def is_viewed(self) -> bool:
        """Whether any view lives. All refer to the mapping, also numpy.ndarray(buffer=…), which is not counted as one."""
        return self._map is not None and sys.getrefcount(self._map) > self._alone

    def sync(self, flags: int) -> None:
        while self.is_dmabuf:
            try:
                fcntl.ioctl(self.fd, _DMA_BUF_IOCTL_SYNC, struct.pack("=Q", flags))
                return
            except (InterruptedError, BlockingIOError):
                pass

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
        os.close(self.fd)


def _is_dmabuf(fd: int) -> bool:
    # Python has no fstatfs with its f_type. Only a dma-buf's fdinfo names an exporter (Linux 5.3).
    try:
        with open(f"/proc/self/fdinfo/{fd}", encoding="ascii", errors="replace") as info:
            return any(line.startswith("exp_name:") for line in info)
    except OSError:
        return False


class _Link:
    """A connection. It outlives the subscriber's interest in it while frames of it are held: after BYE the publisher
    waits for them, and a hang-up would end their leases."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        try:
            # The publisher's pidfd, of SO_PEERPIDFD. Python has no name for it, and Linux before 6.5 does not have it.
            self.process: Optional[int] = sock.getsockopt(socket.SOL_SOCKET, 77)
        except OSError:
            self.process = None
        self.empty = 0  # receives in a row that found nothing
        self.users = 1  # the subscriber, and pools
        self.over = False
        self.leases = 0
        self.unsent: List[bytes] = []  # releases that the socket had no room for, or that wait for more: at most `hold`

    def is_over(self) -> bool:
        if not self.over:
            hang_up = select.poll()
            hang_up.register(self.socket, 0)
            if self.process is not None:
                # A child that the publisher forked can keep the socket open.
                hang_up.register(self.process, select.POLLIN)
            self.over = bool(hang_up.poll(0))
        return self.over

    def send(self, kind: int, fields: bytes) -> bool:
        try:
            self.socket.send(struct.pack("<HHI", kind, CRITICAL, 0) + fields, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            return True
        except OSError:
            return False

    def flush(self) -> None:
        while self.unsent:
            # Taken out before they are sent: the garbage collector may run in between, release a frame and flush.
            some = self.unsent[:MAX_RELEASES]
            del self.unsent[: len(some)]
            try:
                message = struct.pack("<HHI", RELEASE, CRITICAL, 0) + b"".join(some)
                self.socket.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError as e:
                if e.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM):
                    self.unsent[:0] = some
                    return
                # The publisher is gone, and the leases with it.

    def unuse(self) -> None:
        self.users -= 1
        if self.users == 0:
            self.socket.close()
            if self.process is not None:
                os.close(self.process)


class _Slot:
    def __init__(self) -> None:
        self.buffers: List[_Buffer] = []  # empty: they did not arrive
        self.generation: Optional[int] = None
        self.held = False
        self.revoked = False


class _Pool:
    def __init__(self, owner: Subscriber, link: _Link, fmt: Format) -> None:
        self.owner, self.link, self.format = owner, link, fmt
        self.slots: List[_Slot] = []
        self.held = 0
        self.current = True
        link.users += 1

    @property
    def complete(self) -> bool:
        return len(self.slots) == self.format.slots

    def settle(self) -> None:
        """Lets the pool go if it is not current and no frame of it is held, and says so if we had all of it."""
        if self.current or self.held or self not in self.owner._pools:
            return
        self.owner._pools.remove(self)
        for slot in self.slots:
            for buffer in slot.buffers:
                buffer.close()
        if self.complete:
            self.link.flush()
            # RETIRED ends the pool's leases: a RELEASE after it would be one too many.
            if not self.link.unsent:
                self.link.send(RETIRED, struct.pack("<I", self.format.pool))
        self.link.unuse()


class Frame:
    """A lease on one buffer of the publisher. `with frame:` gives it back."""

    def __init__(self, pool: _Pool, slot: int, memory: Tuple[Memory, ...], fields: Tuple[int, ...]) -> None:
        self.format = pool.format
        self.slot = slot
        self.memory = memory
        self.generation, self.sequence, self.timestamp_ns, self.sent_ns, self.dropped, self.lost, flags = fields
        self.flags = Flags(flags & 15)
        self._pool: Optional[_Pool] = pool
        self._state = pool.slots[slot]
        self._views: List[memoryview] = []
        self._planes: Optional[Tuple[memoryview, ...]] = None
        self._reading = False

    @property
    def valid(self) -> bool:
        """Whether the lease still holds: not released, not revoked, connection up. Asks the connection: one system call.

        Ask after the last byte was read. The memory stays readable until the release, but may hold a later picture."""
        return self._pool is not None and not self._state.revoked and not self._pool.link.is_over()

    def begin_read(self, timeout: float = 1.0) -> None:
        """Waits until no device writes any more, and begins CPU access. The first view does it by itself."""
        if self._pool is None or self in self._pool.owner._late:
            raise ValueError("the frame was released")
        if self._reading:
            return
        begun: List[_Buffer] = []
        try:
            for buffer in self._state.buffers:
                if buffer.is_dmabuf:
                    # SYNC itself waits for fences without a limit.
                    fences = select.poll()
                    fences.register(buffer.fd, select.POLLIN)
                    if not fences.poll(max(timeout, 0) * 1000):
                        raise Timeout(f"a device still works on slot {self.slot} after {timeout} s")
                    buffer.sync(_SYNC_READ)
                begun.append(buffer)
        except BaseException:
            for buffer in begun:
                buffer.sync(_SYNC_READ | _SYNC_END)
            raise
        self._reading = True

    def data(self, memory: int = 0) -> memoryview:
        """The data of a memory plane, padding and all; of a bitstream or an opaque format, all there is. A read-only view."""
        self.begin_read()
        m = self.memory[memory]
        whole = self._state.buffers[memory].view()
        part = whole[m.offset : m.offset + m.bytes]
        self._views += (whole, part)
        return part

    @property
    def planes(self) -> Tuple[memoryview, ...]:
        """The color planes, each from its first row to the end of its last. Read-only views.

        ValueError if the frame's data end before that, or the frame was released."""
        if self._planes is None:
            for plane in self.format.planes:
                if plane.end > self.memory[plane.memory].bytes:
                    raise ValueError(f"frame {self.sequence}: a plane ends at {plane.end} of {self.memory[plane.memory].bytes} bytes")
            planes = []
            for plane in self.format.planes:
                planes.append(self.data(plane.memory)[plane.offset : plane.end])
            self._views += planes
            self._planes = tuple(planes)
        return self._planes

    def rows(self) -> Iterator[memoryview]:
        """All pixels in order, rows without padding; a bitstream or an opaque format as it is.

        Each view dies with the turn of the loop."""
        if not any(plane.rows for plane in self.format.planes):
            yield from (self.data(memory) for memory in range(len(self.memory)))
            return
        for plane, view in zip(self.format.planes, self.planes):
            for start in range(0, plane.stride * plane.rows, plane.stride):
                with view[start : start + plane.row_bytes] as row:
                    yield row

    def tobytes(self) -> bytes:
        """A copy of what rows() has."""
        return b"".join(bytes(row) for row in self.rows())

    def numpy(self, plane: int = 0) -> Any:
        """A read-only NumPy view of a color plane: rows, samples across, bytes of a sample if more than one.

        It must be gone (`del`) before the frame is released."""
        import numpy

        if self.format.fourcc not in KNOWN:
            raise ValueError(f"{self.format.fourcc!r} has no rows; data() has its bytes")
        p, group = self.format.planes[plane], KNOWN[self.format.fourcc][plane][0]
        dimensions = 3 if group > 1 else 2
        shape, strides = (p.rows, p.row_bytes // group, group)[:dimensions], (p.stride, group, 1)[:dimensions]
        flat = numpy.frombuffer(self.planes[plane], numpy.uint8)
        return numpy.lib.stride_tricks.as_strided(flat, shape, strides, writeable=False)

    def release(self) -> None:
        """Gives the lease back. A second call does nothing. BufferError while a slice or array of a view lives."""
        pool = self._pool
        if pool is None:
            return
        late = pool.owner._late
        for view in self._views:
            try:
                view.release()
            except BufferError:
                pass
        if any(buffer.is_viewed() for buffer in self._state.buffers):
            if self not in late:
                late.append(self)
            raise BufferError(f"frame {self.sequence}: a slice or array of its planes still lives (del it), so the lease is kept")
        if self in late:
            late.remove(self)
        self._views.clear()
        self._planes = None
        if self._reading:
            for buffer in self._state.buffers:
                buffer.sync(_SYNC_READ | _SYNC_END)
        self._end_lease(pool)
        pool.link.flush()
        pool.settle()

    def _end_lease(self, pool: _Pool) -> None:
        """Its release is sent by the link's next flush()."""
        self._pool, self._state.held = None, False
        pool.held -= 1
        pool.link.leases -= 1
        pool.link.unsent.append(struct.pack("<IIQ", pool.format.pool, self.slot, self.generation))

    def __enter__(self) -> Frame:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        try:
            self.release()
        except (AttributeError, BufferError):
            pass  # not made to the end; or kept for later

    def __repr__(self) -> str:
        return f"<Frame {self.sequence} {self.format} slot {self.slot}{'' if self.valid else ' invalid'}>"


class Subscriber:
    """Receives frames. Poll it (`fileno`) and call `next(0)`, or wait in `next`, or iterate.

    hold: frames leased at a time, 1 to 64. policy, for frames that come while all leases are in use: "latest", "fifo:N"
    or "block". every: take every n-th frame. max_fps: take at most this many frames a second."""

    def __init__(
        self, path: Union[str, os.PathLike[str]], *, hold: int = 1, policy: str = "latest", every: int = 1, max_fps: float = 0
    ) -> None:
        self._link: Optional[_Link] = None
        self.path = os.fspath(path)
        name, _, depth = policy.partition(":")
        number = {"latest": 0, "fifo": 1, "block": 2}.get(name)
        wait = int(depth) if name == "fifo" and depth.isdigit() else 1
        if number is None or (depth != "") != (name == "fifo") or not 1 <= wait <= 32:
            raise ValueError(f"policy {policy!r}: expected latest, fifo:N (1 to 32) or block")
        milli_fps = int(max_fps * 1000)
        if not 1 <= hold <= MAX_SLOTS or not 1 <= every < 1 << 32 or not 0 <= milli_fps < 1 << 32 or (every > 1 and max_fps):
            raise ValueError("hold is 1 to 64, every at least 1, and not together with max_fps")
        if not self.path or self.path.startswith("\0"):
            raise ValueError("the socket is a path")
        self._hold = hold
        self._hello = struct.pack("<IHHHHHHII", MAGIC, VERSION, VERSION, hold, number, wait, 0, every, milli_fps)
        self._pools: List[_Pool] = []  # the current one, and those of which frames are held
        self._current: Optional[_Pool] = None
        self._late: List[Frame] = []  # released by their user, views still about
        self._last_pool: Optional[int] = None
        self._welcomed = False
        self._latest = name == "latest"
        self._unseen: Optional[Frame] = None  # with latest, inside _take(): a frame that next() has not given yet
        self._deferred: Optional[Exception] = None  # raised by the next next()
        self._counts = [0, 0, 0, 0, 0]  # received, lost, revoked, connections, skipped
        self._dropped_before = self._dropped = 0
        self.quota = self.lease_ms = self.epoch = 0

    # ---- calls ----

    def connect(self, timeout: float = 5.0) -> Subscriber:
        """Connects, and waits until the publisher has admitted us. Also after Event.LOST or an error.

        Refused, ProtocolError, Timeout, Disconnected; or FileNotFoundError, ConnectionRefusedError, PermissionError."""
        deadline = time.monotonic() + timeout
        self._hang_up()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        while True:
            try:
                sock.connect(self.path)
                break
            except BlockingIOError:
                # A publisher listens, and has many connections to accept before this one.
                if time.monotonic() >= deadline:
                    sock.close()
                    raise Timeout(f"{self.path}: connect: the publisher does not accept for {timeout} s") from None
                time.sleep(_PAUSE_MIN)
            except OSError as e:
                sock.close()
                if e.errno is None:  # the path is too long
                    raise
                raise OSError(e.errno, e.strerror, self.path) from None
        self._link = _Link(sock)
        self._last_pool = self._deferred = None
        # A publisher that hung up at once has said why: the first receive brings it.
        self._link.send(HELLO, self._hello)
        try:
            while not self._welcomed:
                event = self._take(deadline, handshake=True)
                if event is not None:
                    raise Disconnected(f"{self.path}: connect: the publisher hung up without WELCOME")
                if not self._welcomed and time.monotonic() >= deadline:
                    raise Timeout(f"{self.path}: connect: no answer to HELLO within {timeout} s")
        except BaseException:
            self._hang_up()
            raise
        return self

    def reconnect(self, timeout: float) -> Subscriber:
        """Calls connect() until it works or time is over, with pauses from 10 ms to half a second.

        A refusal that is not temporary is raised at once."""
        deadline, pause = time.monotonic() + timeout, _PAUSE_MIN
        while True:
            try:
                return self.connect(max(deadline - time.monotonic(), 0))
            except (FileNotFoundError, ConnectionRefusedError, Disconnected, Refused, ProtocolError) as e:
                left = deadline - time.monotonic()
                if left <= 0 or (isinstance(e, Refused) and not e.is_temporary):
                    raise
            time.sleep(min(pause, left))
            pause = min(pause * 2, _PAUSE_MAX)

    def next(self, timeout: float = 0.0) -> Union[Frame, Format, Event, None]:
        """A frame, a new format, an event; None if nothing came in time. After an error we are not connected any more.

        With policy latest it reads all frames that are there, gives the newest, and releases the others unseen."""
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            raise deferred
        if self._link is None:
            raise Disconnected(f"{self.path}: not connected")
        return self._take(time.monotonic() + timeout, handshake=False)

    def frames(
        self, timeout: float = 10.0, on_event: Optional[Callable[[Union[Format, Event]], object]] = None
    ) -> Iterator[Frame]:
        """Frames until the publisher hangs up; each is released at the next turn. A pause does not end it.

        Timeout if no frame comes for `timeout` seconds; a pause does not count. `on_event` is called with each Format and
        Event."""
        paused = False
        while True:
            got = self.next(timeout)
            if got is None:
                if paused:
                    continue
                raise Timeout(f"{self.path}: no frame for {timeout} s")
            if isinstance(got, Frame):
                paused = False
                with got:
                    yield got
            else:
                if on_event is not None:
                    on_event(got)
                if got is Event.LOST:
                    return
                paused = paused or got is Event.PAUSED
            # Its name would keep it, and a slice of it, until the next frame comes.
            del got

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def fileno(self) -> int:
        """For select and event loops; another one after each connect()."""
        if self._link is None:
            raise ValueError("not connected")
        return self._link.socket.fileno()

    @property
    def process_fd(self) -> Optional[int]:
        """For event loops, too: readable when the publisher's process has ended, even if a child that it forked keeps the
        connection open. Call next() until it gives Event.LOST. None before Linux 6.5."""
        return self._link.process if self._link is not None else None

    @property
    def format(self) -> Optional[Format]:
        """The format of the frames to come; a frame has its own. None before the publisher has a source."""
        return self._current.format if self._current else None

    @property
    def stats(self) -> Stats:
        received, lost, revoked, connections, skipped = self._counts
        return Stats(received, self._dropped_before + self._dropped, lost, revoked, connections, skipped)

    def close(self) -> None:
        """Ends the connection. Frames that are still held keep it, and their memory, until they are released."""
        self._hang_up()

    def __del__(self) -> None:
        self._hang_up()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what a publisher says ----

    def _hang_up(self) -> None:
        if self._link is None:
            return
        self._link.over = True
        self._retire()
        self._link.unuse()
        self._link, self._welcomed = None, False
        self._dropped_before += self._dropped
        self._dropped = 0

    def _retire(self) -> None:
        pool, self._current = self._current, None
        if pool is not None:
            pool.current = False
            pool.settle()

    def _take(self, deadline: float, handshake: bool) -> Union[Frame, Format, Event, None]:
        """The next frame or event. With latest, a frame is given when no newer one is there."""
        try:
            got = self._handle(deadline, handshake)
        except (Error, OSError) as e:
            if self._unseen is None:
                raise
            # The frame came before the message that ended the connection. The next call raises the error.
            self._deferred = e
            got = None
        except BaseException:
            if self._unseen is not None:
                pool = self._skip_unseen()
                pool.link.flush()
                pool.settle()
            raise
        frame, self._unseen = self._unseen, None
        if frame is None:
            return got
        if self._link is not None:
            self._link.flush()
        return frame

    def _skip_unseen(self) -> _Pool:
        """Releases the frame that the caller has not seen."""
        frame, self._unseen = self._unseen, None
        assert frame is not None and frame._pool is not None
        pool = frame._pool
        frame._end_lease(pool)
        self._counts[0] -= 1
        self._counts[4] += 1
        return pool

    def _is_more_about_frames(self) -> bool:
        """Whether the next message is there and cannot become an event of its own. It stays in the socket."""
        assert self._link is not None
        try:
            header = self._link.socket.recv(8, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        except OSError:
            return False
        return len(header) == 8 and struct.unpack_from("<H", header)[0] in (FRAME, NEWER, REVOKE)

    def _handle(self, deadline: float, handshake: bool) -> Union[Frame, Format, Event, None]:
        """Handles messages until one of them is something to report."""
        assert self._link is not None
        for _ in range(_MAX_STEPS):
            left = 0.0
            if self._unseen is not None:
                if not self._is_more_about_frames():
                    return None
            else:
                for frame in list(self._late):
                    try:
                        frame.release()
                    except BufferError:
                        pass
                self._link.flush()
                for pool in list(self._pools):
                    pool.link.flush()
                left = deadline - time.monotonic()
            if left > 0:
                ready = select.poll()
                ready.register(self._link.socket, select.POLLIN | (select.POLLOUT if self._link.unsent else 0))
                if self._link.process is not None:
                    ready.register(self._link.process, select.POLLIN)
                found = ready.poll(int(left * 1000) + 1)
                if not found:
                    return None
                self._link.empty += any(fd == self._link.process for fd, _ in found)
            try:
                data, ancillary, flags, _ = self._link.socket.recvmsg(
                    MAX_MESSAGE, socket.CMSG_SPACE(_MAX_FDS * 4), socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                # Asked only at the second of two: a loop that reads until nothing is left would else pay at each frame.
                self._link.empty += 1
                if self._link.empty > 1 and self._link.is_over():
                    self._hang_up()
                    return Event.LOST
                if left <= 0:
                    return None
                continue
            except ConnectionResetError:
                # Reported once when the publisher closed without reading all; what it sent before is still to be read.
                continue
            except OSError as e:
                self._hang_up()
                raise OSError(e.errno, f"recvmsg: {e.strerror}", self.path) from None
            self._link.empty = 0
            fds = array.array("i")
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(payload[: len(payload) // fds.itemsize * fds.itemsize])
            mine: List[int] = list(fds)
            try:
                if flags & socket.MSG_TRUNC:
                    raise _Violation(f"a message is longer than {MAX_MESSAGE} bytes")
                complete = not flags & socket.MSG_CTRUNC
                if not data and complete and not mine:
                    self._hang_up()
                    return Event.LOST
                got = self._message(data, mine, complete)
            except _Violation as e:
                self._hang_up()
                raise ProtocolError(f"{self.path}: the publisher broke the protocol: {e}") from None
            finally:
                for fd in mine:
                    os.close(fd)
            if got is not None or (handshake and self._welcomed):
                return got
        return None

    def _message(self, m: bytes, fds: List[int], complete: bool) -> Union[Frame, Format, Event, None]:
        """One message. Takes the descriptors that it keeps out of `fds`."""
        if len(m) < 8:
            raise _Violation(f"a message of {len(m)} bytes")
        kind, flags = struct.unpack_from("<HH", m)
        if kind not in _LENGTHS:
            if flags & CRITICAL:
                raise _Violation(f"message type {kind} is unknown and critical")
            return None
        if len(m) < _LENGTHS[kind]:
            raise _Violation(f"message type {kind}: expected {_LENGTHS[kind]} bytes, got {len(m)}")
        if kind in (BUFFER, FRAME, REVOKE) and struct.unpack_from("<I", m, 12)[0] >= MAX_SLOTS:
            raise _Violation("a slot is out of range")
        if kind == BYE:
            return self._on_bye(*struct.unpack_from("<IHHHH", m, 8))
        if kind == WELCOME:
            if self._welcomed:
                raise _Violation("a second WELCOME")
            version, self.quota, self.lease_ms, self.epoch = struct.unpack_from("<HHIQ", m, 8)
            if version != VERSION:
                raise _Violation(f"expected version {VERSION}, got {version}")
            self._welcomed = True
            self._counts[3] += 1
            return None
        if not self._welcomed:
            raise _Violation(f"expected WELCOME, got message type {kind}")
        if kind == FORMAT:
            return self._on_format(m)
        if kind == BUFFER:
            return self._on_buffer(m, fds, complete)
        if kind == FRAME:
            return self._on_frame(m)
        if kind == REVOKE:
            self._on_revoke(*struct.unpack_from("<IIQ", m, 8))
            return None
        if kind == RETIRE:
            (number,) = struct.unpack_from("<I", m, 8)
            if self._current is None or self._current.format.pool != number:
                raise _Violation(f"RETIRE of pool {number}, which is not the current one")
            self._retire()
            return None
        if kind == NEWER:
            (generation,) = struct.unpack_from("<Q", m, 8)
            # Newer frames wait than the last one that was sent. If that one is unseen, its release brings the newest.
            if self._unseen is not None and generation >= self._unseen.generation:
                self._skip_unseen()
            return None
        return Event.PAUSED

    def _on_bye(self, reason: int, slots: int, reserve: int, granted: int, wanted: int) -> Event:
        self._hang_up()
        if reason == _CLOSING:
            return Event.LOST
        text = REASONS.get(reason, f"reason {reason}")
        if slots:
            text += (
                f": the pool has {slots} buffers: {reserve} for the driver and the publisher's process, 1 for the newest frame, "
                f"{granted} for other subscribers; this subscriber needs {wanted}"
            )
        error = Refused(f"{self.path}: the publisher ended the connection: {text}")
        error.reason, error.slots, error.reserve, error.granted, error.wanted = reason, slots, reserve, granted, wanted
        raise error

    def _on_format(self, m: bytes) -> Format:
        pool, slots, cpu_reads, writable, code, width, height, modifier = struct.unpack_from("<IHBB4sIIQ", m, 8)
        color: Tuple[int, int, int, int] = struct.unpack_from("<IIII", m, 36)
        memory_count, plane_count = struct.unpack_from("<HH", m, 52)
        fourcc = code.decode("latin-1")
        if not 1 <= slots <= MAX_SLOTS:
            raise _Violation(f"FORMAT: expected 1 to {MAX_SLOTS} slots, got {slots}")
        if modifier != 0:
            raise _Violation("FORMAT: a modifier other than linear")
        if self._current is not None:
            raise _Violation("FORMAT before the old pool's RETIRE")
        if pool == self._last_pool:
            raise _Violation(f"FORMAT: pool {pool} for the second time")
        known = KNOWN.get(fourcc)
        what = f"FORMAT {fourcc.strip()} {width}x{height}"
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise _Violation(f"{what}: impossible width or height")
        if not 1 <= memory_count <= MAX_PLANES or not _fits(plane_count, known):
            raise _Violation(f"{what}: {plane_count} planes in {memory_count} memory planes")
        memory = struct.unpack_from(f"<{memory_count}I", m, 56)
        planes = []
        for i in range(plane_count):
            index, offset, stride = struct.unpack_from("<III", m, 72 + 12 * i)
            plane = Plane(index, offset, stride, 0, 0)
            if known is not None:
                group, across, down = known[i]
                plane = plane._replace(row_bytes=-(-width // across) * group, rows=-(-height // down))
            if index >= memory_count or stride < plane.row_bytes or plane.end > memory[index]:
                raise _Violation(f"{what}: plane {i} (stride {stride}, ends at {plane.end}) does not fit its memory")
            planes.append(plane)
        reads = cpu_reads if cpu_reads <= 2 else 0
        fmt = Format(pool, slots, fourcc, width, height, reads, bool(writable), *color, memory, tuple(planes))
        assert self._link is not None
        self._current = _Pool(self, self._link, fmt)
        self._pools.append(self._current)
        self._last_pool = pool
        return fmt

    def _on_buffer(self, m: bytes, fds: List[int], complete: bool) -> Optional[Event]:
        number, slot = struct.unpack_from("<II", m, 8)
        pool = self._current
        if pool is None:
            raise _Violation("BUFFER without FORMAT")
        fmt = pool.format
        if number != fmt.pool or slot != len(pool.slots) or slot >= fmt.slots:
            raise _Violation(f"BUFFER: expected pool {fmt.pool} slot {len(pool.slots)} of {fmt.slots}, got {number}, {slot}")
        if complete and len(fds) != len(fmt.memory_bytes):
            raise _Violation(f"BUFFER: expected {len(fmt.memory_bytes)} descriptors, got {len(fds)}")
        state = _Slot()
        if complete:
            buffers = [_Buffer(fd, needed) for fd, needed in zip(fds, fmt.memory_bytes)]
            state.buffers = buffers
            fds.clear()
        pool.slots.append(state)
        # Only answers and a few releases are under way: if the socket has no room, the publisher does not read.
        if not pool.link.send(BUFFER_OK if complete else BUFFER_FAILED, struct.pack("<II", number, slot)):
            self._hang_up()
            return Event.LOST
        if pool.complete and not any(s.buffers for s in pool.slots):
            self._hang_up()
            raise Exhausted(f"{self.path}: no file descriptor is left for any of {fmt.slots} buffers")
        return None

    def _on_frame(self, m: bytes) -> Optional[Frame]:
        number, slot, *fields = struct.unpack_from("<IIQQQQQII", m, 8)
        pool = self._current
        if pool is None or pool.format.pool != number or not pool.complete:
            raise _Violation(f"FRAME of pool {number}, which we do not have (all of)")
        state = pool.slots[slot] if slot < len(pool.slots) else None
        if state is None or not state.buffers:
            raise _Violation(f"FRAME in slot {slot}, which we do not have")
        if state.held:
            raise _Violation(f"FRAME in slot {slot}, which we still hold")
        if state.generation == fields[0]:
            raise _Violation(f"FRAME in slot {slot}: generation {fields[0]} for the second time")
        if pool.link.leases + len(pool.link.unsent) >= self._hold:
            raise _Violation(f"FRAME while we hold all of {self._hold}")
        memory = []
        for i, buffer in enumerate(state.buffers):
            offset, length = struct.unpack_from("<II", m, 64 + 8 * i)
            if offset + length > buffer.size:
                raise _Violation(f"FRAME: {length} bytes at {offset} leave a buffer of {buffer.size}")
            memory.append(Memory(buffer.fd, buffer.is_dmabuf, buffer.size, offset, length))
        state.generation, state.held, state.revoked = fields[0], True, False
        pool.held += 1
        pool.link.leases += 1
        frame = Frame(pool, slot, tuple(memory), tuple(fields))
        self._counts[0] += 1
        self._counts[1] += frame.lost
        self._dropped = frame.dropped
        if not self._latest:
            return frame
        if self._unseen is not None:
            # What the source lost before the older one is lost before this one, too.
            frame.lost = min(frame.lost + self._unseen.lost, 0xFFFFFFFF)
            self._skip_unseen()
        self._unseen = frame
        return None

    def _on_revoke(self, number: int, slot: int, generation: int) -> None:
        self._counts[2] += 1
        for pool in self._pools:
            if pool.link is self._link and pool.format.pool == number and slot < len(pool.slots):
                state = pool.slots[slot]
                # A lease that was given back in the meantime does not matter.
                if state.held and state.generation == generation:
                    state.revoked = True
