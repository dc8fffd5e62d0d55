import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from deepseek.errors import RunError
from deepseek.monitoring.store import JOIN, Request, Store

WRITER = """
import sys
from deepseek.monitoring.store import Request, Store
store = Store(sys.argv[1])
number = 0
while True:
    with store.transaction():
        store.append_requests([Request(f"{number}-{part}", 0.0, "yes", [0.25, 0.75], {"a": 1}) for part in range(7)])
        store.save_state("last", number)
    print(number, flush=True)
    number += 1
"""


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "deep" / "log.db") as one:
        yield one


def asked(*ids, at=1.0):
    return [Request(name, at, "yes", [0.2, 0.8], {"age": 3}) for name in ids]


def test_what_is_appended_is_read_back(store):
    assert store.append_requests(asked("a", "b")) == 2
    assert store.requests() == asked("a", "b")
    assert store.requests(since=2.0) == []


def test_a_request_that_is_tried_again_is_kept_once(store):
    store.append_requests(asked("a"))
    assert store.append_requests(asked("a", "b")) == 1
    assert store.counts() == {"requests": 2, "labels": 0, "outcomes": 0}


def test_labels_join_their_request_once_whichever_comes_first(store):
    store.append_labels([("a", "no"), ("late", "yes")], 1.0)
    store.append_requests(asked("a"))
    assert [(one.id, one.prediction, one.label) for one in store.join_new()] == [("a", "yes", "no")]
    store.append_labels([("a", "yes")], 2.0)
    assert store.join_new() == []
    store.append_requests(asked("late"))
    assert [one.id for one in store.join_new()] == ["late"]


def test_a_join_looks_at_what_waits_alone(store):
    for start in range(0, 20_000, 5_000):
        names = [f"{start + place}" for place in range(5_000)]
        store.append_requests(asked(*names))
        store.append_labels([(name, "no") for name in names], 1.0)
        assert len(store.join_new()) == 5_000
    assert store._query("SELECT COUNT(*) FROM deepseek_pending") == [(0,)]
    plan = [row[3] for row in store._query(f"EXPLAIN QUERY PLAN {JOIN}", {"most": 1})]
    assert plan[0].startswith("SCAN p")
    assert all(step.startswith(("SEARCH", "USE TEMP B-TREE")) for step in plan[1:])


def test_labels_that_nothing_was_asked_for_are_forgotten_too(store):
    store.append_labels([("nobody", "no")], 1.0)
    store.forget_before(5.0)
    assert store._query("SELECT COUNT(*) FROM deepseek_pending") == [(0,)]


def test_a_transaction_is_all_or_nothing(store):
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.append_requests(asked("a"))
        store.save_state("x", 1)
        raise ZeroDivisionError
    assert store.counts()["requests"] == 0
    assert store.state("x") is None


def test_states_windows_and_alarms(store):
    store.save_state("x", {"n": 1})
    store.save_state("x", {"n": 2})
    assert store.state("x") == {"n": 2}
    for place in range(3):
        store.save_window(place, place + 1, {"rows": place})
        store.save_alarm(place, {"name": str(place)})
    assert [one["rows"] for one in store.windows(2)] == [1, 2]
    assert [one["name"] for one in store.alarms(2)] == ["1", "2"]


def test_everything_of_an_id_can_be_forgotten(store):
    store.append_requests(asked("a", "b"))
    store.append_labels([("a", "no"), ("b", "no")], 1.0)
    store.join_new()
    assert store.delete(["a", "never"]) == 1
    assert store.counts() == {"requests": 1, "labels": 1, "outcomes": 1}
    assert [one.id for one in store.requests()] == ["b"]
    assert store.delete([]) == 0


def test_the_log_forgets_what_is_old(store):
    store.append_requests([*asked("old", at=1.0), *asked("new", at=10.0)])
    store.append_labels([("old", "no"), ("new", "no")], 10.0)
    store.save_window(0, 1, {})
    assert store.forget_before(5.0) == 1
    assert store.counts() == {"requests": 1, "labels": 1, "outcomes": 0}
    assert store.windows() == []


def test_a_second_process_reads_while_the_first_one_writes(store, tmp_path):
    with Store(tmp_path / "deep" / "log.db") as other, store.transaction():
        store.append_requests(asked("a"))
        assert other.counts()["requests"] == 0
    with Store(tmp_path / "deep" / "log.db") as other:
        assert other.counts()["requests"] == 1


