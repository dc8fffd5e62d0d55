"""Regular expressions of users: one engine, linear in the text, for every way in."""

import re
import subprocess
import sys

import pyarrow as pa
import pytest

from deepseek.data.checks.regex import RegexCheck
from deepseek.data.cleaning.text import TextCleaner
from deepseek.data.expressions import RowExpression
from deepseek.data.patterns import LONGEST_PATTERN, Pattern
from deepseek.errors import InputError
from deepseek.fields import Field, Kind, Schema
from deepseek.registry import family

BOMBS = [r"(a+)+$", r"(a|a)*$", r"(a|aa)+$", r"(.*a){20}$", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(?:a?){30}a{30}b"]
TEXT = "a" * 100_000 + "!"


def cleaner(**settings):
    made = TextCleaner(**settings)
    made.begin(Schema((Field("s", Kind.TEXT, True),)))
    return made


WAYS_IN = {
    "the check regex": lambda pattern: RegexCheck(column="s", pattern=pattern).bad,
    "the cleaner text": lambda pattern: cleaner(pattern=pattern, replacement="x").apply,
    "the cleaner's list": lambda pattern: cleaner(patterns=[("b", "c"), (pattern, "x")]).apply,
    "an expression": lambda pattern: RowExpression(f"matches(s, {pattern!r})").evaluate,
}


@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize("pattern", BOMBS)
def test_no_pattern_tracks_back(way, pattern):
    """With an engine that does, each of these takes longer than the age of the universe, or gives up."""
    assert WAYS_IN[way](pattern)(pa.record_batch({"s": [TEXT, "b", None]})) is not None


@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        (r"(a)\1", "a back-reference"),
        (r"(?P<x>a)(?P=x)", "a back-reference"),
        (r"(?=a)b", "look-ahead"),
        (r"(?!a)b", "look-ahead"),
        (r"(?<=a)b", "look-behind"),
        (r"\\(?<!a)b", "look-behind"),
        (r"(?>a+)b", "an atomic group"),
        (r"a++b", "a possessive quantifier"),
        (r"(a)?(?(1)b|c)", "a conditional group"),
    ],
)
def test_what_needs_tracking_back_is_refused_by_name_and_with_the_reason(way, pattern, named):
    with pytest.raises(InputError, match=rf"{named}, which is not allowed: it needs an engine that tracks back"):
        WAYS_IN[way](pattern)


@pytest.mark.parametrize("pattern", ["(", "a)(b", "[", "a{5000}", "((a{100}){100}){100}", "\ud800", "x" * (LONGEST_PATTERN + 1)])
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(InputError):
        Pattern(pattern, what="it")


@pytest.mark.parametrize("pattern", [r"[(?=]", r"\(\?=", r"[^]\\(?!]", r"\\1", r"a+?", r"[+]+"])
def test_what_only_looks_like_it_is_allowed(pattern):
    assert Pattern(pattern, what="it").part(pa.array(["x"])).to_pylist() in ([True], [False])


def test_whole_part_and_replacement():
    values = pa.array(["ab", "b", None])
    assert Pattern("a|ab", what="it").whole(values).to_pylist() == [True, False, None]
    assert Pattern("a", what="it").part(values).to_pylist() == [True, False, None]
    assert Pattern("(b)", what="it", replacement=r"<\1\0>").replace(values).to_pylist() == ["a<bb>", "<bb>", None]
    with pytest.raises(InputError, match="replacement"):
        Pattern("a", what="it", replacement=r"\2")


def test_python_would_track_back():
    """The ablation: the first of these patterns on 40 letters keeps Python's engine busy beyond any patience."""
    program = f"import re; re.search({BOMBS[0]!r}, 'a' * 40 + '!')"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([sys.executable, "-c", program], timeout=3, check=True)


def test_nothing_that_a_user_writes_reaches_the_module_re():
    """Every constructor argument that is called a pattern belongs to a component that was tried above."""
    found = set()
    for name in ("check", "cleaner", "source", "transform", "augmentation"):
        for component in family(name).names():
            found |= {(name, component, key) for key in family(name).schema(component).model_fields if re.search("pattern|regex", key)}
    assert found == {("check", "regex", "pattern"), ("cleaner", "text", "pattern"), ("cleaner", "text", "patterns")}
