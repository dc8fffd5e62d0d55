"""What the network will see, before anything is trained: rows stage by stage, a batch, and the network's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from deepseek import progress
from deepseek.artifacts import CACHE, StageCache, write_text
from deepseek.data.augment import build_augmentations
from deepseek.data.batch import Batch
from deepseek.data.landing import LandedTable
from deepseek.data.padding import MASK, mask_name
from deepseek.data.preparation import Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.category import CategoryTransform
from deepseek.data.transforms.text import TextTransform
from deepseek.data.windows.dataset import WindowDataset
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.inference import build_model
from deepseek.models.network import parameter_count
from deepseek.pipeline.fitting import known_of
from deepseek.pipeline.preparing.dataset import Dataset, make_dataset
from deepseek.pipeline.recipes import open_recipe
from deepseek.pipeline.run import choices_json, resolve, settings_of
from deepseek.recipe import AUTO, Recipe
from deepseek.reporting.pictures import picture
from deepseek.reporting.preview import preview_page
from deepseek.tasks.base import TARGET
from deepseek.tasks.model import TaskModel
from deepseek.training import Trainer
from deepseek.training.state import kept_generators, seed_generators

MOST_ROWS = 50
SHOWN_TOKENS = 200
SHOWN_CODES = 100
DRAWS = 6
"""How often an image is augmented anew."""

_CPU = torch.device("cpu")

Pictures = dict[str, list[list[bytes]]]


def preview(
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe,
    *,
    overrides: Sequence[str] = (),
    rows: int = 5,
    out: str | PathLike[str] = "runs",
    output: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Say what the network will see, without training it.

    The data go the way that `deepseek.run` takes, and are kept for it: read, checked, split, cleaned, made into arrays. The rows shown are
    the first of the first training batch; that batch is the trainer's own, drawn and augmented as in step 0.

    Args:
        recipe: A recipe's file, its content as a mapping, or a run's folder.
        overrides: Each `PATH=VALUE`, for example `data.augment=[flip]`.
        rows: How many rows are shown, 1 to 50.
        out: The folder that holds the runs, and beside them the prepared data.
        output: An HTML file for the same with pictures; an existing one is replaced.

    Returns:
        Plain JSON values: `splits`, `warnings`, `choices`, `target`, `inputs`, `rows` (each `raw`, `cleaned`, `inputs`, `ready`, `target`),
        `batch`, `network`.

    Raises:
        RecipeError: The recipe is wrong.
        DataError: The data cannot be used.

    Example:
        ```python
        seen = deepseek.preview("churn.yaml")
        print(seen["rows"][0]["ready"], seen["network"]["parameters"])
        ```
    """
    if not 1 <= rows <= MOST_ROWS:
        raise InputError(f"rows is {rows}", hint=f"allowed: 1 to {MOST_ROWS}")
    _, checked = open_recipe(recipe, overrides)
    dataset = make_dataset(checked, StageCache(Path(out) / CACHE))
    for warning in dataset.warnings:
        progress.warn(warning)
    resolved, choices = resolve(checked, dataset)
    view = _View(resolved, dataset)
    facts = {
        "name": checked.name,
        "splits": {name: part["rows"] for name in ("train", "validation", "test") if (part := dataset.document["rows"].get(name))},
        "warnings": list(dataset.warnings),
        "choices": choices_json(choices),
        "target": view.target(),
        "inputs": view.inputs(),
        "rows": view.rows(rows),
        "batch": view.batch(),
        "network": view.network(),
    }
    if output is not None:
        write_text(Path(output), preview_page(facts, pictures=view.pictures(rows), labels=view.labels(rows)))
    return facts


