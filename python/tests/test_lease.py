"""Leases whose views are still referenced, while frames come all the time."""

from __future__ import annotations

import os
from typing import Any, cast

import pytest
from conftest import frame_of

import framelease
from framelease import Subscriber


def test_release_ends_the_views(publisher: str) -> None:
    with Subscriber(publisher).connect() as subscriber:
        frame = frame_of(subscriber)
        plane = frame.planes[0]
        assert frame.valid and plane.readonly and len(plane) == 64 * 48 and len(frame.planes[1]) == 64 * 24
        assert frame.tobytes() == bytes(plane) + bytes(frame.planes[1])
        with pytest.raises(TypeError):
            plane[0] = 1
        frame.release()
        frame.release()
        for use in (lambda: plane[0], frame.data, frame.pixels):
            with pytest.raises(ValueError):
                use()
        assert not frame.valid


def test_release_is_refused_while_a_slice_exists(publisher: str) -> None:
    with Subscriber(publisher).connect() as subscriber:
        frame = frame_of(subscriber)
        part = frame.planes[0][10:20]
        before = bytes(part)
        with pytest.raises(BufferError):
            frame.release()
        # The lease is kept, and no other frame comes, because hold is 1.
        assert subscriber.recv(0.2) is None and frame.valid
        assert bytes(part) == before, "a buffer was filled under its reader"
        with pytest.raises(ValueError):
            frame.data()
        del part
        frame_of(subscriber).release()
        assert not frame.valid


def test_lease_outlives_its_frame_while_a_slice_exists(publisher: str) -> None:
    with Subscriber(publisher).connect() as subscriber:
        frame = frame_of(subscriber)
        part = frame.planes[0][10:20]
        del frame
        assert subscriber.recv(0.2) is None
        del part
        frame_of(subscriber).release()


def test_loop_releases_each_frame(publisher: str) -> None:
    with Subscriber(publisher).connect() as subscriber:
        seen = []
        for frame in subscriber:
            seen.append(frame.sequence)
            if len(seen) == 3:
                break
        assert seen == sorted(set(seen))
        frame_of(subscriber).release()


def test_frame_stays_readable_after_the_connection(publisher: str) -> None:
    with Subscriber(publisher).connect() as subscriber:
        frame = frame_of(subscriber)
        plane = frame.planes[0]
    assert not frame.valid and len(bytes(plane)) == 64 * 48
    frame.release()


def test_release_within_a_release(publisher: str) -> None:
    """The garbage collector may release a frame while the release of another one is sent."""
    with Subscriber(publisher, hold=3).connect() as subscriber:
        first, second = frame_of(subscriber), frame_of(subscriber)
        link = cast(Any, subscriber._link)
        inner = link.socket

        class Collecting:
            def send(self, *message: Any) -> Any:
                link.socket = inner
                second.release()
                return inner.send(*message)

        link.socket = Collecting()
        first.release()
        assert not link.unsent
        for _ in range(20):
            frame_of(subscriber).release()


def test_close_leaves_no_descriptor(publisher: str) -> None:
    before = os.listdir("/proc/self/fd")
    with Subscriber(publisher, hold=2).connect() as subscriber:
        frames = [frame_of(subscriber), frame_of(subscriber)]
        assert all(frame.planes for frame in frames)
    for frame in frames:
        frame.release()
    assert os.listdir("/proc/self/fd") == before


def test_subscriber_names_errors(path: str) -> None:
    with pytest.raises(ValueError, match="fifo:33"):
        Subscriber(path, policy="fifo:33")
    with pytest.raises(FileNotFoundError, match="/nowhere"):
        Subscriber("/nowhere").connect()
    with pytest.raises(framelease.Disconnected):
        Subscriber(path).recv(0)
