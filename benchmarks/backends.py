"""Which backend answers a row alone fastest: ResNet-50 at 224² and an encoder of BERT's size, against eager float32 with the same threads.

Twelve layers of width 768, twelve heads and 128 tokens; ResNet-50 for pictures of 224 pixels. Weights are random but for the head, which
is fitted on the network's features of training rows, so that there is a metric to lose and there are answers to flip: pictures of ten tints
in noise, and texts of two classes that prefer other words. Every form goes through the gates of `deepseek export`: float32 has to agree to
1e-4, bfloat16 and INT8 may lose a tenth and a half of a point of accuracy. Then all take turns, and medians are compared. Prints one JSON
line; with `--isa avx2` from a process in which oneDNN may use AVX2 only, as on processors without units for bfloat16 and INT8.

    python benchmarks/backends.py
    python benchmarks/backends.py --isa avx2
    python benchmarks/backends.py resnet50 --forms floats
    python benchmarks/backends.py --small --rows 60
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pyarrow as pa
import torch
from PIL import Image
from torch import nn

from deepseek.artifacts import Bundle
from deepseek.compression.settings import Int8Settings
from deepseek.data.preparation import Preparation
from deepseek.exporters.fastest import fastest
from deepseek.exporters.metric import MAX_DROP
from deepseek.exporters.original import Original
from deepseek.fields import Field, Kind, Schema
from deepseek.inference.backends.choice import machine
from deepseek.inference.backends.torch import build_model
from deepseek.inference.saving import save_bundle
from deepseek.pipeline.export_candidates import float_candidates, int8_candidates, make, timed, timing_row
from deepseek.registry import family

AVX2, CLASSES, LENGTH, WORDS = "AVX2", 10, 128, 500
RESNET = {"type": "resnet", "depth": 50, "stem": "large"}
ENCODER = {"type": "text_transformer", "width": 768, "depth": 12, "heads": 12, "expansion": 4.0, "positions": "learned", "pool": "mean"}
SMALL = {"resnet50": {**RESNET, "depth": 18}, "encoder12": {**ENCODER, "width": 128, "depth": 2, "heads": 4}}


def pictures(rows: int, side: int, seed: int) -> pa.RecordBatch:
    """Return pictures of ten tints, each a little off, in noise."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, CLASSES, rows)
    files = []
    for label in labels:
        tint = 30 * np.cos(2 * np.pi * (label / CLASSES + np.arange(3) / 3)) + draw.normal(0, 5, 3)
        pixels = 128 + tint + draw.normal(0, 40, (side, side, 3))
        file = BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG", compress_level=1)
        files.append(file.getvalue())
    return pa.record_batch({"photo": pa.array(files), "label": pa.array([f"c{label}" for label in labels])})


