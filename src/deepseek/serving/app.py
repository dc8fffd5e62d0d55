"""The ASGI application: addresses, checks, answers. No framework stands between the socket and the model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import orjson
import pyarrow as pa

from deepseek.errors import DataError, DeepSeekError
from deepseek.recipe.sections import ServeSection
from deepseek.serving import metrics as prometheus
from deepseek.serving.forms import read_form
from deepseek.serving.http import Receive, Request, Scope, Send
from deepseek.serving.keys import Keys
from deepseek.serving.metrics import Metrics
from deepseek.serving.models import Models, ServedModel
from deepseek.serving.observers import Observers
from deepseek.serving.openapi import document
from deepseek.serving.page import page, policy
from deepseek.serving.problems import ClientGoneError, RefusedError, RowsLostError
from deepseek.serving.rows import Rows

log = logging.getLogger("deepseek.serving")

ARROW = b"application/vnd.apache.arrow.stream"
LARGE_BODY = 64 * 1024
"""Bodies beyond are read in a thread: the event loop would stand still for longer than a millisecond."""

MANY_ROWS = 256
"""More answers are written in a thread, for the same reason."""
DETAILED_ROWS = 100
"""So many bad rows of a request are explained field by field, the others in one sentence: to explain takes more bytes than to be wrong."""
TOLD_ERRORS = 3
_MODELS, _PREDICT = b"/v1/models/", b"/predict"

Handler = Callable[[Request, str], Awaitable[None]]


class App:
    """Serves models over HTTP, as an ASGI application.

    Args:
        models: The models.
        settings: Sizes and times.
        keys: What clients have to show.
        metrics: Where requests are counted.
        observers: Who is told of answers.

    Attributes:
        draining: Whether no new work is wanted: readiness then says no.
    """

    def __init__(self, models: Models, settings: ServeSection, *, keys: Keys, metrics: Metrics, observers: Observers) -> None:
        self.models, self.settings, self.keys, self.metrics, self.observers = models, settings, keys, metrics, observers
        self.draining = False
        self.load: Callable[[str, str], Awaitable[dict[str, Any]]] = self._load
        self._in_flight = metrics.cell("deepseek_requests_in_flight")
        self._routes: dict[tuple[str, ...], dict[str, Handler]] = {
            ("",): {"GET": self._page},
            ("healthz",): {"GET": self._health},
            ("readyz",): {"GET": self._ready},
            ("metrics",): {"GET": self._metrics},
            ("openapi.json",): {"GET": self._openapi},
            ("v1", "models"): {"GET": self._list},
            ("v1", "models", "*"): {"GET": self._describe},
            ("v1", "models", "*", "predict"): {"POST": self._predict},
            ("admin", "models", "*", "load"): {"POST": self._admin_load},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve(Request(scope, receive, send))
        else:
            await send({"type": "websocket.close"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    async def close(self) -> None:
        """Answer what was accepted, tell observers of it, and let go of the models."""
        self.draining = True
        await self.models.close()
        await asyncio.get_running_loop().run_in_executor(None, self.observers.close)

    async def _serve(self, request: Request) -> None:
        self._in_flight.add()
        endpoint = "unknown"
        try:
            handler, endpoint, name = self._route(request)
            await handler(request, name)
        except RefusedError as refused:
            await request.refuse(refused)
        except ClientGoneError:
            request.status = 499
        except DeepSeekError as error:
            await request.refuse(RefusedError(422, error.message, hint=error.hint))
        except Exception:  # the edge of the process: a defect becomes a 500 and a traceback in the log, and serving goes on
            log.exception("request %s failed", request.id)
            await request.refuse(RefusedError(500, "the server failed to answer this request; its log says why"))
        finally:
            self._in_flight.add(-1)
            labels = {"model": request.model, "endpoint": endpoint, "status": str(request.status)}
            self.metrics.cell("deepseek_requests_total", **labels).add()
            if endpoint == "predict" and request.model:
                seconds = asyncio.get_running_loop().time() - request.began
                self.metrics.histogram("deepseek_request_seconds", model=request.model).observe(seconds)

    def shed(self, path: bytes) -> RefusedError | None:
        """Return why a prediction is refused before its body is looked at: its model's queue is full; nothing where it has room.

        To refuse must be far cheaper than to answer: else a server that is asked for ten times what it can do has no time left for that.

        Args:
            path: The path as it came.
        """
        if not (path.startswith(_MODELS) and path.endswith(_PREDICT)):
            return None
        model = self.models.find(path[len(_MODELS) : -len(_PREDICT)].decode("latin-1"))
        refused = None if model is None else model.batcher.full
        if refused is not None and model is not None:
            self.metrics.cell("deepseek_requests_total", model=model.name, endpoint="predict", status=str(refused.status)).add()
        return refused

    def _route(self, request: Request) -> tuple[Handler, str, str]:
        parts = tuple(request.path.strip("/").split("/"))
        name = parts[2] if len(parts) > 2 else ""
        pattern = (*parts[:2], "*", *parts[3:]) if len(parts) > 2 else parts
        methods = self._routes.get(pattern)
        if methods is None:
            raise RefusedError(404, f"there is nothing at {request.path[:200]!r}", hint="see /openapi.json")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise RefusedError(405, f"{request.method} is not allowed here", headers={"Allow": ", ".join(methods)})
        return handler, pattern[-1] if pattern[-1] != "*" else "model", unquote(name)

    async def _page(self, request: Request, _: str) -> None:
        headers = [(b"content-security-policy", policy().encode()), (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY")]
        await request.answer(200, page(needs_key=bool(self.keys)), b"text/html; charset=utf-8", headers=headers)

    async def _health(self, request: Request, _: str) -> None:
        await request.answer_json(200, {"status": "alive"})

    async def _ready(self, request: Request, _: str) -> None:
        if self.draining:
            raise RefusedError(503, "the server is stopping", headers={"Retry-After": "1"})
        await request.answer_json(200, {"status": "ready", "models": {model.name: model.version for model in self.models.all()}})

    async def _metrics(self, request: Request, _: str) -> None:
        self.keys.require(request.headers)
        text = await asyncio.get_running_loop().run_in_executor(None, self.metrics.text)
        await request.answer(200, text, prometheus.MEDIA_TYPE)

    async def _openapi(self, request: Request, _: str) -> None:
        self.keys.require(request.headers)
        described = [model.describe() for model in self.models.all()]
        await request.answer_json(200, document(described, self.settings, keys=bool(self.keys)))

    async def _list(self, request: Request, _: str) -> None:
        self.keys.require(request.headers)
        await request.answer_json(200, {"models": [{"name": one.name, "version": one.version} for one in self.models.all()]})

    async def _describe(self, request: Request, name: str) -> None:
        self.keys.require(request.headers)
        await request.answer_json(200, self.models.get(name).describe())

    async def _admin_load(self, request: Request, name: str) -> None:
        self.keys.require(request.headers, admin=True)
        body = await request.body(limit=64 * 1024, timeout_s=self.settings.read_timeout)
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise RefusedError(400, f"the body is no JSON: {error}") from None
        if not isinstance(given, dict) or given.keys() != {"path"} or not isinstance(given["path"], str):
            raise RefusedError(422, "the body names no bundle", hint='send {"path": "runs/NAME/002"}')
        if "\0" in given["path"]:
            raise RefusedError(422, "the path of the bundle holds a zero byte")
        await request.answer_json(200, await self.load(name, given["path"]))

    async def _load(self, name: str, path: str) -> dict[str, Any]:
        model = await self.models.load(name, path)
        return {"model": name, "version": model.version}

    async def _predict(self, request: Request, name: str) -> None:
        self.keys.require(request.headers)
        model = self.models.get(name)
        request.model = name
        if request.misnamed:
            raise RefusedError(400, "X-Request-Id is no id", hint="give 1 to 64 letters, digits or . _ : -")
        deadline = request.began + self._patience_s(request)
        model.in_use += 1  # what is in use is not let go, however often it is exchanged meanwhile
        try:
            body = await request.body(limit=self.settings.max_body, timeout_s=self.settings.read_timeout)
            rows = await self._rows(model, request, body)
            answers = await self._ask(model, request, rows, deadline)
            await self._answer(model, request, rows, answers)
        finally:
            model.in_use -= 1

    def _patience_s(self, request: Request) -> float:
        given = request.headers.get(b"x-timeout-ms")
        if given is None:
            return self.settings.timeout
        if not given.isdigit() or not 0 < int(given[:12]) <= 86_400_000:
            raise RefusedError(400, f"X-Timeout-Ms is {given[:40].decode('latin-1')!r}", hint="give whole milliseconds, 1 to 86400000")
        return min(int(given) / 1000, self.settings.timeout)

    async def _rows(self, model: ServedModel, request: Request, body: bytes) -> Rows:
        read = self._reader(model, request)
        if len(body) <= LARGE_BODY:
            return read(body)
        return await asyncio.get_running_loop().run_in_executor(None, read, body)

    def _reader(self, model: ServedModel, request: Request) -> Callable[[bytes], Rows]:
        kind = request.content_type
        if kind in (b"application/json", b""):
            return model.reader.read_json
        if kind == ARROW:
            return model.reader.read_arrow
        if kind == b"multipart/form-data":
            given = request.headers[b"content-type"]
            return lambda body: model.reader.read_form(read_form(body, given))
        allowed = ("application/json", ARROW.decode(), "multipart/form-data")
        raise RefusedError(
            415, f"a body of the type {kind[:100].decode('latin-1')!r} cannot be read", hint=f"allowed: {', '.join(allowed)}"
        )

    async def _ask(self, model: ServedModel, request: Request, rows: Rows, deadline: float) -> pa.Table | None:
        """Return the answers of the good rows; rows that cannot be prepared after all are moved to the bad ones."""
        gone = request.watch()
        while rows.batch.num_rows:
            try:
                return await model.batcher.submit(rows.batch, deadline=deadline, gone=gone)
            except RowsLostError as error:
                rows.lose(error.lost)
                return error.answers if rows.batch.num_rows else None
            except DataError as error:
                found = await asyncio.get_running_loop().run_in_executor(None, model.bad_rows, rows.batch)
                if not found:
                    raise RefusedError(422, error.message, hint=error.hint) from None
                rows.set_aside(found)
        return None

    async def _answer(self, model: ServedModel, request: Request, rows: Rows, answers: pa.Table | None) -> None:
        counts = self.metrics.cell
        if rows.bad:
            counts("deepseek_rows_total", model=model.name, outcome="bad").add(len(rows.bad))
        if answers is None:
            raise _all_bad(rows)
        counts("deepseek_rows_total", model=model.name, outcome="answered").add(answers.num_rows)
        if request.headers.get(b"accept") == ARROW and not rows.bad:
            await request.answer(200, _as_stream(answers), ARROW)
        else:
            written = await self._written(model, answers)
            head: dict[str, Any] = {"model": model.name, "version": model.version, "id": request.id}
            if rows.warnings:
                head["warnings"] = rows.warnings
            if rows.single:
                await request.answer_json(200, {**head, **written[0]})
            else:
                await request.answer_json(207 if rows.bad else 200, {**head, **_merged(rows, written)})
        ids = [request.id] if rows.single else [f"{request.id}/{row}" for row in rows.places]
        self.observers.tell(f"{model.name}@{model.version}", rows.batch, answers, ids)

    async def _written(self, model: ServedModel, answers: pa.Table) -> list[dict[str, Any]]:
        if answers.num_rows <= MANY_ROWS:
            return model.writer.write(answers)
        return await asyncio.get_running_loop().run_in_executor(None, model.writer.write, answers)


def _merged(rows: Rows, written: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the entries of all rows in their order: answers, and errors where a row is bad."""
    if not rows.bad:
        return {"answers": written}
    good, detailed = iter(written), sorted(rows.bad)[:DETAILED_ROWS]
    last = detailed[-1]
    entries = [{"error": _row_error(rows, row, detailed=row <= last)} if row in rows.bad else next(good) for row in range(rows.count)]
    return {"answers": entries, "failed": len(rows.bad)}


def _row_error(rows: Rows, row: int, *, detailed: bool = True) -> dict[str, Any]:
    errors = rows.bad[row]
    told = "; ".join(error["message"] for error in errors[:TOLD_ERRORS])
    more = f"; and {len(errors) - TOLD_ERRORS} more" if len(errors) > TOLD_ERRORS else ""
    status = 500 if row in rows.lost else 422
    value = {"status": status, "detail": f"{told}{more}"}
    return {**value, "errors": errors} if detailed else {"status": status, "detail": errors[0]["message"]}


def _all_bad(rows: Rows) -> RefusedError:
    status = 500 if rows.lost else 422
    if rows.single:
        error = _row_error(rows, 0)
        return RefusedError(status, error["detail"], errors=error["errors"])
    errors = [{"row": row, **error} for row in sorted(rows.bad)[:DETAILED_ROWS] for error in rows.bad[row]]
    more = f"; {len(rows.bad):,} rows are bad" if len(rows.bad) > 1 else ""
    return RefusedError(
        status, f"no row can be answered: row {errors[0]['row']}: {errors[0]['message']}{more}", errors=errors[:DETAILED_ROWS]
    )


def _as_stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
