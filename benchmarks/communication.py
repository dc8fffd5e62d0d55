"""What ranks send each other, what that costs, and what is gained by sending less, at other times, by other ways, or to others.

- bytes: gradients of a convolutional network, exchanged in 8, 6, 4 and 2 bits, as float16 and as factors, by 2 and 4 ranks. Counted from
  the messages, and beside it what the loopback device of a namespace of its own has carried, headers and all. Deterministic.
- accuracy: Fashion-MNIST on two ranks, each way of exchanging with the same seeds; official test rows, met once.
- overlap: two ranks joined by an emulated link; the time of a step with backward pass and sums at once, beside the backward pass alone and
  the sums alone. Overlap is (compute + sums - step) / min(compute, sums).
- hierarchy: two groups of four ranks; a ring over all of them beside sums within groups, between, and within again; messages of many sizes.
  Links within a group are the loopback device, the one between groups is emulated.
- balance: one of two ranks takes three times as long for a row (it sleeps); rows a second with even shares and with measured ones, and
  whether the losses stay the same.

Contestants take turns; medians. One thread a rank. Where links cannot be emulated (Linux, root) the modes that need them say so. Prints
one JSON line.

    python benchmarks/communication.py [--modes bytes accuracy overlap hierarchy balance] [--seeds 5] [--small]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "links"))

import numpy as np
import torch
import torch.distributed as dist
from emulated_link import ADDRESSES, interface_bytes, link, unavailable
from torch import Tensor, nn

from deepseek.data.prepared import PreparedDataset
from deepseek.data.targets import TargetSpec
from deepseek.distributed import GradientSync, RankContext, launch
from deepseek.distributed.exchange import Bucket, Exchange
from deepseek.registry import family
from deepseek.tasks.multiclass import MulticlassTask
from deepseek.training import Trainer, TrainSettings
from deepseek.training.callbacks.base import Callback

DATA = Path(os.environ.get("DEEPSEEK_DATA", "data"))
WAYS: dict[str, Any] = {
    "float32": "all_reduce",
    "float16": "fp16",
    "8 bits": {"type": "qsgd", "bits": 8},
    "6 bits": {"type": "qsgd", "bits": 6},
    "4 bits": {"type": "qsgd", "bits": 4},
    "4 bits, rows of 64": {"type": "qsgd", "bits": 4, "bucket": 64},
    "4 bits, error feedback": {"type": "qsgd", "bits": 4, "error_feedback": True},
    "2 bits": {"type": "qsgd", "bits": 2, "error_feedback": True},
    "rank 4": {"type": "power_sgd", "rank": 4},
}
OVERLAP_DELAY_S = 0.0005
OVERLAP_LINKS = {"1000 Mbit/s": (125e6, 15, (256, 1024)), "250 Mbit/s": (31.25e6, 5, (1024, 4096))}
"""Bytes a second, rounds, and rows a rank; carrying bytes takes the same computing over either link, and waiting four times as long."""
SLOW_BYTES_PER_S, SLOW_DELAY_S = 125e6, 0.005
THROTTLE = 3.0


def network() -> nn.Sequential:
    """The network whose gradients are sent: 0.2 million weights, most of them in one matrix, as in small nets for pictures."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)),
    )


