from deepseek.recipe.sections import CheckpointSection, TrainSection
from deepseek.training import TrainSettings


def test_defaults_are_those_of_the_recipe():
    settings, recipe = TrainSettings(), TrainSection()
    same = [name for name in TrainSection.model_fields if hasattr(settings, name) and getattr(recipe, name) != "auto"]
    assert {name: getattr(settings, name) for name in same} == {name: getattr(recipe, name) for name in same} | {"seed": 0}
    assert (settings.checkpoint_every_s, settings.keep) == (CheckpointSection().every_s, CheckpointSection().keep)
    assert {"deterministic", "accumulate", "on_nonfinite", "l2"} <= set(same)
