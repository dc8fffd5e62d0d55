"""The front end of sound: waveforms become log-mel spectrograms inside the network, by a convolution and a product.

Legend of shapes: `b` rows · `l` samples · `t` frames · `f` mel bands · `k` frequencies of the transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepseek.errors import InputError

MelScale = Literal["slaney", "htk"]
FULL_SCALE = 32_768.0
"""What stored whole numbers are divided by."""
LEAST_POWER = 1e-14
"""Far enough below whatever is heard that a recording forty decibels softer keeps its whole range."""
EXAMPLE_FRAMES = 101
"""Of what is traced for export: halved six times over there are still two."""
_LINEAR_HZ, _LINEAR_MEL, _LOG_STEP = 1000.0, 15.0, math.log(6.4) / 27.0
_SPREAD = 1e-5


@dataclass(frozen=True)
class Bands:
    """What a spectrogram is made of.

    Attributes:
        rate: Samples a second.
        n_fft: Samples a frame, at least 2.
        mels: Bands.
        f_min: The lowest frequency, in Hz.
        f_max: The highest frequency, in Hz; half the rate where not given.
        scale: `slaney` (linear up to 1 kHz, triangles of equal area: librosa's default) or `htk` (triangles of equal height: torchaudio's).
    """

    rate: int
    n_fft: int
    mels: int
    f_min: float = 0.0
    f_max: float | None = None
    scale: MelScale = "slaney"


class LogMel(nn.Module):
    """Log-mel spectrograms of waveforms, with the mask of what is real.

    Frames stand `hop` samples apart and are centred on their sample, zeros before the first and behind the last. Each is windowed (Hann,
    periodic) and transformed: one convolution with the window's cosines and sines, so that it runs, and is exported, wherever convolutions
    are. Powers are summed over triangles along the mel scale; the natural logarithm follows. What lies behind a row's end is read nowhere;
    the last frame of all is never real, so that there are two at least. A silent row is zeros.

    A spectrogram `[b, t, f]` passes as it is: that is what augmentation of spectrograms leaves.

    Source: mel-frequency analysis, Davis and Mermelstein, IEEE Transactions on Acoustics, Speech, and Signal Processing, 1980,
    https://doi.org/10.1109/TASSP.1980.1163420.

    Args:
        bands: Frames and bands.
        hop: Samples from a frame to the next, at least 1.
        range_db: How far below its loudest moment a recording is heard; nothing for all there is.
        normalization: `recording` (mean 0 and deviation 1 over the recording's frames and bands, which takes its loudness out) or `none`.

    Shape:
        int16 or float `[b, l]` and bool `[b, l]` to float32 `[b, t, f]` and bool `[b, t]`, `t` being `ceil(l / hop) + 1`.

    Raises:
        InputError: The frequencies are no range, or a band is narrower than what frames tell apart.
    """

    basis: Tensor
    filters: Tensor

    def __init__(
        self, bands: Bands, *, hop: int, range_db: float | None = 80.0, normalization: Literal["recording", "none"] = "recording"
    ) -> None:
        super().__init__()
        n_fft = bands.n_fft
        self.n_fft, self.hop, self.normalization = n_fft, hop, normalization
        self.example_length = EXAMPLE_FRAMES * hop
        self.range = None if range_db is None else range_db * math.log(10.0) / 10.0
        filters = mel_filters(bands)
        time, frequency = np.arange(n_fft), np.arange(n_fft // 2 + 1)
        window = 0.5 - 0.5 * np.cos(2 * np.pi * time / n_fft)
        # whole turns are left out before the cosine is taken, which keeps digits
        angle = 2 * np.pi * (frequency[:, None] * time % n_fft) / n_fft
        basis = np.concatenate([np.cos(angle), np.sin(angle)]) * window
        # both follow from the arguments, and so need no place among the weights
        self.register_buffer("basis", torch.from_numpy(basis.astype(np.float32))[:, None], persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.astype(np.float32)), persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spectrograms and which of their frames are real."""
        if x.ndim == 3:
            return x, mask
        if torch.compiler.is_exporting():
            return self._spectrogram(x, mask)
        with torch.autocast(x.device.type, enabled=False):  # powers in half precision would lose what is faint
            return self._spectrogram(x, mask)

    def present(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return bool `[b]`: which rows hold a sound at all; a missing one is stored as silence."""
        return ((x != 0).flatten(2).any(dim=2) if x.ndim == 3 else (x != 0) & mask).any(dim=1)

    def _spectrogram(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        wave = x if x.is_floating_point() else x.to(self.basis.dtype) / FULL_SCALE
        wave = wave.to(self.basis.dtype).masked_fill(~mask, 0.0)
        before = self.n_fft // 2
        padded = functional.pad(wave, (before, self.n_fft - 1 - before + self.hop)).unsqueeze(1)
        parts = functional.conv1d(padded, self.basis, stride=self.hop)
        real, imaginary = parts.square().tensor_split(2, dim=1)
        logs = functional.conv1d(real + imaginary, self.filters.unsqueeze(-1)).clamp(min=LEAST_POWER).log()
        # a convolution of one tap: its length is that of the frames to whoever reasons about shapes
        tap = self.basis.new_ones(1, 1, 1)
        there = functional.pad(mask.to(self.basis.dtype), (0, self.hop)).unsqueeze(1)
        heard = functional.conv1d(there, tap, stride=self.hop) > 0.5
        logs = self._levelled(logs, heard)
        sounds = (wave != 0).any(dim=1)[:, None, None]  # silence is zeros: as spectrogram too it can be told from sound
        return logs.masked_fill(~(heard & sounds), 0.0).transpose(1, 2), heard.squeeze(1)

    def _levelled(self, logs: Tensor, heard: Tensor) -> Tensor:
        """Bound the range of `[b, f, t]` from below, and bring each row to mean 0 and deviation 1 over what is heard."""
        if self.range is not None:
            loudest = logs.masked_fill(~heard, math.log(LEAST_POWER)).amax(dim=(1, 2), keepdim=True)
            logs = torch.maximum(logs, loudest - self.range)
        if self.normalization == "none":
            return logs
        weight = heard.to(logs.dtype)
        count = (weight.sum(dim=(1, 2), keepdim=True) * logs.shape[1]).clamp(min=1.0)
        mean = (logs * weight).sum(dim=(1, 2), keepdim=True) / count
        centred = (logs - mean) * weight
        variance = centred.square().sum(dim=(1, 2), keepdim=True) / count
        return centred * torch.rsqrt(variance + _SPREAD)


def mel_filters(bands: Bands) -> np.ndarray:
    """Return the triangles that sum powers into bands, float64 `[mels, n_fft // 2 + 1]`.

    Args:
        bands: Frames and bands.

    Raises:
        InputError: The frequencies are no range, or a triangle lies between two frequencies of the transform and so would sum nothing.
    """
    rate, n_fft, mels, scale = bands.rate, bands.n_fft, bands.mels, bands.scale
    top = rate / 2 if bands.f_max is None else bands.f_max
    if not 0 <= bands.f_min < top <= rate / 2:
        raise InputError(
            f"the bands go from {bands.f_min:g} to {top:g} Hz, at {rate:,} samples a second",
            hint="f_min lies below f_max, and that within half the rate",
        )
    low, high = hz_to_mel(np.array([bands.f_min, top]), scale).tolist()
    edges = mel_to_hz(np.linspace(low, high, mels + 2), scale)
    grid = np.fft.rfftfreq(n_fft, 1 / rate)
    rising = (grid - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - grid) / np.diff(edges)[1:, None]
    filters: np.ndarray = np.maximum(0, np.minimum(rising, falling))
    empty = np.flatnonzero(filters.sum(axis=1) == 0)
    if len(empty):
        raise InputError(
            f"{len(empty)} of {mels} mel bands are narrower than the {rate / n_fft:.0f} Hz that frames of {n_fft} samples tell apart",
            hint="take fewer mels, or a larger n_fft",
        )
    if scale == "slaney":
        filters = filters * (2 / (edges[2:] - edges[:-2]))[:, None]
    return filters


def hz_to_mel(hz: np.ndarray, scale: MelScale) -> np.ndarray:
    """Return frequencies in mel: `2595 log10(1 + f/700)` (HTK), or linear to 1 kHz and logarithmic above (Slaney, 1998).

    Args:
        hz: Frequencies in Hz.
        scale: `slaney` or `htk`.
    """
    if scale == "htk":
        mels: np.ndarray = 2595.0 * np.log10(1.0 + hz / 700.0)
        return mels
    return np.where(
        hz < _LINEAR_HZ, hz * _LINEAR_MEL / _LINEAR_HZ, _LINEAR_MEL + np.log(np.maximum(hz, _LINEAR_HZ) / _LINEAR_HZ) / _LOG_STEP
    )


def mel_to_hz(mel: np.ndarray, scale: MelScale) -> np.ndarray:
    """Return the frequencies in Hz of which `hz_to_mel` gives these."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return np.where(
        mel < _LINEAR_MEL, mel * _LINEAR_HZ / _LINEAR_MEL, _LINEAR_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _LINEAR_MEL) - _LINEAR_MEL))
    )
