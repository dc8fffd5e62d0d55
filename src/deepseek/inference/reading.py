"""What a bundle's documents describe, as objects; without torch, as small machines have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepseek.artifacts import Bundle
from deepseek.data.padding import mask_name
from deepseek.data.preparation import Preparation
from deepseek.data.windows.opening import preparation_of
from deepseek.errors import BundleError

AGAIN = "copy the bundle again from where it was made"
FEATURES_FILE = "features.json"
"""The document of a bundle that says how its columns are made from related tables, where they are."""
EXPORT = "export.json"
"""The document of a bundle that was exported: to what, from which bundle, and how far its answers lie from that one's."""


@dataclass(frozen=True)
class Export:
    """What an exported bundle says of itself.

    Attributes:
        backend: The name of what runs it.
        precision: The type of the arithmetic: `fp32`, `bf16` or `int8`.
        outputs: The decoded answers in the order in which the graph returns them.
        origin: The SHA-256 of the manifest of the bundle that it was made from.
        machine: What it was measured on, where `auto` chose it by measuring.
    """

    backend: str
    precision: str
    outputs: tuple[str, ...]
    origin: str
    machine: str | None = None


def read_preparation(bundle: Bundle) -> Preparation:
    """Return the fitted preparation that a bundle holds.

    Raises:
        BundleError: What its `data.json` says is none.
    """
    try:
        return preparation_of(bundle.read("data.json"))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BundleError(f"{bundle.path}: data.json describes no preparation: {error!r}", hint=AGAIN) from None


def read_export(bundle: Bundle) -> Export:
    """Return what an exported bundle says of itself.

    Raises:
        BundleError: It was not exported, or its `export.json` is none.
    """
    document: Any = bundle.read(EXPORT)
    try:
        texts = [document[name] for name in ("backend", "precision", "origin")]
        outputs = tuple(document["outputs"])
        machine = document.get("machine")
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{bundle.path}: {EXPORT} describes no export: {error!r}", hint=AGAIN) from None
    if not all(isinstance(text, str) for text in (*texts, *outputs, machine or "")):
        raise BundleError(f"{bundle.path}: {EXPORT} describes no export", hint=AGAIN)
    return Export(texts[0], texts[1], outputs, texts[2], machine)


def input_names(preparation: Preparation) -> list[str]:
    """Return the names of the arrays that a network is given: the inputs', with `NAME_mask` behind each ragged one."""
    return [name for spec in preparation.inputs.values() for name in ((spec.name, mask_name(spec.name)) if spec.ragged else (spec.name,))]
