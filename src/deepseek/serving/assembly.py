"""What `deepseek.serve` is put together from: the server's folder, a socket, workers, a recorder; or the application alone."""

from __future__ import annotations

import logging
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deepseek.artifacts import Bundle
from deepseek.errors import InputError, RecipeError
from deepseek.recipe import AUTO, load_recipe
from deepseek.recipe.sections import ServeSection
from deepseek.registry import family, load_plugin
from deepseek.serving.app import App
from deepseek.serving.exchange import Exchange
from deepseek.serving.fastest import FastestForms
from deepseek.serving.http.keys import Keys
from deepseek.serving.journal import Journal
from deepseek.serving.metrics import Metrics
from deepseek.serving.models import Models, named_paths
from deepseek.serving.observers import Observer, Observers
from deepseek.serving.recorder.keeper import RecorderKeeper
from deepseek.serving.recorder.process import BackgroundRecorder
from deepseek.serving.recorder.watching import is_watched, require_watchable
from deepseek.serving.starting import bind, log_to_stderr
from deepseek.serving.state import State
from deepseek.serving.supervisor import Supervisor
from deepseek.serving.worker import run_worker
from deepseek.validation import problems_of

log = logging.getLogger("deepseek.serving")


def run_server(
    runs: Sequence[str | PathLike[str]], settings: Mapping[str, Any] | None, *, plugins: Sequence[str], observers: Sequence[Observer]
) -> None:
    """Serve models until the process is told to stop (see `deepseek.serve`)."""
    paths = named_paths(runs)
    chosen = settings_of(next(iter(paths.values())), settings)
    for path in paths.values():
        Bundle.open(Path(path))
    keys = Keys.read(chosen.keys)
    if observers and chosen.workers > 1:
        raise InputError(
            f"observers were given, and {chosen.workers} workers", hint="serve with one worker: observers live in this process"
        )
    log_to_stderr(log)
    watched = _watched(paths, chosen, plugins)
    if chosen.backend != AUTO:
        family("backend").get(chosen.backend)  # a name that is none is told before anybody is let in
    with ExitStack() as stack:
        listening = stack.enter_context(bind(chosen.host, chosen.port))
        lasts = bool(watched) or chosen.experiment is not None
        state = State(_folder(paths, chosen, stack, lasting=lasts))
        stack.enter_context(state.held())
        state.begin(paths, journal=lasts or chosen.state is not None)
        shown = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
        log.info("%s at http://%s:%d/%s", ", ".join(paths), shown, listening.getsockname()[1], "" if keys else ", without keys")
        for name, one in state.read().items():
            if one.path != one.given:  # what was loaded or promoted is not what the command says
                log.info("%s is %s, as it was when the server stopped (see %s)", name, one.path, state.folder / "models.json")
        if state.journal is not None:
            log.info("watched: %s; the server's folder is %s", ", ".join(watched) or "none", state.folder)
            stack.enter_context(RecorderKeeper(state, chosen, plugins=plugins))
        stack.enter_context(FastestForms(state, chosen, plugins=plugins))
        if chosen.workers == 1:
            run_worker(listening, chosen, state, plugins=plugins, observers=observers)
        else:
            Supervisor(listening, chosen, state, plugins=plugins).run()
    log.info("stopped")


def application(
    runs: Sequence[str | PathLike[str]],
    settings: Mapping[str, Any] | None,
    *,
    plugins: Sequence[str],
    observers: Sequence[Observer],
    watch: bool,
) -> App:
    """Return the application alone (see `deepseek.serving.make_app`)."""
    paths = named_paths(runs)
    chosen = settings_of(next(iter(paths.values())), settings)
    chosen = chosen.model_copy(update={"watch": chosen.watch or watch})
    if watch:
        _watched(paths, chosen, plugins)
    with ExitStack() as stack:
        state = State(_folder(paths, chosen, stack, lasting=False))
        lock = stack.enter_context(ExitStack())
        lock.enter_context(state.held())
        state.begin(paths, journal=watch or chosen.state is not None)
        metrics = Metrics(state.folder)
        wanted = state.read()
        models = Models({name: one.place for name, one in wanted.items()}, chosen, metrics, plugins=plugins)
        journal = Journal(state.journal, limit_bytes=chosen.journal_size) if state.journal is not None else None
        exchange = Exchange(models, state, metrics, opened=wanted)
        app = App(
            models,
            chosen,
            exchange=exchange,
            keys=Keys.read(chosen.keys),
            metrics=metrics,
            observers=Observers(observers, metrics, journal=journal),
        )
        if journal is not None:
            recorder = BackgroundRecorder(state, chosen, metrics)
            app.closing.append(recorder.close)
            stack.callback(recorder.close)
        app.closing.append(lock.close)  # another may have the folder then
        weakref.finalize(app, stack.pop_all().close)
    return app


def settings_of(run: str | PathLike[str], given: Mapping[str, Any] | None = None) -> ServeSection:
    """Return the settings of a run's recipe with others before them.

    Args:
        run: The run or bundle; a bundle alone has no recipe.
        given: Keys of the section `serve`.

    Raises:
        RecipeError: A key or value is wrong.
    """
    recipe = Bundle.open(Path(run)).path.parent / "recipe.yaml"
    section = load_recipe(recipe).serve if recipe.is_file() else None
    value = _merged({} if section is None else section.model_dump(mode="json", exclude_unset=True), given or {})
    try:
        return ServeSection.model_validate(value)
    except ValidationError as error:
        raise RecipeError(problems_of(error, ServeSection, value, what="serve")) from None


def _watched(paths: Mapping[str, str], settings: ServeSection, plugins: Sequence[str]) -> list[str]:
    """Return the names of the models that are to be watched, each of which can be."""
    for plugin in plugins:
        load_plugin(plugin, Path())
    found = [name for name, path in paths.items() if is_watched(Path(path), everything=settings.watch)]
    for name in found:
        require_watchable(Path(paths[name]))
    return found


def _folder(paths: Mapping[str, str], settings: ServeSection, stack: ExitStack, *, lasting: bool) -> Path:
    """Return the server's own folder: the one that was named, one beside the first run where it is to last, or a temporary one."""
    if settings.state is not None:
        return Path(settings.state).absolute()
    name, path = next(iter(paths.items()))
    if lasting:
        run = Bundle.open(Path(path)).path.absolute().parent  # never in the bundle itself: it holds what its manifest says and nothing else
        return (run.parent if run.name.isdigit() else run) / ".serve" / name
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deepseek-serve-", ignore_cleanup_errors=True)))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(below)
    for key, value in above.items():
        inside = made.get(key)
        made[key] = _merged(inside, value) if isinstance(value, Mapping) and isinstance(inside, Mapping) else value
    return made
