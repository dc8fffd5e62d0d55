"""What `auto` comes to before anything is measured: the network (by the table in `architectures`) and the way to train it, with reasons.

The defaults for tables, for small images and for texts were chosen on several public datasets together and tuned to none;
`docs/benchmarks.md` shows what they reach.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind
from deepseek.pipeline.choosing.architectures import Situation, architecture_of
from deepseek.pipeline.choosing.pretrained import is_pretrained
from deepseek.recipe import AUTO, Choices, Recipe
from deepseek.registry import family, split_spec

FEW_IMAGES = 20_000
"""Images below which an epoch has too few steps for the large rates of plain gradient steps."""


def choose(
    recipe: Recipe, inputs: Mapping[str, InputSpec], target: TargetSpec, *, rows: int, columns: int, validated: bool = True
) -> Choices:
    """Say what every `auto` of a recipe becomes that needs no measurement.

    Args:
        recipe: The recipe.
        inputs: What the network meets.
        target: What is predicted.
        rows: The training rows.
        columns: How many columns of the table are inputs, before any is turned into several numbers.
        validated: Whether there are validation rows; without, nothing is monitored and nothing stops early.
    """
    choices: Choices = {}
    images, texts, sounds = ([spec for spec in inputs.values() if spec.kind is kind] for kind in (Kind.IMAGE, Kind.TEXT, Kind.AUDIO))
    if recipe.model == AUTO:
        situation = Situation(inputs=inputs, target=target, rows=rows, columns=columns)
        choices["model"] = architecture_of(situation).choose(situation)
    defaults = _training_for(recipe, target, inputs, rows)
    train = recipe.train
    if isinstance(train.optimizer, Mapping):
        defaults["learning_rate"] = (train.optimizer["learning_rate"], "the optimizer's own")
    if train.clip is not None:
        defaults["clip_norm"] = (None, "train.clip says how gradients are limited")
    if not validated:
        defaults["early_stopping"] = (False, "there are no validation rows")
    for key, choice in defaults.items():
        if getattr(train, key) == AUTO:
            choices[f"train.{key}"] = choice
    evened = evens_classes(recipe.task)
    if validated and train.monitor == AUTO and evened and target.kind == "classes" and _measures(recipe.task, "balanced_accuracy"):
        choices["train.monitor"] = ("balanced_accuracy", "classes are made to count alike, and by other metrics that would be undone")
    steadier = target.kind in {"binary", "classes"} and (texts or not images) and not evened
    if validated and train.monitor == AUTO and steadier and _measures(recipe.task, "log_loss"):
        choices["train.monitor"] = ("log_loss", "steadier than rank or count metrics on few validation rows")
    if images and not texts and target.kind == "classes" and recipe.origins.get("task.type", "").startswith(AUTO):
        choices["task.loss.label_smoothing"] = (0.1, "keeps a network that can fit every image from being too sure")
    if recipe.data.augment == AUTO:
        pictures = [spec for spec in inputs.values() if spec.kind in (Kind.IMAGE, Kind.VOLUME)]
        choices["data.augment"] = _detector_augmentation() if target.kind == "boxes" else _augmentation(pictures, sounds)
    return choices


def is_forecast(recipe: Recipe) -> bool:
    """Whether a recipe's task is to forecast."""
    return isinstance(recipe.task, Mapping) and recipe.task.get("type") == "forecasting"


def _training_for(recipe: Recipe, target: TargetSpec, inputs: Mapping[str, InputSpec], rows: int) -> dict[str, tuple[Any, str]]:
    """Return the way to train for a kind of target and of model."""
    if is_forecast(recipe):
        return _forecast_training(rows)
    if is_pretrained(recipe.model):
        return _fine_tuning(recipe, rows)
    if target.kind == "mask":
        return _mask_training(inputs, rows)
    if target.kind == "boxes":
        return _detector_training(rows)
    if target.kind == "tokens":
        return _language_training()
    return _labelling_training(rows) if target.kind == "tags" else _training(inputs, rows)


def evens_classes(task: Any) -> bool:
    """Whether a task answers of a world in which classes are not as frequent as in the data: what is likely there is not likely here.

    Args:
        task: The task's spec, or `auto`.
    """
    if not isinstance(task, Mapping) or task.get("probabilities") == "of_data":
        return False
    return any(task.get(key) for key in ("class_weights", "resample", "logit_adjustment"))


