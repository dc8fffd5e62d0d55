"""A Keras 3 model as a whole network."""

from __future__ import annotations

from typing import Any

from deepseek.fields import Kind
from deepseek.models.network import TABLE, Network, TrunkSpec
from deepseek.models.presets.base import Graph, Inputs


class KerasModel(Network):
    """A Keras 3 model on PyTorch: of the images where there are any, else of the table; the decision layer is the task's.

    Args:
        builder: `FILE.py:FUNCTION` or `MODULE:FUNCTION` of a plugin of the recipe, or `build_deepseek_model`.
        arguments: What else the function is called with, by name.
        trunk: What works on the vectors of all inputs.
    """

    def __init__(
        self, inputs: Inputs, graph: Graph, /, *, builder: str, arguments: dict[str, Any] | None = None, trunk: TrunkSpec = "identity"
    ) -> None:
        has_images = any(spec.kind is Kind.IMAGE for spec in inputs.values())
        encoder = {"type": "keras", "builder": builder, "arguments": arguments}
        super().__init__(inputs, graph, encoders={Kind.IMAGE.value if has_images else TABLE: encoder}, trunk=trunk)
