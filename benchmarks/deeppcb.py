"""Defects of printed circuit boards: a detector against the difference to the defect-free template.

Protocol: DeepPCB (Tang et al. 2019, https://arxiv.org/abs/1902.06197) with its official split, 1,000 pictures to train on and 500 to test,
brought from 640 to `--size` pixels. The detector sees the tested picture alone; nothing is chosen on test pictures, which are met once, at
the end. Beside it the way without learning: where tested picture and template differ, connected pixels are a box, larger differences first;
it knows no classes, so that its boxes are right wherever they lie well, and it is given the template that the detector does without. The
annotated boxes leave a margin around what differs: the boxes are widened by what misses least on training pictures.

Figures: mean average precision at an overlap of .50 and from .50 to .95, and the share of defects missed at one false alarm a picture, at
an overlap of .33 as DeepPCB's authors judge it. Targets: a precision of .95, and fewer missed than the difference misses.

Usage: python benchmarks/deeppcb.py [--size 320] [--width 0.375] [--epochs 80] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

import deepseek
from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.registry import family

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data")) / "deeppcb"
CLASSES = ["open", "short", "mousebite", "spur", "copper", "pin-hole"]
SIDE, OVERLAP, MOST = 640, 0.33, 100
MARGINS, TUNED_ON = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0), 200
LEAST_PIXELS = 12
"""Differences of fewer pixels are edges that lie a pixel apart."""
RECIPE = """
name: deeppcb
seed: 0
data:
  source: {{type: box_files, path: pictures, form: pixels, classes: [{classes}], first_class: 1}}
  target: boxes
  transforms: {{image: {{type: image, size: {size}, channels: 1}}}}
  augment:
    - {{type: flip}}
    - {{type: rotate90}}
    - {{type: affine, degrees: 0.0, scale: [0.8, 1.25], shift: 0.1}}
task: {{type: detection, metrics: [map50, map, box_recall, {{type: miss_rate, false_alarms: 1.0, overlap: {overlap}}}]}}
model: {{type: detector, width: {width}, depth: 0.5}}
train: {{epochs: {epochs}, batch_size: 8, learning_rate: 0.006, precision: auto}}
"""


def unpack(folder: Path) -> None:
    """Lay the pictures out by split, each with its boxes beside it, and the templates in a folder of their own."""
    (folder / "templates").mkdir()
    with tarfile.open(DATA / "deeppcb_1bit_png.tar") as archive:
        for split, listed in (("train", "trainval.txt"), ("test", "test.txt")):
            (folder / "pictures" / split).mkdir(parents=True)
            for line in (DATA / listed).read_text().splitlines():
                picture, boxes = line.split()
                stem, name = picture.removesuffix(".jpg"), Path(picture).stem
                places = {
                    f"{stem}_test.png": folder / "pictures" / split / f"{name}.png",
                    boxes: folder / "pictures" / split / f"{name}.txt",
                    f"{stem}_temp.png": folder / "templates" / f"{name}.png",
                }
                for member, target in places.items():
                    content = archive.extractfile(member)
                    assert content is not None
                    target.write_bytes(content.read())


def differences(folder: Path, split: str, most: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield for each picture the boxes of connected differences, how many pixels each has, and the true boxes."""
    for file in sorted((folder / "pictures" / split).glob("*.png"))[:most]:
        tested, template = (np.asarray(Image.open(path).convert("L")) > 127 for path in (file, folder / "templates" / file.name))
        labelled, _ = ndimage.label(ndimage.binary_opening(tested ^ template), structure=np.ones((3, 3)))
        sizes = np.bincount(labelled.ravel())[1:]
        found = [
            (down, across, size) for (down, across), size in zip(ndimage.find_objects(labelled), sizes, strict=True) if size >= LEAST_PIXELS
        ]
        boxes = [(across.start, down.start, across.stop, down.stop) for down, across, _ in found]
        lines = [line.replace(",", " ").split() for line in file.with_suffix(".txt").read_text().splitlines() if line.strip()]
        truth = np.array([[*map(float, line[:4]), 0.0, 0.0] for line in lines]).reshape(-1, 6)
        yield np.array(boxes, dtype=float).reshape(-1, 4), np.array([size for *_, size in found], dtype=float), truth


def judge_differences(found: list[tuple[np.ndarray, np.ndarray, np.ndarray]], margin: float) -> dict[str, float]:
    """Return precision and misses of the differences, widened, by the same metrics, with one class for all defects."""
    target = TargetSpec("boxes", ("boxes",), ("defect",), (1,), 1, shape=(SIDE, SIDE))
    metrics = {
        "map50": family("metric").build("map50", target),
        "miss_rate": family("metric").build({"type": "miss_rate", "false_alarms": 1.0, "overlap": OVERLAP}, target),
    }
    for boxes, sizes, truth in found:
        wide = np.clip(boxes + np.array([-margin, -margin, margin, margin]), 0.0, SIDE)
        score = sizes[:, None] / (sizes.max(initial=1.0) + 1.0)
        decoded = {"box": torch.from_numpy(wide / SIDE)[None].float(), "score": torch.from_numpy(score)[None].float()}
        batch = Batch({"x": torch.zeros(1, 1)}, {"target": torch.from_numpy(truth)[None].float()})
        for metric in metrics.values():
            metric.update(decoded, batch)
    return {f"{name}_of_differences": round(metric.compute(), 4) for name, metric in metrics.items()}


def baseline(folder: Path) -> dict[str, float]:
    """Widen by what misses least on training pictures, and judge the test pictures."""
    seen = list(differences(folder, "train", TUNED_ON))
    margin = min(MARGINS, key=lambda margin: judge_differences(seen, margin)["miss_rate_of_differences"])
    return {**judge_differences(list(differences(folder, "test", 500)), margin), "margin_of_differences": margin}


def measure(*, size: int, width: float, epochs: int) -> dict[str, object]:
    """Train on the training pictures and judge both ways on the test pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unpack(folder)
        beside = baseline(folder)
        recipe = RECIPE.format(classes=", ".join(CLASSES), size=size, width=width, epochs=epochs, overlap=OVERLAP)
        (folder / "recipe.yaml").write_text(recipe)
        run = deepseek.run(folder / "recipe.yaml", out=folder / "runs")
        found = {key: round(value, 4) for key, value in run.metrics["test"].items() if key in ("map50", "map", "box_recall", "miss_rate")}
        return {"size": size, "width": width, "epochs": epochs, **found, **beside, "seconds": round(run.seconds, 1)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--width", type=float, default=0.375)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    figures = measure(size=given.size, width=given.width, epochs=given.epochs)
    print(json.dumps({"benchmark": "deeppcb", "threads": given.threads, **figures}), flush=True)
