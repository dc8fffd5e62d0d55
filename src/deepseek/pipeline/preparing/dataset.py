"""From sources to prepared arrays: land, split, look, fit, prepare; each stage is kept by what it was made from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import StageCache, plain_disk_errors, read_json, sha256_file, sha256_json, write_json
from deepseek.data.columns import is_text
from deepseek.data.dvc import pins
from deepseek.data.landing import LandedTable, land
from deepseek.data.leaks import check_leaks
from deepseek.data.materialize import prepare
from deepseek.data.preparation import Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.data.rejects import Rejected
from deepseek.data.spellings import RespelledSource
from deepseek.data.splits import LEFT_OUT, NAMES, TEST, TRAIN, SplitRules, assign_split, inner_folds, split_counts
from deepseek.data.suspects import LabelEdits, SuspectRules, edits_json, read_edits
from deepseek.data.targets import PLAIN_KINDS
from deepseek.data.unknown_categories import Unknown
from deepseek.data.versions import manifest
from deepseek.data.whole_pictures import keep_wholes
from deepseek.data.windows.opening import open_prepared, preparation_of
from deepseek.errors import ColumnError, DataError, InputError, RowError, rows_counted
from deepseek.fields import Kind, Schema, infer_schema
from deepseek.pipeline.choosing.language import language_choices
from deepseek.pipeline.choosing.pretrained import pretrained_choices
from deepseek.pipeline.preparing.cache_keys import check_version, checkpoint_versions, code_version, file_version, plugin_versions
from deepseek.pipeline.preparing.looking import Looked, look
from deepseek.pipeline.preparing.sources import require_recipe_columns, require_test_columns, source_of
from deepseek.pipeline.preparing.twins import TwinFacts, rows_key, twin_facts
from deepseek.pipeline.preparing.windows import plan_windows
from deepseek.recipe import Choices, Recipe
from deepseek.registry import family
from deepseek.tasks import TASK_OF_KIND

SAMPLE_ROWS = 100_000
LOOKED_ROWS = 2_000
FEW_ROWS = 20
"""With fewer validation or test rows than this a warning says how little they tell."""

REJECTS = "rejects"


@dataclass(frozen=True)
class Dataset:
    """Everything that training needs to know of the data.

    Attributes:
        folder: The prepared stage: `train/`, `validation/`, `test/` (the last two where there are such rows) and `preparation.json`.
        task: The task's spec.
        reasons: Why what was `auto` became what it is, by the place in the recipe.
        warnings: What the user should know, in words.
        document: Where the rows came from, counts, schema and splits: the run's `data.json`.
        rejects: Folders with rows that were set aside, by the name that each has among a run's rejects; empty for their root.
        landed: The folders of the tables that the rows come from: `source`, and `test` where there are test rows of their own.
        mended: Rows of the table that are trained on with another label or weight than it says (`data.suspects`), ascending, int64.
    """

    folder: Path
    task: dict[str, Any]
    reasons: Choices
    warnings: tuple[str, ...]
    document: dict[str, Any]
    rejects: Mapping[str, Path]
    landed: Mapping[str, Path] = field(default_factory=dict)
    mended: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def preparation(self) -> Preparation:
        """Return the fitted preparation."""
        return preparation_of(read_json(self.folder / "preparation.json"))

    def open(self, split: str) -> PreparedDataset | None:
        """Return the prepared rows of `train`, `validation` or `test`, or nothing where there are none."""
        return open_prepared(self.folder / split) if (self.folder / split).is_dir() else None


def make_dataset(recipe: Recipe, cache: StageCache, *, inner: tuple[int, int] | None = None) -> Dataset:
    """Read, check, split, fit and prepare what a recipe's `data` section describes.

    Args:
        recipe: The checked recipe.
        cache: Where stages are kept; what is there already is not made again.
        inner: How many folds the training rows themselves are cut into, and which of them takes the place of the test rows, from 0; the
            recipe's test rows are then left out.

    Raises:
        DataError: The data cannot be used; the message says what to do.
        RunError: The disk is full or read-only.
    """
    asked = {**pretrained_choices(recipe), **language_choices(recipe)}
    return _Road(recipe.with_decisions(asked), cache, inner, reasons=asked).dataset()


def land_unlabelled(recipe: Recipe, spec: Any, cache: StageCache, *, texts: Sequence[str]) -> tuple[Landed, tuple[str, ...]]:
    """Land a source of rows without a target, through those of the recipe's checks that do not look at it.

    Args:
        recipe: The checked recipe.
        spec: The source.
        cache: Where stages are kept.
        texts: The columns that are text in training.

    Returns:
        What landed, and what the user should know, in words.

    Raises:
        DataError: The source cannot be used.
    """
    data = recipe.data
    names = {*source_of(recipe, spec).schema().names} - set(data.targets)
    reason = "rows without a target"
    road = _Road(
        recipe.with_decisions(
            {
                "data.checks": ([check for check in data.checks if set(family("check").build(check).columns) <= names], reason),
                "data.spellings": ({name: meant for name, meant in data.spellings.items() if name in names}, reason),
            }
        ),
        cache,
    )
    landed = road._land(spec, lambda _, __: None, texts)  # noqa: SLF001 - the same road
    return landed, tuple(f"rows without a label: {warning}" for warning in road.warnings)


@dataclass
class Landed:
    """A source that has landed: the table, what it was made from, and the manifest of its content."""

    table: LandedTable
    key: str
    manifest: dict[str, Any]


@dataclass
class _Road:
    """The stages in order, and what they find on the way."""

    recipe: Recipe
    cache: StageCache
    inner: tuple[int, int] | None = None
    warnings: list[str] = field(default_factory=list)
    reasons: Choices = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._code = {"deepseek": code_version(), **plugin_versions(self.recipe)}
        self._edits = LabelEdits()
        self._suspects: dict[str, Any] = {}

    def dataset(self) -> Dataset:
        data = self.recipe.data
        if data.time is not None:
            return self._windows(data.time)
        landed = self._land(data.source, require_recipe_columns)
        texts = [column.name for column in landed.table.schema if is_text(column.type)]
        has_test = data.test is not None
        test = self._land(data.test, require_test_columns, texts) if has_test and self.inner is None else None
        split = self._mended(landed.table, self._split(landed, has_test=has_test))
        looked = self._look(landed.table, split)
        schema, task = looked.schema, self._task(looked)
        kind = None if looked.target is None else family("task").get(task["type"]).target_spec(task)
        folder = self._prepare(landed, test, split, schema, kind)
        twins = self._twins(folder, landed, test, split)
        if self.recipe.data.split.on_leak == "drop" and len(twins.training):
            split = self._without(split, twins.training)
            folder = self._prepare(landed, test, split, schema, kind)
        prepared = read_json(folder / "counts.json")
        self._warn_of_counts(prepared)
        self._judge_leaks(prepared["leaks"], twins)
        sources = {"source": landed.manifest, **({"test": test.manifest} if test else {})}
        pinned, told = pins([file["path"] for one in sources.values() for file in one["files"]])
        self.warnings += told
        document = {
            "sources": sources,
            **({"dvc": [pin.to_json() for pin in pinned]} if pinned else {}),
            "schema": schema.to_json(),
            "rows": prepared,
            "warnings": self.warnings,
            "twins": list(twins.found),
            **({"suspects": self._suspects} if self._suspects else {}),
        }
        rejects = {"": landed.table.path.parent / REJECTS, "prepared": folder / REJECTS}
        if test:
            rejects["test"] = test.table.path.parent / REJECTS
        tables = {"source": landed.table.path.parent, **({"test": test.table.path.parent} if test else {})}
        mended = np.union1d(self._edits.relabelled, self._edits.weighed)
        return Dataset(folder, task, self.reasons, tuple(self.warnings), document, rejects, tables, mended)

    def _windows(self, time: str) -> Dataset:
        """Read, lay out in time, split and prepare a long table whose windows are learned from."""
        if self.inner is not None:
            raise DataError("the steps of a forecast cannot be dealt into folds", hint="leave out what asks for folds of training rows")
        landed = self._land(self.recipe.data.source, require_recipe_columns)
        plan = plan_windows(self.recipe, landed.table, time=time)
        self.warnings += plan.warnings
        self.reasons |= plan.reasons
        key = {"code": self._code, "landed": landed.key, **plan.key}
        folder, _ = self.cache.folder("prepared", key, plan.build)
        counts = read_json(folder / "counts.json")
        self._warn_of_counts(counts)
        preparation = preparation_of(read_json(folder / "preparation.json"))
        document = {
            "sources": {"source": landed.manifest},
            "schema": preparation.schema.to_json(),
            "rows": counts,
            "warnings": self.warnings,
            "twins": [],
        }
        rejects = {"": landed.table.path.parent / REJECTS}
        assert isinstance(self.recipe.task, Mapping), "a recipe with data.time names its task"
        task, tables = dict(self.recipe.task), {"source": landed.table.path.parent}
        return Dataset(folder, task, self.reasons, tuple(self.warnings), document, rejects, tables)

    def _land(self, spec: Any, require: Callable[[Recipe, list[str]], None], texts: Sequence[str] = ()) -> Landed:
        data = self.recipe.data
        source = source_of(self.recipe, spec).as_text(texts)
        require(self.recipe, source.schema().names)
        if data.spellings:
            source = RespelledSource(source, data.spellings)
        known = source.fingerprint()
        content = known or uuid4().hex
        checks = [family("check").build(check) for check in data.checks]
        for check in checks:
            check.folder = self.recipe.folder
        key = {
            "code": self._code,
            "source": spec,
            "content": content,
            "texts": texts,
            "spellings": data.spellings,
            "root": None if source.root is None else str(source.root),
            "checks": data.checks,
            "checked_by": [check_version(check) for check in checks],
            "max_rejected": data.max_rejected,
        }

        def build(folder: Path) -> None:
            with progress.task("reading") as advance:
                table = land(source, checks, folder, progress=_growth(advance), max_rejected=data.max_rejected)
            about = manifest(source, table)
            if about["files"] and about["fingerprint"] != known:  # what was read would be kept as what had been there before
                raise DataError("the files of the source changed while they were read", hint="run it again once nothing writes to them")
            write_json(folder / "manifest.json", about, durable=False)

        folder, _ = self.cache.folder("landed", key, build)
        table = LandedTable.open(folder)
        if known is None:  # read anew, but what is the same as before needs no new preparation
            key["content"] = sha256_file(table.path)
        landed = Landed(table, sha256_json(key), read_json(folder / "manifest.json"))
        counts = table.counts
        if lost := counts.read - counts.kept:
            self.warnings.append(f"{lost} of {counts.read} rows were set aside while reading; see rejects/")
        return landed

    def _split(self, landed: Landed, *, has_test: bool) -> np.ndarray:
        section = self.recipe.data.split
        train, validation, test = section.shares
        if has_test or self._given_split(landed.table) is not None:
            train, test = train + test, 0.0  # test rows are there already; validation keeps its share
        rules = SplitRules(
            train=train,
            validation=validation,
            test=test,
            stratify=section.stratify,
            group=section.group,
            time=section.time,
            column=section.column,
            folds=section.folds,
            fold=section.fold or 0,
        )
        seed = self.recipe.seed if section.seed is None else section.seed
        split = assign_split(landed.table, rules, target=self._strata(landed.table), seed=seed)
        if self._given_split(landed.table) and not section.column:
            reason = "the source says by itself which rows are for training and which for testing"
            self.reasons["data.split.column"] = (landed.table.given_split, reason)
        self._split_key: dict[str, Any] = {"rules": asdict(rules), "seed": seed}
        if self.inner is not None:
            folds, fold = self.inner
            split = inner_folds(landed.table, split, rules, target=self._strata(landed.table), folds=folds, fold=fold, seed=seed)
            self._split_key["inner"] = self.inner
            return split
        self._warn_of_unused(split, has_test=has_test)
        return split

    def _strata(self, table: LandedTable) -> tuple[str, ...]:
        """Return the target columns whose values are classes that a split can be evened by; names of files of masks are none."""
        data, task = self.recipe.data, self.recipe.task
        plain = not isinstance(task, Mapping) or family("task").get(task["type"]).kind in PLAIN_KINDS
        if plain and not any(self._is_picture(table, name) for name in data.targets):
            return data.targets
        if data.split.stratify:
            what = f"split.stratify is true, and {', '.join(map(repr, data.targets))} is no class that parts could have alike"
            raise InputError(what, hint="leave it out, or split by a column: split.group or split.column")
        return ()

    def _is_picture(self, table: LandedTable, name: str) -> bool:
        known = self.recipe.data.fields.get(name)
        kind = table.schema.field(name).type if name in table.schema.names else None
        if known is None and kind is not None and (is_text(kind) or pa.types.is_list(kind) or isinstance(kind, pa.FixedShapeTensorType)):
            first = table.column(name).slice(0, LOOKED_ROWS)
            known = infer_schema(pa.Table.from_arrays([first], schema=pa.schema([table.schema.field(name)])), [name])[0][name].kind
        return known in {Kind.IMAGE, Kind.VOLUME, Kind.MASK, Kind.BOXES}

    def _mended(self, table: LandedTable, split: np.ndarray) -> np.ndarray:
        """Take up what a file says of wrong labels among the training rows; return the split without those that are to be left out."""
        section = self.recipe.data.suspects
        if section is None:
            return split
        rules = SuspectRules(self.recipe.folder / section.file, section.action, section.weight, section.key)
        self._edits = read_edits(rules, table, split, target=self.recipe.data.targets)
        self._suspects = edits_json(rules, sha256_file(rules.file), self._edits)
        self._split_key["suspects"] = {**self._suspects, "file": None, "weight": rules.weight, "key": rules.key}
        self.warnings.append(self._edits.said(rules.file.name))
        return self._edits.left(split)

    def _twins(self, folder: Path, landed: Landed, test: Landed | None, split: np.ndarray) -> TwinFacts:
        """Look for training rows that are nearly a row that is measured on; not in folds of training rows, where nothing is claimed."""
        if self.recipe.data.split.on_leak == "ignore" or self.inner is not None:
            return TwinFacts((), np.empty(0, dtype=np.int64))
        tables = {"source": landed.table, **({"test": test.table} if test else {})}
        preparation = Preparation.from_json(read_json(folder / "preparation.json"))
        exact = read_json(folder / "counts.json")["leaks"]
        return twin_facts(self.cache, folder, preparation=preparation, tables=tables, split=split, seed=self.recipe.seed, exact=exact)

    def _without(self, split: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the split without training rows that have a twin on the other side."""
        changed = split.copy()
        changed[rows] = LEFT_OUT
        self._split_key["without"] = rows_key(rows)
        self.warnings.append(f"{len(rows):,} training rows were left out: each is a validation or test row, or nearly so (split.on_leak)")
        return changed

    def _judge_leaks(self, exact: Mapping[str, Any], twins: TwinFacts) -> None:
        """Tell of rows on both sides of the split, or refuse them, as the recipe says."""
        found = [*exact["warnings"], *twins.warnings(exact)]
        on_leak = self.recipe.data.split.on_leak
        if on_leak == "fail" and found:
            raise DataError("; ".join(found), hint="say split.on_leak: drop or warn, or keep such rows together with split.group")
        if on_leak != "drop":
            self.warnings += twins.warnings(exact)

    def _warn_of_unused(self, split: np.ndarray, *, has_test: bool) -> None:
        counts = split_counts(split)
        if left_out := counts.get("left_out", 0):
            self.warnings.append(f"{left_out:,} of {len(split):,} rows are not used: the column of the split says nothing about them")
        if has_test and counts["test"]:
            why = (
                "data.test gives the test rows" if self.recipe.data.split.folds is None else "data.test is measured on instead of the fold"
            )
            self.warnings.append(f"{counts['test']:,} of {len(split):,} rows are test rows of the source and are not used: {why}")

    def _given_split(self, table: LandedTable) -> str | None:
        section = self.recipe.data.split
        if section.column or section.group or section.time or section.folds:
            return section.column
        return table.given_split

    def _look(self, table: LandedTable, split: np.ndarray) -> Looked:
        """Say what each column is, from training rows only."""
        left_out = {name for name in (self._given_split(table), table.given_split) if name is not None}
        looked = look(self.recipe, table.sample(split == TRAIN, SAMPLE_ROWS, self.recipe.seed), left_out=left_out)
        self.warnings += looked.warnings
        self.reasons |= looked.reasons
        return looked

    def _task(self, looked: Looked) -> dict[str, Any]:
        if isinstance(self.recipe.task, Mapping):
            return dict(self.recipe.task)
        if looked.target is None:
            raise ColumnError("there is no column to predict", hint="name it with --target, or under data.target")
        spec = family("task").validate(TASK_OF_KIND[looked.target])
        self.reasons["task"] = (spec, looked.target_reason)
        return spec

    def _prepare(self, landed: Landed, test: Landed | None, split: np.ndarray, schema: Schema, kind: dict[str, Any] | None) -> Path:
        data = self.recipe.data
        key = {
            "code": self._code,
            "landed": landed.key,
            "test": test.key if test else None,
            "files": [file_version(one.table, schema) for one in (landed, test) if one],
            "split": self._split_key,
            "schema": schema.to_json(),
            "clean": data.clean,
            "transforms": data.transforms,
            "checkpoints": checkpoint_versions(data.transforms),
            "target": kind,
            "weight": data.weight,
            "spellings": data.spellings,
        }
        folder, _ = self.cache.folder("prepared", key, partial(self._build, landed, test, split, schema, kind))
        return folder

    def _build(
        self, landed: Landed, test: Landed | None, split: np.ndarray, schema: Schema, kind: dict[str, Any] | None, folder: Path
    ) -> None:
        data = self.recipe.data
        wanted = [name for name in landed.table.schema.names if name in schema.names]
        preparation = Preparation(
            schema, clean=data.clean, transforms=data.transforms, target=kind, weight=data.weight, spellings=data.spellings
        )
        if test is not None:
            _require_inputs(preparation, test.table)
        fitted_on = split == TRAIN
        with progress.task("fitting on training rows"), rows_counted(np.flatnonzero(fitted_on)):
            preparation.fit(lambda: self._edited(landed.table.batches(rows=fitted_on, columns=wanted), fitted_on))
        counts: dict[str, Any] = {"left_out": preparation.left_out, "warnings": preparation.warnings}
        unknown = Unknown()
        for number, name in enumerate(NAMES):
            table, rows = landed.table, np.flatnonzero(split == number)
            if number == TEST and test is not None:
                table, rows = test.table, np.arange(test.table.rows)
            if len(rows) == 0:
                continue
            with progress.task(f"preparing {name} rows", len(rows)) as advance:
                present = [name for name in wanted if name in table.schema.names]
                batches = progress.counted(table.batches(rows=rows, columns=present), advance)
                training = number == TRAIN
                batches = self._edited(batches, fitted_on) if training else batches
                with _naming(name), Rejected(table, folder / REJECTS, name) as rejected:
                    made, aside = prepare(
                        preparation.watched(unknown) if number == TEST else preparation,
                        batches,
                        folder / name,
                        rows=rows,
                        training=training,
                        unseen="fail" if training else "set_aside",
                        set_aside=rejected.write,
                        factors=self._edits.factors(rows) if training else None,
                    )
            left_out = preparation.target.take_left_out() if preparation.target else []
            if not training:
                again = table.batches(rows=made.source_rows, columns=present)
                left_out += _told_of_wholes(keep_wholes(preparation, again, folder / name), len(made))
            counts[name] = {"rows": len(made), "set_aside": aside, "left_out": left_out}
        test_table = test.table if test is not None else None
        counts["leaks"] = check_leaks(landed.table, split, columns=preparation.columns, test=test_table, typed=preparation.typed).to_json()
        counts["unknown"] = unknown.warnings("test rows")
        counts["split"] = split_counts(split)
        write_json(folder / "preparation.json", preparation.to_json(), durable=False)
        write_json(folder / "counts.json", counts, durable=False)

    def _edited(self, batches: Iterator[pa.RecordBatch], training: np.ndarray) -> Iterator[pa.RecordBatch]:
        """Yield training rows with the labels that they are to have."""
        return self._edits.applied(batches, np.flatnonzero(training), self.recipe.data.targets[0] if self.recipe.data.targets else "")

    @property
    def _reads_on(self) -> bool:
        """Whether rows are pieces of one text, so that it is not their number that counts."""
        return isinstance(self.recipe.task, Mapping) and not family("task").get(self.recipe.task["type"]).needs_target

    def _warn_of_counts(self, counts: Mapping[str, Any]) -> None:
        self.warnings += [f"column {name!r} is left out: {reason}" for name, reason in counts["left_out"].items()]
        self.warnings += counts["warnings"]
        for name in NAMES:
            for reason, count in counts.get(name, {}).get("set_aside", {}).items():
                self.warnings.append(f"{count} {name} rows were set aside: {reason}; see rejects/")
            self.warnings += [f"{name} rows: {told}" for told in counts.get(name, {}).get("left_out", ())]
            told = name != "train" and not self._reads_on
            if told and 0 < counts.get(name, {}).get("rows", FEW_ROWS) < FEW_ROWS:
                self.warnings.append(
                    f"there are only {counts[name]['rows']} {name} rows: what is measured on them is hardly more than chance"
                )
        self.warnings += [*counts["leaks"]["warnings"], *counts["unknown"]]


