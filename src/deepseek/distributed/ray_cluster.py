"""Ranks as actors of a Ray cluster, on as many machines as it has.

Ray starts the processes and carries what they are given and return; the ranks talk to each other as everywhere, by PyTorch's collectives.
Source: Moritz et al., "Ray", 2018, https://arxiv.org/abs/1712.05889.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # re-exported without being named

from deepseek.distributed.devices import collective_backend, limit_threads, pick_device, set_device
from deepseek.distributed.launch import COLLECTIVE_S, Failure, failure_of, rebuild
from deepseek.distributed.ranks import RankContext
from deepseek.errors import MissingExtraError, RunError

_READY_S = 120


def launch_on_ray(
    function: Callable[..., Any],
    ranks: int,
    *args: Any,
    device: str = "auto",
    address: str | None = None,
    timeout_s: float = COLLECTIVE_S,
) -> Any:
    """Run `function(context, *args)` in one Ray actor a rank and return what rank 0 returned.

    Args:
        function: A function of a module that can be imported on every machine.
        ranks: How many actors, spread over the machines.
        args: What else it is given.
        device: The kind of device, as for `pick_device`; on accelerators each actor has one.
        address: The cluster's: `auto` for the one that this machine belongs to, `HOST:PORT`; none for one that is started here and ended.
        timeout_s: How long a collective may take before the ranks give up.

    Raises:
        DeepSeekError: A rank failed on purpose; of the same type, with the rank's traceback as a note.
        MissingExtraError: Ray is not installed.
        RunError: A rank failed otherwise or died, or the cluster has not enough processors or accelerators.
    """
    ray = _ray()
    own = not ray.is_initialized()
    if own:
        ray.init(address=address, log_to_driver=True, logging_level="warning")
    actors: list[Any] = []
    try:
        group = _places(ray, ranks, on_accelerators=device not in ("auto", "cpu"))
        strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(placement_group=group)
        gpus = 1 if device not in ("auto", "cpu") else 0
        kind = ray.remote(num_cpus=1, num_gpus=gpus, scheduling_strategy=strategy)(_Rank)
        actors = [kind.remote(rank, ranks, device) for rank in range(ranks)]
        host, port = ray.get(actors[0].open_store.remote())
        waiting = {actor.run.remote(function, args, host, port, timeout_s): rank for rank, actor in enumerate(actors)}
        return _collect(ray, waiting)
    finally:
        for actor in actors:
            ray.kill(actor)
        if own:
            ray.shutdown()


class _Rank:
    """One rank, in a process that Ray has started."""

    def __init__(self, rank: int, ranks: int, device: str) -> None:
        self._rank, self._ranks = rank, ranks
        self._device = pick_device(device)
        self._store: Any = None

    def open_store(self) -> tuple[str, int]:
        """Open the store of the job here; return where the others find it."""
        host = str(_ray().util.get_node_ip_address())
        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        return host, int(self._store.port)

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], host: str, port: int, timeout_s: float) -> Any:
        """Join the others and do the work."""
        os.environ.update(RANK=str(self._rank), WORLD_SIZE=str(self._ranks))
        try:
            return self._run(function, args, host, port, timeout_s)
        except BaseException as error:  # noqa: BLE001 (the edge of a rank's process: its traceback goes to the driver)
            return failure_of(error, traceback.format_exc())

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...], host: str, port: int, timeout_s: float) -> Any:
        if self._device.type == "cpu":
            limit_threads(self._ranks)
            if host.startswith("127."):
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a cluster on one machine
        else:
            set_device(self._device)
        store = self._store or TCPStore(host, port, is_master=False)
        limit = timedelta(seconds=timeout_s)
        backend = collective_backend(self._device)
        dist.init_process_group(backend, store=store, rank=self._rank, world_size=self._ranks, timeout=limit)
        result = function(RankContext(self._rank, self._ranks, self._device, store), *args)
        dist.destroy_process_group()
        return result if self._rank == 0 else None


def _places(ray: Any, ranks: int, *, on_accelerators: bool) -> Any:
    """Reserve a place for each rank, on different machines as far as there are."""
    wanted = {"CPU": 1.0, **({"GPU": 1.0} if on_accelerators else {})}
    group = ray.util.placement_group([wanted] * ranks, strategy="SPREAD")
    if not group.wait(_READY_S):
        there = {name: count for name, count in ray.cluster_resources().items() if name in ("CPU", "GPU")}
        raise RunError(
            f"the Ray cluster has no place for {ranks} ranks with {wanted} each: it has {there}", hint="take fewer workers, or add machines"
        )
    return group


def _collect(ray: Any, waiting: dict[Any, int]) -> Any:
    """Return what rank 0 returned; raise what the first rank that failed raised."""
    result = None
    while waiting:
        (ready,), _ = ray.wait(list(waiting), num_returns=1)
        rank = waiting.pop(ready)
        try:
            answer = ray.get(ready)
        except ray.exceptions.RayActorError as error:
            hint = "it was killed, most likely for memory, or the watch ended it and said why above"
            raise RunError(f"rank {rank} died without a word: {error}", hint=hint) from None
        if isinstance(answer, Failure):
            raise rebuild(rank, answer)
        result = answer if rank == 0 else result
    return result


def _ray() -> Any:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise MissingExtraError("ray", "cluster", "training on a Ray cluster") from error
    return ray
