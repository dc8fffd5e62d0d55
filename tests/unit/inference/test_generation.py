"""Writing: what was kept says the same as reading everything again, and tokens are chosen as was asked."""

from itertools import product

import numpy as np
import pyarrow as pa
import pytest
import torch

from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.tokenizer import MISSING, START, UNKNOWN
from deepseek.data.transforms.tokens import TokensTransform
from deepseek.errors import InputError
from deepseek.fields import Field, Kind
from deepseek.inference.generation import Reader, write
from deepseek.inference.sampling import Sampling, distribution
from deepseek.models.encoders.text import PADDING
from deepseek.models.sequence import SequenceNetwork
from deepseek.tasks.language_modelling import LanguageModellingTask
from deepseek.tasks.model import TaskModel

LETTERS = "abcd "
LENGTH = 6
MODELS = {
    "transformer_xl": {"type": "transformer_xl", "mem_len": 64},
    "transformer_xl, no memory": {"type": "transformer_xl", "mem_len": 0},
    "text_decoder": {"type": "text_decoder", "length": 16},
    "text_decoder, learned": {"type": "text_decoder", "length": 16, "positions": "learned"},
}


def transform_of(*, documents=True):
    made = TokensTransform([Field("text", Kind.TEXT)], documents=documents)
    made.observe(pa.record_batch({"text": [LETTERS]}))
    made.finish()
    return made


def model_of(spec, transform):
    torch.manual_seed(0)
    encoder = {"width": 16, "depth": 2, "heads": 2, "dropout": 0.0, "embedding_scale": 1.0, **spec}
    target = TargetSpec("tokens", ("text",), lengths=transform.lengths())
    network = SequenceNetwork({"text": transform.inputs[0]}, {}, encoder=encoder)
    return TaskModel(network, LanguageModellingTask(target, length=LENGTH, tied=False)).double().eval()


def from_scratch(model, ids):
    """What comes next after all ids, by the one long pass that has nothing kept."""
    encoder = model.network.encoder
    if encoder.remembers:
        seen = ids
    elif encoder.span is None:
        seen = ids[-LENGTH:]
    else:  # as many as a window has; once it is full, from the middle on
        held = 0
        for place in range(len(ids)):
            held = LENGTH // 2 if held == LENGTH else held + 1
            begin = place + 1 - held
        seen = ids[begin:]
    tokens, _ = encoder.extend(torch.tensor([seen]), None)
    return model.head(tokens[:, -1])[0].float().log_softmax(dim=-1)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_kept_says_what_reading_all_of_it_again_says(name):
    transform = transform_of()
    model = model_of(MODELS[name], transform)
    ids = torch.randint(4, 9, (20,), generator=torch.Generator().manual_seed(3)).tolist()
    reader = Reader(model)
    with torch.inference_mode():
        for place, token in enumerate(ids):
            said = reader.read(torch.tensor([[token]]))[0]
            torch.testing.assert_close(said, from_scratch(model, ids[: place + 1]), rtol=1e-5, atol=1e-6)


def test_a_prompt_at_once_is_the_prompt_token_by_token():
    transform = transform_of()
    model = model_of(MODELS["transformer_xl"], transform)
    ids = torch.randint(4, 9, (1, 20), generator=torch.Generator().manual_seed(3))
    one, other = Reader(model), Reader(model)
    with torch.inference_mode():
        at_once = one.read(ids)
        for token in ids.split(1, dim=1):
            last = other.read(token)
    torch.testing.assert_close(at_once, last, rtol=1e-5, atol=1e-6)


def written(name="text_decoder", prompt="ab", *, documents=False, **sampling):
    transform = transform_of(documents=documents)
    return write(model_of(MODELS[name], transform), transform, prompt, sampling=Sampling(**{"tokens": 12, **sampling}))


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_writes_the_same_and_another_something_else(name):
    assert written(name, seed=1) == written(name, seed=1)
    assert len({written(name, seed=seed) for seed in range(5)}) > 1
    assert len(written(name)) == 12
    assert set(written(name, tokens=200)) <= set(LETTERS)


@pytest.mark.parametrize("name", MODELS)
def test_no_temperature_and_one_candidate_and_one_beam_are_greedy(name):
    greedy = written(name, temperature=0.0)
    assert greedy == written(name, top_k=1, seed=9) == written(name, top_p=1e-9, seed=9)


def brute_force(name, tokens, *, documents):
    """The likeliest of all texts of so many tokens, and of all that end before."""
    transform = transform_of(documents=documents)
    model = model_of(MODELS[name], transform)
    barred = {PADDING, UNKNOWN, MISSING}
    start = transform.ids_of("ab")
    best, found = -float("inf"), ""
    with torch.inference_mode():
        for length in range(tokens + 1):
            for text in product(range(4, 9), repeat=length):
                if length < tokens and not documents:
                    continue
                ids, score = list(start), 0.0
                for token in [*text, *([START] if length < tokens else [])]:
                    score += float(from_scratch(model, ids)[token])
                    ids.append(token)
                if score > best:
                    best, found = score, transform.text_of(text)
    assert barred
    return found


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("name", ["transformer_xl", "text_decoder"])
def test_a_beam_wide_enough_finds_the_likeliest_text(name, documents):
    assert written(name, tokens=3, beams=125, documents=documents) == brute_force(name, 3, documents=documents)


def test_a_text_that_ends_is_not_gone_on_with():
    transform = transform_of()
    model = model_of(MODELS["text_decoder"], transform)
    with torch.no_grad():
        model.head.bias[START] = 100.0
    assert write(model, transform, "ab", sampling=Sampling(tokens=5)) == ""
    assert write(model, transform, "ab", sampling=Sampling(tokens=5, beams=3)) == ""
    pieces = transform_of(documents=False)
    assert len(write(model, pieces, "ab", sampling=Sampling(tokens=5))) == 5


def test_the_distribution_is_as_asked():
    log_p = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    assert distribution(log_p, Sampling()).tolist()[0] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert distribution(log_p, Sampling(top_k=2)).tolist()[0] == pytest.approx([4 / 7, 3 / 7, 0, 0])
    assert distribution(log_p, Sampling(top_p=0.7)).tolist()[0] == pytest.approx([4 / 7, 3 / 7, 0, 0])
    assert distribution(log_p, Sampling(top_p=0.71)).tolist()[0] == pytest.approx([4 / 9, 3 / 9, 2 / 9, 0])
    assert distribution(log_p, Sampling(temperature=0.0)).tolist() == [[1, 0, 0, 0]]
    assert distribution(log_p, Sampling(temperature=1e-310)).tolist() == [[1, 0, 0, 0]]
    squared = [p * p / 0.3 for p in (0.4, 0.3, 0.2, 0.1)]
    assert distribution(log_p, Sampling(temperature=0.5)).tolist()[0] == pytest.approx(squared)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"tokens": 0}, "tokens is 0"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"beams": 2, "top_k": 3}, "beams"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, what):
    with pytest.raises(InputError, match=what):
        Sampling(**settings)


@pytest.mark.parametrize(("name", "given"), [("tokens", "5"), ("tokens", 2.5), ("beams", True), ("top_k", 2.5), ("seed", None)])
def test_what_is_counted_is_a_whole_number(name, given):
    with pytest.raises(InputError, match=f"{name} is {given!r}"):
        Sampling(**{name: given})
    assert Sampling(**{name: np.int64(3)})
