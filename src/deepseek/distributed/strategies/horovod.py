"""Horovod's gradient sums in the place of ours, in jobs that `horovodrun` starts."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]  # re-exported without being named

from deepseek.distributed.exchange.base import Bucket, Exchange, Waitable, ring_bytes
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.strategies.base import Placement, Situation, Strategy
from deepseek.distributed.sync import broadcast_
from deepseek.errors import InputError


class Horovod(Strategy):
    """Every rank has the whole model; Horovod sums the gradients while the backward pass runs.

    For clusters that have Horovod and start their jobs by `horovodrun`. Losses, metrics and decisions travel by PyTorch's own collectives.

    Source: Sergeev and Del Balso, 2018, https://arxiv.org/abs/1802.05799.
    """

    whole = True
    formats = frozenset({"fp32", "bf16", "fp16"})

    def place(self, model: nn.Module, situation: Situation, /) -> Placement:
        """Give every rank the weights of rank 0.

        Raises:
            InputError: Horovod is not installed, or did not start this process.
        """
        engine = horovod()
        if not engine.is_initialized() or engine.size() != situation.ranks.ranks:
            raise InputError(
                f"strategy: horovod, and Horovod did not start these {situation.ranks.ranks} ranks",
                hint="start the job by: horovodrun -np RANKS deepseek run RECIPE",
            )
        model.to(situation.ranks.device)
        broadcast_([*model.parameters(), *model.buffers()], situation.ranks)
        placement = Placement(model, situation.ranks)
        placement.exchange = HorovodExchange(situation.ranks, engine=engine)
        return placement


def horovod() -> Any:
    """Return Horovod's module for PyTorch.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module("horovod.torch")
    except ImportError as error:
        hint = "build it for this PyTorch: HOROVOD_WITH_PYTORCH=1 pip install horovod; or take strategy: ddp"
        raise InputError(f"strategy: horovod needs Horovod for PyTorch: {error}", hint=hint) from error


def horovod_store() -> tuple[Store, int, int]:
    """Take this process's place in a job that `horovodrun` has started: a store that all ranks see, its rank, and how many there are.

    Raises:
        InputError: Horovod is not installed.
    """
    engine = horovod()
    engine.init()
    os.environ.update(LOCAL_RANK=str(engine.local_rank()), LOCAL_WORLD_SIZE=str(engine.local_size()))
    rank, ranks = int(engine.rank()), int(engine.size())
    own = TCPStore(socket.gethostname(), 0, ranks, is_master=True, wait_for_workers=False) if rank == 0 else None
    address = (own.host, own.port) if own is not None else None
    host, port = engine.broadcast_object(address, root_rank=0, name="deepseek.store")  # without a name it takes that of the type
    return own or TCPStore(host, port, ranks, is_master=False), rank, ranks


class HorovodExchange(Exchange):
    """Sums buckets of gradients by Horovod's `allreduce_async_`.

    Args:
        context: This process's place in the job.
        engine: The module `horovod.torch`.
    """

    def __init__(self, context: RankContext, /, *, engine: Any) -> None:
        super().__init__(context)
        self._engine = engine

    def exchange(self, bucket: Bucket, weight: Tensor) -> Iterator[Waitable]:
        """Sum the bucket."""
        self.traffic.sent_bytes += ring_bytes(bucket.flat.nbytes, self.context.ranks)
        handle = self._engine.allreduce_async_(bucket.flat, name=f"deepseek.{bucket.index}", op=self._engine.Sum)
        yield _Handle(self._engine, handle)


class _Handle:
    def __init__(self, engine: Any, handle: Any) -> None:
        self._engine, self._handle = engine, handle

    def wait(self) -> None:
        """Wait for the sum."""
        self._engine.synchronize(self._handle)
