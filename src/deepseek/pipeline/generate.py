"""What a trained language model writes."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

from deepseek.inference import Predictor


def generate(run: str | PathLike[str], prompt: str | Sequence[str] = "", *, plugins: Sequence[str] = (), **sampling: Any) -> dict[str, Any]:
    """Go on from a text with a trained language model.

    Args:
        run: A run's folder or a bundle.
        prompt: The text to go on from, or several; empty for a text's beginning.
        plugins: The files or modules of the plugins that the bundle needs.
        sampling: How tokens are chosen: the keywords of `Predictor.generate`.

    Returns:
        `text`: each prompt with what was written behind it; a list where several were given.

    Raises:
        InputError: The run is no language model, or a number is out of range.
    """
    written = Predictor.load(run, plugins=plugins).generate(prompt, **sampling)
    if isinstance(prompt, str):
        return {"text": prompt + str(written)}
    return {"text": [before + after for before, after in zip(prompt, written, strict=True)]}
