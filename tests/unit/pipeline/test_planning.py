"""The plan of a run: its parts add up, what it says of a batch is what a batch takes, and what it says to change helps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import deepseek
from deepseek.artifacts import CACHE, StageCache
from deepseek.cli import main
from deepseek.cli.plan import DOES_NOT_FIT
from deepseek.data.batch import Batch
from deepseek.data.loader import Loader
from deepseek.data.prepared import PreparedDataset
from deepseek.data.transforms.base import Ragged
from deepseek.errors import InputError
from deepseek.pipeline.planning import memory as planned_memory
from deepseek.pipeline.planning import overhead
from deepseek.pipeline.planning.devices import Share, scalings, worthwhile
from deepseek.pipeline.planning.memory import RunMemory, memory_of
from deepseek.pipeline.planning.overhead import Overhead
from deepseek.pipeline.planning.subject import Subject, subject_of
from deepseek.pipeline.planning.timing import Pace, RunTime
from deepseek.pipeline.preparing.dataset import make_dataset
from deepseek.pipeline.run import resolve
from deepseek.recipe import load_recipe
from deepseek.training.memory.live import Growth, LiveMemory
from deepseek.training.memory.needs import UpdateMemory

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


def memory(*, fixed: int = MIB, row: int = 1000, weights: int = MIB, host: bool = False, **more) -> RunMemory:
    step = Growth((2, [fixed + 2 * row]), (4, [fixed + 4 * row]))
    nothing = Growth((2, [0]), (4, [0]))
    update = UpdateMemory(2 * weights, 0)
    return RunMemory(weights, weights, update, 0, 0, 0, 0, step, nothing, answered_rows=0, ways=0, host=host, **more)


def time(pace: Pace, rows: int = 1024) -> RunTime:
    return RunTime("measured", pace, 100, rows, 100 * pace.seconds(rows), 0.0)


def test_one_device_first_and_more_where_they_bring_enough():
    rows_cost, calls_cost = Pace(0.0, 1e-3), Pace(1.0, 1e-6)
    many = scalings(time(rows_cost), Share(memory()), most=8, budget=1 << 40, accumulate=1)
    assert worthwhile(many).devices == 8
    assert worthwhile(many).efficiency > 0.9
    assert worthwhile(scalings(time(calls_cost), Share(memory()), most=8, budget=1 << 40, accumulate=1)).devices == 1


def test_more_devices_where_one_has_not_the_memory_and_never_more_than_rows():
    taken = memory(row=MIB)
    found = scalings(time(Pace(1.0, 1e-6)), Share(taken), most=4, budget=taken.peak(300), accumulate=1)
    assert [one.fits for one in found] == [False, False, True]
    assert worthwhile(found).devices == 4
    assert [one.devices for one in scalings(time(Pace(0.0, 1e-3), 3), Share(taken), most=8, budget=1 << 40, accumulate=1)] == [1, 2]


def test_pieces_hold_the_gradients_of_those_before_them():
    taken = memory(row=10_000)
    assert taken.peak(1024, accumulate=4) == taken.kept + taken.gradients + taken.step.peak(256)
    assert Share(taken).most(taken.peak(100), most=1 << 20) == 100


def test_devices_that_share_the_weights_hold_a_part_of_them():
    taken = memory(weights=600 * MIB)
    copies, parts = Share(taken, 8), Share(taken, 8, sharded=True)
    assert parts.peak(64) < 0.4 * copies.peak(64)
    assert sum(parts.parts(64).values()) == parts.peak(64)
    assert sum(copies.parts(64).values()) == copies.peak(64) == taken.peak(8, devices=8)
    assert max(parts.moments(64).values()) == parts.peak(64)


SHARED = [
    {"communication": {"type": "qsgd", "bits": 4}, "shares": "auto"},
    {"communication": "bf16"},
    {"shares": [3, 1]},
    {"strategy": "fsdp"},
    {"strategy": "ddp", "communication": {"type": "parameter_server", "server": 1}},
]


def plan_file(recipe, folder, **train) -> str:
    usual = {key: value for key, value in recipe["train"].items() if key != "precision"}
    file = folder / "leave.json"
    file.write_text(json.dumps({**recipe, "train": {**usual, **train}}))
    return str(file)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the driver would be there to be asked")
def test_devices_that_are_not_here_are_planned_with_the_usual_precision(recipe, out, tmp_path, capsys):
    arguments = ["plan", plan_file(recipe, tmp_path), "--out", str(out), "--no-measure", "--device-memory", "16GB", "--devices", "4"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"]
    assert found["memory"]["device"] == "cuda"
    assert [one["devices"] for one in found["devices"]["scaling"]] == [1, 2, 4]
    assert "measuring" in found["memory"]["moments"]  # bfloat16 is tried beside float32


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"device_memory": "nonsense"},
            r"device_memory: must be bytes.* given: 'nonsense'\n  say for example 16GB",
        ),
        ({"device_memory": "16"}, "device_memory: 16 bytes are no device's memory; given: '16'\n  say the unit"),
        ({"device_memory": -3}, "device_memory: a size is at least one byte"),
        ({"devices": 0}, r"devices is 0\n  give a whole number, at least 1"),
        ({"devices": "two"}, "devices is 'two'"),
    ],
    ids=str,
)
def test_a_device_that_cannot_be_is_refused_by_name_before_the_data_are_read(tmp_path, arguments, told):
    with pytest.raises(InputError, match=told):
        deepseek.plan({"data": {"source": "nowhere.csv", "target": "y"}}, out=tmp_path, **arguments)


def test_on_a_processor_each_process_is_said_to_hold_its_libraries_too(recipe, out, monkeypatch):
    here = deepseek.plan({**recipe, "train": {**recipe["train"], "device": "cpu"}}, out=out, measure=False, devices=2)
    assert here["devices"]["scaling"][0]["peak_bytes"] == here["memory"]["peak_bytes"] > here["memory"]["above_baseline_bytes"]
    monkeypatch.setattr("deepseek.pipeline.planning.plan.free_bytes", lambda _: here["memory"]["peak_bytes"])
    tight = deepseek.plan({**recipe, "train": {**recipe["train"], "device": "cpu"}}, out=out, measure=False, devices=2)
    assert not tight["fits"]
    assert all(change["peak_bytes"] > tight["memory"]["parts"][0]["bytes"] for change in tight["changes"])


@pytest.mark.parametrize("train", SHARED, ids=str)
def test_a_recipe_for_several_devices_is_planned(recipe, out, tmp_path, capsys, train):
    arguments = ["plan", plan_file(recipe, tmp_path, devices=2, **train), "--out", str(out), "--no-measure"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["devices"]["there"] >= 2


def test_ranks_on_one_processor_share_its_cores_and_its_memory():
    taken, pace = memory(host=True), time(Pace(0.0, 1e-3))
    budget = taken.peak(1024) + MIB
    here = scalings(pace, Share(taken), most=4, budget=budget, accumulate=1, baseline=100 * MIB)
    assert [one.fits for one in here] == [True, False, False]
    assert all(one.speedup <= 1.0 for one in here)
    assert worthwhile(here).devices == 1
    roomy = scalings(pace, Share(taken), most=2, budget=2 * budget + 100 * MIB, accumulate=1, baseline=100 * MIB)
    assert all(one.fits for one in roomy)


@pytest.mark.parametrize(
    ("exchange", "times"),
    [
        ({}, 1.0),
        ({"type": "qsgd", "error_feedback": True}, 2.25),
        ({"type": "qsgd", "error_feedback": False}, 1.0),
        ({"type": "parameter_server"}, 5.0),
    ],
    ids=str,
)
def test_what_an_exchange_keeps_is_taken_of_each_of_several_devices(exchange, times):
    taken = memory(exchange=exchange)
    assert taken.exchanged(4) == times * taken.gradients
    found = scalings(time(Pace(0.0, 1e-3)), Share(taken), most=4, budget=1 << 40, accumulate=1)
    assert found[0].peak_bytes == taken.peak(1024)
    assert found[-1].peak_bytes == taken.peak(256) + times * taken.gradients


def test_the_recipes_exchange_is_what_is_planned(recipe, out):
    train = {**recipe["train"], "devices": 2}
    peaks = [
        deepseek.plan({**recipe, "train": {**train, **more}}, out=out, measure=False, device_memory="16GB", devices=2)["devices"]
        for more in ({}, {"communication": {"type": "qsgd", "bits": 4, "error_feedback": True}})
    ]
    plain, kept = ([one["peak_bytes"] for one in found["scaling"]] for found in peaks)
    assert kept[0] == plain[0]
    assert kept[1] > plain[1]


def test_rates_by_layer_are_in_the_plan(recipe, out):
    plain = deepseek.plan(recipe, out=out, measure=False, device_memory="16GB")
    rates = {**recipe, "train": {**recipe["train"], "layer_rates": "gradient_variance"}}
    found = deepseek.plan(rates, out=out, measure=False, device_memory="16GB")
    trained = 4 * found["parameters"]["trained"]
    parts = {part["part"]: part["bytes"] for part in found["memory"]["parts"]}
    assert trained <= parts["rules of the step"] < 1.2 * trained
    assert found["memory"]["peak_bytes"] >= plain["memory"]["peak_bytes"] + trained
    assert sum(parts.values()) == found["memory"]["peak_bytes"]


def test_where_memory_is_short_auto_reckons_activations_again(recipe, out):
    whole = deepseek.plan(recipe, out=out, measure=False, device_memory="64GB")
    tight = int(whole["memory"]["peak_bytes"] * 1.1)
    auto, one = (
        deepseek.plan(recipe, overrides=[f"train.activation_checkpointing={how}"], out=out, measure=False, device_memory=tight)
        for how in ("auto", "1")
    )
    assert auto["memory"]["activation_checkpointing"] == 1
    assert auto["memory"]["peak_bytes"] == one["memory"]["peak_bytes"] < whole["memory"]["peak_bytes"]
    roomy = deepseek.plan(recipe, overrides=["train.activation_checkpointing=auto"], out=out, measure=False, device_memory="64GB")
    assert roomy["memory"]["activation_checkpointing"] == 0


def test_a_time_limit_cuts_the_steps_as_the_run_does(recipe, out):
    whole, cut = (
        deepseek.plan(recipe, overrides=[f"train.time_limit={limit}", "train.epochs=100000"], out=out, measure=False)["time"]
        for limit in ("null", "1s")
    )
    assert cut["steps"] < whole["steps"]
    assert cut["training_s"] <= 1.0


def test_the_workers_of_a_cluster_are_the_devices(recipe, out):
    found = deepseek.plan({**recipe, "cluster": {"workers": 3}}, out=out, measure=False)
    assert found["devices"]["there"] == 3


def test_what_a_process_grows_by_is_counted_from_before_the_first_step_of_the_network(subject, monkeypatch):
    order, step_growth = [], planned_memory.step_growth

    def looked() -> int:
        order.append("looked")
        return 7

    def stepped(*given, **more):
        order.append("stepped")
        return step_growth(*given, **more)

    monkeypatch.setattr(planned_memory, "resident_bytes", looked)
    monkeypatch.setattr(planned_memory, "step_growth", stepped)
    monkeypatch.setattr(planned_memory, "observed_overhead", lambda *_, before, **__: Overhead(before, 1.0, "measured"))
    assert memory_of(subject, observe=True).overhead.fixed == 7
    assert order == ["looked", "stepped"]


def overhead_of_steps(subject, monkeypatch, highest) -> tuple[Overhead, list[int]]:
    """Return what is found beside tensors where the process holds what `highest` says after so many steps, and the rows of each step."""
    made: list[int] = []
    monkeypatch.setattr(overhead, "trial_step", lambda *_, **__: lambda batch: made.append(len(batch)))
    monkeypatch.setattr(overhead, "evaluate", lambda *_: None)
    monkeypatch.setattr(overhead, "highest_bytes", lambda: highest(made))
    a_row = Growth((2, [2 * MIB]), (4, [4 * MIB]))
    return overhead.observed_overhead(subject, step=a_row, answer=a_row, kept=0, precision="fp32", before=900 * MIB), made


@pytest.mark.parametrize(("grows_for", "rounds"), [(0, 3 + 3), (6, 8 + 3), (50, 12 + 12)])
def test_steps_are_made_until_the_process_grows_no_more(subject, monkeypatch, grows_for, rounds):
    whole = subject.batch_size
    found, made = overhead_of_steps(subject, monkeypatch, lambda made: MIB * (1000 + 100 * min(made.count(whole), grows_for + 1)))
    assert made.count(whole) == rounds
    assert found.how == "measured"


def test_the_last_batch_of_an_epoch_counts_whose_kernels_may_want_more_than_a_whole_one(subject, monkeypatch):
    left = len(subject.rows) % subject.batch_size
    assert 0 < left < subject.batch_size
    whole, made = overhead_of_steps(subject, monkeypatch, lambda made: 1500 * MIB)
    assert made == [subject.batch_size, left] * 6
    more, _ = overhead_of_steps(subject, monkeypatch, lambda made: (1600 if left in made else 1500) * MIB)
    assert more.factor > whole.factor


BY_BATCH = {"type": "mlp", "width": 32, "depth": 2, "normalization": "batch"}


def test_pieces_of_a_batch_have_the_rows_that_batch_statistics_need(recipe, out):
    """As the run cuts them: into fewer pieces than it was told, and not into single rows, of which there is no variance."""
    whole = {**recipe, "model": BY_BATCH, "train": {**recipe["train"], "batch_size": 8, "accumulate": 8}}
    assert deepseek.plan(whole, out=out)["time"]["how"] == "measured"
    ones, pairs = (
        deepseek.plan(whole, overrides=[f"train.accumulate={parts}"], out=out, measure=False, device_memory="64GB") for parts in (8, 4)
    )
    assert ones["memory"]["peak_bytes"] == pairs["memory"]["peak_bytes"]
    assert ones["time"]["step_s"] == pairs["time"]["step_s"]
    found = deepseek.plan(whole, overrides=["train.accumulate=1"], out=out, measure=False, device_memory="10kB", devices=8)
    accumulated = next(one for one in found["changes"] if "accumulate" in one["change"])
    assert accumulated["change"] == "train.accumulate=4"
    assert "batch statistics" in accumulated["what"]
    assert [one["devices"] for one in found["devices"]["scaling"]] == [1, 2, 4]
    assert any(one["change"] == "train.devices=4" for one in found["changes"])


def test_rows_that_are_drawn_again_are_steps_too(recipe, out):
    evenly = {**recipe, "task": {"type": "binary", "resample": "over"}, "train": {**recipe["train"], "batch_size": 16}}
    planned = deepseek.plan(evenly, out=out, measure=False)
    run = deepseek.run(evenly, out=out)
    ended = json.loads((run.run / "events.jsonl").read_text().splitlines()[-1])
    assert ended["event"] == "end"
    assert planned["time"]["steps"] == ended["step"] > 3 * -(-planned["rows"] // 16)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_change_comes_to_what_is_said_of_it(recipe, out, precision):
    whole = {**recipe, "train": {**recipe["train"], "batch_size": 96, "accumulate": 3, "precision": precision}}
    tight = int(deepseek.plan(whole, out=out, measure=False, device_memory="64GB")["memory"]["peak_bytes"] * 1.23)
    found = deepseek.plan(whole, out=out, measure=False, device_memory=tight)
    assert not found["fits"]
    for change in found["changes"]:
        made = deepseek.plan(whole, overrides=[change["change"]], out=out, measure=False, device_memory=tight)
        assert made["memory"]["peak_bytes"] == change["peak_bytes"], change["change"]
        assert made["fits"] == change["fits"], change["change"]
    assert {"accumulate", "activation_checkpointing", "batch_size"} <= {change["change"].split("=")[0][6:] for change in found["changes"]}


def test_a_run_on_several_devices_is_judged_by_what_each_of_them_holds(recipe, out, tmp_path, capsys):
    """What is said to suffice does, where it is said in the recipe."""
    whole = {**recipe, "train": {**recipe["train"], "batch_size": 4096}}
    alone, four = (
        deepseek.plan(whole, overrides=[f"train.devices={devices}"], out=out, measure=False, device_memory="64GB") for devices in (1, 4)
    )
    assert four["memory"]["peak_bytes"] < alone["memory"]["peak_bytes"]
    assert sum(part["bytes"] for part in four["memory"]["parts"]) == four["memory"]["peak_bytes"]
    assert four["memory"]["peak_bytes"] == four["devices"]["scaling"][-1]["peak_bytes"]
    assert four["time"]["seconds"] < alone["time"]["seconds"]
    tight = int((four["memory"]["peak_bytes"] + alone["memory"]["peak_bytes"]) / 2 / 0.8)
    found = deepseek.plan(whole, out=out, measure=False, device_memory=tight, devices=4)
    assert not found["fits"]
    changes = {change["change"]: change for change in found["changes"] if "devices" in change["change"]}
    assert set(changes) == {"train.devices=4", "train.devices=4 train.strategy=fsdp"}
    for change in changes.values():
        made = deepseek.plan(whole, overrides=change["change"].split(), out=out, measure=False, device_memory=tight)
        assert (made["fits"], made["memory"]["peak_bytes"]) == (True, change["peak_bytes"])
        assert "on each of 4 devices" in made["sentence"]
        assert made["batch"]["most"] > 2 * found["batch"]["most"]
    file = plan_file(whole, tmp_path, devices=4, precision="fp32")
    assert main(["plan", file, "--out", str(out), "--no-measure", "--device-memory", str(tight)]) == 0
    assert "on 4 devices" in capsys.readouterr().out


def test_changes_of_a_run_on_several_devices_come_to_what_is_said_of_them(recipe, out):
    whole = {**recipe, "train": {**recipe["train"], "batch_size": 96, "devices": 2, "precision": "fp32"}}
    tight = int(deepseek.plan(whole, out=out, measure=False, device_memory="64GB")["memory"]["peak_bytes"] * 1.23)
    found = deepseek.plan(whole, out=out, measure=False, device_memory=tight, devices=4)
    assert not found["fits"]
    names = set()
    for change in found["changes"]:
        made = deepseek.plan(whole, overrides=change["change"].split(), out=out, measure=False, device_memory=tight, devices=4)
        assert (made["fits"], made["memory"]["peak_bytes"]) == (change["fits"], change["peak_bytes"]), change["change"]
        names |= {word.split("=")[0][6:] for word in change["change"].split()}
    assert {"accumulate", "batch_size", "devices", "strategy", "activation_checkpointing"} <= names


def test_auto_shares_out_a_model_whose_state_no_device_holds(recipe, out):
    whole = {**recipe, "train": {**recipe["train"], "devices": 4}}
    state = sum(part["bytes"] for part in deepseek.plan(whole, out=out, measure=False, device_memory="64GB")["memory"]["parts"][:3])
    memories = [
        deepseek.plan(whole, overrides=[f"train.strategy={how}"], out=out, measure=False, device_memory=f"{state}B")["memory"]
        for how in ("auto", "fsdp", "ddp")
    ]
    assert memories[0]["peak_bytes"] == memories[1]["peak_bytes"] < memories[2]["peak_bytes"]


def test_what_is_so_already_is_no_change(recipe, out):
    whole = {**recipe, "train": {**recipe["train"], "batch_size": 4, "accumulate": 4}}
    found = deepseek.plan(whole, out=out, measure=False, device_memory="10kB", devices=8)
    changes = {change["change"] for change in found["changes"]}
    assert not any("accumulate" in change for change in changes)
    assert "train.devices=4" in changes  # no more than rows


def test_why_one_device_is_taken_is_the_reason(recipe, out):
    little = {**recipe, "train": {**recipe["train"], "batch_size": 64}}
    alone, two = deepseek.plan(little, out=out, measure=False, device_memory="64GB", devices=2)["devices"]["scaling"]
    assert two["peak_bytes"] > alone["peak_bytes"]  # gradients stand from one step to the next there
    assert two["efficiency"] > 0.7
    between = int((alone["peak_bytes"] + two["peak_bytes"]) / 2 / 0.8)
    found = deepseek.plan(little, out=out, measure=False, device_memory=between, devices=2)["devices"]
    assert found["recommended"] == 1
    assert "too much" in found["why"]
    none = deepseek.plan(little, out=out, measure=False, device_memory="10kB", devices=2)["devices"]
    assert "none of them" in none["why"]


def test_a_size_that_is_none_is_refused_before_the_data_are_read(recipe, out):
    absent = {**recipe, "data": {**recipe["data"], "source": "not-there.csv"}}
    with pytest.raises(InputError, match="16gb"):
        deepseek.plan(absent, out=out, device_memory="16gb")


def test_batches_of_many_lengths_are_tried_short_before_long_up_to_the_longest():
    lengths = np.random.default_rng(0).integers(1, 60, 400)
    words = Ragged(np.ones(lengths.sum(), np.int64), np.concatenate([[0], lengths.cumsum()]))
    rows = PreparedDataset.from_arrays({"text": words}, {"target": np.zeros(400)})
    batches = Loader(rows, seed=0, batch_size=32, prefetch=False)
    for epoch in (0, 1):
        tried = [max(lengths[batches.rows(epoch, step)].max() for step in steps) for steps in overhead._trial_steps(batches, epoch)]
        assert len(tried) == 6
        assert tried == sorted(tried)
        assert tried[-1] == lengths.max()
    assert overhead._trial_steps(batches, 0) != overhead._trial_steps(batches, 1)


def test_batches_of_one_length_are_tried_with_the_last_of_the_epoch():
    rows = PreparedDataset.from_arrays({"x": np.zeros((100, 3), np.float32)}, {"target": np.zeros(100)})
    tried = overhead._trial_steps(Loader(rows, seed=0, batch_size=32, prefetch=False), 0)
    assert tried[:4] == [[0, 3], [1, 3], [2, 3], [0, 3]]
