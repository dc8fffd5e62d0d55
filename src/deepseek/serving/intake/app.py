"""The ASGI application of `deepseek ingest`: addresses, keys, receipts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import unquote

from deepseek.data.sources.ingested.manifest import is_topic
from deepseek.errors import DeepSeekError
from deepseek.serving import metrics as prometheus
from deepseek.serving.http.asgi import Application
from deepseek.serving.http.keys import Keys
from deepseek.serving.http.problems import ClientGoneError, RefusedError
from deepseek.serving.http.request import Request
from deepseek.serving.intake.contents import told
from deepseek.serving.intake.folder import IngestFolder
from deepseek.serving.intake.receipts import Receipt

log = logging.getLogger("deepseek.ingest")

MOST_TOPICS = 256
_SKIPPED_BYTES = 1_000_000
_SKIP_S = 2.0

Handler = Callable[[Request, str], Awaitable[None]]


class App(Application):
    """Takes contents in over HTTP, as an ASGI application.

    Args:
        folder: Where they go; the application closes it when it ends.
        keys: What clients have to show.

    Attributes:
        draining: Whether no new work is wanted: readiness then says no.
        needs_keys: Whether clients have to show a key.
    """

    def __init__(self, folder: IngestFolder, *, keys: Keys) -> None:
        self._folder, self._keys, self._metrics = folder, keys, folder.metrics
        self._topics = set(folder.index.counts())
        self.draining = False
        self.needs_keys = bool(keys)
        self._routes: dict[tuple[str, ...], dict[str, Handler]] = {
            ("healthz",): {"GET": self._health},
            ("readyz",): {"GET": self._ready},
            ("metrics",): {"GET": self._numbers},
            ("v1", "ingest"): {"GET": self._list},
            ("v1", "ingest", "*"): {"GET": self._describe, "POST": self._take, "PUT": self._take},
        }

    async def close(self) -> None:
        """Put into parts what was taken in, and let go of the folder."""
        self.draining = True
        await asyncio.get_running_loop().run_in_executor(None, self._folder.close)

    async def _serve(self, request: Request) -> None:
        endpoint = "unknown"
        try:
            handler, endpoint, name = self._route(request)
            await handler(request, name)
        except RefusedError as refused:
            await self._refuse(request, refused)
        except ClientGoneError:
            request.status = 499
        except DeepSeekError as error:
            await self._refuse(request, RefusedError(422, error.message, hint=error.hint))
        except Exception:  # the edge of the process: a defect becomes a 500 and a traceback in the log, and the others are served
            log.exception("request %s failed", request.id)
            await self._refuse(request, RefusedError(500, "the server failed to take this; its log says why"))
        finally:
            labels = {"model": "", "endpoint": endpoint, "status": str(request.status)}
            self._metrics.cell("deepseek_requests_total", **labels).add()

    def _route(self, request: Request) -> tuple[Handler, str, str]:
        parts = tuple(request.path.strip("/").split("/"))
        name = parts[2] if len(parts) > 2 else ""
        pattern = (*parts[:2], "*", *parts[3:]) if len(parts) > 2 else parts
        methods = self._routes.get(pattern)
        if methods is None:
            raise RefusedError(404, f"there is nothing at {request.path[:200]!r}", hint="post to /v1/ingest/TOPIC")
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise RefusedError(405, f"{request.method} is not allowed here", headers={"Allow": ", ".join(methods)})
        return handler, "ingest" if parts[:2] == ("v1", "ingest") else parts[0], unquote(name)

    async def _refuse(self, request: Request, refused: RefusedError) -> None:
        """Send a problem document; where the rest of the body is short it is read first, or the client might never get to the answer."""
        if not request.read and request.method in ("POST", "PUT"):
            # a client that asks before it sends has sent nothing, and sends nothing now
            if request.headers.get(b"expect", b"").lower() != b"100-continue":
                await request.skip(limit=_SKIPPED_BYTES, timeout_s=_SKIP_S)
            if not request.read:
                refused.headers["Connection"] = "close"
        if "Retry-After" in refused.headers:
            self._folder.compactor.wake()
        await request.refuse(refused)

    async def _health(self, request: Request, _: str) -> None:
        await request.answer_json(200, {"status": "alive"})

    async def _ready(self, request: Request, _: str) -> None:
        if self.draining:
            raise RefusedError(503, "the server is stopping", headers={"Retry-After": "1"})
        await request.answer_json(200, {"status": "ready", **self._backlog()})

    async def _numbers(self, request: Request, _: str) -> None:
        self._keys.require(request.headers)
        backlog = self._backlog()
        self._metrics.cell("deepseek_ingest_waiting_contents").set(backlog["waiting"])
        self._metrics.cell("deepseek_ingest_waiting_bytes").set(backlog["waiting_bytes"])
        text = await asyncio.get_running_loop().run_in_executor(None, self._metrics.text)
        await request.answer(200, text, prometheus.MEDIA_TYPE)

    def _backlog(self) -> dict[str, Any]:
        failure = self._folder.compactor.failure
        backlog = {"waiting": self._folder.index.waiting, "waiting_bytes": self._folder.intake.waiting_bytes}
        return {**backlog, **({"failure": failure} if failure else {})}

    async def _list(self, request: Request, _: str) -> None:
        self._keys.require(request.headers)
        counts = await asyncio.get_running_loop().run_in_executor(None, self._folder.index.counts)
        await request.answer_json(200, {"topics": counts, **self._backlog()})

    async def _describe(self, request: Request, topic: str) -> None:
        self._keys.require(request.headers)
        counts = await asyncio.get_running_loop().run_in_executor(None, self._folder.index.counts)
        if topic not in counts:
            raise RefusedError(404, f"nothing came for the topic {topic[:64]!r} yet", hint=f"topics: {', '.join(counts) or 'none'}")
        await request.answer_json(200, {"topic": topic, **counts[topic]})

    async def _take(self, request: Request, topic: str) -> None:
        self._keys.require(request.headers)
        if self.draining:
            raise RefusedError(503, "the server is stopping", headers={"Retry-After": "1"})
        self._check_topic(topic)
        receipts, single = await self._folder.intake.take(topic, request)
        self._topics.add(topic)
        self._count(topic, receipts)
        values = [_value(receipt) for receipt in receipts]
        if single:
            await self._answer_one(request, receipts[0], values[0])
            return
        states = {state: sum(one["state"] == state for one in values) for state in ("stored", "duplicate", "refused")}
        good = states["refused"] == 0 and not any(one.get("rejected") for one in values)
        status = 200 if good else 422 if states["refused"] == len(values) else 207
        await request.answer_json(status, {"topic": topic, **states, "contents": values})

    def _check_topic(self, topic: str) -> None:
        allowed = self._folder.settings.topics
        if not is_topic(topic):
            raise RefusedError(404, f"{topic[:80]!r} is no topic", hint="1 to 64 letters, digits or . _ -, the first a letter or digit")
        if allowed and topic not in allowed:
            raise RefusedError(404, f"there is no topic {topic!r}", hint=f"topics: {', '.join(allowed)}")
        if topic not in self._topics and len(self._topics) >= MOST_TOPICS:
            raise RefusedError(403, f"there are {len(self._topics)} topics already, which is the most", hint="post to one of them")

    async def _answer_one(self, request: Request, receipt: Receipt, value: dict[str, Any]) -> None:
        refusal = receipt.content.refusal
        if receipt.outcome.state == "other":
            raise RefusedError(409, value["detail"], hint="an id names one content for ever; give this one another", id=receipt.content.id)
        if refusal is not None:
            members = {"id": receipt.content.id, "topic": receipt.content.topic, "rejected": value["rejected"], **refusal.members}
            raise RefusedError(refusal.status, refusal.message, hint=refusal.hint, headers=refusal.headers, **members)
        await request.answer_json(207 if receipt.content.rejects else 200, {"topic": receipt.content.topic, **value})

    def _count(self, topic: str, receipts: Sequence[Receipt]) -> None:
        for receipt in receipts:
            content, state = receipt.content, receipt.outcome.state
            outcome = "refused" if state == "other" or content.refusal else state
            self._metrics.cell("deepseek_ingest_contents_total", topic=topic, outcome=outcome).add()
            if state == "stored":
                self._metrics.cell("deepseek_ingest_bytes_total", topic=topic).add(content.size)
                self._metrics.cell("deepseek_ingest_records_total", topic=topic, outcome="kept").add(content.rows)
                self._metrics.cell("deepseek_ingest_records_total", topic=topic, outcome="rejected").add(len(content.rejects))


def _value(receipt: Receipt) -> dict[str, Any]:
    content, outcome = receipt.content, receipt.outcome
    value: dict[str, Any] = {"id": content.id, "number": outcome.seq, "duplicate": outcome.state == "duplicate"}
    if outcome.state == "other":
        detail = f"the id {content.id!r} is that of another content, number {outcome.seq:,}"
        return {**value, "state": "refused", "detail": detail}
    value |= {"state": "refused" if content.refusal else outcome.state, "rows": content.rows, "rejected": len(content.rejects)}
    if content.refusal:
        value["detail"] = content.refusal.message
    return {**value, "errors": told(content.rejects)} if content.rejects else value
