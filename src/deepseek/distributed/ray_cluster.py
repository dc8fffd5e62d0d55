"""Ranks as actors of a Ray cluster, on as many machines as it has.

Ray starts the processes and carries what they are given and return; the ranks talk to each other as everywhere, by PyTorch's collectives.
Source: Moritz et al., "Ray", 2018, https://arxiv.org/abs/1712.05889.
"""

from __future__ import annotations

import os
import signal
import socket
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # re-exported without being named

from deepseek import progress
from deepseek.distributed.devices import collective_backend, limit_threads, pick_device, set_device
from deepseek.distributed.launch import COLLECTIVE_S, INTERRUPTED_S, Outcome, failure_of, require_saved
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
        device: The kind of device, as for `pick_device`; on accelerators each actor has one. With `auto` where the cluster has enough.
        address: The cluster's: `auto` for the one that this machine belongs to, `HOST:PORT`; none for one that is started here and ended.
        timeout_s: How long a collective may take before the ranks give up.

    Raises:
        DeepSeekError: A rank failed on purpose; of the same type, with the rank's traceback as a note.
        MissingExtraError: Ray is not installed.
        RunError: A rank failed otherwise or died, there is no cluster, or it has not enough processors or accelerators.
    """
    ray = _ray()
    own = not ray.is_initialized()
    if own:
        _join(ray, address)
    actors: list[Any] = []
    group = None
    try:
        on_accelerators = _has_accelerators(ray, ranks, device=device)
        wanted = {"CPU": 1.0, **({"GPU": 1.0} if on_accelerators else {})}
        group = ray.util.placement_group([wanted] * ranks, strategy="SPREAD")  # on different machines as far as there are
        _require_places(ray, group, ranks, wanted=wanted)
        strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(placement_group=group)
        kind = ray.remote(num_cpus=1, num_gpus=int(on_accelerators), scheduling_strategy=strategy)(_Rank)
        actors = [kind.remote(rank, ranks, device if on_accelerators else "cpu") for rank in range(ranks)]
        places = ray.get([actor.place.remote() for actor in actors])
        host, port = ray.get(actors[0].open_store.remote())
        nodes = Counter(place.node for place in places)
        meetings = [_Meeting(host, port, timeout_s, nodes[place.node]) for place in places]
        waiting = {actor.run.remote(function, args, meetings[rank]): rank for rank, actor in enumerate(actors)}
        return _collect(ray, waiting, places)
    except ray.exceptions.RayError as error:
        raise RunError(f"Ray could not start the ranks: {error}", hint="look at what `ray status` and the machines' logs say") from error
    finally:
        for actor in actors:
            ray.kill(actor)
        if group is not None:
            ray.util.remove_placement_group(group)  # else it stays reserved as long as whoever began Ray goes on
        if own:
            ray.shutdown()


@dataclass(frozen=True)
class _Place:
    """Where a rank is.

    Attributes:
        node: The node of Ray.
        machine: What tells processes that this one may send signals to from others.
        pid: Its process there.
    """

    node: str
    machine: str
    pid: int


@dataclass(frozen=True)
class _Meeting:
    """Where the ranks meet, and what one has to know of its machine.

    Attributes:
        host: Where their store is.
        port: Its port.
        timeout_s: How long a collective may take.
        here: How many ranks the machine has.
    """

    host: str
    port: int
    timeout_s: float
    here: int


class _Rank:
    """One rank, in a process that Ray has started."""

    def __init__(self, rank: int, ranks: int, device: str) -> None:
        self._rank, self._ranks, self._device = rank, ranks, device
        self._store: Any = None

    def place(self) -> _Place:
        """Return where this process is."""
        return _Place(str(_ray().get_runtime_context().get_node_id()), _machine(), os.getpid())

    def open_store(self) -> tuple[str, int]:
        """Open the store of the job here; return where the others find it."""
        host = str(_ray().util.get_node_ip_address())
        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        return host, int(self._store.port)

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], meeting: _Meeting) -> Any:
        """Join the others and do the work."""
        os.environ.update(RANK=str(self._rank), WORLD_SIZE=str(self._ranks), LOCAL_WORLD_SIZE=str(meeting.here))
        try:
            return self._run(function, args, meeting)
        except BaseException as error:  # noqa: BLE001 (the edge of a rank's process: its traceback goes to the driver)
            return failure_of(error, traceback.format_exc())

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...], meeting: _Meeting) -> Any:
        device = pick_device(self._device)
        if device.type == "cpu":
            limit_threads(meeting.here)
            if meeting.host.startswith("127."):
                os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a cluster on one machine
        else:
            set_device(device)
        store = self._store or TCPStore(meeting.host, meeting.port, is_master=False)
        limit = timedelta(seconds=meeting.timeout_s)
        dist.init_process_group(collective_backend(device), store=store, rank=self._rank, world_size=self._ranks, timeout=limit)
        result = function(RankContext(self._rank, self._ranks, device, store), *args)
        dist.destroy_process_group()
        return result if self._rank == 0 else None


def _join(ray: Any, address: str | None) -> None:
    """Become a driver of the cluster."""
    try:
        ray.init(address=address, log_to_driver=True, logging_level="warning")
    except (ConnectionError, ValueError) as error:
        hint = "start one with: ray start --head; or leave cluster.address out for one that is started here"
        raise RunError(f"there is no Ray cluster at {address!r}: {error}", hint=hint) from error


def _has_accelerators(ray: Any, ranks: int, *, device: str) -> bool:
    """Say whether each rank is to have an accelerator: where one is named, and with `auto` where the cluster has enough of them."""
    if device != "auto":
        return device != "cpu"
    there = int(ray.cluster_resources().get("GPU", 0))
    if 0 < there < ranks:
        progress.warn(f"the cluster has {there} accelerators for {ranks} ranks, which train on processors; {there} workers would use them")
    return there >= ranks


def _require_places(ray: Any, group: Any, ranks: int, *, wanted: dict[str, float]) -> None:
    """Wait until a place is reserved for each rank."""
    if not group.wait(_READY_S):
        there = {name: count for name, count in ray.cluster_resources().items() if name in ("CPU", "GPU")}
        raise RunError(
            f"the Ray cluster has no place for {ranks} ranks with {wanted} each: it has {there}", hint="take fewer workers, or add machines"
        )


def _collect(ray: Any, waiting: dict[Any, int], places: Sequence[_Place]) -> Any:
    """Return what rank 0 returned; raise what the rank raised whose failure was the reason of the others'."""
    outcome = Outcome()
    try:
        while waiting and (ready := ray.wait(list(waiting), num_returns=1, timeout=outcome.left_s)[0]):
            rank = waiting.pop(ready[0])
            try:
                answer = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                hint = "it was killed, most likely for memory, or its machine is gone, or the watch ended it and said why above"
                raise RunError(f"rank {rank} died without a word: {error}", hint=hint) from None
            outcome.take(rank, answer)
    except (KeyboardInterrupt, SystemExit):
        _let_save(ray, places[0], waiting)
        raise
    return outcome.end()


