"""The loop's new models at a server: through the experiments of `deepseek serve`, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from deepseek.errors import InputError, RunError
from deepseek.pipeline.closed_loop.champion import Champion
from deepseek.pipeline.closed_loop.deployment import DeploymentStatus, Stage
from deepseek.pipeline.closed_loop.machine import Deployer
from deepseek.serving.client import Client, ServerError

ARM = "candidate"
"""The name of the new model in an experiment."""
_COMPARED = frozenset({"accuracy", "log_loss", "mae", "mse"})
_LATER = frozenset({0, 408, 409, 429})
"""Statuses after which the same may go later, beside those of the server's own failures; 0 stands for no answer."""


class RefusedError(InputError):
    """The server does not do what was asked, and would not do it later."""


class ServedDeployment:
    """Drives the answers of one model of a server.

    Args:
        client: Asks the server.
        model: The model's name there.
        metric: What is compared as labels come.
        alpha: Largest probability that a candidate which is as good is ever called worse, or better.
    """

    staged = True

    def __init__(self, client: Client, model: str, *, metric: str, alpha: float) -> None:
        self._client, self._model = client, model
        self._metric, self._alpha = metric if metric in _COMPARED else "auto", alpha

    def status(self) -> DeploymentStatus:
        """Return how it stands.

        Raises:
            RunError: The server cannot be asked.
            RefusedError: It knows no such model, or the key may not ask.
        """
        current = str(self._asked(self._client.describe)["version"]).partition("-")[0]
        found = self._experiment()
        arm = _arm_of(found)
        if found is None or arm is None:
            return DeploymentStatus(current)
        results = found.get("results", {})
        counts = results.get("arms", {}).get(ARM, {})
        compared = results.get("comparisons", {}).get(ARM, {})
        said = {compared.get("state"): str(compared.get("verdict"))}
        stage: Stage = "shadow" if arm["role"] == "shadow" else "canary"
        return DeploymentStatus(
            current,
            stage,
            _run_of(str(arm["path"])),
            rows=int(counts.get("rows", 0)),
            failures=int(counts.get("failed_rows", 0)),
            outcomes=int(counts.get("outcomes", 0)),
            worse=said.get("worse"),
            better=said.get("better"),
        )

    def shadow(self, candidate: Path) -> None:
        """Begin an experiment in which the candidate is a shadow."""
        if not self._runs(candidate):
            self._begin(candidate, {"role": "shadow"})

    def share(self, candidate: Path, share: float) -> None:
        """Let the candidate answer a share: of the experiment in which it was a shadow, or of one begun for that."""
        if self._runs(candidate):
            self._asked(self._client.share, share, arm=ARM)
        else:
            self._begin(candidate, {"role": "challenger", "share": share})

    def promote(self, candidate: Path) -> None:
        """Let the candidate be the model."""
        found = self.status()
        if found.current == candidate.name and found.stage == "none":
            return
        if found.candidate == candidate.name:
            self._asked(self._client.promote, arm=ARM)
        else:
            self._asked(self._client.load, str(candidate.absolute()))

    def rollback(self) -> None:
        """End the experiment that runs, or take the last promotion back."""
        self._asked(self._client.rollback)

    def _begin(self, candidate: Path, how: Mapping[str, Any]) -> None:
        self._asked(self._client.start, {ARM: str(candidate.absolute())}, metric=self._metric, alpha=self._alpha, **how)

    def _runs(self, candidate: Path) -> bool:
        """Whether the candidate is in an experiment that runs; another one's has to end first."""
        found = self._experiment()
        if found is None:
            return False
        arm = _arm_of(found)
        if arm is None or _run_of(str(arm["path"])) != candidate.name:
            raise RunError(f"an experiment that is not the loop's runs on {self._model!r}")
        return True

    def _experiment(self) -> dict[str, Any] | None:
        """Return the experiment that runs, or nothing."""
        try:
            found = self._client.status(self._model, leading=True)
        except ServerError as error:
            if error.status == 404:
                return None
            raise _sorted(error) from None
        return None if found.get("ended_at") is not None else found

    def _asked(self, ask: Callable[..., dict[str, Any]], *given: Any, **named: Any) -> dict[str, Any]:
        """Return what the server answers about the model, its refusals told apart."""
        try:
            return ask(self._model, *given, **named)
        except ServerError as error:
            raise _sorted(error) from None


def served(server: str, key: str | None, model: str | None) -> Deployer:
    """Return what makes the deployment of a run at a server.

    Args:
        server: Its address.
        key: A key that may load models there.
        model: The name that the run has there; that of its folder where not given.

    Raises:
        InputError: The address is none.
    """
    client = Client(server, key)

    def deploy(champion: Champion) -> ServedDeployment:
        deployment = ServedDeployment(
            client, model or champion.path.absolute().parent.name, metric=champion.metric, alpha=champion.then.alpha
        )
        with suppress(RunError):  # a server that is away may come back
            deployment.status()  # a wrong key or name is to be told before anything is trained
        return deployment

    return deploy


def _sorted(error: ServerError) -> RunError | RefusedError:
    """Return an error of what may go later as it is, any other one as a refusal."""
    return error if error.status in _LATER or error.status >= 500 else RefusedError(error.message, hint=error.hint)


def _arm_of(found: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return next((arm for arm in (found or {}).get("arms", []) if arm["name"] == ARM), None)


def _run_of(path: str) -> str:
    """Return the name of the run that a bundle's path lies in."""
    return next((part for part in reversed(Path(path).parts) if part.isdigit()), "")
