"""Runners that die, hang and fail: every row is answered by another, and what kills them costs only itself."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pyarrow as pa
import pytest
from tests import fake_runner
from tests.fake_runner import DATA, DEADLY_ONCE, DEFECT, HANG, POISON, TOGETHER

from deepseek.errors import BundleError, DataError, RunError
from deepseek.serving.http.problems import RefusedError, RowsLostError
from deepseek.serving.runners.pool import ATTEMPTS, ATTEMPTS_ALONE, Job, Runners

PROGRAM = (sys.executable, fake_runner.__file__)


class Watch:
    def __init__(self):
        self.ready, self.ends = 0, []

    def runners(self, change):
        self.ready += change

    def runner_ended(self, reason):
        self.ends.append(reason)


def rows(*values):
    return pa.record_batch({"x": pa.array(values, pa.int64())})


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.01)


def processes():
    return [child.pid for child in psutil.Process().children() if PROGRAM[1] in " ".join(cmdline(child))]


def cmdline(process):
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


@contextmanager
def running(folder, count=1, *, backend="auto", rowwise=True, timeout_s=60.0):
    job = Job(folder, "", backend, (), warm=rows(0), rowwise=rowwise, timeout_s=timeout_s)
    runners = Runners("shop", job, count, watch=Watch(), program=PROGRAM)
    try:
        yield runners
    finally:
        runners.close()
        wait_for(lambda: not processes())


def doubled(runners, *values):
    return runners.answer(rows(*values))["y"].to_pylist()


def test_rows_are_answered_in_order_and_batches_run_side_by_side(tmp_path):
    with running(tmp_path, 2) as runners, ThreadPoolExecutor(2) as pool:
        assert doubled(runners, 3, 1, 2) == [6, 2, 4]
        both = [pool.submit(doubled, runners, TOGETHER, number) for number in (1, 2)]
        assert [one.result(60) for one in both] == [[2 * TOGETHER, 2], [2 * TOGETHER, 4]]


def test_runners_share_the_threads_of_their_worker(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    with running(tmp_path, 2) as runners:
        assert runners.answer(rows(1))["threads"].to_pylist() == [3]


def test_a_runner_killed_while_it_is_idle_costs_nothing(tmp_path):
    with running(tmp_path, 1) as runners:
        for number in range(3):
            (victim,) = processes()
            os.kill(victim, signal.SIGKILL)
            assert doubled(runners, number) == [2 * number]
        wait_for(lambda: runners._watch.ends == ["died"] * 3)
        assert runners._watch.ready == 1
        assert len(runners._living) == 1


def test_a_batch_whose_runner_dies_is_asked_again(tmp_path):
    with running(tmp_path, 2) as runners:
        assert doubled(runners, 1, DEADLY_ONCE, 2) == [2, 2 * DEADLY_ONCE, 4]
        wait_for(lambda: runners._watch.ends == ["died"] and runners._watch.ready == 2)


def test_a_poison_row_costs_only_itself(tmp_path):
    with running(tmp_path, 1) as runners:
        with pytest.raises(RowsLostError) as lost:
            runners.answer(rows(1, POISON, 2))
        assert list(lost.value.lost) == [1]
        assert lost.value.answers["y"].to_pylist() == [2, 4]
        wait_for(lambda: len(runners._watch.ends) == ATTEMPTS + ATTEMPTS_ALONE)
        with pytest.raises(RowsLostError) as alone:
            runners.answer(rows(POISON))
        assert (list(alone.value.lost), alone.value.answers.num_rows, alone.value.answers.schema) == ([0], 0, runners.schema)
        assert doubled(runners, 5) == [10]


def test_rows_that_belong_together_are_lost_together(tmp_path):
    with running(tmp_path, 1, rowwise=False) as runners:
        with pytest.raises(RowsLostError) as lost:
            runners.answer(rows(1, POISON, 2))
        assert list(lost.value.lost) == [0, 1, 2]


def test_a_runner_that_hangs_is_killed_and_replaced(tmp_path):
    with running(tmp_path, 1, timeout_s=60.0) as runners:
        runners._job = replace(runners._job, timeout_s=0.2)
        with pytest.raises(RefusedError) as refused:
            runners.answer(rows(HANG))
        runners._job = replace(runners._job, timeout_s=60.0)
        assert refused.value.status == 504
        assert doubled(runners, 1) == [2]
        wait_for(lambda: runners._watch.ends == ["hung"])


def test_errors_come_back_as_they_were(tmp_path):
    with running(tmp_path, 1) as runners:
        with pytest.raises(DataError, match="a value is -4"):
            runners.answer(rows(DATA))
        with pytest.raises(RefusedError) as refused:
            runners.answer(rows(DEFECT))
        assert (refused.value.status, "secret" in refused.value.message) == (500, False)
        assert doubled(runners, 1) == [2]
        assert runners._watch.ends == []


def test_what_fails_at_the_start_says_why(tmp_path):
    with pytest.raises(BundleError, match="there is no bundle"), running(tmp_path, 2, backend="absent"):
        pass
    with pytest.raises(RunError, match="ended with status 7"), running(tmp_path, 2, backend="broken"):
        pass
    wait_for(lambda: not processes())


def test_runners_that_cannot_be_replaced_are_tried_again_until_they_can(tmp_path):
    with running(tmp_path, 1) as runners:
        (tmp_path / "broken").touch()
        (victim,) = processes()
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: runners._watch.ready == 0)
        runners._job = replace(runners._job, timeout_s=0.1)
        with pytest.raises(RefusedError) as refused:
            runners.answer(rows(1))
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        runners._job = replace(runners._job, timeout_s=60.0)
        waiting = []
        thread = threading.Thread(target=lambda: waiting.extend(doubled(runners, 4)))
        thread.start()
        (tmp_path / "broken").unlink()
        thread.join(60)
        assert waiting == [8]


def test_nothing_is_left_open(tmp_path):
    own = psutil.Process()
    with running(tmp_path, 2):
        pass
    before = own.num_fds()
    with running(tmp_path, 2) as runners:
        for number in range(4):
            os.kill(processes()[0], signal.SIGKILL)
            assert doubled(runners, number) == [2 * number]
            wait_for(lambda: runners._watch.ready == 2)
    wait_for(lambda: own.num_fds() <= before)
