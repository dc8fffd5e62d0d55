"""Every built-in aggregation and derivation keeps the public contract."""

import pytest

from deepseek.components import FAMILIES
from deepseek.data.synthesis.contract import AggregationContract, DerivationContract
from deepseek.registry import family


@pytest.mark.parametrize("name", FAMILIES["aggregation"][1])
class TestAggregations(AggregationContract):
    @pytest.fixture
    def aggregation(self, name):
        return family("aggregation").build(name)


@pytest.mark.parametrize("name", FAMILIES["derivation"][1])
class TestDerivations(DerivationContract):
    @pytest.fixture
    def derivation(self, name):
        return family("derivation").build(name)
