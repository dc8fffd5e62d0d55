"""Locks between processes: one holds, others are refused or wait, and a kill lets go."""

import os
import subprocess
import sys
import threading

import pytest

from deepseek.artifacts import locked
from deepseek.errors import InputError

HOLD = """
import sys, time
from pathlib import Path
from deepseek.artifacts import locked
from deepseek.errors import InputError

with locked(Path(sys.argv[1]), refuse=lambda process: InputError(process)):
    print("held", flush=True)
    time.sleep(600)
"""


def taken(process):
    return InputError(f"process {process} has it")


def test_who_holds_a_lock_is_named_and_lets_go_when_it_is_killed(tmp_path):
    path = tmp_path / "folder" / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"process {holder.pid} has it"), locked(path, refuse=taken):
            pass
    finally:
        holder.kill()
        holder.wait()
    with locked(path, refuse=taken):
        assert path.read_text() == str(os.getpid())


def test_without_a_refusal_the_lock_is_waited_for(tmp_path):
    order, begun = [], threading.Event()

    def second():
        begun.set()
        with locked(tmp_path / "lock"):
            order.append("second")

    waiting = threading.Thread(target=second)
    with locked(tmp_path / "lock"):
        waiting.start()
        begun.wait(60)
        order.append("first")
    waiting.join(60)
    assert order == ["first", "second"]
