"""Datasets that a recipe names: folders read by the library `datasets`, and the hub, which no test reaches."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from datasets.packaged_modules.parquet.parquet import Parquet
from PIL import Image as Pillow

from deepseek.data.sources import hub_stream, open_source
from deepseek.data.sources.hugging_face import dataset_table
from deepseek.errors import DataError, InputError, MissingExtraError, UnknownNameError

LABEL = ClassLabel(names=["cat", "dog"])


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")


def png(level):
    file = io.BytesIO()
    Pillow.fromarray(np.full((4, 4), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def made(rows, *, first=0):
    features = Features({"n": Value("int32"), "label": LABEL, "tags": List(LABEL), "image": Image()})
    numbers = range(first, first + rows)
    columns = {"n": list(numbers), "label": [[1, 0, -1][i % 3] for i in numbers], "tags": [[i % 2] * (i % 3) for i in numbers]}
    return Dataset.from_dict(columns | {"image": [{"bytes": png(i), "path": None} for i in numbers]}, features=features)


def source(path, **given):
    return open_source({"type": "hugging_face", "path": str(path), **given})


def rows(opened, **given):
    return pa.Table.from_batches(list(opened.read(**given))).to_pydict()


def test_what_was_saved_is_read_in_batches_with_labels_and_images(tmp_path):
    dataset = made(7)
    dataset.save_to_disk(tmp_path / "saved")
    opened = source(tmp_path / "saved")
    wanted = {
        "n": list(range(7)),
        "label": ["dog", "cat", None, "dog", "cat", None, "dog"],
        "tags": [[["cat", "dog"][i % 2]] * (i % 3) for i in range(7)],
        "image": [png(i) for i in range(7)],
    }
    assert rows(opened) == rows(opened, batch_rows=2) == wanted
    assert opened.schema() == pa.Table.from_batches(list(opened.read())).schema
    assert (opened.given_split(), opened.revision) == (None, None)
    assert opened.fingerprint() == source(tmp_path / "saved").fingerprint()
    dataset.map(lambda row: {"n": row["n"] + 1}).save_to_disk(tmp_path / "other")
    assert source(tmp_path / "other").fingerprint() != opened.fingerprint()


def test_splits_are_a_column_or_one_is_read(tmp_path):
    DatasetDict({"train": made(3), "dev": made(2, first=3)}).save_to_disk(tmp_path / "saved")
    opened = source(tmp_path / "saved")
    assert opened.given_split() == "split"
    assert rows(opened, columns=["split", "n"]) == {"split": ["train"] * 3 + ["validation"] * 2, "n": [0, 1, 2, 3, 4]}
    assert rows(opened, columns=["split"])["split"] == ["train"] * 3 + ["validation"] * 2
    one = source(tmp_path / "saved", split="dev")
    assert (one.given_split(), rows(one, columns=["n"])) == (None, {"n": [3, 4]})
    with pytest.raises(UnknownNameError, match="unknown split 'tset'"):
        source(tmp_path / "saved", split="tset").schema()


def test_files_in_a_folder_are_read_and_a_part_of_a_split(tmp_path):
    (tmp_path / "data").mkdir()
    for name, first in (("train", 0), ("test", 5)):
        made(5, first=first).to_parquet(tmp_path / "data" / f"{name}-00000-of-00001.parquet")
    assert rows(source(tmp_path / "data"), columns=["n", "label", "split"])["split"] == ["train"] * 5 + ["test"] * 5
    part = rows(source(tmp_path / "data", split="train[:40%]"), columns=["n", "image"])
    assert part == {"n": [0, 1], "image": [png(0), png(1)]}
    with pytest.raises(DataError, match="cannot be read: Unknown split"):
        source(tmp_path / "data", split="tset").schema()
    with pytest.raises(DataError, match="cannot be read: BuilderConfig 'other' not found"):
        source(tmp_path / "data", config="other").schema()


def test_a_folder_of_images_gives_their_paths(tmp_path):
    for name in ("cat/a.png", "dog/b.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        (tmp_path / "photos" / name).write_bytes(png(9))
    read = rows(source(tmp_path / "photos", split="train"))
    assert [path.rpartition("/")[2] for path in read["image"]] == ["a.png", "b.png"]
    assert read["label"] == ["cat", "dog"]


def test_sound_is_the_bytes_of_its_file(tmp_path):
    features = Features({"sound": Audio()})
    table = pa.table({"sound": pa.array([{"bytes": b"RIFF", "path": None}, None], pa.struct({"bytes": pa.binary(), "path": pa.string()}))})
    Dataset(table.cast(features.arrow_schema), info=None).cast(features).save_to_disk(tmp_path / "saved")
    assert rows(source(tmp_path / "saved")) == {"sound": [b"RIFF", None]}


def test_missing_lists_of_labels_and_slices_of_them():
    features = Features({"tags": List(LABEL)})
    dataset = Dataset.from_dict({"tags": [[0], None, [1, 0], [], None]}, features=features)
    wanted = [["cat"], None, ["dog", "cat"], [], None]
    assert dataset_table(dataset).column("tags").to_pylist() == wanted
    assert dataset_table(dataset.select(range(1, 4))).column("tags").to_pylist() == wanted[1:4]
    assert rows(open_source(dataset), batch_rows=2) == {"tags": wanted}


def test_without_a_network_the_hub_is_refused_in_words():
    with pytest.raises(DataError, match=r"the dataset 'nobody/nothing' cannot be read: .*\n.*HF_DATASETS_OFFLINE is set"):
        source("nobody/nothing").schema()


def test_the_hub_is_asked_for_the_revision_and_the_commit_is_told(monkeypatch):
    asked = {}
    commit = "0123456789abcdef0123456789abcdef01234567"

    def load(path, **given):
        asked.update(path=path, **given)
        dataset = made(2)
        dataset.info.download_checksums = {f"hf://datasets/o/n@{commit}/data/train.parquet": {"num_bytes": 1}}
        return dataset

    monkeypatch.setattr("datasets.load_dataset", load)
    opened = source("owner/name", config="small", split="train", revision="v1.0")
    assert rows(opened, columns=["n"]) == {"n": [0, 1]}
    assert asked == {"path": "owner/name", "name": "small", "split": "train", "revision": "v1.0"}
    assert opened.revision == commit


def test_what_cannot_be_read_is_told(tmp_path, monkeypatch):
    made(1).save_to_disk(tmp_path / "saved")
    (tmp_path / "empty").mkdir()
    for path, given, words in (
        ("./absent", {}, "there is no folder"),
        ("/absent", {}, "there is no folder"),
        ("s3://b/x", {}, "there is no folder"),
        (tmp_path / "empty", {}, "cannot be read"),
        (tmp_path / "saved", {"revision": "main"}, "a folder has no revisions"),
        (tmp_path / "saved", {"config": "x"}, "written by save_to_disk"),
    ):
        with pytest.raises(InputError, match=words):
            source(path, **given).schema()
    DatasetDict(unsupervised=made(1)).save_to_disk(tmp_path / "odd")
    with pytest.raises(DataError, match=r"splits called 'unsupervised'\n.*name the one to read under split: unsupervised"):
        source(tmp_path / "odd").schema()
    made(1).select([]).save_to_disk(tmp_path / "none")
    with pytest.raises(DataError, match=r"none' cannot be read: [^\n]*$"):
        source(tmp_path / "none").schema()
    damaged = next((tmp_path / "saved").glob("*.arrow"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read"):
        rows(source(tmp_path / "saved"))
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"deepseek-framework\[hub\]"):
        source(tmp_path / "odd").schema()


def test_a_recipe_trains_on_it_and_the_run_knows_what_it_was(tmp_path, monkeypatch):
    import deepseek

    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    x = draw.normal(size=90)
    features = Features({"x": Value("float32"), "z": Value("int64"), "y": LABEL})
    columns = {"x": x, "z": draw.integers(0, 9, 90), "y": (x > 0).astype(int)}
    parts = {
        name: Dataset.from_dict({key: list(v[a:b]) for key, v in columns.items()}, features=features)
        for name, a, b in (("train", 0, 60), ("validation", 60, 75), ("test", 75, 90))
    }
    DatasetDict(parts).save_to_disk(tmp_path / "saved")
    recipe = {
        "data": {"source": {"type": "hugging_face", "path": "saved"}, "target": "y", "split": {"column": "split"}},
        "train": {"epochs": 1},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    run = deepseek.run(tmp_path / "r.yaml")
    about = json.loads((tmp_path / run.run / "data.json").read_text())["sources"]["source"]
    assert about["rows"]["kept"] == 90
    assert about["fingerprint"] == source(tmp_path / "saved").fingerprint()
    answers = deepseek.load(run.run).predict({"x": [-3.0, 3.0], "z": [1, 1]})
    assert set(answers["prediction"].to_pylist()) <= {"cat", "dog"}
    assert about["revision"] is None


class TestStreaming:
    @pytest.fixture
    def folder(self, tmp_path):
        """Three files of a split, in which groups of rows do not end where batches do."""
        (tmp_path / "data").mkdir()
        for number, (first, count) in enumerate([(0, 7), (7, 1), (8, 12)]):
            name = f"train-{number:05d}-of-00003.parquet"
            made(count, first=first).to_parquet(tmp_path / "data" / name, batch_size=5)
        return tmp_path / "data"

    def test_rows_are_those_of_the_whole_set(self, folder):
        wanted = rows(source(folder, split="train"))
        streamed = source(folder, split="train", streaming=True)
        assert rows(streamed) == rows(streamed, batch_rows=3) == wanted
        assert streamed.schema() == pa.Table.from_batches(list(streamed.read())).schema == source(folder, split="train").schema()
        assert streamed.fingerprint() == source(folder, split="train", streaming=True).fingerprint()
        assert rows(streamed, columns=["label"]) == {"label": wanted["label"]}

    def test_no_file_is_written_to_the_cache(self, folder, tmp_path):
        rows(source(folder, split="train", streaming=True))
        assert not list((tmp_path / "cache").rglob("*.arrow"))
        rows(source(folder, split="train"))
        assert list((tmp_path / "cache").rglob("*.arrow"))

    @pytest.mark.parametrize("limit", [1, 7, 8, 20, 100])
    def test_a_limit_reads_no_more(self, folder, limit):
        streamed = source(folder, split="train", streaming=True, limit=limit)
        assert rows(streamed, columns=["n"])["n"] == list(range(min(limit, 20)))
        assert rows(streamed, columns=["n"], batch_rows=3)["n"] == list(range(min(limit, 20)))

    @pytest.mark.parametrize("batch_rows", [1, 3, 5, 64])
    def test_after_a_loss_at_any_place_every_row_comes_once(self, folder, monkeypatch, batch_rows):
        """Files are opened again and again, and each time a later group of rows fails: nothing comes twice, nothing is missing."""
        monkeypatch.setattr(hub_stream, "_FIRST_WAIT_S", 0.0)
        plain = Parquet._cast_table
        for lost_after in range(6):  # of six groups
            left = [lost_after]

            def losing(self, table, left=left):
                if left:
                    left[0] -= 1
                    if left[0] < 0:
                        left.clear()
                        raise ConnectionError("the hub went away")
                return plain(self, table)

            streamed = source(folder, split="train", streaming=True)
            streamed.schema()
            monkeypatch.setattr(Parquet, "_cast_table", losing)
            assert rows(streamed, columns=["n"], batch_rows=batch_rows)["n"] == list(range(20)), (lost_after, batch_rows)
            assert not left
            monkeypatch.setattr(Parquet, "_cast_table", plain)

    def test_what_fails_again_and_again_is_told(self, folder, monkeypatch):
        monkeypatch.setattr(hub_stream, "_FIRST_WAIT_S", 0.0)
        tries = []

        def failing(self, table):
            tries.append(table)
            raise error

        for error, times in ((ConnectionError("the hub went away"), 3), (ValueError("the file is none"), 1)):
            tries.clear()
            streamed = source(folder, split="train", streaming=True, retries=2)
            streamed.schema()
            with monkeypatch.context() as patched:
                patched.setattr(Parquet, "_cast_table", failing)
                with pytest.raises(DataError, match=f"cannot be read: {error}"):
                    rows(streamed)
            assert len(tries) == times

    @pytest.mark.parametrize("at_once", [1, 1024])
    def test_files_of_text_that_change_their_types_are_refused(self, tmp_path, monkeypatch, at_once):
        """`007` behind `01x` is no seven: what a later file was taken for is not brought back by a cast."""
        monkeypatch.setattr(hub_stream, "_ROWS", at_once)
        (tmp_path / "texts").mkdir()
        for number, lines in enumerate(["a\n01x\n", "a\n007\n"]):
            (tmp_path / "texts" / f"train-{number}.csv").write_text(lines)
        said = "'a' is of type int64, and before of large_string" if at_once == 1 else "Schema .* different"
        with pytest.raises(DataError, match=said) as found:
            rows(source(tmp_path / "texts", split="train", streaming=True))
        assert "a source of their own" in str(found.value)

    def test_pictures_of_a_folder_are_their_bytes(self, tmp_path):
        for name in ("cat/a.png", "dog/b.png"):
            (tmp_path / "photos" / name).parent.mkdir(parents=True)
            (tmp_path / "photos" / name).write_bytes(png(9))
        assert rows(source(tmp_path / "photos", split="train", streaming=True)) == {"image": [png(9)] * 2, "label": ["cat", "dog"]}

    def test_only_a_commit_names_what_is_streamed_from_the_hub(self):
        commit = "4f3c2b1a0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a"
        pinned = source("owner/reviews", revision=commit, streaming=True)
        assert pinned.revision == commit
        assert pinned.fingerprint() == source("owner/reviews", revision=commit, streaming=True).fingerprint()
        assert pinned.fingerprint() != source("owner/reviews", revision=commit, streaming=True, limit=5).fingerprint()
        assert source("owner/reviews", revision="main", streaming=True).fingerprint() is None
        with pytest.raises(DataError, match="HF_DATASETS_OFFLINE is set"):
            pinned.schema()

    def test_what_contradicts_itself_is_refused(self, folder, tmp_path):
        made(2).save_to_disk(tmp_path / "saved")
        with pytest.raises(InputError, match="memory-mapped already"):
            source(tmp_path / "saved", streaming=True).schema()
        with pytest.raises(InputError, match="limit is 5, and rows are not streamed"):
            source(folder, limit=5)
        with pytest.raises(DataError, match="cannot be read"):
            source(folder, split="train[:10%]", streaming=True).schema()
