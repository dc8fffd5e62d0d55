"""What exactly a run was trained on: a manifest of content hashes, and the difference between two of them in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepseek.artifacts.files import sha256_file, sha256_json
from deepseek.data.landing import LandedTable
from deepseek.data.sources.base import DEFINITIONS, Source
from deepseek.data.sources.files import FileSource
from deepseek.data.spellings import RespelledSource
from deepseek.data.splits import split_counts


def manifest(source: Source, landed: LandedTable, *, split: np.ndarray | None = None) -> dict[str, Any]:
    """Return the version of the data behind a run, as plain JSON values; the pipeline writes it to the run's `data.json`.

    Args:
        source: Where the rows came from; its files, where it has any, are hashed, or were when its fingerprint was taken.
        landed: The table that they became.
        split: int8 `[rows]` from `assign_split`, where it is made already.

    Returns:
        `files` (path, size in bytes and SHA-256 of each, sorted), `fingerprint` of the source, `revision` (the commit of a dataset of the
        hub, where it is one), `columns` (name to Arrow type) and their hash `schema`, `rows` (read, kept, malformed, what each check
        found), `split` (rows of each part), and `features`, the definitions by which a source makes its columns, where it does.
    """
    columns = {field.name: str(field.type) for field in landed.schema}
    source = source.origin if isinstance(source, RespelledSource) else source
    definitions = source.definitions()
    return {
        **({} if definitions is None else {DEFINITIONS: definitions}),
        "files": [{"path": str(path), "size_bytes": path.stat().st_size, "sha256": digest} for path, digest in _files(source)],
        "fingerprint": source.fingerprint(),
        "revision": getattr(source, "revision", None),
        "columns": columns,
        "schema": sha256_json(list(columns.items())),
        "rows": landed.counts.to_json(),
        "split": None if split is None else split_counts(split),
    }


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the differences between two manifests, a sentence each; empty where the data are the same.

    Args:
        before: What `manifest` returned for one run.
        after: What it returned for another.
    """
    differences = _compare_files(before, after)
    if not differences and before["fingerprint"] != after["fingerprint"]:
        differences.append("the content of the source changed")
    differences += _compare_columns(before["columns"], after["columns"])
    for key in ("read", "kept", "malformed"):
        if before["rows"][key] != after["rows"][key]:
            differences.append(f"rows {key}: {before['rows'][key]:,} became {after['rows'][key]:,}")
    differences += _compare_checks(before["rows"]["checks"], after["rows"]["checks"])
    old, new = before["split"] or {}, after["split"] or {}
    for part in sorted({*old, *new}):
        if old.get(part, 0) != new.get(part, 0):
            differences.append(f"rows of {part}: {old.get(part, 0):,} became {new.get(part, 0):,}")
    return differences


def _files(source: Source) -> list[tuple[Path, str]]:
    if isinstance(source, FileSource):
        return sorted(source.digests().items())
    listed = getattr(source, "files", None)  # only sources that read files have it
    return [(path, sha256_file(path)) for path in sorted(map(Path, listed()))] if callable(listed) else []


def _compare_files(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old = {file["path"]: file for file in before["files"]}
    new = {file["path"]: file for file in after["files"]}
    moved = {file["sha256"]: path for path, file in old.items() if path not in new}
    differences = []
    for path in sorted({*old, *new}):
        if path not in old:
            origin = moved.pop(new[path]["sha256"], None)
            differences.append(f"{path} was added" if origin is None else f"{origin} was moved to {path}")
        elif path in new and old[path]["sha256"] != new[path]["sha256"]:
            differences.append(f"{path} changed: {old[path]['size_bytes']:,} bytes became {new[path]['size_bytes']:,}")
    removed = {path for path in old if path not in new and path in moved.values()}
    return differences + [f"{path} was removed" for path in sorted(removed)]


def _compare_columns(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    differences = [f"the column {name!r} was added" for name in new if name not in old]
    differences += [f"the column {name!r} was removed" for name in old if name not in new]
    differences += [f"the column {name!r} changed from {old[name]} to {new[name]}" for name in old if new.get(name, old[name]) != old[name]]
    if not differences and list(old) != list(new):
        differences.append("the columns stand in another order")
    return differences


def _compare_checks(old: list[Mapping[str, Any]], new: list[Mapping[str, Any]]) -> list[str]:
    before = {check["reason"]: check for check in old}
    after = {check["reason"]: check for check in new}
    differences = [f"the check {reason!r} was added" for reason in after if reason not in before]
    differences += [f"the check {reason!r} was removed" for reason in before if reason not in after]
    for reason in before:
        if reason in after and before[reason]["bad"] != after[reason]["bad"]:
            differences.append(f"rows that break {reason!r}: {before[reason]['bad']:,} became {after[reason]['bad']:,}")
    return differences
