"""Planted near-twins are found across a split, strangers are not; what is compared, and what not, is said."""

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.landing import LandedTable, LandingCounts
from deepseek.data.prepared import PreparedDataset
from deepseek.data.twins import Sides, picture_twins, search, table_twins, text_twins, twin_kinds
from deepseek.data.twins.found import EXAMPLES
from deepseek.fields import Kind

WORDS = [
    f"{first}{second}" for first in ("riv", "sto", "lam", "win", "gar", "let", "mot") for second in ("er", "ne", "ps", "dow", "den", "ter")
]


def landed(folder, table, name="data"):
    with pa.ipc.new_file(str(folder / f"{name}.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=300)
    return LandedTable(folder / f"{name}.arrow", LandingCounts(len(table), len(table), 0))


def sides(table, train, test):
    return Sides((table, np.asarray(train)), {"test": (table, np.asarray(test))})


def sentence(random, words=14):
    return " ".join(random.choice(WORDS, words))


def with_a_word_changed(random, text):
    words = text.split()
    words[random.integers(len(words))] = random.choice(WORDS)
    return " ".join(words)


def test_texts_with_a_word_changed_are_found_and_strangers_are_not(tmp_path):
    random = np.random.default_rng(0)
    texts = [sentence(random, 30) for _ in range(1_000)]
    planted = [with_a_word_changed(random, text).upper() + "  " for text in texts[:100]]
    others = [sentence(random, 30) for _ in range(400)]
    table = landed(tmp_path, pa.table({"note": texts + planted + others}))
    found = text_twins(sides(table, range(1_000), range(1_000, 1_500)), "note")
    (near,) = found.found
    assert len(near.rows) >= 95
    assert near.rows.max() < 1_100
    assert set(found.training) == {int(row) - 1_000 for row in near.rows}
    assert (near.looked_at, near.of) == (500, 500)
    row, twin, alike = near.pairs[0]
    assert row == twin + 1_000
    assert alike >= 0.8
    assert len(near.to_json()["examples"]) == EXAMPLES


def test_texts_that_share_half_of_their_words_are_no_twins(tmp_path):
    random = np.random.default_rng(1)
    texts = [sentence(random, 30) for _ in range(300)]
    halves = [" ".join([*text.split()[:15], *random.choice(WORDS, 15)]) for text in texts]
    table = landed(tmp_path, pa.table({"note": texts + halves}))
    assert not len(text_twins(sides(table, range(300), range(300, 600)), "note").found[0].rows)


def test_short_and_missing_texts_are_not_looked_at(tmp_path):
    table = landed(tmp_path, pa.table({"note": ["thanks", None, "thanks", None, "a text that is long enough to be known again"] * 2}))
    (near,) = text_twins(sides(table, range(5), range(5, 10)), "note").found
    assert near.looked_at == 1
    assert near.rows.tolist() == [9]


def test_rows_rounded_otherwise_are_found_and_neighbours_are_not(tmp_path):
    random = np.random.default_rng(2)
    numbers = random.standard_normal((2_000, 6)) * [1, 10, 100, 1e-3, 1e6, 5]
    again = numbers[:200].astype(np.float32).astype(np.float64)
    others = random.standard_normal((800, 6)) * [1, 10, 100, 1e-3, 1e6, 5]
    city = random.choice(["Rome", "Oslo"], 2_000)
    columns = {f"n{place}": np.concatenate([numbers, again, others])[:, place] for place in range(6)}
    spelled = [*city, *(f" {one.upper()}" for one in city[:200]), *random.choice(["Rome", "Oslo"], 800)]
    table = landed(tmp_path, pa.table({**columns, "city": spelled}))
    names = [*columns, "city"]
    both = sides(table, range(2_000), range(2_000, 3_000))
    found = table_twins(both, names, sample=table.sample(np.arange(2_000), 500, 0), typed=lambda batch: batch)
    assert len(found.found[0].rows) >= 198
    assert found.found[0].rows.max() < 2_200
    assert set(found.training) == {int(row) - 2_000 for row in found.found[0].rows}


def test_missing_values_are_the_same(tmp_path):
    random = np.random.default_rng(6)
    columns = {name: random.standard_normal(200).tolist() for name in "abc"}
    for name in "ab":
        columns[name][7] = columns[name][107] = None
    columns["c"][107] = columns["c"][7]
    table = landed(tmp_path, pa.table(columns))
    both = sides(table, range(100), range(100, 200))
    found = table_twins(both, list("abc"), sample=table.sample(np.arange(100), 100, 0), typed=lambda batch: batch)
    assert found.found[0].rows.tolist() == [107]
    assert found.found[0].pairs == ((107, 7, 1.0),)


@pytest.mark.parametrize("columns", [1, 2])
def test_few_columns_in_which_strangers_agree_are_not_compared(tmp_path, columns):
    random = np.random.default_rng(7)
    values = {f"n{place}": random.standard_normal(4_000).round(3) for place in range(columns)}
    table = landed(tmp_path, pa.table(values))
    both = sides(table, range(3_000), range(3_000, 4_000))
    (near,) = table_twins(both, list(values), sample=table.sample(np.arange(3_000), 3_000, 0), typed=lambda batch: batch).found
    assert (near.looked_at, near.of, len(near.rows)) == (0, 1_000, 0)


def test_a_value_out_of_all_bounds_does_not_make_all_others_the_same(tmp_path):
    random = np.random.default_rng(8)
    values = random.standard_normal((2_000, 5))
    values[::500] *= 1e12
    table = landed(tmp_path, pa.table({f"n{place}": values[:, place] for place in range(5)}))
    both = sides(table, range(1_500), range(1_500, 2_000))
    names = [f"n{place}" for place in range(5)]
    (near,) = table_twins(both, names, sample=table.sample(np.arange(1_500), 1_500, 0), typed=lambda batch: batch).found
    assert (near.looked_at, len(near.rows)) == (500, 0)


def test_every_row_of_a_text_that_comes_often_is_counted(tmp_path):
    random = np.random.default_rng(9)
    same = sentence(random, 20)
    table = landed(tmp_path, pa.table({"note": [same] * 300 + [sentence(random, 20) for _ in range(50)]}))
    found = text_twins(sides(table, [*range(100), *range(300, 350)], range(100, 300)), "note")
    assert len(found.found[0].rows) == 200
    assert found.training.tolist() == list(range(100))


def pictures(random, count, size=28):
    coarse = random.integers(0, 255, (count, 7, 7)).astype(np.float64)
    return np.kron(coarse, np.ones((size // 7, size // 7)))


def as_dataset(images, rows=None):
    pixels = np.clip(images, 0, 255).astype(np.uint8)[..., None]
    made = PreparedDataset.from_arrays({"image": pixels}, {"target": np.zeros(len(pixels), dtype=np.int64)})
    made.source_rows = rows
    return made


def test_pictures_brighter_noisy_or_shifted_are_found_and_strangers_are_not():
    random = np.random.default_rng(3)
    shown = pictures(random, 1_500)
    changed = [
        shown[:100] * 0.8 + 20,
        shown[100:200] + random.normal(0, 6, (100, 28, 28)),
        np.roll(shown[200:300], 1, axis=2),
    ]
    measured = np.concatenate([*changed, pictures(random, 1_000)])
    found = picture_twins(as_dataset(shown), {"test": as_dataset(measured, np.arange(5_000, 6_300))}, "image")
    (near,) = found.found
    kinds = [((near.rows >= start) & (near.rows < start + 100)).sum() for start in (5_000, 5_100, 5_200)]
    assert kinds[0] >= 98
    assert kinds[1] >= 95
    assert (near.rows >= 5_300).sum() == 0
    assert set(found.training) <= set(range(300))


def test_pictures_of_one_colour_are_no_twins():
    blank = np.full((20, 28, 28), 40.0)
    found = picture_twins(as_dataset(blank), {"test": as_dataset(blank + 1)}, "image")
    assert not len(found.found[0].rows)


def test_of_many_measured_rows_some_are_drawn_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "MOST_MEASURED", 50)
    random = np.random.default_rng(4)
    texts = [sentence(random) for _ in range(200)]
    table = landed(tmp_path, pa.table({"note": texts * 2}))
    (near,) = text_twins(sides(table, range(200), range(200, 400)), "note").found
    assert (near.looked_at, near.of, len(near.rows)) == (50, 200, 50)


def test_what_is_compared_goes_by_the_kinds_of_columns():
    assert twin_kinds({"a": Kind.NUMBER, "b": Kind.CATEGORY}) == ([], [], ["a", "b"])
    assert twin_kinds({"a": Kind.NUMBER, "t": Kind.TEXT, "i": Kind.IMAGE}) == (["t"], ["i"], [])
    assert twin_kinds({"b": Kind.CATEGORY}) == ([], [], [])


@pytest.mark.parametrize("share", [0.9, 0.95])
def test_recall_is_what_the_bands_promise(tmp_path, share):
    """Of pairs of which 100 · share in a hundred letters are the same stretch, all but a few are found."""
    random = np.random.default_rng(5)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    texts = ["".join(random.choice(letters, 400)) for _ in range(300)]
    cut = int(400 * share)
    twins = [text[:cut] + "".join(random.choice(letters, 400 - cut)) for text in texts]
    table = landed(tmp_path, pa.table({"note": texts + twins}))
    (near,) = text_twins(sides(table, range(300), range(300, 600)), "note").found
    assert len(near.rows) >= 0.95 * 300
