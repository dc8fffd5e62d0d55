"""The log of a watched model in real databases."""

import pytest

from deepseek.errors import InputError, RunError
from deepseek.monitoring.store import Request, Store

pytest.importorskip("sqlalchemy")


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request):
    return request.getfixturevalue(request.param)


def asked(*ids, at=1.0):
    return [Request(name, at, "größe", [0.2, 0.8], {"age": 3}) for name in ids]


def test_what_is_appended_is_joined_and_forgotten(url):
    with Store(url) as store, Store(url) as other:
        assert store.append_requests(asked("a", "b", "c")) == 3
        assert store.append_requests(asked("a", "d")) == 1
        assert other.requests() == asked("a", "b", "c", "d")
        other.append_labels([("b", "no"), ("zz", 1.5)], 2.0)
        assert [(one.id, one.prediction, one.label) for one in store.join_new()] == [("b", "größe", "no")]
        assert other.join_new() == []
        store.save_state("x", {"n": 1})
        store.save_state("x", {"n": 2})
        assert other.state("x") == {"n": 2}
        store.save_window(0, 1, {"rows": 3})
        store.save_alarm(0, {"name": "a"})
        assert (other.windows()[0]["rows"], other.alarms()[0]["name"]) == (3, "a")
        assert store.delete(["b"]) == 1
        assert other.counts() == {"requests": 3, "labels": 1, "outcomes": 0}
        assert store.forget_before(5.0) == 3


def test_a_transaction_is_all_or_nothing(url):
    with Store(url) as store, Store(url) as other:
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.append_requests(asked("never"))
            raise ZeroDivisionError
        assert [one.id for one in other.requests() if one.id == "never"] == []


def test_a_wrong_password_is_said_without_telling_it(url):
    with pytest.raises(RunError) as caught:
        Store(url.replace("secret-word@", "other-secret@").replace("127.0.0.1:", "127.0.0.1:1"))
    assert "other-secret" not in str(caught.value)


def test_models_share_a_database_and_old_ones_open(url):
    import sqlalchemy

    with Store(url) as store:
        dialect = store._database.dialect
        keys = {"postgresql": "BIGSERIAL PRIMARY KEY", "mysql": "BIGINT AUTO_INCREMENT PRIMARY KEY"}[dialect]
        engine, text = store._database._engine, "LONGTEXT" if dialect == "mysql" else "TEXT"
        names = ("requests", "labels", "pending", "outcomes", "windows", "alarms", "state")
        with engine.begin() as connection:
            for name in names:
                connection.execute(sqlalchemy.text(f"DROP TABLE deepseek_{name}"))
            for columns in (
                f"requests (seq {keys}, id VARCHAR(190) NOT NULL UNIQUE, at DOUBLE PRECISION NOT NULL, prediction {text} NOT NULL, "
                f"probability {text}, inputs {text})",
                f"labels (seq {keys}, id VARCHAR(190) NOT NULL, at DOUBLE PRECISION NOT NULL, label {text} NOT NULL)",
                "pending (id VARCHAR(190) NOT NULL PRIMARY KEY)",
                "outcomes (id VARCHAR(190) NOT NULL PRIMARY KEY)",
                f"windows (seq {keys}, began DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION NOT NULL, content {text} NOT NULL)",
                f"alarms (seq {keys}, at DOUBLE PRECISION NOT NULL, content {text} NOT NULL)",
                f"state (name VARCHAR(190) NOT NULL PRIMARY KEY, content {text} NOT NULL)",
            ):
                connection.execute(sqlalchemy.text(f"CREATE TABLE deepseek_{columns}"))
            connection.execute(sqlalchemy.text("INSERT INTO deepseek_requests (id, at, prediction) VALUES ('old', 1.0, '\"yes\"')"))
            connection.execute(sqlalchemy.text("INSERT INTO deepseek_state VALUES ('watcher', '7')"))
    with Store(url) as store:
        one, two = store.of("churn/001@aa"), store.of("price/001@bb")
        assert (one.state("watcher"), two.state("watcher")) == (7, None)
        assert one.new_ids(asked("old", "new")) == {"new"}
        assert two.new_ids(asked("old", "new")) == {"old", "new"}
        two.append_labels([("old", "no")], 2.0)
        assert (one.join_new(), [found.id for found in two.join_new()]) == ([], ["old"])
        assert one.delete(["old"]) == 1
        assert (one.counts()["requests"], two.counts()["requests"]) == (1, 2)
        assert two.forget_before(5.0) == 2


