from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicSpline

from deepseek.data.augment import Draw, Known
from deepseek.data.augment.audio import AudioNoise, AudioShift, Gain, SpecAugment
from deepseek.data.augment.series import Jitter, MagnitudeWarp, Permute, TimeWarp, WindowSlice, WindowWarp, read_at, smooth
from deepseek.data.batch import Batch
from deepseek.data.transforms.audio import AudioTransform
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Field, Kind

SOUND = {"sound": InputSpec("sound", Kind.AUDIO, ("sound",), (400,), "float32")}
SERIES = {"run": InputSpec("run", Kind.SERIES, ("x", "y"), (50, 2), "float32")}
ROWS = 32


def draw(seed=0):
    return Draw(torch.Generator().manual_seed(seed), 0, ROWS)


def sounds(*shape):
    return torch.from_numpy(np.random.default_rng(0).normal(size=(ROWS, *(shape or (400,)))).astype(np.float32))


def heard(augmentation, x, seed=0):
    return augmentation.apply(Batch({"sound": x}), draw(seed)).inputs["sound"]


def moved(augmentation, x, seed=0):
    return augmentation.apply(Batch({"run": x}), draw(seed)).inputs["run"]


@pytest.mark.parametrize("shape", [(4000,), (2000, 2)])
def test_noise_has_its_ratio_to_the_signal(shape):
    x = sounds(*shape) * torch.logspace(-2, 2, ROWS).view(-1, *[1] * len(shape))
    noise = heard(AudioNoise(SOUND, snr_db=(20.0, 20.0), probability=1.0), x) - x
    ratio = 10 * torch.log10(x.square().flatten(1).mean(1) / noise.square().flatten(1).mean(1))
    torch.testing.assert_close(ratio, torch.full((ROWS,), 20.0), atol=0.4, rtol=0)
    assert torch.equal(heard(AudioNoise(SOUND, probability=0.0), x), x)
    assert not heard(AudioNoise(SOUND, probability=1.0), torch.zeros(ROWS, 10)).any()


@pytest.mark.parametrize("padding", ["zero", "wrap"])
@pytest.mark.parametrize("shape", [(40,), (40, 3)])
def test_sound_moves_in_time(padding, shape):
    x = sounds(*shape)
    made = heard(AudioShift(SOUND, fraction=0.2, padding=padding, probability=1.0), x)
    offsets = set()
    for one, other in zip(x.numpy(), made.numpy(), strict=True):
        found = []
        for offset in range(-8, 9):
            wanted = np.roll(one, offset, axis=0)
            if padding == "zero":
                wanted[:offset] = 0 if offset > 0 else wanted[:offset]
                wanted[len(wanted) + offset :] = 0 if offset < 0 else wanted[len(wanted) + offset :]
            found += [offset] if np.array_equal(wanted, other) else []
        assert len(found) == 1
        offsets.update(found)
    assert min(offsets) < -4
    assert max(offsets) > 4
    assert torch.equal(heard(AudioShift(SOUND, probability=0.0), x), x)


def test_gain_is_in_decibels():
    x = sounds()
    made = heard(Gain(SOUND, gain_db=(-6.0, 12.0), probability=1.0), x)
    change = 20 * torch.log10(made[:, 0] / x[:, 0])
    assert -6.001 <= change.min() < -3
    assert 9 < change.max() <= 12.001
    torch.testing.assert_close(made / x, (made[:, :1] / x[:, :1]).expand_as(x))
    assert torch.equal(heard(Gain(SOUND, probability=0.0), x), x)


def test_stripes_of_time_and_frequency_are_blank():
    x = sounds(60, 40)
    made = heard(SpecAugment(SOUND, times=1, time_width=0.2, frequencies=1, frequency_width=0.25, fill="zero"), x)
    widths = []
    for one, other in zip(x, made, strict=True):
        blank = other == 0
        times, bands = blank.all(1).nonzero().flatten(), blank.all(0).nonzero().flatten()
        widths.append((len(times), len(bands)))
        assert len(times) <= 12
        assert len(bands) <= 10
        assert not len(times) or times[-1] - times[0] + 1 == len(times)
        assert not len(bands) or bands[-1] - bands[0] + 1 == len(bands)
        kept = ~(blank.all(1)[:, None] | blank.all(0)[None])
        assert torch.equal(one[kept], other[kept])
    assert max(width for width, _ in widths) > 8
    assert max(width for _, width in widths) > 6
    mean = heard(SpecAugment(SOUND, times=3, frequencies=0), x)
    struck = mean != x
    torch.testing.assert_close(mean[struck], x.mean(dim=(1, 2), keepdim=True).expand_as(x)[struck])
    assert torch.equal(heard(SpecAugment(SOUND, probability=0.0), x), x)
    with pytest.raises(InputError, match="takes spectrograms"):
        heard(SpecAugment(SOUND), sounds())


