"""Short calls of three kinds as sound files, in a folder for each."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from deepseek.data.examples.paths import free

CALLS = ("falling", "rising", "steady")
RATE = 8_000


def call(kind: str, random: np.random.Generator) -> np.ndarray:
    """Return float64 `[n]` within ±1, at 8,000 samples a second: a tone of any pitch, length and loudness, in noise.

    Args:
        kind: `falling`, `rising` or `steady`: what its pitch does.
        random: Decides the rest.
    """
    time = np.arange(int(random.uniform(0.25, 0.6) * RATE)) / RATE
    share = time / time[-1]
    slope = {"falling": -1.0, "rising": 1.0, "steady": 0.0}[kind] * random.uniform(0.4, 0.9)
    pitch = random.uniform(500, 1400) * 2 ** (slope * (share - 0.5))
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * np.sin(np.pi * share) ** 0.3
    noisy = random.uniform(0.1, 0.8) * (tone + random.normal(0, random.uniform(0.05, 0.6), len(tone)))
    clipped: np.ndarray = np.clip(noisy, -1, 1)
    return clipped


def write_wav(file: Path, samples: np.ndarray) -> None:
    """Write samples within ±1 as a file of 16 bits at 8,000 samples a second."""
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(np.rint(samples * 32_767).astype("<i2").tobytes())


def write_sounds(folder: Path, *, rows: int = 600, seed: int = 0) -> Path:
    """Write `sounds/CLASS/NUMBER.wav`, the classes in turn."""
    home = free(folder / "sounds")
    random = np.random.default_rng(seed)
    for number in range(rows):
        kind = CALLS[number % len(CALLS)]
        (home / kind).mkdir(parents=True, exist_ok=True)
        write_wav(home / kind / f"{number:05d}.wav", call(kind, random))
    return home
