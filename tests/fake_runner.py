"""A runner without a model: doubles numbers, and dies, hangs or fails of some. It imports nothing of the house, so as to begin fast."""

import json
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import pyarrow as pa

HEAD = struct.Struct("<BQ")
READY, ANSWERS, ERROR = 0, 2, 3
POISON, DEADLY_ONCE, HANG, DATA, DEFECT, TOGETHER = -1, -2, -3, -4, -5, -6


def answer(values, folder):
    if POISON in values or (DEADLY_ONCE in values and not (folder / "dead").exists()):
        (folder / "dead").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if HANG in values:
        time.sleep(600)
    if TOGETHER in values:  # is answered only where another runner is at work at the same time
        (folder / f"at-work-{os.getpid()}").touch()
        while len(list(folder.glob("at-work-*"))) < 2:
            time.sleep(0.01)
    if DATA in values:
        return ERROR, json.dumps({"kind": "data", "message": "a value is -4", "hint": None}).encode()
    if DEFECT in values:
        return ERROR, json.dumps({"kind": "defect", "message": "Traceback\nKeyError: 'secret'"}).encode()
    sink = pa.BufferOutputStream()
    table = pa.table({"y": [2 * value for value in values], "threads": [int(os.environ["OMP_NUM_THREADS"])] * len(values)})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return ANSWERS, sink.getvalue().to_pybytes()


def received(connection, size):
    content = connection.recv(size, socket.MSG_WAITALL)
    if len(content) < size:
        raise EOFError
    return content


def send(connection, kind, content=b""):
    connection.sendall(HEAD.pack(kind, len(content)) + content)


def main():
    told = json.loads(sys.stdin.readline())
    folder, connection = Path(told["bundle"]), socket.socket(fileno=told["socket"])
    if told["backend"] == "absent":
        send(connection, ERROR, json.dumps({"kind": "bundle", "message": "there is no bundle", "hint": "make one"}).encode())
        return 2
    if told["backend"] == "broken" or (folder / "broken").exists():
        return 7
    send(connection, READY)
    try:
        while True:
            content = received(connection, HEAD.unpack(received(connection, HEAD.size))[1])
            send(connection, *answer(pa.ipc.open_stream(content).read_all()["x"].to_pylist(), folder))
    except EOFError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
