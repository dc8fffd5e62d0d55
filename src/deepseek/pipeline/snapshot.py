"""Taking the snapshot of a recipe's stream further, without training on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from deepseek.data.sources.stream import SnapshotSource
from deepseek.errors import InputError
from deepseek.pipeline.preparing.sources import source_of
from deepseek.pipeline.recipes import open_recipe
from deepseek.recipe import Recipe


def snapshot(recipe: str | PathLike[str] | Mapping[str, Any] | Recipe, *, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a recipe's stream up to its bound into the folder of its snapshot, behind what is there already: its next version.

    A run reads the last version and never the stream, so that the same recipe sees the same rows until this is called. It may be killed at
    any moment and called again: every message is there once.

    Args:
        recipe: A recipe (file, mapping) or a run, whose `data.source` is of type `kafka`, `pulsar` or `stream`.
        overrides: Keys of the recipe, each `PATH=VALUE`.

    Returns:
        `path`, `version`, `new` (messages that came with this call), and of the whole version `rows`, `rejected`, `missing` (messages that
        were no longer kept, by partition) and `position`.

    Raises:
        CheckError: Too many messages cannot be decoded.
        DataError: The stream cannot be read, or no longer keeps what comes next.
        InputError: The source is no stream, its folder holds another one, or another process writes to it.
    """
    _, checked = open_recipe(recipe, overrides)
    source = source_of(checked, checked.data.source)
    if not isinstance(source, SnapshotSource):
        raise InputError("data.source is no stream", hint="snapshots are taken of sources of type kafka, pulsar or stream")
    before = source.messages()
    manifest = source.take()
    last = manifest.versions[-1]
    return {
        "path": str(source.path),
        "version": last.number,
        "new": source.messages() - before,
        **manifest.counts(),
        "position": manifest.position,
    }
