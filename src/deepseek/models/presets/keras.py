"""A Keras 3 model as a whole network."""

from __future__ import annotations

from typing import Any, Literal

from deepseek.fields import Kind
from deepseek.models.network import TABLE, Network, TrunkSpec
from deepseek.models.presets.base import Graph, Inputs


class KerasModel(Network):
    """A Keras 3 model on PyTorch: of the images where there are any, else of the table; the decision layer is the task's.

    Args:
        builder: `FILE.py:FUNCTION` or `MODULE:FUNCTION` of a plugin of the recipe, or `build_deepseek_model`.
        arguments: What else the function is called with, by name.
        config: The configuration of a model of Keras' own layers, instead of a builder: what `deepseek.train(model=…)` makes of one.
        begins_with: The numbers that such a model begins with, a file that `deepseek.train(model=…)` wrote.
        backend: What trains the numbers: `torch`, or `tensorflow`, by Keras itself in a process of its own; they are then measured, saved
            and exported as if they had been trained here.
        trunk: What works on the vectors of all inputs.
    """

    def __init__(  # noqa: PLR0913 - a component's arguments are its schema
        self,
        inputs: Inputs,
        graph: Graph,
        /,
        *,
        builder: str | None = None,
        arguments: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        begins_with: str | None = None,
        backend: Literal["torch", "tensorflow"] = "torch",
        trunk: TrunkSpec = "identity",
    ) -> None:
        has_images = any(spec.kind is Kind.IMAGE for spec in inputs.values())
        encoder = {"type": "keras", "builder": builder, "arguments": arguments, "config": config, "begins_with": begins_with}
        super().__init__(inputs, graph, encoders={Kind.IMAGE.value if has_images else TABLE: encoder}, trunk=trunk)
        self.backend = backend
