"""A folder of pictures or volumes and a folder of their masks, file beside file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from deepseek.data.sources.folder import SUFFIXES
from deepseek.data.sources.folder_files import FolderFilesSource, walk
from deepseek.data.sources.groups import GROUP, NamedGroups
from deepseek.data.volumes import is_volume, stem_of, with_series
from deepseek.errors import DataError

PAIRS = (("images", "masks"), ("images", "labels"), ("imagesTr", "labelsTr"))
"""The folders of pictures and of masks that are known, the first that are there being taken."""
_CHANNEL = re.compile(r"_(\d{4})$")


class MasksSource(FolderFilesSource[tuple[str, str]]):
    """Read a folder of pictures or volumes with a folder of their masks: `images/NAME` with `masks/NAME`.

    The folder of masks may also be called `labels/`; `imagesTr/` with `labelsTr/`, as the Medical Segmentation Decathlon and nnU-Net lay
    volumes out, are known too. The columns are `image` and `mask`, paths relative to the folder. A picture and its mask have the same name,
    but for the suffix and the `_0000` that nnU-Net puts behind the name of a volume; suffixes are those of pictures, `.nii` and `.nii.gz`.
    A folder of DICOM within them is one volume, `images/NAME/` with `masks/NAME.nii.gz`.
    Pictures without a mask and masks without a picture are set aside (`rejects`).

    Args:
        folder: What a relative path is relative to.
        path: The folder, also one of an object store by its URL.
        images: The subfolder of the pictures, where it is called otherwise.
        masks: The subfolder of the masks, where it is called otherwise.
        group: A regular expression that says from a file's name whose it is, such as `(patient[0-9]+)_`: what its first group finds is
            the column `group`, which `split.group` keeps together.
    """

    def __init__(
        self,
        folder: Path = Path(),
        /,
        *,
        path: str | Path,
        images: str | None = None,
        masks: str | None = None,
        group: str | None = None,
    ) -> None:
        super().__init__(folder, path=path)
        self.images, self.masks, self.group = images, masks, group
        self._groups = None if group is None else NamedGroups(group)

    def files(self) -> list[Path]:
        """Return all files that rows name, in order; of a series of DICOM those in its folder."""
        named = [self.root / name for pair in self._items()[0] for name in pair]
        return [file for path in named for file in (sorted(path.iterdir()) if path.is_dir() else [path]) if file.is_file()]

    def schema(self) -> pa.Schema:
        """Return the columns `image` and `mask`."""
        fields = [pa.field(name, pa.string(), metadata=self._metadata()) for name in ("image", "mask")]
        return pa.schema(fields if self._groups is None else [*fields, pa.field(GROUP, pa.string())])

    def _values(self, rows: Sequence[tuple[str, str]], column: str) -> list[str | None]:
        if column == GROUP:
            assert self._groups is not None
            return [*self._groups.of([image for image, _ in rows])]
        place = ("image", "mask").index(column)
        return [pair[place] for pair in rows]

    def _items(self) -> tuple[list[tuple[str, str]], dict[str, str]]:
        """Return pairs of paths, and the other files with the reason why they are none."""
        pictures, masks = self._subfolders()
        bad: dict[str, str] = {}
        images, labels = (self._named(name, bad) for name in (pictures, masks))
        if not set(images) & set(labels):
            raise DataError(
                f"no file of {str(self.root / pictures)!r} has a mask of the same name in {str(self.root / masks)!r}",
                hint="a picture and its mask have the same name, but for the suffix",
            )
        bad |= {images[name]: "there is no mask of this name" for name in sorted(set(images) - set(labels))}
        bad |= {labels[name]: "there is no picture of this name" for name in sorted(set(labels) - set(images))}
        return [(images[name], labels[name]) for name in sorted(set(images) & set(labels))], bad

    def _subfolders(self) -> tuple[str, str]:
        if self.images is not None or self.masks is not None:
            return self.images or "images", self.masks or "masks"
        found = pair_of(self.root)
        if found is None:
            known = "; ".join(f"{one}/ and {two}/" for one, two in PAIRS)
            raise DataError(f"{str(self.root)!r} has no folders of pictures and masks", hint=f"known: {known}; or name them: images, masks")
        return found

    def _named(self, subfolder: str, bad: dict[str, str]) -> dict[str, str]:
        """Return the files of a subfolder by what a picture and its mask have in common."""
        found: dict[str, str] = {}
        listed = walk(self.root / subfolder)
        apart = [name for name in listed if "/" not in name]  # slices are of one volume where they have a folder of their own
        for name in sorted([*apart, *with_series(name for name in listed if "/" in name)]):
            path = f"{subfolder}/{name}"
            series = (self.root / path).is_dir()
            if not (series or is_volume(name) or Path(name).suffix.lower() in SUFFIXES["image"]):
                bad[path] = f"no picture: its suffix is {Path(name).suffix or 'missing'}"
                continue
            stem = Path(name).name if series else stem_of(name)
            channel = _CHANNEL.search(stem) if is_volume(name) else None
            if channel and channel[1] != "0000":
                bad[path] = f"a further channel ({channel[1]}) of a volume: volumes are read with one channel"
                continue
            key = str(Path(name).parent / (stem[: channel.start()] if channel else stem))
            if key in found:
                bad[path] = f"{found[key]} has the same name"
            else:
                found[key] = path
        return found


def pair_of(folder: Path) -> tuple[str, str] | None:
    """Return the names of a folder's subfolders of pictures and masks, or nothing where it has none."""
    return next(((one, two) for one, two in PAIRS if (folder / one).is_dir() and (folder / two).is_dir()), None)
