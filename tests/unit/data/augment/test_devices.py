"""Another device than the processor, without having one: the meta device refuses tensors of another and cannot be waited for."""

from __future__ import annotations

import pytest
import torch

from deepseek.data.augment import Draw, Known
from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind
from deepseek.registry import family

ROWS = 6
CLASSES = TargetSpec("classes", ("y",), ("a", "b", "c"), (2, 2, 2), 6)
IMAGES = [
    "flip",
    "shift",
    "erase",
    "rotate90",
    "affine",
    "rotate",
    "scale",
    "crop",
    "color_jitter",
    "grayscale",
    "noise",
    "blur",
    "mixup",
    "cutmix",
]
SOUNDS = ["audio_noise", "audio_shift", "gain", "spec_augment"]
SERIES = ["jitter", "magnitude_warp", "time_warp", "window_slice", "window_warp", "permute"]


def applied(name, kind, shape, dtype, **keys):
    spec = {"x": InputSpec("x", kind, ("x",), shape, str(dtype).removeprefix("torch."))}
    augmentation = family("augmentation").build({"type": name, **keys}, spec)
    augmentation.begin(Known(CLASSES))
    batch = Batch({"x": torch.zeros(ROWS, *shape, dtype=dtype)}, {"target": torch.zeros(ROWS, dtype=torch.int64)}, torch.ones(ROWS))
    return augmentation.apply(batch.to("meta"), Draw(torch.Generator().manual_seed(0), 0, ROWS))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("name", IMAGES)
def test_images_are_changed_where_they_lie_and_nothing_waits(name, dtype):
    made = applied(name, Kind.IMAGE, (9, 9, 3), dtype)
    assert made.inputs["x"].device.type == made.targets["target"].device.type == "meta"
    assert made.inputs["x"].shape == (ROWS, 9, 9, 3)
    assert made.inputs["x"].dtype == dtype


@pytest.mark.parametrize("name", [*SOUNDS, *SERIES])
def test_sound_and_series_are_changed_where_they_lie(name):
    made = applied(name, Kind.AUDIO if name in SOUNDS else Kind.SERIES, (16, 4), torch.float32)
    assert made.inputs["x"].device.type == "meta"
    assert made.inputs["x"].shape == (ROWS, 16, 4)


def test_a_choice_by_rows_too():
    made = applied("one_of", Kind.IMAGE, (8, 8, 3), torch.uint8, methods=["mixup", "cutmix", "noise"], each="row")
    assert made.inputs["x"].device.type == made.targets["target"].device.type == made.weight.device.type == "meta"
