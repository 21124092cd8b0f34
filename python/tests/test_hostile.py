"""A publisher that breaks the protocol: an error, never a crash. tests/peers of the repository has more than a hundred
sessions that the subscribers in Rust, C and Python answer alike."""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct

import pytest
from conftest import Hostile

from framelease import Error, Event, Format, Frame, ProtocolError

F_ADD_SEALS, F_SEAL_SHRINK = 1033, 2
BYTES = 4096


def format_of(width: int, height: int, bytes: int, stride: int, slots: int = 1, planes: int = 1) -> bytes:
    fields = struct.pack("<IHBB4sIIQIIII", 1, slots, 1, 0, b"GREY", width, height, 0, 0, 0, 0, 0)
    fields += struct.pack("<HH4I", 1, planes, bytes, 0, 0, 0) + struct.pack("<12I", 0, 0, stride, *[0] * 9)
    return struct.pack("<HHI", 17, 1, 0) + fields


def buffer_of() -> bytes:
    return struct.pack("<HHIII", 18, 1, 0, 1, 0)


def memfd(bytes: int, sealed: bool = True) -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, bytes)
    if sealed:
        fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)
    return fd


def broken(hostile: Hostile) -> str:
    with pytest.raises(ProtocolError) as raised:
        while hostile.subscriber.recv(10) is not None:
            pass
    assert not select.select([hostile.subscriber], [], [], 0)[0], "the descriptor stays readable"
    return str(raised.value)


@pytest.mark.parametrize("length", [1, 7, 8, 119])
def test_short_message(hostile: Hostile, length: int) -> None:
    hostile.say(format_of(64, 64, BYTES, 64)[:length])
    assert "message" in broken(hostile)


@pytest.mark.parametrize(
    "message",
    [
        format_of(0, 64, BYTES, 64),
        format_of(1 << 31, 1 << 31, BYTES, 1 << 31),
        format_of(64, 64, BYTES, 0xFFFFFFFF),
        format_of(64, 64, BYTES, 1),
        format_of(64, 65, BYTES, 64),
        format_of(64, 64, BYTES, 64, slots=65535),
        format_of(64, 64, BYTES, 64, planes=65535),
    ],
)
def test_impossible_format(hostile: Hostile, message: bytes) -> None:
    hostile.say(message)
    assert "FORMAT" in broken(hostile)


def test_memfd_too_small(hostile: Hostile) -> None:
    fd = memfd(BYTES - 1)
    hostile.say(format_of(64, 64, BYTES, 64))
    hostile.say(buffer_of(), fd)
    assert f"a buffer of {BYTES - 1} bytes" in broken(hostile)
    os.close(fd)


def test_memfd_that_can_shrink(hostile: Hostile) -> None:
    fd = memfd(BYTES, sealed=False)
    hostile.say(format_of(64, 64, BYTES, 64))
    hostile.say(buffer_of(), fd)
    assert "F_SEAL_SHRINK" in broken(hostile)
    os.close(fd)


def test_other_descriptors(hostile: Hostile) -> None:
    before = len(os.listdir("/proc/self/fd"))
    reads, writes = os.pipe()
    hostile.say(format_of(64, 64, BYTES, 64))
    hostile.say(buffer_of(), reads)
    assert "dma-buf" in broken(hostile)
    os.close(reads)
    os.close(writes)
    assert len(os.listdir("/proc/self/fd")) < before, "a descriptor is left open"


def frame_of(generation: int, *payload: int) -> bytes:
    fields = struct.pack("<HHIIIQQQQQII", 19, 1, 0, 1, 0, generation, 1, 1, 1, 0, 0, 0)
    return fields + struct.pack("<8I", *payload, *[0] * (8 - len(payload)))


def test_frame_outside_of_its_buffer(hostile: Hostile) -> None:
    fd = memfd(BYTES)
    hostile.say(format_of(64, 64, BYTES, 64))
    hostile.say(buffer_of(), fd)
    hostile.say(frame_of(1, 0xFFFFFFFF, 0xFFFFFFFF))
    assert "leave a buffer" in broken(hostile)
    os.close(fd)


@pytest.mark.parametrize("seed", range(20))
def test_random_messages(path: str, seed: int) -> None:
    chance, before = random.Random(seed), len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        hostile = Hostile(path)
        fd = memfd(chance.choice([1, BYTES]), chance.random() < 0.8)
        try:
            hostile.say(format_of(64, 64, BYTES, 64))
            for _ in range(20):
                message = bytearray(chance.choice([format_of(64, 64, BYTES, 64), buffer_of(), chance.randbytes(96)]))
                if chance.random() < 0.8:
                    struct.pack_into("<H", message, 0, chance.randrange(16, 26))
                for _ in range(chance.randrange(4)):
                    message[chance.randrange(len(message))] = chance.choice([0, 1, 127, 255])
                hostile.say(bytes(message[: chance.randrange(len(message) + 1) or None]), *[fd] * chance.randrange(3))
            while (got := hostile.subscriber.recv(0)) is not None:
                assert isinstance(got, (Format, Event)) or len(got.tobytes()) <= BYTES
                if got is Event.ENDED:
                    break
        except (Error, OSError, ValueError):
            pass
        hostile.close()
        os.close(fd)
        os.remove(path)
        del hostile
    got = None
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor is left open"


def test_publisher_that_does_not_read(hostile: Hostile) -> None:
    fd = memfd(BYTES)
    hostile.say(format_of(64, 64, BYTES, 64))
    hostile.say(buffer_of(), fd)
    os.close(fd)
    subscriber, link = hostile.subscriber, hostile.subscriber._link
    assert isinstance(subscriber.recv(1), Format) and link is not None
    generation = 0
    while not link.unsent:
        generation += 1
        hostile.say(frame_of(generation, 0, BYTES))
        got = subscriber.recv(1)
        assert isinstance(got, Frame) and generation < 10000
        got.release()
    assert subscriber.try_recv() is None
    # The release waits for room. The descriptor is readable when there is some.
    assert not select.select([subscriber], [], [], 0)[0]
    for _ in range(generation):
        hostile.socket.recv(512)
    assert select.select([subscriber], [], [], 0)[0]
    assert subscriber.try_recv() is None and not link.unsent
    assert not select.select([subscriber], [], [], 0)[0]
