"""What this framework does with the table of `table.py`; prints JSON. Arguments: `work FOLDER`, then `reload FOLDER` in a new process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from table import FAR, parity, tables

import deepseek
from deepseek.errors import DeepSeekError

DATA = {"source": "train.csv", "target": "bought"}


def refused(**wrong: object) -> str:
    """Return whether a recipe with a typo is refused, and whether the message names what was meant."""
    recipe = {"data": DATA, **wrong}
    try:
        deepseek.load_recipe(recipe)
    except DeepSeekError as error:
        return "refused, with a suggestion" if "did you mean" in f"{error} {error.hint}" else "refused"
    return "accepted"


def probabilities(predictor: deepseek.Predictor) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda rows: predictor.predict(rows)["probability_yes"].to_numpy()


def work(folder: Path) -> dict:
    parts = tables()
    run = deepseek.train(parts["train"], target="bought", test=parts["test"], out=folder, overrides=["train.epochs=3"], progress=False)
    stored = (run.bundle / "data.json").read_text()
    numbers = next(part["state"] for part in json.loads(stored)["transforms"] if part["spec"]["type"] == "number")
    rows = parts["validation"].drop(columns="bought")
    predictor = deepseek.load(run.run)
    (folder / "run.txt").write_text(str(run.run))
    (folder / "answers.json").write_text(json.dumps(probabilities(predictor)(rows).tolist()))
    return {
        "typos": {
            "section": refused(trian={"epochs": 9}),
            "key": refused(train={"learning_rte": 5}),
            "part of a column": refused(data={**DATA, "transforms": {"x": {"type": "number", "scalng": 1}}}),
        },
        "stored": {"largest number": largest(numbers), "category of the test rows": FAR in stored},
        "parity": parity(probabilities(predictor), rows),
    }


def largest(value: object) -> float:
    """Return the largest number anywhere in nested JSON."""
    if isinstance(value, dict | list):
        return max((largest(part) for part in (value.values() if isinstance(value, dict) else value)), default=0.0)
    return abs(float(value)) if isinstance(value, int | float) else 0.0


def reload(folder: Path) -> dict:
    before = json.loads((folder / "answers.json").read_text())
    after = probabilities(deepseek.load((folder / "run.txt").read_text()))(tables()["validation"].drop(columns="bought"))
    return {"reloaded": float(abs(after - before).max())}


if __name__ == "__main__":
    print(json.dumps({"work": work, "reload": reload}[sys.argv[1]](Path(sys.argv[2]))))
