"""Text cleaning: what goes, what stays, and that no text takes it long or to an error."""

import html
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepseek.data.cleaning.markup import BLOCK, HIDDEN, INLINE, strip_html, unescape
from deepseek.data.cleaning.text import TextCleaner
from deepseek.errors import InputError
from deepseek.fields import Field, Kind, Schema
from deepseek.registry import family


def clean(text, **given):
    cleaner = TextCleaner(**given)
    cleaner.begin(Schema((Field("t", Kind.TEXT, True),)))
    return cleaner.apply(pa.record_batch({"t": [text, None]})).column("t").to_pylist()[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a < b", "a < b"),
        ("a<b", "a<b"),
        ("I <3 you", "I <3 you"),
        ("x << 1, y >> 2, <>, </>, </ b>", "x << 1, y >> 2, <>, </>, </ b>"),
        ("vector<int> v; Map<String, List<T>>", "vector<int> v; Map<String, List<T>>"),
        ("Ann <ann@example.com> wrote", "Ann <ann@example.com> wrote"),
        ("see <https://example.com/x>", "see <https://example.com/x>"),
        ("a <b", "a <b"),
        ("a <!-- b", "a <!-- b"),
        ("<!---->a<!-->b<!--->c<!-- -- > --!>d", "abcd"),
        ("<!DOCTYPE html><html><body>x</body></html>", "x "),
        ("<?xml version='1.0'?><o:p>x</o:p> <my-widget a=1>y</my-widget>", "x  y "),
        ("<a title='x > y' href=\"a>b\">z</a>", "z"),
        ('<img alt="it\'s">a<br/>b', "a b"),
        ('<b title="never closed>bold</b>', "bold"),
        ("<B>A</B><P>b</P>", "A b "),
        ("<scrIPT>if (a<b) { x('</div>') }</SCRIPT >y", "y"),
        ("a<script>never closed", "a "),
        ("<style>p {}</style><template><p>x</p></template>y", "y"),
        ("<b<i>x", "<bx"),
        ("<![CDATA[<b>&amp;]]>", "<b>&amp;"),
        ("<ul><li>one<li>two</ul>", "one two "),
        ("Tom &amp; Jerry &lt;b&gt; &#65;&#x42; &eacute; &copy2", "Tom & Jerry <b> AB é ©2"),
        ("&#xD800;&#0;&#" + "9" * 5000 + ";&#" + "0" * 5000 + "65;", "\ufffd\ufffd\ufffdA"),
        ("&#x" + "0" * 50 + "41;&" + "#" * 9 + "&", "A&#########&"),
    ],
)
def test_what_is_markup_and_what_only_looks_like_it(text, wanted):
    assert strip_html(text) == wanted


def test_each_element_is_of_one_sort():
    assert not (HIDDEN | INLINE) & BLOCK
    assert not HIDDEN & INLINE


