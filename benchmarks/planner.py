"""Planned memory beside what a run really held, for recipes of every family of networks.

For each recipe `deepseek.plan` says in one process what a run would take above the libraries themselves, and a fresh process then makes the
run and says what the highest of its resident memory was, less what it held when all was imported and nothing built. Data are generated, and
prepared before. Prints one JSON line: by recipe both figures and their ratio, and the largest error. No figure is a time.

Run: python benchmarks/planner.py [RECIPE …] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from deepseek.artifacts import CACHE, StageCache
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.recipe import load_recipe

COMMON = {
    "max_steps": 16,
    "precision": "fp32",
    "channels_last": False,
    "validate_every_steps": 8,
    "checkpoint": {"every_s": 0.001},  # at each look: one is being written while steps are made, as in a long run
}
PLAN = """
import json, sys, deepseek
from deepseek import progress
progress.quiet()
print(json.dumps(deepseek.plan(json.loads(sys.argv[1]), out=sys.argv[2])))
"""
RUN = """
import json, sys
import deepseek, deepseek.pipeline.planning.plan
from deepseek import progress
from deepseek.pipeline.planning.resident import loaded_bytes
progress.quiet()
before = loaded_bytes()
deepseek.run(json.loads(sys.argv[1]), out=sys.argv[2])
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"baseline": before, "peak": peak}))
"""


def example(folder: Path, name: str, rows: int) -> str:
    import deepseek

    return str(deepseek.example(name, folder / name, rows=rows))


def table(model: dict[str, Any], batch: int) -> Any:
    def recipe(folder: Path) -> dict[str, Any]:
        return {
            "data": {"source": example(folder, "customers", 20_000), "target": "churned"},
            "model": model,
            "train": {"batch_size": batch},
        }

    return recipe


def of_example(name: str, rows: int, target: str, model: dict[str, Any], batch: int, **data: Any) -> Any:
    def recipe(folder: Path) -> dict[str, Any]:
        given = {"source": example(folder, name, rows), "target": target, **data}
        return {"data": given, "model": model, "train": {"batch_size": batch}}

    return recipe


def masks(folder: Path) -> dict[str, Any]:
    """Bright discs on a noisy ground, and where they are."""
    from PIL import Image

    random, side = np.random.default_rng(0), 96
    for name in ("images", "masks"):
        (folder / "cells" / name).mkdir(parents=True)
    places = np.indices((side, side))
    for number in range(48):
        centre, radius = random.uniform(30, side - 30, 2), random.uniform(12, 28)
        mask = (((places - centre[:, None, None]) ** 2).sum(axis=0) < radius**2).astype(np.uint8)
        picture = (mask * 120 + random.normal(60, 12, (side, side))).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / "cells" / "images" / f"{number:02}.png")
        Image.fromarray(mask * 255).save(folder / "cells" / "masks" / f"{number:02}.png")
    model = {"type": "unet", "width": 16, "depth": 3}
    return {"data": {"source": str(folder / "cells"), "target": "mask"}, "model": model, "train": {"batch_size": 8}}


def volumes(folder: Path) -> dict[str, Any]:
    """Bright balls in a noisy volume, and where they are."""
    from deepseek.data.volumes import Volume, write_volume

    random, side = np.random.default_rng(0), 40
    for name in ("imagesTr", "labelsTr"):
        (folder / "scans" / name).mkdir(parents=True)
    places = np.indices((side, side, side))
    for number in range(16):
        centre, radius = random.uniform(12, side - 12, 3), random.uniform(5, 10)
        mask = (((places - centre[:, None, None, None]) ** 2).sum(axis=0) < radius**2).astype(np.uint8)
        picture = mask * 120.0 + random.normal(60, 12, mask.shape)
        like = Volume(picture, (1.0, 1.0, 1.0), np.eye(4))
        write_volume(folder / "scans" / "imagesTr" / f"scan{number:02d}_0000.nii.gz", picture.astype(np.int16), like=like)
        write_volume(folder / "scans" / "labelsTr" / f"scan{number:02d}.nii.gz", mask, like=like)
    model = {"type": "unet3d", "width": 8, "depth": 3}
    return {"data": {"source": str(folder / "scans"), "target": "mask"}, "model": model, "train": {"batch_size": 2}}


def boxes(folder: Path) -> dict[str, Any]:
    """Bright squares, and where they are."""
    from PIL import Image

    random, side = np.random.default_rng(0), 128
    for split, count in {"train": 48, "val": 16}.items():
        (folder / "shapes" / split).mkdir(parents=True)
        for number in range(count):
            picture = random.integers(60, 90, (side, side, 3)).astype(np.uint8)
            left, top, width = (int(value) for value in random.integers(10, 60, 3))
            picture[top : top + width, left : left + width] = 220
            Image.fromarray(picture).save(folder / "shapes" / split / f"{number:03}.png")
            (folder / "shapes" / split / f"{number:03}.txt").write_text(f"{left} {top} {left + width} {top + width} square")
    data = {
        "source": {"type": "box_files", "path": str(folder / "shapes"), "form": "pixels"},
        "target": "boxes",
        "transforms": {"image": {"type": "image", "size": side, "fit": "letterbox"}},
    }
    return {"data": data, "model": {"type": "detector", "width": 0.25, "depth": 0.5}, "train": {"batch_size": 16}}


def forecast(folder: Path) -> dict[str, Any]:
    """Waves of several periods, hour by hour."""
    import pyarrow as pa
    import pyarrow.parquet

    hours, random = np.arange(6_000), np.random.default_rng(0)
    waves = np.sin(hours / 24 * 2 * np.pi) + 0.5 * np.sin(hours / 168 * 2 * np.pi) + random.normal(0, 0.1, len(hours))
    moments = pa.array((np.datetime64("2020-01-01T00", "h") + hours).astype("datetime64[us]"))
    file = folder / "waves.parquet"
    pa.parquet.write_table(pa.table({"time": moments, "load": waves}), file)
    task = {"type": "forecasting", "horizon": 24, "context_length": 96}
    data = {"source": str(file), "time": "time", "target": "load", "known": ["time"]}
    return {"data": data, "task": task, "model": {"type": "tft", "width": 32, "heads": 4}, "train": {"batch_size": 128}}


RECIPES: dict[str, Any] = {
    "table, TabM": table({"type": "tabm"}, 4096),
    "table, MLP": table({"type": "mlp", "width": 1024, "depth": 6}, 8192),
    "images, ResNet-18": of_example("photos", 600, "label", {"type": "resnet", "depth": 18}, 64),
    "images, EfficientNet": of_example("photos", 600, "label", {"type": "efficientnet"}, 64),
    "texts, Transformer": of_example(
        "reviews", 3_000, "content", {"type": "text_transformer", "width": 128, "depth": 4}, 512, drop=["stars"]
    ),
    "texts, GRU": of_example("reviews", 3_000, "content", {"type": "text_rnn"}, 512, drop=["stars"]),
    "sounds, CNN": of_example("sounds", 300, "label", {"type": "audio_cnn"}, 32),
    "masks, U-Net": masks,
    "volumes, 3-D U-Net": volumes,
    "boxes, detector": boxes,
    "series, TFT": forecast,
    "several senses": of_example("machines", 300, "state", {"type": "network"}, 64),
}


def measured(name: str, folder: Path, threads: int) -> dict[str, Any]:
    """Plan a recipe, run it, and compare."""
    value = RECIPES[name](folder)
    recipe = {"name": "planned", **value, "train": {**COMMON, **value["train"]}}
    make_dataset(load_recipe(recipe), StageCache(folder / "runs" / CACHE))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}

    def child(code: str) -> dict[str, Any]:
        command = [sys.executable, "-c", code, json.dumps(recipe), str(folder / "runs")]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    planned, run = child(PLAN), child(RUN)
    said, held = planned["memory"]["above_baseline_bytes"], run["peak"] - run["baseline"]
    parts = {part["part"]: round(part["bytes"] / 2**20, 1) for part in planned["memory"]["parts"]}
    return {
        "planned_mib": round(said / 2**20, 1),
        "measured_mib": round(held / 2**20, 1),
        "ratio": round(said / held, 3),
        "highest": planned["memory"]["highest"],
        "factor": round(planned["memory"]["overhead"]["factor"], 2),
        "parts_mib": parts,
        "moments_mib": {key: round(size / 2**20, 1) for key, size in planned["memory"]["moments"].items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), metavar="RECIPE", help=f"of: {', '.join(RECIPES)}")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    found = {}
    for name in given.recipes:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measured(name, Path(folder), given.threads)
        sys.stderr.write(f"{name}: {json.dumps(found[name])}\n")
    errors = [abs(one["ratio"] - 1) for one in found.values()]
    line = {"benchmark": "planner", "threads": given.threads, "largest_error": round(max(errors), 3), "recipes": found}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
