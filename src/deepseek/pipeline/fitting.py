"""From prepared rows to a bundle: build the model, train it on one or several devices, measure it, and write it down."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deepseek import progress
from deepseek.artifacts import RunFolder, read_json, write_json
from deepseek.data.augment import Known, build_augmentations
from deepseek.data.loader import Loader, rows_within
from deepseek.data.preparation import Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.data.sources.base import DEFINITIONS
from deepseek.data.windows.opening import open_prepared, preparation_of
from deepseek.distributed import RankContext
from deepseek.inference import build_model
from deepseek.inference.reading import FEATURES_FILE
from deepseek.inference.saving import documents_of, write_model
from deepseek.inference.whole_measuring import WindowedModel, with_wholes
from deepseek.monitoring.reference import REFERENCE_FILE
from deepseek.pipeline.crosses import said, shared_weights
from deepseek.pipeline.keras_training import train_on_tensorflow, trains_elsewhere
from deepseek.pipeline.reference import reference_of
from deepseek.registry import family, load_plugin
from deepseek.tasks.base import Task
from deepseek.tasks.model import TaskModel
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback
from deepseek.training.checkpoints.files import list_checkpoints
from deepseek.training.evaluation import evaluate_exactly
from deepseek.training.state import kept_generators, seed_generators

EVALUATION_ROWS = 4096
MEASURED_FOR_SPEED = ("precision", "channels_last")
"""What is measured because it is faster, and is the same for all trainings of one job, so that they can be compared."""
_MEASURED = ("batch_size", *MEASURED_FOR_SPEED, "compile")


@dataclass(frozen=True)
class Job:
    """Everything that a rank has to know, in a form that can be sent to another process.

    Attributes:
        dataset: The folder of the prepared stage.
        run: The run's folder.
        model: The model's spec.
        task: The task's spec.
        settings: How to train.
        augment: The specs of the augmentations.
        callbacks: The specs of the callbacks, after those that every run has.
        plugins: What to import first.
        plugin_folder: What the plugins' paths are relative to.
        decided: What an earlier try at this run measured and decided; taken over on a resume.
        quiet: Whether to show no progress.
        data_id: What the prepared rows are, so that no checkpoint is taken up that was trained on others.
        measured: The splits that the finished model is measured on; a search leaves out `test`, which must have no say in what is chosen.
        inputs: Sketches of the raw training rows, for the bundle's reference.
    """

    dataset: Path
    run: Path
    model: dict[str, Any]
    task: dict[str, Any]
    settings: TrainSettings
    augment: tuple[dict[str, Any], ...] = ()
    callbacks: tuple[dict[str, Any], ...] = ()
    plugins: tuple[str, ...] = ()
    plugin_folder: Path = Path()
    decided: Mapping[str, Any] | None = None
    quiet: bool = False
    data_id: str | None = None
    measured: tuple[str, ...] = ("validation", "test")
    inputs: Mapping[str, Any] = field(default_factory=dict)


class DecisionFile(Callback):
    """Writes what was measured and decided to the run's `decisions.json`, before the first step.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    def on_fit_start(self, trainer: Trainer) -> None:
        """Write the file."""
        if trainer.is_main:
            keep_decision(self._run, "measured", trainer.state.decisions)


def keep_decision(run: RunFolder, name: str, value: Any) -> None:
    """Write something that was measured or decided to a run's `decisions.json`, beside what stands there."""
    known = read_json(run.decisions) if run.decisions.is_file() else {}
    write_json(run.decisions, {**known, name: value})


class FinalMeasurement(Callback):
    """Measures the finished model and leaves the metrics with the trainer, for the callbacks after it; on every rank.

    Args:
        data: The rows of each split that there is.
        splits: Which of them to measure on.
    """

    def __init__(self, data: Mapping[str, PreparedDataset], splits: Sequence[str]) -> None:
        self._data, self._splits = data, splits
        self.seconds = 0.0

    def on_fit_end(self, trainer: Trainer) -> None:
        """Measure."""
        started = time.perf_counter()
        for name in self._splits:
            rows = self._data.get(name)
            trainer.final_metrics[name] = None if rows is None else measure(trainer.model, rows, trainer.ranks)
        self.seconds = time.perf_counter() - started


def fit(ranks: RankContext, job: Job) -> dict[str, Any]:
    """Train, measure and write the bundle: what each rank does. PyTorch's generators are then as they were before.

    Args:
        ranks: This process's place.
        job: What is to be done.

    Returns:
        On rank 0 `metrics` by split, `seconds` of training, `stopped_reason`, `samples_per_s` and `data_wait_share`.
    """
    with kept_generators(ranks.device):
        seed_generators(job.settings.seed, ranks.device)
        return _fit(ranks, job)


