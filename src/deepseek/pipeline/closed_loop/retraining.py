"""A new model of fresh rows and old ones: trained anew with the run's recipe, or learning on from its weights."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import CACHE, RunFolder, StageCache, fresh_folder, plain_disk_errors, read_json, write_json, write_text
from deepseek.data.batch import Batch
from deepseek.data.loader import Loader
from deepseek.data.materialize import prepare
from deepseek.data.prepared import PreparedDataset
from deepseek.data.resample import Resample
from deepseek.distributed import RankContext
from deepseek.inference.backends.torch import TorchBackend
from deepseek.inference.reading import FEATURES_FILE
from deepseek.inference.saving import documents_of, write_model
from deepseek.learning import OnlineLearner
from deepseek.monitoring.reference import REFERENCE_FILE, sketch_inputs
from deepseek.pipeline.closed_loop.champion import SPLIT, Champion
from deepseek.pipeline.delivery import deliver
from deepseek.pipeline.fitting import measure
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.pipeline.reference import reference_of
from deepseek.pipeline.run import follow
from deepseek.recipe import Recipe, load_recipe
from deepseek.recipe.load import keep_recipe
from deepseek.registry import family
from deepseek.tasks.model import TaskModel

ROWS_FOLDER = "rows"
_ROWS_FILE = "rows.arrow"
_BATCH = 256
_REASON = "as the loop made it"


@dataclass(frozen=True)
class Plan:
    """What a candidate is made of.

    Attributes:
        champion: The model in whose place it may come.
        fresh: Rows of production, with the column `deepseek_split`.
        keep_old: The share of the champion's training rows that is mixed in.
        number: The round's number.
    """

    champion: Champion
    fresh: pa.Table
    keep_old: float
    number: int


def begin_candidate(plan: Plan) -> RunFolder:
    """Make the folder of a candidate beside the champion's, with its rows and its recipe; until it is promoted its name stands for others.

    Raises:
        RunError: The folder cannot be written, or the champion's rows cannot be had.
    """
    champion = plan.champion
    old = champion.old_rows(plan.keep_old, seed=champion.recipe.seed)
    folder = RunFolder.create(champion.path.parents[1], champion.path.parent.name)
    folder.hold(f"a candidate of the loop's round {plan.number}")
    rows = folder.path / ROWS_FOLDER
    with fresh_folder(rows) as made:
        write_table(made / _ROWS_FILE, rows_of(old, plan.fresh, weight=champion.recipe.data.weight))
    recipe = candidate_recipe(champion, (rows / _ROWS_FILE).absolute())
    decisions = read_json(champion.run.folder.decisions) if champion.run.folder.decisions.is_file() else {}
    write_json(
        folder.decisions, {"loop": {"round": plan.number, "champion": champion.name, "keep_old": plan.keep_old}, **_measured(decisions)}
    )
    keep_recipe(recipe, folder.recipe)
    return folder


def rows_of(old: pa.Table | None, fresh: pa.Table, *, weight: str | None) -> pa.Table:
    """Return old rows, all to be trained on, and fresh ones as one table; a fresh row weighs 1 where rows weigh something.

    Args:
        old: Rows of the champion's training, or nothing.
        fresh: Rows of production, with the column `deepseek_split`.
        weight: The column of weights, or nothing.
    """
    if weight is not None and weight not in fresh.column_names:
        fresh = fresh.append_column(weight, pa.array(np.ones(fresh.num_rows)))
    if old is None:
        return fresh
    old = old.append_column(SPLIT, pa.array(["train"] * old.num_rows))
    return pa.concat_tables([old.select(fresh.column_names), fresh], promote_options="permissive")


def candidate_recipe(champion: Champion, rows: Path) -> Recipe:
    """Return the champion's recipe on other rows: the kinds of its columns, its task and everything else stay.

    Args:
        champion: The model in whose place a new one may come.
        rows: The Arrow file of the rows.
    """
    recipe, data, preparation = champion.recipe, champion.recipe.data, champion.preparation
    known = {*preparation.columns, *preparation.schema.target, *filter(None, (data.weight,))}
    kinds = {name: kind.value for name, kind in champion.run.resolved.data.fields.items() if name in known}
    changed: dict[str, Any] = {
        "data.source": {"type": "arrow", "path": str(rows)},
        "data.test": None,
        "data.fields": kinds,
        "data.drop": [],
        "data.spellings": {name: meant for name, meant in data.spellings.items() if name in known},
        "data.checks": [spec for spec in data.checks if set(family("check").build(spec).columns) <= known],
        "data.split": {"column": SPLIT},
        "data.suspects": None,  # they name rows of the old table; rows that were left out of it are not among the old ones
        "task": champion.run.resolved.task,
        "tune": None,
        "self_training": None,
        "export": [],
    }
    return recipe.with_decisions({path: (value, _REASON) for path, value in changed.items()})


def finish_candidate(plan: Plan, folder: RunFolder) -> dict[str, Any]:
    """Make a candidate's model, or go on with it where that was interrupted.

    Args:
        plan: What it is made of.
        folder: What `begin_candidate` returned.

    Returns:
        Its metrics by split.

    Raises:
        DeepSeekError: The training failed.
    """
    recipe = load_recipe(folder.recipe)
    if not folder.metrics.is_file():
        if plan.champion.then.action == "online":
            _learn_on(plan, folder, recipe)
        else:
            began = time.perf_counter()
            follow(recipe, make_dataset(recipe, StageCache(folder.path.parents[1] / CACHE)), folder, began=began)
    own = _rows_of_forms(plan, folder) if plan.champion.then.action == "online" else {}
    deliver(plan.champion.recipe, folder, **own)
    metrics: dict[str, Any] = read_json(folder.metrics)["metrics"]
    return metrics


def _learn_on(plan: Plan, folder: RunFolder, recipe: Recipe) -> None:
    """Take the champion's weights through the fresh rows, each batch beside one of old rows; the weights after the best pass are kept."""
    began, champion = time.perf_counter(), plan.champion
    shutil.rmtree(folder.path / "prepared", ignore_errors=True)  # of a process that was killed in the midst of it
    shutil.rmtree(folder.bundle, ignore_errors=True)
    table = _rows_in(folder)
    parts = {name: _prepared(champion, rows, folder, name) for name, rows in _by_use(table, plan.fresh).items()}
    data = {name: rows for name, rows in parts.items() if rows is not None and name != "old"}
    model, passes = _passes(champion, parts, seed=recipe.seed)
    ranks = RankContext()
    metrics = {name: measure(model, data[name], ranks) if name in data else None for name in ("validation", "test")}
    trained = table.filter(pa.array(np.array(table.column(SPLIT).to_pylist()) == "train"))
    wanted = [field for field in champion.preparation.schema.inputs if field.name in champion.preparation.columns]
    reference = reference_of(model, champion.preparation, sketch_inputs(trained, wanted), data=data, measured=("validation", "test"))
    spec, task = champion.bundle.read("model.json"), champion.bundle.read("task.json")
    documents = documents_of(champion.preparation, model=spec, task=task, metrics=metrics)
    made_by = {FEATURES_FILE: champion.bundle.read(FEATURES_FILE)} if FEATURES_FILE in champion.bundle.manifest["files"] else {}
    write_model(folder.bundle, model, {**documents, REFERENCE_FILE: reference, **made_by}, plugins=champion.bundle.manifest["plugins"])
    write_text(folder.resolved, champion.run.resolved.with_decisions({"data": (recipe.to_value()["data"], _REASON)}).to_yaml())
    write_json(
        folder.data, {"schema": champion.preparation.schema.to_json(), "rows": {name: {"rows": len(one)} for name, one in data.items()}}
    )
    outcome = {"metrics": metrics, "training_s": time.perf_counter() - began, "steps": passes, "stopped_reason": f"best of {passes} passes"}
    write_json(folder.metrics, {**outcome, "best": None, "samples_per_s": None, "seconds": time.perf_counter() - began, "warnings": []})


