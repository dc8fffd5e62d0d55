"""The public suite, on every built-in exchange."""

from functools import lru_cache

import pytest

from deepseek.components import FAMILIES
from deepseek.distributed.exchange.contract import ExchangeContract, observe

TWO = {
    "all_reduce": ("all_reduce", 1e-6),
    "fp16": ("fp16", 5e-4),
    "bf16": ("bf16", 4e-3),
    "qsgd": ("qsgd", 0.08),
    "qsgd, 4": ({"type": "qsgd", "bits": 4}, 0.3),
    "qsgd, 2": ({"type": "qsgd", "bits": 2, "error_feedback": True}, 3.0),
    "qsgd, 3": ({"type": "qsgd", "bits": 3, "norm": "l2", "bucket": 40}, 2.0),
    "qsgd, 6": ({"type": "qsgd", "bits": 6, "error_feedback": True}, 0.08),
    "qsgd, 8": ({"type": "qsgd", "bits": 8}, 0.02),
    "power_sgd": ("power_sgd", 2.0),
    "power_sgd, wide": ({"type": "power_sgd", "rank": 9, "error_feedback": False}, 0.9),
    "parameter_server": ({"type": "parameter_server", "server": 1}, 1e-6),
}
FOUR = {"hierarchical": ({"type": "hierarchical", "group": 2}, 1e-6), "qsgd": (TWO["qsgd"][0], 0.3)}


def test_every_built_in_exchange_is_in_this_suite():
    assert {name.split(",")[0] for name in [*TWO, *FOUR]} == set(FAMILIES["exchange"][1])


@lru_cache
def of_two():
    return dict(zip(TWO, observe([spec for spec, _ in TWO.values()]), strict=True))


@lru_cache
def of_four():
    return dict(zip(FOUR, observe([spec for spec, _ in FOUR.values()], ranks=4), strict=True))


@pytest.mark.parametrize("case", TWO)
class TestTwoRanks(ExchangeContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        self.case, self.error = case, TWO[case][1]

    def observed(self):
        return of_two()[self.case]


@pytest.mark.parametrize("case", FOUR)
class TestFourRanks(ExchangeContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        self.case, self.error = case, FOUR[case][1]

    def observed(self):
        return of_four()[self.case]


def test_a_suite_that_could_not_fail_would_prove_nothing():
    """What is lost is found to be lost."""
    assert max(of_two()["qsgd"].errors) > 1e-3
    assert of_two()["qsgd"].share < 0.5 < of_two()["fp16"].share < 0.6
