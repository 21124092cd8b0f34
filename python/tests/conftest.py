"""Publishers for the tests: the example `publisher` of this repository, and sockets that say anything."""

from __future__ import annotations

import os
import pathlib
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from framelease import Event, Frame, Subscriber

ROOT = pathlib.Path(__file__).parents[2]
PUBLISHER = pathlib.Path(os.environ.get("FRAMELEASE_PUBLISHER", ROOT / "target/debug/examples/publisher"))


def frame_of(subscriber: Subscriber) -> Frame:
    """The next frame."""
    while True:
        got = subscriber.recv(10)
        assert got is not None and not isinstance(got, Event), got
        if isinstance(got, Frame):
            return got


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "socket")


@pytest.fixture
def start(path: str) -> Iterator[Start]:
    """Starts the example: pictures of 64x48 as fast as they are taken, if no options say otherwise."""
    children: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [str(PUBLISHER), "--socket", path, "--size", "64x48", "--fps", "500", *options]
        child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        children.append(child)
        # It says where it listens.
        assert child.stderr and path in child.stderr.readline()
        return child

    yield start
    for child in children:
        child.terminate()
        child.communicate(timeout=10)


@pytest.fixture
def publisher(start: Start, path: str) -> str:
    """The socket of a publisher that runs."""
    start()
    return path


WELCOME = struct.pack("<HHIHHIQ", 16, 1, 0, 1, 2, 0, 7)


class Hostile:
    """A publisher that admits one subscriber, and then says what a test wants."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        self._listener.listen()
        self.subscriber = Subscriber(path)
        # The answer waits before the subscriber asks: a connection can be accepted later.
        thread = threading.Thread(target=self._admit)
        thread.start()
        self.subscriber.connect()
        thread.join()

    def _admit(self) -> None:
        self.socket, _ = self._listener.accept()
        self.socket.recv(512)
        self.socket.send(WELCOME)

    def say(self, message: bytes, *fds: int) -> None:
        socket.send_fds(self.socket, [message], list(fds))

    def close(self) -> None:
        self.socket.close()
        self._listener.close()
        self.subscriber.close()


@pytest.fixture
def hostile(path: str) -> Iterator[Hostile]:
    made = Hostile(path)
    yield made
    made.close()
