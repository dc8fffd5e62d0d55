"""Object stores and all else that `fsspec` knows, asked with the credentials of the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from deepseek.data.sources.remote.base import DroppedError, Opened
from deepseek.data.sources.remote.urls import scheme_of, shown
from deepseek.errors import DataError, DeepSeekError, InputError, MissingExtraError, UnknownNameError

_LIBRARIES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    "hf": "huggingface_hub",
    "sftp": "paramiko",
    "smb": "smbprotocol",
    "oci": "ocifs",
    "oss": "ossfs",
}
_TAGS = ("ETag", "etag", "VersionId", "version_id", "generation", "md5Hash", "content_md5", "md5", "sha256", "crc32c")
_TIMES = ("LastModified", "last_modified", "mtime", "modified", "updated", "timeModified", "created")
_MAGIC = frozenset("*?[")
_CREDENTIALS = {
    "s3fs": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or FSSPEC_S3_ANON=true for a public bucket",
    "gcsfs": "GOOGLE_APPLICATION_CREDENTIALS, or FSSPEC_GS_TOKEN=anon for a public bucket",
    "adlfs": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


class StoredFile:
    """One object of a store.

    Args:
        url: Where it is.
        files: The store, as `store_of` returned it.
        about: What a listing said of it, where there was one: for what is cached, nothing more is asked.
    """

    def __init__(self, url: str, files: Any, about: Mapping[str, Any] | None = None) -> None:
        self.url, self._files, self._listed = url, files, about

    def open(self, *, start: int, validator: str | None, cached: str | None) -> Opened | None:
        """Open the object (see `Remote.open`)."""
        if self._listed is not None and cached is not None and _validator(self._listed) == cached:
            return None
        with _told(self.url):
            about, found = self._about()
            if found is not None and found == cached:
                return None
            if about.get("type") == "directory":
                raise DataError(f"{shown(self.url)!r} is a folder, not a file", hint="name a file, or a pattern such as folder/*.csv")
            begin = start if found is not None and found == validator else 0
            stream = self._files.open(self._files._strip_protocol(self.url), "rb")  # noqa: SLF001 - fsspec names it so, and documents it
            if begin:
                stream.seek(begin)
            size = about.get("size")
            return Opened(_Stream(stream, self.url), begin, size if isinstance(size, int) else None, found)

    def unchanged(self, validator: str | None) -> bool:
        """Say whether the object is still the one that was opened."""
        with _told(self.url):
            return self._about()[1] == validator

    def _about(self) -> tuple[Mapping[str, Any], str | None]:
        self._files.invalidate_cache()
        about = self._files.info(self._files._strip_protocol(self.url))  # noqa: SLF001
        return about, _validator(about)


class _Stream:
    """The bytes of an object, whose library's errors are told as ours."""

    def __init__(self, stream: Any, url: str) -> None:
        self._stream, self._url = stream, url

    def read(self, size: int = -1, /) -> bytes:
        with _told(self._url):
            return bytes(self._stream.read(size))

    def close(self) -> None:
        self._stream.close()


def store_of(url: str) -> Any:
    """Return the file system of a URL's scheme.

    Raises:
        UnknownNameError: There is none.
        MissingExtraError: `fsspec` is not installed.
        InputError: The package for this store is not installed, or the URL holds credentials.
    """
    scheme = scheme_of(url)
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError("fsspec", "remote", f"reading {shown(url)}") from None
    if "::" in url:
        raise InputError(f"{shown(url)!r} chains several places", hint="name the file itself; .gz and .zip are unpacked by its suffix")
    if shown(url) != url:
        raise InputError(
            f"{shown(url)!r} holds a secret", hint=f"an object store's credentials come from the environment: {_variables(scheme)}"
        )
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
    except ImportError:
        library = _LIBRARIES.get(scheme, f"the fsspec package for {scheme}://")
        raise InputError(
            f"reading {url!r} needs {library!r}, which is not installed", hint=f"install it with: pip install {library}"
        ) from None
    except ValueError as error:
        if "Protocol not known" not in str(error):
            raise _problem(error, url) from None
        known = ["file", "http", "https", "s3", "gs", "az", "memory"]
        raise UnknownNameError("scheme", scheme, known, hint=f"in {url!r}; and what else fsspec knows") from None
    except Exception as error:  # noqa: BLE001 - foreign code, with errors of its own
        raise _problem(error, url) from None


def _validator(about: Mapping[str, Any]) -> str | None:
    """Return what changes when an object does: its size with its tag or version, or else its time of change; nothing without either."""
    name = next((name for name in (*_TAGS, *_TIMES) if about.get(name)), None)
    if name is None:
        return None
    value = about[name].timestamp() if isinstance(about[name], datetime) else about[name]  # listings have one form, answers the other
    return f"{about.get('size')} {name} {value}"


def expanded(url: str, files: Any) -> dict[str, Mapping[str, Any] | None]:
    """Return the URLs of the objects that a URL names, with what the store lists of each: itself, or all that match its pattern, sorted.

    Raises:
        DataError: None matches.
    """
    if not _MAGIC & set(url):
        return {url: None}
    with _told(url):
        found = files.glob(files._strip_protocol(url), detail=True)  # noqa: SLF001
    names = sorted(name for name, about in found.items() if about.get("type") != "directory")
    if "/." not in url:  # as in a shell, `*` matches no hidden file
        names = [name for name in names if "/." not in f"/{name}"]
    if not names:
        raise DataError(f"no object matches {url!r}", hint="check the pattern; ** also looks into folders")
    return {f"{scheme_of(url)}://{name.lstrip('/')}": found[name] for name in names}


def below(url: str, files: Any) -> list[tuple[str, PurePosixPath, Mapping[str, Any]]]:
    """Return the objects below a folder that are not hidden, sorted: the URL of each, its path from there, and what the store lists of it.

    Raises:
        DataError: There is none.
    """
    with _told(url):
        root = files._strip_protocol(url).rstrip("/")  # noqa: SLF001
        found = files.find(root, detail=True)
    named = [(name, PurePosixPath(name[len(root) :].lstrip("/"))) for name in sorted(found) if name.rstrip("/") != root]
    shown_ones = [(name, place) for name, place in named if not any(part[0] == "." for part in place.parts)]
    seen = [(f"{scheme_of(url)}://{name.lstrip('/')}", place, found[name]) for name, place in shown_ones]
    if not seen:
        raise DataError(f"there is nothing below {url!r}", hint="check the bucket and the path; names are case-sensitive")
    return seen


@contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except (DeepSeekError, DroppedError):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise _problem(error, url) from None


def _problem(error: Exception, url: str) -> Exception:
    """Return what a library raised as an error of ours: what another try may mend, and what it will not."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, FileNotFoundError):
        return DataError(f"there is no {url!r}", hint="check the bucket and the path; names are case-sensitive")
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__ or "Authentication" in type(error).__name__:
        return DataError(f"{url!r} may not be read: {what}", hint=f"credentials come from the environment: {_variables(scheme_of(url))}")
    return DroppedError(what)


def _variables(scheme: str) -> str:
    return _CREDENTIALS.get(_LIBRARIES.get(scheme, ""), "see the documentation of its fsspec package")
