"""Example data for the first hour: generated, the same for everybody, each with something to find in it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from deepseek.artifacts import plain_disk_errors
from deepseek.errors import InputError, UnknownNameError
from deepseek.registry import import_string

__all__ = ["EXAMPLES", "example"]

EXAMPLES = {
    "customers": ("deepseek.data.examples.customers:write_customers", "a table: who leaves? numbers, categories, dates, gaps"),
    "machines": ("deepseek.data.examples.machines:write_machines", "notes, photographs, recordings and a table, with gaps: what is wrong?"),
    "photos": ("deepseek.data.examples.photos:write_photos", "a folder of images by class: circles, squares, triangles"),
    "reviews": ("deepseek.data.examples.reviews:write_reviews", "texts in several languages: content or not?"),
    "shop": (
        "deepseek.data.examples.shop:write_shop",
        "related tables with a recipe: which customers of a shop will buy nothing any more?",
    ),
    "sounds": ("deepseek.data.examples.sounds:write_sounds", "a folder of sound files by class: does the pitch rise or fall?"),
    "tickets": ("deepseek.data.examples.tickets:write_tickets", "a table of texts, categories, numbers and image paths: which team?"),
}
"""By name, what writes the data, and what it is."""


def example(name: str, folder: str | PathLike[str] = ".", *, rows: int | None = None, seed: int = 0) -> Path:
    """Write example data and return the path that `deepseek train` takes; of `shop`, whose tables need one, the recipe for `deepseek run`.

    Everything is generated: no person, text or picture in it is real, and what a model reaches on it says nothing of other data.

    Args:
        name: `customers`, `machines`, `photos`, `reviews`, `shop`, `sounds` or `tickets`.
        folder: Where it goes; made if it is not there. An existing file or folder of the same name is never overwritten.
        rows: How many rows there are, at least 10; each example has its own default.
        seed: Another seed gives other rows of the same kind.

    Raises:
        UnknownNameError: There is no such example.
        InputError: `rows` is too small, or the files are there already.
        RunError: The folder cannot be written to.

    Example:
        ```python
        path = deepseek.example("customers")
        run = deepseek.train(path, target="churned")
        ```
    """
    if name not in EXAMPLES:
        raise UnknownNameError("example", name, EXAMPLES)
    if rows is not None and rows < 10:
        raise InputError(f"{rows} rows are asked for", hint="an example has at least 10")
    write = import_string(EXAMPLES[name][0])
    home = Path(folder)
    with plain_disk_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        given = {} if rows is None else {"rows": rows}
        written: Path = write(home, seed=seed, **given)
    return written
