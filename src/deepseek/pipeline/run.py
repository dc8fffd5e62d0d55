"""The road: a recipe goes from its data to a bundle, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from os import PathLike, cpu_count, fspath
from pathlib import Path
from typing import Any

from deepseek import progress
from deepseek.artifacts import CACHE, RunFolder, StageCache, read_json, sha256_json, write_json, write_text
from deepseek.data.splits import NAMES
from deepseek.distributed.devices import count_devices, pick_device
from deepseek.distributed.ray_cluster import require_ray
from deepseek.distributed.strategies.horovod import horovod
from deepseek.distributed.team import Team, team_of_environment
from deepseek.errors import BundleError, InputError
from deepseek.models.adapters import AdapterSettings
from deepseek.pipeline.choosing.choices import choose, probability_note
from deepseek.pipeline.delivery import deliver
from deepseek.pipeline.export import require_compression, require_exporters
from deepseek.pipeline.fitting import Job, fit
from deepseek.pipeline.preparing.dataset import Dataset, copy_rejects, make_dataset
from deepseek.pipeline.ranks import END, FAIL, STARTED_BY, begun_by_this_job, collective_s, fit_everywhere, mark, named
from deepseek.pipeline.recipes import open_recipe
from deepseek.pipeline.reference import input_sketches
from deepseek.pipeline.result import RunResult
from deepseek.pipeline.resuming import move, moved, require_same_recipe
from deepseek.pipeline.self_training import ROUNDS, self_train
from deepseek.recipe import AUTO, Choices, EarlyStoppingSection, FineTuneSection, Recipe, load_recipe
from deepseek.recipe.load import keep_recipe
from deepseek.registry import split_spec
from deepseek.training import TrainSettings
from deepseek.training.checkpoints.files import list_checkpoints, step_of
from deepseek.training.fine_tuning import FineTune

MEASURED = ("validation", "test")
"""The splits that a finished model is measured on."""
LEAST_PROCESSES = 8
"""Without accelerators a run may have this many processes on any machine, however few cores it has: for trying things out."""
_SAME = (
    *("epochs", "max_steps", "batch_size", "accumulate", "learning_rate", "optimizer", "schedule", "precision", "channels_last", "compile"),
    *("clip_norm", "clip_value", "clip", "layer_rates", "ema", "l1", "l2", "max_norm", "deterministic", "device", "on_nonfinite"),
    *("strategy", "communication", "shares", "activation_checkpointing", "cuda_graphs", "loss_spikes", "peak_tflops"),
)
"""The keys of a recipe's `train` that the trainer's settings have under the same name."""


def run(
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    out: str | PathLike[str] = "runs",
) -> RunResult:
    """Follow a recipe from its data to a bundle.

    Args:
        recipe: A recipe's file, its content as a mapping, or the folder of a run, whose recipe is then followed again.
        overrides: Each `PATH=VALUE`, for example `train.epochs=5`; later ones go before.
        resume: Go on with the newest run of this recipe (or with the run that was given) where it was interrupted, bit for bit as if it
            had not been. One that is finished is returned as it is.
        out: The folder that holds the runs.

    Raises:
        RecipeError: The recipe is wrong; nothing was started.
        DataError: The data cannot be used.
        RunError: The work failed: disk full, memory, a device.
    """
    began = time.perf_counter()
    if Path(out).exists() and not Path(out).is_dir():
        raise InputError(f"the folder for the runs, {fspath(out)!r}, is a file", hint="name another with --out")
    team = team_of_environment()
    if team is None:
        return _road(recipe, overrides=overrides, resume=resume, out=out, began=began)
    if not team.leads:
        return finished(obey(team))
    try:
        result = _road(recipe, overrides=overrides, resume=resume, out=out, began=began)
    except BaseException:
        with suppress(RuntimeError):  # whoever kept the store may be gone: what has failed is to be told, not that
            team.tell({"do": FAIL})
        raise
    team.tell({"do": END, "run": str(result.run.absolute())})
    return result


def _road(
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe,
    *,
    overrides: Sequence[str],
    resume: bool,
    out: str | PathLike[str],
    began: float,
) -> RunResult:
    """Go the road: the only process, or the first of several."""
    given, checked = open_recipe(recipe, overrides)
    if checked.tune is not None:
        hint = "search with: deepseek tune RECIPE; or train with the values as they stand: --set tune=null"
        raise InputError("the recipe has a section 'tune', which asks for many trainings", hint=hint)
    require_exporters(checked.export)
    if checked.compress is not None and checked.compress.int8 is not None:
        require_compression(checked.compress.int8)
    _require_devices(checked)
    _require_group(checked)
    begun = begun_by_this_job(Path(out) / checked.name)
    if resume or begun is not None:
        folder = begun or given or RunFolder.open(Path(out) / checked.name)
        require_same_recipe(folder, checked)
        if folder.metrics.is_file():
            progress.log(f"{folder.path} is finished already")
            deliver(checked, folder)
            return finished(folder)
        mark(folder)
        move(folder, checked)
        if checked.self_training is None and not list_checkpoints(folder.checkpoints):
            progress.log(f"{folder.path} has no checkpoint yet: it begins again")
        return _gone_on_with(folder, checked, out=Path(out), began=began)
    folder = RunFolder.create(Path(out), checked.name)
    with folder.gone_if_bare(STARTED_BY):
        mark(folder)
        keep_recipe(checked, folder.recipe)
        if given is not None and given.decisions.is_file() and not overrides:
            write_json(folder.decisions, {"measured": read_json(given.decisions).get("measured")})
        return _gone_on_with(folder, checked, out=Path(out), began=began)


def _gone_on_with(folder: RunFolder, checked: Recipe, *, out: Path, began: float) -> RunResult:
    """Bring a run to its end, from the data on."""
    progress.log(f"run {folder.path}")
    cache = StageCache(out / CACHE)
    dataset = make_dataset(checked, cache)
    for warning in (*dataset.warnings, *filter(None, [probability_note(checked.task)])):
        progress.warn(warning)
    if checked.self_training is None:
        result = follow(checked, dataset, folder, began=began)
    else:
        result = _in_rounds(checked, dataset, folder, began=began, cache=cache)
    deliver(checked, folder)
    return result


def _in_rounds(recipe: Recipe, dataset: Dataset, folder: RunFolder, *, began: float, cache: StageCache) -> RunResult:
    """Train in rounds, with rows that models have labelled, each round in a folder of its own."""
    identity = data_identity(dataset.folder)
    require_same_data(folder.path, identity, known=identity_of(folder))
    write_json(folder.data, {**dataset.document, "identity": identity})
    copy_rejects(dataset, folder.rejects)

    def train(recipe: Recipe, dataset: Dataset, folder: RunFolder) -> None:
        follow(recipe, dataset, folder, began=time.perf_counter(), measured=("validation",))

    self_train(recipe, dataset, folder, cache=cache, train=train, began=began)
    return finished(folder)


def follow(
    recipe: Recipe,
    dataset: Dataset,
    folder: RunFolder,
    *,
    began: float,
    measured: Sequence[str] = MEASURED,
    callbacks: Sequence[Mapping[str, Any]] = (),
) -> RunResult:
    """Train on prepared data, in a run's folder.

    Args:
        recipe: The checked recipe.
        dataset: What its `data` section came to.
        folder: The run's folder; one that was begun is gone on with.
        began: The time of `time.perf_counter` from which the run's seconds count.
        measured: The splits that the finished model is measured on.
        callbacks: Specs of further callbacks.

    Raises:
        RunError: The work failed.
    """
    identity = data_identity(dataset.folder)
    require_same_data(folder.path, identity, known=identity_of(folder))
    warnings = [*dataset.warnings, *filter(None, [probability_note(recipe.task)])]
    write_json(folder.data, {**dataset.document, "warnings": warnings, "identity": identity})
    copy_rejects(dataset, folder.rejects)
    resolved = _resolve(recipe, dataset, folder)
    outcome = _train(resolved, dataset, folder, measured=tuple(measured), callbacks=callbacks)
    write_json(folder.metrics, {**outcome, "seconds": time.perf_counter() - began, "warnings": warnings})
    return finished(folder)


def resolve(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Choices]:
    """Return the recipe with everything decided that needs no measurement, and each choice with its reason."""
    preparation = dataset.preparation()
    if preparation.target is None:
        raise InputError("there is nothing to predict", hint="name the column under data.target")
    rows = dataset.document["rows"]
    decided = recipe.with_decisions(dataset.reasons)
    choices = choose(
        decided,
        preparation.inputs,
        preparation.target.spec,
        rows=rows["train"]["rows"],
        columns=len(preparation.columns),
        validated="validation" in rows,
    )
    return decided.with_decisions(choices), {**dataset.reasons, **choices}


def choices_json(choices: Choices) -> dict[str, dict[str, Any]]:
    """Return what was chosen, and why, as plain JSON values by the key's path."""
    return {
        path if isinstance(path, str) else ".".join(map(str, path)): {"value": value, "reason": reason}
        for path, (value, reason) in choices.items()
    }


