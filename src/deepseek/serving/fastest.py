"""The fastest form of what is served: looked for once, in a process beside the server, and taken up while requests come in.

A server never trains and never exports. It begins at once with what is there, PyTorch where nothing was measured on this machine;
`deepseek export RUN --to auto --same-predictions` runs beside it, at low priority, with the run's own validation rows as judges, and leaves
the fastest form that changes none of their predictions beside the run, where every later server finds it. Then all workers open the same
bundle again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from deepseek.artifacts import Bundle
from deepseek.errors import DeepSeekError
from deepseek.inference.backends.choice import AUTO, SERVED, is_measured
from deepseek.processors import usable_cores
from deepseek.recipe.sections import ServeSection
from deepseek.serving.state import State, Wanted

log = logging.getLogger("deepseek.serving")

POLL_S = 0.5
NICE = 10
STOP_S = 10.0
_NEEDED = ({"torch", "onnx", "onnxscript", "onnxruntime"}, {"torch", "openvino"})
"""What an export needs, one way or the other."""
_MISSING = "a faster form is looked for where the libraries of exports are installed: pip install 'deepseek-framework[deploy]'"


@dataclass
class _Search:
    names: list[str]
    bundle: Path
    process: subprocess.Popen[bytes]


class FastestForms:
    """Looks for the fastest form of each model and arm that was never measured on this machine, one after the other, while it is entered.

    Args:
        state: What is served.
        settings: How models are served.
        plugins: The plugins that bundles need.
    """

    def __init__(self, state: State, settings: ServeSection, *, plugins: Sequence[str] = ()) -> None:
        self._state, self._settings, self._plugins = state, settings, list(plugins)
        self._tried: set[Path] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deepseek-fastest-forms", daemon=True)

    def __enter__(self) -> Self:
        if not self._settings.optimize or self._settings.backend != AUTO:
            self._stopping.set()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        looked = (0, 0)
        while not self._stopping.wait(POLL_S):
            if looked == (stamp := self._state.stamp):
                continue  # to open a bundle is to read all of it
            names, bundle = self._next()
            if bundle is None:
                looked = stamp
            elif not _can_export():
                log.info("%s: what runs the network stays as it is: %s", ", ".join(names), _MISSING)
                return
            else:
                self._tried.add(bundle)
                self._follow(self._begin(names, bundle))

    def _next(self) -> tuple[list[str], Path | None]:
        """Return a bundle that was not measured here, and the models that it is served in."""
        found: dict[Path, dict[str, None]] = {}
        for name, wanted in self._state.read().items():
            for path in _paths_of(wanted):
                try:
                    bundle = Bundle.open(Path(path))
                except DeepSeekError:  # whoever opens it to answer with it says what is wrong
                    continue
                if bundle.path not in self._tried and not is_measured(bundle):
                    found.setdefault(bundle.path, {})[name] = None
        return next(((list(names), path) for path, names in found.items()), ([], None))

    def _begin(self, names: list[str], bundle: Path) -> _Search:
        log.info("%s: looking for the fastest form of %s beside answering (serve.optimize)", ", ".join(names), bundle)
        threads = {} if self._settings.workers == 1 else {"OMP_NUM_THREADS": str(max(1, usable_cores() // self._settings.workers))}
        target = bundle.parent / "export" / SERVED
        words = ["export", str(bundle), "--to", "auto", "--same-predictions", "--output", str(target), "--json"]
        plugins = [word for plugin in self._plugins for word in ("--plugin", plugin)]
        process = subprocess.Popen(
            [sys.executable, "-m", "deepseek", *words, *plugins],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**threads, **os.environ}, process_group=0,
        )  # fmt: skip
        with contextlib.suppress(ProcessLookupError):  # it has ended already, which is seen at the next look
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        return _Search(names, bundle, process)

    def _follow(self, search: _Search) -> None:
        """Wait for the end of a search, and let workers take up what it has found; one that is no more wanted is ended."""
        while True:
            try:
                out, err = search.process.communicate(timeout=POLL_S)
                break
            except subprocess.TimeoutExpired:
                if self._stopping.is_set():
                    _end(search.process)
                    return
        if search.process.returncode:
            why = (err.decode(errors="replace").strip().splitlines() or ["the search was ended"])[-1]
            log.info("%s: what runs the network stays as it is: %s", ", ".join(search.names), why)
            return
        told: dict[str, Any] = json.loads(out)
        log.info("%s: %s", ", ".join(search.names), _said(told))
        if told["chosen"] != "torch":
            for name in search.names:
                self._state.want_reopened(name)


def _paths_of(wanted: Wanted) -> Iterator[str]:
    yield wanted.place
    if wanted.experimenting and wanted.experiment is not None:
        yield from (arm["path"] for arm in wanted.experiment["arms"] if arm["path"] != wanted.place)


def _can_export() -> bool:
    return any(all(find_spec(library) for library in libraries) for libraries in _NEEDED)


def _said(told: dict[str, Any]) -> str:
    speed_up = {one["backend"]: one["speed_up_1"] for one in told["timings"]}
    if told["chosen"] == "torch":
        return f"PyTorch is the fastest of {', '.join(speed_up)}"
    parity, times = told["parity"], speed_up[told["chosen"]]
    apart = max(parity["largest"].values(), default=0.0)
    agrees = f"of {parity['rows']} predictions none is another, numbers lie {apart:.1g} apart at most"
    return f"{told['chosen']} answers a row {times:.1f} times as fast as PyTorch, and runs the network now ({agrees})"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a search as Ctrl-C does, so that it takes away what it has begun."""
    process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
