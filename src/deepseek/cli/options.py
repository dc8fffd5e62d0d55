"""The options that several verbs share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from deepseek.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout and nothing else.")]
Overrides = Annotated[list[str], typer.Option("--set", metavar="PATH=VALUE", help="Override a key of the recipe; may be repeated.")]
Out = Annotated[str, typer.Option("--out", metavar="FOLDER", help="Folder that holds the runs.")]
RecipePath = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe (a YAML file), or the folder of a run.")]
Plugins = Annotated[list[str], typer.Option("--plugin", metavar="FILE", help="A plugin that the bundle needs; may be repeated.")]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder or a bundle.")]
Table = Annotated[str | None, typer.Option("--table", metavar="NAME", help="The table, where SOURCE is a database's URL.")]
Query = Annotated[str | None, typer.Option("--query", metavar="SELECT", help="A query in the place of a table.")]

KEY_VARIABLE = "DEEPSEEK_KEY"
"""The environment variable with the key of a server, for where none is given: the arguments of a process can be seen by everybody."""


def key_given(key: str | None) -> str | None:
    """Return the key that a server is shown: the option's, the environment variables that it names put in, or that of `DEEPSEEK_KEY`.

    Raises:
        InputError: It names a variable that is not set.
    """
    from deepseek.recipe.secrets import resolve_secret  # not needed for `--help`

    return os.environ.get(KEY_VARIABLE) or None if key is None else resolve_secret(key)


def source_given(source: str, *, table: str | None, query: str | None) -> Any:
    """Return the source that the command line names: a path as it is, a table or query of a database as a spec.

    Raises:
        InputError: A table or query is named of something that is no database.
    """
    if table is None and query is None:
        return source
    from deepseek.data.sources import is_database  # not needed for `--help`
    from deepseek.recipe import without_password

    if not is_database(source):
        option = "--table" if query is None else "--query"
        shown = without_password(source)
        raise InputError(f"{option} goes with a database's URL, and SOURCE is {shown!r}", hint="such as postgresql://me@localhost/shop")
    return {"type": "sql", "url": source, **({} if table is None else {"table": table}), **({} if query is None else {"query": query})}


def sources_given(sources: Sequence[str], *, table: str | None, query: str | None) -> list[Any]:
    """Return the sources that the command line names: files as they are, or the table or query of one database.

    Raises:
        InputError: A table or query is named, and not one source, or one that is no database.
    """
    if table is None and query is None:
        return list(sources)
    if len(sources) != 1:
        raise InputError(f"--table and --query go with one database, and {len(sources)} sources are given", hint="name its URL alone")
    return [source_given(sources[0], table=table, query=query)]
