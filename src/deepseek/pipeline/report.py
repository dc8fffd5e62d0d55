"""The report of a run: its facts are gathered from the run's folder, its bundle and, where they are still as they were, its rows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek.artifacts import read_json, write_text
from deepseek.data.landing import LandedTable
from deepseek.data.preparation import Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.data.splits import NAMES
from deepseek.data.windows.dataset import WindowDataset
from deepseek.data.windows.preparation import WindowPreparation
from deepseek.distributed import RankContext
from deepseek.errors import DeepSeekError, InputError
from deepseek.inference.reading import read_preparation
from deepseek.pipeline.analysis.attention import attention_facts
from deepseek.pipeline.analysis.compression import compression_facts
from deepseek.pipeline.analysis.coverage import Groups, coverage_facts
from deepseek.pipeline.analysis.examples import examples, worst_rows
from deepseek.pipeline.analysis.finished import FinishedRun
from deepseek.pipeline.analysis.horizons import horizon_facts
from deepseek.pipeline.analysis.importance import importance_facts
from deepseek.pipeline.analysis.pictures import DRAWN_KINDS, picture_facts
from deepseek.pipeline.analysis.predictions import REPEATS, Predictions, metric_intervals, predict_split, table_rows
from deepseek.pipeline.analysis.quality import class_facts, label_facts, value_facts
from deepseek.pipeline.analysis.slices import slice_facts
from deepseek.pipeline.fitting import measure
from deepseek.pipeline.preparing.dataset import Dataset
from deepseek.pipeline.preparing.sources import source_changed
from deepseek.pipeline.run import data_identity
from deepseek.reporting.facts import (
    Choice,
    ColumnFact,
    CurveFacts,
    DataFacts,
    Figure,
    PicturesFacts,
    ReportFacts,
    RoundFact,
    RowFacts,
    SelfTrainingFacts,
)
from deepseek.reporting.forecast import ForecastFacts
from deepseek.reporting.report import report_page
from deepseek.statistics.intervals import Interval
from deepseek.tasks.model import TaskModel
from deepseek.training.fine_tuning import measured_groups

ROWS = 20_000
MOST_EXAMPLES = 12

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
            "coverage": [asdict(one) for one in rows.coverage] if rows else [],
            "slices": [asdict(one) for one in rows.slices.found] if rows and rows.slices else [],
            "importance": [list(one) for one in rows.importance.columns] if rows and rows.importance else [],
            "compressed": [asdict(one) for one in self.facts.compressed],
        }


def report(
    run: str | PathLike[str],
    output: str | PathLike[str] | None = None,
    *,
    rows: int = ROWS,
    examples: bool = True,
    by: Sequence[str] | Groups = (),
) -> RunReport:
    """Write a report of a finished run: one HTML file that can be sent, printed and kept, and that asks nothing of any other machine.

    The run's rows are put to its model again. They come from the stage cache or are read anew; where the source is not there, or not as it
    was, the report says so and is made from the run's folder alone.

    Args:
        run: The run's folder, its bundle, or the folder of its name (then the newest run in it).
        output: The file; `report.html` in the run's folder where not given. An existing file is replaced.
        rows: The most rows of a split that are looked at, 1 or more; of more a uniform sample. The metrics themselves are of all rows.
        examples: Whether rows that the model gets wrong are shown, with their raw values.
        by: Columns, inputs or not, whose groups are looked at: who is among the training rows, and how each fares. With a mapping, of each
            column the shares that its values should have, `{"sex": {"f": 0.5, "m": 0.5}}`, or nothing.

    Raises:
        BundleError: It is no run, or its bundle is not as it was written.
        InputError: The run was never finished.
        RunError: The file cannot be written.
    """
    if rows < 1:
        raise InputError(f"{rows} rows were asked for", hint="allowed: 1 or more")
    finished = FinishedRun.open(Path(run))
    target = finished.folder.path / "report.html" if output is None else Path(output)
    if target.is_dir():
        raise InputError(f"the file for the report, {str(target)!r}, is a folder", hint="name a file, such as report.html")
    groups = by if isinstance(by, Mapping) else dict.fromkeys([by] if isinstance(by, str) else by)
    facts = _Collector(finished, rows, examples=examples, groups=groups).facts()
    write_text(target, report_page(facts))
    return RunReport(target, facts)


class _Collector:
    """Collects the facts of one run."""

    def __init__(self, run: FinishedRun, rows: int, *, examples: bool, groups: Groups) -> None:
        self._run, self._folder, self._most, self._examples, self._groups = run, run.folder, rows, examples, groups
        self._recipe, self._resolved, self._outcome, self._data = run.recipe, run.resolved, run.outcome, run.data
        self._preparation = read_preparation(run.bundle)
        self._missing: list[str] = []
        self._forecast: tuple[str, ForecastFacts] | None = None
        self._pictures: PicturesFacts | None = None
        self._found_columns: dict[str, float] = {}

    def facts(self) -> ReportFacts:
        figures = [
            Figure(metric, split, value) for split in NAMES[1:] for metric, value in (self._outcome["metrics"].get(split) or {}).items()
        ]
        rows, figures = self._of_rows(figures)
        compressed, untold = compression_facts(self._run.bundle, self._folder.export)
        self._missing += untold
        resolved = self._resolved
        return ReportFacts(
            name=resolved.name,
            run=str(self._folder.path),
            created=_when(self._run.events()),
            task=str(_type(resolved.task)),
            target=resolved.data.targets,
            model=str(_type(resolved.model)),
            missing=self._missing,
            figures=figures,
            intervals=self._intervals() if rows else "",
            data=self._data_facts(),
            choices=self._choices(),
            curves=self._curves(),
            rows=rows,
            compressed=compressed,
            examples_left_out=not self._examples,
            timing={name: self._outcome[name] for name in _TIMING if isinstance(self._outcome.get(name), int | float)},
            environment=self._run.bundle.read("environment.json"),
            recipe=self._folder.recipe.read_text(encoding="utf-8"),
            commands=(f"deepseek run {self._folder.path}", f"deepseek show {self._folder.resolved}"),
            seed=resolved.seed,
            self_training=self._self_training(),
            forecast=self._forecast,
            pictures=self._pictures,
        )

    def _self_training(self) -> SelfTrainingFacts | None:
        told = read_json(self._folder.decisions).get("self_training") if self._folder.decisions.is_file() else None
        if told is None:
            return None
        rounds = [
            RoundFact(
                number=one["number"],
                rows=one["rows"],
                changed=one["changed"],
                by_class=one["by_class"],
                value=one["value"],
                gain=one["gain"],
                kept=one["number"] == told["kept"],
            )
            for one in told["rounds"]
        ]
        found = told["unlabelled"]
        return SelfTrainingFacts(told["metric"], told["reason"], told["stopped"], found["rows"], found["left_out"], rounds)

    def _intervals(self) -> str:
        weighted = f"; everything is weighted by {self._preparation.weight}" if self._preparation.weight else ""
        return f"95 % intervals by the bootstrap: the rows are drawn anew {REPEATS} times{weighted}"

    def _of_rows(self, figures: list[Figure]) -> tuple[RowFacts | None, list[Figure]]:
        dataset = self._dataset()
        if dataset is None:
            return None, figures
        model = self._run.model()
        if not model.task.target.is_plain:
            self._missing.append(f"a row's target is no single answer ({model.task.target.kind}): what single rows would tell is left out")
            self._pictures = self._drawn(dataset, model) if self._examples else None
            return None, figures
        opened = {name: data for name in NAMES[1:] if (data := dataset.open(name)) is not None}
        if not opened:
            self._missing.append("there are no validation or test rows to look at")
            return None, figures
        split = "test" if "test" in opened else "validation"
        if isinstance(windows := opened[split], WindowDataset) and isinstance(self._preparation, WindowPreparation):
            self._forecast = split, horizon_facts(model, windows, season=self._preparation.rules.season)
            return None, figures
        predictions = {name: predict_split(model, data, name, rows=self._most, seed=self._recipe.seed) for name, data in opened.items()}
        ends = {(name, metric): end for name, one in predictions.items() for metric, end in metric_intervals(model.task, one).items()}
        figures = [_with_interval(one, ends.get((one.split, one.metric))) for one in figures]
        return self._row_facts(dataset, model, opened[split], predictions[split]), figures

    def _drawn(self, dataset: Dataset, model: TaskModel) -> PicturesFacts | None:
        """Return pictures of test rows with masks or boxes, of validation rows where there are none; nothing for other targets."""
        if model.task.target.kind not in DRAWN_KINDS:
            return None
        for split in ("test", "validation"):
            if (data := dataset.open(split)) is not None:
                return picture_facts(model, data, split, seed=self._recipe.seed)
        return None

    def _row_facts(self, dataset: Dataset, model: TaskModel, data: PreparedDataset, predictions: Predictions) -> RowFacts:
        spec = model.task.target
        table = table_rows(dataset, data, predictions)
        fields = [field for field in self._preparation.schema if field.name in self._preparation.columns]
        chosen = worst_rows(spec, predictions, MOST_EXAMPLES) if self._examples else np.empty(0, dtype=np.int64)
        return RowFacts(
            split=predictions.split,
            looked_at=len(predictions),
            of=predictions.of,
            weighted_by=self._preparation.weight,
            answers=class_facts(spec, predictions) if spec.kind in ("binary", "classes") else None,
            labels=label_facts(spec, predictions) if spec.kind == "labels" else (),
            values=value_facts(spec, predictions) if spec.kind == "values" else (),
            slices=slice_facts(spec, predictions, table=table, fields=fields),
            importance=importance_facts(
                model,
                data,
                predictions=predictions,
                table=table,
                preparation=self._preparation,
                metric=str(self._resolved.train.monitor),
                seed=self._recipe.seed,
            ),
            attention=attention_facts(model, data, places=predictions.places, seed=self._recipe.seed),
            examples=examples(spec, predictions, data=data, chosen=chosen, rows=table.take(pa.array(chosen)).to_pylist())
            if len(chosen)
            else (),
            coverage=coverage_facts(spec, predictions, dataset=dataset, table=table, groups=self._groups) if self._groups else (),
        )

    def _dataset(self) -> Dataset | None:
        """Return the run's dataset, or nothing where it cannot be had as it was; why is told under what is missing."""
        try:
            changed = source_changed(self._recipe, self._data)
            dataset = None if changed else self._run.dataset()
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
        model = self._run.model()
        known = {name: metrics for name, metrics in self._outcome["metrics"].items() if metrics}
        for name, metrics in known.items():
            data = dataset.open(name)
            if data is None or len(data) != self._data["rows"][name]["rows"]:
                return False
            now = measure(model, data, RankContext())
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
            twins=self._data.get("twins", ()),
            files=[{"source": source, **file} for source, one in self._data["sources"].items() for file in one["files"]],
        )

    def _choices(self) -> list[Choice]:
        known = read_json(self._folder.decisions) if self._folder.decisions.is_file() else {}
        choices = [Choice(path, _short(one["value"]), one["reason"]) for path, one in known.get("chosen", {}).items()]
        return choices + [_group_choice(group) for group in measured_groups(known.get("measured") or {})]

    def _curves(self) -> CurveFacts:
        logs = {event["step"]: event for event in self._run.events() if event["event"] == "log"}
        checks = {event["step"]: event["metrics"] for event in self._run.events() if event["event"] == "validation"}
        steps, places = sorted(logs), sorted(checks)
        names = dict.fromkeys(name for step in places for name in checks[step] if name not in _NO_METRICS)
        layers = dict.fromkeys(name for step in steps for name in logs[step].get("layer_rates", {}))
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
            layer_rates={name: [_number(logs[step].get("layer_rates", {}).get(name)) for step in steps] for name in layers},
        )


def _group_choice(group: Mapping[str, Any]) -> Choice:
    """Return a group of parameters that was fine-tuned, or frozen, as one of the run's choices."""
    rate = f"learning rate {group['learning_rate']:.3g}" if group["since"] else "frozen"
    why = f"trains from {group['since']} on" if group["since"] else "as fine_tune says"
    return Choice(f"fine_tune: {group['name']}", rate, f"{group['trained']:,} of {group['parameters']:,} parameters; {why}")


_TIMING = ("seconds", "training_s", "evaluation_s", "steps", "samples_per_s", "data_wait_share")
_NO_METRICS = ("step", "epoch", "learning_rate", "train_loss", "seconds")


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
