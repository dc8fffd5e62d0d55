"""The edge to Optuna: importing it, opening its storages, and telling it about spaces in its own words."""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from deepseek.databases import with_driver
from deepseek.errors import InputError, MissingExtraError
from deepseek.search.space import Choice, Integer, Space

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

BEAT_S = 10
"""Seconds between two signs of life of a trial under way."""
GRACE_S = 120
"""Seconds without a sign of life after which the worker of a trial on another machine counts as dead."""
_LOCK_S = 60
_ATTEMPTS = 5


def load_optuna(purpose: str = "a search") -> Any:
    """Import Optuna and return it.

    Raises:
        MissingExtraError: It is not installed.
    """
    return _load("optuna", purpose)


def require(library: str, purpose: str) -> None:
    """Make sure that a library can be imported.

    Raises:
        MissingExtraError: It is not installed.
    """
    _load(library, purpose)


def _load(library: str, purpose: str) -> Any:
    try:
        return importlib.import_module(library)
    except ImportError:
        raise MissingExtraError(library, "tune", purpose) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log lines and its notes on experimental features to itself, for what runs inside alone."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=load_optuna().exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed to be used")
            yield
    finally:
        logger.setLevel(level)


def open_storage(storage: str | Path | None, *, on_stale: Callable[[optuna.Study, FrozenTrial], None] | None = None) -> BaseStorage:
    """Open where a study is kept.

    Args:
        storage: Nothing for memory, the path of an SQLite file (made if need be), or the URL of a database.
        on_stale: Called with a study and its trial when the trial's signs of life have stopped and it was given up.

    Raises:
        InputError: The URL is malformed, or the database cannot be reached; passwords are not shown.
        MissingExtraError: The database's driver is not installed.
    """
    optuna = load_optuna("a study")
    if storage is None:
        return cast("BaseStorage", optuna.storages.InMemoryStorage())
    url, options = _url(storage)
    try:
        return _open(url, heartbeat_stale_trial_callback=on_stale, engine_kwargs=options, heartbeat_interval=BEAT_S, grace_period=GRACE_S)
    except ImportError:
        driver = url.split("://")[0].partition("+")[2] or url.split("://")[0]
        raise MissingExtraError(driver, "tune", f"a study in {shown_storage(storage)}") from None
    except _database_errors() as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        hint = "give a path, or a URL like postgresql://user:password@host/database"
        raise InputError(f"the storage {shown_storage(storage)} cannot be opened: {_without_password(reason, url)}", hint=hint) from None


def _open(url: str, **options: Any) -> BaseStorage:
    """Open a database; processes that make its tables at the same time get in each other's way, and a later attempt finds them made."""
    for attempt in itertools.count(1):
        try:
            with quiet():
                return _one_at_a_time(load_optuna().storages.RDBStorage(url, **options))
        except _database_errors() as error:
            collided = any(word in str(error).casefold() for word in ("exist", "duplicate", "unique"))
            if attempt == _ATTEMPTS or not collided:
                raise
            time.sleep(0.2 * attempt)
    raise AssertionError


def _one_at_a_time(storage: Any) -> BaseStorage:
    """Let a transaction on an SQLite file begin with its lock, so that two workers never take the same trial.

    SQLite has no locks on rows: by itself, both would read that a trial waits before either writes that he has it.
    """
    if storage.engine.dialect.name == "sqlite":
        from sqlalchemy import event

        event.listen(storage.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return cast("BaseStorage", storage)


def _database_errors() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError  # Optuna brings it

    return SQLAlchemyError, load_optuna().exceptions.OptunaError


def shown_storage(storage: str | Path | None) -> str:
    """Return a storage as it may be printed: without its password."""
    if storage is None:
        return "memory"
    if "://" not in str(storage):
        return str(storage)
    scheme, _, rest = str(storage).partition("://")
    account, at, place = rest.rpartition("@")
    return f"{scheme}://{account.partition(':')[0]}{':***' if ':' in account else ''}{at}{place.partition('?')[0]}"


def _url(storage: str | Path) -> tuple[str, dict[str, Any]]:
    text = str(storage)
    if "://" not in text:
        path = Path(text).expanduser().resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{path}", {"connect_args": {"timeout": _LOCK_S}}
    scheme, _, rest = text.partition("://")
    options = {"connect_args": {"timeout": _LOCK_S}} if scheme.startswith("sqlite") else {"pool_pre_ping": True}
    return f"{with_driver(scheme)}://{rest}", options


def _without_password(text: str, url: str) -> str:
    account = url.partition("://")[2].rpartition("@")[0]
    password = account.partition(":")[2]
    return text.replace(password, "***") if password else text


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return a space as Optuna describes one."""
    load_optuna()
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def of(dimension: Any) -> BaseDistribution:
        if isinstance(dimension, Choice):
            return CategoricalDistribution(_labels(dimension))
        if isinstance(dimension, Integer):
            return IntDistribution(dimension.low, dimension.high, step=dimension.step, log=dimension.log)
        return FloatDistribution(dimension.low, dimension.high, log=bool(dimension.log))

    return {name: of(dimension) for name, dimension in space.items()}


def encode(space: Space, point: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point as Optuna stores it: choices that its tables do not take stand there as JSON text."""
    return {name: _encoded(space[name], value) for name, value in point.items()}


def decode(space: Space, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored point in the values of the space."""
    return {name: _decoded(space[name], stored[name]) for name in space if name in stored}


def _labels(choice: Choice) -> list[Any]:
    """Return what stands for each choice: itself, unless one is a list or mapping, or two are equal to Python (1 and true)."""
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in choice.values)
    if plain and len(set(choice.values)) == len(choice.values):
        return list(choice.values)
    return [json.dumps(value, sort_keys=True) for value in choice.values]


def _encoded(dimension: Any, value: Any) -> Any:
    return _labels(dimension)[dimension.index(value)] if isinstance(dimension, Choice) else value


def _decoded(dimension: Any, stored: Any) -> Any:
    if isinstance(dimension, Choice):
        return dimension.values[_labels(dimension).index(stored)]
    return int(stored) if isinstance(dimension, Integer) else float(stored)
