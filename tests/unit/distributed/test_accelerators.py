"""Accelerators that are not CUDA: torch_xla imitated at the edge; a device in Python over PyTorch's hooks, trained on for real."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils import backend_registration

from deepseek.data.batch import Batch
from deepseek.distributed import RankContext, devices, make_precision, pick_device
from deepseek.errors import InputError
from deepseek.registry import family
from deepseek.training import evaluation, step
from deepseek.training.autotune import choose_batch_size
from deepseek.training.state import kept_generators, seed_generators
from deepseek.training.step import TrainingStep

TPU = torch.device("xla", 0)


class Xla:
    """What is documented of torch_xla, and what it was asked."""

    def __init__(self):
        self.asked = []
        self.kind = "TPU"

    def modules(self):
        said = self.asked.append
        top = ModuleType("torch_xla")
        top.device = lambda: TPU
        top.sync = lambda wait=False: said("wait" if wait else "sync")
        top.manual_seed = lambda seed, device: said(("seed", seed, device))
        runtime, model, backend = (ModuleType(f"torch_xla.{name}") for name in ("runtime", "core.xla_model", "distributed.xla_backend"))
        runtime.device_type = lambda: self.kind
        model.get_rng_state = lambda device: said(("state of", device)) or 7
        model.set_rng_state = lambda state, device: said(("state", state, device))
        model.get_memory_info = lambda device: {"bytes_used": 30, "bytes_limit": 100}
        found = {"torch_xla": top, "torch_xla.runtime": runtime, "torch_xla.core": ModuleType("torch_xla.core")}
        return found | {
            "torch_xla.core.xla_model": model,
            "torch_xla.distributed": ModuleType("torch_xla.distributed"),
            "torch_xla.distributed.xla_backend": backend,
        }


@pytest.fixture
def tpu(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.delenv("PJRT_DEVICE", raising=False)
    imitated = Xla()
    for name, module in imitated.modules().items():
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    return imitated


def test_a_tpu_is_named_and_found(tpu, monkeypatch):
    assert pick_device("tpu") == pick_device("xla:0") == pick_device("auto") == TPU
    assert pick_device("cpu").type == "cpu"
    assert devices.count_devices() == 1
    assert devices.list_devices() == [{"kind": "xla", "index": 0, "name": "xla:0", "free_bytes": 70, "total_bytes": 100}]
    tpu.kind = "CPU"
    assert pick_device("auto").type == "cpu"  # torch_xla's stand-in is slower than PyTorch on the same cores
    monkeypatch.setenv("PJRT_DEVICE", "NEURON")
    assert pick_device("auto") == TPU


def test_a_second_process_is_told_how_tpus_are_started(tpu):
    with pytest.raises(InputError, match="one TPU") as caught:
        pick_device("tpu", index=1)
    assert "torch_xla.launch" in caught.value.hint


def test_without_the_library_a_tpu_is_refused(monkeypatch):
    monkeypatch.setattr(devices.xla, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="torch_xla is not installed"):
        pick_device("tpu")


def test_a_kind_whose_library_is_missing_is_told_by_name(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="no device 'npu'") as caught:
        pick_device("npu")
    assert "torch_npu" in caught.value.hint


def test_the_library_of_a_kind_is_imported_where_pytorch_has_not(monkeypatch):
    there = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("hpu", 0) if there else None)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(devices, "find_spec", lambda name: SimpleNamespace(name=name))
    monkeypatch.setattr(devices.importlib, "import_module", there.append)
    assert pick_device("hpu") == torch.device("hpu", 0)
    assert there == ["habana_frameworks.torch"]


def test_steps_generators_and_collectives_of_a_tpu(tpu):
    devices.step_end(TPU)()
    devices.synchronize(TPU)
    with kept_generators(TPU):
        seed_generators(3, TPU)
    assert tpu.asked == ["sync", "wait", ("state of", "xla:0"), ("seed", 3, TPU), ("state", 7, "xla:0")]
    assert devices.collective_backend(TPU) == "xla"
    assert devices.device_memory(TPU) == devices.Memory(70, 100)
    assert devices.has_native_bf16(TPU)
    devices.empty_cache(TPU)
    devices.set_device(TPU)
    assert make_precision("bf16", TPU).name == "bf16"
    with pytest.raises(InputError, match="bfloat16"):
        make_precision("fp16", TPU)


def test_other_devices_have_nothing_to_end():
    devices.step_end(torch.device("cpu"))()
    assert devices.collective_backend(torch.device("cpu")) == "gloo"
    assert devices.collective_backend(torch.device("cuda")) == "nccl"
    assert devices.has_float64("cpu")


def test_every_step_and_every_batch_of_an_evaluation_is_ended(monkeypatch):
    ended = []
    for module in (step, evaluation):
        monkeypatch.setattr(module, "step_end", lambda device: lambda: ended.append(device.type))
    net = nn.Linear(2, 1)
    made = TrainingStep(
        lambda inputs: net(inputs["x"]),
        lambda out, batch: (out.square().sum(), torch.tensor(float(len(batch)))),
        torch.optim.SGD(net.parameters(), lr=0.1),
    )
    for _ in range(3):
        made(Batch({"x": torch.ones(4, 2)}, {"y": torch.zeros(4)}))
    assert ended == ["cpu"] * 3
    task = SimpleNamespace(metrics=dict, decode=lambda out: {"out": out})
    model = nn.Module()
    model.forward = lambda inputs: inputs["x"]
    evaluation.evaluate(model, task, [Batch({"x": torch.ones(4, 2)}, {})] * 2, context=RankContext())
    assert ended == ["cpu"] * 5


def test_a_device_that_does_not_tell_its_memory_gets_the_batch_of_a_processor(monkeypatch):
    monkeypatch.setattr("deepseek.training.autotune.device_memory", lambda device: devices.Memory(0, 0))
    model = nn.Linear(2, 1).to("meta")
    chosen = choose_batch_size(
        lambda size: pytest.fail("nothing can be measured"), model, None, spec=family("optimizer").build("adam"), rows=10_000
    )
    assert chosen["batch_size"] == 128
    assert "does not tell" in chosen["reason"]


@pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"), reason="this PyTorch has no devices in Python"
)
def test_a_device_that_others_add_trains_as_the_processor_does(tmp_path):
    """A real device of PyTorch's third kind: found by name, moved to, seeded, trained and validated on; the numbers are the processor's."""
    program = Path(__file__).with_name("python_device.py")
    done = subprocess.run([sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["devices"][0] | {"free_bytes": 0, "total_bytes": 0} == told["devices"][0]
    assert told["devices"][0]["name"] == "a device in Python"
    assert told["npu"]["calls"] > 1000
    assert told["npu"]["seeds"] > 3
    assert told["cpu"]["calls"] == 0
    assert told["npu"]["metrics"] == pytest.approx(told["cpu"]["metrics"], rel=1e-4)
