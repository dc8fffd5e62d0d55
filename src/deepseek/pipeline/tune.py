"""Tuning: many trainings of one recipe, each with other values, and the best of them kept."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from types import FrameType
from typing import Any, Literal
from uuid import uuid4

from deepseek import progress
from deepseek.artifacts import CACHE, RunFolder, StageCache, read_json, write_json, write_text
from deepseek.distributed import die_with_parent
from deepseek.distributed.spawning import interrupts_kept, script_left_out, take_interrupts
from deepseek.errors import BundleError, DeepSeekError, InputError, RunError, UnknownNameError
from deepseek.inference.backends.torch import build_task
from deepseek.pipeline.preparing.dataset import Dataset
from deepseek.pipeline.preparing.sources import check_sources
from deepseek.pipeline.ranks import refuse_several_processes
from deepseek.pipeline.recipes import open_recipe, recipe_of
from deepseek.pipeline.run import data_identity, require_same_data, resolve
from deepseek.pipeline.trial import TrialRunner, best_recipe, measure_on_test, tidy
from deepseek.processors import usable_cores
from deepseek.recipe import AUTO, Recipe, load_recipe, resolve_secret
from deepseek.recipe.document import Key
from deepseek.recipe.load import keep_recipe
from deepseek.reporting.tuning import render
from deepseek.search import Space, Study, Trial, TrialRecord
from deepseek.search.engine import load_optuna
from deepseek.tuning import Facts, TrialRow, default_space, read_space
from deepseek.tuning.facts import best_of, row_text
from deepseek.tuning.folder import TuneFolder

LEAST_FOR_IMPORTANCE = 10
"""Complete trials under which shares of importance would be mostly chance."""
_DECIDED = ("model", "train.optimizer", "train.learning_rate")
"""What a recipe without a space is given before it is searched: the space is drawn around it."""
_FREE = ("trials", "workers", "time_limit", "keep")
"""Keys of `tune` that may be others when a search is resumed."""


@dataclass(frozen=True)
class TuneResult:
    """What a search came to.

    Attributes:
        folder: The search's folder.
        facts: Every trial, the best, and what made trials good.
        run: The folder of the best trial.
        bundle: Its model, ready to predict anywhere.
        recipe: Its recipe, which `deepseek run` repeats exactly.
    """

    folder: Path
    facts: Facts
    run: Path
    bundle: Path
    recipe: Path

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The best trial's metrics by split."""
        return self.facts.metrics

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        paths = {"folder": str(self.folder), "run": str(self.run), "bundle": str(self.bundle), "recipe": str(self.recipe)}
        return {**paths, **self.facts.to_json()}


def tune(
    recipe: Any,
    *,
    target: str | Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    trials: int | None = None,
    workers: int | None = None,
    resume: bool = False,
    out: str | PathLike[str] = "runs",
) -> TuneResult:
    """Search for better values of a recipe's keys, by training it again and again.

    The first trial is the recipe as it is, and every other is compared with it. Trials are compared on validation rows; the test rows are
    looked at once, for the best trial. The best trial's recipe, `best.yaml`, repeats it exactly.

    Args:
        recipe: A recipe's file, its content as a mapping, the folder of a search (to resume it), or, with `target`, a table as
            `deepseek.train` takes it.
        target: The column to predict, where a table is given instead of a recipe.
        overrides: Each `PATH=VALUE`, for example `tune.search=gp`; later ones go before.
        trials: How many trials there are in all; `tune.trials` where not given.
        workers: Processes that work at the same time; `tune.workers` where not given.
        resume: Go on with the newest search of this recipe, or with the one that was given, until it has all its trials.
        out: The folder that holds the runs.

    Raises:
        InputError: Several processes were started for it.
        MissingExtraError: Optuna is not installed.
        RecipeError: The recipe is wrong, or what is to be searched is no part of it; nothing was started.
        DataError: The data cannot be used.
        RunError: No trial came to an end.

    Example:
        ```python
        result = deepseek.tune("churn.yaml", trials=30)
        print(result.facts.best, result.metrics["test"])
        ```
    """
    began = time.perf_counter()
    refuse_several_processes("a search")
    load_optuna("tuning")  # the first trial needs it not, the second does: it is missed before minutes are spent
    said = [*overrides, *([f"tune.trials={trials}"] if trials else []), *([f"tune.workers={workers}"] if workers else [])]
    folder, checked = _given(recipe, target, said, resume=resume, out=Path(out))
    search = _Search.begin(checked, out=Path(out)) if folder is None else _Search.go_on(folder, checked, out=Path(out))
    search.until = None if search.section.time_limit is None else time.time() + search.section.time_limit
    progress.log(f"tuning {search.folder.path}: {search.section.trials} trials, by {search.metric} on validation rows")
    for path, dimension in Space.from_json(search.about["space"]).items():
        progress.log(f"  {path}: {dimension}")
    try:
        search.run_default()
        search.run_others()
    except KeyboardInterrupt:
        progress.log(f"interrupted; go on with: deepseek tune {search.folder.path} --resume")
        raise
    return search.finish(began)


