"""A lease on a buffer."""

from __future__ import annotations

import select
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ._buffer import SYNC_END, SYNC_READ, Buffer
from ._dlpack import Pixels
from ._errors import Timeout
from ._pool import Pool
from ._protocol import KNOWN
from ._values import Flags, Memory

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray


class Frame:
    """A lease on one buffer of the publisher. `with frame:` gives it back."""

    def __init__(self, pool: Pool, slot: int, memory: tuple[Memory, ...], fields: tuple[int, ...]) -> None:
        self.format = pool.format
        self.slot = slot
        self.memory = memory
        self.generation, self.sequence, self.timestamp_ns, self.sent_ns, self.dropped, self.lost, flags = fields
        self.flags = Flags(flags & 255)
        self._pool: Pool | None = pool
        self._state = pool.slots[slot]
        self._views: list[memoryview] = []
        self._planes: tuple[memoryview, ...] | None = None
        self._reading = False

    @property
    def valid(self) -> bool:
        """Whether the lease still holds: not released, not revoked, connection up. Asks the connection: one system call.

        Ask after the last byte was read. The memory stays readable until the release, but may hold a later picture."""
        return self._pool is not None and not self._state.revoked and not self._pool.link.is_over()

    def begin_read(self, timeout: float = 1.0) -> None:
        """Waits until no device writes any more, and begins CPU access. The first view does it by itself."""
        if self._pool is None or self in self._pool.late:
            raise ValueError("the frame was released")
        if self._reading:
            return
        begun: list[Buffer] = []
        try:
            for buffer in self._state.buffers:
                if buffer.is_dmabuf:
                    # SYNC itself waits for fences without a limit.
                    fences = select.poll()
                    fences.register(buffer.fd, select.POLLIN)
                    if not fences.poll(max(timeout, 0) * 1000):
                        raise Timeout(f"a device still works on slot {self.slot} after {timeout} s")
                    buffer.sync(SYNC_READ)
                begun.append(buffer)
        except BaseException:
            for buffer in begun:
                buffer.sync(SYNC_READ | SYNC_END)
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
    def planes(self) -> tuple[memoryview, ...]:
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

    def _shape(self, plane: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Rows, samples across, and bytes of a sample if more than one; the distance of each in bytes."""
        if self.format.fourcc not in KNOWN:
            raise ValueError(f"{self.format.fourcc!r} has no rows; data() has its bytes")
        p, group = self.format.planes[plane], KNOWN[self.format.fourcc][plane][0]
        dimensions = 3 if group > 1 else 2
        return (p.rows, p.row_bytes // group, group)[:dimensions], (p.stride, group, 1)[:dimensions]

    def pixels(self, plane: int = 0) -> Pixels:
        """A color plane for any library that takes DLPack, such as `numpy.from_dlpack(frame.pixels())`.

        What the library makes of it must be gone (`del`) before the frame is released."""
        return Pixels(self.planes[plane], *self._shape(plane))

    def numpy(self, plane: int = 0) -> NDArray[uint8]:
        """A read-only NumPy view of a color plane: rows, samples across, bytes of a sample if more than one.

        It must be gone (`del`) before the frame is released."""
        import numpy

        shape, strides = self._shape(plane)
        flat = numpy.frombuffer(self.planes[plane], numpy.uint8)
        return numpy.lib.stride_tricks.as_strided(flat, shape, strides, writeable=False)

    def release(self) -> None:
        """Gives the lease back. A second call does nothing. BufferError while a slice or array of a view lives."""
        pool = self._pool
        if pool is None:
            return
        late = pool.late
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
                buffer.sync(SYNC_READ | SYNC_END)
        self._end_lease(pool)
        pool.link.flush()
        pool.settle()

    def _end_lease(self, pool: Pool) -> None:
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
