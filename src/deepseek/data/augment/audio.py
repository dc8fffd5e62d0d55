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
from deepseek.data.augment.base import Augmentation, Draw, Known
from deepseek.data.batch import Batch, mask_name
from deepseek.data.transforms.base import InputSpec
from deepseek.data.transforms.log_mel import FULL_SCALE, LogMel
from deepseek.errors import InputError
from deepseek.fields import Kind

Share = Annotated[float, Ge(0), Le(1)]


class _Sound(Augmentation):
    """What treats inputs that are sound, `[b, t]`, `[b, t, c]` or spectrograms `[b, t, f]`; all of a row alike.

    Samples stored as whole numbers become floats within ±1. Of rows of unequal length only what is real is looked at and moved.
    """

    def __init__(self, inputs: Mapping[str, InputSpec], /, *, probability: float) -> None:
        super().__init__(inputs)
        self.require("sound", Kind.AUDIO)
        self.probability = probability

    @property
    def sounds(self) -> tuple[str, ...]:
        """The names of the inputs that are sound."""
        return self.of_kind(Kind.AUDIO)


def _heard(batch: Batch, name: str) -> tuple[Tensor, Tensor | None]:
    """Return a sound in floats, and the mask `[b, t]` of what is real where rows are of unequal length."""
    x = batch.inputs[name]
    return x if x.is_floating_point() else x.float() / FULL_SCALE, batch.inputs.get(mask_name(name))


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
            x, mask = _heard(batch, name)
            noise = (draw.normal(len(batch), *x.shape[1:]) if mask is None else _lengthwise_normal(draw, x)).to(x)
            power = _power(x, mask)
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
            x, mask = _heard(batch, name)
            length = torch.full((len(batch),), x.shape[1]) if mask is None else mask.sum(dim=1).cpu()
            furthest = (self.fraction * length).round().long()
            offset = torch.minimum((drawn[:, 1] * (2 * furthest + 1)).long(), 2 * furthest) - furthest
            offset = (offset * (drawn[:, 0] < self.probability)).to(x.device)[:, None]
            length = length.to(x.device)[:, None]
            place = torch.arange(x.shape[1], device=x.device) - offset
            moved = _taken(x, place.remainder(length))
            inside = (place >= 0) & (place < length)
            moved = moved if self.padding == "wrap" else moved * _along(inside, x).to(x.dtype)
            changed[name] = moved if mask is None else moved * _along(mask, x).to(x.dtype)
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
        sounds = {name: _heard(batch, name)[0] for name in self.sounds}
        return self.replace(batch, {name: x * _along(factor.to(x), x) for name, x in sounds.items()})


class SpecAugment(_Sound):
    """Blanks stripes of a spectrogram `[b, t, f]`: moments and frequencies (SpecAugment; Park et al. 2019, https://arxiv.org/abs/1904.08779).

    The third change of the paper, a warp of time, which it found to matter least, is not made. Waveforms become spectrograms first, by the
    front end of the model itself, which then takes them as they are; so it stands behind what changes waveforms.

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

        self._front_ends: dict[str, LogMel] = {}

    def begin(self, known: Known) -> None:
        """Take up the front ends that make spectrograms of the sounds."""
        modules = {name: known.transforms[name].module() for name in self.sounds if name in known.transforms}
        self._front_ends = {name: module for name, module in modules.items() if isinstance(module, LogMel)}

    def _spectrogram(self, batch: Batch, name: str) -> tuple[Tensor, Tensor | None]:
        x, mask = batch.inputs[name], batch.inputs.get(mask_name(name))
        if x.ndim == 2 and mask is not None and name in self._front_ends:
            with torch.no_grad():
                made: tuple[Tensor, Tensor] = self._front_ends[name].to(x.device)(x, mask)
            return made
        if x.ndim != 3:
            raise InputError(f"{name!r} has the shape {list(x.shape)}", hint="spec_augment takes spectrograms [b, t, f]")
        return x, mask

    def apply(self, batch: Batch, draw: Draw) -> Batch:
        """Return the batch with stripes blank.

        Raises:
            InputError: A sound is no spectrogram, and nothing is known that makes one of it.
        """
        chosen = draw.uniform(len(batch)) < self.probability
        time, frequency = draw.uniform(len(batch), self.times, 2), draw.uniform(len(batch), self.frequencies, 2)
        changed = {}
        for name in self.sounds:
            x, mask = self._spectrogram(batch, name)
            length = torch.full((len(x), 1), x.shape[1], device=x.device) if mask is None else mask.sum(dim=1, keepdim=True)
            struck = _stripes(time.to(x.device), x.shape[1], self.time_width, length=length)[:, :, None]
            struck = struck | _stripes(frequency.to(x.device), x.shape[2], self.frequency_width)[:, None, :]
            struck &= chosen.to(x.device)[:, None, None]
            # behind a row's end there are zeros, which add nothing to a sum
            blank = x.sum(dim=(1, 2), keepdim=True) / (length.unsqueeze(2) * x.shape[2]) if self.fill == "mean" else x.new_zeros(1)
            changed[name] = torch.where(struck, blank, x)
            if mask is not None:
                changed[name] = changed[name] * mask.unsqueeze(2).to(x.dtype)
                changed[mask_name(name)] = mask
        return self.replace(batch, changed)


def _stripes(drawn: Tensor, size: int, widest: float, *, length: Tensor | None = None) -> Tensor:
    """Return bool `[b, size]`: the places that lie within one of the stripes, `[b, stripes, 2]` saying how wide and where.

    Args:
        drawn: Numbers in `[0, 1)`.
        size: How many places there are.
        widest: The widest stripe as a share of the length.
        length: How many of the places each row has, `[b, 1]`; all where not given.
    """
    span = torch.full((len(drawn), 1), size, device=drawn.device) if length is None else length
    most = (widest * span).long()
    width = torch.minimum((drawn[..., 0] * (most + 1)).long(), most)
    start = (drawn[..., 1] * (span - width + 1)).long()
    place = torch.arange(size, device=drawn.device)
    return ((place >= start[..., None]) & (place < (start + width)[..., None])).any(dim=1)


def _power(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean square `[b]` of what is real; behind a row's end there are zeros."""
    if mask is None:
        return x.square().flatten(1).mean(dim=1)
    return x.square().flatten(1).sum(dim=1) / (mask.sum(dim=1) * (x[0, 0].numel() if len(x) else 1))


def _lengthwise_normal(draw: Draw, x: Tensor) -> Tensor:
    """Return normal noise of the shape of `x`, the same for a moment of a row however far the row is padded, and on whatever rank it is.

    Numbers are drawn moment by moment for the whole batch, from a generator of their own: what is drawn later does not depend on how many.
    """
    own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=draw.generator)))
    even = torch.rand(x.shape[1], 2, draw.total, *x.shape[2:], generator=own)
    normal = torch.sqrt(-2 * torch.log1p(-even[:, 0])) * torch.cos(2 * torch.pi * even[:, 1])
    return normal[:, draw.start : draw.start + len(x)].transpose(0, 1)


def _along(values: Tensor, x: Tensor) -> Tensor:
    """Return `[b]` or `[b, t]` with as many dimensions as `x`."""
    return values.view(*values.shape, *[1] * (x.ndim - values.ndim))


def _taken(x: Tensor, place: Tensor) -> Tensor:
    """Return `x` `[b, t, …]` at the places `[b, s]` along time."""
    return x.gather(1, place if x.ndim == 2 else place[..., None].expand(-1, -1, x.shape[2]))
