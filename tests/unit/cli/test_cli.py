import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import deepseek
from deepseek import progress
from deepseek.cli import compare, main
from deepseek.cli.output import result_text
from deepseek.errors import CheckpointError, InputError, NonFiniteError, Problem, RecipeError, RunError
from deepseek.pipeline import recipes
from deepseek.pipeline.preparing import sources


class Result:
    def to_json(self) -> dict:
        metrics = {"validation": None, "test": {"auc": 0.912345678, "loss": float("nan")}}
        return {"run": "runs/x/001", "bundle": "runs/x/001/bundle", "metrics": metrics, "seconds": 1.25, "warnings": []}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch):
    """The public functions, replaced by ones that note how they were called."""
    noted: list[tuple] = []
    checked: list[tuple] = []

    def stand_in(name: str, result: object):
        def function(*args: object, **kwargs: object) -> object:
            noted.append((name, args, kwargs))
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setitem(vars(deepseek), name, function)

    checks = {"recipe_of": (recipes, "the recipe of it"), "open_recipe": (recipes, (None, "the recipe")), "check_sources": (sources, None)}
    for name, (module, result) in checks.items():
        monkeypatch.setattr(module, name, lambda *args, name=name, result=result, **kwargs: checked.append((name, args, kwargs)) or result)
    for name, result in {
        "run": Result(),
        "show": "the recipe",
        "evaluate": {"auc": 1.0},
        "predict": {"rows": 3},
    }.items():
        stand_in(name, result)
    yield types.SimpleNamespace(noted=noted, stand_in=stand_in, checked=checked)
    progress.quiet(False)


def test_train_passes_what_was_given(calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "a.csv", "--target", "x,y", "--time-limit", "5m", "--set", "seed=3", "--set", "name=n", "--out", "o"]) == 0
    wanted = {"target": ["x,y"], "test": None, "out": "o", "time_limit": "5m", "overrides": ["seed=3", "name=n"]}
    assert calls.checked == [("recipe_of", ("a.csv",), wanted)]
    assert calls.noted == [("run", ("the recipe of it",), {"out": "o"})]
    assert "auc       0.9123" in capsys.readouterr().out