def _fit(ranks: RankContext, job: Job) -> dict[str, Any]:
    progress.quiet(job.quiet)  # a rank is a process of its own
    for plugin in job.plugins:
        load_plugin(plugin, job.plugin_folder)
    preparation = preparation_of(read_json(job.dataset / "preparation.json"))
    model = build_model(preparation, job.model, job.task)
    task: Task = model.task
    run = RunFolder(job.run)
    data = {name: open_prepared(job.dataset / name) for name in ("train", "validation", "test") if (job.dataset / name).is_dir()}
    if ranks.is_main and (crosses := shared_weights(model, data["train"])):
        keep_decision(run, "crosses", crosses)
        for cross in crosses:
            progress.log(said(cross))
    measurement = FinalMeasurement(data, job.measured)
    if trains_elsewhere(job.model):
        return _fitted_elsewhere(ranks, job, model, preparation, data)
    trainer = Trainer(
        model,
        task,
        data["train"],
        data.get("validation"),
        settings=_settings(job),
        callbacks=[DecisionFile(run), measurement, *_callbacks(job)],
        augment=build_augmentations(job.augment, preparation.placed, known_of(preparation, data["train"])),
        folder=job.run,
        ranks=ranks,
        data_id=job.data_id,
    )
    fitted = trainer.fit(resume=bool(list_checkpoints(run.checkpoints)))
    outcome = {
        "metrics": trainer.final_metrics,
        "training_s": fitted.seconds,
        "evaluation_s": measurement.seconds,
        "steps": trainer.state.step,
        "best": asdict(fitted.best) if fitted.best else None,
        "stopped_reason": fitted.stopped_reason,
        "samples_per_s": fitted.samples_per_s,
        "data_wait_share": fitted.data_wait_share,
    }
    if ranks.is_main:
        _write(run, model, preparation, job, outcome, data)
    return outcome


def _fitted_elsewhere(
    ranks: RankContext, job: Job, model: TaskModel, preparation: Preparation, data: Mapping[str, PreparedDataset]
) -> dict[str, Any]:
    """Let Keras train on TensorFlow; measuring and the bundle are those of every network."""
    outcome = train_on_tensorflow(
        model,
        spec=job.model,
        task=job.task,
        dataset=job.dataset,
        settings=job.settings,
        augment=job.augment,
        callbacks=job.callbacks,
        plugins=job.plugins,
        plugin_folder=job.plugin_folder,
    )
    run = RunFolder(job.run)
    measured = {"batch_size": job.settings.batch_size, "precision": "fp32", "channels_last": False, "compile": "off"}
    write_json(run.decisions, {**(read_json(run.decisions) if run.decisions.is_file() else {}), "measured": measured})
    started = time.perf_counter()
    metrics = {name: measure(model, data[name], ranks) if name in data else None for name in job.measured}
    outcome |= {"metrics": metrics, "evaluation_s": time.perf_counter() - started}
    _write(run, model, preparation, job, outcome, data)
    return outcome


def measure(model: TaskModel, dataset: PreparedDataset, ranks: RankContext) -> dict[str, float]:
    """Return a model's metrics on all rows of a dataset, in float32, exact on any number of ranks.

    Pictures that a segmentation's network is too small for are measured whole, window by window, as they are answered. The area under the
    ROC curve is computed from every score on a single rank, and from bins on several.
    """
    dataset = model.task.measured_rows(dataset)
    size = rows_within(dataset, EVALUATION_ROWS) * ranks.ranks
    loader = Loader(dataset, batch_size=size, rank=ranks.rank, ranks=ranks.ranks, shuffle=False, group_lengths=True)
    wholes = dataset.wholes
    if wholes is None:
        return evaluate_exactly(model, model.task, loader.batches(0), context=ranks)
    batches = with_wholes(loader.batches(0), dataset, wholes, rank=ranks.rank, ranks=ranks.ranks)
    return evaluate_exactly(WindowedModel(model, name=wholes.name, space=wholes.space), model.task, batches, context=ranks)


def known_of(preparation: Preparation, train: PreparedDataset) -> Known:
    """Return what augmentations may learn from: the target, the training rows, and how they were made."""
    transforms = {spec.name: transform for transform in preparation.transforms for spec in transform.inputs}
    return Known(None if preparation.target is None else preparation.target.spec, train, transforms)


def _settings(job: Job) -> TrainSettings:
    if not job.decided:
        return job.settings
    return replace(job.settings, **{name: job.decided[name] for name in _MEASURED if name in job.decided})


def _callbacks(job: Job) -> list[Callback]:
    specs: list[dict[str, Any]] = [{"type": "json_lines"}]
    if not job.quiet:
        specs.append({"type": "progress"})
    return [family("callback").build(spec) for spec in (*specs, *job.callbacks)]


def _write(
    run: RunFolder,
    model: TaskModel,
    preparation: Preparation,
    job: Job,
    outcome: Mapping[str, Any],
    data: Mapping[str, PreparedDataset],
) -> None:
    documents = documents_of(preparation, model=job.model, task=job.task, metrics=outcome["metrics"], trained=model)
    reference = reference_of(model, preparation, job.inputs, data=data, measured=job.measured)
    features = read_json(run.data).get("sources", {}).get("source", {}).get(DEFINITIONS)
    made_by = {} if features is None else {FEATURES_FILE: features}
    shutil.rmtree(run.bundle, ignore_errors=True)  # of a run that was killed right here
    write_model(run.bundle, model, {**documents, REFERENCE_FILE: reference, **made_by}, plugins=_plugin_versions(job))


def _plugin_versions(job: Job) -> dict[str, str]:
    found = {}
    for plugin in job.plugins:
        try:
            found[plugin] = version(plugin.partition(".")[0])
        except PackageNotFoundError:
            found[plugin] = "file" if plugin.endswith(".py") else "unknown"
    return found
