"""Planned memory beside what runs in fresh processes really held."""

from __future__ import annotations

import pytest
from benchmarks import planner

pytestmark = [pytest.mark.quality, pytest.mark.slow]


@pytest.mark.parametrize("name", ["images, ResNet-18"])
def test_a_run_holds_what_was_planned(name, tmp_path):
    found = planner.measured(name, tmp_path, threads=2)
    assert 0.85 <= found["ratio"] <= 1.15, found
