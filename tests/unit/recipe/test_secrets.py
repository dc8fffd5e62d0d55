"""Passwords in URLs: hidden where they are shown, replaced by references where they are saved."""

import os

import pytest

from deepseek import progress
from deepseek.recipe import Recipe, conceal_password, load_recipe, resolve_secret, without_password

WORD = "hush-hush"
URL = "postgresql://me:hush-hush@localhost:5432/shop"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    kept = {name: value for name, value in os.environ.items() if "PASS" not in name}
    monkeypatch.setattr(os, "environ", kept)
    return kept


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, "postgresql://me:***@localhost:5432/shop"),
        ("mysql://me:p@ss/w:rd@h/d", "mysql://me:***@h/d"),
        ("mssql+pyodbc://h/d?driver=x&password=hush&y=1", "mssql+pyodbc://h/d?driver=x&password=***&y=1"),
        ("postgresql://me:${ENV:WORD}@h/d", "postgresql://me:${ENV:WORD}@h/d"),
        ("postgresql://me@h:5432/d", "postgresql://me@h:5432/d"),
        ("customers.csv", "customers.csv"),
        ("a:b@c", "a:b@c"),
    ],
)
def test_a_password_is_hidden_and_nothing_else(text, shown):
    assert without_password(text) == shown


def test_a_literal_password_becomes_a_reference_that_resolves_to_it(environment):
    with progress.collected_warnings() as warnings:
        saved = conceal_password(URL)
    assert saved == "postgresql://me:${ENV:DEEPSEEK_PASSWORD}@localhost:5432/shop"
    assert resolve_secret(saved) == URL
    assert any("set the environment variable DEEPSEEK_PASSWORD" in warning for warning in warnings)


def test_another_password_gets_another_variable_and_the_same_one_none(environment):
    assert conceal_password(URL) == conceal_password(URL)
    assert "DEEPSEEK_PASSWORD_2" in conceal_password(URL.replace("hush-hush", "other"))


def test_a_variable_that_holds_the_url_or_the_password_is_preferred(environment):
    environment["DATABASE_URL"] = URL
    assert conceal_password(URL) == "${ENV:DATABASE_URL}"
    environment["PGPASSWORD"] = "hush-hush"
    assert conceal_password(URL + "?x=1") == "postgresql://me:${ENV:PGPASSWORD}@localhost:5432/shop?x=1"


def test_a_variable_that_happens_to_hold_the_same_word_is_not(environment):
    environment["USER"] = "hush-hush"
    assert "DEEPSEEK_PASSWORD" in conceal_password(URL)


@pytest.mark.parametrize("where", ["source", "test"])
@pytest.mark.parametrize(
    "spec",
    [
        URL,
        {"type": "sql", "url": URL, "table": "t"},
        {"type": "kafka", "servers": "h:1", "topics": "t", "path": "s", "options": {"sasl.username": "me", "sasl.password": WORD}},
        {
            "type": "kafka",
            "servers": "h:1",
            "topics": "t",
            "path": "s",
            "options": {"ssl.key.pem": WORD, "sasl.oauthbearer.client.secret": WORD},
        },
        {"type": "pulsar", "url": "pulsar://h:1", "topics": "t", "path": "s", "token": WORD},
        {"type": "stream", "path": "s", "stream": {"type": "pulsar", "url": "pulsar://h:1", "topics": "t", "token": WORD}},
    ],
)
def test_a_recipe_never_holds_it(environment, where, spec):
    data = {"source": "a.csv", "target": "y", where: spec}
    for recipe in (load_recipe({"data": data}), Recipe.from_value({"data": data})):
        for text in (recipe.to_yaml(), recipe.to_short_yaml(), recipe.show(), repr(recipe), str(recipe.to_value())):
            assert "hush-hush" not in text


@pytest.mark.parametrize(
    "section",
    [
        {"monitor": {"store": URL}},
        {"monitor": {"notify": [{"type": "webhook", "url": f"https://h/alarm?password={WORD}"}]}},
        {"tune": {"storage": URL}},
        {"train": {"callbacks": [{"type": "mlflow", "uri": URL}]}},
    ],
)
def test_nor_does_any_section_that_may_name_a_database_or_an_address(environment, section):
    value = {"data": {"source": "a.csv", "target": "y"}, **section}
    for recipe in (load_recipe(value), Recipe.from_value(value)):
        for text in (recipe.to_yaml(), recipe.to_short_yaml(), recipe.show(), repr(recipe), str(recipe.to_value())):
            assert WORD not in text
        assert "${ENV:DEEPSEEK_PASSWORD}" in recipe.to_yaml()


def test_nor_does_an_override_or_an_error(environment):
    recipe = load_recipe({"data": {"source": "a.csv", "target": "y"}}, overrides=[f"data.source={{type: sql, url: '{URL}', table: t}}"])
    assert "hush-hush" not in recipe.to_yaml()
    with pytest.raises(Exception, match="tabel") as caught:
        load_recipe({"data": {"source": {"type": "sql", "url": URL, "tabel": "t"}}})
    assert "hush-hush" not in str(caught.value)


def test_only_what_is_secret_is_taken_out_of_options(environment):
    options = {"sasl.username": "me", "sasl.password": 123456, "ssl.ca.location": "ca.pem", "enable.ssl.certificate.verification": True}
    saved = conceal_password({"type": "kafka", "options": options})["options"]
    assert saved == {**options, "sasl.password": "${ENV:DEEPSEEK_PASSWORD}"}
    assert resolve_secret(saved["sasl.password"]) == "123456"
    reference = {"options": {"sasl.password": "${ENV:KAFKA_PASSWORD}"}, "token": "${ENV:TOKEN}"}
    assert conceal_password(reference) == reference
