"""A thread that nobody has to wait for."""

import os
import subprocess
import sys
import threading

import pytest

from deepseek.serving.threads import DaemonThread


def test_calls_are_done_in_order_and_their_errors_handed_on():
    thread, done = DaemonThread("one"), []
    first, bad, last = thread.submit(done.append, 1), thread.submit(lambda: 1 / 0), thread.submit(done.append, 2)
    with pytest.raises(ZeroDivisionError):
        bad.result(30)
    last.result(30)
    assert (done, first.done()) == ([1, 2], True)
    thread.shutdown()


def test_a_quiet_one_lets_others_go_before():
    usual, quiet = DaemonThread("usual"), DaemonThread("quiet", quiet=True)

    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert quiet.submit(niceness).result(30) > usual.submit(niceness).result(30)


def test_the_process_ends_though_it_hangs():
    program = (
        "import threading\nfrom deepseek.serving.threads import DaemonThread\n"
        "DaemonThread('hangs').submit(threading.Event().wait)\nprint('done')"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True).stdout == "done\n"
