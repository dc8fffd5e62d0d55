"""`deepseek.serve`: from runs to a server, and the application alone for other servers."""

from __future__ import annotations

import logging
import shutil
import socket
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepseek.artifacts import Bundle
from deepseek.errors import InputError, MissingExtraError, RecipeError
from deepseek.recipe import load_recipe
from deepseek.recipe.sections import ServeSection
from deepseek.validation import problems_of

if TYPE_CHECKING:
    from deepseek.serving.app import App
    from deepseek.serving.observers import Observer

log = logging.getLogger("deepseek.serving")

BACKLOG = 2048
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
        InputError: The address is taken, or a setting is wrong.
        MissingExtraError: The libraries of the extra `serve` are not installed.
    """
    _require_libraries()
    from deepseek.serving.keys import Keys
    from deepseek.serving.models import named_paths
    from deepseek.serving.state import State
    from deepseek.serving.supervisor import Supervisor
    from deepseek.serving.worker import run_worker

    paths = named_paths(_listed(runs))
    chosen = settings_of(next(iter(paths.values())), settings)
    for path in paths.values():
        Bundle.open(Path(path))
    keys = Keys.read(chosen.keys)
    if observers and chosen.workers > 1:
        raise InputError(
            f"observers were given, and {chosen.workers} workers", hint="serve with one worker: observers live in this process"
        )
    _log_to_stderr()
    with bind(chosen.host, chosen.port) as listening, tempfile.TemporaryDirectory(prefix="deepseek-serve-") as folder:
        state = State(Path(folder))
        state.begin(paths)
        shown = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        log.info("%s at http://%s:%d/%s", ", ".join(paths), shown, listening.getsockname()[1], "" if keys else ", without keys")
        if chosen.workers == 1:
            run_worker(listening, chosen, state, plugins=plugins, observers=observers)
        else:
            Supervisor(listening, chosen, state, plugins=plugins).run()
    log.info("stopped")


def make_app(
    runs: Runs, *, settings: Mapping[str, Any] | None = None, plugins: Sequence[str] = (), observers: Sequence[Observer] = ()
) -> App:
    """Return the ASGI application alone, for another server or for tests.

    Args:
        runs: Runs or bundles, as for `serve`.
        settings: Keys of the recipe's section `serve`; those of sockets and processes are the other server's affair.
        plugins: The files or modules of the plugins that the bundles need.
        observers: Who is told of answers.

    Raises:
        BundleError: A bundle is not there, or not as it was written.
    """
    _require_libraries()
    from deepseek.serving.app import App
    from deepseek.serving.experiments.control import Control
    from deepseek.serving.keys import Keys
    from deepseek.serving.metrics import Metrics
    from deepseek.serving.models import Models, named_paths
    from deepseek.serving.observers import Observers
    from deepseek.serving.state import State

    paths = named_paths(_listed(runs))
    chosen = settings_of(next(iter(paths.values())), settings)
    folder = Path(tempfile.mkdtemp(prefix="deepseek-serve-"))
    metrics = Metrics(folder)
    weakref.finalize(metrics, shutil.rmtree, folder, ignore_errors=True)
    state = State(folder)
    state.begin(paths)
    models = Models(paths, chosen, metrics, plugins=plugins)
    control = Control(models, state, metrics, opened=state.read())
    return App(models, chosen, control=control, keys=Keys.read(chosen.keys), metrics=metrics, observers=Observers(observers, metrics))


def settings_of(run: str | PathLike[str], given: Mapping[str, Any] | None = None) -> ServeSection:
    """Return the settings of a run's recipe with others before them.

    Args:
        run: The run or bundle; a bundle alone has no recipe.
        given: Keys of the section `serve`.

    Raises:
        RecipeError: A key or value is wrong.
    """
    from pydantic import ValidationError

    recipe = Bundle.open(Path(run)).path.parent / "recipe.yaml"
    section = load_recipe(recipe).serve if recipe.is_file() else None
    value = _merged({} if section is None else section.model_dump(mode="json", exclude_unset=True), given or {})
    try:
        return ServeSection.model_validate(value)
    except ValidationError as error:
        raise RecipeError(problems_of(error, ServeSection, value, what="serve")) from None


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        InputError: The address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}", hint="choose another --port, or 0 for any") from None
    listening.setblocking(False)
    listening.set_inheritable(True)
    return listening


def _listed(runs: Runs) -> list[str | PathLike[str]]:
    return [runs] if isinstance(runs, str | PathLike) else list(runs)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(below)
    for key, value in above.items():
        inside = made.get(key)
        made[key] = _merged(inside, value) if isinstance(value, Mapping) and isinstance(inside, Mapping) else value
    return made


def _require_libraries() -> None:
    for library in ("orjson", "uvicorn", "httptools", "uvloop"):
        try:
            __import__(library)
        except ImportError:
            raise MissingExtraError(library, "serve", "serving") from None


def _log_to_stderr() -> None:
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
