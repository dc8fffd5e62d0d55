"""The section `compress`: how a trained model is made smaller and faster."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le

from deepseek.recipe.quantities import Flag, Number
from deepseek.recipe.sections.base import Section
from deepseek.recipe.values import Count


class QuantizeSection(Section):
    """How the trained network is brought to INT8."""

    precision: Literal["int8"] = "int8"
    """The arithmetic."""
    method: Literal["auto", "static", "dynamic"] = "auto"
    """Whether ranges of activations are measured beforehand, on training rows, or in each batch; `auto` tries what there is."""
    backend: Literal["auto", "onnx", "openvino"] = "auto"
    """What runs it; `auto` tries those that are installed, and keeps the fastest."""
    calibration_rows: Count = 512
    """Training rows on which ranges are measured."""
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    """How a range comes from what was seen: all of it, where least is lost, or without the outermost values."""
    per_channel: Flag = True
    """Whether each output channel of a weight has a scale of its own."""
    max_drop: Annotated[Number, Ge(0), Le(1)] = 0.005
    """What the monitored metric may lose on validation rows; of a metric without bound, the part of its value."""
    fall_back: Flag = True
    """Whether the layers that spoil the answers most stay in float32 where the whole loses more than it may."""


class CompressSection(Section):
    """How the trained model is made smaller and faster, once training has ended."""

    quantize: Literal["int8"] | QuantizeSection | None = None
    """`int8`, or how it is brought there; not at all where not given."""

    @property
    def int8(self) -> QuantizeSection | None:
        """How it is brought to INT8, with the defaults for the bare word."""
        return QuantizeSection() if self.quantize == "int8" else self.quantize
