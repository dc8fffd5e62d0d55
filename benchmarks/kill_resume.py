"""Kill -9 at random moments, then `--resume`: are the weights those of the uninterrupted run, bit for bit?

Protocol: a recipe with dropout, moving averages of the weights, a schedule, clipping and checkpoints every 0.2 s is run to its end once.
Then, for each trial, it is started in a fresh folder, its main process is killed with SIGKILL at a moment drawn uniformly over the
uninterrupted run's duration, and it is resumed (killed and resumed once more in every third trial). Compared: the SHA-256 of the bundle's
weights, and the metrics.

Usage: python benchmarks/kill_resume.py [--trials 30] [--devices 1 2]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from deepseek.artifacts.run import RunFolder, standing_runs

RECIPE = """
name: killed
data:
  source: rows.csv
  target: y
model: {{type: mlp, depth: 3, width: 64, dropout: 0.2}}
train:
  epochs: {epochs}
  batch_size: 64
  learning_rate: 0.003
  precision: fp32
  clip_norm: 1.0
  ema: 0.99
  early_stopping: false
  checkpoint: {{every_s: 0.2}}
"""


def write_rows(folder: Path, *, epochs: int, rows: int = 12_000) -> None:
    random_state = np.random.default_rng(0)
    x = random_state.normal(size=(rows, 8))
    y = (x[:, 0] * x[:, 1] + x[:, 2] + 0.5 * random_state.normal(size=rows)) > 0
    lines = [",".join([*(f"x{i}" for i in range(8)), "y"])]
    lines += [",".join([*(f"{value:.5f}" for value in row), "yes" if label else "no"]) for row, label in zip(x, y, strict=True)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE.format(epochs=epochs))


def start(folder: Path, devices: int, *, resume: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "deepseek", "run", "recipe.yaml", "--set", f"train.devices={devices}", "--json"]
    return subprocess.Popen(
        [*command, *(["--resume"] if resume else [])], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(process: subprocess.Popen[bytes]) -> dict[str, object]:
    out, err = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"exit {process.returncode}: {out.decode()} {err.decode()}")
    return json.loads(out)


def kill(process: subprocess.Popen[bytes], after_s: float) -> None:
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def weights_of(folder: Path) -> str:
    manifest = json.loads((RunFolder.open(folder / "runs/killed").bundle / "manifest.json").read_text())
    return manifest["files"]["weights.safetensors"]


def measure(devices: int, trials: int, *, epochs: int = 50) -> dict[str, object]:
    generator = random.Random(devices)
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        write_rows(whole, epochs=epochs)
        started = time.perf_counter()
        expected = finish(start(whole, devices, resume=False))
        duration = time.perf_counter() - started
        equal, resumed_steps = 0, []
        for trial in range(trials):
            folder = Path(name) / f"trial-{trial}"
            folder.mkdir()
            write_rows(folder, epochs=epochs)
            kill(start(folder, devices, resume=False), generator.uniform(0.1, 1.0) * duration)
            if trial % 3 == 2:
                kill(start(folder, devices, resume=_is_started(folder)), generator.uniform(0.3, 1.0) * duration)
            resumed_steps.append(_newest_step(folder))
            result = finish(start(folder, devices, resume=_is_started(folder)))
            equal += weights_of(folder) == weights_of(whole) and result["metrics"] == expected["metrics"]
            print(
                f"devices {devices} trial {trial}: resumed from step {resumed_steps[-1]}, equal so far {equal}/{trial + 1}", file=sys.stderr
            )
    return {
        "benchmark": "kill_resume",
        "devices": devices,
        "trials": trials,
        "bit_equal": equal,
        "resumed_from_a_checkpoint": sum(step > 0 for step in resumed_steps),
        "uninterrupted_s": round(duration, 1),
    }


def _is_started(folder: Path) -> bool:
    """Whether there is a run to go on with; one that was killed before its recipe was written has left a bare number behind."""
    return any((run / "recipe.yaml").is_file() for run in standing_runs(folder / "runs/killed"))


def _newest_step(folder: Path) -> int:
    steps = [int(path.name.partition("-")[2]) for path in (folder / "runs/killed").glob("*/checkpoints/step-*")]
    return max(steps, default=0)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--devices", type=int, nargs="*", default=[1, 2])
    arguments = parser.parse_args()
    for number in arguments.devices:
        print(json.dumps(measure(number, arguments.trials)), flush=True)