def _rows_of_forms(plan: Plan, folder: RunFolder) -> dict[str, pa.Table]:
    """Return the rows by which forms of a model that learned on are judged and calibrated: no stage of a run has kept any."""
    parts = _by_use(_rows_in(folder), plan.fresh)
    judging = next(parts[name] for name in ("validation", "test", "train") if parts[name].num_rows)
    return {"rows": judging.drop_columns([SPLIT]), "calibrate": parts["train"].drop_columns([SPLIT])}


def _rows_in(folder: RunFolder) -> pa.Table:
    with plain_disk_errors(folder.path), pa.memory_map(str(folder.path / ROWS_FOLDER / _ROWS_FILE)) as file:
        return pa.ipc.open_file(file).read_all()


def _passes(champion: Champion, parts: Mapping[str, PreparedDataset | None], *, seed: int) -> tuple[TaskModel, int]:
    """Return the model after the best pass, and how many there were."""
    fresh, old, validation = parts["train"], parts["old"], parts["validation"]
    assert fresh is not None, "there is no round without fresh rows"
    online = champion.then.online
    optimizer = {"type": "adamw", "learning_rate": online.learning_rate}
    model = TorchBackend(champion.bundle).model
    learner = OnlineLearner(model, optimizer=optimizer, seed=seed)
    best, weights = None, model.state_dict()
    for number in range(online.passes):
        for batch in _beside(fresh, old, seed=seed, epoch=number, resample=model.task.resample):
            learner.learn(batch)
        model.eval()
        loss = measure(model, validation, RankContext())["loss"] if validation is not None else float(-number)
        if best is None or loss < best:
            best, weights = loss, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)
    return model.eval(), online.passes