class _View:
    """The recipe's parts as a run would build them, looked at."""

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        self._dataset = dataset
        self._preparation: Preparation = dataset.preparation()
        # one device looks, at whole batches: how several would share them changes nothing of what is seen
        settings = replace(settings_of(recipe), strategy=AUTO, communication=AUTO, shares="equal")
        task: Any = recipe.task
        model: Any = recipe.model
        with kept_generators(_CPU):
            seed_generators(settings.seed, _CPU)
            self._model: TaskModel = build_model(self._preparation, dict(model), dict(task))
        train = dataset.open("train")
        assert train is not None, "a prepared dataset has training rows"
        if not self._model.task.needs_target:
            raise InputError(
                f"a preview shows rows with what is predicted of them, and the task {task['type']!r} reads its text on from row to row",
                hint="look at the text itself; what was decided is shown by: deepseek show RECIPE",
            )
        self._train: PreparedDataset = train
        augment: Any = recipe.data.augment or ()
        self._trainer = Trainer(
            self._model,
            self._model.task,
            train,
            dataset.open("validation"),
            settings=settings,
            augment=build_augmentations(augment, self._preparation.placed, known_of(self._preparation, train)),
        )
        self._read, self._met = self._trainer.peek()
        with torch.inference_mode():
            self._ready = self._model.eval().network.ready(self._read.inputs)

    def target(self) -> dict[str, Any]:
        """Return what is predicted, how it is coded, and what each class weighs."""
        target = self._preparation.target
        assert target is not None
        spec: TargetSpec = target.spec
        facts: dict[str, Any] = {"columns": list(spec.columns), "kind": spec.kind, "rows": spec.rows}
        if spec.kind == "values":
            return facts | {"mean": list(spec.mean), "std": list(spec.std), "coded": "in standard deviations from the training mean"}
        weights = _class_weights(self._model, spec)
        classes = [
            {"name": name, "code": code, "rows": count, "weight": None if weights is None else weights[code]}
            for code, (name, count) in enumerate(zip(spec.classes, spec.counts, strict=True))
        ]
        return facts | {"classes": classes}

    def inputs(self) -> list[dict[str, Any]]:
        """Return what the network meets under each name, as stored and as it leaves the graph transforms."""
        return [
            {
                "name": name,
                "kind": spec.kind.value,
                "columns": list(spec.columns),
                "stored": f"{spec.dtype} {_shape(('l', *spec.shape) if spec.ragged else spec.shape)}",
                "after": f"{_dtype(self._ready[name])} {_shape(self._ready[name].shape[1:])}",
                "codes": list(spec.cardinalities),
                "encoder": _encoder_of(self._model, spec),
            }
            for name, spec in self._preparation.inputs.items()
        ]

    def rows(self, count: int) -> list[dict[str, Any]]:
        """Return the first rows of the first batch at every stage; none of a forecast, whose windows are no rows of the table."""
        if isinstance(self._train, WindowDataset):
            return []
        places = self._places(count)
        sources = self._train.source_numbers(places)
        raw = _landed_rows(LandedTable.open(self._dataset.landed["source"]), sources)
        cleaned = self._cleaned(raw)
        return [
            {
                "row": int(sources[number]),
                "raw": _plain_row(raw, number),
                "cleaned": _plain_row(cleaned, number, only=self._preparation.columns),
                "inputs": {name: self._stored(name, number) for name in self._preparation.inputs},
                "ready": self._as_met(number),
                "target": _target_of(self._read.targets[TARGET][number]),
            }
            for number in range(len(places))
        ]

    def batch(self) -> dict[str, Any]:
        """Return the first training batch: shapes, types, memory, spread of the numbers."""
        tensors = [*self._met.inputs.items(), *self._met.targets.items()]
        tensors += [("weight", self._met.weight)] if self._met.weight is not None else []
        listed = [
            {"name": name, "shape": list(tensor.shape), "dtype": _dtype(tensor), "size_bytes": tensor.nbytes, **_range(tensor)}
            for name, tensor in tensors
        ]
        steps = self._trainer.loader.steps
        padding = {name: float(1 - mask.float().mean()) for name, mask in self._met.inputs.items() if name.endswith(MASK)}
        return {
            "rows": len(self._met),
            "steps_an_epoch": steps,
            "size_bytes": sum(item["size_bytes"] for item in listed),
            "tensors": listed,
            "padding": padding,
            "augmented": [name for step in self._trainer.augment for name in step.names],
        }

    def network(self) -> dict[str, Any]:
        """Return the network's parameters by part."""
        beside = {} if self._model.beside is None else {"beside the head": self._model.beside}
        parts = {**self._model.network.parts(), "head": self._model.head, **beside}
        listed = [
            {"part": name, "what": _what(part), "parameters": parameter_count(part), "trainable": parameter_count(part, trainable=True)}
            for name, part in parts.items()
        ]
        total = parameter_count(self._model)
        return {"parts": listed, "parameters": total, "trainable": parameter_count(self._model, trainable=True), "size_bytes": 4 * total}

    def pictures(self, count: int) -> Pictures:
        """Return, by input of images, the batch's first images as PNG: each as it is stored, then as several epochs change it.

        Boxes are outlined: one sees whether they go where their picture goes.
        """
        names = [name for name, spec in self._preparation.inputs.items() if spec.kind is Kind.IMAGE]
        batches, rows = self._drawn() if names else [], range(min(count, len(self._read)))
        target = self._preparation.target
        boxes = target is not None and target.spec.kind == "boxes"

        def shown(batch: Batch, name: str, row: int) -> bytes:
            return picture(batch.inputs[name][row].numpy(), batch.targets[TARGET][row, :, :4].numpy() if boxes else None)

        return {name: [[shown(batch, name, row) for batch in batches] for row in rows] for name in names}

    def labels(self, count: int) -> list[list[str]]:
        """Return beside each picture of `pictures` what its target has become; nothing where no augmentation mixes rows."""
        target = self._preparation.target
        if target is None or target.spec.kind not in ("classes", "binary") or not any(step.softens for step in self._trainer.augment):
            return []
        targets = [batch.targets[TARGET] for batch in self._drawn()]
        return [[_shares(target.spec, drawn[row]) for drawn in targets] for row in range(min(count, len(self._read)))]

    def _drawn(self) -> list[Batch]:
        """Return the first batch as it is read, and as the first steps of several epochs change it."""
        epochs = range(DRAWS if self._trainer.augment else 0)
        steps = [epoch * self._trainer.loader.steps for epoch in epochs]  # a draw is for a batch of so many rows
        return [self._read, *(self._trainer.augmented(self._read, step) for step in steps)]

    def _places(self, count: int) -> np.ndarray:
        assert self._read.row is not None
        return np.asarray(self._read.row[:count].numpy())

    def _cleaned(self, raw: pa.RecordBatch) -> pa.RecordBatch:
        """Return rows as the cleaners leave them; one that fills forward sees these rows alone."""
        batches = [batch for batch, _ in self._preparation.other_rows(iter([raw]))]
        return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]

    def _stored(self, name: str, row: int) -> Any:
        """Return what a row holds under an input's name, as the trainer's batch holds it."""
        tensor = self._read.inputs[name][row]
        if mask_name(name) in self._read.inputs:
            tensor = tensor[self._read.inputs[mask_name(name)][row]]
        spec = self._preparation.inputs[name]
        if spec.kind in (Kind.IMAGE, Kind.VOLUME):
            return {"shape": list(tensor.shape), **_range(tensor)}
        return _listed(tensor)

    def _as_met(self, row: int) -> dict[str, Any]:
        """Return what the encoders meet of a row, in words: numbers by column, names by code, tokens."""
        met: dict[str, Any] = {}
        for transform in self._preparation.transforms:
            for spec in transform.inputs:
                tensor = self._ready[spec.name][row]
                if isinstance(transform, TextTransform):
                    ids = self._read.inputs[spec.name][row][self._read.inputs[mask_name(spec.name)][row]].tolist()
                    met[spec.name] = {"tokens": transform.tokens(ids[:SHOWN_TOKENS]), "length": len(ids), "most": transform.max_tokens}
                elif isinstance(transform, CategoryTransform) and spec.kind is Kind.CATEGORY:
                    met |= {column: _named(transform, column, int(code)) for column, code in zip(spec.columns, tensor, strict=True)}
                elif spec.kind in (Kind.IMAGE, Kind.VOLUME):
                    met[spec.name] = {"shape": list(tensor.shape), **_range(tensor)}
                elif tensor.ndim == 1 and len(spec.columns) == len(tensor):
                    met |= {column: round(float(value), 4) for column, value in zip(spec.columns, tensor, strict=True)}
                else:
                    met[spec.name] = _listed(tensor)
        return met


