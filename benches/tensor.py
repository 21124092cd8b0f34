"""What OpenCV and NumPy do for one tensor: 1080p or 720p NV12 -> 640x640 CHW f32, letterboxed, one thread.

Prints the CPU time of one call in ns. Buffers are allocated once and margins are filled once where the API allows it.
"""

import sys
import time

import numpy as np

WAY, WIDTH, HEIGHT, SIDE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), 640
HIGH = HEIGHT * SIDE // WIDTH
TOP = (SIDE - HIGH) // 2
FRAMES = 60

rng = np.random.default_rng(1)
canvas = np.full((SIDE, SIDE, 3), 114, np.uint8)
inside = canvas[TOP : TOP + HIGH]

if WAY == "opencv":
    import cv2

    cv2.setNumThreads(1)
    nv12 = rng.integers(0, 256, (HEIGHT * 3 // 2, WIDTH), np.uint8)
    rgb = np.empty((HEIGHT, WIDTH, 3), np.uint8)

    def turn():
        cv2.cvtColor(nv12, cv2.COLOR_YUV2RGB_NV12, dst=rgb)
        cv2.resize(rgb, (SIDE, HIGH), dst=inside, interpolation=cv2.INTER_LINEAR)
        return cv2.dnn.blobFromImage(canvas, 1 / 255)

else:
    # The rest of the work, after swscale has made RGB of the right size.
    scaled = rng.integers(0, 256, inside.shape, np.uint8)
    tensor = np.empty((3, SIDE, SIDE), np.float32)

    def turn():
        inside[:] = scaled
        np.multiply(canvas.transpose(2, 0, 1), np.float32(1 / 255), out=tensor)
        return tensor


for _ in range(5):
    turn()
begin = time.process_time_ns()
for _ in range(FRAMES):
    turn()
print((time.process_time_ns() - begin) // FRAMES)
