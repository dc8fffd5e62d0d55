"""What records have to be when they come: the fields and types of a run, and the checks of its recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from deepseek.artifacts import Bundle
from deepseek.artifacts.files import read_json
from deepseek.data.checks import Check
from deepseek.data.preparation import Preparation
from deepseek.data.sources.column_types import ColumnType, converted
from deepseek.data.sources.csv import NULL_VALUES
from deepseek.data.sources.ingested.manifest import BLOBS
from deepseek.data.sources.json import column_of
from deepseek.errors import BundleError, InputError
from deepseek.fields import Kind
from deepseek.recipe import Recipe, load_recipe
from deepseek.registry import family
from deepseek.serving.rows.fields import FieldReader, field_reader

Record = tuple[int, dict[str, Any]]
"""A record and the line on which it stands."""
Errors = dict[int, list[dict[str, Any]]]
_SHOWN_CHARACTERS = 80


class Expected:
    """Looks at the records of one topic as they come.

    Args:
        fields: What the columns that a run knows have to be; a record has every one of them, be it null.
        later: The same of the target's columns, which a record may lack, as labels come later.
        checks: Rules of one row; those of a whole table wait for training.
    """

    def __init__(self, fields: Sequence[FieldReader] = (), *, later: Sequence[FieldReader] = (), checks: Sequence[Check] = ()) -> None:
        self._fields, self._later = tuple(fields), tuple(later)
        self._checks = [check for check in checks if not check.table_wide and check.on_fail != "flag"]

    @property
    def asks(self) -> bool:
        """Whether anything is asked of a record at all."""
        return bool(self._fields or self._later or self._checks)

    def look(self, block: Sequence[Record], *, texts: bool) -> tuple[pa.Table, Errors]:
        """Return the records that are right as a table, and for each other one its errors.

        Args:
            block: The records.
            texts: Whether every value is text, as in CSV, that stands for something else.
        """
        records = [record for _, record in block]
        if not records:
            return pa.table({}), {}
        columns, bad = self._typed(records, texts=texts)
        good = [place for place in range(len(records)) if place not in bad]
        others = dict.fromkeys(name for place in good for name in records[place] if name not in columns)
        for name in others:
            values = [records[place].get(name) for place in good]
            columns[name] = _narrowed(values) if texts else column_of([_plain(value) for value in values])
        table = pa.table(columns)
        return self._checked(table, good, bad)

    def _typed(self, records: Sequence[dict[str, Any]], *, texts: bool) -> tuple[dict[str, pa.Array], Errors]:
        """Return the columns that the run knows, of the records that have nothing wrong in them, and the errors of the others."""
        bad: Errors = {}
        columns: dict[str, pa.Array] = {}
        for reader in (*self._fields, *self._later):
            name = reader.name
            absent = [place for place, record in enumerate(records) if name not in record]
            if reader in self._later:
                if len(absent) == len(records):
                    continue
                absent = []
            values = [_value(reader, record.get(name), texts=texts) for record in records]
            columns[name], wrong = reader.read(values)
            gone = set(absent)
            for place in absent:
                message = f"the field {name!r} is missing; allowed: {reader.allowed}"
                bad.setdefault(place, []).append({"field": name, "given": None, "allowed": reader.allowed, "message": message})
            for place in wrong:
                if place not in gone:
                    bad.setdefault(place, []).append(_error(name, values[place], reader.allowed))
        if bad:
            keep = pa.array([place not in bad for place in range(len(records))])
            columns = {name: column.filter(keep) for name, column in columns.items()}
        return columns, bad

    def _checked(self, table: pa.Table, places: Sequence[int], bad: Errors) -> tuple[pa.Table, Errors]:
        """Set aside what breaks a rule; a rule's column that no record has is one of missing values."""
        for check in self._checks:
            if not table.num_rows:
                break
            whole = table
            for name in check.columns:
                if name not in whole.column_names:
                    whole = whole.append_column(name, pa.nulls(whole.num_rows, pa.string()))
            broken = np.asarray(check.bad(whole.combine_chunks().to_batches()[0]), dtype=bool)
            if broken.any():
                column = check.columns[0] if check.columns else None
                error = {"field": column, "given": None, "allowed": check.reason, "message": check.reason}
                bad |= {places[row]: [error] for row in np.flatnonzero(broken).tolist()}
                places = [place for place in places if place not in bad]
                table = table.filter(pa.array(~broken))
        return table, bad


