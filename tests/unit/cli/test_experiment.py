"""`deepseek experiment`: what it asks of a server, and what it prints."""

import json

import pytest

from deepseek.cli import main
from deepseek.serving import client

STATUS = {
    "id": "0a1b2c3d", "model": "shop", "state": "running", "outcome": None, "metric": "accuracy",
    "arms": [
        {"name": "champion", "version": "001-a", "role": "champion", "share": 0.9},
        {"name": "candidate", "version": "002-b", "role": "challenger", "share": 0.1},
    ],
    "results": {
        "arms": {"candidate": {"rows": 1200, "outcomes": 400, "value": {"value": 0.91}, "seconds": {"p99": 0.0123}}},
        "verdict": "candidate: no difference yet.",
    },
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def ask(self, method, path, body=None, headers=None):
        calls.append((self.url, self._key, method, path, body))
        if method == "GET" or path.endswith("/experiment"):
            return STATUS
        return {"model": "shop", "version": "002-b", "workers": {"switched": 2, "of": 2}}

    monkeypatch.setattr(client.Client, "_ask", ask)
    return calls


def test_start_says_what_is_wanted(asked, capsys):
    options = [
        "--share",
        "0.1",
        "--key-field",
        "customer_id",
        "--metric",
        "accuracy",
        "--guard",
        "--set",
        "min_outcomes=50",
        "--key",
        "secret",
    ]
    assert main(["experiment", "start", "shop", "--arm", "candidate=runs/shop/002", "--server", "http://models:80", *options]) == 0
    settings = {"share": 0.1, "key_field": "customer_id", "metric": "accuracy", "guard": {}, "min_outcomes": 50}
    body = {"arms": {"candidate": "runs/shop/002"}, **settings}
    assert asked == [("http://models:80", "secret", "POST", "/admin/models/shop/experiment", body)]
    assert "experiment 0a1b2c3d on shop: running, by accuracy" in capsys.readouterr().out


def test_a_changed_share_claims_no_counts(asked, capsys, monkeypatch):
    changed = {name: value for name, value in STATUS.items() if name != "results"}
    monkeypatch.setattr(client.Client, "_ask", lambda *_: changed)
    assert main(["experiment", "share", "shop", "--share", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "candidate  002-b    challenger  10.0%\n" in printed
    assert "rows" not in printed


def test_status_is_a_table_with_the_verdict(asked, capsys, monkeypatch):
    monkeypatch.setenv("DEEPSEEK_KEY", "from-the-environment")
    assert main(["experiment", "status", "shop"]) == 0
    printed = capsys.readouterr().out
    assert asked[0][:3] == ("http://127.0.0.1:8000", "from-the-environment", "GET")
    assert printed.splitlines()[-1] == "candidate: no difference yet."
    assert [word for line in printed.splitlines() if line.startswith("candidate ") for word in line.split()] == [
        "candidate", "002-b", "challenger", "10.0%", "1,200", "400", "0.9100", "12.3", "ms",
    ]  # fmt: skip
    assert main(["experiment", "status", "shop", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"]["verdict"] == STATUS["results"]["verdict"]


@pytest.mark.parametrize(
    ("words", "path", "body"),
    [
        (["share", "shop", "--share", "0.5"], "experiment/share", {"share": 0.5}),
        (["promote", "shop", "--arm", "candidate"], "promote", {"arm": "candidate"}),
        (["rollback", "shop"], "rollback", {}),
        (["stop", "shop"], "experiment/stop", {}),
    ],
)
def test_each_action_asks_its_address(asked, capsys, words, path, body):
    assert main(["experiment", *words]) == 0
    assert asked[0][3:] == (f"/admin/models/shop/{path}", body)
    assert "shop is 002-b (2 of 2 workers)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["start", "shop"],
        ["start", "shop", "--arm", "runs/shop/002"],
        ["share", "shop"],
        ["promote", "shop", "--arm", "a=b"],
        ["begin", "shop"],
        ["status", "shop", "--guard"],
        ["stop", "shop", "--share", "0.5"],
        ["promote", "shop", "--set", "alpha=0.1"],
    ],
)
def test_what_is_not_said_rightly_is_an_error(asked, capsys, words):
    assert main(["experiment", *words]) == 2
    assert asked == []
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("refused", "status", "said"),
    [
        (422, 2, "as the server says"),
        (404, 2, "as the server says"),
        (401, 2, "as the server says"),
        (409, 1, "as the server says"),
        (0, 1, "as the server says"),
    ],
)
def test_what_the_server_finds_wrong_ends_as_what_is_found_wrong_here(monkeypatch, capsys, refused, status, said):
    def ask(self, method, path, body=None, headers=None):
        raise client.ServerError("share: must be at most 1.0", hint="as the server says", status=refused)

    monkeypatch.setattr(client.Client, "_ask", ask)
    assert main(["experiment", "share", "shop", "--share", "2"]) == status
    error = capsys.readouterr().err
    assert "must be at most 1.0" in error
    assert said in error