def texts(rows: int, _: int, seed: int) -> pa.RecordBatch:
    """Return texts of two classes, which prefer other words a little."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, rows)
    lean = 1 + 0.35 * np.where(np.arange(WORDS) % 2, 1, -1)
    shares = np.stack([lean, 2 - lean]) / WORDS
    written = [" ".join(f"w{word}" for word in draw.choice(WORDS, LENGTH, p=shares[label] / shares[label].sum())) for label in labels]
    return pa.record_batch({"text": pa.array(written), "label": pa.array([f"c{label}" for label in labels])})


CASES: dict[str, tuple[Callable[[int, int, int], pa.RecordBatch], Kind, str, dict[str, Any], str]] = {
    "resnet50": (pictures, Kind.IMAGE, "photo", RESNET, "multiclass"),
    "encoder12": (texts, Kind.TEXT, "text", ENCODER, "multiclass"),
}


def original(name: str, folder: Path, *, rows: int, side: int, small: bool) -> Original:
    """Return a network whose head is fitted on its own features, as a bundle with rows to compare and to calibrate on."""
    draw, kind, column, model, task = CASES[name]
    training, validation = draw(2 * rows, side, 0), draw(rows, side, 1)
    schema = Schema((Field(column, kind), Field("label", Kind.CATEGORY)), ("label",))
    preparation = Preparation(schema, target="classes").fit(lambda: iter([training]))
    torch.manual_seed(0)
    spec = family("model").validate(SMALL[name] if small else model)
    trained = build_model(preparation, spec, {"type": task})
    _fit_head(trained, preparation, training)
    save_bundle(folder / "bundle", trained, preparation, model=spec, task={"type": task})
    cut = lambda batch: lambda: iter([batch.slice(start, 32) for start in range(0, batch.num_rows, 32)])  # noqa: E731
    return Original.of(Bundle.open(folder / "bundle"), cut(validation), training=cut(training))


def _fit_head(trained: Any, preparation: Preparation, rows: pa.RecordBatch) -> None:
    """Let normalisations see the rows, then fit the last layer by ridge regression."""
    from deepseek.data.batch import as_inputs

    for part in trained.modules():
        if hasattr(part, "downsample"):  # branches that begin small (Goyal et al., 2017) keep a random network's features apart
            nn.init.constant_(getattr(part, "bn3", part.bn2).weight, 0.1)
    batches = [rows.slice(start, 16) for start in range(0, rows.num_rows, 16)]
    inputs = [as_inputs(preparation.arrays(batch)) for batch in batches]
    norms = [part for part in trained.modules() if isinstance(part, nn.BatchNorm2d)]
    for part in norms:
        part.momentum = None  # the mean of all batches
    with torch.no_grad():
        if norms:
            trained.train()
            for batch in inputs[:8]:
                trained.network(batch)
        trained.eval()
        features = torch.cat([trained.network(batch)[:, 0] for batch in inputs]).double()
        target = torch.cat([torch.from_numpy(preparation.target.apply(batch)["target"]) for batch in batches]).long()
        wanted = nn.functional.one_hot(target).double()
        mean, spread = features.mean(0), features.std(0) + 1e-6
        x = (features - mean) / spread
        weights = torch.linalg.solve(x.T @ x + len(x) * torch.eye(x.shape[1], dtype=x.dtype), x.T @ (wanted - wanted.mean(0)))
        head = next(part for part in trained.head.modules() if isinstance(part, nn.Linear))
        head.weight.copy_((5 * weights / spread[:, None]).T)
        head.bias.copy_(5 * (wanted.mean(0) - (mean / spread) @ weights))


def measured(name: str, *, rows: int, side: int, small: bool, forms: str) -> dict[str, Any]:
    """Return every form's agreement and times, and which `auto` takes."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        whole = original(name, folder, rows=rows, side=side, small=small)
        candidates = float_candidates()
        if forms == "all":
            candidates += int8_candidates(Int8Settings(max_drop=MAX_DROP["int8"], calibration_rows=min(rows, 128)))
        made, refused = make(whole, candidates, folder, stack=stack)
        print(f"{name}: timing", file=sys.stderr, flush=True)
        timings = timed(whole, made)
        agreement = {
            form: {
                "largest_difference": one.parity.difference,
                "flipped": one.parity.flipped,
                "lost": one.document.get("metric", {}).get("lost"),
                "floats": one.document.get("int8", {}).get("floats"),
            }
            for form, one in made.items()
        }
        best = fastest(timings)
        plain = [timing for timing in timings if "int8" not in timing.name]
        return {
            "rows": rows,
            "accuracy": whole.metric,
            "agreement": agreement,
            "refused": refused,
            "timings": [timing_row(timing) for timing in timings],
            "auto": fastest(plain).name,
            "auto_speed_up": {size: round(value, 3) for size, value in fastest(plain).speed_up.items()},
            "auto_with_int8": best.name,
            "auto_with_int8_speed_up": {size: round(value, 3) for size, value in best.speed_up.items()},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=[])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rows", type=int, default=300, help="rows that all forms are asked; twice as many are learned from")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--small", action="store_true", help="ResNet-18 and a two-layer encoder, to see that it runs")
    parser.add_argument(
        "--forms", choices=["all", "floats"], default="all", help="floats leaves INT8 out, whose gates take most of the time"
    )
    parser.add_argument("--isa", choices=["all", "avx2"], default="all")
    arguments = parser.parse_args()
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", "all")
    if arguments.isa == "avx2" and isa != AVX2:  # the library reads it once, when it is loaded
        sys.exit(subprocess.run([sys.executable, *sys.argv], check=False, env={**os.environ, "ONEDNN_MAX_CPU_ISA": AVX2}).returncode)
    torch.set_num_threads(arguments.threads)
    head = {
        "benchmark": "backends",
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "openvino": openvino.__version__,
        "threads": arguments.threads,
        "isa": isa,
        "processor": machine(),
    }
    side = 64 if arguments.small else arguments.side
    result = {
        name: measured(name, rows=arguments.rows, side=side, small=arguments.small, forms=arguments.forms)
        for name in arguments.cases or CASES
    }
    sys.stdout.write(json.dumps({**head, "result": result}) + "\n")


if __name__ == "__main__":
    main()
