from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.encoders import text_transformer
from deepseek.models.encoders.attention import rotated, turns
from deepseek.models.encoders.text import TokenPooling
from deepseek.models.encoders.text_bag import FACTORS, MOST_BUCKETS, PRIMES, TextBagEncoder
from deepseek.models.encoders.text_cnn import TextCnnEncoder
from deepseek.models.encoders.text_rnn import TextRnnEncoder
from deepseek.models.encoders.text_transformer import TextTransformerEncoder, attention
from deepseek.optim.optimizers import decay_groups

TEXT = {"t": InputSpec("t", Kind.TEXT, ("t",), (), "int32", (40,), ragged=True)}
LENGTHS = [7, 1, 4, 2]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def texts():
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS).unsqueeze(1)
    ids = torch.randint(4, 40, mask.shape, dtype=torch.int32)
    ids[:, 0] = 2
    return {"t": ids * mask, "t_mask": mask}


def rows(batch):
    return [row[:length].long() for row, length in zip(batch["t"], LENGTHS, strict=True)]


# ---------------------------------------------------------------- convolutions


def test_text_cnn_is_the_greatest_answer_of_every_window():
    encoder, batch = TextCnnEncoder(TEXT, token_width=6, windows=[1, 2, 5], filters=3).eval(), texts()
    with torch.no_grad():
        wanted = []
        for row in rows(batch):
            parts = []
            for window, layer in zip([1, 2, 5], encoder.convolutions, strict=True):
                before = torch.zeros(window // 2, 6)
                x = torch.cat((before, encoder.embedding.weight[row], torch.zeros(window, 6)))
                answers = [(layer.weight * x[at : at + window].T).sum(dim=(1, 2)) + layer.bias for at in range(len(row))]
                parts.append(torch.stack(answers).amax(dim=0).relu())
            wanted.append(torch.cat(parts))
        torch.testing.assert_close(encoder(batch).tokens[:, 0], torch.stack(wanted))


# ---------------------------------------------------------------- recurrent networks


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_text_rnn_is_packed_sequences_with_attention_row_by_row(cell):
    encoder, batch = TextRnnEncoder(TEXT, cell=cell, token_width=5, width=8, depth=2).eval(), texts()
    reference = (nn.GRU if cell == "gru" else nn.LSTM)(5, 4, num_layers=2, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for index, layer in enumerate(encoder.layers):
            for part, end in ((layer.ahead, ""), (layer.back, "_reverse")):
                for name, value in part.named_parameters():
                    getattr(reference, name.replace("_l0", f"_l{index}{end}")).copy_(value)
        score = encoder.pooling.score
        wanted = []
        for row in rows(batch):
            states = reference(encoder.embedding.weight[row].unsqueeze(0))[0][0]
            weights = torch.stack([score[2].weight[0] @ torch.tanh(score[0].weight @ state + score[0].bias) for state in states]).softmax(0)
            wanted.append((weights.unsqueeze(1) * states).sum(0))
        torch.testing.assert_close(encoder(batch).tokens[:, 0], torch.stack(wanted))


def test_the_backward_direction_reads_what_comes_after():
    for bidirectional in (False, True):
        encoder, batch = TextRnnEncoder(TEXT, width=8, pool="first", bidirectional=bidirectional).eval(), texts()
        before = encoder(batch).tokens
        batch["t"][0, 6] += 1 if batch["t"][0, 6] < 39 else -1
        assert torch.equal(encoder(batch).tokens[0], before[0]) is not bidirectional
        assert torch.equal(encoder(batch).tokens[1:], before[1:])


# ---------------------------------------------------------------- Transformer


def test_text_transformer_is_torchs():
    encoder, batch = TextTransformerEncoder(TEXT, width=16, depth=2, heads=4, positions="none", pool="none").eval(), texts()
    layer = nn.TransformerEncoderLayer(16, 4, 64, 0.1, functional.gelu, batch_first=True, norm_first=True)
    reference = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(16), enable_nested_tensor=False).eval()
    for own, theirs in zip(encoder.blocks, reference.layers, strict=True):
        theirs.self_attn.in_proj_weight, theirs.self_attn.in_proj_bias = own.queries_keys_values.weight, own.queries_keys_values.bias
        theirs.self_attn.out_proj, theirs.linear1, theirs.linear2 = own.attention_out, own.feed_in, own.feed_out
        theirs.norm1, theirs.norm2 = own.attention_norm, own.feed_norm
    tokens, mask = encoder(batch)
    wanted = reference(encoder.embedding(batch["t"]), src_key_padding_mask=~batch["t_mask"])
    torch.testing.assert_close(tokens[mask], wanted[mask], rtol=1e-4, atol=1e-5)


def test_swiglu_is_the_gated_product():
    block = TextTransformerEncoder(TEXT, width=12, heads=2, activation="swiglu").blocks[0]
    assert block.feed_out.weight.shape == (12, 32)
    x = torch.randn(3, 64)
    torch.testing.assert_close(block.activation(x), x[:, :32] * torch.sigmoid(x[:, :32]) * x[:, 32:])


def test_rotary_products_know_distances_only():
    x, y = torch.randn(8), torch.randn(8)
    pair = torch.stack((x, y)).expand(1, 9, 2, 8).unsqueeze(3)
    turned = rotated(pair, turns(9, 8, x))[0, :, :, 0]
    products = turned[:, 0] @ turned[:, 1].T
    torch.testing.assert_close(products[2, 5], products[4, 7])
    torch.testing.assert_close(products.diagonal(), (x @ y).expand(9))
    assert not torch.isclose(products[2, 5], products[2, 6])
    angle = 3 * 10_000.0 ** -(2 / 8)
    torch.testing.assert_close(turned[3, 0, 1], x[1] * math.cos(angle) - x[5] * math.sin(angle))


@pytest.mark.parametrize(("positions", "told_apart"), [("rotary", True), ("learned", True), ("sinusoidal", True), ("none", False)])
def test_positions_tell_orders_apart(positions, told_apart):
    encoder = TextTransformerEncoder(TEXT, width=16, positions=positions, pool="mean").eval()
    one, other = (encoder({"t": torch.tensor([ids], dtype=torch.int32)}).tokens for ids in ([2, 5, 6, 7], [2, 7, 5, 6]))
    assert torch.allclose(one, other, atol=1e-6) is not told_apart


def test_tokens_behind_the_learned_places_share_the_last():
    encoder = TextTransformerEncoder(TEXT, width=16, positions="learned", length=3).eval()
    assert torch.isfinite(encoder(texts()).tokens).all()
    encoder(texts()).tokens.sum().backward()
    assert encoder.places.weight.grad.abs().sum(dim=1).gt(0).tolist() == [True, True, True]


@pytest.mark.parametrize("plain", [True, False])
def test_both_forms_of_attention_are_the_formula(monkeypatch, plain):
    monkeypatch.setattr(text_transformer, "_plain_products_pay", lambda device: plain)
    called = []
    fused = functional.scaled_dot_product_attention
    monkeypatch.setattr(functional, "scaled_dot_product_attention", lambda *args, **rest: called.append(1) or fused(*args, **rest))
    queries, keys, values = torch.randn(3, 2, 4, 5, 8)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])[:, None, None, :]
    weights = (queries @ keys.transpose(-1, -2) / math.sqrt(8)).masked_fill(~mask, -torch.inf).softmax(-1)
    torch.testing.assert_close(attention(queries, keys, values, mask=mask), weights @ values)
    short = attention(queries.bfloat16(), keys.bfloat16(), values.bfloat16(), mask=mask)
    torch.testing.assert_close(short.float(), weights @ values, rtol=0.05, atol=0.05)
    assert len(called) == (1 if plain else 2)


