"""What a run that goes on may be told anew: where it trains, and nothing else."""

from __future__ import annotations

import pytest

from deepseek.artifacts import RunFolder
from deepseek.errors import InputError
from deepseek.pipeline.resuming import move, moved, require_same_recipe
from deepseek.recipe import load_recipe
from deepseek.recipe.load import keep_recipe

RECIPE = {
    "name": "a",
    "data": {"source": "a.csv", "target": "y"},
    "train": {"devices": 4, "strategy": "fsdp", "shares": [1, 1, 1, 2], "learning_rate": 0.1},
}
ELSEWHERE = ["train.devices=2", "train.strategy={type: pipeline, micro_batches: 2}", "train.shares=equal", "train.stall=2m"]


@pytest.fixture
def folder(tmp_path):
    made = RunFolder.create(tmp_path, "a")
    keep_recipe(load_recipe(RECIPE), made.recipe)
    made.resolved.write_text(load_recipe(RECIPE, overrides=["train.batch_size=32"]).to_yaml())
    return made


def test_a_run_goes_on_elsewhere_and_its_files_say_so(folder, capsys):
    now = load_recipe(RECIPE, overrides=ELSEWHERE)
    require_same_recipe(folder, now)
    move(folder, now)
    told = capsys.readouterr().err
    assert "train.devices was 4 and is 2" in told
    assert "train.stall was 600.0 and is 120.0" in told
    resolved = moved(folder, now)
    kept = load_recipe(folder.recipe)
    assert kept.to_value() == now.to_value()
    for one in (resolved, load_recipe(folder.resolved)):
        assert one.train.devices == 2
        assert one.train.strategy["type"] == "pipeline"
        assert one.train.shares == "equal"
        assert one.train.batch_size == 32  # what was decided stays


def test_a_cluster_may_come_and_go(folder):
    now = load_recipe(RECIPE, overrides=["cluster={type: ray, workers: 4}"])
    require_same_recipe(folder, now)
    move(folder, now)
    assert moved(folder, now).cluster.workers == 4
    move(folder, load_recipe(RECIPE))
    assert moved(folder, load_recipe(RECIPE)).cluster is None


def test_a_run_that_goes_on_as_it_was_keeps_its_files(folder, capsys):
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    move(folder, load_recipe(RECIPE))
    moved(folder, load_recipe(RECIPE))
    assert {path.name: path.read_bytes() for path in folder.path.iterdir()} == before
    assert not capsys.readouterr().err


@pytest.mark.parametrize("override", ["train.learning_rate=0.2", "train.device=cpu", "data.drop=[x]"])
def test_what_would_change_the_numbers_is_refused_with_what_may_be_another(folder, override):
    with pytest.raises(InputError, match=r"was made by another recipe: .* was .* and is ") as caught:
        require_same_recipe(folder, load_recipe(RECIPE, overrides=[override, "train.devices=4"]))
    assert "train.devices" in caught.value.hint
    assert "train.devices" not in caught.value.message
