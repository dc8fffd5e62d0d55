"""The plan of a run: its parts add up, what it says of a batch is what a batch takes, and what it says to change helps."""

from __future__ import annotations

import json

import pytest

import deepseek
from deepseek.artifacts import CACHE, StageCache
from deepseek.cli import main
from deepseek.cli.plan import DOES_NOT_FIT
from deepseek.data.batch import Batch
from deepseek.errors import InputError
from deepseek.pipeline.dataset import make_dataset
from deepseek.pipeline.planning.devices import scalings, sharded_peak, worthwhile
from deepseek.pipeline.planning.memory import RunMemory, memory_of
from deepseek.pipeline.planning.subject import Subject, subject_of
from deepseek.pipeline.planning.timing import Pace, RunTime
from deepseek.pipeline.run import resolve
from deepseek.recipe import load_recipe
from deepseek.training.live_memory import Growth, LiveMemory
from deepseek.training.step_memory import UpdateMemory

MIB = 1 << 20


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("plan")


@pytest.fixture(scope="module")
def recipe(home):
    source = str(deepseek.example("customers", home, rows=400))
    model = {"type": "mlp", "width": 128, "depth": 4}
    train = {"batch_size": 128, "epochs": 3, "precision": "fp32"}
    return {"name": "leave", "data": {"source": source, "target": "churned"}, "model": model, "train": train}


@pytest.fixture(scope="module")
def out(home):
    return home / "runs"


@pytest.fixture(scope="module")
def subject(recipe, out) -> Subject:
    checked = load_recipe(recipe)
    dataset = make_dataset(checked, StageCache(out / CACHE))
    return subject_of(resolve(checked, dataset)[0], dataset)


@pytest.fixture(scope="module")
def planned(recipe, out):
    return deepseek.plan(recipe, out=out, measure=False)


def test_parts_add_up_and_nothing_is_trained(planned, out):
    memory = planned["memory"]
    assert sum(part["bytes"] for part in memory["parts"]) == memory["peak_bytes"]
    assert memory["above_baseline_bytes"] == max(memory["moments"].values())
    assert all(part["why"] for part in memory["parts"])
    assert planned["fits"]
    assert planned["sentence"].startswith("it fits: ")
    assert [path.name for path in out.iterdir()] == [CACHE]


