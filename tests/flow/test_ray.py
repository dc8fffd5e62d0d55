"""A recipe on a Ray cluster: two nodes, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.customers import write_customers

RECIPE = """
data: {source: customers.csv, target: churned}
model: {type: mlp, depth: 3, width: 16, dropout: 0.0}
train: {epochs: 4, batch_size: 32, precision: fp32, strategy: fsdp}
"""
BROKEN = """
from deepseek.registry import family
from deepseek.training.callbacks.base import Callback

@family("callback").register("mishap")
class Mishap(Callback):
    def on_validation(self, trainer):
        if trainer.ranks.rank == 1:
            raise ZeroDivisionError("seven")
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
