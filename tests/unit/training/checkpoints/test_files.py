"""Checkpoints on disks that are full, slow, or hold what somebody else has put there."""

from __future__ import annotations

import errno
import json
import re
from types import SimpleNamespace

import pytest
import torch

from deepseek.errors import CheckpointError
from deepseek.training.checkpoints import files, shards
from deepseek.training.checkpoints.files import find_latest, list_checkpoints, load_checkpoint, save_checkpoint


def save(folder, step, value, keep=2):
    return save_checkpoint(folder, step, tensors={"model": {"w": torch.full((3,), value)}}, state={"value": value}, keep=keep)


def test_the_same_step_again_takes_the_place_of_the_first_only_once_it_is_whole(tmp_path, monkeypatch):
    save(tmp_path, 5, 1.0, keep=1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(files, "save_file", full)
        with pytest.raises(CheckpointError, match="disk is full"):
            save(tmp_path, 5, 2.0, keep=1)
    tensors, state = load_checkpoint(tmp_path / "step-000005")
    assert (tensors["model"]["w"].tolist(), state["value"]) == ([1.0] * 3, 1.0)
    save(tmp_path, 5, 3.0, keep=1)
    assert load_checkpoint(tmp_path / "step-000005")[1]["value"] == 3.0
    assert [path.name for path in tmp_path.iterdir()] == ["step-000005"]


def test_a_damaged_checkpoint_is_told_with_the_one_to_go_on_from_if_there_is_one(tmp_path):
    for step in (5, 1_000_000):
        save(tmp_path, step, float(step))
        with (tmp_path / f"step-{step:06d}" / "model.safetensors").open("ab") as file:
            file.write(b"x")
        with pytest.raises(CheckpointError, match="was changed") as caught:
            find_latest(tmp_path, fall_back=False)
        wanted = "no checkpoint stands before it" if step == 5 else r"the checkpoint before it \(step-000005\)"
        assert re.search(wanted, caught.value.hint)


def test_what_a_kill_left_behind_is_gone_with_the_next_checkpoint(tmp_path):
    left = tmp_path / ".step-000004.0123456789abcdef"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half of it")
    save(tmp_path, 5, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000005"]


def test_a_copy_that_somebody_put_beside_them_is_none(tmp_path):
    save(tmp_path, 5, 1.0)
    (tmp_path / "step-000009-copy").mkdir()
    (tmp_path / "step-notes").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000005"]
    assert find_latest(tmp_path, fall_back=False)[0].name == "step-000005"


class Disk:
    """A clock, and a rank that writes a part while it goes on: so many bytes in each second."""

    def __init__(self, folder, seconds: int) -> None:
        self.now, self._folder, self._left = 0.0, folder, seconds

    def monotonic(self) -> float:
        return self.now

    def sleep(self, _: float) -> None:
        self.now += 1.0
        self._left -= 1
        if self._left >= 0:
            with (self._folder / "rank-00001.safetensors").open("ab") as file:
                file.write(b"x")
        if self._left == 0:
            (self._folder / "rank-00001.json").write_text(json.dumps({"sha256": "b", "pieces": {}}))


@pytest.mark.parametrize("finishes", [True, False])
def test_a_part_that_still_grows_is_waited_for_and_one_that_does_not_is_named(tmp_path, monkeypatch, finishes):
    (tmp_path / "rank-00000.json").write_text(json.dumps({"sha256": "a", "pieces": {}}))
    disk = Disk(tmp_path, 100 if finishes else -1)
    monkeypatch.setattr(shards, "time", SimpleNamespace(monotonic=disk.monotonic, sleep=disk.sleep))
    if finishes:
        assert shards.complete(tmp_path, 2, timeout_s=10.0) == {"rank-00000.safetensors": "a", "rank-00001.safetensors": "b"}
        return
    with pytest.raises(CheckpointError, match="rank 1 did not write its part"):
        shards.complete(tmp_path, 2, timeout_s=10.0)
    assert disk.now < 13.0
