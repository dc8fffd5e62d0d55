import json

import numpy as np
import pyarrow as pa
import pytest

from deepseek.errors import InputError, UnknownNameError
from deepseek.monitoring import MonitorSettings, Store, Watcher


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def watch(bundle, tmp_path):
    stores = []

    def make(**settings):
        stores.append(Store(tmp_path / "log.db"))
        alarms = ({"type": "file", "path": str(tmp_path / "alarms.jsonl")},)
        watcher = Watcher(bundle, stores[-1], settings=MonitorSettings(**{"window_rows": 500, "alarms": alarms, **settings}), clock=Clock())
        watcher.told = lambda: [json.loads(line) for line in (tmp_path / "alarms.jsonl").read_text().splitlines()]
        return watcher

    yield make
    for store in stores:
        store.close()


def fed(watcher, rows, *, labels=True, step=250):
    for start in range(0, rows.inputs.num_rows, step):
        part = slice(start, start + step)
        watcher.observe(rows.inputs.slice(start, step), rows.answers.slice(start, step), ids=rows.ids[part])
        if labels:
            watcher.label(rows.ids[part], rows.truth[part])
    return watcher


def test_unchanged_rows_raise_nothing(watch, make_rows):
    watcher = fed(watch(), make_rows(4000, seed=1))
    found = watcher.check()
    assert (found["rows"], found["alarms"], found["last_window"]["drifted"]) == (4000, [], [])
    assert len(watcher.store.windows()) == 8
    assert found["performance"]["labels"] == 4000
    assert found["performance"]["window"]["accuracy"] == pytest.approx(found["performance"]["reference"]["accuracy"], abs=0.05)


def test_a_drifted_column_is_named_and_raises_an_alarm_that_clears(watch, make_rows):
    watcher = fed(watch(), make_rows(1000, seed=1, shift=8), labels=False)
    assert watcher.check()["alarms"] == ["drift:age"]
    fed(watcher, make_rows(1000, seed=2), labels=False)
    assert watcher.check()["alarms"] == []
    assert watcher.send_alarms() == []
    assert [(one["name"], one["state"]) for one in watcher.told()] == [("drift:age", "raised"), ("drift:age", "cleared")]
    assert "mean 39.99 → 47.27" in watcher.told()[0]["summary"]


def test_an_alarm_that_comes_again_within_its_silence_is_logged_and_not_told(watch, make_rows):
    """Whoever acts on alarms by the log, as the loop does, must not take the last one that was told for how it stands."""
    watcher = watch()
    for number, shift in enumerate((8, 0, 8)):
        fed(watcher, make_rows(1000, seed=number, shift=shift), labels=False)
    assert watcher.check()["alarms"] == ["drift:age"]
    watcher.send_alarms()
    assert [one["state"] for one in watcher.told()] == ["raised", "cleared"]
    assert [one["state"] for one in watcher.store.alarms()] == ["raised", "cleared", "raised"]


def test_an_alarm_names_values_that_training_did_not_have(watch, make_rows):
    rows = make_rows(1000, seed=1)
    rows.inputs = rows.inputs.set_column(1, "city", pa.array(["?"] * 1000))
    watcher = fed(watch(), rows, labels=False)
    watcher.send_alarms()
    (told,) = (one["summary"] for one in watcher.told() if one["name"] == "drift:city")
    assert "100.0% new: '?'" in told


def test_a_window_begins_with_its_first_row_however_late_that_is_read(watch, make_rows):
    watcher, rows = watch(), make_rows(1200, seed=1)
    times = [100.0 + place for place in range(1200)]  # answered before the watch began, at 1000
    watcher.observe(rows.inputs, rows.answers, ids=rows.ids, at=times)
    assert [(one["began"], one["ended"]) for one in watcher.store.windows()] == [(100.0, 600.0), (600.0, 1100.0)]
    assert watcher.check()["window"]["began"] == 1100.0