def test_threads_share_a_store(store):
    threads = [threading.Thread(target=lambda n=n: store.append_requests(asked(*(f"{n}-{i}" for i in range(50))))) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert store.counts()["requests"] == 200


def test_kill_minus_nine_loses_nothing_that_was_acknowledged(tmp_path):
    path = tmp_path / "log.db"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    said = [process.stdout.readline() for _ in range(20)]
    time.sleep(0.02)  # somewhere in the middle of a transaction
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.readlines()
    process.wait()
    last = int(said[-1])
    with Store(path) as store:
        kept = store.requests()
        assert len(kept) in {7 * (last + 1), 7 * (last + 2)}  # the last one may have been committed and not said
        assert len(kept) == 7 * (store.state("last") + 1)
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_cannot_be_opened_is_said(tmp_path):
    with pytest.raises(RunError, match="cannot be opened"):
        Store(tmp_path)
    with pytest.raises(RunError, match="cannot be opened"):
        Store("postgresql+psycopg://nobody@127.0.0.1:1/none")


OLD = """
CREATE TABLE deepseek_requests (seq INTEGER PRIMARY KEY AUTOINCREMENT, id VARCHAR(190) NOT NULL UNIQUE, at DOUBLE PRECISION NOT NULL,
  prediction TEXT NOT NULL, probability TEXT, inputs TEXT);
CREATE TABLE deepseek_labels (seq INTEGER PRIMARY KEY AUTOINCREMENT, id VARCHAR(190) NOT NULL, at DOUBLE PRECISION NOT NULL,
  label TEXT NOT NULL);
CREATE TABLE deepseek_pending (id VARCHAR(190) NOT NULL PRIMARY KEY);
CREATE TABLE deepseek_outcomes (id VARCHAR(190) NOT NULL PRIMARY KEY);
CREATE TABLE deepseek_windows (seq INTEGER PRIMARY KEY AUTOINCREMENT, began DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION NOT NULL,
  content TEXT NOT NULL);
CREATE TABLE deepseek_alarms (seq INTEGER PRIMARY KEY AUTOINCREMENT, at DOUBLE PRECISION NOT NULL, content TEXT NOT NULL);
CREATE TABLE deepseek_state (name VARCHAR(190) NOT NULL PRIMARY KEY, content TEXT NOT NULL);
CREATE INDEX deepseek_labels_id ON deepseek_labels (id);
CREATE INDEX deepseek_requests_at ON deepseek_requests (at);
INSERT INTO deepseek_requests (id, at, prediction, probability, inputs) VALUES ('a', 1.0, '"yes"', '[0.2, 0.8]', NULL);
INSERT INTO deepseek_requests (id, at, prediction, probability, inputs) VALUES ('b', 1.0, '"no"', '[0.9, 0.1]', NULL);
INSERT INTO deepseek_labels (id, at, label) VALUES ('b', 2.0, '"no"');
INSERT INTO deepseek_pending VALUES ('b');
INSERT INTO deepseek_outcomes VALUES ('z');
INSERT INTO deepseek_windows (began, ended, content) VALUES (0, 1, '{"rows": 5}');
INSERT INTO deepseek_alarms (at, content) VALUES (0, '{"name": "drift:age"}');
INSERT INTO deepseek_state VALUES ('watcher', '{"rows": 7}'), ('hash_key', '"00ff"');
"""
"""A log as the first version wrote it, for one model."""


def test_models_share_a_log_and_each_sees_its_own_part(store):
    one, two = store.of("churn/001@aa"), store.of("price/001@bb")
    for part, said in ((one, "yes"), (two, "no")):
        part.append_requests([Request("same", 1.0, said), Request(f"only-{said}", 1.0, said)])
        part.save_state("watcher", said)
        part.save_window(0, 1, {"rows": said})
        part.save_alarm(0, {"name": said})
    one.append_labels([("same", "yes")], 2.0)
    assert two.join_new() == []
    two.append_labels([("same", "no")], 2.0)
    for part, said in ((one, "yes"), (two, "no")):
        assert [(found.id, found.prediction, found.label) for found in part.join_new()] == [("same", said, said)]
        assert (part.state("watcher"), part.windows()[0]["rows"], part.alarms()[0]["name"]) == (said, said, said)
        assert part.counts() == {"requests": 2, "labels": 1, "outcomes": 1}
        assert part.known(["same", "only-yes", "only-no"]) == {"same", f"only-{said}"}
    assert store.counts() == {"requests": 4, "labels": 2, "outcomes": 2}
    assert one.delete(["same"]) == 1
    assert (one.counts()["requests"], two.counts()["requests"]) == (1, 2)
    assert one.forget_before(5.0) == 1
    assert two.counts() == {"requests": 2, "labels": 1, "outcomes": 1}


def test_an_old_log_opens_and_belongs_to_the_first_model_that_asks(tmp_path):
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.executescript(OLD)
    connection.close()
    with Store(tmp_path / "old.db") as store:
        assert [one.id for one in store.requests()] == ["a", "b"]
    with Store(tmp_path / "old.db") as store:
        one, two = store.of("churn/001@aa"), store.of("price/001@bb")
        assert one.state("watcher") == {"rows": 7}
        assert two.state("watcher") is None
        assert (one.windows()[0]["rows"], one.alarms()[0]["name"]) == (5, "drift:age")
        assert [(found.id, found.label) for found in one.join_new()] == [("b", "no")]
        assert two.append_requests(asked("a")) == 1
        assert (one.counts()["requests"], two.counts()["requests"]) == (2, 1)
    with Store(tmp_path / "old.db") as store:
        assert store.of("churn/001@aa").counts() == {"requests": 2, "labels": 1, "outcomes": 2}


def test_which_ids_are_new_is_known(store):
    one = store.of("m")
    assert one.new_ids(asked("a", "b")) == {"a", "b"}
    assert one.new_ids(asked("b", "c", "c")) == {"c"}
    assert one.new_ids([]) == set()
    assert store.of("n").new_ids(asked("a")) == {"a"}


@pytest.mark.parametrize("lost", ["begin", "commit"])
def test_a_server_that_goes_away_within_a_transaction_is_asked_again_later(tmp_path, monkeypatch, lost):
    sqlalchemy = pytest.importorskip("sqlalchemy")

    def gone():
        raise sqlalchemy.exc.OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    with Store(f"sqlite:///{tmp_path / 'log.db'}") as store:
        with monkeypatch.context() as patched:
            patched.setattr(store._database._connection, lost, gone)
            with pytest.raises(RunError, match=r"the log cannot be written: .*server closed the connection"):
                store.append_labels([("a", "yes")], 1.0)
        assert store.counts()["labels"] == 0
        assert store.append_labels([("a", "yes")], 1.0) == 1


def test_a_store_that_was_closed_says_so(tmp_path):
    store = Store(tmp_path / "log.db")
    store.close()
    for act in (lambda: store.append_labels([("a", "yes")], 1.0), store.counts):
        with pytest.raises(RunError, match="closed database"):
            act()
