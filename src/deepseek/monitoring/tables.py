"""The tables of a log: made where they are not there, and brought up from what older versions have left."""

from __future__ import annotations

import json
from hashlib import sha256

from deepseek.errors import InputError
from deepseek.monitoring.connections import Database

_KEYS = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "BIGSERIAL PRIMARY KEY",
    "mysql": "BIGINT AUTO_INCREMENT PRIMARY KEY",
    "mariadb": "BIGINT AUTO_INCREMENT PRIMARY KEY",
}
LONGEST_ID = 190
"""Most characters of an id in a database; a file takes any."""
_ID = f"VARCHAR({LONGEST_ID})"
_EXACT = ("utf8mb4_nopad_bin", "utf8mb4_0900_bin", "utf8mb4_bin")
"""Collations of MariaDB and MySQL that tell any two texts apart, the best first; the last, of old servers, overlooks blanks at the end."""
_TABLES = (
    "deepseek_requests (seq {key}, id {id} NOT NULL, at DOUBLE PRECISION NOT NULL, prediction {text} NOT NULL, "
    "probability {text}, inputs {text}, {model}, UNIQUE (model, id){index_at})",
    "deepseek_labels (seq {key}, id {id} NOT NULL, at DOUBLE PRECISION NOT NULL, label {text} NOT NULL, {model}{index_id})",
    "deepseek_pending (id {id} NOT NULL, {model}, PRIMARY KEY (model, id))",
    "deepseek_outcomes (id {id} NOT NULL, {model}, PRIMARY KEY (model, id))",
    "deepseek_windows (seq {key}, began DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION NOT NULL, content {text} NOT NULL, {model})",
    "deepseek_alarms (seq {key}, at DOUBLE PRECISION NOT NULL, content {text} NOT NULL, {model})",
    "deepseek_state (name {id} NOT NULL PRIMARY KEY, content {text} NOT NULL)",
)
_MODEL = "model {id} DEFAULT '' NOT NULL"
NAMES = {"id": "{id} NOT NULL", "name": "{id} NOT NULL", "model": "{id} DEFAULT '' NOT NULL"}
"""Columns that rows are told apart by."""
_REBUILT = {"requests": "id, at, prediction, probability, inputs", "pending": "id", "outcomes": "id"}
"""Tables whose ids were unique by themselves before logs were shared: they are made anew, in their order."""
_OWN = frozenset(table.partition(" ")[0] for table in _TABLES)
_UNCLAIMED = "unclaimed"


def state_name(model: str, name: str) -> str:
    """Return what a model's value is called in the table of values.

    Args:
        model: What the model is known by; empty for the whole log.
        name: What the value is called.
    """
    return f"{name}:{sha256(model.encode()).hexdigest()[:32]}" if model else name


class Tables:
    """The tables of one log; what it does belongs in a transaction.

    Args:
        database: The log's database.

    Attributes:
        bounded: Whether ids are cut, or refused, beyond `LONGEST_ID`.

    Raises:
        InputError: No log is kept in a database of this kind.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        if database.dialect not in _KEYS:
            raise InputError(f"no log is kept in {database.dialect}", hint=f"allowed: a file, {', '.join(sorted(_KEYS))}")
        self._inlined = database.dialect in {"mysql", "mariadb"}  # they know no CREATE INDEX IF NOT EXISTS
        self.bounded = database.dialect != "sqlite"
        self._id = _ID

    def make(self) -> None:
        """Make the tables that are not there yet, and let several models share those of older versions."""
        if self._inlined:
            self._tell_apart()
        self._share()
        for table in _TABLES:
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {self._columns(table)}")
        if not self._inlined:
            self._database.execute("CREATE INDEX IF NOT EXISTS deepseek_labels_id ON deepseek_labels (id)")
            self._database.execute("CREATE INDEX IF NOT EXISTS deepseek_requests_at ON deepseek_requests (at)")

    def claim(self, model: str) -> None:
        """Give a model what an older version has logged for one model alone, unless another has it.

        Args:
            model: What the model is known by.
        """
        if self._database.query("SELECT name FROM deepseek_state WHERE name = :name", {"name": _UNCLAIMED}):
            self._take_over(model)

    def _take_over(self, model: str) -> None:
        for table in ("requests", "labels", "pending", "outcomes", "windows", "alarms"):
            sql = f"UPDATE deepseek_{table} SET model = :model WHERE model = ''"  # noqa: S608 - names from here
            self._database.execute(sql, [{"model": model}])
        self._database.execute("DELETE FROM deepseek_state WHERE name = :name", [{"name": _UNCLAIMED}])
        for (name,) in self._database.query("SELECT name FROM deepseek_state"):
            self._database.execute(
                "UPDATE deepseek_state SET name = :new WHERE name = :old", [{"new": state_name(model, name), "old": name}]
            )

    def _share(self) -> None:
        """Make a log of one model, as older versions kept it, into one that several may share."""
        found = self._database.columns("deepseek_requests")
        if not found or "model" in found:
            return
        for table in ("labels", "windows", "alarms"):
            self._database.execute(f"ALTER TABLE deepseek_{table} ADD COLUMN {_MODEL.format(id=self._id)}")
        for table, columns in _REBUILT.items():
            (made,) = (one for one in _TABLES if one.startswith(f"deepseek_{table} "))
            self._database.execute(f"ALTER TABLE deepseek_{table} RENAME TO deepseek_old_{table}")
            self._database.execute(f"CREATE TABLE {self._columns(made)}")
            order = " ORDER BY seq" if table == "requests" else ""
            self._database.execute(f"INSERT INTO deepseek_{table} ({columns}) SELECT {columns} FROM deepseek_old_{table}{order}")  # noqa: S608
            self._database.execute(f"DROP TABLE deepseek_old_{table}")
        self._database.execute("DELETE FROM deepseek_state WHERE name = :name", [{"name": _UNCLAIMED}])
        self._database.execute(
            "INSERT INTO deepseek_state (name, content) VALUES (:name, :content)", [{"name": _UNCLAIMED, "content": json.dumps(True)}]
        )

    def _tell_apart(self) -> None:
        """Let ids that differ in case, accents or blanks alone be several, also in tables of older versions: by default they are one."""
        known = {name for (name,) in self._database.query("SELECT COLLATION_NAME FROM information_schema.COLLATIONS")}
        exact = next(name for name in _EXACT if name in known)
        self._id = f"{_ID} CHARACTER SET utf8mb4 COLLATE {exact}"
        found = self._database.query(
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() "
            "AND COLUMN_NAME IN ('id', 'name', 'model') AND COLLATION_NAME <> :exact",
            {"exact": exact},
        )
        for table, column in found:
            if table in _OWN:
                self._database.execute(f"ALTER TABLE {table} MODIFY {column} {NAMES[column].format(id=self._id)}")

    def _columns(self, table: str) -> str:
        inline = {"index_at": ", INDEX (at)", "index_id": ", INDEX (id)"} if self._inlined else {"index_at": "", "index_id": ""}
        text = "LONGTEXT" if self._inlined else "TEXT"
        return table.format(key=_KEYS[self._database.dialect], id=self._id, text=text, model=_MODEL.format(id=self._id), **inline)