def test_one_bad_window_is_not_enough(watch, make_rows):
    watcher = fed(watch(), make_rows(500, seed=1, shift=8), labels=False)
    fed(watcher, make_rows(500, seed=2), labels=False)
    assert watcher.check()["alarms"] == []


def test_drift_can_be_left_without_alarm(watch, make_rows):
    assert fed(watch(drift=False), make_rows(2000, seed=1, shift=8), labels=False).check()["alarms"] == []


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "auc"])
def test_a_drop_raises_an_alarm_and_the_way_back_clears_it(watch, make_rows, metric):
    drop = 0.3 if metric == "log_loss" else 0.02
    watcher = fed(watch(metric=metric, drop=drop), make_rows(3000, seed=1, gap=0.1))
    assert watcher.check()["alarms"] == [f"metric:{metric}"]
    fed(watcher, make_rows(2000, seed=2, gap=-0.05))
    assert watcher.check()["alarms"] == []
    watcher.send_alarms()
    assert [one["state"] for one in watcher.told()] == ["raised", "cleared"]


def test_the_drop_of_a_loss_is_a_share_of_what_it_was(watch):
    assert watch(metric="accuracy").performance.drop == 0.02
    one = watch(metric="loss").performance
    assert (one.metric, one.drop) == ("log_loss", pytest.approx(0.02 * one.facts()["reference"]["log_loss"]))


def test_the_estimate_without_labels_is_marked_as_one(watch, make_rows):
    watcher = fed(watch(), make_rows(500, seed=1), labels=False)
    estimate = watcher.check()["last_window"]["estimate"]
    assert estimate["is_estimate"]
    assert estimate["calibrated"] == pytest.approx(0.9, abs=0.03)


def test_labels_may_come_before_their_request_and_twice(watch, make_rows):
    watcher, rows = watch(), make_rows(300, seed=1)
    assert watcher.label(rows.ids, rows.truth) == 0
    fed(watcher, rows)
    assert watcher.performance.labels == 300
    assert watcher.label(["nobody"], ["no"]) == 0


def test_another_watcher_goes_on_where_the_first_one_was(watch, make_rows):
    rows = make_rows(2300, seed=1, gap=0.03)
    whole, clock = watch(), Clock()
    first = slice(0, 1150)
    fed(whole, rows, step=115)
    one = whole.check()
    whole.store.close()
    assert clock.now == 1000.0
    again = watch()
    found = again.check()
    assert (found["rows"], found["window"]["rows"]) == (one["rows"], one["window"]["rows"])
    assert found["performance"] == one["performance"]
    assert first.stop == 1150


def test_windows_end_by_time_too(watch, make_rows):
    watcher = watch(window_s=60.0)
    fed(watcher, make_rows(100, seed=1))
    watcher._clock.now += 61
    fed(watcher, make_rows(10, seed=2))
    assert [one["rows"] for one in watcher.store.windows()] == [100]


@pytest.mark.parametrize("keep", ["nothing", "hashes", "values"])
def test_inputs_are_kept_as_chosen(watch, make_rows, keep):
    watcher, rows = watch(keep_inputs=keep), make_rows(3, seed=1)
    rows.inputs = pa.concat_tables([rows.inputs.slice(0, 2), rows.inputs.slice(0, 1)])
    fed(watcher, rows)
    kept = [one.inputs for one in watcher.store.requests()]
    if keep == "nothing":
        assert kept == [None] * 3
    elif keep == "values":
        assert kept == rows.inputs.to_pylist()
    else:
        assert kept[0] == kept[2] != kept[1]
        assert all(len(one) == 64 for one in kept)


def test_old_requests_are_forgotten(watch, make_rows):
    watcher = watch(retention_s=10.0, window_rows=100)
    fed(watcher, make_rows(100, seed=1))
    watcher._clock.now += 20
    fed(watcher, make_rows(100, seed=2))
    assert watcher.store.counts()["requests"] == 100