def settings_of(recipe: Recipe) -> TrainSettings:
    """Return the trainer's settings for a resolved recipe."""
    train = recipe.train
    same = {name: getattr(train, name) for name in _SAME}
    stopping = EarlyStoppingSection() if train.early_stopping is True else train.early_stopping
    patience = {"patience": stopping.patience, "min_delta": stopping.min_delta} if isinstance(stopping, EarlyStoppingSection) else {}
    return TrainSettings(
        **same,
        early_stopping=None if stopping is False else patience,
        monitor=None if train.monitor == AUTO else train.monitor,
        validate_every=train.validate_every_steps or train.validate_every_epochs or 1,
        validate_unit="epochs" if train.validate_every_steps is None else "steps",
        checkpoint_every_s=train.checkpoint.every_s,
        keep=train.checkpoint.keep,
        time_limit_s=train.time_limit,
        stall_s=train.stall,
        devices=_devices(train.devices),
        seed=recipe.seed if train.seed is None else train.seed,
        fine_tune=_fine_tune(recipe.fine_tune),
    )


def _fine_tune(section: FineTuneSection | None) -> FineTune | None:
    """Return the trainer's form of a recipe's section `fine_tune`."""
    if section is None:
        return None
    given = section.adapters_section
    adapters = None if given is None else AdapterSettings(**given.model_dump(exclude={"keep", "layers"}), layers=tuple(given.layers))
    return FineTune(
        freeze=section.freeze if isinstance(section.freeze, str) else section.freeze.all_but_last,
        unfreeze_every=section.unfreeze_every,
        layer_decay=section.layer_decay,
        head_rate=section.head_rate,
        adapters=adapters,
        keep_adapters=given is not None and given.keep,
    )


