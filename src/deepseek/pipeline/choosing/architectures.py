"""Which network for what: one table from the kinds of inputs, their sizes and the rows to a network, its reason and its alternatives.

`model: auto` takes the first row that applies, `deepseek recommend` prints it, and the guide on models shows the whole table; a test keeps
the guide equal to it. A family of networks comes in as one row more. A row's network is changed by measurements on several data sets only
(`docs/benchmarks.md`); every reason says where it was measured, or who says so. The alternatives are what to try besides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind
from deepseek.models.presets.table import TABM_EMBEDDING
from deepseek.registry import Spec, family

SMALL_IMAGE = 96
"""Pixels of the longer side up to which a compact network is taken."""
Chosen = tuple[dict[str, Any], str]
"""A model's whole spec, and why it is chosen."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What there is to learn from.

    Attributes:
        inputs: What the network meets.
        target: What is predicted.
        rows: The training rows.
        columns: How many columns of the table are inputs, before any is turned into several numbers.
    """

    inputs: Mapping[str, InputSpec]
    target: TargetSpec
    rows: int
    columns: int

    def of(self, kind: Kind) -> list[InputSpec]:
        """Return the inputs of a kind."""
        return [spec for spec in self.inputs.values() if spec.kind is kind]

    @property
    def senses(self) -> frozenset[str]:
        """The kinds of inputs there are: `image`, `volume`, `text`, `audio`, `series`, and `table` for everything else.

        Where the words of a text begin is an input of its own, and part of the text.
        """
        alone = {Kind.IMAGE, Kind.VOLUME, Kind.TEXT, Kind.AUDIO, Kind.SERIES}
        return frozenset(spec.kind.value if spec.kind in alone else "table" for spec in self.inputs.values() if spec.kind is not Kind.ID)

    @property
    def forecasts(self) -> bool:
        """Whether the rows are windows of series whose next steps are asked for."""
        return any(spec.horizon for spec in self.inputs.values())


@dataclass(frozen=True)
class Evidence:
    """What a reason rests on.

    Attributes:
        said: `measured`, a paper's authors and year, or whoever else says so.
        link: Where: a page of the documentation beside the guide on models, or an address.
    """

    said: str
    link: str


@dataclass(frozen=True)
class Alternative:
    """A network to try besides.

    Attributes:
        model: Its spec; where keys are needed that only the user knows, none.
        shown: How it is named.
        where: The case it is for.
    """

    model: Spec | None
    shown: str
    where: str


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes:
        inputs: The inputs it is for, in words.
        tasks: The tasks it is for.
        applies: Whether it is for a situation; the first row of which this is so counts.
        choose: The model and the reason.
        network: The model, in words.
        why: The reason, in words, whatever the sizes.
        evidence: What the reason rests on.
        alternatives: What to try besides.
    """

    inputs: str
    tasks: tuple[str, ...]
    applies: Callable[[Situation], bool]
    choose: Callable[[Situation], Chosen]
    network: str
    why: str
    evidence: tuple[Evidence, ...]
    alternatives: tuple[Alternative, ...]


def architecture_of(situation: Situation) -> Architecture:
    """Return the row of the table that applies."""
    return next(row for row in ARCHITECTURES if row.applies(situation))


def _bag(situation: Situation, *, rate: float) -> dict[str, Any]:
    """Return a bag of n-grams, with room for those that so many texts may have, and narrow: wider vectors learnt the rows by heart."""
    target = situation.target
    return {
        "type": "text_bag",
        "width": min(max(len(target.classes), len(target.columns), 2), 16),
        "ngrams": 3,
        "buckets": 1 << min(max(math.ceil(math.log2(64 * max(situation.rows, 1))), 15), 20),
        "pool": "root",
        "weighted": True,
        "embedding_scale": 0.05,
        "learning_rate_factor": rate,
    }


def _always(model: Spec, reason: str) -> Callable[[Situation], Chosen]:
    """Return a choice that hangs on no size."""
    return lambda _: (family("model").validate(model), reason)


def _series_model(situation: Situation) -> Chosen:
    """Take the linear network, and say which columns it is blind to: who named them under `data.known` would not guess it."""
    others = dict.fromkeys(name for spec in situation.inputs.values() for name in spec.columns if name not in situation.target.columns)
    columns = [name for name in others if not any(name.startswith(f"{other}_") for other in others)]  # a time is also its hour, day, year
    blind = f"; {', '.join(columns)}: not looked at, as series_rnn and tft would" if columns else ""
    return family("model").validate("dlinear"), f"two matrices from past to future, which larger networks have to beat first{blind}"


