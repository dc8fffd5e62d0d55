from __future__ import annotations

import numpy as np
import pytest
import torch

from deepseek.data.augment import Augment, Draw
from deepseek.data.augment.erase import Erase
from deepseek.data.augment.flip import Flip
from deepseek.data.augment.shift import Shift
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind

INPUTS = {
    "photo": InputSpec("photo", Kind.IMAGE, ("photo",), (6, 8, 3), "uint8"),
    "n": InputSpec("n", Kind.NUMBER, ("a",), (1,), "float32"),
}


def batch_of(rows=16):
    pixels = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (rows, 6, 8, 3), dtype=np.uint8))
    return Batch({"photo": pixels, "n": torch.ones(rows, 1)}, {"y": torch.arange(rows)}, None, torch.arange(rows))


def draw(rows=16, seed=0):
    return Draw(torch.Generator().manual_seed(seed), 0, rows)


def test_flip_mirrors_some_rows_whole():
    batch = batch_of()
    out = Flip(INPUTS).apply(batch, draw()).inputs["photo"]
    mirrored = batch.inputs["photo"].flip(2)
    kinds = {
        ("kept" if torch.equal(o, x) else "mirrored" if torch.equal(o, m) else "?")
        for o, x, m in zip(out, batch.inputs["photo"], mirrored, strict=True)
    }
    assert kinds == {"kept", "mirrored"}
    assert torch.equal(Flip(INPUTS, probability=0).apply(batch, draw()).inputs["photo"], batch.inputs["photo"])
    vertical = Flip(INPUTS, probability=1, direction="vertical").apply(batch, draw()).inputs["photo"]
    assert torch.equal(vertical, batch.inputs["photo"].flip(1))


@pytest.mark.parametrize(("padding", "mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_shift_is_a_crop_after_padding(padding, mode):
    batch = batch_of()
    out = Shift(INPUTS, pixels=2, padding=padding).apply(batch, draw()).inputs["photo"].numpy()
    places = set()
    for image, moved in zip(batch.inputs["photo"].numpy(), out, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode=mode)
        found = [(y, x) for y in range(5) for x in range(5) if np.array_equal(padded[y : y + 6, x : x + 8], moved)]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 5


def test_erase_blanks_one_rectangle():
    batch = batch_of()
    out = Erase(INPUTS, probability=1, fraction=0.5).apply(batch, draw()).inputs["photo"]
    for image, erased in zip(batch.inputs["photo"], out, strict=True):
        blank = (erased == 0).all(-1)
        ys, xs = blank.any(1).nonzero().ravel(), blank.any(0).nonzero().ravel()
        assert 1 <= len(ys) <= 3
        assert 1 <= len(xs) <= 4
        assert blank.sum() == len(ys) * len(xs)
        assert torch.equal(erased[~blank], image[~blank])
    assert torch.equal(Erase(INPUTS, probability=0).apply(batch, draw()).inputs["photo"], batch.inputs["photo"])


@pytest.mark.parametrize("spec", ["flip", "shift", "erase"])
def test_several_ranks_do_what_one_does(spec):
    batch, augment = batch_of(), Augment([spec], INPUTS, seed=5)
    whole = augment.apply(batch, 9).inputs["photo"]
    pieces = [augment.apply(part, 9, start=start, total=16).inputs["photo"] for part, start in zip(batch.split(6), (0, 6, 12), strict=True)]
    assert torch.equal(torch.cat(pieces), whole)
    assert not torch.equal(whole, augment.apply(batch, 10).inputs["photo"])
    assert not torch.equal(whole, Augment([spec], INPUTS, seed=6).apply(batch, 9).inputs["photo"])


def test_the_given_batch_and_everything_else_stay():
    batch = batch_of()
    before = batch.inputs["photo"].clone()
    out = Augment(["flip", {"type": "shift", "pixels": 3}, "erase"], INPUTS).apply(batch, 0)
    assert torch.equal(batch.inputs["photo"], before)
    assert out.inputs["n"] is batch.inputs["n"]
    assert out.targets is batch.targets
    assert out.inputs["photo"].dtype == torch.uint8


def test_adding_one_leaves_the_others_draws():
    batch = batch_of()
    flipped = Augment(["flip"], INPUTS, seed=1).apply(batch, 0).inputs["photo"]
    both = Augment(["flip", {"type": "erase", "probability": 0}], INPUTS, seed=1).apply(batch, 0).inputs["photo"]
    assert torch.equal(flipped, both)
