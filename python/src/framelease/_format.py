"""The message FORMAT."""

from __future__ import annotations

import struct

from ._errors import Violation
from ._protocol import KNOWN, MAX_PLANES, MAX_SIDE, MAX_SLOTS
from ._values import Format, Plane


def read_format(m: bytes) -> Format:
    """Checks that the planes are in their memory."""
    pool, slots, cpu_reads, writable, code, width, height, modifier = struct.unpack_from("<IHBB4sIIQ", m, 8)
    color: tuple[int, int, int, int] = struct.unpack_from("<IIII", m, 36)
    memory_count, plane_count = struct.unpack_from("<HH", m, 52)
    fourcc = code.decode("latin-1")
    known = KNOWN.get(fourcc)
    what = f"FORMAT {fourcc.strip()} {width}x{height}"
    if not 1 <= slots <= MAX_SLOTS:
        raise Violation(f"{what}: expected 1 to {MAX_SLOTS} slots, got {slots}")
    if modifier != 0:
        raise Violation(f"{what}: a modifier other than linear")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise Violation(f"{what}: impossible width or height")
    # An opaque format can have any number of color planes.
    has_planes = plane_count <= MAX_PLANES if known is None else plane_count == len(known)
    if not 1 <= memory_count <= MAX_PLANES or not has_planes:
        raise Violation(f"{what}: {plane_count} planes in {memory_count} memory planes")
    memory = struct.unpack_from(f"<{memory_count}I", m, 56)
    planes = []
    for i in range(plane_count):
        index, offset, stride = struct.unpack_from("<III", m, 72 + 12 * i)
        plane = Plane(index, offset, stride, 0, 0)
        if known is not None:
            group, across, down = known[i]
            plane = plane._replace(row_bytes=-(-width // across) * group, rows=-(-height // down))
        if index >= memory_count or stride < plane.row_bytes or plane.end > memory[index]:
            raise Violation(f"{what}: plane {i} (stride {stride}, ends at {plane.end}) does not fit its memory")
        planes.append(plane)
    reads = cpu_reads if cpu_reads <= 2 else 0
    return Format(pool, slots, fourcc, width, height, reads, bool(writable), *color, memory, tuple(planes))
