"""Sends a run to MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from deepseek.recipe.secrets import resolve_secret
from deepseek.training.callbacks.tracker import TrackedRun, Tracker, flat

if TYPE_CHECKING:
    from mlflow import MlflowClient

ID_TAG = "deepseek.id"
"""The tag by which a resumed run finds itself again."""
_PARAMS_A_CALL, _MOST_CHARACTERS = 100, 6000
"""What a server takes at once."""


class MLflow(Tracker):
    """Sends loss, learning rate, speed, metrics and the recipe to MLflow (https://mlflow.org).

    User, password and token are read from the environment (`MLFLOW_TRACKING_USERNAME` and so on), where the library looks for them.

    Args:
        project: The experiment; `MLFLOW_EXPERIMENT_NAME`, or the recipe's name, where not given.
        name: The run's name; that of its folder, `churn/003`, where not given.
        uri: The tracking server or database, `https://…` or `sqlite:///…`; may hold `${ENV:NAME}`. Where not given `MLFLOW_TRACKING_URI`
            or, without that, `mlflow.db` in the working directory.
        tags: Words by which runs are found again, with their values.

    Raises:
        MissingExtraError: MLflow is not installed.
    """

    library: ClassVar[str] = "mlflow"

    def __init__(
        self, *, project: str | None = None, name: str | None = None, uri: str | None = None, tags: dict[str, str] | None = None
    ) -> None:
        super().__init__()
        self.project, self.name, self.uri, self.tags = project, name, uri, dict(tags or {})
        self._client: MlflowClient | None = None
        self._run = ""

    def open(self, run: TrackedRun) -> None:
        """Begin the run, or go on with it under the same name."""
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = MlflowClient(tracking_uri=resolve_secret(self.uri) if self.uri else None)
        experiment = _experiment(client, self.project or os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.group)
        known = client.search_runs([experiment], f"tags.`{ID_TAG}` = '{run.id}'", max_results=1) if run.resumed else []
        self._client = client
        if known:
            self._run = known[0].info.run_id
            client.update_run(self._run, status="RUNNING")
            return
        created = client.create_run(experiment, run_name=self.name or run.name, tags={**self.tags, ID_TAG: run.id})
        self._run = created.info.run_id
        params = [Param(key, str(value)[:_MOST_CHARACTERS]) for key, value in flat(run.config).items()]
        for start in range(0, len(params), _PARAMS_A_CALL):
            client.log_batch(self._run, params=params[start : start + _PARAMS_A_CALL])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers as of a step."""
        from mlflow.entities import Metric

        assert self._client is not None
        now_ms = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(key, value, now_ms, step) for key, value in values.items()])

    def close(self, *, failed: bool) -> None:
        """End the run."""
        assert self._client is not None
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _experiment(client: MlflowClient, name: str) -> str:
    """Return the experiment of a name, which another run may be making at this moment."""
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            known = client.get_experiment_by_name(name)
            if known is None:
                raise
    return str(known.experiment_id)
