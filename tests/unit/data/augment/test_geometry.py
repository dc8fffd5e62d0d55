from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from deepseek.data.augment import Augment, Draw, build_augmentations
from deepseek.data.augment.affine import Affine, Crop, Rotate, Scale
from deepseek.data.augment.flip import Flip
from deepseek.data.augment.geometry import Composed, move_boxes, translation
from deepseek.data.augment.rotate90 import Rotate90
from deepseek.data.augment.shift import Shift
from deepseek.data.augment.warp import warp
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind

PHOTO = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (20, 24, 3), "uint8")}
SCENE = {
    **PHOTO,
    "classes": InputSpec("classes", Kind.MASK, ("classes",), (20, 24), "int64"),
    "boxes": InputSpec("boxes", Kind.BOXES, ("boxes",), (4,), "float32", ragged=True),
}
ROWS = 32


def draw(seed=0, rows=ROWS):
    return Draw(torch.Generator().manual_seed(seed), 0, rows)


def images(rows=ROWS, channels=3, seed=0):
    small = torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, (rows, channels, 5, 6)).astype(np.float32))
    smooth = functional.interpolate(small, (20, 24), mode="bicubic").clamp(0, 255)
    return smooth.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous()


def some_maps(rows=ROWS):
    return Affine(PHOTO, degrees=60, scale=(0.6, 1.7), shift=0.3, shear=20).maps(draw().uniform(rows, 7), 20, 24)


def reference(image, matrix, padding):
    """One image at a time, one pixel at a time, in floats."""
    height, width, _ = image.shape
    back = np.linalg.inv(matrix)
    out = np.zeros(image.shape)
    for y in range(height):
        for x in range(width):
            u, v, _ = back @ [x + 0.5, y + 0.5, 1]
            for corner_v in (math.floor(v - 0.5), math.floor(v - 0.5) + 1):
                for corner_u in (math.floor(u - 0.5), math.floor(u - 0.5) + 1):
                    weight = (1 - abs(u - 0.5 - corner_u)) * (1 - abs(v - 0.5 - corner_v))
                    out[y, x] += weight * _pixel(image, corner_v, corner_u, padding)
    return out


def _pixel(image, y, x, padding):
    height, width, _ = image.shape
    if padding == "zero":
        return image[y, x] if 0 <= y < height and 0 <= x < width else 0
    if padding == "edge":
        return image[min(max(y, 0), height - 1), min(max(x, 0), width - 1)]
    y, x = y % (2 * height), x % (2 * width)
    return image[min(y, 2 * height - 1 - y), min(x, 2 * width - 1 - x)]


@pytest.mark.parametrize("padding", ["zero", "edge", "reflect"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_warp_interpolates_between_pixels(padding, channels, kind):
    x, matrix = images(4, channels), some_maps(4)
    given = x if kind == "bytes" else x.float() / 255
    made = warp(given, torch.linalg.inv(matrix)[:, :2], padding=padding)
    wanted = np.stack([reference(image.numpy().astype(float), one.numpy(), padding) for image, one in zip(x, matrix, strict=True)])
    assert made.dtype == given.dtype
    if kind == "bytes":
        assert np.abs(made.numpy() - wanted).max() <= 2
        assert np.abs(made.numpy() - wanted).mean() < 0.5
    else:
        np.testing.assert_allclose(made.numpy() * 255, wanted, atol=0.02)


@pytest.mark.parametrize("x", [images(2), images(2, 1), images(2).float(), images(2, 4).repeat(1, 1, 1, 2)])
def test_a_map_that_moves_nothing_changes_no_pixel(x):
    still = torch.eye(3, dtype=torch.float64)[:2].repeat(2, 1, 1)
    torch.testing.assert_close(warp(x, still), x, atol=1e-3 if x.is_floating_point() else 0, rtol=0)
    assert torch.equal(warp(x, still, nearest=True), x)


def test_many_blocks_are_one(monkeypatch):
    x, back = images(7), torch.linalg.inv(some_maps(7))[:, :2]
    whole = warp(x, back)
    monkeypatch.setattr("deepseek.data.augment.warp.BLOCK_PIXELS", 2 * 20 * 24)
    assert torch.equal(warp(x, back), whole)


def test_outside_has_the_colour_that_is_asked_for():
    x = torch.full((1, 8, 8, 3), 200, dtype=torch.uint8)
    away = translation(torch.tensor([-100.0]), torch.tensor([0.0]))[:, :2]
    assert (warp(x, away, fill=77) == 77).all()
    assert (warp(x.float(), away, fill=77) == 77).all()
    assert (warp(x, away, padding="edge") == 200).all()


@pytest.mark.parametrize("size", [(20, 24), (16, 16)])
@pytest.mark.parametrize("make", [Flip, Rotate90, Shift])
def test_the_maps_of_exact_changes_are_what_they_do(make, size):
    change, drawn = make(PHOTO), make(PHOTO).draws(draw(), ROWS)
    x = images()[:, : size[0], : size[1]].contiguous()
    back = torch.linalg.inv(change.maps(drawn, *size))[:, :2]
    assert torch.equal(warp(x, back, nearest=True), change.pixels(x, drawn, nearest=True))
    assert not torch.equal(change.pixels(x, drawn, nearest=True), x)


def test_turns_lose_no_pixel():
    x = images()[:, :16, :16].contiguous()
    made = Rotate90(PHOTO, probability=1).apply(Batch({"photo": x}), draw()).inputs["photo"]
    turns = {next(k for k in (1, 2, 3) if torch.equal(torch.rot90(image, k), turned)) for image, turned in zip(x, made, strict=True)}
    assert turns == {1, 2, 3}


def angle_and_factor(matrix):
    return math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])), math.hypot(matrix[0, 0], matrix[1, 0])


