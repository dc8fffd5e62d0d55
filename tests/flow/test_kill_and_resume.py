"""SIGKILL at random moments, then `--resume`: the weights are those of the uninterrupted run, bit for bit."""

import os
import shutil
import signal
import time

import pytest
from benchmarks import kill_resume


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_killed_run_ends_with_the_weights_of_the_uninterrupted_one(devices):
    result = kill_resume.measure(devices, trials=2, epochs=12)
    assert result["bit_equal"] == result["trials"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status", "whole_group"), [(signal.SIGTERM, 143, False), (signal.SIGINT, 130, True)])
def test_two_ranks_save_together_before_a_signal_ends_them(tmp_path, number, status, whole_group):
    kill_resume.write_rows(tmp_path, epochs=400)
    process = kill_resume.start(tmp_path, 2, resume=False)
    checkpoints = tmp_path / "runs/killed/001/checkpoints"
    events = tmp_path / "runs/killed/001/events.jsonl"
    deadline = time.monotonic() + 300
    while not (events.is_file() and '"validation"' in events.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for path in list(checkpoints.glob("step-*")):
        shutil.rmtree(path, ignore_errors=True)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    process.communicate(timeout=300)
    assert process.returncode == status
    assert list(checkpoints.glob("step-*"))
