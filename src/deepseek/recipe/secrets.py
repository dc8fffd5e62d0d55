"""References to secrets: a recipe says where a password is, never what it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from deepseek.errors import InputError

_REFERENCE = re.compile(r"\$\{ENV:([A-Za-z_][A-Za-z0-9_]*)\}")


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
            raise InputError(f"the environment variable {match.group(1)!r} is not set", hint=f"the recipe refers to it by {match.group(0)}")
        return os.environ[match.group(1)]

    return _REFERENCE.sub(look_up, text)
