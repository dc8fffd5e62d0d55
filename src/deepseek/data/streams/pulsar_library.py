"""Pulsar's client, loaded so that it leaves other native libraries alone."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

_SHARED = "__pybind11_internals"
_KEPT: list[object] = []
"""What the client shares with nobody: it refers to it for as long as the process lives."""


@cache
def pulsar_library() -> ModuleType:
    """Return the module `pulsar`, loaded apart.

    Extension modules that are built with pybind11 share one table of how C++ errors become Python's. The client's native part puts an
    entry of its own before all others, which catches too much: whatever iterates over a shape of OpenVINO then fails with an empty
    `RuntimeError`, and INT8 with it. While the client is loaded the others' table is out of its sight, so that it makes its own.

    Raises:
        ImportError: The client is not installed.
    """
    if sys.implementation.name != "cpython" or "_pulsar" in sys.modules:
        return import_module("pulsar")
    state = _interpreter_state()
    hidden = _taken(state)
    try:
        return import_module("pulsar")
    finally:
        _KEPT.extend(_taken(state).values())
        state.update(hidden)


def _taken(state: dict[Any, Any]) -> dict[Any, Any]:
    """Take out what pybind11 shares between modules."""
    return {key: state.pop(key) for key in list(state) if str(key).startswith(_SHARED)}


def _interpreter_state() -> dict[Any, Any]:
    """Return the dictionary in which extension modules keep what is the interpreter's (`PyInterpreterState_GetDict`)."""
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = ctypes.c_void_p
    api.PyInterpreterState_GetDict.argtypes = [ctypes.c_void_p]
    api.PyInterpreterState_GetDict.restype = ctypes.c_void_p
    found = api.PyInterpreterState_GetDict(api.PyInterpreterState_Get())
    state: dict[Any, Any] = ctypes.cast(found, ctypes.py_object).value
    return state
