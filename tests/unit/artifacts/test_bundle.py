import errno
import json
import shutil

import pytest

from deepseek.artifacts import FORMAT_VERSION, Bundle, sha256_file, write_bundle
from deepseek.errors import BundleError, RunError


@pytest.fixture
def bundle(tmp_path):
    with write_bundle(tmp_path / "bundle", {"schema.json": {"fields": []}}, plugins={"mine": "1.0"}) as folder:
        (folder / "weights.safetensors").write_bytes(b"weights" * 100)
    return tmp_path / "bundle"


def test_a_bundle_comes_back_whole(bundle):
    opened = Bundle.open(bundle.parent)
    assert opened.read("schema.json") == {"fields": []}
    assert opened.file("weights.safetensors").read_bytes() == b"weights" * 100
    assert opened.manifest["plugins"] == {"mine": "1.0"}
    with pytest.raises(BundleError, match=r"has no other\.json"):
        opened.read("other.json")


def test_an_existing_bundle_is_neither_overwritten_nor_taken_for_what_was_to_be_written(bundle):
    before = (bundle / "manifest.json").read_bytes()
    with pytest.raises(RunError, match="is there already"), write_bundle(bundle, {"schema.json": {"fields": ["other"]}}):
        raise AssertionError("nothing is made for a place that is taken")
    assert (bundle / "manifest.json").read_bytes() == before


def test_of_two_that_write_one_bundle_at_a_time_the_second_is_told(tmp_path):
    def write(who, meanwhile=lambda: None):
        with write_bundle(tmp_path / "bundle", {"who.json": who}):
            meanwhile()

    with pytest.raises(RunError, match="is there already"):
        write("slow", lambda: write("quick"))
    assert Bundle.open(tmp_path).read("who.json") == "quick"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_whoever_may_read_the_documents_may_read_the_weights(tmp_path):
    with write_bundle(tmp_path / "bundle", {"task.json": {}}) as folder:
        (folder / "weights.safetensors").touch(mode=0o600)  # as the library that writes them leaves them
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "bundle").iterdir()}
    assert len(set(modes.values())) == 1, modes
    assert modes["task.json"] & 0o777 != 0o600


def test_a_file_that_cannot_be_read_is_named(bundle, monkeypatch):
    def refused(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("deepseek.artifacts.files.sha256_file", refused)
    with pytest.raises(BundleError, match="cannot be read: Permission denied"):
        Bundle.open(bundle)


def test_an_empty_folder_is_as_good_as_none(tmp_path):
    (tmp_path / "bundle").mkdir()
    with write_bundle(tmp_path / "bundle", {"who.json": "first"}):
        pass
    assert Bundle.open(tmp_path).read("who.json") == "first"


def test_each_file_is_hashed_once_when_a_bundle_is_opened(bundle, monkeypatch):
    hashed = []

    def counted(path):
        hashed.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr("deepseek.artifacts.files.sha256_file", counted)
    Bundle.open(bundle)
    assert hashed.count("weights.safetensors") == hashed.count("schema.json") == 1


def _truncate(bundle):
    (bundle / "weights.safetensors").write_bytes(b"weights")


def _edit(bundle):
    (bundle / "schema.json").write_text('{"fields": [1]}')


def _add(bundle):
    (bundle / "hook.py").write_text("print('executed')")


def _remove(bundle):
    (bundle / "schema.json").unlink()


def _link(bundle):
    (bundle / "schema.json").unlink()
    (bundle / "schema.json").symlink_to("/etc/hostname")


def _manifest(**changes):
    def change(bundle):
        manifest = json.loads((bundle / "manifest.json").read_text())
        (bundle / "manifest.json").write_text(json.dumps({**manifest, **changes}))

    return change


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_truncate, "weights.safetensors was changed"),
        (_edit, "schema.json was changed"),
        (_add, "hook.py does not belong here"),
        (_remove, "schema.json is missing"),
        (_link, "holds links"),
        (_manifest(version=FORMAT_VERSION + 1), "pip install --upgrade"),
        (_manifest(format="other"), "does not describe a bundle"),
        (_manifest(files={"../../etc/passwd": "0" * 64}), "in a way that no bundle does"),
        (_manifest(files={"/etc/passwd": "0" * 64}), "in a way that no bundle does"),
        (_manifest(files={"schema.json": "short"}), "in a way that no bundle does"),
        (shutil.rmtree, "there is no"),
    ],
)
def test_a_bundle_that_is_not_as_it_was_written_is_refused(bundle, harm, words):
    harm(bundle)
    with pytest.raises(BundleError, match=words):
        Bundle.open(bundle)


def test_the_newest_finished_run_of_a_name_is_opened(tmp_path):
    for number in ("1", "9", "10"):
        with write_bundle(tmp_path / "churn" / number / "bundle", {"schema.json": {"number": number}}):
            pass
    (tmp_path / "churn" / "11").mkdir()
    assert Bundle.open(tmp_path / "churn").read("schema.json") == {"number": "10"}


def test_a_run_that_was_never_finished_says_so(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: churn\n")
    with pytest.raises(BundleError, match="was never finished") as caught:
        Bundle.open(tmp_path)
    assert "--resume" in caught.value.hint
