"""BentoML with its batching, the same predictor."""

import os
from typing import Any

import bentoml
import pyarrow as pa

import deepseek


@bentoml.service(traffic={"timeout": 30})
class Served:
    def __init__(self) -> None:
        self.predictor = deepseek.load(os.environ["RUN"])

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=50)
    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.predictor.predict(pa.Table.from_pylist(rows)).to_pylist()
