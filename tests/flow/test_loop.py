"""The closed loop: a shift, an alarm, a new model, the gate, its way into production or not; killed anywhere, it goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

import deepseek
from deepseek.artifacts import RunFolder
from deepseek.cli import main
from deepseek.errors import DataError, InputError, RecipeError, RunError
from deepseek.inference.backends.choice import is_measured
from deepseek.monitoring import Watcher
from deepseek.pipeline.closed_loop import machine, making
from deepseek.pipeline.closed_loop.asking import ask, asked, forget
from deepseek.pipeline.closed_loop.deployment import DeploymentStatus
from deepseek.pipeline.closed_loop.journal import LoopJournal
from deepseek.pipeline.closed_loop.machine import Loop

RECIPE = """
name: w
data: {source: w.csv, target: y}
train: {max_steps: 80, precision: fp32}
monitor:
  alarm: {metric: accuracy, drop: 0.03}
  window: {rows: 200}
  keep_inputs: values
  notify: [{type: file, path: alarms.jsonl}]
  on_alarm: {recent: {min_rows: 300}}
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from deepseek import progress
from deepseek.pipeline.closed_loop.journal import LoopJournal
from deepseek.pipeline.closed_loop.machine import Loop
append = LoopJournal.append
def dying(self, state, why, **facts):
    event = append(self, state, why, **facts)
    if state == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    return event
