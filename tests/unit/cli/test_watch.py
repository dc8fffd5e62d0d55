"""`deepseek watch`: what is about the log and what is about files of rows are not given together."""

import pytest

import deepseek
from deepseek.cli import main
from deepseek.monitoring import logged

LOG = {
    "store": "monitor.db", "counts": {"requests": 1, "labels": 0, "outcomes": 0}, "windows": [], "window": None,
    "performance": {"reference": {}, "window": {}, "test": None}, "events": [], "alarms": [],
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    calls = []
    monkeypatch.setattr(deepseek, "watch", lambda *_, **how: calls.append(how))
    monkeypatch.setattr(logged, "read_log", lambda run: calls.append(run) or LOG)
    monkeypatch.setattr(logged, "forget", lambda run, **how: calls.append(how) or {"forgotten": 1, "unknown": []})
    return calls


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rows.csv", "--log"], "files"),
        (["--log", "--labels", "y"], "--labels"),
        (["--log", "--metric", "auc"], "--metric"),
        (["--log", "--drop", "0.1"], "--drop"),
        (["--log", "--prometheus", "watch.prom"], "--prometheus"),
        (["--log", "--notify"], "--notify"),
        (["--log", "--plugin", "mine.py"], "--plugin"),
        (["--forget", "a", "--notify"], "--notify"),
        (["--forget-older", "90d", "--drop", "0"], "--drop"),
        (["--log", "--forget", "a"], "--forget"),
        ([], "nothing to watch"),
    ],
)
def test_what_would_not_be_heeded_is_refused(asked, capsys, words, said):
    assert main(["watch", "runs/w", *words]) == 2
    assert said in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize(
    ("words", "heard"),
    [(["--log"], "runs/w"), (["--forget", "a", "--forget-older", "90d"], {"ids": ["a"], "older_s": 90 * 86_400.0})],
)
def test_the_log_is_shown_and_requests_are_taken_out(asked, words, heard):
    assert main(["watch", "runs/w", *words]) == 0
    assert asked == [heard]
