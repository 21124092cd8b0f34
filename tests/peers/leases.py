"""Checks leases whose views are still referenced, while frames come all the time."""

import os
import sys

sys.path.insert(0, sys.argv[1])
import framelease  # noqa: E402


def refused(error, action):
    try:
        action()
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


def frame_of(subscriber):
    while True:
        got = subscriber.next(5)
        assert got is not None and not isinstance(got, framelease.Event), got
        if isinstance(got, framelease.Frame):
            return got


with framelease.Subscriber(sys.argv[2]).connect() as subscriber:
    # After a release its views cannot be used. A second release does nothing.
    frame = frame_of(subscriber)
    plane = frame.planes[0]
    assert frame.valid and plane.readonly and len(plane) == 64 * 48 and len(frame.planes[1]) == 64 * 24
    assert frame.tobytes() == bytes(plane) + bytes(frame.planes[1])
    refused(TypeError, lambda: plane.__setitem__(0, 1))
    frame.release()
    frame.release()
    refused(ValueError, lambda: plane[0])
    refused(ValueError, frame.data)
    assert not frame.valid

    # A slice is referenced: the lease is kept, and no other frame comes, because hold is 1.
    frame = frame_of(subscriber)
    part = frame.planes[0][10:20]
    before = bytes(part)
    refused(BufferError, frame.release)
    assert subscriber.next(0.2) is None and frame.valid
    assert bytes(part) == before, "a buffer was filled under its reader"
    refused(ValueError, frame.data)
    del part
    frame_of(subscriber).release()
    assert not frame.valid

    # The same without a reference to the frame itself.
    frame = frame_of(subscriber)
    part = frame.planes[0][10:20]
    del frame
    assert subscriber.next(0.2) is None
    del part
    frame_of(subscriber).release()

    # A loop releases each frame. A loop that is left also releases its frame.
    for count, frame in enumerate(subscriber):
        if count == 3:
            break
    frame_of(subscriber).release()

    try:
        import numpy
    except ImportError:
        print("without numpy")
    else:
        frame = frame_of(subscriber)
        luma, chroma = frame.numpy(0), frame.numpy(1)
        assert luma.shape == (48, 64) and chroma.shape == (24, 32, 2) and not luma.flags.writeable
        assert luma.tobytes() + chroma.tobytes() == frame.tobytes()
        refused(BufferError, frame.release)
        del luma, chroma
        frame.release()
        # NumPy does not count this one as a view.
        frame = frame_of(subscriber)
        array = numpy.ndarray((4,), numpy.uint8, frame.planes[0])
        refused(BufferError, frame.release)
        del array
        frame.release()

    frame = frame_of(subscriber)
    pixels = frame.planes[0]
# The connection is closed. The memory stays until the release.
assert not frame.valid and len(bytes(pixels)) == 64 * 48
refused(framelease.Disconnected, subscriber.next)
frame.release()

# The garbage collector may release a frame while the release of another one is sent.
with framelease.Subscriber(sys.argv[2], hold=3).connect() as subscriber:
    first, second = frame_of(subscriber), frame_of(subscriber)
    link = subscriber._link

    class Collecting:
        def __init__(self, sock):
            self.sock = sock

        def send(self, *message):
            link.socket = self.sock
            second.release()
            return self.sock.send(*message)

    link.socket = Collecting(link.socket)
    first.release()
    assert not link.unsent
    for _ in range(20):
        frame_of(subscriber).release()
del first, second, link, subscriber

# Every descriptor is closed.
links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
assert not [link for link in links if "memfd" in link], links
refused(ValueError, lambda: framelease.Subscriber(sys.argv[2], policy="fifo:33"))
refused(FileNotFoundError, framelease.Subscriber("/nowhere").connect)