# ---------------------------------------------------------------- bag of n-grams


@pytest.mark.parametrize("pool", ["mean", "root", "sum"])
def test_text_bag_is_a_dictionary_of_ngrams(pool):
    encoder, batch = TextBagEncoder(TEXT, width=5, ngrams=3, buckets=70, pool=pool, weighted=True).eval(), texts()
    with torch.no_grad():
        encoder.weights.weight[1:].uniform_(0.5, 2.0)
        table = {index: encoder.table.weight[index] * encoder.weights.weight[index] for index in range(40 + 70)}
        wanted = []
        for row in map(torch.Tensor.tolist, rows(batch)):
            found = [table[token] for token in row]
            for size in (2, 3):
                for start in range(len(row) - size + 1):
                    values = [row[start] % prime for prime in PRIMES]
                    for token in row[start + 1 : start + size]:
                        values = [(one * factor + token + 1) % prime for one, factor, prime in zip(values, FACTORS, PRIMES, strict=True)]
                    found.append(table[40 + (values[0] * PRIMES[1] + values[1]) % 70])
            wanted.append(torch.stack(found).sum(0) / len(found) ** {"mean": 1, "root": 0.5, "sum": 0}[pool])
        torch.testing.assert_close(encoder(batch).tokens[:, 0], torch.stack(wanted))