LoopJournal.append = dying
progress.quiet(True)
Loop(Path("runs/w")).run()
"""


def world(rows, seed, *, turned=False, noise=0.0):
    """Rows whose class follows two columns; turned, it follows them the other way round; with noise, a part of it is drawn by lot."""
    draw = np.random.default_rng(seed)
    x, c = draw.normal(size=rows), draw.choice(["a", "b", "c"], rows)
    yes = x + (c == "a") - 0.3 + draw.normal(size=rows) * 0.4 > 0
    yes = np.where(draw.random(rows) < noise, draw.random(rows) < 0.5, yes ^ turned)
    when = np.datetime64("2024-01-01T00:00:00") + np.arange(rows) * np.timedelta64(60, "s")
    columns = {"x": x, "z": draw.normal(size=rows), "c": c, "when": pa.array(when.astype("datetime64[us]"))}
    return pa.table({**columns, "y": np.where(yes, "yes", "no")})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    pa.csv.write_csv(world(2000, 0), folder / "w.csv")
    (folder / "w.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        deepseek.run("w.yaml")
    return folder


@pytest.fixture
def there(trained, tmp_path, monkeypatch):
    folder = tmp_path / "there"
    shutil.copytree(trained, folder)
    (folder / "runs/w/001/origin.json").write_text(json.dumps({"recipe_folder": str(folder)}))
    monkeypatch.chdir(folder)
    return folder


def answer(rows, run="runs/w", prefix="a", at=1000.0):
    """Put rows to a run and tell the truth, as a server that is watched does; return the alarms that hold."""
    watcher = Watcher.open(run)
    ids = [f"{prefix}{number}" for number in range(rows.num_rows)]
    watcher.observe(rows, deepseek.load(run).predict(rows), ids=ids, at=at)
    watcher.label(ids, rows["y"], at=at + 1)
    alarms = watcher.check()["alarms"]
    watcher.store.close()
    return alarms


def shifted(**how):
    answer(world(300, 1), prefix="b", at=500.0)
    rows = world(700, 2, **how)
    assert "metric:accuracy" in answer(rows.slice(0, 400))
    answer(rows.slice(400), prefix="after", at=1500.0)


def process(*arguments):
    done = subprocess.run([sys.executable, "-m", "deepseek", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def states():
    return [event.state for event in LoopJournal(Path("runs/w/loop.jsonl")).events if event.state != "told"]


def accuracy(run="runs/w"):
    return deepseek.evaluate(run, world(500, 9, turned=True))["metrics"]["accuracy"]


class Scripted:
    """A deployment that answers with given states, and notes what was asked of it."""

    staged = True

    def __init__(self, *found):
        self.found, self.asked = list(found), []

    def status(self):
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]

    def shadow(self, candidate):
        self.asked.append(("shadow", candidate.name))

    def share(self, candidate, share):
        self.asked.append(("share", candidate.name, share))

    def promote(self, candidate):
        self.asked.append(("promote", candidate.name))

    def rollback(self):
        self.asked.append(("rollback",))


def test_a_shift_is_answered_by_a_better_model(there):
    shifted(turned=True)
    assert accuracy() < 0.3
    found = process("loop", "once", "runs/w", "--json")
    assert found["last"] == "promoted"
    assert accuracy() > 0.75
    assert deepseek.load("runs/w").bundle.path.parent == Path(found["run"])
    gathered = next(event for event in found["events"] if event["state"] == "gathered")
    assert abs(gathered["change"]["place"] - 300) < 30  # what came before the shift is left out
    told = [json.loads(line)["name"] for line in (there / "alarms.jsonl").read_text().splitlines()]
    assert told == ["loop:promoted"]
    again = process("loop", "once", "runs/w", "--json")
    assert (again["events"], again["waits_for"]) == ([], "an alarm")


@pytest.mark.parametrize("measured", [False, True])
def test_a_candidate_runs_in_as_fast_a_form_as_its_champion(there, measured):
    if measured:
        deepseek.export("runs/w", to="auto")
    shifted(turned=True)
    Loop(Path("runs/w")).run()
    bundle = deepseek.load("runs/w", backend="torch").bundle
    assert bundle.path.parent.name != "001"
    assert is_measured(bundle) == measured


def test_the_watch_begins_anew_with_the_new_model(there):
    shifted(turned=True)
    Loop(Path("runs/w")).run()
    assert answer(world(600, 3, turned=True), prefix="c", at=2000.0) == []  # against its own reference, and no old alarm
    watcher = Watcher.open("runs/w")
    assert watcher.check()["performance"]["labels"] == 600
    assert watcher.reference.metrics["accuracy"].value > 0.75
    watcher.store.close()


def test_no_row_that_judges_was_trained_on(there):
    shifted(turned=True)
    loop = Loop(Path("runs/w"))
    loop.run()
    for name in ("002", "003"):
        rows = pa.ipc.open_file(there / "runs/w" / name / "rows/rows.arrow").read_all()
        parts = np.array(rows["deepseek_split"].to_pylist())
        judged, trained_on = (set(rows.filter(pa.array(parts == part))["x"].to_pylist()) for part in ("test", "train"))
        assert judged
        assert not judged & trained_on
        newest = sorted(world(700, 2, turned=True)["x"].to_pylist()[-len(judged) :])
        assert sorted(judged) == pytest.approx(newest)


def test_a_model_that_is_no_better_is_kept_and_not_deployed(there):
    shifted(noise=0.6)  # the old rule is still the best that there is
    found = process("loop", "once", "runs/w", "--json", "--set", "monitor.on_alarm.keep_old=0")
    assert found["last"] == "rejected"
    assert found["events"][-1]["why"].endswith("no better")
    assert deepseek.load("runs/w").bundle.path.parent.name == "001"
    assert RunFolder(Path("runs/w") / found["candidate"]).held
    assert deepseek.load(Path("runs/w") / found["candidate"])  # it is there to be looked at
    answer(world(300, 8, noise=0.6), prefix="d", at=200_000.0)  # the alarm still holds, a day later it is repeated
    loop = Loop(Path("runs/w"))
    assert loop.run() == []
    assert "cooldown" in loop.waits_for


def test_rows_that_judged_once_judge_no_more(there):
    shifted(noise=0.6)
    loop = Loop(Path("runs/w"), overrides=("monitor.on_alarm.keep_old=0",))
    loop.run()
    events = loop.run(now=True)
    assert [event.state for event in events] == ["begun"]
    assert "0 labels since the alarm or the last judgement" in loop.waits_for


def test_rows_that_raised_the_alarm_judge_no_model(there):
    answer(world(300, 1), prefix="b", at=500.0)
    assert "metric:accuracy" in answer(world(700, 2, turned=True))
    loop = Loop(Path("runs/w"))
    loop.run()
    assert (states(), "0 labels since" in loop.waits_for) == (["begun"], True)
    answer(world(100, 3, turned=True), prefix="after", at=1500.0)
    loop.run()
    assert states()[-1] == "promoted"
    assert loop.journal.rounds[0].fact("rows")["test"] == 100


def test_a_model_that_is_not_surely_better_is_made_again_of_more_rows(there, monkeypatch):
    shifted(turned=True)
    judge, alphas = machine.judge, []

    def doubtful(*sides, alpha, **how):
        alphas.append(alpha)
        return replace(judge(*sides, alpha=alpha, **how), passed=len(alphas) > 1)

    monkeypatch.setattr(machine, "judge", doubtful)
    loop = Loop(Path("runs/w"))
    loop.run()
    assert states()[-1] == "unsure"
    gathered = sum(loop.round.last("gathered").facts["rows"].values())
    assert f"of {2 * gathered:,} that are asked for" in loop.waits_for
    answer(world(900, 3, turned=True), prefix="e", at=2000.0)
    loop.run()
    assert states()[-1] == "promoted"
    assert alphas == [0.025, 0.0125]
    assert loop.champion.name == "005"


def test_a_canary_that_goes_bad_is_rolled_back(there):
    shifted(turned=True)
    bad = DeploymentStatus("001", "canary", "003", rows=40, worse="its accuracy is lower")
    deployment = Scripted(DeploymentStatus("001", "shadow", "003", rows=200), bad)
    Loop(Path("runs/w"), deployer=lambda _: deployment).run()
    assert states()[-4:] == ["gated", "shadow", "canary", "rolled_back"]
    assert deployment.asked == [("shadow", "003"), ("share", "003", 0.1), ("rollback",)]
    assert deepseek.load("runs/w").bundle.path.parent.name == "001"


def test_a_shadow_that_fails_answers_nobody(there):
    shifted(turned=True)
    deployment = Scripted(DeploymentStatus("001", "shadow", "003", rows=30, failures=2))
    Loop(Path("runs/w"), deployer=lambda _: deployment).run()
    assert states()[-1] == "rolled_back"
    assert ("share", "003", 0.1) not in deployment.asked


def test_a_server_that_is_away_is_waited_for(there):
    shifted(turned=True)

    class Away(Scripted):
        def shadow(self, candidate):
            raise RunError("the server is away")

    now = [1e9]
    loop = Loop(Path("runs/w"), deployer=lambda _: Away(DeploymentStatus("001")), clock=lambda: now[0])
    loop.run()
    assert (states()[-1], loop.waits_for) == ("gated", "the server is away")
    now[0] += 8 * 86_400
    loop.run()
    assert states()[-1] == "given_up"


def test_a_training_that_fails_ends_the_round_and_is_told(there, monkeypatch):
    shifted(turned=True)
    errors = iter([RunError("the disk is full"), RuntimeError("an operator that is not there")])
    monkeypatch.setattr(making, "finish_candidate", lambda *_: (_ for _ in ()).throw(next(errors)))
    loop = Loop(Path("runs/w"))
    loop.run()
    assert states()[-1] == "failed"
    last = json.loads((there / "alarms.jsonl").read_text())
    assert last["name"] == "loop:failed"
    assert "the disk is full" in last["summary"]
    assert "an operator that is not there" in last["summary"]
    assert loop.run() == []  # and is not tried again


def test_killed_at_every_state_it_goes_on(there):
    shifted(turned=True)
    for state in ("begun", "gathered", "training", "made", "trained", "gated"):
        done = subprocess.run([sys.executable, "-c", KILLED, state], capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert states()[-1] == state
    process("loop", "once", "runs/w", "--json")
    kept = [state for state in states() if state != "training"]
    assert kept == ["begun", "gathered", "made", "made", "trained", "gated", "promoted"]
    assert accuracy() > 0.75


class Living(Scripted):
    """A deployment that remembers, as a server does; each look finds a hundred rows more."""

    def __init__(self):
        super().__init__(DeploymentStatus("001"))

    def status(self):
        now = self.found[0]
        self.found = [replace(now, rows=now.rows + 100 * (now.stage != "none"))]
        return self.found[0]

    def shadow(self, candidate):
        super().shadow(candidate)
        self.found = [replace(self.found[0], stage="shadow", candidate=candidate.name)]

    def share(self, candidate, share):
        super().share(candidate, share)
        self.found = [replace(self.found[0], stage="canary", candidate=candidate.name)]

    def promote(self, candidate):
        super().promote(candidate)
        self.found = [DeploymentStatus(candidate.name)]

    def rollback(self):
        super().rollback()
        self.found = [DeploymentStatus("001")]


@pytest.mark.parametrize("written", [True, False])
def test_killed_in_any_stage_it_goes_on_with_what_the_server_says(there, monkeypatch, written):
    shifted(turned=True)
    append, deployment, left = LoopJournal.append, Living(), ["gated", "shadow", "canary", "promoted"]

    class KilledError(BaseException):
        pass

    def dying(self, state, why, **facts):
        if state not in left:
            return append(self, state, why, **facts)
        left.remove(state)
        if written:
            append(self, state, why, **facts)
        raise KilledError

    monkeypatch.setattr(LoopJournal, "append", dying)
    for _ in range(4):
        with pytest.raises(KilledError):
            for _ in range(20):
                Loop(Path("runs/w/001"), deployer=lambda _: deployment).run()
    loop = Loop(Path("runs/w/001"), deployer=lambda _: deployment)
    loop.run()
    assert [state for state in states() if state in {"gated", "shadow", "canary", "promoted"}] == ["gated", "shadow", "canary", "promoted"]
    assert loop.champion.name == deployment.found[0].current == "003"
    assert ("rollback",) not in deployment.asked


def test_a_process_that_follows_acts_by_itself(there):
    process = subprocess.Popen(
        [sys.executable, "-m", "deepseek", "loop", "follow", "runs/w", "--every", "200ms"], stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stderr:
            if "waits for: an alarm" in line:
                break
        shifted(turned=True)
        for line in process.stderr:
            if "promoted" in line:
                break
    finally:
        process.kill()
        process.wait()
    assert states()[-1] == "promoted"


def test_a_process_that_follows_is_asked_to_approve_and_to_undo(there):
    """Whoever approves by hand has not to stop what follows the run first."""
    shifted(turned=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "deepseek", "loop", "follow", "runs/w", "--every", "1h", "--set", "monitor.on_alarm.promote=manual"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stderr:
            if "waits for: deepseek loop approve" in line:
                break
        waiting = deepseek.loop("runs/w", do="status")
        assert (waiting["state"], waiting["waits_for"]) == ("waiting", "deepseek loop approve runs/w/001")
        with pytest.raises(InputError, match="no promotion to take back"):
            deepseek.loop("runs/w", do="undo")
        assert [event["state"] for event in deepseek.loop("runs/w", do="approve")["events"]] == ["approved", "promoted"]
        assert [event["state"] for event in deepseek.loop("runs/w", do="undo")["events"]] == ["undone"]
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert states()[-3:] == ["approved", "promoted", "undone"]


def test_undoing_takes_back_the_promotion_also_while_an_experiment_runs_at_the_server(there):
    """The server's first rollback ends the experiment; the promoted model answers until the second."""
    shifted(turned=True)
    Loop(Path("runs/w")).run()
    promoted = Loop(Path("runs/w")).champion.name
    deployment = Scripted(DeploymentStatus(promoted, "shadow"), DeploymentStatus(promoted), DeploymentStatus("001"))
    Loop(Path("runs/w"), deployer=lambda _: deployment).undo()
    assert deployment.asked == [("rollback",), ("rollback",)]
    assert states()[-1] == "undone"


