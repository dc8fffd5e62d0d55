"""What one worker serves, changed while it is served: bundles exchanged, the arms of experiments opened and let go.

Whatever is changed is written to the server's `models.json` and followed, here and in all workers: what was answered with 200 is also what
a server that is killed at this moment begins with.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepseek.errors import DeepSeekError
from deepseek.serving.experiments.arms import OpenArm, open_arm
from deepseek.serving.experiments.audit import note
from deepseek.serving.experiments.running import Running
from deepseek.serving.experiments.settings import Arm, Experiment
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.metrics import Metrics
from deepseek.serving.models import Models, ServedModel
from deepseek.serving.state import State, Wanted

log = logging.getLogger("deepseek.serving")

Everywhere = Callable[[str, int], Awaitable[dict[str, int]]]
_Kind = tuple[str, str, bool]


class Exchange:
    """Changes what one worker serves, and asks the others to follow.

    Args:
        models: The models.
        state: What all workers agree on.
        metrics: Where is counted.
        opened: What was wanted when the models were opened.

    Attributes:
        lock: Held by whoever changes what is served.
        running: The experiments that this worker takes part in, by model.
        everywhere: Waits until all workers have followed a change, and says how many have.
        followed: The serial of what this worker has followed last, or failed to, by model.
        failed: The models whose last change it has failed to follow.
    """

    def __init__(self, models: Models, state: State, metrics: Metrics, *, opened: Mapping[str, Wanted]) -> None:
        self.models, self.state, self.metrics = models, state, metrics
        self.lock = asyncio.Lock()
        self.running: dict[str, Running] = {}
        self.everywhere: Everywhere = _only_here
        self.followed: dict[str, int] = dict.fromkeys((model.name for model in models.all()), -1)
        self.failed: set[str] = set()
        self._opened = {name: one.opened for name, one in opened.items()}
        self._reopened = {name: one.reopened for name, one in opened.items()}
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self) -> None:
        """Take up what is wanted and was not followed yet; what fails is logged, and the rest goes on."""
        async with self.lock:
            for name, wanted in self.state.read().items():
                if wanted.serial > self.followed.get(name, -1):
                    try:
                        await self.take_up(name, wanted)
                    except DeepSeekError as error:
                        log.error("model %s stays as it is: %s", name, error)  # noqa: TRY400 - the message says it all
                        self.note_followed(name, wanted, failed=True)
                    except Exception:  # libraries that run networks are foreign code: memory was short, say; later changes are followed
                        log.exception("model %s stays as it is", name)
                        self.note_followed(name, wanted, failed=True)
                    else:
                        self.note_followed(name, wanted)

    def note_followed(self, name: str, wanted: Wanted, *, failed: bool = False) -> None:
        """Note that this worker has followed a change, or failed to.

        Args:
            name: The model.
            wanted: What is to be served under its name.
            failed: Whether it has failed.
        """
        self.followed[name] = wanted.serial
        if failed:
            self.failed.add(name)
        else:
            self.failed.discard(name)

    async def take_up(self, name: str, wanted: Wanted) -> None:
        """Open what is wanted here; called with the lock held.

        Args:
            name: The model.
            wanted: What is to be served under its name.

        Raises:
            BundleError: A bundle is not there, or not as it was written.
        """
        before = self._arms(name)
        again, other = wanted.reopened > self._reopened.get(name, 0), wanted.opened > self._opened.get(name, 0)
        if again or other:
            try:
                await self.models.load(name, wanted.place if other else self.models.get(name).bundle)
            except BaseException:
                if not wanted.experimenting:  # the old model goes on, and an experiment that has ended does not
                    await self._arrange(name, before, None)
                raise
            self._opened[name], self._reopened[name] = wanted.opened, wanted.reopened
            self.running.pop(name, None)  # its champion is leaving
        value = wanted.experiment
        experiment = Experiment.from_json(value) if value is not None and wanted.experimenting else None
        await self._arrange(name, before, experiment, anew=again)

    async def begin(self, name: str, experiment: Experiment, arms: Sequence[OpenArm]) -> None:
        """Answer with the arms of a new experiment; called with the lock held.

        Args:
            name: The model.
            experiment: The experiment.
            arms: Its arms, opened here already.
        """
        await self._arrange(name, arms, experiment)

    async def _arrange(self, name: str, before: Sequence[OpenArm], experiment: Experiment | None, *, anew: bool = False) -> None:
        """Open the arms that are wanted and not there yet (or all of them), answer with them, and let go of the others."""
        there = {} if anew else {_kind(arm.arm): arm for arm in before}
        kept: list[OpenArm] = []
        if experiment is None:
            self.running.pop(name, None)
        else:
            kept = [there[kind] for arm in experiment.others if (kind := _kind(arm)) in there]
            arms = await self._opened_arms(name, experiment.others, there)
            for opened, arm in zip(arms, experiment.others, strict=True):
                opened.arm = arm
                opened.begin()
            self.running[name] = Running(experiment, self.models.get(name), arms, metrics=self.metrics)
        self._let_go(left for left in before if left not in kept)

    async def _opened_arms(self, name: str, wanted: Sequence[Arm], there: Mapping[_Kind, OpenArm]) -> list[OpenArm]:
        """Return arms, those opened that are not there; all or none."""
        arms: list[OpenArm] = []
        try:
            for arm in wanted:
                arms.append(  # noqa: PERF401 - those before one that fails are closed
                    there[kind] if (kind := _kind(arm)) in there else await open_arm(self.models, name, arm, metrics=self.metrics)
                )
        except BaseException:
            self._let_go(arm for arm in arms if arm not in there.values())
            raise
        return arms

    def _let_go(self, arms: Iterable[OpenArm]) -> None:
        for arm in arms:
            task = asyncio.get_running_loop().create_task(arm.close())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def load(self, name: str, path: str, *, who: str) -> dict[str, Any]:
        """Take up another bundle here, which proves it, and then in all workers.

        Args:
            name: The model.
            path: The bundle.
            who: Who asked for that.

        Raises:
            RefusedError: There is no such model (404), or an experiment runs on it (409).
            BundleError: The bundle is not there, or not as it was written; the old one stays.
        """
        return await self.exchange(name, path, refuse_while_it_runs, who=who, what="load")

    async def exchange(self, name: str, path: str, change: Callable[[Wanted], Wanted], *, who: str, what: str) -> dict[str, Any]:
        """Exchange a bundle here, and wait for the others without holding the lock: they may be waiting for this worker.

        Args:
            name: The model.
            path: The bundle that is taken up.
            change: What else is wanted then; what it raises leaves everything as it was.
            who: Who asked for that.
            what: What the log calls it: `load`, `promote` or `rollback`.

        Raises:
            RefusedError: There is no such model (404), or `change` refuses.
            BundleError: The bundle is not there, or not as it was written; the old one stays.
        """
        async with self.lock:
            new, wanted = await self._exchange_here(name, path, change, who=who, what=what)
        return {"model": name, "version": new.version, "workers": await self.everywhere(name, wanted.serial)}

    async def _exchange_here(
        self, name: str, path: str, change: Callable[[Wanted], Wanted], *, who: str, what: str
    ) -> tuple[ServedModel, Wanted]:
        """Open a bundle here, then let all others follow; without any wait between the two, so that nobody meets a champion that leaves."""
        old = self.models.get(name)
        change(self.state.read()[name])  # what is refused is refused before anything is opened
        began = time.perf_counter()
        new = await self.models.open(name, path)
        before = self._arms(name)

        def exchanged(wanted: Wanted) -> Wanted:
            changed = change(wanted)
            kept = changed.previous if what == "rollback" else (*changed.previous, old.bundle)
            return changed.exchanged(str(Path(path).absolute()), kept, bundle=new.bundle)

        try:
            wanted = self.state.change(name, exchanged)
        except BaseException:  # an experiment was begun or ended elsewhere at this moment, or the disk is full
            await new.close()
            raise
        self.models.exchange(new, seconds=time.perf_counter() - began)
        self._opened[name] = wanted.opened
        self.running.pop(name, None)
        await self._arrange(name, before, None)
        self.note_followed(name, wanted)
        note(self.state.folder, name, who=who, what=what, old=old.version, new=new.version)
        return new, wanted

    def _arms(self, name: str) -> Sequence[OpenArm]:
        running = self.running.get(name)
        return () if running is None else running.arms

    async def close(self) -> None:
        """Let go of all arms."""
        await asyncio.gather(*(running.close() for running in self.running.values()))


async def _only_here(name: str, serial: int) -> dict[str, int]:  # noqa: ARG001 - there is nobody else
    return {"switched": 1, "of": 1}


def _kind(arm: Arm) -> _Kind:
    """Return what an arm has to be opened for anew when it changes; a shadow's thread is a quiet one for good."""
    return arm.name, arm.path, arm.role == "shadow"


def refuse_while_it_runs(wanted: Wanted) -> Wanted:
    """Return what is wanted of a model on which no experiment runs.

    Args:
        wanted: What is wanted.

    Raises:
        RefusedError: An experiment runs (409).
    """
    if wanted.experimenting:
        raise RefusedError(409, "an experiment runs on this model", hint="promote one of its arms, or stop it, first")
    return wanted
