"""What `auto` comes to must be something that the rest of the recipe allows."""

import pytest

from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind
from deepseek.pipeline.choices import choose
from deepseek.recipe import Recipe

NUMBERS = {"numbers": InputSpec("numbers", Kind.NUMBER, ("x",), (1,), "float32")}
TARGET = TargetSpec("binary", ("y",), ("no", "yes"), (5, 5), 10)


@pytest.mark.parametrize(
    ("metrics", "chosen"),
    [(None, True), (["log_loss", "f1"], True), ([{"type": "log_loss"}], True), (["accuracy", "f1"], False), ([], False)],
)
def test_only_a_metric_that_is_computed_is_monitored(metrics, chosen):
    recipe = Recipe.from_value({"data": {"source": "a.csv", "target": "y"}, "task": {"type": "binary", "metrics": metrics}})
    assert ("train.monitor" in choose(recipe, NUMBERS, TARGET, rows=10)) is chosen


def test_without_validation_rows_nothing_stops_early_and_nothing_is_monitored():
    recipe = Recipe.from_value({"data": {"source": "a.csv", "target": "y"}})
    with_rows, without = (choose(recipe, NUMBERS, TARGET, rows=10, validated=validated) for validated in (True, False))
    assert with_rows["train.early_stopping"][0] == {"patience": 8}
    assert without["train.early_stopping"] == (False, "there are no validation rows")
    assert "train.monitor" in with_rows
    assert "train.monitor" not in without
