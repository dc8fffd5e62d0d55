"""The log of a served run, read and forgotten by hand: what its windows, metrics and alarms came to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from deepseek.artifacts import Bundle
from deepseek.errors import InputError
from deepseek.monitoring.settings import recipe_of
from deepseek.monitoring.store import Store
from deepseek.monitoring.watcher import Watcher, log_name, open_store
from deepseek.recipe.secrets import resolve_secrets
from deepseek.recipe.sections import MonitorSection


def read_log(run: str | PathLike[str], *, most: int = 10) -> dict[str, Any]:
    """Return what the log of a run holds, as plain JSON values; a server may go on writing to it.

    Args:
        run: The run's folder or its bundle.
        most: Most windows and most alarms that are returned.

    Returns:
        `store`, `counts` (requests, labels, and labels that met their request), `windows` and `events` (alarms, the oldest first), and what
        `Watcher.check` returns: `rows`, `performance`, `alarms` (those that are raised now) and others.

    Raises:
        InputError: The run has no log.
    """
    bundle, shown = _logged(run)
    watcher = Watcher.open(bundle.path)
    try:
        store = watcher.store
        return {
            **watcher.check(),
            "store": shown,
            "counts": store.counts(),
            "windows": [_short(one) for one in store.windows(most)],
            "events": [{name: one[name] for name in ("at", "name", "state", "summary")} for one in store.alarms(most)],
        }
    finally:
        watcher.store.close()


def forget(run: str | PathLike[str], *, ids: Sequence[str] = (), older_s: float | None = None) -> dict[str, Any]:
    """Take requests out of a run's log with all that is kept of them, as when a person asks for it.

    What the windows and metrics came to stays: it holds no row.

    Args:
        run: The run's folder or its bundle.
        ids: The requests' ids.
        older_s: Also everything older than so many seconds.

    Returns:
        `store`, how many requests were `forgotten`, and which of the ids are `unknown`.

    Raises:
        InputError: The run has no log.
    """
    bundle, shown = _logged(run)
    with open_store(bundle) as whole:
        store: Store = whole.of(log_name(bundle))
        unknown = [name for name in ids if name not in store.known(ids)]
        gone = store.delete(ids)
        if older_s is not None:
            gone += store.forget_before(time.time() - older_s)
    return {"store": shown, "forgotten": gone, "unknown": unknown}


def _logged(run: str | PathLike[str]) -> tuple[Bundle, str]:
    """Return a run's bundle and where its log is, as it may be shown: of a database only what kind it is."""
    bundle = Bundle.open(Path(run))
    place = resolve_secrets((recipe_of(bundle) or MonitorSection()).store)
    if "://" in place:
        return bundle, f"{place.partition('://')[0]}://…"
    path = bundle.path.parent / place
    if not path.is_file():
        raise InputError(f"{run} has no log: there is no {path}", hint="serve it with a section monitor in its recipe, or with --watch")
    return bundle, str(path)


def _short(window: dict[str, Any]) -> dict[str, Any]:
    return {name: window.get(name) for name in ("began", "ended", "rows", "drifted", "wrong", "metrics", "estimate")}
