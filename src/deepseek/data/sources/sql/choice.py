"""Which client reads a database."""

from __future__ import annotations

from typing import Literal

from deepseek.data.sources.sql.address import Address
from deepseek.data.sources.sql.alchemy import AlchemyEngine
from deepseek.data.sources.sql.engines import Engine
from deepseek.data.sources.sql.mysql import MysqlEngine
from deepseek.data.sources.sql.postgresql import PostgresqlEngine
from deepseek.errors import InputError

EngineName = Literal["auto", "adbc", "connectorx", "sqlalchemy"]

_FAST: dict[str, tuple[str, type[Engine]]] = {"postgresql": ("adbc", PostgresqlEngine), "mysql": ("connectorx", MysqlEngine)}


def engine_for(address: Address, wanted: EngineName) -> Engine:
    """Return the client for a database: of `auto` the fastest that reads it exactly.

    Raises:
        InputError: The one that is wanted does not read this database.
        MissingExtraError: It is not installed.
    """
    name, engine = _FAST.get(address.dialect, ("sqlalchemy", AlchemyEngine))
    if wanted == "sqlalchemy":
        return AlchemyEngine(address)
    if wanted not in ("auto", name):
        raise InputError(
            f"the engine {wanted!r} does not read {address.dialect}",
            hint=f"allowed: {', '.join(dict.fromkeys(('auto', name, 'sqlalchemy')))}",
        )
    return engine(address)
