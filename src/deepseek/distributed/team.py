"""Ranks that something else has started, torchrun for one: their place, and what rank 0 tells the others to do.

Rank 0 goes the whole road; the others wait for what there is to do together and do that. What rank 0 tells them is a few lines of JSON in
the store that torchrun keeps for its processes; everything else lies on a disk that all of them see.

That store outlives the processes: after torchrun has started them anew, it still holds what those before them have written. So the ranks
first agree on a word of their own, under which they write from then on. A rank asks under a word that nobody has used before, and rank 0,
which has made up theirs, answers every one who asks, until all ranks have said that they know it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, rendezvous  # type: ignore[attr-defined]  # re-exported without being named

from deepseek.distributed.devices import pick_device, set_device
from deepseek.distributed.launch import join_group
from deepseek.distributed.ranks import RankContext
from deepseek.distributed.strategies.horovod import horovod_store
from deepseek.errors import InputError
from deepseek.processors import usable_cores

_ASKED_S = timedelta(seconds=30)
_LOOK_S = 0.05
_KEY = "deepseek"


class Team:
    """The ranks of a job that was started from outside, as one of them sees it.

    Args:
        rank: This process's number.
        ranks: How many there are.
        store: Where they write to each other.

    Attributes:
        name: The name that whoever started it gave the job, `--rdzv-id`, or that torchrun made up for it; nothing where it has none.
        restarts: How often torchrun has started its processes anew because one failed; that machines joined or left does not count.
    """

    def __init__(self, rank: int, ranks: int, store: Store) -> None:
        self.rank, self.ranks, self._store = rank, ranks, store
        self._own: Store | None = None
        self._word = ""
        self._agents: frozenset[str] = frozenset()
        self._told = 0
        self._context: RankContext | None = None
        name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
        self.name = None if name == "none" else name
        self.restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))

    @property
    def leads(self) -> bool:
        """Whether this process tells the others what to do."""
        return self.rank == 0

    @property
    def word(self) -> str:
        """What these processes call themselves; those that are started anew in their place have another one."""
        self._met()
        return self._word

    @property
    def agents(self) -> frozenset[str]:
        """The processes of torchrun that have started the ranks, one a machine; known to rank 0 alone.

        Each belongs to one job from its beginning to its end, whatever becomes of the ranks: where any of those that began a run is among
        these, this is the job that began it, whether or not torchrun has counted that it started its processes anew.
        """
        self._met()
        return self._agents

    def tell(self, message: dict[str, Any]) -> None:
        """Tell the other ranks what to do next; by rank 0.

        Args:
            message: Plain JSON values.
        """
        self._told += 1
        self._met().set(f"told/{self._told}", json.dumps(message))

    def listen(self) -> dict[str, Any]:
        """Wait, however long it takes, until rank 0 says what to do next."""
        self._told += 1
        message: dict[str, Any] = json.loads(_awaited(self._met(), f"told/{self._told}"))
        return message

    def join(self, device: str, *, timeout_s: float) -> RankContext:
        """Join the process group, once, and return this process's place.

        Args:
            device: As for `pick_device`.
            timeout_s: How long a collective may take.
        """
        if self._context is None:
            here = int(os.environ.get("LOCAL_WORLD_SIZE", self.ranks))
            place = pick_device(device, index=int(os.environ.get("LOCAL_RANK", self.rank)))
            if place.type == "cpu":
                torch.set_num_threads(max(usable_cores() // here, 1))
                if here == self.ranks:
                    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine: never over a network card
            else:
                set_device(place)
            self._context = RankContext(self.rank, self.ranks, place, self._met())
            join_group(self._context, timeout_s=timeout_s)
        return self._context

    def _met(self) -> Store:
        """Return the store of these processes alone, after all of them have met."""
        if self._own is None:
            self._word = self._answer_all() if self.leads else self._ask()
            self._own = PrefixStore(f"{_KEY}/{self._word}", self._store)
        return self._own

    def _answer_all(self) -> str:
        word, missing = uuid4().hex, set(range(1, self.ranks))
        while missing:
            for rank in sorted(missing):
                if self._store.check([asked := f"{_KEY}/asks/{rank}"]):  # this one's, or that of one before it
                    self._store.set(f"{_KEY}/{self._store.get(asked).decode()}", word)
            missing = {rank for rank in missing if not self._store.check([f"{_KEY}/{word}/knows/{rank}"])}
            time.sleep(_LOOK_S)
        others = (self._store.get(f"{_KEY}/{word}/knows/{rank}").decode() for rank in range(1, self.ranks))
        self._agents = frozenset({agent_of_this_process(), *others}) - {""}
        return word

    def _ask(self) -> str:
        mine = uuid4().hex
        self._store.set(f"{_KEY}/asks/{self.rank}", mine)
        word = _awaited(self._store, f"{_KEY}/{mine}").decode()
        self._store.set(f"{_KEY}/{word}/knows/{self.rank}", agent_of_this_process())
        return word


def _awaited(store: Store, key: str) -> bytes:
    """Return what stands under a key, however long it takes until something does."""
    while not store.check([key]):
        try:
            store.wait([key], _ASKED_S)
        except (TimeoutError, dist.DistStoreError):
            continue
    return store.get(key)


def agent_of_this_process() -> str:
    """Return what the process of torchrun that started this one is called, on no other machine and at no other time: a number comes again.

    Nothing where it was not torchrun: a shell starts one job after another.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ""
    parent = os.getppid()
    parts = [socket.gethostname(), str(parent)]
    with suppress(OSError):  # no Linux: the number has to do
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(Path(f"/proc/{parent}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])  # began at
    return "-".join(parts)


_team: Team | None = None


def team_of_environment() -> Team | None:
    """Return the team that the variables of torchrun or horovodrun put this process into, the same each time; nothing where it is alone.

    A process that torchrun has started is one of a team also where it is the only one: the job may have had more, and may have again.

    Raises:
        InputError: It is one of several, and nothing says where they meet.
    """
    global _team  # noqa: PLW0603 (a process has one place in one job)
    if _team is None and not dist.is_initialized():
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        if several and "RANK" in os.environ and "MASTER_ADDR" not in os.environ:
            raise InputError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, and MASTER_ADDR is not set: each process would train alone",
                hint="start them by torchrun, or set MASTER_ADDR and MASTER_PORT, too; for one process unset RANK and WORLD_SIZE",
            )
        if (several or "TORCHELASTIC_RUN_ID" in os.environ) and "MASTER_ADDR" in os.environ:
            store, rank, ranks = next(rendezvous("env://"))
            _team = Team(rank, ranks, store)
        elif int(os.environ.get("HOROVOD_SIZE", "1")) > 1:
            store, rank, ranks = horovod_store()
            _team = Team(rank, ranks, store)
    return _team
