"""What is asked of Ray and made of its answers, with a module that stands in for it; on clusters it runs in `tests/flow/test_ray.py`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from deepseek.distributed import ray_cluster
from deepseek.distributed.launch import Failure
from deepseek.errors import CheckpointError, DataError, RunError


class RayError(Exception):
    pass


class FakeRay(SimpleNamespace):
    """A cluster whose ranks have all answered."""

    def __init__(self, answers=(), **resources):
        super().__init__(exceptions=SimpleNamespace(RayError=RayError))
        self.answers, self.resources = answers, resources

    def cluster_resources(self):
        return self.resources

    def wait(self, refs, *, num_returns, timeout):
        assert num_returns == 1
        return refs[:1], refs[1:]

    def get(self, ref):
        if isinstance(self.answers[ref], RayError):
            raise self.answers[ref]
        return self.answers[ref]

    def init(self, **_):
        raise ConnectionError("Could not find any running Ray instance")


@pytest.mark.parametrize(
    ("device", "resources", "wanted"),
    [
        ("auto", {"CPU": 8}, False),
        ("auto", {"CPU": 8, "GPU": 2}, True),
        ("auto", {"CPU": 8, "GPU": 1}, False),
        ("cpu", {"GPU": 8}, False),
        ("cuda", {}, True),
    ],
)
def test_accelerators_are_taken_where_one_is_named_or_the_cluster_has_enough(capsys, device, resources, wanted):
    assert ray_cluster._has_accelerators(FakeRay(**resources), 2, device=device) == wanted
    assert ("1 accelerators for 2 ranks" in capsys.readouterr().err) == (resources.get("GPU") == 1)


def collect(*answers):
    return ray_cluster._collect(
        FakeRay(answers), {rank: rank for rank in range(len(answers))}, [ray_cluster._Place("node", "machine", 1)] * len(answers)
    )


def test_the_reason_is_raised_and_not_what_it_led_to_on_another_rank():
    echo = Failure("RuntimeError", "connection closed by peer", None, "…", echo=True)
    reason = Failure("DataError", "row 7 has no target", None, "…")
    assert collect("first", None) == "first"
    with pytest.raises(DataError, match="rank 1: row 7"):
        collect(echo, reason)
    with pytest.raises(RunError, match="rank 0 failed: RuntimeError: connection closed"):
        collect(echo, None)


def test_a_rank_whose_machine_is_gone_is_named():
    with pytest.raises(RunError, match="rank 1 died without a word: the node died"):
        collect(Failure("RuntimeError", "connection closed by peer", None, "…", echo=True), RayError("the node died"))


def test_where_there_is_no_cluster_it_says_how_to_start_one():
    with pytest.raises(RunError, match="no Ray cluster at 'auto'") as caught:
        ray_cluster._join(FakeRay(), "auto")
    assert "ray start" in caught.value.hint


class Interrupted(FakeRay):
    """A cluster that Ctrl-C comes to while its ranks are waited for; told to end, they save or say why not."""

    def wait(self, refs, *, num_returns, timeout):
        if timeout is None:
            raise KeyboardInterrupt
        return (refs, []) if self.resources["ends"] else ([], refs)


@pytest.mark.parametrize(
    ("answers", "ends", "error", "words"),
    [
        (("saved",), True, KeyboardInterrupt, None),
        ((Failure("SystemExit", "143", None, "…"),), True, KeyboardInterrupt, None),
        ((Failure("CheckpointError", "the disk is full", None, "…"),), True, CheckpointError, "rank 0: the disk is full"),
        (("saved",), False, RunError, "rank 0 had not ended"),
    ],
)
def test_who_is_interrupted_hears_what_became_of_the_ranks(monkeypatch, answers, ends, error, words):
    told = []
    monkeypatch.setattr(ray_cluster, "_terminate", told.append)
    place = ray_cluster._Place("node", ray_cluster._machine(), 7)
    with pytest.raises(error, match=words):
        ray_cluster._collect(Interrupted(answers, ends=ends), {0: 0}, [place])
    assert told == [7]
