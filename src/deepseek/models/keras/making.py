"""From a builder or a configuration to a Keras model of features: the same layers, in the same order, on whichever backend Keras runs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError, PluginError
from deepseek.fields import Kind
from deepseek.models.keras.article import build_deepseek_model
from deepseek.models.keras.backend import load_keras
from deepseek.models.keras.objects import model_from
from deepseek.registry import plugin_module

BUILT_IN: Mapping[str, Callable[..., Any]] = {"build_deepseek_model": build_deepseek_model}
_DECIDING = frozenset({"softmax", "sigmoid"})
_SHAPES = "inputs go by name where there are several (numbers, categories, a picture's column), and pictures are (height, width, channels)"


def make_features(
    inputs: Mapping[str, InputSpec],
    *,
    builder: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    numbers: Path | None = None,
) -> Any:
    """Return a Keras model without its decision layer, for rows of such inputs.

    Args:
        inputs: What it meets, by name.
        builder: The function that builds it; see `KerasEncoder`.
        arguments: What else the function is called with.
        config: The model's configuration, where there is no builder.
        numbers: The file of the numbers that a configured model begins with.

    Raises:
        PluginError: There is no such function in a plugin, or it fails, or returns something else.
        InputError: An input has rows of unequal length, the model takes other rows, or both or none of builder and configuration are given.
    """
    if (builder is None) == (config is None):
        raise InputError(f"builder is {builder!r} and {'a' if config else 'no'} configuration is given", hint="give one of the two")
    for spec in inputs.values():
        if spec.ragged:
            raise InputError(f"the input {spec.name!r} has rows of unequal length", hint="Keras models take tables and images here")
    shapes = {name: _shape(spec) for name, spec in inputs.items()}
    given = next(iter(shapes.values())) if len(shapes) == 1 else shapes
    with load_keras().device("cpu"), _seeded():
        whole = _described(config, given, numbers) if config is not None else _built(str(builder), given, arguments or {})
        return without_decision(whole)


def as_keras_rows(inputs: Mapping[str, InputSpec], tensors: Mapping[str, Tensor]) -> Any:
    """Return a batch as a Keras model takes it: pictures with their channels last, by name where there are several inputs.

    Args:
        inputs: What they are.
        tensors: By input name, graph transforms already applied.
    """
    ready = {name: tensors[name].movedim(1, -1) if spec.kind is Kind.IMAGE else tensors[name] for name, spec in inputs.items()}
    return next(iter(ready.values())) if len(ready) == 1 else ready


def without_decision(model: Any) -> Any:
    """Return a Keras model without the layers at its end that turn features into a decision; the model itself where it has none.

    A model that is a class of its own, whose layers have no order, is returned as it is.
    """
    keras = load_keras()
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


def _described(config: Mapping[str, Any], shapes: Any, numbers: Path | None) -> Any:
    """Make a model again from its configuration, and see to it that it takes such rows."""
    model = model_from(config, numbers)
    taken = {tensor.name: tuple(tensor.shape[1:]) for tensor in model.inputs}
    wanted = {name: tuple(shape) for name, shape in (shapes.items() if isinstance(shapes, Mapping) else [(next(iter(taken)), shapes)])}
    fits = taken.keys() == wanted.keys() and all(
        len(taken[name]) == len(shape) and all(one in (None, size) for one, size in zip(taken[name], shape, strict=True))
        for name, shape in wanted.items()
    )
    if not fits:
        what = taken if isinstance(shapes, Mapping) else next(iter(taken.values()))
        raise InputError(f"the Keras model {model.name!r} takes rows of {what}, and those of the data are {shapes}", hint=_SHAPES)
    return model


def _built(builder: str, shapes: Any, arguments: Mapping[str, Any]) -> Any:
    """Call a builder, and see to it that what it returns is a Keras model."""
    keras = load_keras()
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
