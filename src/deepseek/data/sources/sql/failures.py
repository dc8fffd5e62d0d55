"""What database drivers raise, as errors that say what to do; a lost connection is told from a refused one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deepseek.errors import DataError

if TYPE_CHECKING:
    from deepseek.data.sources.sql.address import Address

_LOST = re.compile(
    r"connection refused|can't connect|could not connect|server closed the connection|connection (?:was )?(?:reset|lost|closed|aborted)"
    r"|lost connection|gone away|terminating connection|is starting up|is shutting down|system is in recovery|recovery mode"
    r"|not (?:yet )?accepting connections"
    r"|broken pipe|timed? ?out|bytes remaining on stream|unexpected (?:eof|end of file)|no connection to the server|connection not open"
    r"|too many (?:connections|clients)|database is locked|connection is lost|the connection is closed|io error",
    re.IGNORECASE,
)
_ACCESS = re.compile(
    r"password authentication failed|access denied|no password supplied|role .* does not exist|login failed", re.IGNORECASE
)
_HOST = re.compile(
    r"could not translate host|failed to resolve host|name or service not known|nodename nor servname|name resolution"
    r"|getaddrinfo|lookup address",
    re.IGNORECASE,
)
_DATABASE = re.compile(r"database .* does not exist|unknown database", re.IGNORECASE)


class LostError(Exception):
    """The server cannot be reached now, or went away: what was asked may succeed when it is asked again."""


@contextmanager
def talking(address: Address, *, doing: str) -> Iterator[None]:
    """Turn whatever a driver raises inside the block into a `LostError` or a `DataError`, without the password and without its traceback.

    Args:
        address: The database.
        doing: What fails then: "the query is refused".
    """
    errors = driver_errors()
    try:
        yield
    except errors as error:
        raise explained(error, address, doing=doing) from None
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # connectorx: what a Rust thread dies of; no class of it can be imported
            raise explained(error, address, doing=doing) from None
        raise


def driver_errors() -> tuple[type[BaseException], ...]:
    """Return the classes of what the installed drivers raise."""
    import pyarrow as pa
    from sqlalchemy.exc import SQLAlchemyError

    found: list[type[BaseException]] = [SQLAlchemyError, OSError, RuntimeError, pa.ArrowException]
    try:
        from adbc_driver_manager import Error

        found.append(Error)
    except ImportError:
        pass
    return tuple(found)


def explained(error: BaseException, address: Address, *, doing: str) -> Exception:
    """Return what a driver's error means."""
    text = address.scrub(_message(error))
    if isinstance(error, OSError | RuntimeError) and not str(error):
        text = type(error).__name__
    if _HOST.search(text):
        return DataError(f"the host of {address} is not known: {text}", hint="check its name in the URL")
    if _ACCESS.search(text):
        hint = "check user and password; a recipe takes the password from the environment: ${ENV:DATABASE_PASSWORD}"
        return DataError(f"{address} lets this user not in: {text}", hint=hint)
    if _DATABASE.search(text):
        return DataError(f"{address} is not there: {text}", hint="check the database's name, the last part of the URL")
    if _LOST.search(text):
        return LostError(text)
    return DataError(f"{doing}: {text}", hint=_hint(error))


def _message(error: BaseException) -> str:
    """Return the first sentence of what the driver said; what SQLAlchemy adds is the statement and a link."""
    original = getattr(error, "orig", None) or error
    diagnosis = getattr(getattr(original, "diag", None), "message_primary", None)
    if diagnosis:
        return str(diagnosis)
    match getattr(original, "args", ()):
        case (int(), str(text)):  # MySQL: number, text
            return text
    return re.sub(r"\s+", " ", str(original)).partition(" Query was:")[0].strip()[:500]


def _hint(error: BaseException) -> str | None:
    """Return the database's own advice: PostgreSQL knows which column was probably meant."""
    original = getattr(error, "orig", None)
    hint = getattr(getattr(original, "diag", None), "message_hint", None)
    return str(hint) if hint else None
