"""How much memory answering takes: the peak of a fresh process that opens a bundle and answers one batch."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from deepseek import progress
from deepseek.artifacts import Bundle
from deepseek.inference.backends.choice import open_backend
from deepseek.registry import load_plugin

_CHILD = "import sys; from deepseek.compression.memory import answer_alone; answer_alone(sys.argv[1])"


def peak_memory(bundle: Bundle, backend: str, arrays: Mapping[str, np.ndarray], *, plugins: Sequence[str] = ()) -> int | None:
    """Return the most bytes that a process held which did nothing but open a bundle and answer a batch; Python and its libraries included.

    Args:
        bundle: The bundle.
        backend: What runs it.
        arrays: The batch, as the network is given it.
        plugins: The files or modules that the bundle needs.

    Returns:
        The bytes, or nothing where the process failed, which is told.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "batch.npz"
        np.savez(file, *arrays.values())
        task = {"bundle": str(bundle.path), "backend": backend, "file": str(file), "names": list(arrays), "plugins": list(plugins)}
        command = [sys.executable, "-c", _CHILD, json.dumps(task)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        progress.warn(f"the memory that {backend} takes could not be measured: {reason}")
        return None
    return int(done.stdout)


def answer_alone(task: str) -> None:
    """Answer a batch, and print the most bytes that this process has held: what the fresh process does.

    Args:
        task: As JSON: the `bundle`, the `backend`, the `file` with the batch's arrays, their `names`, and the `plugins` to be loaded.
    """
    given = json.loads(task)
    for plugin in given["plugins"]:
        load_plugin(plugin, Path())
    _, opened = open_backend(Bundle.open(Path(given["bundle"])), given["backend"])
    with np.load(given["file"], allow_pickle=False) as arrays:
        opened.run({name: arrays[f"arr_{place}"] for place, name in enumerate(given["names"])})
    sys.stdout.write(f"{_peak()}\n")


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.is_file():  # the resource module counts what the parent held before this program was started, too
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
