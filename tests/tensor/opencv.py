"""Does with OpenCV what the tests of tensors do.

Each argument is a case: format, width and height, the crop (left, top, width, height), the target's width and height,
and a filter. The pictures come on standard input. The results go to standard output: RGB pixels of 8 bits.
"""

import sys

import cv2
import numpy as np

FILTERS = {"bilinear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}
ROWS = {
    "NV12": (1.5, cv2.COLOR_YUV2RGB_NV12),
    "NV21": (1.5, cv2.COLOR_YUV2RGB_NV21),
    "YUV420": (1.5, cv2.COLOR_YUV2RGB_I420),
    "YVU420": (1.5, cv2.COLOR_YUV2RGB_YV12),
}
CHANNELS = {
    "YUYV": (2, cv2.COLOR_YUV2RGB_YUY2),
    "UYVY": (2, cv2.COLOR_YUV2RGB_UYVY),
    "RGB24": (3, None),
    "BGR24": (3, cv2.COLOR_BGR2RGB),
    "XBGR32": (4, cv2.COLOR_BGRA2RGB),
    "GREY": (1, cv2.COLOR_GRAY2RGB),
}

cv2.setNumThreads(1)
for case in sys.argv[1:]:
    name, *numbers, filter = case.split(",")
    width, height, left, top, crop_width, crop_height, to_width, to_height = map(int, numbers)
    if name in ROWS:
        rows, code = ROWS[name]
        shape = (int(height * rows), width)
    else:
        channels, code = CHANNELS[name]
        shape = (height, width, channels)
    bytes = sys.stdin.buffer.read(shape[0] * shape[1] * (shape[2] if len(shape) > 2 else 1))
    picture = np.frombuffer(bytes, np.uint8).reshape(shape)
    rgb = picture if code is None else cv2.cvtColor(picture, code)
    crop = rgb[top : top + crop_height, left : left + crop_width]
    scaled = cv2.resize(crop, (to_width, to_height), interpolation=FILTERS[filter])
    sys.stdout.buffer.write(scaled.tobytes())
