"""Exported bundles on the disk: written into a hidden folder, and kept whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from deepseek.artifacts import Bundle, plain_disk_errors, replace_folder, write_bundle
from deepseek.exporters.original import Original
from deepseek.exporters.parity import Parity
from deepseek.inference.backends.choice import identity_of
from deepseek.inference.reading import EXPORT

_OF_NETWORK = "model.json"
COMPRESSION = "compression.json"
"""What a bundle in fewer bits cost and gained, beside those that it was compared with."""


@dataclass(frozen=True)
class Exported:
    """An exported bundle and how it compares with the original.

    Attributes:
        bundle: The opened bundle.
        parity: How far the answers lie apart.
        document: Its `export.json`.
    """

    bundle: Bundle
    parity: Parity
    document: dict[str, Any]

    @property
    def files(self) -> list[str]:
        """The files of the network itself, without the JSON that says how it is asked, what it was trained on and what was compared."""
        return [name for name in self.bundle.manifest["files"] if not _is_kept(name) and name != EXPORT]


def document_of(original: Original, *, backend: str, precision: str) -> dict[str, Any]:
    """Return the beginning of an export's `export.json`.

    Args:
        original: What is exported.
        backend: What runs the export.
        precision: The type of its arithmetic.
    """
    outputs = list(original.graph.outputs)
    return {"backend": backend, "precision": precision, "outputs": outputs, "origin": identity_of(original.bundle)}


@contextmanager
def hidden_bundle(
    original: Original, folder: Path, *, document: Mapping[str, Any], write: Callable[[Path], None], copies: Sequence[str] = ()
) -> Iterator[Bundle]:
    """Write an exported bundle into a hidden folder, and take it away when the block ends.

    Args:
        original: What is exported.
        folder: The folder in which the hidden one is made.
        document: Its `export.json`.
        write: Puts the network's files into the folder that it is given.
        copies: The files of the original bundle that stand beside them.
    """
    hidden = folder / f".export-{uuid4().hex}"
    source = original.bundle
    try:
        with write_bundle(hidden, _documents(source, document), plugins=source.manifest["plugins"]) as target:
            for name in copies:
                shutil.copyfile(source.file(name), target / name)
            write(target)
        del write  # it may hold the whole network, and what waits here keeps what it names
        yield Bundle.open(hidden)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def keep(made: Exported, target: Path, more: Mapping[str, Any] | None = None, *, table: Mapping[str, Any] | None = None) -> Bundle:
    """Keep an exported bundle; one that stands there already is replaced in one step.

    Args:
        made: What was exported and compared.
        target: Its folder.
        more: What else its `export.json` says.
        table: Its `compression.json`; none where not given.
    """
    document = {**made.document, **(more or {})}
    return replace_bundle(
        target, made.bundle, document=document, files=made.files, more={} if table is None else {COMPRESSION: dict(table)}
    )


def replace_bundle(
    target: Path, source: Bundle, *, document: Mapping[str, Any], files: Sequence[str], more: Mapping[str, Any] | None = None
) -> Bundle:
    """Write a bundle with the documents and some files of another one, in the place of whatever stands there.

    Args:
        target: Its folder.
        source: Where documents and files come from.
        document: Its `export.json`.
        files: The files besides the documents.
        more: Further JSON documents, by name.

    Raises:
        RunError: It cannot be written; what stood there is as it was.
    """
    fresh = target.with_name(f".{target.name}.{uuid4().hex}")
    try:
        documents = {**_documents(source, document), **(more or {})}
        with write_bundle(fresh, documents, plugins=source.manifest["plugins"]) as folder, plain_disk_errors(target):
            for name in files:
                shutil.copyfile(source.file(name), folder / name)
        replace_folder(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Bundle.open(target)


def _documents(bundle: Bundle, document: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: bundle.read(name) for name in bundle.manifest["files"] if _is_kept(name)}, EXPORT: dict(document)}


def _is_kept(name: str) -> bool:
    """Whether a file of a bundle holds for every form of its network: all JSON but what describes the network, and what one form cost."""
    return name.endswith(".json") and name not in (_OF_NETWORK, EXPORT, COMPRESSION)
