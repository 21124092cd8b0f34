"""Frames in asyncio."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import time

import pytest
from conftest import Start, frame_of

from framelease import Disconnected, Event, Format, Frame, Subscriber


def test_async_for_gives_frames_until_the_end(start: Start, path: str) -> None:
    child = start()

    async def take() -> list[int]:
        seen = []
        with Subscriber(path).connect() as subscriber:
            async for frame in subscriber:
                assert len(frame.planes[0]) == 64 * 48
                seen.append(frame.sequence)
                if len(seen) == 20:
                    child.send_signal(signal.SIGTERM)
        return seen

    async def both() -> tuple[list[int], int]:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        task = asyncio.create_task(other())
        seen = await asyncio.wait_for(take(), 20)
        task.cancel()
        return seen, turns

    seen, turns = asyncio.run(both())
    assert len(seen) >= 20 and seen == sorted(set(seen)) and turns > 5


def test_async_for_releases_each_frame(publisher: str) -> None:
    async def take() -> None:
        with Subscriber(publisher).connect() as subscriber:
            last: Frame | None = None
            count = 0
            async for frame in subscriber:
                assert last is None or not last.valid
                last = frame
                count += 1
                if count == 5:
                    break

    asyncio.run(asyncio.wait_for(take(), 20))


def test_recv_async_waits_no_longer_than_its_timeout(start: Start, path: str) -> None:
    start("--fps", "1")

    async def wait() -> tuple[list[object], float]:
        with Subscriber(path, every=1000).connect() as subscriber:
            first: list[object] = []
            while len(first) < 2:
                first.append(await subscriber.recv_async(10))
            begin = time.monotonic()
            assert await subscriber.recv_async(0.05) is None
            return first, time.monotonic() - begin

    first, seconds = asyncio.run(wait())
    assert isinstance(first[0], Format) and isinstance(first[1], Frame)
    assert 0.04 < seconds < 5


def test_fileno_stays_through_connect(start: Start, path: str) -> None:
    child = start()
    with Subscriber(path) as subscriber:
        number = subscriber.fileno()
        subscriber.connect()
        child.send_signal(signal.SIGKILL)
        child.wait()
        events: list[object] = []
        while Event.ENDED not in events:
            events.append(subscriber.recv(10))
        with pytest.raises(Disconnected):
            subscriber.try_recv()
        os.remove(path)
        start()
        subscriber.connect()
        assert subscriber.fileno() == number
        events.clear()
        while not any(isinstance(event, Frame) for event in events):
            events.append(subscriber.recv(10))
    for use in (subscriber.fileno, subscriber.connect):
        with pytest.raises(ValueError):
            use()
    subscriber.close()


def test_descriptor_is_quiet_after_the_end_while_a_frame_is_held(start: Start, path: str) -> None:
    child = start()
    with Subscriber(path).connect() as subscriber:
        frame = frame_of(subscriber)
        child.send_signal(signal.SIGTERM)
        while subscriber.recv(10) is not Event.ENDED:
            pass
        assert not select.select([subscriber], [], [], 0)[0]
        assert not frame.valid and len(frame.tobytes()) == 64 * 48 * 3 // 2
        frame.release()
