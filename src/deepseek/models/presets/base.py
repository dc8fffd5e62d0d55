"""What the presets share: their wiring, and one encoder for all inputs of a kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind

Inputs = Mapping[str, InputSpec]
Graph = Mapping[str, nn.Module]


def for_kind(kind: Kind, inputs: Inputs, encoder: dict[str, Any]) -> dict[str, Any]:
    """Return a network's `encoders` with one for all inputs of a kind.

    Raises:
        InputError: There is no input of this kind.
    """
    if not any(spec.kind is kind for spec in inputs.values()):
        article = "an" if kind in {Kind.IMAGE, Kind.AUDIO} else "a"
        raise InputError(
            f"the model {encoder['type']!r} without {article} {kind.value} among its inputs", hint="take a model for tables, such as 'tabm'"
        )
    return {kind.value: encoder}
