from __future__ import annotations

import numpy as np
import pytest
import torch

from deepseek.components import FAMILIES
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind
from deepseek.models.contract import EncoderContract, RaggedEncoderContract
from deepseek.registry import family

QUANTILES = np.sort(np.random.default_rng(0).normal(size=(3, 65)), axis=1).astype(np.float32)
TABLE = {
    "numbers": InputSpec("numbers", Kind.NUMBER, ("a", "b", "c"), (3,), "float32", quantiles=QUANTILES),
    "codes": InputSpec("codes", Kind.CATEGORY, ("d", "e"), (2,), "int32", (4, 20)),
    "flags": InputSpec("flags", Kind.BINARY, ("f",), (1,), "float32"),
}
IMAGE = {"photo": InputSpec("photo", Kind.IMAGE, ("photo",), (3, 16, 16), "float32")}
TEXT = {"review": InputSpec("review", Kind.TEXT, ("review",), (), "int32", (30,), ragged=True)}
BERT = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
SOUND = {"call": InputSpec("call", Kind.AUDIO, ("call",), (12,), "float32", ragged=True)}
SOUNDS = {
    "audio_cnn": {"type": "audio_cnn", "channels": [4, 8, 8], "blocks": [0, 1, 0]},
    "audio_cnn, all tokens": {"type": "audio_cnn", "channels": [4, 8], "blocks": [1, 0], "pool": "none", "halve_time": 3},
    "audio_rnn": {"type": "audio_rnn", "width": 8},
    "audio_rnn, plain, all tokens": {"type": "audio_rnn", "width": 8, "residual": False, "layer_norm": False, "pool": "none", "stride": 1},
}
TEXTS = {
    "parallel": {"type": "parallel", "encoders": [{"type": "text_cnn", "filters": 8, "dropout": 0.0}, {"type": "text_bag", "buckets": 50}]},
    "text_bag": {"type": "text_bag", "buckets": 50},
    "text_bag, weighted trigrams": {"type": "text_bag", "ngrams": 3, "buckets": 50, "weighted": True, "pool": "sum"},
    "text_cnn": {"type": "text_cnn", "filters": 8},
    "text_cnn, mean": {"type": "text_cnn", "filters": 8, "pool": "mean", "windows": [1, 5]},
    "text_cnn, a token a word": {"type": "text_cnn", "filters": 8, "pool": "none"},
    "text_rnn": {"type": "text_rnn", "width": 16},
    "text_rnn, two layers of gru": {"type": "text_rnn", "cell": "gru", "width": 16, "depth": 2, "pool": "none"},
    "text_rnn, one direction": {"type": "text_rnn", "cell": "gru", "width": 16, "bidirectional": False, "pool": "max"},
    "text_transformer": {"type": "text_transformer", "width": 16},
    "text_transformer, learned": {"type": "text_transformer", "width": 16, "positions": "learned", "activation": "swiglu", "pool": "mean"},
    "text_transformer, sinusoidal": {"type": "text_transformer", "width": 16, "positions": "sinusoidal", "pool": "first"},
    "text_pretrained": {"type": "text_pretrained", "config": BERT},
    "text_pretrained, first of four": {"type": "text_pretrained", "config": {**BERT, "num_hidden_layers": 4}, "pool": "first"},
    "text_pretrained, all tokens": {"type": "text_pretrained", "config": BERT, "pool": "none"},
    "text_pretrained, roberta": {"type": "text_pretrained", "config": {**BERT, "model_type": "roberta", "pad_token_id": 1}},
    "text_pretrained, mpnet": {"type": "text_pretrained", "config": {**BERT, "model_type": "mpnet", "pad_token_id": 1}},
    "text_pretrained, distilbert": {
        "type": "text_pretrained",
        "config": {"model_type": "distilbert", "vocab_size": 30, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    },
    "transformer_xl": {"type": "transformer_xl", "width": 16, "depth": 2},
    "transformer_xl, post-norm, all tokens": {
        "type": "transformer_xl",
        "width": 16,
        "depth": 2,
        "norm": "post",
        "pool": "none",
        "embedding_scale": 0.1,
    },
    "text_decoder": {"type": "text_decoder", "width": 16, "depth": 2},
    "text_decoder, learned, all tokens": {
        "type": "text_decoder",
        "width": 16,
        "depth": 2,
        "positions": "learned",
        "pool": "none",
        "embedding_scale": 0.1,
    },
    "text_transformer, all tokens": {"type": "text_transformer", "width": 16, "positions": "none", "pool": "none"},
}
SPECS = {
    "table": "table",
    "table, a token a column": {"type": "table", "tokens": True, "numbers": "periodic"},
    "table, widths by cardinality": {"type": "table", "category_width": "auto", "one_hot": 0, "numbers": "linear"},
    "nothing": "nothing",
    "cnn": {"type": "cnn", "channels": [8, 16], "blocks": [0, 1], "normalization": "group"},
    "resnet": "resnet",
    "efficientnet": {"type": "efficientnet", "width_coefficient": 0.25, "depth_coefficient": 0.5},
    "keras": {"type": "keras", "builder": "build_deepseek_model", "arguments": {"num_classes": 2}},
    "image_timm": {"type": "image_timm", "architecture": "test_resnet"},
    "image_timm, transformer": {"type": "image_timm", "architecture": "test_vit"},
    "series_cnn": {"type": "series_cnn", "width": 8, "depth": 2, "dropout": 0.0},
    "series_rnn": {"type": "series_rnn", "width": 8, "dropout": 0.0},
    "series_rnn, two layers of gru": {"type": "series_rnn", "cell": "gru", "width": 8, "depth": 2, "pool": "none", "dropout": 0.0},
}
STEPS = {
    "series_rnn": {"type": "series_rnn", "width": 8},
    "series_rnn, two layers of gru": {"type": "series_rnn", "cell": "gru", "width": 8, "depth": 2, "pool": "none"},
    "series_cnn": {"type": "series_cnn", "width": 8, "depth": 3, "kernel": 3},
    "series_cnn, not pooled": {"type": "series_cnn", "width": 8, "depth": 1, "pool": "none"},
}
PULSE = {"pulse": InputSpec("pulse", Kind.SERIES, ("pulse_0", "pulse_1"), (2,), "float32", ragged=True)}
SERIES = {"history": InputSpec("history", Kind.SERIES, ("load", "heat"), (7, 2), "float32")}


def test_every_builtin_encoder_is_in_this_suite():
    tested = {spec if isinstance(spec, str) else spec["type"] for spec in [*SPECS.values(), *TEXTS.values(), *SOUNDS.values()]}
    assert tested == set(FAMILIES["encoder"][1])


@pytest.mark.parametrize("case", SPECS)
class TestBuiltinEncoders(EncoderContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        if case.startswith("image_timm"):
            pytest.importorskip("timm")
        if case == "keras":
            pytest.importorskip("keras")
        torch.manual_seed(0)
        self.case = case

    def build(self):
        inputs = TABLE if self.case.startswith("table") else SERIES if self.case.startswith("series") else IMAGE
        return family("encoder").build(SPECS[self.case], inputs)

    def batch(self, rows):
        if self.case.startswith("series"):
            return {"history": torch.randn(rows, 7, 2)}
        if not self.case.startswith("table"):
            return {"photo": torch.randn(rows, 3, 16, 16)}
        codes = torch.stack((torch.randint(0, 4, (rows,)), torch.randint(0, 20, (rows,))), dim=1).int()
        return {"numbers": torch.randn(rows, 3), "codes": codes, "flags": torch.ones(rows, 1)}


@pytest.mark.parametrize("case", TEXTS)
class TestBuiltinTextEncoders(RaggedEncoderContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        torch.manual_seed(0)
        self.spec = TEXTS[case] if case == "parallel" else {**TEXTS[case], "dropout": 0.0}

    def build(self):
        return family("encoder").build(self.spec, TEXT)

    def batch(self, rows):
        lengths = torch.linspace(1, 9, rows).round().long().unsqueeze(1)
        mask = torch.arange(9) < lengths
        ids = torch.randint(4, 30, (rows, 9), dtype=torch.int32)
        ids[:, 0] = 2
        return {"review": ids * mask, "review_mask": mask}


@pytest.mark.parametrize("case", SOUNDS)
class TestBuiltinSoundEncoders(RaggedEncoderContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        torch.manual_seed(0)
        self.spec = {**SOUNDS[case], "dropout": 0.0}

    def build(self):
        return family("encoder").build(self.spec, SOUND)

    def batch(self, rows):
        lengths = torch.linspace(1, 9, rows).round().long().unsqueeze(1)
        mask = torch.arange(9) < lengths
        return {"call": torch.randn(rows, 9, 12) * mask.unsqueeze(-1), "call_mask": mask}


@pytest.mark.parametrize("case", STEPS)
class TestBuiltinSeriesEncoders(RaggedEncoderContract):
    @pytest.fixture(autouse=True)
    def _case(self, case):
        torch.manual_seed(0)
        self.spec = {**STEPS[case], "dropout": 0.0}

    def build(self):
        return family("encoder").build(self.spec, PULSE)

    def batch(self, rows):
        lengths = torch.linspace(1, 9, rows).round().long().unsqueeze(1)
        mask = torch.arange(9) < lengths
        return {"pulse": torch.randn(rows, 9, 2) * mask.unsqueeze(-1), "pulse_mask": mask}
