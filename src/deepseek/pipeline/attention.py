"""Where the senses of a trained network look, on rows that one brings."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from deepseek.artifacts import write_text
from deepseek.data.padding import mask_name
from deepseek.data.sources.base import rooted_batches
from deepseek.data.transforms.text import TextTransform
from deepseek.errors import InputError
from deepseek.explainers.attention import Looks, looks, mean_between
from deepseek.inference import Predictor
from deepseek.inference.backends.torch import TorchBackend
from deepseek.reporting.attention import attention_page

MOST_ROWS = 100
_LONGEST = 200


def attention(run: str | PathLike[str], table: Any, *, rows: int = 8, output: str | PathLike[str] | None = None) -> dict[str, Any]:
    """Say where the tokens of each sense look, for a network whose fusion is `cross_attention`.

    Args:
        run: The run's folder, its bundle, or the folder of its name.
        table: Rows, as `deepseek.predict` takes them; the first of them are looked at.
        rows: How many, 1 to 100.
        output: An HTML file with the same as pictures; an existing one is replaced.

    Returns:
        Plain JSON values: `run`, `senses`, `between` (for each sense how its looks are shared among all senses and nowhere, on average over
        the rows; each sums to 1), and `rows`, each with its `values`, its own `between` (nothing for a sense that it lacks), its real
        `tokens` and the `weights` between them.

    Raises:
        InputError: The network has no attention between senses, there is no row, or `rows` is out of range.

    Example:
        ```python
        seen = deepseek.attention("runs/machines", "machines.csv", output="attention.html")
        print(dict(zip([*seen["senses"], "nowhere"], seen["between"][0])))
        ```
    """
    if not 1 <= rows <= MOST_ROWS:
        raise InputError(f"rows is {rows}", hint=f"allowed: 1 to {MOST_ROWS}")
    predictor = Predictor.load(run, backend="torch")
    assert isinstance(predictor.backend, TorchBackend)
    batch = _first(predictor, table, rows)
    arrays = predictor.arrays(batch)
    seen = looks(predictor.backend.model.network, {name: torch.from_numpy(array) for name, array in arrays.items()})
    names = _names(predictor, arrays, seen)
    found = {
        "run": str(run),
        "senses": list(seen.senses),
        "between": _listed(mean_between(seen.between)),
        "rows": [
            {
                "values": {name: _plain(value) for name, value in values.items()},
                "between": _listed(seen.between[row]),
                "tokens": names[row],
                "weights": seen.tokens[row].tolist(),
            }
            for row, values in enumerate(batch.to_pylist())
        ],
    }
    if output is not None:
        write_text(Path(output), attention_page(found))
    return found


def _first(predictor: Predictor, table: Any, rows: int) -> pa.RecordBatch:
    source = predictor.open(table).as_text(predictor.preparation.text_columns)
    predictor.require_columns(source.schema().names)
    batch = next(iter(rooted_batches(source.read(columns=predictor.columns, batch_rows=rows), source.root)), None)
    if batch is None or not batch.num_rows:
        raise InputError("there is no row to look at", hint="give a table with one row at least")
    return batch.slice(0, rows)


def _listed(matrix: np.ndarray) -> list[list[float] | None]:
    return [None if np.isnan(line).any() else line.tolist() for line in matrix]


def _names(predictor: Predictor, arrays: dict[str, np.ndarray], seen: Looks) -> list[list[dict[str, Any]]]:
    """Return for each row its tokens, each with its sense and a name: a text's own, else its number."""
    texts = {str(one.name): one for one in predictor.preparation.transforms if isinstance(one, TextTransform)}
    made = []
    for row, (owners, places) in enumerate(zip(seen.owners, seen.places, strict=True)):
        counts = np.bincount(owners, minlength=len(seen.senses))
        spelled = {
            name: text.tokens(arrays[name][row][arrays[mask_name(name)][row]].tolist()) for name, text in texts.items() if name in arrays
        }
        named = []
        for owner, place in zip(owners.tolist(), places.tolist(), strict=True):
            sense = seen.senses[owner]
            own = spelled.get(sense, [])
            name = f"{sense}: {own[place]}" if len(own) == counts[owner] else sense if counts[owner] == 1 else f"{sense} {place + 1}"
            named.append({"sense": sense, "name": name})
        made.append(named)
    return made


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: of files their size."""
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return value if value is None or isinstance(value, bool | int | float) else str(value)[:_LONGEST]