def data_identity(folder: Path) -> str:
    """Return a hash of a prepared stage: of every row of every split, and of everything fitted."""
    splits = {name: read_json(path)["files"] for name in NAMES if (path := folder / name / "manifest.json").is_file()}
    return sha256_json({"splits": splits, "preparation": read_json(folder / "preparation.json")})


def require_same_data(folder: Path, identity: str, *, known: str | None) -> None:
    """Refuse to go on with what was begun on other rows.

    Args:
        folder: What was begun.
        identity: The prepared rows now, by `data_identity`.
        known: What they were; nothing where that is not known.

    Raises:
        InputError: They are others.
    """
    if known is not None and known != identity:
        raise InputError(f"the data changed since {folder} began", hint="resume with the data as they were, or begin anew without resume")


def identity_of(folder: RunFolder) -> str | None:
    """Return which prepared rows a run was begun on, by `data_identity`; nothing where it has noted none."""
    return read_json(folder.data).get("identity") if folder.data.is_file() else None


def _resolve(recipe: Recipe, dataset: Dataset, folder: RunFolder) -> Recipe:
    if folder.resolved.is_file():
        return moved(folder, recipe)
    resolved, choices = resolve(recipe, dataset)
    chosen = choices_json(choices)
    known = read_json(folder.decisions) if folder.decisions.is_file() else {}
    write_json(folder.decisions, {"chosen": chosen, **known})
    write_text(folder.resolved, resolved.to_yaml())
    for part in ("task", "model"):
        reason = chosen[part]["reason"] if part in chosen else "as the recipe says"
        progress.log(f"{part}: {getattr(resolved, part)['type']} ({reason})")
    return resolved


