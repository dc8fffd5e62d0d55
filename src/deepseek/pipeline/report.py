"""The report of a run: its facts are gathered from the run's folder, its bundle and, where they are still as they were, its rows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from deepseek.artifacts import Bundle, RunFolder, StageCache, read_json, write_text
from deepseek.data.landing import LandedTable
from deepseek.data.preparation import Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.data.splits import NAMES
from deepseek.distributed import RankContext
from deepseek.errors import DeepSeekError, InputError
from deepseek.explainers.importance import column_shuffles, permutation_importance
from deepseek.inference.backends.torch import TorchBackend
from deepseek.inference.reading import read_preparation
from deepseek.pipeline.asked import REPEATS, Asked, ask, intervals, sample_of, table_rows
from deepseek.pipeline.dataset import Dataset, make_dataset
from deepseek.pipeline.fitting import measure
from deepseek.pipeline.given import CACHE, open_recipe, source_changed
from deepseek.pipeline.judged import class_facts, examples, label_facts, slice_facts, value_facts, worst_rows
from deepseek.pipeline.run import data_identity
from deepseek.recipe import load_recipe
from deepseek.registry import load_plugin
from deepseek.reporting.facts import (
    Choice,
    ColumnFact,
    CurveFacts,
    DataFacts,
    Figure,
    ImportanceFacts,
    ReportFacts,
    RowFacts,
)
from deepseek.reporting.report import report_page
from deepseek.statistics.intervals import Interval
from deepseek.tasks.metrics import MeanLoss
from deepseek.tasks.model import TaskModel

ROWS = 20_000
MOST_EXAMPLES = 12
IMPORTANCE_ROWS = 2_000
IMPORTANCE_REPEATS = 5
_IMPORTANCE_ANSWERS = {False: 400_000, True: 10_000}
"""The most rows put to the model for importance, over all columns and shuffles, without and with images; many columns get fewer rows."""

_SAME = 1e-3


@dataclass(frozen=True)
class RunReport:
    """A written report.

    Attributes:
        output: The HTML file.
        facts: What it says.
    """

    output: Path
    facts: ReportFacts

    def to_json(self) -> dict[str, Any]:
        """Return the file and the findings as plain JSON values; curves, matrices and raw rows stay in the page."""
        rows = self.facts.rows
        found = {"split": rows.split, "rows": rows.looked_at, "of": rows.of} if rows else None
        return {
            "output": str(self.output),
            "rows": found,
            "missing": list(self.facts.missing),
            "metrics": [asdict(figure) for figure in self.facts.figures],
            "slices": [asdict(one) for one in rows.slices.found] if rows and rows.slices else [],
            "importance": [list(one) for one in rows.importance.columns] if rows and rows.importance else [],
        }


def report(run: str | PathLike[str], output: str | PathLike[str] | None = None, *, rows: int = ROWS, examples: bool = True) -> RunReport:
    """Write a report of a finished run: one HTML file that can be sent, printed and kept, and that asks nothing of any other machine.

    The run's rows are put to its model again. They come from the stage cache or are read anew; where the source is not there, or not as it
    was, the report says so and is made from the run's folder alone.

    Args:
        run: The run's folder, its bundle, or the folder of its name (then the newest run in it).
        output: The file; `report.html` in the run's folder where not given. An existing file is replaced.
        rows: The most rows of a split that are looked at, 1 or more; of more a uniform sample. The metrics themselves are of all rows.
        examples: Whether rows that the model gets wrong are shown, with their raw values.

    Raises:
        BundleError: It is no run, or its bundle is not as it was written.
        InputError: The run was never finished.
        RunError: The file cannot be written.
    """
    if rows < 1:
        raise InputError(f"{rows} rows were asked for", hint="allowed: 1 or more")
    folder = RunFolder.open(Path(run))
    if not folder.metrics.is_file():
        raise InputError(f"the run {folder.path} was never finished", hint=f"go on with it: deepseek run {folder.path} --resume")
    target = folder.path / "report.html" if output is None else Path(output)
    if target.is_dir():
        raise InputError(f"the file for the report, {str(target)!r}, is a folder", hint="name a file, such as report.html")
    facts = _Gathered(folder, rows, examples=examples).facts()
    write_text(target, report_page(facts))
    return RunReport(target, facts)


class _Gathered:
    """The facts of one run."""

    def __init__(self, folder: RunFolder, rows: int, *, examples: bool) -> None:
        self._folder, self._most, self._examples = folder, rows, examples
        _, self._recipe = open_recipe(folder.path)
        for plugin in self._recipe.plugins:
            load_plugin(plugin, self._recipe.folder)
        self._resolved = load_recipe(folder.resolved, folder=self._recipe.folder)
        self._bundle = Bundle.open(folder.path)
        self._preparation = read_preparation(self._bundle)
        self._outcome = read_json(folder.metrics)
        self._data = read_json(folder.data)
        self._missing: list[str] = []
        self._found_columns: dict[str, float] = {}

    def facts(self) -> ReportFacts:
        figures = [
            Figure(metric, split, value) for split in NAMES[1:] for metric, value in (self._outcome["metrics"].get(split) or {}).items()
        ]
        rows, figures = self._of_rows(figures)
        resolved = self._resolved
        return ReportFacts(
            name=resolved.name,
            run=str(self._folder.path),
            created=_when(self._events()),
            task=str(_type(resolved.task)),
            target=resolved.data.targets,
            model=str(_type(resolved.model)),
            missing=self._missing,
            figures=figures,
            intervals=f"95 % intervals by the bootstrap: the rows are drawn anew {REPEATS} times" if rows else "",
            data=self._data_facts(),
            choices=self._choices(),
            curves=self._curves(),
            rows=rows,
            examples_left_out=not self._examples,
            timing={name: self._outcome[name] for name in _TIMING if isinstance(self._outcome.get(name), int | float)},
            environment=self._bundle.read("environment.json"),
            recipe=self._folder.recipe.read_text(encoding="utf-8"),
            commands=(f"deepseek run {self._folder.path}", f"deepseek show {self._folder.resolved}"),
            seed=resolved.seed,
        )

    def _of_rows(self, figures: list[Figure]) -> tuple[RowFacts | None, list[Figure]]:
        dataset = self._dataset()
        if dataset is None:
            return None, figures
        model = TorchBackend(self._bundle).model
        opened = {name: data for name in NAMES[1:] if (data := dataset.open(name)) is not None}
        if not opened:
            self._missing.append("there are no validation or test rows to look at")
            return None, figures
        asked = {name: ask(model, data, name, rows=self._most, seed=self._recipe.seed) for name, data in opened.items()}
        ends = {(name, metric): end for name, one in asked.items() for metric, end in intervals(model.task, one).items()}
        figures = [_with_interval(one, ends.get((one.split, one.metric))) for one in figures]
        split = "test" if "test" in asked else "validation"
        return self._judged(dataset, model, opened[split], asked[split]), figures

    def _judged(self, dataset: Dataset, model: TaskModel, data: PreparedDataset, asked: Asked) -> RowFacts:
        spec = model.task.target
        table = table_rows(dataset, data, asked)
        fields = [field for field in self._preparation.schema if field.name in self._preparation.columns]
        chosen = worst_rows(spec, asked, MOST_EXAMPLES) if self._examples else np.empty(0, dtype=np.int64)
        return RowFacts(
            split=asked.split,
            looked_at=len(asked),
            of=asked.of,
            answers=class_facts(spec, asked) if spec.kind in ("binary", "classes") else None,
            labels=label_facts(spec, asked) if spec.kind == "labels" else (),
            values=value_facts(spec, asked) if spec.kind == "values" else (),
            slices=slice_facts(spec, asked, table, fields),
            importance=self._importance(model, data, asked, table),
            examples=examples(spec, asked, data, chosen, table.take(pa.array(chosen)).to_pylist()) if len(chosen) else (),
        )

    def _importance(self, model: TaskModel, data: PreparedDataset, asked: Asked, table: pa.Table) -> ImportanceFacts:
        columns = max(len(self._preparation.columns), 1)
        budget = _IMPORTANCE_ANSWERS[bool(asked.brightness)]
        most = min(IMPORTANCE_ROWS, max(budget // (columns * IMPORTANCE_REPEATS), 100))
        places = sample_of(len(asked), most, self._recipe.seed)
        score = Scorer(model, data, asked.places[places], str(self._resolved.train.monitor))
        inputs, batch = _met(self._preparation, score.batch.inputs, table.take(pa.array(places)))
        found = permutation_importance(
            score,
            inputs,
            column_shuffles(self._preparation, batch, inputs),
            higher_is_better=score.higher_is_better,
            repeats=IMPORTANCE_REPEATS,
            seed=self._recipe.seed,
        )
        listed = [(one.column, one.mean, one.low, one.high) for one in found]
        return ImportanceFacts(score.metric, len(places), IMPORTANCE_REPEATS, listed)

    def _dataset(self) -> Dataset | None:
        """Return the run's dataset, or nothing where it cannot be had as it was; why is told under what is missing."""
        try:
            changed = source_changed(self._recipe, self._data)
            dataset = None if changed else make_dataset(self._recipe, StageCache(self._folder.path.parent.parent / CACHE))
        except DeepSeekError as error:
            self._missing.append(f"the rows of the run cannot be had here: {error.message}")
            return None
        if dataset is None:
            self._missing.append("the source has changed since the run: what only its rows could tell is left out")
            return None
        if self._data.get("identity", "") not in ("", data_identity(dataset.folder)) and not self._measures_alike(dataset):
            self._missing.append("the rows are prepared in another way than in the run, by another version: what they tell is left out")
            return None
        self._found_columns = _missing_shares(LandedTable.open(dataset.landed["source"]))
        return dataset

    def _measures_alike(self, dataset: Dataset) -> bool:
        """Whether the model measures the same on rows that another version prepared: then they are the run's rows, kept in another form."""
        model = TorchBackend(self._bundle).model
        known = {name: metrics for name, metrics in self._outcome["metrics"].items() if metrics}
        for name, metrics in known.items():
            data = dataset.open(name)
            if data is None or len(data) != self._data["rows"][name]["rows"]:
                return False
            now = measure(model, model.task, data, RankContext())
            if any(not math.isclose(now.get(key, math.nan), value, rel_tol=_SAME, abs_tol=_SAME) for key, value in metrics.items()):
                return False
        return bool(known)

    def _data_facts(self) -> DataFacts:
        rows, schema = self._data["rows"], self._preparation.schema
        used, left_out = set(self._preparation.columns), self._preparation.left_out
        columns = [
            ColumnFact(
                item.name,
                item.kind.value,
                _role(item.name, self._preparation, used),
                self._found_columns.get(item.name),
                left_out.get(item.name, ""),
            )
            for item in schema
        ]
        read = self._data["sources"]["source"]["rows"]
        aside = [("reading", check["reason"], check["dropped"] + check["quarantined"]) for check in read["checks"]]
        aside += [("reading", "could not be parsed", read["malformed"])]
        aside += [(name, reason, count) for name in NAMES for reason, count in rows.get(name, {}).get("set_aside", {}).items()]
        return DataFacts(
            rows={name: rows[name]["rows"] for name in NAMES if name in rows},
            columns=columns,
            set_aside=[one for one in aside if one[2]],
            warnings=self._data["warnings"],
            leaks={name: count for name, count in rows.get("leaks", {}).items() if isinstance(count, int)},
            files=[{"source": source, **file} for source, one in self._data["sources"].items() for file in one["files"]],
        )

    def _choices(self) -> list[Choice]:
        chosen = read_json(self._folder.decisions).get("chosen", {}) if self._folder.decisions.is_file() else {}
        return [Choice(path, _short(one["value"]), one["reason"]) for path, one in chosen.items()]

    def _curves(self) -> CurveFacts:
        logs = {event["step"]: event for event in self._events() if event["event"] == "log"}
        checks = {event["step"]: event["metrics"] for event in self._events() if event["event"] == "validation"}
        steps, places = sorted(logs), sorted(checks)
        names = dict.fromkeys(name for step in places for name in checks[step] if name not in _NO_METRICS)
        best = self._outcome.get("best")
        return CurveFacts(
            steps=steps,
            loss=[_number(logs[step]["loss"]) for step in steps],
            learning_rate=[_number(logs[step]["learning_rate"]) for step in steps],
            validation_steps=places,
            validation={name: [_number(checks[step].get(name)) for step in places] for name in names},
            monitor=str(self._resolved.train.monitor) if self._resolved.train.monitor != "auto" else "",
            best_step=best["step"] if best else None,
            stopped=str(self._outcome.get("stopped_reason") or ""),
        )

    def _events(self) -> Iterator[dict[str, Any]]:
        if not self._folder.events.is_file():
            return
        with self._folder.events.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):  # a kill may have cut the last one
                    yield json.loads(line)


