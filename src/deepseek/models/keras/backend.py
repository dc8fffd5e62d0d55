"""Keras, imported with PyTorch as its backend wherever nothing else has been said."""

from __future__ import annotations

import os
import sys
from typing import Any

from deepseek.errors import InputError, MissingExtraError


def load_keras() -> Any:
    """Return Keras; where the process has not imported it yet and `KERAS_BACKEND` is not set, with the backend `torch`.

    Raises:
        MissingExtraError: It is not installed.
    """
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "keras", "keras", "a Keras model") from None
    return keras


def require_torch_backend() -> Any:
    """Return Keras, whose backend must be PyTorch.

    Raises:
        MissingExtraError: It is not installed.
        InputError: It was imported with another backend.
    """
    keras = load_keras()
    if (name := keras.backend.backend()) != "torch":
        raise InputError(
            f"Keras runs on {name!r} in this process, and networks are trained in PyTorch",
            hint="set KERAS_BACKEND=torch before Keras is imported",
        )
    return keras
