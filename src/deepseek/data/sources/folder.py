"""A folder of images, audio or text files, one subfolder for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from deepseek.data.sources.base import SPLITS
from deepseek.data.sources.folder_files import FolderFilesSource, walk
from deepseek.data.sources.text import check_encoding, utf8_blocks
from deepseek.errors import DataError

SUFFIXES: dict[str, frozenset[str]] = {
    "image": frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}),
    "audio": frozenset({".wav", ".flac", ".ogg", ".mp3"}),
    "text": frozenset({".txt"}),
}


class FolderSource(FolderFilesSource["_Item"]):
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

    def files(self) -> list[Path]:
        """Return the files that are rows, in order: by split, class and name."""
        return [self.root / item.name for item in self._items()[0]]

    def schema(self) -> pa.Schema:
        """Return the column of the files, `label`, and `split` where the folder says it."""
        items, _ = self._items()
        kind = _kind_of(items[0].name) or ""
        fields = [pa.field(kind, pa.string(), metadata=None if kind == "text" else self._metadata()), pa.field("label", pa.string())]
        return pa.schema([*fields, pa.field("split", pa.string())] if items[0].split else fields)

    def given_split(self) -> str | None:
        """Return `split` where the folder has one subfolder for each split."""
        return "split" if self._items()[0][0].split else None

    def _values(self, rows: Sequence[_Item], column: str) -> list[str | None]:
        if column in ("label", "split"):
            return [getattr(item, column) for item in rows]
        return [self._text(item.name) if column == "text" else item.name for item in rows]

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
