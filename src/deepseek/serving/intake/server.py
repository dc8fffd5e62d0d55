"""`deepseek.ingest`: a folder, a socket and one process around the application.

What these are put together from needs the libraries of the extra `serve`; that they are there is seen before it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from deepseek.serving.starting import require_libraries

if TYPE_CHECKING:
    from deepseek.serving.intake.app import App


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
    from deepseek.serving.intake.assembly import run_server

    run_server(folder, schema=schema, settings=settings)


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
    from deepseek.serving.intake.assembly import application

    return application(folder, schema=schema, settings=settings)
