"""Writing files so that a reader sees the old content or the new one, never half of it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from deepseek.errors import BundleError, RunError

_CHUNK_BYTES = 1 << 22
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors, written in Rust, tells in its message which refusal of the operating system it met."""


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Write plain JSON values, indented, in one atomic step.

    Args:
        path: The file.
        value: What to write.
        durable: As of `write_text`.

    Raises:
        RunError: The folder cannot be written to, or the disk is full.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=True) + "\n", durable=durable)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write UTF-8 text in one atomic step.

    Args:
        path: The file.
        text: What to write.
        durable: Whether to wait until the disk has it, some milliseconds, so that even a power cut leaves no half of it. What can be made
            again need not wait.

    Raises:
        RunError: The folder cannot be written to, or the disk is full.
    """
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def append_json(path: Path, value: object, *, private: bool = False) -> None:
    """Add one line of JSON to a file, and wait until the disk has it; lines of several processes do not mix.

    Args:
        path: The file; made with its folder where it is not there.
        value: What to write: plain JSON values.
        private: Whether a new file may be read by its owner alone.

    Raises:
        RunError: The folder cannot be written to, or the disk is full.
    """
    line = memoryview(json.dumps(value, ensure_ascii=False).encode() + b"\n")
    with plain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600 if private else 0o666)
        try:
            while line:  # a single write, unless the disk is about to be full
                line = line[os.write(handle, line) :]
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Wait until the disk has a file's content."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Wait until the disk has a folder's entries: without it a file may be there and have no name after a power cut."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        BundleError: It is not there or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{path} is not there") from None
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path} cannot be read as JSON: {error}",
            hint="it was cut off or changed; copy it again, or delete its folder if it is in a .cache",
        ) from None


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: object) -> str:
    """Return a hash of plain JSON values that does not depend on the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its path relative to it with forward slashes, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


@contextmanager
def fresh_folder(target: Path, *, shared: bool = True) -> Iterator[Path]:
    """Give a temporary folder that becomes `target` if the block succeeds and disappears if it fails.

    Args:
        target: The folder.
        shared: Whether whatever stands at `target` is the same thing, built by another process meanwhile, and stays; else it is refused,
            before the block begins where it is there by then.

    Raises:
        RunError: It cannot be written, or is there and not shared.
    """
    if not shared and target.is_dir() and any(target.iterdir()):
        raise _taken(target)
    with plain_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid4().hex}")
        temporary.mkdir()
    try:
        yield temporary
        with plain_disk_errors(target):
            try:
                temporary.rename(target)
            except OSError as error:
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise
                if not shared:
                    raise _taken(target) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _taken(target: Path) -> RunError:
    return RunError(f"{target} is there already, and is not overwritten", hint="name another folder, or delete that one first")


def replace_folder(fresh: Path, target: Path) -> None:
    """Put a whole folder in the place of another one, by renaming alone: nobody finds a half of either, whatever is interrupted.

    Args:
        fresh: The folder; it is there no more afterwards.
        target: Where it goes, on the same disk; what stood there is deleted, once the other one has its name.

    Raises:
        RunError: It cannot be done; what stood there is as it was.
    """
    old = target.with_name(f".{target.name}.{uuid4().hex}")
    with plain_disk_errors(target):
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except BaseException:
            if old.exists() and not target.exists():
                old.rename(target)
            raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def plain_disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into errors that say what to do, also those that safetensors reports in its own way.

    Raises:
        RunError: The disk is full, or the folder is read-only or belongs to somebody else.
    """
    try:
        yield
    except OSError as error:
        raise _explain(error, path) from error
    except _safetensors_errors() as error:
        if (found := _OS_ERROR.search(str(error))) is None:
            raise
        number = int(found[1])
        raise _explain(OSError(number, os.strerror(number)), path) from error


def _safetensors_errors() -> tuple[type[Exception], ...]:
    """Return what safetensors raises; nothing where it is not loaded, as in a runtime without training, and so has written nothing."""
    module = sys.modules.get("safetensors")
    return () if module is None else (module.SafetensorError,)


def _explain(error: OSError, path: Path) -> RunError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return RunError(f"the disk is full: {path} could not be written", hint=f"free some space ({_free(path)}) or choose another folder")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return RunError(f"{path} cannot be written: {error.strerror}", hint="choose a folder that you may write to")
    if error.errno in {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}:
        return RunError(
            f"{path} cannot be written: {error.strerror}", hint="a file stands where a folder is needed, or the other way round"
        )
    return RunError(f"{path} cannot be written: {error.strerror or error}")


def _free(path: Path) -> str:
    existing = next((parent for parent in (path, *path.parents) if parent.exists()), Path())
    return f"{shutil.disk_usage(existing).free / 1e9:.1f} GB are free there"


def check_hashes(folder: Path, expected: Mapping[str, str]) -> None:
    """Compare a folder's files with the hashes recorded for them.

    Raises:
        BundleError: A file is missing, changed or was added; every such file is named.
    """
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    wrong = [f"{name} is missing" for name in sorted(set(expected) - present)]
    wrong += [f"{name} does not belong here" for name in sorted(present - set(expected))]
    wrong += [f"{name} was changed" for name in sorted(present & set(expected)) if sha256_file(folder / name) != expected[name]]
    if wrong:
        raise BundleError(f"{folder} is not as it was written: {'; '.join(wrong)}", hint="copy it again from where it was made")
