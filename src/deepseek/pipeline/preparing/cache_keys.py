"""What the kept stages of a run depend on besides the recipe and the table: code, plugins, and files that a table names."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.compute as pc

import deepseek
from deepseek.artifacts import sha256_json
from deepseek.data.checkpoints import checkpoint_folder
from deepseek.data.checks.base import Check
from deepseek.data.columns import is_text
from deepseek.data.landing import LandedTable
from deepseek.data.sources.base import HASHED_KEY, ROOT_KEY
from deepseek.fields import Kind, Schema
from deepseek.recipe import Recipe
from deepseek.registry import family

_FILE_KINDS = {Kind.IMAGE, Kind.VOLUME, Kind.MASK, Kind.AUDIO, Kind.SERIES}


_CODE = ("data", "fields", "statistics", "pipeline/preparing")
_LIBRARIES = ("numpy", "pillow", "polars", "pyarrow", "tokenizers")
"""What reads files, decodes pictures and cuts texts: another version may do so in another way."""


@cache
def code_version() -> str:
    """Return a hash of the code that makes data from data, and of the versions of the libraries that it does so with.

    It is part of every cache key, so that no result of older code is ever taken up.
    """
    root = Path(deepseek.__file__).parent
    own = _hash_code(root, [path for package in _CODE for path in sorted((root / package).rglob("*.py"))])
    return sha256_json([own, {name: version(name) for name in _LIBRARIES}])[:16]


def plugin_versions(recipe: Recipe) -> dict[str, str]:
    """Return a hash of the code of every plugin that a recipe names or takes a source, check, cleaner or transform from.

    A plugin that is one file is hashed by itself, an installed one with the whole package that it is in.
    """
    names = {plugin.partition(".")[0] for plugin in recipe.plugins if not plugin.endswith(".py")}
    files = {str(recipe.folder / plugin) for plugin in recipe.plugins if plugin.endswith(".py")}
    for component in _components(recipe):
        package = component.__module__.partition(".")[0]
        if package != "deepseek":
            names.add(package)
    versions = {path: _hash_code(Path(path).parent, [Path(path)]) for path in sorted(files)}
    return versions | {name: _package_version(name) for name in sorted(names)}


def check_version(check: Check) -> str:
    """Return what a check depends on besides its arguments and the rows; something new each time where there is no telling."""
    known = check.fingerprint()
    return uuid4().hex if known is None else known


def file_version(table: LandedTable, schema: Schema) -> str:
    """Return a hash of the names, sizes and times of change of the files that a table's columns of images, volumes, audio or series name.

    Files below a folder that is itself the source are passed over: their contents are in the source's fingerprint.
    """
    digest = sha256()
    for name in table.schema.names:
        field = table.schema.field(name)
        if (
            name not in schema.names
            or schema[name].kind not in _FILE_KINDS
            or not is_text(field.type)
            or HASHED_KEY in (field.metadata or {})
        ):
            continue
        root = os.fsdecode((field.metadata or {}).get(ROOT_KEY, b""))
        for path in pc.unique(table.column(name).drop_null()).to_pylist():
            digest.update(f"{path}\0{_stamp(os.path.join(root, path))}\0".encode())  # noqa: PTH118 - as for `os.stat`
    return digest.hexdigest()


def checkpoint_versions(transforms: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash of the tokenizers and configurations that transforms take from checkpoints, by checkpoint.

    Args:
        transforms: The specs of the transforms, by column or kind.
    """
    names = {spec["pretrained"] for spec in transforms.values() if isinstance(spec, Mapping) and spec.get("pretrained")}
    folders = {name: checkpoint_folder(name) for name in sorted(names)}
    return {
        name: _hash_code(folder, sorted(path for pattern in ("*.json", "*.txt") for path in folder.glob(pattern)))
        for name, folder in folders.items()
    }


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, for millions of files
        if stat.S_ISDIR(status.st_mode):  # a series of DICOM: a slice that is replaced leaves the folder as old as it was
            with os.scandir(path) as files:
                return str(sorted((one.name, one.stat().st_size, one.stat().st_mtime_ns) for one in files))
    except (OSError, ValueError):
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"


def _components(recipe: Recipe) -> Iterator[type]:
    data = recipe.data
    more = recipe.self_training.unlabelled if recipe.self_training is not None else None
    sources = [spec for given in (data.source, data.test, more) for spec in _sources_in(given)]
    for name, key in (("aggregation", "aggregations"), ("derivation", "derive")):
        for part in (part for spec in sources for part in spec.get(key, ())):
            yield family(name).get(_type_of(part))
    for name in ("stream", "decoder"):
        for part in (spec[name] for spec in sources if name in spec):
            yield family(name).get(_type_of(part))
    for name, specs in (("source", sources), ("check", data.checks), ("cleaner", data.clean), ("transform", data.transforms.values())):
        for spec in specs:
            yield family(name).get(_type_of(spec))


def _sources_in(given: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the source that a value names, and those within it: they stand under `source`, however deep."""
    if not isinstance(given, Mapping):
        return
    if isinstance(given.get("type"), str):
        yield given
    yield from _sources_below(given)


def _sources_below(given: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key, part in given.items():
        if key == "source":
            yield from _sources_in(part)
        elif isinstance(part, Mapping):
            yield from _sources_below(part)


def _type_of(spec: Any) -> str:
    return str(spec["type"]) if isinstance(spec, Mapping) else str(spec)


def _package_version(name: str) -> str:
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None:
        return "unknown"
    path = Path(file)
    return _hash_code(path.parent, sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path])


def _hash_code(root: Path, files: list[Path]) -> str:
    digest = sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
