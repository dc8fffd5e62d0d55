"""What people write themselves: FastAPI, a typed body, the predictor, one row a request; it has no batching."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fastapi import FastAPI
from predicting import Served
from pydantic import create_model

served = Served()
Row = create_model("Row", **dict.fromkeys(served.columns, (Any, ...)))
app = FastAPI()


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ready"}


@app.post("/predict")
def predict(row: Row) -> dict[str, Any]:  # type: ignore[valid-type]
    return served.predict([row.model_dump()])[0]  # type: ignore[attr-defined]
