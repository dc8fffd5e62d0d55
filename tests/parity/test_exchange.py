"""Gradients exchanged in every way, and batches divided in every way: on real processes, against one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepseek.distributed import RankContext, launch

JOBS = Path(__file__).parent / "jobs"


@pytest.fixture
def jobs(monkeypatch):
    monkeypatch.syspath_prepend(JOBS)
    import exchange_jobs

    return exchange_jobs


def assert_same(found, wanted):
    (weights, history), (alone, entries) = found, wanted
    for name, value in alone.items():
        np.testing.assert_allclose(weights[name], value, rtol=0, atol=1e-6)
    assert len(history) == len(entries) == 10
    for one, other in zip(history, entries, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_two_ranks_with_uneven_shares_are_one_over_200_steps(jobs):
    """Losses and weights, whatever way gradients go that promises to be exact."""
    cases = [{"shares": [3, 1]}, {"shares": [1, 7], "accumulate": 2}, {"communication": "parameter_server", "shares": [2, 3]}]
    alone = jobs.train(RankContext())[:2]
    for found in launch(jobs.train_all, 2, cases, device="cpu"):
        assert_same(found, alone)


def test_four_ranks_with_uneven_shares_are_one_over_200_steps(jobs):
    cases = [{"shares": [4, 3, 2, 1]}, {"communication": {"type": "hierarchical", "group": 2}, "shares": [1, 1, 5, 1]}]
    alone = jobs.train(RankContext())[:2]
    for found in launch(jobs.train_all, 4, cases, device="cpu"):
        assert_same(found, alone)


def test_resumed_with_what_was_not_yet_sent_it_is_the_same_run_bit_for_bit(jobs, tmp_path):
    cases = [
        {"communication": {"type": "qsgd", "bits": 2, "error_feedback": True}},
        {"communication": {"type": "qsgd", "bits": 4}},
        {"communication": {"type": "power_sgd", "rank": 2}},
    ]
    results = launch(jobs.train_and_resume, 2, tmp_path, cases, device="cpu")
    for case, ((weights, history), (resumed, entries), kept) in zip(cases, results, strict=True):
        assert entries == history, case
        for name, value in weights.items():
            np.testing.assert_array_equal(resumed[name], value)
        remembers = case["communication"].get("error_feedback") or case["communication"]["type"] == "power_sgd"
        assert ("exchange.safetensors" in kept) == bool(remembers)
    with pytest.raises(Exception, match="the checkpoint holds what 2 ranks kept between steps"):
        jobs.train(RankContext(), tmp_path / "0", model=jobs.Wide, resume=True, max_steps=40)


@pytest.fixture(scope="module")
def parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(JOBS)
        import exchange_jobs

        specs = [
            {"type": "qsgd", "bits": 2},
            {"type": "qsgd", "bits": 2, "error_feedback": True},
            {"type": "power_sgd", "rank": 4, "error_feedback": False},
            {"type": "power_sgd", "rank": 4},
        ]
        return launch(exchange_jobs.parts, 2, specs, device="cpu")


def test_what_was_lost_is_sent_later(parts):
    """Without error feedback the errors of 30 steps add up; with it, no more is missing than of a few."""
    plain, fed, low, low_fed = parts[0]
    assert fed < plain / 2
    assert low_fed < low / 2


def test_a_spike_that_was_left_out_does_not_come_again(jobs):
    """What an exchange loses of a gradient that nobody used must not be sent with the next."""
    fed = [{"type": "qsgd", "bits": 2, "error_feedback": True}, {"type": "power_sgd", "rank": 2}]
    found, skipped = launch(jobs.spiked, 2, ["all_reduce", *fed], device="cpu")
    assert found == [([25], True)] * 3
    assert skipped == [True] * 3


def test_low_rank_factors_go_to_the_best_approximation(parts):
    (mixed, share), (pure, _) = parts[1]
    assert mixed[0] > 10 * mixed[-1]  # the iteration goes on from step to step
    assert mixed[-1] < 1e-3
    assert max(pure) < 1e-5
    assert share < 0.15


def test_phases_of_all_buckets_run_side_by_side(parts):
    order, during = parts[2]
    firsts = [index for phase, index in order if phase == 0]
    assert firsts == sorted(firsts)
    assert during == len(firsts) == 4
    assert order[during:] == [(1, 1), (1, 3)]


def test_batches_are_divided_by_speed_and_nothing_else_changes(jobs, tmp_path):
    """A rank that takes three times as long for a row gets a third of the rows."""
    alone = jobs.train(RankContext(), max_steps=60)[:2]
    weights, history, decisions, resumed, again, logged = launch(jobs.balance, 2, tmp_path, [0.1, 0.3], device="cpu")
    assert decisions["shares"] == [12, 4]
    (change,) = decisions["share_changes"]
    assert change["shares"] == [12, 4]
    assert change["rows_per_s"] == pytest.approx([10, 10 / 3])
    assert logged[0] == ([1, 1], 1.0)
    assert logged[-1] == ([12, 4], 1.0)
    for name, value in alone[0].items():
        np.testing.assert_allclose(weights[name], value, rtol=0, atol=1e-6)
    for one, other in zip(history, alone[1], strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    assert again["shares"] == [12, 4]
    assert len(again["share_changes"]) == 1  # recorded, not measured anew
    for name, value in weights.items():
        np.testing.assert_array_equal(resumed[name], value)


def test_what_does_not_go_together_is_an_error_that_says_what_does(jobs, tmp_path):
    found = launch(jobs.wrong, 2, tmp_path / "run", device="cpu")
    assert "2 ranks cannot be grouped" in found["group"]
    assert "allowed: 0 to 1" in found["server"]
    assert "loss scale" in found["scale"]
    assert "for each rank" in found["shares"]
    assert "CheckpointError" in found["resume"]
    assert "nothing that ranks kept between steps" in found["resume"]
