"""What a server's processes and its GPUs are doing, asked for at the moment when somebody wants to know."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

Sample = tuple[str, dict[str, str], float]
"""A metric's name, its labels and its value."""
PROC = Path("/proc")
_UTIME, _STIME = 11, 12
"""Places in `/proc/PID/stat` behind the name in brackets (proc(5)), from 0."""


def process_samples(processes: Mapping[int, str]) -> Iterator[Sample]:
    """Return memory and processor time of processes, where the system has `/proc`.

    Args:
        processes: What each does, by its id.
    """
    for process, role in processes.items():
        try:
            pages = int((PROC / str(process) / "statm").read_text().split()[1])
            times = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError, IndexError):  # it has just ended, or there is no /proc here
            continue
        labels = {"process": str(process), "role": role}
        yield "deepseek_process_resident_bytes", labels, float(pages * os.sysconf("SC_PAGE_SIZE"))
        yield "deepseek_process_cpu_seconds_total", labels, (int(times[_UTIME]) + int(times[_STIME])) / os.sysconf("SC_CLK_TCK")


def gpu_samples() -> list[Sample]:
    """Return use and memory of each GPU: from NVIDIA's management library (`pip install nvidia-ml-py`), else memory alone, from PyTorch.

    What is asked is documented at https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html.
    """
    nvml = _nvml()
    if nvml is not None:
        return [sample for number in range(nvml.nvmlDeviceGetCount()) for sample in _of_device(nvml, number)]
    torch = sys.modules.get("torch")  # a process that has not loaded it runs nothing on a GPU
    if torch is None or not torch.cuda.is_available():
        return []
    found = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        found += _memory({"gpu": str(number), "name": torch.cuda.get_device_name(number)}, total - free, total)
    return found


def _of_device(nvml: Any, number: int) -> list[Sample]:
    found: list[Sample] = []
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(number)
        name = nvml.nvmlDeviceGetName(device)
        labels = {"gpu": str(number), "name": name.decode() if isinstance(name, bytes) else name}
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
        found += _memory(labels, memory.used, memory.total)
        # a device that is divided into instances has no use of its own
        found.append(("deepseek_gpu_utilization_ratio", labels, nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100))
    except nvml.NVMLError:
        return found
    return found


def _memory(labels: dict[str, str], used: int, total: int) -> list[Sample]:
    return [("deepseek_gpu_memory_used_bytes", labels, float(used)), ("deepseek_gpu_memory_bytes", labels, float(total))]


@cache
def _nvml() -> Any:
    """Return NVIDIA's management library, initialised once; nothing where it or a driver is not there."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
