"""The connection to a publisher, as a program sees it."""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING

from ._buffer import Buffer
from ._errors import Disconnected, Error, Exhausted, ProtocolError, Refused, Timeout, Violation
from ._format import read_format
from ._frame import Frame
from ._link import Link
from ._pool import Pool, Slot
from ._protocol import (
    BUFFER,
    BUFFER_FAILED,
    BUFFER_OK,
    BYE,
    CLOSING,
    CRITICAL,
    FORMAT,
    FRAME,
    HELLO,
    LENGTHS,
    MAGIC,
    MAX_MESSAGE,
    MAX_SLOTS,
    NEWER,
    REASONS,
    RETIRE,
    REVOKE,
    VERSION,
    WELCOME,
)
from ._values import Event, Format, Memory, Stats

if TYPE_CHECKING:
    import asyncio

_MAX_FDS = 8  # room for more than can be meant, so that a surplus is seen
_MAX_STEPS = 256  # one call handles no more, whatever a publisher sends
_PAUSE_MIN, _PAUSE_MAX = 0.01, 0.5


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)



class Subscriber:
    """Receives frames: iterate with `for` or `async for`, or wait in `recv`, or poll it (`fileno`) and call `try_recv`.

    hold: frames leased at a time, 1 to 64. policy, for frames that come while all leases are in use: "latest", "fifo:N"
    or "block". every: take every n-th frame. max_fps: take at most this many frames a second."""

    def __init__(
        self, path: str | os.PathLike[str], *, hold: int = 1, policy: str = "latest", every: int = 1, max_fps: float = 0
    ) -> None:
        self._link: Link | None = None
        self._epoll = select.epoll()
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
        self._pools: list[Pool] = []  # the current one, and those of which frames are held
        self._current: Pool | None = None
        self._late: list[Frame] = []  # released by their user, views still about
        self._last_pool: int | None = None
        self._welcomed = False
        self._latest = name == "latest"
        self._unseen: Frame | None = None  # with latest, inside _take(): a frame that recv() has not given yet
        self._deferred: Exception | None = None  # raised by the next recv()
        self._counts = [0, 0, 0, 0, 0]  # received, lost, revoked, connections, skipped
        self._dropped_before = self._dropped = 0
        self.quota = self.lease_ms = self.epoch = 0

    # ---- calls ----

    def connect(self, timeout: float = 5.0) -> Subscriber:
        """Connects, and waits until the publisher has admitted us. Also after Event.ENDED or an error.

        Refused, ProtocolError, Timeout, Disconnected; or FileNotFoundError, ConnectionRefusedError, PermissionError."""
        if self._epoll.closed:
            raise ValueError(f"{self.path}: the subscriber was closed")
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
        self._link = Link(sock, self._epoll)
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

    def try_recv(self) -> Frame | Format | Event | None:
        """recv() without a wait."""
        return self.recv(0)

    def recv(self, timeout: float) -> Frame | Format | Event | None:
        """A frame, a new format, an event; None if nothing came in `timeout` seconds.

        Event.ENDED comes once, and Disconnected is raised afterwards. After an error we are not connected any more.

        With policy latest it reads all frames that are there, gives the newest, and releases the others unseen."""
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            raise deferred
        if self._link is None:
            raise Disconnected(f"{self.path}: not connected")
        return self._take(time.monotonic() + timeout, handshake=False)

    def frames(
        self, timeout: float = 10.0, on_event: Callable[[Format | Event], object] | None = None
    ) -> Iterator[Frame]:
        """Frames until the publisher hangs up; each is released at the next turn. A pause does not end it.

        Timeout if no frame comes for `timeout` seconds; a pause does not count. `on_event` is called with each Format and
        Event."""
        paused = False
        while True:
            got = self.recv(timeout)
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
                if got is Event.ENDED:
                    return
                paused = paused or got is Event.PAUSED
            # Its name would keep it, and a slice of it, until the next frame comes.
            del got

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    async def recv_async(self, timeout: float | None = None) -> Frame | Format | Event | None:
        """recv() for asyncio: other tasks run while it waits. Without `timeout` it waits without a limit."""
        # Most programs do without it, and it takes longer to load than everything else.
        import asyncio

        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while (got := self.try_recv()) is None:
            if deadline is not None and loop.time() >= deadline:
                return None
            ready = loop.create_future()
            loop.add_reader(self, _set, ready)
            timer = loop.call_at(deadline, _set, ready) if deadline is not None else None
            try:
                await ready
            finally:
                loop.remove_reader(self)
                if timer is not None:
                    timer.cancel()
        return got

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """Frames until the publisher closes; each is released at the next turn. Waits without a limit."""
        while (got := await self.recv_async()) is not Event.ENDED:
            if isinstance(got, Frame):
                with got:
                    yield got
            # Its name would keep it, and a slice of it, until the next frame comes.
            del got

    def fileno(self) -> int:
        """The descriptor, for event loops: the same until close(), also through connect(). Readable when try_recv() has
        something to say. Call it until it gives None."""
        return self._epoll.fileno()

    @property
    def format(self) -> Format | None:
        """The format of the frames to come; a frame has its own. None before the publisher has a source."""
        return self._current.format if self._current else None

    @property
    def stats(self) -> Stats:
        received, lost, revoked, connections, skipped = self._counts
        return Stats(received, self._dropped_before + self._dropped, lost, revoked, connections, skipped)

    def close(self) -> None:
        """Ends the connection and the descriptor; the subscriber cannot connect again. Frames that are still held keep the
        connection, and their memory, until they are released."""
        self._hang_up()
        self._epoll.close()

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
        self._link.leave()
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

    def _take(self, deadline: float, handshake: bool) -> Frame | Format | Event | None:
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

    def _skip_unseen(self) -> Pool:
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

    def _handle(self, deadline: float, handshake: bool) -> Frame | Format | Event | None:
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
                    return Event.ENDED
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
            mine: list[int] = list(fds)
            try:
                if flags & socket.MSG_TRUNC:
                    raise Violation(f"a message is longer than {MAX_MESSAGE} bytes")
                complete = not flags & socket.MSG_CTRUNC
                if not data and complete and not mine:
                    self._hang_up()
                    return Event.ENDED
                got = self._message(data, mine, complete)
            except Violation as e:
                self._hang_up()
                raise ProtocolError(f"{self.path}: the publisher broke the protocol: {e}") from None
            finally:
                for fd in mine:
                    os.close(fd)
            if got is not None or (handshake and self._welcomed):
                return got
        return None

    def _message(self, m: bytes, fds: list[int], complete: bool) -> Frame | Format | Event | None:
        """One message. Takes the descriptors that it keeps out of `fds`."""
        if len(m) < 8:
            raise Violation(f"a message of {len(m)} bytes")
        kind, flags = struct.unpack_from("<HH", m)
        if kind not in LENGTHS:
            if flags & CRITICAL:
                raise Violation(f"message type {kind} is unknown and critical")
            return None
        if len(m) < LENGTHS[kind]:
            raise Violation(f"message type {kind}: expected {LENGTHS[kind]} bytes, got {len(m)}")
        if kind in (BUFFER, FRAME, REVOKE) and struct.unpack_from("<I", m, 12)[0] >= MAX_SLOTS:
            raise Violation("a slot is out of range")
        if kind == BYE:
            return self._on_bye(*struct.unpack_from("<IHHHH", m, 8))
        if kind == WELCOME:
            if self._welcomed:
                raise Violation("a second WELCOME")
            version, self.quota, self.lease_ms, self.epoch = struct.unpack_from("<HHIQ", m, 8)
            if version != VERSION:
                raise Violation(f"expected version {VERSION}, got {version}")
            self._welcomed = True
            self._counts[3] += 1
            return None
        if not self._welcomed:
            raise Violation(f"expected WELCOME, got message type {kind}")
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
                raise Violation(f"RETIRE of pool {number}, which is not the current one")
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
        if reason == CLOSING:
            return Event.ENDED
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
        fmt = read_format(m)
        if self._current is not None:
            raise Violation("FORMAT before the old pool's RETIRE")
        if fmt.pool == self._last_pool:
            raise Violation(f"FORMAT: pool {fmt.pool} for the second time")
        assert self._link is not None
        self._current = Pool(self._pools, self._late, self._link, fmt)
        self._pools.append(self._current)
        self._last_pool = fmt.pool
        return fmt

    def _on_buffer(self, m: bytes, fds: list[int], complete: bool) -> Event | None:
        number, slot = struct.unpack_from("<II", m, 8)
        pool = self._current
        if pool is None:
            raise Violation("BUFFER without FORMAT")
        fmt = pool.format
        if number != fmt.pool or slot != len(pool.slots) or slot >= fmt.slots:
            raise Violation(f"BUFFER: expected pool {fmt.pool} slot {len(pool.slots)} of {fmt.slots}, got {number}, {slot}")
        if complete and len(fds) != len(fmt.memory_bytes):
            raise Violation(f"BUFFER: expected {len(fmt.memory_bytes)} descriptors, got {len(fds)}")
        state = Slot()
        if complete:
            buffers = [Buffer(fd, needed) for fd, needed in zip(fds, fmt.memory_bytes)]
            state.buffers = buffers
            fds.clear()
        pool.slots.append(state)
        # Only answers and a few releases are under way: if the socket has no room, the publisher does not read.
        if not pool.link.send(BUFFER_OK if complete else BUFFER_FAILED, struct.pack("<II", number, slot)):
            self._hang_up()
            return Event.ENDED
        if pool.complete and not any(s.buffers for s in pool.slots):
            self._hang_up()
            raise Exhausted(f"{self.path}: no file descriptor is left for any of {fmt.slots} buffers")
        return None

    def _on_frame(self, m: bytes) -> Frame | None:
        number, slot, *fields = struct.unpack_from("<IIQQQQQII", m, 8)
        pool = self._current
        if pool is None or pool.format.pool != number or not pool.complete:
            raise Violation(f"FRAME of pool {number}, which we do not have (all of)")
        state = pool.slots[slot] if slot < len(pool.slots) else None
        if state is None or not state.buffers:
            raise Violation(f"FRAME in slot {slot}, which we do not have")
        if state.held:
            raise Violation(f"FRAME in slot {slot}, which we still hold")
        if state.generation == fields[0]:
            raise Violation(f"FRAME in slot {slot}: generation {fields[0]} for the second time")
        if pool.link.leases + len(pool.link.unsent) >= self._hold:
            raise Violation(f"FRAME while we hold all of {self._hold}")
        memory = []
        for i, buffer in enumerate(state.buffers):
            offset, length = struct.unpack_from("<II", m, 64 + 8 * i)
            if offset + length > buffer.size:
                raise Violation(f"FRAME: {length} bytes at {offset} leave a buffer of {buffer.size}")
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
