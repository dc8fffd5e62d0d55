"""Where a database is: a URL taken apart, shown without its password, and kept out of every message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from deepseek.data.sources.files import WHERE_PATHS_START
from deepseek.databases import DRIVERS, dialect_of, with_driver
from deepseek.errors import DataError, MissingExtraError
from deepseek.recipe.secrets import without_password

if TYPE_CHECKING:
    import sqlalchemy as sa

_IN_THE_EXTRA = {"psycopg", "pymysql", "sqlalchemy", "connectorx", "adbc_driver_postgresql", "adbc_driver_manager"}
_CONNECT_S = 10


class Address:
    """A database's URL.

    Args:
        url: The URL with everything in it, such as `postgresql://user:password@host/database`.
        folder: What the path of a database that is a file is relative to.

    Raises:
        DataError: It is no URL of a database.
        MissingExtraError: SQLAlchemy is not installed.
    """

    def __init__(self, url: str, folder: Path) -> None:
        try:
            from sqlalchemy.engine import make_url
            from sqlalchemy.exc import ArgumentError
        except ImportError:
            raise MissingExtraError("sqlalchemy", "sql", "reading a database") from None
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            hint = "write SCHEME://USER:PASSWORD@HOST/DATABASE, such as postgresql://me:${ENV:DATABASE_PASSWORD}@localhost/shop"
            raise DataError(f"{without_password(url)!r} is no URL of a database", hint=hint) from None
        backend, _, driver = parsed.drivername.partition("+")
        self.dialect = dialect_of(backend)
        """What the database speaks: `postgresql`, `mysql` (MariaDB too), `sqlite` and so on."""
        self.file: Path | None = None
        """The file that the database is, for SQLite."""
        if self.dialect == "sqlite" and parsed.database and parsed.database != ":memory:" and not parsed.database.startswith("file:"):
            self.file = folder / Path(parsed.database).expanduser()
            parsed = parsed.set(database=str(self.file.absolute()))
        self._url = parsed.set(drivername=f"{self.dialect}+{driver}" if driver else with_driver(self.dialect))

    def __str__(self) -> str:
        """The URL as it may be printed: without its password, and without its options, which may hold one."""
        shown = self._url.set(drivername=self.dialect, query={})
        return shown.render_as_string(hide_password=True)

    @property
    def plain(self) -> str:
        """The URL for drivers that read it themselves: `postgresql://…` or `mysql://…`, password and all."""
        plain = self._url.set(drivername=self.dialect)
        if self.dialect == "mysql":  # PyMySQL wants it; connectorx is always in UTF-8 and knows no such option
            plain = plain.difference_update_query(["charset"])
        return plain.render_as_string(hide_password=False)

    def scrub(self, text: str) -> str:
        """Return a driver's message without the password, however it is spelled there."""
        secrets = {str(self._url.password or ""), *(str(part) for name, part in self._url.query.items() if "pass" in name.lower())}
        for secret in filter(None, secrets):
            for spelled in sorted({secret, quote(secret, safe=""), quote_plus(secret)}, key=len, reverse=True):
                text = text.replace(spelled, "***")
        return text

    def stamp(self) -> tuple[tuple[str, int, int], ...] | None:
        """Return size and time of change of the files that SQLite keeps; nothing for a server."""
        if self.file is None:
            return None
        files = [file for file in (self.file, self.log) if file.is_file()]
        return tuple((str(file), status.st_size, status.st_mtime_ns) for file in files for status in (file.stat(),))

    @property
    def log(self) -> Path:
        """The file beside SQLite's own where what was written last may stand alone."""
        assert self.file is not None
        return self.file.with_name(f"{self.file.name}-wal")

    def open(self) -> sa.Engine:
        """Return an engine of SQLAlchemy that keeps no connection between calls.

        Raises:
            DataError: There is no such dialect or file, or its driver is not installed.
            MissingExtraError: A driver of the extra `sql` is not installed.
        """
        import sqlalchemy as sa

        if self.file is not None and not self.file.is_file():
            raise DataError(f"there is no database file {str(self.file)!r}", hint=WHERE_PATHS_START)
        options: dict[str, Any] = {}
        if self.dialect in DRIVERS:
            options = {"connect_args": {"connect_timeout": _CONNECT_S}}
        if self.dialect == "postgresql":  # a database of the encoding SQL_ASCII has none of its own
            options["connect_args"]["client_encoding"] = "utf8"
        try:
            return sa.create_engine(self._url, poolclass=sa.pool.NullPool, **options)
        except sa.exc.NoSuchModuleError:
            raise DataError(
                f"no database is known by {self._url.drivername.partition('+')[0]!r}, as {self} says",
                hint="known: postgresql, mysql, mariadb, sqlite, mssql, oracle, and what a package for SQLAlchemy adds, such as duckdb",
            ) from None
        except ModuleNotFoundError as error:
            library = str(error.name)
            if library.lower() in _IN_THE_EXTRA:
                raise MissingExtraError(library, "sql", f"reading {self}") from None
            raise DataError(f"reading {self} needs {library!r}, which is not installed", hint=f"pip install {library}") from None
