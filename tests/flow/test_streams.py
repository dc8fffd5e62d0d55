"""Streams from the command line: snapshots that runs read, and learning from messages as they come, over kills."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import deepseek
from deepseek.cli import main
from deepseek.errors import CheckError, DataError, InputError
from deepseek.pipeline.online import live as live_module
from deepseek.training.checkpoints.files import list_checkpoints, load_checkpoint

SOURCE = "{type: stream, stream: {type: lines, path: clicks.jsonl}, path: clicks}"
RECIPE = f"""
name: clicks
data: {{source: {SOURCE}, target: bought}}
model: {{type: mlp, width: 16, depth: 2, dropout: 0.1}}
train: {{epochs: 2}}
learn:
  warmup: 200
  batch_rows: 16
  optimizer: {{type: adam, learning_rate: 0.01}}
  replay: 8
  recent: 100
  save_every: 160
  detectors: [adwin, ddm]
  live: {{max_wait: 60s, idle: 1s}}
"""
TIMEOUT_S = 120


def messages(count, seed=0):
    draw = np.random.default_rng(seed)
    for x, country in zip(draw.normal(size=count), draw.choice(["de", "fr"], count), strict=True):
        yield json.dumps({"x": round(float(x), 6), "country": str(country), "bought": "yes" if x + (country == "de") > 0.5 else "no"})


def append(lines):
    with Path("clicks.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(line + "\n" for line in lines))


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("clicks.yaml").write_text(RECIPE)
    append(messages(1000))
    return tmp_path


class TestSnapshot:
    def test_a_run_reads_the_snapshot_and_only_the_verb_takes_it_further(self, there, capsys):
        assert main(["snapshot", "clicks.yaml", "--json"]) == 0
        first = json.loads(capsys.readouterr().out)
        assert (first["version"], first["new"], first["rows"]) == (1, 1000, 1000)
        run = deepseek.run("clicks.yaml")
        append([*messages(100, seed=1), "no json"])
        again = deepseek.run("clicks.yaml")
        fingerprints = {json.loads((Path(one.run) / "data.json").read_text())["sources"]["source"]["fingerprint"] for one in (run, again)}
        assert len(fingerprints) == 1
        assert main(["snapshot", "clicks.yaml"]) == 0
        printed = capsys.readouterr().out
        assert "new messages  101" in printed
        assert "set aside     1" in printed
        after = json.loads((Path(deepseek.run("clicks.yaml").run) / "data.json").read_text())["sources"]["source"]
        assert after["fingerprint"] not in fingerprints

    def test_what_is_no_stream_is_refused(self, there):
        Path("t.csv").write_text("x,bought\n1,yes\n2,no\n")
        with pytest.raises(InputError, match="no stream"):
            deepseek.snapshot("clicks.yaml", overrides=["data.source=t.csv"])

    def test_a_run_that_names_a_stream_takes_the_snapshot_itself(self, there):
        assert deepseek.run("clicks.yaml").metrics["test"]
        assert Path("clicks/snapshot.json").is_file()


class TestLive:
    def test_messages_are_answered_and_learned(self, there, capsys):
        assert main(["learn", "clicks.yaml", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["rows"], found["messages"]) == (1000, 1000)
        assert found["accuracy"] > 0.75
        assert found["position"] == {"clicks.jsonl": Path("clicks.jsonl").stat().st_size}
        assert deepseek.load("runs/clicks").predict([{"x": 3.0, "country": "de"}])["prediction"].to_pylist() == ["yes"]

    def test_a_learner_that_is_killed_goes_on_bit_for_bit(self, there):
        """Killed twice with SIGKILL, each time once there is a further checkpoint: the model is that of one that never was."""
        append(["half", *messages(400, seed=2), "{}"])
        whole = deepseek.learn("clicks.yaml", out="whole")
        for _ in range(2):
            before = list_checkpoints(Path("runs/clicks/001/checkpoints"))
            process = subprocess.Popen([sys.executable, "-m", "deepseek", "learn", "clicks.yaml", "--resume"], stderr=subprocess.PIPE)
            end = time.monotonic() + TIMEOUT_S
            while process.poll() is None and list_checkpoints(Path("runs/clicks/001/checkpoints"))[-1:] == before[-1:]:
                assert time.monotonic() < end
            process.send_signal(signal.SIGKILL)
            process.communicate()
        found = deepseek.learn("clicks.yaml", resume=True)
        same = ("rows", "messages", "accuracy", "no_change", "curve", "changes", "set_aside", "position")
        assert {key: found[key] for key in same} == {key: whole[key] for key in same}
        assert (Path(found["bundle"]) / "weights.safetensors").read_bytes() == (Path(whole["bundle"]) / "weights.safetensors").read_bytes()
        rejects = [Path(one["run"]) / "rejects" / "stream.jsonl" for one in (found, whole)]
        assert rejects[0].read_text() == rejects[1].read_text() != ""

    def test_the_position_is_committed_once_the_disk_has_the_state(self, there, monkeypatch):
        from deepseek.data.streams.lines import LinesStream

        told = []

        def commit(self, position):
            newest = list_checkpoints(Path("runs/clicks/001/checkpoints"))[-1]
            told.append((dict(position), load_checkpoint(newest)[1]["position"]))

        monkeypatch.setattr(LinesStream, "commit", commit)
        deepseek.learn("clicks.yaml")
        assert len(told) > 3
        assert all(position == saved for position, saved in told)

        def save(*given, **more):
            raise OSError(28, "no space")

        monkeypatch.setattr(live_module, "save_checkpoint", save)
        told.clear()
        append(messages(300, seed=3))
        with pytest.raises(OSError, match="no space"):
            deepseek.learn("clicks.yaml", resume=True)
        assert told == []

    def test_it_waits_for_messages_and_ends_when_told_to(self, there):
        process = subprocess.Popen(
            [sys.executable, "-m", "deepseek", "learn", "clicks.yaml", "--set", "learn.live={max_wait: 1s}", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        end = time.monotonic() + TIMEOUT_S
        while not any(path.name >= "step-000992" for path in list_checkpoints(Path("runs/clicks/001/checkpoints"))):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        append(messages(20, seed=4))
        process.send_signal(signal.SIGTERM)
        found = json.loads(process.communicate(timeout=TIMEOUT_S)[0])
        assert process.returncode == 0
        assert found["rows"] == load_checkpoint(list_checkpoints(Path("runs/clicks/001/checkpoints"))[-1])[1]["messages"] >= 992

    def test_rows_bound_it(self, there):
        assert deepseek.learn("clicks.yaml", overrides=["learn.live.rows=320"])["rows"] == 320

    def test_what_cannot_be_used_is_counted_and_kept(self, there):
        odd = [
            "nothing",
            '{"x": "much", "country": "de", "bought": "yes"}',
            '{"x": 1, "country": "de", "bought": "perhaps"}',
            '{"x": 99, "bought": "no"}',
        ]
        append(odd)
        found = deepseek.learn("clicks.yaml", overrides=["data.checks=[{type: range, column: x, max: 50}]"])
        assert found["rows"] == 1000
        assert found["set_aside"] == {
            "the message cannot be read": 1,
            "a value is not what its column is": 1,
            "target class unseen at the beginning": 1,
            "x must be at most 50": 1,
        }
        kept = [json.loads(line) for line in (Path(found["run"]) / "rejects" / "stream.jsonl").read_text().splitlines()]
        assert kept[0]["raw"] == "nothing"
        assert "no JSON" in kept[0]["reason"]
        assert {"much", 99.0} <= {row["row"]["x"] for row in kept[1:]}

    def test_a_stream_of_nothing_useful_stops(self, there):
        append(["no json"] * 2500)
        with pytest.raises(CheckError, match="could not be used"):
            deepseek.learn("clicks.yaml")

    def test_what_cannot_be_is_said(self, there):
        with pytest.raises(InputError, match="needs a stream"):
            deepseek.learn("clicks.yaml", overrides=["data.source=clicks.jsonl"])
        with pytest.raises(InputError, match="unique looks at a whole table"):
            deepseek.learn("clicks.yaml", overrides=["data.checks=[{type: unique, column: x}]"])
        with pytest.raises(InputError, match="cannot be given together with 'live'"):
            deepseek.learn("clicks.yaml", overrides=["learn.time=x"])
        Path("clicks.jsonl").write_text("")
        with pytest.raises(DataError, match="silent"):
            deepseek.learn("clicks.yaml")
        assert not list(Path("runs/clicks").iterdir())
