"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from deepseek.inference import Predictor

Metrics = dict[str, dict[str, float] | None]


@dataclass(frozen=True, repr=False)
class RunResult:
    """What a run came to; wherever a run's folder is asked for, it can be given itself: `deepseek.load(result)`.

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

    def __fspath__(self) -> str:
        return fspath(self.run)

    def __repr__(self) -> str:
        lines = [f"run {self.run} ({self.seconds:.1f} s)"]
        lines += [f"  {split}: {_listed(metrics)}" for split, metrics in self.metrics.items() if metrics]
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the metrics as a table: what a notebook shows."""
        measured = {split: metrics for split, metrics in self.metrics.items() if metrics}
        names = dict.fromkeys(name for metrics in measured.values() for name in metrics)
        head = "".join(f"<th>{escape(split)}</th>" for split in measured)
        rows = "".join(
            f"<tr><th>{escape(name)}</th>{''.join(f'<td>{_number(metrics.get(name))}</td>' for metrics in measured.values())}</tr>"
            for name in names
        )
        warnings = "".join(f"<li>{escape(warning)}</li>" for warning in self.warnings)
        notes = f"<ul>{warnings}</ul>" if warnings else ""
        return f"<table><caption>{escape(str(self.run))}</caption><tr><th></th>{head}</tr>{rows}</table>{notes}"

    def predict(self, table: Any) -> Any:
        """Answer rows with the run's model, as `Predictor.predict` does; to ask often, keep `deepseek.load(result)`.

        Args:
            table: The rows.
        """
        return Predictor.load(self.bundle).predict(table)

    def report(self, output: str | PathLike[str] | None = None) -> Any:
        """Write the run's report, as `deepseek.report` does.

        Args:
            output: The HTML file; `report.html` in the run's folder where not given.
        """
        import deepseek  # the report stands on this module: the public name is looked up when it is wanted

        return deepseek.report(self.run, output)


def _listed(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in metrics.items())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
