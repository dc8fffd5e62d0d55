"""What the applications have in common: ASGI's two scopes, requests and the lifespan of a server."""

from __future__ import annotations

from abc import ABC, abstractmethod

from deepseek.serving.http.request import Receive, Request, Scope, Send


class Application(ABC):
    """An ASGI application that answers requests over HTTP, and closes when its server does."""

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
    async def _serve(self, request: Request) -> None:
        """Answer a request."""
