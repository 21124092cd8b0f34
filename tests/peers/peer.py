"""The Python client, which follows the orders of tests/peers/peer.rs: one line in, one line out."""

import os
import resource
import sys
import zlib

sys.path.insert(0, sys.argv[1])
import framelease  # noqa: E402

subscriber = None
frames = []  # in order of arrival; None: released


def pixels(frame):
    try:
        crc = 0
        for row in frame.rows():
            crc = zlib.crc32(row, crc)
        return f"crc {crc:08x}"
    except ValueError:
        return "short"


def error(e):
    kinds = {framelease.ProtocolError: "protocol", framelease.Refused: f"refused {getattr(e, 'reason', 0)}",
             framelease.Exhausted: "exhausted", framelease.Disconnected: "disconnected"}  # fmt: skip
    return f"error {kinds.get(type(e), type(e).__name__)}"


def memory():
    """Returns the number of different buffers of the test that are open here."""
    seen = set()
    for name in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{name}"
        try:
            if "golden" in os.readlink(path):
                seen.add(os.stat(path).st_ino)
        except OSError:
            pass
    return f"memory {len(seen)}"


def next_event(timeout):
    got = subscriber.recv(timeout)
    if isinstance(got, framelease.Format):
        return f"format {got.fourcc} {got.width}x{got.height}"
    if isinstance(got, framelease.Frame):
        frames.append(got)
        data = " ".join(f"{m.offset}+{m.bytes}" for m in got.memory)
        return (
            f"frame slot {got.slot} sequence {got.sequence} time {got.timestamp_ns} sent {got.sent_ns} dropped {got.dropped} "
            f"lost {got.lost} flags {int(got.flags)} data {data} {pixels(got)}"
        )
    return {framelease.Event.PAUSED: "paused", framelease.Event.ENDED: "lost", None: "nothing"}[got]


def obey(order, *words):
    global subscriber
    if order == "connect":
        path, hold, policy, every, milli_fps = words
        subscriber = framelease.Subscriber(
            path, hold=int(hold), policy=policy, every=int(every), max_fps=int(milli_fps) / 1000
        )
        subscriber.connect(5)
        return f"connected quota {subscriber.quota}"
    if order in ("next", "poll"):
        return next_event(5 if order == "next" else 0)
    if order == "release":
        frame, frames[int(words[0])] = frames[int(words[0])], None
        frame.release()
        return "released"
    if order == "valid":
        return "valid" if frames[int(words[0])].valid else "invalid"
    if order in ("starve", "feed"):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (3 if order == "starve" else hard, hard))
        return "starved" if order == "starve" else "fed"
    if order == "memory":
        return memory()
    if order == "close":
        subscriber.close()
        for frame in frames:
            if frame is not None:
                frame.release()
        frames.clear()
        return "closed"
    return f"what? {order}"


for line in sys.stdin:
    try:
        answer = obey(*line.split())
    except framelease.Error as e:
        answer = error(e)
    print("PEER", answer, flush=True)
