"""Learning from a stream: rows in the order of time, each answered before it is learned from; a bundle at the end, and on the way."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from deepseek.artifacts import CACHE, Bundle, RunFolder, StageCache
from deepseek.errors import InputError
from deepseek.inference.reading import read_preparation
from deepseek.learning import progressive_validation
from deepseek.pipeline.online.arriving import batches_of, rows_in_order
from deepseek.pipeline.online.live import learn_live
from deepseek.pipeline.online.saving import Saver
from deepseek.pipeline.online.student import Student, begin, go_on, tell_short_warmup, watched_errors
from deepseek.pipeline.recipes import open_recipe
from deepseek.recipe import Recipe
from deepseek.recipe.load import keep_recipe
from deepseek.recipe.sections import LearnSection
from deepseek.training.state import kept_generators, seed_generators


def learn(
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe,
    sources: Sequence[Any] = (),
    *,
    overrides: Sequence[str] = (),
    out: str | PathLike[str] = "runs",
    resume: bool = False,
) -> dict[str, Any]:
    """Answer each row of a stream and learn from it afterwards, in bounded memory; see `deepseek.learning.progressive_validation`.

    Args:
        recipe: A recipe (file, mapping), whose `learn` section says how; or a run, whose model learns on from where it is.
        sources: Tables with the target, the oldest first, each in the order of its rows unless `learn.time` names a column; for a recipe
            its `data.source` where not given.
        overrides: Keys of the recipe, each `PATH=VALUE`.
        out: The folder that holds the runs.
        resume: With `learn.live`, go on with the newest run of the recipe, where there is one, as if it had not been interrupted.

    Returns:
        `run` and `bundle`; `rows`; `accuracy`, each answer given before its row was learned from; `no_change`, what answering with the
        previous row's truth reaches; `changes` by detector, `curve`, and `set_aside`, by reason. Of a live stream also `messages` and
        `position`.

    Raises:
        InputError: The task has no classes, or a run is given without rows.
        DataError: The rows cannot be used.
    """
    given, checked = open_recipe(recipe, overrides)
    section = checked.learn or LearnSection()
    if section.live_section is not None and not sources:
        return learn_live(checked, section, section.live_section, out=Path(out), resume=resume)
    if resume:
        raise InputError("resume goes on with a live stream", hint="say learn.live: true; files are learned in one go")
    if given is not None and not sources:
        raise InputError(f"{given.path} is a run, and no rows are given to learn from", hint="deepseek learn RUN FILE…")
    return _learn_tables(given, checked, section, sources, out=Path(out))


def _learn_tables(given: RunFolder | None, recipe: Recipe, section: LearnSection, sources: Sequence[Any], *, out: Path) -> dict[str, Any]:
    began = time.perf_counter()
    cache, folder = StageCache(out / CACHE), RunFolder.create(out, recipe.name)
    counts: Counter[str] = Counter()
    temporary = tempfile.TemporaryDirectory(prefix="deepseek-stream-")
    with folder.gone_if_bare(), temporary as work, kept_generators(torch.device("cpu")):
        seed_generators(recipe.seed, torch.device("cpu"))
        bundle = Bundle.open(given.path) if given is not None else None
        texts = read_preparation(bundle).text_columns if bundle is not None else ()
        rows = rows_in_order(recipe, list(sources) or [recipe.data.source], texts=texts, time=section.time, work=Path(work))
        start = go_on(bundle) if bundle is not None else begin(recipe, section, rows, cache=cache, work=Path(work))
        if bundle is None:
            tell_short_warmup(sum(batch.num_rows for batch in start.first), section, what="rows")
        student = Student(start, section, seed=recipe.seed)
        saver = Saver(folder, start, student=student, section=section)
        keep_recipe(recipe, folder.recipe)
        stream = saver.watched(batches_of(start.preparation, chain(start.first, rows), section.batch_rows, counts=counts))
        detectors, acted = watched_errors(section)
        found = progressive_validation(student, stream, detectors=detectors, forget_at=acted)
    return saver.finish(found, counts, time.perf_counter() - began)
