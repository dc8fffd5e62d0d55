"""Networks that Keras itself trains on TensorFlow, in a process of its own, and that go on here as every other.

A Keras model has the same layers and the same numbers on every backend. So TensorFlow trains the numbers, with Keras' own loop; they are
put into the same network on PyTorch, which must answer the same rows alike; and from there measuring, saving, exporting and serving are
those of all networks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepseek import progress
from deepseek.artifacts import read_json, write_json
from deepseek.data.loader import Loader
from deepseek.data.prepared import PreparedDataset
from deepseek.data.windows.opening import open_prepared, preparation_of
from deepseek.errors import InputError, TrainingError
from deepseek.models.keras.encoder import KerasEncoder
from deepseek.models.keras.making import as_keras_rows, make_features
from deepseek.models.network import FeatureNetwork, Network
from deepseek.models.trunks.identity import IdentityTrunk
from deepseek.registry import family, load_plugin, split_spec
from deepseek.tasks.model import TaskModel
from deepseek.training import TrainSettings

TENSORFLOW = "tensorflow"
NEAR = 1e-3
"""How far the answers of both backends to the same rows may lie apart, of the largest."""
COMPARED_ROWS = 64
_ORDER, _NUMBERS, _OUTCOME = "order.json", "numbers.safetensors", "outcome.json"
_LOSSES = {"binary": "BinaryCrossentropy", "multiclass": "SparseCategoricalCrossentropy", "regression": "MeanSquaredError"}
_USUAL = {"binary": "binary_cross_entropy", "multiclass": "cross_entropy", "regression": "mse"}
_LOSS_ALIKE = ("loss", "log_loss", "rmse", "scaled_mse")
"""Metrics that are least where the usual losses are."""
_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
_PROGRAM = "import sys; from deepseek.pipeline.keras_training import main; main(sys.argv[1])"


def trains_elsewhere(model: Mapping[str, Any]) -> bool:
    """Whether a model's spec says that Keras trains it on TensorFlow."""
    return model.get("type") == "keras" and model.get("backend") == TENSORFLOW


def train_on_tensorflow(  # noqa: PLR0913 (what is trained, on what, how)
    model: TaskModel,
    *,
    spec: Mapping[str, Any],
    task: Mapping[str, Any],
    dataset: Path,
    settings: TrainSettings,
    augment: Sequence[Any],
    callbacks: Sequence[Any],
    plugins: Sequence[str],
    plugin_folder: Path,
) -> dict[str, Any]:
    """Let Keras train a network's numbers on TensorFlow, and put them into the network.

    Args:
        model: The network with its decision layer; changed in place.
        spec: The model's spec.
        task: The task's spec.
        dataset: The folder of the prepared stage.
        settings: How to train.
        augment: The specs of the augmentations; there must be none.
        callbacks: The specs of the recipe's callbacks and trackers; there must be none.
        plugins: What to import first.
        plugin_folder: What the plugins' paths are relative to.

    Returns:
        `training_s`, `steps`, `best`, `stopped_reason`, `samples_per_s` and `data_wait_share`.

    Raises:
        InputError: Something is asked for that Keras' own loop does not do, or TensorFlow is not installed.
        TrainingError: Training failed, or both backends answer otherwise.
    """
    encoder = _only_encoder(model)
    _check(task, settings, augment=augment, callbacks=callbacks)
    order = {
        "dataset": str(dataset),
        "model": {key: spec.get(key) for key in ("builder", "arguments", "config", "begins_with")},
        "task": task["type"],
        "outputs": model.task.outputs,
        "optimizer": _optimizer(settings),
        "schedule": settings.schedule,
        "settings": {key: getattr(settings, key) for key in ("epochs", "max_steps", "batch_size", "clip_norm", "seed", "time_limit_s")},
        "patience": (settings.early_stopping or {}).get("patience"),
        "plugins": list(plugins),
        "plugin_folder": str(plugin_folder),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / _ORDER, order)
        _run(folder)
        from safetensors.numpy import load_file

        numbers = load_file(folder / _NUMBERS)
        outcome: dict[str, Any] = read_json(folder / _OUTCOME)
    _take_up(model, encoder, numbers)
    _compare(model, dataset, numbers["answers"])
    return outcome


