"""The stack on which signals are handled: put back after foreign libraries have changed it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def keeping_signal_stack() -> Iterator[None]:
    """Give this thread back the signal stack that it had before the block.

    A library that compiles models leaves behind one that it has freed (seen after measuring backends with OpenVINO 2026.4 beside ONNX
    Runtime 1.31): the next Ctrl-C then ends the process with a segmentation fault instead of being handled. Only Linux is looked after.
    """
    if sys.platform != "linux":
        yield
        return
    exchange = ctypes.CDLL(None).sigaltstack
    before = _Stack()
    exchange(None, ctypes.byref(before))
    try:
        yield
    finally:
        exchange(ctypes.byref(before), None)
