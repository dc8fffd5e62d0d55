"""Checkpoints in the form that Transformers and timm write: a folder of JSON and safetensors, on the disk or on the Hugging Face Hub.

Nothing that comes with a checkpoint is run: no code of its own, and no pickled weights, which are code.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from deepseek.errors import InputError, MissingExtraError

_READ = ("*.json", "*.safetensors", "*.txt")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?$")
WHERE = "give a folder (./checkpoint), or an id on the Hugging Face Hub (owner/name, or owner/name@revision)"


def checkpoint_folder(name: str) -> Path:
    """Return the folder of a checkpoint, fetched from the Hub into its cache where it is no folder here.

    Of a repository on the Hub only JSON, vocabularies and safetensors are fetched. `HF_HUB_OFFLINE`, `HF_HOME` and `HF_TOKEN` mean what
    they mean everywhere.

    Args:
        name: A folder, or `owner/name` on the Hub, with `@revision` for one of its versions.

    Raises:
        InputError: There is no such folder, and it is no id; or the Hub does not have it or cannot be reached.
        MissingExtraError: It is an id, and huggingface_hub is not installed.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if not _HUB_ID.match(name):
        raise InputError(f"there is no checkpoint at {name!r}", hint=WHERE)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "text", f"the checkpoint {name!r}") from error
    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(_READ)))
    except (OSError, ValueError) as error:  # the library's own errors derive from these
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"the checkpoint {name!r} is neither a folder nor to be had from the Hub: {reason}", hint=WHERE) from error


def read_checkpoint_json(folder: Path, file: str) -> dict[str, Any]:
    """Return one of a checkpoint's JSON files; empty where it is not there.

    Raises:
        InputError: It is no mapping in JSON.
    """
    path = folder / file
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no mapping", hint="it is not a checkpoint's")
    return value


def read_checkpoint_config(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's `config.json`.

    Raises:
        InputError: It has none, or one that cannot be read.
    """
    config = read_checkpoint_json(folder, "config.json")
    if not config:
        raise InputError(f"{folder} is no checkpoint: it has no config.json", hint=WHERE)
    return config


def weight_files(folder: Path) -> list[Path]:
    """Return a checkpoint's files of weights.

    Raises:
        InputError: It has none, or only pickled ones, which run whatever code is in them when they are opened.
    """
    found = sorted(folder.glob("*.safetensors"))
    if found:
        return found
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled:
        raise InputError(
            f"{folder} has its weights only as {', '.join(pickled)}, a format that can run code when it is opened",
            hint="take a version with safetensors, or write one where you trust the file: model.save_pretrained(folder)",
        )
    raise InputError(f"{folder} has no weights (*.safetensors)", hint=WHERE)
