import base64
import datetime as dt

import pyarrow as pa
import pytest

from deepseek.data.preparation import Preparation
from deepseek.errors import RunError
from deepseek.fields import infer_schema
from deepseek.monitoring.store import LabelledRow, Request, Store
from deepseek.pipeline.closed_loop.gathering import fresh_rows

TABLE = pa.table(
    {
        "age": [31, 44, 52, 28, 39, 60],
        "since": pa.array([dt.datetime(2024, 1, day) for day in range(1, 7)], pa.timestamp("us")),
        "city": ["Oslo", "Rome", "Oslo", "Bern", "Rome", "Bern"],
        "churned": [1, 0, 1, 0, 0, 1],
    }
)


def prepared(target="churned", kind="binary"):
    schema, _ = infer_schema(TABLE, [target], kinds={"age": "number", "city": "category"})
    return Preparation(schema, target=kind).fit(lambda: iter(TABLE.to_batches()))


def row(name, label, at=1.0, **inputs):
    return LabelledRow(name, at, {"age": 30, "since": "2024-02-03 04:05:06", "city": "Oslo", **inputs}, label)


def test_rows_have_the_types_of_training():
    found = fresh_rows([row("a", "1"), row("b", "0", at=2.0, age=None)], prepared())
    assert found.table.schema.field("since").type == pa.timestamp("us")
    assert found.table.to_pylist()[0] == {"age": 30, "since": dt.datetime(2024, 2, 3, 4, 5, 6), "city": "Oslo", "churned": 1}
    assert found.table["age"].to_pylist() == [30, None]
    assert (found.ids, found.at.tolist(), found.aside) == (["a", "b"], [1.0, 2.0], {})


def test_what_cannot_be_used_is_left_out_and_counted():
    rows = [row("a", "1"), row("b", "perhaps"), row("c", "0", age="old"), LabelledRow("d", 1.0, "a hash", "1"), row("e", "0")]
    found = fresh_rows(rows, prepared())
    assert found.ids == ["a", "e"]
    assert found.aside == {"inputs were not kept": 1, "churned cannot be read": 1, "age cannot be read": 1}


def test_a_log_of_hashes_is_no_log_of_rows():
    with pytest.raises(RunError, match="keeps no values") as error:
        fresh_rows([LabelledRow("a", 1.0, "4f5e", "1")], prepared())
    assert "keep_inputs: values" in error.value.hint
    assert fresh_rows([], prepared()).table.num_rows == 0


def test_bytes_come_back_as_they_were():
    preparation = prepared()
    preparation.types["city"] = pa.binary()
    kept = {"base64": base64.b64encode(b"\x00\xffPNG").decode()}
    assert fresh_rows([row("a", "1", city=kept)], preparation).table["city"].to_pylist() == [b"\x00\xffPNG"]


def test_the_newest_labelled_rows_come_once_the_oldest_first(tmp_path):
    with Store(tmp_path / "log.db") as store:
        store.append_requests([Request(f"r{n}", float(n), "yes", None, {"age": n}) for n in range(6)])
        store.append_labels([(f"r{n}", "no") for n in (5, 1, 3, 0)], 9.0)
        store.append_labels([("r3", "yes"), ("nobody", "no")], 10.0)  # the first label of an id counts
        assert [(one.id, one.at, one.inputs, one.label) for one in store.labelled_rows(most=3)] == [
            ("r1", 1.0, {"age": 1}, "no"),
            ("r3", 3.0, {"age": 3}, "no"),
            ("r5", 5.0, {"age": 5}, "no"),
        ]
        assert [one.id for one in store.labelled_rows(since=2.0)] == ["r3", "r5"]


def test_alarms_come_with_their_numbers(tmp_path):
    with Store(tmp_path / "log.db") as store:
        for place in range(3):
            store.save_alarm(float(place), {"name": str(place)})
        assert store.alarms_after(1) == [(2, {"name": "1"}), (3, {"name": "2"})]
        assert store.alarms_after(3) == []
