"""Each family of networks beside a public implementation of the same size: training steps and answers a second.

Both sides have layers of the same sizes, the same batch, threads, precision (float32) and optimizer (AdamW, PyTorch's fused kernel), and
take turns step by step; medians are compared. `ours` is `TrainingStep` as `deepseek train` uses it, with moving average and clipping off;
`defaults` is the same network with what a recipe has when nothing is said: both on, precision and layout by measuring. Answers are plain
forward passes in evaluation. Where a public package is not installed, its rows are named under `skipped`. Where layers are cut otherwise
(one product for queries, keys and values, say), the numbers of parameters stand in the row. Prints one JSON line.

    python benchmarks/families.py --threads 2
    python benchmarks/families.py --small
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.batch import Batch, with_channels_last
from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec, Ragged
from deepseek.distributed import RankContext, make_precision
from deepseek.fields import Kind
from deepseek.optim import WeightAverage, decay_groups
from deepseek.pipeline.choosing.choices import choose
from deepseek.recipe import load_recipe
from deepseek.registry import family
from deepseek.tasks.model import TaskModel
from deepseek.training import TrainSettings
from deepseek.training.decisions import decide
from deepseek.training.step import StepRules, TrainingStep

CLASSES = 10
WIDTH, DEPTH, HEADS, VOCABULARY, LENGTH = 256, 4, 4, 30_000, 128
CONTEXT, HORIZON, KNOWN = 100, 24, 3
USERS, FILMS, KINDS, AGES, BUCKETS, NUMBERS = 6041, 3884, 302, 60, 65_536, 4
SIZES = {False: {"side": 224, "batch": 16, "volume": 48, "map": 128}, True: {"side": 128, "batch": 2, "volume": 32, "map": 32}}


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Two implementations of one network.

    Attributes:
        against: The public implementation, in words.
        rows: Rows to train on.
        task: The spec of the task.
        target: What is predicted.
        model: The spec of our network.
        inputs: What it meets.
        batch: Rows of a step.
        theirs: The other network, with its decision layer.
        outputs: Calls that network with a batch.
        loss: Its loss, of its outputs.
    """

    against: str
    rows: PreparedDataset
    task: Mapping[str, Any]
    target: TargetSpec
    model: Mapping[str, Any]
    inputs: Mapping[str, InputSpec]
    batch: int
    theirs: nn.Module
    outputs: Callable[[nn.Module, Batch], Tensor]
    loss: Callable[[Tensor, Batch], Tensor]

    def ours(self) -> TaskModel:
        """Return our network with the task's decision layer."""
        torch.manual_seed(0)
        task = family("task").build(dict(self.task), self.target)
        return TaskModel(family("model").build(dict(self.model), self.inputs, {}), task)


Size = Mapping[str, int]
Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}


def images(spec: Mapping[str, Any], name: str, options: Mapping[str, Any], size: Size) -> Contest:
    timm = _timm()
    side, batch = size["side"], size["batch"]
    draw = np.random.default_rng(0)
    photo = InputSpec("photo", Kind.IMAGE, ("photo",), (3, side, side), "float32")
    rows = PreparedDataset.from_arrays(
        {"photo": draw.normal(size=(2 * batch, 3, side, side)).astype(np.float32)},
        {"target": draw.integers(0, CLASSES, 2 * batch)},
        specs={"photo": photo},
    )
    return Contest(
        against=f"timm {name}",
        rows=rows,
        task={"type": "multiclass"},
        target=_classes(),
        model=spec,
        inputs={"photo": photo},
        batch=batch,
        theirs=timm.create_model(name, pretrained=False, num_classes=CLASSES, **options),
        outputs=lambda net, given: net(given.inputs["photo"]),
        loss=_cross_entropy,
    )


def bert(size: Size) -> Contest:
    from transformers import BertConfig, BertModel

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = BertConfig(
                vocab_size=VOCABULARY,
                hidden_size=WIDTH,
                num_hidden_layers=DEPTH,
                num_attention_heads=HEADS,
                intermediate_size=4 * WIDTH,
                max_position_embeddings=512,
                type_vocab_size=1,
            )
            self.body, self.head = BertModel(config, add_pooling_layer=False), nn.Linear(WIDTH, CLASSES)

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            states = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
            real = mask.unsqueeze(-1)
            return self.head((states * real).sum(1) / real.sum(1))

    spec = InputSpec("text", Kind.TEXT, ("text",), (), "int32", (VOCABULARY,), ragged=True)
    shape = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "expansion": 4.0, "dropout": 0.1}
    draw = np.random.default_rng(0)
    count = 2 * size["batch"]
    return Contest(
        against="transformers BertModel",
        rows=PreparedDataset.from_arrays({"text": _text(count)}, {"target": draw.integers(0, CLASSES, count)}, specs={"text": spec}),
        task={"type": "multiclass"},
        target=_classes(),
        model={"type": "text_transformer", **shape, "positions": "learned", "pool": "mean"},
        inputs={"text": spec},
        batch=size["batch"],
        theirs=Classifier(),
        outputs=lambda net, given: net(given.inputs["text"].long(), given.inputs["text_mask"].long()),
        loss=_cross_entropy,
    )


