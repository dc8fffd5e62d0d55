from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek.data.splits import SplitRules, assign_split, shares, split_counts
from deepseek.data.stratify import deal, deal_groups, deal_labels
from deepseek.errors import ColumnError, DataError, InputError


class Table:
    """What `assign_split` asks of a landed table, in memory."""

    def __init__(self, given_split=None, **columns):
        self._table = pa.table({name: pa.chunked_array([pa.array(v)]) for name, v in columns.items()})
        self.given_split = given_split

    rows = property(lambda self: self._table.num_rows)
    schema = property(lambda self: self._table.schema)

    def column(self, name):
        half = self.rows // 2
        return pa.chunked_array([*self._table.column(name).slice(0, half).chunks, *self._table.column(name).slice(half).chunks])


def split(table, seed=0, target=(), **rules):
    return assign_split(table, SplitRules(**rules), target=target, seed=seed)


@pytest.mark.parametrize(
    ("given_shares", "wanted"),
    [((0.7, 0.15, 0.15), (0.7, 0.15, 0.15)), ((7, 1, 2), (0.7, 0.1, 0.2)), ((70, 15, 15), (0.7, 0.15, 0.15)), ((1, 0, 0), (1, 0, 0))],
)
def test_shares(given_shares, wanted):
    assert shares(*given_shares) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("wrong", [(0.7, 0.1, 0.1), (0, 1, 1), (-1, 1, 1), (200, 1, 1), (0.5, 1, 2), (float("nan"), 0, 1)])
def test_shares_that_do_not_add_up(wrong):
    with pytest.raises(InputError, match="add up"):
        SplitRules(*wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"group": "g", "time": "t"},
        {"stratify": True, "time": "t"},
        {"folds": 2},
        {"folds": 5, "fold": 5},
        {"fold": 1},
        {"folds": 5, "column": "c"},
    ],
)
def test_rules_that_contradict_each_other(wrong):
    with pytest.raises(InputError):
        SplitRules(**wrong)


def test_a_split_is_exact_and_depends_on_the_seed_alone():
    table = Table(x=np.arange(1_000))
    first = split(table)
    assert first.dtype == np.int8
    assert split_counts(first) == {"train": 700, "validation": 150, "test": 150}
    assert (first == split(table)).all()
    assert (first != split(table, seed=1)).any()
    assert first[:40].tolist() == [int(part) for part in "0000000010200000110001002100100000002000"]  # must never change


@given(st.lists(st.integers(0, 6), min_size=1, max_size=300), st.integers(0, 3))
def test_each_stratum_and_the_whole_are_within_a_row_of_their_share(strata, seed):
    strata = np.array(strata)
    wanted = np.array([0.7, 0.15, 0.15])
    parts = deal(strata, wanted, seed)
    for stratum in np.unique(strata):
        inside = parts[strata == stratum]
        assert (inside == 0).any()
        assert (np.abs(np.bincount(inside, minlength=3) - wanted * len(inside)) < 1).all()
    forced = sum(1 for size in Counter(strata.tolist()).values() if size == 1)
    assert (np.abs(np.bincount(parts, minlength=3) - wanted * len(parts)) < 2 + forced).all()


def test_many_small_classes_do_not_starve_a_part():
    parts = deal(np.repeat(np.arange(1_000), 3), (0.7, 0.15, 0.15), 0)
    assert np.abs(np.bincount(parts) - [2_100, 450, 450]).max() <= 2
    assert np.abs(np.bincount(deal(np.zeros(3_000, dtype=int), (0.7, 0.15, 0.15), 0)) - [2_100, 450, 450]).max() == 0


def test_classes_are_stratified_unless_told_not_to():
    table = Table(y=["rare"] * 20 + ["common"] * 980)
    rare = np.arange(1_000) < 20
    assert np.bincount(split(table, target=["y"])[rare]).tolist() == [14, 3, 3]
    loose = [np.bincount(split(table, seed=seed, target=["y"], stratify=False)[rare], minlength=3).tolist() for seed in range(5)]
    assert any(counts != [14, 3, 3] for counts in loose)


def test_a_single_row_of_a_class_is_trained_on():
    for seed in range(5):
        assert split(Table(y=["once"] + ["a", "b"] * 50), seed=seed, target=["y"])[0] == 0


def test_numbers_are_stratified_by_tenths_where_asked():
    values = np.random.default_rng(0).exponential(size=1_000)
    parts = split(Table(y=values), target=["y"], stratify=True)
    top = values >= np.quantile(values, 0.9)
    assert np.bincount(parts[top]).tolist() == [70, 15, 15]


def test_labels_are_stratified_better_than_by_chance():
    rng = np.random.default_rng(0)
    labels = rng.random((2_000, 6)) < [0.5, 0.3, 0.1, 0.05, 0.02, 0.01]
    wanted = np.array([0.7, 0.15, 0.15])

    def rows_off(parts):
        return max(abs(labels[parts == part, k].sum() - wanted[part] * labels[:, k].sum()) for part in range(3) for k in range(6))

    parts = deal_labels(labels, wanted, 0)
    assert np.abs(np.bincount(parts) - 2_000 * wanted).max() <= 3
    assert rows_off(parts) < 3
    assert rows_off(deal(np.zeros(2_000, dtype=int), wanted, 0)) > 6
    lists = Table(y=[[f"l{label}" for label in np.flatnonzero(row)] for row in labels])
    assert rows_off(split(lists, target=["y"])) < 3
    flags = Table(**{f"y{label}": labels[:, label].astype(int) for label in range(6)})
    assert rows_off(split(flags, target=[f"y{label}" for label in range(6)])) < 3


