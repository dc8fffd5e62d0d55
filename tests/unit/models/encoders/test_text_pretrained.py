from __future__ import annotations

import json
import shutil

import pytest
import torch
from tests.tiny_checkpoint import SPECIAL, WORDS, write_checkpoint

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.encoders.text_pretrained import PretrainedTextEncoder

transformers = pytest.importorskip("transformers")
SIZE = len(SPECIAL + WORDS)


def inputs(size=SIZE):
    return {"note": InputSpec("note", Kind.TEXT, ("note",), (), "int32", (size,), ragged=True)}


def batch():
    ids = torch.tensor([[2, 5, 7, 3, 0], [2, 6, 8, 9, 3]], dtype=torch.int32)
    return {"note": ids, "note_mask": torch.tensor([[True, True, True, True, False], [True] * 5])}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.mark.parametrize("bert", ["Bert", "Roberta", "Electra"])
def test_tokens_are_those_of_the_library(bert, tmp_path):
    folder = write_checkpoint(tmp_path, bert=bert)
    encoder = PretrainedTextEncoder(inputs(), pretrained=str(folder), pool="none").eval()
    reference = transformers.AutoModel.from_pretrained(folder).eval()
    given = batch()
    with torch.no_grad():
        wanted = reference(input_ids=given["note"].long(), attention_mask=given["note_mask"].long()).last_hidden_state
        tokens, mask = encoder(given)
    torch.testing.assert_close(tokens[mask], wanted[mask], rtol=1e-5, atol=1e-6)


def test_poolings_are_the_mean_over_real_tokens_and_the_first(checkpoint):
    tokens, mask = PretrainedTextEncoder(inputs(), pretrained=str(checkpoint), pool="none").eval()(batch())
    mean = PretrainedTextEncoder(inputs(), pretrained=str(checkpoint)).eval()(batch()).tokens[:, 0]
    first = PretrainedTextEncoder(inputs(), pretrained=str(checkpoint), pool="first").eval()(batch()).tokens[:, 0]
    torch.testing.assert_close(mean[0], tokens[0][mask[0]].mean(dim=0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(first, tokens[:, 0])


def test_it_begins_with_the_checkpoints_weights_and_draws_nothing(checkpoint):
    torch.manual_seed(1)
    one = PretrainedTextEncoder(inputs(), pretrained=str(checkpoint))
    torch.manual_seed(2)
    other = PretrainedTextEncoder(inputs(), pretrained=str(checkpoint))
    assert all(torch.equal(first, second) for first, second in zip(one.parameters(), other.parameters(), strict=True))
    assert one.checkpoint == str(checkpoint)


def test_its_configuration_builds_it_again_without_the_checkpoint(checkpoint):
    first = PretrainedTextEncoder(inputs(), pretrained=str(checkpoint)).eval()
    config = json.loads(json.dumps(first.standing_alone()["config"]))
    assert str(checkpoint) not in json.dumps(config)
    again = PretrainedTextEncoder(inputs(), config=config).eval()
    again.load_state_dict(first.state_dict())
    assert torch.equal(again(batch()).tokens, first(batch()).tokens)
    assert again.checkpoint is None


def test_half_precision_weights_become_float32(checkpoint, tmp_path):
    transformers.AutoModel.from_pretrained(checkpoint).half().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in PretrainedTextEncoder(inputs(), pretrained=str(tmp_path)).parameters()} == {torch.float32}


def test_blocks_go_from_the_embeddings_to_the_last_layer(checkpoint):
    encoder = PretrainedTextEncoder(inputs(), pretrained=str(checkpoint), pool="attention")
    names = [block.names for block in encoder.tuning_blocks()]
    assert names == [["embeddings"], ["encoder.layer.0"], ["encoder.layer.1"]]
    inside = {id(parameter) for block in encoder.tuning_blocks() for parameter in block.parameters}
    assert inside == {id(parameter) for parameter in encoder.network.parameters()}


def test_a_language_models_checkpoint_leaves_its_head_out(tmp_path):
    folder = write_checkpoint(tmp_path)
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.BertForMaskedLM(config)
    model.save_pretrained(folder)
    encoder = PretrainedTextEncoder(inputs(), pretrained=str(folder))
    assert torch.equal(encoder.network.embeddings.word_embeddings.weight, model.bert.embeddings.word_embeddings.weight)


def test_what_cannot_be_used_is_refused(checkpoint, tmp_path):
    with pytest.raises(InputError, match="given no checkpoint"):
        PretrainedTextEncoder(inputs())
    with pytest.raises(InputError, match=f"ids of 30 kinds, and .* knows {SIZE}"):
        PretrainedTextEncoder(inputs(30), pretrained=str(checkpoint))
    pickled = tmp_path / "pickled"
    shutil.copytree(checkpoint, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="a format that can run code"):
        PretrainedTextEncoder(inputs(), pretrained=str(pickled))
    short = tmp_path / "short"
    shutil.copytree(checkpoint, short)
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(InputError, match=r"has no weights for encoder\.layer\.2"):
        PretrainedTextEncoder(inputs(), pretrained=str(short))
    both = tmp_path / "both"
    shutil.copytree(checkpoint, both)
    (both / "config.json").write_text(json.dumps({**config, "is_encoder_decoder": True}))
    with pytest.raises(InputError, match="an encoder and a decoder"):
        PretrainedTextEncoder(inputs(), pretrained=str(both))
    with pytest.raises(InputError, match="cannot be made of its configuration"):
        PretrainedTextEncoder(inputs(), config={"model_type": "nothing"})
    own = tmp_path / "own"
    shutil.copytree(checkpoint, own)
    code = {"model_type": "of_its_own", "auto_map": {"AutoModel": "code.Model", "AutoConfig": "code.Config"}}
    (own / "config.json").write_text(json.dumps(code))
    (own / "code.py").write_text("raise SystemExit('code of a checkpoint was run')")
    with pytest.raises(InputError, match="cannot be loaded"):
        PretrainedTextEncoder(inputs(), pretrained=str(own))


def test_the_librarys_log_is_left_as_it_was(checkpoint):
    from transformers.utils import logging as told

    before = told.get_verbosity(), told.is_progress_bar_enabled()
    PretrainedTextEncoder(inputs(), pretrained=str(checkpoint))
    assert (told.get_verbosity(), told.is_progress_bar_enabled()) == before
