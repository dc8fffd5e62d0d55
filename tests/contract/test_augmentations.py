from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from deepseek.components import FAMILIES
from deepseek.data.augment import Known
from deepseek.data.augment.contract import AugmentationContract
from deepseek.data.augment.paraphrases import Paraphrase
from deepseek.data.batch import Batch
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.text import TextTransform
from deepseek.fields import Field, Kind
from deepseek.registry import family

BOXES = TargetSpec("boxes", ("boxes",), ("a", "b", "c"), (4, 4, 4), 12, shape=(12, 12))
CLASSES = TargetSpec("classes", ("y",), ("a", "b", "c"), (4, 4, 4), 12)
SENTENCES = [
    f"{word} the good film is {end} , the {bad} film is long and slow"
    for word in ("because", "although", "if")
    for end in ("short", "fine")
    for bad in ("bad", "poor")
]
IMAGE = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (12, 12, 3), "uint8")}
SOUND = {"sound": InputSpec("sound", Kind.AUDIO, ("sound",), (64,), "float32")}
SPECTROGRAM = {"sound": InputSpec("sound", Kind.AUDIO, ("sound",), (20, 10), "float32")}
SERIES = {"run": InputSpec("run", Kind.SERIES, ("x", "y"), (32, 2), "float32")}

SPECS = {
    "flip": IMAGE,
    "shift": IMAGE,
    "erase": IMAGE,
    "rotate90": IMAGE,
    "affine": IMAGE,
    "rotate": IMAGE,
    "scale": IMAGE,
    "crop": IMAGE,
    "patch": IMAGE,
    "color_jitter": IMAGE,
    "grayscale": IMAGE,
    "noise": IMAGE,
    "blur": IMAGE,
    "mixup": IMAGE,
    "cutmix": IMAGE,
    "one_of": IMAGE,
    "image_augmenter": IMAGE,
    "audio_noise": SOUND,
    "audio_shift": SOUND,
    "gain": SOUND,
    "spec_augment": SPECTROGRAM,
    "jitter": SERIES,
    "magnitude_warp": SERIES,
    "time_warp": SERIES,
    "window_slice": SERIES,
    "window_warp": SERIES,
    "permute": SERIES,
}
KEYS = {
    "patch": {"size": [8, 9]},
    "grayscale": {"probability": 0.7},
    "one_of": {"methods": ["flip", "mixup", "blur"], "each": "row"},
    "image_augmenter": {"methods": ["cutmix", "mixup"], "probabilities": [0.6, 0.4], "alpha": 1.0},
    "mixup": {"each": "row"},
    "cutmix": {"each": "row"},
}


def texts():
    """Return sentences as a transform and prepared rows, as a recipe has them."""
    transform = TextTransform([Field("note", Kind.TEXT)], tokenizer="word", min_count=1)
    table = pa.record_batch({"note": SENTENCES})
    transform.observe(table)
    transform.finish()
    specs = {spec.name: spec for spec in transform.inputs}
    rows = PreparedDataset.from_arrays(transform.apply(table), {"target": np.arange(len(SENTENCES)) % 3}, specs=specs)
    return rows, {"note": transform}


class Dense(AugmentationContract):
    @pytest.fixture(autouse=True, params=sorted(SPECS))
    def _choose(self, request):
        self.name = request.param
        self.keeps_shape = self.name != "patch"

    def build(self):
        augmentation = family("augmentation").build({"type": self.name, **KEYS.get(self.name, {})}, SPECS[self.name])
        augmentation.begin(Known(CLASSES))
        return augmentation

    def batch(self, rows):
        random = np.random.default_rng(1)
        inputs = {}
        for name, spec in SPECS[self.name].items():
            values = random.integers(0, 256, (rows, *spec.shape)) if spec.dtype == "uint8" else random.normal(size=(rows, *spec.shape))
            inputs[name] = torch.from_numpy(values.astype(spec.dtype))
        target = torch.arange(rows) % 3
        if self.name in ("mixup", "cutmix", "one_of", "image_augmenter"):  # what softens targets is given soft ones, so that types stay
            return Batch(inputs, {"target": torch.nn.functional.one_hot(target, 3).float()}, torch.rand(rows, generator=seeded()))
        return Batch(inputs, {"target": target}, torch.rand(rows, generator=seeded()))


class TestDense(Dense):
    pass


class TestMosaic(AugmentationContract):
    def build(self):
        numbers = ("left", "top", "right", "bottom", "class", "crowd")
        specs = {**IMAGE, "target": InputSpec("target", Kind.BOXES, numbers, (6,), "float32")}
        augmentation = family("augmentation").build({"type": "mosaic", "probability": 1.0}, specs)
        augmentation.begin(Known(BOXES))
        return augmentation

    def batch(self, rows):
        random = np.random.default_rng(1)
        corner, size = random.uniform(0, 8, (rows, 5, 2)), random.uniform(2, 4, (rows, 5, 2))
        boxes = np.concatenate([corner, corner + size, random.integers(0, 3, (rows, 5, 1)), np.zeros((rows, 5, 1))], axis=2)
        there = np.arange(5) < random.integers(0, 6, (rows, 1))
        targets = {"target": torch.from_numpy(boxes * there[..., None]).float(), "target_mask": torch.from_numpy(there)}
        photo = torch.from_numpy(random.integers(0, 256, (rows, 12, 12, 3)).astype(np.uint8))
        return Batch({"photo": photo}, targets, torch.rand(rows, generator=seeded()))


class Texts(AugmentationContract):
    keeps_shape = False

    def batch(self, rows):
        return texts()[0].take(np.arange(rows))


class TestEda(Texts):
    def build(self):
        rows, transforms = texts()
        eda = family("augmentation").build(
            {"type": "eda", "probability": 0.9, "share": 0.3, "synonyms": {"good": ["fine"], "bad": ["poor"], "long": ["slow"]}},
            rows.inputs,
        )
        eda.begin(Known(CLASSES, rows, transforms))
        return eda


class TestClauseSwap(Texts):
    def build(self):
        rows, transforms = texts()
        swap = family("augmentation").build("clause_swap", rows.inputs)
        swap.begin(Known(CLASSES, rows, transforms))
        return swap


class Shouted(Paraphrase):
    """Stands in for a translation model, whose own test is with the model."""

    def paraphrase(self, texts):
        return [f"{text} {text}" for text in texts]


class TestParaphrase(Texts):
    def build(self):
        rows, transforms = texts()
        reworded = Shouted(rows.inputs)
        reworded.begin(Known(CLASSES, rows, transforms))
        return reworded


def test_every_built_in_is_held_to_the_contract():
    assert set(SPECS) | {"mosaic", "eda", "clause_swap", "back_translation"} == set(FAMILIES["augmentation"][1])


def seeded():
    return torch.Generator().manual_seed(3)