def test_what_was_asked_of_a_process_that_is_gone_is_not_done_later(there):
    asked_for = Path("runs/w/.loop/asked")
    asked_for.parent.mkdir(exist_ok=True)
    asked_for.write_text("undo")
    forget(Path("runs/w"))
    with asked(Path("runs/w")) as do:
        assert do is None
    with pytest.raises(RunError, match="process 7, which follows runs/w, is busy"):
        ask(Path("runs/w"), "undo", holder="7", patience_s=0.0)
    assert not asked_for.exists()


def test_numbers_are_predicted_anew_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def costs(rows, seed, factor):
        draw = np.random.default_rng(seed)
        x = draw.normal(size=rows)
        return pa.table({"x": x, "c": draw.choice(["a", "b"], rows), "y": factor * x + draw.normal(size=rows) * 0.1})

    pa.csv.write_csv(costs(1000, 0, 3.0), "w.csv")
    Path("w.yaml").write_text(RECIPE.replace("metric: accuracy, drop: 0.03", "metric: mae, drop: 0.2"))
    deepseek.run("w.yaml")
    answer(costs(300, 1, 3.0), prefix="b", at=500.0)
    assert answer(costs(400, 2, -3.0)) == ["metric:mae"]
    answer(costs(300, 4, -3.0), prefix="after", at=1500.0)
    Loop(Path("runs/w")).run()
    assert states()[-1] == "promoted"
    assert deepseek.evaluate("runs/w", costs(300, 3, -3.0))["metrics"]["mae"] < 1.0


