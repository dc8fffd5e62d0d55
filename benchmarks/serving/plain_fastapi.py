"""What people write themselves: FastAPI, a pydantic model, the same predictor, one row a request."""

import os
from typing import Any

import pyarrow as pa
from fastapi import FastAPI
from pydantic import create_model

import deepseek

predictor = deepseek.load(os.environ["RUN"])
Row = create_model("Row", **dict.fromkeys(predictor.columns, (Any, ...)))
app = FastAPI()


@app.get("/readyz")
def ready() -> dict[str, str]:
    return {"status": "ready"}


@app.post("/predict")
def predict(row: Row) -> dict[str, Any]:
    given = {name: [value] for name, value in row.model_dump().items()}
    return predictor.predict(pa.table(given)).to_pylist()[0]
