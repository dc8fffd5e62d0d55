"""`deepseek.ingest`: a folder, a socket and one process around the application."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.errors import InputError, RecipeError
from deepseek.serving.starting import bind, log_to_stderr, require_libraries
from deepseek.validation import problems_of

if TYPE_CHECKING:
    from types import FrameType

    from deepseek.serving.intake.app import App
    from deepseek.serving.intake.settings import IngestSettings

log = logging.getLogger("deepseek.ingest")

KEEP_ALIVE_S = 75


def ingest(folder: str | PathLike[str], *, schema: str | PathLike[str] | None = None, settings: Mapping[str, Any] | None = None) -> None:
    """Take in what clients post over HTTP until SIGTERM or Ctrl-C; then finish what was accepted and return.

    Args:
        folder: Where contents go: a dataset that the source `ingest` reads. One server writes to a folder at a time.
        schema: A run, a bundle or a recipe that says what records have to be; others are refused, each with its reason.
        settings: `IngestSettings` by name: `port`, `keys`, `max_body` and others.

    Raises:
        InputError: The address is taken, another server writes to the folder, or the schema is none.
        MissingExtraError: The libraries of the extra `serve` are not installed.
        RecipeError: A setting is unknown or wrong.
    """
    require_libraries("taking in over HTTP")
    import uvicorn

    from deepseek.serving.http.protocol import limited

    chosen = settings_of(settings)
    log_to_stderr(log)
    with bind(chosen.host, chosen.port) as listening:
        app = make_app(folder, schema=schema, settings=settings)
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


def make_app(folder: str | PathLike[str], *, schema: str | PathLike[str] | None = None, settings: Mapping[str, Any] | None = None) -> App:
    """Return the ASGI application alone, for another server or for tests; its lifespan, or `App.close`, lets go of the folder.

    Args:
        folder: Where contents go.
        schema: A run, a bundle or a recipe that says what records have to be.
        settings: `IngestSettings` by name; those of sockets are the other server's affair.

    Raises:
        InputError: Another server writes to the folder, the schema is none, or `max_backlog` has no room for a body.
        RecipeError: A setting is unknown or wrong.
    """
    require_libraries("taking in over HTTP")
    from deepseek.serving.http.keys import Keys
    from deepseek.serving.intake.app import App
    from deepseek.serving.intake.expected import expected_of
    from deepseek.serving.intake.folder import IngestFolder

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
    from pydantic import ValidationError

    from deepseek.serving.intake.settings import IngestSettings

    value = dict(given or {})
    try:
        return IngestSettings.model_validate(value)
    except ValidationError as error:
        raise RecipeError(problems_of(error, IngestSettings, value, what="ingest")) from None


def _server(config: Any, app: App) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        """uvicorn's server, which on SIGTERM finishes what it has accepted and ends with status 0."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.draining = True
            super().handle_exit(sig, frame)
            self._captured_signals.clear()  # uvicorn would raise them again at the end, and the process die of them

    return Server(config)
