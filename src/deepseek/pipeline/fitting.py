"""From prepared rows to a bundle: build the model, train it on one or several devices, measure it, and write it down."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from deepseek import __version__, progress
from deepseek.artifacts import RunFolder, read_json, write_bundle, write_json
from deepseek.data.batch import Batch
from deepseek.data.loader import Loader
from deepseek.data.preparation import Preparation
from deepseek.data.prepared import PreparedDataset
from deepseek.distributed import RankContext
from deepseek.inference import build_model
from deepseek.models.network import without_pretrained
from deepseek.registry import family, load_plugin
from deepseek.tasks.base import TARGET, Task
from deepseek.tasks.metrics import exact_auc
from deepseek.tasks.model import TaskModel
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback
from deepseek.training.checkpoint import list_checkpoints
from deepseek.training.evaluation import evaluate

EVALUATION_ROWS = 4096
_MEASURED = ("batch_size", "precision", "channels_last", "compile")


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
            known = read_json(self._run.decisions) if self._run.decisions.is_file() else {}
            write_json(self._run.decisions, {**known, "measured": trainer.state.decisions})


def fit(ranks: RankContext, job: Job) -> dict[str, Any]:
    """Train, measure and write the bundle: what each rank does.

    Args:
        ranks: This process's place.
        job: What is to be done.

    Returns:
        On rank 0 `metrics` by split, `seconds` of training, `stopped_reason`, `samples_per_s` and `data_wait_share`.
    """
    progress.quiet(job.quiet)  # a rank is a process of its own
    for plugin in job.plugins:
        load_plugin(plugin, job.plugin_folder)
    preparation = Preparation.from_json(read_json(job.dataset / "preparation.json"))
    torch.manual_seed(job.settings.seed)
    model = build_model(preparation, job.model, job.task)
    task: Task = model.task
    run = RunFolder(job.run)
    data = {name: PreparedDataset.open(job.dataset / name) for name in ("train", "validation", "test") if (job.dataset / name).is_dir()}
    trainer = Trainer(
        model,
        task,
        data["train"],
        data.get("validation"),
        settings=_settings(job),
        callbacks=[DecisionFile(run), *_callbacks(job)],
        augment=[family("augmentation").build(spec, preparation.inputs) for spec in job.augment],
        folder=job.run,
        ranks=ranks,
        data_id=job.data_id,
    )
    fitted = trainer.fit(resume=bool(list_checkpoints(run.checkpoints)))
    started = time.perf_counter()
    metrics = {name: measure(model, task, data[name], ranks) if name in data else None for name in ("validation", "test")}
    outcome = {
        "metrics": metrics,
        "training_s": fitted.seconds,
        "evaluation_s": time.perf_counter() - started,
        "steps": trainer.state.step,
        "best": asdict(fitted.best) if fitted.best else None,
        "stopped_reason": fitted.stopped_reason,
        "samples_per_s": fitted.samples_per_s,
        "data_wait_share": fitted.data_wait_share,
    }
    if ranks.is_main:
        _write(run, model, preparation, job, outcome)
    return outcome


def measure(model: TaskModel, task: Task, dataset: PreparedDataset, ranks: RankContext) -> dict[str, float]:
    """Return a model's metrics on all rows of a dataset, in float32, exact on any number of ranks.

    For two classes the area under the curve is computed from every score on a single rank, and from 16,384 bins on several.
    """
    loader = Loader(dataset, batch_size=EVALUATION_ROWS * ranks.ranks, rank=ranks.rank, ranks=ranks.ranks, shuffle=False)
    scores = Scores() if task.kind == "binary" and ranks.is_single else None
    metrics = evaluate(model, task, loader.batches(0), context=ranks, spill=scores)
    if scores is not None and "auc" in metrics and math.isfinite(metrics["auc"]):
        metrics["auc"] = scores.auc()
    return metrics


class Scores:
    """Keeps the positive class's scores of an evaluation: nine bytes a row."""

    def __init__(self) -> None:
        self._scores: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []

    def write(self, decoded: Mapping[str, Tensor], batch: Batch) -> None:
        """Take the answers for a batch."""
        self._scores.append(decoded["probability"][:, 1].cpu().numpy().copy())
        self._labels.append(batch.targets[TARGET].numpy() > 0.5)
        if batch.weight is not None:
            self._weights.append(batch.weight.numpy().copy())

    def auc(self) -> float:
        """Return the exact area under the ROC curve."""
        weight = np.concatenate(self._weights) if self._weights else None
        return exact_auc(np.concatenate(self._scores), np.concatenate(self._labels), weight)


def _settings(job: Job) -> TrainSettings:
    if not job.decided:
        return job.settings
    return replace(job.settings, **{name: job.decided[name] for name in _MEASURED if name in job.decided})


def _callbacks(job: Job) -> list[Callback]:
    specs: list[dict[str, Any]] = [{"type": "json_lines"}]
    if not job.quiet:
        specs.append({"type": "progress"})
    return [family("callback").build(spec) for spec in (*specs, *job.callbacks)]


def _write(run: RunFolder, model: TaskModel, preparation: Preparation, job: Job, outcome: Mapping[str, Any]) -> None:
    documents = {
        "schema.json": preparation.schema.to_json(),
        "data.json": preparation.to_json(),
        "model.json": without_pretrained(job.model),
        "task.json": job.task,
        "metrics.json": outcome["metrics"],
        "environment.json": environment(),
    }
    with write_bundle(run.bundle, documents, plugins=_plugin_versions(job)) as folder:
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, folder / "weights.safetensors")


def environment() -> dict[str, str]:
    """Return the versions of what a run was made with."""
    names = ("torch", "numpy", "pyarrow", "polars", "pydantic", "safetensors")
    return {"deepseek": __version__, "python": platform.python_version(), "platform": platform.platform(), **{n: version(n) for n in names}}


def _plugin_versions(job: Job) -> dict[str, str]:
    found = {}
    for plugin in job.plugins:
        try:
            found[plugin] = version(plugin.partition(".")[0])
        except PackageNotFoundError:
            found[plugin] = "file" if plugin.endswith(".py") else "unknown"
    return found
