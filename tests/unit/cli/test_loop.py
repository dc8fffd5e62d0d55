"""`deepseek loop`: what it asks for, and which options it refuses."""

import pytest

import deepseek
from deepseek.cli import main

DONE = {"run": "runs/w/001", "state": "idle", "last": None, "waits_for": "", "events": []}
REPLAYED = {"rows": 3, "unlabelled": 0, "metric": "accuracy", "accuracy": {"loop": 1.0}, "rounds": []}


@pytest.fixture
def asked(monkeypatch):
    calls = []
    monkeypatch.setattr(deepseek, "loop", lambda run, **how: calls.append(how) or DONE)
    monkeypatch.setattr(deepseek, "replay", lambda run, source, **how: calls.append(how) or REPLAYED)
    return calls


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "runs/w", "--labels-after", "20"], ("--labels-after", "deepseek loop status --help")),
        (["status", "runs/w", "--every", "1m"], ("--every",)),
        (["once", "runs/w", "--retrain-every", "0"], ("--retrain-every",)),
        (["replay", "runs/w", "past.csv", "--server", "http://127.0.0.1:8000"], ("--server",)),
        (["replay", "runs/w", "past.csv", "--every", "10s"], ("--every",)),
        (["replay", "runs/w"], ("FILE",)),
        (["follow", "runs/w", "--labels-after", "0"], ("--labels-after",)),
        (["now", "runs/w", "--key", "secret"], ("--key", "--server")),
        (["status", "runs/w", "--model", "w"], ("--model", "--server")),
        (["runs/w"], ("follow, once, now, approve, undo, status, replay",)),
        (["statu", "runs/w"], ("did you mean 'status'",)),
        ([], ("follow, once",)),
    ],
)
def test_what_the_action_does_not_heed_is_refused(asked, capsys, words, said):
    assert main(["loop", *words]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in said), error
    assert not asked


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        (["follow", "runs/w"], {"do": "follow", "every_s": 10.0, "server": None}),
        (["follow", "runs/w", "--every", "1m"], {"do": "follow", "every_s": 60.0}),
        (
            ["now", "runs/w", "--server", "http://x:1", "--key", "secret", "--model", "w"],
            {"do": "now", "server": "http://x:1", "key": "secret"},
        ),
        (["--json", "status", "runs/w"], {"do": "status"}),
        (
            ["status", "runs/w", "--set", "monitor.on_alarm.max_rounds_per_week=2"],
            {"do": "status", "overrides": ["monitor.on_alarm.max_rounds_per_week=2"]},
        ),
        (["replay", "runs/w", "past.csv", "--labels-after", "20", "--rows-a-day", "5"], {"labels_after": 20, "rows_a_day": 5.0}),
    ],
)
def test_what_belongs_to_an_action_is_heeded(asked, words, heard):
    assert main(["loop", *words]) == 0
    assert heard.items() <= asked[0].items()
    assert asked[0].get("retrain_every") is None


def test_the_key_comes_from_the_environment_where_none_is_given(asked, monkeypatch, capsys):
    monkeypatch.setenv("DEEPSEEK_KEY", "from-the-environment")
    monkeypatch.setenv("OF_THE_LOOP", "another")
    server = ["--server", "http://x:1"]
    assert main(["loop", "once", "runs/w", *server]) == 0
    assert main(["loop", "once", "runs/w", *server, "--key", "${ENV:OF_THE_LOOP}"]) == 0
    assert main(["loop", "once", "runs/w"]) == 0
    assert [how["key"] for how in asked] == ["from-the-environment", "another", None]
    assert main(["loop", "once", "runs/w", *server, "--key", "${ENV:NOT_SET}"]) == 2
    assert "'NOT_SET' is not set" in capsys.readouterr().err
