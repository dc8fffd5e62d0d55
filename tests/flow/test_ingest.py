"""A real server of `deepseek ingest`, spoken to over raw sockets as Apache NiFi's InvokeHTTP speaks, killed, starved and abused."""

import contextlib
import io
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

import deepseek
from deepseek.data.sources import open_source
from deepseek.serving.intake.flowfiles import package

PATIENCE_S = 120
JSON = {"Content-Type": "application/json"}


class Running:
    """A server in a process of its own."""

    def __init__(self, folder, *options, port=0):
        self.folder = folder
        self.port = port or free_port()
        self.log = folder.parent / f"{folder.name}.log"
        command = [sys.executable, "-m", "deepseek", "ingest", str(folder), "--port", str(self.port), *options]
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file)
        wait_for(lambda: self.process.poll() is not None or self.answers(), self.log)
        assert self.process.poll() is None, self.log.read_text()

    def answers(self):
        with contextlib.suppress(OSError):
            return self.ask("GET", "/readyz")[0] == 200
        return False

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def ask(self, method, path, body=b"", headers=None, *, chunked=False):
        with self.connect() as connection:
            return exchange(connection, method, path, body, headers, chunked=chunked)

    def post(self, topic, body, headers=None, **more):
        status, answer, _ = self.ask("POST", f"/v1/ingest/{topic}", body, headers, **more)
        return status, answer

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(condition, log=None):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, log.read_text() if log else "it did not come to be"
        time.sleep(0.02)


def head_of(method, path, headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def exchange(connection, method, path, body=b"", headers=None, *, chunked=False):
    """Send one request as InvokeHTTP does, chunked or of a fixed length, and return status, JSON and headers of the response."""
    sent = {"User-Agent": "Apache NiFi", "Accept-Encoding": "gzip", **(headers or {})}
    if chunked:
        connection.sendall(head_of(method, path, {**sent, "Transfer-Encoding": "chunked"}))
        for start in range(0, len(body), 8192):
            piece = body[start : start + 8192]
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
    else:
        connection.sendall(head_of(method, path, {**sent, "Content-Length": len(body)}) + body)
    return response_of(connection)


def response_of(connection):
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError(f"closed after {received!r}")
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)):
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("closed within a body")
        body += part
    value = json.loads(body) if "json" in headers.get("content-type", "") else body.decode()
    return int(lines[0].split()[1]), value, headers


def rows_of(folder, topic):
    source = open_source({"type": "ingest", "path": str(folder), "topics": [topic]})
    return [row for batch in source.read() for row in batch.to_pylist()]


def png(shade=0, size=8):
    file = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def server(tmp_path):
    with Running(tmp_path / "in", "--set", "flush_interval=100ms", "--set", "max_pause=1s") as one:
        yield one


def test_flow_files_come_chunked_or_of_fixed_length_over_one_connection(server):
    bodies = [json.dumps([{"n": n, "pad": "x" * size}]).encode() for n, size in enumerate([1, 10_000, 300_000, 5])]
    with server.connect() as connection:
        for n, body in enumerate(bodies):
            status, answer, _ = exchange(
                connection, "POST", "/v1/ingest/flow", body, {**JSON, "uuid": f"flow-{n}", "filename": f"{n}.json"}, chunked=n % 2 == 0
            )
            assert (status, answer["id"], answer["rows"], answer["duplicate"]) == (200, f"flow-{n}", 1, False)
    assert server.stop() == 0
    rows = rows_of(server.folder, "flow")
    assert [(row["n"], len(row["pad"]), row["_id"], row["_filename"]) for row in rows] == [
        (n, size, f"flow-{n}", f"{n}.json") for n, size in enumerate([1, 10_000, 300_000, 5])
    ]