def decoder(spec: Mapping[str, Any], size: Size) -> Contest:
    from transformers import GPT2Config, GPT2LMHeadModel

    vocabulary, shape = 1024, {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "expansion": 4.0, "dropout": 0.1}
    text = InputSpec("text", Kind.TEXT, ("text",), (), "int32", (vocabulary,), ragged=True)
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=LENGTH,
        n_embd=WIDTH,
        n_layer=DEPTH,
        n_head=HEADS,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=1,
    )
    target = TargetSpec("tokens", ("text",), shape=(), lengths=(1,) * vocabulary, rows=1)
    task = {"type": "language_modelling", "length": LENGTH}
    whole = PreparedDataset.from_arrays({"text": _text(1, LENGTH * 4 * size["batch"], vocabulary)}, specs={"text": text})
    rows = family("task").build(dict(task), target).training_rows(whole, batch_size=size["batch"])
    return Contest(
        against="transformers GPT2LMHeadModel",
        rows=rows,
        task=task,
        target=target,
        model={**spec, **shape},
        inputs={"text": text},
        batch=size["batch"],
        theirs=GPT2LMHeadModel(config),
        outputs=lambda net, given: net(input_ids=given.inputs["text"].long()).logits,
        loss=lambda out, given: functional.cross_entropy(out.flatten(0, 1), given.targets["target"].long().flatten()),
    )


class Recurrent(nn.Module):
    """A recurrent layer, the mean over its states and a linear layer, as they are written by hand."""

    def __init__(self, cell: str, columns: int) -> None:
        super().__init__()
        self.layer = (nn.GRU if cell == "gru" else nn.LSTM)(columns, 128, batch_first=True)
        self.dropout, self.head = nn.Dropout(0.1), nn.Linear(128, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.layer(x)[0].mean(1)))


def recurrent(cell: str, size: Size) -> Contest:
    columns, batch = 8, 4 * size["batch"]
    draw = np.random.default_rng(0)
    series = InputSpec("series", Kind.SERIES, ("series",), (LENGTH, columns), "float32")
    encoder = {"type": "series_rnn", "cell": cell, "width": 128, "pool": "mean", "dropout": 0.1}
    rows = PreparedDataset.from_arrays(
        {"series": draw.normal(size=(batch, LENGTH, columns)).astype(np.float32)},
        {"target": draw.integers(0, CLASSES, batch)},
        specs={"series": series},
    )
    return Contest(
        against=f"torch.nn.{cell.upper()}",
        rows=rows,
        task={"type": "multiclass"},
        target=_classes(),
        model={"type": "network", "encoders": {"series": encoder}, "trunk": "identity"},
        inputs={"series": series},
        batch=batch,
        theirs=Recurrent(cell, columns),
        outputs=lambda net, given: net(given.inputs["series"]),
        loss=_cross_entropy,
    )


