"""Data: from sources through checks, cleaning, splits and transforms to prepared arrays and batches."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepseek.data.augment.image_augmenter import ImageAugmenter as ImageAugmenter

__all__ = ["ImageAugmenter"]

_PUBLIC = {"ImageAugmenter": "deepseek.data.augment.image_augmenter"}
"""Resolved when first used, as its packages need torch, which the sources and checks do without."""


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'deepseek.data' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
