"""The command under the real `horovodrun`, where Horovod is installed: it is built by hand, as no wheel of it is for this PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.customers import write_customers

pytest.importorskip("horovod.torch", reason="Horovod is not installed")

RECIPE = """
data: {source: customers.csv, target: churned}
model: {type: mlp, depth: 3, width: 16, dropout: 0.0}
train: {epochs: 3, batch_size: 50, precision: fp32, strategy: STRATEGY, checkpoint: {every_s: 0.01}}
"""
PLUGIN = """
import pathlib
from deepseek.registry import family
from deepseek.training.callbacks.base import Callback

@family("callback").register("mishap")
class Mishap(Callback):
    def on_validation(self, trainer):
        mark = pathlib.Path("mishap-was-here")
        if trainer.ranks.rank == 1 and trainer.state.epoch == 2 and not mark.exists():
            mark.touch()
            raise ZeroDivisionError("seven")
"""


@pytest.fixture
def folder(tmp_path):
    write_customers(tmp_path / "customers.csv")
    for name, strategy in (("alone", "auto"), ("shared", "horovod")):
        (tmp_path / f"{name}.yaml").write_text(RECIPE.replace("STRATEGY", strategy))
    return tmp_path


def horovodrun(folder, *arguments, status=0):
    start = [sys.executable, "-m", "horovod.runner.launch", "-np", "2", "--gloo", sys.executable, "-m", "deepseek", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*start, *arguments], cwd=folder, capture_output=True, text=True, timeout=90, check=False, env=environment)
    assert (done.returncode == 0) == (status == 0), done.stdout + done.stderr
    return done.stdout + done.stderr


def losses(run: Path) -> list[float]:
    events = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    by_step = {event["step"]: event["metrics"]["loss"] for event in events if event["event"] == "validation"}  # made again on a resume
    return [by_step[step] for step in sorted(by_step)]


def require_same(folder, run):
    wanted = folder / "runs/alone/001"
    np.testing.assert_allclose(losses(run), losses(wanted), rtol=0, atol=1e-6)
    ours, theirs = (load_file(one / "bundle/weights.safetensors") for one in (run, wanted))
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=2e-5, err_msg=name)


def test_two_ranks_of_horovodrun_learn_what_one_device_learns(folder):
    subprocess.run([sys.executable, "-m", "deepseek", "run", "alone.yaml"], cwd=folder, check=True, capture_output=True)
    said = horovodrun(folder, "shared.yaml")
    assert said.count("stopped after step") == 1  # one rank speaks
    require_same(folder, folder / "runs/shared/001")
    assert json.loads((folder / "runs/shared/001/decisions.json").read_text())["chosen"]


def test_an_error_of_one_rank_ends_all_and_the_run_goes_on_where_it_was(folder):
    subprocess.run([sys.executable, "-m", "deepseek", "run", "alone.yaml"], cwd=folder, check=True, capture_output=True)
    (folder / "mishap.py").write_text(PLUGIN)
    text = (folder / "shared.yaml").read_text().replace("checkpoint:", "callbacks: [mishap], checkpoint:")
    (folder / "shared.yaml").write_text(text + "plugins: [mishap.py]\n")
    horovodrun(folder, "shared.yaml", status=1)
    assert (folder / "mishap-was-here").exists()
    assert not (folder / "runs/shared/001/bundle").exists()
    horovodrun(folder, "runs/shared/001", "--resume")
    require_same(folder, folder / "runs/shared/001")
