"""What this machine and this installation can do: the first thing to look at, and to send along, when something is wrong."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deepseek import __version__
from deepseek.processors import usable_cores
from deepseek.registry import list_components

DISTRIBUTION = "deepseek-framework"
_CORE = ("torch", "numpy", "pyarrow", "polars", "pydantic", "PyYAML", "safetensors", "typer", "rich", "pillow", "tokenizers")
_EXTRAS = {"tensorboard": "track", "wandb": "track", "mlflow": "track", "sklearn": "examples", "uvicorn": "serve", "orjson": "serve"}
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")


def doctor() -> dict[str, Any]:
    """Describe versions, processor, accelerators, memory, disk, optional libraries and components.

    Nothing is changed and nothing is measured; it takes about as long as importing torch.

    Returns:
        Plain JSON values, by topic.
    """
    return {
        "deepseek": __version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in _CORE},
        "extras": {name: _extra(name, extra) for name, extra in _EXTRAS.items()},
        "cpu": _cpu(),
        "accelerators": _accelerators(),
        "accelerator_libraries": _accelerator_libraries(),
        "memory": _memory(),
        "disk": {"folder": str(Path.cwd()), "free_bytes": shutil.disk_usage(Path.cwd()).free},
        "environment": {name: os.environ.get(name) for name in ("DEEPSEEK_DATA", "OMP_NUM_THREADS", "ONEDNN_MAX_CPU_ISA")},
        "components": {name: len(names) for name, names in list_components().items()},
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _extra(library: str, extra: str) -> dict[str, Any]:
    return {"present": find_spec(library) is not None, "extra": extra, "install": f"pip install '{DISTRIBUTION}[{extra}]'"}


def _cpu() -> dict[str, Any]:
    import torch

    return {
        "model": _line_of(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "features": sorted(set((_line_of(Path("/proc/cpuinfo"), "flags") or "").split()) & set(_CPU_FLAGS)),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "threads": torch.get_num_threads(),
    }


def _accelerators() -> list[dict[str, Any]]:
    from deepseek.distributed.devices import list_devices

    return list_devices()


def _accelerator_libraries() -> dict[str, bool]:
    """Return which of the libraries are there that add a kind of device to PyTorch, by the name that a recipe says."""
    from deepseek.distributed.devices import LIBRARIES, has_library

    return {kind: has_library(kind) for kind in LIBRARIES}


def _memory() -> dict[str, int | None]:
    """Return bytes in all and free, and the container's limit where one is set."""
    kilobytes = {name: (_line_of(Path("/proc/meminfo"), name) or "").removesuffix(" kB") for name in ("MemTotal", "MemAvailable")}
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return {
        "total_bytes": _bytes(kilobytes["MemTotal"]),
        "available_bytes": _bytes(kilobytes["MemAvailable"]),
        "container_limit_bytes": int(text) if text.isdecimal() else None,
    }


def _bytes(kilobytes: str) -> int | None:
    return int(kilobytes) * 1024 if kilobytes.isdecimal() else None


def _line_of(path: Path, name: str) -> str | None:
    """Return what stands behind `name:` in one of Linux's descriptions of itself; nothing on other systems."""
    if not path.is_file():
        return None
    lines = path.read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), None)
