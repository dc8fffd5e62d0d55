"""What lies in deploy/: an environment of those libraries alone answers an export; units, images and their commands are what they say."""

from __future__ import annotations

import configparser
import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from packaging.requirements import Requirement

import deepseek
from deepseek.cli.app import _command

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "deepseek-serve@.service"
IMAGES = [DEPLOY / "container" / "Containerfile", DEPLOY / "container" / "Containerfile.edge"]
ALONE = "import sys; sys.path.insert(0, {site!r}); from importlib.util import find_spec; assert find_spec('torch') is None; "
"""With `-I -S` a process sees the standard library and this folder, and nothing that is installed."""


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """Return a folder that holds the libraries of deploy/edge/requirements.txt, what they require, and the package."""
    site = tmp_path_factory.mktemp("site")
    lines = [line.split("#")[0].strip() for line in (DEPLOY / "edge" / "requirements.txt").read_text().splitlines()]
    waiting, seen = [Requirement(line) for line in lines if line], set()
    while waiting:
        name = waiting.pop().name
        if (distribution := importlib.metadata.distribution(name)).name in seen:
            continue
        seen.add(distribution.name)
        for file in distribution.files or ():
            if not file.parts[0].startswith(("..", "__pycache__")) and not (site / file.parts[0]).exists():
                (site / file.parts[0]).symlink_to(Path(str(distribution.locate_file(file.parts[0]))))
        needed = [Requirement(text) for text in distribution.requires or ()]
        waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert "torch" not in seen
    (site / "deepseek").symlink_to(Path(deepseek.__file__).parent)
    return site


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    age, note = draw.normal(40, 9, 200), [" ".join(draw.choice(["late", "paid", "left"], 3)) for _ in range(200)]
    table = pa.table({"age": age, "note": note, "left": np.where(age > 40, "yes", "no")})
    pa.parquet.write_table(table, folder / "people.parquet")
    quick = ["train.epochs=1", "model={type: mlp, width: 8, depth: 1}", "train.precision=fp32", "data.fields={note: text}"]
    run = deepseek.train(str(folder / "people.parquet"), target="left", out=folder / "runs", overrides=quick).run
    return folder, run, Path(deepseek.export(run, to="onnx")["bundle"])


def test_an_export_is_answered_where_nothing_else_is_installed(edge, people, tmp_path):
    folder, run, exported = people
    words = ["predict", str(exported), str(folder / "people.parquet"), "-o", str(tmp_path / "answers.parquet")]
    program = ALONE.format(site=str(edge)) + f"from deepseek.cli import main; sys.exit(main({words}))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = pa.parquet.read_table(tmp_path / "answers.parquet")
    wanted = deepseek.load(run, backend="torch").predict(str(folder / "people.parquet"))
    assert np.allclose(answers["probability_yes"], wanted["probability_yes"], atol=1e-5)


def test_an_export_is_served_where_nothing_else_is_installed(edge, people, tmp_path):
    words = ["serve", f"people={people[2]}", "--port", "0"]
    program = ALONE.format(site=str(edge)) + f"from deepseek.cli import main; sys.exit(main({words}))"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-I", "-S", "-c", program], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 60
        while not (found := re.search(r"http://127.0.0.1:(\d+)/", (tmp_path / "log").read_text())):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.05)
        body = json.dumps({"age": 41.0, "note": "paid late"}).encode()
        address = f"http://127.0.0.1:{found[1]}/v1/models/people/predict"
        with urllib.request.urlopen(urllib.request.Request(address, body, {"Content-Type": "application/json"}), timeout=60) as reply:
            assert json.loads(reply.read())["prediction"] in ("yes", "no")
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not here")
    (tmp_path / UNIT.name).write_text(UNIT.read_text().replace("/opt/deepseek/bin/deepseek", shutil.which("true") or "/bin/true"))
    done = subprocess.run([tool, "verify", str(tmp_path / UNIT.name)], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT.stem in line]) == (0, [])


def test_the_unit_leaves_a_server_the_time_to_drain():
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read(UNIT)
    service = unit["Service"]
    assert service["KillMode"] == "mixed"  # the workers of the same group would otherwise be told apart from the server
    assert int(service["TimeoutStopSec"]) > deepseek.recipe.sections.ServeSection().drain + 5
    assert "-HUP" in service["ExecReload"]
    check_options(shlex.split(service["ExecStart"])[1:])


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.name)
def test_an_image_is_made_of_files_and_options_that_exist(image):
    text = image.read_text().replace("\\\n", " ")
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        assert [name for name in sources.split() if not (ROOT / name).exists()] == []
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"'\.\[([\w,]+)\]'", text):
        assert set(named.split(",")) <= set(extras)
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    check_options(json.loads(entry)[1:])


def check_options(words):
    """Check that a verb has the options that stand behind it."""
    command = _command().commands[words[0]]
    command = command.commands[words[1]] if hasattr(command, "commands") else command
    options = {name for parameter in command.params for name in parameter.opts}
    assert [word for word in words[1:] if word.startswith("--") and word not in options] == []
