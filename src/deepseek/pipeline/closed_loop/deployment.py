"""What the loop asks of whoever gives the answers: a new model beside the old one, a part of the requests, all of them, or none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, Self

from deepseek.artifacts import RunFolder

Stage = Literal["none", "shadow", "canary"]


@dataclass(frozen=True)
class DeploymentStatus:
    """How it stands with a new model in production.

    Attributes:
        current: The name of the run that answers, such as `001`.
        stage: Where the new one is.
        candidate: The name of its run, or nothing.
        rows: Rows that it was asked since it came, in all stages.
        failures: Those that it could not answer.
        outcomes: Labels that came for its answers.
        worse: Why it is worse, where a test that may be looked at any time says so.
        better: Why it is better, likewise.
    """

    current: str
    stage: Stage = "none"
    candidate: str | None = None
    rows: int = 0
    failures: int = 0
    outcomes: int = 0
    worse: str | None = None
    better: str | None = None

    def since(self, *, rows: int = 0, outcomes: int = 0) -> Self:
        """Return the same without what came before a stage.

        Args:
            rows: So many rows.
            outcomes: So many labels.
        """
        return replace(self, rows=self.rows - rows, outcomes=self.outcomes - outcomes)


class Deployment(Protocol):
    """Drives one name's answers. Each call may come twice, as after a kill: the second changes nothing."""

    staged: bool
    """Whether there are requests of which a new model can be given a part."""

    def status(self) -> DeploymentStatus:
        """Return how it stands."""

    def shadow(self, candidate: Path) -> None:
        """Ask a new model beside the old one, and give its answers to nobody.

        Args:
            candidate: Its run's folder.

        Raises:
            RunError: It cannot be done now; the loop tries again at its next step.
        """

    def share(self, candidate: Path, share: float) -> None:
        """Let a new model answer a part of the requests.

        Args:
            candidate: Its run's folder.
            share: The part, in (0, 1].

        Raises:
            RunError: It cannot be done now.
        """

    def promote(self, candidate: Path) -> None:
        """Let a new model answer all requests.

        Args:
            candidate: Its run's folder.

        Raises:
            RunError: It cannot be done now.
        """

    def rollback(self) -> None:
        """Let the old model answer all requests: end a stage, or else take the last promotion back.

        Raises:
            RunError: It cannot be done now.
        """


class NameDeployment:
    """Where no server is told: a run's name stands for the model, for whoever opens it next, and there are no stages.

    Args:
        champion: The folder of the run that is deployed.
    """

    staged = False

    def __init__(self, champion: Path) -> None:
        self._folder, self._now = champion.parent, champion.name

    def status(self) -> DeploymentStatus:
        """Return which run the name stands for."""
        return DeploymentStatus(self._now)

    def shadow(self, candidate: Path) -> None:
        """Do nothing: nobody asks."""

    def share(self, candidate: Path, share: float) -> None:
        """Do nothing: nobody asks."""

    def promote(self, candidate: Path) -> None:
        """Let the name stand for the new run."""
        RunFolder(candidate).release()
        self._now = candidate.name

    def rollback(self) -> None:
        """Do nothing: the loop holds the run itself."""
