"""The public contract suite of sources: what every source must do, as tests that a plugin's author runs on their own.

Example:
    In a test file of the plugin::

        class TestMySource(SourceContract):
            @pytest.fixture
            def source(self, tmp_path):
                return MySource(tmp_path, path=write_example(tmp_path))

            @pytest.fixture
            def expected(self):
                return pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from deepseek.data.sources.base import Source
from deepseek.errors import DeepSeekError


class SourceContract:
    """Tests that hold for every source; a subclass gives the fixtures `source` and `expected`.

    `expected` is the whole table, of at least three rows; its first column holds no tensors and no missing value.
    """

    def test_reads_the_expected_rows_as_its_schema_says(self, source: Source, expected: pa.Table) -> None:
        """Every row comes, in order, of the types that `schema` gives."""
        assert source.schema().equals(_whole(source).schema)
        assert _whole(source).to_pydict() == expected.to_pydict()

    def test_reads_the_same_again(self, source: Source) -> None:
        """A second read gives what the first did, also after one that was broken off."""
        first = _whole(source)
        next(iter(source.read(batch_rows=1)))
        assert _whole(source).equals(first)

    def test_projects_in_the_order_asked_for(self, source: Source, expected: pa.Table) -> None:
        """Only the wanted columns come, in the wanted order."""
        names = list(reversed(expected.column_names))
        assert _whole(source, columns=names).column_names == names
        assert _whole(source, columns=names[-1:]).to_pydict() == expected.select(names[-1:]).to_pydict()

    def test_refuses_an_unknown_column(self, source: Source) -> None:
        """A column that is not there is an error that says so."""
        with pytest.raises(DeepSeekError, match="no_such_column"):
            list(source.read(columns=["no_such_column"]))

    def test_filters_also_by_columns_that_are_not_wanted(self, source: Source, expected: pa.Table) -> None:
        """Only rows for which the expression is true come."""
        first, last = expected.column_names[0], expected.column_names[-1]
        value = expected.column(0)[1]
        keep = pc.equal(expected.column(0), value)
        read = _whole(source, columns=[last], where=pc.field(first) == value)
        assert read.to_pydict() == expected.filter(keep).select([last]).to_pydict()

    @pytest.mark.parametrize("batch_rows", [1, 2, 1_000_000])
    def test_keeps_batches_small(self, source: Source, expected: pa.Table, batch_rows: int) -> None:
        """No batch holds more rows than asked for, none is empty, and none is lost."""
        sizes = [batch.num_rows for batch in source.read(batch_rows=batch_rows)]
        assert sum(sizes) == expected.num_rows
        assert 0 < min(sizes) <= max(sizes) <= batch_rows

    def test_its_fingerprint_is_stable(self, source: Source) -> None:
        """Reading does not change the fingerprint."""
        before = source.fingerprint()
        _whole(source)
        assert source.fingerprint() == before

    def test_gives_its_rejects_as_promised(self, source: Source) -> None:
        """Rejects have the three columns of the contract."""
        for batch in source.rejects():
            assert batch.schema.names == ["line", "reason", "raw"]

    def test_text_can_be_asked_for(self, source: Source, expected: pa.Table) -> None:
        """Asked for text, a source still gives every row and column, and text as it was."""
        texts = [field.name for field in source.schema() if pa.types.is_string(field.type)]
        assert _whole(source.as_text([*texts, "no_such_column"])).to_pydict() == expected.to_pydict()

    def test_a_given_split_is_a_column(self, source: Source) -> None:
        """Where the source knows the split, its column holds the three names only."""
        name = source.given_split()
        if name is not None:
            assert set(_whole(source).column(name).to_pylist()) <= {"train", "validation", "test"}


def _whole(source: Source, **request: object) -> pa.Table:
    batches = list(source.read(**request))  # type: ignore[arg-type]
    return pa.Table.from_batches(batches)
