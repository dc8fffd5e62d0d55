"""Several tables that belong together, as one table of features: each row as of its own cut-off time."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import pyarrow as pa
from annotated_types import Ge, Le

from deepseek import progress
from deepseek.artifacts.files import read_json
from deepseek.data.sources import open_source
from deepseek.data.sources.base import DEFAULT_BATCH_ROWS, Source
from deepseek.data.sources.files import check_request, deliver
from deepseek.data.synthesis.feature import Feature
from deepseek.data.synthesis.maker import FeatureMaker, Wishes
from deepseek.data.synthesis.questions import NOW
from deepseek.data.synthesis.sections import AggregationSpec, CutoffsSection, DerivationSpec, TableSection
from deepseek.errors import DataError, InputError, UnknownNameError
from deepseek.fields import Kind
from deepseek.recipe.quantities import Duration
from deepseek.recipe.values import Text
from deepseek.registry import family

if TYPE_CHECKING:
    import pyarrow.compute as pc

AGGREGATIONS: tuple[str, ...] = ("count", "sum", "mean", "min", "max", "std", "n_unique", "mode", "percent_true")
DERIVATIONS: tuple[str, ...] = ("year", "month", "weekday")


class RelatedTablesSource(Source):
    """Make one table of features from related tables: each row sees what was known by its own cut-off time, and nothing else.

    The columns are the index, the cut-off time and the labels, then the features under the names that Featuretools gives them:
    `MEAN(results.points)`, `races.YEAR(date)`. The tables are held in memory, the feature table is not.

    Args:
        folder: What relative paths are relative to.
        target_table: The table whose rows are asked about.
        tables: By name: `source` (a path, a source, from Python also a table in memory); `time`, the column that says when a row became
            known, or `static: true`; and where needed `index`, `later`, `fields`, `drop`, `where`.
        relationships: As `races.raceId -> results.raceId`, the table that is referred to first.
        cutoffs: Which rows are asked about, and as of when: a table with `source`, `id`, `time` and `labels`; one moment `at` for all; or
            nothing for each row of the target table as of its own time, with its `labels` and the columns `known` by then.
        window: How far back from its cut-off rows are aggregated (`30d`); all the way where not given.
        inclusive: Whether what became known at the very cut-off is seen.
        depth: How many steps of looking up, deriving and aggregating a feature may take.
        aggregations: How the values of many rows become one.
        derive: What is computed from one value of a row.
        where: The aggregations that also look at some rows alone, by the values that tables name under `where`.
        max_features: The most features that there may be; more are an error.
        orphans: What rows are whose key the table that they refer to lacks: an error (`fail`), or rows that belong to none (`keep`).
        definitions: A JSON file of features that were made before, by `deepseek features`, or what it holds; the same are made again.

    Raises:
        InputError: What is said does not fit the tables.
        DataError: A table cannot be read, or its keys or times cannot be used.
    """

    def __init__(  # noqa: PLR0913 (a component's arguments are its schema)
        self,
        folder: Path = Path(),
        /,
        *,
        target_table: Text,
        tables: dict[Text, TableSection],
        relationships: list[Text] = [],  # noqa: B006 - never changed
        cutoffs: CutoffsSection = CutoffsSection(),  # noqa: B008 - frozen
        window: Duration | None = None,
        inclusive: bool = True,
        depth: Annotated[int, Ge(1), Le(5)] = 2,
        aggregations: list[AggregationSpec] = [*AGGREGATIONS],  # type: ignore[list-item]  # noqa: B006 - names, which the schema turns into specs
        derive: list[DerivationSpec] = [*DERIVATIONS],  # type: ignore[list-item]  # noqa: B006 - as above
        where: list[Text] = ["count"],  # noqa: B006 - never changed
        max_features: Annotated[int, Ge(1)] = 1_000,
        orphans: Literal["fail", "keep"] = "fail",
        definitions: Text | dict[str, Any] | None = None,
    ) -> None:
        super().__init__(folder)
        self.definitions_given = definitions
        self._wishes = Wishes(
            target=target_table,
            tables={name: TableSection.model_validate(section) for name, section in tables.items()},
            relationships=tuple(relationships),
            cutoffs=CutoffsSection.model_validate(cutoffs),
            aggregations=tuple(family("aggregation").validate(spec) for spec in aggregations),
            derivations=tuple(family("derivation").validate(spec) for spec in derive),
            where=tuple(where) if any(TableSection.model_validate(section).where for section in tables.values()) else (),
            window_us=None if window is None else round(window * 1e6),
            inclusive=inclusive,
            depth=depth,
            max_features=max_features,
            orphans=orphans,
        )
        self._texts: frozenset[str] = frozenset()
        if target_table not in tables:
            raise UnknownNameError("target table", target_table, tables)

    def schema(self) -> pa.Schema:
        """Return the columns and their types: what is given, then the features."""
        return self._maker.schema()

    def read(
        self,
        *,
        columns: Sequence[str] | None = None,
        where: pc.Expression | None = None,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order (see `Source.read`); only the features that are wanted are computed."""
        schema = self.schema()
        wanted = check_request(schema, columns, batch_rows)
        names = schema.names if wanted is None or where is not None else wanted
        batches = self._batches(pa.schema([schema.field(name) for name in names]), batch_rows)
        return deliver(batches, columns=wanted, where=where, batch_rows=batch_rows)

    def fingerprint(self) -> str | None:
        """Return a hash of the content of all tables and of the cut-offs; nothing where one cannot tell, or for the moment `now`."""
        parts = {name: source.fingerprint() for name, source in self._sources.items()}
        if self._cutoffs is not None:
            parts["cutoffs"] = self._cutoffs.fingerprint()
        if None in parts.values() or self._wishes.cutoffs.at == NOW:
            return None
        content = [sorted(parts.items()), self._definitions]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the cut-offs that could not be asked: without an index or a time, or not to be read."""
        if self._cutoffs is not None:
            yield from self._cutoffs.rejects()
        if self._maker.asked.set_aside is not None:
            yield self._maker.asked.set_aside

    def files(self) -> list[Path]:
        """Return the files that hold the rows of all tables."""
        found: list[Path] = []
        for source in (*self._sources.values(), *filter(None, (self._cutoffs,))):
            listed = getattr(source, "files", None)  # only sources that read files have it
            found += listed() if callable(listed) else []
        return list(dict.fromkeys(found))

    def as_text(self, columns: Collection[str]) -> Self:
        """Return a source whose features of these names are made of columns that are read as text."""
        again = copy.copy(self)
        for name in ("_maker", "_sources", "_cutoffs", "_definitions"):
            again.__dict__.pop(name, None)
        again._texts = frozenset(columns)  # noqa: SLF001 - a copy of itself
        return again

    def features(self) -> list[dict[str, Any]]:
        """Return the catalogue: the name, type, depth and explanation of each feature."""
        return self._maker.catalogue()

    def definitions(self) -> dict[str, Any]:
        """Return everything by which the same features can be made of other rows, as plain JSON values."""
        return self._maker.definitions()

    def left_out(self) -> dict[str, str]:
        """Return the columns that nothing is made of, as `TABLE.COLUMN`, and why."""
        return {f"{name}.{column}": why for name, plan in self._maker.plans.items() for column, why in plan.left_out.items()}

    def _batches(self, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch]:
        maker = self._maker
        features: dict[str, Feature] = {one.name: one for one in maker.features if one.name in schema.names}
        with maker.compute(list(features.values())) as spool:
            for start in range(0, len(maker.asked), batch_rows):
                stop = min(start + batch_rows, len(maker.asked))
                given = maker.asked.given.slice(start, stop - start).combine_chunks()
                arrays = [
                    maker.column(features[name], spool.read(name, start, stop)) if name in features else given.column(name).chunk(0)
                    for name in schema.names
                ]
                yield pa.record_batch(arrays, schema=schema)

    @cached_property
    def _definitions(self) -> dict[str, Any] | None:
        if self.definitions_given is None or isinstance(self.definitions_given, dict):
            return self.definitions_given
        found = read_json(self.folder / Path(self.definitions_given).expanduser())
        if not isinstance(found, dict) or "features" not in found:
            raise InputError(f"{self.definitions_given} holds no definitions of features", hint="deepseek features RUN --definitions FILE")
        return found

    @cached_property
    def _sources(self) -> dict[str, Source]:
        sources = {}
        for name, section in self._wishes.tables.items():
            source = open_source(section.source, folder=self.folder)
            sources[name] = source.as_text(self._texts_of(name, section, source.schema().names))
        return sources

    @cached_property
    def _cutoffs(self) -> Source | None:
        given = self._wishes.cutoffs.source
        return None if given is None else open_source(given, folder=self.folder).as_text(self._texts)

    @cached_property
    def _maker(self) -> FeatureMaker:
        maker = FeatureMaker(self._wishes, self._sources, cutoffs=self._cutoffs, definitions=self._definitions)
        for name, source in self._sources.items():
            _tell_of_rejects(name, source)
        return maker

    def _texts_of(self, table: str, section: TableSection, names: Sequence[str]) -> set[str]:
        """Return the columns of a table that are read as text: those called categories, and those that features of text are made of."""
        said = {name for name, kind in section.fields.items() if kind in (Kind.CATEGORY, Kind.TEXT, Kind.ID)}
        if self._definitions is not None:
            plans = self._definitions["tables"]
            keys = {column for relation in self._definitions["relationships"] for column in _key_columns(relation, table)}
            said |= {name for name, plan in plans.get(table, {"columns": {}})["columns"].items() if plan["sort"] == "category"} - keys
        ends = tuple(text.split(" WHERE ")[0].rpartition("(")[2].rstrip(")") for text in self._texts)
        said |= {name for name in names if any(end.endswith(f"{table}.{name}") for end in ends)}
        return said | ({name for name in names if name in self._texts} if table == self._wishes.target else set())


def _key_columns(relation: str, table: str) -> Iterator[str]:
    for side in relation.split("->"):
        if side.strip().startswith(f"{table}."):
            yield side.strip()[len(table) + 1 :]


def _tell_of_rejects(name: str, source: Source) -> None:
    """Say how many rows of a table could not be read; a table of which half is lost is no table.

    Raises:
        DataError: More rows were lost than read.
    """
    batches = [batch for batch in source.rejects() if batch.num_rows]
    if not batches:
        return
    count, first = sum(batch.num_rows for batch in batches), batches[0]
    said = f"{count:,} rows of the table {name!r} cannot be read; the first is line {first['line'][0]}: {first['reason'][0]}"
    if count > sum(batch.num_rows for batch in source.read(columns=source.schema().names[:1])):
        raise DataError(said, hint="mend the table, or say how it is written")
    progress.log(said)


def with_questions(spec: Mapping[str, Any], *, cutoffs: Any = None, at: str | None = None) -> dict[str, Any]:
    """Return a source's spec that asks about other rows, or as of another time.

    Args:
        spec: The spec of related tables.
        cutoffs: A table of cut-offs, with columns called as those in the spec; no labels are needed.
        at: One moment for all rows of the target table, or `now`.

    Raises:
        InputError: Both are given.
    """
    if cutoffs is not None and at is not None:
        raise InputError("cut-offs and a moment for all rows are given", hint="give one of them")
    before = CutoffsSection.model_validate(spec.get("cutoffs") or {})
    if at is not None:
        return {**spec, "cutoffs": {"at": at}}
    if cutoffs is None:
        return dict(spec)
    return {**spec, "cutoffs": {"source": cutoffs, "id": before.id, "time": before.time}}
