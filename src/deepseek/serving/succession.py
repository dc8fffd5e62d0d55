"""Whether a bundle may take another one's place: what is exchanged under one name is asked by clients that know of nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepseek.artifacts import Bundle
from deepseek.inference.reading import read_preparation
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.models import ServedModel


def require_successor(model: ServedModel, path: str) -> None:
    """See that the clients of a model can go on with another bundle as they are.

    Args:
        model: The model that is served.
        path: The run or bundle that is to take its place.

    Raises:
        BundleError: It is not there, or not as it was written.
        RefusedError: It predicts something else, or asks for fields that the served one does not have (409).
    """
    preparation = read_preparation(Bundle.open(Path(path)))
    target = preparation.schema.target
    if target != model.target:
        raise _refused(f"{path} predicts {_named(target)}; {model.name}, which is served, predicts {_named(model.target)}")
    known = {one.name for one in model.reader.fields}
    fresh = [name for name in preparation.columns if name not in known]
    if fresh:
        raise _refused(f"{path} asks for {_named(fresh)}, of which the clients of {model.name} know nothing")


def _refused(message: str) -> RefusedError:
    return RefusedError(409, message, hint='serve it under a name of its own, or send "force": true, if clients send what it asks for')


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
