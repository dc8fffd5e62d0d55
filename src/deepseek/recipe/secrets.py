"""References to secrets: a recipe says where a password is, never what it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from deepseek import progress
from deepseek.errors import InputError

_REFERENCE = re.compile(r"\$\{ENV:([A-Za-z_][A-Za-z0-9_]*)\}")
_ACCOUNT = re.compile(r"(?P<before>\A[A-Za-z][A-Za-z0-9+._-]*://[^:/?#@\s]*:)(?P<password>.+)(?P<after>@[^@]*)", re.DOTALL)
_WEB_ACCOUNT = re.compile(r"(?P<before>\A(?:https?|ftp)://(?:[^:/?#@\s]*:)?)(?P<password>[^/?#\s]+)(?P<after>@)", re.IGNORECASE)
_WEB = re.compile(r"\A(?:https?|ftp)://", re.IGNORECASE)
_URL = re.compile(r"\A[A-Za-z][A-Za-z0-9+._-]*://")
_OPTION = re.compile(
    r"(?P<before>[?&](?:password|passwd|pwd|sslpassword|(?:x-(?:amz|goog)-)?(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid"
    r"|sig|(?:access_|auth_|id_)?token|(?:api_?)?key|(?:client_)?secret)=)(?P<password>[^&#]+)(?P<after>)",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"PASS|PWD|PW$|SECRET|TOKEN", re.IGNORECASE)
_URLS = frozenset({"url", "uri", "path", "source"})
_SECRET_KEY = re.compile(
    r"(?:^|[._-])(?:password|passwd|pwd|secret|token)$|(?:^|\.)(?:jaas\.config|oauthbearer\.config|key\.pem|user\.info)$", re.IGNORECASE
)
PASSWORD = "DEEPSEEK_PASSWORD"  # noqa: S105 - the name of a variable
"""The environment variable that stands for a password that was given as it is; a second password gets `_2`, and so on."""


def resolve_secrets(value: Any) -> Any:
    """Return a plain value with the secrets in all of its texts put in, however deep they stand."""
    if isinstance(value, str):
        return resolve_secret(value)
    if isinstance(value, Mapping):
        return {key: resolve_secrets(part) for key, part in value.items()}
    return [resolve_secrets(part) for part in value] if isinstance(value, list) else value


def resolve_secret(text: str) -> str:
    """Return the text with every `${ENV:NAME}` replaced by that environment variable.

    Called at the moment of use, on a value that goes nowhere else: recipes, logs and bundles keep the reference.

    Raises:
        InputError: A variable is not set.
    """

    def look_up(match: re.Match[str]) -> str:
        if match.group(1) not in os.environ:
            raise InputError(f"the environment variable {match.group(1)!r} is not set", hint=f"{match.group(0)} refers to it: export it")
        return os.environ[match.group(1)]

    return _REFERENCE.sub(look_up, text)


def without_password(text: str) -> str:
    """Return a URL as it may be printed: `***` in the place of a password, key or signature; other text comes back as it is.

    Example:
        >>> without_password("postgresql://me:hush@localhost/shop")
        'postgresql://me:***@localhost/shop'
    """
    for pattern in _patterns(text):
        text = pattern.sub(lambda match: f"{match['before']}{_kept(match['password'])}{match['after']}", text)
    return text


def conceal_password(source: Any) -> Any:
    """Return a URL, or a component's spec, with literal passwords replaced by references to the environment.

    What is saved of a recipe must not hold a password that was typed into a URL, or under a key such as `token` or `sasl.password`, however
    deep it stands. A variable that holds the whole URL or the password is referred to where there is one, as after `deepseek train
    "$DATABASE_URL"`. Else the password becomes `${ENV:DEEPSEEK_PASSWORD}`: that variable is set for this process and its children only, and
    whoever runs the recipe again is asked for it.

    Args:
        source: A URL or a spec as a recipe names it, or a list of them; whatever holds no URL with a password comes back as it is.
    """
    if isinstance(source, str):
        return _concealed(source)
    if isinstance(source, list):
        return [conceal_password(one) for one in source]
    if isinstance(source, Mapping):
        return {key: _without_secret(key, part) for key, part in source.items()}
    return source


def _without_secret(key: object, part: Any) -> Any:
    if isinstance(part, Mapping):
        return conceal_password(part)
    if isinstance(part, list):
        return [_without_secret(key, one) for one in part]
    if key in _URLS and isinstance(part, str):
        return _concealed(part)
    if not _SECRET_KEY.search(str(key)) or not isinstance(part, str | int | float) or isinstance(part, bool):
        return part
    text = str(part)  # a password of digits is a number to YAML
    return _reference(text) if text and not _REFERENCE.search(text) else part


def _concealed(text: str) -> str:
    if without_password(text) == text:
        return text
    for name in sorted(os.environ):
        if os.environ[name] == text:
            return f"${{ENV:{name}}}"
    for pattern in _patterns(text):
        text = pattern.sub(lambda match: f"{match['before']}{_reference(match['password'])}{match['after']}", text)
    return text


def _patterns(text: str) -> tuple[re.Pattern[str], ...]:
    """Return what finds the secrets of a URL; on the web, where a path may hold `:` and `@`, an account stands before the path only."""
    if not _URL.match(text):
        return ()
    return (_WEB_ACCOUNT if _WEB.match(text) else _ACCOUNT, _OPTION)


def _kept(password: str) -> str:
    return password if _REFERENCE.fullmatch(password) else "***"


def _reference(password: str) -> str:
    """Return the reference to the variable that holds a password, which is set where there is none."""
    if _REFERENCE.fullmatch(password):
        return password
    for name in sorted(os.environ):
        if _SECRET_NAME.search(name) and os.environ[name] == password:
            return f"${{ENV:{name}}}"
    number = 1
    while (name := PASSWORD if number == 1 else f"{PASSWORD}_{number}") in os.environ:
        number += 1
    os.environ[name] = password
    progress.warn(f"a password is not saved: set the environment variable {name} to run this recipe again")
    return f"${{ENV:{name}}}"
