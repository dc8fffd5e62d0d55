"""Rows as vectors: of checkpoints, of trained networks, and exported."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from tests.tiny_checkpoint import write_checkpoint

import deepseek
from deepseek.artifacts import Bundle
from deepseek.cli.app import run_app
from deepseek.errors import InputError, RunError
from deepseek.inference.embedding import save_checkpoint_embedder, save_embedder

TEXTS = ["a good day", "", "good good day and a long end of it", "day"]


@pytest.fixture
def checkpoint(tmp_path):
    pytest.importorskip("transformers")
    write_checkpoint(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def vectors(table):
    return np.array(table["embedding"].to_pylist(), dtype=np.float32)


def expected(checkpoint, texts):
    """The mean over the real tokens of the library's own states, a text at a time."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    network = AutoModel.from_pretrained(checkpoint).eval()
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with torch.inference_mode():
        made = [network(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(dim=0) for text in texts]
    return torch.stack(made).numpy()


def test_a_checkpoint_is_embedded_as_the_library_does(checkpoint, tmp_path):
    pa.csv.write_csv(pa.table({"said": TEXTS}), tmp_path / "texts.csv")
    said = run_app(["embed", str(checkpoint), str(tmp_path / "texts.csv"), "-o", str(tmp_path / "v.parquet"), "--column", "said"])
    assert said.result["rows"] == len(TEXTS)
    table = pa.parquet.read_table(tmp_path / "v.parquet")
    assert table.schema.field("embedding").type == pa.list_(pa.float32())
    np.testing.assert_allclose(vectors(table), expected(checkpoint, TEXTS), rtol=0, atol=1e-5)


def test_normalized_vectors_have_length_one(checkpoint, tmp_path):
    deepseek.embed(checkpoint, {"text": TEXTS}, tmp_path / "v.parquet", normalized=True, bundle=tmp_path / "kept")
    made = vectors(pa.parquet.read_table(tmp_path / "v.parquet"))
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1.0, rtol=1e-6)
    plain = expected(checkpoint, TEXTS)
    np.testing.assert_allclose(made, plain / np.linalg.norm(plain, axis=1, keepdims=True), rtol=0, atol=1e-5)
    again = deepseek.load(tmp_path / "kept").predict(pa.table({"text": TEXTS}))
    np.testing.assert_array_equal(vectors(again), made)


def test_an_embedder_is_exported_and_answers_alike(checkpoint, tmp_path):
    pytest.importorskip("onnxruntime")
    bundle = save_checkpoint_embedder(tmp_path / "bundle", str(checkpoint))
    told = deepseek.export(bundle, rows={"text": TEXTS}, output=tmp_path / "onnx")
    assert told["parity"]["rows"] == len(TEXTS)
    answers = deepseek.load(tmp_path / "onnx").predict(pa.table({"text": TEXTS}))
    np.testing.assert_allclose(vectors(answers), expected(checkpoint, TEXTS), rtol=0, atol=1e-4)


def test_a_pooling_that_nobody_trained_is_refused(checkpoint, tmp_path):
    with pytest.raises(InputError, match="nobody has trained"):
        deepseek.embed(checkpoint, {"text": TEXTS}, tmp_path / "v.parquet", pool="attention")


def test_a_trained_network_is_embedded_before_its_decision(tmp_path):
    draw = np.random.default_rng(0)
    rows = pa.table({"x": draw.normal(size=90), "z": draw.normal(size=90), "y": draw.choice(["a", "b"], 90)})
    pa.csv.write_csv(rows, tmp_path / "t.csv")
    run = deepseek.train(tmp_path / "t.csv", target="y", out=tmp_path / "runs", overrides=["train.epochs=1", "model.type=mlp"])
    predictor = deepseek.load(run.run)
    made = vectors(predictor.embed(rows))
    assert made.shape[0] == 90
    import torch

    with torch.inference_mode():
        model = predictor.backend.model
        inputs = {name: torch.from_numpy(array) for name, array in predictor.arrays(rows.to_batches()[0]).items()}
        np.testing.assert_allclose(made, model.network(inputs).mean(dim=1).numpy(), rtol=0, atol=1e-6)
        decided = model.task.decode(model.head(torch.from_numpy(made).unsqueeze(1)))["probability"].numpy()
    np.testing.assert_allclose(decided, predictor.predict_proba(rows), rtol=0, atol=1e-6)
    deepseek.embed(run.run, rows, tmp_path / "v.parquet", bundle=tmp_path / "kept")
    with pytest.raises(RunError, match="is there already"):  # or these vectors would be those of the bundle that was kept before
        deepseek.embed(run.run, rows, tmp_path / "w.parquet", bundle=tmp_path / "kept", normalized=True)
    assert not (tmp_path / "w.parquet").exists()
    np.testing.assert_array_equal(vectors(deepseek.load(tmp_path / "kept").predict(rows)), made)
    with_plugin = replace(predictor.bundle, manifest={**predictor.bundle.manifest, "plugins": {"telecom.py": "file"}})
    kept = Bundle.open(save_embedder(tmp_path / "with_plugin", with_plugin))
    assert kept.manifest["plugins"] == {"telecom.py": "file"}
