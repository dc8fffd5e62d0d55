"""What `auto` chooses, and that it touches nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.registry import family
from deepseek.training import autotune
from deepseek.training.autotune import Way, candidate_ways, choose_way, largest_fit


def test_nothing_is_slower_than_plain_float32_and_copies_are_used(small, monkeypatch):
    net, batch = small.net(), small.data().take(np.arange(32))
    before = [parameter.clone() for parameter in net.parameters()]
    ways = [Way(), Way("bf16")]
    spec = family("optimizer").build("adam")
    for times, chosen in (((1.0, 0.95), "fp32"), ((1.0, 0.5), "bf16"), ((1.0, 3.0), "fp32")):
        monkeypatch.setattr(autotune, "_milliseconds", lambda steps, _, times=times: dict(zip(steps, times, strict=True)))
        decision = choose_way(net, small.task().loss, batch, spec, ways=ways)
        assert decision["precision"] == chosen
        assert chosen in decision["reason"]
    monkeypatch.undo()
    assert set(choose_way(net, small.task().loss, batch, spec, ways=ways)["milliseconds"]) == {"fp32", "bf16"}
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_candidates_leave_out_what_would_be_emulated(monkeypatch):
    cpu, images = torch.device("cpu"), nn.Sequential(nn.Conv2d(3, 4, 3))
    monkeypatch.setattr(autotune, "has_native_bf16", lambda _: False)
    assert candidate_ways(nn.Linear(1, 1), cpu, precision="auto", channels_last="auto") == [Way()]
    assert candidate_ways(images, cpu, precision="auto", channels_last="auto") == [Way(), Way(channels_last=True)]
    monkeypatch.setattr(autotune, "has_native_bf16", lambda _: True)
    assert len(candidate_ways(images, cpu, precision="auto", channels_last="auto")) == 4
    assert candidate_ways(images, cpu, precision="fp16", channels_last=True) == [Way("fp16", channels_last=True)]


@pytest.mark.parametrize(("free", "expected"), [(1000, 64), (799, 32), (5, 1), (10**9, 256)])
def test_a_fifth_of_the_memory_stays_free(free, expected):
    assert largest_fit(lambda rows: rows * 10, free, most=256) == expected


def test_a_size_that_does_not_fit_ends_the_search():
    assert largest_fit(lambda rows: None if rows > 8 else rows, 10**9) == 8