def _sound_model(situation: Situation) -> Chosen:
    reason = f"sounds and {situation.rows:,} training rows: a compact network over spectrograms"
    return family("model").validate({"type": "audio_cnn"}), reason


def _row_series_model(situation: Situation) -> Chosen:
    reason = f"a series a row and {situation.rows:,} training rows: convolutions that see twice as far in each block"
    return family("model").validate({"type": "network"}), reason


def _senses_model(situation: Situation) -> Chosen:
    first, what = (Kind.AUDIO, "sounds") if "audio" in situation.senses else (Kind.SERIES, "series")
    beside = sorted({spec.kind.value for spec in situation.inputs.values() if spec.kind is not first}) or [f"other {what}"]
    return family("model").validate({"type": "network"}), f"{what} beside {', '.join(beside)}: each sense by its usual encoder"


def _text_model(situation: Situation) -> Chosen:
    reason = f"texts and {situation.rows:,} training rows: n-grams of pieces of words"
    return family("model").validate(_bag(situation, rate=10.0)), reason


def _mixed_model(situation: Situation) -> Chosen:
    """Encode each kind by what it has alone; behind pictures a linear layer, beside a table an ensemble as tables have it."""
    table, images = "table" in situation.senses, situation.of(Kind.IMAGE)
    encoders: dict[str, Any] = {Kind.TEXT.value: _bag(situation, rate=10.0 if images else 2.0)}
    if images:
        small = all(_longer_side(spec) <= SMALL_IMAGE for spec in images)
        cnn = {"type": "cnn", "channels": [32, 64, 128, 256], "blocks": [0, 1, 0, 1], "downsample": "pool_first"}
        encoders[Kind.IMAGE.value] = cnn if small else {"type": "resnet", "depth": 18}
    if table:
        encoders["table"] = {"type": "table", "numbers": TABM_EMBEDDING, "one_hot": 100, "learning_rate_factor": 5.0}
    ensemble = {"type": "tabm", "members": 16, "depth": 2, "width": 128, "dropout": 0.15, "shared_dropout": True}
    spec = family("model").validate({"type": "network", "encoders": encoders, "trunk": "identity" if images else ensemble})
    beside = " and ".join([*(["a table"] if table else []), *(["images"] if images else [])])
    behind = "joined by a linear layer" if images else "joined by TabM, an ensemble that shares its weights"
    return spec, f"texts beside {beside}: n-grams of pieces of words, {behind}"


def _image_model(situation: Situation) -> Chosen:
    images = situation.of(Kind.IMAGE)
    height, width = max(images, key=_longer_side).shape[:2]
    beside = " beside a table" if len(situation.inputs) > len(images) else ""
    if max(height, width) <= SMALL_IMAGE:
        return family("model").validate({"type": "cnn"}), f"images of {height}×{width} pixels{beside}: a compact residual network"
    return family("model").validate({"type": "resnet", "depth": 18}), f"images of {height}×{width} pixels{beside}: ResNet-18"


def _table_model(situation: Situation) -> Chosen:
    held = f"{situation.columns} column{'' if situation.columns == 1 else 's'}"
    spec = family("model").validate({"type": "tabm"})
    return spec, f"a table of {held} and {situation.rows:,} training rows: TabM, an ensemble that shares its weights"


def _longer_side(image: InputSpec) -> int:
    return max(image.shape[:2])


def _is_small_image(situation: Situation) -> bool:
    images = situation.of(Kind.IMAGE)
    return bool(images) and all(_longer_side(spec) <= SMALL_IMAGE for spec in images)


def _measured(section: str) -> Evidence:
    """Return a section of the page of benchmarks, which holds figures."""
    return Evidence("measured", f"../benchmarks.md#{section}")


