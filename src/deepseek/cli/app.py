"""The verbs, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from deepseek import __version__
from deepseek.cli import (
    annotate,
    compare,
    components,
    compress,
    data,
    doctor,
    evaluate,
    example,
    experiment,
    export,
    ingest,
    learn,
    loop,
    predict,
    preview,
    profile,
    report,
    run,
    schema,
    serve,
    show,
    train,
    tune,
    watch,
)
from deepseek.cli.output import Output
from deepseek.errors import InputError, closest

_VERBS: dict[str, Callable[..., Output]] = {
    "train": train.train_verb,
    "run": run.run_verb,
    "tune": tune.tune_verb,
    "evaluate": evaluate.evaluate_verb,
    "predict": predict.predict_verb,
    "export": export.export_verb,
    "compress": compress.compress_verb,
    "watch": watch.watch_verb,
    "loop": loop.loop_verb,
    "learn": learn.learn_verb,
    "report": report.report_verb,
    "serve": serve.serve_verb,
    "ingest": ingest.ingest_verb,
    "experiment": experiment.experiment_verb,
    "compare": compare.compare_verb,
    "data": data.data_verb,
    "annotate": annotate.annotate_verb,
    "profile": profile.profile_verb,
    "preview": preview.preview_verb,
    "show": show.show_verb,
    "schema": schema.schema_verb,
    "components": components.components_verb,
    "doctor": doctor.doctor_verb,
    "example": example.example_verb,
}
INTERRUPTED = 130
"""Exit status after Ctrl-C."""
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""The base class of all usage errors, which typer takes from click or brings itself, depending on its version."""


def run_app(given: Sequence[str]) -> Output | None:
    """Parse the arguments and call their verb.

    Returns:
        What is to be printed; nothing after `--help` and `--version`, which have printed it.

    Raises:
        InputError: The arguments are wrong.
        KeyboardInterrupt: The user pressed Ctrl-C.
    """
    try:
        result = _command().main(args=_verb_first(given) or ["--help"], prog_name="deepseek", standalone_mode=False)
    except _USAGE_ERROR as error:
        raise _usage(error, given) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    if result == INTERRUPTED:  # newer versions of typer turn Ctrl-C into this status
        raise KeyboardInterrupt
    return result if isinstance(result, Output) else None


def _command() -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(_root)
    for name, verb in _VERBS.items():
        app.command(name)(verb)
    return get_command(app)


def _verb_first(given: Sequence[str]) -> list[str]:
    """Move options that stand before the verb behind it, so that their place does not matter."""
    place = next((index for index, word in enumerate(given) if word in _VERBS), 0)
    return [*given[place : place + 1], *given[:place], *given[place + 1 :]]


def _usage(error: Any, given: Sequence[str]) -> InputError:
    """Return typer's complaint in the words of this project, with what was probably meant."""
    verb = next((word for word in given if word in _VERBS), None)
    words = [word for word in given if not word.startswith("-")]
    guess = None if verb or not words else closest(words[0], _VERBS)
    meant = f"did you mean {guess!r}? " if guess else ""
    return InputError(error.format_message(), hint=f"{meant}see: deepseek {f'{verb} ' if verb else ''}--help")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deepseek {__version__}")
        raise typer.Exit


def _root(
    *, version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False
) -> None:
    """One recipe takes raw data to a trained model, and every number on the way can be trusted."""