def _target_of(target: torch.Tensor) -> Any:
    """Return a row's target; of a mask its size, and how many places each class has."""
    if target.ndim < 2:
        return target.tolist()
    codes, counts = torch.unique(target, return_counts=True)
    return {"shape": list(target.shape), "places": dict(zip(codes.tolist(), counts.tolist(), strict=True))}


def _landed_rows(table: LandedTable, rows: np.ndarray) -> pa.RecordBatch:
    """Return rows of a table, in the order in which they are named."""
    ordered = np.unique(rows)
    found = pa.Table.from_batches(table.batches(rows=ordered), table.schema)
    return found.take(pa.array(np.searchsorted(ordered, rows))).combine_chunks().to_batches()[0]


def _plain_row(batch: pa.RecordBatch, row: int, only: Sequence[str] | None = None) -> dict[str, Any]:
    names = batch.schema.names if only is None else [name for name in batch.schema.names if name in only]
    return {name: _plain(batch.column(batch.schema.get_field_index(name)), row) for name in names}


def _plain(column: pa.Array, row: int) -> Any:
    if isinstance(column.type, pa.FixedShapeTensorType):
        return f"{column.type.value_type} {_shape(column.type.shape)}"
    value = column[row].as_py()
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _named(transform: CategoryTransform, column: str, code: int) -> str:
    """Return a code with its name."""
    return f"{code} = {transform.vocabularies[column][code - 1]}" if code else "0 = missing or unknown"


