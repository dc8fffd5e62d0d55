"""What is kept of earlier runs is used again only where its files are as they were."""

from __future__ import annotations

import os

import pyarrow as pa

from deepseek.data.landing import land
from deepseek.data.sources import open_source
from deepseek.fields import Field, Kind, Schema
from deepseek.pipeline.preparing.cache_keys import file_version


def test_a_slice_that_is_replaced_within_a_series_is_noticed(tmp_path):
    (tmp_path / "scan").mkdir()
    slice_ = tmp_path / "scan" / "1.dcm"
    slice_.write_bytes(b"first")
    table = land(open_source(pa.table({"scan": [str(tmp_path / "scan")]})), [], tmp_path / "landed")
    schema = Schema((Field("scan", Kind.VOLUME),), ())
    folder = (tmp_path / "scan").stat()
    before = file_version(table, schema)
    assert file_version(table, schema) == before
    slice_.write_bytes(b"other, and longer")
    os.utime(tmp_path / "scan", ns=(folder.st_atime_ns, folder.st_mtime_ns))
    assert file_version(table, schema) != before
