"""The watch itself: requests and labels in; windows, metrics and alarms out."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from threading import RLock
from typing import Any, Self
from uuid import uuid4

import numpy as np
import pyarrow as pa

from deepseek import progress
from deepseek.artifacts import Bundle
from deepseek.errors import InputError, RunError
from deepseek.inference.reading import read_preparation
from deepseek.monitoring.alarms.base import AlarmEvent
from deepseek.monitoring.outcomes import labels_of, outcomes_of, predictions_of
from deepseek.monitoring.performance import Performance
from deepseek.monitoring.policy import AlarmPolicy
from deepseek.monitoring.reference import ModelReference
from deepseek.monitoring.settings import MonitorSettings, build_alarms, recipe_of
from deepseek.monitoring.store import Joined, Request, Store
from deepseek.monitoring.window import Window
from deepseek.recipe.secrets import resolve_secrets
from deepseek.recipe.sections import MonitorSection

SAVE_S = 1.0
"""Seconds between two savings of a window that is not full: what a kill may cost the sketches. The log itself loses nothing."""
FORGET_S = 3_600.0
"""Seconds between two looks for what is older than `retention`, however few rows come."""
BYTES = "base64"
"""The key under which the log keeps bytes, such as an image's file."""
METRIC_ALARM = "metric:"
DRIFT_ALARM = "drift:"
_STATE = "watcher"
_KEY = "hash_key"
_UNSENT = "unsent_alarms"


