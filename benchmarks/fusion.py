"""What fusing operators gains: counts of kernels and nodes before and after, and the time of a row alone.

ResNet-18, a network of depthwise convolutions and a small transformer encoder, with normalisations as training leaves them. Eager PyTorch
counts as 1; beside it the same with batch normalisations folded into the layers before them (`deepseek.compression.fusion`),
torch.compile, and the exported graph in ONNX Runtime with its optimisations off and on. Contestants take turns, and medians are compared;
every contestant's answers agree with eager's to 1e-5. Prints one JSON line.

    python benchmarks/fusion.py --threads 1 2
    python benchmarks/fusion.py --side 32 --rounds 3 --no-compile
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from deepseek.compression.fusion import folded, kernels
from deepseek.compression.onnx_graph import node_counts
from deepseek.data.transforms.base import InputSpec
from deepseek.fields import Kind
from deepseek.registry import family

LENGTH = 64
LEVELS = {"off": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL}


class Network(nn.Module):
    """One of the project's networks as a function of tensors."""

    def __init__(self, spec: dict[str, object], inputs: dict[str, InputSpec], names: list[str]) -> None:
        super().__init__()
        self.network = family("model").build(spec, inputs, {})
        self.names = names

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.network(dict(zip(self.names, tensors, strict=True)))[:, 0]


class Depthwise(nn.Module):
    """Blocks of MobileNet: a convolution a channel, and one over all channels, each with its normalisation."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 128, 256, 256, 512)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, 2, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for before, after in pairwise(widths):
            stride = 1 if before == after else 2
            layers += [nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False), nn.BatchNorm2d(before), nn.ReLU()]
            layers += [nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))


def contestants(side: int) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """Return the networks with a row for each."""
    photo = InputSpec("photo", Kind.IMAGE, ("photo",), (3, side, side), "float32")
    text = InputSpec("text", Kind.TEXT, ("text",), (), "int32", (8000,), ragged=True)
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, side, side, generator=draw)
    ids = torch.randint(4, 8000, (1, LENGTH), generator=draw, dtype=torch.int32)
    encoder = {"type": "text_transformer", "width": 128, "depth": 2, "heads": 4, "positions": "learned", "pool": "mean"}
    found: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
        "resnet18": (Network({"type": "resnet", "depth": 18}, {"photo": photo}, ["photo"]), (image,)),
        "depthwise": (Depthwise(), (image,)),
        "transformer": (Network(encoder, {"text": text}, ["text", "text_mask"]), (ids, torch.ones(1, LENGTH, dtype=torch.bool))),
    }
    for network, _ in found.values():
        _train(network)
    return found


def _train(network: nn.Module) -> None:
    """Give normalisations numbers of their own: fresh ones change nothing, and folding them would prove nothing."""
    torch.manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.8, 1.2)
            nn.init.normal_(part.bias, std=0.1)
            nn.init.normal_(part.running_mean, std=0.1)
            nn.init.uniform_(part.running_var, 0.8, 1.2)
    network.eval()


def sessions(network: nn.Module, inputs: tuple[Tensor, ...], threads: int, folder: Path) -> tuple[dict[str, Callable], dict[str, int]]:
    """Return the exported graph with ONNX Runtime's optimisations off and on, and how many nodes each computes."""
    path = folder / "model.onnx"
    torch.onnx.export(network, inputs, dynamo=True, verbose=False, input_names=[f"x{place}" for place in range(len(inputs))]).save(path)
    runs, counts = {}, {"written": sum(node_counts(path).values())}
    given = {f"x{place}": tensor.numpy() for place, tensor in enumerate(inputs)}
    for name, level in LEVELS.items():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.graph_optimization_level, options.log_severity_level = threads, level, 3
        options.optimized_model_filepath = str(folder / f"{name}.onnx")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        runs[f"onnxruntime_{name}"] = lambda session=session: session.run(None, given)[0]
        counts[name] = sum(node_counts(folder / f"{name}.onnx").values())
    return runs, counts


def measured(
    network: nn.Module, inputs: tuple[Tensor, ...], *, threads: int, rounds: int, compiled: bool, folder: Path
) -> dict[str, object]:
    """Return counts, times and differences of one network."""
    torch.set_num_threads(threads)
    made = folded(network, lambda copy: copy(*inputs))
    runs: dict[str, Callable[[], np.ndarray]] = {
        "eager": lambda: network(*inputs).numpy(),
        "folded": lambda: made.module(*inputs).numpy(),
    }
    if compiled:
        program = torch.compile(made.module)
        runs["compiled"] = lambda: program(*inputs).numpy()
    more, nodes = sessions(made.module, inputs, threads, folder)
    runs |= more
    with torch.inference_mode():
        wanted = runs["eager"]()
        apart = {name: float(np.abs(run() - wanted).max() / np.abs(wanted).max()) for name, run in runs.items()}
        assert max(apart.values()) <= 1e-5, apart
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - began)
    median = {name: statistics.median(taken) for name, taken in times.items()}
    return {
        "pairs_folded": len(made.pairs),
        "kernels": {
            "eager": sum(kernels(lambda: network(*inputs)).values()),
            "folded": sum(kernels(lambda: made.module(*inputs)).values()),
        },
        "nodes": nodes,
        "ms": {name: round(1000 * value, 3) for name, value in median.items()},
        "speed_up": {name: round(median["eager"] / value, 3) for name, value in median.items()},
        "largest_difference": max(apart.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=51)
    parser.add_argument("--side", type=int, default=224, help="the images' side")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out, which takes half a minute a network")
    arguments = parser.parse_args()
    result: dict[str, object] = {}
    for threads in arguments.threads:
        for name, (network, inputs) in contestants(arguments.side).items():
            torch.compiler.reset()
            with tempfile.TemporaryDirectory() as folder:
                result[f"{name}, {threads} threads"] = measured(
                    network,
                    inputs,
                    threads=threads,
                    rounds=arguments.rounds,
                    compiled=not arguments.no_compile,
                    folder=Path(folder),
                )
    head = {"benchmark": "fusion", "torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "side": arguments.side}
    sys.stdout.write(json.dumps({**head, "result": result}) + "\n")


if __name__ == "__main__":
    main()
