"""Twenty thousand bodies that mean no good, straight into the application: an answer or a 4xx for each, and none hangs."""

import asyncio
import json
import random

import numpy as np
import pyarrow as pa

import deepseek
from deepseek import serving

REQUESTS = 20_000
VALUES = [
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e-999", b"9" * 400, b"-" + b"9" * 30, b"[" * 900 + b"]" * 900, b"{" * 500, b"null",
    b"true", b'"' + b"x" * 5_000 + b'"', b'"\\u0000"', b'"\\ud800"', b'{"$ref": "#"}', b'{"__proto__": 1}', b"0x10", b"1_000", b"'a'",
    b"[1,]",
    b'"../../etc/passwd"', b'"2020-02-30"', b'"\xff"', b"1e38", b"3.5e38", b"-0", b"0.1", b'"Oslo"', b"[]", b"{}", b'""',
    b"18446744073709551616",
]  # fmt: skip
SHAPES = [
    b'{"age": %s, "city": "a", "since": null}',
    b'{"age": 1, "city": %s, "since": %s}',
    b"[%s]",
    b'{"rows": %s}',
    b'{"rows": [%s, %s]}',
    b"%s",
    b'{"age": %s',
    b"{%s: 1}",
]
TYPES = (
    [b"application/json"] * 6
    + [b"application/vnd.apache.arrow.stream"] * 2
    + [b"multipart/form-data; boundary=x", b"multipart/form-data", b"text/csv"]
)


def stream():
    sink = pa.BufferOutputStream()
    table = pa.table({"age": [1.0, 2.0], "city": ["a", "b"], "since": pa.array([0, 1], pa.timestamp("us"))})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def body_of(draw, kind, arrow):
    if kind.endswith(b"stream"):
        body = bytearray(arrow)
    elif kind.startswith(b"multipart"):
        body = bytearray(b'--x\r\nContent-Disposition: form-data; name="age"\r\n\r\n%s\r\n--x--\r\n' % draw.choice(VALUES))
    else:
        shape = draw.choice(SHAPES)
        body = bytearray(shape.replace(b"%s", b"\0").replace(b"\0", draw.choice(VALUES)))
    for _ in range(draw.choice([0, 0, 1, 2, 8])):
        if body:
            body[draw.randrange(len(body))] = draw.randrange(256)
    return bytes(body[: draw.randrange(len(body) + 1)] if draw.random() < 0.1 else body)


async def ask(app, body, headers):
    messages, sent = [{"type": "http.request", "body": body, "more_body": False}], []

    async def receive():
        return messages.pop() if messages else await asyncio.sleep(60, {"type": "http.disconnect"})

    async def send(message):
        sent.append(message)

    async with asyncio.timeout(20):
        await app({"type": "http", "method": "POST", "path": "/v1/models/shop/predict", "headers": headers}, receive, send)
    return sent[0]["status"], sent[1]["body"]


def test_no_body_brings_the_server_down(tmp_path):
    random_state = np.random.default_rng(0)
    age, since = random_state.normal(40, 9, 200), np.datetime64("2020-01-01", "us") + random_state.integers(0, 10**9, 200) * 1_000_000
    table = pa.table(
        {"age": age, "city": random_state.choice(["a", "b"], 200), "since": pa.array(since), "y": np.where(age > 40, "u", "v")}
    )
    run = deepseek.train(table, target="y", name="shop", out=tmp_path, overrides=["train.max_steps=2", "train.precision=fp32"]).run
    app, draw, arrow, statuses = serving.make_app(run), random.Random(0), stream(), {}

    async def main():
        for _ in range(REQUESTS):
            kind = draw.choice(TYPES)
            headers = [
                (b"content-type", kind),
                *([(b"x-timeout-ms", draw.choice([b"1e3", b"-1", b"\xff", b"20000"]))] if draw.random() < 0.1 else []),
            ]
            body = body_of(draw, kind, arrow)
            status, reply = await ask(app, body, headers)
            assert status < 500, (body[:300], reply)
            assert status < 400 or json.loads(reply)["detail"]
            statuses[status] = statuses.get(status, 0) + 1

    asyncio.run(main())
    assert {200, 207, 400, 415, 422} <= set(statuses)
