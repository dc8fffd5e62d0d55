"""The addresses of experiments."""

from __future__ import annotations

from typing import Any

from deepseek.serving.experiments.control import ExperimentControl
from deepseek.serving.experiments.settings import read_settings
from deepseek.serving.http.asgi import Routes
from deepseek.serving.http.keys import Keys
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.http.request import Request


def experiment_routes(control: ExperimentControl, keys: Keys, *, timeout_s: float) -> Routes:
    """Return who answers at which address, by method.

    Args:
        control: Leads the experiments.
        keys: What clients have to show.
        timeout_s: How long a client may take to send a body.
    """
    routes = _Routes(control, keys, timeout_s)
    return {
        ("v1", "models", "*", "experiment"): {"GET": routes.read},
        ("admin", "models", "*", "experiment"): {"GET": routes.state, "POST": routes.begin},
        ("admin", "models", "*", "experiment", "share"): {"POST": routes.share},
        ("admin", "models", "*", "experiment", "stop"): {"POST": routes.stop},
        ("admin", "models", "*", "promote"): {"POST": routes.promote},
        ("admin", "models", "*", "rollback"): {"POST": routes.rollback},
    }


class _Routes:
    def __init__(self, control: ExperimentControl, keys: Keys, timeout_s: float) -> None:
        self._control, self._keys, self._timeout_s = control, keys, timeout_s

    async def read(self, request: Request, name: str) -> None:
        self._keys.require(request.headers)
        await request.answer_json(200, self._control.status(name, admin=False))

    async def state(self, request: Request, name: str) -> None:
        self._admin(request)
        await request.answer_json(200, self._control.status(name, admin=True))

    async def begin(self, request: Request, name: str) -> None:
        who = self._admin(request)
        settings = read_settings(await request.small_json(timeout_s=self._timeout_s))
        await request.answer_json(200, await self._control.begin(name, settings, who=who))

    async def share(self, request: Request, name: str) -> None:
        who = self._admin(request)
        given = await self._object(request, {"share": (int, float), "arm": (str,)}, needed="share")
        await request.answer_json(200, await self._control.share(name, given["share"], arm=given.get("arm"), who=who))

    async def promote(self, request: Request, name: str) -> None:
        who = self._admin(request)
        given = await self._object(request, {"arm": (str,)})
        await request.answer_json(200, await self._control.promote(name, given.get("arm"), who=who))

    async def rollback(self, request: Request, name: str) -> None:
        who = self._admin(request)
        await self._object(request, {})
        await request.answer_json(200, await self._control.rollback(name, who=who))

    async def stop(self, request: Request, name: str) -> None:
        who = self._admin(request)
        await self._object(request, {})
        await request.answer_json(200, await self._control.stop(name, who=who))

    def _admin(self, request: Request) -> str:
        self._keys.require(request.headers, admin=True)
        return self._keys.name_of(request.headers)

    async def _object(self, request: Request, allowed: dict[str, tuple[type, ...]], *, needed: str | None = None) -> dict[str, Any]:
        """Return a body with these keys; none at all is an empty one."""
        given = await request.small_json(timeout_s=self._timeout_s)
        keys = ", ".join(allowed) or "none"
        if not isinstance(given, dict) or not given.keys() <= allowed.keys() or (needed is not None and needed not in given):
            raise RefusedError(
                422, f"the body is not as it should be; its keys: {keys}", hint=f'send {{"{needed}": …}}' if needed else None
            )
        for key, value in given.items():
            if type(value) not in allowed[key]:
                kinds = " or ".join(kind.__name__ for kind in allowed[key])
                raise RefusedError(422, f"{key} is {value!r}"[:200], hint=f"allowed: {kinds}")
        return given
