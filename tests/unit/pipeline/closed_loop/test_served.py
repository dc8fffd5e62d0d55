"""The loop's calls, against a small server that keeps the routes' contract."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from deepseek.errors import InputError, RunError
from deepseek.pipeline.closed_loop.served import RefusedError, ServedDeployment, served
from deepseek.serving.client import Client

CANDIDATE = Path("/data/runs/churn/003")


class Fake:
    """One model at `001`; its experiment, as far as the loop goes."""

    def __init__(self):
        self.version, self.experiment, self.calls, self.answer = "001", None, [], None
        self.results = {}

    def route(self, method, path, body):
        self.calls.append((method, path, body))
        if self.answer is not None:
            return self.answer
        if path.startswith("/v1/models/") and path != "/v1/models/churn":
            return 404, {"detail": f"there is no model {path.rpartition('/')[2]!r}"}
        if path == "/v1/models/churn":
            return 200, {"name": "churn", "version": f"{self.version}-0123456789ab"}
        tail = path.removeprefix("/admin/models/churn/")
        if (method, tail) == ("GET", "experiment"):
            return (404, {}) if self.experiment is None else (200, {**self.experiment, "results": self.results})
        if tail == "experiment":
            if self.experiment is not None and self.experiment["ended_at"] is None:
                return 409, {"error": "an experiment runs on this model"}
            ((name, where),) = body["arms"].items()
            arm = {"name": name, "path": f"{where}/bundle", "role": body["role"], "share": body.get("share", 0.0)}
            self.experiment = {"id": "e1", "ended_at": None, "arms": [{"name": "champion", "path": "x", "role": "champion"}, arm]}
        elif tail == "experiment/share":
            self.experiment["arms"][1] |= {"role": "challenger", "share": body["share"]}
        elif tail == "promote":
            self.version = Path(self.experiment["arms"][1]["path"]).parts[-2]
            self.experiment["ended_at"] = 1.0
        elif tail == "load":
            self.version = Path(body["path"]).name
        elif tail == "rollback":
            if self.experiment is not None and self.experiment["ended_at"] is None:
                self.experiment["ended_at"] = 1.0
            else:
                self.version = "001"
        else:
            return 404, {}
        return 200, {}


@pytest.fixture
def fake():
    one = Fake()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, value = (
                (401, {"detail": "the key is not right"})
                if self.headers["Authorization"] != "Bearer right"
                else one.route(self.command, self.path, body)
            )
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = handle_any  # noqa: N815

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    one.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield one
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def deployment(fake):
    return ServedDeployment(Client(fake.url, "right"), "churn", metric="accuracy", alpha=0.05)


def test_from_shadow_to_canary_to_promoted(fake, deployment):
    assert deployment.status().stage == "none"
    deployment.shadow(CANDIDATE)
    found = deployment.status()
    assert (found.current, found.stage, found.candidate) == ("001", "shadow", "003")
    deployment.share(CANDIDATE, 0.1)
    assert deployment.status().stage == "canary"
    assert fake.experiment["arms"][1]["share"] == 0.1
    deployment.promote(CANDIDATE)
    found = deployment.status()
    assert (found.current, found.stage) == ("003", "none")
    deployment.rollback()
    assert deployment.status().current == "001"


def test_what_was_counted_and_found(fake, deployment):
    deployment.share(CANDIDATE, 0.2)  # without a shadow before
    fake.results = {"arms": {"candidate": {"rows": 70, "failed_rows": 2, "outcomes": 60}}, "comparisons": {"candidate": {"state": "early"}}}
    found = deployment.status()
    assert (found.rows, found.failures, found.outcomes, found.worse, found.better) == (70, 2, 60, None, None)
    for state in ("worse", "better"):
        fake.results["comparisons"]["candidate"] = {"state": state, "verdict": f"candidate is {state} by 0.1"}
        assert getattr(deployment.status(), state) == f"candidate is {state} by 0.1"


def test_every_call_may_come_twice(fake, deployment):
    for _ in range(2):
        deployment.shadow(CANDIDATE)
    for _ in range(2):
        deployment.share(CANDIDATE, 0.1)
    for _ in range(2):
        deployment.promote(CANDIDATE)
    posted = [path.rpartition("/")[2] for method, path, _ in fake.calls if method == "POST"]
    assert posted == ["experiment", "share", "share", "promote"]


def test_without_stages_the_bundle_is_loaded(fake, deployment):
    deployment.promote(CANDIDATE)
    assert fake.version == "003"


def test_an_experiment_of_somebody_else_is_waited_for(fake, deployment):
    arms = [{"name": "champion"}, {"name": "theirs", "path": "/data/runs/other/002/bundle", "role": "challenger"}]
    fake.experiment = {"id": "e0", "ended_at": None, "arms": arms}
    assert deployment.status().stage == "none"
    with pytest.raises(RunError, match="not the loop's"):
        deployment.shadow(CANDIDATE)


@pytest.mark.parametrize(("status", "kind"), [(409, RunError), (503, RunError), (429, RunError), (422, RefusedError), (403, RefusedError)])
def test_what_may_go_later_is_told_from_what_never_goes(fake, deployment, status, kind):
    fake.answer = (status, {"detail": f"no, {status}"})
    with pytest.raises(kind, match=str(status)):
        deployment.rollback()


def test_a_wrong_key_or_name_is_told_at_once(fake):
    then = SimpleNamespace(alpha=0.05)
    champion = SimpleNamespace(path=Path("/data/runs/churn/001"), metric="auc", then=then)
    with pytest.raises(RefusedError, match="key is not right"):
        served(fake.url, "wrong", None)(champion)
    with pytest.raises(RefusedError, match="no model 'other'"):
        served(fake.url, "right", "other")(champion)
    assert served(fake.url, "right", None)(champion).status().current == "001"
    with pytest.raises(InputError, match="address is 'ftp"):
        served("ftp://example.org", None, None)


def test_a_server_that_is_away_may_come_back():
    champion = SimpleNamespace(path=Path("/data/runs/churn/001"), metric="accuracy", then=SimpleNamespace(alpha=0.05))
    deployment = served("http://127.0.0.1:1", None, None)(champion)
    with pytest.raises(RunError, match="cannot be reached"):
        deployment.status()