def _given(
    recipe: Any, target: str | Sequence[str] | None, overrides: list[str], *, resume: bool, out: Path
) -> tuple[TuneFolder | None, Recipe]:
    """Return the search to go on with, where one is, and the checked recipe."""
    if target is not None:
        checked = recipe_of(recipe, target=target, out=out, overrides=overrides)
    elif isinstance(recipe, str | PathLike) and Path(recipe).is_dir() and not (Path(recipe) / "recipe.yaml").is_file():
        raise InputError(f"{fspath(recipe)!r} is no recipe and no search", hint="for a table, name the column to predict with --target")
    elif isinstance(recipe, str | PathLike) and (Path(recipe) / "search.json").is_file():
        if not resume:
            raise InputError(f"{fspath(recipe)!r} is a search already", hint="go on with it by --resume, or give its recipe to begin anew")
        folder = TuneFolder.open(Path(recipe))
        return folder, load_recipe(folder.recipe, overrides=overrides)
    else:
        _, checked = open_recipe(recipe, overrides)
    checked = checked if checked.tune is not None else checked.with_decisions({"tune": ({}, "asked for")})
    if not resume:
        check_sources(checked)
        if checked.tune is not None and checked.tune.over:
            read_space(checked)
        return None, checked
    folder = TuneFolder.open(out / checked.name)
    return folder, checked


