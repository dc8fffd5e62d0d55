"""What AutoGluon does with the table of `table.py`; prints JSON. Arguments: `work FOLDER`, then `reload FOLDER` in a new process.

`fit` never sees test rows, so the shifted rows are given as tuning rows: they too are rows that nothing may be learned from but the choice
of the model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from autogluon.tabular import TabularPredictor
from table import FAR, parity, tables

MODELS = {"NN_TORCH": {"num_epochs": 3}}


def fitted(
    folder: Path, parts: dict[str, pd.DataFrame], *, models: dict | None = None, tuning: str = "validation", **arguments: object
) -> TabularPredictor:
    predictor = TabularPredictor(label="bought", path=str(folder), verbosity=0)
    given = {"hyperparameters": models or MODELS, "fit_weighted_ensemble": False, **arguments}
    return predictor.fit(parts["train"], tuning_data=parts[tuning], **given)


def refused(call: Callable[[], TabularPredictor]) -> str:
    """Return whether a call with a typo is refused, and whether the message names what was meant."""
    try:
        predictor = call()
    except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
        return "refused, with a suggestion" if "did you mean" in str(error).lower() else "refused"
    return "accepted" if predictor.model_names() else "refused"


def probabilities(predictor: TabularPredictor) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda rows: predictor.predict_proba(rows)["yes"].to_numpy()


def work(folder: Path) -> dict:
    parts = tables()
    shifted = fitted(folder / "shifted", parts, tuning="test")
    seen = shifted._learner.feature_generator  # noqa: SLF001 - what was learned of the columns is nowhere else
    columns = seen.transform(parts["test"].drop(columns="bought"))
    stored = {"largest number": None, "category of the test rows": FAR in map(str, columns["city"].cat.categories)}
    predictor = fitted(folder / "autogluon", parts)
    rows = parts["validation"].drop(columns="bought")
    (folder / "answers.json").write_text(json.dumps(probabilities(predictor)(rows).tolist()))
    return {
        "typos": {
            "section": refused(lambda: fitted(folder / "a", parts, hyperparametrs={})),
            "key": refused(lambda: fitted(folder / "b", parts, models={"NN_TORCH": {"num_epochs": 3, "learning_rte": 5}})),
            "part of a column": refused(lambda: fitted(folder / "c", parts, feature_generator_kwargs={"enable_numerc_features": False})),
        },
        "stored": stored,
        "parity": parity(probabilities(predictor), rows),
    }


def reload(folder: Path) -> dict:
    before = json.loads((folder / "answers.json").read_text())
    predictor = TabularPredictor.load(str(folder / "autogluon"))
    return {"reloaded": float(abs(probabilities(predictor)(tables()["validation"].drop(columns="bought")) - before).max())}


if __name__ == "__main__":
    print(json.dumps({"work": work, "reload": reload}[sys.argv[1]](Path(sys.argv[2]))))
