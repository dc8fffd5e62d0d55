"""The loop beside a real server: an alarm from its log, a shadow, a canary, a promotion that clients see, and the way back."""

import time
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
from tests.flow.test_loop import RECIPE, world
from tests.live_server import KEYS, serving, wait_for

import deepseek
from deepseek.artifacts import RunFolder
from deepseek.pipeline.closed_loop.champion import Champion

STAGES = ["monitor.on_alarm.shadow.rows=100", "monitor.on_alarm.canary.rows=100", "monitor.on_alarm.canary.share=0.5"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pa.csv.write_csv(world(2000, 0), "w.csv")
    Path("w.yaml").write_text(RECIPE)
    return deepseek.run("w.yaml").run


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{KEYS['user']}\nadmin:{KEYS['admin']}\n")
    return file


def ask(client, table, size=50):
    """Ask for rows and tell the truth of each; return the share of right answers."""
    right = 0
    for start in range(0, table.num_rows, size):
        part = table.slice(start, size)
        rows = [{**row, "when": str(row["when"])} for row in part.drop_columns(["y"]).to_pylist()]
        response = client.post("/v1/models/shop/predict", json=rows)
        response.raise_for_status()
        value = response.json()
        told = [{"id": f"{value['id']}/{place}", "label": label} for place, label in enumerate(part["y"].to_pylist())]
        client.post("/v1/models/shop/feedback", json=told).raise_for_status()
        right += sum(one["prediction"] == label for one, label in zip(value["answers"], part["y"].to_pylist(), strict=True))
    return right / table.num_rows


def labels(run):
    with Champion.open(Path(run)).store() as store:
        return store.counts()["outcomes"]


def test_a_shift_at_a_server_is_answered_by_a_better_model_and_taken_back(run, keys, tmp_path):
    with serving(run, keys, tmp_path) as server, server.client() as client:

        def loop(do="once"):
            return deepseek.loop(run, do=do, server=server.url, key=KEYS["admin"], model="shop", overrides=STAGES)

        def version():
            return client.get("/v1/models/shop").json()["version"]

        ask(client, world(300, 1))
        assert ask(client, world(700, 2, turned=True)) < 0.3
        wait_for(lambda: labels(run) == 1000, 60, server.log)
        assert loop()["state"] == "shadow"
        assert version().startswith("001-")
        states, seeds, late = set(), count(10), time.monotonic() + 300
        while (found := loop())["last"] in {"shadow", "canary"} and time.monotonic() < late:
            states.add(found["last"])
            ask(client, world(100, next(seeds), turned=True))
            time.sleep(0.2)  # what was asked is counted by another process, which wants the processor too
        assert found["last"] == "promoted"
        assert states == {"shadow", "canary"}
        candidate = Path(found["run"]).name
        assert version().startswith(f"{candidate}-")
        assert ask(client, world(300, 201, turned=True)) > 0.75
        wait_for(lambda: labels(found["run"]) >= 300, 60, server.log)  # watched anew, in a log of its own
        assert loop("undo")["run"].endswith("001")
        assert version().startswith("001-")
        assert RunFolder(Path(found["run"])).held


def test_a_wrong_key_is_told_before_anything_is_trained(run, keys, tmp_path):
    with serving(run, keys, tmp_path) as server, pytest.raises(deepseek.DeepSeekError, match="key"):
        deepseek.loop(run, do="now", server=server.url, key=KEYS["user"], model="shop")
    assert [path.name for path in Path(run).parent.iterdir() if path.name.isdigit()] == ["001"]
