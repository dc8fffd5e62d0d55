from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch.nn import functional

from deepseek.data.augment import Draw
from deepseek.data.augment.blur import Blur
from deepseek.data.augment.color import ColorJitter, Grayscale, recoloured
from deepseek.data.augment.noise import Noise
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind

PHOTO = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (13, 11, 3), "uint8")}
ROWS = 16


def draw(seed=0, rows=ROWS):
    return Draw(torch.Generator().manual_seed(seed), 0, rows)


def images(shape=(ROWS, 13, 11, 3), low=0, high=256):
    return torch.from_numpy(np.random.default_rng(0).integers(low, high, shape, dtype=np.uint8))


def drawn(**furthest):
    """Return numbers for which every change is its furthest, for one row."""
    return torch.tensor([[0.0] + [float(furthest.get(name, 0.5)) for name in ("brightness", "contrast", "saturation", "hue")]]).double()


@pytest.mark.parametrize("up", [0.0, 1.0])
@pytest.mark.parametrize(
    ("name", "enhance"), [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)]
)
def test_each_change_is_pillows(name, enhance, up):
    x = images((1, 13, 11, 3))
    change = ColorJitter(PHOTO, **{"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, name: 0.4})
    made = recoloured(x, *change.change(drawn(**{name: up}), 3))
    wanted = np.asarray(enhance(Image.fromarray(x[0].numpy())).enhance(1.4 if up else 0.6))
    assert np.abs(made[0].numpy().astype(int) - wanted).max() <= 2
    assert not torch.equal(made, x)


def test_hue_turns_the_colours_and_leaves_the_luminance():
    x = images((1, 13, 11, 3), 100, 150).float() / 255
    made = recoloured(x, *ColorJitter(PHOTO, brightness=0, contrast=0, saturation=0, hue=0.1).change(drawn(hue=1.0), 3))
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(made @ luma, x @ luma, atol=2e-3, rtol=0)
    assert (made - x).abs().max() > 0.02
    whole = recoloured(x, *ColorJitter(PHOTO, brightness=0, contrast=0, saturation=0, hue=0.5).change(drawn(hue=1.0), 3))
    twice = recoloured(whole, *ColorJitter(PHOTO, brightness=0, contrast=0, saturation=0, hue=0.5).change(drawn(hue=1.0), 3))
    torch.testing.assert_close(twice, x, atol=2e-3, rtol=0)


def test_all_changes_at_once_are_one_after_the_other():
    x = images((1, 13, 11, 3), 90, 160).double() / 255  # far from the ends of the range, where cutting off would differ
    numbers = drawn(brightness=0.7, contrast=0.2, saturation=0.9, hue=0.6)
    both = ColorJitter(PHOTO, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)
    steps = x.float()
    for name in ("brightness", "contrast", "saturation", "hue"):
        alone = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, name: getattr(both, name)}
        steps = recoloured(steps, *ColorJitter(PHOTO, **alone).change(numbers, 3))
    torch.testing.assert_close(recoloured(x.float(), *both.change(numbers, 3)), steps, atol=2e-4, rtol=0)


def test_bytes_and_floats_agree_and_rows_differ():
    x = images()
    change = ColorJitter(PHOTO, hue=0.1, probability=0.8)
    whole = change.apply(Batch({"photo": x}), draw()).inputs["photo"]
    parts = change.apply(Batch({"photo": x.float() / 255}), draw()).inputs["photo"]
    assert (whole.float() - (parts * 255).round()).abs().max() <= 1
    kept = (whole == x).flatten(1).all(1)
    assert 0 < kept.sum() < ROWS
    assert torch.equal(ColorJitter(PHOTO, probability=0).apply(Batch({"photo": x}), draw()).inputs["photo"], x)


def test_grey_is_pillows():
    x = images()
    made = Grayscale(PHOTO, probability=1).apply(Batch({"photo": x}), draw()).inputs["photo"]
    wanted = np.stack([np.asarray(Image.fromarray(image.numpy()).convert("L")) for image in x])
    assert np.abs(made.numpy().astype(int) - wanted[..., None]).max() <= 1
    assert torch.equal(Grayscale(PHOTO, probability=0).apply(Batch({"photo": x}), draw()).inputs["photo"], x)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_change_in_brightness(channels):
    specs = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (8, 8, channels), "uint8")}
    x = images((ROWS, 8, 8, channels))
    assert not torch.equal(ColorJitter(specs).apply(Batch({"photo": x}), draw()).inputs["photo"], x)


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_noise_has_its_deviation_and_no_pattern(kind):
    shape = (8, 64, 64, 3)
    specs = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), shape[1:], "uint8")}
    x = torch.full(shape, 128, dtype=torch.uint8) if kind == "bytes" else torch.full(shape, 0.5)
    made = Noise(specs, std=(0.05, 0.05), probability=1).apply(Batch({"photo": x}), draw(rows=8)).inputs["photo"]
    noise = ((made.float() - x.float()) / (255 if kind == "bytes" else 1)).flatten(1)
    torch.testing.assert_close(noise.std(dim=1), torch.full((8,), 0.05), rtol=0.05, atol=0)
    assert noise.mean(dim=1).abs().max() < 0.003
    one = noise / noise.std(dim=1, keepdim=True)
    assert (one[:, 1:] * one[:, :-1]).mean(dim=1).abs().max() < 0.05  # neighbouring pixels
    between = (one @ one.T / one.shape[1]).fill_diagonal_(0)
    assert between.abs().max() < 0.05


def test_noise_is_as_strong_as_its_row_drew():
    x = torch.full((64, 32, 32, 1), 128, dtype=torch.uint8)
    specs = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (32, 32, 1), "uint8")}
    made = Noise(specs, std=(0.02, 0.1), probability=0.5).apply(Batch({"photo": x}), draw(rows=64)).inputs["photo"]
    spread = (made.float() - 128).flatten(1).std(dim=1) / 255
    assert 15 < (spread == 0).sum() < 50
    assert spread[spread > 0].min() < 0.04
    assert spread.max() > 0.08


def test_blur_is_a_gaussian():
    x = images((4, 13, 11, 3)).float() / 255
    made = Blur(PHOTO, sigma=(1.5, 1.5), probability=1).apply(Batch({"photo": x}), draw(rows=4)).inputs["photo"]
    place = torch.arange(-5, 6)
    weights = torch.exp(-(place**2) / (2 * 1.5**2))
    kernel = (weights[:, None] * weights / weights.sum() ** 2).expand(3, 1, 11, 11)
    padded = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (5, 5), (5, 5), (0, 0)), mode="symmetric")).permute(0, 3, 1, 2)
    torch.testing.assert_close(made, functional.conv2d(padded, kernel, groups=3).permute(0, 2, 3, 1), atol=1e-5, rtol=0)
    whole = images()
    assert torch.equal(Blur(PHOTO, probability=0).apply(Batch({"photo": whole}), draw()).inputs["photo"], whole)
    assert not torch.equal(Blur(PHOTO, probability=1).apply(Batch({"photo": whole}), draw()).inputs["photo"], whole)


def test_small_images_are_blurred_too():
    x = images((4, 3, 2, 3))
    made = Blur(PHOTO, sigma=(3.0, 3.0), probability=1).apply(Batch({"photo": x}), draw(rows=4)).inputs["photo"]
    assert (made.float().mean(dim=(1, 2)) - x.float().mean(dim=(1, 2))).abs().max() < 25
