#!/usr/bin/env python3
"""Finds the color bars in the frames of a publisher by a neural network: this folder's Rust program in Python, with ONNX
Runtime or LiteRT. Prints the same lines. Frames are NV12."""

import argparse
import os
import pathlib
import signal
import sys

import framelease
import numpy as np

SIDE, CELL = 128, 8
COLORS = ["white", "yellow", "cyan", "green", "magenta", "red", "blue", "black"]
MODEL = pathlib.Path(__file__).parent / "model"


def onnx():
    """Returns a function that runs bars.onnx by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(MODEL / "bars.onnx", providers=["CPUExecutionProvider"])
    # Its pictures have one plane for each channel.
    return lambda picture: session.run(None, {"input": picture.transpose(2, 0, 1)[None]})[0][0].transpose(1, 2, 0)


def litert():
    """Returns a function that runs bars.tflite by LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(MODEL / "bars.tflite"))
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(picture):
        interpreter.set_tensor(source, picture[None])
        interpreter.invoke()
        return interpreter.get_tensor(result)[0]

    return run


def letterbox(frame):
    """Returns the model's picture of a frame, and the scale and the margins that lead back to the frame's pixels."""
    width, height = frame.format.width, frame.format.height
    scale = SIDE / max(width, height)
    wide, high = round(width * scale), round(height * scale)
    # The nearest pixels, read from the shared memory: nothing else of the frame is copied.
    rows = ((np.arange(high) + 0.5) / scale).astype(int)[:, None]
    columns = ((np.arange(wide) + 0.5) / scale).astype(int)[None]
    luma = (frame.numpy(0)[rows, columns].astype(np.float32) - 16) / 219
    cb, cr = np.moveaxis((frame.numpy(1)[rows // 2, columns // 2].astype(np.float32) - 128) / 224, 2, 0)
    # BT.601. A camera's format says which matrix it has: frame.format.ycbcr_encoding.
    rgb = np.stack([luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb], 2)
    picture = np.full((SIDE, SIDE, 3), 114 / 255, np.float32)
    left, top = (SIDE - wide) // 2, (SIDE - high) // 2
    picture[top : top + high, left : left + wide] = rgb.clip(0, 1)
    return picture, scale, left, top


def bars(output, scale, left, top):
    """Returns what the model found: color, probability, and the edges in pixels of the frame."""
    logits = output[..., : len(COLORS)]
    padded = np.pad(logits, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))
    # A center is more likely than not, and than its neighbors.
    for y, x, color in np.argwhere((logits > 0) & (logits == around.max((-2, -1)))):
        before, above, after, below = output[y, x, len(COLORS) :]
        cells = np.array([x + 0.5 - before, y + 0.5 - above, x + 0.5 + after, y + 0.5 + below])
        edges = (cells * CELL - [left, top, left, top]) / scale
        yield COLORS[color], 1 / (1 + np.exp(-logits[y, x, color])), edges


def main():
    default = os.path.join(os.environ.get("XDG_RUNTIME_DIR", "/run"), "framelease.socket")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", default=default, help="where the publisher listens (default: %(default)s)")
    parser.add_argument("--runtime", choices=["onnx", "litert"], default="onnx", help="(default: %(default)s)")
    parser.add_argument("--frames", type=int, metavar="N", help="stop after N frames")
    o = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = {"onnx": onnx, "litert": litert}[o.runtime]()
    try:
        with framelease.Subscriber(o.socket).connect(timeout=5) as subscriber:
            for frame in subscriber:
                sequence, (picture, *place) = frame.sequence, letterbox(frame)
                if not frame.valid:
                    continue  # The publisher revoked it while it was read.
                frame.release()  # The camera has its buffer again while the model runs.
                for color, probability, edges in bars(run(picture), *place):
                    print(sequence, color, f"{probability:.2f}", *edges.round().astype(int))
                if subscriber.stats.received == o.frames:
                    break
    except KeyboardInterrupt:
        pass
    except (framelease.Error, OSError) as e:
        sys.exit(f"error: {e}")


if __name__ == "__main__":
    main()
