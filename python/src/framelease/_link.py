"""A connection."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct

from ._protocol import CRITICAL, MAX_RELEASES, RELEASE


class Link:
    """A connection. It outlives the subscriber's interest in it while frames of it are held: after BYE the publisher
    waits for them, and a hang-up would end their leases."""

    def __init__(self, sock: socket.socket, epoll: select.epoll) -> None:
        self.socket = sock
        # The subscriber's descriptor is readable when this connection has something to say, until leave().
        self._epoll, self._watched = epoll, select.EPOLLIN
        epoll.register(sock, self._watched)
        try:
            # The publisher's pidfd, of SO_PEERPIDFD. Python has no name for it, and Linux before 6.5 does not have it.
            self.process: int | None = sock.getsockopt(socket.SOL_SOCKET, 77)
        except OSError:
            self.process = None
        else:
            epoll.register(self.process, select.EPOLLIN)
        self.empty = 0  # receives in a row that found nothing
        self.users = 1  # the subscriber, and pools
        self.over = False
        self.leases = 0
        self.unsent: list[bytes] = []  # releases that the socket had no room for, or that wait for more: at most `hold`

    def leave(self) -> None:
        """The subscriber's descriptor does not watch this connection any more."""
        self._watched = 0
        self._epoll.unregister(self.socket)
        if self.process is not None:
            self._epoll.unregister(self.process)

    def _watch(self) -> None:
        wanted = select.EPOLLIN | (select.EPOLLOUT if self.unsent else 0)
        if self._watched not in (0, wanted):
            self._epoll.modify(self.socket, wanted)
            self._watched = wanted

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
                    break
                # The publisher is gone, and the leases with it.
        self._watch()

    def unuse(self) -> None:
        self.users -= 1
        if self.users == 0:
            self.socket.close()
            if self.process is not None:
                os.close(self.process)
