"""The command under torchrun: the same run, whoever starts the processes, and however often."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.customers import write_customers

RECIPE = """
data: {source: customers.csv, target: churned}
model: {type: mlp, depth: 3, width: 16, dropout: 0.0}
train: {epochs: 6, batch_size: 32, precision: fp32, strategy: STRATEGY, checkpoint: {every_s: 0.01}}
"""
PLUGIN = """
import os, pathlib, signal, time
from deepseek.registry import family
from deepseek.training.callbacks.base import Callback

@family("callback").register("mishap")
class Mishap(Callback):
    def __init__(self, *, kind: str = "raise", once: bool = True):
        self.kind, self.once = kind, once

    def on_validation(self, trainer):
        mark, waits = pathlib.Path("mishap-was-here"), self.kind == "wait"
        if trainer.ranks.rank != int(not waits) or trainer.state.epoch != 3 or (self.once and mark.exists()):
            return
        mark.write_text(str(os.getpid()))
        while waits and not trainer.stopped_reason:
            time.sleep(0.05)
        if waits:
            return
        if self.kind != "raise":
            time.sleep(2.5)  # until the watch has written where this is
            os.kill(os.getpid(), getattr(signal, self.kind))
        raise ZeroDivisionError("seven")
"""


@pytest.fixture
def folder(tmp_path):
    write_customers(tmp_path / "customers.csv")
    (tmp_path / "mishap.py").write_text(PLUGIN)
    return tmp_path


def recipe(folder, strategy, mishap=None):
    text = RECIPE.replace("STRATEGY", strategy)
    if mishap is not None:
        text = text.replace("checkpoint:", f"callbacks: [{mishap}], checkpoint:") + "plugins: [mishap.py]\n"
    (folder / "customers.yaml").write_text(text)


def torchrun(folder, *options, status=0, arguments=(), name=None):
    meeting = ["--standalone"] if name is None else ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--rdzv-id", name]
    words = ["-m", "torch.distributed.run", *meeting, "--nproc-per-node", "2", *options, "-m", "deepseek", "run", "customers.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words, *arguments], cwd=folder, capture_output=True, text=True, timeout=380, check=False, env=environment
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def wait_for(path, process):
    until = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)


def losses(run: Path):
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return {line["step"]: line["metrics"]["loss"] for line in lines if line["event"] == "validation"}


@pytest.mark.slow
def test_it_trains_on_torchruns_processes_and_speaks_once(folder):
    recipe(folder, "fsdp")
    told = json.loads(torchrun(folder, arguments=["--json"]).stdout)
    assert told["run"] == "runs/customers/001"
    recipe(folder, "auto")
    alone = subprocess.run(
        [sys.executable, "-m", "deepseek", "run", "customers.yaml", "--json"], cwd=folder, capture_output=True, text=True, check=True
    )
    one = json.loads(alone.stdout)
    for name in ("loss", "log_loss", "brier"):
        assert told["metrics"]["test"][name] == pytest.approx(one["metrics"]["test"][name], abs=1e-5)
    assert losses(folder / told["run"]) == pytest.approx(losses(folder / one["run"]), abs=1e-5)
    decisions = json.loads((folder / told["run"] / "decisions.json").read_text())
    assert decisions["measured"]["strategy"] == "fsdp"
    assert (folder / told["run"] / "bundle/weights.safetensors").stat().st_size == (
        folder / one["run"] / "bundle/weights.safetensors"
    ).stat().st_size


@pytest.mark.slow
def test_after_a_rank_was_killed_torchrun_starts_anew_and_the_run_goes_on(folder):
    recipe(folder, "ddp", "{type: mishap, kind: SIGKILL}")
    done = torchrun(folder, "--max-restarts", "1")
    assert (folder / "mishap-was-here").exists()
    assert "started anew" in done.stderr
    assert [path.name for path in (folder / "runs/customers").iterdir()] == ["001"]
    events = [json.loads(line)["event"] for line in (folder / "runs/customers/001/events.jsonl").read_text().splitlines()]
    assert events.count("start") == 2
    recipe(folder, "auto", "{type: mishap, kind: SIGKILL}")  # the mark is there: nothing happens
    subprocess.run([sys.executable, "-m", "deepseek", "run", "customers.yaml"], cwd=folder, capture_output=True, check=True)
    assert losses(folder / "runs/customers/001") == pytest.approx(losses(folder / "runs/customers/002"), abs=1e-5)


@pytest.mark.slow
def test_what_several_processes_began_one_goes_on_with(folder):
    """And with `devices: auto`, what only several devices can be asked for."""
    recipe(folder, "fsdp", "{type: mishap}")
    torchrun(folder, status=1)
    (path,) = (folder / "runs/customers").iterdir()
    assert (path / "checkpoints").is_dir()
    command = [sys.executable, "-m", "deepseek", "run"]
    subprocess.run([*command, str(path), "--resume"], cwd=folder, capture_output=True, check=True)
    recipe(folder, "ddp")
    settings = ["--set", "train.devices=auto", "--set", "train.communication=parameter_server"]
    told = json.loads(torchrun(folder, arguments=[*settings, "--json"]).stdout)
    found = losses(path)
    assert len(found) == 6
    assert found == pytest.approx(losses(folder / told["run"]), abs=1e-5)


@pytest.mark.slow
def test_a_job_with_a_name_goes_on_with_what_it_has_begun(folder):
    recipe(folder, "ddp", "{type: mishap}")
    torchrun(folder, name="night", status=1)
    done = torchrun(folder, name="night")
    assert "begun by the job 'night'" in done.stderr
    (path,) = (folder / "runs/customers").iterdir()
    assert (path / "metrics.json").is_file()
    events = [json.loads(line)["event"] for line in (path / "events.jsonl").read_text().splitlines()]
    assert events.count("start") == 2


@pytest.mark.slow
def test_a_job_that_is_told_to_end_saves_its_last_step(folder):
    """As when a cluster takes its machines back: torchrun passes the signal on, and nobody but the ranks can heed it."""
    recipe(folder, "fsdp", "{type: mishap, kind: wait}")
    text = (folder / "customers.yaml").read_text().replace("every_s: 0.01", "every_s: 100000")
    (folder / "customers.yaml").write_text(text)
    patient = ["--shutdown-timeout", "190"]  # a machine may be slow
    words = ["-m", "torch.distributed.run", "--standalone", *patient, "--nproc-per-node", "2", "-m", "deepseek", "run", "customers.yaml"]
    process = subprocess.Popen([sys.executable, *words], cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(folder / "mishap-was-here", process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=200)
    finally:
        process.kill()
    (saved,) = (folder / "runs/customers/001/checkpoints").glob("step-*")
    (step,) = [entry["step"] for entry in json.loads((saved / "state.json").read_text())["state"]["history"]][-1:]
    assert int(saved.name[5:]) == step  # where it was when the signal came


@pytest.mark.slow
def test_a_machine_that_joins_goes_on_with_the_run_that_was_begun_before(folder):
    """torchrun does not count that it starts the processes anew, the job has no name, and there was one process before."""
    recipe(folder, "ddp", "{type: mishap, kind: wait}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    meeting = ["--nnodes", "1:2", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-conf", "last_call_timeout=1"]
    words = ["-m", "torch.distributed.run", *meeting, "--local-addr", "127.0.0.1", "--nproc-per-node", "1", "--shutdown-timeout", "190"]
    # or this PyTorch never tells a machine that joins later where rank 0 is
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    command = [sys.executable, *words, "-m", "deepseek", "run", "customers.yaml"]
    machines = [subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment)]
    try:
        wait_for(folder / "mishap-was-here", machines[0])  # alone, in the third epoch
        machines.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment))
        told = [machine.communicate(timeout=300)[1] for machine in machines]
    finally:
        for machine in machines:
            machine.kill()
    assert [machine.returncode for machine in machines] == [0, 0], told
    assert [path.name for path in (folder / "runs/customers").iterdir()] == ["001"]
    assert "started anew by torchrun: going on with" in "".join(told)
    recipe(folder, "auto")
    subprocess.run([sys.executable, "-m", "deepseek", "run", "customers.yaml"], cwd=folder, capture_output=True, check=True)
    assert losses(folder / "runs/customers/001") == pytest.approx(losses(folder / "runs/customers/002"), abs=1e-5)


@pytest.mark.slow
def test_one_ranks_error_reaches_the_console_and_all_stop(folder):
    recipe(folder, "ddp", "{type: mishap, once: false}")
    done = torchrun(folder, status=1)
    assert "ZeroDivisionError: seven" in done.stderr
    assert "on_validation" in done.stderr
    (path,) = (folder / "runs/customers").iterdir()
    assert not (path / "bundle").exists()


@pytest.mark.slow
def test_a_rank_that_is_stopped_is_named_and_torchrun_ends(folder):
    recipe(folder, "ddp", "{type: mishap, kind: SIGSTOP}")
    text = (folder / "customers.yaml").read_text().replace("strategy: ddp", "strategy: ddp, stall: 3s")
    (folder / "customers.yaml").write_text(text)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "deepseek", "run", "customers.yaml"]
    process = subprocess.Popen([sys.executable, *words], cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(folder / "mishap-was-here", process)
        _, told = process.communicate(timeout=200)  # torchrun first asks the stopped one to end, and kills it half a minute later
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.returncode == 1
    assert "rank 1 does not answer any more" in told
