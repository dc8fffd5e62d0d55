"""Several senses at once: is a fusion worth more than the best sense alone, and one fusion more than another?

Houses: 535 houses, four photographs and five columns each; is the price above the median? Five folds.

Digits: a written digit (MNIST, of which only the pixels' first principal components are kept) and a spoken one (FSDD, with white noise),
paired by class; test rows have a speaker whom no training row has. As in AV-MNIST (Vielzeuf et al., "CentralNet", ECCV workshops 2018,
https://arxiv.org/abs/1808.07275), whose way of spoiling images this follows, but with other recordings and fewer rows: other figures.

Arms: each sense alone, then all by `late`, `concat`, `gated` and `cross_attention`, with widths that give the last the parameters of concat
within a few per cent (printed). All are trained alike.

Usage: python benchmarks/senses.py [houses|digits …] [--seeds 5] [--arms …] [--epochs N]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tarfile
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from PIL import Image
from sklearn.decomposition import PCA

import deepseek
from deepseek import progress
from deepseek.data.examples.sounds import RATE
from deepseek.data.transforms.sound_files import decode
from deepseek.models.network import parameter_count

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
ENERGY, SNR_DB, TRAIN, TEST = 0.25, 0.0, 1_500, 300
"""The share of the images' energy that is kept, the ratio of speech to noise, and the rows."""
PHOTOS = ("bathroom", "bedroom", "frontal", "kitchen")
IMAGE = {"type": "cnn", "channels": [16, 32, 64], "blocks": [0, 0, 0], "normalization": "group"}
SOUND = {"type": "audio_cnn", "channels": [16, 32, 64], "blocks": [0, 0, 0]}
TABLE = {"type": "table", "numbers": {"type": "piecewise", "width": 16, "bins": 16}, "tokens": True}
FUSIONS: dict[str, Any] = {
    "late": {"type": "late", "width": 32},
    "concat": "concat",
    "gated": {"type": "gated", "width": 32},
    "cross_attention": {"type": "cross_attention", "width": 32, "heads": 4, "expansion": 1},
}


def houses(fold: int, home: Path) -> tuple[Path, list[str], dict[str, Any]]:
    lines = [line.split() for line in (DATA / "houses" / "HousesInfo.txt").read_text().splitlines() if line.strip()]
    values = np.array(lines, dtype=np.float64)
    with tarfile.open(DATA / "houses" / "houses_128.tar") as archive:
        files = {Path(one.name).name: archive.extractfile(one).read() for one in archive.getmembers() if one.isfile()}  # type: ignore[union-attr]
    table: dict[str, Any] = {room: [_small(files[f"{row + 1}_{room}.jpg"]) for row in range(len(values))] for room in PHOTOS}
    table |= {name: values[:, place] for place, name in enumerate(("bedrooms", "bathrooms", "area"))}
    table["zip"] = [f"zip {int(code)}" for code in values[:, 3]]
    table["dear"] = np.where(values[:, 4] > np.median(values[:, 4]), "yes", "no")
    order = np.random.default_rng(0).permutation(len(values))
    held = np.isin(np.arange(len(values)), order[fold::5])
    table["part"] = _parts(held, seed=fold)
    return _write(table, home), [*PHOTOS, "table"], {"image": IMAGE, "table": TABLE}


def digits(seed: int, home: Path) -> tuple[Path, list[str], dict[str, Any]]:
    draw = np.random.default_rng(seed)
    with np.load(DATA / "mnist" / "mnist.npz") as file:
        pixels, labels = file["x_train"].reshape(60_000, -1).astype(np.float32), file["y_train"]
    kept = PCA(ENERGY, svd_solver="full", random_state=0).fit(pixels[:5_000])
    with tarfile.open(DATA / "fsdd" / "recordings.tar.xz") as archive:
        sounds = {Path(one.name).stem: archive.extractfile(one).read() for one in archive.getmembers() if one.name.endswith(".wav")}  # type: ignore[union-attr]
    held = np.repeat([False, True], [TRAIN, TEST])
    speaker = SPEAKERS[seed % len(SPEAKERS)]
    said: dict[tuple[bool, int], list[str]] = {}
    for name in sorted(sounds):
        digit, who, _ = name.split("_")
        said.setdefault((who == speaker, int(digit)), []).append(name)
    rows = draw.permutation(60_000)[: TRAIN + TEST]
    made = kept.inverse_transform(kept.transform(pixels[rows])).clip(0, 255).astype(np.uint8).reshape(-1, 28, 28)
    calls = [_noisy(sounds[str(draw.choice(said[bool(out), int(labels[row])]))], draw) for out, row in zip(held, rows, strict=True)]
    table = {"written": [_png(image) for image in made], "spoken": calls, "digit": [str(labels[row]) for row in rows]}
    table["part"] = _parts(held, seed=seed)
    return _write(table, home), ["written", "spoken"], {"written": IMAGE, "spoken": SOUND}


