"""Schedules against torch's own and their formulas."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepseek.errors import InputError
from deepseek.optim.schedules import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    StepSchedule,
)

TOTAL = 50


def torchs(make, peak: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    scheduler = make(optimizer)
    rates = []
    for _ in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_one_cycle_is_torchs():
    expected = torchs(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=TOTAL + 1, div_factor=25), 1.0)
    got = [OneCycleSchedule().factor(step, TOTAL + 1) for step in range(TOTAL)]
    assert got == pytest.approx(expected)


def test_cosine_is_torchs():
    expected = torchs(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.1), 1.0)
    assert [CosineSchedule(final=0.1).factor(step, TOTAL) for step in range(TOTAL)] == pytest.approx(expected)


def test_step_and_linear_and_constant():
    schedule = StepSchedule(milestones=(0.5, 0.8), gamma=0.1)
    assert [schedule.factor(step, 10) for step in (0, 4, 5, 7, 8)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert LinearSchedule(final=0.5).factor(5, 10) == pytest.approx(0.75)
    assert ConstantSchedule().factor(9, 10) == 1.0


def test_warmup_by_steps_and_by_fraction():
    by_steps, by_fraction = CosineSchedule(warmup_steps=5), CosineSchedule(warmup=0.1)
    assert [by_steps.factor(step, 50) for step in range(50)] == [by_fraction.factor(step, 50) for step in range(50)]
    assert [by_steps.factor(step, 50) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    with pytest.raises(InputError, match="one of the two"):
        CosineSchedule(warmup_steps=5, warmup=0.1)


@given(st.integers(1, 200), st.floats(0, 1))
def test_factors_stay_between_0_and_1(total, warmup):
    for kind in (ConstantSchedule, CosineSchedule, LinearSchedule, StepSchedule, OneCycleSchedule):
        assert all(0 <= kind(warmup=warmup).factor(step, total) <= 1 for step in range(total))


def test_plateau_falls_after_patience_and_remembers():
    schedule = PlateauSchedule(gamma=0.5, patience=1, min_factor=0.2)
    seen = []
    for value in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9):
        schedule.observe(value, higher_is_better=False)
        seen.append(schedule.factor(0, 10))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.2]
    twin = PlateauSchedule(gamma=0.5, patience=1, min_factor=0.2)
    twin.load_state_dict(schedule.state_dict())
    assert twin.state_dict() == schedule.state_dict()
    assert twin.factor(0, 10) == 0.2
