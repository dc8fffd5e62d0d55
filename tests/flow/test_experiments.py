"""A real server with an experiment: keys divided, outcomes told, the better arm found, promoted and rolled back under load."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pytest
from tests.live_server import HEADERS, KEYS, PREDICT, serving, wait_for

import deepseek
from deepseek.serving.client import Client, ServerError
from deepseek.serving.experiments.assignment import arm_of, place_of
from deepseek.serving.state import State

ROWS = 20


def train(folder, name, signal):
    random = np.random.default_rng(0)
    x = random.normal(0, 1, 400)
    table = pa.table({"x": x, "label": np.where(x * signal + random.normal(0, 0.2, 400) > 0, "yes", "no")})
    fast = ["train.max_steps=60", "train.precision=fp32", "model={type: mlp, depth: 1, width: 8}"]
    optimizer = ["train.optimizer={type: adam, learning_rate: 0.05}"]
    return deepseek.train(table, target="label", name=name, out=folder, overrides=[*fast, *optimizer]).run


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arms")
    return train(folder, "old", -1.0), train(folder, "new", 1.0)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"{KEYS['user']}\nadmin:{KEYS['admin']}\n")
    return file


class Traffic:
    """Clients that ask in the background, each row with a key, and tell the outcome of every answer."""

    def __init__(self, url, clients=2, feedback=True):
        self.url, self.answers, self.failures, self._done = url, [], [], threading.Event()
        self._feedback = feedback
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def _ask(self, number):
        random = np.random.default_rng(number)
        asked = 0
        with httpx.Client(base_url=self.url, headers=HEADERS, timeout=60) as client:
            while not self._done.is_set():
                x = random.normal(0, 1, ROWS)
                rows = [{"x": value, "customer": f"{number}-{asked * ROWS + row}"} for row, value in enumerate(x)]
                asked += 1
                try:
                    response = client.post(PREDICT, json=rows)
                    response.raise_for_status()
                    value = response.json()
                    self.answers += value["answers"]
                    if self._feedback:
                        told = [{"id": f"{value['id']}/{row}", "label": "yes" if x[row] > 0 else "no"} for row in range(ROWS)]
                        client.post("/v1/models/shop/feedback", json=told).raise_for_status()
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        for thread in self._threads:
            thread.join()
        assert not self.failures, self.failures[:3]


def versions_of(server):
    """The versions that answer without an experiment, as asked many times over new connections: of all workers."""
    return {httpx.post(f"{server.url}{PREDICT}", json={"x": 1.0}, headers=HEADERS, timeout=60).json()["version"] for _ in range(12)}


def ready_workers(server, state):
    """The workers that have said what they answer with."""
    return set(server.workers()) & set(State(state).reports())


def test_from_the_first_share_to_promotion_and_back_with_a_restart_in_the_middle(arms, keys, tmp_path):  # noqa: PLR0915 - one story
    old, new = arms
    state = tmp_path / "state"
    options = ["--state", str(state), "--set", "serve.experiment=null"]
    names = [f"customer-{number}" for number in range(30)]

    def divided(server):
        with server.client() as client:
            found = client.post(PREDICT, json=[{"x": 2.0, "customer": name} for name in names]).json()["answers"]
        return [answer["arm"] for answer in found]

    with serving(old, keys, tmp_path, *options, workers=2) as server:
        client = Client(server.url, KEYS["admin"])
        before = versions_of(server)
        with Traffic(server.url) as traffic:
            wait_for(lambda: len(traffic.answers) > 200, 180, server.log)
            made = client.start("shop", {"candidate": str(new)}, share=0.3, key_field="customer", min_outcomes=50)
            assert made["workers"] == {"switched": 2, "of": 2}
            salt = json.loads((state / "models.json").read_bytes())["shop"]["experiment"]["salt"]
            expected = ["candidate" if arm_of(place_of(salt, name)[0], [0.3]) == 0 else "champion" for name in names]
            assert divided(server) == expected

            def found():
                return client.status("shop")["results"].get("comparisons", {}).get("candidate", {}).get("state")

            wait_for(lambda: found() == "better", 240, server.log)
        status = client.status("shop")
        assert "candidate is better by" in status["results"]["verdict"]
        values = {arm: found["value"]["value"] for arm, found in status["results"]["arms"].items()}
        assert values["candidate"] > 0.8
        assert values["champion"] < 0.3
        assert not status["results"]["sample_ratio"]["off"]
        counted = status["results"]["arms"]["champion"]["rows"]
        assert server.stop() == 0

    with serving(old, keys, tmp_path, *options, workers=2) as server:  # the same experiment, where it was
        client = Client(server.url, KEYS["admin"])
        assert divided(server) == expected
        wait_for(lambda: client.status("shop")["results"]["arms"]["champion"]["rows"] > counted, 180, server.log)
        with Traffic(server.url) as traffic:
            wait_for(lambda: len(traffic.answers) > 100, 180, server.log)
            raised = client.share("shop", 0.8)
            assert raised["workers"] == {"switched": 2, "of": 2}
            after = divided(server)
            assert all(arm == "candidate" for arm, was in zip(after, expected, strict=True) if was == "candidate")
            assert after.count("candidate") > expected.count("candidate")
            victim = server.workers()[0]
            # a worker that dies takes the requests with it that it was working on; so nobody asks at this moment
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in ready_workers(server, state) and len(ready_workers(server, state)) == 2, 180, server.log)
        wait_for(lambda: all(divided(server) == after for _ in range(5)), 180, server.log)
        with Traffic(server.url) as traffic:
            promoted = client.promote("shop")
            assert promoted["workers"] == {"switched": 2, "of": 2}
            there = len(traffic.answers)  # what was asked before is still answered by the arms
            wait_for(lambda: len(traffic.answers) > there + 200, 180, server.log)
            assert "arm" not in traffic.answers[-1]
        assert versions_of(server) == {promoted["version"]} != before
        assert client.status("shop")["outcome"] == "promoted candidate"
        assert server.stop() == 0

    with serving(old, keys, tmp_path, *options, workers=2) as server:  # what was promoted is still there, and what was before it
        client = Client(server.url, KEYS["admin"])
        assert "as it was when the server stopped" in server.log.read_text()
        assert versions_of(server) == {promoted["version"]}
        with Traffic(server.url, feedback=False):
            back = client.rollback("shop")
        assert versions_of(server) == {back["version"]} == before
        with pytest.raises(ServerError) as caught:
            client.rollback("shop")
        assert caught.value.status == 409
    lines = [json.loads(line) for line in (state / "experiments" / "shop" / "log.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines] == ["begin", "share", "promote", "rollback"]


def test_a_recipe_begins_a_guarded_experiment_that_takes_a_bad_arm_out(arms, keys, tmp_path):
    old, new = arms
    state = tmp_path / "state"
    section = f"serve.experiment={{arms: {{worse: {old}}}, share: 0.5, key_field: customer, min_outcomes: 50, guard: {{}}}}"
    with serving(new, keys, tmp_path, "--state", str(state), "--set", section, workers=2) as server:
        client = Client(server.url, KEYS["admin"])
        assert client.status("shop")["state"] == "running"
        with Traffic(server.url) as traffic:
            wait_for(lambda: client.status("shop")["state"] == "ended", 240, server.log)
            there = len(traffic.answers)
            wait_for(lambda: len(traffic.answers) > there + 200, 180, server.log)
            wait_for(lambda: "arm" not in traffic.answers[-1], 180, server.log)
        assert "accuracy is worse by" in client.status("shop")["outcome"]
        begun = json.loads((state / "experiments" / "shop" / "log.jsonl").read_text().splitlines()[0])
        assert (begun["who"], begun["what"]) == ("recipe", "begin")
        assert server.stop() == 0
    with serving(new, keys, tmp_path, "--state", str(state), "--set", section, workers=2) as server:  # it was tried already
        assert Client(server.url, KEYS["admin"]).status("shop")["state"] == "ended"


def test_the_recorder_is_killed_and_nothing_is_counted_twice_or_lost(arms, keys, tmp_path):
    old, new = arms
    with serving(old, keys, tmp_path, "--state", str(tmp_path / "state"), workers=1) as server:
        client = Client(server.url, KEYS["admin"])
        client.start("shop", {"candidate": str(new)}, share=0.5, key_field="customer")
        with Traffic(server.url) as traffic:
            for _ in range(3):
                there = len(traffic.answers)
                wait_for(lambda there=there: len(traffic.answers) > there + 100, 180, server.log)
                for child in psutil.Process(server.process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        if "deepseek.serving.recorder.process" in child.cmdline():
                            child.kill()
        answered = {arm: sum(answer["arm"] == arm for answer in traffic.answers) for arm in ("champion", "candidate")}

        def counted(what):
            results = client.status("shop")["results"]
            return {arm: results.get("arms", {}).get(arm, {}).get(what) for arm in answered}

        wait_for(lambda: counted("outcomes") == answered, 180, server.log)
        assert counted("rows") == answered


def test_the_command_line_leads_an_experiment(arms, keys, tmp_path):
    old, new = arms
    with serving(old, keys, tmp_path, "--state", str(tmp_path / "state")) as server:

        def deepseek_experiment(*words):
            command = [sys.executable, "-m", "deepseek", "experiment", *words, "--server", server.url, "--json"]
            done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "DEEPSEEK_KEY": KEYS["admin"]}, check=False)
            return done.returncode, json.loads(done.stdout)

        status, made = deepseek_experiment("start", "shop", "--arm", f"candidate={new}", "--share", "0.2", "--key-field", "customer")
        assert (status, made["state"]) == (0, "running")
        assert deepseek_experiment("share", "shop", "--share", "0.5")[0] == 0
        status, promoted = deepseek_experiment("promote", "shop")
        assert versions_of(server) == {promoted["version"]}
        assert deepseek_experiment("rollback", "shop")[1]["version"] != promoted["version"]
        status, refused = deepseek_experiment("promote", "shop")
        assert (status, refused["error"]["type"]) == (1, "ServerError")
        assert State(tmp_path / "state").read()["shop"].previous == ()
