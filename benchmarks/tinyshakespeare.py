"""Language models on Tiny Shakespeare, by characters: three minutes on two threads each, beside a plain PyTorch decoder.

The text is `$DEEPSEEK_DATA/tinyshakespeare/input.txt`, its first nine tenths for training and the rest for validation. The baseline is
written here: a decoder of the size that nanoGPT trains on a processor (four blocks, four heads, 128 wide, windows of 64 characters, twelve
a batch, no dropout), AdamW, windows drawn at random. Every contestant trains for the same wall time at most: the time of a step is
measured, and the schedule is planned for the steps that fit; the framework keeps a fifth of the time in reserve, the baseline nothing. The
baseline's schedule is that of nanoGPT's settings for a processor. Contestants take turns; medians over the repeats. All are measured on
every validation character, each predicted once in windows of 64 characters (Transformer-XL: in lanes, with what it remembers).

Prints one JSON line.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import deepseek

SECONDS = float(os.environ.get("SECONDS_EACH", "180"))
REPEATS = int(os.environ.get("REPEATS", "1"))
THREADS = 2
WIDTH, BLOCKS, HEADS, WINDOW, BATCH = 128, 4, 4, 64, 12
SHAPE = {"width": WIDTH, "depth": BLOCKS, "heads": HEADS, "dropout": 0.0}
CONTESTANTS = {
    "text_decoder": {"type": "text_decoder", **SHAPE, "length": WINDOW},
    "transformer_xl": {"type": "transformer_xl", **SHAPE, "mem_len": 128},
    "transformer_xl, no memory": {"type": "transformer_xl", **SHAPE, "mem_len": 0},
}


class Block(nn.Module):
    """A pre-norm block, as a plain PyTorch user writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.attention, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        q, k, v = self.attention(self.ln1(x)).view(rows, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(rows, length, width))
        return x + self.down(functional.gelu(self.up(self.ln2(x))))


class Baseline(nn.Module):
    """The decoder that is compared with."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(WINDOW, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(WIDTH, bias=False), nn.Linear(WIDTH, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                scale = 0.02 / math.sqrt(2 * BLOCKS) if name.endswith(("out.weight", "down.weight")) else 0.02
                nn.init.normal_(parameter, std=scale)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def baseline(text: str, cut: int, seed: int) -> dict[str, float]:
    """Train the baseline for its time, and measure it."""
    torch.manual_seed(seed)
    began = time.perf_counter()
    signs = sorted(set(text))
    codes = torch.tensor([signs.index(sign) for sign in text])
    train, validation = codes[:cut], codes[cut:]
    model = Baseline(len(signs))
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    steps, made, step_s = 1 << 30, 0, []
    while made < steps and time.perf_counter() - began < SECONDS:
        started = time.perf_counter()
        warmed = min(1.0, (made + 1) / 100)
        share = 0.0 if steps == 1 << 30 else min(made / steps, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * warmed * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))
        places = torch.randint(len(train) - WINDOW, (BATCH,))
        windows = torch.stack([train[place : place + WINDOW + 1] for place in places])
        loss = functional.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        made += 1
        step_s.append(time.perf_counter() - started)
        if made == 50:
            steps = int((SECONDS - (time.perf_counter() - began)) / statistics.median(step_s)) + made
    spent = time.perf_counter() - began
    model.eval()
    nats = 0.0
    with torch.inference_mode():
        for start in range(0, len(validation) - 1, WINDOW * 64):
            piece = validation[start : start + WINDOW * 64 + 1]
            for window in range(0, len(piece) - 1, WINDOW):
                ids = piece[window : window + WINDOW + 1]
                nats += float(functional.cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="sum"))
    loss = nats / (len(validation) - 1)
    return {"loss": loss, "bits_per_character": loss / math.log(2), "steps": made, "seconds": spent}


def contestant(name: str, corpus: Path, folder: Path, seed: int) -> dict[str, float]:
    """Train by a recipe for the same time, and return what it says of the validation characters."""
    began = time.perf_counter()
    remembers = CONTESTANTS[name].get("mem_len", 0) > 0
    recipe = {
        "name": name.replace(", ", "-").replace(" ", "-"),
        "seed": seed,
        "data": {
            "source": {"type": "corpus", "path": str(corpus), "piece": 100},
            "split": {"train": 0.9, "validation": 0.1, "test": 0.0, "on_leak": "ignore"},
        },
        "task": {"type": "language_modelling", "length": WINDOW, **({} if remembers else {"stride": 1})},
        "model": CONTESTANTS[name],
        "train": {
            "epochs": 100_000,
            "batch_size": BATCH,
            "time_limit": f"{SECONDS:.0f}s",
            "validate_every_steps": 1_000_000,
            "precision": "fp32",
        },
    }
    made = deepseek.run(recipe, out=folder)
    spent = time.perf_counter() - began
    outcome = json.loads((Path(made.run) / "metrics.json").read_text())
    measured = made.metrics["validation"]
    return {
        "loss": measured["loss"],
        "bits_per_character": measured["bits_per_character"],
        "steps": outcome["steps"],
        "seconds": outcome["training_s"],
        "whole_s": spent,
    }


def main() -> None:
    """Let them take turns, and print what came of it."""
    torch.set_num_threads(THREADS)
    source = Path(os.environ["DEEPSEEK_DATA"]) / "tinyshakespeare" / "input.txt"
    text = source.read_text()
    results: dict[str, list[dict[str, float]]] = {"plain PyTorch": [], **{name: [] for name in CONTESTANTS}}
    with tempfile.TemporaryDirectory() as scratch:
        for repeat in range(REPEATS):
            for name, made_before in results.items():
                made = (
                    baseline(text, int(0.9 * len(text)), repeat)
                    if name == "plain PyTorch"
                    else contestant(name, source, Path(scratch) / f"{repeat}", repeat)
                )
                made_before.append(made)
                sys.stderr.write(f"{repeat} {name}: {json.dumps(made)}\n")
    medians = {
        name: {key: round(float(np.median([each[key] for each in runs])), 4) for key in ("loss", "bits_per_character", "steps", "seconds")}
        for name, runs in results.items()
    }
    print(json.dumps({"benchmark": "tinyshakespeare", "seconds_each": SECONDS, "repeats": REPEATS, "threads": THREADS, **medians}))


if __name__ == "__main__":
    main()
