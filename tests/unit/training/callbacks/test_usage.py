"""Busy share and use of the arithmetic: two figures, each only where it is known."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.json_lines import JsonLines
from deepseek.training.callbacks.usage import busy_share
from deepseek.training.flops import BACKWARD, forward_flops, known_peak, peak_of, step_flops

NET_FLOPS = 2 * (4 * 8 + 8 * 3)


def logged(small, folder, **changes) -> tuple[Trainer, dict]:
    settings = TrainSettings(epochs=2, batch_size=32, precision="fp32", **changes)
    trainer = Trainer(small.net(), small.task(), small.data(), settings=settings, callbacks=[JsonLines()], folder=folder)
    trainer.fit()
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return trainer, [event for event in events if event["event"] == "log"][-1]


def test_flops_are_those_of_the_products(small):
    net = small.net().train()
    assert forward_flops(net, small.data().take(range(5))) == 5 * NET_FLOPS
    assert net.training


def test_counting_leaves_a_frozen_normalisation_in_its_mode(small):
    net = small.net().train()
    net.frozen = nn.BatchNorm1d(8).eval()
    forward_flops(net, small.data().take(range(5)))
    assert net.training
    assert net.hidden.training
    assert not net.frozen.training


def test_what_is_frozen_has_no_backward_pass_to_count(small):
    net, rows = small.net().train(), small.data().take(range(5))
    assert step_flops(net, rows) == 5 * BACKWARD * NET_FLOPS
    for parameter in net.hidden.parameters():
        parameter.requires_grad_(False)
    assert step_flops(net, rows) == 5 * (NET_FLOPS + 2 * 8 * 3)  # forward, and the gradient of the head's weights alone
    assert all(parameter.grad is None for parameter in net.parameters())


def test_on_a_processor_the_share_of_its_cores_is_told_and_no_use_of_the_arithmetic(small, tmp_path):
    trainer, event = logged(small, tmp_path)
    assert 0 < event["busy_share"] <= 1
    assert "mfu" not in event
    assert "busy" in str(trainer.usage)
    assert "MFU" not in str(trainer.usage)


def test_where_the_peak_is_given_the_use_of_it_is_told_beside(small, tmp_path):
    trainer, event = logged(small, tmp_path, peak_tflops=1e-3)
    assert trainer.usage.flops_per_row == BACKWARD * NET_FLOPS
    assert event["mfu"] == pytest.approx(BACKWARD * NET_FLOPS * event["samples_per_s"] / 1e9)
    assert 0 < event["busy_share"] <= 1


def test_peaks_are_known_by_the_longest_name_that_fits():
    assert peak_of("NVIDIA H100 PCIe", "bf16") == 756.0
    assert peak_of("NVIDIA H100 80GB HBM3", "bf16") == 989.4
    assert peak_of("NVIDIA A100-SXM4-80GB", "fp32") == 19.5
    assert peak_of("Tesla V100-SXM2-16GB", "bf16") is None
    assert peak_of("NVIDIA L40S", "bf16") == 362.0
    assert peak_of("Some Card", "fp32") is None
    assert known_peak(torch.device("cpu"), "fp32") is None


def test_without_nvml_nothing_is_told_of_an_accelerator():
    assert busy_share(torch.device("cpu")) is None
    if not torch.cuda.is_available():
        assert busy_share(torch.device("cuda", 0)) is None


def test_a_device_that_nvml_has_no_figure_for_ends_no_training(monkeypatch):
    class NVMLError(Exception):
        """As `pynvml` raises it of a device in parts: of no kind but its own."""

    def refuse(_):
        raise NVMLError("Not Supported")

    monkeypatch.setattr(torch.cuda, "utilization", refuse)
    assert busy_share(torch.device("cuda", 0)) is None
