"""Example data: the same for everybody, never over what is there, with something to find."""

import numpy as np
import pyarrow.csv
import pytest
from PIL import Image

import deepseek
from deepseek.data.examples import EXAMPLES, example
from deepseek.errors import InputError, RunError, UnknownNameError


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_the_same_each_time_and_another_with_another_seed(name, tmp_path):
    written = [example(name, tmp_path / part, rows=30, seed=seed) for part, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert all(path.exists() for path in written)
    first, second, third = (files_of(tmp_path / part) for part in "abc")
    assert first == second
    assert first != third


def test_nothing_is_overwritten(tmp_path):
    path = example("customers", tmp_path, rows=10)
    before = path.read_bytes()
    with pytest.raises(RunError, match="is there already"):
        example("customers", tmp_path, rows=20)
    assert path.read_bytes() == before


def test_wrong_names_and_sizes_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="customers"):
        example("customer", tmp_path)
    with pytest.raises(InputError, match="at least 10"):
        example("customers", tmp_path, rows=3)


def test_age_and_city_say_who_leaves(tmp_path):
    table = pyarrow.csv.read_csv(example("customers", tmp_path)).to_pandas()
    old = table["age"].fillna(0) + 20 * (table["city"] == "Oslo") > 50
    assert (old == (table["churned"] == "yes")).mean() > 0.8


def test_reviews_have_four_languages_and_quotes_of_the_opposite(tmp_path):
    table = pyarrow.csv.read_csv(example("reviews", tmp_path)).to_pandas()
    assert table["review"].str.contains("です|ました|ます").mean() == pytest.approx(0.15, abs=0.04)
    assert table["review"].nunique() > 300
    assert 0.45 < (table["content"] == "yes").mean() < 0.55


def test_no_column_of_the_tickets_is_enough(tmp_path):
    path = example("tickets", tmp_path)
    table = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True)).to_pandas()
    vague = table["message"].str.contains("time$|picture$|ago$")
    assert 0.3 < vague.mean() < 0.5
    shown = table["screenshot"].dropna()
    assert 0.85 < len(shown) / len(table) < 0.95
    colours = np.array([np.asarray(Image.open(path.parent / name))[2, 2] for name in shown[:300]], dtype=int)
    named = np.array(["billing", "delivery", "technical"])[[1 if c[0] > 150 else 2 if c[2] > 150 else 0 for c in colours]]
    assert 0.55 < (named == table["team"][shown.index[:300]]).mean() < 0.8


def test_it_is_public():
    assert deepseek.example is example
