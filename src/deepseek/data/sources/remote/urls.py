"""What URLs of files say: whether a text is one, the name of the file, and what of it may be shown."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from deepseek.errors import InputError
from deepseek.recipe.secrets import without_password

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]")
_LONGEST_NAME = 150
WEB = frozenset({"http", "https"})


def is_remote(value: object) -> bool:
    """Whether a value is the URL of something that is not a file of this machine."""
    return isinstance(value, str) and _URL.match(value) is not None and scheme_of(value) != "file"


def local_path(value: str | Path) -> Path:
    """Return a path that may be given as a `file://` URL.

    Raises:
        InputError: The URL names another machine.
    """
    if not (isinstance(value, str) and _URL.match(value) and scheme_of(value) == "file"):
        return Path(value)
    parts = urlsplit(value)
    if parts.netloc not in ("", "localhost"):
        raise InputError(
            f"{value!r} names a file of the machine {parts.netloc!r}", hint="a path of this one has three slashes: file:///data"
        )
    return Path(url2pathname(parts.path))


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in small letters."""
    return url.partition("://")[0].lower()


def shown(url: str) -> str:
    """Return a URL as it may be printed and saved: without passwords, keys and signatures."""
    return without_password(url)


def path_of(url: str) -> PurePosixPath:
    """Return the path of a URL, whose last part names the file; what follows `?` is no part of it on a web server."""
    rest = url.partition("://")[2]
    return PurePosixPath(unquote(urlsplit(url).path) if scheme_of(url) in WEB else rest.partition("/")[2] or rest)


def place_of(url: str) -> PurePosixPath:
    """Return a relative path for the content of a URL: scheme, host or bucket, and its path, without anything that is secret.

    Two URLs that differ in more than secrets have two places, and the file's own suffix stays.
    """
    host = url.partition("://")[2].partition("/")[0]
    if scheme_of(url) in WEB:  # elsewhere what stands before an @ is no account: abfs://CONTAINER@ACCOUNT
        host = host.rpartition("@")[2]
    parts = [scheme_of(url), host.partition("?")[0], *path_of(url).parts]
    safe = [_UNSAFE.sub("-", part)[-_LONGEST_NAME:] for part in parts if part not in ("", "/", ".", "..")]
    query = urlsplit(shown(url)).query if scheme_of(url) in WEB else ""
    if query:
        safe[-1] = f"{hashlib.sha256(query.encode()).hexdigest()[:12]}-{safe[-1]}"
    return PurePosixPath(*(f"_{part}" if part.startswith(".") else part for part in safe))
