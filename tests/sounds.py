"""Sound files made of samples, in the forms that WAV has."""

from __future__ import annotations

import struct

import numpy as np


def wav(samples, *, rate=8_000, bits=16, channels=1, code=1, extensible=False, announced=None):
    """Return a WAV file's bytes: samples within ±1, the same on each channel; of code 3 they are floats."""
    samples = np.repeat(np.asarray(samples, np.float64), channels)
    if code == 3:
        body = samples.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        body = (np.rint(samples * 127) + 128).astype(np.uint8).tobytes()
    else:
        whole = np.rint(samples * (2 ** (bits - 1) - 1)).astype("<i8")
        body = whole.view(np.uint8).reshape(-1, 8)[:, : bits // 8].tobytes()
    width = bits // 8 * channels
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else code, channels, rate, rate * width, width, bits)
    if extensible:
        form += struct.pack("<HHIH14x", 22, bits, 0, code)
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # a chunk that nobody knows, of an odd size, and so padded
    size = len(body) if announced is None else announced
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + odd + b"data" + struct.pack("<I", size) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def write_tones(folder, *, rows=60, seed=0, rate=8_000):
    """Write CLASS/NUMBER.wav: low and high tones of random length, loudness and pitch, in noise."""
    draw = np.random.default_rng(seed)
    for number in range(rows):
        kind, pitch = (("low", draw.uniform(200, 600)), ("high", draw.uniform(1200, 2400)))[number % 2]
        time = np.arange(int(draw.uniform(0.15, 0.4) * rate)) / rate
        sound = draw.uniform(0.05, 0.8) * (np.sin(2 * np.pi * pitch * time) + draw.normal(0, 0.2, len(time)))
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / f"{number:04d}.wav").write_bytes(wav(sound.clip(-1, 1), rate=rate))
    return folder
