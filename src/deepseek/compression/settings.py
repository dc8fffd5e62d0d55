"""How a network is brought to INT8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deepseek.errors import InputError

Method = Literal["auto", "static", "dynamic"]
Runtime = Literal["auto", "onnx", "openvino"]
Ranges = Literal["minmax", "entropy", "percentile"]


@dataclass(frozen=True, kw_only=True)
class Int8Settings:
    """How a network is brought to INT8, and what it may lose by it.

    Attributes:
        method: `static` measures the range of every activation beforehand, on training rows; `dynamic` measures it in each batch; `auto`
            tries what the backend has.
        backend: `onnx` (ONNX Runtime), `openvino`, or `auto` for both where they are installed.
        calibration_rows: On how many training rows ranges are measured, at least 1.
        calibration: How a range comes from what was seen: from the smallest to the largest value (`minmax`), where least information is
            lost (`entropy`), or without the outermost values (`percentile`).
        per_channel: Whether each output channel of a weight has a scale of its own.
        max_drop: How much of the monitored metric may be lost on validation rows, from 0 to 1; of a metric without bound, the part of its
            value.
        fall_back: Whether the layers that spoil the answers most stay in float32 where the whole in INT8 loses more than it may.

    Raises:
        InputError: A number is out of its range, or the backend has no such method.
    """

    method: Method = "auto"
    backend: Runtime = "auto"
    calibration_rows: int = 512
    calibration: Ranges = "minmax"
    per_channel: bool = True
    max_drop: float = 0.005
    fall_back: bool = True

    def __post_init__(self) -> None:
        if self.calibration_rows < 1:
            raise InputError(f"calibration_rows is {self.calibration_rows}; at least 1 row is needed to measure ranges on")
        if not 0 <= self.max_drop <= 1:
            raise InputError(f"max_drop is {self.max_drop:g}; allowed is what a metric may lose, from 0 to 1", hint="half a point is 0.005")
        if self.method == "dynamic" and self.backend == "openvino":
            raise InputError("OpenVINO has no dynamic INT8", hint="take method static, or the backend onnx")
