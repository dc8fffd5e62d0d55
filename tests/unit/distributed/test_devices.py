"""Devices, precision and ranks on a machine with a processor only."""

from __future__ import annotations

import pytest
import torch

from deepseek.distributed import limit_threads, make_precision, pick_device
from deepseek.distributed.devices import device_memory, is_out_of_memory
from deepseek.errors import InputError, UnknownNameError


def test_auto_is_the_processor_where_there_is_no_accelerator(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    assert pick_device() == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="no device 'cuda'"):
        pick_device("cuda")


def test_auto_is_the_accelerator_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert pick_device(index=1) == pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("cpu") == torch.device("cpu")
    for name in ("cuda:2", "xpu", "cuda:x"):
        with pytest.raises(InputError):
            pick_device(name)


def test_memory_and_its_end():
    memory = device_memory(torch.device("cpu"))
    assert 0 < memory.free_bytes <= memory.total_bytes
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_threads_are_shared():
    before = torch.get_num_threads()
    try:
        assert limit_threads(10_000) == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_plain_precision_adds_no_layer():
    function = object()
    assert make_precision("fp32", torch.device("cpu")).wrap(function) is function
    with pytest.raises(UnknownNameError, match="fp32, bf16, fp16"):
        make_precision("fp8", torch.device("cpu"))