def _only_encoder(model: TaskModel) -> KerasEncoder:
    network = model.network
    encoders = list(network.encoders.values()) if isinstance(network, Network) else []
    if not (len(encoders) == 1 and isinstance(encoders[0], KerasEncoder) and isinstance(model.head, nn.Linear)):
        raise InputError(
            "TensorFlow trains a Keras model alone, and the network has other parts", hint="leave other columns out: data.drop"
        )
    if not isinstance(network.trunk, IdentityTrunk):
        raise InputError("TensorFlow trains a Keras model alone, and a trunk stands behind it", hint="model.trunk: identity")
    return encoders[0]


def _check(task: Mapping[str, Any], settings: TrainSettings, *, augment: Sequence[Any], callbacks: Sequence[Any]) -> None:
    """See that nothing is asked for that would be passed over in silence."""
    name = str(task["type"])
    if name not in _LOSSES:
        raise InputError(f"TensorFlow trains {', '.join(_LOSSES)} here, and the task is {name}", hint="model.backend: torch")
    loss = task.get("loss") or _USUAL[name]
    kind = loss if isinstance(loss, str) else loss["type"]
    smoothed = not isinstance(loss, str) and any(value for key, value in loss.items() if key != "type")
    evened = [key for key in ("class_weights", "resample", "logit_adjustment") if task.get(key)]
    unknown = {
        f"task.loss: {loss}": kind != _USUAL[name] or smoothed,
        f"task.{', '.join(evened)}": bool(evened),
        "data.augment": bool(augment),
        "train.callbacks and train.trackers": bool(callbacks),
        "train.schedule: plateau": split_spec("schedule", settings.schedule)[0] == "plateau",
        "fine_tune": settings.fine_tune is not None,
        "train.l1, l2 or max_norm": bool(settings.l1 or settings.l2 or settings.max_norm),
        "train.clip_value": bool(settings.clip_value),
        "train.clip": settings.clip is not None,
        "train.layer_rates": settings.layer_rates is not None,
        f"train.activation_checkpointing: {settings.activation_checkpointing}": settings.activation_checkpointing not in ("off", "auto"),
        f"train.compile: {settings.compile}": settings.compile != "off",
        "train.cuda_graphs": settings.cuda_graphs,
        f"train.accumulate: {settings.accumulate}": settings.accumulate > 1,
        "train.on_nonfinite: skip": settings.on_nonfinite == "skip",
        "train.devices": settings.devices > 1,
        "train.strategy, communication or shares": not (
            settings.strategy == settings.communication == "auto" and settings.shares == "equal"
        ),
        f"train.precision: {settings.precision}": settings.precision in ("bf16", "fp16"),
        f"train.monitor: {settings.monitor}": settings.monitor not in (None, *_LOSS_ALIKE),
        f"train.validate_every_{settings.validate_unit}: {settings.validate_every}": (settings.validate_every, settings.validate_unit)
        != (1, "epochs"),
        f"train.early_stopping.min_delta: {(settings.early_stopping or {}).get('min_delta')}": bool(
            (settings.early_stopping or {}).get("min_delta")
        ),
    }
    if wrong := [what for what, given in unknown.items() if given]:
        raise InputError(f"Keras' own loop on TensorFlow does not do {'; '.join(wrong)}", hint="leave it out, or model.backend: torch")


def _optimizer(settings: TrainSettings) -> dict[str, Any]:
    spec = family("optimizer").validate(settings.optimizer)
    if settings.learning_rate is not None:
        spec["learning_rate"] = settings.learning_rate
    if spec["type"] not in _OPTIMIZERS:
        raise InputError(f"the optimizer is {spec['type']}", hint=f"TensorFlow is given one of {', '.join(_OPTIMIZERS)} here")
    return spec


def _run(folder: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": TENSORFLOW, "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
    progress.log("Keras trains on TensorFlow, in a process of its own, without a moving average of the weights")
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(folder)], env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return
    last = done.stderr.strip().splitlines()
    if "No module named 'tensorflow'" in done.stderr:
        raise InputError("the model is to be trained on TensorFlow, which is not installed", hint="pip install tensorflow")
    raise TrainingError(f"training on TensorFlow failed: {last[-1] if last else f'exit status {done.returncode}'}")


