"""Forms of one model, made side by side: what agrees with the original is measured, what does not is named with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from deepseek import progress
from deepseek.artifacts import Bundle, RunFolder
from deepseek.compression.settings import Int8Settings
from deepseek.errors import ExportError, InputError, MissingExtraError
from deepseek.exporters.base import Exporter
from deepseek.exporters.export import exported
from deepseek.exporters.fastest import SIZES, Timing, time_backends
from deepseek.exporters.original import Original
from deepseek.exporters.writing import Exported
from deepseek.inference.backends.base import Backend
from deepseek.inference.backends.choice import machine
from deepseek.registry import family

_BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Candidate:
    """A form that a model could be exported in.

    Attributes:
        name: What it is called.
        spec: The exporter's.
        int8: How it is brought to INT8, where it is.
    """

    name: str
    spec: Mapping[str, Any]
    int8: Int8Settings | None = None


def float_candidates(formats: Iterable[str] = tuple(_BACKENDS)) -> list[Candidate]:
    """Return the forms in float32, and in bfloat16 where the processor has units for it.

    Args:
        formats: The exporters' names.
    """
    found = [Candidate(_BACKENDS[name], {"type": name}) for name in formats]
    if "openvino" in formats and any(unit in machine().split() for unit in ("amx_bf16", "avx512_bf16")):
        found.append(Candidate("openvino bf16", {"type": "openvino", "precision": "bf16"}))
    return found


def int8_candidates(settings: Int8Settings, *, spec: Mapping[str, Any] | None = None) -> list[Candidate]:
    """Return the forms in INT8 that the settings allow.

    Args:
        settings: How a network is brought to INT8; `auto` in them stands for all.
        spec: The exporter to take, instead of those that the settings name.
    """
    named = [settings.backend] if settings.backend != "auto" else [name for name in _BACKENDS if name != "openvino" or find_spec("nncf")]
    specs = [spec] if spec is not None else [{"type": name, "precision": "int8"} for name in named]
    found = []
    for one in specs:
        exporter: Exporter = family("exporter").build(one)
        for method in exporter.methods:
            if settings.method in ("auto", method):
                label = f"{one['type'] if spec is not None else exporter.backend} int8 {method}"
                found.append(Candidate(label, one, replace(settings, method=method, backend="auto")))
    return found


def make(
    original: Original, candidates: Iterable[Candidate], folder: Path, *, stack: ExitStack
) -> tuple[dict[str, Exported], dict[str, str]]:
    """Export in each form; return those that pass, by name, and why the others do not.

    Args:
        original: What is exported.
        candidates: The forms.
        folder: The folder in which hidden ones are made.
        stack: Takes them away when it ends.
    """
    made: dict[str, Exported] = {}
    refused: dict[str, str] = {}
    for candidate in candidates:
        progress.log(f"trying {candidate.name}")
        try:
            exporter: Exporter = family("exporter").build(candidate.spec)
            exporter.require_libraries()
            made[candidate.name] = stack.enter_context(exported(original, exporter, folder, int8=candidate.int8))
        except (ExportError, MissingExtraError, InputError) as error:
            refused[candidate.name] = error.message
    return made, refused


def timed(original: Original, made: Mapping[str, Exported]) -> list[Timing]:
    """Return how long PyTorch and each form take for a row alone and for several, in turns and with as many threads."""
    threads = torch.get_num_threads()
    backends: dict[str, Backend] = {"torch": original.predictor.backend}
    for name, one in made.items():
        backends[name] = family("backend").build({"type": one.document["backend"], "threads": threads}, one.bundle)
    return time_backends(backends, {rows: arrays_of(original, rows) for rows in SIZES})


def arrays_of(original: Original, rows: int) -> dict[str, np.ndarray]:
    """Return so many prepared rows; the first ones again where there are fewer."""
    batches = [batch for batch in original.batches() if batch.num_rows]
    whole = pa.Table.from_batches(batches)
    taken = whole.take(pa.array(np.arange(rows) % whole.num_rows)).combine_chunks().to_batches()[0]
    return original.predictor.arrays(taken)


def timing_row(timing: Timing) -> dict[str, Any]:
    """Return a timing as plain JSON values."""
    return {
        "backend": timing.name,
        **{f"ms_{rows}": 1000 * seconds for rows, seconds in timing.seconds.items()},
        **{f"speed_up_{rows}": value for rows, value in timing.speed_up.items()},
    }


def require_place(target: Path) -> Path:
    """Return the folder in which a hidden folder can be made that is renamed to the target; raise `InputError` where that is no bundle."""
    if target.exists() and not (target / "manifest.json").is_file():
        raise InputError(f"{str(target)!r} is there, and is no bundle", hint="name another folder with --output")
    return target.absolute().parent


def export_folder(bundle: Bundle) -> Path:
    """Return the folder of a run's exports; raises `InputError` for a bundle that belongs to no run."""
    if not (bundle.path.parent / "recipe.yaml").is_file():
        raise InputError(f"{bundle.path} belongs to no run, beside which the export could stand", hint="name a folder with --output")
    return RunFolder(bundle.path.parent).export