def test_parameters_state_and_steps_are_those_of_the_run(planned, subject, recipe, out):
    count = sum(parameter.numel() for parameter in subject.model.parameters())
    parts = {part["part"]: part["bytes"] for part in planned["memory"]["parts"]}
    assert planned["parameters"] == {"all": count, "trained": count}
    assert parts["gradients"] == 4 * count
    assert 8 * count <= parts["optimizer state"] <= 8 * count + 16 * len([*subject.model.parameters()])
    run = deepseek.run(recipe, out=out, overrides=["train.max_steps=2"])
    saved = sum(path.stat().st_size for path in (run.run / "checkpoints").rglob("*.safetensors"))
    assert planned["disk"]["checkpoints_bytes"] >= saved
    assert planned["time"]["steps"] == 3 * -(-planned["rows"] // 128)


def test_what_a_step_takes_is_known_exactly_from_four_rows(subject):
    memory = memory_of(subject)
    few = subject.batch(2)
    many = Batch(
        *({name: tensor.repeat(64, *[1] * (tensor.ndim - 1)) for name, tensor in part.items()} for part in (few.inputs, few.targets))
    )
    model = subject.model.train()
    for parameter in model.parameters():
        parameter.grad = None
    with LiveMemory() as live:
        numerator, _ = model.task.loss(model(many.inputs), many)
        numerator.backward()
        del numerator
    for parameter in model.parameters():
        parameter.grad = None
    assert memory.step.peak(128) == live.peak_bytes


def test_a_step_that_does_not_fit_is_a_status_a_sentence_and_a_change_that_helps(recipe, out, tmp_path, capsys):
    whole = deepseek.plan(recipe, out=out, measure=False, device_memory="64GB")
    assert whole["memory"]["emulated"]
    tight = int(whole["memory"]["peak_bytes"] * 1.1)
    file = tmp_path / "leave.json"
    file.write_text(json.dumps(recipe))
    arguments = ["plan", str(file), "--out", str(out), "--no-measure", "--device-memory", str(tight)]
    assert main([*arguments, "--json"]) == DOES_NOT_FIT
    found = json.loads(capsys.readouterr().out)
    assert not found["fits"]
    assert 0 < found["batch"]["most"] < 128
    change = found["changes"][0]
    assert change["fits"]
    assert change["change"] in found["sentence"]
    assert main([*arguments, "--set", change["change"]]) == 0
    assert "it fits" in capsys.readouterr().out
    recomputed = next(one for one in found["changes"] if "activation_checkpointing" in one["change"])
    assert recomputed["peak_bytes"] < found["memory"]["peak_bytes"]
    smaller = next(one for one in found["changes"] if "batch_size" in one["change"])
    assert int(smaller["change"].split("=")[1]) <= found["batch"]["most"]


def test_where_nothing_helps_it_says_so(recipe, out):
    found = deepseek.plan(recipe, out=out, measure=False, device_memory="10kB")
    assert "no single change suffices" in found["sentence"]
    assert found["batch"]["most"] == 0
    assert not any(change["fits"] for change in found["changes"])


def test_steps_are_timed_unless_that_is_not_wanted(recipe, out, planned):
    assert planned["time"]["how"] == "assumed"
    timed = deepseek.plan(recipe, out=out)["time"]
    assert timed["how"] == "measured"
    assert timed["seconds"] >= timed["training_s"] > 0


def test_devices_are_planned_without_being_there(recipe, out):
    found = deepseek.plan(recipe, out=out, measure=False, devices=4)["devices"]
    assert [one["devices"] for one in found["scaling"]] == [1, 2, 4]
    assert [one["rows"] for one in found["scaling"]] == [128, 64, 32]
    with pytest.raises(InputError, match="devices is 0"):
        deepseek.plan(recipe, out=out, devices=0)


def memory(*, fixed: int = MIB, row: int = 1000, weights: int = MIB) -> RunMemory:
    step = Growth((2, [fixed + 2 * row]), (4, [fixed + 4 * row]))
    nothing = Growth((2, [0]), (4, [0]))
    update = UpdateMemory(2 * weights, 0)
    return RunMemory(weights, weights, update, 0, 0, 0, 0, step, nothing, answered_rows=0, ways=0, host=False)


def time(pace: Pace, rows: int = 1024) -> RunTime:
    return RunTime("measured", pace, 100, rows, 100 * pace.seconds(rows), 0.0)


def test_one_device_first_and_more_where_they_bring_enough():
    rows_cost, calls_cost = Pace(0.0, 1e-3), Pace(1.0, 1e-6)
    many = scalings(time(rows_cost), memory(), most=8, budget=1 << 40, accumulate=1)
    assert worthwhile(many).devices == 8
    assert worthwhile(many).efficiency > 0.9
    assert worthwhile(scalings(time(calls_cost), memory(), most=8, budget=1 << 40, accumulate=1)).devices == 1


def test_more_devices_where_one_has_not_the_memory_and_never_more_than_rows():
    taken = memory(row=MIB)
    found = scalings(time(Pace(1.0, 1e-6)), taken, most=4, budget=taken.peak(300), accumulate=1)
    assert [one.fits for one in found] == [False, False, True]
    assert worthwhile(found).devices == 4
    assert [one.devices for one in scalings(time(Pace(0.0, 1e-3), 3), taken, most=8, budget=1 << 40, accumulate=1)] == [1, 2]


def test_pieces_hold_the_gradients_of_those_before_them():
    taken = memory(row=10_000)
    assert taken.peak(1024, accumulate=4) == taken.kept + taken.gradients + taken.step.peak(256)
    assert taken.most_rows(taken.peak(100), most=1 << 20) == 100


def test_devices_that_share_the_weights_hold_a_part_of_them():
    taken = memory(weights=600 * MIB)
    assert sharded_peak(taken, 8, 8) < 0.4 * taken.peak(8)
