"""What Ludwig does with the table of `table.py`; prints JSON. Arguments: `work FOLDER`, then `reload FOLDER` in a new process."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from ludwig.api import LudwigModel
from table import FAR, parity, tables

CONFIG = {
    "input_features": [
        {"name": "x", "type": "number", "preprocessing": {"normalization": "zscore"}},
        {"name": "z", "type": "number", "preprocessing": {"normalization": "zscore"}},
        {"name": "city", "type": "category"},
    ],
    "output_features": [{"name": "bought", "type": "binary", "preprocessing": {"fallback_true_label": "yes"}}],
    "trainer": {"epochs": 3},
}


def refused(change: Callable[[dict], object]) -> str:
    """Return whether a configuration with a typo is refused, and whether the message names what was meant."""
    config = json.loads(json.dumps(CONFIG))
    change(config)
    try:
        LudwigModel(config, logging_level=logging.ERROR)
    except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
        return "refused, with a suggestion" if "did you mean" in str(error).lower() else "refused"
    return "accepted"


def probabilities(model: LudwigModel) -> Callable[[pd.DataFrame], np.ndarray]:
    def predict(rows: pd.DataFrame) -> np.ndarray:
        answers = model.predict(rows, skip_save_predictions=True)[0]
        (column,) = [name for name in answers.columns if name in {"bought_probabilities_True", "bought_probabilities_yes"}]
        return answers[column].to_numpy()

    return predict


def work(folder: Path) -> dict:
    parts = tables()
    model = LudwigModel(CONFIG, logging_level=logging.ERROR)
    processed = model.preprocess(parts["train"], parts["validation"], parts["test"], skip_save_processed_input=True)
    metadata = processed.training_set_metadata
    stored = {
        "largest number": max(abs(float(metadata["x"]["mean"])), float(metadata["x"]["std"])),
        "category of the test rows": FAR in str(metadata["city"]),
    }
    model.train(
        training_set=parts["train"],
        validation_set=parts["validation"],
        test_set=None,
        output_directory=str(folder / "ludwig"),
        skip_save_progress=True,
    )
    rows = parts["validation"].drop(columns="bought")
    model.save(str(folder / "ludwig_model"))
    (folder / "answers.json").write_text(json.dumps(probabilities(model)(rows).tolist()))
    return {
        "typos": {
            "section": refused(lambda config: config.update(trian={"epochs": 9})),
            "key": refused(lambda config: config["trainer"].update(learning_rte=5)),
            "part of a column": refused(lambda config: config["input_features"][0]["preprocessing"].update(normalisation="minmax")),
        },
        "stored": stored,
        "parity": parity(probabilities(model), rows),
    }


def reload(folder: Path) -> dict:
    before = json.loads((folder / "answers.json").read_text())
    model = LudwigModel.load(str(folder / "ludwig_model"), logging_level=logging.ERROR)
    return {"reloaded": float(abs(probabilities(model)(tables()["validation"].drop(columns="bought")) - before).max())}


if __name__ == "__main__":
    print(json.dumps({"work": work, "reload": reload}[sys.argv[1]](Path(sys.argv[2]))))
