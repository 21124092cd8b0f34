"""A descriptor of the publisher, checked and mapped."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import sys

from ._errors import Violation

_F_GET_SEALS, _F_SEAL_SHRINK = 1034, 2
_DMA_BUF_IOCTL_SYNC = 0x40086200
SYNC_READ, SYNC_END = 1, 4


class Buffer:
    """A descriptor that was checked, and its mapping, made once."""

    def __init__(self, fd: int, needed: int) -> None:
        self.fd = fd
        self.is_dmabuf = _is_dmabuf(fd)
        if not self.is_dmabuf:
            try:
                seals = fcntl.fcntl(fd, _F_GET_SEALS)
            except OSError:
                raise Violation("expected a dma-buf or a memfd, got another file") from None
            if not seals & _F_SEAL_SHRINK:
                raise Violation("expected F_SEAL_SHRINK on a memfd, it is not sealed")
        try:
            self.size = os.lseek(fd, 0, os.SEEK_END)
        except OSError as e:
            raise Violation(f"a buffer has no size: {e}") from None
        if self.size < max(needed, 1):
            raise Violation(f"a buffer of {self.size} bytes, its layout needs {needed}")
        self._map: mmap.mmap | None = None
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
