"""Spoken digits with nothing said but the folder and its target, on the official split and on speakers never heard.

Protocol: FSDD, 3,000 recordings at 8 kHz of six speakers. The official split tests on recordings 0 to 4 of each speaker and digit; the
harder one leaves out all recordings of a speaker, six times. Validation rows are shared out from the training recordings. Beside the
network that `auto` takes: the deep residual LSTM, a plain LSTM of two layers with the same training, and logistic regression on each
recording's mean and deviation of the same log-mel bands, as the front end makes them.

Usage: python benchmarks/spoken_digits.py [--split official|speakers|both] [--arms auto lstm …] [--epochs N for the speakers' split]
"""

from __future__ import annotations

import argparse
import json
import os
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deepseek
from deepseek.data.batch import as_inputs
from deepseek.data.transforms.audio import AudioTransform
from deepseek.fields import Field, Kind

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
ARMS: dict[str, list[str]] = {
    "auto": [],
    "residual lstm": ["model=audio_rnn"],
    "lstm": ["model={type: audio_rnn, depth: 2, residual: false, layer_norm: false}"],
}
LOGISTIC = "logistic regression"
TARGET = 0.985


def arrange(folder: Path, home: Path, held: str | None) -> Path:
    """Lay out SPLIT/DIGIT/file: the official split, or one speaker's recordings as the test."""
    for file in sorted(folder.glob("*.wav")):
        digit, speaker, number = file.stem.split("_")
        is_test = int(number) < 5 if held is None else speaker == held
        place = home / ("test" if is_test else "train") / digit
        place.mkdir(parents=True, exist_ok=True)
        (place / file.name).symlink_to(file)
    return home


def trained(home: Path, overrides: list[str], out: Path) -> float:
    run = deepseek.train(home, target="label", out=out, overrides=overrides, progress=False)
    return float(run.metrics["test"]["accuracy"])


def logistic(home: Path) -> float:
    """Return the accuracy of logistic regression on each recording's mean and deviation of every band."""
    parts = {}
    transform = AudioTransform((Field("audio", Kind.AUDIO),), normalization="none")
    for split in ("train", "test"):
        files = sorted((home / split).rglob("*.wav"))
        batch = pa.record_batch({"audio": [file.read_bytes() for file in files]})
        if split == "train":
            transform.observe(batch)
            transform.finish()
        rows, module = [], transform.module()
        for start in range(0, len(files), 50):
            inputs = as_inputs(transform.apply(batch.slice(start, 50)))
            with torch.inference_mode():
                logs, mask = module(inputs["audio"], inputs["audio_mask"])
            rows += [np.concatenate([one[real].mean(0), one[real].std(0)]) for one, real in zip(logs.numpy(), mask.numpy(), strict=True)]
        parts[split] = np.array(rows), np.array([file.parent.name for file in files])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000))
    return float(model.fit(*parts["train"]).score(*parts["test"]))


def measure(folder: Path, arm: str, held: str | None, epochs: int) -> float:
    with tempfile.TemporaryDirectory() as home:
        arranged = arrange(folder, Path(home) / "digits", held)
        if arm == LOGISTIC:
            return logistic(arranged)
        cut = [] if held is None else [f"train.epochs={epochs}"]
        return trained(arranged, [*ARMS[arm], *cut], Path(home) / "runs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=["official", "speakers", "both"], default="both")
    parser.add_argument("--arms", nargs="+", default=[*ARMS, LOGISTIC])
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home, tarfile.open(DATA / "fsdd" / "recordings.tar.xz") as archive:
        archive.extractall(home, filter="data")
        folder = Path(home) / "recordings"
        for arm in given.arms:
            row: dict[str, object] = {"benchmark": "spoken_digits", "arm": arm, "target": TARGET}
            started = time.perf_counter()
            if given.split != "speakers":
                row["official_accuracy"] = round(measure(folder, arm, None, given.epochs), 4)
            if given.split != "official":
                by = {held: round(measure(folder, arm, held, given.epochs), 4) for held in SPEAKERS}
                row |= {"speaker_accuracy": round(float(np.mean(list(by.values()))), 4), "by_speaker": by, "epochs": given.epochs}
            print(json.dumps({**row, "seconds": round(time.perf_counter() - started, 1)}), flush=True)


if __name__ == "__main__":
    main()