def tft(size: Size) -> Contest:
    _repair_torchvision()
    from pytorch_forecasting import TemporalFusionTransformer
    from pytorch_forecasting.metrics import MAE

    batch, width = 4 * size["batch"], 32
    draw = np.random.default_rng(0)
    history = InputSpec("history", Kind.SERIES, ("load",), (CONTEXT, 1), "float32", horizon=HORIZON)
    names = tuple(f"k{place}" for place in range(KNOWN))
    known = InputSpec("known_numbers", Kind.SERIES, names, (CONTEXT + HORIZON, KNOWN), "float32", horizon=HORIZON)
    rows = PreparedDataset.from_arrays(
        {
            "history": draw.normal(size=(batch, CONTEXT, 1)).astype(np.float32),
            "known_numbers": draw.normal(size=(batch, CONTEXT + HORIZON, KNOWN)).astype(np.float32),
        },
        {"target": draw.normal(size=(batch, HORIZON, 1)).astype(np.float32)},
        specs={"history": history, "known_numbers": known},
    )
    ahead = [*names, "position"]
    theirs = TemporalFusionTransformer(
        hidden_size=width,
        hidden_continuous_size=width,
        attention_head_size=4,
        dropout=0.1,
        output_size=1,
        loss=MAE(),
        max_encoder_length=CONTEXT,
        x_reals=["load", *ahead],
        time_varying_reals_encoder=["load", *ahead],
        time_varying_reals_decoder=ahead,
    )
    theirs.transform_output = lambda prediction, **_: prediction  # both answer in standard deviations
    position = torch.arange(1 - CONTEXT, HORIZON + 1).float().div(CONTEXT).expand(batch, -1).unsqueeze(-1)

    def outputs(net: nn.Module, given: Batch) -> Tensor:
        past, both = given.inputs["history"], torch.cat((given.inputs["known_numbers"], position), dim=-1)
        future = torch.cat((past.new_zeros(batch, HORIZON, 1), both[:, CONTEXT:]), dim=-1)
        x = {
            "encoder_cont": torch.cat((past, both[:, :CONTEXT]), dim=-1),
            "decoder_cont": future,
            "encoder_cat": torch.zeros(batch, CONTEXT, 0, dtype=torch.int64),
            "decoder_cat": torch.zeros(batch, HORIZON, 0, dtype=torch.int64),
            "encoder_lengths": torch.full((batch,), CONTEXT),
            "decoder_lengths": torch.full((batch,), HORIZON),
            "target_scale": torch.ones(batch, 2),
        }
        return net(x)["prediction"]

    return Contest(
        against="pytorch-forecasting TemporalFusionTransformer",
        rows=rows,
        task={"type": "forecasting", "horizon": HORIZON, "context_length": CONTEXT},
        target=TargetSpec("values", ("load",), mean=(0.0,), std=(1.0,), rows=batch),
        model={"type": "tft", "width": width, "heads": 4, "dropout": 0.1, "window_scale": False},  # as the other network
        inputs={"history": history, "known_numbers": known},
        batch=batch,
        theirs=theirs,
        outputs=outputs,
        loss=lambda out, given: functional.mse_loss(out, given.targets["target"]),
    )


def unet(dimensions: int, size: Size) -> Contest:
    from monai.networks.nets.basic_unet import BasicUNet, UpCat

    kind, side = (Kind.IMAGE, size["map"]) if dimensions == 2 else (Kind.VOLUME, size["volume"])
    width, depth, batch = (32, 4, size["batch"]) if dimensions == 2 else (16, 4, 2)
    space = (side,) * dimensions
    draw = np.random.default_rng(0)
    spec = InputSpec("scan", kind, ("scan",), (1, *space), "float32")
    features = tuple(width << level for level in range(depth + 1))
    norm = ("batch", {"affine": True}) if dimensions == 2 else ("instance", {"affine": True})
    act = ("relu", {"inplace": True})
    theirs = BasicUNet(dimensions, 1, 3, (*features, width), act=act, norm=norm, bias=False)
    # its last step up alone keeps the channels: here it halves them like the others
    theirs.upcat_1 = UpCat(dimensions, features[1], width, width, act, norm, bias=False)
    rows = PreparedDataset.from_arrays(
        {"scan": draw.normal(size=(batch, 1, *space)).astype(np.float32)},
        {"target": draw.integers(0, 3, (batch, *space)).astype(np.uint8)},
        specs={"scan": spec},
    )
    return Contest(
        against=f"MONAI BasicUNet, {dimensions} dimensions",
        rows=rows,
        task={"type": "segmentation", "loss": "cross_entropy"},
        target=TargetSpec("mask", ("mask",), ("0", "1", "2"), (1, 1, 1), batch, shape=space),
        model={"type": "unet" if dimensions == 2 else "unet3d", "width": width, "depth": depth},
        inputs={"scan": spec},
        batch=batch,
        theirs=theirs,
        outputs=lambda net, given: net(given.inputs["scan"]),
        loss=lambda out, given: functional.cross_entropy(out, given.targets["target"].long()),
    )