def _beside(fresh: PreparedDataset, old: PreparedDataset | None, *, seed: int, epoch: int, resample: Resample | None) -> Iterator[Batch]:
    """Yield each batch of fresh rows, and after it one of old rows: what was learned before is rehearsed."""
    rehearsed = iter(()) if old is None else _forever(old, seed, resample)
    for batch in Loader(fresh, batch_size=_BATCH, seed=seed, resample=resample).batches(epoch):
        yield batch
        if old is not None:
            yield next(rehearsed)


def _forever(data: PreparedDataset, seed: int, resample: Resample | None) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from Loader(data, batch_size=_BATCH, seed=seed, resample=resample).batches(epoch)
        epoch += 1


def _by_use(table: pa.Table, fresh: pa.Table) -> dict[str, pa.Table]:
    """Return old rows, and fresh ones by what becomes of them."""
    old, rest = table.slice(0, table.num_rows - fresh.num_rows), table.slice(table.num_rows - fresh.num_rows)
    part = np.array(rest.column(SPLIT).to_pylist())
    return {"old": old, **{name: rest.filter(pa.array(part == name)) for name in ("train", "validation", "test")}}


def _prepared(champion: Champion, table: pa.Table, folder: RunFolder, name: str) -> PreparedDataset | None:
    if not table.num_rows:
        return None
    target = folder.path / "prepared" / name
    batches = iter(table.combine_chunks().to_batches())
    made, aside = prepare(champion.preparation, batches, target, rows=table.num_rows, training=False, unseen="set_aside")
    for reason, count in aside.items():
        progress.warn(f"{count} {name} rows were set aside: {reason}")
    return made


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as an Arrow file.

    Raises:
        RunError: It cannot be written.
    """
    with plain_disk_errors(path), pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _measured(decisions: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured for the champion (precision, memory layout) holds for its like."""
    found = decisions.get("measured")
    return {"measured": {key: found[key] for key in ("precision", "channels_last") if key in found}} if found else {}
