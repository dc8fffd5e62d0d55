"""Freed memory stays with the process while it trains, and goes back to the system afterwards."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from deepseek.training.memory import allocator
from deepseek.training.memory.allocator import freed_memory_kept

FIT = """
import json, resource
import numpy as np, torch
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback

BLOCKS, BYTES = 5, 24 << 20

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.zeros(BYTES // 4) for _ in range(BLOCKS)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

class Looks(Callback):
    found = []
    def on_step(self, trainer):
        self.found.append(faults())

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 2)
    def forward(self, inputs):
        return self.net(inputs["x"]).unsqueeze(1)

x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
rows = PreparedDataset.from_arrays({"x": x}, {"target": (x[:, 0] > 0).astype(np.int64)})
task = MulticlassTask(TargetSpec("classes", ("y",), ("no", "yes"), (1, 1), 2))
settings = TrainSettings(epochs=2, batch_size=16, precision="fp32")
before = resident()
Trainer(Net(), task, rows, settings=settings, callbacks=[Looks()]).fit()
pages = BLOCKS * BYTES // resource.getpagesize()
print(json.dumps({"faults": Looks.found[2:], "pages": pages, "kept": resident() - before, "held": BLOCKS * BYTES}))
"""
glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such thresholds")


def fitted(**said: str) -> dict[str, object]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", FIT], env={**environment, **said}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@glibc_only
def test_a_step_takes_the_memory_that_the_step_before_gave_back_and_training_gives_it_back_in_the_end():
    kept = fitted()
    assert max(kept["faults"]) < 0.05 * kept["pages"]
    assert kept["kept"] < 0.8 * kept["held"]


@glibc_only
def test_what_the_environment_says_of_the_allocator_is_left_alone():
    found = fitted(MALLOC_TRIM_THRESHOLD_=str(1 << 20))
    assert min(found["faults"]) > 0.5 * found["pages"]


@pytest.mark.parametrize("said", [{"MALLOC_TOP_PAD_": "0"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"}])
def test_it_says_whether_memory_is_kept(monkeypatch, said):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    with freed_memory_kept() as kept:
        assert kept == (platform.libc_ver()[0] == "glibc")
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    with freed_memory_kept() as kept:
        assert not kept


def test_the_last_of_several_trainings_gives_back(monkeypatch):
    """Two at once, in threads or one in the other: the end of the first must not take the second's memory away, step after step."""
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    done: list[tuple[str, int]] = []
    monkeypatch.setattr(allocator, "_glibc", lambda name: lambda *given: done.append((name, given[-1])) or 1)
    with freed_memory_kept(), pytest.raises(RuntimeError, match="ends"):
        with freed_memory_kept() as kept:
            assert kept
        with freed_memory_kept():
            raise RuntimeError("it ends")
    usual = [("mallopt", value) for value in allocator._USUAL.values()]
    assert done == [("mallopt", value) for value in allocator._KEPT.values()] * 3 + [*usual, ("malloc_trim", 0)]


def test_without_glibc_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    with freed_memory_kept() as kept:
        assert not kept
    allocator.give_back()