def probability_note(task: Any) -> str:
    """Return what a user has to know of a task's probabilities; nothing where they are what they say.

    Args:
        task: The task's spec, or `auto`.
    """
    if evens_classes(task):
        return (
            "the task makes rare classes count more, and so its probabilities are higher for them than rows are of them: "
            "task.probabilities: of_data takes that out of the answers"
        )
    loss = task.get("loss") if isinstance(task, Mapping) else None
    if loss is not None and split_spec("loss", loss)[0] == "focal":
        return "the focal loss teaches probabilities that are less sure than rows are: they rank rows, and are no shares"
    return ""


def _measures(task: Any, metric: str) -> bool:
    """Whether a task computes a metric: it may have been given metrics without it, and what is not computed cannot be monitored."""
    given = task.get("metrics") if isinstance(task, Mapping) else None
    return given is None or any(split_spec("metric", spec)[0] == metric for spec in given)


def _mask_training(inputs: Mapping[str, InputSpec], rows: int) -> dict[str, tuple[Any, str]]:
    """Train on few pictures at a time: each has thousands of places to learn from, and the memory holds many maps of each."""
    volumes = any(spec.kind is Kind.VOLUME for spec in inputs.values())
    epochs = max(15, min(60, round(4_000 / max(rows, 1))))
    adamw = {"type": "adamw", "weight_decay": 1e-4}
    return {
        "epochs": (epochs, f"{rows:,} pictures, between 15 and 60 epochs; the best weights are kept"),
        "batch_size": (2 if volumes else 8, "few pictures a step: each has a class at thousands of places"),
        "learning_rate": (2e-3, "for steps of bounded size"),
        "optimizer": (family("optimizer").validate(adamw), "steps of bounded size, for classes of very unequal size"),
        "schedule": (family("schedule").validate({"type": "cosine", "warmup": 0.05}), "ends in small steps"),
        "clip_norm": (1.0, "guards against single bad batches"),
        "ema": (None, "the schedule ends in small steps"),
        "early_stopping": (False, "the schedule has to run to its end"),
        "compile": ("off", "short runs do not earn back the time that compiling takes"),
    }


def _training(inputs: Mapping[str, InputSpec], rows: int) -> dict[str, tuple[Any, str]]:
    kinds = {spec.kind for spec in inputs.values()}
    if Kind.AUDIO in kinds:
        return _sound_training(rows)
    if Kind.TEXT not in kinds:
        return _image_training(rows) if Kind.IMAGE in kinds else _table_training(rows)
    if Kind.IMAGE in kinds:
        stops = ({"patience": 8}, "texts beside images are soon learnt by heart: stops when validation gets no better")
        return {**_text_training(rows), "epochs": _image_training(rows)["epochs"], "early_stopping": stops}
    return _text_training(rows) if kinds == {Kind.TEXT} else _table_training(rows)


def _sound_training(rows: int) -> dict[str, tuple[Any, str]]:
    epochs = max(12, min(40, round(60_000 / max(rows, 1))))
    return {
        **_few_images_training(rows),
        "batch_size": (_power_of_two(rows / 80, least=16, most=128), f"{rows:,} sounds: small batches, so that an epoch has enough steps"),
        "epochs": (epochs, f"{rows:,} sounds, between 12 and 40 epochs; the best weights are kept"),
        "early_stopping": (False, "the schedule has to run to its end"),
        "compile": ("off", "sounds of unequal length would be compiled again and again"),
    }


def _table_training(rows: int) -> dict[str, tuple[Any, str]]:
    batch = _power_of_two(rows / 100, least=64, most=1024)
    return {
        "epochs": (25, "enough for tables; the best weights are kept"),
        "batch_size": (batch, f"about a hundred steps an epoch for {rows:,} rows, between 64 and 1,024 rows"),
        "learning_rate": (5e-3, "found on several tables together"),
        "optimizer": (family("optimizer").validate({"type": "adamw", "weight_decay": 0.1}), "found on several tables together"),
        "schedule": (family("schedule").validate({"type": "cosine", "warmup": 0.08}), "ends in small steps"),
        "clip_norm": (1.0, "guards against single bad batches"),
        "ema": (0.998, "averaged weights are validated and kept: steadier than the last ones"),
        "early_stopping": ({"patience": 8}, "stops when validation gets no better"),
        "compile": ("off", "short runs do not earn back the time that compiling takes"),
    }


