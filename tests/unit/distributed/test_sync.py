"""Gradients on their way: what counts as this rank's work, and from when on the others count on it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from deepseek.distributed import GradientSync, RankContext
from deepseek.distributed.exchange import Exchange
from deepseek.distributed.pace import Pace

WORK_S, WAIT_S = 1.0, 100.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Waiting(Exchange):
    """Needs the global weight first, for which it waits long; it works on every bucket, and waits for that as well."""

    lossy = True

    def __init__(self, clock: Clock, *, remembers: bool = True, fails: bool = False) -> None:
        super().__init__(RankContext(0, 2))
        self.clock, self.fails, self._remembers = clock, fails, remembers

    @property
    def remembers(self):
        return self._remembers

    def wait(self) -> None:
        self.clock.now += WAIT_S

    def sum_in_place(self, values, group=None):
        return SimpleNamespace(wait=self.wait)

    def exchange(self, bucket, weight):
        if self.fails:
            raise torch.OutOfMemoryError("out of memory")
        self.clock.now += WORK_S
        yield self.sum_in_place(bucket.flat)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("deepseek.distributed.pace.time", made)
    return made


def sync_of(net: nn.Module, exchange: Exchange) -> GradientSync:
    sync = GradientSync(list(net.parameters()), bucket_bytes=8 * 8 * 4, exchange=exchange)
    sync.pace = Pace(torch.device("cpu"))
    return sync


@pytest.mark.parametrize("remembers", [True, False])
def test_waiting_for_the_weight_of_the_rows_is_no_work(clock, remembers):
    net = nn.Sequential(*[nn.Linear(8, 8) for _ in range(3)])
    sync = sync_of(net, Waiting(clock, remembers=remembers))
    for steps in (1, 2):
        for _ in range(steps):
            sync.zero()
            sync.arm(torch.tensor(1.0))
            net(torch.ones(2, 8)).sum().backward()
            sync.finish()
        assert sync.pace is not None
        buckets = len(sync._flats)
        assert buckets > 1
        assert sync.pace.take() == steps * buckets * WORK_S
    sync.finish()  # on a rank without rows it starts everything itself, and waits
    assert sync.pace.take() == 0.0


def test_others_count_on_a_rank_from_its_first_message_on(clock):
    net = nn.Linear(8, 8)
    sync = sync_of(net, Waiting(clock, fails=True))
    sync.zero()
    assert not sync.busy
    sync.arm(torch.tensor(1.0))
    with pytest.raises(torch.OutOfMemoryError):
        net(torch.ones(2, 8)).sum().backward()
    assert sync.busy
