"""A run's data given back without DVC: from where they lie, verified, and never over what is somebody else's."""

from pathlib import Path

import pytest

from deepseek.artifacts import sha256_file, write_json, write_text
from deepseek.cli import main
from deepseek.errors import DataError, InputError
from deepseek.pipeline.data_versions import data_add, data_checkout, data_status, data_transfer


@pytest.fixture
def run(tmp_path):
    files = []
    for name in ("a/rows.csv", "b/rows.csv"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True)
        path.write_text(f"x\n{name}\n")
        files.append({"path": str(path), "size_bytes": path.stat().st_size, "sha256": sha256_file(path)})
    folder = tmp_path / "runs/rows/001"
    write_text(folder / "recipe.yaml", "data: {source: x}\n")
    write_json(folder / "data.json", {"sources": {"source": {"files": files}}})
    return folder


def test_files_of_one_name_are_told_apart(run):
    found = data_checkout(run)
    assert [Path(file["path"]).relative_to(run / "data").as_posix() for file in found["files"]] == ["a/rows.csv", "b/rows.csv"]
    assert [file["came_from"] for file in found["files"]] == ["working tree"] * 2
    assert (run / "data/b/rows.csv").read_text() == "x\nb/rows.csv\n"


def test_what_changed_and_nobody_kept_is_refused_and_nothing_is_left_behind(run, capsys):
    source = run.parents[2] / "data/b/rows.csv"
    source.write_text("x\nb/Rows.csv\n")  # as long as before
    assert [file["state"] for file in data_status(run)["files"]] == ["same", "changed"]
    with pytest.raises(DataError, match="no version of it elsewhere"):
        data_checkout(run)
    assert [path.name for path in (run / "data").rglob("*") if path.is_file()] == ["rows.csv"]
    source.unlink()
    assert main(["data", "status", str(run)]) == 1
    assert "missing" in capsys.readouterr().out


def test_what_has_no_files_and_no_repository_is_said(run, tmp_path):
    write_json(run / "data.json", {"sources": {"source": {"files": []}}})
    with pytest.raises(InputError, match="no files"):
        data_status(run)
    with pytest.raises(DataError, match="no repository with DVC"):
        data_add(tmp_path / "data/a/rows.csv")
    with pytest.raises(DataError, match="no file"):
        data_add(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match="push"):
        data_transfer("shove")


@pytest.mark.parametrize("words", [["data", "checkout"], ["data", "add"], ["data", "push", "--to", "x"]])
def test_words_that_do_not_go_together_are_refused(words, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("error: ")