_ANY = ("binary", "multiclass", "multilabel", "regression")
_PUBLIC_TEXTS = Alternative(None, "`text_pretrained`", "public weights may be used: fewer rows do, and each costs more")
_PUBLIC_IMAGES = Alternative(None, "`image_timm` with `pretrained`", "public weights may be used: few images, of things as in photographs")

ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture(
        "steps of series over time",
        ("forecasting",),
        lambda it: it.forecasts,
        _series_model,
        "`dlinear`",
        "on nine public tables the Transformers published before it did not reach it; it looks at the targets' own past alone",
        (_measured("forecasting"), Evidence("Zeng et al., 2023", "https://arxiv.org/abs/2205.13504")),
        (
            Alternative("nlinear", "`nlinear`", "the level moves to where it never was in training"),
            Alternative("series_rnn", "`series_rnn`", "other columns say what comes, or what is known ahead does"),
            Alternative("tft", "`tft`", "the same, series are many, and it is to be seen what was looked at"),
        ),
    ),
    Architecture(
        "one long text",
        ("language_modelling",),
        lambda it: it.target.kind == "tokens",
        _always("text_decoder", "a decoder of the usual kind: four blocks, 128 wide"),
        "`text_decoder`, four blocks, 128 wide",
        "the usual kind, as small as the one that nanoGPT trains on a processor",
        (
            Evidence("Radford et al., 2019", "https://openai.com/index/better-language-models/"),
            Evidence("nanoGPT", "https://github.com/karpathy/nanoGPT"),
        ),
        (Alternative("transformer_xl", "`transformer_xl`", "what was read long before counts: it remembers from window to window"),),
    ),
    Architecture(
        "texts as words",
        ("sequence_labelling",),
        lambda it: it.target.kind == "tags",
        _always(
            {"type": "text_sequence", "encoder": {"type": "text_rnn", "width": 200, "dropout": 0.5}},
            "a vector for each word: a recurrent network in both directions",
        ),
        "`text_sequence`: `text_rnn` in both directions",
        "a word's label hangs on the words on both sides of it, and both are read",
        (Evidence("Huang et al., 2015", "https://arxiv.org/abs/1508.01991"),),
        (
            Alternative(
                {"type": "text_sequence", "encoder": "text_transformer"},
                "`text_sequence` with `text_transformer`",
                "words far apart belong together, and rows are very many",
            ),
            Alternative(None, "`text_sequence` with `text_pretrained`", "public weights may be used: fewer rows do, and each costs more"),
        ),
    ),
    Architecture(
        "images with boxes",
        ("detection",),
        lambda it: it.target.kind == "boxes",
        _always({"type": "detector", "width": 0.5}, "boxes in pictures: a detector, half as wide as its paper's small one"),
        "`detector`, width 0.5",
        "the one family for boxes; half as wide as its paper's small one, as images are mostly few",
        (Evidence("Ge et al., 2021", "https://arxiv.org/abs/2107.08430"),),
        (Alternative("detector", "`detector`, width 1", "images are many, and time is no matter"),),
    ),
    Architecture(
        "volumes with masks",
        ("segmentation",),
        lambda it: it.target.kind == "mask" and "volume" in it.senses,
        _always("unet3d", "masks of volumes: a U-Net of three dimensions"),
        "`unet3d`",
        "what is near in any direction says what a place is, and outlines come across at full size",
        (Evidence("Çiçek et al., 2016", "https://arxiv.org/abs/1606.06650"),),
        (Alternative({"type": "unet3d", "attention_gates": True}, "`unet3d` with `attention_gates`", "what is looked for is small"),),
    ),
    Architecture(
        "images with masks",
        ("segmentation",),
        lambda it: it.target.kind == "mask",
        _always("unet", "masks of images: a U-Net"),
        "`unet`",
        "what is near says what a place is, and outlines come across at full size",
        (Evidence("Ronneberger et al., 2015", "https://arxiv.org/abs/1505.04597"),),
        (Alternative({"type": "unet", "attention_gates": True}, "`unet` with `attention_gates`", "what is looked for is small"),),
    ),
    Architecture(
        "sounds",
        _ANY,
        lambda it: it.senses == {"audio"} and len(it.inputs) == 1,
        _sound_model,
        "`audio_cnn`",
        "networks for images do well on spectrograms; this one is compact",
        (Evidence("Hershey et al., 2017", "https://arxiv.org/abs/1609.09430"),),
        (Alternative("audio_rnn", "`audio_rnn`", "the order of what is heard decides"),),
    ),
    Architecture(
        "a series of numbers in each row",
        _ANY,
        lambda it: it.senses == {"series"} and len(it.inputs) == 1,
        _row_series_model,
        "`network` with `series_cnn`",
        "a few blocks see a long stretch, and all steps are reckoned at once",
        (Evidence("Bai et al., 2018", "https://arxiv.org/abs/1803.01271"),),
        (
            Alternative(
                {"type": "network", "encoders": {"series": {"type": "series_rnn", "cell": "gru"}}},
                "`network` with `series_rnn`",
                "series are short, and what came long before decides",
            ),
        ),
    ),
    Architecture(
        "several sounds or series, or one beside anything else",
        _ANY,
        lambda it: bool({"audio", "series"} & it.senses),
        _senses_model,
        "`network`, each sense by its usual encoder",
        "no sense has to be there in every row",
        (Evidence("tested", "several-senses.md#what-is-missing"),),
        (
            Alternative({"type": "network", "fusion": "gated"}, "`network` with `gated`", "which sense is to be trusted differs by row"),
            Alternative(
                {"type": "network", "fusion": "cross_attention"},
                "`network` with `cross_attention`",
                "one sense says where another has to be looked at",
            ),
        ),
    ),
    Architecture(
        "texts",
        _ANY,
        lambda it: it.senses == {"text"},
        _text_model,
        "`text_bag` of pieces of words, n-grams of up to three",
        "quick; better than logistic regression on TF-IDF on two of three public sets, and as good on the third",
        (_measured("texts"), Evidence("Joulin et al., 2017", "https://arxiv.org/abs/1607.01759")),
        (
            Alternative("text_cnn", "`text_cnn`", "short texts in which a phrase decides wherever it stands"),
            Alternative("text_rnn", "`text_rnn`", "the order of words decides, and rows are many"),
            Alternative("text_transformer", "`text_transformer`", "words far apart belong together, and rows are very many"),
            _PUBLIC_TEXTS,
        ),
    ),
    Architecture(
        "texts and images, with a table or without",
        _ANY,
        lambda it: {"text", "image"} <= it.senses,
        _mixed_model,
        "`network`: `text_bag`, `cnn` (above 96 pixels `resnet`), `table`, a linear layer",
        "each sense is read by what it has alone in this table, or by what is like it",
        (_measured("few-images"), _measured("texts")),
        (_PUBLIC_TEXTS, _PUBLIC_IMAGES),
    ),
    Architecture(
        "texts beside a table",
        _ANY,
        lambda it: "text" in it.senses,
        _mixed_model,
        "`network`: `text_bag`, `table`, joined by `tabm`",
        "n-grams come to the ensemble that tables have",
        (_measured("texts"), _measured("tables")),
        (Alternative("text_cnn", "`text_cnn`", "the table says little and the texts are short"), _PUBLIC_TEXTS),
    ),
    Architecture(
        "images up to 96 pixels, with a table or without",
        _ANY,
        _is_small_image,
        _image_model,
        "`cnn`",
        "a compact residual network: minutes on a processor for the 60,000 images of Fashion-MNIST",
        (_measured("images"), _measured("few-images")),
        (
            Alternative("resnet", "`resnet`", "images are many, and time is no matter"),
            _PUBLIC_IMAGES,
            Alternative(None, "`keras`", "a Keras model is there already, or `build_deepseek_model` is asked for"),
        ),
    ),
    Architecture(
        "larger images, with a table or without",
        _ANY,
        lambda it: "image" in it.senses,
        _image_model,
        "`resnet`, depth 18",
        "the smallest of its family",
        (Evidence("He et al., 2015", "https://arxiv.org/abs/1512.03385"),),
        (
            Alternative({"type": "resnet", "depth": 50}, "`resnet`, depth 50", "images are many"),
            Alternative("efficientnet", "`efficientnet`", "the bundle has to be small"),
            _PUBLIC_IMAGES,
        ),
    ),
    Architecture(
        "a table; points in time in it, and what was made of a series or of related tables, are columns of it",
        _ANY,
        lambda _: True,
        _table_model,
        "`tabm`",
        "no worse than gradient boosting on three public tables, from a thousand rows to tens of thousands",
        (_measured("tables"), Evidence("Gorishniy et al., 2024", "https://arxiv.org/abs/2410.24210")),
        (
            Alternative("wide_deep", "`wide_deep`", "single combinations of categories decide: users and items, clicks and purchases"),
            Alternative("mlp", "`mlp`", "answers have to be as quick as can be"),
            Alternative("residual", "`residual`", "many rows and many columns"),
        ),
    ),
)
"""Every row, the first that applies counting."""


def architectures_table() -> str:
    """Return the table as it stands in the guide, in Markdown."""
    lines = ["| inputs | network | why | besides, where |", "|---|---|---|---|"]
    for row in ARCHITECTURES:
        besides = "; ".join(f"{other.shown}: {other.where}" for other in row.alternatives)
        tasks = "" if row.tasks == _ANY else f" ({', '.join(row.tasks)})"
        rests = ", ".join(f"[{one.said}]({one.link})" for one in row.evidence)
        lines.append(f"| {row.inputs}{tasks} | {row.network} | {row.why} ({rests}) | {besides} |")
    return "\n".join(lines)