def copy_rejects(dataset: Dataset, target: Path) -> None:
    """Copy the rows that were set aside into a run's folder, where there are any."""
    for name, folder in dataset.rejects.items():
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            with plain_disk_errors(target):
                (target / name).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target / name / file.name)


def _told_of_wholes(wholes: int, rows: int) -> list[str]:
    """Return what is to be said of rows whose picture is larger than the network's size."""
    if not wholes:
        return []
    return [
        f"{wholes} of {rows} pictures are larger than the network's size: the metrics at the end are of the whole pictures, window by "
        "window; those while training goes on are of what is left about the centre"
    ]


def _require_inputs(preparation: Preparation, test: LandedTable) -> None:
    lacking = [name for name in preparation.columns if name not in test.schema.names]
    if lacking:
        raise ColumnError(
            f"the test rows lack {', '.join(map(repr, lacking))}; they have {', '.join(map(repr, test.schema.names))}",
            hint="the model needs every column that it is trained on; leave others out with data.drop",
        )


@contextmanager
def _naming(split: str) -> Iterator[None]:
    """Say in an error about a value which rows it stands among."""
    try:
        yield
    except RowError as error:
        raise error.but(before=f"{split} rows: {error.before}") from None
    except DataError as error:
        if type(error) not in (DataError, ColumnError):
            raise
        raise type(error)(f"{split} rows: {error.message}", hint=error.hint) from None


def _growth(advance: Callable[[int], None]) -> Callable[[int], None]:
    seen = 0

    def report(total: int) -> None:
        nonlocal seen
        advance(total - seen)
        seen = total

    return report
