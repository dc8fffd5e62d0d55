"""A real server in a process of its own, for whoever wants to ask one."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow as pa

import deepseek

KEYS = {"user": "a-key-of-sixteen-or-more", "admin": "an-admin-key-of-sixteen"}
ROW = {"age": 41.5, "city": "Oslo"}
PREDICT = "/v1/models/shop/predict"
HEADERS = {"authorization": f"Bearer {KEYS['admin']}"}


def train(folder, seed):
    draw = np.random.default_rng(seed)
    age, city = draw.normal(40, 12, 200).round(1), draw.choice(["Rome", "Oslo", "Lima"], 200)
    table = pa.table({"age": age, "city": city, "bought": np.where(age > 40, "yes", "no")})
    fast = ["train.max_steps=20", "train.precision=fp32", "model={type: mlp, depth: 1, width: 8}"]
    return deepseek.train(table, target="bought", name="shop", out=folder, overrides=fast).run


class Running:
    def __init__(self, process, port, log):
        self.process, self.port, self.log = process, port, log
        self.url = f"http://127.0.0.1:{port}"

    def client(self):
        return httpx.Client(base_url=self.url, headers=HEADERS, timeout=30)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def workers(self):
        living = [child for child in psutil.Process(self.process.pid).children() if child.status() != psutil.STATUS_ZOMBIE]
        return [child.pid for child in living if "deepseek.serving.worker" in child.cmdline()]


@contextlib.contextmanager
def serving(run, keys, folder, *options, workers=1):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    log = Path(folder) / "server.log"
    command = [
        sys.executable,
        "-m",
        "deepseek",
        "serve",
        f"shop={run}",
        "--port",
        str(port),
        "--keys",
        str(keys),
        "--workers",
        str(workers),
        "--no-optimize",
    ]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, *options], stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})
    server = Running(process, port, log)
    try:
        wait_for(lambda: process.poll() is None and ready(server), 300, log)
        wait_for(lambda: workers == 1 or len(list_reports(server)) == workers, 300, log)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def list_reports(server):
    with server.client() as client:
        info = [line for line in client.get("/metrics").text.splitlines() if line.startswith("deepseek_workers ")]
    return range(int(float(info[0].rsplit(" ", 1)[1]))) if info else []


def ready(server):
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{server.url}/readyz", timeout=2).status_code == 200
    return False


def wait_for(condition, seconds, log=None):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, log.read_text() if log else "it did not come to be"
        time.sleep(0.05)


def hostile(draw):
    """One body that means no good."""
    value = draw.choice([
        "NaN", "Infinity", "-Infinity", "1e999", "-1e-999", "9" * 5000, "-" + "9" * 400, "[" * 900 + "]" * 900, "{" * 2000,
        "null", "true",
        '"' + "x" * 50_000 + '"', '"\\u0000"', '"\\ud800"', '{"$ref": "#"}', '{"__proto__": 1}',
        "0x10", "1_000", "'a'", "[1,]", '"../../etc/passwd"',
    ])  # fmt: skip
    shape = draw.choice(
        [
            '{"age": %s, "city": "a"}',
            '{"age": 1, "city": %s}',
            "[%s]",
            '{"rows": %s}',
            "%s",
            '{"age": %s',
            "{%s: 1}",
            '[{"age": 1, "city": %s}, 3]',
        ]
    )
    body = bytearray((shape % value).encode())
    for _ in range(draw.choice([0, 0, 1, 3])):
        if body:
            body[draw.randrange(len(body))] = draw.randrange(256)
    kind = draw.choice(
        ["application/json"] * 6 + ["application/vnd.apache.arrow.stream", "multipart/form-data; boundary=x", "text/csv", ""]
    )
    return bytes(body), kind