def test_labelled_rows_and_alarms_are_read_for_the_loop(url):
    with Store(url) as whole:
        store, other = whole.of("loop/001@aa"), whole.of("loop/002@bb")
        store.append_requests([Request(f"l{n}", float(n), "yes", None, {"age": n}) for n in range(5)])
        other.append_requests([Request("l9", 9.0, "yes", None, {"age": 9})])
        store.append_labels([("l4", "no"), ("l1", "yes"), ("l2", "no"), ("l1", "no")], 5.0)
        other.append_labels([("l9", "no")], 9.0)
        assert [(row.id, row.inputs, row.label) for row in store.labelled_rows(most=2)] == [
            ("l2", {"age": 2}, "no"),
            ("l4", {"age": 4}, "no"),
        ]
        assert [(row.id, row.label) for row in store.labelled_rows(since=1.0)] == [("l1", "yes"), ("l2", "no"), ("l4", "no")]
        assert [row.id for row in other.labelled_rows()] == ["l9"]
        for name in ("a", "b"):
            store.save_alarm(1.0, {"name": name})
        (first, _), (second, event) = store.alarms_after(0)
        assert event == {"name": "b"}
        assert store.alarms_after(first) == [(second, event)]
        assert other.alarms_after(0) == []


NAMES = ["Abc", "aBC", "äbc", "abc", "abc ", "straße", "strasse"]


def test_ids_and_models_that_differ_in_case_accents_or_blanks_alone_are_apart(url):
    with Store(url) as whole:
        store, other = whole.of("Case/001@aa"), whole.of("case/001@aa")
        assert store.new_ids(asked(*NAMES)) == set(NAMES)
        assert store.new_ids(asked(*NAMES, "new")) == {"new"}
        assert other.new_ids(asked("abc")) == {"abc"}
        store.append_labels([("aBC", "no"), ("abc ", "yes")], 2.0)
        assert {(one.id, one.label) for one in store.join_new()} == {("aBC", "no"), ("abc ", "yes")}
        assert other.join_new() == []
        assert store.delete(["Abc"]) == 1
        assert store.known(NAMES) == set(NAMES[1:])


def test_an_id_that_is_too_long_is_refused_and_never_cut(url):
    with Store(url) as whole:
        store = whole.of("long/001@aa")
        with pytest.raises(InputError, match="191 characters"):
            store.append_requests(asked("short", "x" * 191))
        with pytest.raises(InputError, match="191 characters"):
            store.append_labels([("x" * 191, "no")], 1.0)
        assert store.counts() == {"requests": 0, "labels": 0, "outcomes": 0}
        assert store.append_requests(asked("ö" * 190)) == 1


def test_tables_of_an_older_version_tell_ids_apart_once_opened(mariadb):
    import sqlalchemy

    kept = "VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
    with Store(mariadb) as whole, whole._database._engine.begin() as connection:
        whole._database.rollback()
        for table in ("requests", "labels", "pending", "outcomes"):
            connection.execute(sqlalchemy.text(f"DELETE FROM deepseek_{table}"))
            connection.execute(sqlalchemy.text(f"ALTER TABLE deepseek_{table} MODIFY id {kept} NOT NULL"))
            connection.execute(sqlalchemy.text(f"ALTER TABLE deepseek_{table} MODIFY model {kept} DEFAULT '' NOT NULL"))
        connection.execute(sqlalchemy.text("INSERT INTO deepseek_requests (id, at, prediction, model) VALUES ('Old', 1.0, '1', 'older')"))
    for _ in range(2):
        with Store(mariadb) as whole:
            store = whole.of("older")
            store.append_requests(asked("old"))
            assert store.known(["Old", "old", "OLD"]) == {"Old", "old"}
            assert whole.of("Older").requests() == []