class Watcher:
    """Watches one model.

    Every call first makes durable what it was given. A watcher that is begun anew on the same store goes on where the last one was. Several
    models may have one store: each watcher keeps to its own part of it.

    Args:
        bundle: The model's bundle, or a run.
        store: The log.
        settings: What is watched.
        clock: Gives the time in seconds.

    Attributes:
        name: What the log knows the model by: its run, where it lies in one, and the beginning of its bundle's hash.
        store: The model's part of the log.
        reference: What rows are compared with.
        performance: The metrics of labelled rows.

    Raises:
        BundleError: The bundle has no reference.

    Example:
        ```python
        watcher = Watcher("runs/churn/001", Store("churn-log.db"))
        ids = watcher.observe(rows, predictor.predict(rows))
        watcher.label(ids, truth)  # days later
        ```
    """

    def __init__(
        self,
        bundle: Bundle | str | PathLike[str],
        store: Store,
        *,
        settings: MonitorSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(Path(bundle))
        self.model = str(opened.path)
        self.reference = ModelReference.load(opened)
        self.settings = settings or MonitorSettings()
        self._columns = _columns_of(opened, self.reference)
        self.name = log_name(opened)
        self.store = store.of(self.name)
        self.performance = Performance(self.reference, self.settings)
        self._clock, self._lock = clock, RLock()
        self._alarms = build_alarms(self.settings)
        self._window = Window(self.reference, clock())
        self._policies: dict[str, AlarmPolicy] = {}
        self._last: dict[str, Any] | None = None
        self._rows = self._repeated = 0
        self._saved_at = self._forgot_at = -1e18
        self._unsaved = False
        self._go_on()

    @classmethod
    def open(cls, run: str | PathLike[str]) -> Self:
        """Watch a run as its recipe says under `monitor`; a relative `store` lies in the run's folder.

        Args:
            run: The run's folder or its bundle.
        """
        bundle = Bundle.open(Path(run))
        section = recipe_of(bundle) or MonitorSection()
        return cls(bundle, open_store(bundle), settings=MonitorSettings.of_section(section))

    def observe(
        self,
        inputs: pa.Table | pa.RecordBatch,
        answers: pa.Table,
        *,
        ids: Sequence[str] | None = None,
        at: float | Sequence[float] | None = None,
    ) -> list[str]:
        """Log answered rows and fold them into the window; rows whose ids the log has already are passed over.

        Args:
            inputs: The raw rows, as they were asked.
            answers: What the model answered, as `Predictor.predict` returns it, in the same order.
            ids: By what a label will name each row; made up where not given.
            at: When they were answered, in seconds, for all or for each; now where not given.

        Returns:
            The ids.

        Raises:
            InputError: There are not as many answers, or ids, as rows.
            RunError: The log cannot be written.
        """
        table = pa.Table.from_batches([inputs]) if isinstance(inputs, pa.RecordBatch) else inputs
        names = [uuid4().hex for _ in range(table.num_rows)] if ids is None else [str(name) for name in ids]
        if not table.num_rows == answers.num_rows == len(names):
            raise InputError(f"{table.num_rows} rows, {answers.num_rows} answers and {len(names)} ids were given", hint="give one for each")
        times = [float(one) for one in at] if isinstance(at, Sequence) else [self._clock() if at is None else at] * len(names)
        said, probability = predictions_of(answers, self.reference.target)
        kept = self._kept(table)
        shares = [None] * len(names) if probability is None else probability.round(7).tolist()
        requests = [Request(*row) for row in zip(names, times, said, shares, kept, strict=True)]
        with self._lock, self.store.transaction():
            new = self.store.new_ids(requests)
            if len(new) < len(names):  # a request that was tried again, or read again after a kill: it counts once
                self._repeated += len(names) - len(new)
                places = _first_places(names, new)
                table, said = table.take(pa.array(places, pa.int64())), [said[place] for place in places]
                probability, times = None if probability is None else probability[places], [times[place] for place in places]
            now = max(times, default=self._clock())
            self._fold(table, said, probability, times)
            joined = self._take_labels(now)
            self._save(now, force=joined > 0)  # a label is counted once: what it came to is durable with it
        return names

    def label(self, ids: Sequence[str], labels: pa.Array | pa.ChunkedArray | Sequence[Any], *, at: float | None = None) -> int:
        """Take in the truth of rows that were answered earlier (or will be); return how many answers could be judged by now.

        Args:
            ids: The rows' ids.
            labels: The truth, as the target column of training held it.
            at: When it came, in seconds; now where not given.

        Raises:
            InputError: There are not as many labels as ids.
        """
        given = labels if isinstance(labels, pa.Array | pa.ChunkedArray) else pa.array(list(labels))
        if len(ids) != len(given):
            raise InputError(f"{len(given)} labels are given for {len(ids)} ids", hint="give one for each")
        now = self._clock() if at is None else at
        plain = labels_of(given, self.reference.target)
        known = [(str(name), label) for name, label in zip(ids, plain, strict=True) if label is not None]
        with self._lock, self.store.transaction():
            self.store.append_labels(known, now)
            joined = self._take_labels(now)
            self._save(now, force=True)
        return joined

    def tick(self) -> None:
        """Do what time alone makes due, also while no row comes: end a window, make the one in hand durable, forget what is old."""
        with self._lock:
            now = self._clock()
            limit, kept = self.settings.window_s, self.settings.retention_s
            if kept is not None and not 0 <= now - self._forgot_at < min(FORGET_S, kept):
                self._forget(now, kept)
            if self._unsaved or (limit is not None and now - self._window.began >= limit):
                with self.store.transaction():
                    self._end_if_due(now)
                    self._save(now)

    def check(self, *, now_too: bool = True) -> dict[str, Any]:
        """Return what is known now, as plain JSON values: the last full window, the one in hand, metrics, alarms.

        Args:
            now_too: Whether the window in hand is compared as well, which takes some milliseconds.
        """
        with self._lock:
            now = self._clock()
            return {
                "model": self.model,
                "at": now,
                "rows": self._rows,
                "repeated": self._repeated,
                "window": self._window.facts(now) if self._window.rows and now_too else None,
                "last_window": self._last,
                "performance": self.performance.facts(),
                "alarms": sorted(name for name, policy in self._policies.items() if policy.active),
            }

    def close_window(self) -> dict[str, Any] | None:
        """End the window in hand, whatever it holds, and return what it came to; nothing where it holds no row."""
        with self._lock, self.store.transaction():
            now = self._clock()
            if not self._window.rows:
                return None
            self._end_window(now)
            self._save(now, force=True)
            return self._last

    def _fold(self, table: pa.Table, said: Sequence[Any], probability: Any, times: Sequence[float]) -> None:
        done, now = 0, -np.inf
        while done < table.num_rows:
            now = max(now, times[done])
            self._end_if_due(now)
            if not self._window.rows:  # rows may have been answered long before they are read here
                self._window.began = min(self._window.began, times[done])
            take = min(self.settings.window_rows - self._window.rows, table.num_rows - done)
            part = slice(done, done + take)
            # chunk by chunk would be less to copy; a window is small, and one batch keeps its sketches exact
            (batch,) = table.slice(done, take).combine_chunks().to_batches() or [None]
            self._window.fold(batch, said[part], None if probability is None else probability[part])
            self._rows += take
            done += take
        self._end_if_due(max(times, default=self._clock()))

    def _end_if_due(self, now: float) -> None:
        limit = self.settings.window_s
        late = limit is not None and now - self._window.began >= limit
        if self._window.rows and (late or self._window.rows >= self.settings.window_rows):
            self._end_window(now)
        elif late:
            self._window = Window(self.reference, now)

    def _end_window(self, now: float) -> None:
        facts = self._window.facts(now)
        facts["metrics"] = self.performance.window
        self._last = facts
        self.store.save_window(facts["began"], now, facts)
        self._window = Window(self.reference, now)
        if self.settings.retention_s is not None:
            self._forget(now, self.settings.retention_s)
        if self.settings.drift:
            for one in facts["columns"]:
                bad = one["column"] in facts["drifted"]
                text = _drift_sentence(one)
                self._judge(DRIFT_ALARM + one["column"], bad, now, text, {**one, "window_rows": facts["rows"]})

    def _forget(self, now: float, kept_s: float) -> None:
        self.store.forget_before(now - kept_s)
        self._forgot_at = now

    def _take_labels(self, now: float) -> int:
        taken = 0
        while joined := self.store.join_new():
            taken += len(joined)
            raised = self.performance.update(*self._outcomes(joined))
            self._judge_metric(raised, now)
        return taken

    def _outcomes(self, joined: Sequence[Joined]) -> Any:
        probability = None if joined[0].probability is None else np.array([one.probability for one in joined], dtype=np.float64)
        return outcomes_of(self.reference.target, [one.prediction for one in joined], probability, labels=[one.label for one in joined])

    def _judge_metric(self, raised: bool, now: float) -> None:
        name, facts = self.performance.metric, self.performance.facts()
        policy = self._policy(METRIC_ALARM + name)
        if policy.active and self.performance.recovered:
            self._judge(METRIC_ALARM + name, False, now, f"{name} is as it was: {_reached(facts, name)}", facts, at_once=True)
            self.performance.restart()
        elif raised or policy.active:
            self._judge(METRIC_ALARM + name, True, now, f"{name} has dropped: {_reached(facts, name)}", facts, at_once=True)

    def _judge(self, name: str, bad: bool, now: float, text: str, facts: Mapping[str, Any], *, at_once: bool = False) -> None:
        policy = self._policy(name)
        before, state = policy.active, policy.judge(bad, now, at_once=at_once)
        if state is None and policy.active == before:
            return
        event = AlarmEvent(name, state or "raised", now, text, self.model, dict(facts))
        self.store.save_alarm(now, event.to_json())
        if state is None:  # it comes again within the time of silence: nobody is told, but the log says that it holds
            return
        unsent = self.store.state(_UNSENT) or []
        self.store.save_state(_UNSENT, [*unsent, [event.to_json(), list(range(len(self._alarms)))]])
        progress.log(f"alarm {state}: {text}")

    def send_alarms(self) -> list[str]:
        """Tell of every event that was not told yet, each way by itself; return what went wrong.

        Called outside of any transaction and of the requests' way, by whoever runs the watch: a slow webhook must not hold up an answer.
        """
        with self._lock:
            unsent = self.store.state(_UNSENT) or []
        failures, kept = [], []
        for content, ways in unsent:
            left = []
            for way in ways:
                try:
                    if way < len(self._alarms):
                        self._alarms[way].send(AlarmEvent(**content))
                except Exception as error:  # noqa: BLE001 - ways of alarm are foreign code: the others are told all the same
                    failures.append(error.message if isinstance(error, RunError) else f"an alarm failed: {error!r}")
                    left.append(way)
            if left:
                kept.append([content, left])
        with self._lock, self.store.transaction():
            since = (self.store.state(_UNSENT) or [])[len(unsent) :]
            if unsent:
                self.store.save_state(_UNSENT, [*kept, *since])
        return failures

    def _policy(self, name: str) -> AlarmPolicy:
        if name not in self._policies:
            self._policies[name] = AlarmPolicy(consecutive=self.settings.consecutive, silence_s=self.settings.silence_s)
        return self._policies[name]

    def _kept(self, table: pa.Table) -> list[Any]:
        if self.settings.keep_inputs == "nothing":
            return [None] * table.num_rows
        rows = table.select([name for name in self._columns if name in table.column_names]).to_pylist()
        if self.settings.keep_inputs == "values":
            return [{name: _as_json(value) for name, value in row.items()} for row in rows]
        key = self._hash_key()
        texts = [json.dumps(row, sort_keys=True, default=str, ensure_ascii=False).encode() for row in rows]
        return [hmac.new(key, text, hashlib.sha256).hexdigest() for text in texts]

    def _hash_key(self) -> bytes:
        """The log's own key: without it nobody can tell by trying which row a hash stands for."""
        known = self.store.state(_KEY)
        if known is None:
            known = secrets.token_hex(32)
            self.store.save_state(_KEY, known)
        return bytes.fromhex(known)

    def _save(self, now: float, *, force: bool = False) -> None:
        self._unsaved = not force and 0 <= now - self._saved_at < SAVE_S
        if self._unsaved:
            return
        self._saved_at = now
        policies = {name: policy.to_json() for name, policy in self._policies.items()}
        self.store.save_state(
            _STATE,
            {
                "model": self.model,
                "name": self.name,
                "rows": self._rows,
                "repeated": self._repeated,
                "window": self._window.to_json(),
                "last": self._last,
                "performance": self.performance.to_json(),
                "policies": policies,
            },
        )

    def _go_on(self) -> None:
        state = self.store.state(_STATE)
        # what an older version kept has no name; another model's windows and tests say nothing about this one
        if state is None or (state.get("name") != self.name and state["model"] != self.model):
            return
        self._rows, self._repeated, self._last = state["rows"], state.get("repeated", 0), state["last"]
        self._window.load_json(state["window"])
        self.performance.load_json(state["performance"])
        for name, policy in state["policies"].items():
            self._policy(name).load_json(policy)


def _columns_of(bundle: Bundle, reference: ModelReference) -> list[str]:
    """Return the columns whose values are kept: all that the model takes, points in time too, which no window compares."""
    if "data.json" not in bundle.manifest["files"]:
        return list(reference.inputs)
    return list(read_preparation(bundle).columns)


def log_name(bundle: Bundle) -> str:
    """Return what logs know a model by: `NAME/NNN@HASH`; of a bundle that lies in no run the hash alone."""
    digest = hashlib.sha256((bundle.path / "manifest.json").read_bytes()).hexdigest()[:12]
    run = bundle.path.absolute().parent
    return f"{run.parent.name}/{run.name}@{digest}" if run.name.isdigit() else digest


def open_store(run: Bundle | str | PathLike[str]) -> Store:
    """Return the log of a run, where its recipe says that it is: `monitor.db` in the run's folder, unless it names another.

    Args:
        run: The run's folder or its bundle.
    """
    bundle = run if isinstance(run, Bundle) else Bundle.open(Path(run))
    place = resolve_secrets((recipe_of(bundle) or MonitorSection()).store)
    return Store(place if "://" in place else bundle.path.parent / place)


def _first_places(names: Sequence[str], new: set[str]) -> list[int]:
    """Return where ids stand for the first time, of those that are new."""
    first: dict[str, int] = {}
    for place, name in enumerate(names):
        first.setdefault(name, place)
    return sorted(place for name, place in first.items() if name in new)


def _reached(facts: Mapping[str, Any], name: str) -> str:
    now, before = facts["window"].get(name), facts["reference"].get(name)
    return f"{now:.4g} over the last labelled rows, {before:.4g} in the reference" if now is not None and before is not None else "no value"


def _drift_sentence(one: Mapping[str, Any]) -> str:
    return f"'{one['column']}': {one['verdict']}, PSI {one['psi']:.3g}{one['why'] and ', '}{one['why']}"


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode("ascii")}
    return value if value is None or isinstance(value, str | int | float | bool | list) else str(value)
