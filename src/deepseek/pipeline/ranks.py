"""The ranks of a run, however they came to be: started here, or by torchrun, which may start them anew."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepseek import progress
from deepseek.artifacts import RunFolder, read_json, write_json
from deepseek.artifacts.run import standing_runs
from deepseek.distributed import launch
from deepseek.distributed.launch import COLLECTIVE_S
from deepseek.distributed.ray_cluster import launch_on_ray
from deepseek.distributed.team import team_of_environment
from deepseek.errors import DeepSeekError, InputError
from deepseek.pipeline.fitting import Job, fit
from deepseek.recipe.sections import ClusterSection
from deepseek.training import TrainSettings

FIT, END, FAIL = "fit", "end", "fail"
"""What rank 0 tells the others: train with me; we are done; I have failed."""
_SPARE_S = 60.0
_NEVER_S = 365 * 86_400.0
"""A collective has to be given a limit: a year, where nothing is to be stopped."""
STARTED_BY = "job.json"
"""The file in a run's folder that says which of torchrun's jobs began it."""


def refuse_several_processes(what: str) -> None:
    """Refuse work that every one of several processes would do for itself: it trains several times, and only a run's road is shared.

    Args:
        what: The work, in words.

    Raises:
        InputError: torchrun or horovodrun has started several processes.
    """
    team = team_of_environment()
    if team is not None and team.ranks > 1:
        raise InputError(
            f"{what} was started in {team.ranks} processes at once, each of which would do all of it",
            hint="start it once, not by torchrun or horovodrun; train.devices and cluster say on what it trains",
        )


def fit_everywhere(
    job: Job, *, home: Path, callbacks: Sequence[Mapping[str, Any]], cluster: ClusterSection | None = None
) -> dict[str, Any]:
    """Train on all ranks and return what rank 0 returns.

    Args:
        job: What is to be done.
        home: What the recipe's paths are relative to.
        callbacks: Specs of callbacks that do not stand in the recipe.
        cluster: The cluster that is to run the ranks; none for this machine.

    Raises:
        InputError: The recipe asks for a cluster, and torchrun has started this process; or this is a rank that is told what to do.
    """
    settings, team = job.settings, team_of_environment()
    if team is not None and not team.leads:
        refuse_several_processes("a training that is not a run of its own")
    limit = collective_s(settings)
    if cluster is not None:
        if team is not None:
            raise InputError("the recipe has a section 'cluster', and torchrun has started this process", hint="take one of them")
        job = replace(job, settings=replace(settings, devices=cluster.workers))
        on_ray: dict[str, Any] = launch_on_ray(fit, cluster.workers, job, device=settings.device, address=cluster.address, timeout_s=limit)
        return on_ray
    if team is None:
        if settings.devices > 1:
            progress.log(f"starting {settings.devices} processes, one a device")
        outcome: dict[str, Any] = launch(fit, settings.devices, job, device=settings.device, timeout_s=limit)
        return outcome
    message = {"run": str(job.run), "dataset": str(job.dataset), "home": str(home.absolute()), "measured": list(job.measured)}
    team.tell({"do": FIT, **message, "callbacks": [dict(spec) for spec in callbacks]})
    with named(team.rank):
        return fit(team.join(settings.device, timeout_s=limit), job)


def collective_s(settings: TrainSettings) -> float:
    """Return how long a collective may take: longer than the watch waits, so that it says which rank hangs before one fails."""
    return _NEVER_S if settings.stall_s is None else max(COLLECTIVE_S, settings.stall_s + _SPARE_S)


@contextmanager
def named(rank: int) -> Iterator[None]:
    """Note with an error which rank's it is, and where that was: ranks of torchrun have nobody who does it for them.

    Args:
        rank: This process's number.
    """
    try:
        yield
    except DeepSeekError as error:
        error.add_note(f"Traceback of rank {rank}:\n{traceback.format_exc()}")
        raise


def mark(folder: RunFolder) -> None:
    """Note in a run's folder which of torchrun's jobs has begun it, or goes on with it."""
    if (team := team_of_environment()) is not None:
        write_json(folder.path / STARTED_BY, {"job": team.name, "agents": sorted(team.agents), "word": team.word})


def begun_by_this_job(runs: Path) -> RunFolder | None:
    """Return the run that this job had begun before torchrun started its processes anew; nothing where there is none.

    A job is known by the processes of torchrun that started its ranks. One that has a name is known by it, too: it goes on with what a job
    of that name has begun and not brought to its end.

    Args:
        runs: The folder of the runs of this recipe's name.
    """
    team = team_of_environment()
    if team is None or not runs.is_dir():
        return None
    others: list[RunFolder] = []
    for run in map(RunFolder, reversed(standing_runs(runs))):
        told = run.path / STARTED_BY
        begun = read_json(told) if told.is_file() else {}
        if not begun or begun["word"] == team.word:  # not under torchrun; or by these very processes, which train once more
            continue
        if not team.agents.isdisjoint(begun["agents"]):
            progress.log(f"started anew by torchrun: going on with {run.path}")
            return run
        if team.name is not None and begun["job"] == team.name:
            if run.metrics.is_file():
                break  # an earlier job of this name came to its end
            progress.log(f"begun by the job {team.name!r}: going on with {run.path}")
            return run
        others.append(run)
    if team.name is None and team.agents and others and not others[0].metrics.is_file():
        progress.warn(
            f"{others[0].path} was begun by another job of torchrun and is not finished; a new run begins. A job goes on with its run "
            "where --rdzv-id gives it a name, or one of torchrun's processes that began it is still there; --resume goes on with the newest"
        )
    return None
