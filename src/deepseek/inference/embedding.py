"""Bundles that answer with vectors: made of a trained model's bundle, or of a checkpoint that is read as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from deepseek.artifacts import Bundle
from deepseek.data.preparation import Preparation
from deepseek.data.windows.preparation import WindowPreparation
from deepseek.errors import InputError
from deepseek.fields import Field, Kind, Schema
from deepseek.inference.backends.torch import TorchBackend, build_model
from deepseek.inference.reading import read_preparation
from deepseek.inference.saving import save_bundle
from deepseek.models.encoders.text import Pooling
from deepseek.tasks.model import TaskModel

TEXT = "text"
"""The column that a checkpoint's texts are read from unless another is named."""


def save_embedder(target: Path, bundle: Bundle, *, normalized: bool = False) -> Path:
    """Write a bundle that answers with the features of a trained model's network.

    Args:
        target: The bundle's folder; it must not exist.
        bundle: The trained model's bundle.
        normalized: Whether every vector is brought to length 1.

    Raises:
        BundleError: The bundle is an export, whose graph has no features.
        InputError: It forecasts.
        RunError: The folder is there already.
    """
    prepared = read_preparation(bundle)
    if isinstance(prepared, WindowPreparation):
        raise InputError(
            "the bundle forecasts: what its network makes of a window is laid out by steps, and is no vector of a row",
            hint="ask for the steps ahead: deepseek predict",
        )
    trained = TorchBackend(bundle).model
    document = prepared.to_json()
    schema = Schema.from_json(document["schema"])
    document["schema"] = Schema(tuple(field for field in schema if field.name not in schema.target), ()).to_json()
    document["target"] = {"kind": "features", "state": {}}
    preparation = Preparation.from_json(document)
    task = {"type": "embedding", "normalized": normalized}
    made = build_model(preparation, bundle.read("model.json"), task)
    made.network.load_state_dict(trained.network.state_dict())
    return save_bundle(target, made, preparation, model=bundle.read("model.json"), task=task, plugins=bundle.manifest["plugins"])


def save_checkpoint_embedder(
    target: Path, checkpoint: str, *, column: str = TEXT, pool: Pooling = "mean", normalized: bool = False
) -> Path:
    """Write a bundle that answers with the features of a pre-trained network, nothing trained.

    With `pool: mean` they are those of Sentence Transformers (Reimers and Gurevych, 2019, https://arxiv.org/abs/1908.10084) for checkpoints
    that are pooled so.

    Args:
        target: The bundle's folder; it must not exist.
        checkpoint: A folder, or `owner/name` on the Hugging Face Hub.
        column: The column of texts.
        pool: How the tokens become one vector: `mean`, `first` or `max`.
        normalized: Whether every vector is brought to length 1.

    Raises:
        InputError: There is no such checkpoint, or the pooling would have to be learned.
        RunError: The folder is there already.
    """
    if pool not in ("mean", "first", "max"):
        raise InputError(f"a checkpoint's tokens are pooled by {pool!r}, which nobody has trained", hint="allowed: mean, first, max")
    transform = {"type": "text_pretrained", "pretrained": checkpoint}
    preparation = Preparation(Schema((Field(column, Kind.TEXT),), ()), transforms={column: transform}, target="features")
    preparation.fit(lambda: iter([pa.record_batch({column: [""]})]))
    model: dict[str, Any] = {"type": "text_pretrained", "pretrained": checkpoint, "pool": pool, "dropout": 0.0}
    task = {"type": "embedding", "normalized": normalized}
    made: TaskModel = build_model(preparation, model, task)
    return save_bundle(target, made.eval(), preparation, model=model, task=task)
