"""From a million rows to twenty: wall-clock time and memory of reading, splitting, fitting and preparing a Parquet file.

Protocol: a file of 10 columns (8 numbers, 1 category, a two-valued target) is made in pieces; a fresh process reads it through the whole
data half of the pipeline and loads one epoch of batches of 1024. Reported: seconds, the peak of anonymous memory (RssAnon: what the
process itself holds) above the imports, and the peak of all resident memory, in which the operating system also counts pages of mapped
files that it may drop at any time.

Usage: python benchmarks/scale.py [--rows 1000000 5000000 20000000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from memory import Peak, memory

PIECE = 1_000_000


def write_rows(path: Path, rows: int) -> None:
    generator = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, PIECE):
        count = min(PIECE, rows - start)
        columns = {f"x{i}": generator.normal(size=count).astype(np.float32) for i in range(8)}
        columns["c"] = np.array(["red", "green", "blue", "white"])[generator.integers(0, 4, count)]
        columns["y"] = (columns["x0"] + columns["x1"] + generator.normal(size=count) > 0).astype(np.int8)
        table = pa.table(columns)
        writer = writer or pa.parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    writer.close()


def prepare(path: Path) -> dict[str, object]:
    from deepseek import progress
    from deepseek.artifacts import StageCache
    from deepseek.data.loader import Loader
    from deepseek.pipeline.preparing.dataset import make_dataset
    from deepseek.recipe import load_recipe

    progress.quiet()
    before, peak = memory("RssAnon"), Peak()
    peak.start()
    started = time.perf_counter()
    dataset = make_dataset(load_recipe({"data": {"source": str(path), "target": "y"}}), StageCache(path.parent / "cache"))
    prepared = time.perf_counter() - started
    train = dataset.open("train")
    rows = sum(len(batch) for batch in Loader(train, batch_size=1024).batches(0))
    epoch = time.perf_counter() - started - prepared
    peak.going = False
    return {
        "prepare_s": round(prepared, 2),
        "epoch_of_batches_s": round(epoch, 2),
        "train_rows": rows,
        "anonymous_mb": round((peak.anonymous - before) / 1e6),
        "resident_mb": round(memory("VmHWM") / 1e6),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000_000, 5_000_000, 20_000_000])
    parser.add_argument("--file", type=Path)
    arguments = parser.parse_args()
    if arguments.file:
        print(json.dumps(prepare(arguments.file)))
        sys.exit()
    for count in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.parquet"
            write_rows(file, count)
            done = subprocess.run([sys.executable, __file__, "--file", str(file)], check=True, capture_output=True, text=True)
            print(json.dumps({"benchmark": "scale", "rows": count, **json.loads(done.stdout)}), flush=True)
