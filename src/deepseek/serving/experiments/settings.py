"""What an experiment is: its arms, shares and phases, as the workers of a server agree on it and as its log tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from pydantic import ValidationError

from deepseek.errors import RecipeError
from deepseek.monitoring.outcomes import Target
from deepseek.recipe.sections import ExperimentSection
from deepseek.validation import problems_of

CHAMPION = "champion"
MOST_PHASES = 64
"""So often may shares be changed: each phase takes memory in the recorder."""

Role = Literal["champion", "challenger", "shadow"]


@dataclass(frozen=True)
class Arm:
    """One model of an experiment.

    Attributes:
        name: Its name; that of the model which was there before is `champion`.
        path: Its bundle.
        version: Its version.
        role: Whether it answers for all who are left, for a share, or for nobody.
        share: Its share of keys; of the champion and of shadows 0.
    """

    name: str
    path: str
    version: str
    role: Role
    share: float = 0.0


@dataclass(frozen=True)
class Phase:
    """A time with unchanged shares.

    Attributes:
        at: When it began, in seconds since 1970.
        shares: The arms' shares, the champion's included; a shadow has none.
    """

    at: float
    shares: Mapping[str, float | None]


@dataclass(frozen=True)
class Experiment:
    """Several models behind one address.

    Attributes:
        id: Its id.
        model: The name in the address.
        arms: The champion, and the others in the order of their territories.
        salt: What the assignment of keys hangs on; another one divides them anew.
        target: What is predicted.
        settings: What was asked for.
        phases: When shares changed, the first one included.
        ended_at: When it ended, in seconds since 1970, or nothing while it runs.
        outcome: How it ended.
    """

    id: str
    model: str
    arms: tuple[Arm, ...]
    salt: str
    target: Target
    settings: ExperimentSection
    phases: tuple[Phase, ...]
    ended_at: float | None = None
    outcome: str | None = None

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.ended_at is None

    @property
    def others(self) -> tuple[Arm, ...]:
        """All arms but the champion."""
        return self.arms[1:]

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of all arms but the champion, in order; of shadows 0."""
        return tuple(arm.share for arm in self.others)

    @property
    def metric(self) -> str:
        """What is compared."""
        named = self.settings.metric
        return self.target.metrics[0] if named == "auto" else named

    @property
    def higher_is_better(self) -> bool:
        """Whether a greater value of the metric is a better one."""
        return self.metric in {"accuracy", "reward"}

    def with_share(self, name: str, share: float, *, at: float) -> Self:
        """Return the experiment with another share of an arm; a shadow becomes a challenger by that."""
        arms = tuple(replace(arm, share=share, role="challenger") if arm.name == name else arm for arm in self.arms)
        return replace(self, arms=arms, phases=(*self.phases, phase_of(arms, at)))

    def ended(self, outcome: str, *, at: float) -> Self:
        """Return the experiment with its end."""
        return replace(self, ended_at=at, outcome=outcome)

    def to_json(self) -> dict[str, Any]:
        """Return the experiment as plain JSON values."""
        return {**asdict(self), "settings": self.settings.model_dump(mode="json")}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the experiment that `to_json` wrote."""
        return cls(
            **{
                **value,
                "arms": tuple(Arm(**arm) for arm in value["arms"]),
                "target": Target.from_json(value["target"]),
                "settings": ExperimentSection(**value["settings"]),
                "phases": tuple(Phase(**phase) for phase in value["phases"]),
            }
        )

    def shown(self, *, paths: bool) -> dict[str, Any]:
        """Return what a client may know: no salt, and where bundles lie only for those who may exchange them.

        Args:
            paths: Whether the bundles' paths are shown.
        """
        arms = [{key: value for key, value in asdict(arm).items() if paths or key != "path"} for arm in self.arms]
        arms[0]["share"] = max(1.0 - sum(self.shares), 0.0)
        named = ("alpha", "min_outcomes", "planned_outcomes", "min_effect", "challenger_timeout")
        return {
            "id": self.id,
            "model": self.model,
            "state": "running" if self.running else "ended",
            "outcome": self.outcome,
            "started_at": self.phases[0].at,
            "ended_at": self.ended_at,
            "key_field": self.settings.key_field,
            "metric": self.metric,
            **{name: getattr(self.settings, name) for name in named},
            "guard": None if self.settings.guard is None else self.settings.guard.model_dump(),
            "arms": arms,
            "phases": [asdict(phase) for phase in self.phases],
        }


def phase_of(arms: tuple[Arm, ...], at: float) -> Phase:
    """Return the phase that begins with these shares.

    Args:
        arms: The arms, the champion first.
        at: When it begins, in seconds since 1970.
    """
    rest = 1.0 - sum(arm.share for arm in arms[1:])
    shares = {arm.name: None if arm.role == "shadow" else rest if arm.role == "champion" else arm.share for arm in arms}
    return Phase(at, shares)


def read_settings(given: object) -> ExperimentSection:
    """Return what was asked for.

    Args:
        given: The keys of the section `serve.experiment`.

    Raises:
        RecipeError: A key or value is wrong.
    """
    try:
        return ExperimentSection.model_validate(given)
    except ValidationError as error:
        raise RecipeError(problems_of(error, ExperimentSection, given, what="an experiment")) from None