class Library(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text = ""

    def handle_data(self, data):
        self.text += data


_TREES = st.recursive(
    st.text("abc é<>&'\" ", max_size=8).map(html.escape),
    lambda inner: st.tuples(st.sampled_from(["p", "b", "div", "li", "a href='x>y'"]), st.lists(inner, max_size=3)).map(
        lambda pair: f"<{pair[0]}>{''.join(pair[1])}</{pair[0].split()[0]}>"
    ),
    max_leaves=10,
)


@given(_TREES)
def test_of_well_formed_markup_the_standard_library_reads_the_same_letters(text):
    parser = Library()
    parser.feed(text)
    parser.close()
    assert strip_html(text).replace(" ", "") == parser.text.replace(" ", "")


@given(st.text(st.sampled_from("<>&/!-?='\" abips#x0;"), max_size=60))
@example("<p x='>")
def test_no_text_raises_and_text_without_marks_is_left_alone(text):
    assert isinstance(strip_html(text), str)
    if not set(text) & set("<&"):
        assert strip_html(text) == text


@given(st.text("<>abi!-/ '\"=&;", max_size=200))
def test_nothing_is_invented(text):
    """Every letter of the result stood in the text, in this order; entities, which are no letters there, apart."""
    rest = iter(text)
    assert all(any(letter == other for other in rest) for letter in strip_html(text.replace("&", "+")).replace("+", "&") if letter != " ")


@given(st.text(st.sampled_from("&#x0123456789abcdef;ltgamp"), max_size=50))
def test_entities_are_those_of_the_standard_library(text):
    assert unescape(text) == html.unescape(text)


HOSTILE = [
    "'<' * n", "'<a' * n", "'<a ' * n", "'<!--' * n", "'<!' * n", "'</' * n", "'<b x=\"' * n", "'<b x=\\'' * n", "'<b x=\"\\'' * n",
    "'<b' + ' x=' * n", "'<b' + '=' * n + '>'", "'<script>' * n", "'<script></script ' * n", "'<style><!--' * n", "'&' * n",
    "'&#' * n", "'&#' + '9' * n", "'&#x' + '0' * n + ';'", "'&a' * n", "'<![CDATA[' * n", "'<?' * n", "'<p>' * n", "'<a@' * n",
    "'<a-' * n", "'<' + 'a' * n + '>'", "'<b x=\">' * n + '\"'", "'Ã' * n", "'Ã©' * n", "'\\u00c3\\u0192' * n", "'http://' * n", "'a@' * n",
    "'a.' * n + '@'", "'@' * n", "'!?' * n", "' \\u200b' * n", "'e' + '\\u0301' * n",
]  # fmt: skip


def test_a_megabyte_of_anything_takes_no_longer_than_its_length():
    """Any step that were quadratic would take days for all of these; the bound is minutes on a machine that is busy."""
    program = (
        "import pyarrow as pa\n"
        "from deepseek.data.cleaning.text import TextCleaner\n"
        "cleaner = TextCleaner(mojibake=True, urls=True, emails='<e>', mentions=True, repeats=2, lower=True, unicode='NFKC')\n"
        f"for made in {HOSTILE!r}:\n"
        "    text = eval(made, {'n': 300_000})[:1_000_000]\n"
        "    cleaner._clean(pa.array([text]))\n"
    )
    subprocess.run([sys.executable, "-c", program], timeout=350, check=True)


@pytest.mark.parametrize(
    ("given", "text", "wanted"),
    [
        ({"urls": "<url>"}, r"at http://a.b/c?d=1 and www.x.org", "at <url> and <url>"),
        ({"urls": r"\1"}, "at http://a.b", r"at \1"),
        ({"emails": True}, "write to a.b+c@d-e.co.uk, or @home", "write to , or @home"),
        ({"emails": "EMAIL"}, "ann@x.org;bob@y.org", "EMAIL;EMAIL"),
        ({"mentions": "@user"}, "@ann, cc @bob_2 (@zoë) a@b", "@user, cc @user (@user) a@b"),
        ({"emails": "E", "mentions": "M"}, "a@b.org @c", "E M"),
        ({"patterns": [["[0-9]+", "#"], ["##?", "N"]]}, "a1 22", "aN N"),
        ({"pattern": "a", "replacement": "b", "patterns": [["b", "c"]]}, "a", "c"),
        ({"repeats": 1}, "no!!! why??… ... 1--2 !?!?", "no! why?… . 1-2 !?!?"),
        ({"repeats": 2}, "!!!!", "!!"),
        ({"mojibake": True}, "cafÃ© â€œquotedâ€\x9d naÃ¯ve", "café “quoted” naïve"),
        ({"mojibake": True}, "cafÃƒÂ©", "café"),
        ({"mojibake": True}, "Ã© and é", "Ã© and é"),
        ({"mojibake": True}, "SÃO PAULO", "SÃO PAULO"),
        ({"mojibake": True, "control": False}, "Æ\x82 â€œ", "Æ\x82 â€œ"),
        ({}, "cafÃ©", "cafÃ©"),
        ({"mojibake": True}, "Ã\xa0 la", "à la"),
        ({}, "\ufeffa\u202eb\u2066c\u00add\u2028e\ufffe", "abcd e"),
        ({}, "می\u200cخواهم 👨\u200d👩", "می\u200cخواهم 👨\u200d👩"),
        ({"unicode": "NFKC"}, "ＡＢ①ﬀ", "AB1ff"),
        ({"lower": True}, "İSTANBUL ÀÉ", "i̇stanbul àé"),
        ({"lower": True, "unicode": "NFKC"}, "ℍⅧ", "hviii"),
        ({"whitespace": False}, " a  b ", " a  b "),
        ({}, " a\u3000\u00a0b\t", "a b"),
    ],
)
def test_each_step(given, text, wanted):
    if given.get("lower") and "İ" in text:
        wanted = unicodedata.normalize("NFC", clean("İSTANBUL ÀÉ", lower=True))  # one letter or two, as Arrow has it
        assert wanted.endswith("stanbul àé")
    assert clean(text, **given) == wanted


_SETTINGS = st.fixed_dictionaries(
    {
        "control": st.booleans(),
        "unicode": st.sampled_from(["NFC", "NFKC", None]),
        "lower": st.booleans(),
        "mojibake": st.booleans(),
        "repeats": st.sampled_from([None, 1, 3]),
        "whitespace": st.just(True),
    }
)
_TEXTS = st.one_of(st.text(max_size=40), st.text("aé!?.Ã©â€œ\u200b\u202e\t\n\ufeff İﬁ\u0301\u00c2\u0083", max_size=40))


@settings(max_examples=300)
@given(_SETTINGS, _TEXTS)
def test_a_second_pass_changes_nothing(given, text):
    given = {**given, "html": False, "mojibake": False}
    once = clean(text, **given)
    assert clean(once, **given) == once


@given(_TEXTS)
def test_a_repair_is_exact_or_not_made(text):
    """What is repaired, garbled again, is what it was."""
    repaired = clean(text, mojibake=True, html=False, control=False, unicode=None, whitespace=False)
    garbled = {repaired}
    while text not in garbled:
        as_bytes = {one.encode() for one in garbled if len(one) < len(text)}
        assert as_bytes, (text, repaired)
        garbled = {one.decode("latin-1") for one in as_bytes}
        garbled |= {"".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in one) for one in as_bytes}


