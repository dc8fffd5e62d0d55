"""What was text in training is read as text from every later file, however narrow its values look there."""

import pytest

from deepseek.data.sources import open_source


def rows(source):
    return [row for batch in source.read() for row in batch.to_pylist()]


def test_codes_in_csv_keep_their_spelling(tmp_path):
    (tmp_path / "a.csv").write_text("zip,price,flag,x\n01234,1.50,True,1\n 99999,2.50,False,2\n")
    source = open_source(str(tmp_path / "a.csv"))
    assert rows(source)[1] == {"zip": "99999", "price": 2.5, "flag": False, "x": 2}
    again = source.as_text(["zip", "price", "flag", "absent"])
    assert again.schema().field("price").type == "string"
    assert rows(again)[0] == {"zip": "01234", "price": "1.50", "flag": "True", "x": 1}
    assert again.fingerprint() == source.fingerprint()
    assert rows(source)[0]["price"] == 1.5


def test_types_that_the_user_gave_count(tmp_path):
    (tmp_path / "a.csv").write_text("price\n1.50\n2\n")
    source = open_source({"type": "csv", "path": str(tmp_path / "a.csv"), "types": {"price": "float64"}})
    assert rows(source.as_text(["price"])) == [{"price": 1.5}, {"price": 2.0}]


@pytest.mark.parametrize(
    ("name", "text"), [("a.jsonl", '{"a": 2.0, "b": {"c": 1}}\n{"a": true}\n'), ("a.json", '[{"a": 2.0}, {"a": true}]')]
)
def test_json_values_become_text_as_they_do_beside_text(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert [row["a"] for row in rows(open_source(str(tmp_path / name)).as_text(["a", "b"]))] == ["2.0", "true"]


def test_tables_with_types_stay_as_they_are():
    source = open_source({"a": [1, 2]})
    assert source.as_text(["a"]) is source