def test_headers_are_attributes_and_keys_are_none(server):
    headers = {
        "Content-Type": "image/png", "filename": "scan.png", "path": "ward/", "X-Patient-Id": "77", "Accept": "*/*",
        "X-API-Key": "not-to-be-kept", "X-Forwarded-For": "10.0.0.1", "uuid": "img-1",
    }  # fmt: skip
    assert server.post("scans", png(), headers)[0] == 200
    server.stop()
    (row,) = rows_of(server.folder, "scans")
    assert {name: row[name] for name in row if name.startswith("_") and name != "_at"} == {
        "_id": "img-1", "_filename": "scan.png", "_path": "ward/", "_patient_id": "77", "_uuid": "img-1",
    }  # fmt: skip
    assert (server.folder / "topics" / "scans" / row["image"]).read_bytes() == png()


def test_a_body_that_breaks_off_leaves_nothing_and_the_whole_one_is_stored(server):
    body = json.dumps([{"n": 1, "pad": "x" * 3_000_000}]).encode()
    for framing in ("fixed", "chunked"):
        with server.connect() as connection:
            if framing == "fixed":
                connection.sendall(head_of("POST", "/v1/ingest/cut", {**JSON, "Content-Length": len(body)}) + body[:2_500_000])
            else:
                connection.sendall(head_of("POST", "/v1/ingest/cut", {**JSON, "Transfer-Encoding": "chunked"}))
                connection.sendall(b"%x\r\n%b\r\n" % (2_500_000, body[:2_500_000]))
            wait_for(lambda: any((server.folder / "spool").iterdir()))
        wait_for(lambda: not any((server.folder / "spool").iterdir()))
        assert server.ask("GET", "/v1/ingest/cut")[0] == 404
    assert server.post("cut", body)[1]["duplicate"] is False
    assert server.post("cut", body, chunked=True)[1]["duplicate"] is True


def test_a_client_that_asks_before_it_sends_is_told_to_go_on_or_refused_unread(server):
    with server.connect() as connection:
        connection.sendall(head_of("POST", "/v1/ingest/ask", {**JSON, "Content-Length": 9, "Expect": "100-continue"}))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(b'[{"n":1}]')
        assert response_of(connection)[0] == 200
    with server.connect() as connection:
        connection.sendall(head_of("POST", "/v1/ingest/ask", {**JSON, "Content-Length": 10**12, "Expect": "100-continue"}))
        status, _, headers = response_of(connection)
        assert (status, headers["connection"]) == (413, "close")
        assert connection.recv(100) == b""


def test_a_slow_client_is_let_go(server):
    with server.connect() as connection:
        connection.sendall(head_of("POST", "/v1/ingest/slow", {**JSON, "Content-Length": 9}) + b"[")
        assert response_of(connection)[0] == 408


