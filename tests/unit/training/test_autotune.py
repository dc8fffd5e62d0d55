"""What `auto` chooses, and that it touches nothing."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

from deepseek.data.batch import Batch, with_channels_last
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
        decision = choose_way(net, small.task().loss, batch, spec=spec, ways=ways)
        assert decision["precision"] == chosen
        assert chosen in decision["reason"]
    monkeypatch.undo()
    assert set(choose_way(net, small.task().loss, batch, spec=spec, ways=ways)["milliseconds"]) == {"fp32", "bf16"}
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_candidates_leave_out_what_would_be_emulated(monkeypatch):
    cpu, images = torch.device("cpu"), nn.Sequential(nn.Conv2d(3, 4, 3))
    monkeypatch.setattr(autotune, "bf16_may_pay", lambda _, images: False)
    assert candidate_ways(nn.Linear(1, 1), cpu, precision="auto", channels_last="auto") == [Way()]
    assert candidate_ways(images, cpu, precision="auto", channels_last="auto") == [Way(), Way(channels_last=True)]
    monkeypatch.setattr(autotune, "bf16_may_pay", lambda _, images: True)
    every = [Way(), Way(channels_last=True), Way("bf16", channels_last=True)]
    assert candidate_ways(images, cpu, precision="auto", channels_last="auto") == every
    assert candidate_ways(images, cpu, precision="fp16", channels_last=True) == [Way("fp16", channels_last=True)]


@pytest.mark.parametrize(("free", "expected"), [(1000, 64), (799, 32), (5, 1), (10**9, 256)])
def test_a_fifth_of_the_memory_stays_free(free, expected):
    assert largest_fit(lambda rows: rows * 10, free, most=256) == expected


def test_a_size_that_does_not_fit_ends_the_search():
    def peak(rows: int) -> int:
        if rows > 8:
            raise torch.OutOfMemoryError("out of memory")
        return rows

    assert largest_fit(peak, 10**9) == 8


def test_a_device_without_a_figure_takes_what_does_not_run_out_of_memory():
    def work(rows: int) -> None:
        if rows > 64:
            raise torch.OutOfMemoryError("out of memory")

    assert largest_fit(work, 10**9, most=256) == 64
    assert largest_fit(lambda _: None, 10**9, most=256) == 256
    with pytest.raises(RuntimeError, match="another"):
        largest_fit(lambda _: (_ for _ in ()).throw(RuntimeError("another failure")), 10**9)


def test_a_device_that_is_not_here_is_not_asked():
    assert candidate_ways(nn.Linear(1, 1), None, precision="auto", channels_last="auto") == [Way(), Way("bf16")]


def test_bf16_is_no_candidate_where_one_small_layer_is_slower_in_it(monkeypatch):
    monkeypatch.setattr(autotune, "has_native_bf16", lambda _: True)
    for slower, expected in ((torch.bfloat16, False), (torch.float32, True)):
        monkeypatch.setattr(autotune, "_probe_s", lambda images, dtype, slower=slower: 2.0 if dtype == slower else 1.0)
        assert autotune.bf16_may_pay(torch.device("cpu"), images=False) is expected
    monkeypatch.setattr(autotune, "has_native_bf16", lambda _: False)
    assert not autotune.bf16_may_pay(torch.device("cpu"), images=True)


def test_slow_steps_are_tried_with_fewer_rows_and_quick_ones_with_all(small, monkeypatch):
    batch = small.data().take(np.arange(96))
    met = []
    assert autotune._enough_rows(lambda given: met.append(len(given)), batch) is batch
    assert met == [2, 8, 32]
    clock = iter(range(1000))
    monkeypatch.setattr(autotune.time, "process_time", lambda: torch.get_num_threads() * next(clock))
    assert len(autotune._enough_rows(lambda given: None, batch)) == 2


def test_a_hopeless_candidate_gets_one_step(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(autotune.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(autotune.time, "process_time", lambda: torch.get_num_threads() * now[0])
    taken = {Way(): [], Way("bf16"): []}

    def step(way, seconds):
        def make(_):
            taken[way].append(seconds)
            now[0] += seconds

        return make

    times = autotune._milliseconds({Way(): step(Way(), 0.01), Way("bf16"): step(Way("bf16"), 20.0)}, Batch({"x": torch.zeros(2, 1)}))
    assert times == pytest.approx({Way(): 10.0, Way("bf16"): 20_000.0})
    assert len(taken[Way("bf16")]) == 1
    quick = {Way(): step(Way(), 0.01), Way("bf16"): step(Way("bf16"), 0.09)}  # a slow first step may be a stall
    autotune._milliseconds(quick, Batch({"x": torch.zeros(2, 1)}))
    assert len(taken[Way("bf16")]) == 1 + autotune._MOST_TURNS


def test_what_other_work_takes_of_a_processor_is_not_counted():
    waited = autotune._seconds(lambda _: time.sleep(0.3), Batch({"x": torch.zeros(2, 1)}))
    assert waited < 0.1


def test_stored_pixels_are_left_as_they_lie():
    stored, ready = torch.zeros(2, 5, 6, 3, dtype=torch.uint8), torch.zeros(2, 3, 5, 6)
    laid = with_channels_last(Batch({"stored": stored, "ready": ready}))
    assert laid.inputs["stored"].is_contiguous()
    assert laid.inputs["ready"].is_contiguous(memory_format=torch.channels_last)
