"""What a job of several ranks comes to: the failure that was the reason, not those that it led to."""

from __future__ import annotations

import multiprocessing
import traceback

import pytest
import torch
import torch.distributed as dist

from deepseek.distributed.launch import Outcome, _collect, failure_of
from deepseek.errors import DataError, RunError


def failed(work):
    """Return what a rank sends of the error that some work ends with."""
    try:
        work()
    except Exception as error:  # noqa: BLE001 - as at the edge of a rank
        return failure_of(error, traceback.format_exc())
    raise AssertionError("it did not fail")


def bad_rows():
    raise DataError("row 7 has no target", hint="look at it")


def lost():
    """Fail as ranks do that wait for another which is gone."""
    raise dist.DistNetworkError("connection closed by peer")


def ranks_that_send(*answers):
    """Return pipes in which all answers lie already, as when the parent was kept from looking."""
    ours = []
    for answer in answers:
        one, other = multiprocessing.Pipe(duplex=False)
        if answer is not None:
            other.send(answer)
        other.close()
        ours.append(one)
    return ours


def test_the_reason_is_raised_and_not_what_it_led_to_on_another_rank():
    with pytest.raises(DataError, match="rank 1: row 7 has no target"):
        _collect(ranks_that_send(failed(lost), failed(bad_rows)))
    with pytest.raises(RunError, match="rank 1 died without a word") as caught:
        _collect(ranks_that_send(failed(lost), None))
    assert "a resume goes on from the last checkpoint" in caught.value.hint


def test_a_tensor_that_does_not_fit_is_no_lost_connection():
    found = failed(lambda: dist.all_reduce(torch.ones(1)))  # raised inside PyTorch's collectives: nobody has joined a group
    assert not found.echo
    assert found.hint is None


def standing_in(file, body, **known):
    """Return a function whose line stands in a file of that name."""
    exec(compile(f"def call():\n    {body}\n", file, "exec"), known)
    return known["call"]


@pytest.mark.parametrize(("asked_by", "echo"), [("torch/distributed/_functional_collectives.py", True), ("network.py", False)])
def test_a_collective_that_is_called_as_an_operation_is_known_by_who_asked_for_it(asked_by, echo):
    """With strategy: tensor the innermost lines are those by which PyTorch calls any operation."""
    inner = standing_in("/lib/torch/_ops.py", "raise RuntimeError('Connection closed by peer')")
    between = standing_in("/lib/torch/_library/autograd.py", "inner()", inner=inner)
    found = failed(standing_in(f"/lib/{asked_by}", "between()", between=between))
    assert found.echo is echo
    assert (found.hint is not None) is echo


def test_where_no_rank_knows_a_reason_the_first_word_is_raised():
    with pytest.raises(RunError, match="rank 0 failed") as caught:
        _collect(ranks_that_send(failed(lost), failed(lost)))
    assert "network between ranks is gone" in caught.value.hint


def test_nobody_waits_for_ever_for_a_rank_that_says_nothing():
    one, _other = multiprocessing.Pipe(duplex=False)  # open, and silent
    (pipe,) = ranks_that_send(failed(lost))
    outcome = Outcome(patience_s=0.0)
    outcome.take(0, pipe.recv())
    assert outcome.left_s == 0.0
    assert not one.poll(outcome.left_s)
    with pytest.raises(RunError, match="rank 0 failed"):
        outcome.end()