HOSTILE = {
    "a compressed body": (415, b"\x1f\x8b" + b"x" * 50, {**JSON, "Content-Encoding": "gzip"}),
    "no JSON": (422, b"{]", JSON),
    "deep nesting": (422, b'{"a":' * 50_000 + b"1" + b"}" * 50_000, JSON),
    "deep arrays": (422, b'[{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", JSON),
    "too many fields": (422, json.dumps({f"f{n}": n for n in range(3_000)}).encode(), JSON),
    "half a surrogate": (422, b'[{"a": "\\ud800"}]', JSON),
    "no UTF-8": (422, b'[{"a": "\xff\xfe"}]', JSON),
    "an empty body": (422, b"", JSON),
    "numbers beyond everything": (None, b'[{"a": 1e999}, {"a": 123456789012345678901234567890}]', JSON),
    "a field that is doubled": (None, b'[{"a": 1, "a": 2}]', JSON),
    "a bad CSV": (422, b"a,a\n1,2\n", {"Content-Type": "text/csv"}),
    "a binary CSV": (422, bytes(range(256)) * 20, {"Content-Type": "text/csv"}),
    "an unknown charset": (422, b"a\n1\n", {"Content-Type": "text/csv; charset=klingon"}),
    "a delimiter that is none": (422, b"a\n1\n", {"Content-Type": "text/csv; delimiter=abc"}),
    "no Arrow": (400, b"\xff\xff\xff\xff" * 10, {"Content-Type": "application/vnd.apache.arrow.stream"}),
    "no image": (422, b"GIF89a" + b"\0" * 20, {"Content-Type": "image/gif"}),
    "no flow file": (400, b"NiFiFF2" + b"\0" * 20, {"Content-Type": "application/flowfile-v3"}),
    "a flow file that breaks off": (400, package([({}, b"abc")])[:-1], {"Content-Type": "application/flowfile-v3"}),
    "a form without an end": (400, b"--x\r\n", {"Content-Type": "multipart/form-data; boundary=x"}),
    "a form of nothing": (422, b"--x--", {"Content-Type": "multipart/form-data; boundary=x"}),
    "an id that is none": (400, b"[{}]", {**JSON, "Idempotency-Key": "a b"}),
    "a long id": (400, b"[{}]", {**JSON, "uuid": "x" * 300}),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Running(tmp_path_factory.mktemp("hostile") / "in", "--set", "flush_interval=100ms") as one:
        yield one


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_bodies_get_a_4xx_or_are_kept_and_the_server_lives(shared, what):
    expected, body, headers = HOSTILE[what]
    status, answer = shared.post("hostile", body, headers)
    assert status < 500, answer
    assert expected is None or status == expected, answer
    assert str(shared.folder) not in json.dumps(answer)
    assert shared.post("after", json.dumps([{"after": what}]).encode(), JSON)[0] == 200


@pytest.mark.parametrize("path", ["/v1/ingest/..%2f..%2fetc", "/v1/ingest/.hidden", "/v1/ingest/a/b", f"/v1/ingest/{'a' * 99}"])
def test_topics_that_are_no_names_are_refused(shared, path):
    assert shared.ask("POST", path, b"[{}]", JSON)[0] == 404


def test_what_was_hostile_does_not_stop_the_parts(shared):
    assert shared.post("hostile", b'[{"a": "fine"}]', JSON)[0] == 200
    wait_for(lambda: shared.ask("GET", "/v1/ingest")[1]["waiting"] == 0)
    assert "failure" not in shared.ask("GET", "/v1/ingest")[1]
    assert any(row["a"] == "fine" for row in rows_of(shared.folder, "hostile"))


def test_too_large_is_413_and_a_full_backlog_429_until_there_is_room(tmp_path):
    with Running(tmp_path / "in", "--max-body", "100kB", "--max-backlog", "150kB", "--set", "flush_interval=3s") as server:
        big = json.dumps([{"pad": "x" * 90_000}]).encode()
        status, _, headers = server.ask("POST", "/v1/ingest/t", b"x" * 200_000, JSON)
        assert (status, headers["connection"]) == (413, "close")
        assert server.ask("POST", "/v1/ingest/t", b"x" * 200_000, JSON, chunked=True)[0] == 413
        assert server.post("t", big, {**JSON, "uuid": "one"})[0] == 200
        status, answer, headers = server.ask("POST", "/v1/ingest/t", big, {**JSON, "uuid": "two"})
        while status == 200:  # a part was written at this moment: there is room again
            status, answer, headers = server.ask("POST", "/v1/ingest/t", big, {**JSON, "uuid": str(uuid.uuid4())})
        assert (status, answer["title"], int(headers["retry-after"])) == (429, "Too Many Requests", 3)
        wait_for(lambda: server.post("t", big, {**JSON, "uuid": "three"})[0] == 200)


def test_a_disk_that_refuses_is_503_and_nothing_is_kept(tmp_path):
    with Running(tmp_path / "in", "--set", "flush_interval=1h") as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
        status, answer, headers = server.ask("POST", "/v1/ingest/t", os.urandom(4_000_000), {"Content-Type": "audio/wav"})
        assert (status, headers["retry-after"]) == (503, "30")
        assert "send the same again later" in answer["hint"]
        wait_for(lambda: not any((server.folder / "spool").iterdir()))
        assert server.post("t", b"small", {"Content-Type": "audio/wav"})[0] == 200
        assert server.ask("GET", "/v1/ingest/t")[1]["contents"] == 1


def test_another_server_is_refused_the_same_folder(server):
    done = subprocess.run(
        [sys.executable, "-m", "deepseek", "ingest", str(server.folder), "--port", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "another server writes" in done.stderr


def test_keys_are_asked_for(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-sixteen-or-more\n")
    with Running(tmp_path / "in", "--keys", str(keys)) as server:
        assert server.post("t", b"[{}]", JSON)[0] == 401
        assert server.post("t", b'[{"a":1}]', {**JSON, "Authorization": "Bearer a-key-of-sixteen-or-more"})[0] == 200


def deliver(server_of, content, rng):
    """Send one flow file until it is answered 2xx, as a NiFi flow with Retry and Failure connected back does; return the answer."""
    topic, body, headers = content
    for _ in range(1000):
        try:
            status, answer = server_of().post(topic, body, headers, chunked=rng.random() < 0.5)
        except (OSError, ConnectionError, ValueError):
            time.sleep(0.02)
            continue
        if status < 300:
            return answer
        assert status in (429, 503), answer
        time.sleep(0.05)
    raise AssertionError("it was never taken")


def test_each_content_is_there_once_however_often_the_server_is_killed(tmp_path):
    """Twenty rounds: four clients send, twice where they feel like it, while the server is killed at a random moment of each round."""
    rng = random.Random(7)
    folder, port = tmp_path / "in", free_port()
    options = ("--set", "flush_interval=50ms", "--set", "part_size=40kB")
    state = {"server": Running(folder, *options, port=port)}
    contents = []
    for n in range(400):
        name = str(uuid.UUID(int=rng.getrandbits(128)))
        if n % 4 == 0:
            contents.append(("images", png(n % 256) + n.to_bytes(4, "big"), {"Content-Type": "image/png", "uuid": name}))
        elif n % 4 == 1:
            contents.append(("records", json.dumps([{"n": n, "pad": "x" * 300_000}]).encode(), {**JSON, "uuid": name}))
        else:
            contents.append(("records", json.dumps([{"n": n}, {"n": n}]).encode(), {**JSON, "uuid": name}))
    queue, taken, failures = iter(contents), [], []
    lock = threading.Lock()

    def client(seed):
        mine = random.Random(seed)
        try:
            while True:
                with lock:
                    content = next(queue, None)
                if content is None:
                    return
                deliver(lambda: state["server"], content, mine)
                if mine.random() < 0.3:
                    deliver(lambda: state["server"], content, mine)
                with lock:
                    taken.append(content)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for round_ in range(20):
        target = min(len(contents), (round_ + 1) * len(contents) // 24)
        wait_for(lambda target=target: len(taken) >= target or failures, state["server"].log)
        time.sleep(rng.random() * 0.05)
        state["server"].kill()
        state["server"] = Running(folder, *options, port=port)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not failures
    assert state["server"].stop() == 0
    rows = rows_of(folder, "records")
    assert sorted((row["_id"], row["n"]) for row in rows) == sorted(
        (headers["uuid"], record["n"]) for topic, body, headers in contents if topic == "records" for record in json.loads(body)
    )
    images = rows_of(folder, "images")
    wanted = {headers["uuid"]: body for topic, body, headers in contents if topic == "images"}
    assert sorted(row["_id"] for row in images) == sorted(wanted)
    assert all((folder / "topics" / "images" / row["image"]).read_bytes() == wanted[row["_id"]] for row in images)
    assert not list((folder / "spool").iterdir())
    assert len(list((folder / "topics" / "images" / "blobs").rglob("*.*"))) == len(wanted)


def test_memory_stays_flat_for_a_large_streamed_body(tmp_path):
    """200 MB in chunks, as a file and as JSON Lines, through a server that holds neither."""
    with Running(tmp_path / "in", "--set", "flush_interval=100ms") as server:
        assert server.post("warm", b'{"a": 1}\n', {"Content-Type": "application/x-ndjson"})[0] == 200
        process = psutil.Process(server.process.pid)
        before, peak, done = process.memory_info().rss, 0, threading.Event()

        def watch():
            nonlocal peak
            while not done.wait(0.02):
                peak = max(peak, process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            assert stream(server, "files", {"Content-Type": "application/octet-stream"}, [os.urandom(1 << 20)] * 200)[0] == 200
            line = json.dumps({"n": 1, "text": "x" * 1000}).encode() + b"\n"
            status, answer = stream(server, "lines", {"Content-Type": "application/x-ndjson"}, [line * 1000] * 200)
            assert (status, answer["rows"]) == (200, 200_000)
            wait_for(lambda: server.ask("GET", "/v1/ingest")[1]["waiting"] == 0)
        finally:
            done.set()
            watcher.join()
        assert peak - before < 180_000_000
        assert server.stop() == 0
    assert sum(1 for _ in rows_of(tmp_path / "in", "lines")) == 200_000


def stream(server, topic, headers, pieces):
    with server.connect() as connection:
        connection.sendall(head_of("POST", f"/v1/ingest/{topic}", {**headers, "Transfer-Encoding": "chunked"}))
        for piece in pieces:
            connection.sendall(b"%x\r\n" % len(piece))
            connection.sendall(piece)
            connection.sendall(b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        return response_of(connection)[:2]


def test_from_posts_to_a_trained_model(tmp_path):
    """Records and images of patients, posted apart and out of order, joined by patient and time, trained on and predicted from."""
    rng = np.random.default_rng(0)
    with Running(tmp_path / "ward", "--set", "flush_interval=50ms") as server, server.connect() as connection:
        for n in rng.permutation(120):
            ill = int(n % 2)
            record = {"patient": int(n), "age": float(rng.normal(50, 10)), "ill": ["no", "yes"][ill], "taken": 1_700_000_000 + int(n) * 60}
            image = {"Content-Type": "image/png", "X-Patient": str(n), "X-Taken": str(record["taken"] + 5)}
            posts = [("records", json.dumps(record).encode(), JSON), ("scans", png(60 + 120 * ill + int(rng.integers(40))), image)]
            for topic, body, headers in posts if n % 3 else posts[::-1]:
                assert exchange(connection, "POST", f"/v1/ingest/{topic}", body, headers)[0] == 200
        assert exchange(connection, "POST", "/v1/ingest/scans", png(3), {**image, "X-Patient": "999"})[0] == 200
    source = {
        "type": "ingest",
        "path": "ward",
        "topics": ["records", "scans"],
        "join": {"key": "patient", "within": "10s", "time": "taken"},
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        json.dumps(
            {
                "name": "ward",
                "data": {"source": source, "target": "ill", "drop": ["patient", "taken", "_at", "scans._at"]},
                "train": {"epochs": 12, "precision": "fp32"},
            }
        )
    )
    result = deepseek.run(recipe, out=tmp_path / "runs")
    assert result.metrics["test"]["accuracy"] > 0.9
    document = json.loads((Path(result.run) / "data.json").read_text())
    assert document["schema"]
    answered = deepseek.predict(result.run, {**source, "path": str(tmp_path / "ward")}, tmp_path / "answers.csv")
    assert answered["rows"] == 120
    with Running(tmp_path / "ward", "--schema", str(result.run)) as server:  # what comes now is held against the run
        status, answer = server.post(
            "records", b'[{"patient": 1, "age": "old"}, {"patient": 1, "age": 3, "ill": "no"}, {"age": null}]', JSON
        )
        assert (status, answer["rows"], answer["errors"][0]["errors"][0]["field"]) == (207, 2, "age")
        assert server.post("scans", png(9), image)[0] == 200