def expected_of(given: Path) -> Callable[[str], Expected]:
    """Return what a run, a bundle or a recipe says of the records of a topic, by the topic's name.

    A run that was trained on joined topics knows the columns of the first by their names, and those of another as `TOPIC.COLUMN`.

    Args:
        given: The run, bundle or recipe.

    Raises:
        InputError: It is none of these, or says nothing of records.
    """
    if given.is_file():
        recipe = load_recipe(given)
        made = Expected(checks=_checks(recipe))
        if not made.asks:
            raise InputError(
                f"the recipe {str(given)!r} has no checks of single rows", hint="name a run, whose bundle has fields and types"
            )
        return lambda _: made
    bundle = Bundle.open(given)
    preparation = Preparation.from_json(read_json(bundle.path / "data.json"))
    beside = bundle.path.parent / "recipe.yaml"
    known = load_recipe(beside) if beside.is_file() else None
    source = known.data.source if known else None
    topics = (source.get("topics") or []) if isinstance(source, Mapping) and source["type"] == "ingest" and source.get("join") else []
    checks = _checks(known) if known else []

    def of(topic: str) -> Expected:
        names = _names_of(topic, [*preparation.columns, *preparation.schema.target], topics if isinstance(topics, list) else [])
        readers = {name: _reader(preparation, name, short) for name, short in names.items()}
        fields = [reader for name, reader in readers.items() if reader and name in preparation.columns]
        later = [reader for name, reader in readers.items() if reader and name in preparation.schema.target and reader.kind is Kind.NUMBER]
        return Expected(fields, later=later, checks=checks if not topics or topic == topics[0] else ())

    return of


def _names_of(topic: str, names: Sequence[str], topics: Sequence[str]) -> dict[str, str]:
    """Return the columns that are fields of a topic's records, each with the field's name; ingest itself adds those with an underscore."""
    if not topics or topic == topics[0]:
        own = {name: name for name in names if not any(name.startswith(f"{other}.") for other in topics[1:])}
    else:
        own = {name: name.removeprefix(f"{topic}.") for name in names if name.startswith(f"{topic}.")}
    return {name: short for name, short in own.items() if not short.startswith("_") and short not in BLOBS}


def _reader(preparation: Preparation, name: str, short: str) -> FieldReader | None:
    """Return what a column has to be; nothing where columns of its kind do not come in records."""
    try:
        return field_reader(replace(preparation.schema[name], name=short), preparation.types.get(name))
    except BundleError:
        return None


def _checks(recipe: Recipe) -> list[Check]:
    checks = [family("check").build(spec) for spec in recipe.data.checks]
    for check in checks:
        check.folder = recipe.folder
    return checks


def _error(name: str, value: Any, allowed: str) -> dict[str, Any]:
    given = f"a {type(value).__name__}" if isinstance(value, list | dict | bytes) else json.dumps(value, default=str)[:_SHOWN_CHARACTERS]
    return {"field": name, "given": given, "allowed": allowed, "message": f"the field {name!r} is {given}; allowed: {allowed}"}


def _value(reader: FieldReader, value: Any, *, texts: bool) -> Any:
    """Return a value as JSON would give it: text that stands for a number as the number, a time as text."""
    if texts:
        if value is None or value in NULL_VALUES:
            return None
        return value if reader.type in (pa.string(), pa.timestamp("us")) else _loaded(value)
    return _plain(value)


def _loaded(text: str) -> Any:
    try:
        return orjson.loads(text.strip().lower() if text.strip().lower() in ("true", "false") else text)
    except orjson.JSONDecodeError:
        return text


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


def _narrowed(values: Sequence[Any]) -> pa.Array:
    """Return texts as the narrowest type that holds all of them, as the source of CSV does."""
    array = pa.array(values, pa.string())
    found = ColumnType(NULL_VALUES)
    found.observe(array)
    return converted(array, found.type)