_TIMING = ("seconds", "training_s", "evaluation_s", "steps", "samples_per_s", "data_wait_share")
_NO_METRICS = ("step", "epoch", "learning_rate", "train_loss", "seconds")


class Scorer:
    """The monitored metric of a model on some rows, for other inputs of the same rows.

    Args:
        model: The trained model.
        data: The prepared rows.
        places: Which of them.
        metric: The metric's name; the task's own where it does not compute that one.

    Attributes:
        batch: The rows.
        metric: The metric's name.
        higher_is_better: Whether a larger number is a better one.
    """

    def __init__(self, model: TaskModel, data: PreparedDataset, places: np.ndarray, metric: str) -> None:
        self._model, self.batch = model, data.take(places)
        known = model.task.metrics()
        self.metric = metric if metric in known else model.task.monitor
        self.higher_is_better = known[self.metric].higher_is_better

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, np.ndarray]) -> float:
        """Return the metric for inputs `[n, …]` by name."""
        task, metric = self._model.task, self._model.task.metrics()[self.metric]
        given = replace(self.batch, inputs={name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in inputs.items()})
        for batch in given.split(512):
            out = self._model(batch.inputs).float()
            if isinstance(metric, MeanLoss):
                metric.add(*task.loss(out, batch))
            else:
                metric.update(task.decode(out), batch)
        return metric.compute()