class Images(nn.Module):
    """That network, as a trainer calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.net(inputs["x"]).unsqueeze(1)


def exchange_once(sync: GradientSync, step: int) -> None:
    """Sum the gradients as they are, without a backward pass."""
    sync.exchange.begin(1000 * step + dist.get_rank())
    sync.arm(torch.tensor(1.0))
    sync.finish()


def medians(measures: dict[Any, Callable[[], object]], rounds: int) -> dict[Any, float]:
    """The seconds of each, in turns, all ranks beginning at once; the first turn warms up."""
    taken: dict[Any, list[float]] = {name: [] for name in measures}
    for _ in range(rounds + 1):
        for name, measure in measures.items():
            dist.barrier()
            began = time.perf_counter()
            measure()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def count_bytes(context: RankContext, steps: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    carried = {}
    for name, spec in WAYS.items():
        parameters = list(network().parameters())
        sync = GradientSync(parameters, exchange=family("exchange").build(spec, context))
        sync.zero()
        for parameter in parameters:
            parameter.grad.normal_()
        exchange_once(sync, 0)
        dist.barrier()
        before, device = sync.exchange.traffic.sent_bytes, interface_bytes("lo")
        for step in range(1, steps + 1):
            exchange_once(sync, step)
        dist.barrier()
        carried[name] = interface_bytes("lo") - device
        sent = (sync.exchange.traffic.sent_bytes - before) / steps
        found[name] = {"sent_bytes_a_step": round(sent), "saved": round(1 - sync.exchange.traffic.share, 4)}
        found[name]["saved_on_the_device"] = round(1 - carried[name] / carried["float32"], 4)
    return found


def accuracy(context: RankContext, spec: Any, seed: int, rows: int, epochs: int) -> dict[str, float]:
    torch.manual_seed(seed)
    arrays = np.load(DATA / "fashion_mnist" / "fashion_mnist.npz")
    names = {"x": ("x_train", "x_test"), "y": ("y_train", "y_test")}
    x, y = ([arrays[name] for name in names[key]] for key in ("x", "y"))
    sets = [
        PreparedDataset.from_arrays({"x": (part[:most, None] / 255.0).astype(np.float32)}, {"target": truth[:most].astype(np.int64)})
        for part, truth, most in zip(x, y, (rows, None), strict=True)
    ]
    task = MulticlassTask(TargetSpec("classes", ("y",), tuple("0123456789"), (1,) * 10, 10))
    settings = TrainSettings(
        epochs=epochs, batch_size=128, learning_rate=1e-3, precision="fp32", schedule={"type": "cosine", "warmup": 0.05},
        channels_last=False, seed=seed, communication=spec, validate_every=epochs, restore_best=False,
    )  # fmt: skip
    model = Images()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) * 0.002)
    trainer = Trainer(model, task, sets[0], sets[1], settings=settings, ranks=context)
    entry = trainer.fit().history[-1]
    assert trainer.exchange is not None
    return {"accuracy": entry["accuracy"], "saved": 1 - trainer.exchange.traffic.share}


def accuracies(ways: Sequence[str], seeds: int, rows: int, epochs: int) -> dict[str, Any]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("float32", *ways)}
    for seed in range(seeds):
        for name, runs in found.items():
            runs.append(launch(accuracy, 2, WAYS[name], seed, rows, epochs, device="cpu"))
    result: dict[str, Any] = {"rows": rows, "epochs": epochs, "seeds": seeds}
    for name, runs in found.items():
        values = [run["accuracy"] for run in runs]
        behind = [value - plain["accuracy"] for value, plain in zip(values, found["float32"], strict=True)]
        result[name] = {
            "accuracy": round(statistics.mean(values), 4),
            "less_than_float32": round(-statistics.mean(behind), 4),
            "spread_of_that": round(statistics.stdev(behind), 4) if seeds > 1 else None,
            "saved": round(runs[0]["saved"], 4),
        }
    return result


def measure_overlap(_: RankContext, rounds: int, rows_of: Sequence[int]) -> dict[str, Any]:
    """A step beside its parts: eight layers of 1,024 units, 33 MB of gradients; sums take longer than computing few rows."""
    found = {}
    for rows, megabytes in itertools.product(rows_of, (1, 5, 25)):
        torch.manual_seed(0)
        net = nn.Sequential(*[layer for _ in range(8) for layer in (nn.Linear(1024, 1024), nn.ReLU())])
        x = torch.randn(rows, 1024)
        sync = GradientSync(list(net.parameters()), bucket_bytes=megabytes << 20)

        def compute(net: nn.Module = net, sync: GradientSync = sync, x: Tensor = x) -> None:
            sync.zero()
            net(x).square().sum().backward()

        def step(net: nn.Module = net, sync: GradientSync = sync, x: Tensor = x) -> None:
            sync.zero()
            loss = net(x).square().sum()
            sync.arm(torch.tensor(1.0))
            loss.backward()
            sync.finish()

        def sums(sync: GradientSync = sync) -> None:
            exchange_once(sync, 0)

        taken = medians({"compute": compute, "sums": sums, "step": step}, rounds)
        share = (taken["compute"] + taken["sums"] - taken["step"]) / min(taken["compute"], taken["sums"])
        milliseconds = {f"{name}_ms": round(value * 1e3, 1) for name, value in taken.items()}
        found[f"{rows} rows a rank, buckets of {megabytes} MB"] = {**milliseconds, "overlap": round(share, 3)}
    return found


def overlaps(small: bool) -> dict[str, Any]:
    found = {}
    for name, (bytes_per_s, rounds, rows_of) in OVERLAP_LINKS.items():
        given = {"rounds": 3 if small else rounds, "rows_of": rows_of[:1] if small else rows_of}
        found[name] = over_link("overlap", given, ranks=2, delay_s=OVERLAP_DELAY_S, bytes_per_s=bytes_per_s)
    return found


def measure_hierarchy(context: RankContext, rounds: int, sizes: Sequence[int]) -> dict[str, Any]:
    ways = {"ring": "all_reduce", "hierarchical": {"type": "hierarchical", "group": context.ranks // 2}}
    exchanges = {name: family("exchange").build(spec, context) for name, spec in ways.items()}
    found = {}
    for size in sizes:
        flat = torch.zeros(size // 4)
        bucket = Bucket(0, flat, (flat.shape,))

        def sum_by(exchange: Exchange, bucket: Bucket = bucket) -> None:
            for work in exchange.exchange(bucket, torch.ones(())):
                work.wait()

        taken = medians({name: partial(sum_by, exchange) for name, exchange in exchanges.items()}, rounds)
        milliseconds = {f"{name}_ms": round(value * 1e3, 2) for name, value in taken.items()}
        found[f"{size >> 10} KB"] = {**milliseconds, "saved": round(1 - taken["hierarchical"] / taken["ring"], 3)}
    return found


JOBS: dict[str, Callable[..., dict[str, Any]]] = {"overlap": measure_overlap, "hierarchy": measure_hierarchy}


def over_link(job: str, arguments: dict[str, Any], *, ranks: int, delay_s: float, bytes_per_s: float) -> dict[str, Any]:
    """Run a job of ranks, half of them on each side of an emulated link, and return what rank 0 found."""
    why = unavailable()
    if why is not None:
        return {"not_measured": why}
    with link(delay_s=delay_s, bytes_per_s=bytes_per_s) as made:
        processes = []
        for rank in range(ranks):
            side = rank * 2 // ranks
            place = {
                "RANK": str(rank),
                "WORLD_SIZE": str(ranks),
                "MASTER_ADDR": ADDRESSES[0],
                "MASTER_PORT": "29500",
                "GLOO_SOCKET_IFNAME": made.devices[side],
                "OMP_NUM_THREADS": "1",
            }
            command = made.command(side, [sys.executable, __file__, "--job", job, "--arguments", json.dumps(arguments)])
            processes.append(subprocess.Popen(command, env={**os.environ, **place}, stdout=subprocess.PIPE, text=True))
        try:
            printed = [process.communicate(timeout=1800)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
    if any(process.returncode for process in processes):
        raise RuntimeError(f"a rank of {job} failed")
    found = json.loads(printed[0].splitlines()[-1])
    return {"emulated": {"delay_ms": delay_s * 1e3, "mbit_per_s": bytes_per_s * 8e-6}, **found}


def be_a_rank(job: str, arguments: dict[str, Any]) -> None:
    """What each process of `over_link` does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    context = RankContext(dist.get_rank(), dist.get_world_size())
    found = JOBS[job](context, **arguments)
    dist.barrier()
    if context.is_main:
        print(json.dumps(found), flush=True)
    dist.destroy_process_group()


