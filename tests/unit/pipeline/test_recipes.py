"""The recipe that is meant, however it is given."""

from deepseek.pipeline.recipes import open_recipe
from deepseek.recipe import load_recipe


def test_a_checked_recipe_is_overridden_as_a_file_is(tmp_path):
    given = load_recipe({"name": "a", "data": {"source": "x.csv", "target": "y"}, "train": {"epochs": 5}}, folder=tmp_path)
    _, changed = open_recipe(given, ["train.epochs=7"])
    assert (given.train.epochs, changed.train.epochs) == (5, 7)
    assert changed.folder == given.folder
    _, same = open_recipe(given, ["train.epochs=5"])
    assert same.to_value() == given.to_value()
    assert open_recipe(given)[1] is given