@dataclass
class _Search:
    """A search under way.

    Attributes:
        folder: Where it is kept.
        recipe: What is tuned.
        about: The study's name, its space, metric and direction.
        cache: Where stages of the data are kept.
        until: The time of `time.time` after which no further trial begins.
    """

    folder: TuneFolder
    recipe: Recipe
    about: dict[str, Any]
    cache: StageCache
    until: float | None = None

    @classmethod
    def begin(cls, recipe: Recipe, *, out: Path) -> _Search:
        """Prepare the data, settle what is searched and compared, and write it down."""
        cache, asked = StageCache(out / CACHE), _fixed(recipe)
        runner = TrialRunner(recipe, TuneFolder(out), cache, "")
        dataset = runner.dataset(recipe)
        for warning in dataset.warnings:
            progress.warn(warning)
        if "validation" not in dataset.document["rows"]:
            raise InputError("there are no validation rows to compare trials by", hint="split some off: data.split.validation")
        resolved, choices = resolve(recipe, dataset)
        assert recipe.tune is not None
        if not recipe.tune.over:
            decided: dict[str | Key, tuple[Any, str]] = {path: choices[path] for path in _DECIDED if path in choices}
            recipe = recipe.with_decisions(decided).with_decisions(
                {("tune", "over"): (default_space(resolved), "a space for the model at hand")}
            )
        space = read_space(recipe)
        metric, direction = _metric(recipe, resolved, dataset)
        folder = TuneFolder.create(out, recipe.name)
        about = {
            "study": f"{recipe.name}-{folder.path.name}-{uuid4().hex[:8]}",
            "space": space.to_json(),
            "metric": metric,
            "direction": direction,
            "asked": asked,
            "data": data_identity(dataset.folder),
            "seconds": 0.0,
        }
        keep_recipe(recipe, folder.recipe, text=recipe.to_yaml())
        write_json(folder.search, about)
        return cls(folder, recipe, about, cache)

    @classmethod
    def go_on(cls, folder: TuneFolder, recipe: Recipe, *, out: Path) -> _Search:
        """Take up a search, with more trials or workers if that is said."""
        kept, about = load_recipe(folder.recipe), read_json(folder.search)
        if _fixed(recipe) not in (about["asked"], _fixed(kept)):
            raise InputError(f"{folder.path} was made by another recipe", hint="resume with that recipe, or begin a new search")
        free: dict[str | Key, tuple[Any, str]] = {f"tune.{key}": (recipe.to_value()["tune"][key], "--resume") for key in _FREE}
        recipe = kept.with_decisions(free)
        write_text(folder.recipe, recipe.to_yaml())
        search = cls(folder, recipe, about, StageCache(out / CACHE))
        require_same_data(folder.path, data_identity(search.runner().dataset(recipe).folder), known=about.get("data"))
        return search

    @property
    def section(self) -> Any:
        """The recipe's section `tune`."""
        return self.recipe.tune

    @property
    def metric(self) -> str:
        """What trials are compared by."""
        return str(self.about["metric"])

    @property
    def storage(self) -> str:
        """Where the study is kept; a reference to a secret stays one."""
        return self.section.storage or str(self.folder.study.absolute())

    def study(self) -> Study:
        """Open the study."""
        direction: Literal["minimize", "maximize"] = self.about["direction"]
        return Study(
            Space.from_json(self.about["space"]),
            trials=max(self.section.trials - 1, 1),
            direction=direction,
            search=self.section.search,
            pruner=self.section.pruner,
            seed=self.recipe.seed if self.section.seed is None else self.section.seed,
            storage=resolve_secret(self.storage),
            name=self.about["study"],
        )

    def runner(self) -> TrialRunner:
        """Return what runs trials in this process."""
        return TrialRunner(self.recipe, self.folder, self.cache, self.metric)

    def run_default(self) -> None:
        """Run trial 0, the recipe as it is, unless that was done; one that failed is tried again, for what failed it may be mended."""
        if any(row.state != "failed" for row in self.default_rows()):
            return
        try:
            row = self.runner().run(0, {})
        except DeepSeekError as error:
            row = TrialRow(number=0, state="failed", error=f"{type(error).__name__}: {error.message}")
        write_json(self.folder.path / "default.json", row.to_json())
        self.tell(row)

    def default_rows(self) -> list[TrialRow]:
        """Return the row of trial 0, where it has ended."""
        path = self.folder.path / "default.json"
        return [TrialRow(**read_json(path))] if path.is_file() else []

    def run_others(self) -> None:
        """Run what is left of the study, in this process or in several."""
        if self.section.trials < 2:
            return
        if self.section.workers == 1:
            self.work()
            return
        self.study().close()  # its tables are made once, not by several workers at the same moment
        spawn = multiprocessing.get_context("spawn")
        threads = max(usable_cores() // self.section.workers, 1)
        arguments = (str(self.folder.path), str(self.cache.root.parent), threads, self.until, progress.is_quiet())
        processes = [spawn.Process(target=_work, args=arguments, name=f"worker-{place}") for place in range(self.section.workers)]
        try:
            with script_left_out(), interrupts_kept():
                for process in processes:
                    process.start()
            for process in processes:
                process.join()
        except KeyboardInterrupt:  # the terminal has sent it to the workers, too: they put their trials back into the queue
            for process in processes:
                process.join(30.0)
            raise
        finally:
            for process in processes:
                if process.is_alive():
                    process.terminate()
        failed = sum(process.exitcode != 0 for process in processes)
        if failed == len(processes):
            raise RunError("every worker of the search has failed", hint="their errors stand above; go on with --resume")
        if failed:
            progress.warn(f"{failed} of {len(processes)} workers have failed; the others did their trials")

    def work(self) -> None:
        """Run trials of the study in this process until it has all of them."""
        runner = self.runner()
        with _remembered_interrupt() as interrupted, self.study() as study:

            def objective(trial: Trial) -> float:
                if interrupted():
                    raise KeyboardInterrupt
                return self._attempt(runner, study, trial)

            try:
                study.run(objective, time_limit_s=None if self.until is None else max(self.until - time.time(), 0.0))
            except RunError as error:  # the default's trial may still be there
                progress.warn(error.message)

    def _attempt(self, runner: TrialRunner, study: Study, trial: Trial) -> float:
        report = {"type": "trial", "storage": self.storage, "study": self.about["study"], "number": trial.number}
        number, began = trial.number + 1, time.perf_counter()
        try:
            report |= {"pruner": self.section.pruner, "metric": self.metric}
            row = runner.run(number, trial.parameters, place=trial.place + 1, report=report)
        except Exception as error:
            message = f"{type(error).__name__}: {error.message if isinstance(error, DeepSeekError) else error}"
            parameters = dict(trial.parameters)
            self.tell(TrialRow(number=number, state="failed", parameters=parameters, seconds=time.perf_counter() - began, error=message))
            raise
        trial.pruned = row.state == "pruned"
        trial.note("seconds", row.seconds)
        trial.note("steps", row.steps)
        self.tell(row)
        known = [*self.default_rows(), *_rows(study.trials)]  # without this one, which may still be lost before it is on record
        tidy(self.folder, known, best_of(known, self.about["direction"]), keep=self.section.keep)
        return float("nan") if row.value is None else row.value

    def tell(self, row: TrialRow) -> None:
        """Write a trial down and say what became of it."""
        self.folder.append(row.to_json())
        progress.log(row_text(row, self.metric))

    def finish(self, began: float) -> TuneResult:
        """Look at the test rows, once, with the best trial's model, and write down what came of the search."""
        rows, importance = self.default_rows(), {}
        if self.section.trials > 1:
            with self.study() as study:
                rows += _rows(study.trials)
                for lost in (record for record in study.trials if record.state == "lost"):
                    shutil.rmtree(self.folder.trial(lost.number + 1), ignore_errors=True)  # another trial has done its work
                if sum(row.state == "complete" for row in rows) >= LEAST_FOR_IMPORTANCE:
                    importance = study.importance()
        best = best_of(rows, self.about["direction"])
        if best is None:
            errors = [row.error for row in rows if row.error]
            raise RunError("no trial came to its end", hint=f"the last error: {errors[-1]}" if errors else None)
        run = RunFolder(self.folder.trial(best.number))
        if not run.bundle.is_dir():
            raise BundleError(f"{run.bundle}, the best trial's model, is not there")
        recipe = best_recipe(run, self.recipe)
        write_text(self.folder.best, recipe.to_yaml())
        metrics = measure_on_test(run, self.runner().dataset(recipe))
        tidy(self.folder, rows, best, keep=self.section.keep)
        self.about["seconds"] += time.perf_counter() - began
        write_json(self.folder.search, self.about)
        facts = Facts(
            name=self.recipe.name,
            metric=self.metric,
            direction=self.about["direction"],
            trials=tuple(rows),
            space=self.about["space"],
            search=self.section.search,
            pruner=self.section.pruner,
            importance=importance,
            metrics=metrics,
            seconds=round(self.about["seconds"], 3),
        )
        write_json(self.folder.facts, facts.to_json())
        write_text(self.folder.page, render(facts.to_json()))
        return TuneResult(self.folder.path, facts, run.path, run.bundle, self.folder.best)


def _work(folder: str, out: str, threads: int, until: float | None, quiet: bool) -> None:
    """Be one of several workers: a process of its own."""
    import torch

    threading.Thread(target=die_with_parent, daemon=True).start()  # nobody waits for it then; its trial is another worker's
    try:
        take_interrupts()
        torch.set_num_threads(threads)
        progress.quiet(quiet)
        search = TuneFolder.open(Path(folder))
        recipe = load_recipe(search.recipe)
        _Search(search, recipe, read_json(search.search), StageCache(Path(out) / CACHE), until).work()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@contextmanager
def _remembered_interrupt() -> Iterator[Callable[[], bool]]:
    """Give a function that says whether Ctrl-C was pressed: Python loses the exception where a finalizer was at work at that moment."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    pressed = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _metric(recipe: Recipe, resolved: Recipe, dataset: Dataset) -> tuple[str, Literal["minimize", "maximize"]]:
    """Return what trials are compared by, and whether small or large values of it are better."""
    assert isinstance(resolved.task, dict)
    assert recipe.tune is not None
    task = build_task(dataset.preparation(), resolved.task)
    metrics = task.metrics()
    name = recipe.tune.metric or (task.monitor if resolved.train.monitor in (AUTO, None) else resolved.train.monitor)
    if name not in metrics:
        raise UnknownNameError("metric to tune for", name, metrics)
    return name, "maximize" if metrics[name].higher_is_better else "minimize"


def _fixed(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe says that must be the same when its search is resumed."""
    value = recipe.to_value()
    return {**value, "tune": {key: part for key, part in value["tune"].items() if key not in _FREE}}


def _rows(records: Sequence[TrialRecord]) -> list[TrialRow]:
    """Return the rows of a study's trials that have ended; the study counts from 0, where the search has the recipe as it is."""
    return [
        TrialRow(
            number=record.number + 1,
            state=record.state,  # type: ignore[arg-type]  # one of those that are finished
            value=record.value,
            parameters=record.parameters,
            seconds=record.notes.get("seconds", record.seconds or 0.0),
            steps=record.notes.get("steps"),
            error=record.error,
        )
        for record in records
        if record.finished
    ]
