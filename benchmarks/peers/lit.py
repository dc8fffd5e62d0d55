"""LitServe: its batching and fast queue where the back-ends are identical, else as its documentation begins: one row a call."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import litserve
from predicting import MAX_SIZE, TUNED, WAIT_MS, Served


class One(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.served = Served()

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        return request

    def predict(self, row: dict[str, Any]) -> dict[str, Any]:
        return self.served.predict([row])[0]

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


class Many(One):
    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return inputs

    def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.served.predict(rows)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output


if __name__ == "__main__":
    port = int(sys.argv[1])
    if TUNED:
        server = litserve.LitServer(Many(max_batch_size=MAX_SIZE, batch_timeout=WAIT_MS / 1000), accelerator="cpu", fast_queue=True)
        server.run(port=port, num_api_servers=1, log_level="warning", generate_client_file=False)
    else:
        litserve.LitServer(One(), accelerator="cpu").run(port=port, generate_client_file=False)
