"""A real server in a process of its own: broken clients, slow ones, stopping, exchange under load, killed workers, its own description."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import psutil
import pytest
from tests.live_server import HEADERS, KEYS, PREDICT, ROW, hostile, list_reports, serving, wait_for

import deepseek


@pytest.fixture(scope="module")
def server(runs, keys, tmp_path_factory):
    settings = ["--set", "serve.read_timeout=500ms", "--max-body", "200kB"]
    with serving(runs[0], keys, tmp_path_factory.mktemp("one"), *settings) as one:
        yield one


def raw(server, *pieces, pause=0.0, patience=5.0):
    """Send bytes as they are, and return what came back until the server closed the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=patience) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
            time.sleep(pause)
        received = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                received += part
        return received


def head(length, path=PREDICT, more=""):
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {KEYS['user']}\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    ).encode()


def test_a_real_request_is_answered(server, runs):
    with server.client() as client:
        answer = client.post(PREDICT, json=ROW).json()
    assert answer["prediction"] == deepseek.load(runs[0]).predict([ROW])["prediction"][0].as_py()


def test_a_client_that_sends_its_head_byte_by_byte_is_let_go(server):
    began = time.monotonic()
    reply = raw(server, *[b"P", b"O", b"S", b"T", b" ", b"/"] * 4, pause=0.1)
    assert b"408" in reply.split(b"\r\n")[0]
    assert time.monotonic() - began < 4


def test_a_client_that_says_nothing_is_let_go(server):
    began = time.monotonic()
    assert b"408" in raw(server).split(b"\r\n")[0]
    assert time.monotonic() - began < 3


def test_a_body_that_comes_too_slowly_is_given_up(server):
    reply = raw(server, head(1000), *[b"{"] * 10, pause=0.1)
    assert b"408" in reply.split(b"\r\n")[0]
    assert b"application/problem+json" in reply


def test_endless_headers_are_cut_off(server):
    reply = raw(server, b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"a" * 300_000)
    assert b"431" in reply.split(b"\r\n")[0]