def test_rotation_and_scale_are_drawn_within_their_bounds():
    turned = [angle_and_factor(one) for one in Rotate(PHOTO, degrees=30).maps(draw(rows=500).uniform(500, 7), 20, 24)]
    assert all(abs(factor - 1) < 1e-9 for _, factor in turned)
    assert 28 < max(angle for angle, _ in turned) <= 30
    assert -30 <= min(angle for angle, _ in turned) < -28
    scaled = [angle_and_factor(one) for one in Scale(PHOTO, scale=(0.5, 2)).maps(draw(rows=500).uniform(500, 7), 20, 24)]
    factors = [factor for _, factor in scaled]
    assert 0.5 <= min(factors) < 0.53
    assert 1.9 < max(factors) <= 2
    assert 0.4 < np.mean(np.array(factors) < 1) < 0.6
    centre = torch.tensor([12.0, 10.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(Rotate(PHOTO).maps(draw().uniform(ROWS, 7), 20, 24) @ centre, centre.repeat(ROWS, 1))


def test_a_crop_shows_a_part_over_the_whole():
    corners = torch.tensor([[0.0, 0, 1], [24, 20, 1]], dtype=torch.float64).T
    back = torch.linalg.inv(Crop(PHOTO, area=(0.25, 0.5)).maps(draw(rows=300).uniform(300, 5), 20, 24))
    shown = (back @ corners)[:, :2]
    left, top, right, bottom = shown[:, 0, 0], shown[:, 1, 0], shown[:, 0, 1], shown[:, 1, 1]
    area = (right - left) * (bottom - top) / (20 * 24)
    assert min(left.min(), top.min()) >= -1e-9
    assert right.max() <= 24 + 1e-9
    assert bottom.max() <= 20 + 1e-9
    assert 0.25 <= area.min() < 0.26
    assert 0.49 < area.max() <= 0.5 + 1e-9


def test_probability_leaves_rows_alone():
    x = images()
    assert torch.equal(Rotate(PHOTO, probability=0).apply(Batch({"photo": x}), draw()).inputs["photo"], x)
    made = Rotate(PHOTO, probability=0.5, degrees=90).apply(Batch({"photo": x}), draw()).inputs["photo"]
    kept = (made == x).flatten(1).all(1)
    assert 5 < kept.sum() < 27


def scene(rows=ROWS):
    """Return rectangles of one colour, the same in the mask, and the box around each."""
    random = np.random.default_rng(3)
    photo, classes, boxes = np.zeros((rows, 20, 24, 3), np.uint8), np.zeros((rows, 20, 24), np.int64), np.zeros((rows, 2, 4), np.float32)
    for row in range(rows):
        left, top = random.integers(4, 10), random.integers(4, 8)
        right, bottom = left + random.integers(6, 10), top + random.integers(6, 9)
        photo[row, top:bottom, left:right], classes[row, top:bottom, left:right] = 255, 7
        boxes[row, 0] = left, top, right, bottom
    valid = torch.tensor([[True, False]]).repeat(rows, 1)
    inputs = {"photo": torch.from_numpy(photo), "classes": torch.from_numpy(classes)}
    return Batch(inputs, {"boxes": torch.from_numpy(boxes), "boxes_mask": valid}, None, torch.arange(rows))


@pytest.mark.parametrize(
    "spec",
    [
        "flip",
        {"type": "flip", "direction": "vertical"},
        {"type": "rotate90", "probability": 1.0},
        {"type": "shift", "pixels": 3},
        {"type": "scale", "scale": (0.8, 1.3)},
        {"type": "crop", "area": (0.5, 1.0)},
        {"type": "affine", "degrees": 0.0, "scale": (0.8, 1.2), "shift": 0.2},
    ],
)
def test_boxes_and_masks_stay_with_their_image(spec):
    batch = scene()
    made = Augment([spec], SCENE, seed=4).apply(batch, 0)
    assert not torch.equal(made.targets["boxes"], batch.targets["boxes"])
    for photo, classes, boxes, valid in zip(
        made.inputs["photo"], made.inputs["classes"], made.targets["boxes"], made.targets["boxes_mask"], strict=True
    ):
        assert not valid[1]
        seen = photo[..., 0] >= 128
        assert ((classes == 7) == seen).float().mean() > 0.97
        assert set(classes.unique().tolist()) <= {0, 7}
        if not valid[0]:
            assert seen.sum() < 24
            continue
        ys, xs = seen.nonzero().unbind(1)
        around = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()
        assert (boxes[0] - around).abs().max() <= 1.0


def test_a_turned_box_is_the_upright_one_around():
    boxes = torch.tensor([[[2.0, 4.0, 6.0, 6.0]]])
    quarter = torch.tensor([[[0.0, -1, 10], [1, 0, 0], [0, 0, 1]]])
    made, kept = move_boxes(boxes, quarter, (20, 20))
    assert made.tolist() == [[[4.0, 2.0, 6.0, 6.0]]]
    assert kept.all()


def test_boxes_are_cut_at_the_border_and_dropped_when_nothing_is_left():
    boxes = torch.tensor([[[2.0, 2.0, 6.0, 6.0], [0.0, 0.0, 2.5, 9.0], [5.0, 5.0, 9.0, 9.0]]])
    made, kept = move_boxes(boxes, translation(torch.tensor([-3.0]), torch.tensor([0.0])), (8, 8), valid=torch.tensor([[1, 1, 0]]))
    assert made.tolist() == [[[0.0, 2.0, 3.0, 6.0], [0.0] * 4, [0.0] * 4]]
    assert kept.tolist() == [[True, False, False]]


def test_a_volume_moves_alike_in_every_slice():
    specs = {"scan": InputSpec("scan", Kind.VOLUME, ("scan",), (5, 20, 24, 1), "uint8")}
    x = images(8, 1)[:, None].repeat(1, 5, 1, 1, 1)
    x[:, 1] = 255 - x[:, 1]
    flat = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (20, 24, 1), "uint8")}
    for make in (Flip, Rotate, Rotate90):
        made = make(specs).apply(Batch({"scan": x}), draw(rows=8)).inputs["scan"]
        for depth in range(5):
            alone = make(flat).apply(Batch({"photo": x[:, depth].contiguous()}), draw(rows=8)).inputs["photo"]
            assert (made[:, depth].int() - alone.int()).abs().max() <= 2
        assert not torch.equal(made, x)


