"""A folder of images, audio or text files, one subfolder for each class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from deepseek.data.sources.base import HASHED_KEY, ROOT_KEY, SPLITS
from deepseek.data.sources.files import FileSource, hash_files, reject_batch
from deepseek.data.sources.remote.cache import fetch_folder
from deepseek.data.sources.remote.urls import is_remote, local_path
from deepseek.data.sources.text import check_encoding, utf8_blocks
from deepseek.errors import DataError, closest

SUFFIXES: dict[str, frozenset[str]] = {
    "image": frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}),
    "audio": frozenset({".wav", ".flac", ".ogg", ".mp3"}),
    "text": frozenset({".txt"}),
}
_BATCH_ROWS = 4_096


class FolderSource(FileSource):
    """Read a folder `CLASS/file` or `train|validation|test/CLASS/file`.

    The columns are `image`, `audio` or `text`, then `label` (the class) and, where the folder says it, `split`. Images and audio are given
    as their paths relative to the folder, whose own place stands in the column's Arrow metadata under `deepseek.root`: pictures are decoded
    where they are needed. Of texts the content is given. Hidden files are skipped; files of other suffixes are set aside (`rejects`).

    Args:
        folder: What a relative path is relative to.
        path: The folder, also one of an object store by its URL.
        kind: Which files to take; by default those of which there are most.
        encoding: How text files are encoded.
    """

    def __init__(
        self,
        folder: Path = Path(),
        /,
        *,
        path: str | Path,
        kind: Literal["image", "audio", "text"] | None = None,
        encoding: str = "utf-8",
    ) -> None:
        super().__init__(folder, path=path)
        self.kind, self.encoding = kind, check_encoding(encoding)

    @property
    def root(self) -> Path:
        """The folder that the paths in the table are relative to."""
        assert not isinstance(self.path, list)
        if is_remote(self.path):
            key = (str(self.path),)
            if key not in self._fetched:
                self._fetched[key] = [fetch_folder(str(self.path))]
            return self._fetched[key][0]
        return Path(os.path.normpath((self.folder / local_path(self.path)).expanduser().absolute()))

    def files(self) -> list[Path]:
        """Return the files that are rows, in order: by split, class and name."""
        return [self.root / item.name for item in self._items()[0]]

    def schema(self) -> pa.Schema:
        """Return the column of the files, `label`, and `split` where the folder says it."""
        items, _ = self._items()
        kind = _kind_of(items[0].name) or ""
        metadata = None if kind == "text" else {ROOT_KEY: os.fsencode(self.root), HASHED_KEY: b"1"}
        fields = [pa.field(kind, pa.string(), metadata=metadata), pa.field("label", pa.string())]
        return pa.schema([*fields, pa.field("split", pa.string())] if items[0].split else fields)

    def given_split(self) -> str | None:
        """Return `split` where the folder has one subfolder for each split."""
        return "split" if self._items()[0][0].split else None

    def fingerprint(self) -> str:
        """Return the SHA-256 of every file's name and whole content."""
        return hash_files(self.files(), self.root, digests=self.digests())

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the files that are no rows, and why; `line` is null."""
        _, bad = self._items()
        if bad:
            yield reject_batch([None] * len(bad), list(bad.values()), list(bad))

    def _batches(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        schema = self.schema()
        names = schema.names if columns is None else columns
        target = pa.schema([schema.field(name) for name in names])
        items, _ = self._items()
        for start in range(0, len(items), _BATCH_ROWS):
            part = items[start : start + _BATCH_ROWS]
            values = {"label": [item.label for item in part], "split": [item.split for item in part]}
            for name in set(names) - set(values):
                values[name] = [self._text(item.name) if name == "text" else item.name for item in part]
            yield pa.record_batch([pa.array(values[name], pa.string()) for name in names], schema=target)

    def _text(self, name: str) -> str:
        return b"".join(utf8_blocks(self.root / name, encoding=self.encoding)).decode()

    def _items(self) -> tuple[list[_Item], dict[str, str]]:
        """Return the rows, and the other files with the reason why they are none."""
        names = walk(self.root)
        found = Counter(kind for kind in map(_kind_of, names) if kind)
        if not found:
            raise DataError(f"the folder {str(self.root)!r} holds no images, audio or texts", hint=f"known suffixes: {_known()}")
        kind: str = self.kind or found.most_common(1)[0][0]
        splits = {name.split("/")[0] for name in names if _kind_of(name) == kind}
        by_split = all(part.lower() in SPLITS for part in splits)
        rows, bad = [], {}
        for name in names:
            parts = name.split("/")
            depth = 3 if by_split else 2
            if _kind_of(name) != kind:
                bad[name] = f"not {kind}: its suffix is {Path(name).suffix or 'missing'}"
            elif len(parts) != depth:
                bad[name] = f"not at {'SPLIT/CLASS/file' if by_split else 'CLASS/file'}"
            else:
                rows.append(_Item(name, parts[-2], SPLITS[parts[0].lower()] if by_split else None))
        if not rows:
            raise DataError(
                f"the folder {str(self.root)!r} has no file at {'SPLIT/CLASS/file' if by_split else 'CLASS/file'}",
                hint=_boxes_hint(names) or "make one subfolder for each class",
            )
        order = ["train", "validation", "test", None]
        return sorted(rows, key=lambda item: (order.index(item.split), item.label, item.name)), bad


@dataclass(frozen=True, slots=True)
class _Item:
    """A file that is a row: its path relative to the root, its class and its split."""

    name: str
    label: str
    split: str | None


def walk(root: Path) -> list[str]:
    """Return every file below a folder that is not hidden, as relative paths, sorted."""
    if not root.is_dir():
        names = [entry.name for entry in root.parent.iterdir() if entry.is_dir()] if root.parent.is_dir() else []
        guess = closest(root.name, names)
        raise DataError(f"there is no folder {str(root)!r}", hint=f"did you mean {str(root.parent / guess)!r}?" if guess else None)
    found = []
    for place, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [(Path(place) / name).relative_to(root).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def _boxes_hint(names: Sequence[str]) -> str | None:
    """Return how pictures with a file of boxes beside each are read, where most of a folder's are such."""
    pictures = {Path(name).with_suffix("").as_posix() for name in names if _kind_of(name) == "image"}
    boxes = {Path(name).with_suffix("").as_posix() for name in names if Path(name).suffix.lower() in (".txt", ".xml")}
    if 2 * len(pictures & boxes) <= len(pictures):
        return None
    return "pictures with a file of boxes beside each are read by data.source={type: box_files, path: …}, with data.target=boxes"


def _kind_of(name: str) -> str | None:
    suffix = Path(name).suffix.lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def _known() -> str:
    return " ".join(sorted(suffix for suffixes in SUFFIXES.values() for suffix in suffixes))
