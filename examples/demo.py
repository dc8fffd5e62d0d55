"""The main job on real data, from a raw file to predictions: what `make demo` runs.

The tables come inside scikit-learn: 569 breast tumours measured by 30 numbers (Wolberg, Street, Mangasarian 1993) and 1,797 hand-written
digits of 8 × 8 pixels (Alpaydin, Kaynak 1998).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from sklearn.datasets import load_breast_cancer, load_digits

import deepseek


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)

    print("1. A table: is the tumour benign or malignant?\n")
    tumours = load_breast_cancer(as_frame=True)
    table = tumours.data.assign(diagnosis=tumours.target.map({0: "malignant", 1: "benign"}))
    pa.csv.write_csv(pa.Table.from_pandas(table), folder / "tumours.csv")
    print(f"   $ deepseek train {folder}/tumours.csv --target diagnosis")
    run = deepseek.train(folder / "tumours.csv", target="diagnosis", out=folder / "runs")
    show(run)

    answers = deepseek.load(run.run).predict(table.head(3))
    print("\n   the first three tumours:\n")
    print("  ", answers.to_string(index=False).replace("\n", "\n   "))

    print("\n2. Images: which digit is it?\n")
    digits = load_digits()
    np.savez(folder / "digits.npz", image=digits.images.astype(np.uint8), digit=digits.target)
    print(f"   $ deepseek train {folder}/digits.npz --target digit")
    show(deepseek.train(folder / "digits.npz", target="digit", out=folder / "runs"))


def show(run: deepseek.RunResult) -> None:
    for split in ("validation", "test"):
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in run.metrics[split].items())
        print(f"   {split:<11}{metrics}")
    print(f"   {run.seconds:.0f} s; everything is in {run.run}, the model in {run.bundle}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo"))
