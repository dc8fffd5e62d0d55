"""Two ranks are one: the same weights, the same metrics, one error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from deepseek.distributed import RankContext, launch
from deepseek.errors import DataError, RunError

JOBS = Path(__file__).parent / "jobs"


@pytest.fixture
def jobs(monkeypatch):
    monkeypatch.syspath_prepend(JOBS)
    import rank_jobs

    return rank_jobs


def test_two_ranks_are_one_over_a_hundred_steps(jobs, tmp_path):
    alone, history, steps = jobs.fit(RankContext())
    together, history_2, steps_2 = launch(jobs.fit, 2, tmp_path, device="cpu")
    assert steps == steps_2 == 108
    for name, value in alone.items():
        np.testing.assert_allclose(together[name], value, rtol=0, atol=1e-6)
    for a, b in zip(history, history_2, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx({k: v for k, v in b.items() if k != "seconds"}, abs=1e-5)
    resumed, _, _ = jobs.fit(RankContext(), tmp_path, resume=True)
    for name, value in resumed.items():
        np.testing.assert_array_equal(value, together[name])


def test_boxes_are_measured_as_on_one_rank(jobs):
    alone, together = jobs.find(RankContext()), launch(jobs.find, 2, device="cpu")
    assert 0.1 < alone["map50"] < 0.99
    assert together.pop("loss") == pytest.approx(alone.pop("loss"))
    assert together == alone


def test_two_ranks_and_small_pieces_are_one_batch_of_texts_grouped_by_length(jobs, tmp_path):
    encoders = [
        {"type": "text_rnn", "token_width": 16, "width": 16, "dropout": 0.0},
        {"type": "text_transformer", "width": 16, "heads": 2, "depth": 1, "dropout": 0.0},
        {"type": "text_bag", "width": 16, "buckets": 64},
    ]
    for encoder, (together, pieces) in zip(encoders, launch(jobs.fit_all_texts, 2, encoders, device="cpu"), strict=True):
        alone, history = jobs.fit_texts(RankContext(), encoder)
        start, _ = jobs.fit_texts(RankContext(), encoder, max_steps=1)
        moved = [np.abs(alone[name] - start[name]).max() for name in alone if "encoders" in name]
        assert max(moved) > 1e-2  # an encoder that does not learn would be the same anyhow
        for weights, entries in (together, pieces, jobs.fit_texts(RankContext(), encoder, accumulate=3)):
            for name, value in alone.items():
                np.testing.assert_allclose(weights[name], value, rtol=0, atol=1e-6)
            for one, other in zip(entries, history, strict=True):
                assert one == pytest.approx(other, abs=1e-5)
    with pytest.raises(KeyboardInterrupt):
        jobs.fit_texts(RankContext(), encoder, tmp_path, checkpoint_every=50, callbacks=[jobs.Kill(50)])
    resumed, entries = jobs.fit_texts(RankContext(), encoder, tmp_path, resume=True, checkpoint_every=50)
    assert entries == history
    for name, value in resumed.items():
        np.testing.assert_array_equal(value, alone[name])


def test_pictures_with_channels_last_are_learnt_as_on_one_rank(jobs):
    """A fused optimizer walks weights, gradients and moments in the order of memory: gradients that are summed must lie as weights do."""
    optimizers = [{"type": name, "learning_rate": 0.01} for name in ("adamw", "sgd")]
    for optimizer, together in zip(optimizers, launch(jobs.fit_all_pictures, 2, optimizers, device="cpu"), strict=True):
        for name, value in jobs.fit_pictures(RankContext(), optimizer).items():
            np.testing.assert_allclose(together[name], value, rtol=0, atol=1e-5, err_msg=f"{name} by {optimizer['type']}")


def test_augmentation_does_not_depend_on_the_rank(jobs):
    changes = {"epochs": 1, "accumulate": 2, "optimizer": {"type": "sgd", "learning_rate": 0.5}}
    alone, _, _ = jobs.fit(RankContext(), **changes)
    together, _, _ = launch(jobs.fit_with, 2, None, False, changes, device="cpu")
    for name, value in alone.items():
        np.testing.assert_allclose(together[name], value, rtol=0, atol=1e-6)


def test_what_ranks_measure_is_what_rank_0_writes(jobs):
    cases = [{"validate": validate, "ema": ema} for validate in (True, False) for ema in (0.9, None)]
    results = launch(jobs.fit_and_measure_all, 2, cases, device="cpu")
    for case, (together, alone, best, decisions) in zip(cases, results, strict=True):
        assert together == pytest.approx(alone, abs=1e-6), case
        assert not case["validate"] or best.metrics == pytest.approx(alone, abs=1e-6), case
        assert "batch statistics" in decisions["ranks"]


def test_sums_start_while_the_backward_pass_runs(jobs):
    started, buckets, denominator, rank = launch(jobs.overlap, 2, device="cpu")
    assert started == buckets > 1
    assert denominator == 3.0
    assert rank == 0


def test_a_ranks_error_comes_back_at_once_with_its_traceback(jobs):
    began = time.perf_counter()
    with pytest.raises(DataError, match="rank 1: row 7 is broken") as caught:
        launch(jobs.fail_on_rank_1, 2, device="cpu")
    assert "fail_on_rank_1" in caught.value.__notes__[0]
    assert caught.value.hint == "mend it"
    assert time.perf_counter() - began < 40
    with pytest.raises(RunError, match="ZeroDivisionError: seven"):
        launch(jobs.fail_strangely_on_rank_1, 2, device="cpu")


def test_a_rank_that_dies_is_noticed(jobs):
    with pytest.raises(RunError, match="rank 1 died without a word, with exit status 9"):
        launch(jobs.die_on_rank_1, 2, device="cpu")


def test_ranks_end_when_their_parent_is_killed(tmp_path):
    code = f"""
