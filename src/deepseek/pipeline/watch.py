"""Checking files of rows from production against what the bundle says of training."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import write_text
from deepseek.data.sources.base import rooted_batches
from deepseek.errors import DataError, InputError, RunError, UnknownNameError
from deepseek.inference import Predictor
from deepseek.inference.reading import read_preparation
from deepseek.monitoring.alarms.base import AlarmEvent
from deepseek.monitoring.outcomes import HIGHER, Outcomes, area, labels_of, outcomes_of, predictions_of
from deepseek.monitoring.performance import Performance
from deepseek.monitoring.prometheus import metrics_text
from deepseek.monitoring.reference import ModelReference
from deepseek.monitoring.settings import MonitorSettings, build_alarms
from deepseek.monitoring.window import Window
from deepseek.recipe import without_password
from deepseek.statistics.sequential import auc_weight, drop_test

BATCH_ROWS = 4096
SHOWN = 5
"""So many labels and classes are named."""


def watch(
    run: str | PathLike[str],
    sources: Any,
    *,
    labels: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    prometheus: str | PathLike[str] | None = None,
    notify: bool = False,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare rows with those that a model was trained on and, where they have labels, what it reaches with what it reached.

    One table is one look: its metric is tested once. Several are a stream, the oldest first: each is a window, and the test is the one
    that may be looked at again and again (`deepseek.statistics.sequential.DropDetector`).

    Args:
        run: A run's folder or a bundle; the section `monitor` of a run's recipe says what raises an alarm.
        sources: A path or a table, or several in a list.
        labels: The column with the truth; the target column, where the rows have it.
        overrides: What is watched, in the place of the recipe's: fields of `MonitorSettings`.
        prometheus: A file to write the figures to as well, in the format that Prometheus reads.
        notify: Whether alarms also go where the recipe's `monitor.notify` says.
        plugins: The files or modules of the plugins that the bundle needs.

    Returns:
        `alarms`, each a sentence; `files`, each with `rows`, `drifted`, `columns` (tests, distances and verdict, the worst first), `wrong`
        (columns that are missing or unreadable), `unanswered` rows and why, `strange_labels` (no class that the model knows, with how many
        rows have them), `metrics` and `estimate`; `performance` over all of them.

    Raises:
        BundleError: The bundle has no reference.
        DataError: There is no row.
    """
    predictor = Predictor.load(run, plugins=plugins)
    settings = replace(
        MonitorSettings.of_run(predictor.opened), **{name: one for name, one in (overrides or {}).items() if one is not None}
    )
    look = _Look(predictor, settings, labels)
    given = list(sources) if isinstance(sources, list | tuple) and not _is_rows(sources) else [sources]
    files = [look.file(source) for source in given]
    if not any(one["rows"] for one in files):
        raise DataError("there is no row to watch", hint="the files are empty")
    performance = {**look.performance.facts(), "test_once": look.tested_once() if len(files) == 1 else None}
    if len(files) == 1:  # one look is at all of its labels
        performance["window"] = files[0]["metrics"]
    result = {
        "model": str(predictor.opened.path),
        "alarms": look.alarms(files, performance),
        "files": files,
        "performance": performance,
        "settings": {"metric": look.performance.metric, "drop": look.performance.drop, "alpha": settings.alpha},
    }
    if prometheus is not None:
        state = {"rows": sum(one["rows"] for one in files), "at": time.time(), "last_window": files[-1], "performance": performance}
        raised = [f"drift:{name}" for name in sorted(files[-1]["drifted"]) if settings.drift]
        raised += [f"metric:{look.performance.metric}"] if look.has_dropped(performance["test_once"]) else []
        write_text(Path(prometheus), metrics_text({"model": result["model"], "alarms": raised, **state}))
    if notify and result["alarms"]:
        _notify(settings, result)
    return result


def _notify(settings: MonitorSettings, result: Mapping[str, Any]) -> None:
    event = AlarmEvent("watch", "raised", time.time(), "; ".join(result["alarms"]), result["model"], {"alarms": result["alarms"]})
    for alarm in build_alarms(settings):
        try:
            alarm.send(event)
        except RunError as error:
            progress.warn(error.message)