def _train(
    recipe: Recipe, dataset: Dataset, folder: RunFolder, *, measured: tuple[str, ...], callbacks: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    try:
        settings = settings_of(recipe)
        job = job_of(recipe, dataset.folder, folder, settings=settings, measured=measured, callbacks=callbacks)
        job = replace(job, inputs=input_sketches(dataset, seed=settings.seed))
        outcome = fit_everywhere(job, home=recipe.folder, callbacks=callbacks, cluster=recipe.cluster)
    except (KeyboardInterrupt, SystemExit):
        progress.log(_left_at(folder))
        raise
    if not folder.bundle.is_dir():
        raise BundleError(f"{folder.bundle} was not written")
    return outcome


def _left_at(folder: RunFolder) -> str:
    """Return what an interruption has left, by what is on the disk: a second Ctrl-C, or one before the first step, saves nothing."""
    home = folder.path.parents[1] if folder.path.parent.name == ROUNDS else folder.path
    saved = list_checkpoints(folder.checkpoints)
    how = (
        f"interrupted, and saved up to step {step_of(saved[-1])}; go on"
        if saved
        else "interrupted before the first checkpoint; begin again"
    )
    return f"{how} with: deepseek run {home} --resume"


def job_of(
    recipe: Recipe,
    dataset: Path,
    folder: RunFolder,
    *,
    settings: TrainSettings,
    measured: Sequence[str],
    callbacks: Sequence[Mapping[str, Any]],
) -> Job:
    """Return what a rank has to know to train a resolved recipe.

    Args:
        recipe: The resolved recipe.
        dataset: The folder of the prepared rows.
        folder: The run's.
        settings: How to train.
        measured: The splits that the finished model is measured on.
        callbacks: Specs of further callbacks.
    """
    trackers = tuple({"type": name} for name in recipe.train.trackers)
    return Job(
        dataset=dataset.absolute(),
        run=folder.path.absolute(),
        model=dict(_decided(recipe.model)),
        task=dict(_decided(recipe.task)),
        settings=settings,
        augment=tuple(_decided(recipe.data.augment) or ()),
        callbacks=(*trackers, *recipe.train.callbacks, *map(dict, callbacks)),
        plugins=tuple(recipe.plugins),
        plugin_folder=recipe.folder.absolute(),
        decided=read_json(folder.decisions).get("measured"),
        quiet=progress.is_quiet(),
        data_id=read_json(folder.data)["identity"],
        measured=tuple(measured),
    )


def obey(team: Team) -> RunFolder:
    """Do what rank 0 tells, until it has come to the end of the road; return the run's folder.

    Raises:
        SystemExit: Rank 0 has failed, and has said why.
    """
    while True:
        message = team.listen()
        if message["do"] == FAIL:
            raise SystemExit(1)
        if message["do"] == END:
            return RunFolder(Path(message["run"]))
        folder = RunFolder(Path(message["run"]))
        recipe = load_recipe(folder.resolved, folder=Path(message["home"]))
        settings = settings_of(recipe)
        job = job_of(
            recipe, Path(message["dataset"]), folder, settings=settings, measured=message["measured"], callbacks=message["callbacks"]
        )
        with named(team.rank):
            fit(team.join(settings.device, timeout_s=collective_s(settings)), job)


def finished(folder: RunFolder) -> RunResult:
    """Return what a finished run came to."""
    outcome = read_json(folder.metrics)
    return RunResult(folder.path, folder.bundle, outcome["metrics"], outcome["seconds"], tuple(outcome["warnings"]))


def _decided(value: Any) -> Any:
    assert value != AUTO, "a resolved recipe has no auto here"
    return value


def _devices(devices: Any) -> int:
    """Return how many devices there are to be: this machine's, or the processes that torchrun has started, on whatever machines.

    Raises:
        InputError: There are not so many.
    """
    if (team := team_of_environment()) is not None:
        if devices not in (AUTO, 1, team.ranks):
            hint = "leave train.devices out, or take auto: under torchrun its processes are the devices"
            raise InputError(f"train.devices is {devices}, and torchrun has started {team.ranks} processes", hint=hint)
        return team.ranks
    there = count_devices()
    if devices == AUTO:
        return max(there, 1)
    most = there or max(cpu_count() or 1, LEAST_PROCESSES)
    if devices > most:
        what = f"{there} accelerators" if there else f"no accelerator, and {cpu_count()} cores"
        raise InputError(f"train.devices is {devices}; this machine has {what}", hint=f"allowed: 1 to {most}, or auto")
    return int(devices)


def _require_devices(recipe: Recipe) -> None:
    """Refuse devices that this machine does not have, before the data are read for them; of a cluster's nothing is known here.

    Raises:
        InputError: There is no such device, or there are not so many; or Horovod is asked for and not installed.
        MissingExtraError: The recipe asks for a cluster, and what starts one is not installed.
    """
    if recipe.cluster is not None:
        require_ray()
        return
    _devices(recipe.train.devices)
    if recipe.train.strategy != AUTO and split_spec("strategy", recipe.train.strategy)[0] == "horovod":
        horovod()
    if recipe.train.device not in (AUTO, "cpu", "tpu", "xla"):  # a TPU is taken by the process that asks for it
        pick_device(recipe.train.device)


def _require_group(recipe: Recipe) -> None:
    """Refuse groups of ranks whose size nobody knows: processes that are started here are on one machine, and only torchrun says more.

    Raises:
        InputError: It is to be given.
    """
    spec = recipe.train.communication
    if spec == AUTO or spec["type"] != "hierarchical" or spec["group"] is not None:
        return
    if recipe.cluster is not None or team_of_environment() is not None or (devices := _devices(recipe.train.devices)) == 1:
        return
    sizes = [str(size) for size in range(2, devices) if not devices % size]
    hint = f"allowed for {devices} devices: {', '.join(sizes)}" if sizes else f"{devices} devices cannot be grouped; take all_reduce"
    raise InputError("train.communication.group is missing, and only torchrun says how many processes a machine has", hint=hint)
