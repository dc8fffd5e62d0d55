from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from deepseek.statistics import TopCounts

_streams = st.lists(st.lists(st.integers(0, 12), max_size=30), max_size=8)


@given(_streams)
def test_few_values_are_counted_exactly(batches):
    counts = TopCounts(13)
    for batch in batches:
        counts.update(Counter(batch).items())
    truth = Counter(value for batch in batches for value in batch)
    assert counts.exact
    assert dict(counts.most_common()) == truth
    assert counts.total == truth.total()


@given(_streams, st.integers(1, 6))
def test_many_values_are_counted_within_the_stated_error(batches, capacity):
    counts, other = TopCounts(capacity), TopCounts(capacity)
    for place, batch in enumerate(batches):
        (counts if place % 2 else other).update(Counter(batch).items())
    counts.merge(other)
    truth = Counter(value for batch in batches for value in batch)
    kept = dict(counts.most_common())
    assert len(kept) <= capacity
    assert counts.error <= truth.total() / (capacity + 1)
    for value, count in truth.items():
        assert count - counts.error <= kept.get(value, 0) <= count


def test_among_equals_the_smallest_value_comes_first():
    counts = TopCounts()
    counts.update([("b", 2), ("a", 2), ("c", 1)])
    assert counts.most_common(2) == [("a", 2), ("b", 2)]