def _let_save(ray: Any, place: _Place, waiting: dict[Any, int]) -> None:
    """Tell rank 0 to end, which tells the others, and wait until they have saved.

    Raises:
        DeepSeekError: A rank failed when it was told to end.
        RunError: A rank has not ended.
    """
    if place.machine == _machine():
        _terminate(place.pid)
    else:  # a process has to be started there for it
        there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=place.node, soft=False)
        told = ray.remote(num_cpus=0, scheduling_strategy=there)(_terminate).remote(place.pid)
        ray.wait([told], timeout=INTERRUPTED_S)
    ended, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=INTERRUPTED_S)
    for one in ended:
        with suppress(ray.exceptions.RayError):  # it ended before it could be asked to
            require_saved(waiting[one], ray.get(one))
    if late:
        ranks = ", ".join(str(waiting[one]) for one in late)
        hint = "a resume goes on from the last checkpoint that was whole by then"
        raise RunError(f"interrupted, and rank {ranks} had not ended after {INTERRUPTED_S:g} s, and was killed", hint=hint)


def _terminate(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def _machine() -> str:
    """Return what processes have in common whose numbers mean the same: a machine, and on it what containers keep apart."""
    parts = [socket.gethostname()]
    with suppress(OSError):  # no Linux: the name has to do
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(), str(Path("/proc/self/ns/pid").readlink())]
    return "-".join(parts)


def require_ray() -> None:
    """Refuse a cluster where Ray is not installed, before anything is made ready for it.

    Raises:
        MissingExtraError: It is not.
    """
    _ray()


def _ray() -> Any:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise MissingExtraError("ray", "cluster", "training on a Ray cluster") from error
    return ray
