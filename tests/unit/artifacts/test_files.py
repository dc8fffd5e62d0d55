import errno
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from deepseek.artifacts.files import append_json, fresh_folder, plain_disk_errors, read_json, replace_folder, sha256_json, write_json
from deepseek.errors import BundleError, RunError


def test_a_json_file_comes_back_as_it_was_written(tmp_path):
    value = {"name": "größe", "numbers": [1, 2.5, None], "nested": {"a": True}}
    write_json(tmp_path / "sub" / "value.json", value)
    assert read_json(tmp_path / "sub" / "value.json") == value
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["value.json"]


def test_a_failed_write_leaves_the_old_content(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, object())
    assert read_json(path) == [1]


def test_reading_nonsense_names_the_file(tmp_path):
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(BundleError, match=r"bad\.json cannot be read as JSON"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(BundleError, match="is not there"):
        read_json(tmp_path / "absent.json")


def test_a_fresh_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(ValueError, match="stop"), fresh_folder(tmp_path / "made") as folder:
        (folder / "half.txt").write_text("half")
        raise ValueError("stop")
    assert not any(tmp_path.iterdir())
    with fresh_folder(tmp_path / "made") as folder:
        (folder / "whole.txt").write_text("whole")
    assert (tmp_path / "made" / "whole.txt").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_the_first_of_two_builders_wins(tmp_path):
    with fresh_folder(tmp_path / "made") as slow:
        (slow / "who").write_text("slow")
        with fresh_folder(tmp_path / "made") as quick:
            (quick / "who").write_text("quick")
    assert (tmp_path / "made" / "who").read_text() == "quick"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "choose a folder"),
        (errno.EACCES, "choose a folder"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_the_disk_refuses_in_plain_words(number, words):
    with pytest.raises(RunError, match=words), plain_disk_errors(Path("there")):
        raise OSError(number, os.strerror(number))


def test_what_safetensors_could_not_write_is_told_like_any_refusal_of_the_disk(tmp_path):
    with pytest.raises(RunError, match=r"w\.safetensors cannot be written: No such file"), plain_disk_errors(tmp_path / "w.safetensors"):
        save_file({"w": np.zeros(3)}, tmp_path / "nowhere" / "w.safetensors")
    with pytest.raises(RunError, match="the disk is full"), plain_disk_errors(Path("there")):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError, match="header"), plain_disk_errors(Path("there")):
        raise SafetensorError("Error while deserializing header: header too large")


def test_a_hash_of_json_does_not_depend_on_the_order_of_keys():
    assert sha256_json({"a": 1, "b": [1, 2]}) == sha256_json({"b": [1, 2], "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})


def test_lines_are_appended_whole_and_a_private_file_is_its_owners(tmp_path):
    path = tmp_path / "made" / "log.jsonl"
    append_json(path, {"a": "é"}, private=True)
    append_json(path, [1, None])
    assert path.read_text(encoding="utf-8") == '{"a": "é"}\n[1, null]\n'
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_told_plainly(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(RunError, match="the disk is full"):
        append_json(tmp_path / "log.jsonl", {})


def folder(path, content):
    path.mkdir()
    (path / "one").write_text(content)
    (path / "two").write_text(content)
    return path


def test_a_folder_in_the_place_of_another_is_whole_whatever_is_interrupted(tmp_path, monkeypatch):
    target, fresh = folder(tmp_path / "bundle", "old"), folder(tmp_path / "fresh", "new")

    def interrupted(path, **_):
        (path / "one").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(fresh, target)
    assert [path.read_text() for path in sorted(target.iterdir())] == ["new", "new"]


def test_a_folder_that_cannot_be_replaced_stays_as_it_was(tmp_path, monkeypatch):
    target, fresh, rename = folder(tmp_path / "bundle", "old"), folder(tmp_path / "fresh", "new"), Path.rename

    def refused(self, to):
        if self == fresh:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(RunError, match="the disk is full"):
        replace_folder(fresh, target)
    assert [path.read_text() for path in sorted(target.iterdir())] == ["old", "old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "fresh"]
