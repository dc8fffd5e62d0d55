"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

Metrics = dict[str, dict[str, float] | None]


@dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        run: The run's folder.
        bundle: The model, ready to predict anywhere.
        metrics: Metrics by name, under `validation` and `test`; nothing where there are no such rows.
        seconds: Wall-clock seconds of the call that finished the run, from reading the recipe to the bundle.
        warnings: What the user should know, in words.
    """

    run: Path
    bundle: Path
    metrics: Metrics
    seconds: float
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "run": str(self.run),
            "bundle": str(self.bundle),
            "metrics": self.metrics,
            "seconds": round(self.seconds, 3),
            "warnings": list(self.warnings),
        }
