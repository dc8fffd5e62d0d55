"""Encoders that read from left to right: attention by distance, memory, and reading on."""

import numpy as np
import pytest
import torch

from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.encoders.attention import BASE
from deepseek.models.encoders.text_decoder import TextDecoderEncoder
from deepseek.models.encoders.transformer_xl import TransformerXlEncoder

VOCABULARY = 30
TEXT = {"text": InputSpec("text", Kind.TEXT, ("text",), (), "int32", (VOCABULARY,), ragged=True)}
SMALL = {"width": 8, "depth": 3, "heads": 2, "dropout": 0.0, "pool": "none"}


def transformer_xl(**settings) -> TransformerXlEncoder:
    torch.manual_seed(0)
    made = TransformerXlEncoder(TEXT, **{**SMALL, "embedding_scale": 1.0, **settings})
    with torch.no_grad():
        for parameter in made.parameters():  # nothing must be zero, or a mistake in it would not be seen
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.5)
    return made.double().eval()


def decoder(**settings) -> TextDecoderEncoder:
    torch.manual_seed(0)
    return TextDecoderEncoder(TEXT, **{**SMALL, "embedding_scale": 1.0, **settings}).double().eval()


def ids_of(rows: int, length: int) -> torch.Tensor:
    return torch.randint(4, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))


def window(ids: torch.Tensor, lane: list[int], lanes: int, *, first: bool) -> dict[str, torch.Tensor]:
    return {
        "text": ids.int(),
        "text_mask": torch.ones(ids.shape, dtype=torch.bool),
        "text_lane": torch.tensor(lane)[:, None] == torch.arange(lanes),
        "text_first": torch.full((len(ids),), first),
    }


def norm(x: np.ndarray, layer: torch.nn.LayerNorm) -> np.ndarray:
    centred = x - x.mean()
    return centred / np.sqrt((centred**2).mean() + layer.eps) * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def gelu(x: np.ndarray) -> np.ndarray:
    return torch.nn.functional.gelu(torch.from_numpy(x)).numpy()


def naive(encoder: TransformerXlEncoder, ids: np.ndarray, spans: list[int]) -> np.ndarray:
    """The formulas of Dai et al. 2019, section 3.3, a pair of tokens at a time: token `i` sees the places from `spans[i]` to `i`."""
    numbers = {name: value.detach().numpy() for name, value in encoder.named_parameters()}
    width, (heads, _, head) = encoder.width, numbers["layers.0.attention.content"].shape
    x = numbers["embedding.weight"][ids]

    def vector(distance: int) -> np.ndarray:
        rate = 1.0 / BASE ** (np.arange(0, width, 2) / width)
        return np.concatenate([np.sin(distance * rate), np.cos(distance * rate)])

    for place, layer in enumerate(encoder.layers):
        part = {name.removeprefix(f"layers.{place}."): value for name, value in numbers.items() if name.startswith(f"layers.{place}.")}
        into = np.stack([norm(row, layer.attention_norm) for row in x]) if layer.pre_norm else x
        queries, (keys, values) = (
            into @ part["attention.queries.weight"].T,
            np.split(into @ part["attention.keys_values.weight"].T, 2, axis=1),
        )
        seen = np.zeros_like(x)
        for i in range(len(ids)):
            for h in range(heads):
                own = slice(h * head, (h + 1) * head)
                scores = []
                for j in range(spans[i], i + 1):
                    turned = (part["attention.far.weight"] @ vector(i - j))[own]
                    content = (queries[i, own] + part["attention.content"][h, 0]) @ keys[j, own]
                    scores.append((content + (queries[i, own] + part["attention.distance"][h, 0]) @ turned) / np.sqrt(head))
                weights = np.exp(np.array(scores) - max(scores))
                seen[i, own] = weights / weights.sum() @ values[spans[i] : i + 1, own]
        out = seen @ part["attention.out.weight"].T

        def feed(row: np.ndarray, part: dict = part) -> np.ndarray:
            return part["feed_out.weight"] @ gelu(part["feed_in.weight"] @ row + part["feed_in.bias"]) + part["feed_out.bias"]

        if layer.pre_norm:
            x = x + out
            x = np.stack([row + feed(norm(row, layer.feed_norm)) for row in x])
        else:
            x = np.stack([norm(row, layer.attention_norm) for row in x + out])
            x = np.stack([norm(row + feed(row), layer.feed_norm) for row in x])
    return np.stack([norm(row, encoder.norm) for row in x]) if isinstance(encoder.norm, torch.nn.LayerNorm) else x


