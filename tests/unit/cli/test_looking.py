"""The verbs that look: what they print, what they write, and that `--json` is one object."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from deepseek.cli import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    table = pa.table({"age": random.normal(40, 9, 300).round(1), "plan": random.choice(["a", "b"], 300), "y": ["yes", "no", "no"] * 100})
    pa.csv.write_csv(table, tmp_path / "table.csv")
    pa.csv.write_csv(table.drop_columns(["plan"]), tmp_path / "other.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_profile_prints_and_writes_a_page(folder, capsys):
    assert main(["profile", "table.csv", "-t", "y", "--against", "other.csv", "-o", "page.html"]) == 0
    out = capsys.readouterr().out
    for words in ("300 rows, 3 columns", "target y: binary", "column missing", "page  page.html"):
        assert words in out
    assert "<h1>Profile of table.csv</h1>" in (folder / "page.html").read_text()


def test_profile_with_json_is_one_object(folder, capsys):
    assert main(["profile", "table.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 300
    assert main(["profile", "table.csv", "--target", "yy"]) == 2


def test_preview_and_compare_print_and_write(folder, capsys):
    (folder / "job.yaml").write_text(
        "name: job\ndata: {source: table.csv, target: y}\nmodel: mlp\ntrain: {max_steps: 2, precision: fp32}\n"
    )
    assert main(["preview", "job.yaml", "--rows", "2", "-o", "page.html", "--set", "train.batch_size=16"]) == 0
    out = capsys.readouterr().out
    for words in ("a batch has 16", "as the network meets it", "[16, 1]", "head", "page  page.html"):
        assert words in out
    for rate in ("0.01", "0.02"):
        assert main(["run", "job.yaml", "--set", f"train.learning_rate={rate}"]) == 0
    capsys.readouterr()
    assert main(["compare", "runs/job/001", "runs/job/002", "-o", "compare.html"]) == 0
    out = capsys.readouterr().out
    for words in ("2 runs on test rows", "train.learning_rate", "accuracy", "page  compare.html"):
        assert words in out
    assert main(["compare", "runs/job/001", "--json"]) == 2
    assert "name at least two" in capsys.readouterr().out
