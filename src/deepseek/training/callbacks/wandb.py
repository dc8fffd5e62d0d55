"""Sends a run to Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from deepseek.recipe.secrets import resolve_secret
from deepseek.training.callbacks.tracker import TrackedRun, Tracker

INIT_S, END_S = 30, 50
"""Seconds within which a run must begin and end; the library itself would wait longer, and retry."""


class WeightsAndBiases(Tracker):
    """Sends loss, learning rate, speed, metrics and the recipe to Weights & Biases (https://docs.wandb.ai).

    The key is looked for where the library looks for it: in `WANDB_API_KEY`, or where `wandb login` put it. It has no place in a recipe.

    Args:
        project: The project; `WANDB_PROJECT`, or the recipe's name, where not given.
        name: The run's name; that of its folder, `churn/003`, where not given.
        entity: The user or team that the project belongs to; the library's default where not given.
        uri: The server's address, for one of your own; may hold `${ENV:NAME}`.
        mode: `online`, `offline` (files in the run's folder, for `wandb sync` later) or `disabled`; `WANDB_MODE` where not given.
        tags: Words by which runs are found again.

    Raises:
        MissingExtraError: The library `wandb` is not installed.
    """

    library: ClassVar[str] = "wandb"

    def __init__(
        self,
        *,
        project: str | None = None,
        name: str | None = None,
        entity: str | None = None,
        uri: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        tags: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.project, self.name, self.entity, self.uri, self.mode, self.tags = project, name, entity, uri, mode, tags
        self._run: Any = None

    def open(self, run: TrackedRun) -> None:
        """Begin the run, or go on with it under the same name."""
        import os

        import wandb

        settings: dict[str, Any] = {"silent": True, "console": "off", "init_timeout": INIT_S, "finish_timeout": END_S}
        if self.uri is not None:
            settings["base_url"] = resolve_secret(self.uri)
        self._run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or run.group,
            entity=self.entity,
            name=self.name or run.name,
            group=run.group,
            tags=list(self.tags),
            id=run.id,
            resume="allow" if run.resumed else None,
            config=dict(run.config),
            allow_val_change=run.resumed,
            dir=str(run.folder) if run.folder else None,
            mode=self.mode,
            reinit="create_new",
            settings=wandb.Settings(**settings),
        )
        self._run.define_metric("*", step_metric="step")  # a resumed run repeats steps, which the library's own counter would drop

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers as of a step."""
        self._run.log({**values, "step": step})

    def close(self, *, failed: bool) -> None:
        """End the run."""
        self._run.finish(exit_code=int(failed))
