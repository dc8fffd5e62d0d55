"""What belongs together by the names of files: the slices of a patient, the tiles of a picture, the frames of a film."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deepseek.errors import DataError, InputError

GROUP = "group"
"""The column that `split.group` can name."""


class NamedGroups:
    """Reads from each file's name whose it is, so that a split can keep what belongs together in one part.

    Args:
        pattern: A regular expression that is looked for in names; its first group, or all of it where it has none, is whose the file is.

    Raises:
        InputError: It is no regular expression.

    Example:
        >>> NamedGroups("(patient[0-9]+)_").of(["a/patient07_1.png", "a/patient07_2.png"])
        ['patient07', 'patient07']
    """

    def __init__(self, pattern: str) -> None:
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise InputError(
                f"the pattern of groups {pattern!r} is no regular expression: {error}", hint="such as '(patient[0-9]+)_'"
            ) from None

    def of(self, names: Sequence[str]) -> list[str]:
        """Return each file's group.

        Raises:
            DataError: The pattern is not found in a name.
        """
        found = []
        for name in names:
            match = self._pattern.search(name)
            text = None if match is None else match[1] if self._pattern.groups else match[0]
            if not text:
                what = f"the name {name!r} does not say its group: {self._pattern.pattern!r} is not found in it"
                raise DataError(what, hint="give a pattern that all names have, or leave group out")
            found.append(text)
        return found
