"""What INT8 saves and what it costs: models that were trained with nothing said but the target, on public data.

Fashion-MNIST (a compact network of convolutions), Adult (TabM), SST-2 (a bag of n-grams, and a small transformer). Each is trained,
brought to INT8 in every way there is (`deepseek.compress`), and the kept form is measured on the official test rows, which nothing was
chosen on. The table holds metric, other answers, bytes of files and weights, the time of 1 and of 32 rows, and the peak memory of a fresh
process, for each form. Prints one JSON line a set.

    python benchmarks/int8.py
    python benchmarks/int8.py sst2 --set train.epochs=1
    python benchmarks/int8.py adult --run runs/adult/001
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import deepseek
from deepseek.inference.backends.choice import machine

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
TRANSFORMER = "model={type: text_transformer, width: 256, depth: 4, heads: 4, pool: mean}"


def fashion(_: Path) -> tuple[Any, Any, str, list[str]]:
    return DATA / "fashion_mnist" / "fashion_mnist.npz", None, "y", []


def adult(folder: Path) -> tuple[Any, Any, str, list[str]]:
    def read(name: str) -> Path:
        frame = pd.read_csv(DATA / "adult" / name, header=None, skipinitialspace=True, na_values="?")
        frame.columns = [*(f"c{place}" for place in range(14)), "target"]
        frame.assign(target=frame.target.str.rstrip(".")).to_parquet(folder / f"{name}.parquet", index=False)
        return folder / f"{name}.parquet"

    return read("adult-train.csv"), read("adult-test.csv"), "target", []


def sst2(folder: Path) -> tuple[Any, Any, str, list[str]]:
    def read(name: str) -> pd.DataFrame:
        lines = (DATA / "sst2" / f"stsa.binary.{name}").read_text(encoding="latin-1").split("\n")
        return pd.DataFrame([(line[2:], "positive" if line[0] == "1" else "negative") for line in lines if line], columns=["text", "label"])

    rows = pd.concat([read("train").assign(split="train"), read("dev").assign(split="validation"), read("test").assign(split="test")])
    rows.to_parquet(folder / "sst2.parquet", index=False)
    return folder / "sst2.parquet", None, "label", ["data.split.column=split"]


def sst2_transformer(folder: Path) -> tuple[Any, Any, str, list[str]]:
    source, test, target, overrides = sst2(folder)
    return source, test, target, [*overrides, TRANSFORMER]


SETS = {"fashion_mnist": fashion, "adult": adult, "sst2": sst2, "sst2_transformer": sst2_transformer}


def measure(name: str, *, run: str | None, overrides: list[str], max_drop: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source, test, target, more = SETS[name](folder)
        made = (
            run or deepseek.train(source, target=target, test=test, out=folder / "runs", overrides=[*more, *overrides], progress=False).run
        )
        value = deepseek.compress(made, quantize={"max_drop": max_drop}, output=folder / "int8")
        rows = {row["name"]: row for row in value["table"]}
        kept, plain = rows[value["chosen"]], rows[value["chosen"].split(" int8")[0]]
        less = lambda key: round(1 - kept[key] / plain[key], 4)  # noqa: E731  one line a figure
        test_rows = _test_rows(made)
        test_metrics = {
            form: deepseek.load(path, backend=backend).evaluate(test_rows)["metrics"]
            for form, path, backend in (("fp32", made, "torch"), ("int8", value["bundle"], "auto"))
        }
        return {
            "benchmark": "int8",
            "set": name,
            "threads": torch.get_num_threads(),
            "processor": machine(),
            "kept": value["chosen"],
            "layers": value["layers"],
            "floats": value["floats"],
            "saved": {"weights": less("weight_bytes"), "file": less("bytes"), "memory": less("peak_memory")},
            "faster": {size: round(plain[f"ms_{size}"] / kept[f"ms_{size}"], 3) for size in (1, 32)},
            "test": {form: metrics[value["metric"]] for form, metrics in test_metrics.items()},
            "metric": value["metric"],
            "table": value["table"],
            "refused": value["refused"],
        }


def _test_rows(run: Any) -> Any:
    """Return the run's own test rows, as they were read."""
    import numpy as np
    import pyarrow as pa

    from deepseek.data.landing import LandedTable
    from deepseek.pipeline.analysis.finished import FinishedRun

    dataset = FinishedRun.open(Path(run)).dataset()
    data = dataset.open("test")
    numbers = np.arange(len(data)) if data.source_rows is None else np.sort(np.asarray(data.source_rows, dtype=np.int64))
    table = LandedTable.open(dataset.landed["test" if "test" in dataset.landed else "source"])
    return pa.Table.from_batches(list(table.batches(rows=numbers)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], default=[])
    parser.add_argument("--run", help="a run that is there already, of the one set that is named")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--max-drop", type=float, default=0.005)
    arguments = parser.parse_args()
    if arguments.run and len(arguments.sets) != 1:
        parser.error("--run goes with one set")
    for name in arguments.sets or SETS:
        value = measure(name, run=arguments.run, overrides=arguments.overrides, max_drop=arguments.max_drop)
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
