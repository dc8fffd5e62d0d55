import pytest

from deepseek.artifacts.numbered import gone_if_bare, next_numbered, numbered


def test_numbers_are_told_as_numbers_and_others_are_left_alone(tmp_path):
    for name in ("10", "9", "002", "tune-001", "notes", "3b", "-4"):
        (tmp_path / name).mkdir()
    assert [path.name for path in numbered(tmp_path)] == ["002", "9", "10"]
    assert [path.name for path in numbered(tmp_path, "tune-")] == ["tune-001"]
    assert numbered(tmp_path / "absent") == []


def test_the_next_free_number_is_taken_and_no_folder_twice(tmp_path):
    assert [next_numbered(tmp_path / "runs", "tune-").name for _ in range(2)] == ["tune-001", "tune-002"]
    (tmp_path / "runs" / "tune-007").mkdir()
    assert next_numbered(tmp_path / "runs", "tune-").name == "tune-008"
    assert next_numbered(tmp_path / "runs").name == "001"


def test_a_folder_that_another_process_made_meanwhile_is_not_taken(tmp_path, monkeypatch):
    (tmp_path / "001").mkdir()
    monkeypatch.setattr("deepseek.artifacts.numbered.numbered", lambda *_: [])
    assert next_numbered(tmp_path).name == "002"


@pytest.mark.parametrize(("made", "stays"), [([], False), (["recipe.yaml"], False), (["recipe.yaml", "rejects"], True)])
def test_a_folder_goes_with_the_failure_of_what_has_made_nothing_in_it(tmp_path, made, stays):
    folder = next_numbered(tmp_path)
    with pytest.raises(KeyboardInterrupt), gone_if_bare(folder, asked=["recipe.yaml"]):
        for name in made:
            (folder / name).touch()
        raise KeyboardInterrupt
    assert folder.exists() is stays
    assert next_numbered(tmp_path).name == ("002" if stays else "001")


def test_a_folder_stays_where_all_went_well(tmp_path):
    with gone_if_bare(next_numbered(tmp_path)):
        pass
    assert (tmp_path / "001").is_dir()
