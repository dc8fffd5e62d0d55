import shutil

import pytest

from deepseek.artifacts import StageCache, read_json
from deepseek.artifacts import cache as cache_module


def test_a_stage_is_built_once_for_each_key(tmp_path):
    cache, built = StageCache(tmp_path), []

    def build(folder):
        built.append(folder)
        (folder / "result").write_text("42")

    first, found_first = cache.folder("prepared", {"data": "a", "scaling": "standard"}, build)
    again, found_again = cache.folder("prepared", {"scaling": "standard", "data": "a"}, build)
    other, found_other = cache.folder("prepared", {"data": "b", "scaling": "standard"}, build)
    assert (found_first, found_again, found_other) == (False, True, False)
    assert first == again != other
    assert len(built) == 2
    assert sorted(read_json(key)["data"] for key in tmp_path.glob("prepared/*/key.json")) == ["a", "b"]


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    def build(folder):
        (folder / "half").write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        StageCache(tmp_path).folder("prepared", {"data": "a"}, build)
    assert list((tmp_path / "prepared").iterdir()) == []


@pytest.mark.parametrize("damage", ["lost", "changed", "without a key", "cut off"])
def test_a_result_that_is_not_as_it_was_built_is_built_again(tmp_path, damage):
    cache, built = StageCache(tmp_path), []

    def build(folder):
        built.append(folder)
        (folder / "part").mkdir()
        (folder / "part" / "result").write_text("42")

    folder, _ = cache.folder("prepared", {"data": "a"}, build)
    if damage == "lost":
        (folder / "part" / "result").unlink()
    elif damage == "changed":
        (folder / "part" / "result").write_text("43")
    elif damage == "cut off":
        (folder / "files.json").write_text("{")
    else:
        (folder / "key.json").unlink()
    again, found = cache.folder("prepared", {"data": "a"}, build)
    assert (again, found, len(built)) == (folder, False, 2)
    assert (folder / "part" / "result").read_text() == "42"
    assert cache.folder("prepared", {"data": "a"}, build)[1]


def test_several_processes_may_find_a_result_damaged_at_once(tmp_path, monkeypatch):
    """Trials of a search begin together: all of them find what a power cut has left, and one is the first to take it away."""
    stages = StageCache(tmp_path)
    folder, _ = stages.folder("prepared", {"data": "a"}, lambda folder: (folder / "result").write_text("42"))
    (folder / "result").unlink()
    looked = cache_module._is_whole

    def after_another_process(folder):
        whole = looked(folder)
        shutil.rmtree(folder)
        return whole

    monkeypatch.setattr(cache_module, "_is_whole", after_another_process)
    again, found = stages.folder("prepared", {"data": "a"}, lambda folder: (folder / "result").write_text("43"))
    assert (again, found, (again / "result").read_text()) == (folder, False, "43")
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == [folder.name]