@pytest.mark.parametrize("how", ["pre", "post"])
def test_attention_by_distance_is_that_of_the_article(how):
    encoder, ids = transformer_xl(norm=how), ids_of(1, 7)
    tokens, _ = encoder.extend(ids, None)
    np.testing.assert_allclose(tokens[0].detach(), naive(encoder, ids[0].numpy(), [0] * 7), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mem_len", [20, 4, 3])
def test_windows_with_memory_see_what_one_long_attention_sees(mem_len):
    """Window by window, with what each left behind: the whole text attended to at once, each token from `mem_len` before its window on."""
    encoder, ids, size = transformer_xl(mem_len=mem_len), ids_of(1, 12), 4
    tokens, past = [], None
    for start in range(0, 12, size):
        read, past = encoder.extend(ids[:, start : start + size], past)
        tokens.append(read[0])
    spans = [max(0, i - i % size - mem_len) for i in range(12)]
    expected = naive(encoder, ids[0].numpy(), spans)
    np.testing.assert_allclose(torch.cat(tokens).detach(), expected, rtol=1e-5, atol=1e-6)
    alone = naive(encoder, ids[0].numpy(), [i - i % size for i in range(12)])
    assert np.abs(alone - expected)[size:].max() > 1e-3, "without memory the numbers would be others"


def test_lanes_are_remembered_as_one_text_each():
    """The forward pass of training windows is that of reading on, also where a batch comes in pieces and lanes in another order."""
    encoder, ids = transformer_xl(mem_len=5).train(), ids_of(3, 12)
    whole, past = [], None
    for start in range(0, 12, 3):
        read, past = encoder.extend(ids[:, start : start + 3], past)
        whole.append(read)
    for start in range(0, 12, 3):
        for lanes in ([2, 0], [1]):
            tokens = encoder(window(ids[lanes, start : start + 3], lanes, 3, first=start == 0)).tokens
            torch.testing.assert_close(tokens, whole[start // 3][lanes])


def test_no_gradient_goes_back_into_the_memory():
    encoder, ids = transformer_xl(mem_len=8).train(), ids_of(1, 8)
    first = encoder(window(ids[:, :4], [0], 1, first=True)).tokens
    second = encoder(window(ids[:, 4:], [0], 1, first=False)).tokens
    only = torch.autograd.grad(second.sum(), encoder.embedding.weight, retain_graph=True)[0]
    touched = {int(number) for number in only.abs().sum(dim=1).nonzero()}
    assert touched <= set(ids[0, 4:].tolist())
    assert set(ids[0, :4].tolist()) - set(ids[0, 4:].tolist()), "the first window has tokens of its own"
    first.sum().backward()  # what was remembered in place must not have broken the first window's graph


def test_a_lane_that_begins_forgets():
    encoder, ids = transformer_xl(mem_len=8).train(), ids_of(1, 8)
    fresh = encoder(window(ids[:, 4:], [0], 1, first=True)).tokens
    encoder(window(ids[:, :4], [0], 1, first=True))
    torch.testing.assert_close(encoder(window(ids[:, 4:], [0], 1, first=True)).tokens, fresh)
    encoder(window(ids[:, :4], [0], 1, first=True))
    assert not torch.allclose(encoder(window(ids[:, 4:], [0], 1, first=False)).tokens, fresh)


def test_measuring_leaves_the_memory_of_training_alone():
    encoder, ids = transformer_xl(mem_len=8).train(), ids_of(2, 8)
    encoder(window(ids[:1, :4], [0], 1, first=True))
    before = {name: tensor.clone() for name, tensor in encoder.carried(1).items()}
    encoder.eval()(window(ids[1:, :4], [0], 1, first=True))
    assert encoder.carried(1).keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.carried(1).items())


def test_what_is_carried_goes_on():
    """Another encoder that takes up weights and memory says the same of the next window."""
    first, second, ids = transformer_xl(mem_len=8).train(), transformer_xl(mem_len=8).train(), ids_of(1, 8)
    first(window(ids[:, :4], [0], 1, first=True))
    second.carry(first.carried(1))
    expected = first(window(ids[:, 4:], [0], 1, first=False)).tokens
    torch.testing.assert_close(second(window(ids[:, 4:], [0], 1, first=False)).tokens, expected, rtol=0, atol=0)


def test_without_memory_nothing_is_remembered():
    encoder, ids = transformer_xl(mem_len=0).train(), ids_of(1, 8)
    assert not encoder.remembers
    encoder(window(ids[:, :4], [0], 1, first=True))
    alone = encoder(window(ids[:, 4:], [0], 1, first=False)).tokens
    torch.testing.assert_close(alone, encoder.extend(ids[:, 4:], None)[0])


@pytest.mark.parametrize("make", [transformer_xl, decoder, lambda: decoder(positions="learned")])
def test_reading_on_is_reading_at_once(make):
    encoder, ids = make(), ids_of(2, 9)
    whole, _ = encoder.extend(ids, None)
    read, past = encoder.extend(ids[:, :4], None)
    parts = [read]
    for place in range(4, 9):
        read, past = encoder.extend(ids[:, place : place + 1], past)
        parts.append(read)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("make", [transformer_xl, decoder])
def test_no_token_sees_what_comes_after_it(make):
    encoder, ids = make(), ids_of(1, 9)
    other = ids.clone()
    other[:, 5:] = ids_of(1, 20)[:, -4:]
    one, two = encoder.extend(ids, None)[0], encoder.extend(other, None)[0]
    torch.testing.assert_close(one[:, :5], two[:, :5])
    assert not torch.allclose(one[:, 5:], two[:, 5:])


@pytest.mark.parametrize("make", [TextDecoderEncoder, TransformerXlEncoder])
def test_what_branches_add_at_the_start_does_not_grow_with_their_number(make):
    spread = {}
    for depth in (2, 18):
        torch.manual_seed(0)
        encoder = make(TEXT, width=32, depth=depth, heads=2, dropout=0.0, pool="none").eval()
        encoder.norm.register_forward_pre_hook(lambda _, given, depth=depth: spread.update({depth: float(given[0].detach().std())}))
        encoder.extend(ids_of(4, 12), None)
    assert spread[18] < 1.5 * spread[2]  # over 3 times, where each branch is as large whatever their number


def test_layers_normalised_behind_their_sums_keep_whole_branches():
    torch.manual_seed(0)
    encoder = TransformerXlEncoder(TEXT, width=32, depth=8, heads=2, norm="post")
    for layer in encoder.layers:
        assert float(layer.feed_out.weight.detach().std()) == pytest.approx((3 * 128) ** -0.5, rel=0.1)


def test_a_decoder_says_how_much_it_reads():
    with pytest.raises(InputError, match="reads 8 at once"):
        decoder(length=8).extend(ids_of(1, 9), None)


@pytest.mark.parametrize(("make", "settings"), [(transformer_xl, {"heads": 3}), (decoder, {"width": 6, "heads": 2})])
def test_widths_that_do_not_fit_are_refused(make, settings):
    with pytest.raises(InputError, match="width is"):
        make(**settings)