@given(_SETTINGS, _TEXTS, st.booleans(), st.booleans(), st.booleans())
def test_no_text_raises_and_a_row_is_cleaned_alone_as_among_others(given, text, urls, emails, mentions):
    given = {**given, "urls": urls, "emails": emails, "mentions": mentions}
    cleaner = TextCleaner(**given)
    alone = cleaner._clean(pa.array([text])).to_pylist()
    assert cleaner._clean(pa.array(["<p>x</p>", text, None, "Ã©!!!"])).to_pylist()[1:2] == alone
    assert cleaner._clean(pa.array([text], pa.large_string())).to_pylist() == alone
    assert cleaner._clean(pa.array(["y", text]).slice(1)).to_pylist() == alone


def test_text_without_marks_is_never_read_one_by_one(monkeypatch):
    read = []
    monkeypatch.setattr("deepseek.data.cleaning.text.strip_html", lambda text: read.append(text) or text)
    monkeypatch.setattr("deepseek.data.cleaning.text._repaired", lambda text: read.append(text) or text)
    TextCleaner(mojibake=True)._clean(pa.array(["plain", "a > b", "é", None, "a & b"]))
    assert read == ["a & b"]


def test_wrong_settings_are_refused():
    for wrong in ({"repeats": 0}, {"patterns": [["a"]]}, {"patterns": [["(", ""]]}, {"urls": 3}, {"patterns": [["a", r"\1"]]}):
        with pytest.raises(InputError):
            family("cleaner").build({"type": "text", **wrong})


def test_production_cleans_as_training_did(tmp_path, monkeypatch):
    """The bundle carries the settings: a row as it comes from the web is answered like the same row cleaned by hand."""
    import deepseek

    monkeypatch.chdir(tmp_path)
    words = np.random.default_rng(0).choice(["good", "fine", "bad", "poor", "film", "plot"], (120, 4))
    texts = [" ".join(row) for row in words]
    labels = ["yes" if "good" in row or "fine" in row else "no" for row in words]
    step = {"type": "text", "columns": ["t"], "urls": "<url>", "emails": True, "repeats": 1, "patterns": [["q+", "good"]], "mojibake": True}
    recipe = {
        "name": "cleaned",
        "data": {"source": str(tmp_path / "t.csv"), "target": "y", "fields": {"t": "text"}, "clean": [step]},
        "train": {"epochs": 1},
    }
    import csv

    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["t", "y"], *zip(texts, labels, strict=True)])
    run = deepseek.run(recipe)
    predictor = deepseek.load(run.path if hasattr(run, "path") else run)
    dirty = ["<p>qqq&nbsp;film</p> http://a.b!!!", "plot\u200b \u202ebad<script>good</script>"]
    tidy = ["good film <url>", "plot bad"]
    answers = [predictor.predict({"t": given}).to_pydict() for given in (dirty, tidy)]
    assert answers[0] == answers[1]
