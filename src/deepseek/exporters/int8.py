"""Exports in INT8: made of an export in float32 that has passed its gate, and kept only where the metric does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from deepseek import progress
from deepseek.compression.quantizer import Quantizer
from deepseek.compression.sensitivity import Trial, trials
from deepseek.compression.settings import Int8Settings
from deepseek.errors import ExportError
from deepseek.exporters.base import Exporter
from deepseek.exporters.metric import drop_of, passes, said
from deepseek.exporters.original import Original
from deepseek.exporters.parity import compare, require_parity
from deepseek.exporters.writing import Exported, document_of, hidden_bundle


@contextmanager
def exported_int8(original: Original, exporter: Exporter, folder: Path, *, settings: Int8Settings) -> Iterator[Exported]:
    """Write a bundle in INT8 into a hidden folder, and take it away when the block ends.

    The float32 graph comes first and has to answer as the original does. Then all layers are brought to INT8; where the metric on the rows
    that were not trained on falls by more than it may, the layers that change the answers to training rows most stay in float32, more of
    them each time.

    Args:
        original: What is exported, with training rows.
        exporter: What writes it, with the precision `int8`.
        folder: The folder in which the hidden one is made.
        settings: How, and what it may lose.

    Raises:
        ExportError: Every choice of layers loses more than is allowed, or there is no INT8 form.
        InputError: There are no training rows.
    """
    with ExitStack() as kept:
        yield _best(original, exporter, folder, settings=settings, kept=kept)


def _best(original: Original, exporter: Exporter, folder: Path, *, settings: Int8Settings, kept: ExitStack) -> Exported:
    """Return the first choice of layers that passes; its folder is taken away when `kept` ends, and all else with this call."""
    calibration = original.calibration(settings.calibration_rows)
    document = document_of(original, backend=exporter.backend, precision="fp32")
    with hidden_bundle(original, folder, document=document, write=lambda target: exporter.write(original.graph, target)) as whole:
        require_parity(compare(original.predictor, exporter.candidate(whole), original.batches()))
        quantizer = exporter.quantizer(whole.path, calibration, settings)
        tried: list[dict[str, Any]] = []
        for trial in trials(quantizer, calibration, fall_back=settings.fall_back):
            document = document_of(original, backend=exporter.backend, precision="int8")
            write = partial(_write, exporter, quantizer, floats=trial.floats, document=document)
            with ExitStack() as attempt:
                bundle = attempt.enter_context(hidden_bundle(original, folder, document=document, write=write))
                candidate = exporter.candidate(bundle)
                drop = drop_of(original, candidate, allowed=settings.max_drop)
                tried.append({"floats": len(trial.floats), "metric": drop["exported"], "lost": drop["lost"]})
                if not passes(drop):
                    progress.log(f"{quantizer.method}, {len(trial.floats)} of {len(quantizer.layers)} layers in float32: {said(drop)}")
                    continue
                parity = compare(original.predictor, candidate, original.batches())
                document |= {"parity": parity.to_json(), "metric": drop, "int8": _told(quantizer, trial, tried, rows=calibration.rows)}
                kept.push(attempt.pop_all())
                return Exported(bundle, parity, document)
    raise ExportError(_refusal(original, quantizer, settings, tried), hint="nothing was kept; allow more with max_drop, or export in fp32")


def _write(exporter: Exporter, quantizer: Quantizer, target: Path, *, floats: frozenset[str], document: dict[str, Any]) -> None:
    quantizer.write(target, floats=floats)
    document.update(exporter.check(target))


def _told(quantizer: Quantizer, trial: Trial, tried: Sequence[dict[str, Any]], *, rows: int) -> dict[str, Any]:
    return {
        "method": quantizer.method,
        "calibration_rows": rows,
        "layers": len(quantizer.layers),
        "floats": [layer for layer in quantizer.layers if layer in trial.floats],
        "sensitivity": [{"layers": list(one.layers), "error": one.error} for one in trial.measured],
        "trials": list(tried),
    }


def _refusal(original: Original, quantizer: Quantizer, settings: Int8Settings, tried: Sequence[dict[str, Any]]) -> str:
    numbers = ", ".join(f"{one['metric']:.5g} with {one['floats']} of {len(quantizer.layers)} layers in float32" for one in tried)
    name = original.predictor.task.monitor
    return (
        f"in INT8 ({quantizer.method}) {name} loses more than {100 * settings.max_drop:g} points in every trial: it was "
        f"{original.metric:.5g}, and is {numbers}"
    )
