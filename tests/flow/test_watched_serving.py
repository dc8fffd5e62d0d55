"""A real server that watches its models: what was answered and told is in the log, whoever was killed on the way, and on `/metrics`."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from tests.live_server import HEADERS, KEYS, PREDICT, ROW, hostile, serving, train, wait_for

from deepseek.monitoring import Watcher, open_store

WATCH = ["--watch", "--set", "serve.drain=5m"]
FEEDBACK = "/v1/models/shop/feedback"
PATIENCE_S = 300
"""A machine that is busy with other things is very slow; what is waited for comes in seconds elsewhere."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return [train(folder, seed) for seed in (0, 1)]


@pytest.fixture
def runs(trained, tmp_path):
    """Two runs of one name, without a log yet."""
    shutil.copytree(trained[0].parent, tmp_path / "shop")
    return [tmp_path / "shop" / run.name for run in trained]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"{KEYS['user']}\nadmin:{KEYS['admin']}\n")
    return file


def stopped(server):
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(PATIENCE_S)


def recorder_of(server):
    for child in psutil.Process(server.process.pid).children():
        if child.status() != psutil.STATUS_ZOMBIE and "deepseek.serving.recorder.process" in child.cmdline():
            return child
    return None


def figures(client):
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))}


def figure(client, name, *parts):
    return sum(value for key, value in figures(client).items() if key.startswith(name) and all(part in key for part in parts))


def logged(run):
    with open_store(run) as store:
        return store.counts()


def ids_in(run):
    with open_store(run) as store:
        return [one.id for one in store.requests()]


def test_nothing_that_was_acknowledged_is_lost_and_nothing_counts_twice(runs, keys, tmp_path):
    """Workers and the recorder are killed under load; then the server stops, and the log holds all that it has to hold, once."""
    draw, told = random.Random(0), []
    with serving(runs[0], keys, tmp_path, *WATCH, workers=2) as server:

        def ask(number):
            name = f"ask-{number}"
            try:
                with server.client() as client:
                    client.post(PREDICT, json=[ROW] * 3, headers={"x-request-id": name}).raise_for_status()
                    outcomes = [{"id": f"{name}/{row}", "label": draw.choice(["yes", "no"])} for row in range(3)]
                    client.post(FEEDBACK, json=outcomes).raise_for_status()
                    told.extend(one["id"] for one in outcomes)
            except httpx.HTTPError:  # its worker was killed: it was told nothing
                return

        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, number) for number in range(60)]
            wait_for(lambda: len(told) > 30, PATIENCE_S)
            recorder_of(server).kill()
            wait_for(lambda: len(told) > 60, PATIENCE_S)
            os.kill(server.workers()[0], signal.SIGKILL)
            for one in asked:
                one.result(PATIENCE_S)
        wait_for(lambda: recorder_of(server) is not None, PATIENCE_S)
        with server.client() as client:
            wait_for(lambda: figure(client, "deepseek_monitor_labels_total", 'model="shop"') >= len(told) - 6, PATIENCE_S, server.log)
        recorder_of(server).kill()
        ask(1000)
        assert stopped(server) == 0, server.log.read_text()
    assert "ask-1000/0" in told
    watcher = Watcher.open(runs[0])
    found = watcher.check(now_too=False)
    watcher.store.close()
    counts = logged(runs[0])
    with open_store(runs[0]) as store:
        labels = [name for (name,) in store._query("SELECT id FROM deepseek_labels")]
    assert set(told) <= set(labels)
    # what a worker had answered and not written yet when it was killed is lost to the log, and only that
    missing = set(told) - set(ids_in(runs[0]))
    assert len(missing) <= 6
    assert len(ids_in(runs[0])) == len(set(ids_in(runs[0])))
    assert counts["outcomes"] == len(set(labels) & set(ids_in(runs[0])))
    assert found["performance"]["labels"] == counts["outcomes"]


def test_one_worker_has_a_recorder_too_which_stops_last_and_is_replaced(runs, keys, tmp_path):
    with serving(runs[0], keys, tmp_path, *WATCH) as server, server.client() as client:
        first = recorder_of(server)
        first.kill()
        wait_for(lambda: recorder_of(server) not in (None, first), PATIENCE_S, server.log)
        for _ in range(20):
            client.post(PREDICT, json=ROW).raise_for_status()
        answer = client.post(PREDICT, json=ROW).json()
        assert client.post(FEEDBACK, json={"id": answer["id"], "label": "yes"}).status_code == 202
        assert stopped(server) == 0, server.log.read_text()
    assert logged(runs[0]) == {"requests": 21, "labels": 1, "outcomes": 1}


