"""A Keras 3 model as an encoder: trained, saved, exported and asked like every other.

Legend of shapes: `b` rows · `l` tokens · `w` width · `h`, `c` height and channels of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.models.base import Encoded, Encoder
from deepseek.models.keras.backend import require_torch_backend
from deepseek.models.keras.making import as_keras_rows, make_features


class KerasEncoder(Encoder):
    """Runs a Keras model on PyTorch, without its decision layer, which the task brings.

    The model's numbers are this module's own parameters and buffers, by their places, and are handed to Keras at every call
    (`stateless_call`): so names that Keras counts up through the process do not reach any file, whatever copies a module copies all of it,
    and dropout goes by `train()` and `eval()`, which Keras itself does not heed.

    A last layer with softmax or sigmoid, and a `Dense` one before a bare activation of that kind, is the decision: it is left off. What
    comes out of the rest is one vector a row, or several.

    Args:
        builder: `FILE.py:FUNCTION` or `MODULE:FUNCTION` of a plugin of the recipe, or `build_deepseek_model`. The function is called with
            the shape of one row, `(h, w, c)` for an image, a mapping by name where there are several inputs, and returns a Keras model.
        arguments: What else the function is called with, by name.
        config: The configuration of a model of Keras' own layers, instead of a builder: what `deepseek.train(model=…)` makes of one.
        begins_with: The numbers that such a model begins with, a file that `deepseek.train(model=…)` wrote; else they are drawn.

    Raises:
        MissingExtraError: Keras is not installed.
        PluginError: There is no such function in a plugin, or it fails, or returns something else.
        InputError: Keras runs on another backend, an input has rows of unequal length, the model takes other rows or returns no vectors,
            both or none of builder and configuration are given, or the configuration names what is not Keras' own; or, once it is trained,
            it asks for penalties or limits of its own, which Keras' own training knows and this one does not.
    """

    keras_model: Any

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        builder: str | None = None,
        arguments: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        begins_with: str | None = None,
    ) -> None:
        super().__init__(inputs)
        keras = require_torch_backend()
        numbers = None if begins_with is None else Path(begins_with)
        with keras.device("cpu"):
            model = make_features(inputs, builder=builder, arguments=arguments, config=config, numbers=numbers)
            example = {name: torch.zeros(1, *spec.shape, dtype=getattr(torch, spec.dtype)) for name, spec in inputs.items()}
            with torch.no_grad():
                out = model(as_keras_rows(self.inputs, example), training=False)
        if not isinstance(out, Tensor) or out.ndim not in (2, 3):
            shown = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f"the Keras model {model.name!r} returns {shown} for one row", hint="it must return [b, w] or [b, l, w]")
        self.__dict__["keras_model"] = model  # as a submodule its names, counted up through the process, would be among the weights
        self.learned = nn.ParameterList(nn.Parameter(variable.value.detach().clone()) for variable in model.trainable_variables)
        self._kept = [f"kept_{place}" for place in range(len(model.non_trainable_variables))]
        for name, variable in zip(self._kept, model.non_trainable_variables, strict=True):
            self.register_buffer(name, variable.value.detach().clone())
        self.width, self.tokens = out.shape[-1], out.shape[1] if out.ndim == 3 else 1
        self._asked = _asked_of_training(model)

    def forward(self, inputs: Mapping[str, Tensor]) -> Encoded:
        """Return `[b, 1, w]`, or `[b, l, w]` where the model returns several vectors.

        Raises:
            InputError: It is trained, and asks for penalties or limits of its own.
        """
        if self.training and self._asked:
            raise InputError(
                f"the Keras model asks for {', '.join(self._asked)}, which only Keras' own fit heeds",
                hint="leave it out of the model, and say train.l1, train.l2, train.max_norm or the optimizer's weight_decay",
            )
        keras = require_torch_backend()
        x = as_keras_rows(self.inputs, inputs)
        rows = next(iter(inputs.values())).shape[0]
        if not rows:  # not every layer of Keras takes a batch without rows
            return Encoded(self.learned[0].new_zeros(0, self.tokens, self.width))
        kept = [getattr(self, name) for name in self._kept]
        device = next(iter(inputs.values())).device
        with keras.device(str(device)):
            out, changed = self.keras_model.stateless_call([*self.learned], kept, x, training=self.training)
        if self.training:
            with torch.no_grad():
                for old, new in zip(kept, changed, strict=True):
                    old.copy_(new)
        return Encoded(out if out.ndim == 3 else out.unsqueeze(1))


def _asked_of_training(model: Any) -> tuple[str, ...]:
    """Return the penalties and limits of a Keras model, in words: parts of the loss and of the optimizer's step, not of a forward pass."""
    variables = model.trainable_variables
    penalised = [variable.path for variable in variables if variable.regularizer is not None]
    limited = [variable.path for variable in variables if variable.constraint is not None]
    found = [f"a penalty of {path}" for path in penalised] + [f"a limit of {path}" for path in limited]
    return (*found, *(["losses of its own"] if len(model.losses) > len(penalised) else []))