def test_neighbours_are_multiplied_and_interpolated_once(monkeypatch):
    parts = ["flip", "rotate", "crop", {"type": "color_jitter"}, "scale", {"type": "rotate", "padding": "edge"}]
    built = build_augmentations(parts, PHOTO)
    assert [one.names for one in built] == [("flip", "rotate", "crop"), ("color_jitter",), ("scale",), ("rotate",)]
    assert isinstance(built[0], Composed)
    calls = []
    monkeypatch.setattr("deepseek.data.augment.geometry.warp", lambda x, *a, **k: calls.append(1) or warp(x, *a, **k))
    x, one = images(), draw(5)
    made = built[0].apply(Batch({"photo": x}), one).inputs["photo"]
    assert len(calls) == 1
    again = draw(5)
    whole = [part.maps(part.draws(again, ROWS), 20, 24) for part in (Flip(PHOTO), Rotate(PHOTO), Crop(PHOTO))]
    assert torch.equal(made, warp(x, torch.linalg.inv(whole[2] @ whole[1] @ whole[0])[:, :2], padding="zero"))
    assert [one.names for one in build_augmentations(["flip", "shift", "rotate90"], PHOTO)] == [("flip",), ("shift",), ("rotate90",)]


def test_multiplied_maps_draw_what_each_alone_would():
    x = Batch({"photo": images()})
    both = Augment(["flip", {"type": "rotate", "probability": 0.0}], PHOTO, seed=2).apply(x, 3).inputs["photo"]
    assert torch.equal(both, Augment(["flip"], PHOTO, seed=2).apply(x, 3).inputs["photo"])


def test_bounds_are_in_order():
    with pytest.raises(InputError, match="least value first"):
        Scale(PHOTO, scale=(2.0, 1.0))
    with pytest.raises(InputError, match="changes images"):
        Rotate({})
