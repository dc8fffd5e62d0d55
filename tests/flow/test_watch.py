"""From a recipe to a watched model: the reference in the bundle, files checked against it, an alarm where it belongs."""

import json
import sqlite3

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest

import deepseek
from deepseek.cli import main
from deepseek.data.examples.customers import customers
from deepseek.errors import BundleError, UnknownNameError
from deepseek.monitoring import Store, Watcher

RECIPE = """
name: churn
data: {source: customers.csv, target: churned}
train: {max_steps: 60, precision: fp32}
monitor:
  alarm: {metric: accuracy, drop: 0.03}
  window: {rows: 250}
  notify: [{type: file, path: alarms.jsonl}]
"""


def shifted(table):
    return table.set_column(table.schema.get_field_index("age"), "age", pc.add(table.column("age"), 15))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    table = customers(2500)
    pa.csv.write_csv(table.slice(0, 1500), folder / "customers.csv")
    pa.csv.write_csv(table.slice(1500), folder / "later.csv")
    pa.csv.write_csv(shifted(table.slice(1500)), folder / "older.csv")
    pa.csv.write_csv(table.slice(1500).drop_columns(["plan"]), folder / "without.csv")
    (folder / "churn.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        deepseek.run("churn.yaml")
    return folder


@pytest.fixture
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def said(capsys, *arguments):
    status = main(["watch", "runs/churn", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_the_reference_is_small_and_holds_no_row(there):
    text = (there / "runs/churn/001/bundle/reference.json").read_text()
    assert len(text) < 100_000
    assert "@example" not in text
    assert "c000" not in text


def test_rows_like_those_of_training_raise_no_alarm(there, capsys):
    status, found = said(capsys, "later.csv")
    assert (status, found["alarms"]) == (0, [])
    assert found["files"][0]["labels"] == 1000  # the target's column is there


def test_a_shift_is_an_alarm_with_its_status_and_told(there, capsys):
    status, found = said(capsys, "older.csv", "--notify", "--prometheus", "figures.prom")
    assert status == 3
    assert "age" in found["files"][0]["drifted"]
    assert json.loads((there / "alarms.jsonl").read_text())["summary"].startswith("drifted: age")
    assert 'deepseek_monitor_drifted{model="runs/churn/001/bundle",column="age"} 1.0' in (there / "figures.prom").read_text()


def test_a_missing_column_is_a_finding_and_no_failure(there, capsys):
    status, found = said(capsys, "without.csv")
    assert status == 3
    assert found["files"][0]["wrong"] == ["plan"]
    assert found["alarms"][0] == "missing or unreadable: plan"


def test_a_table_of_a_database_is_watched_as_a_file_is(there, capsys):
    rows = pa.csv.read_csv("older.csv").select(["age", "income", "city", "country", "plan", "signed_up", "visits", "spend", "churned"])
    with sqlite3.connect(there / "shop.db") as database:
        rows.to_pandas().to_sql("orders", database, index=False)
    status, found = said(capsys, "sqlite:///shop.db", "--table", "orders")
    assert (status, found["files"][0]["file"], found["files"][0]["rows"]) == (3, "orders", 1000)
    assert "age" in found["files"][0]["drifted"]
    assert said(capsys, "sqlite:///shop.db", "later.csv", "--table", "orders")[0] == 2
    assert said(capsys, "later.csv", "--table", "orders")[0] == 2


def test_several_files_are_a_stream(there, capsys):
    status, found = said(capsys, "later.csv", "older.csv")
    assert status == 3
    assert [one["drifted"] != [] for one in found["files"]] == [False, True]
    assert found["performance"]["labels"] == 2000


def test_people_get_a_table(there, capsys):
    assert main(["watch", "runs/churn", "older.csv"]) == 3
    printed = capsys.readouterr().out
    assert "age" in printed
    assert "large drift" in printed
    assert "alarm: drifted: age" in printed


def turned(path, one_of=8):
    """Return a table with a column `truth` that is the other class in each so many rows."""
    table = pa.csv.read_csv(path)
    places = pa.array([place % one_of == 0 for place in range(table.num_rows)])
    other = pc.if_else(pc.equal(table["churned"], "yes"), "no", "yes")
    return table.append_column("truth", pc.if_else(places, other, table["churned"]))


def test_a_drop_of_accuracy_alone_is_an_alarm(there):
    found = deepseek.watch("runs/churn", turned("later.csv"), labels="truth")
    assert found["files"][0]["drifted"] == []
    assert found["alarms"][0].startswith("accuracy was")
    found = deepseek.watch("runs/churn", turned("later.csv"), labels="truth", overrides={"drop": 0.5})
    assert found["alarms"] == []


def test_figures_ring_for_what_the_alarms_say_and_for_nothing_else(there):
    never = {"horizon": 10**12}  # the test for many looks asks for more than there is; that for one look does not
    found = deepseek.watch("runs/churn", turned("later.csv"), labels="truth", overrides=never, prometheus="figures.prom")
    assert found["alarms"][0].startswith("accuracy was")
    assert 'alarm="metric:accuracy"} 1' in (there / "figures.prom").read_text()

    found = deepseek.watch("runs/churn", "older.csv", overrides={"drift": False, "drop": 0.9}, prometheus="figures.prom")
    assert found["alarms"] == []
    assert "deepseek_monitor_alarm" not in (there / "figures.prom").read_text()


def test_a_stream_says_in_which_file_the_metric_dropped(there):
    pa.csv.write_csv(turned("later.csv", one_of=3), there / "monday.csv")
    pa.csv.write_csv(turned("later.csv", one_of=10**6), there / "tuesday.csv")
    found = deepseek.watch("runs/churn", ["monday.csv", "tuesday.csv"], labels="truth", overrides={"window_rows": 900})
    (alarm,) = (one for one in found["alarms"] if one.startswith("accuracy was"))
    fell, now = found["files"][0]["metrics"]["accuracy"], found["performance"]["window"]["accuracy"]
    assert now > fell + 0.2
    assert f"dropped in monday.csv, {fell:.4f} there; it is {now:.4f} over the last labels" in alarm


def test_labels_of_another_spelling_are_told_and_not_passed_over(there, capsys):
    table = pa.csv.read_csv("later.csv").slice(0, 200)
    pa.csv.write_csv(table.append_column("truth", pa.array(["Yes", "No", None, "no"] * 50)), there / "spelled.csv")
    assert main(["watch", "runs/churn", "spelled.csv", "--labels", "truth"]) == 3
    printed = capsys.readouterr().out
    assert "alarm: 100 labels are no class that the model knows: 'Yes', 'No'; it knows 'no', 'yes'" in printed


def test_why_rows_cannot_be_answered_is_said(there, capsys):
    table = pa.csv.read_csv("later.csv").slice(0, 200)
    place = table.schema.get_field_index("age")
    pa.csv.write_csv(table.set_column(place, "age", pa.array(["old"] * 200)), there / "words.csv")
    for path, why in (
        ("words.csv", "200 of 200 rows cannot be answered: the column 'age'"),
        ("without.csv", "missing or unreadable: plan"),
    ):
        assert main(["watch", "runs/churn", path]) == 3
        printed = capsys.readouterr().out
        assert why in printed
        assert "drifted: the same" not in printed
        assert "nan" not in printed


def test_a_drop_that_the_reference_is_too_small_for_is_told(there, capsys):
    assert "will often be missed: the reference is of 225 rows" in (main(["watch", "runs/churn", "later.csv"]), capsys.readouterr().out)[1]
    assert "will often be missed" not in (main(["watch", "runs/churn", "later.csv", "--drop", "0.2"]), capsys.readouterr().out)[1]


def test_figures_of_one_file_are_those_of_all_its_labels(there):
    found = deepseek.watch("runs/churn", "later.csv", prometheus="figures.prom", overrides={"window_rows": 100})
    value = found["files"][0]["metrics"]["accuracy"]
    assert f'deepseek_monitor_metric{{model="runs/churn/001/bundle",metric="accuracy"}} {value!r}' in (there / "figures.prom").read_text()


def test_a_column_that_is_not_there_is_named(there):
    with pytest.raises(UnknownNameError, match="did you mean 'churned'"):
        deepseek.watch("runs/churn", "later.csv", labels="churn")


def test_a_watcher_does_as_the_recipe_says(there):
    watcher = Watcher.open("runs/churn")
    assert (watcher.settings.drop, watcher.settings.window_rows, watcher.performance.metric) == (0.03, 250, "accuracy")
    rows = shifted(customers(600))
    watcher.observe(rows, deepseek.load("runs/churn").predict(rows))
    assert "drift:age" in watcher.check()["alarms"]
    watcher.store.close()
    assert (there / "runs/churn/001/monitor.db").is_file()


def test_old_bundles_still_open_and_say_what_they_lack(there, tmp_path):
    from deepseek.artifacts import Bundle, write_bundle

    bundle = Bundle.open(there / "runs/churn")
    names = [name for name in bundle.manifest["files"] if name != "reference.json"]
    with write_bundle(tmp_path / "old", {}) as folder:
        for name in names:
            (folder / name).write_bytes(bundle.file(name).read_bytes())
    assert deepseek.load(tmp_path / "old").predict("later.csv").num_rows == 1000
    with pytest.raises(BundleError, match=r"has no reference\.json"):
        deepseek.watch(tmp_path / "old", "later.csv")
    with Store(tmp_path / "log.db") as store, pytest.raises(BundleError):
        Watcher(tmp_path / "old", store)


@pytest.fixture
def logged(there):
    """The log of a served run that drifts: rows, a few labels."""
    (there / "runs/churn/001/monitor.db").unlink(missing_ok=True)
    watcher = Watcher.open("runs/churn")
    table = shifted(pa.csv.read_csv("later.csv")).slice(0, 600)
    ids = [f"r{place}" for place in range(600)]
    watcher.observe(table, deepseek.load("runs/churn").predict(table), ids=ids)
    watcher.label(ids[:40], table.column("churned").slice(0, 40))
    watcher.store.close()
    yield
    (there / "runs/churn/001/monitor.db").unlink()


def test_the_log_of_a_served_run_is_shown(logged, capsys):
    status, found = said(capsys, "--log")
    assert status == 3
    assert found["counts"] == {"requests": 600, "labels": 40, "outcomes": 40}
    assert [one["rows"] for one in found["windows"]] == [250, 250]
    assert found["window"]["rows"] == 100
    assert "drift:age" in found["alarms"]
    assert any(one["name"] == "drift:age" and one["state"] == "raised" for one in found["events"])
    assert found["performance"]["labels"] == 40
    assert main(["watch", "runs/churn", "--log"]) == 3
    text = capsys.readouterr().out
    assert "600 requests, 40 labels, 40 judged" in text
    assert "alarm: drift:age" in text
    assert "of the threshold" in text


def test_requests_are_forgotten_by_id_and_by_age(logged, capsys):
    status, found = said(capsys, "--forget", "r1", "--forget", "r2", "--forget", "nobody")
    assert (status, found["forgotten"], found["unknown"]) == (0, 2, ["nobody"])
    with Store("runs/churn/001/monitor.db") as store:
        assert store.counts() == {"requests": 598, "labels": 38, "outcomes": 38}
        assert not [one for one in store.requests() if one.id in {"r1", "r2"}]
    assert said(capsys, "--forget-older", "1d")[1]["forgotten"] == 0
    assert said(capsys, "--forget-older", "1ms")[1]["forgotten"] == 598
    assert main(["watch", "runs/churn", "--forget", "r1"]) == 0
    assert "0 requests forgotten; not in the log: r1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--log"], "has no log"), ([], "nothing to watch"), (["later.csv", "--log"], "about the log"), (["--forget-older", "soon"], "soon")],
)
def test_what_cannot_be_shown_is_said(there, capsys, arguments, words):
    assert main(["watch", "runs/churn", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (there / "runs/churn/001/monitor.db").exists()