def test_the_curve_is_a_natural_cubic_spline():
    knots = np.random.default_rng(0).normal(size=(3, 6, 2))
    wanted = CubicSpline(np.arange(6), knots, axis=1, bc_type="natural")(np.linspace(0, 5, 41))
    np.testing.assert_allclose(smooth(torch.from_numpy(knots), 41).numpy(), wanted, atol=1e-12)
    straight = smooth(torch.tensor([[[1.0], [3.0]]], dtype=torch.float64), 5)[0, :, 0]
    assert straight.tolist() == [1, 1.5, 2, 2.5, 3]


def test_series_are_read_between_moments_as_numpy_does():
    x, place = sounds(50, 2), torch.from_numpy(np.random.default_rng(1).uniform(-3, 55, (ROWS, 30)))
    made = read_at(x, place).numpy()
    for row in range(ROWS):
        for channel in range(2):
            np.testing.assert_allclose(made[row, :, channel], np.interp(place[row], np.arange(50), x[row, :, channel]), atol=1e-5)


def test_jitter_is_a_share_of_the_spread():
    x = sounds(4000, 2) * torch.tensor([1.0, 100.0])
    noise = moved(Jitter(SERIES, std=0.1, probability=1.0), x) - x
    torch.testing.assert_close(noise.std(1) / x.std(1), torch.full((ROWS, 2), 0.1), rtol=0.1, atol=0)
    assert torch.equal(moved(Jitter(SERIES, probability=0.0), x), x)


def test_magnitude_follows_a_smooth_curve_or_one_factor():
    x = sounds(50, 2).abs() + 1
    factor = moved(MagnitudeWarp(SERIES, std=0.2, knots=0, probability=1.0), x) / x
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    assert 0.1 < factor[:, 0].std() < 0.3
    curve = moved(MagnitudeWarp(SERIES, std=0.2, knots=4, probability=1.0), x) / x
    assert curve.std(1).mean() > 0.05
    assert curve.diff(dim=1).abs().max() < 0.2
    assert float(curve.mean()) == pytest.approx(1, abs=0.1)


def test_time_warp_keeps_order_and_ends():
    x = torch.linspace(0, 1, 50)[None, :, None].repeat(ROWS, 1, 2)
    made = moved(TimeWarp(SERIES, std=0.3, probability=1.0), x)
    assert (made.diff(dim=1) > 0).all()
    torch.testing.assert_close(made[:, [0, -1]], x[:, [0, -1]])
    assert (made - x).abs().max() > 0.03
    torch.testing.assert_close(moved(TimeWarp(SERIES, std=0.0, probability=1.0), x), x)


def test_a_slice_is_stretched_over_the_whole():
    x = torch.arange(51.0)[None, :, None].repeat(ROWS, 1, 2)
    made = moved(WindowSlice(SERIES, fraction=0.8, probability=1.0), x)
    torch.testing.assert_close(made.diff(dim=1), torch.full((ROWS, 50, 2), 0.8), atol=1e-4, rtol=0)
    assert made[:, 0].min() >= 0
    assert made[:, -1].max() <= 50
    assert made[:, 0, 0].std() > 1


def test_a_window_is_made_shorter_or_longer():
    x = torch.arange(101.0)[None, :, None].repeat(ROWS, 1, 1)
    specs = {"run": InputSpec("run", Kind.SERIES, ("x",), (101, 1), "float32")}
    made = WindowWarp(specs, fraction=0.2, factors=(0.5, 2.0), probability=1.0).apply(Batch({"run": x}), draw()).inputs["run"][..., 0]
    torch.testing.assert_close(made[:, [0, -1]], x[:, [0, -1], 0], atol=1e-3, rtol=0)
    speeds = made.diff(dim=1)
    usual = speeds.median(dim=1).values  # how fast the rest runs: 0.9 where the window is half as long, 1.2 where it is double
    assert set((usual * 10).round().int().tolist()) == {9, 12}
    longest = torch.where(usual < 1, speeds.max(dim=1).values / usual, speeds.min(dim=1).values / usual)
    assert set((longest * 10).round().int().tolist()) == {20, 5}


