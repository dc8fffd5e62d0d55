"""Self-training: a model labels the rows that it is sure of and another is trained with them, round by round; the best one is kept.

Only training rows ever come by their labels so. Validation and test rows stay those that people have labelled, the rounds share one fitted
preparation, and the test rows are not looked at before the choice between the rounds is made.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from deepseek import progress
from deepseek.artifacts import Bundle, RunFolder, StageCache, plain_disk_errors, read_json, write_bundle, write_json, write_text
from deepseek.data.loader import Loader, rows_within
from deepseek.data.prepared import PreparedDataset
from deepseek.data.pseudo_labelled import PseudoLabels, join_labelled
from deepseek.distributed import RankContext
from deepseek.errors import DataError, InputError
from deepseek.inference.backends.torch import TorchBackend
from deepseek.learning.pseudo_labels import ChoiceRules, Chosen, choose_rows
from deepseek.monitoring.reference import REFERENCE_FILE
from deepseek.pipeline.analysis.predictions import Predictions, difference_interval, predict_split
from deepseek.pipeline.fitting import MEASURED_FOR_SPEED, measure
from deepseek.pipeline.preparing.dataset import REJECTS, Dataset, copy_rejects
from deepseek.pipeline.preparing.unlabelled import Unlabelled, read_unlabelled
from deepseek.pipeline.reference import input_sketches, reference_of
from deepseek.recipe import AUTO, Recipe, SelfTrainingSection, load_recipe
from deepseek.tasks.model import TaskModel

ROUNDS = "rounds"
"""The folder of a run that holds its rounds."""
_LABELS = "labels.arrow"
_ASKED_ROWS = 1024

Train = Callable[[Recipe, Dataset, RunFolder], object]
"""Trains on prepared rows in a folder of its own, measures on validation rows, and goes on where it was interrupted."""


@dataclass(frozen=True)
class Round:
    """What a round came to.

    Attributes:
        number: 0 for the model that is trained without.
        value: The monitored metric on validation rows.
        metrics: All metrics on validation rows.
        rows: How many rows were labelled and learned.
        changed: How many rows were taken, given up or labelled otherwise since the round before.
        by_class: How many of `rows` each class has.
        sure: How many rows of each class were sure enough, before classes were balanced.
        thresholds: What each class had to reach.
        gain: What it is better by than the model that was trained without, and the ends of the 95 % interval; above 0 is better.
    """

    number: int
    value: float
    metrics: Mapping[str, float]
    rows: int = 0
    changed: int = 0
    by_class: Mapping[str, int] = field(default_factory=dict)
    sure: Mapping[str, int] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    gain: tuple[float, float, float] = (0.0, 0.0, 0.0)


def self_train(recipe: Recipe, dataset: Dataset, folder: RunFolder, *, cache: StageCache, train: Train, began: float) -> None:
    """Train in rounds and leave the best model in the run's folder; rounds that are finished there already are not done again.

    Args:
        recipe: The checked recipe, with the section `self_training`.
        dataset: The labelled rows, prepared.
        folder: The run's folder.
        cache: Where stages are kept.
        train: Trains one round.
        began: The time of `time.perf_counter` from which the run's seconds count.

    Raises:
        InputError: The target has no classes, or the data changed since the run began.
        DataError: There are no validation rows, or no rows without a label.
    """
    rounds = _Rounds(recipe, dataset, folder, cache=cache, train=train)
    stopped = rounds.go()
    rounds.keep_best(stopped, began)


class _Rounds:
    """The rounds of one run."""

    def __init__(self, recipe: Recipe, dataset: Dataset, folder: RunFolder, *, cache: StageCache, train: Train) -> None:
        assert recipe.self_training is not None
        self._recipe, self._dataset, self._folder, self._cache, self._train_once = recipe, dataset, folder, cache, train
        self._section: SelfTrainingSection = recipe.self_training
        self._preparation = dataset.preparation()
        _require_classes(dataset)
        assert self._preparation.target is not None
        self._spec = self._preparation.target.spec
        self._rules = ChoiceRules(**{name: getattr(self._section, name) for name in ("choose", "threshold", "share", "balance", "most")})
        self._unlabelled: Unlabelled = read_unlabelled(recipe, dataset, cache)
        self._rows = self._unlabelled.open()
        for warning in self._unlabelled.warnings:
            progress.warn(warning)
        left_out = "".join(f"; {count:,} left out: {reason}" for reason, count in self._unlabelled.excluded.items())
        progress.log(f"self-training: {self._unlabelled.rows:,} rows without a label{left_out}")
        self._done: list[Round] = []
        self._metric, self._sign = "", 1
        self._answers: Predictions | None = None

    def go(self) -> str:
        """Train round by round and return why no further one follows."""
        self._first()
        before = _Taken.none(len(self._rows))
        for number in range(1, self._section.rounds + 1):
            labels, chosen = self._labels(number)
            if not len(labels.rows):
                proportion = "" if self._section.balance == "none" else ", with classes in proportion,"
                return f"in round {number}{proportion} no row was sure enough"
            taken = _Taken.of(labels, len(self._rows))
            if taken.digest == before.digest:
                return f"round {number} would learn the same rows with the same labels as the round before"
            self._round(number, labels, chosen=chosen, changed=taken.changes(before))
            before = taken
        return f"all {self._section.rounds} rounds were done"

    def _first(self) -> None:
        progress.log("round 0: labelled rows only")
        outcome = self._train(0, self._dataset)
        resolved = load_recipe(self._run(0).resolved, folder=self._recipe.folder)
        self._first_model = self._model(0)
        task = self._first_model.task
        self._metric = task.monitor if resolved.train.monitor in (AUTO, None) else str(resolved.train.monitor)
        self._sign = 1 if task.metrics()[self._metric].higher_is_better else -1
        self._note(Round(0, outcome[self._metric], outcome))

    def _round(self, number: int, labels: PseudoLabels, *, chosen: Chosen, changed: int) -> None:
        classes = self._spec.classes
        counts = dict(zip(classes, chosen.counts.tolist(), strict=True))
        told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        progress.log(f"round {number}: {len(labels.rows):,} of {len(self._rows):,} rows labelled ({told}), {changed:,} changed")
        outcome = self._train(number, self._joined(labels))
        self._note(
            Round(
                number,
                outcome[self._metric],
                outcome,
                rows=len(labels.rows),
                changed=changed,
                by_class=counts,
                sure=dict(zip(classes, chosen.sure.tolist(), strict=True)),
                thresholds=dict(zip(classes, chosen.thresholds.tolist(), strict=True)),
                gain=self._gain(number, outcome[self._metric] - self._done[0].value),
            )
        )

    def _gain(self, number: int, difference: float) -> tuple[float, float, float]:
        """Return by how much a round is better on validation rows, with the interval of the paired difference moved to all of them."""
        validation, task = self._dataset.open("validation"), self._first_model.task
        assert validation is not None
        rows = len(validation)
        if self._answers is None:
            self._answers = predict_split(self._first_model, validation, "validation", rows=rows)
        answers = predict_split(self._model(number), validation, "validation", rows=rows)
        found = difference_interval(task, self._metric, first=self._answers, second=answers, seed=self._recipe.seed)
        ends = sorted(self._sign * (end - found.value + difference) for end in (found.low, found.high))
        return self._sign * difference, ends[0], ends[1]

    def _note(self, one: Round) -> None:
        self._done.append(one)
        beside = f" ({self._done[0].value:.6g} without; better by {one.gain[1]:.3g} to {one.gain[2]:.3g})" if one.number else ""
        progress.log(f"round {one.number}: {self._metric} {one.value:.6g} on validation rows{beside}")

    def _run(self, number: int) -> RunFolder:
        return RunFolder(self._folder.path / ROUNDS / str(number))

    def _model(self, number: int) -> TaskModel:
        return TorchBackend(Bundle.open(self._run(number).bundle)).model

    def _train(self, number: int, dataset: Dataset) -> dict[str, float]:
        """Train a round, or go on with it, and return its metrics on validation rows."""
        run = self._run(number)
        if not run.metrics.is_file():
            with plain_disk_errors(run.path):
                run.path.mkdir(parents=True, exist_ok=True)
            recipe = self._recipe
            if number and self._section.student is not None:
                recipe = recipe.with_decisions({"model": (self._section.student, "the student of self_training")})
            if not run.decisions.is_file() and (measured := self._measured(number)):
                write_json(run.decisions, {"measured": measured})
            self._train_once(recipe, dataset, run)
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        metrics: dict[str, float] = read_json(run.metrics)["metrics"]["validation"]
        return metrics

    def _measured(self, number: int) -> dict[str, Any]:
        """Return what need not be measured again: for the first round what a run that is repeated had, for the others its arithmetic."""
        known = self._folder.decisions if number == 0 else self._run(0).decisions
        found = (read_json(known).get("measured") if known.is_file() else None) or {}
        if number == 0:
            return dict(found)
        return {} if self._section.student is not None else {key: found[key] for key in MEASURED_FOR_SPEED if key in found}

    def _labels(self, number: int) -> tuple[PseudoLabels, Chosen]:
        """Return which rows the last round's model labels how, as it was decided when the round began."""
        kept = self._run(number).path / _LABELS
        about = kept.with_suffix(".json")
        if about.is_file():
            said = read_json(about)
            chosen = Chosen(np.empty(0, np.int64), *(np.array(said[name]) for name in ("sure", "counts", "thresholds")))
            return _read_labels(kept, self._spec.classes), chosen
        labels, chosen = self._ask(number)
        if len(labels.rows):
            with plain_disk_errors(kept):
                kept.parent.mkdir(parents=True, exist_ok=True)
            _write_labels(kept, labels, self._spec.classes, sources=self._rows.source_rows)
            write_json(about, {name: getattr(chosen, name).tolist() for name in ("sure", "counts", "thresholds")})
        return labels, chosen

    def _ask(self, number: int) -> tuple[PseudoLabels, Chosen]:
        confidence, label, shares = ask_rows(self._model(number - 1), self._rows, shares=self._section.soft)
        chosen = choose_rows(confidence, label, self._rules, classes=self._spec.classes, known=self._spec.counts, number=number)
        rows, weight = chosen.rows, self._section.weight
        weights = confidence[rows] if weight == "confidence" else np.full(len(rows), weight)
        return PseudoLabels(rows, label[rows], weights.astype(np.float32), None if shares is None else shares[rows]), chosen

    def _joined(self, labels: PseudoLabels) -> Dataset:
        """Return the training rows of a round; validation rows are those of all rounds, and test rows are not there."""
        taken = _Taken.of(labels, len(self._rows))
        key = {"prepared": self._dataset.folder.name, "unlabelled": self._unlabelled.folder.name, "labels": taken.digest}
        folder, _ = self._cache.folder("self_training", key, partial(self._build, labels))
        document = self._dataset.document
        train = self._dataset.open("train")
        assert train is not None
        rows = {name: part for name, part in document["rows"].items() if name != "test"}
        rows["train"] = {**rows["train"], "rows": len(train) + len(labels.rows)}
        return replace(self._dataset, folder=folder, document={**document, "rows": rows}, warnings=(), rejects={})

    def _build(self, labels: PseudoLabels, folder: Path) -> None:
        train = self._dataset.open("train")
        assert train is not None
        with progress.task("joining labelled rows and others"):
            join_labelled(folder / "train", train, self._rows, given=labels, classes=len(self._spec.classes))
        with plain_disk_errors(folder):
            shutil.copytree(self._dataset.folder / "validation", folder / "validation", copy_function=_link)
            shutil.copyfile(self._dataset.folder / "preparation.json", folder / "preparation.json")

    def keep_best(self, stopped: str, began: float) -> None:
        """Measure the best round's model on the test rows and make it the run's own."""
        place = 1 if self._section.keep == "surely_better" else 0
        better = {one.number: one.gain[0] for one in self._done[1:] if one.gain[place] > self._section.min_gain}
        best = max(better, key=lambda number: (better[number], -number)) if better else 0
        reason = self._reason(best)
        progress.log(f"self-training: {stopped}; {reason}")
        source, folder = self._run(best), self._folder
        metrics = self._publish(source)
        decisions = read_json(source.decisions) | {
            "measured": read_json(self._run(0).decisions).get("measured"),
            "self_training": {
                "metric": self._metric,
                "kept": best,
                "reason": reason,
                "stopped": stopped,
                "unlabelled": {"rows": self._unlabelled.rows, "left_out": dict(self._unlabelled.excluded)},
                "rounds": [asdict(one) for one in self._done],
            },
        }
        write_json(folder.decisions, decisions)
        write_text(folder.resolved, source.resolved.read_text(encoding="utf-8"))
        write_text(folder.events, source.events.read_text(encoding="utf-8"))
        if self._section.unlabelled is not None:
            aside = self._unlabelled.landed.path.parent / REJECTS
            copy_rejects(replace(self._dataset, rejects={"unlabelled": aside}), folder.rejects)
        data = read_json(folder.data)
        if self._unlabelled.manifest is not None:
            data["sources"]["unlabelled"] = dict(self._unlabelled.manifest)
        write_json(folder.data, data)
        warnings = [*self._dataset.warnings, *self._unlabelled.warnings, *([] if best else [reason])]
        seconds = time.perf_counter() - began
        write_json(folder.metrics, {**read_json(source.metrics), "metrics": metrics, "seconds": seconds, "warnings": warnings})

    def _reason(self, best: int) -> str:
        first = self._done[0].value
        if best:
            kept = next(one for one in self._done if one.number == best)
            return f"round {best} is kept: {self._metric} {kept.value:.6g} on validation rows, {first:.6g} without"
        by = f" by more than {self._section.min_gain:g}" if self._section.min_gain else ""
        how = "surely better" if self._section.keep == "surely_better" else "better"
        return f"no round was {how} than labelled rows alone{by} ({self._metric} {first:.6g} on validation rows): that model is kept"

    def _publish(self, source: RunFolder) -> dict[str, Any]:
        """Write the run's bundle from a round's and return its metrics by split."""
        bundle = Bundle.open(source.bundle)
        model, test = TorchBackend(bundle).model, self._dataset.open("test")
        metrics: dict[str, Any] = read_json(source.metrics)["metrics"]
        metrics["test"] = None if test is None else measure(model, test, RankContext())
        documents = {name: bundle.read(name) for name in bundle.manifest["files"] if name.endswith(".json")} | {"metrics.json": metrics}
        if test is not None:
            train = self._recipe.train
            inputs = input_sketches(self._dataset, seed=self._recipe.seed if train.seed is None else train.seed)
            documents[REFERENCE_FILE] = reference_of(model, self._preparation, inputs, data={"test": test}, measured=("test",))
        shutil.rmtree(self._folder.bundle, ignore_errors=True)  # of a run that was killed right here
        with write_bundle(self._folder.bundle, documents, plugins=bundle.manifest["plugins"]) as fresh:
            shutil.copy2(bundle.file("weights.safetensors"), fresh / "weights.safetensors")
        return metrics


