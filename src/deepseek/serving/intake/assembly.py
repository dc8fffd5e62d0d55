"""What `deepseek.ingest` is put together from: the folder, a socket, and one process around the application."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from pydantic import ValidationError

from deepseek.errors import InputError, RecipeError
from deepseek.serving.http.keys import Keys
from deepseek.serving.http.protocol import limited
from deepseek.serving.intake.app import App
from deepseek.serving.intake.expected import expected_of
from deepseek.serving.intake.folder import IngestFolder
from deepseek.serving.intake.settings import IngestSettings
from deepseek.serving.starting import bind, log_to_stderr
from deepseek.validation import problems_of

log = logging.getLogger("deepseek.ingest")

KEEP_ALIVE_S = 75


def run_server(folder: str | PathLike[str], *, schema: str | PathLike[str] | None, settings: Mapping[str, Any] | None) -> None:
    """Take in what clients post until the process is told to stop (see `deepseek.ingest`)."""
    chosen = settings_of(settings)
    log_to_stderr(log)
    with bind(chosen.host, chosen.port) as listening:
        app = application(folder, schema=schema, settings=settings)
        shown = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        keys = "" if app.needs_keys else ", without keys"
        log.info("%s takes in at http://%s:%d/v1/ingest/TOPIC%s", folder, shown, listening.getsockname()[1], keys)
        config = uvicorn.Config(
            app,
            loop="uvloop", http=limited(chosen.max_pause), ws="none", interface="asgi3", lifespan="on", log_config=None, access_log=False,
            server_header=False, timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=max(1, round(chosen.drain)),
            proxy_headers=False,
        )  # fmt: skip
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        _server(config, app).run(sockets=[listening])
    log.info("stopped")


def application(folder: str | PathLike[str], *, schema: str | PathLike[str] | None, settings: Mapping[str, Any] | None) -> App:
    """Return the application alone (see `deepseek.serving.intake.make_app`)."""
    chosen = settings_of(settings)
    if chosen.max_backlog < chosen.max_body:
        raise InputError(
            f"max_backlog is {chosen.max_backlog:,} bytes and max_body {chosen.max_body:,}: the largest bodies would never find room",
            hint="give a smaller max_body, or a larger max_backlog",
        )
    keys = Keys.read(chosen.keys)
    expected = None if schema is None else expected_of(Path(schema))
    return App(IngestFolder(Path(folder).absolute(), chosen, expected=expected), keys=keys)


def settings_of(given: Mapping[str, Any] | None) -> IngestSettings:
    """Return checked settings.

    Raises:
        RecipeError: One is unknown or wrong.
    """
    value = dict(given or {})
    try:
        return IngestSettings.model_validate(value)
    except ValidationError as error:
        raise RecipeError(problems_of(error, IngestSettings, value, what="ingest")) from None


def _server(config: Any, app: App) -> Any:
    class Server(uvicorn.Server):
        """uvicorn's server, which on SIGTERM finishes what it has accepted and ends with status 0."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.draining = True
            super().handle_exit(sig, frame)
            self._captured_signals.clear()  # uvicorn would raise them again at the end, and the process die of them

    return Server(config)
