"""What is asked of an experiment, checked as far as it can be without opening its arms."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from deepseek.artifacts import Bundle
from deepseek.errors import InputError, UnknownNameError
from deepseek.recipe.sections import ExperimentSection
from deepseek.serving.experiments.settings import CHAMPION, Arm, Experiment, phase_of
from deepseek.serving.models import NAME, ServedModel


def proposed(name: str, champion: ServedModel, settings: ExperimentSection) -> Experiment:
    """Return the experiment that was asked for; its arms have no versions until they are opened.

    Args:
        name: The model that is served.
        champion: What answers under its name.
        settings: What is asked for.

    Raises:
        InputError: A share, a name or a path is not allowed, or the model has no target.
        UnknownNameError: The metric is none of this target's.
        BundleError: An arm's bundle is not there, or not as it was written.
    """
    if champion.outcome is None:
        raise InputError(f"the model {name!r} has no target to compare answers with")
    measured = [metric for metric in champion.outcome.metrics if metric != "auc"]  # which is no mean of rows
    allowed = ["auto", *measured, *(("error_rate",) if "accuracy" in measured else ()), "reward"]
    if settings.metric not in allowed:
        raise UnknownNameError("metric", settings.metric, allowed)
    shadow = settings.role == "shadow"
    if not shadow:
        check_share(settings.share, len(settings.arms))
    arms = [Arm(CHAMPION, champion.bundle, champion.version, "champion")]
    for arm, path in settings.arms.items():
        if not NAME.fullmatch(arm) or arm == CHAMPION:
            raise InputError(f"an arm cannot be called {arm!r}", hint="letters, digits, . _ -; and another name than champion")
        if "\0" in path:
            raise InputError(f"the path of the arm {arm!r} holds a zero byte")
        folder = str(Bundle.open(Path(path)).path.absolute())
        arms.append(Arm(arm, folder, "", settings.role, 0.0 if shadow else settings.share))
    made = tuple(arms)
    return Experiment(
        secrets.token_hex(4), name, made, secrets.token_hex(8), champion.outcome, settings, (phase_of(made, time.time()),)
    )  # fmt: skip


def chosen_arm(experiment: Experiment, name: str | None) -> Arm:
    """Return an arm beside the champion.

    Args:
        experiment: The experiment.
        name: Its name; may be left out where there is one only.

    Raises:
        UnknownNameError: There is no such arm.
    """
    others = {arm.name: arm for arm in experiment.others}
    if name is None and len(others) == 1:
        return next(iter(others.values()))
    if name not in others:
        raise UnknownNameError("arm", name or "", list(others), hint="name one of the arms beside the champion")
    return others[name]


def check_share(share: float, arms: int) -> None:
    """Refuse a share that arms beside each other cannot have.

    Args:
        share: The share of one.
        arms: How many there are beside the champion.

    Raises:
        InputError: It is below 0, or above its own part of all keys.
    """
    if not 0 <= share <= 1 / arms + 1e-9:
        raise InputError(
            f"the share is {share:g}; with {arms} {'arms' if arms > 1 else 'arm'} beside the champion it is from 0 to {1 / arms:.3g}",
            hint="each arm has its own part of all keys, so that nobody changes from one to another",
        )