def test_killed_between_the_deed_and_its_line_it_does_it_once(there, monkeypatch):
    shifted(turned=True)
    append = LoopJournal.append

    class KilledError(BaseException):
        pass

    def dying(self, state, why, **facts):
        if state == "promoted":
            raise KilledError
        return append(self, state, why, **facts)

    monkeypatch.setattr(LoopJournal, "append", dying)
    with pytest.raises(KilledError):
        Loop(Path("runs/w")).run()
    monkeypatch.setattr(LoopJournal, "append", append)
    assert states()[-1] == "gated"
    loop = Loop(Path("runs/w/001"))
    loop.run()
    assert states()[-1] == "promoted"
    assert loop.champion.name == "003"


def test_a_training_in_which_the_process_dies_is_not_tried_for_ever(there, monkeypatch):
    shifted(turned=True)

    class KilledError(BaseException):
        pass

    def killed(*_):
        raise KilledError

    monkeypatch.setattr(making, "finish_candidate", killed)
    for _ in range(2 * making.ATTEMPTS):
        with pytest.raises(KilledError):
            Loop(Path("runs/w")).run()
    Loop(Path("runs/w")).run()
    assert states()[-1] == "failed"
    assert states().count("training") == 2 * making.ATTEMPTS


def test_by_hand_it_waits_is_approved_and_taken_back(there, capsys):
    shifted(turned=True)
    manual = ["--set", "monitor.on_alarm.promote=manual"]
    assert main(["loop", "once", "runs/w", "--json", *manual]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "waiting"
    assert deepseek.load("runs/w").bundle.path.parent.name == "001"
    assert main(["loop", "approve", "runs/w/001", "--json", *manual]) == 0
    assert json.loads(capsys.readouterr().out)["last"] == "promoted"
    assert accuracy() > 0.75
    assert main(["loop", "undo", "runs/w"]) == 0
    assert deepseek.load("runs/w").bundle.path.parent.name == "001"
    assert "undone" in capsys.readouterr().out
    assert main(["loop", "undo", "runs/w"]) == 2
    assert main(["loop", "approve", "runs/w"]) == 2


def test_who_takes_a_promotion_back_at_the_server_is_noticed(there):
    shifted(turned=True)
    deployment = Scripted(DeploymentStatus("001", "canary", "003", rows=500))
    skip = ("monitor.on_alarm.shadow.rows=0",)
    Loop(Path("runs/w"), deployer=lambda _: deployment, overrides=skip).run()
    assert states()[-1] == "promoted"
    loop = Loop(Path("runs/w"), deployer=lambda _: deployment)  # which still answers with 001
    loop.run()
    assert states()[-1] == "undone"
    assert loop.champion.name == "001"
    assert RunFolder(Path("runs/w/003")).held


def test_learning_on_from_the_weights(there):
    shifted(turned=True)
    before = deepseek.load("runs/w/001")
    loop = Loop(Path("runs/w"), overrides=("monitor.on_alarm.action=online", "monitor.on_alarm.online.passes=30"))
    loop.run()
    assert states()[-1] == "promoted"
    after = deepseek.load("runs/w")
    assert after.bundle.read("data.json") == before.bundle.read("data.json")  # the transforms are the old ones
    assert accuracy() > 0.75
    assert Watcher.open("runs/w").reference.metrics["accuracy"].value > 0.7
    assert deepseek.compare(["runs/w/001", loop.champion.path])["runs"]


def test_a_model_that_learned_on_has_the_forms_that_the_recipe_asks_for(there):
    recipe = Path("runs/w/001/recipe.yaml")
    small = "compress: {quantize: {backend: onnx, method: dynamic, max_drop: 0.5}}\n"
    recipe.write_text(f"{recipe.read_text()}\n{small}")
    shifted(turned=True)
    loop = Loop(Path("runs/w"), overrides=("monitor.on_alarm.action=online", "monitor.on_alarm.online.passes=30"))
    loop.run()
    assert states()[-1] == "promoted"
    assert (loop.champion.path / "export" / "int8" / "model.onnx").is_file()


def test_what_a_new_model_is_made_by_is_the_recipe_alone(there):
    with pytest.raises(InputError, match=r"'train\.epochs=5' is no key of the section 'monitor'"):
        Loop(Path("runs/w"), overrides=("train.epochs=5",))


def test_too_few_rows_are_waited_for(there):
    shifted(turned=True)
    loop = Loop(Path("runs/w"), overrides=("monitor.on_alarm.recent.min_rows=2000",))
    loop.run()
    assert states() == ["begun"]
    assert "of 2,000 that are asked for" in loop.waits_for


def test_one_process_follows_a_run(there):
    shifted(turned=True)
    from deepseek.pipeline.closed_loop.process import _alone

    with _alone(Path("runs/w")), pytest.raises(InputError, match=f"process {os.getpid()} follows"):
        deepseek.loop("runs/w", do="once")
    assert deepseek.loop("runs/w", do="status")["state"] == "idle"


def test_a_recipe_that_keeps_no_values_is_refused():
    with pytest.raises(RecipeError, match=r"monitor\.keep_inputs: must be values"):
        deepseek.load_recipe({"data": {"source": "w.csv", "target": "y"}, "monitor": {"on_alarm": {"action": "retrain"}}})
    with pytest.raises(RecipeError, match="at most recent"):
        deepseek.load_recipe(
            {"data": {"source": "w.csv", "target": "y"}, "monitor": {"keep_inputs": "values", "on_alarm": {"recent": {"max_rows": 5}}}}
        )


def test_a_replay_says_what_it_would_have_been_worth(there, capsys):
    pa.csv.write_csv(pa.concat_tables([world(800, 4), world(1800, 5, turned=True)]), "past.csv")
    assert main(["loop", "replay", "runs/w", "past.csv", "--labels-after", "50", "--retrain-every", "1000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 2600
    assert found["accuracy"]["loop"] > found["accuracy"]["never"] + 0.1
    assert {"periodic", "no_change"} <= set(found["accuracy"])
    (first, *_) = found["rounds"]
    assert first["state"] == "promoted"
    assert 800 < first["began_at_row"] < 1200
    late = [point["loop"] - point["never"] for point in found["curve"][-8:]]
    assert np.mean(late) > 0.4
    assert states() == []  # the run's own folder stays as it is
    assert sorted(path.name for path in Path("runs/w").iterdir()) == ["001"]


def test_rows_of_a_replay_without_a_label_are_counted(there, capsys):
    rows = world(200, 4)
    labels = pa.array([None if place % 4 == 0 else label for place, label in enumerate(rows["y"].to_pylist())])
    pa.csv.write_csv(rows.set_column(rows.schema.get_field_index("y"), "y", labels), "past.csv")
    assert main(["loop", "replay", "runs/w", "past.csv"]) == 0
    assert "150 rows; 50 without a label were left out" in capsys.readouterr().out
    with pytest.raises(DataError, match="of 0 none has a label"):
        deepseek.replay("runs/w", rows.slice(0, 0))
