"""What is searched is checked against the recipe's own schema before anything runs."""

from __future__ import annotations

import pytest

from deepseek.errors import RecipeError
from deepseek.recipe import load_recipe
from deepseek.tuning import default_space, read_space, trial_recipe

RECIPE = {
    "data": {"source": "a.csv", "target": "y"},
    "model": {"type": "mlp", "width": 64},
    "train": {"optimizer": "adamw", "learning_rate": 0.01, "batch_size": 64},
}


def recipe(over, **changes):
    return load_recipe({**RECIPE, **changes, "tune": {"over": over}})


def problems(over, **changes):
    with pytest.raises(RecipeError) as caught:
        read_space(recipe(over, **changes))
    return {problem.path.removeprefix("tune.over."): problem for problem in caught.value.problems}


def test_every_part_of_a_recipe_can_be_searched():
    space = read_space(
        recipe(
            {
                "train.learning_rate": [1e-4, 1e-1],
                "model": ["mlp", {"type": "tabm", "width": 32}],
                "model.width": [16, 32, 64],
                "train.optimizer.weight_decay": {"low": 1e-3, "high": 1.0, "log": True},
                "train.schedule": ["constant", {"type": "cosine", "warmup": 0.1}],
                "train.early_stopping.patience": {"low": 1, "high": 9, "step": 2},
                "data.transforms.number": ["number", {"type": "number", "scaling": "robust"}],
            }
        )
    )
    assert len(space) == 7
    assert space["train.learning_rate"].log


def test_a_wrong_path_is_told_with_what_was_meant():
    found = problems({"train.learning_rte": [0.1, 0.2], "modle.width": [1, 2, 3], "train.optimizer.weight_decoy": [0.0, 0.1]})
    assert found["train.learning_rte"].suggestion == "learning_rate"
    assert found["modle.width"].suggestion == "model"
    assert found["train.optimizer.weight_decoy"].suggestion == "weight_decay"


@pytest.mark.parametrize(
    ("path", "ranges", "words"),
    [
        ("model.width", [0, 16, 32], "at least 1"),
        ("train.learning_rate", [0.0, 0.1], "greater than 0"),
        ("train.epochs", [1.5, 3.5], "whole number"),
        ("train.precision", ["fp32", "fp8", "bf16"], "fp8"),
        ("model", ["mlp", "mpl"], "mpl"),
        ("train.epochs", {"low": 1, "hihg": 5}, "hihg"),
        ("train.epochs", 5, "neither a range nor choices"),
    ],
)
def test_a_wrong_value_is_told(path, ranges, words):
    assert words in str(problems({path: ranges})[path])


@pytest.mark.parametrize("path", ["data.split.train", "data", "seed", "data.checks", "tune.trials", "train.trackers", "data.source.path"])
def test_what_would_change_the_comparison_is_refused(path):
    assert "cannot be tuned" in problems({path: [1, 2, 3]})[path].message


def test_values_that_contradict_each_other_are_told():
    assert "must divide the batch size 64" in problems({"train.accumulate": [1, 5, 7]})["train.accumulate"].message
    found = problems({"train.batch_size": [60, 64, 70], "train.accumulate": [1, 2, 4]})
    assert "contradict each other" in found["tune.over"].message


def test_a_key_of_a_model_that_is_not_named_yet_asks_for_the_name():
    assert "name it" in problems({"model.width": [8, 16, 32]}, model="auto")["model.width"].message
    found = problems({"train.optimizer.weight_decay": [0.0, 0.1]}, train={})
    assert "name the optimizer" in found["train.optimizer.weight_decay"].message


def test_file_and_line_are_told(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("data: {source: a.csv, target: y}\ntune:\n  over:\n    train.epoch: [1, 5]\n")
    with pytest.raises(RecipeError, match=r"a\.yaml:4: tune\.over\.train\.epoch: .*did you mean 'epochs'"):
        read_space(load_recipe(file))


def test_a_trials_recipe_is_the_recipe_with_its_values_and_nothing_else():
    base = recipe({"model.width": [8, 16], "model": ["mlp", "tabm"]})
    made = trial_recipe(base, {"model.width": 16, "model": "tabm", "train.optimizer.weight_decay": 0.5}, trial=3)
    assert (made.model["type"], made.model["width"], made.train.optimizer["weight_decay"]) == ("tabm", 16, 0.5)
    assert made.tune is None
    assert made.data == base.data
    assert made.train.batch_size == 64
    assert "trial 3" in made.origins["model.width"]


def test_the_space_of_a_recipe_without_one_is_drawn_around_it():
    over = default_space(load_recipe({**RECIPE, "train": {"optimizer": {"type": "adamw", "weight_decay": 0.1}, "learning_rate": 0.004}}))
    assert over["train.learning_rate"]["low"] < 0.004 < over["train.learning_rate"]["high"]
    assert over["train.optimizer.weight_decay"]["low"] < 0.1 < over["train.optimizer.weight_decay"]["high"]
    assert {"model.dropout", "model.width"} <= set(over)
    assert len(read_space(recipe(over))) == len(over)
    images = load_recipe({**RECIPE, "model": "resnet"})
    assert "model.depth" not in default_space(images)  # a ResNet has no depth of 1
