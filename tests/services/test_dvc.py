"""Versions of data with DVC itself: a run pins what it read, and gets it back from a remote when everything else has forgotten it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
from tests.services.conftest import own_program

import deepseek
from deepseek.artifacts import read_json, sha256_file
from deepseek.cli import main
from deepseek.data import dvc
from deepseek.errors import DataError

pytestmark = pytest.mark.slow


def table(shift=0):
    return pa.table({"x": [i + shift for i in range(60)], "y": ["yes" if i % 3 else "no" for i in range(60)]})


def call(*command):
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    subprocess.run(command, check=True, capture_output=True, env=environment)


def git(*arguments):
    call("git", "-c", "user.email=me@localhost", "-c", "user.name=me", *arguments)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.setenv(dvc.COMMAND, own_program("dvc", variable=dvc.COMMAND))
    command = dvc.dvc_command()
    home = tmp_path / "repository"
    home.mkdir()
    monkeypatch.chdir(home)
    git("init", "-q")
    call(*command, "init", "-q")
    call(*command, "config", "core.analytics", "false")
    call(*command, "remote", "add", "-d", "store", str(tmp_path / "store"))
    Path("data").mkdir()
    pa.csv.write_csv(table(), "data/few.csv")
    return home


def trained():
    overrides = ["train.epochs=1", "model={type: mlp, width: 8}"]
    return deepseek.train("data/few.csv", target="y", out="runs", overrides=overrides, progress=False)


def test_a_run_gets_its_data_back_from_the_remote(repository, capsys):
    assert main(["data", "add", "data/few.csv", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["commit"]
    git("add", *written, ".dvc/config")
    git("commit", "-qm", "first")
    run = trained()
    (pin,) = read_json(run.run / "data.json")["dvc"]
    assert pin["matches"]
    assert pin["committed"]
    known = sha256_file(Path("data/few.csv"))
    assert main(["data", "push"]) == 0
    pa.csv.write_csv(table(shift=5), "data/few.csv")
    assert main(["data", "status", str(run.run)]) == 1
    assert "changed" in capsys.readouterr().out
    assert main(["data", "add", "data/few.csv"]) == 0
    git("commit", "-qam", "second")
    shutil.rmtree(".dvc/cache")  # only the remote still has it
    assert main(["data", "checkout", str(run.run), "--to", "back", "--json"]) == 0
    (file,) = json.loads(capsys.readouterr().out.splitlines()[-1])["files"]
    assert file["came_from"] == "dvc"
    assert sha256_file(Path(file["path"])) == known
    assert sha256_file(Path("data/few.csv")) != known  # the working tree is as it was
    again = deepseek.data_checkout(run.run, "back")
    assert again["files"][0]["came_from"] == "there"
    Path(file["path"]).write_text("mine")
    with pytest.raises(DataError, match="is not what the run read"):
        deepseek.data_checkout(run.run, "back")
    Path("data/few.csv").unlink()
    pa.csv.write_csv(table(), "data/few.csv")
    assert deepseek.data_status(run.run)["same"]


def test_what_was_pushed_is_pulled(repository, capsys):
    assert main(["data", "add", "data/few.csv"]) == 0
    assert main(["data", "push", "data/few.csv"]) == 0
    known = sha256_file(Path("data/few.csv"))
    shutil.rmtree(".dvc/cache")
    Path("data/few.csv").unlink()
    assert main(["data", "pull", "data/few.csv"]) == 0
    assert sha256_file(Path("data/few.csv")) == known