class WideAndDeep(nn.Module):
    """Columns and one hashed cross as a linear model, beside a perceptron over embeddings, as they are written by hand."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.starts = torch.tensor([0, *np.cumsum(sizes)])
        self.wide, self.slope = nn.EmbeddingBag(sum(sizes) + BUCKETS, 1, mode="sum"), nn.Linear(NUMBERS, 1, bias=False)
        self.tables = nn.ModuleList(nn.Embedding(size, 8) for size in sizes)
        layers: list[nn.Module] = []
        for before in (8 * len(sizes) + NUMBERS, 256, 256):
            layers += [nn.Linear(before, 256), nn.ReLU(), nn.Dropout(0.1)]
        self.deep = nn.Sequential(*layers, nn.Linear(256, 1))

    def forward(self, codes: Tensor, numbers: Tensor) -> Tensor:
        codes = codes.long()
        crossed = (codes[:, 0] * 2_654_435 + codes[:, 1] * 40_503) % BUCKETS
        wide = self.wide(torch.cat((codes, crossed.unsqueeze(1)), dim=1) + self.starts) + self.slope(numbers)
        vectors = [table(codes[:, place]) for place, table in enumerate(self.tables)]
        return (wide + self.deep(torch.cat((*vectors, numbers), dim=1)))[:, 0]


def wide_and_deep(size: Size) -> Contest:
    sizes, batch = (USERS, FILMS, KINDS, AGES), 64 * size["batch"]
    draw = np.random.default_rng(0)
    specs = {
        "codes": InputSpec("codes", Kind.CATEGORY, ("user", "film", "kind", "age"), (len(sizes),), "int32", sizes),
        "numbers": InputSpec("numbers", Kind.NUMBER, tuple("abcd"), (NUMBERS,), "float32"),
    }
    codes = np.stack([draw.integers(0, count, batch) for count in sizes], axis=1).astype(np.int32)
    numbers = draw.normal(size=(batch, NUMBERS)).astype(np.float32)
    labels = draw.integers(0, 2, batch).astype(np.float32)
    return Contest(
        against="a bare torch version",
        rows=PreparedDataset.from_arrays({"codes": codes, "numbers": numbers}, {"target": labels}, specs=specs),
        task={"type": "binary"},
        target=TargetSpec("binary", ("y",), ("no", "yes"), (1, 1), 2),
        model={"type": "wide_deep", "crosses": [["user", "film"]], "buckets": BUCKETS, "dropout": 0.1},
        inputs=specs,
        batch=batch,
        theirs=WideAndDeep(sizes),
        outputs=lambda net, given: net(given.inputs["codes"], given.inputs["numbers"]),
        loss=lambda out, given: functional.binary_cross_entropy_with_logits(out, given.targets["target"]),
    )


EFFICIENT = {"drop_rate": 0.2, "drop_path_rate": 0.2}
FAMILIES: dict[str, Callable[[Size], Contest]] = {
    "resnet18": partial(images, {"type": "resnet", "depth": 18, "stem": "large"}, "resnet18", {}),
    "resnet50": partial(images, {"type": "resnet", "depth": 50, "stem": "large"}, "resnet50", {}),
    "efficientnet_b0": partial(images, {"type": "efficientnet"}, "efficientnet_b0", EFFICIENT),
    "text_transformer": bert,
    "text_decoder": partial(decoder, {"type": "text_decoder", "positions": "learned", "length": LENGTH}),
    "transformer_xl": partial(decoder, {"type": "transformer_xl", "mem_len": 0}),
    "lstm": partial(recurrent, "lstm"),
    "gru": partial(recurrent, "gru"),
    "tft": tft,
    "unet": partial(unet, 2),
    "unet3d": partial(unet, 3),
    "wide_deep": wide_and_deep,
}


def by_hand(contest: Contest, batch: Batch) -> Callable[[], None]:
    """Return a step of the public network in a bare loop."""
    net = contest.theirs.train()
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        contest.loss(contest.outputs(net, batch), batch).backward()
        optimizer.step()

    return step


def by_us(model: TaskModel, batch: Batch, **options: Any) -> Callable[[], None]:
    """Return a step of our network."""
    optimizer = family("optimizer").build("adamw").build(decay_groups(model))
    step = TrainingStep(model.train(), model.task.loss, optimizer, **options)
    return lambda: step(batch)


def by_default(contest: Contest, batch: Batch) -> tuple[Callable[[], None], dict[str, object]]:
    """Return a step with what a recipe has when nothing is said, and what that is."""
    model = contest.ours()
    recipe = load_recipe({"name": "families", "data": {"source": "rows.csv", "target": "y"}, "model": dict(contest.model)})
    chosen = choose(recipe, contest.inputs, contest.target, rows=20_000, columns=8)
    clip, decay = (chosen[f"train.{key}"][0] for key in ("clip_norm", "ema"))
    settings = TrainSettings(batch_size=contest.batch)
    ranks = RankContext()
    spec = family("optimizer").build("adamw")
    decided = decide(model, model.task.loss, contest.rows, settings=settings, spec=spec, ranks=ranks)
    if decided["channels_last"]:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = with_channels_last(batch)
    precision = make_precision(str(decided["precision"]), ranks.device)
    average = WeightAverage(model, decay=decay) if decay else None
    step = by_us(model, batch, precision=precision, rules=StepRules(clip_norm=clip), average=average)
    return step, {"clip_norm": clip, "ema": decay, **{key: decided[key] for key in ("precision", "channels_last")}}


def timed(contestants: Mapping[str, Callable[[], object]], rounds: int, clock: Clock) -> dict[str, float]:
    """Return each one's median seconds; they take turns, and the first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            began = clock()
            run()
            times[name] += [clock() - began] if turn else []
    return {name: statistics.median(values) for name, values in times.items()}


