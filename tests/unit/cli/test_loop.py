"""`deepseek loop`: what it asks for, and which options it refuses."""

import pytest

import deepseek
from deepseek.cli import main

DONE = {"run": "runs/w/001", "state": "idle", "last": None, "waits_for": "", "events": []}
REPLAYED = {"rows": 3, "metric": "accuracy", "accuracy": {"loop": 1.0}, "rounds": []}


@pytest.fixture
def asked(monkeypatch):
    calls = []
    monkeypatch.setattr(deepseek, "loop", lambda run, **how: calls.append(how) or DONE)
    monkeypatch.setattr(deepseek, "replay", lambda run, source, **how: calls.append(how) or REPLAYED)
    return calls


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--status", "--labels-after", "20"], ("--labels-after", "--status")),
        (["--status", "--every", "1m"], ("--every", "--status")),
        (["--once", "--retrain-every", "0"], ("--retrain-every", "--once")),
        (["--approve", "--rows-a-day", "1000"], ("--rows-a-day", "--approve")),
        (["--replay", "past.csv", "--server", "http://127.0.0.1:8000"], ("--server", "--replay")),
        (["--replay", "past.csv", "--every", "10s"], ("--every", "--replay")),
        (["--labels-after", "0"], ("--labels-after", "follows alarms")),
        (["--now", "--key", "secret"], ("--key", "--server")),
        (["--model", "w"], ("--model", "--server")),
        (["--status", "--undo"], ("--undo", "--status")),
    ],
)
def test_an_option_that_the_action_does_not_heed_is_refused(asked, capsys, options, words):
    assert main(["loop", "runs/w", *options]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words)
    assert not asked


@pytest.mark.parametrize(
    ("options", "heard"),
    [
        ([], {"do": "follow", "every_s": 10.0, "server": None}),
        (["--every", "1m"], {"do": "follow", "every_s": 60.0}),
        (["--now", "--server", "http://x:1", "--key", "secret", "--model", "w"], {"do": "now", "server": "http://x:1", "key": "secret"}),
        (["--status", "--set", "monitor.on_alarm.at_most=2"], {"do": "status", "overrides": ["monitor.on_alarm.at_most=2"]}),
        (["--replay", "past.csv", "--labels-after", "20", "--rows-a-day", "5"], {"labels_after": 20, "rows_a_day": 5.0}),
    ],
)
def test_what_belongs_to_an_action_is_heeded(asked, options, heard):
    assert main(["loop", "runs/w", *options]) == 0
    assert heard.items() <= asked[0].items()
    assert ("retrain_every" in asked[0]) is False


def test_the_key_comes_from_the_environment_where_none_is_given(asked, monkeypatch, capsys):
    monkeypatch.setenv("DEEPSEEK_KEY", "from-the-environment")
    monkeypatch.setenv("OF_THE_LOOP", "another")
    server = ["--server", "http://x:1"]
    assert main(["loop", "runs/w", "--once", *server]) == 0
    assert main(["loop", "runs/w", "--once", *server, "--key", "${ENV:OF_THE_LOOP}"]) == 0
    assert main(["loop", "runs/w", "--once"]) == 0
    assert [how["key"] for how in asked] == ["from-the-environment", "another", None]
    assert main(["loop", "runs/w", "--once", *server, "--key", "${ENV:NOT_SET}"]) == 2
    assert "'NOT_SET' is not set" in capsys.readouterr().err