def test_what_is_no_http_gets_a_problem_document(server):
    reply = raw(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in reply


CHUNKED = b"Transfer-Encoding: chunked\r\nContent-Length: 3"
STRANGE = [
    b"GET /\xff\xfe HTTP/1.1",
    b"GET /%ff%00 HTTP/1.1",
    b"POST * HTTP/1.1",
    b"GET http:// HTTP/1.1",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1",
    b"BREW / HTTP/1.1",
    b"GET / HTTP/9.9",
    b"GET / HTTP/1.1\r\nContent-Length: -1",
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade",
    b"POST /v1/models/shop/predict HTTP/1.1\r\n" + CHUNKED,
    b"POST /v1/models/shop/predict HTTP/1.1\r\nContent-Length: 99999999999999999999999999",
]


@pytest.mark.parametrize("request_line", STRANGE, ids=range(len(STRANGE)))
def test_a_strange_request_line_is_answered_without_a_5xx(server, request_line):
    reply = raw(server, request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert reply.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4"))


def test_a_body_larger_than_it_may_be_ends_the_connection(server):
    assert b"413" in raw(server, head(10_000_000)).split(b"\r\n")[0]


def test_clients_that_leave_are_forgotten(server):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head(len(json.dumps(ROW))) + json.dumps(ROW).encode())
    with server.client() as client:
        assert client.post(PREDICT, json=ROW).status_code == 200
        wait_for(lambda: b"deepseek_requests_in_flight 1" in client.get("/metrics").content, 5)


def test_pipelined_requests_are_answered_in_order(server):
    body = json.dumps(ROW).encode()
    requests = [head(len(body), more=f"X-Request-Id: r{number}\r\n") + body for number in range(5)]
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    reply = raw(server, b"".join(requests) + last)
    assert [part.split(b'"')[0] for part in reply.split(b'"id":"')[1:]] == [b"r0", b"r1", b"r2", b"r3", b"r4"]


def test_hostile_bodies_get_an_answer_or_a_4xx(server):
    draw, statuses = random.Random(0), set()
    with server.client() as client:
        for _ in range(400):
            body, kind = hostile(draw)
            response = client.post(PREDICT, content=body, headers={"content-type": kind} if kind else {})
            statuses.add(response.status_code)
            assert response.status_code < 500, (body[:300], response.text)
            if response.status_code >= 400:
                assert response.headers["content-type"] == "application/problem+json"
                assert response.json()["detail"]
    assert statuses <= {200, 207, 400, 413, 415, 422}
    assert {200, 400, 422} <= statuses


def test_its_description_keeps_its_word(server):
    """schemathesis makes requests from the server's own OpenAPI document, right and wrong ones, and checks every response against it."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        negative_data_rejection,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance, negative_data_rejection]
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=HEADERS)
    calls = []
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    for operation in schema.get_all_operations():
        for mode in modes:
            strategy = operation.ok().as_strategy(generation_mode=mode)

            @settings(
                max_examples=25,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @__import__("hypothesis").given(case=strategy)
            def examine(case):
                case.headers.pop("X-Timeout-Ms", None)  # a deadline that passes is an answer of its own
                calls.append(case)
                case.call_and_validate(checks=checks, headers={**HEADERS})

            with contextlib.suppress(__import__("hypothesis").errors.Unsatisfiable):
                examine()
    assert len(calls) > 100


def ask_until(server, done, answers, failures):
    with server.client() as client:
        while not done.is_set():
            try:
                answers.append(client.post(PREDICT, json=ROW))
            except httpx.HTTPError as error:
                failures.append(error)


@contextlib.contextmanager
def under_load(server, clients=4):
    done, answers, failures = threading.Event(), [], []
    threads = [threading.Thread(target=ask_until, args=(server, done, answers, failures)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers, failures
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_another_bundle_takes_over_in_all_workers_and_a_killed_one_is_replaced(runs, keys, tmp_path):
    with serving(runs[0], keys, tmp_path, workers=2) as server, server.client() as client:
        with under_load(server) as (answers, failures):
            time.sleep(0.3)
            switched = client.post("/admin/models/shop/load", json={"path": str(runs[1])}).json()
            after = [client.post(PREDICT, json=ROW).json()["version"] for _ in range(20)]
            time.sleep(0.3)
        assert switched["workers"] == {"switched": 2, "of": 2}
        assert set(after) == {switched["version"]}
        assert failures == []
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.json()["version"] for answer in answers}) == 2

        victim, other = server.workers()
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(server.workers()) == 2 and victim not in server.workers(), 20, server.log)
        wait_for(lambda: len(list_reports(server)) == 2, 60, server.log)
        assert other in server.workers()
        assert {client.post(PREDICT, json=ROW).json()["version"] for _ in range(20)} == {switched["version"]}
        server_workers = server.workers()

        server.process.kill()  # nobody is left to stop the workers: they stop by themselves
        wait_for(lambda: not any(psutil.pid_exists(process) for process in server_workers), 20, server.log)


def test_a_server_that_is_told_to_stop_answers_what_it_has_accepted(runs, keys, tmp_path):
    waiting = ["--set", "serve.batching.max_wait_ms=4000"]
    with serving(runs[0], keys, tmp_path, *waiting) as server, server.client() as client:
        answers, body = [], json.dumps(ROW).encode()

        def ask():
            with server.client() as own:
                answers.append(own.post(PREDICT, json=ROW).status_code)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for(lambda: b"deepseek_requests_in_flight 9" in client.get("/metrics").content, 20, server.log)
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as late:
            client.get("/healthz")  # by now the connection is accepted as well
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            late.sendall(head(len(body)) + body)
            replied = late.recv(65536)
        status = server.process.wait(30)
        for thread in threads:
            thread.join()
        assert (answers, status) == ([200] * 8, 0)
        assert replied.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in replied
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port), timeout=2).close()


def test_what_has_no_room_is_refused_before_it_is_read(runs, keys, tmp_path):
    waiting = [
        "serve.batching.max_wait_ms=60000",
        "serve.batching.max_queue=1",
        "serve.batching.max_size=2",
        "serve.drain=1s",
        "serve.read_timeout=3s",
    ]
    options = [part for one in waiting for part in ("--set", one)]
    with serving(runs[0], keys, tmp_path, *options) as server, server.client() as client:
        body = json.dumps(ROW).encode()
        first = threading.Thread(target=lambda: answers.append(raw(server, head(len(body)) + body, *pipelined, patience=30)))
        answers, close = [], "Connection: close\r\n"
        pipelined = [head(len(body), more=f"X-Request-Id: second\r\n{close}") + body]  # waits for the first, and is not refused before it
        first.start()
        wait_for(lambda: b'deepseek_queue_rows{model="shop"} 1' in client.get("/metrics").content, 20, server.log)
        for number in range(2):  # on one connection: it is kept
            refused = client.post(PREDICT, content=b"no JSON", headers={"x-request-id": f"r{number}"})
            assert (refused.status_code, refused.headers["retry-after"], refused.headers["x-request-id"]) == (429, "1", f"r{number}")
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["request_id"] == f"r{number}"
        assert client.post("/v1/models/none/predict", json=ROW).status_code == 404
        chunked = client.post(PREDICT, content=iter([b"no ", b"JSON"]))  # of unknown length: the application reads it
        assert chunked.status_code == 400
        assert b"429" in raw(server, head(len(body), more=close) + body).split(b"\r\n")[0]
        slow = raw(server, head(1000), b"{", patience=30)  # would be refused when its body has come, which it does not
        assert b"408" in slow.split(b"\r\n")[0]
        assert b'status="429"' in client.get("/metrics").content
        server.stop()
        first.join(30)
        assert not answers[0].startswith(b"HTTP/1.1 429")


def test_sighup_takes_up_the_newest_run_of_a_name(runs, keys, tmp_path):
    folder = tmp_path / "shop"
    import shutil

    shutil.copytree(runs[0], folder / "001")
    with serving(folder, keys, tmp_path) as server, server.client() as client:
        before = client.post(PREDICT, json=ROW).json()["version"]
        shutil.copytree(runs[1], folder / "002")
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: client.post(PREDICT, json=ROW).json()["version"] != before, 20, server.log)
        assert server.process.poll() is None


def test_overload_is_refused_and_memory_stays_flat(runs, keys, tmp_path):
    settings = ["--set", "serve.batching.max_queue=64", "--set", "serve.batching.max_size=16"]
    with serving(runs[0], keys, tmp_path, *settings) as server, server.client() as client:
        process = psutil.Process(server.process.pid)
        many = [ROW] * 50

        def flood(rounds):
            statuses = []

            def ask():
                with server.client() as own:
                    statuses.extend(own.post(PREDICT, json=many).status_code for _ in range(rounds))

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return statuses

        flood(40)
        before = process.memory_info().rss
        statuses = flood(150)
        grown = process.memory_info().rss - before
        assert set(statuses) == {200, 429}
        assert client.post(PREDICT, json=many).status_code == 200
        assert grown < 12_000_000


def test_the_command_line_says_what_is_wrong(runs, tmp_path):
    def said(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "deepseek", "serve", *map(str, arguments)], check=False, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stderr

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, text = said(runs[0], "--port", taken.getsockname()[1])
    assert status == 2
    assert "cannot listen on 127.0.0.1:" in text
    assert said(tmp_path / "absent")[0] == 2
    status, text = said(runs[0], "--set", "serve.prot=1")
    assert status == 2
    assert "did you mean 'port'" in text
