"""Which backend runs a bundle."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from deepseek import progress
from deepseek.artifacts import Bundle, sha256_file
from deepseek.errors import InputError
from deepseek.inference.backends.signal_stack import keeping_signal_stack
from deepseek.inference.reading import EXPORT, read_export
from deepseek.registry import Spec, family, split_spec

if TYPE_CHECKING:
    from deepseek.inference.backends.base import Backend

AUTO = "auto"
MEASURED = "auto"
"""The folder, among a run's exports, of the one that was chosen by measuring."""
SERVED = "served"
"""The folder of the one that a server has found: servers alone take it, and `predict` and `evaluate` say what they said before."""

_UNITS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def open_backend(bundle: Bundle, spec: Spec = AUTO, *, folders: Sequence[str] = (MEASURED,)) -> tuple[Bundle, Backend]:
    """Return the backend for a bundle, and the bundle that it runs: an export of the given one where the backend needs one.

    Args:
        bundle: The opened bundle, of a run or exported.
        spec: A backend's name, or a mapping with its `type`. `auto` takes what an exported bundle was exported for; for the bundle of a run
            the export that `auto` measured to be fastest on this very machine, else PyTorch.
        folders: Where such an export may stand among those of the run; the first that is there is taken.

    Raises:
        InputError: The backend cannot run this bundle, and there is no export of it that it can.
        MissingExtraError: Its library is not installed.
    """
    registry = family("backend")
    if spec == AUTO:
        bundle, spec = _chosen(bundle, folders)
    else:
        name, _ = split_spec("backend", spec)
        bundle = _runnable(bundle, name, registry.get(name).files)
    with keeping_signal_stack():
        backend: Backend = registry.build(spec, bundle)
    return bundle, backend


def is_measured(bundle: Bundle) -> bool:
    """Whether there is nothing for a server to measure: it was exported for one backend, or measured on this very machine."""
    found = [export for name in (MEASURED, SERVED) for export in _exports(bundle, name)]
    return EXPORT in bundle.manifest["files"] or any(read_export(export).machine == machine() for export in found)


def identity_of(bundle: Bundle) -> str:
    """Return the hash that an export of a bundle names as its origin."""
    return sha256_file(bundle.path / "manifest.json")


def machine() -> str:
    """Return what decides which backend is fastest: the processor and its special units."""
    info = Path("/proc/cpuinfo")
    first = info.read_text(encoding="utf-8").split("\n\n")[0] if info.is_file() else ""
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    has = set(facts.get("flags", "").split())
    return " ".join((facts.get("model name") or platform.processor() or platform.machine(), *(unit for unit in _UNITS if unit in has)))


def _chosen(bundle: Bundle, folders: Sequence[str]) -> tuple[Bundle, Spec]:
    if EXPORT in bundle.manifest["files"]:
        return bundle, read_export(bundle).backend
    for export in (export for name in folders for export in _exports(bundle, name)):
        said = read_export(export)
        if said.machine == machine() and find_spec(family("backend").get(said.backend).library):
            return export, said.backend
    return bundle, "torch"


def _runnable(bundle: Bundle, name: str, files: tuple[str, ...]) -> Bundle:
    # the same arithmetic as in training goes before what was exported in fewer bits
    exports = sorted(_exports(bundle), key=lambda export: read_export(export).precision != "fp32")
    for candidate in (bundle, *exports):
        if any(file in candidate.manifest["files"] for file in files):
            _warn_of_bits(candidate, name, asked=bundle)
            return candidate
    raise InputError(
        f"the backend {name!r} runs {' or '.join(files)}, and {bundle.path} has no such file",
        hint=f"export the run first: deepseek export {bundle.path.parent} --to {'openvino' if name == 'openvino' else 'onnx'}",
    )


def _warn_of_bits(candidate: Bundle, name: str, *, asked: Bundle) -> None:
    if EXPORT not in candidate.manifest["files"] or (export := read_export(candidate)).precision == "fp32":
        return
    if candidate is not asked:
        progress.warn(f"{name} answers in {export.precision}, with {candidate.path}: there is no export in float32 for it")
    if export.backend != name:  # each runtime rounds by itself
        progress.warn(f"{candidate.path}, in {export.precision}, was compared with the original in {export.backend}, not in {name}")


def _exports(bundle: Bundle, name: str = "*") -> list[Bundle]:
    """Return the exports that stand beside a run's bundle and were made from it."""
    if bundle.path.name != "bundle":
        return []
    found = [Bundle.open(path.parent) for path in sorted(bundle.path.parent.glob(f"export/{name}/manifest.json"))]
    return [export for export in found if EXPORT in export.manifest["files"] and read_export(export).origin == identity_of(bundle)]
