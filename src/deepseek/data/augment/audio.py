"""Sound: noise, moves and loudness of waveforms, and stripes cut out of spectrograms.

Legend of shapes: `b` rows · `t` samples or frames · `c` channels · `f` frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor

from deepseek.data.augment.affine import ordered
from deepseek.data.augment.base import Augmentation, Draw
from deepseek.data.batch import Batch
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind

Share = Annotated[float, Ge(0), Le(1)]


class _Sound(Augmentation):
    """What treats inputs that are sound, `[b, t]`, `[b, t, c]` or spectrograms `[b, t, f]`, in floats; all of a row alike."""

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, probability: float) -> None:
        super().__init__(inputs)
        self.require("sound", Kind.AUDIO)
        self.probability = probability

    @property
    def sounds(self) -> tuple[str, ...]:
        """The names of the inputs that are sound."""
        return self.of_kind(Kind.AUDIO)


class AudioNoise(_Sound):
    """Adds white noise of a random strength, said as the ratio of signal to noise.

    Args:
        inputs: The batch's inputs.
        snr_db: The lowest and the highest ratio of the waveform's power to the noise's, in decibels.
        probability: How likely a row is changed.

    Raises:
        InputError: The highest ratio is below the lowest.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        snr_db: tuple[Annotated[float, Ge(-60), Le(120)], Annotated[float, Ge(-60), Le(120)]] = (10.0, 30.0),
        probability: Share = 0.5,
    ) -> None:
        super().__init__(inputs, probability=probability)
        self.snr_db = ordered("snr_db", snr_db)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with noisy sound: silence stays silent, as it has no power to compare with."""
        drawn = draw.uniform(len(batch), 2)
        low, high = self.snr_db
        chosen, ratio = drawn[:, 0] < self.probability, 10 ** ((low + (high - low) * drawn[:, 1]) / 10)
        changed = {}
        for name in self.sounds:
            x = batch.inputs[name]
            noise = draw.normal(len(batch), *x.shape[1:]).to(x)
            power = x.square().flatten(1).mean(dim=1)
            strength = _along((power / ratio.to(x)).sqrt() * chosen.to(x), x)
            changed[name] = torch.addcmul(x, noise, strength)
        return self.replace(batch, changed)


class AudioShift(_Sound):
    """Moves a waveform in time by a random amount.

    Args:
        inputs: The batch's inputs.
        fraction: The furthest move as a share of the length, to either side.
        padding: What moves in: `zero` (silence), or the end that moved out at the other side (`wrap`).
        probability: How likely a row is changed.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        fraction: Share = 0.1,
        padding: Literal["zero", "wrap"] = "zero",
        probability: Share = 0.5,
    ) -> None:
        super().__init__(inputs, probability=probability)
        self.fraction, self.padding = fraction, padding

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with sound moved, later or earlier, by whole samples."""
        drawn = draw.uniform(len(batch), 2)
        changed = {}
        for name in self.sounds:
            x = batch.inputs[name]
            length = x.shape[1]
            furthest = round(self.fraction * length)
            offset = ((drawn[:, 1] * (2 * furthest + 1)).long().clamp(max=2 * furthest) - furthest) * (drawn[:, 0] < self.probability)
            place = torch.arange(length, device=x.device) - offset.to(x.device)[:, None]
            moved = _taken(x, place.remainder(length))
            inside = (place >= 0) & (place < length)
            changed[name] = moved if self.padding == "wrap" else moved * _along(inside, x).to(x.dtype)
        return self.replace(batch, changed)


class Gain(_Sound):
    """Makes sound louder or softer.

    Args:
        inputs: The batch's inputs.
        gain_db: The least and the largest change in decibels.
        probability: How likely a row is changed.

    Raises:
        InputError: The largest change is below the least.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        gain_db: tuple[Annotated[float, Ge(-120), Le(60)], Annotated[float, Ge(-120), Le(60)]] = (-6.0, 6.0),
        probability: Share = 0.5,
    ) -> None:
        super().__init__(inputs, probability=probability)
        self.gain_db = ordered("gain_db", gain_db)

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with sound of another loudness; nothing is cut off at 1."""
        drawn = draw.uniform(len(batch), 2)
        low, high = self.gain_db
        factor = torch.where(drawn[:, 0] < self.probability, 10 ** ((low + (high - low) * drawn[:, 1]) / 20), 1.0)
        return self.replace(
            batch, {name: batch.inputs[name] * _along(factor.to(batch.inputs[name]), batch.inputs[name]) for name in self.sounds}
        )


class SpecAugment(_Sound):
    """Blanks stripes of a spectrogram `[b, t, f]`: moments and frequencies (SpecAugment; Park et al. 2019, https://arxiv.org/abs/1904.08779).

    The third change of the paper, a warp of time, which it found to matter least, is not made.

    Args:
        inputs: The batch's inputs.
        times: How many stripes of time a row loses.
        time_width: The widest stripe of time as a share of the frames; each is of a random width from 0.
        frequencies: How many stripes of frequency a row loses.
        frequency_width: The widest stripe of frequency as a share of the frequencies.
        fill: What stripes hold then: the row's `mean`, or `zero`.
        probability: How likely a row is changed.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputSpec],
        /,
        *,
        times: Annotated[int, Ge(0)] = 2,
        time_width: Share = 0.2,
        frequencies: Annotated[int, Ge(0)] = 2,
        frequency_width: Share = 0.2,
        fill: Literal["mean", "zero"] = "mean",
        probability: Share = 1.0,
    ) -> None:
        super().__init__(inputs, probability=probability)
        self.times, self.time_width, self.frequencies, self.frequency_width, self.fill = (
            times,
            time_width,
            frequencies,
            frequency_width,
            fill,
        )

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with stripes blank.

        Raises:
            InputError: A sound is no spectrogram.
        """
        chosen = draw.uniform(len(batch)) < self.probability
        time, frequency = draw.uniform(len(batch), self.times, 2), draw.uniform(len(batch), self.frequencies, 2)
        changed = {}
        for name in self.sounds:
            x = batch.inputs[name]
            if x.ndim != 3:
                raise InputError(f"{name!r} has the shape {list(x.shape)}", hint="spec_augment takes spectrograms [b, t, f]")
            struck = _stripes(time.to(x.device), x.shape[1], self.time_width)[:, :, None]
            struck = struck | _stripes(frequency.to(x.device), x.shape[2], self.frequency_width)[:, None, :]
            struck &= chosen.to(x.device)[:, None, None]
            blank = x.mean(dim=(1, 2), keepdim=True) if self.fill == "mean" else x.new_zeros(1)
            changed[name] = torch.where(struck, blank, x)
        return self.replace(batch, changed)


def _stripes(drawn: Tensor, size: int, widest: float) -> Tensor:
    """Return bool `[b, size]`: the places that lie within one of the stripes, `[b, stripes, 2]` saying how wide and where."""
    most = int(widest * size)
    width = (drawn[..., 0] * (most + 1)).long().clamp(max=most)
    start = (drawn[..., 1] * (size - width + 1)).long()
    place = torch.arange(size, device=drawn.device)
    return ((place >= start[..., None]) & (place < (start + width)[..., None])).any(dim=1)


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Return `[b]` or `[b, t]` with as many dimensions as `x`."""
    return values.view(*values.shape, *[1] * (x.ndim - values.ndim))


def _taken(x: Tensor, place: Tensor) -> Tensor:
    """Return `x` `[b, t, …]` at the places `[b, s]` along time."""
    return x.gather(1, place if x.ndim == 2 else place[..., None].expand(-1, -1, x.shape[2]))
