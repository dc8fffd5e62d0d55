"""Clipping to limits that are given."""

from __future__ import annotations

from collections.abc import Sequence

from deepseek.optim.clippings.base import Clipping, Limit
from deepseek.optim.gradients import Gradients, Per, Trained
from deepseek.optim.in_place import clip_value_


class NormClipping(Clipping):
    """Scales gradients so that their joint norm is at most a given one (Pascanu et al., 2013, https://arxiv.org/abs/1211.5063).

    Over the whole model it is what `clip_norm` does.

    Args:
        max_norm: The largest norm.
        per: Whose norm: the `model`'s, each `group`'s of the optimizer, or each `layer`'s.
    """

    def __init__(self, parameters: Sequence[Trained], /, *, max_norm: Limit = 1.0, per: Per = "model") -> None:
        super().__init__(parameters, per=per)
        self.max_norm = max_norm

    def limit(self, gradients: Gradients) -> None:
        """Scale down what is longer."""
        norms = self.parts.norms(gradients.norms)
        self.scale_(gradients, (self.max_norm / norms).clamp(max=1.0))


class ValueClipping(Clipping):
    """Limits each element of the gradients to a given size: what `clip_value` does.

    Args:
        max_value: The largest absolute value of an element.
    """

    def __init__(self, parameters: Sequence[Trained], /, *, max_value: Limit = 1.0) -> None:
        super().__init__(parameters)
        self.max_value = max_value

    def limit(self, gradients: Gradients) -> None:
        """Cut off what is larger."""
        if not gradients.tensors:
            return
        self.state["limited"] += gradients.largest > self.max_value
        clip_value_(gradients.tensors, self.max_value)
        gradients.changed()
