"""`deepseek tune`: search for better values of a recipe's keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import deepseek
from deepseek import progress
from deepseek.cli.options import Json, Out, Overrides
from deepseek.cli.output import Output, as_table


def tune_verb(  # noqa: PLR0913 (what can be said on the command line)
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe, a search's folder, or with --target a table.")],
    *,
    target: Annotated[list[str], typer.Option("--target", "-t", metavar="COLUMN", help="The column to predict, for a table.")] = [],  # noqa: B006
    trials: Annotated[int | None, typer.Option(metavar="N", min=1, help="Trials in all, the recipe as it is among them.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", min=1, help="Processes that work at the same time.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the latest search of this recipe.")] = False,
    out: Out = "runs",
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> Output:
    """Search for better values of a recipe's keys."""
    progress.quiet(as_json)
    result = deepseek.tune(recipe, target=target or None, overrides=overrides, trials=trials, workers=workers, resume=resume, out=out)
    return Output(result.to_json(), _text(result))


def _text(result: deepseek.TuneResult) -> str:
    facts, best = result.facts, result.facts.best
    assert best is not None, "a search without any is an error"
    default = next((row.value for row in facts.trials if row.number == 0), None)
    better = f", better than the recipe as it was by {facts.gain:.4g}" if facts.gain else ""
    head = [
        ("best", f"trial {best.number}: {facts.metric} {best.value:.5g} on validation rows{better}"),
        ("default", "-" if default is None else f"{default:.5g}"),
        *((path, f"{value:.6g}" if isinstance(value, float) else str(value)) for path, value in best.parameters.items()),
        *((f"test {name}", f"{value:.4f}") for name, value in (facts.metrics.get("test") or {}).items()),
        *((f"importance {path}", f"{share:.0%}") for path, share in facts.importance.items()),
        ("recipe", str(result.recipe)),
        ("bundle", str(result.bundle)),
        ("page", str(Path(result.folder) / "tune.html")),
        ("seconds", f"{facts.seconds:.1f}"),
    ]
    return "\n" + as_table(head)
