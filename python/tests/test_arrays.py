"""Arrays of NumPy on the shared memory, by DLPack and without it."""

from __future__ import annotations

import gc
import threading

import pytest
from conftest import frame_of

from framelease import Subscriber, _dlpack

pytest.importorskip("numpy", "2.1")
import numpy


def test_numpy_reads_in_place(publisher: str) -> None:
    with Subscriber(publisher).connect() as subscriber:
        frame = frame_of(subscriber)
        luma, chroma = frame.numpy(0), frame.numpy(1)
        assert luma.shape == (48, 64) and chroma.shape == (24, 32, 2) and not luma.flags.writeable
        assert luma.tobytes() + chroma.tobytes() == frame.tobytes()
        with pytest.raises(BufferError):
            frame.release()
        del luma, chroma
        frame.release()
        # NumPy does not count this one as a view.
        frame = frame_of(subscriber)
        array = numpy.ndarray((4,), numpy.uint8, frame.planes[0])
        with pytest.raises(BufferError):
            frame.release()
        del array
        frame.release()


def test_dlpack_reads_in_place(start: object, path: str) -> None:
    assert callable(start)
    start("--size", "66x48")
    with Subscriber(path).connect() as subscriber:
        frame = frame_of(subscriber)
        for plane in range(2):
            pixels, expected = frame.pixels(plane), frame.numpy(plane)
            array = numpy.from_dlpack(pixels)
            assert pixels.__dlpack_device__() == (1, 0)
            assert array.dtype == numpy.uint8 and array.shape == expected.shape and array.strides == expected.strides
            assert array.ctypes.data == expected.ctypes.data, "a copy"
            assert (array == expected).all() and not array.flags.writeable
            del array, expected


def test_dlpack_keeps_the_lease(publisher: str) -> None:
    with Subscriber(publisher).connect() as subscriber:
        frame = frame_of(subscriber)
        array = numpy.from_dlpack(frame.pixels())
        part = array[10:20]
        with pytest.raises(BufferError):
            frame.release()
        del array
        before = part.tobytes()
        assert subscriber.recv(0.2) is None and frame.valid and part.tobytes() == before
        # Its last owner may be another thread.
        owners = [part]
        del part
        thread = threading.Thread(target=owners.clear)
        thread.start()
        thread.join()
        assert not _dlpack._exported
        frame.release()
        frame_of(subscriber).release()


def test_dlpack_array_outlives_subscriber_and_frame(publisher: str) -> None:
    with Subscriber(publisher).connect() as subscriber:
        frame = frame_of(subscriber)
        array = numpy.from_dlpack(frame.pixels())
        before = array.tobytes()
    del subscriber, frame
    gc.collect()
    assert array.tobytes() == before
    del array
    assert not _dlpack._exported


def test_dlpack_capsule_that_is_not_taken(publisher: str) -> None:
    with Subscriber(publisher).connect() as subscriber:
        frame = frame_of(subscriber)
        capsule = frame.pixels().__dlpack__(max_version=(1, 0))
        with pytest.raises(BufferError):
            frame.release()
        del capsule
        assert not _dlpack._exported
        frame.release()


def test_dlpack_refuses_what_it_cannot_give(publisher: str) -> None:
    with Subscriber(publisher).connect() as subscriber:
        frame = frame_of(subscriber)
        pixels = frame.pixels()
        for wish in ({}, {"max_version": (0, 8)}):
            with pytest.raises(BufferError, match="read-only"):
                pixels.__dlpack__(**wish)  # type: ignore[arg-type]
        with pytest.raises(BufferError):
            pixels.__dlpack__(max_version=(1, 0), copy=True)
        with pytest.raises(BufferError):
            pixels.__dlpack__(max_version=(1, 0), dl_device=(2, 0))
        frame.release()
        with pytest.raises(ValueError):
            pixels.__dlpack__(max_version=(1, 0))
