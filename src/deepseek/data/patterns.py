"""Regular expressions that users write: one engine for all of them, in training and in production.

The engine is RE2 (Cox, "Regular expression matching in the wild", 2010, https://swtch.com/~rsc/regexp/regexp3.html), as Arrow has it. It
never tracks back: whether a text matches is found in a time linear in its length, whatever the pattern, so that no request can drive a
recipe's pattern into the exponential search of `(a+)+$`. What cannot be done without tracking back, look-around and back-references, is
refused with words. Python's `re` is for the framework's own patterns only.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from deepseek.errors import InputError

LONGEST_PATTERN = 1_000
"""The most characters of a pattern: its compiled form is what each character of a text may cost."""
_HINT = "the notation is that of RE2: https://github.com/google/re2/wiki/Syntax"
_WHY = "needs an engine that tracks back, whose time can grow exponentially with the text"
# An escaped character is taken whole, so that `\\(?=` is seen as what it is; so is a class, in which nothing of this has a meaning.
_REFUSED = re.compile(
    r"\\(?P<reference>[1-9]|k[<{'])|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]"
    r"|\(\?(?:(?P<ahead>[=!])|(?P<behind><[=!])|(?P<atomic>>)|(?P<named>P=)|(?P<condition>\())|[*+?}](?P<possessive>\+)",
    re.DOTALL,
)
_NAMES = {
    "reference": "a back-reference",
    "named": "a back-reference",
    "ahead": "look-ahead",
    "behind": "look-behind",
    "atomic": "an atomic group",
    "condition": "a conditional group",
    "possessive": "a possessive quantifier",
}


class Pattern:
    r"""A regular expression of a user's, checked once and applied to columns.

    Args:
        text: The expression, in RE2's notation.
        what: Where it was given, for messages: `the check regex`.
        replacement: What `replace` puts in the place of a match; `\1` stands for the first group, `\0` for the whole match.

    Raises:
        InputError: It is no such expression; the message names what is not allowed, and why.

    Example:
        >>> import pyarrow as pa
        >>> Pattern("[0-9]{5}", what="an example").whole(pa.array(["12345", "1234", None])).to_pylist()
        [True, False, None]
    """

    def __init__(self, text: str, *, what: str, replacement: str = "") -> None:
        self.text, self.replacement = text, replacement
        if len(text) > LONGEST_PATTERN:
            raise InputError(f"{what} was given a pattern of {len(text):,} characters", hint=f"at most {LONGEST_PATTERN:,} are allowed")
        self._whole = rf"\A(?:{text})\z"
        try:
            for form in (text, self._whole):  # each by itself: `a)(b` is no pattern, though it is one inside the group
                pc.match_substring_regex(pa.array([""]), form)
            pc.replace_substring_regex(pa.array(["a"]), text, replacement)
        except (pa.ArrowInvalid, UnicodeEncodeError) as error:
            raise _refusal(text, replacement, what, str(error)) from None

    def whole(self, values: pa.Array) -> pa.Array:
        """Say of each text whether the expression matches it from its first character to its last; null where there is none."""
        return pc.match_substring_regex(values, self._whole)

    def part(self, values: pa.Array) -> pa.Array:
        """Say of each text whether the expression matches a part of it; null where there is none."""
        return pc.match_substring_regex(values, self.text)

    def replace(self, values: pa.Array) -> pa.Array:
        """Return the texts with every match replaced, from left to right.

        Finding one match is linear; finding all of them is quadratic at worst, for an expression that looks far ahead before it matches
        little (`.*x|a`).
        """
        return pc.replace_substring_regex(values, self.text, self.replacement)

    def of(self, value: pc.Expression) -> pc.Expression:
        """Return `whole` as an Arrow expression."""
        return pc.match_substring_regex(value, self._whole)


def _refusal(text: str, replacement: str, what: str, error: str) -> InputError:
    for match in _REFUSED.finditer(text):
        if match.lastgroup:
            told = f"{match.group()!r} is {_NAMES[match.lastgroup]}, which is not allowed: it {_WHY}"
            return InputError(f"{what} was given the pattern {text!r}: {told}", hint=_HINT)
    given = f"the pattern {text!r}" + (f" and the replacement {replacement!r}" if replacement else "")
    return InputError(f"{what} was given {given}: {error}", hint=_HINT)