def test_another_bundle_has_its_own_watch_and_old_answers_keep_theirs(runs, keys, tmp_path):
    with serving(runs[0], keys, tmp_path, *WATCH) as server, server.client() as client:
        old = client.post(PREDICT, json=ROW).json()
        client.post("/admin/models/shop/load", json={"path": str(runs[1])}).raise_for_status()
        new = client.post(PREDICT, json=[ROW, ROW]).json()
        assert old["version"] != new["version"]
        entries = [{"id": old["id"], "label": "no"}, {"id": f"{new['id']}/1", "label": "yes"}]
        assert client.post(FEEDBACK, json=entries).json() == {"accepted": 2}
        wait_for(lambda: figure(client, "deepseek_monitor_rows_total", f'version="{new["version"]}"') == 2, PATIENCE_S, server.log)
        assert stopped(server) == 0, server.log.read_text()
    assert logged(runs[0]) == {"requests": 1, "labels": 1, "outcomes": 1}
    assert logged(runs[1]) == {"requests": 2, "labels": 1, "outcomes": 1}


def test_a_server_without_a_watch_keeps_no_record(runs, keys, tmp_path):
    with serving(runs[0], keys, tmp_path) as server, server.client() as client:
        client.post(PREDICT, json=ROW).raise_for_status()
        response = client.post(FEEDBACK, json={"id": "a", "label": "yes"})
        assert response.status_code == 409
        assert "--watch" in response.json()["hint"]
        assert FEEDBACK not in client.get("/openapi.json").json()["paths"]
        assert recorder_of(server) is None
    assert not (runs[0].parent / ".serve").exists()
    assert not (runs[0] / "monitor.db").exists()


def test_two_servers_do_not_share_a_folder_and_the_next_one_reads_what_was_left(runs, keys, tmp_path):
    folder = runs[0].parent / ".serve" / "shop"
    with serving(runs[0], keys, tmp_path, *WATCH) as server, server.client() as client:
        command = [sys.executable, "-m", "deepseek", "serve", f"shop={runs[0]}", "--port", "0", "--watch"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert done.returncode == 2
        assert f"another server has the folder {folder}" in done.stderr
        assert "--state" in done.stderr
        os.kill(recorder_of(server).pid, signal.SIGSTOP)  # it lives, and reads nothing
        client.post(PREDICT, json=ROW, headers={"x-request-id": "late"}).raise_for_status()
        assert client.post(FEEDBACK, json={"id": "late", "label": "no"}).status_code == 202
        stopped = recorder_of(server)
        server.process.kill()
        server.process.wait()
        stopped.kill()
    assert list((folder / "journal").glob("*.journal"))
    with serving(runs[0], keys, tmp_path, *WATCH) as server:
        wait_for(lambda: logged(runs[0])["outcomes"] == 1, PATIENCE_S, server.log)


def test_hostile_feedback_gets_an_answer_or_a_4xx(runs, keys, tmp_path):
    draw, statuses = random.Random(1), set()
    shapes = [
        b'{"id": "a", "label": %s}',
        b'[{"id": %s, "label": "yes"}]',
        b'{"id": "a", "reward": %s}',
        b'{"id": "a", "label": "yes"}',
        b"%s",
    ]
    with serving(runs[0], keys, tmp_path, *WATCH, "--max-body", "200kB") as server, server.client() as client:
        for number in range(300):
            body, kind = hostile(draw)
            if number % 2:
                shape = draw.choice(shapes)
                body = shape.replace(b"%s", body[:20_000])
            response = client.post(FEEDBACK, content=body, headers={"content-type": kind} if kind else {})
            statuses.add(response.status_code)
            assert response.status_code < 500, (body[:300], response.text)
            if response.status_code >= 400:
                assert response.json()["detail"]
        assert statuses <= {202, 400, 413, 422}
        assert {202, 400, 422} <= statuses
        accepted = figure(client, "deepseek_feedback_total", 'outcome="accepted"')
        assert stopped(server) == 0
    with open_store(runs[0]) as store:
        assert 0 < store.counts()["labels"] <= accepted


def test_its_description_keeps_its_word(runs, keys, tmp_path):
    schemathesis = pytest.importorskip("schemathesis")
    import hypothesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import negative_data_rejection, response_schema_conformance, status_code_conformance

    checks, calls = [not_a_server_error, status_code_conformance, response_schema_conformance, negative_data_rejection], []
    with serving(runs[0], keys, tmp_path, *WATCH) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=HEADERS)
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            strategy = schema[FEEDBACK]["POST"].as_strategy(generation_mode=mode)

            @hypothesis.settings(
                max_examples=40, deadline=None, database=None, derandomize=True, phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )  # fmt: skip
            @hypothesis.given(case=strategy)
            def examine(case):
                response = case.call_and_validate(checks=checks, headers={**HEADERS})
                calls.append(response.status_code)

            examine()
    assert 202 in calls
    assert 422 in calls


def test_what_cannot_be_watched_is_said_before_the_server_begins(runs, tmp_path):
    (tmp_path / "no" / "where").mkdir(parents=True)
    recipe = runs[0] / "recipe.yaml"
    recipe.write_text(recipe.read_text() + f"\nmonitor: {json.dumps({'store': 'oracle://nowhere'})}\n")
    command = [sys.executable, "-m", "deepseek", "serve", str(runs[0]), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert "oracle" in done.stderr or "database" in done.stderr
