"""Rows as vectors, written to a file."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deepseek.artifacts import Bundle
from deepseek.errors import BundleError
from deepseek.inference.embedding import TEXT, save_checkpoint_embedder, save_embedder
from deepseek.models.encoders.text import Pooling
from deepseek.pipeline.predict import predict
from deepseek.registry import load_plugin


def embed(  # noqa: PLR0913 (what is embedded, by what, how, and where it goes)
    run: str | PathLike[str],
    source: Any,
    output: str | PathLike[str],
    *,
    column: str = TEXT,
    pool: Pooling = "mean",
    normalized: bool = False,
    bundle: str | PathLike[str] | None = None,
    plugins: Sequence[str] = (),
) -> dict[str, Any]:
    """Write a vector for every row: what a trained network, or a pre-trained one as it is, makes of it before any decision.

    Args:
        run: A run's folder or a bundle; or a checkpoint of texts: its folder, or `owner/name` on the Hugging Face Hub.
        source: The rows, as `predict` takes them.
        output: Where to write, a file ending in `.parquet`, `.arrow` or `.jsonl`: the column `embedding` holds a list of float32 a row.
        column: Of a checkpoint, the column of texts.
        pool: Of a checkpoint, how tokens become one vector: `mean`, `first` or `max`.
        normalized: Whether every vector is brought to length 1.
        bundle: Also keeps, in this folder, which must not exist, the bundle that answers so, to be exported and served as any other.
        plugins: The files or modules of the plugins that the run needs.

    Returns:
        `output`, `rows` and `warnings` as `predict` returns them, and `bundle` where one was kept.

    Raises:
        InputError: It is neither a run nor a checkpoint.
        RunError: The folder for the bundle is there already.
    """
    for plugin in plugins:
        load_plugin(plugin, Path())
    with TemporaryDirectory() as scratch:
        target = Path(bundle) if bundle is not None else Path(scratch) / "bundle"
        made = _made(run, target, column=column, pool=pool, normalized=normalized)
        told = predict(made, source, output, plugins=plugins)
    return {**told, **({"bundle": str(target)} if bundle is not None else {})}


def _made(run: str | PathLike[str], target: Path, *, column: str, pool: Pooling, normalized: bool) -> Path:
    is_checkpoint = (Path(run) / "config.json").is_file() or not Path(run).exists()
    if is_checkpoint and (Path(run).exists() or str(run).count("/") == 1):
        return save_checkpoint_embedder(target, str(run), column=column, pool=pool, normalized=normalized)
    try:
        opened = Bundle.open(Path(run))
    except BundleError as error:
        raise BundleError(error.message, hint="name a run, a bundle, or the folder of a checkpoint") from None
    return save_embedder(target, opened, normalized=normalized)
