"""Labels that are probably wrong: training rows judged by networks that have not seen them, and what these disagree with."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import CACHE, Bundle, RunFolder, StageCache, read_json, sha256_json, write_json, write_text
from deepseek.artifacts.files import plain_disk_errors
from deepseek.artifacts.numbered import next_numbered, numbered
from deepseek.data.landing import LandedTable
from deepseek.data.loader import Loader, rows_within
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import require_plain, sort_classes
from deepseek.errors import InputError
from deepseek.inference.backends.torch import TorchBackend
from deepseek.pipeline.fitting import MEASURED_FOR_SPEED
from deepseek.pipeline.preparing.dataset import Dataset, make_dataset
from deepseek.pipeline.ranks import refuse_several_processes
from deepseek.pipeline.recipes import open_recipe
from deepseek.pipeline.run import data_identity, follow, identity_of, require_same_data
from deepseek.pipeline.suspect_files import Judged, examples_of, found_labels, keep_judgements, page_lines, suspect_table, write_files
from deepseek.recipe import AUTO, Recipe
from deepseek.recipe.load import keep_recipe
from deepseek.registry import family
from deepseek.reporting.suspects import suspects_page
from deepseek.statistics.confident import Method

BATCH_ROWS = 1_024
SHOWN = 24
_PREFIX = "suspects-"


@dataclass(frozen=True, repr=False)
class SuspectsResult:
    """What a search for wrong labels came to.

    Attributes:
        folder: Its folder: `suspects.csv`, `suspects.parquet`, `suspects.json`, `suspects.html`, `judged.npz` (every row's label and
            probabilities), and the folds' runs.
        file: The suspects, as a recipe reads them under `data.suspects`.
        page: The same for people.
        table: The suspects, the surest first.
        facts: Counts, shares by class, and the joint of labels and classes.
    """

    folder: Path
    file: Path
    page: Path
    table: pa.Table
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the facts and paths as plain JSON values."""
        return {**self.facts, "folder": str(self.folder), "file": str(self.file), "page": str(self.page)}

    def __repr__(self) -> str:
        return f"{len(self.table):,} suspects of {self.facts['judged']:,} labels: {self.file}"


def suspects(  # noqa: PLR0913 (what is said on the command line)
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe,
    *,
    folds: int = 5,
    method: Method = "both",
    key: str | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    out: str | PathLike[str] = "runs",
    examples: bool = True,
) -> SuspectsResult:
    """Find training rows whose label is probably wrong.

    The training rows of the recipe are cut into folds; for each, a network is trained on the others as `deepseek run` trains it, and judges
    the fold. Labels that these judgements contradict are told of, by confident learning (Northcutt, Jiang and Chuang 2021). Validation rows
    choose weights as ever; test rows have no part in it, so that what is done about suspects cannot flatter the final number.

    Args:
        recipe: A recipe's file, its content as a mapping, or the folder of a run, whose recipe is then taken. Its `data.suspects` is left
            aside: labels are judged as the source has them.
        folds: How many networks are trained, 2 or more; more see more of the rows, and take longer.
        method: How suspects are chosen: `both` is the surest, `joint` tells of most.
        key: A column whose values are written beside each row's number, for people and for other tables.
        overrides: Each `PATH=VALUE`, for example `train.epochs=5`.
        resume: Go on with the newest search of this recipe that has as many folds, where it was interrupted.
        out: The folder that holds the runs.
        examples: Whether the page shows raw rows.

    Raises:
        RecipeError: The recipe is wrong; nothing was started.
        InputError: The target is a number, of which no class can be suspected, there are too few folds, several processes were started, or
            the data changed since the search that is to go on began.
        DataError: The data cannot be used.
        RunError: The work failed.

    Example:
        ```python
        found = deepseek.suspects("churn.yaml", folds=5)
        deepseek.run("churn.yaml", overrides=[f"data.suspects={{file: {found.file.absolute()}, action: drop}}"])
        ```
    """
    began = time.perf_counter()
    refuse_several_processes("a search for wrong labels")
    if folds < 2:
        raise InputError(f"{folds} fold was asked for", hint="at least 2: what judges a row must not have been trained on it")
    _, given = open_recipe(recipe, overrides)
    checked = _bare(given)
    folder = _folder(Path(out), checked, folds=folds, resume=resume)
    progress.log(f"suspects {folder}: {folds} folds")
    search = _Search(checked, folder, StageCache(Path(out) / CACHE), folds)
    judged = search.judged()
    facts = {
        "name": checked.name,
        "target": ", ".join(checked.data.targets),
        "folds": folds,
        "method": method,
        "file": "suspects.csv",
        **found_labels(judged, method),
        "not_judged": search.rows - judged.rows_judged,
    }
    keep_judgements(folder, judged)
    table = suspect_table(judged, method)
    source = LandedTable.open(search.landed)
    file = write_files(folder, table, keys=None if key is None else source.column(key), key=key)
    shown = examples_of(table, source, search.test, most=SHOWN) if examples else None
    facts["seconds"] = round(time.perf_counter() - began, 1)
    write_json(folder / "suspects.json", facts)
    page = folder / "suspects.html"
    write_text(page, suspects_page(facts, page_lines(table), shown))
    return SuspectsResult(folder, file, page, table, facts)