def test_run_evaluate_predict_and_show_pass_what_was_given(calls) -> None:
    main(["run", "r.yaml", "--resume", "--set", "a=1"])
    main(["evaluate", "runs/x", "b.csv", "--plugin", "p.py"])
    main(["predict", "runs/x", "b.csv", "-o", "c.csv"])
    main(["show", "r.yaml", "--set", "a=1"])
    assert calls.noted == [
        ("run", ("r.yaml",), {"overrides": ["a=1"], "resume": True, "out": "runs"}),
        ("evaluate", ("runs/x", "b.csv"), {"plugins": ["p.py"]}),
        ("predict", ("runs/x", "b.csv", "c.csv"), {"tiles": None, "plugins": []}),
        ("show", ("r.yaml",), {"overrides": ["a=1"]}),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "r.yaml", "--set", "a=1", "--json"],
        ["run", "--json", "--set", "a=1", "r.yaml"],
        ["--json", "run", "r.yaml", "--set", "a=1"],
        ["--set", "a=1", "--json", "run", "r.yaml"],
    ],
)
def test_the_place_of_options_does_not_matter(calls, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 0
    assert calls.noted == [("run", ("r.yaml",), {"overrides": ["a=1"], "resume": False, "out": "runs"})]
    assert json.loads(capsys.readouterr().out)["metrics"]["test"] == {"auc": 0.912345678, "loss": None}


def test_json_leaves_nothing_else_on_stdout(calls, capsys: pytest.CaptureFixture[str]) -> None:
    def noisy(*args: object, **kwargs: object) -> Result:
        progress.log("working")
        return Result()

    vars(deepseek)["run"] = noisy
    main(["run", "r.yaml", "--json"])
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    assert shown.err == ""


@pytest.mark.parametrize(
    ("error", "status"), [(InputError("wrong", hint="do this"), 2), (RunError("failed"), 1), (KeyboardInterrupt(), 130)]
)
def test_exit_status(calls, capsys: pytest.CaptureFixture[str], error: BaseException, status: int) -> None:
    calls.stand_in("run", error)
    assert main(["run", "r.yaml"]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("interrupted" if status == 130 else f"error: {error.message}") in shown.err
    assert status != 2 or "do this" in shown.err


def test_what_is_interrupted_says_how_a_run_goes_on_and_nothing_of_it_elsewhere(calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.stand_in("run", KeyboardInterrupt())
    calls.stand_in("evaluate", KeyboardInterrupt())
    hints = []
    for words in (["run", "r.yaml"], ["evaluate", "runs/x", "b.csv"]):
        assert main([*words, "--json"]) == 130
        hints.append(json.loads(capsys.readouterr().out)["error"]["hint"])
    assert hints == ["a run goes on with: deepseek run RUN --resume", None]


def test_a_defect_keeps_its_traceback(calls) -> None:
    calls.stand_in("run", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["run", "r.yaml"])


@pytest.mark.parametrize(("error", "traced"), [(RunError, True), (CheckpointError, False), (NonFiniteError, False), (InputError, False)])
def test_a_ranks_traceback_is_shown_where_the_message_does_not_say_all(calls, capsys, error, traced) -> None:
    raised = error("rank 1: it went wrong")
    raised.add_note("Traceback of rank 1:\n  somewhere")
    raised.add_note("and the checkpoint that was being written could not be: the disk is full")
    calls.stand_in("run", raised)
    assert main(["run", "r.yaml"]) == raised.exit_code
    told = capsys.readouterr().err
    assert ("Traceback of rank 1" in told) is traced
    assert "the disk is full\nerror: rank 1: it went wrong" in told


def test_errors_are_json_too(calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.stand_in("run", RecipeError([Problem("train.epoch", "unknown key", "r.yaml", 3, "epochs")]))
    assert main(["run", "r.yaml", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    problem = {"path": "train.epoch", "message": "unknown key", "file": "r.yaml", "line": 3, "suggestion": "epochs"}
    assert (error["type"], error["hint"], error["problems"]) == ("RecipeError", None, [problem])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "RECIPE"),
        (["trian", "x"], "did you mean 'train'?"),
        (["run", "x", "--rsume"], "--resume"),
        (["resume", "runs/x"], "say: deepseek run RUN --resume"),
        (["predict", "x", "y"], "--output"),
    ],
)
def test_wrong_usage_is_status_two(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["train", "--help"], ["--version"]):
        assert main(arguments) == 0
    assert deepseek.__version__ in capsys.readouterr().out


def test_components_lists_families_names_and_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    main(["components", "--json"])
    assert "adamw" in json.loads(capsys.readouterr().out)["optimizer"]
    main(["components", "optimizer"])
    assert any(line.startswith("adamw") and "built-in" in line for line in capsys.readouterr().out.splitlines())
    main(["components", "optimizer", "adamw", "--json"])
    argument = json.loads(capsys.readouterr().out)["arguments"]["weight_decay"]
    assert argument["type"] == "number, at least 0"
    assert argument["help"]
    assert main(["components", "optimizer", "adm"]) == 2
    assert "did you mean 'adam'?" in capsys.readouterr().err


def test_show_as_json_has_values_and_origins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("data: {source: a.csv, target: y}\n")
    main(["show", str(tmp_path / "r.yaml"), "--json"])
    value = json.loads(capsys.readouterr().out)
    assert value["recipe"]["data"]["target"] == "y"
    assert value["origins"]["data.target"] == "r.yaml:1"


def test_show_takes_a_run_for_the_recipe_that_it_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "shop" / "001").mkdir(parents=True)
    (tmp_path / "runs" / "shop" / "001" / "recipe.yaml").write_text("name: shop\ndata: {source: a.csv, target: y}\n")
    for run in ("shop", "shop/001"):
        assert main(["show", str(tmp_path / "runs" / run), "--set", "seed=4"]) == 0
        assert "recipe.yaml:2" in capsys.readouterr().out
    assert main(["show", str(tmp_path / "runs" / "shop"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["name"] == "shop"
    assert main(["show", str(tmp_path)]) == 2


def test_a_reader_that_leaves_early_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "deepseek", "components"], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_keys_that_follow_from_another_type_are_counted_not_listed():
    keys = ["model.type", "model.depth", "model.trunk.type", "train.epochs"]
    shown, more = compare._worth_showing(
        [
            *({"key": key, "values": ["a", "b"]} for key in keys),
            {"key": "data.fields.age", "values": ["number", None]},
        ]
    )
    assert [entry["key"] for entry in shown] == ["model.type", "train.epochs"]
    assert more == 3


def test_a_mistyped_run_is_answered_with_the_one_that_was_meant(tmp_path, capsys):
    (tmp_path / "customers").mkdir()
    assert main(["predict", str(tmp_path / "custmers"), "new.csv", "-o", str(tmp_path / "a.csv")]) == 2
    assert f"did you mean '{tmp_path / 'customers'}'?" in capsys.readouterr().err


def test_a_run_without_rows_to_measure_says_so():
    text = result_text({"metrics": {"validation": None, "test": None}, "run": "r", "bundle": "b", "seconds": 1.0})
    assert "nothing was measured" in text
