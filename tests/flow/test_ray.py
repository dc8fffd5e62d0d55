"""A recipe on a Ray cluster: two nodes, on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tests.customers import write_customers

from deepseek.distributed.ray_cluster import launch_on_ray

RECIPE = """
data: {source: customers.csv, target: churned}
model: {type: mlp, depth: 3, width: 16, dropout: 0.0}
train: {epochs: 4, batch_size: 32, precision: fp32, strategy: fsdp}
"""
BROKEN = """
import pathlib, time
from deepseek.registry import family
from deepseek.training.callbacks.base import Callback

@family("callback").register("mishap")
class Mishap(Callback):
    def on_validation(self, trainer):
        if trainer.ranks.rank == 1:
            raise ZeroDivisionError("seven")

@family("callback").register("waits")
class Waits(Callback):
    def on_validation(self, trainer):
        mark = pathlib.Path(trainer.folder / "waits-here")
        if trainer.ranks.is_main and trainer.state.epoch == 2 and not mark.exists():
            mark.touch()
            while not trainer.stopped_reason:
                time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def address():
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def folder(tmp_path):
    write_customers(tmp_path / "customers.csv")
    (tmp_path / "customers.yaml").write_text(RECIPE)
    (tmp_path / "mishap.py").write_text(BROKEN)
    return tmp_path


def deepseek(folder, *words, status=0):
    command = [sys.executable, "-m", "deepseek", "run", "customers.yaml", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=380, check=False, env={**os.environ})
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.mark.slow
def test_ranks_on_two_nodes_give_the_numbers_of_one_process(folder, address):
    told = json.loads(deepseek(folder, "--cluster", "ray", "--set", f"cluster.address={address}", "--json").stdout.splitlines()[-1])
    one = json.loads(deepseek(folder, "--json").stdout)
    for name in ("loss", "log_loss", "brier"):
        assert told["metrics"]["test"][name] == pytest.approx(one["metrics"]["test"][name], abs=1e-5)
    measured = json.loads((folder / told["run"] / "decisions.json").read_text())["measured"]
    assert measured["strategy"] == "fsdp"


@pytest.mark.slow
def test_an_actors_error_comes_back_with_its_traceback(folder, address):
    (folder / "customers.yaml").write_text(RECIPE.replace("strategy: fsdp", "callbacks: [{type: mishap}]") + "plugins: [mishap.py]\n")
    words = ["--cluster", "ray", "--set", f"cluster.address={address}"]
    told = deepseek(folder, *words, status=1).stderr
    assert "rank 1 failed: ZeroDivisionError: seven" in told
    assert "on_validation" in told


@pytest.mark.slow
def test_ctrl_c_saves_the_last_step_and_only_then_says_so(folder, address):
    changed = RECIPE.replace("strategy: fsdp", "strategy: fsdp, checkpoint: {every_s: 100000}, callbacks: [{type: waits}]")
    (folder / "customers.yaml").write_text(changed + "plugins: [mishap.py]\n")
    command = [sys.executable, "-m", "deepseek", "run", "customers.yaml", "--cluster", "ray", "--set", f"cluster.address={address}"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    run = folder / "runs/customers/001"
    try:
        until = time.monotonic() + 300
        while not (run / "waits-here").exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=200)
    finally:
        process.kill()
    (saved,) = (run / "checkpoints").glob("step-*")
    assert f"interrupted, and saved up to step {int(saved.name[5:])}; go on with" in told
    assert json.loads((saved / "state.json").read_text())["state"]["epoch"] == 2


@pytest.mark.slow
def test_what_was_reserved_is_given_back_to_who_has_begun_ray(address):
    ray = pytest.importorskip("ray")
    ray.init(address=address)
    try:
        for _ in range(2):  # the second finds no place where the first has kept it
            assert launch_on_ray(repr, 2).startswith("RankContext(rank=0, ranks=2")
    finally:
        ray.shutdown()
