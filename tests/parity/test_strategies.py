"""However ranks share out a model, it learns what one device learns."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deepseek.distributed import RankContext, launch
from deepseek.errors import CheckpointError, RunError

JOBS = Path(__file__).parent / "jobs"
STRATEGIES = ["ddp", "fsdp", "tensor", "pipeline", {"type": "pipeline", "schedule": "gpipe", "micro_batches": 3}]


@pytest.fixture
def jobs(monkeypatch):
    monkeypatch.syspath_prepend(JOBS)
    import strategy_jobs

    return strategy_jobs


def require_same(found, wanted, *, within=1e-6):
    weights, history, _ = found
    assert set(weights) == set(wanted[0])
    for name, value in wanted[0].items():
        np.testing.assert_allclose(weights[name], value, rtol=0, atol=2e-5, err_msg=name)
    for one, other in zip(history, wanted[1], strict=True):
        assert one == pytest.approx(other, abs=within)


def test_every_strategy_gives_the_losses_of_one_device(jobs):
    cases = [{"strategy": strategy, "trunk": trunk} for trunk in ("mlp", "residual") for strategy in STRATEGIES]
    alone = {trunk: jobs.fit(RankContext(), "auto", trunk=trunk) for trunk in ("mlp", "residual")}
    for case, found in zip(cases, launch(jobs.fit_all, 2, cases, device="cpu"), strict=True):
        require_same(found, alone[case["trunk"]])
        assert found[2] == (case["strategy"] if isinstance(case["strategy"], str) else "pipeline")


def test_chains_with_ways_round_and_members_are_cut_too(jobs):
    cases = [{"strategy": strategy, "trunk": trunk, "epochs": 2} for trunk in ("ways_round", "tabm") for strategy in ("tensor", "pipeline")]
    for case, found in zip(cases, launch(jobs.fit_all, 2, cases, device="cpu"), strict=True):
        require_same(found, jobs.fit(RankContext(), "auto", trunk=case["trunk"], epochs=2))


def test_texts_of_unequal_length_are_read_alike(jobs):
    strategies = ["fsdp", "tensor"]
    (wanted,) = jobs.fit_texts_by(RankContext(), ["auto"])
    for found in launch(jobs.fit_texts_by, 2, strategies, device="cpu"):
        require_same((*found, None), wanted)


def test_a_batch_in_pieces_and_best_weights_without_an_average(jobs):
    changes = {"accumulate": 3, "ema": None, "optimizer": {"type": "sgd", "learning_rate": 0.2}, "validate_every": 2}
    case = {"strategy": "fsdp", "max_norm": 2.0, **changes}
    shared = {"strategy": "fsdp", "shares": [3, 1], "activation_checkpointing": "auto"}
    found, unevenly = launch(jobs.fit_all, 2, [case, shared], device="cpu")
    require_same(found, jobs.fit(RankContext(), "auto", max_norm=2.0, **{**changes, "accumulate": 1}))
    require_same(unevenly, jobs.fit(RankContext(), "auto"))


def test_what_does_not_go_together_is_refused_before_the_first_step(jobs):
    cases = {
        "compile: model": {"strategy": "fsdp", "compile": "model"},
        "accumulate: 2": {"strategy": "pipeline", "accumulate": 2},
        "max_norm": {"strategy": "tensor", "max_norm": 1.0},
        "precision: bf16": {"strategy": "pipeline", "precision": "bf16"},
        "precision: fp16": {"strategy": "fsdp", "precision": "fp16"},
        "channels_last": {"strategy": "tensor", "channels_last": True},
        "'stripes'": {"strategy": "stripes"},
        "train.clip": {"strategy": "pipeline", "clip_norm": None, "clip": ["autoclip"]},
        "train.layer_rates": {"strategy": "fsdp", "layer_rates": "gradient_variance"},
        "train.communication": {"strategy": "fsdp", "communication": {"type": "qsgd", "bits": 4}},
        "shares: auto": {"strategy": "fsdp", "shares": "auto"},
        "shares: [3, 1]": {"strategy": "tensor", "shares": [3, 1]},
        "activation_checkpointing": {"strategy": "pipeline", "activation_checkpointing": 1},
    }
    for words, found in zip(cases, launch(jobs.refusals, 2, list(cases.values()), device="cpu"), strict=True):
        assert words in found
        assert "ddp" in found


def test_a_checkpoint_in_parts_goes_on_on_any_ranks_and_with_any_strategy(jobs, tmp_path):
    whole = jobs.fit(RankContext(), "auto")
    begun = [{"strategy": strategy, "folder": tmp_path / "begun" / strategy} for strategy in ("fsdp", "tensor", "pipeline")]
    assert launch(jobs.fit_until_all, 2, 10, begun, device="cpu") == ["stopped"] * 3
    for case in begun:
        files = {path.name for path in (case["folder"] / "checkpoints" / "step-000010").iterdir()}
        assert files == {"rank-00000.safetensors", "rank-00001.safetensors", "index.json", "state.json", "manifest.json"}
    for ranks, other in ((1, "auto"), (2, "ddp"), (4, "fsdp")):
        shutil.copytree(tmp_path / "begun", tmp_path / str(ranks))
        cases = [{"strategy": other, "folder": tmp_path / str(ranks) / str(case["strategy"])} for case in begun]
        for found in launch(jobs.go_on_all, ranks, cases, device="cpu"):
            require_same(found, whole)


EVERYTHING = {
    "schedule": {"type": "plateau", "patience": 0, "warmup_steps": 4, "min_delta": 0.05},
    "monitor": "log_loss",
    "early_stopping": {"patience": 9},
    "max_norm": 2.0,
    "l1": 1e-4,
    "accumulate": 2,
    "on_nonfinite": "skip",
    "validate_every": 4,
    "validate_unit": "steps",
}
BY_HISTORY = {
    "clip_norm": None,
    "clip": [{"type": "skip_spikes", "factor": 3.0, "warmup": 3}, {"type": "autoclip", "percentile": 40.0, "warmup": 3}, "agc"],
    "layer_rates": {"type": "gradient_variance", "every": 2, "warmup": 2},
}
WITHOUT = {"fsdp": (), "tensor": ("max_norm",), "pipeline": ("accumulate",)}
"""What a strategy refuses of everything."""


def require_equal(found, wanted):
    assert found[1] == wanted[1]
    for name, value in wanted[0].items():
        np.testing.assert_array_equal(found[0][name], value, err_msg=name)


def test_with_every_option_on_a_resume_is_the_uninterrupted_run(jobs, tmp_path):
    """Bit for bit on as many ranks, with dropout, and to 1e-6 on fewer, without: its values are drawn by rank."""
    every = {"strategy": "ddp", "activation_checkpointing": 2, **EVERYTHING, **BY_HISTORY}
    for whole, resumed in jobs.fit_broken_off(RankContext(), tmp_path / "one", 9, [{**every, "trunk": "dropping"}]):
        require_equal(resumed, whole)
    gently = {"optimizer": {"type": "sgd", "learning_rate": 0.05, "momentum": 0.9}}  # Adam makes a step of the last bit of a small gradient
    cases = [{**every, "trunk": "dropping", "shares": [3, 1]}, {**every, **gently, "shares": [3, 1]}]
    for strategy, without in WITHOUT.items():
        some = {name: value for name, value in EVERYTHING.items() if name not in without}
        cases.append({"strategy": strategy, "trunk": "dropping", "clip_value": 0.1, **some})
    for case, (whole, resumed) in zip(cases, launch(jobs.fit_broken_off, 2, tmp_path / "two", 9, cases, device="cpu"), strict=True):
        require_equal(resumed, whole)
        assert len(whole[1]) > 4, case
    shutil.rmtree(tmp_path / "two/1/checkpoints/step-000024")
    case = {**every, **gently, "folder": tmp_path / "two/1", "augment": [jobs.Noise({})]}
    alone = jobs.fit(RankContext(), **{**case, "folder": None})
    found = jobs.go_on(RankContext(), case)
    for one, other in zip(found[1], alone[1], strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    for name, value in alone[0].items():
        np.testing.assert_allclose(found[0][name], value, rtol=0, atol=1e-6, err_msg=name)


def test_a_checkpoint_of_one_device_goes_on_in_parts(jobs, tmp_path):
    whole = jobs.fit(RankContext(), "auto")
    jobs.fit_until(RankContext(), 10, {"strategy": "auto", "folder": tmp_path / "one"})
    cases = [{"strategy": strategy, "folder": tmp_path / strategy} for strategy in ("fsdp", "tensor", "pipeline")]
    for case in cases:
        shutil.copytree(tmp_path / "one", case["folder"])
    for found in launch(jobs.go_on_all, 2, cases, device="cpu"):
        require_same(found, whole)


def test_a_damaged_or_missing_part_is_named_and_the_checkpoint_before_is_whole(jobs, tmp_path):
    folder = tmp_path / "run"
    assert launch(jobs.fit_until, 2, 10, {"strategy": "fsdp", "folder": folder}, device="cpu") == "stopped"
    shutil.copytree(folder / "checkpoints/step-000010", folder / "checkpoints/step-000012")
    part = folder / "checkpoints/step-000012/rank-00001.safetensors"
    part.write_bytes(part.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"rank-00001\.safetensors was changed"):
        jobs.go_on(RankContext(), {"strategy": "auto", "folder": folder})
    part.unlink()
    with pytest.raises(CheckpointError, match=r"rank-00001\.safetensors is missing"):
        jobs.go_on(RankContext(), {"strategy": "auto", "folder": folder})
    shutil.rmtree(folder / "checkpoints/step-000012")
    require_same(jobs.go_on(RankContext(), {"strategy": "auto", "folder": folder}), jobs.fit(RankContext(), "auto"))


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two ranks do one thing after another, for each of the tests below: to start them takes longer than to train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(JOBS)
        import strategy_jobs

        folder = tmp_path_factory.mktemp("together")
        strategy_jobs.fit_until(RankContext(), 6, {**strategy_jobs.NORMED, "folder": folder / "one"})
        yield folder, launch(strategy_jobs.fit_together, 2, folder, device="cpu")


def test_steps_count_the_same_rows_on_another_number_of_ranks(jobs, together):
    """Batch statistics need two rows a rank: whether a small last batch is joined to another is settled once, for all ranks to come."""
    folder, found = together
    _, history, _ = jobs.go_on(RankContext(), {**jobs.NORMED, "folder": folder / "two"})  # begun by two, with 5 steps an epoch
    assert [entry["step"] for entry in history] == [5, 10, 15, 20]
    assert "begun with 6 batches, the last of 3 rows, and 2 ranks need 2 rows each" in found["refused"]


def test_a_rank_without_rows_leaves_batch_statistics_alone(together):
    """In four pieces a rank's last batch of two or three rows is one piece, and what goes through for the others does not count."""
    in_pieces, whole = together[1]["normed"]
    assert [entry["step"] for entry in in_pieces[1]] == [entry["step"] for entry in whole[1]]
    assert all(np.isfinite(value).all() for value in in_pieces[0].values())


