"""A Keras 3 model as an encoder: trained, saved, exported and asked like every other.

Legend of shapes: `b` rows · `l` tokens · `w` width · `h`, `c` height and channels of an image.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, PluginError
from deepseek.fields import Kind
from deepseek.models.base import Encoded, Encoder
from deepseek.models.keras.article import build_deepseek_model
from deepseek.models.keras.backend import require_torch_backend
from deepseek.registry import plugin_module

BUILT_IN: Mapping[str, Callable[..., Any]] = {"build_deepseek_model": build_deepseek_model}
_DECIDING = frozenset({"softmax", "sigmoid"})


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

    Raises:
        MissingExtraError: Keras is not installed.
        PluginError: There is no such function in a plugin, or it fails, or returns something else.
        InputError: Keras runs on another backend, an input has rows of unequal length, or the model returns no vectors; or, once it is
            trained, it asks for penalties or limits of its own, which Keras' own training knows and this one does not.
    """

    keras_model: Any

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, builder: str, arguments: dict[str, Any] | None = None) -> None:
        super().__init__(inputs)
        keras = require_torch_backend()
        for spec in inputs.values():
            if spec.ragged:
                raise InputError(f"the input {spec.name!r} has rows of unequal length", hint="Keras models take tables and images here")
        shapes = {name: _shape(spec) for name, spec in inputs.items()}
        given = next(iter(shapes.values())) if len(shapes) == 1 else shapes
        with keras.device("cpu"), _seeded():
            model = without_decision(_built(builder, given, arguments or {}))
            example = {name: torch.zeros(1, *spec.shape, dtype=getattr(torch, spec.dtype)) for name, spec in inputs.items()}
            with torch.no_grad():
                out = model(self._given(example), training=False)
        if not isinstance(out, Tensor) or out.ndim not in (2, 3):
            shown = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(f"the Keras model of {builder} returns {shown} for one row", hint="it must return [b, w] or [b, l, w]")
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
        x = self._given(inputs)
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

    def _given(self, inputs: Mapping[str, Tensor]) -> Any:
        ready = {name: inputs[name].movedim(1, -1) if spec.kind is Kind.IMAGE else inputs[name] for name, spec in self.inputs.items()}
        return next(iter(ready.values())) if len(ready) == 1 else ready


def without_decision(model: Any) -> Any:
    """Return a Keras model without the layers at its end that turn features into a decision; the model itself where it has none.

    A model that is a class of its own, whose layers have no order, is returned as it is.
    """
    keras = require_torch_backend()
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) != 1:
        return model
    layers = [*model.layers]
    last = layers[-1]
    if isinstance(last, keras.layers.Softmax) or (isinstance(last, keras.layers.Activation) and _activation(last) in _DECIDING):
        cut = 2 if len(layers) > 1 and isinstance(layers[-2], keras.layers.Dense) else 1
    elif isinstance(last, keras.layers.Dense) and _activation(last) in _DECIDING:
        cut = 1
    else:
        return model
    if last.output is not outputs[0] or isinstance(layers[-cut].input, (list, tuple, dict)):
        return model
    return keras.Model(model.inputs if len(model.inputs) > 1 else model.inputs[0], layers[-cut].input)


def _asked_of_training(model: Any) -> tuple[str, ...]:
    """Return the penalties and limits of a Keras model, in words: parts of the loss and of the optimizer's step, not of a forward pass."""
    variables = model.trainable_variables
    penalised = [variable.path for variable in variables if variable.regularizer is not None]
    limited = [variable.path for variable in variables if variable.constraint is not None]
    found = [f"a penalty of {path}" for path in penalised] + [f"a limit of {path}" for path in limited]
    return (*found, *(["losses of its own"] if len(model.losses) > len(penalised) else []))


@contextmanager
def _seeded() -> Iterator[None]:
    """Let Keras draw what PyTorch's seed says: its initial weights come from Python's generator, which is then as it was before."""
    before = random.getstate()
    random.seed(int(torch.randint(2**31, ())))
    try:
        yield
    finally:
        random.setstate(before)


def _activation(layer: Any) -> str:
    return str(getattr(layer.activation, "__name__", ""))


def _shape(spec: InputSpec) -> tuple[int, ...]:
    return (*spec.shape[1:], spec.shape[0]) if spec.kind is Kind.IMAGE else spec.shape


def _built(builder: str, shapes: Any, arguments: Mapping[str, Any]) -> Any:
    """Call a builder, and see to it that what it returns is a Keras model."""
    keras = require_torch_backend()
    function = BUILT_IN.get(builder) or _function(builder)
    try:
        model = function(shapes, **arguments)
    except Exception as error:  # the edge to foreign code: whatever it raises is the builder's failure
        raise PluginError(
            f"the builder {builder} fails for rows of shape {shapes}: {type(error).__name__}: {error}",
            hint="it is called with the shape of one row, and with model.arguments by name",
        ) from error
    if not isinstance(model, keras.Model):
        raise PluginError(f"the builder {builder} returns {type(model).__name__}", hint="it must return a keras.Model")
    return model


def _function(builder: str) -> Callable[..., Any]:
    target, _, name = builder.rpartition(":")
    module = plugin_module(target) if target else None
    if module is None:
        raise PluginError(
            f"the builder {builder!r} belongs to no plugin of this recipe",
            hint=f"write FILE.py:FUNCTION and list the file under plugins:, or take one of: {', '.join(BUILT_IN)}",
        )
    function = getattr(module, name, None)
    if not callable(function):
        raise PluginError(f"the plugin {target!r} has no function {name!r}", hint="write FILE.py:FUNCTION")
    found: Callable[..., Any] = function
    return found