def _class_weights(model: TaskModel, spec: TargetSpec) -> list[float] | None:
    """Return what the task weighs each class with; nothing where all weigh alike, or a row has several classes."""
    if spec.kind not in {"binary", "classes"}:
        return None
    codes = torch.arange(len(spec.classes))
    weights = model.task.row_weights(codes.float() if spec.kind == "binary" else codes)
    return None if weights is None else [float(weight) for weight in weights]


def _shares(spec: TargetSpec, target: torch.Tensor) -> str:
    """Return a row's target in words: its class, or how much of which."""
    if spec.kind == "binary":
        shares = [float(1 - target), float(target)]
    else:
        shares = target.tolist() if target.ndim else [float(code == int(target)) for code in range(len(spec.classes))]
    named = sorted(zip(shares, spec.classes, strict=True), key=lambda part: -part[0])
    return ", ".join(name if share == 1 else f"{share:.0%} {name}" for share, name in named if share)


def _encoder_of(model: TaskModel, spec: InputSpec) -> str:
    parts = model.network.parts()
    part = parts.get(f"encoder of {spec.name}") or parts.get("encoder of table")
    return _what(part) if part is not None else ""


def _what(part: torch.nn.Module) -> str:
    return type(part).__name__


def _range(tensor: torch.Tensor) -> dict[str, float]:
    """Return the least, the largest and the mean of a tensor's values, missing ones not counted."""
    values = tensor.double()
    values = values[torch.isfinite(values)]
    if not values.numel():
        return {}
    return {"min": float(values.min()), "max": float(values.max()), "mean": float(values.mean())}


def _listed(tensor: torch.Tensor) -> Any:
    flat = tensor.flatten()[:SHOWN_CODES].tolist()
    return [round(value, 4) if isinstance(value, float) else value for value in flat]


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(shape: Sequence[object]) -> str:
    return f"[{', '.join(map(str, shape))}]"