def test_a_target_that_cannot_be_stratified():
    table = Table(a=np.arange(100.0), b=np.arange(100.0))
    assert split_counts(split(table, target=["a", "b"]))["train"] == 70
    with pytest.raises(ColumnError, match="a: double, b: double"):
        split(table, target=["a", "b"], stratify=True)


@given(st.lists(st.integers(0, 12), min_size=30, max_size=200), st.integers(0, 3))
def test_a_group_never_crosses(groups, seed):
    groups = np.unique(groups, return_inverse=True)[1]
    parts = deal_groups(groups, (0.7, 0.15, 0.15), seed)
    assert all(len(set(parts[groups == group])) == 1 for group in np.unique(groups))


def test_groups_are_balanced_and_named_by_column():
    people = np.repeat([f"p{number}" for number in range(200)], 5)
    parts = split(Table(who=people), group="who")
    assert split_counts(parts) == {"train": 700, "validation": 150, "test": 150}
    assert all(len(set(parts[people == person])) == 1 for person in set(people))
    folds = [split(Table(who=people), group="who", folds=5, fold=fold) for fold in range(5)]
    assert sum((fold == 2).astype(int) for fold in folds).tolist() == [1] * 1_000
    with pytest.raises(DataError, match=r"2 rows.*'who'.*\n.*required"):
        split(Table(who=["a", None, None]), group="who")


def test_time_goes_forward_and_one_moment_stays_together():
    days = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 10))
    parts = split(Table(day=days), time="day")
    assert days[parts == 0].max() < days[parts == 1].min() <= days[parts == 1].max() < days[parts == 2].min()
    assert split_counts(parts) == {"train": 700, "validation": 150, "test": 150}
    texts = [f"2024-01-{day:02d}" for day in range(1, 31)]
    assert split_counts(split(Table(day=texts), time="day", train=8, validation=0, test=2)) == {"train": 24, "validation": 0, "test": 6}
    with pytest.raises(DataError, match="empty"):
        split(Table(day=[1] * 100), time="day")
    with pytest.raises(DataError, match="points in time"):
        split(Table(day=["soon"] * 10), time="day")


def test_every_row_is_test_once_and_validation_once():
    table = Table(y=["a", "b"] * 55)
    folds = [split(table, target=["y"], folds=5, fold=fold) for fold in range(5)]
    for part in (1, 2):
        assert sum((fold == part).astype(int) for fold in folds).tolist() == [1] * 110
    assert all(np.bincount(fold[::2]).tolist() == [33, 11, 11] for fold in folds)
    two = split(table, folds=2, train=1, validation=0, test=1)
    assert split_counts(two) == {"train": 55, "validation": 0, "test": 55}


def test_the_given_column_counts_in_any_spelling():
    words = ["train", "Training", "val", "valid", "dev", "validation", " TEST ", None]
    table = Table(part=words)
    assert split(table, column="part").tolist() == [0, 0, 1, 1, 1, 1, 2, -1]
    assert split_counts(split(table, column="part"))["left_out"] == 1
    assert split(Table(given_split="part", part=words)).tolist() == [0, 0, 1, 1, 1, 1, 2, -1]
    with pytest.raises(DataError, match=r"'holdout'.*\n.*allowed"):
        split(Table(part=["train", "holdout"]), column="part")
    with pytest.raises(ColumnError, match="did you mean 'part'"):
        split(table, column="prt")


def test_a_missing_part_is_taken_from_the_training_rows():
    table = Table(part=["train"] * 850 + ["test"] * 150, y=["a", "b"] * 500)
    parts = split(table, column="part", target=["y"])
    assert split_counts(parts) == {"train": 700, "validation": 150, "test": 150}
    assert (parts[850:] == 2).all()
    assert np.bincount(parts[:850:2]).tolist() == [350, 75]
    assert split_counts(split(table, column="part", train=0.85, validation=0, test=0.15))["validation"] == 0


def test_an_empty_part_or_an_unseen_class_is_an_error():
    with pytest.raises(DataError, match=r"test part of the split is empty \(train 2, validation 1, test 0\)"):
        split(Table(x=[1, 2, 3]))
    table = Table(part=["train", "val", "test", "test"], y=["a", "a", "b", "c"])
    with pytest.raises(DataError, match="no training row has 'y' = 'b', 'c'"):
        split(table, column="part", target=["y"])


@pytest.mark.parametrize("target", [np.arange(400) % 2, np.arange(400.0) * 1.37])
def test_many_folds_hold_each_row_once(target):
    tested = [split(Table(y=target), target=["y"], folds=200, fold=fold) == 2 for fold in (0, 127, 128, 150, 199)]
    assert [int(rows.sum()) for rows in tested] == [2] * 5
    assert np.sum(tested, axis=0).max() == 1


@pytest.mark.parametrize("parts", [128, 129])
def test_parts_are_numbered_beyond_a_byte(parts):
    strata, labels = np.zeros(parts * 3, dtype=np.int64), np.ones((parts * 3, 1), dtype=bool)
    shares = [1 / parts] * parts
    for dealt in (deal(strata, shares, 0), deal_labels(labels, shares, 0), deal_groups(np.arange(parts * 3), shares, 0)):
        assert np.bincount(dealt, minlength=parts).tolist() == [3] * parts


@pytest.mark.parametrize("stratify", [None, True])
def test_rows_without_a_target_may_stand_in_several_blocks_of_a_table(stratify):
    values = ["a", None, "b", "a"] * 25
    parts = split(Table(y=values), target=("y",), stratify=stratify)
    whole = Table(y=values)
    whole.column = whole._table.column  # in one block
    assert (parts == split(whole, target=("y",), stratify=stratify)).all()
    assert split_counts(parts) == {"train": 70, "validation": 15, "test": 15}
