"""The whole road in one go, from the command line, as a user walks it."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

FAST = ["--set", "train.epochs=3", "--set", "model={type: mlp, depth: 2, width: 32}", "--set", "train.precision=fp32"]


def command(*arguments, folder, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "deepseek", *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def as_json(*arguments, folder, status=0):
    return json.loads(command(*arguments, "--json", folder=folder, status=status).stdout)


@pytest.fixture(scope="module")
def customers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("customers")
    random = np.random.default_rng(0)
    rows = 600
    age, city = random.normal(40, 12, rows).round(1), random.choice(["Rome", "Oslo", "Lima"], rows)
    churned = (age + 15 * (city == "Oslo") + random.normal(0, 5, rows)) > 45
    table = pa.table({"age": age, "city": city, "churned": np.where(churned, "yes", "no")})
    pa.csv.write_csv(table, folder / "customers.csv")
    return folder


@pytest.fixture(scope="module")
def trained(customers):
    return as_json("train", "customers.csv", "--target", "churned", *FAST, folder=customers)


def test_a_file_becomes_a_model_with_honest_numbers(customers, trained):
    assert set(trained) == {"run", "bundle", "metrics", "seconds", "warnings"}
    assert trained["metrics"]["test"]["auc"] > 0.85
    assert trained["metrics"]["validation"]["auc"] > 0.85
    run = customers / trained["run"]
    present = {path.name for path in run.iterdir()}
    assert {"recipe.yaml", "resolved.yaml", "decisions.json", "data.json", "events.jsonl", "metrics.json", "bundle"} <= present


def test_predictions_of_the_file_equal_those_of_the_python_api(customers, trained):
    import deepseek

    as_json("predict", trained["run"], "customers.csv", "-o", "answers.csv", folder=customers)
    written = pa.csv.read_csv(customers / "answers.csv")
    table = pa.csv.read_csv(customers / "customers.csv")
    direct = deepseek.load(customers / trained["run"]).predict(table)
    assert written["prediction"].to_pylist() == direct["prediction"].to_pylist()
    np.testing.assert_allclose(written["probability_yes"].to_numpy(), direct["probability_yes"].to_numpy(), rtol=1e-6)


def test_evaluating_the_test_rows_gives_the_test_metrics(customers, trained):
    table = pa.csv.read_csv(customers / "customers.csv")
    whole = as_json("evaluate", trained["run"], "customers.csv", folder=customers)
    assert whole["rows"] == table.num_rows
    assert whole["metrics"]["auc"] > 0.85


def test_the_recipe_of_a_run_makes_the_same_run_again(customers, trained):
    again = as_json("run", f"{trained['run']}/recipe.yaml", folder=customers)
    assert again["run"] != trained["run"]
    assert again["metrics"] == trained["metrics"]


def test_another_learning_rate_prepares_no_data_again(customers, trained):
    before = sorted((customers / "runs/.cache").glob("*/*"))
    as_json("train", "customers.csv", "--target", "churned", *FAST, "--set", "train.learning_rate=0.01", folder=customers)
    assert sorted((customers / "runs/.cache").glob("*/*")) == before
    as_json("train", "customers.csv", "--target", "churned", *FAST, "--set", "data.drop=[city]", folder=customers)
    assert sorted((customers / "runs/.cache").glob("*/*")) != before


def test_a_finished_run_is_resumed_as_it_is(customers, trained):
    assert as_json("run", trained["run"], "--resume", folder=customers)["metrics"] == trained["metrics"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "customers.csv", "--target", "churn"], "did you mean 'churned'"),
        (["train", "customer.csv", "--target", "churned"], "customers.csv"),
        (["train", "customers.csv", "--target", "churned", "--set", "train.epoch=3"], "did you mean 'epochs'"),
        (["train", "customers.csv", "--target", "churned", "--set", "train.epochs=many"], "many"),
        (["predict", "runs/none", "customers.csv", "-o", "x.csv"], "runs/none"),
        (["predict", "runs/customers", "customers.csv", "-o", "x.xls"], ".parquet"),
    ],
)
def test_a_mistake_is_named_with_what_to_do(customers, trained, arguments, words):
    done = command(*arguments, folder=customers, status=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_two_devices_give_the_numbers_of_one(customers):
    exact = [*FAST, "--set", "model={type: mlp, depth: 2, width: 32, dropout: 0, normalization: none}"]
    one = as_json("train", "customers.csv", "--target", "churned", *exact, folder=customers)
    two = as_json("train", "customers.csv", "--target", "churned", *exact, "--set", "train.devices=2", folder=customers)
    for name in ("log_loss", "brier"):
        assert two["metrics"]["test"][name] == pytest.approx(one["metrics"]["test"][name], rel=1e-5)


def test_a_recipe_refers_to_secrets_and_no_file_of_the_run_holds_them(customers, monkeypatch):
    (customers / "secret.yaml").write_text(
        "data: {source: '${ENV:CUSTOMER_FILE}.csv', target: churned}\nmodel: {type: mlp}\ntrain: {epochs: 1}\n"
    )
    monkeypatch.setenv("CUSTOMER_FILE", "customers")
    run = customers / as_json("run", "secret.yaml", folder=customers)["run"]
    assert "${ENV:CUSTOMER_FILE}" in (run / "recipe.yaml").read_text()
    assert "customers.csv" not in (run / "recipe.yaml").read_text() + (run / "resolved.yaml").read_text()
    monkeypatch.delenv("CUSTOMER_FILE")
    assert "CUSTOMER_FILE" in command("run", "secret.yaml", folder=customers, status=2).stderr


def test_an_override_may_say_how_the_source_is_read(customers):
    (customers / "semicolon.txt").write_text((customers / "customers.csv").read_text().replace(",", "|"))
    source = "data.source={type: csv, path: semicolon.txt, delimiter: '|'}"
    run = as_json("train", "semicolon.txt", "--target", "churned", *FAST, "--set", source, "--time-limit", "60", folder=customers)
    assert run["metrics"]["test"]["auc"] > 0.85
