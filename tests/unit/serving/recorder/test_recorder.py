"""What the journal holds reaches every consumer, each failure its own affair; the watch of a served model."""

import asyncio
import json
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from tests.unit.serving.conftest import people

from deepseek import serving
from deepseek.artifacts import Bundle
from deepseek.errors import InputError, RunError
from deepseek.monitoring import Store, Watcher, open_store
from deepseek.recipe.sections import MonitorSection
from deepseek.serving.journal import Answered, Journal, JournalReader, Outcomes
from deepseek.serving.metrics import Metrics
from deepseek.serving.recorder.process import Recorder
from deepseek.serving.recorder.watching import FIGURES, WatchConsumer
from deepseek.serving.state import State, Wanted, version_of

ROW = {"age": 41, "income": 1.0, "city": "Oslo", "floor": 1, "member": True, "since": "2024-01-31", "note": "new"}


def outcome(name):
    return Outcomes("m", 1.0, [name], ["yes"], None)


def numbers(metrics):
    lines = (line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


class Taker:
    """Takes entries, or fails as it is told to."""

    def __init__(self, *errors):
        self.errors, self.taken, self.ticks = list(errors), [], 0

    def take(self, entries):
        if self.errors:
            raise self.errors.pop(0)
        self.taken += [name for entry in entries for name in entry.ids]

    def tick(self, now):
        self.ticks += 1


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal") as one:
        yield one


@pytest.fixture
def record(tmp_path):
    """Make a recorder over the journal; closed in the end."""
    made = []

    def make(**consumers):
        made.append(Recorder(JournalReader(tmp_path / "journal"), consumers, Metrics(tmp_path)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_every_consumer_is_fed_and_what_all_have_taken_is_acknowledged(journal, record, tmp_path):
    first, second = Taker(), Taker()
    journal.outcomes(outcome("a"))
    recorder = record(first=first, second=second)
    assert recorder.step()
    assert not recorder.step()
    assert first.taken == second.taken == ["a"]
    assert first.ticks == 2
    assert '"at":' in (tmp_path / "journal" / "position.json").read_text()


def test_a_defect_of_one_is_counted_and_stops_nobody(journal, record, tmp_path):
    broken, other = Taker(ValueError("what is this")), Taker()
    journal.outcomes(outcome("a"))
    recorder = record(broken=broken, other=other)
    recorder.step()
    journal.outcomes(outcome("b"))
    recorder.step()
    assert (broken.taken, other.taken) == (["b"], ["a", "b"])
    assert numbers(Metrics(tmp_path))['deepseek_recorder_failures_total{consumer="broken"}'] == 1


def test_what_cannot_be_taken_now_comes_again_and_is_not_acknowledged(journal, record, tmp_path, monkeypatch):
    monkeypatch.setattr("deepseek.serving.recorder.process.AGAIN_S", (0.0,))
    away, other = Taker(RunError("the database is away")), Taker()
    journal.outcomes(outcome("a"))
    recorder = record(away=away, other=other)
    recorder.step()
    assert not (tmp_path / "journal" / "position.json").exists()
    journal.outcomes(outcome("b"))
    recorder.step()
    assert (away.taken, other.taken) == (["a", "b"], ["a", "b"])
    assert (tmp_path / "journal" / "position.json").exists()


def test_a_consumer_that_is_away_for_long_holds_the_reading_up_instead_of_memory(journal, record, monkeypatch):
    monkeypatch.setattr("deepseek.serving.recorder.process.MOST_WAITING", 3)
    monkeypatch.setattr("deepseek.serving.recorder.process.AT_ONCE", 2)
    away, other = Taker(*[RunError("away")] * 10), Taker()
    for number in range(9):
        journal.outcomes(outcome(str(number)))
    recorder = record(away=away, other=other)
    for _ in range(5):
        recorder.step()
    assert len(other.taken) == 4
    assert len(recorder._fed[0].waiting) == 4


def test_it_stops_once_everything_is_read(journal, record):
    taker, stop = Taker(), threading.Event()
    recorder = record(taker=taker)
    for number in range(50):
        journal.outcomes(outcome(str(number)))
    stop.set()
    recorder.run(stop)
    assert len(taker.taken) == 50


@pytest.mark.parametrize("what", ["read", "acknowledge"])
@pytest.mark.parametrize("error", [RunError("the disk is full"), OSError(24, "Too many open files")])
def test_a_journal_that_cannot_be_read_for_a_while_is_read_again_and_nothing_is_lost(journal, record, tmp_path, monkeypatch, what, error):
    monkeypatch.setattr("deepseek.serving.recorder.process.AGAIN_S", (0.0,))
    work, errors = getattr(JournalReader, what), [error, error]

    def at_first_not(self, *given):
        found = work(self, *given)  # what it returned before it failed must come again
        if errors:
            raise errors.pop()
        return found

    monkeypatch.setattr(JournalReader, what, at_first_not)
    for name in "abc":
        journal.outcomes(outcome(name))
    taker, stop = Taker(), threading.Event()
    recorder = record(taker=taker)
    thread = threading.Thread(target=recorder.run, args=(stop,), daemon=True)
    thread.start()
    wait_for(lambda: not errors and taker.taken[-3:] == ["a", "b", "c"])
    journal.outcomes(outcome("d"))
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert taker.taken[-1] == "d"
    assert numbers(Metrics(tmp_path))['deepseek_recorder_failures_total{consumer="journal"}'] == 2


@pytest.fixture
def watched(people_run, tmp_path, monkeypatch):
    """A consumer over the served run, its log in a folder of its own."""
    monkeypatch.setattr("deepseek.monitoring.watcher.Store", lambda place: Store(tmp_path / "log" / place.name))
    state = State(tmp_path / "state")
    state.folder.mkdir()
    state.begin({"people": str(people_run)}, journal=True)
    metrics = Metrics(state.folder)
    consumers = []

    def make(**settings):
        consumers.append(WatchConsumer(state, metrics, everything=True, **settings))
        return consumers[-1]

    make.state, make.metrics = state, metrics
    yield make
    for one in consumers:
        one.close()


def rows_of(table, start, count):
    return table.slice(start, count).drop_columns(["bought"]).to_batches()[0]


def answered(run, names, *, model="people", at=1.0):
    version = version_of(Bundle.open(run))
    answers = pa.table({"prediction": ["yes"] * len(names), "probability_no": [0.2] * len(names), "probability_yes": [0.8] * len(names)})
    return Answered(model, version, None, at, names, None, rows_of(people(), 0, len(names)), answers, 0.1)


def told(names, label="yes", *, model="people"):
    return Outcomes(model, 2.0, names, [label] * len(names), None)


def test_answers_and_labels_reach_the_models_log_in_any_order_and_once(watched, people_run):
    consumer = watched()
    entries = [told(["late"], "no"), answered(people_run, ["a", "b"]), told(["a"]), answered(people_run, ["late"])]
    consumer.take(entries)
    consumer.take(entries)  # as after a kill
    (one,) = consumer._open()
    assert one.watcher.store.counts() == {"requests": 3, "labels": 2, "outcomes": 2}
    facts = one.watcher.check()
    assert (facts["rows"], facts["performance"]["labels"], facts["performance"]["window"]["accuracy"]) == (3, 2, 0.5)
    assert facts["window"]["rows"] == 3


def test_of_several_labels_for_one_answer_the_first_counts_also_within_one_request(watched, people_run):
    consumer = watched()
    consumer.take([answered(people_run, ["a", "b"]), Outcomes("people", 2.0, ["a", "b", "a"], ["yes", "no", "no"], None)])
    (one,) = consumer._open()
    assert [row.label for row in one.watcher.store.labelled_rows()] == ["yes", "no"]


def test_figures_are_written_for_prometheus(watched, people_run):
    consumer = watched()
    consumer.take([answered(people_run, ["a", "b"]), told(["a"])])
    consumer.tick(time.time())
    text = watched.metrics.text().decode()
    version = version_of(Bundle.open(people_run))
    assert f'deepseek_monitor_rows_total{{model="people",version="{version}"}} 2.0' in text
    assert f'deepseek_monitor_labels_total{{model="people",version="{version}"}} 1.0' in text
    assert (watched.state.folder / FIGURES).exists()


def test_another_bundle_of_the_name_gets_its_own_watcher(watched, people_run, other_run):
    consumer = watched()
    consumer.take([answered(people_run, ["old"])])
    watched.state.want({"people": str(other_run)})
    consumer.take([answered(other_run, ["new"]), told(["old", "new", "unknown"])])
    found = {one.version: one.watcher.store.counts() for one in consumer._open()}
    old, new = (version_of(Bundle.open(run)) for run in (people_run, other_run))
    assert (found[old]["requests"], found[old]["outcomes"]) == (1, 1)
    assert (found[new]["requests"], found[new]["outcomes"]) == (1, 1)


def test_a_version_is_found_after_another_took_over_and_the_recorder_began_anew(watched, people_run, other_run):
    watched().take([answered(people_run, ["old"])])
    watched.state.want({"people": str(other_run)})
    consumer = watched()
    consumer.take([told(["old"])])
    found = {one.version: one.watcher.store.counts() for one in consumer._open()}
    assert found[version_of(Bundle.open(people_run))]["outcomes"] == 1


def test_only_so_many_bundles_of_a_name_are_remembered_and_the_current_one_always(watched, people_run, other_run, monkeypatch):
    monkeypatch.setattr("deepseek.serving.recorder.watching._REMEMBERED", 0)
    consumer = watched()
    watched.state.want({"people": str(other_run)})
    consumer.tick(time.time())
    assert [one.version for one in consumer._watched.values()] == [version_of(Bundle.open(other_run))]


def test_the_log_of_a_model_that_answers_no_more_forgets_as_well(watched, people_run, other_run, monkeypatch):
    first = watched()
    first.take([answered(people_run, ["old"], at=1_000.0)])
    first.close()
    watched.state.want({"people": str(other_run)})
    section = MonitorSection(retention="1h")
    monkeypatch.setattr("deepseek.serving.recorder.watching.recipe_of", lambda _: section)
    now = [4_000.0]
    second = watched(clock=lambda: now[0])
    place = next(one.path for one in second._watched.values() if one.watcher is None)

    def kept():
        with open_store(place) as whole:
            return whole.counts()["requests"]

    second.tick(now[0])
    assert kept() == 1
    now[0] = 8_000.0
    second.tick(now[0])
    assert kept() == 0


def test_rows_of_a_model_that_nobody_watches_are_counted(watched, people_run, caplog):
    consumer = watched()
    stranger = answered(people_run, ["a"])
    entry = Answered("other", stranger.version, None, 1.0, ["a"], None, stranger.rows, stranger.answers, 0.0)
    consumer.take([entry, told(["a", "b"], model="other")])
    assert numbers(watched.metrics)['deepseek_unwatched_rows_total{model="other"}'] == 3


def test_a_defect_in_the_watch_of_one_model_costs_no_other_its_rows(watched, people_run, monkeypatch):
    watched.state._write({**watched.state.read(), "shop": Wanted(str(people_run))})
    consumer, observe = watched(), Watcher.observe

    def broken(self, rows, answers, *, ids, at):
        found = observe(self, rows, answers, ids=ids, at=at)
        if "bad" in ids:
            raise ValueError("what is this")
        return found

    monkeypatch.setattr(Watcher, "observe", broken)
    consumer.take([answered(people_run, ["bad"]), answered(people_run, ["good"], model="shop")])
    assert numbers(watched.metrics)['deepseek_recorder_failures_total{consumer="watch"}'] == 1
    consumer.take([answered(people_run, ["next"])])
    assert all(one.watcher.store.known(["good", "next"]) for one in consumer._open())
    assert len(consumer._open()) == 2


def test_a_store_that_is_away_keeps_no_other_model_waiting_and_counts_nothing_again(watched, people_run, other_run, monkeypatch):
    watched.state._write({**watched.state.read(), "shop": Wanted(str(other_run))})
    consumer, away = watched(), [True]
    observe, label = Watcher.observe, Watcher.label

    def refused(work):
        def tried(self, *given, **named):
            if away[0] and Path(self.model).parent == people_run:
                raise RunError("the log cannot be written: the server is away")
            return work(self, *given, **named)

        return tried

    monkeypatch.setattr(Watcher, "observe", refused(observe))
    monkeypatch.setattr(Watcher, "label", refused(label))
    entries = [answered(people_run, ["a"]), answered(other_run, ["b"], model="shop"), told(["a"]), told(["b"], model="shop")]
    for _ in range(3):
        with pytest.raises(RunError):
            consumer.take(entries)
    shop = next(one.watcher for one in consumer._open() if one.model == "shop")
    assert (shop.check()["rows"], shop.check()["repeated"], shop.store.counts()["outcomes"]) == (1, 0, 1)
    away[0] = False
    consumer.take(entries)
    found = {one.model: one.watcher.check() for one in consumer._open()}
    assert {name: (one["rows"], one["repeated"], one["performance"]["labels"]) for name, one in found.items()} == {
        "people": (1, 0, 1),
        "shop": (1, 0, 1),
    }
    assert consumer._taken == {}


def test_a_bundle_that_could_not_be_found_is_looked_for_again(watched, people_run, other_run, monkeypatch):
    now = [1_000.0]
    consumer = watched(clock=lambda: now[0])
    watched.state.want({"people": str(people_run)})
    monkeypatch.setattr(consumer, "_watched", {})
    path_of = consumer._path_of
    monkeypatch.setattr(consumer, "_path_of", lambda _: None)
    consumer.take([answered(people_run, ["a"])])
    monkeypatch.setattr(consumer, "_path_of", path_of)
    consumer.take([answered(people_run, ["b"])])
    assert consumer._open() == []  # not at every batch
    now[0] += 61
    consumer.take([answered(people_run, ["c"])])
    assert [one.watcher.store.known(["a", "b", "c"]) for one in consumer._open()] == [{"c"}]


def test_a_bundle_that_answered_for_a_moment_only_is_found_among_those_before(watched, people_run, other_run, tmp_path):
    moment = tmp_path / "elsewhere" / "bundle"
    shutil.copytree(other_run / "bundle", moment)
    consumer = watched()
    for path in (moment, people_run):  # before the recorder looks again
        watched.state.want({"people": str(path)})
    consumer.tick(time.time())
    consumer.take([answered(moment, ["a"])])
    assert [one.path for one in consumer._open() if one.watcher.store.known(["a"])] == [moment]


def test_a_label_that_the_model_cannot_know_costs_itself_only(watched, people_run):
    consumer = watched()
    consumer.take([answered(people_run, ["a", "b"]), told(["a"], [1, 2]), told(["b"])])
    (one,) = consumer._open()
    assert one.watcher.store.counts()["outcomes"] == 1
    assert numbers(watched.metrics)['deepseek_recorder_failures_total{consumer="watch"}'] == 1


def test_a_store_that_fails_is_opened_anew_and_nothing_counts_twice(watched, people_run, monkeypatch):
    consumer = watched()
    consumer.take([answered(people_run, ["a"])])
    saved = Store.save_state

    def fails(self, name, content):
        raise RunError("the log cannot be written")

    monkeypatch.setattr(Store, "save_state", fails)
    with pytest.raises(RunError):
        consumer.take([answered(people_run, ["b"]), told(["b"])])
    monkeypatch.setattr(Store, "save_state", saved)
    consumer.take([answered(people_run, ["b"]), told(["b"])])
    (one,) = consumer._open()
    assert one.watcher.check()["performance"]["labels"] == 1
    assert one.watcher.store.counts()["requests"] == 2


def test_windows_end_by_time_while_no_row_comes(people_run, tmp_path):
    from deepseek.monitoring import MonitorSettings, Watcher

    clock = [100.0]
    with Store(tmp_path / "log.db") as store:
        watcher = Watcher(people_run, store, settings=MonitorSettings(window_s=60.0), clock=lambda: clock[0])
        entry = answered(people_run, ["a"])
        watcher.observe(entry.rows, entry.answers, ids=["a"], at=100.0)
        watcher.tick()
        assert watcher.check()["last_window"] is None
        clock[0] = 161.0
        watcher.tick()
        assert watcher.check()["last_window"]["rows"] == 1


class Slow(BaseHTTPRequestHandler):
    """A receiver of alarms that answers when it is let."""

    let, seen = threading.Event(), []

    def do_POST(self):
        self.seen.append(self.rfile.read(int(self.headers["content-length"])))
        self.let.wait(60)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def slow_hook():
    server = HTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Slow.let.clear()
    Slow.seen.clear()
    yield f"http://127.0.0.1:{server.server_port}/"
    Slow.let.set()
    server.shutdown()
    server.server_close()


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_slow_receiver_of_alarms_holds_nothing_up(watched, people_run, slow_hook, monkeypatch):
    from deepseek.monitoring import MonitorSettings

    notify = ({"type": "webhook", "url": slow_hook, "timeout_s": 60},)
    settings = MonitorSettings(window_rows=50, consecutive=1, alarms=notify)
    monkeypatch.setattr("deepseek.monitoring.watcher.MonitorSettings.of_section", lambda section: settings)
    consumer = watched()
    for number in range(2):
        entry = answered(people_run, [f"{number}-{place}" for place in range(50)])
        rows = entry.rows.set_column(0, "age", pa.array([900] * 50))
        consumer.take([Answered("people", entry.version, None, 1.0, entry.ids, None, rows, entry.answers, 0.1)])
    wait_for(lambda: len(Slow.seen) == 1)  # it is being told, and does not answer
    consumer.take([answered(people_run, ["after"]), told(["after"])])
    consumer.tick(time.time())
    (one,) = consumer._open()
    assert one.watcher.store.counts()["outcomes"] == 1
    assert len(Slow.seen) == 1
    Slow.let.set()
    wait_for(lambda: not one.watcher.store.state("unsent_alarms"))
    assert b"drift:age" in b"".join(Slow.seen)


def test_a_receiver_that_is_away_is_not_asked_at_every_batch(watched, people_run, monkeypatch):
    from deepseek.monitoring import MonitorSettings

    monkeypatch.setattr("deepseek.serving.recorder.watching.TELL_AGAIN_S", 3_600.0)
    notify = ({"type": "webhook", "url": "http://127.0.0.1:9/", "timeout_s": 1},)
    settings = MonitorSettings(window_rows=50, consecutive=1, alarms=notify)
    monkeypatch.setattr("deepseek.monitoring.watcher.MonitorSettings.of_section", lambda section: settings)
    consumer, tries = watched(), []
    send = Watcher.send_alarms
    monkeypatch.setattr(Watcher, "send_alarms", lambda self: tries.append(found := send(self)) or found)
    entry = answered(people_run, [f"{place}" for place in range(50)])
    rows = entry.rows.set_column(0, "age", pa.array([900] * 50))
    consumer.take([Answered("people", entry.version, None, 1.0, entry.ids, None, rows, entry.answers, 0.1)])
    wait_for(lambda: any(tries))
    (one,) = consumer._open()
    for number in range(20):
        consumer.take([answered(people_run, [f"after-{number}"])])
    assert sum(map(bool, tries)) == 1
    one.sender.close(30.0)  # the last try, without waiting for the hour
    assert sum(map(bool, tries)) == 2


def call(app, *requests):
    async def main():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return [await client.request(method, path, json=body) for method, path, body in requests]

    return asyncio.run(main())


def test_an_application_alone_watches_in_a_thread(people_run, tmp_path, monkeypatch):
    monkeypatch.setattr("deepseek.monitoring.watcher.Store", lambda place: Store(tmp_path / "log" / place.name))
    app = serving.make_app(people_run, watch=True)
    (answer,) = call(app, ("POST", "/v1/models/people/predict", ROW))
    outcome = {"id": answer.json()["id"], "label": "yes"}
    response, openapi = call(app, ("POST", "/v1/models/people/feedback", outcome), ("GET", "/openapi.json", None))
    assert (response.status_code, response.json()) == (202, {"accepted": 1})
    assert "/v1/models/people/feedback" in openapi.json()["paths"]
    asyncio.run(app.close())
    with open_store(people_run) as store:
        assert store.counts() == {"requests": 1, "labels": 1, "outcomes": 1}


def test_a_full_journal_refuses_outcomes_and_drops_answers_with_a_count(people_run, tmp_path, monkeypatch):
    monkeypatch.setattr("deepseek.monitoring.watcher.Store", lambda place: Store(tmp_path / "log" / place.name))
    monkeypatch.setattr("deepseek.serving.recorder.process.Recorder.step", lambda self: False)  # a reader that reads nothing
    app = serving.make_app(people_run, watch=True, settings={"journal_size": 6_000})
    requests = [("POST", "/v1/models/people/predict", [ROW] * 20)] * 8
    assert {answer.status_code for answer in call(app, *requests)} == {200}
    wait_for(lambda: numbers(app.metrics).get("deepseek_journal_dropped_total", 0) > 0)
    told = [{"id": "x" * 90, "label": "yes"}] * 60
    (response,) = call(app, ("POST", "/v1/models/people/feedback", told))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert "limit of 6,000 bytes" in response.json()["detail"]
    assert numbers(app.metrics)['deepseek_feedback_total{model="people",outcome="refused"}'] == 60


@pytest.mark.parametrize(("given", "where"), [("people/001", "people"), ("people/001/bundle", "people"), ("alone/bundle", "alone")])
def test_a_lasting_folder_lies_beside_the_runs_and_never_in_a_bundle(people_run, tmp_path, given, where):
    from contextlib import ExitStack

    from deepseek.recipe.sections import ServeSection
    from deepseek.serving.assembly import _folder

    shutil.copytree(people_run.parent, tmp_path / "people")
    shutil.copytree(people_run / "bundle", tmp_path / "alone" / "bundle")
    with ExitStack() as stack:
        found = _folder({"shop": str(tmp_path / given)}, ServeSection(), stack, lasting=True)
    assert found == tmp_path / where / ".serve" / "shop"


def test_what_has_no_reference_cannot_be_watched(tmp_path, people_run):
    shutil.copytree(people_run, tmp_path / "run")
    bundle = tmp_path / "run" / "bundle"
    (bundle / "reference.json").unlink()
    manifest = json.loads((bundle / "manifest.json").read_text())
    del manifest["files"]["reference.json"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="cannot be watched"):
        serving.make_app(tmp_path / "run", watch=True)
