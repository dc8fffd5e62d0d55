"""A device `npu` written in Python, over PyTorch's hooks for devices that others add; its memory is the processor's, and it counts.

Run as a program it trains a small network by a recipe's words, once on this device and once on the processor, and prints both as JSON.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

import pyarrow as pa
import torch
from torch.utils import _pytree as pytree
from torch.utils import backend_registration
from torch.utils._python_dispatch import return_and_correct_aliasing

PLACE = torch.device("cpu")
CALLED: Counter[str] = Counter()


class OnDevice(torch.Tensor):
    """A tensor that says it lies on the device; what it holds is a tensor of the processor's."""

    @staticmethod
    def __new__(cls, held):
        like = {"dtype": held.dtype, "layout": held.layout, "device": torch.device("npu", 0)}
        return torch.Tensor._make_wrapper_subclass(cls, held.shape, held.stride(), held.storage_offset(), **like)

    def __init__(self, held):
        self.held = held

    def tolist(self):
        return self.held.tolist()  # PyTorch's own refuses subclasses

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        CALLED[func.overloadpacket.__name__] += 1
        leaves = "device" in kwargs and kwargs["device"] is not None and torch.device(kwargs["device"]).type == "cpu"
        if kwargs.get("device") is not None:
            kwargs["device"] = PLACE
        inner_args, inner_kwargs = pytree.tree_map_only(OnDevice, lambda one: one.held, (args, kwargs))
        out = func(*inner_args, **inner_kwargs)
        if leaves or (func.overloadpacket is torch.ops.aten.copy_ and not isinstance(args[0], OnDevice)):
            return args[0] if func.overloadpacket is torch.ops.aten.copy_ else out
        wrapped = pytree.tree_map_only(torch.Tensor, OnDevice, out)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)


class Module:
    """What PyTorch's users call `torch.npu`."""

    generator = torch.Generator()

    def is_initialized(self):
        return True

    def is_available(self):
        return True

    def device_count(self):
        return 1

    def current_device(self):
        return 0

    def _is_in_bad_fork(self):
        return False

    def get_device_name(self, index=0):
        return "a device in Python"

    def get_amp_supported_dtype(self):
        return [torch.bfloat16]

    def manual_seed(self, seed):
        CALLED["manual_seed"] += 1
        torch.default_generator.manual_seed(seed)

    def manual_seed_all(self, seed):
        self.manual_seed(seed)

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        torch.set_rng_state(state)


def register():
    """Add the device to PyTorch."""
    backend_registration._setup_privateuseone_for_python_backend("npu", backend_module=Module())
    library = torch.library.Library("aten", "IMPL")

    def empty(size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
        return OnDevice(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))

    def empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
        return OnDevice(torch.empty_strided(size, stride, dtype=dtype))

    library.impl("empty.memory_format", empty, "PrivateUse1")
    library.impl("empty_strided", empty_strided, "PrivateUse1")
    return library


def main() -> None:
    kept = register()
    import deepseek
    from deepseek.distributed.devices import list_devices

    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 2, generator=draw)
    table = pa.table({"a": x[:, 0].numpy(), "b": x[:, 1].numpy(), "y": ["yes" if one > 0 else "no" for one in x.sum(1).tolist()]})
    told = {"devices": list_devices()}
    for device in ("npu", "cpu"):
        CALLED.clear()
        settings = [
            f"train.device={device}",
            "train.epochs=3",
            "train.batch_size=50",
            "model={type: mlp, width: 16}",
            "train.precision=fp32",
            "seed=1",
        ]
        run = deepseek.train(table, target="y", out=f"{sys.argv[1]}/{device}", overrides=settings, progress=False)
        told[device] = {"metrics": run.metrics["test"], "calls": sum(CALLED.values()), "seeds": CALLED["manual_seed"]}
    sys.stdout.write(json.dumps(told))
    del kept


if __name__ == "__main__":
    main()
