"""A served model watched by a real Prometheus: the shipped rules fire through a real Alertmanager, every panel has something to show."""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
from tests.live_server import KEYS, serving
from tests.services.conftest import program, prometheus_with

import deepseek
import deepseek.monitoring

DASHBOARDS = Path(deepseek.monitoring.__file__).parent / "dashboards"
PREDICT, FEEDBACK = "/v1/models/shop/predict", "/v1/models/shop/feedback"
WANTED = {"ModelErrors", "ModelSlow", "ModelRefuses", "ModelColumnDrifted", "ModelColumnMissing", "ModelMetricDropped"}
MONITOR = "monitor={window: {rows: 100}, consecutive: 1, alarm: {drop: 0.05}}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    draw = np.random.default_rng(0)
    age, city = draw.normal(40, 12, 1500).round(1), draw.choice(["Rome", "Oslo", "Lima"], 1500)
    table = pa.table({"age": age, "city": city, "bought": np.where(age > 40, "yes", "no")})
    fast = ["train.max_steps=150", "train.precision=fp32", "model={type: mlp, depth: 1, width: 8}", MONITOR]
    return deepseek.train(table, target="bought", name="shop", out=tmp_path_factory.mktemp("shop"), overrides=fast).run


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"{KEYS['user']}\nadmin:{KEYS['admin']}\n")
    return file


class Hook(BaseHTTPRequestHandler):
    """Takes what the Alertmanager sends."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.fired.update((one["labels"]["alertname"], one["annotations"]["summary"]) for one in body["alerts"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def hook():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.fired = set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def in_seconds(rules):
    """The shipped rules with their minutes as seconds."""
    shorter = re.sub(r"for: \d+m", "for: 1s", rules)
    return re.sub(r"\[\d+m\]", "[15s]", shorter)


def rows(count, *, age=40.0, seed=0):
    draw = np.random.default_rng(seed)
    return [{"age": None if age is None else float(draw.normal(age, 12)), "city": "Oslo"} for _ in range(count)]


def slowly(value, seconds=1.3):
    body = json.dumps(value).encode()
    yield body[:3]
    time.sleep(seconds)
    yield body[3:]


def trouble(client):
    """One round of everything that can go wrong: drift, missing values, wrong answers, slow requests, errors, refusals."""
    answers = client.post(PREDICT, json=rows(60, age=90)).json()
    wrong = {"yes": "no", "no": "yes"}
    told = [{"id": f"{answers['id']}/{row}", "label": wrong[one["prediction"]]} for row, one in enumerate(answers["answers"])]
    assert client.post(FEEDBACK, json=told).status_code == 202
    client.post(PREDICT, json=rows(140, age=None))
    client.post(PREDICT, content=slowly(rows(1)), headers={"content-type": "application/json"})
    late = client.post(PREDICT, json=rows(400), headers={"x-timeout-ms": "1"})
    client.post(PREDICT, json={"age": "old", "city": "Oslo"})
    with ThreadPoolExecutor(6) as pool:
        many = list(pool.map(lambda seed: client.post(PREDICT, json=rows(400, seed=seed)), range(6)))
    return {one.status_code for one in (late, *many)}


def query(url, expression):
    return httpx.get(f"{url}/api/v1/query", params={"query": expression}, timeout=30).json()


def expressions():
    dashboard = json.loads((DASHBOARDS / "dashboard.json").read_text())
    return [target["expr"].replace("$model", ".*") for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_shipped_rules_fire_and_every_panel_has_something_to_show(run, keys, hook, tmp_path):
    program("prometheus", "prometheus")
    rules = in_seconds((DASHBOARDS / "alerts.yaml").read_text())
    seen = set()
    with serving(run, keys, tmp_path, "--set", "serve.batching.max_queue=500") as server:
        scraped = {"rules": rules, "scraped": server.port, "key": KEYS["user"], "alerts_to": f"http://127.0.0.1:{hook.server_port}/"}
        with prometheus_with(**scraped) as url, server.client() as client:
            # quiet at first: nothing fires of a model that answers well
            for _ in range(5):
                client.post(PREDICT, json=rows(1)).raise_for_status()
            end = time.monotonic() + 240
            while not {name for name, _ in hook.fired} >= WANTED:
                seen.update(trouble(client))
                assert time.monotonic() < end, (hook.fired, seen, server.log.read_text()[-2000:])
            assert not {name for name, _ in hook.fired} - WANTED
            summaries = dict(hook.fired)
            assert summaries["ModelMetricDropped"].startswith("accuracy of shop has dropped")
            assert "shop" in summaries["ModelErrors"]
            names = set(httpx.get(f"{url}/api/v1/label/__name__/values", timeout=30).json()["data"])
            shown = 0
            for expression in expressions():
                found = query(url, expression)
                assert found["status"] == "success", (expression, found)
                if set(re.findall(r"deepseek_\w+", expression)) <= names:
                    assert found["data"]["result"], expression
                    shown += 1
            assert shown > 30
    assert {200, 429, 504} <= seen
