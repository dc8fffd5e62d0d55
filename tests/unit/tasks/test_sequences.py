"""Losses and metrics of tokens, tags and spans, by hand."""

import math

import pytest
import torch
from torch.nn import functional

from deepseek.data.batch import Batch
from deepseek.data.targets import TargetSpec
from deepseek.data.targets.tags import are_spans, scheme, spans_of
from deepseek.data.transforms.base import InputSpec
from deepseek.errors import InputError
from deepseek.fields import Kind
from deepseek.models.network import FeatureNetwork
from deepseek.models.sequence import SequenceNetwork
from deepseek.registry import family
from deepseek.tasks.language_modelling import LanguageModellingTask, TiedHead
from deepseek.tasks.model import TaskModel
from deepseek.tasks.sequence_labelling import SequenceLabellingTask
from deepseek.tasks.sequence_metrics import Scheme

LENGTHS = (0, 1, 0, 0, 1, 2)
TOKENS = TargetSpec("tokens", ("text",), lengths=LENGTHS)
TEXT = {"text": InputSpec("text", Kind.TEXT, ("text",), (), "int32", (len(LENGTHS),), ragged=True)}
CLASSES = ("O", *(f"{letter}-{label}" for label in ("LOC", "PER") for letter in "BIES"))
TAGS = TargetSpec("tags", ("tags",), CLASSES, (1,) * len(CLASSES), 3)


def tags(*rows):
    """Codes and mask of rows of tags, padded with tags that must not count."""
    length = max(len(row.split()) for row in rows)
    codes = torch.full((len(rows), length), CLASSES.index("S-PER"))
    mask = torch.zeros((len(rows), length), dtype=torch.bool)
    for place, row in enumerate(rows):
        for word, tag in enumerate(row.split()):
            codes[place, word], mask[place, word] = CLASSES.index(tag), True
    return codes, mask


def measured(name, truth, said, *, weight=None, spec=TAGS):
    metric = family("metric").build(name, spec)
    codes, mask = tags(*truth)
    answers, _ = tags(*said)
    probability = functional.one_hot(answers, len(spec.classes)).float()
    metric.update({"probability": probability}, Batch({}, {"target": codes, "target_mask": mask}, weight))
    return metric


def test_padding_counts_in_no_loss():
    task, out = SequenceLabellingTask(TAGS), torch.randn(2, 4, len(CLASSES))
    codes, mask = tags("O B-PER I-PER O", "B-LOC")
    total, count = task.loss(out, Batch({}, {"target": codes, "target_mask": mask}))
    rows = [
        functional.cross_entropy(out[0], codes[0], reduction="sum"),
        functional.cross_entropy(out[1, :1], codes[1, :1], reduction="sum"),
    ]
    torch.testing.assert_close(total, sum(rows))
    assert count == 5
    weighted = task.loss(out, Batch({}, {"target": codes, "target_mask": mask}, torch.tensor([1.0, 3.0])))
    torch.testing.assert_close(weighted[0], rows[0] + 3 * rows[1])
    assert weighted[1] == 7


