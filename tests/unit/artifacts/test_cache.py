import pytest

from deepseek.artifacts import StageCache


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
    assert [key["data"] for key in cache.explain("prepared")] == ["a", "b"]


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    def build(folder):
        (folder / "half").write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        StageCache(tmp_path).folder("prepared", {"data": "a"}, build)
    assert list((tmp_path / "prepared").iterdir()) == []