def measured(contest: Contest, rounds: int, clock: Clock) -> dict[str, object]:
    """Return one family's row."""
    batch = contest.rows.take(np.arange(contest.batch))
    ours = contest.ours()
    default, said = by_default(contest, batch)
    training = timed({"theirs": by_hand(contest, batch), "ours": by_us(ours, batch), "defaults": default}, rounds, clock)
    theirs = contest.theirs.eval()
    ours.eval()
    with torch.inference_mode():
        answers = timed({"theirs": lambda: contest.outputs(theirs, batch), "ours": lambda: ours(batch.inputs)}, rounds, clock)
    parameters = {name: sum(part.numel() for part in net.parameters()) for name, net in (("ours", ours), ("theirs", contest.theirs))}
    return {
        "against": contest.against,
        "batch": contest.batch,
        "parameters": parameters["ours"] if len(set(parameters.values())) == 1 else parameters,
        "steps_per_s": {name: _short(1 / seconds) for name, seconds in training.items()},
        "answers_per_s": {name: _short(contest.batch / seconds) for name, seconds in answers.items()},
        "training_ratio": round(training["theirs"] / training["ours"], 3),
        "defaults_ratio": round(training["theirs"] / training["defaults"], 3),
        "inference_ratio": round(answers["theirs"] / answers["ours"], 3),
        "defaults": said,
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _classes() -> TargetSpec:
    return TargetSpec("classes", ("y",), tuple(map(str, range(CLASSES))), (1,) * CLASSES, CLASSES)


def _cross_entropy(out: Tensor, batch: Batch) -> Tensor:
    return functional.cross_entropy(out, batch.targets["target"])


def _text(rows: int, length: int = LENGTH, vocabulary: int = VOCABULARY) -> Ragged:
    ids = np.random.default_rng(0).integers(4, vocabulary, rows * length, dtype=np.int32)
    return Ragged(ids, np.arange(rows + 1) * length)


def _timm() -> Any:
    import timm

    return timm


_KEPT: list[torch.library.Library] = []


def _repair_torchvision() -> None:
    """Let a torchvision be imported whose compiled operators are for another PyTorch: only their names are missing, and none is called."""
    if _KEPT or importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


def rows_of(names: list[str], size: Size, rounds: int, clock: Clock) -> Iterator[tuple[str, dict[str, object] | str]]:
    """Yield each family's row, or why it was skipped."""
    for name in names:
        torch.manual_seed(0)
        try:
            contest = FAMILIES[name](size)
        except ImportError as error:
            yield name, f"{error.name or error} is not installed"
            continue
        yield name, measured(contest, rounds, clock)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all where none is named")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="timed turns of each; 15 where not given, and 2 with --small")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: the process's own time, with one thread only")
    parser.add_argument("--small", action="store_true", help="small batches and few rounds: that everything runs, in less than a minute")
    arguments = parser.parse_args()
    if unknown := set(arguments.families) - set(FAMILIES):
        parser.error(f"there is no family {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    if arguments.clock == "processor" and arguments.threads > 1:
        parser.error("--clock processor adds up the threads' times: use --threads 1")
    torch.set_num_threads(arguments.threads)
    _repair_torchvision()  # timm and Transformers import it
    rounds = arguments.rounds or (2 if arguments.small else 15)
    found = dict(rows_of(arguments.families or list(FAMILIES), SIZES[arguments.small], rounds, CLOCKS[arguments.clock]))
    rows = {name: row for name, row in found.items() if not isinstance(row, str)}
    skipped = {name: row for name, row in found.items() if isinstance(row, str)}
    head = {"benchmark": "families", "torch": torch.__version__, "threads": arguments.threads, "clock": arguments.clock}
    head |= {"small": arguments.small, "rounds": rounds}
    sys.stdout.write(json.dumps({**head, "result": rows, "skipped": skipped}) + "\n")


if __name__ == "__main__":
    main()
