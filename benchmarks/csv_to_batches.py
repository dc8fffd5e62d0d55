"""From a CSV file to training batches: the data half of the pipeline against pandas, scikit-learn and torch's DataLoader.

Protocol: a file of 5 M rows (8 numbers, 3 of them with missing values, 3 categories as names, a two-valued target; some 300 MB) is made
once. Each arm is a fresh process that reads it, splits it 70/15/15, fits imputation, scaling and encoding on the training rows, applies
them to all three parts and takes one shuffled epoch of the training rows in batches of 1024, as tensors. The stage cache is cold. The arms
take turns; medians are reported. Memory is sampled every 10 ms: `resident_mb` is all of it (VmHWM), where the operating system counts pages
of mapped files that it may drop at any time; `anonymous_mb` is what the process itself holds (RssAnon). Both include the imports, and
so does the time from the process's start to its end, `process_s`. `processor_s` is the processor time, on all cores, of the whole process.

Usage: python benchmarks/csv_to_batches.py [--rows 5000000] [--repeats 3] [--file rows.csv]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from memory import Peak, memory

PIECE = 500_000
BATCH_SIZE = 1024
NUMBERS = [f"x{i}" for i in range(8)]
CATEGORIES = ["city", "plan", "device"]
CITIES, PLANS, DEVICES = 200, 4, 12


def write_rows(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.csv

    generator = np.random.default_rng(0)
    with path.open("wb") as sink:
        for start in range(0, rows, PIECE):
            count = min(PIECE, rows - start)
            columns: dict[str, object] = {}
            for i, name in enumerate(NUMBERS):
                values = np.round(generator.normal(size=count) * 10.0 ** (i % 4), 3) if i < 6 else generator.integers(0, 1000, count)
                columns[name] = pa.array(values, mask=generator.random(count) < 0.05 if i < 3 else None)
            for name, size in zip(CATEGORIES, (CITIES, PLANS, DEVICES), strict=True):
                columns[name] = np.array([f"{name}_{k}" for k in range(size)])[generator.integers(0, size, count)]
            columns["churned"] = generator.integers(0, 2, count)
            options = pa.csv.WriteOptions(include_header=start == 0, quoting_style="none")
            pa.csv.write_csv(pa.table(columns), sink, options)


def framework(path: Path) -> tuple[int, float]:
    from deepseek import progress
    from deepseek.artifacts import StageCache
    from deepseek.data.loader import Loader
    from deepseek.pipeline.preparing.dataset import make_dataset
    from deepseek.recipe import load_recipe

    progress.quiet()
    with tempfile.TemporaryDirectory(dir=path.parent) as cache:
        dataset = make_dataset(load_recipe({"data": {"source": str(path), "target": "churned"}}), StageCache(Path(cache)))
        started = time.perf_counter()
        rows = sum(len(batch) for batch in Loader(dataset.open("train"), batch_size=BATCH_SIZE).batches(0))
        return rows, time.perf_counter() - started


def pandas_sklearn(path: Path) -> tuple[int, float]:
    import pandas as pd
    import torch
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler
    from torch.utils.data import DataLoader, TensorDataset

    frame = pd.read_csv(path)
    train, rest = train_test_split(frame, train_size=0.7, stratify=frame["churned"], random_state=0)
    validation, test = train_test_split(rest, train_size=0.5, stratify=rest["churned"], random_state=0)
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
            ("categories", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), CATEGORIES),
        ]
    ).fit(train)
    datasets = []
    for part in (train, validation, test):
        arrays = columns.transform(part)
        numbers = torch.from_numpy(arrays[:, : len(NUMBERS)].astype(np.float32))
        categories = torch.from_numpy(arrays[:, len(NUMBERS) :].astype(np.int32))
        datasets.append(TensorDataset(numbers, categories, torch.from_numpy(part["churned"].to_numpy(np.float32))))
    started = time.perf_counter()
    rows = sum(len(target) for _, _, target in DataLoader(datasets[0], batch_size=BATCH_SIZE, shuffle=True))
    return rows, time.perf_counter() - started


ARMS: dict[str, Callable[[Path], tuple[int, float]]] = {"framework": framework, "pandas_sklearn": pandas_sklearn}


def run_arm(name: str, path: Path) -> dict[str, float]:
    peak = Peak()
    peak.start()
    started = time.perf_counter()
    rows, epoch = ARMS[name](path)
    seconds = time.perf_counter() - started
    peak.going = False
    return {
        "seconds": seconds,
        "processor_s": time.process_time(),
        "epoch_s": epoch,
        "train_rows": rows,
        "resident_mb": memory("VmHWM") / 1e6,
        "anonymous_mb": peak.anonymous / 1e6,
    }


def fresh(name: str, path: Path) -> dict[str, float]:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, "--arm", name, "--file", str(path)], check=True, capture_output=True, text=True)
    return {**json.loads(done.stdout), "process_s": time.perf_counter() - started}


def compare(path: Path, repeats: int, rows: int) -> None:
    path.read_bytes()  # both arms find the file in the page cache
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    for _ in range(repeats):
        for name, done in runs.items():
            done.append(fresh(name, path))
    medians = {name: {key: statistics.median(run[key] for run in done) for key in done[0]} for name, done in runs.items()}
    common = {"benchmark": "csv_to_batches", "rows": rows, "file_mb": round(path.stat().st_size / 1e6)}
    for name, values in medians.items():
        print(json.dumps({**common, "arm": name, **{key: round(value, 2) for key, value in values.items()}}))
    ours, theirs = medians["framework"], medians["pandas_sklearn"]
    ratios = {
        "speedup": theirs["seconds"] / ours["seconds"],
        "speedup_of_process": theirs["process_s"] / ours["process_s"],
        "resident_share": ours["resident_mb"] / theirs["resident_mb"],
        "anonymous_share": ours["anonymous_mb"] / theirs["anonymous_mb"],
    }
    print(json.dumps({**common, "arm": "ratio", **{key: round(value, 3) for key, value in ratios.items()}}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--file", type=Path, help="keep the rows here, or read them from here")
    parser.add_argument("--arm", choices=list(ARMS), help="run one arm in this process")
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(run_arm(arguments.arm, arguments.file)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "rows.csv"
        if not path.exists():
            write_rows(path, arguments.rows)
        compare(path, arguments.repeats, arguments.rows)


if __name__ == "__main__":
    main()