import pathlib, sys
sys.path.insert(0, {str(JOBS)!r})
if __name__ == "__main__":
    import rank_jobs
    rank_jobs.parent(pathlib.Path(sys.argv[1]))
"""
    script = tmp_path / "job.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    marks = [tmp_path / "0", tmp_path / "1"]
    _wait(lambda: all(mark.exists() and mark.read_text() for mark in marks), 60)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _wait(lambda: not any(_alive(int(mark.read_text())) for mark in marks), 10)


def test_ctrl_c_while_ranks_start_ends_all_at_once_and_without_a_word(tmp_path):
    code = f"""
import pathlib, sys
sys.path.insert(0, {str(JOBS)!r})
if __name__ == "__main__":
    import rank_jobs
    try:
        rank_jobs.parent(pathlib.Path(sys.argv[1]))
    except KeyboardInterrupt:
        sys.exit("interrupted")
"""
    script = tmp_path / "job.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(tmp_path)]
    parent = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    _wait(lambda: len(children.read_text().split()) >= 3, 60)  # two ranks, and what multiprocessing starts for itself
    ranks = [int(child) for child in children.read_text().split()]
    time.sleep(0.5)  # in the midst of what they import
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    _, told = parent.communicate(timeout=20)
    assert told == "interrupted\n"
    assert not (tmp_path / "0").exists()
    _wait(lambda: not any(_alive(rank) for rank in ranks), 5)


@pytest.mark.parametrize("given", ["file", "standard input"])
def test_a_script_without_a_main_guard_is_not_run_again_by_every_rank(tmp_path, given):
    code = "from deepseek.distributed import launch\nprint('begins')\nprint(launch(repr, 2, device='cpu'))\n"
    (tmp_path / "job.py").write_text(code)
    words, said = (["job.py"], None) if given == "file" else (["-"], code)
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, input=said, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines()[:1] == ["begins"], done.stderr
    assert done.stdout.splitlines()[1].startswith("RankContext(rank=0, ranks=2"), done.stderr


def test_one_device_runs_in_this_process():
    assert launch(lambda context, value: (context.ranks, value, os.getpid()), 1, 7, device="cpu") == (1, 7, os.getpid())


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _wait(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)


def test_clippings_and_rates_by_layer_decide_alike_on_every_rank(jobs, tmp_path):
    changes = {
        "epochs": 4,
        "clip_norm": None,
        "clip": [
            {"type": "skip_spikes", "factor": 3.0, "warmup": 5},
            {"type": "autoclip", "percentile": 40.0, "warmup": 3, "every": 2},
            "agc",
        ],
        "layer_rates": {"type": "gradient_variance", "every": 2, "warmup": 2},
    }
    alone, _, _ = jobs.fit(RankContext(), **changes)
    together, _, _ = launch(jobs.fit_with, 2, tmp_path, False, changes, device="cpu")
    for name, value in alone.items():
        np.testing.assert_allclose(together[name], value, rtol=0, atol=1e-5)
    plain, _, _ = jobs.fit(RankContext(), **{**changes, "clip": None, "layer_rates": None})
    assert max(np.abs(plain[name] - alone[name]).max() for name in alone) > 1e-3
    resumed, _, _ = jobs.fit(RankContext(), tmp_path, resume=True, **changes)
    for name, value in resumed.items():
        np.testing.assert_array_equal(value, together[name])


def test_whether_a_step_is_made_is_said_by_rank_0(jobs):
    """Ranks whose processors reckon norms differently in the last bit must not part."""
    alone, history, _ = jobs.fit_in_disagreement(RankContext())
    together, entries, _ = launch(jobs.fit_in_disagreement, 2, device="cpu")
    for name, value in alone.items():
        np.testing.assert_allclose(together[name], value, rtol=0, atol=1e-5)
    assert entries[-1]["train_loss"] == pytest.approx(history[-1]["train_loss"], abs=1e-5)
