"""What the applications have in common: ASGI's two scopes, addresses, refusals, readiness, and the lifespan of a server."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from logging import Logger
from typing import Any, ClassVar
from urllib.parse import unquote

from deepseek.errors import DeepSeekError, RunError
from deepseek.serving import metrics as prometheus
from deepseek.serving.http.keys import Keys
from deepseek.serving.http.origins import refuse_other_pages
from deepseek.serving.http.problems import ClientGoneError, RefusedError
from deepseek.serving.http.request import Receive, Request, Scope, Send
from deepseek.serving.metrics import Metrics

RETRY_S = "5"
"""Seconds after which a client may ask again for what the server's own disk or memory refused."""
_READING = frozenset({"GET", "HEAD"})
Handler = Callable[[Request, str], Awaitable[None]]
"""What answers a request; it is given what stands at the third place of the path, such as a model's name."""
Routes = Mapping[tuple[str, ...], Mapping[str, Handler]]
"""Who answers, by the parts of the path, `*` for any third one, and by the method."""


class Application(ABC):
    """An ASGI application that answers requests over HTTP, and closes when its server does.

    Args:
        keys: What clients have to show.
        metrics: Where requests are counted.

    Attributes:
        draining: Whether no new work is wanted: readiness then says no.
    """

    log: ClassVar[Logger]
    elsewhere: ClassVar[str]
    """What is said to whoever asks for an address that there is none of."""
    defect: ClassVar[str]
    """What is said where a request could not be answered by the server's own fault."""

    def __init__(self, *, keys: Keys, metrics: Metrics) -> None:
        self.keys, self.metrics = keys, metrics
        self.draining = False
        self._routes: Routes = {
            ("healthz",): {"GET": self._health},
            ("readyz",): {"GET": self._ready},
            ("metrics",): {"GET": self._metrics},
            **self._addresses(),
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

    @abstractmethod
    async def close(self) -> None:
        """Finish what was accepted, and let go of what is open."""

    @abstractmethod
    def _addresses(self) -> Routes:
        """Return who answers at the addresses that not every application has."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Return what readiness tells."""

    @staticmethod
    @abstractmethod
    def _endpoint(pattern: tuple[str, ...]) -> str:
        """Return what requests to an address are counted as."""

    async def _serve(self, request: Request) -> None:
        endpoint = "unknown"
        try:
            handler, endpoint, name = self._route(request)
            await handler(request, name)
        except RefusedError as refused:
            await self._refuse(request, refused)
        except ClientGoneError:
            request.status = 499
        except RunError as error:  # the work failed: the disk is full, memory is short; it may go later
            self.log.error("request %s failed: %s", request.id, error)  # noqa: TRY400 - the message says it all
            await self._refuse(request, RefusedError(503, error.message, hint=error.hint, headers={"Retry-After": RETRY_S}))
        except DeepSeekError as error:
            await self._refuse(request, RefusedError(422, error.message, hint=error.hint))
        except Exception:  # the edge of the process: a defect becomes a 500 and a traceback in the log, and the others are served
            self.log.exception("request %s failed", request.id)
            await self._refuse(request, RefusedError(500, self.defect))
        finally:
            self._note(request, endpoint)

    def _note(self, request: Request, endpoint: str) -> None:
        labels = {"model": request.model, "endpoint": endpoint, "status": str(request.status)}
        self.metrics.cell("deepseek_requests_total", **labels).add()

    async def _refuse(self, request: Request, refused: RefusedError) -> None:
        await request.refuse(refused)

    def _route(self, request: Request) -> tuple[Handler, str, str]:
        parts = tuple(request.path.strip("/").split("/"))
        name = parts[2] if len(parts) > 2 else ""
        pattern = (*parts[:2], "*", *parts[3:]) if len(parts) > 2 else parts
        methods = self._routes.get(pattern)
        if methods is None:
            raise RefusedError(404, f"there is nothing at {request.path[:200]!r}", hint=self.elsewhere)
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise RefusedError(405, f"{request.method} is not allowed here", headers={"Allow": ", ".join(methods)})
        if request.method not in _READING and not self.keys:  # a page elsewhere cannot show a key
            refuse_other_pages(request.headers)
        return handler, self._endpoint(pattern), unquote(name)

    def _require_time_left(self) -> None:
        if self.draining:
            raise RefusedError(503, "the server is stopping", headers={"Retry-After": "1"})

    async def _health(self, request: Request, _: str) -> None:
        await request.answer_json(200, {"status": "alive"})

    async def _ready(self, request: Request, _: str) -> None:
        self._require_time_left()
        await request.answer_json(200, {"status": "ready", **self._state()})

    async def _metrics(self, request: Request, _: str) -> None:
        self.keys.require(request.headers)
        text = await asyncio.get_running_loop().run_in_executor(None, self.metrics.text)
        await request.answer(200, text, prometheus.MEDIA_TYPE)
