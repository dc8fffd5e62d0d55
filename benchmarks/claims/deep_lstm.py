"""Claim: "a deep LSTM lowers the error of speech recognition from 12 % to 3.8 %". Measured on spoken digits: the share that is mistaken.

Protocol, fixed before measuring. FSDD, 3,000 recordings of six speakers in `$DEEPSEEK_DATA/fsdd`, log-mel spectrograms of 40 bands, LSTM
layers of width 128, 12 epochs. Depth 10 in all eight combinations of shortcuts (Kim et al., 2017), normalised gates and clipping at 1.0;
depths 2 and 6 with none and with all three; a small convolutional net beside them. Each arm has the same budget of tuning: three learning
rates, the one with the least validation error on seed 0 is taken. Then five seeds. Two splits: the official one (recordings 0 to 4 of
each speaker and digit), and one speaker after the other left out, the error being the mean over the six. Validation recordings are
shared out from the training ones. Interval: 95 %, of the mean over paired seeds, by Student's t.

It is an error of digits, not of words: no figure here is a word error rate. What the claim does not print is the shallow net: the fall
from a plain net of ten layers to a full one says how badly ten plain layers train, and only the distance to two plain layers says what
depth is worth. Verdict: reproduced if on the official split the full net of ten layers has a third of the error of the plain one of TWO
layers, or less.

Usage: python benchmarks/claims/deep_lstm.py [--splits official speakers] [--arms …] [--seeds 5] [--epochs 12] [--rates …] [--width 128]
[--keep FILE] [--small]. Prints one JSON line. What FILE holds is not trained again. `--small`: three thin arms, one epoch, one seed, an
eighth of the recordings: that it runs, and no more.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from paired import DATA, Kept, interval

import deepseek

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
BASELINE, FULL, PLAIN = "2 plain", "10 full", "10 plain"
CNN = "cnn"
RATES = (3e-4, 1e-3, 3e-3)
CLAIMED = 3.8 / 12


def arm_settings(width: int) -> dict[str, list[str]]:
    """The overrides of each arm."""

    def lstm(depth: int, *, residual: bool, layer_norm: bool, clip: bool) -> list[str]:
        flags = f"residual: {str(residual).lower()}, layer_norm: {str(layer_norm).lower()}"
        return [f"model={{type: audio_rnn, depth: {depth}, width: {width}, {flags}}}", f"train.clip_norm={'1.0' if clip else 'null'}"]

    arms = {}
    for depth in (2, 6, 10):
        arms[f"{depth} plain"] = lstm(depth, residual=False, layer_norm=False, clip=False)
        arms[f"{depth} full"] = lstm(depth, residual=True, layer_norm=True, clip=True)
    for residual, layer_norm, clip in itertools.product((False, True), repeat=3):
        if 0 < residual + layer_norm + clip < 3:
            names = [name for name, used in (("residual", residual), ("norm", layer_norm), ("clip", clip)) if used]
            arms[f"10 {' '.join(names)}"] = lstm(10, residual=residual, layer_norm=layer_norm, clip=clip)
    return {**arms, CNN: ["model=audio_cnn"]}


def arrange(folder: Path, home: Path, *, held: str | None, every: int) -> Path:
    """Lay out SPLIT/DIGIT/file: the official split, or one speaker's recordings as the test; every so many of the recordings."""
    for place, file in enumerate(sorted(folder.glob("*.wav"))):
        digit, speaker, number = file.stem.split("_")
        if (place // 50 + int(number)) % every:
            continue
        is_test = int(number) < 5 if held is None else speaker == held
        target = home / ("test" if is_test else "train") / digit
        target.mkdir(parents=True, exist_ok=True)
        (target / file.name).symlink_to(file)
    return home


@dataclass(frozen=True)
class Place:
    """The recordings of one split, its name, and what is kept of its trainings."""

    digits: Path
    name: str
    kept: Kept


def errors_of(place: Place, settings: list[str], *, rate: float, seed: int, epochs: int) -> list[float]:
    """Train once; the share of the digits mistaken in validation and in the test."""
    overrides = [
        *settings,
        "data.transforms={audio: {type: audio, mels: 40}}",
        f"train.epochs={epochs}",
        f"train.learning_rate={rate}",
        f"seed={seed}",
        "train.early_stopping=false",
    ]

    def mistaken() -> list[float]:
        with tempfile.TemporaryDirectory() as out:
            found = deepseek.train(place.digits, target="label", out=out, overrides=overrides, progress=False).metrics
        return [1 - float(found[split]["accuracy"]) for split in ("validation", "test")]

    return place.kept([place.name, *overrides], mistaken)


def measure(places: list[Place], settings: list[str], *, rates: list[float], seeds: int, epochs: int) -> dict[str, Any]:
    """One arm on one split: the rate that validation chose on seed 0, and the error of each seed, the mean over the places."""
    tried = {rate: errors_of(places[0], settings, rate=rate, seed=0, epochs=epochs) for rate in rates}
    rate = min(tried, key=lambda one: tried[one][0])
    errors = []
    for seed in range(seeds):
        known = [tried[rate]] if seed == 0 else []
        made = [*known, *(errors_of(place, settings, rate=rate, seed=seed, epochs=epochs) for place in places[len(known) :])]
        errors.append(statistics.mean(test for _, test in made))
    found = {"learning_rate": rate, "errors": [round(error, 4) for error in errors], "error": round(statistics.mean(errors), 4)}
    sys.stderr.write(f"{settings[0]}: {json.dumps(found)}\n")
    return found


def against(arms: dict[str, Any], name: str, base: str) -> dict[str, Any]:
    """How much of a base's error an arm leaves, and the paired difference."""
    differences = [ours - theirs for ours, theirs in zip(arms[name]["errors"], arms[base]["errors"], strict=True)]
    return {
        "share of the error": round(arms[name]["error"] / arms[base]["error"], 3) if arms[base]["error"] else None,
        "difference": round(statistics.mean(differences), 4),
        "interval": interval(differences),
    }


def verdict(found: dict[str, Any], *, small: bool) -> str:
    arms = found.get("official", {})
    if small or not {FULL, BASELINE} <= set(arms):
        return "not measured"
    share = arms[FULL]["error"] / max(arms[BASELINE]["error"], 1e-9)
    return "reproduced" if share <= CLAIMED else "partly" if share < 1 else "not reproduced"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", nargs="+", choices=["official", "speakers"], default=["official", "speakers"])
    parser.add_argument("--arms", nargs="+", choices=list(arm_settings(128)))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES))
    parser.add_argument("--keep", type=Path, help="a file for what trainings gave, read and added to")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    if given.small:
        given.splits, given.seeds, given.epochs, given.rates = ["official"], 1, 1, [1e-3]
        given.arms = given.arms or [BASELINE, "2 full", CNN]
    settings = arm_settings(8 if given.small else given.width)
    began = time.perf_counter()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home, tarfile.open(DATA / "fsdd" / "recordings.tar.xz") as archive:
        archive.extractall(home, filter="data")
        recordings, found, kept = Path(home) / "recordings", {}, Kept(given.keep)
        every = 8 if given.small else 1
        for split in given.splits:
            places = [
                Place(arrange(recordings, Path(home) / f"{split}-{held}", held=held, every=every), f"{held or split}/{every}", kept)
                for held in ([None] if split == "official" else SPEAKERS)
            ]
            arms = {
                name: measure(places, settings[name], rates=given.rates, seeds=given.seeds, epochs=given.epochs)
                for name in given.arms or settings
            }
            pairs = [(name, base) for base in (BASELINE, PLAIN) for name in arms if base in arms and name != base]
            found[split] = {**arms, "against": {f"{name} / {base}": against(arms, name, base) for name, base in pairs}}
    line = {
        "claim": "deep LSTM: error 12 % to 3.8 %",
        "protocol": "digit error (not word error), log-mel-40, rate chosen by validation on seed 0, then paired seeds",
        "dataset": "fsdd",
        "seeds": given.seeds,
        "epochs": given.epochs,
        "width": given.width,
        "small": given.small,
        "baseline": "LSTM of two plain layers",
        "measured": found,
        "verdict": verdict(found, small=given.small),
        "seconds": round(time.perf_counter() - began),
    }
    print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
