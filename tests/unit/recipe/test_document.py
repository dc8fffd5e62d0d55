from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.errors import InputError, RecipeError
from deepseek.recipe.document import dump_document, dump_line, parse_document, parse_value, read_document, resolve_scalar


def problem(text: str):
    with pytest.raises(RecipeError) as caught:
        parse_document(text, "r.yaml")
    assert all(one.file == "r.yaml" and one.line for one in caught.value.problems)
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1.0e-5", 1e-5), ("1E3", 1000.0), (".5", 0.5), ("-1.", -1.0), ("7", 7), ("-7", -7), ("+7", 7), ("0", 0),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("010", "010"), ("0o17", "0o17"), ("0x1F", "0x1F"),
        ("12:30", "12:30"), ("1:2:3", "1:2:3"), ("2024-01-01", "2024-01-01"), ("1_000", "1_000"), ("true", True), ("False", False),
        ("null", None), ("~", None), ("", None), ("nan", "nan"), ("inf", "inf"), ("'5'", "5"), ('"no"', "no"), ("'~'", "~"),
    ],
)  # fmt: skip
def test_scalars_mean_what_people_mean(text: str, value: object) -> None:
    found = parse_document(f"a: {text}", "r.yaml").value["a"]
    assert (found, type(found)) == (value, type(value))


def test_every_key_and_item_has_its_line() -> None:
    lines = parse_document("a: 1\nb:\n  c: [1,\n    2]\n  d:\n  - x\n", "r.yaml").lines
    assert lines == {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 0): 3, ("b", "c", 1): 4, ("b", "d"): 5, ("b", "d", 0): 6}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3", 3, "stands twice; the first is in line 1"),
        ("a:\n\tb: 1", 2, "a tab stands"),
        ("a: &x [*x]", 1, "leads back into itself"),
        ("1: 2", 1, "write '1' in quotes"),
        ("x: 1\ntrue: 2", 2, "write 'true' in quotes"),
        ("? [a]\n: b", 1, "not a list or a mapping"),
        ("a: 1\n---\nb: 2", 2, "a second document"),
        ("a: !!python/object/apply:os.system [x]", 1, "tag"),
        ("a: !x 1", 1, "tag"),
        ("a: " + "[" * 50, 1, "levels are nested"),
        ("a: \x00", 1, "does not allow"),
        ("a: b: c", 1, "no valid YAML"),
        ("a: [1,\nb: {", 2, "no valid YAML"),
        ("a: &m {x: 1}\nb:\n  <<: *m", 3, "merge keys"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, line: int, words: str) -> None:
    found = problem(text)
    assert words in found.message
    assert found.line == line


def test_every_doubled_key_is_told() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_document("a: 1\na: 2\nb: {c: 1, c: 2}", "r.yaml")
    assert [one.path for one in caught.value.problems] == ["a", "b.c"]


def test_aliases_work_and_cannot_explode() -> None:
    assert parse_document("a: &x [1]\nb: *x", "r.yaml").value == {"a": [1], "b": [1]}
    bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 10)}]\n" for i in range(9))
    assert "blow the recipe up" in problem(bomb).message


@pytest.mark.parametrize(
    ("raw", "words"),
    [(b"a: 1\nb: \xff", "not UTF-8"), ("a: 1".encode("utf-16"), "not UTF-8"), (b"#" * 1_000_001, "at most")],
)
def test_files_that_are_no_recipe_are_refused(tmp_path: Path, raw: bytes, words: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(raw)
    with pytest.raises(RecipeError, match=words):
        read_document(file)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_document(tmp_path / "r.yaml").value == {"a": 1}


@pytest.mark.parametrize("path", ["nowhere.yaml", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_named(path: str) -> None:
    with pytest.raises(InputError):
        read_document(Path(path))


def test_a_table_and_a_misspelt_name_are_answered_with_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "adult.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"is a table, and no recipe\n  train on it with: deepseek train .*adult\.csv --target COLUMN"):
        read_document(tmp_path / "adult.csv")
    (tmp_path / "churn.yaml").write_text("a: 1")
    with pytest.raises(InputError, match=r"did you mean '.*churn\.yaml'\? give a YAML file, or the folder of a run"):
        read_document(tmp_path / "chrun.yaml")


@pytest.mark.parametrize(
    ("text", "value"), [("[1e-3, no]", [1e-3, "no"]), ("{a: 1}", {"a": 1}), ("*.csv", "*.csv"), ("5m", "5m"), ("", None)]
)
def test_override_values_follow_the_same_rules(text: str, value: object) -> None:
    assert parse_value(text) == value


texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]) | st.sampled_from("\n\t:#-[]{}&*!|>'\"%@`\x85\u2028"), max_size=12)
tricky = st.sampled_from(
    ["1e-5", "no", "010", "~", "null", "true", "1.", ".5", "<<", "12:30", "0x1", "2024-01-01", "", " ", "=", ".nan", "1_0"]
)
scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | texts | tricky
keys = (texts | tricky).filter(lambda text: len(text) < 100)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(values)
def test_what_is_written_is_read_back_the_same(value: object) -> None:
    again = parse_document(dump_document(value), "r.yaml").value
    assert again == value
    assert repr(again) == repr(value)
    assert "\n" not in dump_line(value)


@given(st.text(max_size=30))
def test_resolving_never_fails(text: str) -> None:
    assert isinstance(resolve_scalar(text), str | int | float | bool | None)
