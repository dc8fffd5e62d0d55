"""Answers on their way to the journal: what one entry costs, it costs alone."""

import os
import threading
import time

import pyarrow as pa
import pytest

from deepseek.serving.journal import Answered, Journal, JournalReader
from deepseek.serving.metrics import Metrics
from deepseek.serving.observers import Observers


def answered(name):
    return Answered("m", "1", None, 1.0, [name], None, pa.record_batch({"a": [1]}), pa.table({"prediction": ["yes"]}), 0.1)


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def told(tmp_path):
    """Tell names one after the other; then return what the journal holds and how many answers it dropped."""
    metrics, journal = Metrics(tmp_path), Journal(tmp_path / "journal")
    observers = Observers((), metrics, journal=journal)

    def dropped():
        lines = metrics.text().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("deepseek_journal_dropped_total"))

    def tell(entries, fail, mend):
        fail()
        observers.tell(entries[0])
        wait_for(lambda: dropped() == 1)
        mend()
        for entry in entries[1:]:
            observers.tell(entry)
        observers.close(60)
        with JournalReader(tmp_path / "journal") as reader:
            return [name for entry in reader.read(100) for name in entry.ids], dropped()

    return tell


def test_a_disk_that_fails_once_costs_one_answer_and_not_all_that_follow(told, monkeypatch):
    scan = os.scandir

    def fail(folder):
        if os.fspath(folder).endswith("journal"):
            raise OSError(24, "Too many open files")
        return scan(folder)

    names = told([answered(name) for name in "abc"], lambda: monkeypatch.setattr(os, "scandir", fail), monkeypatch.undo)
    assert names == (["b", "c"], 1)


def test_an_answer_that_cannot_be_written_costs_itself(told):
    assert told([answered(object()), answered("b")], lambda: None, lambda: None) == (["b"], 1)


def test_an_observer_that_hangs_does_not_keep_the_server_from_stopping(tmp_path, monkeypatch):
    monkeypatch.setattr("deepseek.serving.observers.QUEUE", 2)
    release, began = threading.Event(), threading.Event()

    class Hanging:
        def on_answer(self, *_):
            began.set()
            release.wait(60)

    observers = Observers([Hanging()], Metrics(tmp_path))
    observers.tell(answered("a"))
    began.wait(30)
    for name in "bcd":
        observers.tell(answered(name))
    closing = threading.Thread(target=observers.close, args=(0.1,), daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    release.set()
