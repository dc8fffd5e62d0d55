"""Contents of URLs on this machine: fetched once, whole, checked against the server at each opening.

`objects/KEY/` holds the content of one URL, named by its SHA-256, beside what the server said of it; a content that broke off waits there
as `part`. `views/KEY/` holds the files of one source under the names that they have on their servers, as hard links, so that what is read
depends on the contents alone. All of it can be deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from deepseek.artifacts.files import write_text
from deepseek.data.sources.remote.base import DroppedError, Opened, Remote
from deepseek.data.sources.remote.stores import StoredFile, below, expanded, store_of
from deepseek.data.sources.remote.urls import WEB, place_of, scheme_of, shown
from deepseek.data.sources.remote.web import WebFile
from deepseek.errors import DataError

_CHUNK_BYTES = 1 << 20
_PAUSES_S = (0.2, 1.0, 3.0, 10.0)
_MAGIC = frozenset("*[")


def cache_folder() -> Path:
    """Return where fetched files are kept: `$DEEPSEEK_CACHE/remote`, else below `$XDG_CACHE_HOME` or `~/.cache`."""
    given = os.environ.get("DEEPSEEK_CACHE")
    if given:
        return Path(given) / "remote"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deepseek" / "remote"


def fetch(urls: Sequence[str]) -> list[Path]:
    """Return local files with the contents that URLs name, in the order of their names.

    Args:
        urls: Each a file, or in an object store a pattern with `*`.

    Raises:
        DataError: One is not there, may not be read, breaks off again and again, or does not stop changing.
    """
    remotes: list[Remote] = []
    for url in urls:
        if scheme_of(url) in WEB:
            _refuse_pattern(url)
            remotes.append(WebFile(url))
        else:
            store = store_of(url)
            remotes += [StoredFile(one, store, about) for one, about in expanded(url, store).items()]
    found: dict[PurePosixPath, Remote] = {}
    for remote in remotes:
        other = found.setdefault(place_of(remote.url), remote)
        if shown(other.url) != shown(remote.url):
            raise _one_path(remote.url, other.url)
    places = sorted(found)
    root = _view([(place, found[place]) for place in places])
    return [root / place for place in places]


def _refuse_pattern(url: str) -> None:
    if scheme_of(url) in WEB and _MAGIC & set(url.partition("?")[0]):
        raise DataError(f"{shown(url)!r} holds a pattern, and a web server does not say which files it has", hint="name each file")


def fetch_folder(url: str) -> Path:
    """Return a local folder with everything that is below a URL.

    Raises:
        DataError: As of `fetch`; or it is a web server's, which does not say what it has.
    """
    return _view(_listed(url))


def matching(url: str) -> list[str]:
    """Return the URLs of everything that a pattern matches.

    Raises:
        DataError: As of `fetch`.
    """
    _refuse_pattern(url)
    return list(expanded(url, store_of(url)))


def names_below(url: str) -> list[PurePosixPath]:
    """Return the paths of everything below a URL, from there.

    Raises:
        DataError: As of `fetch_folder`.
    """
    return [place for place, _ in _listed(url)]


def _listed(url: str) -> list[tuple[PurePosixPath, Remote]]:
    if scheme_of(url) in WEB:
        raise DataError(
            f"{shown(url)!r} names no file whose format can be told, and a web server does not say which files it has",
            hint="name a file, or its format: {type: csv, path: https://…}",
        )
    store = store_of(url)
    found: dict[PurePosixPath, Remote] = {}
    for one, place, about in below(url, store):
        if place in found or {"..", "."} & set(place.parts):
            raise _one_path(one, found[place].url if place in found else url)
        found[place] = StoredFile(one, store, about)
    return sorted(found.items())


def _one_path(url: str, other: str) -> DataError:
    """Say that keys, which are any text, cannot all be paths: `a//b` and `a/b` are two keys."""
    return DataError(f"{shown(url)!r} cannot be kept as a file beside {shown(other)!r}", hint="rename one of them")


def _fetched(remote: Remote, target: Path) -> str:
    """Put the content of a URL at a place of its own; return its SHA-256."""
    folder = cache_folder() / "objects" / hashlib.sha256(shown(remote.url).encode()).hexdigest()[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder):  # another process may be about to replace it
            digest = _brought_up_to_date(remote, folder)
            try:
                os.link(folder / digest, target)
            except OSError:  # a file system without hard links
                shutil.copy2(folder / digest, target)
        return digest
    except OSError as error:
        what = f"{shown(remote.url)!r} cannot be kept in {str(folder)!r}: {error}"
        raise DataError(what, hint="DEEPSEEK_CACHE names another place") from None


def _brought_up_to_date(remote: Remote, folder: Path) -> str:
    known = _known(folder / "content.json", folder)
    pauses = list(_PAUSES_S)
    while True:
        before = _size(folder / "part")
        try:
            opened = _begin(remote, folder, known)
            if opened is None and known is not None:
                return str(known["sha256"])
            if opened is not None and _copied(opened, folder) and remote.unchanged(opened.validator):
                return _kept(folder, opened.validator, remote.url)
            _forget_part(folder)
            why = "it changes while it is read"
        except DroppedError as error:
            why = str(error)
            if error.afresh:
                _forget_part(folder)
            elif _size(folder / "part") > before:
                pauses = list(_PAUSES_S)  # it goes on, if slowly
        if not pauses:
            raise DataError(
                f"{shown(remote.url)!r} cannot be fetched: {_clean(why, remote.url)}", hint="what has come is kept; try again later"
            )
        time.sleep(pauses.pop(0))


def _begin(remote: Remote, folder: Path, known: dict[str, Any] | None) -> Opened | None:
    part = _known(folder / "part.json", None)
    validator = part["validator"] if part else None
    start = _size(folder / "part") if validator else 0
    return remote.open(start=start, validator=validator, cached=known["validator"] if known else None)


def _copied(opened: Opened, folder: Path) -> bool:
    """Read a content to its end; say whether it is whole."""
    write_text(folder / "part.json", json.dumps({"validator": opened.validator}), durable=False)
    with closing(opened.stream) as stream, (folder / "part").open("ab") as file:
        file.truncate(opened.start)
        while chunk := stream.read(_CHUNK_BYTES):
            file.write(chunk)
    size = _size(folder / "part")
    if opened.size_bytes is not None and size < opened.size_bytes:
        raise DroppedError(f"the connection ended after {size:,} of {opened.size_bytes:,} bytes")
    return opened.size_bytes is None or size == opened.size_bytes


def _kept(folder: Path, validator: str | None, url: str) -> str:
    part = folder / "part"
    with part.open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = _size(part)
    part.replace(folder / digest)
    (folder / digest).chmod(0o444)  # views are links to it: who changes one changes all
    about = {"url": shown(url), "validator": validator, "sha256": digest, "size_bytes": size}
    write_text(folder / "content.json", json.dumps(about), durable=False)
    (folder / "part.json").unlink(missing_ok=True)
    for other in folder.iterdir():  # views keep what they link to
        if len(other.name) == len(digest) and other.name != digest:
            other.unlink()
    return digest


def _known(note: Path, folder: Path | None) -> dict[str, Any] | None:
    """Return what a note says; nothing where it is damaged, or the content that it is of is not there as it was."""
    try:
        value: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        if folder is not None and _size(folder / value["sha256"]) != value["size_bytes"]:
            return None
        return value if "validator" in value else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _view(found: Sequence[tuple[PurePosixPath, Remote]]) -> Path:
    """Return a folder in which the contents of URLs stand under these names; contents and names alone say which."""
    views = cache_folder() / "views"
    made = views / f".{uuid4().hex}"
    try:
        contents = [(str(place), _fetched(remote, made / place)) for place, remote in found]
        view = views / hashlib.sha256(json.dumps(contents).encode()).hexdigest()[:32]
        if not all((view / place).is_file() and _size(view / place) == _size(made / place) for place, _ in found):
            shutil.rmtree(view, ignore_errors=True)
            made.rename(view)
    except OSError as error:
        if not view.is_dir():  # else another process was faster
            raise DataError(f"files cannot be kept in {str(views)!r}: {error}", hint="DEEPSEEK_CACHE names another place") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return view


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _forget_part(folder: Path) -> None:
    for name in ("part", "part.json"):
        (folder / name).unlink(missing_ok=True)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _clean(why: str, url: str) -> str:
    return why.replace(url, shown(url))
