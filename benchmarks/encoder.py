"""The training step of a small BERT-like encoder: this framework's defaults against hand-written loops.

Four pre-norm layers of width 256, four heads, feed-forward width 1,024, learned positions, dropout 0.1, a vocabulary of 30,000, batches of
16. First texts of exactly 128 tokens: contestants take turns step by step, and medians are compared. Then texts of the lengths of film
reviews (log-normal, median 90, 8 to 256 tokens): whole epochs in turns, rows a second. `fp32` is the plain loop and counts as 1; the other
hand-written loops are what an expert tries, and the best of them counts. Loops by hand get ready tensors, and pad each batch to its longest
row. Prints one JSON line; with `--isa avx2` from a process in which oneDNN may use AVX2 only, as on processors without units for bfloat16.
`--clock processor` counts the process's own time, which other work on the machine disturbs less; it is a step's time with one thread only.

    python benchmarks/encoder.py --threads 1 --steps 8
    python benchmarks/encoder.py --threads 1 --steps 8 --rounds 0 --isa avx2
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.data.transforms.base import InputSpec, Ragged
from deepseek.fields import Kind
from deepseek.registry import family
from deepseek.tasks.binary import BinaryTask
from deepseek.tasks.model import TaskModel
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback

WIDTH, DEPTH, HEADS, INNER, VOCABULARY, DROPOUT = 256, 4, 4, 1024, 30_000, 0.1
BATCH, LENGTH, LONGEST, ROWS = 16, 128, 256, 512
AVX2 = "AVX2"
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}


def texts(*, fixed: bool) -> tuple[Ragged, np.ndarray]:
    """Return the ids of the texts, and their labels."""
    generator = np.random.default_rng(0)
    drawn = np.exp(generator.normal(np.log(90), 0.6, ROWS)).clip(8, LONGEST).astype(np.int64)
    offsets = np.concatenate(([0], np.cumsum(np.full(ROWS, LENGTH) if fixed else drawn)))
    ids = generator.integers(4, VOCABULARY, offsets[-1], dtype=np.int32)
    ids[offsets[:-1]] = 2
    return Ragged(ids, offsets), generator.integers(0, 2, ROWS).astype(np.float32)


class Block(nn.Module):
    """A pre-norm block as it is written by hand."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.joined, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed = nn.Sequential(nn.Linear(WIDTH, INNER), nn.GELU(), nn.Linear(INNER, WIDTH))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        b, n, w = x.shape
        q, k, v = self.joined(self.norm_1(x)).view(b, n, 3, HEADS, w // HEADS).permute(2, 0, 3, 1, 4)
        if self.fused:
            seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            seen = (q @ k.transpose(-1, -2) * (w // HEADS) ** -0.5).masked_fill(~mask, float("-inf")).softmax(-1) @ v
        x = x + self.dropout(self.out(seen.transpose(1, 2).reshape(b, n, w)))
        return x + self.dropout(self.feed(self.norm_2(x)))


class ByHand(nn.Module):
    """The network as it is written by hand."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0), nn.Embedding(512, WIDTH)
        self.blocks = nn.ModuleList(Block(fused=fused) for _ in range(DEPTH))
        self.norm, self.head, self.dropout = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1), nn.Dropout(DROPOUT)

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        x = self.dropout(self.tokens(ids) + self.places(torch.arange(ids.shape[1])))
        for block in self.blocks:
            x = block(x, real[:, None, None, :])
        x = self.norm(x) * real.unsqueeze(-1)
        return self.head(x.sum(1) / real.sum(1, keepdim=True))[:, 0]


@dataclass(frozen=True)
class Way:
    """How a loop by hand is written."""

    bf16: bool = False
    fused_attention: bool = True
    fused_optimizer: bool = True
    compiled: bool = False


PLAIN = Way(fused_optimizer=False)
FP32 = {"tuned_fp32": Way(), "tuned_fp32_products": Way(fused_attention=False)}
BF16 = {"tuned_bf16": Way(bf16=True), "tuned_bf16_products": Way(bf16=True, fused_attention=False)}
COMPILED = {"tuned_fp32_compiled": Way(compiled=True)}
COMPILED_BF16 = {"tuned_bf16_compiled": Way(bf16=True, fused_attention=False, compiled=True)}


def by_hand(way: Way, *, fixed: bool, clock: Callable[[], float]) -> Generator[float]:
    """Make a step of a hand-written loop each time it is asked, and say how long it took."""
    torch.manual_seed(0)
    net: nn.Module = ByHand(fused=way.fused_attention)
    optimizer = torch.optim.AdamW(net.parameters(), fused=way.fused_optimizer)
    forward = torch.compile(net, dynamic=not fixed) if way.compiled else net
    column, labels = texts(fixed=fixed)
    rows = [torch.from_numpy(part.astype(np.int64)) for part in np.split(column.values, column.offsets[1:-1])]
    y = torch.from_numpy(labels)
    while True:
        for chosen in torch.randperm(ROWS).split(BATCH):
            began = clock()
            ids = nn.utils.rnn.pad_sequence([rows[row] for row in chosen.tolist()], batch_first=True)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=way.bf16):
                loss = functional.binary_cross_entropy_with_logits(forward(ids, ids != 0).float(), y[chosen])
            loss.backward()
            optimizer.step()
            yield clock() - began


class _Turns(Callback):
    """Hands each step's time out, and makes the next step when it is asked to: contestants must meet the same moments of the machine."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.times, self.turns = queue.Queue[float](), queue.Queue[bool]()
        self.began = 0.0

    def on_fit_start(self, trainer: Trainer) -> None:
        self._wait(trainer)

    def on_step(self, trainer: Trainer) -> None:
        self.times.put(self.clock() - self.began)
        self._wait(trainer)

    def _wait(self, trainer: Trainer) -> None:
        if not self.turns.get():
            trainer.stop("the benchmark is over")
        self.began = self.clock()


def ours(report: dict[str, object], *, fixed: bool, clock: Callable[[], float]) -> Generator[float]:
    """Make a step of a fit each time it is asked, and say how long it took; `report` gets what `auto` came to, and how long that took."""
    torch.manual_seed(0)
    column, labels = texts(fixed=fixed)
    spec = InputSpec("text", Kind.TEXT, ("text",), (), "int32", (VOCABULARY,), ragged=True)
    rows = PreparedDataset.from_arrays({"text": column}, {"target": labels}, specs={"text": spec})
    shape = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "expansion": INNER / WIDTH, "dropout": DROPOUT}
    network = family("model").build({"type": "text_transformer", **shape, "positions": "learned", "pool": "mean"}, {"text": spec}, {})
    task = BinaryTask(TargetSpec("binary", ("y",), ("no", "yes"), (1, 1), 2))
    turns = _Turns(clock)
    settings = TrainSettings(epochs=1000, batch_size=BATCH, restore_best=False, checkpoint_every_s=None)
    trainer = Trainer(TaskModel(network, task), task, rows, settings=settings, callbacks=[turns])
    fit = threading.Thread(target=trainer.fit)
    began = clock()
    fit.start()
    turns.turns.put(True)
    first_s = turns.times.get()
    report |= {"precision": trainer.state.decisions["precision"], "deciding_s": round(clock() - began - first_s, 2)}
    yield first_s
    try:
        while True:
            turns.turns.put(True)
            yield turns.times.get()
    finally:
        turns.turns.put(False)
        fit.join()


def equal_lengths(steps: int, ways: dict[str, Way], clock: Callable[[], float]) -> dict[str, object]:
    """Compare medians of steps on texts of equal length."""
    report: dict[str, object] = {}
    contestants = {name: by_hand(way, fixed=True, clock=clock) for name, way in ways.items()} | {
        "ours": ours(report, fixed=True, clock=clock)
    }
    for contestant in contestants.values():
        next(contestant), next(contestant)  # the first step makes the optimizer's state, or compiles
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(-(-steps // 2)):
        for name, contestant in contestants.items():
            times[name] += [next(contestant), next(contestant)]
    contestants["ours"].close()
    return report | _compared({name: statistics.median(values) for name, values in times.items()}, BATCH)


def real_lengths(rounds: int, ways: dict[str, Way], clock: Callable[[], float]) -> dict[str, object]:
    """Compare whole epochs on texts of unequal length."""
    report: dict[str, object] = {}
    contestants = {name: by_hand(way, fixed=False, clock=clock) for name, way in ways.items()} | {
        "ours": ours(report, fixed=False, clock=clock)
    }
    steps = ROWS // BATCH
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, contestant in contestants.items():
            taken = sum(next(contestant) for _ in range(steps))
            times[name] += [taken] if turn else []  # the first epoch warms up
    contestants["ours"].close()
    return report | _compared({name: statistics.median(values) for name, values in times.items()}, ROWS)


def _compared(seconds: dict[str, float], rows: int) -> dict[str, object]:
    best = min((name for name in seconds if name.startswith("tuned")), key=lambda name: seconds[name])
    speed: Callable[[str], dict[str, float]] = lambda name: {  # noqa: E731  one line a contestant
        "rows_per_s": round(rows / seconds[name], 2),
        "of_fp32": round(seconds["fp32"] / seconds[name], 3),
    }
    return {
        "result": {name: speed(name) for name in seconds},
        "best_by_hand": best,
        "ours_of_best_by_hand": round(seconds[best] / seconds["ours"], 3),
    }


def processor() -> dict[str, bool]:
    flags = torch.cpu.get_capabilities()
    return {name: bool(flags.get(name)) for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1, help="timed epochs of texts of unequal length; 0 for none")
    parser.add_argument("--compiled", action="store_true", help="also loops by hand with torch.compile (texts of equal length)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--isa", choices=["all", "avx2"], default="all")
    arguments = parser.parse_args()
    if arguments.clock == "processor" and arguments.threads > 1:
        parser.error("--clock processor adds up the threads' times: use --threads 1")
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "all")
    if arguments.isa == "avx2" and isa != AVX2:  # the library reads it once, when it is loaded
        sys.exit(subprocess.run([sys.executable, *sys.argv], check=False, env={**os.environ, "ONEDNN_MAX_CPU_ISA": AVX2}).returncode)
    torch.set_num_threads(arguments.threads)
    short = isa != AVX2  # without units for bfloat16 a step takes half a minute
    ways = {"fp32": PLAIN, **FP32, **(BF16 if short else {})}
    compiled = {**COMPILED, **(COMPILED_BF16 if short else {})} if arguments.compiled else {}
    clock = CLOCKS[arguments.clock]
    head = {"benchmark": "encoder", "torch": torch.__version__, "threads": arguments.threads, "clock": arguments.clock, "isa": isa}
    result = {"processor": processor(), "equal_lengths": equal_lengths(arguments.steps, {**ways, **compiled}, clock)}
    if arguments.rounds:
        result["real_lengths"] = real_lengths(arguments.rounds, ways, clock)
    sys.stdout.write(json.dumps({**head, **result}) + "\n")


if __name__ == "__main__":
    main()