def test_a_weight_that_two_layers_of_a_stage_share_is_one(jobs, together):
    wanted = jobs.fit_entwined(RankContext(), "auto")
    for found in together[1]["entwined"]:
        require_same(found, wanted)


def test_what_metrics_decide_is_decided_alike(together):
    folder, _ = together
    assert (folder / "history-0").read_text() == (folder / "history-1").read_text()


def test_what_a_model_in_parts_asks_of_its_devices_is_counted_too(jobs, together):
    ((wanted, _),) = jobs.flops_by(RankContext(), ["auto"])
    for flops, used in together[1]["flops"]:
        assert flops == wanted > 0
        assert used > 0


def test_a_rank_that_does_not_see_the_checkpoint_of_rank_0_says_so(jobs, together, tmp_path):
    """On a network disk a new folder may be seen late: each for itself, ranks would go on from different steps."""
    begun = together[0] / "apart/checkpoints/step-000005"
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder in folders:
        shutil.copytree(begun, folder / "checkpoints/step-000005")
    shutil.copytree(begun, folders[0] / "checkpoints/step-000010")
    with pytest.raises(CheckpointError, match=r"rank 1 does not see .*step-000010, from which rank 0 goes on"):
        launch(jobs.go_on_apart, 2, folders, device="cpu")