@pytest.mark.parametrize("vocabulary", [100, 30_000, 2_000_000])
def test_hashes_of_ngrams_are_even_and_fit_into_23_bits(vocabulary):
    """A runtime that reckons in float32 answers the same: no step on the way is larger than a sum of these."""
    assert max(PRIMES) * max(FACTORS) + vocabulary < 2**23
    assert MOST_BUCKETS < PRIMES[0] * PRIMES[1] < 2**23
    spec = {"t": InputSpec("t", Kind.TEXT, ("t",), (), "int32", (vocabulary,), ragged=True)}
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(1, vocabulary, (2_000, 64), generator=draw, dtype=torch.int32)
    encoder = TextBagEncoder(spec, ngrams=3, buckets=1_024, width=1)
    codes = encoder.codes(ids, torch.ones_like(ids, dtype=torch.bool)) - vocabulary
    for size in (2, 3):
        part = codes[:, 64 * (size - 1) : 64 * size - size + 1].flatten()
        grams = ids.unfold(1, size, 1).flatten(0, 1)
        _, places = np.unique(grams.numpy(), axis=0, return_index=True)
        counts = torch.bincount(part[places], minlength=1_024)
        assert len(counts) == 1_024
        by_chance = len(places) + len(places) ** 2 / 1_024 - len(places) / 1_024
        assert float(counts.double().square().sum()) < 1.15 * by_chance


def test_ngrams_hear_the_order_of_words():
    ids = [torch.tensor([ids], dtype=torch.int32) for ids in ([2, 5, 6], [2, 6, 5])]
    for ngrams in (1, 2):
        encoder = TextBagEncoder(TEXT, ngrams=ngrams).eval()
        one, other = (encoder({"t": each}).tokens for each in ids)
        assert torch.allclose(one, other) is (ngrams == 1)
    assert len(TextBagEncoder(TEXT, ngrams=1).table.weight) == 40


def test_ngrams_learn_at_a_rate_of_their_own():
    model = nn.ModuleDict({"bag": TextBagEncoder(TEXT, learning_rate_factor=10.0), "head": nn.Linear(64, 2)})
    factor = {parameter: group["learning_rate_factor"] for group in decay_groups(model) for parameter in group["params"]}
    assert factor[model["bag"].table.weight] == 10.0
    assert factor[model["head"].weight] == 1.0


# ---------------------------------------------------------------- what all share


@pytest.mark.parametrize("how", ["mean", "max", "first"])
def test_poolings_look_at_real_tokens_only(how):
    batch, tokens = texts(), torch.randn(4, 7, 3) - 10.0
    real = [tokens[row, :length] for row, length in enumerate(LENGTHS)]
    wanted = {"mean": [x.mean(0) for x in real], "max": [x.amax(0) for x in real], "first": [x[0] for x in real]}[how]
    torch.testing.assert_close(TokenPooling(3, how)(tokens, batch["t_mask"]), torch.stack(wanted))


@pytest.mark.parametrize("make", [TextBagEncoder, TextCnnEncoder, TextRnnEncoder, TextTransformerEncoder])
def test_without_a_mask_zeros_are_padding_and_no_row_is_empty(make):
    encoder, batch = make(TEXT).eval(), texts()
    torch.testing.assert_close(encoder({"t": batch["t"]}).tokens, encoder(batch).tokens)
    assert torch.isfinite(encoder({"t": torch.zeros(2, 3, dtype=torch.int32)}).tokens).all()


@pytest.mark.parametrize("make", [TextBagEncoder, TextCnnEncoder, TextRnnEncoder, TextTransformerEncoder])
def test_dropped_tokens_are_read_as_unknown_while_training(make):
    encoder, batch = make(TEXT, token_dropout=0.5, dropout=0.0), texts()
    ids, mask = encoder.read(batch)
    changed = ids != batch["t"]
    assert changed.any()
    assert ids[changed].unique().tolist() == [1]
    assert mask[changed].all()
    assert torch.equal(encoder.eval().read(batch)[0], batch["t"])


@pytest.mark.parametrize("make", [TextBagEncoder, TextCnnEncoder, TextRnnEncoder, TextTransformerEncoder])
def test_dropout_acts_in_training_only(make):
    encoder, batch = make(TEXT, dropout=0.5), texts()
    assert not torch.equal(encoder(batch).tokens, encoder(batch).tokens)
    encoder.eval()
    assert torch.equal(encoder(batch).tokens, encoder(batch).tokens)


@pytest.mark.parametrize("make", [TextCnnEncoder, TextRnnEncoder, TextTransformerEncoder])
def test_padding_keeps_the_vector_zero(make):
    encoder, batch = make(TEXT), texts()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1)
    for _ in range(2):
        encoder(batch).tokens.square().sum().backward()
        optimizer.step()
    assert encoder.embedding.weight[0].abs().max() == 0


def test_what_is_no_text_is_refused_by_name():
    numbers = InputSpec("n", Kind.NUMBER, ("n",), (1,), "float32")
    with pytest.raises(InputError, match="'n' of kind 'number'"):
        TextCnnEncoder({"n": numbers})
    with pytest.raises(InputError, match="2 inputs: t, n"):
        TextCnnEncoder({**TEXT, "n": numbers})
    with pytest.raises(InputError, match="width is 7"):
        TextRnnEncoder(TEXT, width=7)
    with pytest.raises(InputError, match="4 heads of even width"):
        TextTransformerEncoder(TEXT, width=12, heads=4)
