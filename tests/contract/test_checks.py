import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepseek.components import FAMILIES
from deepseek.data.checks.contract import CheckContract
from deepseek.errors import InputError, RecipeError
from deepseek.registry import family

CASES = {
    "required": ({"columns": ["a", "b"]}, {"a": [1, None, 3, 4], "b": [0.5, 1.0, float("nan"), 2.0]}, "0110"),
    "type": ({"column": "a", "expected": "integer"}, {"a": ["1", "2.0", "2.5", "x", None]}, "00110"),
    "range": ({"column": "a", "min": 0, "max": 120}, {"a": [0, 120, 121, -1, None]}, "00110"),
    "regex": ({"column": "a", "pattern": "[0-9]{2}|x"}, {"a": ["12", "x", "123", "x1", None]}, "00110"),
    "in_set": ({"column": "a", "values": ["S", "M"]}, {"a": ["S", "XL", None]}, "010"),
    "unique": ({"columns": ["a", "b"]}, {"a": [1, 1, 1, None, None], "b": ["x", "y", "x", "z", "z"]}, "00100"),
    "foreign_key": ({"column": "a", "table": "keys.parquet", "key": "id"}, {"a": [7, 8, 9, None]}, "0010"),
    "expression": ({"expression": "a <= b"}, {"a": [1, 5, None], "b": [2, 3, 4]}, "010"),
    "freshness": ({"column": "a", "max_age": "7d", "now": "2024-01-31"}, {"a": ["2024-01-24", "2024-01-23T23:59", "x", None]}, "0110"),
}


@pytest.mark.parametrize("name", CASES)
class TestBuiltIn(CheckContract):
    @pytest.fixture(autouse=True)
    def _choose(self, name, tmp_path):
        self.name, self.folder = name, tmp_path
        pq.write_table(pa.table({"id": [7, 8, 8]}), tmp_path / "keys.parquet")

    def make(self, **settings):
        given, _, _ = CASES[self.name]
        try:
            check = family("check").build({"type": self.name, **given, **settings})
        except RecipeError as error:
            raise InputError(str(error)) from error
        check.folder = self.folder
        return check

    def batch(self):
        return pa.record_batch(CASES[self.name][1])

    def expected(self):
        return [mark == "1" for mark in CASES[self.name][2]]


def test_every_built_in_check_is_here():
    assert set(CASES) == set(FAMILIES["check"][1])