class _Look:
    """Takes one file after the other."""

    def __init__(self, predictor: Predictor, settings: MonitorSettings, labels: str | None) -> None:
        self._predictor, self._settings, self._labels = predictor, settings, labels
        self._texts = read_preparation(predictor.opened).text_columns
        self._reference = ModelReference.load(predictor.opened)
        self.performance = Performance(self._reference, settings)
        self._found: list[Outcomes] = []
        self._files = 0
        self._raised: list[int] = []

    def file(self, source: Any) -> dict[str, Any]:
        opened = self._predictor.open(source).as_text(self._texts)
        names = opened.schema().names
        window = Window(self._reference, time.time())
        unanswered, why, strange, found = 0, "", Counter[str](), []
        label = self._label_column(names)
        batches: Iterator[pa.RecordBatch] = opened.read(batch_rows=BATCH_ROWS)
        for batch in rooted_batches(batches, opened.root):
            answers = self._answered(batch)
            said, probability = ([], None) if isinstance(answers, str) else predictions_of(answers, self._reference.target)
            window.fold(batch, said, probability)
            if isinstance(answers, str):
                unanswered, why = unanswered + batch.num_rows, why or answers
            elif label is not None:
                truth = labels_of(batch.column(label), self._reference.target)
                one, unknown = outcomes_of(self._reference.target, said, probability, labels=truth)
                strange.update(self._strange(truth) if unknown else ())
                found.append(one)
                if self.performance.update(one, unknown):
                    self._raised.append(self._files)
        self._found += found
        self._files += 1
        facts = window.facts(time.time())
        metrics = {name: value for name in self._reference.target.metrics if (value := _over(found, name)) is not None}
        name = _name_of(source)
        facts |= {"unanswered": unanswered, "why_unanswered": why, "strange_labels": dict(strange.most_common())}
        return {"file": name, **facts, "labels": sum(map(len, found)), "metrics": metrics}

    def _strange(self, truth: Sequence[Any]) -> list[str]:
        """Return the labels that are no class of the model, as one of another spelling is."""
        return [str(label) for label in truth if label is not None and str(label) not in self._reference.target.classes]

    def _label_column(self, names: Sequence[str]) -> str | None:
        columns = self._reference.target.columns
        if self._labels is not None and self._labels not in names:
            raise UnknownNameError("column of labels", self._labels, names)
        if self._labels is not None and len(columns) > 1:
            raise InputError(f"the model predicts {len(columns)} columns; one column of labels is given", hint="leave labels out")
        return self._labels or (columns[0] if len(columns) == 1 and columns[0] in names else None)

    def _answered(self, batch: pa.RecordBatch) -> pa.Table | str:
        """Return the answers, or why there are none, as a column is missing or holds what the model cannot take: that is a finding here."""
        try:
            self._predictor.require_columns(batch.schema.names)
            return self._predictor.answer(batch)
        except DataError as error:
            return error.message

    def tested_once(self) -> dict[str, Any] | None:
        """Return the test of the metric over all labelled rows, for one look."""
        metric = self.performance.metric
        reference, value = self._reference.metrics.get(metric), _over(self._found, metric)
        rows = sum(map(len, self._found))
        if reference is None or value is None:
            return None
        worse = "lower" if HIGHER[metric] else "higher"
        weight = _weight_of(self._found, metric)
        test = drop_test(value, weight, reference, alpha=self._settings.alpha, worse=worse)
        # with enough labels any drop is sure; one of less than half of what was asked for is not what was asked for
        alarm = test.alarm and test.dropped >= self.performance.drop / 2
        return {"metric": metric, "value": value, "rows": rows, "dropped": test.dropped, "at_least": test.low, "p": test.p, "alarm": alarm}

    def has_dropped(self, once: Mapping[str, Any] | None) -> bool:
        """Whether the metric has dropped: by the test for one look where there was one, else by the one that is looked at again."""
        return bool(self._raised) if once is None else bool(once["alarm"])

    def alarms(self, files: Sequence[Mapping[str, Any]], performance: Mapping[str, Any]) -> list[str]:
        """Return what is wrong, in words."""
        found = []
        for one in files:
            named = f"{one['file']}: " if len(files) > 1 else ""
            if one["wrong"]:
                found.append(f"{named}missing or unreadable: {', '.join(one['wrong'])}")
            drifted = [name for name in one["drifted"] if name not in one["wrong"]]
            if drifted and self._settings.drift:
                found.append(f"{named}drifted: {', '.join(drifted)}")
            if one["unanswered"]:
                found.append(f"{named}{one['unanswered']:,} of {one['rows']:,} rows cannot be answered: {one['why_unanswered']}")
            if strange := one["strange_labels"]:
                names, classes = (", ".join(map(repr, list(given)[:SHOWN])) for given in (strange, self._reference.target.classes))
                found.append(f"{named}{sum(strange.values()):,} labels are no class that the model knows: {names}; it knows {classes}")
        if lost := performance["labels_without_a_value"]:
            found.append(f"{lost:,} rows with a label have no {self.performance.metric}: their answer or its error is no finite number")
        once = performance["test_once"]
        if not self.has_dropped(once):
            return found
        if once is not None:
            before = performance["reference"][once["metric"]]
            found.append(f"{once['metric']} was {before:.4f} and is {once['value']:.4f} on {once['rows']:,} labels (p {once['p']:.2g})")
        else:
            metric, fell = self.performance.metric, files[self._raised[0]]
            now, before = performance["window"][metric], performance["reference"][metric]
            there = "" if metric not in fell["metrics"] else f", {fell['metrics'][metric]:.4f} there"
            found.append(
                f"{metric} was {before:.4f} and dropped in {fell['file']}{there}; it is {now:.4f} over the last labels; "
                f"{performance['test']['guarantee']}"
            )
        return found


def _over(parts: Sequence[Outcomes], metric: str) -> float | None:
    if not any(map(len, parts)):
        return None
    values, truth = _measured(parts, metric)
    value = area(values, truth) if metric == "auc" else float(values.mean()) if len(values) else math.nan
    return value if math.isfinite(value) else None


def _weight_of(parts: Sequence[Outcomes], metric: str) -> float:
    """Return how many rows a metric over these stands for."""
    values, truth = _measured(parts, metric)
    return auc_weight(float(truth.sum()), len(truth)) if metric == "auc" else float(len(values))


def _measured(parts: Sequence[Outcomes], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of all rows that have one, and of an area under the curve which of them came true."""
    values = np.concatenate([one.score if metric == "auc" else one.rows[metric] for one in parts])
    truth = np.concatenate([one.truth for one in parts]) if metric == "auc" else np.empty(len(values), dtype=bool)
    known = np.isfinite(values)
    return values[known], truth[known]


def _name_of(source: Any) -> str:
    if isinstance(source, Mapping) and "type" in source:
        return str(source.get("table") or source["type"])
    return without_password(fspath(source)) if isinstance(source, str | PathLike) else "table"


def _is_rows(sources: Sequence[Any]) -> bool:
    return bool(sources) and isinstance(sources[0], Mapping)
