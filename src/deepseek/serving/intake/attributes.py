"""Attributes of a content from the headers of its request, and the contents of one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from deepseek.serving.intake.settings import ATTRIBUTES

_PREFIX = "x-"
_KEYS = (
    "x-api-key", "x-*-api-key", "x-auth-*", "x-*-auth", "x-token", "x-*-token", "x-*-secret", "x-goog-iap-*", "x-goog-authenticated-*",
    "x-ms-client-principal*", "x-ms-token-*",
)  # fmt: skip
_PROXIES = (
    "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-forwarded-*", "x-original-*", "x-envoy-*", "x-amzn-*", "x-amz-cf-*", "x-azure-*",
    "x-appengine-*", "x-arr-*", "x-request-start", "x-timeout-ms",
)  # fmt: skip
_TRACERS = ("x-request-id", "x-correlation-id", "x-b3-*", "x-ot-span-*", "x-trace-*", "x-cloud-trace-*", "x-datadog-*", "x-instana-*")
_NEVER = (*_KEYS, *_PROXIES, *_TRACERS)
"""They say nothing of the content, or what nobody may keep; and a content that is sent again would be another one by them."""


def attributes_of(headers: Mapping[bytes, bytes], more: Sequence[str] = ()) -> dict[str, str]:
    """Return the headers that are attributes, by name in small letters; `x-` is no part of the name.

    Args:
        headers: The headers of a request, their names in small letters.
        more: Patterns of names that are attributes besides the usual ones.
    """
    found: dict[str, str] = {}
    for raw, value in headers.items():
        name = raw.decode("latin-1")
        wanted = any(fnmatchcase(name, pattern.lower()) for pattern in (*ATTRIBUTES, *more))
        if wanted and not any(fnmatchcase(name, pattern) for pattern in _NEVER):
            found[name.removeprefix(_PREFIX)] = _text(value)
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
