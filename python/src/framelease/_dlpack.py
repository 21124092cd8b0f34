"""The pixels of a plane for other libraries, without a copy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

CPU = (1, 0)
_UINT8 = (1, 8, 1)  # code, bits, lanes
_READ_ONLY = 1
_NAME = b"dltensor_versioned"


# Structs of DLPack 1.0 and of Python's C API.
class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


def _api(name: str, result: Any, *arguments: Any) -> Any:
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_get_buffer = _api("PyObject_GetBuffer", ctypes.c_int, ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int)
_release_buffer = _api("PyBuffer_Release", None, ctypes.POINTER(_Buffer))
_new_capsule = _api("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
# Of a capsule that is being freed, so that its references must not be counted.
_is_valid = _api("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer = _api("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)

# What other libraries have, by the address of its struct.
_exported: dict[int, tuple[_Managed, Any, _Buffer]] = {}


def _delete(managed: int) -> None:
    _, _, buffer = _exported.pop(managed)
    _release_buffer(buffer)


def _free_capsule(capsule: int) -> None:
    # A library that took the pixels has renamed the capsule.
    if _is_valid(capsule, _NAME):
        _delete(_pointer(capsule, _NAME))


def _callback(function: Callable[[int], None]) -> Any:
    made = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)
    # Never freed: arrays may live longer than this module's names at the end of the interpreter.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
    return made


# A library that took the pixels calls the first when it does not need them any more, on any thread.
_DELETER, _DESTRUCTOR = (ctypes.cast(_callback(f), ctypes.c_void_p) for f in (_delete, _free_capsule))


class Pixels:
    """The pixels of a color plane, as `Frame.pixels` gives them, for any library that takes DLPack 1.0.

    `numpy.from_dlpack(pixels)` and others make an array of `uint8` on the shared memory: rows, samples across, and bytes
    of a sample if it has more than one. The array is read-only. While it lives, `Frame.release` raises BufferError and
    the lease is kept."""

    def __init__(self, view: memoryview, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self._view = view
        self.shape = shape
        self.strides = strides  # bytes

    def __dlpack_device__(self) -> tuple[int, int]:
        """The CPU."""
        return CPU

    def __dlpack__(
        self,
        *,
        stream: object = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """Returns a capsule for the library.

        BufferError if the library does not know DLPack 1.0, which has read-only memory, or asks for a copy or for another
        device. ValueError if the frame was released."""
        if max_version is None or max_version[0] < 1:
            raise BufferError("the pixels are read-only, which DLPack has from version 1.0 on; the library must ask for it")
        if copy or stream is not None or dl_device not in (None, CPU):
            raise BufferError("the pixels are shared memory of the CPU; copy them with the library")
        buffer = _Buffer()
        _get_buffer(self._view, buffer, 0)
        numbers = (ctypes.c_int64 * (2 * len(self.shape)))(*self.shape, *self.strides)
        shape = ctypes.cast(numbers, ctypes.POINTER(ctypes.c_int64))
        strides = ctypes.cast(ctypes.byref(numbers, 8 * len(self.shape)), ctypes.POINTER(ctypes.c_int64))
        tensor = _Tensor(buffer.buf, *CPU, len(self.shape), *_UINT8, shape, strides, 0)
        managed = _Managed(1, 0, None, _DELETER, _READ_ONLY, tensor)
        address = ctypes.addressof(managed)
        _exported[address] = (managed, numbers, buffer)
        return _new_capsule(address, _NAME, _DESTRUCTOR)
