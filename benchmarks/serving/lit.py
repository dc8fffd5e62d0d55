"""LitServe with its batching, the same predictor."""

import os
import sys
from typing import Any

import litserve
import pyarrow as pa

import deepseek


class Predictor(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.predictor = deepseek.load(os.environ["RUN"])

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    def batch(self, inputs: list[dict[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist(inputs)

    def predict(self, table: pa.Table) -> list[dict[str, Any]]:
        return self.predictor.predict(table).to_pylist()

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Predictor(max_batch_size=64, batch_timeout=0.002)
    litserve.LitServer(api, accelerator="cpu", healthcheck_path="/readyz").run(port=int(sys.argv[1]), generate_client_file=False)
