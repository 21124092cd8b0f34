"""Takes the frames of a framelease publisher, in pure Python.

    with framelease.Subscriber("/run/camera/socket").connect(timeout=5) as subscriber:
        for frame in subscriber:
            print(frame.sequence, frame.format, frame.planes[0][:16].hex())

CPython 3.10 and newer, Linux 5.3. No thread. One thread at a time uses a subscriber and its frames. Every wait has a limit.
The subscriber checks every message of the publisher.

The loop goes on after a pause of the stream (Event.PAUSED) and ends when the publisher closes or dies (Event.ENDED).

A lease and its views. `frame.planes` and `frame.data()` are read-only views of the shared memory itself. `release()` (or the
end of a `with frame:`, or the next turn of the loop above) ends them: using one later raises ValueError. What was made
of them, a slice or an array of NumPy or of another library, cannot be ended from here; while such a one lives, `release()`
raises BufferError and the lease is kept, so that the source does not fill a buffer that is being read. Let go of it and call
`release()` again, or leave it: each later call of the subscriber tries once more.
"""

from ._dlpack import Pixels
from ._errors import Disconnected, Error, Exhausted, ProtocolError, Refused, Timeout
from ._frame import Frame
from ._protocol import REASONS
from ._subscriber import Subscriber
from ._values import Event, Flags, Format, Memory, Plane, Stats

__all__ = [
    "REASONS",
    "Disconnected",
    "Error",
    "Event",
    "Exhausted",
    "Flags",
    "Format",
    "Frame",
    "Memory",
    "Pixels",
    "Plane",
    "ProtocolError",
    "Refused",
    "Stats",
    "Subscriber",
    "Timeout",
]
