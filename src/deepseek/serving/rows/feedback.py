"""What became of answers, as clients tell it: ids with the truth or with what the answer was worth, all of a request or none of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from deepseek.data.targets import TargetSpec, TargetTransform
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.rows.reader import shown

LONGEST_ID = 100
"""An id is a request's, of 64 characters at most, and the row's place after it."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""No id of an answer has any; and PostgreSQL keeps no zero character, so that one such id would be asked of it for ever."""
SHOWN = 10
"""So many bad entries of a request are explained, and so many classes named."""
_KEYS = ("id", "label", "reward")
_SHAPES = 'send {"id": "…", "label": …} and/or {"id": "…", "reward": 1.0}, or an array of such objects'


@dataclass(frozen=True)
class Feedback:
    """What one request tells: each list has an entry an id, and `None` where it was not told."""

    ids: list[str]
    labels: list[Any] | None
    rewards: list[float | None] | None


class FeedbackReader:
    """Reads outcomes for one model.

    Args:
        target: What the model predicts; labels have its type and its classes.
        max_rows: Most entries of one request.
    """

    def __init__(self, target: TargetTransform | None, *, max_rows: int = 10_000) -> None:
        self.max_rows = max_rows
        self._target = None if target is None else target.spec
        self._classes = _classes(self._target)
        self._allowed = _allowed(self._target)

    def read(self, body: bytes) -> Feedback:
        """Read a JSON body.

        Raises:
            RefusedError: It is no JSON (400), has too many entries (413), or an entry is wrong (422): then none is taken.
        """
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RefusedError(400, f"the body is no JSON: {error}", hint=_SHAPES) from None
        entries = [value] if isinstance(value, dict) else value
        if not isinstance(entries, list) or not entries:
            raise RefusedError(422, "the body holds no outcome", hint=_SHAPES)
        if len(entries) > self.max_rows:
            raise RefusedError(
                413, f"there are {len(entries):,} outcomes; at most {self.max_rows:,} are allowed", hint="send them in parts"
            )
        found, errors = [], []
        for row, entry in enumerate(entries):
            try:
                found.append(self._entry(entry))
            except _WrongError as wrong:
                errors.append({"row": row, **wrong.error})
                if len(errors) == SHOWN:
                    break
        if errors:
            first = errors[0]
            raise RefusedError(422, f"outcome {first['row']}: {first['message']}; none was taken", hint=_SHAPES, errors=errors)
        ids, labels, rewards = (list(part) for part in zip(*found, strict=True))
        return Feedback(ids, _or_nothing(labels), _or_nothing(rewards))

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of one outcome."""
        properties = {
            "id": {
                "type": "string",
                "minLength": 1,
                "maxLength": LONGEST_ID,
                "description": "The answer's id; /PLACE after it, of several. No control characters.",
            },
            "label": {**_label_schema(self._target), "description": f"The truth: {self._allowed}."},
            "reward": {"type": "number", "description": "What the answer was worth."},
        }
        either: list[dict[str, Any]] = [{"required": ["label"]}, {"required": ["reward"]}]
        return {"type": "object", "properties": properties, "required": ["id"], "anyOf": either, "additionalProperties": False}

    def _entry(self, entry: Any) -> tuple[str, Any, float | None]:
        if type(entry) is not dict:
            raise _WrongError(None, entry, "an object with id, and label or reward")
        for name in entry:
            if name not in _KEYS:
                raise _WrongError(name, entry[name], f"nothing; the fields are {', '.join(_KEYS)}")
        name, reward = entry.get("id"), entry.get("reward")
        if type(name) is not str or not 0 < len(name) <= LONGEST_ID or _CONTROL.search(name):
            raise _WrongError("id", name, f"a text of 1 to {LONGEST_ID} characters, none of them a control character")
        if "label" not in entry and "reward" not in entry:
            raise _WrongError("label", None, f"{self._allowed}; or a reward")
        if "reward" in entry and not _is_finite(reward):
            raise _WrongError("reward", reward, "a finite number; leave it out where it is not known")
        return name, self._label(entry["label"]) if "label" in entry else None, None if reward is None else float(reward)

    def _label(self, label: Any) -> Any:
        target = self._target
        if target is None or not target.is_plain:
            raise _WrongError("label", label, self._allowed)
        if target.kind in ("binary", "classes"):
            return self._class(label)
        if target.kind == "labels":
            if type(label) is not list or len(label) > len(target.classes):
                raise _WrongError("label", label, self._allowed)
            return [self._class(one) for one in label]
        if len(target.columns) > 1:
            if type(label) is not dict or label.keys() != set(target.columns):
                raise _WrongError("label", label, self._allowed)
            return [self._number(label[name]) for name in target.columns]
        return self._number(label)

    def _class(self, label: Any) -> Any:
        if isinstance(label, bool | list | dict) or label not in self._classes:
            raise _WrongError("label", label, self._allowed)
        return self._classes[label]

    def _number(self, label: Any) -> float:
        if not _is_finite(label):
            raise _WrongError("label", label, self._allowed)
        return float(label)


class _WrongError(Exception):
    """An entry that is not as it should be."""

    def __init__(self, field: str | None, given: Any, allowed: str) -> None:
        name, text = None if field is None else field[:80], shown(given)
        message = f"{'the outcome' if name is None else f'the field {name!r}'} is {text}; allowed: {allowed}"
        self.error = {"field": name, "given": text, "allowed": allowed, "message": message}


def _classes(target: TargetSpec | None) -> dict[Any, Any]:
    """Return the classes by what JSON may call them: 1.0 is a whole number there."""
    if target is None:
        return {}
    return {name: name for name in (map(int, target.classes) if target.integer_classes else target.classes)}


def _allowed(target: TargetSpec | None) -> str:
    if target is None or not target.is_plain:
        return "no label: the model predicts nothing that could be named"
    if target.kind == "values":
        one = "a finite number"
        return one if len(target.columns) == 1 else f"an object with {one} for each of {', '.join(target.columns)}"
    shown = target.classes[:SHOWN] if target.integer_classes else [repr(name) for name in target.classes[:SHOWN]]
    names = f"{', '.join(shown)}{f' and {len(target.classes) - SHOWN} others' if len(target.classes) > SHOWN else ''}"
    return f"an array of labels of {names}" if target.kind == "labels" else f"one of {names}"


def _label_schema(target: TargetSpec | None) -> dict[str, Any]:
    if target is None or not target.is_plain:
        return {"not": {}}
    if target.kind == "values":
        parts: Mapping[str, Any] = {name: {"type": "number"} for name in target.columns}
        several = {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}
        return {"type": "number"} if len(parts) == 1 else several
    names = list(_classes(target))
    one = {"enum": names}
    return {"type": "array", "items": one, "maxItems": len(names)} if target.kind == "labels" else one


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def _or_nothing(values: list[Any]) -> list[Any] | None:
    return values if any(value is not None for value in values) else None
