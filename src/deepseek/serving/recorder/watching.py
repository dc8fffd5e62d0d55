"""The watch of served models: one watcher a bundle, fed from the journal; alarms told from threads of their own; figures for Prometheus."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import orjson
import pyarrow as pa

from deepseek.artifacts import Bundle, write_text
from deepseek.errors import DeepSeekError, InputError, RunError
from deepseek.monitoring import ModelReference, Watcher, open_store
from deepseek.monitoring.prometheus import metrics_text
from deepseek.monitoring.settings import recipe_of
from deepseek.monitoring.watcher import log_name
from deepseek.serving.journal import Answered, Entry, Outcomes
from deepseek.serving.metrics import Metrics
from deepseek.serving.state import State, version_of

log = logging.getLogger("deepseek.serving")

FIGURES = "watch.prom"
FIGURES_S = 1.0
"""Seconds between two writings of the figures."""
TELL_AGAIN_S = 30.0
"""Seconds after which an alarm that could not be told is told again."""
FRESH_S = 900.0
"""So long after its last row a model that is no longer served has figures."""
LOOK_AGAIN_S = 60.0
"""Seconds after which the bundle of a version that could not be found is looked for again: its disk may have been away."""
_REMEMBERED = 8
"""So many bundles of a name are remembered: labels of their answers may come long after another took over."""
_KNOWN = "watched.json"
_CLOSED_S = 3_600.0
"""Seconds between two looks for what the logs of models that answer no more have kept for too long."""


@dataclass
class _Watched:
    model: str
    version: str
    path: Path
    seen_at: float
    watcher: Watcher | None = None
    sender: _Sender | None = None


class WatchConsumer:
    """Feeds a `deepseek.monitoring.Watcher` for each bundle that answered, with the store and the settings of its run's recipe.

    Args:
        state: What is served.
        metrics: Where failures are counted.
        everything: Whether models are watched whose recipe has no section `monitor` too.
        clock: Gives the time in seconds since 1970.
    """

    def __init__(self, state: State, metrics: Metrics, *, everything: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._state, self._metrics, self._everything, self._clock = state, metrics, everything, clock
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._ignored: dict[tuple[str, str], float] = {}
        self._current: dict[str, str] = {}
        self._taken: dict[int, Entry] = {}  # of entries that others could not take yet: they come again until all have
        self._stamp = (0, 0)
        self._written_at, self._forgot_at = -FIGURES_S, -_CLOSED_S
        self._changed = True
        self._remember(self._read_known())
        self._follow()

    def take(self, entries: Sequence[Entry]) -> None:
        """Give answers and labels to the watchers that they belong to.

        Raises:
            RunError: A store cannot be written now; taking the same entries again counts each once.
        """
        self._changed = True
        left = [entry for entry in entries if id(entry) not in self._taken]
        groups: dict[tuple[str, str], list[Answered]] = {}
        for entry in left:
            if isinstance(entry, Answered):
                groups.setdefault((entry.model, entry.version), []).append(entry)
        away: list[RunError] = []
        for key, group in groups.items():
            self._try(away, group, partial(self._answered, key, group))
        for entry in left:
            if isinstance(entry, Outcomes) and entry.labels is not None:
                self._try(away, [entry], partial(self._labelled, entry))
        if away:
            raise away[0]
        self._taken = {}

    def _try(self, away: list[RunError], entries: Sequence[Entry], act: Callable[[], None]) -> None:
        """Let one model's watch take entries; where its store is away others take theirs all the same, and not again with its own."""
        try:
            act()
        except RunError as error:
            away.append(error)
        else:
            self._taken |= {id(entry): entry for entry in entries}

    def tick(self, now: float) -> None:
        """Follow what is served, end windows whose time is over, forget what is old, and write the figures."""
        self._follow()
        away: list[RunError] = []
        for one in self._open():
            self._try(away, (), partial(self._guarded, one, Watcher.tick))
        if away:
            raise away[0]
        if not 0 <= now - self._forgot_at < _CLOSED_S:
            self._forgot_at = now
            self._forget_old()
        if not 0 <= now - self._written_at < FIGURES_S and self._changed:  # it lies in the future where the clock was set back
            self._written_at, self._changed = now, any(one.watcher is not None for one in self._watched.values())
            self._write_figures(now)

    def close(self) -> None:
        """Tell of the alarms that are due, for some seconds at most, and close the stores."""
        for one in self._open():
            self._let_go(one)

    def _forget_old(self) -> None:
        """Forget what is too old in the logs of models that are not open here: those that are see to that themselves."""
        for one in self._watched.values():
            if one.watcher is None and one.path.is_dir():
                try:
                    bundle = Bundle.open(one.path)
                    section = recipe_of(bundle)
                    if section is not None and section.retention is not None:
                        with open_store(bundle) as log_of_all:
                            log_of_all.of(log_name(bundle)).forget_before(self._clock() - section.retention)
                except DeepSeekError as error:
                    log.error("the log of %s %s forgets nothing: %s", one.model, one.version, error)  # noqa: TRY400 - the message says it all

    def _answered(self, key: tuple[str, str], group: Sequence[Answered]) -> None:
        one = self._find(key)
        if one is None:
            rows = sum(entry.rows.num_rows for entry in group)
            self._metrics.cell("deepseek_unwatched_rows_total", model=key[0]).add(rows)
            return
        one.seen_at = self._clock()
        start = 0
        for end in range(1, len(group) + 1):  # batches of one schema go together
            if end == len(group) or not _alike(group[start], group[end]):
                self._observe(one, group[start:end])
                start = end

    def _observe(self, one: _Watched, part: Sequence[Answered]) -> None:
        rows = pa.Table.from_batches([entry.rows for entry in part])
        answers = pa.concat_tables([entry.answers for entry in part])
        ids = [name for entry in part for name in entry.ids]
        times = [entry.at for entry in part for _ in entry.ids]
        if ids:
            self._guarded(one, lambda watcher: watcher.observe(rows, answers, ids=ids, at=times))
            self._poke(one)

    def _labelled(self, entry: Outcomes) -> None:
        assert entry.labels is not None
        labels: dict[str, Any] = {}
        for name, label in zip(entry.ids, entry.labels, strict=True):
            if label is not None:
                labels.setdefault(name, label)  # the first counts, here as in the log and in experiments
        left = set(labels)
        mine = [one for one in self._watched.values() if one.model == entry.model and one.path.is_dir()]
        if not mine:
            self._metrics.cell("deepseek_unwatched_rows_total", model=entry.model).add(len(labels))
        for one in sorted(mine, key=lambda one: one.watcher is None):  # those that are closed are opened for what nobody else knows
            if one.watcher is not None or left:
                known = self._guarded(one, lambda watcher: watcher.store.known(list(labels))) or set()
                self._label(one, {name: labels[name] for name in labels if name in known}, entry.at)
                left -= known
        if left:  # its answer may still be on its way
            for one in mine:
                if one.version == self._current.get(one.model) or self._clock() - one.seen_at < FRESH_S:
                    self._label(one, {name: labels[name] for name in labels if name in left}, entry.at)

    def _label(self, one: _Watched, labels: Mapping[str, Any], at: float) -> None:
        if labels:
            values = list(labels.values())
            self._guarded(one, lambda watcher: watcher.label(list(labels), values, at=at))
            self._poke(one)

    def _guarded(self, one: _Watched, act: Callable[[Watcher], Any]) -> Any:
        """Let a watcher do something; what it cannot take is counted and named, and it is opened anew next time."""
        try:
            return act(self._watcher(one))
        except RunError:
            self._let_go(one, wait_s=0.0)  # what it holds in memory may be ahead of the store now
            raise
        except DeepSeekError as error:
            log.error("the watch of %s %s: %s", one.model, one.version, error)  # noqa: TRY400 - the message says it all
        except Exception:  # a defect in what it makes of these rows must not cost those of other models
            log.exception("the watch of %s %s failed", one.model, one.version)
        self._metrics.cell("deepseek_recorder_failures_total", consumer="watch").add()
        self._let_go(one, wait_s=0.0)
        return None

    def _watcher(self, one: _Watched) -> Watcher:
        if one.watcher is None:
            one.watcher = Watcher.open(one.path)
            one.sender = _Sender(one.watcher, self._metrics, f"{one.model} {one.version}")
        return one.watcher

    def _poke(self, one: _Watched) -> None:
        if one.sender is not None:
            one.sender.poke()

    def _let_go(self, one: _Watched, *, wait_s: float = 5.0) -> None:
        if one.sender is not None:
            one.sender.close(wait_s)
        if one.watcher is not None:
            one.watcher.store.close()
        one.watcher = one.sender = None

    def _open(self) -> list[_Watched]:
        return [one for one in self._watched.values() if one.watcher is not None]

    def _find(self, key: tuple[str, str]) -> _Watched | None:
        if key not in self._watched and not 0 <= self._clock() - self._ignored.get(key, -math.inf) < LOOK_AGAIN_S:
            path = self._path_of(key)
            if path is None or not is_watched(path, everything=self._everything):
                if key not in self._ignored:
                    log.warning("nobody watches model %s %s", *key)
                self._ignored[key] = self._clock()
            else:
                self._ignored.pop(key, None)
                self._remember([(*key, path)])
                self._write_known()
        return self._watched.get(key)

    def _path_of(self, key: tuple[str, str]) -> Path | None:
        """Return where the bundle of a version lies: where the server was told, or in the run of its number beside."""
        name, version = key
        wanted = self._state.read().get(name)
        beside = [one.path.parent for one in self._watched.values() if one.model == name]
        if wanted is not None:
            beside += [Path(wanted.place), *list(Path(wanted.place).parents)[:2]]
        number = version.partition("-")[0]
        places = [Path(one) for one in (wanted.place, *wanted.previous[::-1])] if wanted is not None else []
        if wanted is not None and wanted.experiment is not None:
            places += [Path(arm["path"]) for arm in wanted.experiment["arms"]]
        for place in [*places, *(folder / number for folder in beside)]:
            try:
                bundle = Bundle.open(place)
            except DeepSeekError:
                continue
            if version_of(bundle) == version:
                return _place(bundle)
        return None

    def _follow(self) -> None:
        """Look at what is to be served, where that has changed, so that a model has figures before it has rows."""
        if self._state.stamp == self._stamp:
            return
        self._stamp = self._state.stamp
        self._changed = True
        for name, wanted in self._state.read().items():
            try:
                bundle = Bundle.open(Path(wanted.place))
                key = (name, version_of(bundle))
                if is_watched(bundle.path, everything=self._everything):
                    self._current[name] = key[1]
                    self._remember([(*key, _place(bundle))])
                    self._guarded(self._watched[key], lambda watcher: watcher.tick())
            except DeepSeekError as error:
                log.error("model %s cannot be watched: %s", name, error)  # noqa: TRY400 - the message says it all
        self._write_known()

    def _remember(self, found: Sequence[tuple[str, str, Path]]) -> None:
        for model, version, path in found:
            if (model, version) in self._watched:
                continue
            self._watched[model, version] = _Watched(model, version, path, seen_at=self._clock())
            mine = [one for one in self._watched.values() if one.model == model and one.version != self._current.get(model)]
            for one in sorted(mine, key=lambda one: one.seen_at)[: max(len(mine) - _REMEMBERED, 0)]:
                self._let_go(one)
                del self._watched[one.model, one.version]

    def _read_known(self) -> list[tuple[str, str, Path]]:
        try:
            found = orjson.loads((self._state.folder / _KNOWN).read_bytes())
        except FileNotFoundError:
            return []
        return [(model, version, Path(path)) for model, version, path in found if Path(path).is_dir()]

    def _write_known(self) -> None:
        known = [(one.model, one.version, str(one.path)) for one in self._watched.values()]
        write_text(self._state.folder / _KNOWN, orjson.dumps(known).decode())

    def _write_figures(self, now: float) -> None:
        states = [
            {**one.watcher.check(now_too=False), "model": one.model, "version": one.version}
            for one in self._open()
            if one.watcher is not None and (one.version == self._current.get(one.model) or now - one.seen_at < FRESH_S)
        ]
        write_text(self._state.folder / FIGURES, metrics_text(*states) if states else "", durable=False)


