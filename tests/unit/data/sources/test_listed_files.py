import pytest

from deepseek.data.sources.listed_files import ListedFiles
from deepseek.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.PNG", "deep/c.jpg", "notes.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def values(source):
    return [value for batch in source.read() for value in batch.column(0).to_pylist()]


def test_a_folder_is_listed_and_what_is_no_row_is_named(folder):
    source = ListedFiles(".", column="photo", kind="image")
    assert (source.names, source.skipped) == (["a.PNG", "b.png", "deep/c.jpg"], ["notes.txt"])
    assert source.schema().names == ["photo"]
    assert values(source) == [str(folder / name) for name in source.names]


@pytest.mark.parametrize(
    ("given", "names"), [("b.png", ["b.png"]), ("*.png", ["b.png"]), (["deep/c.jpg", "a.PNG"], ["deep/c.jpg", "a.PNG"])]
)
def test_files_lists_and_patterns(folder, given, names):
    assert ListedFiles(given, column="photo", kind="image").names == names


def test_texts_give_their_content(folder):
    assert values(ListedFiles(folder, column="text", kind="text")) == ["notes.txt"]


@pytest.mark.parametrize(("given", "message"), [("absent.png", "no file"), ("*.gif", "no image"), ("notes.txt", "no image among 1 files")])
def test_without_a_row_there_is_an_error(folder, given, message):
    with pytest.raises(DataError, match=message):
        ListedFiles(given, column="photo", kind="image")


def test_the_fingerprint_sees_the_content(folder):
    before = ListedFiles("b.png", column="photo", kind="image").fingerprint()
    (folder / "b.png").write_text("other")
    assert ListedFiles("b.png", column="photo", kind="image").fingerprint() != before
