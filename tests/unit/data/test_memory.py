"""Memory of long runs: what is memory-mapped stays so."""

import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from deepseek.data.landing import LandedTable, land
from deepseek.data.loader import Loader
from deepseek.data.prepared import Column, PreparedDataset, PreparedWriter
from deepseek.data.sources.memory import MemorySource

STATUS = Path("/proc/self/status")
ROWS, COLUMNS = 400_000, 64
DATA_BYTES = ROWS * COLUMNS * 4
OWN_PROCESS = "DEEPSEEK_TEST_MEMORY_IN_THIS_PROCESS"
needs_proc = pytest.mark.skipif(not STATUS.exists(), reason="only Linux says how much memory is anonymous")
needs_own_process = pytest.mark.skipif(OWN_PROCESS not in os.environ, reason="run in a fresh process by test_memory_in_a_fresh_process")


def memory(key):
    """Return bytes of the process, those given back that the C library keeps for later."""
    gc.collect()
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def numbers(rows):
    return np.random.default_rng(rows).standard_normal((rows, COLUMNS), dtype=np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared")
    with PreparedWriter(path, (Column("x", "input", "float32", (COLUMNS,)),)) as writer:
        for start in range(0, ROWS, 50_000):
            writer.append({"x": numbers(50_000)}, np.arange(start, start + 50_000))
    return path


def read(loader, epoch):
    return sum(len(batch) for batch in loader.batches(epoch))


@needs_proc
@pytest.mark.skipif(OWN_PROCESS in os.environ, reason="this is that process")
def test_memory_in_a_fresh_process():
    """What other tests freed would be handed out again, and hide what is measured here."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env={**os.environ, OWN_PROCESS: "1"}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@needs_proc
@needs_own_process
def test_epochs_over_mapped_rows_take_no_memory_of_their_own(folder):
    loader = Loader(PreparedDataset.open(folder), batch_size=1024)
    before = memory("RssAnon")
    assert [read(loader, epoch) for epoch in range(8)] == [ROWS] * 8
    settled = memory("RssAnon")
    # batches, and the orders of the last four windows of rows, at 8 bytes a row
    assert settled - before < DATA_BYTES / 2
    assert [read(loader, epoch) for epoch in range(8, 20)] == [ROWS] * 12
    # which of those orders are held at the moment differs; rows that stayed would be twelve times the data
    assert memory("RssAnon") - settled < 4 * ROWS * 8


@needs_proc
@needs_own_process
def test_the_measure_sees_rows_that_are_held():
    before = memory("RssAnon")
    held = [numbers(50_000) for _ in range(ROWS // 50_000)]
    assert memory("RssAnon") - before > 0.9 * DATA_BYTES
    assert len(held) == ROWS // 50_000


@needs_proc
@needs_own_process
def test_passes_over_a_landed_table_let_go_of_its_pages(tmp_path):
    table = pa.table({f"x{i}": column for i, column in enumerate(numbers(ROWS).T)})
    land(MemorySource(table), [], tmp_path)
    del table
    landed = LandedTable.open(tmp_path)
    assert landed.rows == ROWS
    before = memory("RssFile")
    most = 0
    for batch in landed.batches():
        assert batch.column(0).to_numpy().sum() != 0
        most = max(most, memory("RssFile") - before)
    assert 0 < most < DATA_BYTES / 2
