"""Sound files as samples: WAV in all its usual forms by itself, other formats through libsndfile, and any rate brought to another."""

from __future__ import annotations

import io
import math
import struct
from functools import lru_cache

import numpy as np

from deepseek.errors import MissingExtraError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
"""The codes of a WAV file's `fmt ` chunk."""
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)
"""What stands for the size of samples that were written to a stream: they go on to the file's end."""
HIGHEST_RATE = 768_000
"""Samples a second of the quickest converters. What claims more is damaged, and the filter to another rate could take any memory."""
_HALF_WIDTH = 10
"""Zero crossings of the low-pass filter to either side."""
_KAISER = 5.0
_OUTPUTS_AT_ONCE = 1 << 16


class SoundError(ValueError):
    """A file that is no sound, or one of a form that is not read; the message says why."""


def decode(data: bytes) -> tuple[np.ndarray, int]:
    """Return a sound file's samples, channels averaged, float32 within ±1, and how many there are a second.

    Args:
        data: The file's bytes. WAV files of 8, 16, 24 and 32 bits, whole numbers or floats, are read here; FLAC, Ogg and MP3 need the
            optional library `soundfile`.

    Raises:
        SoundError: It cannot be read.
        MissingExtraError: It is in a format for which `soundfile` is needed, and that is not installed.
    """
    samples, rate = _decode_wav(data) if data[:4] == b"RIFF" and data[8:12] == b"WAVE" else _decode_other(data)
    if rate > HIGHEST_RATE:
        raise SoundError(f"it says that it has {rate:,} samples a second; up to {HIGHEST_RATE:,} are read")
    if not len(samples):
        raise SoundError("it holds no samples")
    if not np.isfinite(samples).all():
        raise SoundError("a sample is infinite or not a number")
    return samples.mean(axis=1, dtype=np.float32), rate


def _decode_wav(data: bytes) -> tuple[np.ndarray, int]:
    """Return `[samples, channels]` and the rate."""
    place, form = 12, None
    while place + 8 <= len(data):
        name, size = data[place : place + 4], struct.unpack_from("<I", data, place + 4)[0]
        body = place + 8
        if name == b"fmt ":
            form = _form(data[body : body + size])
        elif name == b"data":
            if form is None:
                raise SoundError("its samples come before the chunk that says what they are")
            code, channels, rate, bits = form
            end = len(data) if size in _UNKNOWN_SIZES else body + size
            if end > len(data):
                raise SoundError(f"it is cut off: {size:,} bytes of samples are announced and {len(data) - body:,} are there")
            return _samples(data[body:end], code=code, bits=bits, channels=channels), rate
        place = body + size + size % 2
    raise SoundError("it holds no chunk of samples")


def _form(chunk: bytes) -> tuple[int, int, int, int]:
    """Return code, channels, rate and bits of a `fmt ` chunk."""
    if len(chunk) < 16:
        raise SoundError("its description is cut off")
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if code == EXTENSIBLE and len(chunk) >= 26:
        code = struct.unpack_from("<H", chunk, 24)[0]
    if not channels or not rate:
        raise SoundError(f"it says that it has {channels} channels and {rate} samples a second")
    return code, channels, rate, bits


def _samples(raw: bytes, *, code: int, bits: int, channels: int) -> np.ndarray:
    width = bits // 8 * channels
    if (code, bits) not in {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)}:
        raise SoundError(f"its samples are of {bits} bits in the form {code}; 8, 16, 24 and 32 bits and floats are read")
    raw = raw[: len(raw) - len(raw) % width]
    if code == FLOAT:
        values: np.ndarray = np.frombuffer(raw, f"<f{bits // 8}").astype(np.float32)
    elif bits == 8:
        values = np.frombuffer(raw, np.uint8).astype(np.float32) / 128 - 1
    elif bits == 24:
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        values = (padded.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    else:
        values = (np.frombuffer(raw, f"<i{bits // 8}") / 2.0 ** (bits - 1)).astype(np.float32)
    return values.reshape(-1, channels)


def _decode_other(data: bytes) -> tuple[np.ndarray, int]:
    if not data:
        raise SoundError("it is empty")
    try:
        import soundfile
    except ImportError:
        if data[:4] in (b"fLaC", b"OggS") or data[:3] == b"ID3" or data[:1] == b"\xff":
            raise MissingExtraError("soundfile", "audio", "a sound file other than WAV") from None
        raise SoundError("it is no WAV file") from None
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        # what the library says itself, without the place in memory that stands for the file's name
        raise SoundError(str(getattr(error, "error_string", error))) from error
    return samples, int(rate)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Return samples at another rate: `ceil(n · wanted / rate)` of them, float32.

    A polyphase low-pass filter: a windowed sinc (Kaiser, β = 5) with ten zero crossings to either side, of which each output reads only the
    taps that meet an input. What lies above half of the lower rate is taken out, so that nothing is folded down.

    Source: Crochiere and Rabiner, "Multirate Digital Signal Processing", 1983; the filter is the one that `scipy.signal.resample_poly`
    takes by default, whose numbers these are.

    Args:
        samples: `[n]`.
        rate: Samples a second as they are.
        wanted: Samples a second as they are to be.
    """
    common = math.gcd(rate, wanted)
    up, down = wanted // common, rate // common
    if up == down or not len(samples):
        return samples.astype(np.float32, copy=False)
    bank = _phases(up, down)
    taps, half = bank.shape[1], _HALF_WIDTH * max(up, down)
    count = -(-len(samples) * up // down)
    # nothing comes before the first sample, and nothing after the last
    padded = np.concatenate(
        [np.zeros(taps, np.float32), samples.astype(np.float32, copy=False), np.zeros(taps + half // up + 1, np.float32)]
    )
    out = np.empty(count, np.float32)
    for start in range(0, count, _OUTPUTS_AT_ONCE):
        center = np.arange(start, min(start + _OUTPUTS_AT_ONCE, count), dtype=np.int64) * down + half
        windows = padded[(center // up)[:, None] + taps - np.arange(taps)]
        out[start : start + len(center)] = np.einsum("nt,nt->n", windows, bank[center % up])
    return out


@lru_cache(maxsize=16)
def _phases(up: int, down: int) -> np.ndarray:
    """Return the filter cut into `up` phases, float32 `[up, taps]`."""
    most = max(up, down)
    places = np.arange(-_HALF_WIDTH * most, _HALF_WIDTH * most + 1)
    filtered = np.sinc(places / most) * np.kaiser(len(places), _KAISER)
    filtered *= up / filtered.sum()
    taps = -(-len(filtered) // up)
    return np.pad(filtered, (0, taps * up - len(filtered))).reshape(taps, up).T.astype(np.float32)
