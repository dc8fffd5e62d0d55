"""What a repository with DVC says of files that were read, without DVC: pins, what changed, what no commit gives back."""

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from deepseek.artifacts import sha256_file
from deepseek.data import dvc
from deepseek.errors import DataError, MissingExtraError, RunError


def md5(text):
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def git(folder, *arguments):
    identity = ["-c", "user.email=me@localhost", "-c", "user.name=me"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def track(file, text, *, entry=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, newline="")
    said = entry or f"md5: {md5(text)}\n  size: {len(text)}\n  hash: md5\n  path: {file.name}"
    Path(f"{file}.dvc").write_text(f"outs:\n- {said}\n")
    return file


@pytest.fixture
def repository(tmp_path):
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = https://me:hush@example.org/store\n")
    git(tmp_path, "init", "-q")
    track(tmp_path / "data/few.csv", "a,b\n1,2\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "data")
    return tmp_path


def test_a_tracked_file_is_pinned_by_hash_commit_and_remote(repository):
    (pin,), warnings = dvc.pins([repository / "data/few.csv"])
    assert pin.md5 == md5("a,b\n1,2\n")
    assert pin.commit == git(repository, "rev-parse", "HEAD")
    assert pin.name == "data/few.csv"
    assert pin.tracked_by == "data/few.csv.dvc"
    assert pin.committed
    assert pin.matches
    assert pin.remote == {"name": "store", "url": "https://me:***@example.org/store"}
    assert warnings == []


def test_what_dvc_does_not_know_is_told(repository):
    (repository / "data/few.csv").write_text("a,b\n1,3\n")
    (pin,), warnings = dvc.pins([repository / "data/few.csv"])
    assert pin.matches is False
    assert "not what DVC knows" in warnings[0]


def test_what_no_commit_gives_back_is_told(repository):
    track(repository / "data/few.csv", "a,b\n1,4\n")
    (pin,), warnings = dvc.pins([repository / "data/few.csv"])
    assert pin.matches
    assert not pin.committed
    assert "not committed" in warnings[0]


def test_files_outside_and_untracked_ones_have_no_pin(repository, tmp_path_factory):
    (repository / "other.csv").write_text("a\n1\n")
    outside = tmp_path_factory.mktemp("outside") / "x.csv"
    outside.write_text("a\n1\n")
    assert dvc.pins([repository / "other.csv", outside]) == ([], [])


def test_a_file_of_a_tracked_folder_is_told_by_the_folders_list(repository):
    folder = repository / "photos"
    folder.mkdir()
    (folder / "a.txt").write_text("1")
    listed = json.dumps([{"md5": md5("1"), "relpath": "a.txt"}])
    whole = md5(listed)
    (repository / "photos.dvc").write_text(f"outs:\n- md5: {whole}.dir\n  nfiles: 1\n  hash: md5\n  path: photos\n")
    (pin,), _ = dvc.pins([folder / "a.txt"])
    assert (pin.md5, pin.matches) == (f"{whole}.dir", None)  # the list is not at hand: nothing is claimed
    place = repository / ".dvc/cache/files/md5" / whole[:2] / f"{whole[2:]}.dir"
    place.parent.mkdir(parents=True)
    place.write_text(listed)
    (pin,), _ = dvc.pins([folder / "a.txt"])
    assert (pin.md5, pin.matches) == (md5("1"), True)


def test_outputs_of_a_pipeline_are_found_in_its_lock(repository):
    (repository / "made.csv").write_text("a\n1\n")
    known = md5("a\n1\n")
    text = f"schema: '2.0'\nstages:\n  make:\n    cmd: true\n    outs:\n    - path: made.csv\n      hash: md5\n      md5: {known}\n"
    (repository / "dvc.lock").write_text(text)
    (pin,), _ = dvc.pins([repository / "made.csv"])
    assert (pin.tracked_by, pin.matches) == ("dvc.lock", True)


def test_texts_of_older_versions_are_hashed_without_carriage_returns(repository):
    entry = f"md5: {md5(chr(10).join('ab') + chr(10))}\n  size: 6\n  path: dos.csv"
    file = track(repository / "dos.csv", "a\r\nb\r\n", entry=entry)
    assert dvc.pins([file])[0][0].matches


def test_the_cache_gives_a_version_back_and_is_not_believed(repository, tmp_path):
    file = repository / "data/few.csv"
    pin, known = dvc.pins([file])[0][0].to_json(), sha256_file(file)
    place = repository / ".dvc/cache/files/md5" / pin["md5"][:2] / pin["md5"][2:]
    place.parent.mkdir(parents=True)
    place.write_text("a,b\n1,2\n")
    dvc.fetch(pin, tmp_path / "back.csv", sha256=known)
    assert (tmp_path / "back.csv").read_text() == "a,b\n1,2\n"
    place.write_text("damaged")
    with pytest.raises(DataError, match="not committed"):
        dvc.fetch({**pin, "committed": False}, tmp_path / "again.csv", sha256=known)


def test_another_content_than_the_runs_is_refused(repository, tmp_path, monkeypatch):
    pin = dvc.pins([repository / "data/few.csv"])[0][0].to_json()
    monkeypatch.setattr(dvc, "run_dvc", lambda arguments, folder: Path(arguments[-1]).write_text("other"))
    with pytest.raises(DataError, match="not what the run read"):
        dvc.fetch(pin, tmp_path / "back.csv", sha256="0" * 64)
    assert not (tmp_path / "back.csv").exists()


def test_without_dvc_the_error_says_what_to_install(repository, monkeypatch):
    monkeypatch.delenv(dvc.COMMAND, raising=False)
    monkeypatch.setattr(dvc, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtraError, match=r"dvc"):
        dvc.run_dvc(["version"], folder=repository)
    monkeypatch.setenv(dvc.COMMAND, "/no/such/dvc")
    with pytest.raises(RunError, match="DEEPSEEK_DVC"):
        dvc.run_dvc(["version"], folder=repository)


def test_a_command_that_fails_says_what_it_said(repository, monkeypatch, tmp_path):
    script = tmp_path / "fails"
    script.write_text("#!/bin/sh\necho 'ERROR: no disk' >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv(dvc.COMMAND, str(script))
    with pytest.raises(RunError, match="no disk"):
        dvc.run_dvc(["push"], folder=repository)