def _met(preparation: Preparation, inputs: Mapping[str, torch.Tensor], table: pa.Table) -> tuple[dict[str, np.ndarray], pa.RecordBatch]:
    """Return the inputs of rows, and the rows as the cleaners leave them; what is to be shuffled by column is made from just these."""
    batch = next(batch for batch, _ in preparation.other_rows(iter([table.combine_chunks().to_batches()[0]])))
    met = {name: tensor.numpy() for name, tensor in inputs.items()}
    for transform in preparation.transforms:
        if len(transform.fields) > 1:
            met |= {name: np.asarray(array) for name, array in transform.apply(batch).items()}
    return met, batch


def _with_interval(figure: Figure, found: Interval | None) -> Figure:
    """Return a metric of all rows with the interval that a sample of them gave, moved to where the metric is."""
    if found is None or not math.isfinite(found.low - found.value):
        return figure
    moved = figure.value - found.value
    return replace(figure, low=found.low + moved, high=found.high + moved)


def _missing_shares(table: LandedTable) -> dict[str, float]:
    counts = dict.fromkeys(table.schema.names, 0)
    for batch in table.batches():
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            counts[name] += column.null_count
    return {name: count / max(table.rows, 1) for name, count in counts.items()}


def _role(name: str, preparation: Preparation, used: set[str]) -> str:
    if name in preparation.schema.target:
        return "target"
    return "weight" if name == preparation.weight else "input" if name in used else "not used"


def _when(events: Iterator[dict[str, Any]]) -> str:
    first = next(events, None)
    return "" if first is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(first["time"]))


def _type(spec: Any) -> Any:
    return spec["type"] if isinstance(spec, Mapping) else spec


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