class _Search:
    """Trains a network a fold, and lets it judge the fold."""

    def __init__(self, recipe: Recipe, folder: Path, cache: StageCache, folds: int) -> None:
        self._recipe, self._folder, self._cache, self._folds = recipe, folder, cache, folds
        self._tests: list[PreparedDataset] = []
        self.landed = Path()
        self.rows = 0

    def judged(self) -> Judged:
        """Return every training row's label and probabilities, each from the network of the fold that the row is in."""
        parts = [self._fold(number) for number in range(self._folds)]
        classes = tuple(sort_classes(dict.fromkeys((name for part in parts for name in part.classes), 1)))
        return Judged.joined(parts, classes)

    def test(self, row: int) -> tuple[PreparedDataset, int] | None:
        """Return the prepared rows that a row of the table stands in, and its place among them."""
        for data in self._tests:
            found = np.flatnonzero(np.asarray(data.source_rows) == row) if data.source_rows is not None else np.empty(0)
            if len(found):
                return data, int(found[0])
        return None

    def _fold(self, number: int) -> Judged:
        dataset = make_dataset(self._recipe, self._cache, inner=(self._folds, number))
        self.landed = dataset.landed["source"]
        kind = family("task").get(dataset.task["type"]).kind
        require_plain(kind, "a search for wrong labels", hint="it says which of the classes a row could rather be of")
        if kind == "values":
            raise InputError(
                f"{', '.join(self._recipe.data.targets)} is a number: there is no class that it could rather be of",
                hint="look at the rows with the largest errors: deepseek report; or set a range with the check range",
            )
        data = dataset.open("test")
        self.rows += int(dataset.document["rows"]["split"]["test"])
        assert data is not None, "inner_folds leaves no fold empty"
        self._tests.append(data)
        run = RunFolder(self._folder / "folds" / f"{number + 1:03d}")
        require_same_data(self._folder, data_identity(dataset.folder), known=identity_of(run))
        if not run.metrics.is_file():
            self._train(number, dataset, run)
        model = TorchBackend(Bundle.open(run.bundle)).model
        spec = model.task.target
        probability = np.empty((len(data), len(spec.classes)), dtype=np.float32)
        place = 0
        with progress.task(f"judging fold {number + 1}", len(data)) as advance:
            for batch in Loader(data, batch_size=rows_within(data, BATCH_ROWS), shuffle=False).batches(0):
                probability[place : place + len(batch)] = _answered(model, batch.inputs)
                place += len(batch)
                advance(len(batch))
        rows = data.source_numbers()
        target = np.array(data.column("target"))
        return Judged(spec.kind, spec.classes, rows, target if spec.kind == "labels" else target.astype(np.int64), probability)

    def _train(self, number: int, dataset: Dataset, run: RunFolder) -> None:
        recipe = self._as_first() if number else self._recipe
        progress.log(f"fold {number + 1} of {self._folds}")
        if not run.recipe.is_file():
            with plain_disk_errors(run.path):
                run.path.mkdir(parents=True, exist_ok=True)
            keep_recipe(recipe, run.recipe)
        if not number:
            for warning in dataset.warnings:
                progress.warn(warning)
        follow(recipe, dataset, run, began=time.perf_counter(), measured=())
        shutil.rmtree(run.checkpoints, ignore_errors=True)

    def _as_first(self) -> Recipe:
        """Return the recipe with what was measured for the first fold: folds should differ in their rows alone."""
        measured = read_json(RunFolder(self._folder / "folds" / "001").decisions)["measured"]
        known = {f"train.{name}": (measured[name], "measured in the first fold") for name in MEASURED_FOR_SPEED}
        return self._recipe.with_decisions({path: one for path, one in known.items() if self._open(path)})

    def _open(self, path: str) -> bool:
        return bool(getattr(self._recipe.train, path.partition(".")[2]) == AUTO)


def _answered(model: Any, inputs: Mapping[str, Any]) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return np.asarray(model.predict(inputs)["probability"].float().numpy())


def _bare(recipe: Recipe) -> Recipe:
    """Return a recipe for the folds: labels as the source has them, and nobody told of trainings that are thrown away."""
    why = "labels are judged as they came"
    return recipe.with_decisions({"data.suspects": (None, why), "train.trackers": ([], "folds are not tracked"), "tune": (None, why)})


def _folder(out: Path, recipe: Recipe, *, folds: int, resume: bool) -> Path:
    """Return the folder `out/NAME/suspects-NNN`: the newest that was begun with this recipe and not finished, or the next free one."""
    parent = out / recipe.name
    told = {"recipe": sha256_json(recipe.to_value()), "folds": folds}
    if resume:
        for child in reversed(numbered(parent, _PREFIX)):
            if (child / "search.json").is_file() and read_json(child / "search.json") == told:
                return child
        raise InputError(f"there is no search for suspects of this recipe with {folds} folds in {parent}", hint="start one without resume")
    folder = next_numbered(parent, _PREFIX)
    write_json(folder / "search.json", told)
    return folder
