"""What the watch says of ranks that hang."""

from __future__ import annotations

import dataclasses

import pytest

from deepseek.distributed.watch import Beat, Watch, verdict

NOW = {
    0: Beat(0, 7, 9, 40, "_run (trainer.py:300)", waits=True),
    1: Beat(1, 7, 9, 40, "on_step (plugin.py:3)", waits=False),
}
BEFORE = {rank: dataclasses.replace(beat, count=35) for rank, beat in NOW.items()}


def test_the_rank_that_does_not_wait_is_the_one_the_others_wait_for():
    error = verdict(BEFORE, NOW, still_s=12.0)
    assert "the others wait for rank 1 at step 7" in error.message
    assert "rank 1 is at step 7, in on_step (plugin.py:3)" in error.message
    assert "train.stall" in error.hint


def test_a_rank_that_writes_nothing_any_more_is_named_before_one_that_computes():
    silent = {**BEFORE, 0: NOW[0]}
    error = verdict(silent, NOW, still_s=12.0)
    assert "wait for rank 0 at step 7" in error.message
    assert "rank 0 does not answer any more" in error.message


@pytest.mark.parametrize("moved", [8, 9])
def test_where_all_wait_the_one_that_has_done_least_is_named(moved):
    all_wait = {0: NOW[0], 1: dataclasses.replace(NOW[1], waits=True, moved=moved, step=6)}
    error = verdict(BEFORE, all_wait, still_s=12.0)
    assert ("wait for rank 1 at step 6 (" in error.message) == (moved == 8)


def test_what_passes_through_counts_as_moving():
    watch = Watch()
    assert list(watch.through("abc")) == ["a", "b", "c"]
    watch.at(5)
    assert (watch.moved, watch.step) == (4, 5)
