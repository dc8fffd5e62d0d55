"""The ASGI application of `deepseek ingest`: addresses, keys, receipts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from deepseek.data.sources.ingested.manifest import is_topic
from deepseek.serving.http.asgi import Application, Routes
from deepseek.serving.http.keys import Keys
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.http.request import Request
from deepseek.serving.intake.contents import told
from deepseek.serving.intake.folder import IngestFolder
from deepseek.serving.intake.receipts import Receipt

MOST_TOPICS = 256
_SKIPPED_BYTES = 1_000_000
_SKIP_S = 2.0


class App(Application):
    """Takes contents in over HTTP, as an ASGI application.

    Args:
        folder: Where they go; the application closes it when it ends.
        keys: What clients have to show.

    Attributes:
        needs_keys: Whether clients have to show a key.
    """

    log = logging.getLogger("deepseek.ingest")
    elsewhere = "post to /v1/ingest/TOPIC"
    defect = "the server failed to take this; its log says why"

    def __init__(self, folder: IngestFolder, *, keys: Keys) -> None:
        self._folder = folder
        self._topics = set(folder.index.counts())
        self.needs_keys = bool(keys)
        super().__init__(keys=keys, metrics=folder.metrics)

    def _addresses(self) -> Routes:
        return {
            ("v1", "ingest"): {"GET": self._list},
            ("v1", "ingest", "*"): {"GET": self._describe, "POST": self._take, "PUT": self._take},
        }

    async def close(self) -> None:
        """Put into parts what was taken in, and let go of the folder."""
        self.draining = True
        await asyncio.get_running_loop().run_in_executor(None, self._folder.close)

    @staticmethod
    def _endpoint(pattern: tuple[str, ...]) -> str:
        return "ingest" if pattern[:2] == ("v1", "ingest") else pattern[0]

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

    async def _metrics(self, request: Request, _: str) -> None:
        self.keys.require(request.headers)
        backlog = self._state()
        self.metrics.cell("deepseek_ingest_waiting_contents").set(backlog["waiting"])
        self.metrics.cell("deepseek_ingest_waiting_bytes").set(backlog["waiting_bytes"])
        await super()._metrics(request, _)

    def _state(self) -> dict[str, Any]:
        failure = self._folder.compactor.failure
        backlog = {"waiting": self._folder.index.waiting, "waiting_bytes": self._folder.intake.waiting_bytes}
        return {**backlog, **({"failure": failure} if failure else {})}

    async def _list(self, request: Request, _: str) -> None:
        self.keys.require(request.headers)
        counts = await asyncio.get_running_loop().run_in_executor(None, self._folder.index.counts)
        await request.answer_json(200, {"topics": counts, **self._state()})

    async def _describe(self, request: Request, topic: str) -> None:
        self.keys.require(request.headers)
        counts = await asyncio.get_running_loop().run_in_executor(None, self._folder.index.counts)
        if topic not in counts:
            raise RefusedError(404, f"nothing came for the topic {topic[:64]!r} yet", hint=f"topics: {', '.join(counts) or 'none'}")
        await request.answer_json(200, {"topic": topic, **counts[topic]})

    async def _take(self, request: Request, topic: str) -> None:
        self.keys.require(request.headers)
        self._require_time_left()
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
            self.metrics.cell("deepseek_ingest_contents_total", topic=topic, outcome=outcome).add()
            if state == "stored":
                self.metrics.cell("deepseek_ingest_bytes_total", topic=topic).add(content.size)
                self.metrics.cell("deepseek_ingest_records_total", topic=topic, outcome="kept").add(content.rows)
                self.metrics.cell("deepseek_ingest_records_total", topic=topic, outcome="rejected").add(len(content.rejects))


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
