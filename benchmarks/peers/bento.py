"""BentoML: its batching where the back-ends are identical, else as its documentation begins: one row a call."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import bentoml
from predicting import MAX_SIZE, TUNED, Served

if TUNED:

    @bentoml.service(workers=1, traffic={"timeout": 30, "max_concurrency": 100_000}, logging={"access": {"enabled": False}})
    class Model:
        def __init__(self) -> None:
            self.served = Served()

        @bentoml.api(batchable=True, max_batch_size=MAX_SIZE, max_latency_ms=50)
        def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return self.served.predict(rows)

else:

    @bentoml.service
    class Model:  # type: ignore[no-redef]
        def __init__(self) -> None:
            self.served = Served()

        @bentoml.api
        def predict(self, row: dict[str, Any]) -> dict[str, Any]:
            return self.served.predict([row])[0]