@dataclass(frozen=True)
class _Taken:
    """The labels of a round in a form that can be compared: by row, -1 where there is none."""

    labels: np.ndarray
    digest: str

    @classmethod
    def none(cls, rows: int) -> _Taken:
        return cls(np.full(rows, -1, dtype=np.int64), "")

    @classmethod
    def of(cls, given: PseudoLabels, rows: int) -> _Taken:
        labels = np.full(rows, -1, dtype=np.int64)
        labels[given.rows] = given.labels
        digest = sha256(labels.tobytes() + given.weights.tobytes())
        if given.shares is not None:
            digest.update(given.shares.tobytes())
        return cls(labels, digest.hexdigest())

    def changes(self, before: _Taken) -> int:
        return int((self.labels != before.labels).sum())


@torch.inference_mode()
def ask_rows(model: TaskModel, data: PreparedDataset, *, shares: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return what a model says of prepared rows: how likely the likeliest class is, which it is, and all probabilities if wanted.

    Args:
        model: The trained model, with a task that has classes.
        data: The prepared rows; a target is not needed.
        shares: Whether all probabilities are wanted.

    Returns:
        float32 `[n]`, int64 `[n]`, and float32 `[n, classes]` or nothing.
    """
    rows = len(data)
    confidence, label = np.zeros(rows, dtype=np.float32), np.zeros(rows, dtype=np.int64)
    every = np.zeros((rows, len(model.task.target.classes)), dtype=np.float32) if shares else None
    loader = Loader(data, batch_size=rows_within(data, _ASKED_ROWS), shuffle=False, group_lengths=True)
    with progress.task("labelling rows", rows) as advance:
        for batch in loader.batches(0):
            assert batch.row is not None
            places, probability = batch.row.numpy(), model.predict(batch.inputs)["probability"]
            best, code = probability.max(dim=1)
            confidence[places], label[places] = best.numpy(), code.numpy()
            if every is not None:
                every[places] = probability.numpy()
            advance(len(places))
    return confidence, label, every


def _require_classes(dataset: Dataset) -> None:
    target = dataset.preparation().target
    kind = None if target is None else target.spec.kind
    if kind not in ("binary", "classes"):
        raise InputError(
            f"self-training needs one class a row, and the target is of kind {kind!r}: how sure an answer is cannot be told",
            hint="leave out the section self_training",
        )
    if dataset.open("validation") is None:
        raise DataError("self-training needs validation rows to choose a round by", hint="give data.split.validation a share")


def _write_labels(path: Path, labels: PseudoLabels, classes: tuple[str, ...], *, sources: np.ndarray | None) -> None:
    rows = labels.rows if sources is None else np.asarray(sources[labels.rows])
    columns: dict[str, pa.Array] = {
        "row": pa.array(rows),
        "place": pa.array(labels.rows),
        "label": pa.array(classes).take(pa.array(labels.labels)),
        "weight": pa.array(labels.weights),
    }
    if labels.shares is not None:
        columns |= {f"probability_{name}": pa.array(labels.shares[:, code]) for code, name in enumerate(classes)}
    table = pa.table(columns)
    with plain_disk_errors(path), pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _read_labels(path: Path, classes: tuple[str, ...]) -> PseudoLabels:
    with plain_disk_errors(path), pa.OSFile(str(path), "rb") as file:
        table = pa.ipc.open_file(file).read_all()
    codes = {name: code for code, name in enumerate(classes)}
    label = np.array([codes[name] for name in table.column("label").to_pylist()], dtype=np.int64)
    names = [f"probability_{name}" for name in classes]
    shares = np.column_stack([table.column(name).to_numpy() for name in names]) if names[0] in table.column_names else None
    return PseudoLabels(table.column("place").to_numpy(), label, table.column("weight").to_numpy(), shares)


def _link(source: str, target: str) -> None:
    """Give a file a second name where the disk can, else copy it: validation rows need no place of their own for each round."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
