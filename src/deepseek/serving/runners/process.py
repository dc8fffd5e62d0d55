"""One process that runs a model for a worker: what ends it, a crash in foreign code or a kill, costs no request."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from deepseek.artifacts import sha256_file
from deepseek.errors import BundleError, DataError, DeepSeekError
from deepseek.inference import Predictor
from deepseek.serving.runners.channel import Channel, Kind, as_document, as_stream, read_rows

log = logging.getLogger("deepseek.serving")


def main() -> int:
    """Run as a runner of a worker, which has written what to run to standard input and keeps that open for as long as it lives."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the worker's, which first finishes what it has accepted
    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_worker, name="deepseek-lifeline", daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s[%(process)d] %(message)s")
    channel = Channel(socket.socket(fileno=told["socket"]))
    try:
        predictor = _open(told)
    except DeepSeekError as error:
        channel.send(Kind.ERROR, _told(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - plugins and backends are foreign code: their failure is the worker's to report
        channel.send(Kind.ERROR, _told(error))
        return 1
    gc.collect()
    gc.freeze()  # the model is no garbage: full collections would look through it again and again
    channel.send(Kind.READY)
    return _answer(channel, predictor)


def _open(told: dict[str, Any]) -> Predictor:
    manifest = Path(told["bundle"]) / "manifest.json"
    if not manifest.is_file() or sha256_file(manifest) != told["manifest"]:
        raise BundleError(f"{told['bundle']} is no longer the bundle that is being served", hint="load the new one by its path")
    return Predictor.load(told["bundle"], backend=told["backend"], plugins=told["plugins"], served=True)


def _answer(channel: Channel, predictor: Predictor) -> int:
    while True:
        try:
            _, content = channel.receive()
        except EOFError:
            return 0
        try:
            answers = as_stream(predictor.answer(read_rows(content)))
        except DeepSeekError as error:
            channel.send(Kind.ERROR, _told(error))
        except Exception as error:  # noqa: BLE001 - a defect of foreign code belongs to the rows that met it; the next are answered
            channel.send(Kind.ERROR, _told(error))
        else:
            channel.send(Kind.ANSWERS, answers)


def _told(error: Exception) -> bytes:
    """Return an error as the worker raises it again."""
    if not isinstance(error, DeepSeekError):
        return as_document({"kind": "defect", "message": "".join(traceback.format_exception(error))})
    kind = next((name for kind, name in ((DataError, "data"), (BundleError, "bundle")) if isinstance(error, kind)), "other")
    return as_document({"kind": kind, "message": error.message, "hint": error.hint})


def _end_with_worker() -> None:
    """End at once when the worker does, however that ended: standard input is then at its end."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
