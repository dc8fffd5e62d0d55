"""Files of web servers, by the standard library: bytes by range, and only those of one content.

A broken connection is taken up where it broke (`Range`), which is only right while the content is the same: `If-Range` has the server
compare it (RFC 9110, 13.1.5, https://www.rfc-editor.org/rfc/rfc9110). An answer that says neither how long it is nor marks its own end is
refused, since it looks the same when half of it is missing.
"""

from __future__ import annotations

import base64
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from deepseek.data.sources.remote.base import DroppedError, Opened
from deepseek.data.sources.remote.urls import WEB, shown
from deepseek.errors import DataError

_TIMEOUT_S = 60
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_PRIVATE = ("authorization",)


class WebFile:
    """A file of a web server.

    Args:
        url: `http://` or `https://`; a name and a password in it are sent as basic authentication, to its own server only.

    Raises:
        DataError: It is no such URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            port = f":{parts.port}" if parts.port else ""
        except ValueError as error:
            raise DataError(f"{shown(url)!r} is no URL: {error}") from None
        if not host:
            raise DataError(f"{shown(url)!r} names no server", hint="write https://SERVER/PATH")
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "deepseek-framework"}
        if parts.username is not None:
            account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(account.encode()).decode()}"
        name = f"[{host}]" if ":" in host else host.encode("idna").decode() if not host.isascii() else host
        path, query = (quote(part, safe="/%:=&?~+!$,;'@()*[]") for part in (parts.path, parts.query))
        self._address = urlunsplit((parts.scheme, f"{name}{port}", path or "/", query, ""))

    def open(self, *, start: int, validator: str | None, cached: str | None) -> Opened | None:
        """Ask for the content (see `Remote.open`)."""
        asked = dict(self._headers)
        if start and validator:
            asked |= {"Range": f"bytes={start}-", "If-Range": validator}
        elif cached:
            asked["If-None-Match" if cached.startswith('"') else "If-Modified-Since"] = cached
        answer = self._ask(asked)
        if answer is None:
            return None
        found = _validator(answer.headers)
        if answer.status == 206:
            first, whole = _range(answer.headers.get("Content-Range", ""))
            if first != start or (found is not None and found != validator):
                answer.close()
                raise DroppedError("it answered with other bytes than it was asked for", afresh=True)
            return Opened(_Whole(answer), start, whole, validator)
        length = answer.headers.get("Content-Length")
        self._check(answer)
        return Opened(_Whole(answer), 0, int(length) if length and length.isdecimal() else None, found)

    def unchanged(self, validator: str | None) -> bool:
        """Say yes: one answer is one content, and `If-Range` saw to it where several were needed."""
        return True

    def _ask(self, headers: Mapping[str, str]) -> Any:
        request = urllib.request.Request(self._address, headers=dict(headers))  # noqa: S310 - of http and https only
        try:
            return urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 304:
                return None
            if error.code in _BUSY or error.code == 416:  # 416: it has no bytes behind those that are there
                raise DroppedError(f"it answered {error.code} {error.reason}", afresh=error.code == 416) from None
            raise self._refusal(error.code, str(error.reason)) from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise DataError(f"{shown(self.url)!r} cannot be trusted: {error.reason}") from None
            raise DroppedError(str(error.reason)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DroppedError(str(error) or type(error).__name__) from None

    def _refusal(self, code: int, reason: str) -> DataError:
        if code in (401, 403):
            hint = "a name and a password go into the URL by reference: https://${ENV:USER}:${ENV:PASSWORD}@server/…; signed URLs run out"
            return DataError(f"{shown(self.url)!r} may not be read: the server answered {code} {reason}", hint=hint)
        if code in (404, 410):
            return DataError(f"there is no {shown(self.url)!r}: the server answered {code} {reason}")
        return DataError(f"{shown(self.url)!r} cannot be read: the server answered {code} {reason}")

    def _check(self, answer: Any) -> None:
        encoding = answer.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("", "identity") and not urlsplit(self._address).path.lower().endswith((".gz", ".bz2", ".xz", ".zst")):
            answer.close()
            raise DataError(
                f"{shown(self.url)!r} comes packed ({encoding}) although it was asked for as it is", hint="fetch it and name the file"
            )
        if answer.headers.get("Content-Length") is None and not answer.chunked:
            answer.close()
            hint = "fetch it with a browser or curl, see that it is whole, and name the file"
            raise DataError(
                f"{shown(self.url)!r}: the server does not say how long it is, so that nobody knows when all has come", hint=hint
            )


class _Whole:
    """The bytes of an answer; what breaks is a `DroppedError`."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def read(self, size: int = -1, /) -> bytes:
        try:
            return bytes(self._answer.read(size))
        except (OSError, http.client.HTTPException) as error:
            raise DroppedError(str(error) or type(error).__name__) from None

    def close(self) -> None:
        self._answer.close()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirections, on which a password goes to its own server only, and never from `https` to `http`."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme not in WEB:
            raise DataError(f"{shown(req.full_url)!r} leads to {shown(newurl)!r}, which is no web address")
        if before.scheme == "https" and after.scheme != "https":
            raise DataError(
                f"{shown(req.full_url)!r} leads to {shown(newurl)!r}, which is not encrypted", hint="name that URL if you trust it"
            )
        if following is not None and (before.scheme, before.netloc) != (after.scheme, after.netloc):
            following.headers = {name: value for name, value in following.headers.items() if name.lower() not in _PRIVATE}
        return following


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return a strong validator: an entity tag, or a time of change that lies before the answer's own."""
    tag = headers.get("ETag")
    if tag and tag.startswith('"'):
        return tag
    changed, now = headers.get("Last-Modified"), headers.get("Date")
    try:
        if changed and now and (parsedate_to_datetime(now) - parsedate_to_datetime(changed)).total_seconds() >= 1:
            return changed
    except (TypeError, ValueError):
        pass
    return None


def _range(text: str) -> tuple[int, int | None]:
    unit, _, rest = text.strip().partition(" ")
    span, _, whole = rest.partition("/")
    first = span.partition("-")[0]
    if unit.lower() != "bytes" or not first.isdecimal():
        return -1, None
    return int(first), int(whole) if whole.isdecimal() else None
