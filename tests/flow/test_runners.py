"""Real runners under a real server: killed again and again under load, and every accepted request is answered right."""

import json
import os
import signal
import threading
from contextlib import contextmanager

import httpx
import psutil
import pytest
from tests.live_server import PREDICT, serving, wait_for

import deepseek

ROWS = [{"age": float(age), "city": city} for age in range(20, 60, 4) for city in ("Rome", "Oslo", "Atlantis")]


def runners_of(server):
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if "deepseek.serving.runners.process" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def number(server, name):
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def kill(server, victims):
    """Kill runners, and wait until as many new ones are ready."""
    ended = number(server, "deepseek_runner_ends_total")
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    wait_for(lambda: number(server, "deepseek_runner_ends_total") == ended + len(victims), 60, server.log)
    wait_for(lambda: number(server, "deepseek_runners") == 2, 120, server.log)


@contextmanager
def asked(server, clients=4):
    """Ask every row again and again, and collect what was answered of which."""
    done, answers, failures = threading.Event(), [], []

    def ask(first):
        with server.client() as client:
            place = first
            while not done.is_set():
                row = place % len(ROWS)
                place += 1
                try:
                    answers.append((row, client.post(PREDICT, json=ROWS[row])))
                except httpx.HTTPError as error:
                    failures.append(error)

    threads = [threading.Thread(target=ask, args=(7 * one,)) for one in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()
        assert failures == []


def right(run):
    return deepseek.load(run).predict(ROWS)["probability_yes"].to_pylist()


@pytest.mark.slow
def test_killed_runners_cost_no_request_and_no_memory(runs, keys, tmp_path):
    with serving(runs[0], keys, tmp_path, "--runners", "2") as server:
        worker = psutil.Process(server.process.pid)
        assert len(runners_of(server)) == 2
        with asked(server) as answers:
            kill(server, runners_of(server)[:1])
            before = worker.memory_info().rss
            for _ in range(3):
                kill(server, runners_of(server)[:1])
            kill(server, runners_of(server))  # both at once: requests wait for the next ones
            count = len(answers)
            wait_for(lambda: len(answers) > count + 20, 60, server.log)
            grown = worker.memory_info().rss - before
        assert {answer.status_code for _, answer in answers} == {200}
        wanted = right(runs[0])
        assert all(answer.json()["probabilities"]["yes"] == pytest.approx(wanted[row], abs=1e-5) for row, answer in answers)
        assert {row for row, _ in answers} == set(range(len(ROWS)))
        assert number(server, "deepseek_runner_ends_total") == 6
        assert grown < 20_000_000

        left = runners_of(server)
        assert server.stop() == 0
        assert not any(psutil.pid_exists(one) for one in left)


@pytest.mark.slow
def test_another_bundle_takes_over_while_runners_are_killed(runs, keys, tmp_path):
    with serving(runs[0], keys, tmp_path, "--runners", "2") as server, server.client() as client:
        old = runners_of(server)
        with asked(server) as answers:
            os.kill(old[0], signal.SIGKILL)
            switched = client.post("/admin/models/shop/load", json={"path": str(runs[1])}, timeout=120).json()
            new = [one for one in runners_of(server) if one not in old]
            os.kill(new[-1], signal.SIGKILL)
            wait_for(lambda: len(runners_of(server)) == 2 and number(server, "deepseek_runners") == 2, 120, server.log)
            count = len(answers)
            wait_for(lambda: len(answers) > count + 20, 60, server.log)
        assert {answer.status_code for _, answer in answers} == {200}
        by_version = {}
        for row, answer in answers:
            by_version.setdefault(answer.json()["version"], []).append((row, answer.json()["probabilities"]["yes"]))
        assert list(by_version)[-1] == switched["version"]
        for run, given in zip(runs, by_version.values(), strict=True):
            wanted = right(run)
            assert all(value == pytest.approx(wanted[row], abs=1e-5) for row, value in given)

        damaged = tmp_path / "damaged"
        damaged.mkdir()
        (damaged / "manifest.json").write_text(json.dumps({"format": "deepseek-bundle", "version": 1, "files": {}}))
        refused = client.post("/admin/models/shop/load", json={"path": str(damaged)})
        assert refused.status_code == 422
        assert client.post(PREDICT, json=ROWS[0]).json()["version"] == switched["version"]

        left = runners_of(server)
        server.process.kill()  # nobody is left to end the runners: they end by themselves
        wait_for(lambda: not any(psutil.pid_exists(one) for one in left), 60, server.log)
