"""Exports of Label Studio as tasks with values: choices, stretches of text, boxes, polygons; and what several people make of one task."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from deepseek.data.labelling.shapes import Box, Polygon, box_from, overlap, polygon_from
from deepseek.data.labelling.spans import Span, exact_span
from deepseek.errors import DataError, InputError
from deepseek.statistics.agreement import krippendorff_alpha, mean_pairwise

Several = Literal["majority", "all", "reject", "latest"]
Value = tuple[Any, ...]
"""What one person said of one task: names, spans, boxes or polygons, sorted."""
ControlKind = Literal["choices", "spans", "boxes", "polygons"]

_KINDS: dict[str, ControlKind] = {
    "choices": "choices",
    "labels": "spans",
    "hypertextlabels": "spans",
    "rectanglelabels": "boxes",
    "polygonlabels": "polygons",
}
_SAME_SHAPE = 0.5
_META = frozenset({"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"})


@dataclass(frozen=True)
class Annotation:
    """What one person said of a task.

    Attributes:
        values: By control, what was said; a control that was left empty is not there.
        created: When, as the tool writes it.
    """

    values: Mapping[str, Value]
    created: str = ""


@dataclass
class LabelledTask:
    """A task with what people said of it.

    Attributes:
        number: Its number in the project.
        data: What was to be labelled.
        annotations: Those that were not skipped, the oldest first.
        problems: What could not be read, in words.
    """

    number: int
    data: dict[str, Any]
    annotations: list[Annotation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Export:
    """An export.

    Attributes:
        tasks: In the export's order.
        kinds: By control, what its values are.
    """

    tasks: list[LabelledTask]
    kinds: dict[str, ControlKind]


def read_export(text: str, *, controls: Sequence[str] | None = None) -> Export:
    """Read an export in the form JSON or JSON-MIN.

    Args:
        text: The file's content.
        controls: The names of the controls that are wanted (`from_name` in the labelling set-up); all where not given. JSON-MIN does not
            tell data and labels apart, so there they must be named.

    Raises:
        DataError: It is no such export.
        InputError: A control is not named, or of a kind that is not known.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"the export is no JSON: {error}", hint="export the project as JSON or JSON-MIN") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DataError("the export is no list of tasks", hint="export the project as JSON or JSON-MIN")
    if all("data" in one for one in found):
        return _from_json(found, controls)
    if controls is None:
        raise InputError("the export is JSON-MIN, which does not say which of its keys are labels", hint="name them under controls")
    return _from_json_min(found, controls)


def _from_json(found: Sequence[Mapping[str, Any]], controls: Sequence[str] | None) -> Export:
    tasks: list[LabelledTask] = []
    kinds: dict[str, ControlKind] = {}
    for number, one in enumerate(found):
        task = LabelledTask(int(one.get("id", number)), dict(one["data"]))
        given = one.get("annotations", one.get("completions", ()))
        for annotation in sorted(given, key=lambda each: str(each.get("created_at", ""))):
            if annotation.get("was_cancelled") or annotation.get("skipped"):
                continue
            by_control: dict[str, list[Mapping[str, Any]]] = {}
            for result in annotation.get("result") or ():
                name = result.get("from_name")
                if name is None or (controls is not None and name not in controls):
                    continue
                kind = _KINDS.get(str(result.get("type")))
                if kind is None:
                    if controls is not None:
                        raise InputError(f"the control {name!r} is of the kind {result.get('type')!r}", hint=f"known: {', '.join(_KINDS)}")
                    continue
                kinds[name] = kind
                by_control.setdefault(name, []).append(result)
            _add(task, by_control, kinds, created=str(annotation.get("created_at", "")))
        tasks.append(task)
    return Export(tasks, kinds)


def _from_json_min(found: Sequence[Mapping[str, Any]], controls: Sequence[str]) -> Export:
    tasks: dict[int, LabelledTask] = {}
    kinds: dict[str, ControlKind] = {}
    for number, one in enumerate(found):
        key = int(one.get("id", number))
        data = {name: value for name, value in one.items() if name not in _META and name not in controls}
        task = tasks.setdefault(key, LabelledTask(key, data))
        by_control: dict[str, list[dict[str, Any]]] = {}
        for name in controls:
            results = [_min_result(value) for value in _listed(one.get(name))]
            if results:
                kinds[name] = _KINDS[results[0]["type"]]
                by_control[name] = results
        if one.get("annotation_id") is not None or by_control:
            _add(task, by_control, kinds, created=str(one.get("created_at", "")))
    for task in tasks.values():
        task.annotations.sort(key=lambda annotation: annotation.created)
    return Export(list(tasks.values()), kinds)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _min_result(value: Any) -> dict[str, Any]:
    """Return a value of JSON-MIN in the form of JSON."""
    if isinstance(value, str):
        return {"type": "choices", "value": {"choices": [value]}}
    kind = next((kind for kind in _KINDS if isinstance(value, Mapping) and kind in value), None)
    if kind is None:
        raise DataError(f"a label is given as {value!r}", hint="is the control's name right?")
    sizes = {name: value[name] for name in ("original_width", "original_height") if name in value}
    return {"type": kind, "value": value, **sizes}


