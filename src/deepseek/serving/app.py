"""The ASGI application: addresses, checks, answers. No framework stands between the socket and the model."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from deepseek.errors import DataError, DeepSeekError
from deepseek.recipe.sections import ServeSection
from deepseek.serving.exchange import Exchange
from deepseek.serving.experiments.control import ExperimentControl
from deepseek.serving.experiments.routes import experiment_routes
from deepseek.serving.experiments.running import HEADER, Call, Missed, Part, Running, table_of
from deepseek.serving.experiments.settings import CHAMPION
from deepseek.serving.http.asgi import Application, Routes
from deepseek.serving.http.forms import read_form
from deepseek.serving.http.keys import Keys
from deepseek.serving.http.problems import RefusedError, RowsLostError
from deepseek.serving.http.request import Request
from deepseek.serving.journal import Answered, JournalFullError, Outcomes, Unanswered
from deepseek.serving.metrics import Metrics
from deepseek.serving.models import Models, ServedModel
from deepseek.serving.observers import Observers
from deepseek.serving.openapi import document
from deepseek.serving.page import page, policy
from deepseek.serving.rows.reader import Rows
from deepseek.serving.rows.replies import all_bad, as_stream, merged
from deepseek.serving.succession import require_successor

ARROW = b"application/vnd.apache.arrow.stream"
LARGE_BODY = 64 * 1024
"""Bodies beyond are read in a thread: the event loop would stand still for longer than a millisecond."""

MANY_ROWS = 256
"""More answers are written in a thread, for the same reason."""
REFUSE_S, STAND_ASIDE_S = 0.001, 0.0005
"""While a batch is under way the event loop refuses requests for so long at a time, then leaves the interpreter to the model."""
_MODELS, _PREDICT = b"/v1/models/", b"/predict"


class App(Application):
    """Serves models over HTTP, as an ASGI application.

    Args:
        models: The models.
        settings: Sizes and times.
        exchange: Changes what is served.
        keys: What clients have to show.
        metrics: Where requests are counted.
        observers: Who is told of answers, with the journal that outcomes go to as well.

    Attributes:
        experiments: Leads experiments.
        closing: Called at the end, when what was accepted is answered and told of.
    """

    log = logging.getLogger("deepseek.serving")
    elsewhere = "see /openapi.json"
    defect = "the server failed to answer this request; its log says why"

    def __init__(
        self, models: Models, settings: ServeSection, *, exchange: Exchange, keys: Keys, metrics: Metrics, observers: Observers
    ) -> None:
        self.models, self.settings, self.observers = models, settings, observers
        self.closing: list[Callable[[], None]] = []
        self._stood_aside = 0.0
        self.exchange, self.experiments = exchange, ExperimentControl(exchange)
        self._in_flight = metrics.cell("deepseek_requests_in_flight")
        super().__init__(keys=keys, metrics=metrics)

    def _addresses(self) -> Routes:
        return {
            ("",): {"GET": self._page},
            ("openapi.json",): {"GET": self._openapi},
            ("v1", "models"): {"GET": self._list},
            ("v1", "models", "*"): {"GET": self._describe},
            ("v1", "models", "*", "predict"): {"POST": self._predict},
            ("v1", "models", "*", "feedback"): {"POST": self._feedback},
            ("admin", "models", "*", "load"): {"POST": self._admin_load},
            **experiment_routes(self.experiments, self.keys, timeout_s=self.settings.read_timeout),
        }

    async def close(self) -> None:
        """Answer what was accepted, tell observers of it, and let go of the models."""
        self.draining = True
        await self.exchange.close()
        await self.models.close()
        for close in (self.observers.close, *self.closing):
            await asyncio.get_running_loop().run_in_executor(None, close)

    async def _serve(self, request: Request) -> None:
        self._in_flight.add()
        await super()._serve(request)

    def _note(self, request: Request, endpoint: str) -> None:
        self._in_flight.add(-1)
        super()._note(request, endpoint)
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
            if model.batcher.running and not self.settings.runners:
                self._stand_aside()
        return refused

    def _stand_aside(self) -> None:
        """Let the model's thread work undisturbed for a moment, now and then.

        It gives the interpreter's lock away with every operation of the network, and gets it back from a thread that does nothing but
        refuse only after a switch interval: a flood of refused requests would leave nothing for those that were accepted.
        """
        now = time.perf_counter()
        if now - self._stood_aside >= REFUSE_S:
            time.sleep(STAND_ASIDE_S)
            self._stood_aside = time.perf_counter()

    @staticmethod
    def _endpoint(pattern: tuple[str, ...]) -> str:
        return pattern[-1] if pattern[-1] != "*" else "model"

    def _state(self) -> dict[str, Any]:
        return {"models": {model.name: model.version for model in self.models.all()}}

    async def _page(self, request: Request, _: str) -> None:
        headers = [(b"content-security-policy", policy().encode()), (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY")]
        await request.answer(200, page(needs_key=bool(self.keys)), b"text/html; charset=utf-8", headers=headers)

    async def _openapi(self, request: Request, _: str) -> None:
        self.keys.require(request.headers)
        described = [model.describe() for model in self.models.all()]
        await request.answer_json(
            200, document(described, self.settings, keys=bool(self.keys), feedback=self.observers.journal is not None)
        )

    async def _list(self, request: Request, _: str) -> None:
        self.keys.require(request.headers)
        await request.answer_json(200, {"models": [{"name": one.name, "version": one.version} for one in self.models.all()]})

    async def _describe(self, request: Request, name: str) -> None:
        self.keys.require(request.headers)
        await request.answer_json(200, self.models.get(name).describe())

    async def _admin_load(self, request: Request, name: str) -> None:
        self.keys.require(request.headers, admin=True)
        given = await request.small_json(timeout_s=self.settings.read_timeout)
        if not isinstance(given, dict) or not {"path"} <= given.keys() <= {"path", "force"} or not isinstance(given["path"], str):
            raise RefusedError(422, "the body names no bundle", hint='send {"path": "runs/NAME/002"}')
        if "\0" in given["path"]:
            raise RefusedError(422, "the path of the bundle holds a zero byte")
        model = self.models.get(name)
        if given.get("force") is not True:
            try:
                await asyncio.get_running_loop().run_in_executor(None, require_successor, model, given["path"])
            except DeepSeekError:
                self.metrics.cell("deepseek_model_loads_total", model=name, outcome="failed").add()
                raise
        await request.answer_json(200, await self.exchange.load(name, given["path"], who=self.keys.name_of(request.headers)))

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
            running = self.exchange.running.get(name)
            if running is not None:
                await self._divide(running, request, body, deadline)
                return
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

    async def _divide(self, running: Running, request: Request, body: bytes, deadline: float) -> None:
        """Answer a request whose rows may belong to several arms of an experiment."""
        champion = running.champion
        champion.in_use += 1  # it may have been exchanged since the request came
        try:
            rows = await self._rows(champion, request, body, key=running.experiment.settings.key_field)
            keys = running.keys_of(rows, request.headers.get(HEADER), request.id)
            call = Call(
                rows,
                keys,
                read=lambda model: self._rows(model, request, body),
                ask=lambda model, some: self._ask(model, request, some, deadline),
                gone=request.watch(),
                deadline=deadline,
            )
            parts = await running.answer(call)
            await self._answer_parts(running, request, call, parts)
        finally:
            champion.in_use -= 1

    async def _answer_parts(self, running: Running, request: Request, call: Call, parts: Sequence[Part]) -> None:
        rows = call.rows
        self._count_rows(running.champion, rows, sum(len(part.rows) for part in parts) if parts else None)
        if request.headers.get(b"accept") == ARROW and not rows.bad:
            await request.answer(200, as_stream(table_of(parts, running.champion.writer.schema)), ARROW)
        else:
            written = {number: entry for part in parts for number, entry in zip(part.rows, await self._entries(part), strict=True)}
            head = {"model": request.model, "version": running.champion.version, "id": request.id, "experiment": running.experiment.id}
            await self._reply(request, rows, head, [written[number] for number in sorted(written)])
        for part in parts:
            self._tell(running, request, call, part)
        running.shadow(call, parts, lambda part: self._tell(running, request, call, part))

    async def _entries(self, part: Part) -> list[dict[str, Any]]:
        told = {"version": part.model.version, "arm": part.arm if part.is_own else CHAMPION}
        if not part.is_own:
            told["instead_of"] = part.arm
        return [{**told, **entry} for entry in await self._written(part.model, part.answers)]

    def _tell(self, running: Running, request: Request, call: Call, part: Part | Missed) -> None:
        if not self.observers.wanted:
            return
        ids = [request.id] if call.rows.single else [f"{request.id}/{row}" for row in part.rows]
        head = (request.model, part.model.version, part.arm, time.time(), ids, running.tickets(call, part.rows))
        if isinstance(part, Missed):
            self.observers.tell(Unanswered(*head, part.reason))
        else:
            self.observers.tell(Answered(*head, part.batch, part.answers, part.seconds, shadow=part.arm in running.shadow_names))

    async def _rows(self, model: ServedModel, request: Request, body: bytes, *, key: str | None = None) -> Rows:
        read = self._reader(model, request)
        if len(body) <= LARGE_BODY:
            return read(body, key)
        return await asyncio.get_running_loop().run_in_executor(None, read, body, key)

    def _reader(self, model: ServedModel, request: Request) -> Callable[[bytes, str | None], Rows]:
        kind = request.content_type
        if kind in (b"application/json", b""):
            return model.reader.read_json
        if kind == ARROW:
            return model.reader.read_arrow
        if kind == b"multipart/form-data":
            given = request.headers[b"content-type"]
            return lambda body, key: model.reader.read_form(read_form(body, given), key)
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
        self._count_rows(model, rows, None if answers is None else answers.num_rows)
        assert answers is not None
        if request.headers.get(b"accept") == ARROW and not rows.bad:
            await request.answer(200, as_stream(answers), ARROW)
        else:
            written = await self._written(model, answers)
            await self._reply(request, rows, {"model": model.name, "version": model.version, "id": request.id}, written)
        if self.observers.wanted:
            ids = [request.id] if rows.single else [f"{request.id}/{row}" for row in rows.places]
            seconds = asyncio.get_running_loop().time() - request.began
            self.observers.tell(Answered(model.name, model.version, None, time.time(), ids, None, rows.batch, answers, seconds))

    def _count_rows(self, model: ServedModel, rows: Rows, answered: int | None) -> None:
        counts = self.metrics.cell
        if rows.bad:
            counts("deepseek_rows_total", model=model.name, outcome="bad").add(len(rows.bad))
        if answered is None:
            raise all_bad(rows)
        counts("deepseek_rows_total", model=model.name, outcome="answered").add(answered)

    async def _reply(self, request: Request, rows: Rows, head: dict[str, Any], written: Sequence[dict[str, Any]]) -> None:
        if rows.warnings:
            head["warnings"] = rows.warnings
        if rows.single:
            await request.answer_json(200, {**head, **written[0]})
        else:
            await request.answer_json(207 if rows.bad else 200, {**head, **merged(rows, written)})

    async def _feedback(self, request: Request, name: str) -> None:
        self.keys.require(request.headers)
        model, journal = self.models.get(name), self.observers.journal
        request.model = name
        if journal is None:
            raise RefusedError(
                409,
                "this server keeps no record of outcomes",
                hint="serve with --watch or --state FOLDER, or a recipe with a section monitor",
            )
        body = await request.body(limit=self.settings.max_body, timeout_s=self.settings.read_timeout)
        loop, told = asyncio.get_running_loop(), self.metrics.cell
        found = model.feedback.read(body) if len(body) <= LARGE_BODY else await loop.run_in_executor(None, model.feedback.read, body)
        entry = Outcomes(name, time.time(), found.ids, found.labels, found.rewards)
        try:
            await loop.run_in_executor(None, journal.outcomes, entry)
        except JournalFullError as error:
            told("deepseek_feedback_total", model=name, outcome="refused").add(len(found.ids))
            raise RefusedError(503, error.message, hint="try again later", headers={"Retry-After": "5"}) from None
        told("deepseek_feedback_total", model=name, outcome="accepted").add(len(found.ids))
        await request.answer_json(202, {"accepted": len(found.ids)})

    async def _written(self, model: ServedModel, answers: pa.Table) -> list[dict[str, Any]]:
        if answers.num_rows <= MANY_ROWS:
            return model.writer.write(answers)
        return await asyncio.get_running_loop().run_in_executor(None, model.writer.write, answers)