def _take_up(model: TaskModel, encoder: KerasEncoder, numbers: Mapping[str, np.ndarray]) -> None:
    """Put numbers into the network by their places; states of random generators stay what they are."""
    assert isinstance(model.head, nn.Linear)
    with torch.no_grad():
        for place, parameter in enumerate(encoder.learned):
            parameter.copy_(torch.from_numpy(numbers[f"learned_{place}"]))
        for name, tensor in encoder.named_buffers():
            if name in numbers:
                tensor.copy_(torch.from_numpy(numbers[name]))
        model.head.weight.copy_(torch.from_numpy(numbers["decision"]).T)
        model.head.bias.copy_(torch.from_numpy(numbers["decision_bias"]))


def _compare(model: TaskModel, dataset: Path, wanted: np.ndarray) -> None:
    rows = open_prepared(dataset / "train").take(np.arange(len(wanted)))
    model.eval()
    with torch.inference_mode():
        apart = np.abs(model(rows.inputs)[:, 0].numpy() - wanted).max(initial=0.0)
    if not apart <= NEAR * max(1.0, float(np.abs(wanted).max(initial=0.0))):
        raise TrainingError(f"the network answers otherwise on PyTorch than on TensorFlow: {apart:.3g} apart")


class Front(FeatureNetwork):
    """The part of the network before Keras: the graph transforms."""

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Refuse: only `ready` is asked."""
        raise NotImplementedError


def main(place: str) -> None:
    """Train on TensorFlow: what the process of its own does.

    Args:
        place: The folder with the order; the numbers and the outcome go there.
    """
    from safetensors.numpy import save_file

    folder = Path(place)
    order = read_json(folder / _ORDER)
    for plugin in order["plugins"]:
        load_plugin(plugin, Path(order["plugin_folder"]))
    trained = _Training(order)
    outcome = trained.run()
    save_file({name: np.ascontiguousarray(array) for name, array in trained.numbers().items()}, folder / _NUMBERS)
    write_json(folder / _OUTCOME, outcome)


class _Training:
    """Keras' own loop over the project's batches, in the project's order."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        import keras

        self.order, self.settings = order, order["settings"]
        keras.utils.set_random_seed(self.settings["seed"] % 2**32)
        torch.manual_seed(self.settings["seed"])
        folder = Path(order["dataset"])
        preparation = preparation_of(read_json(folder / "preparation.json"))
        self.front = Front(preparation.inputs, preparation.graph()).eval()
        begins = order["model"].pop("begins_with")
        self.features = make_features(self.front.seen, **order["model"], numbers=None if begins is None else Path(begins))
        self.decision = keras.layers.Dense(order["outputs"], name="decision")
        self.model = _joined(keras, self.features, self.decision)
        self.loss = getattr(keras.losses, _LOSSES[order["task"]])(**({} if order["task"] == "regression" else {"from_logits": True}))
        self.train = open_prepared(folder / "train")
        self.validation = open_prepared(folder / "validation") if (folder / "validation").is_dir() else None
        self.loader = Loader(self.train, seed=self.settings["seed"], batch_size=self.settings["batch_size"])
        self.model.compile(optimizer=self._optimizer(keras), loss=self.loss)

    def _optimizer(self, keras: Any) -> Any:
        spec = self.order["optimizer"]
        options: dict[str, Any] = {"learning_rate": spec["learning_rate"], "global_clipnorm": self.settings["clip_norm"]}
        if spec["type"] == "sgd":
            options |= {"momentum": spec["momentum"], "nesterov": spec["nesterov"] and spec["momentum"] > 0}
        else:
            options |= {"beta_1": spec["betas"][0], "beta_2": spec["betas"][1], "epsilon": spec["eps"]}
        if spec["weight_decay"]:
            options["weight_decay"] = spec["weight_decay"]
        made = getattr(keras.optimizers, _OPTIMIZERS[spec["type"]])(**options)
        if spec["weight_decay"]:
            made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "embeddings"])
        return made

    def run(self) -> dict[str, Any]:
        """Train, and keep the numbers of the best validation."""
        schedule = family("schedule").build(self.order["schedule"])
        total = min(self.settings["epochs"] * self.loader.steps, self.settings["max_steps"] or 1 << 62)
        began, step, rows, since, reason = time.perf_counter(), 0, 0, 0, "finished"
        best: tuple[float, int, Any] | None = None
        for epoch in range(self.settings["epochs"]):
            for batch in self.loader.batches(epoch):
                if step == total:
                    break
                self.model.optimizer.learning_rate.assign(self.order["optimizer"]["learning_rate"] * schedule.factor(step, total))
                x, y, weight = self._arrays(batch)
                self.model.train_on_batch(x, y, sample_weight=weight)
                step, rows = step + 1, rows + len(batch)
            if self.validation is not None:
                loss = self._validate(self.validation)
                if not np.isfinite(loss):
                    raise FloatingPointError(f"the validation loss is {loss} after epoch {epoch + 1}")
                if best is None or loss < best[0]:
                    best, since = (loss, step, self.model.get_weights()), epoch
                if self.order["patience"] is not None and epoch - since >= self.order["patience"]:
                    reason = "early stopping"
            if self.settings["time_limit_s"] and time.perf_counter() - began > self.settings["time_limit_s"]:
                reason = "time limit"
            if step == total or reason != "finished":
                break
        if best is not None:
            self.model.set_weights(best[2])
        seconds = time.perf_counter() - began
        return {
            "training_s": seconds,
            "steps": step,
            "best": None if best is None else {"step": best[1], "value": best[0], "metrics": {"loss": best[0]}},
            "stopped_reason": reason,
            "samples_per_s": rows / seconds,
            "data_wait_share": 0.0,
        }

    def _arrays(self, batch: Any) -> tuple[Any, np.ndarray, np.ndarray | None]:
        y = batch.targets["target"].numpy()
        return self._inputs(batch), y[:, None] if y.ndim == 1 else y, None if batch.weight is None else batch.weight.numpy()

    def _inputs(self, batch: Any) -> Any:
        with torch.inference_mode():
            rows = as_keras_rows(self.front.seen, self.front.ready(batch.inputs))
        return {name: tensor.numpy() for name, tensor in rows.items()} if isinstance(rows, dict) else rows.numpy()

    def _validate(self, dataset: PreparedDataset) -> float:
        loader = Loader(dataset, batch_size=self.settings["batch_size"], shuffle=False)
        total = count = 0.0
        for x, y, weight in map(self._arrays, self._whole(loader)):
            share = len(y) if weight is None else float(weight.sum())
            loss = float(np.asarray(self.loss(y, self.model(x, training=False), sample_weight=weight)))
            total, count = total + loss * len(y), count + share
        return total / max(count, 1e-12)

    @staticmethod
    def _whole(loader: Loader) -> Iterator[Any]:
        yield from loader.batches(0)

    def numbers(self) -> dict[str, np.ndarray]:
        """Return the trained numbers by their places, and the answers to the first training rows."""
        first = self.train.take(np.arange(min(COMPARED_ROWS, len(self.train))))
        kernel, bias = self.decision.get_weights()
        learned = {f"learned_{place}": np.asarray(one) for place, one in enumerate(self.features.trainable_variables)}
        kept = {f"kept_{place}": np.asarray(one) for place, one in enumerate(self.features.non_trainable_variables)}
        kept = {name: array for name, array in kept.items() if array.dtype.kind == "f"}
        answers = np.asarray(self.model(self._inputs(first), training=False))
        return {**learned, **kept, "decision": kernel, "decision_bias": bias, "answers": answers}


def _joined(keras: Any, features: Any, decision: Any) -> Any:
    """Return a Keras model with its decision layer behind it; several vectors a row are put one behind the other."""

    class Joined(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.features, self.flat, self.decision = features, keras.layers.Flatten(), decision

        def call(self, x: Any, training: bool = False) -> Any:
            return self.decision(self.flat(self.features(x, training=training)))

    return Joined()