SETS = {"houses": (houses, "dear", 30), "digits": (digits, "digit", 20)}


def _parts(held: np.ndarray, *, seed: int) -> list[str]:
    validation = np.random.default_rng(seed + 100).random(len(held)) < 0.15
    return np.where(held, "test", np.where(validation, "validation", "train")).tolist()


def _small(data: bytes) -> bytes:
    return _png(np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((48, 48))))


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _noisy(data: bytes, draw: np.random.Generator) -> bytes:
    """Return a recording in white noise of its own power, times the ratio."""
    samples, _ = decode(data)
    noise = draw.normal(0, np.sqrt(np.mean(samples**2) / 10 ** (SNR_DB / 10)), len(samples))
    mixed = samples + noise
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes((mixed / np.abs(mixed).max() * 32_000).astype("<i2").tobytes())
    return file.getvalue()


def _write(table: dict[str, Any], home: Path) -> Path:
    pa.parquet.write_table(pa.table(table), home / "rows.parquet")
    return home / "rows.parquet"


def model_of(arm: str, encoders: dict[str, Any], senses: list[str]) -> dict[str, Any]:
    chosen = {name: dict(spec) for name, spec in encoders.items()}
    if arm == "cross_attention":
        for name, spec in chosen.items():
            if name != "table":
                spec["pool" if spec["type"] == "audio_cnn" else "pooling"] = "none"
    fusion = FUSIONS[arm if arm in FUSIONS else "concat"]
    if arm in senses:
        image = "image" if arm in PHOTOS else arm
        chosen = {name: spec for name, spec in chosen.items() if name == image}
    return {"type": "network", "encoders": chosen, "fusion": fusion, "trunk": "identity"}


def dropped(arm: str, senses: list[str]) -> list[str]:
    columns = {"table": ["bedrooms", "bathrooms", "area", "zip"]}
    return [] if arm in FUSIONS else [name for sense in senses if sense != arm for name in columns.get(sense, [sense])]


def measure(name: str, arm: str, *, seed: int, epochs: int | None) -> tuple[float, int]:
    make, target, usual = SETS[name]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        file, senses, encoders = make(seed, home)
        recipe = {
            "name": name,
            "seed": seed,
            "data": {
                "source": str(file),
                "target": target,
                "drop": dropped(arm, senses),
                "split": {"column": "part"},
                "fields": {"spoken": "audio"} if name == "digits" and arm != "written" else {},
                "augment": None,
            },
            "model": model_of(arm, encoders, senses),
            "train": {
                "epochs": epochs or usual,
                "batch_size": 32,
                "learning_rate": 2e-3,
                "optimizer": {"type": "adamw", "weight_decay": 0.05},
                "schedule": {"type": "cosine", "warmup": 0.1},
                "early_stopping": False,
                "ema": 0.98,
                "clip_norm": 1.0,
                "compile": "off",
            },
        }
        run = deepseek.run(recipe, out=home / "runs")
        network = deepseek.load(run.run, backend="torch").backend.model  # type: ignore[attr-defined]
        return float(run.metrics["test"]["accuracy"]), parameter_count(network)


def _rows(given: argparse.Namespace) -> Iterator[dict[str, object]]:
    for name in given.sets:
        arms = given.arms or [*([*PHOTOS, "table"] if name == "houses" else ["written", "spoken"]), *FUSIONS]
        found: dict[str, list[float]] = {arm: [] for arm in arms}
        sizes = {}
        for seed in range(given.seeds):
            for arm in arms:
                accuracy, sizes[arm] = measure(name, arm, seed=seed, epochs=given.epochs)
                found[arm].append(round(accuracy, 4))
                print(json.dumps({"set": name, "arm": arm, "seed": seed, "accuracy": found[arm][-1]}), flush=True)
        yield {
            "benchmark": "senses",
            "set": name,
            "seeds": given.seeds,
            "accuracy": {arm: round(float(np.mean(one)), 4) for arm, one in found.items()},
            "deviation": {arm: round(float(np.std(one, ddof=1)), 4) for arm, one in found.items() if len(one) > 1},
            "parameters": sizes,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], default=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+")
    parser.add_argument("--epochs", type=int)
    given = parser.parse_args()
    torch.set_num_threads(1)
    progress.quiet(True)
    for row in _rows(given):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
