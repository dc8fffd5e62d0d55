from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from tests.tiny_checkpoint import LONGEST, SPECIAL, WORDS, write_checkpoint

from deepseek.data.checkpoints import checkpoint_folder, read_checkpoint_config, weight_files
from deepseek.data.transforms.text_pretrained import PretrainedTextTransform, longest_text, read_tokenizer
from deepseek.errors import InputError
from deepseek.fields import Field, Kind

NOTE = [Field("note", Kind.TEXT)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def fitted(checkpoint, texts=("good film",), **keys):
    transform = PretrainedTextTransform(NOTE, pretrained=str(checkpoint), **keys)
    transform.observe(pa.record_batch({"note": pa.array(list(texts), pa.string())}))
    transform.finish()
    return transform


def ids(transform, *texts):
    rows = transform.apply(pa.record_batch({"note": pa.array(list(texts), pa.string())}))["note"]
    return [rows.values[start:stop].tolist() for start, stop in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)]


def test_ids_are_those_of_transformers(checkpoint):
    transformers = pytest.importorskip("transformers")
    texts = ["good film", "The awful DAYS", "zzz", ""]
    reference = transformers.PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"))
    wanted = [reference(text, truncation=False, padding=False)["input_ids"] for text in texts]
    assert ids(fitted(checkpoint), *texts) == wanted


def test_the_files_own_padding_and_cut_are_not_taken_over(checkpoint):
    assert [len(row) for row in ids(fitted(checkpoint), "good", " ".join(["film"] * 15))] == [3, 17]


def test_long_texts_keep_their_last_special_token_and_are_counted(checkpoint):
    transform = fitted(checkpoint, texts=["good"] * 3 + [" ".join(["film"] * 100)])
    (row,) = ids(transform, " ".join(["film"] * 100))
    assert len(row) == LONGEST
    assert row[-1] == SPECIAL.index("[SEP]")
    assert "25.0%" in transform.warnings[0]
    assert not fitted(checkpoint).warnings


def test_the_longest_text_is_the_checkpoints_or_what_is_said(checkpoint, tmp_path):
    assert len(ids(fitted(checkpoint, max_tokens=5), " ".join(["film"] * 100))[0]) == 5
    assert len(ids(fitted(checkpoint, max_tokens=32), " ".join(["film"] * 100))[0]) == 32
    with pytest.raises(InputError, match="has 32 places"):
        fitted(checkpoint, max_tokens=33)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 10}')
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    known = longest_text(tmp_path, {"model_type": "roberta", "pad_token_id": 1, "max_position_embeddings": 514})
    assert (known.places, known.meant) == (512, 10)
    assert longest_text(tmp_path / "nothing", {}) is None


def test_answering_needs_no_checkpoint(checkpoint, tmp_path):
    first = fitted(checkpoint)
    again = PretrainedTextTransform(NOTE, pretrained=str(tmp_path / "gone")).load_json(json.loads(json.dumps(first.to_json())))
    assert ids(again, "lovely story") == ids(first, "lovely story")
    assert again.inputs[0].cardinalities == (len(SPECIAL + WORDS),)
    assert again.tokens([2, 5]) == ["[CLS]", "good"]


def test_a_missing_text_is_an_empty_one(checkpoint):
    assert ids(fitted(checkpoint), None, "") == [[2, 3], [2, 3]]


def test_rows_are_the_same_however_they_are_cut(checkpoint):
    transform, texts = fitted(checkpoint), ["good film", "bad " * 30, "", "story"]
    whole = ids(transform, *texts)
    assert whole == [row for text in texts for row in ids(transform, text)]


def test_what_is_no_checkpoint_is_told(tmp_path):
    with pytest.raises(InputError, match=r"there is no checkpoint at '\./nothing'"):
        checkpoint_folder("./nothing")
    with pytest.raises(InputError, match=r"no config\.json"):
        read_checkpoint_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        read_checkpoint_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match="no mapping"):
        read_checkpoint_config(tmp_path)


def test_a_name_on_the_hub_that_cannot_be_reached_is_told(monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def absent(repository, **keys):
        asked.append((repository, keys["revision"]))
        raise hub.errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(hub, "snapshot_download", absent)
    with pytest.raises(InputError, match="neither a folder nor to be had from the Hub: no connection"):
        checkpoint_folder("owner/name@v1")
    assert asked == [("owner/name", "v1")]
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **keys: asked.append(keys["allow_patterns"]) or str(tmp_path))
    assert checkpoint_folder("owner/name") == tmp_path
    assert not any(pattern.endswith((".bin", ".py")) for pattern in asked[-1])


def test_pickled_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="has no weights"):
        weight_files(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"only as pytorch_model\.bin, a format that can run code"):
        weight_files(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]


def test_a_tokenizer_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Nonsense"}}')
    with pytest.raises(InputError, match=r"the tokenizer of .* cannot be read"):
        read_tokenizer(tmp_path)


def test_offsets_are_int64(checkpoint):
    rows = fitted(checkpoint).apply(pa.record_batch({"note": ["good"]}))["note"]
    assert rows.offsets.dtype == np.int64
