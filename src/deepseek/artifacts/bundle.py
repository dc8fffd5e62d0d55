"""The bundle: a trained model as a folder of JSON and safetensors that runs the same anywhere and executes nothing when opened."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepseek.artifacts.files import check_hashes, fresh_folder, hash_files, plain_disk_errors, read_json, sha256_file, write_json
from deepseek.artifacts.run import standing_runs
from deepseek.errors import BundleError, closest

FORMAT = "deepseek-bundle"
FORMAT_VERSION = 1
_MANIFEST = "manifest.json"
_HASH = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, every file of which was compared with the hash recorded when it was made.

    Attributes:
        path: The folder.
        manifest: What `manifest.json` holds: format, version, files with their hashes, plugins.
    """

    path: Path
    manifest: dict[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Open a bundle, the bundle inside a run, or that of the newest finished run of a name (`runs/NAME`) that is not held.

        Raises:
            BundleError: There is none, it is from a newer version, or a file is missing, added or changed.
        """
        if (found := cls.find(path)) is not None:
            return cls._open(found)
        if (path / "recipe.yaml").is_file():
            raise BundleError(f"the run {path} was never finished", hint=f"go on with it: deepseek run {path} --resume")
        if not path.exists():
            near = closest(path.name, (other.name for other in path.parent.glob("[!.]*"))) if path.parent.is_dir() else None
            meant = f"did you mean {str(path.with_name(near))!r}? " if near else ""
            raise BundleError(f"there is no {path}", hint=f"{meant}give a run's folder (runs/NAME/001) or the bundle folder inside it")
        raise BundleError(f"{path} holds no bundle", hint="give a run's folder (runs/NAME/001) or the bundle folder inside it")

    @staticmethod
    def find(path: Path) -> Path | None:
        """Return the bundle's own folder that `open` would open, without looking at what is in it; nothing where there is none."""
        candidates = (path, path / "bundle", *(run / "bundle" for run in standing_runs(path)[::-1]))
        return next((candidate for candidate in candidates if (candidate / _MANIFEST).is_file()), None)

    @classmethod
    def _open(cls, path: Path) -> Bundle:
        manifest = read_json(path / _MANIFEST)
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or not isinstance(manifest.get("version"), int):
            raise BundleError(f"{path / _MANIFEST} does not describe a bundle")
        if manifest["version"] > FORMAT_VERSION:
            raise BundleError(
                f"{path} was written in format {manifest['version']}; this version reads up to {FORMAT_VERSION}",
                hint="pip install --upgrade deepseek-framework",
            )
        files = manifest.get("files")
        if not isinstance(files, dict) or not all(_is_plain(name) and _is_hash(value) for name, value in files.items()):
            raise BundleError(f"{path / _MANIFEST} lists files in a way that no bundle does")
        links = sorted(child.relative_to(path).as_posix() for child in path.rglob("*") if child.is_symlink())
        if links:
            raise BundleError(f"{path} holds links ({', '.join(links)}), which no bundle does")
        try:
            check_hashes(path, {**files, _MANIFEST: sha256_file(path / _MANIFEST)})
        except OSError as error:
            raise BundleError(f"{error.filename} cannot be read: {error.strerror}", hint="let this user read the bundle's files") from None
        return cls(path, manifest)

    def read(self, name: str) -> Any:
        """Return the content of one of the bundle's JSON files, for example `"schema.json"`.

        Raises:
            BundleError: The bundle does not have it.
        """
        return read_json(self.file(name))

    def file(self, name: str) -> Path:
        """Return the path of one of the bundle's files.

        Raises:
            BundleError: The bundle does not have it.
        """
        if name not in self.manifest["files"]:
            raise BundleError(f"{self.path} has no {name}", hint=f"it has {', '.join(self.manifest['files'])}")
        return self.path / name


@contextmanager
def write_bundle(target: Path, documents: Mapping[str, Any], *, plugins: Mapping[str, str] | None = None) -> Iterator[Path]:
    """Write a bundle: the given JSON documents, and whatever files the block puts into the folder it is given.

    The bundle appears at `target` whole, with the hash of every file, or not at all. Whoever may read one of its files may read all.

    Args:
        target: The bundle's folder; it must not exist.
        documents: JSON documents by file name.
        plugins: Name to version of every plugin that the bundle needs to be opened.

    Raises:
        RunError: It cannot be written, or something is there already: what stands there is never taken for what was to be written.
    """
    with fresh_folder(target, shared=False) as folder:
        for name, document in documents.items():
            write_json(folder / name, document)
        with plain_disk_errors(target):
            yield folder
        write_json(
            folder / _MANIFEST,
            {"format": FORMAT, "version": FORMAT_VERSION, "plugins": dict(plugins or {}), "files": hash_files(folder)},
        )
        mode = (folder / _MANIFEST).stat().st_mode
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(mode)  # safetensors lets nobody but the owner read what it writes


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and all(part not in {"", ".", ".."} for part in name.split("/")) and "\\" not in name and ":" not in name


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.match(value) is not None
