"""From a database to a trained model and its answers, and passwords that stay where they belong."""

import json
import logging
import os
import subprocess

import pytest
from tests.services.databases.asking import SECRET, ask, read

import deepseek
from deepseek.data.sources import open_source


@pytest.fixture
def customers(kind, url):
    rows = [(n, 20 + n % 50, ("pro", "free")[n % 2], round(n % 37 / 3, 2), ("no", "yes")[n % 50 > 25]) for n in range(400)]
    columns = "customer_id int primary key, age int, plan varchar(10), spend decimal(8,2), churned varchar(3)"
    ask(
        url,
        "drop table if exists customers",
        f"create table customers ({columns})",
        "insert into customers values (%s, %s, %s, %s, %s)",
        rows=rows,
    )
    return url


def command(*words, folder, env=()):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "DEEPSEEK_PASSWORD"))}
    return subprocess.run(
        [os.sys.executable, "-m", "deepseek", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**environment, **dict(env)},
        check=False,
    )


def holds_secret(folder):
    """The files below a folder that hold the password."""
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


QUICK = ("--set", "train.epochs=2", "--set", "model=mlp")


class TestRoad:
    def test_a_table_is_trained_on_and_a_query_answered(self, kind, customers, tmp_path):
        done = command("train", customers, "--table", "customers", "--target", "churned", *QUICK, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        run = tmp_path / "runs/customers/001"
        answered = command(
            "predict",
            str(run),
            customers,
            "--query",
            "select * from customers where customer_id < 10 order by customer_id",
            "-o",
            "a.jsonl",
            folder=tmp_path,
        )
        assert answered.returncode == 0, answered.stderr
        assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 10
        assert json.loads((run / "data.json").read_text())["sources"]["source"]["rows"]["kept"] == 400
        assert command("evaluate", str(run), customers, "--table", "customers", folder=tmp_path).returncode == 0

    def test_a_password_in_the_url_is_saved_nowhere_and_asked_for_again(self, kind, customers, tmp_path):
        done = command("train", customers, "--table", "customers", "--target", "churned", *QUICK, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "DEEPSEEK_PASSWORD" in done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert holds_secret(tmp_path) == []
        again = command("run", "runs/customers/001", folder=tmp_path)
        assert again.returncode == 2
        assert "the environment variable 'DEEPSEEK_PASSWORD' is not set" in again.stderr
        assert command("run", "runs/customers/001", folder=tmp_path, env={"DEEPSEEK_PASSWORD": SECRET}.items()).returncode == 0

    def test_a_variable_that_holds_the_url_is_referred_to(self, kind, customers, tmp_path):
        env = {"DATABASE_URL": customers}.items()
        done = command("train", customers, "--table", "customers", "--target", "churned", *QUICK, folder=tmp_path, env=env)
        assert done.returncode == 0, done.stderr
        assert "${ENV:DATABASE_URL}" in (tmp_path / "runs/customers/001/recipe.yaml").read_text()
        assert SECRET not in done.stdout + done.stderr
        assert holds_secret(tmp_path) == []

    def test_a_recipe_takes_it_from_the_environment(self, kind, customers, tmp_path):
        recipe = tmp_path / "churn.yaml"
        recipe.write_text(
            'data:\n  source: {type: sql, url: "${ENV:DATABASE_URL}", table: customers, order_by: customer_id}\n'
            "  target: churned\ntrain: {epochs: 2}\nmodel: mlp\n"
        )
        done = command("run", str(recipe), folder=tmp_path, env={"DATABASE_URL": customers}.items())
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert holds_secret(tmp_path) == []

    @pytest.mark.parametrize(
        "change",
        [
            lambda url: url.replace(SECRET, "other-secret-word"),
            lambda url: url + "_none",
            lambda url: url.replace("127.0.0.1", "no.host.invalid"),
        ],
    )
    def test_no_error_shows_it(self, kind, customers, tmp_path, change):
        done = command(
            "train", change(customers), "--table", "customers", "--target", "churned", "--set", "data.source.retries=0", folder=tmp_path
        )
        assert SECRET not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert holds_secret(tmp_path) == []
        if not (kind == "postgresql" and "other" in change(customers)):  # the test's server trusts whoever comes
            assert done.returncode == 2

    def test_an_unchanged_table_is_prepared_once(self, kind, customers, tmp_path):
        for _ in range(2):
            deepseek.train(
                {"type": "sql", "url": customers, "table": "customers"},
                target="churned",
                out=tmp_path / "runs",
                overrides=["train.epochs=1", "model=mlp"],
                progress=False,
            )
        assert len(list((tmp_path / "runs/.cache/prepared").iterdir())) == 1


def test_nothing_of_connectorx_or_adbc_is_logged_with_the_password(customers, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        read(open_source({"type": "sql", "url": customers, "table": "customers"}))
    out, err = capfd.readouterr()
    assert SECRET not in caplog.text + out + err