@pytest.mark.parametrize(("number", "strategy"), [(signal.SIGTERM, "fsdp"), (signal.SIGINT, "ddp")])
def test_a_signal_to_any_rank_saves_the_last_step_on_all(jobs, tmp_path, number, strategy):
    ends = KeyboardInterrupt if number == signal.SIGINT else RunError
    with pytest.raises(ends):
        launch(jobs.fit_signalled, 2, 1, 7, number, {"strategy": strategy, "folder": tmp_path}, device="cpu")
    (saved,) = (tmp_path / "checkpoints").glob("step-*")
    assert 7 <= int(saved.name[5:]) < 24
    require_same(jobs.go_on(RankContext(), {"strategy": "auto", "folder": tmp_path}), jobs.fit(RankContext(), "auto"))


PARENT = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
if __name__ == "__main__":
    import strategy_jobs
    from deepseek.distributed import launch
    launch(strategy_jobs.fit_slowly, 2, pathlib.Path(sys.argv[2]), device="cpu")
"""


def test_ctrl_c_that_reaches_the_parent_alone_is_passed_on(tmp_path):
    """A supervisor or a container sends the signal to the one process that it has started; a terminal sends it to all."""
    (tmp_path / "job.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "job.py"), str(JOBS), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        try:
            until = time.monotonic() + 120
            while not (tmp_path / "begun").exists():
                assert parent.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            parent.send_signal(signal.SIGINT)
            _, told = parent.communicate(timeout=60)
        finally:
            parent.kill()
    assert parent.returncode == -signal.SIGINT, told
    assert "RunError" not in told
    (saved,) = (tmp_path / "checkpoints").glob("step-*")
    assert int(saved.name[5:]) >= 5


def test_it_is_not_said_that_all_was_saved_where_the_disk_of_rank_0_is_full(jobs, tmp_path):
    with pytest.raises(CheckpointError, match=r"rank 0: .*the disk is full"):
        launch(jobs.fit_signalled_on_a_full_disk, 2, {"strategy": "ddp", "folder": tmp_path}, device="cpu")


def test_a_full_disk_ends_the_run_with_the_reason_and_the_last_good_checkpoint(jobs, tmp_path):
    case = {"strategy": "fsdp", "folder": tmp_path / "run", "checkpoint_every": 5}
    with pytest.raises(CheckpointError, match="disk is full"):
        launch(jobs.fit_on_a_full_disk, 2, 2, case, device="cpu")
    assert {path.name for path in (tmp_path / "run/checkpoints").glob("step-*")} == {"step-000005"}
    case = {"strategy": "tensor", "folder": tmp_path / "run", "checkpoint_every": 5}
    require_same(launch(jobs.go_on, 2, case, device="cpu"), jobs.fit(RankContext(), "auto"))


def test_a_rank_that_hangs_is_named_with_its_step_and_line_and_all_stop(jobs):
    began = time.monotonic()
    with pytest.raises(RunError, match=r"wait for rank 1 at step 7 .*in sleep_long \(.*strategy_jobs"):
        launch(jobs.hang, 2, 1, 7, device="cpu")
    assert time.monotonic() - began < 200


def test_a_rank_that_is_stopped_is_named(jobs, tmp_path):
    with pytest.raises(RunError, match=r"rank 1 does not answer any more at step 7"):
        launch(jobs.freeze, 2, 1, 7, tmp_path, device="cpu")
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists() or "State:\tZ" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_when_the_network_is_cut_the_run_ends_with_the_reason_and_goes_on_from_the_last_checkpoint(jobs, tmp_path, strategy):
    case = {"strategy": strategy, "folder": tmp_path, "checkpoint_every": 5}
    with pytest.raises(RunError, match=r"(?i)rank \d failed: .*(connection|peer|reset|socket)") as caught:
        launch(jobs.cut, 2, 1, 12, case, device="cpu")
    assert "the network between ranks is gone" in caught.value.hint
    assert (tmp_path / "checkpoints/step-000005").is_dir()  # that of step 10 has begun, and may not have come to its end
    require_same(launch(jobs.go_on, 2, case, device="cpu"), jobs.fit(RankContext(), "auto"))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "pipeline"])
def test_a_rank_that_is_killed_ends_all_of_them(jobs, strategy):
    with pytest.raises(RunError, match=r"rank 1 died without a word \(SIGKILL\)"):
        launch(jobs.kill, 2, 1, 7, strategy, device="cpu")