def test_the_log_forgets_while_no_row_comes(watch, make_rows):
    watcher = watch(retention_s=10.0)
    fed(watcher, make_rows(3, seed=1))
    watcher.tick()
    assert watcher.store.counts() == {"requests": 3, "labels": 3, "outcomes": 3}
    watcher._clock.now += 20
    watcher.tick()
    assert watcher.store.counts() == {"requests": 0, "labels": 0, "outcomes": 0}


def test_a_way_of_alarm_with_a_defect_keeps_nothing_from_the_others(watch, make_rows, tmp_path, monkeypatch):
    command = {"type": "command", "command": ["true"]}
    watcher = watch(alarms=(command, {"type": "file", "path": str(tmp_path / "alarms.jsonl")}))
    fed(watcher, make_rows(1000, seed=1, shift=8), labels=False)
    monkeypatch.setattr(watcher._alarms[0], "send", lambda _: {}["url"])
    for _ in range(2):
        assert watcher.send_alarms() == ["an alarm failed: KeyError('url')"]
    assert len(watcher.told()) == 1
    monkeypatch.undo()
    assert watcher.send_alarms() == []


def test_an_alarm_that_cannot_be_told_is_told_later(watch, make_rows, tmp_path):
    missing = {"type": "command", "command": [str(tmp_path / "nothing")]}
    file = {"type": "file", "path": str(tmp_path / "alarms.jsonl")}
    watcher = watch(alarms=(missing, file))
    fed(watcher, make_rows(1000, seed=1, shift=8), labels=False)
    (failure,) = watcher.send_alarms()
    assert "did not run" in failure
    (tmp_path / "nothing").write_text(f"#!/bin/sh\ncat > {tmp_path / 'mail'}\n")
    (tmp_path / "nothing").chmod(0o755)
    assert watcher.send_alarms() == []
    assert json.loads((tmp_path / "mail").read_text())["name"] == "drift:age"
    assert len(watcher.told()) == 1  # the other way was told once only
    assert watcher.send_alarms() == []


def test_what_does_not_fit_is_refused(watch, make_rows):
    rows = make_rows(3)
    watcher = watch()
    with pytest.raises(InputError, match="3 rows, 2 answers"):
        watcher.observe(rows.inputs, rows.answers.slice(0, 2))
    with pytest.raises(InputError, match="1 labels are given for 2 ids"):
        watcher.label(["a", "b"], ["no"])
    with pytest.raises(UnknownNameError, match="unknown metric to watch 'acuracy'"):
        watch(metric="acuracy")
    with pytest.raises(InputError, match="drop to watch for is 0"):
        watch(drop=0.0)
    assert np.isfinite(watcher.check()["at"])


def test_a_window_in_hand_can_be_closed(watch, make_rows):
    watcher = watch()
    assert watcher.close_window() is None
    fed(watcher, make_rows(20))
    assert watcher.close_window()["rows"] == 20
    assert watcher.check()["window"] is None


def test_rows_that_come_again_count_once(watch, make_rows):
    watcher = watch(window_rows=5_000)
    rows = make_rows(300, seed=1)
    watcher.observe(rows.inputs, rows.answers, ids=rows.ids)
    more = make_rows(300, seed=2)
    again = pa.concat_tables([rows.inputs.slice(200), more.inputs])
    watcher.observe(again, pa.concat_tables([rows.answers.slice(200), more.answers]), ids=[*rows.ids[200:], *more.ids])
    assert watcher.check()["rows"] == watcher.check()["window"]["rows"] == 600
    assert watcher.check()["repeated"] == 100


def test_a_label_that_waited_for_its_row_is_durable_with_it(watch, make_rows):
    first = watch()
    rows = make_rows(20, seed=1)
    first.observe(rows.inputs.slice(10), rows.answers.slice(10), ids=rows.ids[10:])
    first.label(rows.ids[:10], rows.truth.slice(0, 10))
    first.observe(rows.inputs.slice(0, 10), rows.answers.slice(0, 10), ids=rows.ids[:10])
    assert watch().check()["performance"]["labels"] == 10  # as after a kill at this moment
