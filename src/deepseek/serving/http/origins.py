"""Which web page sent a request: pages of other sites make a browser post to any server that it reaches, even a local one without keys."""

from __future__ import annotations

from deepseek.serving.http.problems import RefusedError

_FORWARDED = b"x-forwarded-host"
"""A page elsewhere cannot set it unasked; a proxy that changes `Host` says here what was asked for."""


def refuse_other_pages(headers: dict[bytes, bytes]) -> None:
    """See that what a browser sends comes from this server's own page. What no browser sent names no origin, and passes.

    Browsers say so in `Sec-Fetch-Site` (Fetch Metadata Request Headers, W3C, <https://www.w3.org/TR/fetch-metadata/>), over plain HTTP
    to another machine in `Origin` alone.

    Raises:
        RefusedError: A page of another site sent it (403).
    """
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        is_own = site in (b"same-origin", b"none")
    else:
        asked = headers.get(_FORWARDED, headers.get(b"host", b""))
        is_own = origin is None or origin.partition(b"://")[2].lower() == asked.lower() != b""
    if not is_own:
        page = "of another site" if origin is None else origin[:200].decode("latin-1")
        raise RefusedError(
            403,
            f"a web page ({page}) asks a server without keys",
            hint="give the server keys (--keys FILE) and ask it from your own server; a proxy has to pass Host on",
        )
