"""What is kept of earlier runs is used again only where its files are as they were."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest

import deepseek
from deepseek.data.landing import land
from deepseek.data.sources import open_source
from deepseek.fields import Field, Kind, Schema
from deepseek.pipeline.preparing import cache_keys
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


@pytest.mark.parametrize("package", ["data", "fields", "statistics", "pipeline/preparing"])
def test_what_other_code_has_made_is_not_taken_up(tmp_path, monkeypatch, package):
    monkeypatch.setattr(deepseek, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / package).mkdir(parents=True)
    (tmp_path / package / "step.py").write_text("one = 1")
    before = cache_keys.code_version.__wrapped__()
    assert cache_keys.code_version.__wrapped__() == before
    (tmp_path / package / "step.py").write_text("one = 2")
    assert cache_keys.code_version.__wrapped__() != before


@pytest.mark.parametrize("library", ["numpy", "pillow", "polars", "pyarrow", "tokenizers"])
def test_what_another_version_of_a_library_has_made_is_not_taken_up(monkeypatch, library):
    before = cache_keys.code_version.__wrapped__()
    known = cache_keys.version
    monkeypatch.setattr(cache_keys, "version", lambda name: "0.0.1" if name == library else known(name))
    assert cache_keys.code_version.__wrapped__() != before
