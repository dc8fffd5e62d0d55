"""A page is whole, asks for nothing, and cannot be broken by what is written into it."""

import re
from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek.reporting.html import Html, element, text
from deepseek.reporting.numbers import binary_size, number, percent, seconds, size
from deepseek.reporting.page import (
    Page,
    Tile,
    Value,
    callout,
    card,
    cards,
    code,
    details,
    items,
    picture,
    shortened,
    table,
    tiles,
)

EVIL = "<script>alert('x')</script>\" onload=\"x"


def whole_page():
    page = Page(EVIL, subtitle=EVIL, facts=[(EVIL, EVIL)])
    parts = [tiles([Tile(EVIL, EVIL, EVIL)]), table([EVIL, "n"], [[EVIL, 1]], caption=EVIL, sortable=True), callout(EVIL, title=EVIL)]
    parts += [code(EVIL), details(EVIL, EVIL), items([EVIL]), cards([card(EVIL, [(EVIL, EVIL)])]), EVIL]
    page.section(EVIL, *parts, picture(b"\xff", "image/jpeg", description=EVIL), note=EVIL)
    page.section(EVIL, "again")
    return page


def test_a_page_is_balanced_and_asks_for_nothing(read_page):
    read = read_page(whole_page().render())
    assert [values for tag, values in read.tags if tag == "html"] == [{"lang": "en"}]
    assert [tag for tag, _ in read.tags].count("h1") == 1
    assert all(values.get("scope") for tag, values in read.tags if tag == "th")


def test_what_is_written_into_a_page_never_runs(read_page):
    read = read_page(whole_page().render())
    assert [tag for tag, _ in read.tags].count("script") == 1
    assert "".join(read.words).count("alert('x')") >= 12


def test_the_policy_lets_the_pages_own_script_run_and_no_other():
    page = whole_page().render()
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL).group(1)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy


def test_sections_of_one_title_have_anchors_of_their_own(read_page):
    page = Page("p")
    for _ in range(3):
        page.section("Data", "x")
    assert read_page(page.render()).ids == ["data", "data-2", "data-3"]


def test_a_section_without_parts_is_left_out():
    page = Page("p")
    page.section("Empty", Html(), "", table(["a"], []))
    assert "Empty" not in page.render()


def test_numbers_stand_right_and_sort_by_value():
    made = table(["name", "n"], [["a", 2.5], ["b", Value("3 %", 0.03)], ["c", None]])
    assert made.count('<td class="number"') == 3
    assert 'data-value="0.03">3 %' in made
    assert 'data-value="nan"' in made


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 cells"):
        table(["a", "b"], [["x"]])


def test_a_picture_that_is_none_is_refused():
    with pytest.raises(ValueError, match="svg"):
        picture(b"", "image/svg+xml", description="")


def test_an_attribute_that_runs_something_is_refused():
    with pytest.raises(ValueError, match="onclick"):
        element("p", onclick="x")


@given(st.text())
def test_any_text_comes_back_as_it_was(value):
    from html import unescape

    assert not set("<>\"'") & set(text(value))
    kept = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", "�", value)
    assert unescape(text(value)) == kept


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1_234_567, "1,234,567"),
        (0.1 + 0.2, "0.3"),
        (-0.00001234, "−1.234e-5"),
        (12_345.6, "12,346"),
        (1e12, "1e12"),
        (float("nan"), "–"),
        (float("inf"), "∞"),
        (None, "–"),
        (-0.0, "0"),
        (99.996, "100"),
    ],
)
def test_numbers_are_written_as_people_read_them(value, shown):
    assert number(value) == shown


def test_units():
    assert [percent(0.1234), percent(float("nan"))] == ["12.3 %", "–"]
    assert [seconds(0.85), seconds(12.54), seconds(200), seconds(7500)] == ["850 ms", "12.5 s", "3 min 20 s", "2 h 5 min"]
    assert [size(999), size(1_250_000)] == ["999 B", "1.25 MB"]
    assert shortened("abcdef", 3) == "abc… (3 more characters)"


def test_small_amounts_of_memory_are_no_nothing():
    given = (0, 16, 512, 60_000, 200_000, 1 << 29, 1 << 34)
    assert [binary_size(one) for one in given] == ["0.0 MiB", "16 B", "0.5 KiB", "58.6 KiB", "0.2 MiB", "512.0 MiB", "16.0 GiB"]