def _forecast_training(rows: int) -> dict[str, tuple[Any, str]]:
    return {
        "epochs": (10, "enough for windows, which overlap; the best weights are kept"),
        "batch_size": (
            _power_of_two(rows / 250, least=32, most=256),
            f"{rows:,} windows: small batches, of which neighbours say much the same",
        ),
        "learning_rate": (1e-3, "gentle, since windows overlap"),
        "optimizer": (family("optimizer").validate({"type": "adam"}), "as forecasts are usually trained"),
        "schedule": (family("schedule").validate({"type": "cosine", "warmup": 0.05}), "ends in small steps"),
        "clip_norm": (1.0, "guards against single bad batches"),
        "ema": (0.995, "averaged weights are validated and kept: a validation period is short, and flatters weights by chance"),
        "early_stopping": (False, "few epochs, and the schedule has to run to its end"),
        "compile": ("off", "short runs do not earn back the time that compiling takes"),
    }


def _text_training(rows: int) -> dict[str, tuple[Any, str]]:
    batch = _power_of_two(min(rows / 100, max(64.0, rows / 800)), least=16, most=512)
    epochs = max(5, min(40, round(60_000 / max(rows, 1))))
    return {
        "epochs": (epochs, f"{rows:,} texts; the best weights are kept"),
        "batch_size": (batch, f"{rows:,} texts: small batches, as what counts is how many steps meet an n-gram"),
        "learning_rate": (1e-3, "found on several sets of texts together; n-grams, seldom met, learn ten times as fast"),
        "optimizer": (
            family("optimizer").validate({"type": "adamw", "weight_decay": 0.01}),
            "steps as large for rare n-grams as for frequent ones",
        ),
        "schedule": (family("schedule").validate({"type": "cosine", "warmup": 0.08}), "ends in small steps"),
        "clip_norm": (1.0, "guards against single bad batches"),
        "ema": (0.99, "averaged weights are validated and kept: steadier than the last ones"),
        "early_stopping": (False, "few epochs, and the schedule has to run to its end"),
        "compile": ("off", "texts of unequal length would be compiled again and again"),
    }


def _language_training() -> dict[str, tuple[Any, str]]:
    adamw = {"type": "adamw", "betas": [0.9, 0.99], "weight_decay": 0.1}
    return {
        "epochs": (10, "passes over the text; the best weights are kept"),
        "batch_size": (32, "windows, or lanes of a network that remembers"),
        "learning_rate": (1e-3, "as small language models are trained"),
        "optimizer": (family("optimizer").validate(adamw), "as small language models are trained"),
        "schedule": (family("schedule").validate({"type": "cosine", "warmup": 0.05}), "ends in small steps"),
        "clip_norm": (1.0, "guards against single bad batches"),
        "ema": (None, "the schedule ends in small steps"),
        "early_stopping": (False, "the schedule has to run to its end"),
        "compile": ("off", "short runs do not earn back the time that compiling takes"),
    }


def _labelling_training(rows: int) -> dict[str, tuple[Any, str]]:
    batch = _power_of_two(rows / 200, least=8, most=32)
    return {
        **_text_training(rows),
        "epochs": (max(5, min(60, round(100_000 / max(rows, 1)))), f"{rows:,} rows; the best weights are kept"),
        "batch_size": (batch, f"{rows:,} rows: small batches, as each has many words"),
        "learning_rate": (3e-3, "recurrent networks of this size learn steadily at it"),
    }


def _fine_tuning(recipe: Recipe, rows: int) -> dict[str, tuple[Any, str]]:
    """Train gently: large steps would undo what the weights were trained to; adapters, which begin at nothing, need larger ones."""
    section = recipe.fine_tune
    apart = section is not None and (section.adapters is not None or section.freeze == "all")
    batch = _power_of_two(rows / 200, least=8, most=32)
    rate, why = (1e-3, "what trains is new") if apart else (5e-5, "pre-trained weights are to be moved, not replaced")
    adamw = {"type": "adamw", "weight_decay": 0.01}
    return {
        "epochs": (max(3, min(20, round(20_000 / max(rows, 1)))), f"{rows:,} rows; pre-trained weights need few passes"),
        "batch_size": (batch, f"{rows:,} rows: small batches, so that a few passes have enough steps"),
        "learning_rate": (rate, why),
        "optimizer": (family("optimizer").validate(adamw), "as Transformers are fine-tuned"),
        "schedule": (family("schedule").validate({"type": "linear", "warmup": 0.1}), "a short way up, then down to nothing"),
        "clip_norm": (1.0, "guards against single bad batches"),
        "ema": (None, "the schedule ends in small steps"),
        "early_stopping": (False, "few epochs, and the schedule has to run to its end"),
        "compile": ("off", "short runs do not earn back the time that compiling takes"),
    }


