"""The processes of a server where one cannot be begun: the others go on, and it is tried again."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from deepseek.errors import RunError
from deepseek.recipe.sections import ServeSection
from deepseek.serving import supervisor as workers
from deepseek.serving import worker
from deepseek.serving.recorder import keeper
from deepseek.serving.recorder.keeper import RecorderKeeper
from deepseek.serving.state import State
from deepseek.serving.supervisor import Supervisor

SLEEPS = (sys.executable, "-c", "import sys, time; sys.stdin.read(); time.sleep(60)")
ENDS = (sys.executable, "-c", "import sys; sys.exit(3)")


@pytest.fixture
def state(tmp_path):
    made = State(tmp_path)
    made.begin({"a": str(tmp_path)})
    return made


@pytest.fixture
def popen(monkeypatch):
    """Begin other programs in the place of workers and recorders, each as it is said, and keep them."""
    begun, programs, real = [], [], subprocess.Popen

    def made(_, **settings):
        program = programs.pop(0) if programs else SLEEPS
        if isinstance(program, OSError):
            raise program
        begun.append(real(program, **settings))
        return begun[-1]

    monkeypatch.setattr(subprocess, "Popen", made)
    made.begun, made.programs = begun, programs
    yield made
    for one in begun:
        one.kill()
        one.wait()


@pytest.fixture
def supervisor(state, popen):
    with socket.socket() as listening:
        made = Supervisor(listening, ServeSection(workers=2), state)
        made.ready = lambda: [state.folder.joinpath(f"{one.process.pid}.worker").write_text("{}") for one in made._workers]
        yield made


def test_a_worker_that_cannot_be_begun_ends_none_of_the_others(supervisor, popen, monkeypatch):
    monkeypatch.setattr(workers, "PAUSES_S", (0.0,))
    supervisor._look_after()
    supervisor.ready()
    supervisor._look_after()
    popen.begun[0].kill()
    popen.begun[0].wait()
    popen.programs += [OSError(12, "Cannot allocate memory")] * 5
    while popen.programs:
        supervisor._look_after()
    assert next(one.process for one in supervisor._workers) is popen.begun[1]
    supervisor._look_after()
    assert len(supervisor._workers) == 2


def test_where_no_worker_answers_that_ends_the_server(supervisor, popen, monkeypatch):
    monkeypatch.setattr(workers, "PAUSES_S", (0.0,))
    popen.programs += [OSError(12, "Cannot allocate memory")] * 5
    with pytest.raises(RunError, match=r"3 workers in a row ended before they answered, the last could not be begun: .*memory"):
        supervisor._look_after()


def test_a_worker_that_dies_again_and_again_is_begun_ever_more_seldom(supervisor, popen):
    supervisor._look_after()
    supervisor.ready()
    supervisor._look_after()
    popen.programs += [ENDS] * 100
    popen.begun[0].kill()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        supervisor._look_after()
        time.sleep(0.01)
    assert 3 <= len(popen.begun) <= 5  # two at first, one at once, one after a second


def test_a_recorder_that_cannot_be_begun_again_is_tried_again(state, popen, monkeypatch):
    monkeypatch.setattr(keeper, "PAUSES_S", (0.0,))
    monkeypatch.setattr(keeper, "POLL_S", 0.01)
    popen.programs += [SLEEPS, OSError(12, "Cannot allocate memory"), OSError(12, "Cannot allocate memory")]
    with RecorderKeeper(state, ServeSection(drain="1s")) as kept:
        popen.begun[0].send_signal(signal.SIGKILL)
        end = time.monotonic() + 30
        while len(popen.begun) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert kept._process is popen.begun[1]
        popen.begun[1].kill()  # so that nobody waits for it


def test_a_worker_goes_on_following_after_a_disk_that_was_full(state, monkeypatch):
    monkeypatch.setattr(worker, "POLL_S", 0.01)
    followed, reports, errors = [], [], [OSError(28, "No space left on device"), RunError("the disk is full")]

    async def follow():
        followed.append(len(followed))

    def report(*said):
        if errors:
            raise errors.pop()
        reports.append(said)

    async def main():
        server = object.__new__(worker.Server)
        server._parent, server._stamp, server._again, server._shared = os.getppid(), (0, 0), False, state
        server._app = SimpleNamespace(exchange=SimpleNamespace(follow=follow, followed={"a": 0}, failed=set()))
        task = asyncio.create_task(server._follow())
        while not reports:
            await asyncio.sleep(0.01)
        task.cancel()

    monkeypatch.setattr(state, "report", report)
    asyncio.run(asyncio.wait_for(main(), 30))
    assert followed == [0, 1, 2]
