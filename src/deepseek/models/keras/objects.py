"""A Keras model that is given as an object: described by Keras' own configuration, and made again from it without anybody's code.

The configuration names Keras' own classes and numbers, and nothing else: what would bring code of its own with it is refused, whoever wrote
the configuration. So a bundle that holds one is as safe to open as any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepseek.artifacts import plain_disk_errors
from deepseek.errors import InputError
from deepseek.models.keras.backend import load_keras

WITH_CODE = frozenset({"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"})
"""Classes of Keras whose configuration holds, or loads, code."""
_BY_BUILDER = "give a function that builds it instead: model.builder FILE.py:FUNCTION, with the file under plugins:"


def configuration_of(model: Any) -> dict[str, Any]:
    """Return a Keras model's configuration as plain JSON values, without how it was compiled.

    Args:
        model: A `keras.Model` of Keras' own layers: Sequential, or functional.

    Raises:
        InputError: It holds a class or a function of somebody's own, or has no weights yet.
    """
    keras = load_keras()
    if not model.built:
        raise InputError(f"the Keras model {model.name!r} is not built", hint="give it an Input layer, or call it once")
    try:
        described = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InputError(f"the Keras model {model.name!r} has no configuration: {error}", hint=_BY_BUILDER) from error
    described.pop("compile_config", None)
    require_keras_alone(described)
    made: dict[str, Any] = described
    return made


def require_keras_alone(config: Any) -> None:
    """See that a configuration names nothing but Keras' own classes.

    Raises:
        InputError: It names another class, or one that holds code.
    """
    if isinstance(config, Mapping):
        name, module = config.get("class_name"), config.get("module")
        registered = config.get("registered_name")
        if isinstance(name, str):
            own = module is None or module == "keras" or str(module).startswith("keras.")
            if not own or name in WITH_CODE or registered not in (None, name):
                where = f"{module}.{name}" if module else name
                raise InputError(f"the Keras model holds {where}, which needs code that a configuration does not hold", hint=_BY_BUILDER)
        if set(config) == {"value"} and isinstance(config["value"], list):  # what Keras makes of a function: its byte code
            raise InputError("the Keras model holds a function, which needs code that a configuration does not hold", hint=_BY_BUILDER)
        for part in config.values():
            require_keras_alone(part)
    elif isinstance(config, list):
        for part in config:
            require_keras_alone(part)


def model_from(config: Mapping[str, Any], weights: Path | None = None) -> Any:
    """Return the Keras model that a configuration describes.

    Args:
        config: As `configuration_of` returned it.
        weights: A safetensors file of its numbers, as `save_numbers` wrote it; as they are drawn where not given.

    Raises:
        InputError: The configuration names what is not Keras' own, or the file does not fit.
    """
    keras = load_keras()
    require_keras_alone(config)
    model = keras.saving.deserialize_keras_object(dict(config), safe_mode=True)
    if weights is not None:
        model.set_weights(_numbers(weights, [tuple(variable.shape) for variable in model.weights]))
    return model


def save_numbers(model: Any, path: Path) -> None:
    """Write a Keras model's numbers by their places, as safetensors.

    Args:
        model: The model.
        path: The file.

    Raises:
        RunError: It cannot be written.
    """
    from safetensors.numpy import save_file

    with plain_disk_errors(path):
        save_file({f"{place:05d}": np.ascontiguousarray(value) for place, value in enumerate(model.get_weights())}, path)


def _numbers(path: Path, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise InputError(f"there are no numbers of a Keras model at {str(path)!r}", hint="give the model to deepseek.train again")
    try:
        held = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{str(path)!r} is no safetensors file: {error}") from error
    numbers = [held[name] for name in sorted(held)]
    if [array.shape for array in numbers] != shapes:
        raise InputError(f"the numbers in {str(path)!r} are of another Keras model", hint="give the model to deepseek.train again")
    return numbers
