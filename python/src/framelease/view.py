"""Shows rate, latency and drops of a framelease publisher's frames; saves one as PNG, or prints a hash of each.

Ends when the publisher closes. A pause of the stream is reported on standard error, and the next frame continues it."""

from __future__ import annotations

import argparse
import os
import signal
import struct
import sys
import time
import zlib
from collections.abc import Iterator

import framelease


def rows_rgb(frame: framelease.Frame) -> Iterator[bytes]:
    """The rows of a picture, 3 bytes a pixel."""
    f = frame.format
    code, width = f.fourcc, f.width
    rows = [bytes(row) for row in frame.rows()]
    packed = {"RGB3": (3, 0, 1, 2), "BGR3": (3, 2, 1, 0), "AB24": (4, 0, 1, 2), "XB24": (4, 0, 1, 2),
              "AR24": (4, 2, 1, 0), "XR24": (4, 2, 1, 0), "GREY": (1, 0, 0, 0)}  # fmt: skip
    if code in packed:
        step, *order = packed[code]
        for row in rows:
            out = bytearray(3 * width)
            for channel, at in enumerate(order):
                out[channel::3] = row[at::step]
            yield bytes(out)
        return
    # V4L2: SMPTE170M 1, REC709 3; encodings 601 1, 709 2; full range 1.
    bt709 = f.ycbcr_encoding == 2 or (f.ycbcr_encoding == 0 and f.colorspace == 3)
    kr, kb = (0.2126, 0.0722) if bt709 else (0.299, 0.114)
    full = f.quantization == 1
    scale_y, scale_c, black = (1.0, 1.0, 0) if full else (255 / 219, 255 / 224, 16)
    luma = [scale_y * (y - black) for y in range(256)]
    chroma = [scale_c * (c - 128) for c in range(256)]
    red, blue = 2 * (1 - kr), 2 * (1 - kb)
    green_u, green_v = blue * kb / (1 - kr - kb), red * kr / (1 - kr - kb)
    clamp = [0] * 512 + list(range(256)) + [255] * 512  # index: value + 512
    if code in ("NV12", "NM12"):
        split = ((rows[y], rows[f.height + y // 2][0::2], rows[f.height + y // 2][1::2]) for y in range(f.height))
    elif code == "YUYV":
        split = ((row[0::2], row[1::4], row[3::4]) for row in rows)
    elif code == "UYVY":
        split = ((row[1::2], row[0::4], row[2::4]) for row in rows)
    else:
        raise SystemExit(f"error: no PNG of {code}")
    for ys, us, vs in split:
        out = bytearray(3 * width)
        for x in range(width):
            y, u, v = luma[ys[x]], chroma[us[x // 2]], chroma[vs[x // 2]]
            out[3 * x] = clamp[round(y + red * v) + 512]
            out[3 * x + 1] = clamp[round(y - green_u * u - green_v * v) + 512]
            out[3 * x + 2] = clamp[round(y + blue * u) + 512]
        yield bytes(out)


def save_png(frame: framelease.Frame, path: str) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", frame.format.width, frame.format.height, 8, 2, 0, 0, 0)
    pixels = b"".join(b"\0" + row for row in rows_rgb(frame))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
        file.write(chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b""))


def crc(frame: framelease.Frame) -> int:
    value = 0
    for row in frame.rows():
        value = zlib.crc32(row, value)
    return value


def main() -> int:
    socket = os.path.join(os.environ.get("XDG_RUNTIME_DIR", "/run"), "framelease.socket")
    parser = argparse.ArgumentParser(prog="python -m framelease.view", description=__doc__)
    parser.add_argument("--socket", default=socket, help="where the publisher listens (default: %(default)s)")
    parser.add_argument("--png", metavar="FILE", help="save the first frame, and stop")
    parser.add_argument("--hash", action="store_true", help="a line for each frame: sequence number, CRC-32 of its pixels")
    parser.add_argument("--frames", type=int, default=0, metavar="N", help="stop after N frames")
    parser.add_argument("--policy", default="latest", help="latest, fifo:N or block")
    parser.add_argument("--hold", type=int, default=1, metavar="N", help="frames to lease at a time")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take every n-th frame only")
    parser.add_argument("--max-fps", type=float, default=0, metavar="F", help="take at most F frames a second")
    parser.add_argument("--timeout", type=float, default=10, metavar="S",
                        help="give up after S seconds without a frame, pauses excluded (default: %(default)s)")
    parser.add_argument("--reconnect", action="store_true", help="connect again after the publisher was gone")
    o = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        subscriber = framelease.Subscriber(o.socket, hold=o.hold, policy=o.policy, every=o.every, max_fps=o.max_fps)
    except ValueError as e:
        parser.error(str(e))
    shown = time.monotonic()
    latencies: list[int] = []

    def report(event: framelease.Format | framelease.Event) -> None:
        if event is framelease.Event.PAUSED:
            print("the publisher paused the stream; waiting for the next frame", file=sys.stderr)

    def show(since: float, counted: list[int]) -> None:
        ages, stats = sorted(counted) or [0], subscriber.stats
        rate = len(counted) / max(time.monotonic() - since, 1e-9)
        print(
            f"{stats.received} frames, {rate:.1f} a second, {stats.dropped} dropped, {stats.lost} lost by the source; "
            f"latency p50 {ages[len(ages) // 2] / 1e3:.0f} us, max {ages[-1] / 1e3:.0f} us",
            file=sys.stderr,
        )

    try:
        (subscriber.reconnect if o.reconnect else subscriber.connect)(o.timeout)
        while True:
            for frame in subscriber.frames(o.timeout, on_event=report):
                latencies.append(time.monotonic_ns() - frame.sent_ns)
                if o.png:
                    save_png(frame, o.png)
                    return 0
                if o.hash:
                    print(frame.sequence, f"{crc(frame):08x}", flush=True)
                if subscriber.stats.received == o.frames:
                    return 0
                if time.monotonic() - shown >= 1 and not o.hash:
                    show(shown, latencies)
                    shown, latencies = time.monotonic(), []
            if not o.reconnect:
                return 0
            subscriber.reconnect(o.timeout)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains once more when it ends
        return 0
    except (framelease.Error, OSError, ValueError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    finally:
        if latencies and not o.hash:
            show(shown, latencies)
        subscriber.close()


if __name__ == "__main__":
    sys.exit(main())