class _Sender:
    """Tells of one model's alarms: a slow receiver holds up neither rows nor other models' alarms."""

    def __init__(self, watcher: Watcher, metrics: Metrics, what: str) -> None:
        self._watcher, self._failures, self._what = watcher, metrics.cell("deepseek_alarm_failures_total"), what
        self._due, self._closing = Event(), Event()
        self._due.set()
        self._thread = Thread(target=self._work, name="deepseek-alarms", daemon=True)
        self._thread.start()

    def poke(self) -> None:
        self._due.set()

    def close(self, wait_s: float) -> None:
        self._closing.set()
        self._due.set()
        self._thread.join(wait_s)

    def _work(self) -> None:
        while True:
            self._due.wait(TELL_AGAIN_S)
            self._due.clear()
            closing = self._closing.is_set()
            try:
                failures = self._watcher.send_alarms()
            except RunError as error:  # the store: whoever writes to it sees that too
                failures = [error.message]
            for failure in failures:
                self._failures.add()
                log.warning("the watch of %s: %s", self._what, failure)
            if closing:
                return
            if failures:  # every batch of rows pokes: who is away is not asked at each of them
                self._closing.wait(TELL_AGAIN_S)


def is_watched(run: Path, *, everything: bool) -> bool:
    """Whether the model of a run is to be watched: its recipe has a section `monitor`, or all are."""
    return everything or recipe_of(Bundle.open(run)) is not None


def require_watchable(run: Path) -> None:
    """See that a model can be watched, before a server begins.

    Raises:
        BundleError: Its bundle has no reference.
        InputError: Where alarms go is wrong.
        RunError: Its store cannot be opened.
    """
    bundle = Bundle.open(run)
    try:
        ModelReference.load(bundle)
    except DeepSeekError as error:
        raise InputError(f"{run} cannot be watched: {error.message}", hint=error.hint) from None
    with open_store(bundle):
        pass


def _place(bundle: Bundle) -> Path:
    run = bundle.path.absolute().parent
    return run if (run / "recipe.yaml").is_file() else bundle.path.absolute()


def _alike(one: Answered, other: Answered) -> bool:
    return bool(one.rows.schema.equals(other.rows.schema) and one.answers.schema.equals(other.answers.schema))
