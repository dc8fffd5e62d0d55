"""What a finished run is delivered as: the forms that its recipe asks for under `compress` and `export`."""

from __future__ import annotations

from typing import Any

from deepseek import progress
from deepseek.artifacts import RunFolder, export_name
from deepseek.pipeline.compress import INT8, compress_to, int8_settings
from deepseek.pipeline.export import export
from deepseek.recipe import Recipe
from deepseek.recipe.values import AUTO


def deliver(recipe: Recipe, folder: RunFolder, *, rows: Any = None, calibrate: Any = None) -> None:
    """Compress and export a finished run; what is there already stays.

    Args:
        recipe: Says what to, under `compress` and `export`.
        folder: The run.
        rows: The rows that all forms are asked; the run's own where not given.
        calibrate: The rows on which ranges are measured; the run's own where not given.

    Raises:
        ExportError: A form answers otherwise, or loses more than it may.
    """
    section = recipe.compress.int8 if recipe.compress is not None else None
    if section is not None and not (folder.export / INT8).is_dir():
        formats = ("onnx", "openvino") if section.backend == AUTO else (section.backend,)
        kept = compress_to(folder.path, settings=int8_settings(section), formats=formats, rows=(rows, calibrate))
        progress.log(f"compressed to {kept['bundle']}: {kept['chosen']}")
    for spec in recipe.export:
        name = spec if isinstance(spec, str) else spec["type"]
        int8 = not isinstance(spec, str) and spec.get("precision") == INT8
        quantize = section.model_dump() if section is not None and (int8 or name == AUTO) else None
        if not (folder.export / export_name(spec)).is_dir():
            made = export(folder.path, to=spec, quantize=quantize, rows=rows, calibrate=calibrate)
            progress.log(f"exported to {made['bundle']}")