@pytest.mark.parametrize(
    ("row", "spans"),
    [
        ("B-PER I-PER O B-LOC", [(0, 2, "PER"), (3, 4, "LOC")]),
        ("B-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("I-PER I-PER", [(0, 2, "PER")]),
        ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),
        ("B-PER I-PER E-PER S-LOC", [(0, 3, "PER"), (3, 4, "LOC")]),
        ("B-PER E-PER I-PER", [(0, 2, "PER"), (2, 3, "PER")]),
        ("S-PER E-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("E-PER E-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("O O", []),
    ],
)
def test_spans_are_read_as_the_conference_read_them(row, spans):
    assert spans_of(row.split()) == spans
    codes, mask = tags(row)
    found = Scheme.of(CLASSES).spans(codes, mask)
    labels = Scheme.of(CLASSES).labels
    starts = found.starts[0].nonzero().flatten().tolist()
    assert [(start, int(found.last[0, start]) + 1, labels[found.label[0, start]]) for start in starts] == spans


@pytest.mark.parametrize("row", ["B-PER I-PER L-PER U-LOC", "U-PER L-PER", "B-PER L-PER I-PER", "L-LOC L-LOC O I-PER", "B-PER U-PER I-PER"])
def test_the_letters_of_bilou_are_read_as_those_of_iobes(row):
    classes = scheme(dict.fromkeys(("O", "B-PER", "L-PER", "U-LOC"), 1))
    other = row.replace("L-", "E-").replace("U-", "S-")
    assert are_spans(classes)
    assert spans_of(row.split()) == spans_of(other.split())
    codes = torch.tensor([[classes.index(tag) for tag in row.split()]])
    mine, theirs = Scheme.of(classes).spans(codes, torch.ones_like(codes, dtype=torch.bool)), Scheme.of(CLASSES).spans(*tags(other))
    for one, same in ((mine.starts, theirs.starts), (mine.last, theirs.last)):
        torch.testing.assert_close(one, same)


def test_span_f1_counts_whole_spans_over_all_labels():
    truth = ["B-PER I-PER O B-LOC", "B-LOC O", "O O O"]
    said = ["B-PER I-PER O O", "B-LOC I-LOC", "O B-PER O"]
    # right: PER 0-2. Said: PER, LOC 0-2 (too long), PER. True: PER, LOC, LOC
    metric = measured("span_f1", truth, said)
    assert metric.compute() == pytest.approx(2 * 1 / (3 + 3))
    assert metric.by_column() == pytest.approx({"LOC": 0.0, "PER": 2 * 1 / (2 + 1)})
    assert measured("span_f1", truth, truth).compute() == 1.0
    assert measured("span_f1", ["O O"], ["O O"]).compute() == 0.0
    heavy = measured("span_f1", truth, said, weight=torch.tensor([3.0, 1.0, 1.0]))
    assert heavy.compute() == pytest.approx(2 * 3 / ((3 + 1 + 1) + (3 * 2 + 1)))


def test_span_f1_is_that_of_seqeval():
    metrics = pytest.importorskip("seqeval.metrics")
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        lengths = torch.randint(1, 12, (6,), generator=generator).tolist()
        rows = [[[CLASSES[int(torch.randint(len(CLASSES), (1,), generator=generator))] for _ in range(n)] for n in lengths] for _ in "ab"]
        truth, said = ([" ".join(row) for row in side] for side in rows)
        assert measured("span_f1", truth, said).compute() == pytest.approx(metrics.f1_score(*rows), abs=1e-12)


def test_token_accuracy_counts_words():
    assert measured("token_accuracy", ["O O B-PER", "O"], ["O B-PER B-PER", "O"]).compute() == pytest.approx(3 / 4)


def test_tags_that_are_no_spans_are_measured_by_word():
    plain = TargetSpec("tags", ("tags",), ("DET", "NOUN"), (1, 1), 3)
    assert SequenceLabellingTask(plain).monitor == "token_accuracy"
    assert SequenceLabellingTask(TAGS).monitor == "span_f1"
    with pytest.raises(InputError, match="no spans"):
        family("metric").build("span_f1", plain)


def test_bits_and_perplexity_by_hand():
    log_probability = torch.tensor([[[0.1, 0.1, 0.1, 0.1, 0.5, 0.1], [0.1, 0.1, 0.1, 0.1, 0.35, 0.25]]]).log().repeat(2, 1, 1)
    target, mask = torch.tensor([[4, 5], [2, 0]]), torch.tensor([[True, True], [True, False]])
    bits, perplexity = (family("metric").build(name, TOKENS) for name in ("bits_per_character", "perplexity"))
    for metric in (bits, perplexity):
        metric.update({"log_probability": log_probability}, Batch({}, {"target": target, "target_mask": mask}))
    nats = -(math.log(0.5) + math.log(0.25) + math.log(0.1))
    assert bits.compute() == pytest.approx(nats / math.log(2) / 3)  # one character, two, and a beginning, which is none
    assert perplexity.compute() == pytest.approx(math.exp(nats / 3))


def test_an_answer_that_is_no_number_makes_no_metric():
    nothing = {"log_probability": torch.full((1, 2, 6), torch.nan)}
    for name in ("bits_per_character", "perplexity"):
        metric = family("metric").build(name, TOKENS)
        metric.update(nothing, Batch({}, {"target": torch.tensor([[4, 5]])}))
        assert math.isnan(metric.compute())


def test_tied_weights_are_saved_once_and_learn_from_both_sides():
    def model(**settings):
        torch.manual_seed(0)
        network = SequenceNetwork(TEXT, {}, encoder={"type": "text_decoder", "width": 8, "depth": 1, "dropout": 0.0})
        return TaskModel(network, LanguageModellingTask(TOKENS, length=4, **settings))

    tied, loose = model(), model(tied=False)
    assert isinstance(tied.head, TiedHead)
    assert len(loose.state_dict()) == len(tied.state_dict()) + 1
    ids = torch.tensor([[4, 5, 4]])
    torch.testing.assert_close(tied({"text": ids}) - tied.head.bias, tied.network({"text": ids}) @ tied.network.encoder.embedding.weight.T)
    tied({"text": ids})[0, 0, 1].backward()
    assert tied.network.encoder.embedding.weight.grad[1].abs().sum() > 0, "a token that was not read learns as one that may be written"


def test_a_network_that_sees_what_it_predicts_is_refused():
    task = LanguageModellingTask(TOKENS)
    with pytest.raises(InputError, match="sees the tokens"):
        TaskModel(SequenceNetwork(TEXT, {}, encoder={"type": "text_rnn", "width": 8}), task)
    with pytest.raises(InputError, match="reads 8 at once"):
        TaskModel(SequenceNetwork(TEXT, {}, encoder={"type": "text_decoder", "length": 8}), task)
    with pytest.raises(InputError, match="text_sequence"):
        TaskModel(family("model").build("text_cnn", TEXT, {}), task)
    assert issubclass(SequenceNetwork, FeatureNetwork)


def test_label_smoothing_is_for_training_alone():
    plain, smooth = LanguageModellingTask(TOKENS), LanguageModellingTask(TOKENS, label_smoothing=0.2)
    out, batch = torch.randn(1, 2, 6, requires_grad=True), Batch({}, {"target": torch.tensor([[4, 5]])})
    assert not torch.isclose(plain.loss(out, batch)[0], smooth.loss(out, batch)[0])
    torch.testing.assert_close(plain.loss(out.detach(), batch)[0], smooth.loss(out.detach(), batch)[0])