def _add(
    task: LabelledTask, by_control: Mapping[str, Sequence[Mapping[str, Any]]], kinds: Mapping[str, ControlKind], *, created: str
) -> None:
    values: dict[str, Value] = {}
    for name, results in by_control.items():
        try:
            values[name] = tuple(sorted((one for result in results for one in _values(task, result, kinds[name])), key=_place))
        except DataError as error:
            task.problems.append(f"{name}: {error.message}")
    task.annotations.append(Annotation(values, created))


def _place(one: Any) -> tuple[Any, ...]:
    """Return what values of one kind are put in order by."""
    return (one.start, one.end, one.label) if isinstance(one, Span) else (one if isinstance(one, str) else repr(one),)


def _values(task: LabelledTask, result: Mapping[str, Any], kind: ControlKind) -> list[Any]:
    value = result["value"]
    if kind == "choices":
        return [str(choice) for choice in value["choices"]]
    labels = [str(label) for label in value.get(str(result["type"])) or ()]
    if kind == "spans":
        text = _text_of(task, result)
        start, end = exact_span(text, int(value["start"]), int(value["end"]), said=value.get("text"))
        return [Span(start, end, label) for label in labels]
    size = (int(result.get("original_width") or 0), int(result.get("original_height") or 0))
    if min(size) < 1:
        raise DataError("the picture's size is not in the export, and percent without it are no pixels")
    made: Callable[..., Any] = box_from if kind == "boxes" else polygon_from
    return [made(value, size, label) for label in labels]


def _text_of(task: LabelledTask, result: Mapping[str, Any]) -> str:
    """Return the text that a span stands in: the field that the object is named after, or the only one."""
    texts = {name: value for name, value in task.data.items() if isinstance(value, str)}
    named = texts.get(str(result.get("to_name", "")))
    if named is not None:
        return named
    said = result["value"].get("text")
    fitting = [text for text in texts.values() if said is None or said in text]
    if len(fitting) != 1:
        raise DataError(f"which text of {', '.join(texts) or 'none'} is marked cannot be told")
    return fitting[0]


def settle(task: LabelledTask, control: str, kind: ControlKind, *, several: Several) -> list[Value]:
    """Return what a task's annotations come to: one value or, with `all`, one for each annotation; none where nobody said anything.

    `majority` takes of choices what more than half said (of each choice, where several are allowed), and of spans and shapes the annotation
    that is most like the others. `reject` takes only what all said alike, `latest` the newest.

    Args:
        task: The task.
        control: Which of its labels.
        kind: What they are.
        several: What becomes of several annotations.

    Raises:
        DataError: They do not come to anything: no majority, or with `reject` different answers; or one of them cannot be read.
    """
    if task.problems:
        raise DataError("; ".join(task.problems))
    given = [annotation.values.get(control, ()) for annotation in task.annotations]
    if not given or several == "all":
        return [value for value in given if value]
    if several == "latest" or all(value == given[0] for value in given):
        return [given[-1]] if given[-1] or kind != "choices" else []
    if several == "reject":
        raise DataError(f"{len(given)} annotations differ")
    if kind != "choices":
        return [most_alike(given)]
    single = all(len(value) <= 1 for value in given)
    counts = Counter(choice for value in given for choice in value)
    chosen = tuple(sorted(choice for choice, count in counts.items() if 2 * count > len(given)))
    if single and not chosen:
        raise DataError(
            f"no choice has a majority among {len(given)} annotations ({', '.join(f'{name} {n}' for name, n in counts.items())})"
        )
    return [chosen]


def most_alike(values: Sequence[Value]) -> Value:
    """Return the one of several annotations that is most like the others; the first among equals."""
    if len(values) == 1:
        return values[0]
    return max(values, key=lambda one: sum(alike(one, other) for other in values if other is not one))


def alike(first: Value, second: Value) -> float:
    """Return how alike two annotations are, 0 to 1: the F1 of one against the other.

    Names and spans match where they are the same, shapes where label and more than half of the joint frame are.
    """
    if not first and not second:
        return 1.0
    if any(isinstance(one, Box | Polygon) for one in (*first, *second)):
        left, matched = list(second), 0
        for shape in first:
            best = max(left, key=lambda other: overlap(shape, other) if other.label == shape.label else -1.0, default=None)
            if best is not None and best.label == shape.label and overlap(shape, best) > _SAME_SHAPE:
                left.remove(best)
                matched += 1
    else:
        matched = sum((Counter(first) & Counter(second)).values())
    return 2 * matched / (len(first) + len(second))


def agreement(export: Export) -> dict[str, dict[str, Any]]:
    """Return by control how far people agree: Krippendorff's alpha of choices (a set of choices is one name), else the mean F1 of pairs.

    Args:
        export: The export.

    Returns:
        `measure`, `value` (not a number where no task was labelled twice), and `tasks`: how many were.
    """
    found = {}
    for name, kind in export.kinds.items():
        units = [
            [annotation.values.get(name, ()) for annotation in task.annotations if name in annotation.values or kind != "choices"]
            for task in export.tasks
            if not task.problems
        ]
        units = [values for values in units if len(values) > 1]
        measure = "krippendorff_alpha" if kind == "choices" else "mean_f1"
        value = krippendorff_alpha(units) if kind == "choices" else mean_pairwise(units, alike)
        found[name] = {
            "measure": measure,
            "value": value,
            "tasks": len(units),
            "pairs": sum(len(list(combinations(one, 2))) for one in units),
        }
    return found
