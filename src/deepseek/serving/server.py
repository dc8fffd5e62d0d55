"""`deepseek.serve`: from runs to a server, and the application alone for other servers.

What these are put together from needs the libraries of the extra `serve`; that they are there is seen before it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from deepseek.serving.starting import require_libraries

if TYPE_CHECKING:
    from deepseek.serving.app import App
    from deepseek.serving.observers import Observer

Runs = str | PathLike[str] | Sequence[str | PathLike[str]]


def serve(
    runs: Runs, *, settings: Mapping[str, Any] | None = None, plugins: Sequence[str] = (), observers: Sequence[Observer] = ()
) -> None:
    """Serve models over HTTP until SIGTERM or Ctrl-C; then finish what was accepted and return.

    Args:
        runs: Runs or bundles; `NAME=PATH` gives a model another name than its recipe's.
        settings: Keys of the recipe's section `serve`, before those that the run's own recipe has.
        plugins: The files or modules of the plugins that the bundles need.
        observers: Who is told of answers; with one worker only, since they live in this process.

    Raises:
        BundleError: A bundle is not there, or not as it was written.
        InputError: The address is taken, a setting is wrong, a model cannot be watched, or another server has the folder.
        MissingExtraError: The libraries of the extra `serve` are not installed.
    """
    require_libraries("serving")
    from deepseek.serving.assembly import run_server

    run_server(_listed(runs), settings, plugins=plugins, observers=observers)


def make_app(
    runs: Runs,
    *,
    settings: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
    observers: Sequence[Observer] = (),
    watch: bool = False,
) -> App:
    """Return the ASGI application alone, for another server or for tests.

    Args:
        runs: Runs or bundles, as for `serve`.
        settings: Keys of the recipe's section `serve`; those of sockets and processes are the other server's affair.
        plugins: The files or modules of the plugins that the bundles need.
        observers: Who is told of answers.
        watch: Whether the models are watched, in a thread of this process; where `settings` name no `state`, what waits for it is
            lost with the process.

    Raises:
        BundleError: A bundle is not there, or not as it was written.
        InputError: A model cannot be watched, or another server has the folder.
    """
    require_libraries("serving")
    from deepseek.serving.assembly import application

    return application(_listed(runs), settings, plugins=plugins, observers=observers, watch=watch)


def _listed(runs: Runs) -> list[str | PathLike[str]]:
    return [runs] if isinstance(runs, str | PathLike) else list(runs)
