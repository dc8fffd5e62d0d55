"""Every strategy that this machine can run keeps the contract."""

from pathlib import Path

import pytest

from deepseek.distributed.strategies.contract import StrategyContract
from deepseek.registry import family

JOBS = Path(__file__).parent / "jobs"
SPECS = ["auto", "ddp", "fsdp", "tensor", "pipeline", {"type": "pipeline", "schedule": "gpipe", "micro_batches": 2}]


@pytest.mark.parametrize("spec", SPECS, ids=str)
class TestStrategy(StrategyContract):
    @pytest.fixture(autouse=True)
    def _chosen(self, spec):
        self.spec = spec

    def build(self):
        return family("strategy").build(self.spec)


def test_every_built_in_is_here_but_horovod_which_needs_its_library():
    named = {spec if isinstance(spec, str) else spec["type"] for spec in SPECS}
    assert set(family("strategy").names()) == named | {"horovod"}


@pytest.mark.parametrize(("name", "words"), [("Forgets", "the gradient of"), ("Doubles", "how often"), ("Thaws", "is trained")])
def test_a_strategy_that_breaks_it_is_found_out(monkeypatch, name, words):
    monkeypatch.syspath_prepend(JOBS)
    import broken_strategies

    class Broken(StrategyContract):
        def build(self):
            return getattr(broken_strategies, name)()

    with pytest.raises(AssertionError, match=words):
        Broken().test_gradients_answers_and_weights_are_those_of_one_rank()


def test_what_a_block_returns_with_others_may_be_changed_in_place(monkeypatch):
    """A view would lose what makes the block's parameters whole again in the backward pass, in a tuple as by itself."""
    monkeypatch.syspath_prepend(JOBS)
    import in_place

    class Changed(StrategyContract):
        def build(self):
            return family("strategy").build("fsdp")

        def model(self):
            return in_place.InPlace()

    Changed().test_gradients_answers_and_weights_are_those_of_one_rank()