def _image_training(rows: int) -> dict[str, tuple[Any, str]]:
    return _few_images_training(rows) if rows < FEW_IMAGES else _many_images_training(rows)


def _few_images_training(rows: int) -> dict[str, tuple[Any, str]]:
    """Train with steps of bounded size and averaged weights: batch statistics and plain steps are unsteady where an epoch has few steps."""
    batch = _power_of_two(rows / 80, least=32, most=256)
    epochs = max(12, min(40, round(30_000 / max(rows, 1))))
    adamw = {"type": "adamw", "weight_decay": 0.05}
    return {
        "epochs": (epochs, f"{rows:,} images, between 12 and 40 epochs; the best weights are kept"),
        "batch_size": (batch, f"{rows:,} images: small batches, so that an epoch has enough steps"),
        "learning_rate": (2e-3, "found on several small sets of images together"),
        "optimizer": (family("optimizer").validate(adamw), "steps of bounded size: large plain steps are unsteady on few images"),
        "schedule": (family("schedule").validate({"type": "cosine", "warmup": 0.1}), "a short way up, and ends in small steps"),
        "clip_norm": (1.0, "guards against single bad batches"),
        "ema": (0.99, "averaged weights and batch statistics are validated and kept: steadier than the last ones"),
        "early_stopping": ({"patience": 8}, "stops when validation gets no better"),
        "compile": ("off", "measured slower for convolutions of this size"),
    }


def _many_images_training(rows: int) -> dict[str, tuple[Any, str]]:
    epochs = max(8, round(450_000 / rows))
    sgd = {"type": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
    return {
        "epochs": (epochs, f"{rows:,} images"),
        "batch_size": (256, f"{rows:,} images: enough steps an epoch even so"),
        "learning_rate": (0.4, "found for batches of 256"),
        "optimizer": (family("optimizer").validate(sgd), "reaches in few epochs what others reach in more"),
        "schedule": (family("schedule").validate({"type": "linear", "warmup": 0.25}), "a quarter of the run up, the rest down"),
        "clip_norm": (None, "batch normalisation keeps gradients in bounds"),
        "ema": (None, "the schedule ends in small steps"),
        "early_stopping": (False, "the schedule has to run to its end"),
        "compile": ("off", "measured slower for convolutions of this size"),
    }


def _detector_training(rows: int) -> dict[str, tuple[Any, str]]:
    """Train long, in small batches: each place of a picture is a question, but an object is seen once an epoch."""
    batch = _power_of_two(rows / 60, least=4, most=32)
    epochs = max(20, min(300, round(60_000 / max(rows, 1))))
    adamw = {"type": "adamw", "weight_decay": 0.05}
    return {
        "epochs": (epochs, f"{rows:,} pictures: detectors learn slowly from scratch; the best weights are kept"),
        "batch_size": (batch, f"{rows:,} pictures: small batches, so that an epoch has enough steps"),
        "learning_rate": (2e-3, "for AdamW and a network from scratch"),
        "optimizer": (family("optimizer").validate(adamw), "steps of bounded size: rare objects make uneven gradients"),
        "schedule": (family("schedule").validate({"type": "cosine", "warmup": 0.05}), "a short way up, and ends in small steps"),
        "clip_norm": (10.0, "guards against single bad batches"),
        "ema": (0.99, "averaged weights and batch statistics are validated and kept"),
        "early_stopping": (False, "the schedule has to run to its end"),
        "compile": ("off", "measured slower for convolutions of this size"),
    }


def _detector_augmentation() -> tuple[Any, str]:
    scale = {"type": "affine", "degrees": 0.0, "scale": [0.8, 1.25], "shift": 0.1}
    return [
        family("augmentation").validate(scale)
    ], "pictures are scaled and moved a little, and boxes with them; mirroring may change classes"


def _augmentation(images: list[InputSpec], sounds: list[InputSpec]) -> tuple[Any, str]:
    if sounds and not images:
        stripes = family("augmentation").validate({"type": "spec_augment"})
        return [stripes], "moments and bands are blanked in sound, which leaves it what it was"
    if not images:
        return [], "tables are not augmented"
    shift = family("augmentation").validate({"type": "shift", "fraction": 0.07})
    return [shift], "images are shifted a little, which changes no label; mirroring would change digits and letters"


def _power_of_two(wanted: float, *, least: int, most: int) -> int:
    return min(max(1 << round(math.log2(max(wanted, 1.0))), least), most)
