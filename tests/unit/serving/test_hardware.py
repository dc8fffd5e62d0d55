"""Memory, processor time and GPUs; NVIDIA's library is imitated by what its documentation says, as there is no GPU where tests run."""

import os
import sys
import types

import pytest

from deepseek.serving import hardware
from deepseek.serving.metrics import Metrics


class NVMLError(Exception):
    """The library's own error."""


def library(*, devices=2, divided=(), driver=True):
    """What `pynvml` offers, with two GPUs."""

    def init():
        if not driver:
            raise NVMLError("driver not loaded")

    def rates(device):
        if device in divided:
            raise NVMLError("not supported")
        return types.SimpleNamespace(gpu=25 * (device + 1), memory=3)

    return types.SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=init, nvmlDeviceGetCount=lambda: devices, nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetName=lambda device: b"NVIDIA A" if device == 0 else "NVIDIA B",
        nvmlDeviceGetMemoryInfo=lambda device: types.SimpleNamespace(total=80_000, used=1_000 * (device + 1), free=1),
        nvmlDeviceGetUtilizationRates=rates,
    )  # fmt: skip


@pytest.fixture
def nvml(monkeypatch):
    def use(found):
        hardware._nvml.cache_clear()
        monkeypatch.setitem(sys.modules, "pynvml", found)

    yield use
    hardware._nvml.cache_clear()


def found(samples):
    return {(name, labels.get("gpu", labels.get("role"))): value for name, labels, value in samples}


def test_each_gpu_says_its_use_and_memory(nvml):
    nvml(library())
    values = found(hardware.gpu_samples())
    assert values["deepseek_gpu_utilization_ratio", "0"] == 0.25
    assert values["deepseek_gpu_utilization_ratio", "1"] == 0.5
    assert values["deepseek_gpu_memory_used_bytes", "1"] == 2_000
    assert values["deepseek_gpu_memory_bytes", "0"] == 80_000
    assert {labels["name"] for _, labels, _ in hardware.gpu_samples()} == {"NVIDIA A", "NVIDIA B"}


def test_what_a_gpu_does_not_say_is_left_out(nvml):
    nvml(library(divided={0}))
    values = found(hardware.gpu_samples())
    assert ("deepseek_gpu_utilization_ratio", "0") not in values
    assert values["deepseek_gpu_memory_used_bytes", "0"] == 1_000
    assert values["deepseek_gpu_utilization_ratio", "1"] == 0.5


def test_without_the_library_pytorch_says_the_memory(nvml, monkeypatch):
    nvml(None)
    cuda = types.SimpleNamespace(
        is_available=lambda: True, device_count=lambda: 1, mem_get_info=lambda number: (30, 100), get_device_name=lambda number: "G"
    )
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    assert found(hardware.gpu_samples()) == {("deepseek_gpu_memory_used_bytes", "0"): 70.0, ("deepseek_gpu_memory_bytes", "0"): 100.0}


@pytest.mark.parametrize("absent", [None, library(driver=False)], ids=["library", "driver"])
def test_without_a_gpu_there_is_nothing(nvml, monkeypatch, absent):
    nvml(absent)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert hardware.gpu_samples() == []


def test_processes_say_their_memory_and_time(tmp_path):
    samples = list(hardware.process_samples({os.getpid(): "worker", 2**22 - 7: "recorder"}))
    values = found(samples)
    assert values["deepseek_process_resident_bytes", "worker"] > 10_000_000
    assert 0 < values["deepseek_process_cpu_seconds_total", "worker"] <= sum(os.times()[:2]) + 1
    assert not any(role == "recorder" for _, role in values)  # it does not live


def test_they_stand_among_the_servers_metrics(tmp_path, nvml):
    nvml(library(devices=1))
    Metrics(tmp_path).cell("deepseek_workers").set(1)
    metrics = Metrics(tmp_path, role="recorder")
    metrics.cell("deepseek_recorders").set(1)
    text = metrics.text().decode()
    assert f'deepseek_process_resident_bytes{{process="{os.getpid()}",role=' in text
    assert 'deepseek_gpu_utilization_ratio{gpu="0",name="NVIDIA A"} 0.25' in text
    assert "# TYPE deepseek_process_cpu_seconds_total counter" in text