class Throttled(nn.Module):
    """A network that takes three times as long on rank 1, in proportion to its rows."""

    def __init__(self, context: RankContext, row_s: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
        self.row_s = row_s * (THROTTLE if context.rank == 1 else 1.0)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        if self.training:
            time.sleep(self.row_s * len(inputs["x"]))
        return self.net(inputs["x"]).unsqueeze(1)


def measure_balance(context: RankContext, steps: int) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((8192, 64)).astype(np.float32)
    rows = PreparedDataset.from_arrays({"x": x}, {"target": x[:, :10].argmax(axis=1)})
    found: dict[str, Any] = {}
    losses = {}
    for shares in ("equal", "auto", "equal", "auto"):
        task = MulticlassTask(TargetSpec("classes", ("y",), tuple("0123456789"), (1,) * 10, 10))
        settings = TrainSettings(
            epochs=99, max_steps=steps, batch_size=256, precision="fp32", learning_rate=0.01, optimizer="sgd", shares=shares,
            validate_unit="steps", validate_every=10, log_every=10,
        )  # fmt: skip
        stopwatch = Stopwatch(steps // 2)
        trainer = Trainer(Throttled(context, 1e-3), task, rows, settings=settings, ranks=context, callbacks=[stopwatch])
        history = trainer.fit().history
        losses[shares] = [entry["train_loss"] for entry in history]
        found.setdefault(shares, {"rows_per_s": []})["rows_per_s"].append(round(256 * (steps - steps // 2) / stopwatch.seconds))
        found[shares]["shares"] = list(trainer.loader.shares)
    gain = statistics.median(found["auto"]["rows_per_s"]) / statistics.median(found["equal"]["rows_per_s"])
    largest = max(abs(one - other) for one, other in zip(losses["equal"], losses["auto"], strict=True))
    return {**found, "gain": round(gain, 2), "largest_difference_of_losses": largest, "throttled_by": THROTTLE}


class Stopwatch(Callback):
    """The seconds from one step to the end: what is left once shares have been measured."""

    def __init__(self, begin: int) -> None:
        self.begin, self.began, self.seconds = begin, 0.0, 0.0

    def on_step(self, trainer: Trainer) -> None:
        if trainer.state.step == self.begin:
            self.began = time.perf_counter()

    def on_fit_end(self, trainer: Trainer) -> None:
        self.seconds = time.perf_counter() - self.began


def bytes_by_ranks(small: bool) -> dict[str, Any]:
    """Count in a namespace of its own, where there may be one: nothing else goes over its loopback device."""
    if unavailable() is None and "DS_ALONE" not in os.environ:
        words = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, __file__, "--modes", "bytes"]
        done = subprocess.run(
            [*words, *(["--small"] * small)], env={**os.environ, "DS_ALONE": "1"}, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout)["bytes"]
    return {f"{ranks} ranks": launch(count_bytes, ranks, 3 if small else 20, device="cpu") for ranks in (2, 4)}


def measure(modes: Sequence[str], *, ways: Sequence[str] = (*WAYS,), seeds: int = 1, small: bool = False) -> dict[str, Any]:
    """Return what was measured, by mode; accuracies of these ways and of float32."""
    sizes = [1 << 10, 1 << 14, 1 << 18] if small else [1 << power for power in (10, 12, 14, 16, 18, 20, 22, 24, 26)]
    slow = {"delay_s": SLOW_DELAY_S, "bytes_per_s": SLOW_BYTES_PER_S}
    modes_of: dict[str, Callable[[], dict[str, Any]]] = {
        "bytes": lambda: bytes_by_ranks(small),
        "accuracy": lambda: accuracies(ways, seeds, *((12_000, 1) if small else (60_000, 3))),
        "overlap": lambda: overlaps(small),
        "hierarchy": lambda: over_link("hierarchy", {"rounds": 5 if small else 15, "sizes": sizes}, ranks=8, **slow),
        "balance": lambda: launch(measure_balance, 2, 40 if small else 100, device="cpu"),
    }
    return {mode: modes_of[mode]() for mode in modes}


MODES = ("bytes", "accuracy", "overlap", "hierarchy", "balance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="whose accuracy, beside float32's")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        be_a_rank(given.job, given.arguments)
        return
    began = time.perf_counter()
    found = measure(given.modes, ways=given.ways, seeds=given.seeds, small=given.small)
    print(json.dumps({"benchmark": "communication", **found, "seconds": round(time.perf_counter() - began)}))


if __name__ == "__main__":
    main()
