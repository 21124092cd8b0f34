"""Decodes frames by PyAV or OpenCV and prints the checksum of each: client.py av|cv URL udp|tcp FRAMES"""

import hashlib
import os
import sys

library, url, transport, count = sys.argv[1:]


def by_av():
    import av

    with av.open(url, options={"rtsp_transport": transport} if "://" in url else {}) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="yuv420p")


def by_cv():
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;" + transport
    import cv2

    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    while capture.isOpened():
        is_read, frame = capture.read()
        if not is_read:
            return
        yield frame


for number, picture in enumerate(by_av() if library == "av" else by_cv(), 1):
    print(hashlib.md5(picture.tobytes()).hexdigest(), flush=True)
    if number == int(count):
        break
