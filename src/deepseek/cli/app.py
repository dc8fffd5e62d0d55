"""The verbs, put together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from deepseek import __version__
from deepseek.cli import (
    annotate,
    attention,
    backtest,
    compare,
    components,
    compress,
    data,
    doctor,
    embed,
    evaluate,
    example,
    experiment,
    export,
    features,
    generate,
    ingest,
    learn,
    loop,
    plan,
    predict,
    preview,
    profile,
    recommend,
    report,
    run,
    schema,
    serve,
    show,
    snapshot,
    suspects,
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
    "suspects": suspects.suspects_verb,
    "evaluate": evaluate.evaluate_verb,
    "backtest": backtest.backtest_verb,
    "predict": predict.predict_verb,
    "generate": generate.generate_verb,
    "embed": embed.embed_verb,
    "export": export.export_verb,
    "compress": compress.compress_verb,
    "watch": watch.watch_verb,
    "learn": learn.learn_verb,
    "report": report.report_verb,
    "serve": serve.serve_verb,
    "ingest": ingest.ingest_verb,
    "snapshot": snapshot.snapshot_verb,
    "compare": compare.compare_verb,
    "profile": profile.profile_verb,
    "recommend": recommend.recommend_verb,
    "preview": preview.preview_verb,
    "plan": plan.plan_verb,
    "attention": attention.attention_verb,
    "features": features.features_verb,
    "show": show.show_verb,
    "schema": schema.schema_verb,
    "components": components.components_verb,
    "doctor": doctor.doctor_verb,
    "example": example.example_verb,
}
_GROUPS: dict[str, tuple[str, Mapping[str, Callable[..., Output]]]] = {
    "loop": (loop.SUMMARY, loop.ACTIONS),
    "experiment": (experiment.SUMMARY, experiment.ACTIONS),
    "data": (data.SUMMARY, data.ACTIONS),
    "annotate": (annotate.SUMMARY, annotate.ACTIONS),
}
"""Verbs with actions, each with options of its own: what they are for, and the actions."""
_ELSEWHERE = {"resume": "run RUN --resume"}
"""What people look for under a name of its own, and where it is."""
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
    for name, (summary, actions) in _GROUPS.items():
        group = typer.Typer(add_completion=False, rich_markup_mode=None)
        for action, verb in actions.items():
            group.command(action)(verb)
        app.add_typer(group, name=name, help=summary)
    return get_command(app)


def _verb_first(given: Sequence[str]) -> list[str]:
    """Move options that stand before the verb, or before its action, behind it, so that their place does not matter."""
    first = _to_front(given, {*_VERBS, *_GROUPS})
    return [*first[:1], *_to_front(first[1:], _GROUPS[first[0]][1])] if first and first[0] in _GROUPS else first


def _to_front(words: Sequence[str], wanted: Collection[str]) -> list[str]:
    place = next((index for index, word in enumerate(words) if word in wanted), 0)
    return [*words[place : place + 1], *words[:place], *words[place + 1 :]]


def _usage(error: Any, given: Sequence[str]) -> InputError:
    """Return typer's complaint in the words of this project, with what was probably meant."""
    known: Collection[str] = {*_VERBS, *_GROUPS}
    said: list[str] = []
    words = [word for word in _verb_first(given) if not word.startswith("-")]
    while words and words[0] in known:
        said.append(words.pop(0))
        known = _GROUPS[said[0]][1] if len(said) == 1 and said[0] in _GROUPS else ()
    guess = closest(words[0], known) if words and known else None
    if guess:
        meant = f"did you mean {guess!r}? "
    elif words and not said and words[0] in _ELSEWHERE:
        meant = f"say: deepseek {_ELSEWHERE[words[0]]}; "
    else:
        meant = f"give one of: {', '.join(known)}; " if said and known else ""
    return InputError(error.format_message(), hint=f"{meant}see: deepseek {''.join(f'{word} ' for word in said)}--help")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deepseek {__version__}")
        raise typer.Exit


def _root(
    *, version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False
) -> None:
    """One recipe takes raw data to a trained model, and every number on the way can be trusted."""
