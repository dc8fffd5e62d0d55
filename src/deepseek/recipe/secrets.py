"""References to secrets: a recipe says where a password is, never what it is."""

from __future__ import annotations

import os
import re

from deepseek.errors import InputError

_REFERENCE = re.compile(r"\$\{ENV:([A-Za-z_][A-Za-z0-9_]*)\}")


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
