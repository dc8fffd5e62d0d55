"""Every strategy that this machine can run keeps the contract."""

import pytest

from deepseek.distributed.strategies.contract import StrategyContract
from deepseek.registry import family

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
