"""Rows to be labelled by people, the ones that a model is least sure of first, and what they said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import write_text
from deepseek.data.labelling.annotations import agreement, read_export
from deepseek.data.labelling.client import LabelStudio
from deepseek.data.labelling.preannotations import ROW, Order, choices_result, doubt, labelling_config, row_key
from deepseek.data.sources.base import rooted_batches
from deepseek.data.targets import require_plain
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.inference import Predictor
from deepseek.tasks.answers import LABEL_THRESHOLD

_CONTROL = re.compile(r"<Choices\b[^>]*>")
_ATTRIBUTE = re.compile(r"\b(name|toName)\s*=\s*[\"']([^\"']*)[\"']")


def push_tasks(
    run: str | PathLike[str],
    rows: Any,
    *,
    url: str,
    project: int | str,
    order: Order = "least_confident",
    most: int | None = None,
) -> dict[str, Any]:
    """Send rows to Label Studio with a model's answers as pre-annotations, those that it is least sure of first.

    Rows that are in the project already, by their content, are not sent again.

    Args:
        run: The run or bundle whose model answers; its target has classes or labels.
        rows: What `Predictor.predict` takes: a path, a table.
        url: The server; its token is in the environment variable `LABEL_STUDIO_API_KEY`.
        project: The number of a project whose set-up has a control `Choices`, or the title of one to be made.
        order: `least_confident`, `margin`, `entropy`, or `as_is`.
        most: Most rows sent; all where not given.

    Returns:
        `project` (its number), `pushed`, and `there_already`.

    Raises:
        InputError: The model has no classes, the project no control for them, or the token is missing or refused.
        RunError: The server cannot be reached or refuses.
    """
    predictor, server = Predictor.load(run, backend="torch"), LabelStudio(url)
    if not predictor.classes:
        raise InputError(f"{predictor!r} has no classes to choose from", hint="only binary, multiclass and multilabel models")
    kind = "" if predictor.preparation.target is None else predictor.preparation.target.kind
    require_plain(kind, "to send choices of classes", hint="only binary, multiclass and multilabel models")
    if most is not None and most < 1:
        raise InputError(f"{most} rows are to be sent", hint="allowed: 1 or more")
    number = _project(server, project, predictor)
    control, to = _choices_control(server.config(number), number)
    tasks, unsure = _tasks(predictor, rows, order=order, control=control, to=to, version=str(predictor.bundle.path))
    known = {data.get(ROW) for data in server.data(number)}
    fresh = [place for place in np.argsort(-unsure, kind="stable") if tasks[place]["data"][ROW] not in known]
    chosen = fresh if most is None else fresh[:most]
    pushed = server.push(number, [tasks[place] for place in chosen])
    return {"project": number, "pushed": pushed, "there_already": len(tasks) - len(fresh)}


def pull_annotations(url: str, project: int, output: str | PathLike[str]) -> dict[str, Any]:
    """Write a project's annotations to a file, which the source `label_studio` reads, and say how far people agree.

    Args:
        url: The server; its token is in the environment variable `LABEL_STUDIO_API_KEY`.
        project: The project's number.
        output: The file; an existing one is replaced.

    Returns:
        `output`, `tasks`, `annotated`, `annotations`, and `agreement` by control.

    Raises:
        InputError: The token is missing or refused.
        DataError: There is no such project.
        RunError: The server cannot be reached, or the file cannot be written.
    """
    text = LabelStudio(url).export(project)
    export = read_export(text)
    write_text(Path(output), text)
    counts = [len(task.annotations) for task in export.tasks]
    return {
        "output": str(output),
        "tasks": len(counts),
        "annotated": sum(count > 0 for count in counts),
        "annotations": sum(counts),
        "agreement": agreement(export),
    }


def _project(server: LabelStudio, project: int | str, predictor: Predictor) -> int:
    if isinstance(project, int):
        return project
    kinds = {name: "image" if predictor.schema[name].kind is Kind.IMAGE else "text" for name in predictor.columns}
    target = predictor.schema.target
    multiple = predictor.preparation.target is not None and predictor.preparation.target.kind == "labels"
    name = target[0] if len(target) == 1 else "labels"
    number = server.create_project(
        project, labelling_config(kinds, [str(one) for one in predictor.classes], control=name, multiple=multiple)
    )
    progress.log(f"made the project {number}: {project}")
    return number


def _choices_control(config: str, project: int) -> tuple[str, str]:
    """Return the name of a set-up's only control of choices, and the object that it belongs to."""
    found = [dict(_ATTRIBUTE.findall(tag)) for tag in _CONTROL.findall(config)]
    if len(found) != 1 or not {"name", "toName"} <= set(found[0]):
        raise InputError(f"the project {project} has {len(found)} controls 'Choices'", hint="it needs one, with name and toName")
    return found[0]["name"], found[0]["toName"]


def _tasks(
    predictor: Predictor, rows: Any, *, order: Order, control: str, to: str, version: str
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return a task for each row, and how unsure the model is of it, `[n]`."""
    source = predictor.open(rows)
    names = [str(name) for name in predictor.classes]
    spec = predictor.preparation.target
    multiple = spec is not None and spec.kind == "labels"
    tasks: list[dict[str, Any]] = []
    unsure: list[np.ndarray] = []
    source = source.as_text(predictor.preparation.text_columns)
    for batch in rooted_batches(source.read(columns=predictor.columns), source.root):
        answers = predictor.answer(batch)
        probability = np.column_stack([np.asarray(answers[f"probability_{name}"]) for name in names])
        unsure.append(_doubt_of_labels(probability, order) if multiple else doubt(probability, order))
        for row, values in zip(_plain_rows(batch), probability, strict=True):
            chosen = [names[place] for place in np.flatnonzero(values >= LABEL_THRESHOLD)] if multiple else [names[int(values.argmax())]]
            prediction = {"model_version": version, "score": float(values.max()), "result": choices_result(chosen, control=control, to=to)}
            tasks.append({"data": {**row, ROW: row_key(row)}, "predictions": [prediction]})
    return tasks, np.concatenate(unsure) if unsure else np.zeros(0)


def _doubt_of_labels(probability: np.ndarray, order: Order) -> np.ndarray:
    """Return the doubt of the label that is least sure: each is a question of its own."""
    each = [doubt(np.column_stack([1.0 - column, column]), order) for column in probability.T]
    return np.asarray(np.max(each, axis=0))


def _plain_rows(batch: pa.RecordBatch) -> list[Mapping[str, Any]]:
    """Return rows as values that JSON has a word for; a missing value is an empty text, which Label Studio can show."""
    return [
        {name: "" if value is None else value if isinstance(value, str | int | float | bool) else str(value) for name, value in row.items()}
        for row in batch.to_pylist()
    ]