def test_parts_change_places_whole():
    x = torch.arange(50.0)[None, :, None].repeat(ROWS, 1, 2)
    made = moved(Permute(SERIES, parts=5, probability=1.0), x)[..., 0]
    assert torch.equal(made.sort(dim=1).values, x[..., 0])
    assert (made[:, ::10] % 10 == 0).all()
    assert ((made.diff(dim=1) == 1).sum(1) >= 45).all()
    assert len({tuple(row) for row in made[:, ::10].tolist()}) > 10
    uneven = moved(Permute(SERIES, parts=4, probability=1.0), x[:, :7])[..., 0]
    assert torch.equal(uneven.sort(dim=1).values, x[:, :7, 0])


RAGGED = {"sound": InputSpec("sound", Kind.AUDIO, ("sound",), (), "int16", ragged=True)}


def ragged(rows=ROWS, length=900, more=0):
    mask = torch.arange(length + more) < torch.linspace(200, length, rows).round().long().unsqueeze(1)
    x = torch.randint(-9_000, 9_000, (rows, length), generator=torch.Generator().manual_seed(5)).to(torch.int16)
    return Batch({"sound": torch.nn.functional.pad(x, (0, more)) * mask, "sound_mask": mask})


@pytest.mark.parametrize("kind", [AudioNoise, AudioShift, Gain])
def test_rows_of_unequal_length_change_alike_however_far_they_are_padded(kind):
    augmentation = kind(RAGGED, probability=1.0)
    (first, mask), (second, _) = ((made.inputs["sound"], made.inputs["sound_mask"]) for made in
        (augmentation.apply(ragged(more=more), draw()) for more in (0, 300)))  # fmt: skip
    assert first.is_floating_point()
    torch.testing.assert_close(second[:, :900] * mask, first * mask)
    assert not torch.allclose(first * mask, ragged().inputs["sound"] / 32_768 * mask)


def test_noise_of_a_row_does_not_hang_on_its_rank():
    augmentation, batch = AudioNoise(RAGGED, probability=1.0), ragged()
    whole = augmentation.apply(batch, draw()).inputs["sound"]
    part = Batch({name: tensor[8:16, :560] for name, tensor in batch.inputs.items()})
    alone = augmentation.apply(part, Draw(torch.Generator().manual_seed(0), 8, ROWS)).inputs["sound"]
    mask = part.inputs["sound_mask"]
    torch.testing.assert_close(alone * mask, whole[8:16, :560] * mask, atol=1e-5, rtol=1e-4)


def test_waveforms_are_blanked_as_the_spectrograms_that_the_network_makes():
    transform = AudioTransform((Field("sound", Kind.AUDIO),), n_fft=64, hop=20, mels=8).load_json({"rate": 8_000})
    augmentation = SpecAugment(RAGGED, times=1, time_width=0.3, frequencies=1, frequency_width=0.3, fill="zero")
    with pytest.raises(InputError, match="takes spectrograms"):
        augmentation.apply(ragged(), draw())
    augmentation.begin(Known(transforms={"sound": transform}))
    made, batch = augmentation.apply(ragged(), draw()), ragged()
    front = transform.module()
    wanted, heard = front(batch.inputs["sound"], batch.inputs["sound_mask"])
    assert torch.equal(made.inputs["sound_mask"], heard)
    blank = (made.inputs["sound"] == 0) & heard.unsqueeze(-1)
    assert 0.05 < blank.float().mean() < 0.5
    kept = heard.unsqueeze(-1) & ~blank
    torch.testing.assert_close(made.inputs["sound"][kept.expand_as(wanted)], wanted[kept.expand_as(wanted)])
    # the network takes what comes out as it is
    again, mask = front(made.inputs["sound"], made.inputs["sound_mask"])
    assert torch.equal(again, made.inputs["sound"])
    assert torch.equal(mask, heard)
    silent = SpecAugment(RAGGED, probability=0.0)
    silent.begin(Known(transforms={"sound": transform}))
    torch.testing.assert_close(silent.apply(ragged(), draw()).inputs["sound"], wanted)
