"""Machines as four senses have them: a note, a photograph, a recording and a table; what is wrong with each?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from PIL import Image, ImageDraw

from deepseek.data.examples.paths import free
from deepseek.data.examples.sounds import RATE, write_wav

STATES = ("bearing", "fine", "leak")
_CLEAR = {
    "bearing": ["it squeals since shift {n}", "a squealing noise from the left side", "the shaft is rough to turn by hand"],
    "fine": ["nothing to report in week {n}", "runs as it should, checked {n} times", "all values were normal today"],
    "leak": ["there is oil under line {n}", "a wet floor around the pump again", "pressure falls by {n} percent over night"],
}
_VAGUE = ["please have a look at number {n}", "somebody called about this machine", "the operator of shift {n} wants a visit"]
_GROUND = {"bearing": (90, 90, 100), "fine": (90, 100, 90), "leak": (60, 50, 30)}
TELLING, MISSING = 0.6, 0.15
"""The share of rows in which a sense tells the state, and the share in which it is missing; each sense by itself."""


def write_machines(folder: Path, *, rows: int = 900, seed: int = 0) -> Path:
    """Write `machines/machines.csv` with its files: `note`, `photo` and `recording` (paths), `maker`, `hours`, `heat` and `state`.

    No sense is enough by itself: each tells the state in six rows of ten, and each of the first three is missing in more than one of ten.
    """
    home = free(folder / "machines")
    for name in ("photos", "recordings"):
        (home / name).mkdir(parents=True)
    random = np.random.default_rng(seed)
    table: dict[str, list[object]] = {name: [] for name in ("note", "photo", "recording", "maker", "hours", "heat", "state")}
    for number in range(rows):
        state = STATES[int(random.integers(3))]
        seen, heard = (state if random.random() < TELLING else STATES[int(random.integers(3))] for _ in range(2))
        photo, recording = f"photos/{number:05d}.png", f"recordings/{number:05d}.wav"
        _photo(seen, random).save(home / photo)
        write_wav(home / recording, _recording(heard, random))
        forms = _CLEAR[state] if random.random() < TELLING else _VAGUE
        heat = random.normal({"bearing": 64.0, "fine": 52.0, "leak": 50.0}[state], 7.0)
        row = (
            str(random.choice(forms)).format(n=random.integers(2, 90)),
            photo,
            recording,
            str(random.choice(["Abel", "Brandt", "Crane"])),
        )
        there = [value if random.random() >= MISSING else None for value in row[:3]]
        for column, value in zip(table, (*there, row[3], int(random.integers(50, 9000)), round(float(heat), 1), state), strict=True):
            table[column].append(value)
    pa.csv.write_csv(pa.table(table), home / "machines.csv")
    return home / "machines.csv"


def _photo(state: str, random: np.random.Generator, *, side: int = 32) -> Image.Image:
    """Return a machine on its floor; what leaks stands in a dark pool."""
    noise = random.integers(-20, 21, (side, side, 3))
    image = Image.fromarray((np.array((150, 150, 145)) + noise).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    left = int(random.integers(6, 12))
    if state == "leak":
        draw.ellipse((left - 5, 21, left + 18, 30), fill=_GROUND["leak"])
    draw.rectangle((left, 8, left + 13, 25), fill=_GROUND[state] if state != "leak" else _GROUND["fine"])
    if state == "bearing":
        draw.arc((left + 2, 11, left + 11, 20), 0, 360, fill=(220, 90, 40), width=2)
    return image


def _recording(state: str, random: np.random.Generator) -> np.ndarray:
    """Return a hum; a bad bearing squeals in it, a leak hisses."""
    time = np.arange(int(random.uniform(0.25, 0.5) * RATE)) / RATE
    sound = 0.3 * np.sin(2 * np.pi * random.uniform(90, 140) * time) + random.normal(0, 0.02, len(time))
    if state == "bearing":
        sound = sound + 0.12 * np.sin(2 * np.pi * random.uniform(1500, 2200) * time)
    if state == "leak":
        sound = sound + np.diff(random.normal(0, 0.08, len(time) + 1))
    return np.clip(random.uniform(0.4, 1.0) * sound, -1, 1)
