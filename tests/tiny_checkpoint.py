"""A checkpoint as Transformers writes them, small enough to be made by a test: a BERT with a WordPiece tokenizer of its own."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("good", "bad", "film", "story", "a", "the", "lovely", "great", "fine", "awful", "dull", "poor", "##s", "day", "long", "and")
LONGEST = 24


def write_checkpoint(folder: Path, *, layers: int = 2, seed: int = 0, places: int = 32, bert: str = "Bert") -> Path:
    """Write a checkpoint and return its folder."""
    import transformers

    config = getattr(transformers, f"{bert}Config")(
        vocab_size=len(SPECIAL + WORDS),
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=places,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.3,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        getattr(transformers, f"{bert}Model")(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece({word: place for place, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=9)  # as checkpoints come: with settings of their own, which must not be taken over
    tokenizer.enable_truncation(7)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": LONGEST, "tokenizer_class": "BertTokenizer"}))
