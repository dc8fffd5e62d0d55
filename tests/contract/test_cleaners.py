import pyarrow as pa
import pytest

from deepseek.components import FAMILIES
from deepseek.data.cleaning.contract import CleanerContract
from deepseek.fields import Field, Kind, Schema
from deepseek.registry import family

CASES = {
    "missing median": {"type": "missing", "indicator": True},
    "missing mean": {"type": "missing", "strategy": "mean", "columns": ["x"]},
    "missing mode": {"type": "missing", "strategy": "mode"},
    "missing constant": {"type": "missing", "strategy": "constant", "value": "none", "indicator": True},
    "missing forward": {"type": "missing", "strategy": "forward_fill"},
    "outliers sigma": {"type": "outliers", "k": 1.2},
    "outliers iqr": {"type": "outliers", "method": "iqr", "action": "null"},
    "outliers drop": {"type": "outliers", "k": 1.2, "action": "drop"},
    "text": {"type": "text", "lower": True, "urls": True},
    "duplicates": {"type": "duplicates"},
}


@pytest.mark.parametrize("case", CASES)
class TestBuiltIn(CleanerContract):
    @pytest.fixture(autouse=True)
    def _choose(self, case):
        self.case = case

    def make(self):
        return family("cleaner").build(CASES[self.case])

    def schema(self):
        kinds = {"x": Kind.NUMBER, "n": Kind.NUMBER, "c": Kind.CATEGORY, "t": Kind.TEXT, "y": Kind.CATEGORY}
        return Schema(tuple(Field(name, kind) for name, kind in kinds.items()), ("y",))

    def train(self):
        return pa.record_batch(
            {
                "x": [1.0, 2.0, 2.0, float("nan"), None, 900.0, 1.5],
                "n": pa.array([3, 4, 4, None, 5, 6, -800], pa.int32()),
                "c": ["a", "b", "b", None, "a", "b", None],
                "t": ["<b>Hi</b> http://a.b/c", "x", "x", None, "a\tb", "É", ""],
                "y": ["p", "q", "q", "p", "p", "q", "q"],
            }
        )


def test_every_built_in_cleaner_is_here():
    assert {case["type"] for case in CASES.values()} == set(FAMILIES["cleaner"][1])
