"""From JSON, Arrow and forms to rows: the types of training, and an error for every value that has none of them."""

import base64
import io

import orjson
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import deepseek
from deepseek.artifacts import Bundle
from deepseek.data.preparation import Preparation
from deepseek.inference import Predictor
from deepseek.serving.http.forms import read_form
from deepseek.serving.http.problems import RefusedError
from deepseek.serving.rows.ipc import read_stream
from deepseek.serving.rows.reader import RowReader

ROW = {
    "age": 41, "income": 25_000.5, "city": "Oslo", "floor": 2, "member": True, "since": "2021-03-04T05:06:07Z", "note": "new here",
}  # fmt: skip


def reader_of(run, **arguments):
    return RowReader(Preparation.from_json(Bundle.open(run).read("data.json")), **arguments)


@pytest.fixture(scope="module")
def reader(people_run):
    return reader_of(people_run, max_rows=200)


def read(reader, value):
    return reader.read_json(orjson.dumps(value))


def stream(table, **options):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def png(width=12, height=12):
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(file, "PNG")
    return file.getvalue()


def test_one_row_and_many_in_every_shape(reader):
    one = read(reader, ROW)
    assert (one.single, one.count, one.bad) == (True, 1, {})
    for shape in ([ROW, ROW], {"rows": [ROW, ROW]}):
        many = read(reader, shape)
        assert (many.single, many.count) == (False, 2)
        assert many.batch.slice(0, 1).equals(one.batch)


def test_values_have_the_types_of_training(reader):
    batch = read(reader, ROW).batch
    kinds = {field.name: str(field.type) for field in batch.schema}
    assert kinds == {
        "age": "double", "income": "double", "city": "string", "floor": "int64", "member": "bool", "since": "timestamp[us]",
        "note": "string",
    }  # fmt: skip
    assert batch["since"][0].as_py().isoformat() == "2021-03-04T05:06:07"


def test_served_rows_are_answered_as_predicted_ones(reader, people_run, table):
    predictor = Predictor.load(people_run)
    rows = table.drop_columns(["bought"]).slice(0, 30)
    given = [{**row, "since": row["since"].isoformat()} for row in rows.to_pylist()]
    served = predictor.answer(read(reader, given).batch)
    through_arrow = predictor.answer(reader.read_arrow(stream(rows)).batch)
    expected = predictor.predict(rows)
    assert served.equals(expected)
    assert through_arrow.equals(expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("age", "41"), ("age", True), ("age", [41]), ("age", {"a": 1}), ("age", 1e39), ("city", 3), ("city", False), ("floor", 1.5),
        ("floor", "2"), ("floor", 2**64 - 1), ("member", 1), ("member", "true"), ("since", "yesterday"), ("since", 20210304), ("note", 7),
        ("note", ["new"]), ("floor", True),
    ],
)  # fmt: skip
def test_a_bad_value_names_its_field_what_was_given_and_what_is_allowed(reader, field, value):
    rows = read(reader, [ROW, {**ROW, field: value}, ROW])
    assert rows.places == [0, 2]
    (error,) = rows.bad[1]
    assert error["field"] == field
    assert repr(field) in error["message"]
    assert error["given"] in error["message"]
    assert error["allowed"] in error["message"]


@pytest.mark.parametrize(
    ("field", "value"), [("floor", 2.0), ("age", 2**63), ("city", "Atlantis"), ("since", "2021-03-04"), ("age", 2**60 + 1)]
)
def test_values_that_are_legal_though_unusual(reader, field, value):
    assert not read(reader, {**ROW, field: value}).bad


def test_null_is_a_missing_value_in_every_field(reader):
    rows = read(reader, dict.fromkeys(ROW))
    assert not rows.bad
    assert all(column.null_count == 1 for column in rows.batch.columns)


def test_a_missing_field_is_an_error_that_knows_what_may_be_meant(reader):
    given = {("citi" if name == "city" else name): value for name, value in ROW.items()}
    (error,) = read(reader, given).bad[0]
    assert error["message"].startswith("the field 'city' is missing; 'citi' may be meant")


def test_fields_of_no_model_are_told_of_once(reader):
    rows = read(reader, [{**ROW, "zip": 1}, {**ROW, "zip": 2, "tel": 3}])
    assert rows.warnings == ['not fields of the model, and ignored: "tel", "zip"']
    assert not rows.bad


def test_rows_that_are_no_objects_are_bad_by_themselves(reader):
    rows = read(reader, [ROW, 3, None, [ROW], ROW])
    assert sorted(rows.bad) == [1, 2, 3]
    assert all(errors[0]["field"] is None and len(errors) == 1 for errors in rows.bad.values())


@pytest.mark.parametrize("body", [b"[]", b'{"rows": []}', b"3", b'"text"', b"null", b"true"])
def test_a_body_without_rows_is_refused(reader, body):
    with pytest.raises(RefusedError) as refused:
        reader.read_json(body)
    assert refused.value.status == 422


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"age": NaN}', b'{"age": Infinity}', b'{"age": 1e999}', b"[" * 5000 + b"]" * 5000, b"\xff\xfe", b'"\\ud800"', b"\0"],
)
def test_what_is_no_json_is_refused(reader, body):
    with pytest.raises(RefusedError) as refused:
        reader.read_json(body)
    assert refused.value.status == 400


def test_too_many_rows_are_refused(reader, table):
    with pytest.raises(RefusedError) as refused:
        read(reader, [ROW] * 201)
    assert refused.value.status == 413
    with pytest.raises(RefusedError) as refused:
        reader.read_arrow(stream(pa.concat_tables([table, table])))
    assert refused.value.status == 413


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*ROW, "rows", "x"]), inner, max_size=8),
        max_leaves=20,
    )
)
def test_whatever_json_holds_is_read_or_refused(reader, value):
    try:
        rows = reader.read_json(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS, default=str))
    except (RefusedError, orjson.JSONEncodeError):
        return
    assert rows.batch.num_rows + len(rows.bad) == rows.count


def test_arrow_columns_that_are_missing_or_of_another_type_are_named(reader, table):
    with pytest.raises(RefusedError) as refused:
        reader.read_arrow(stream(table.drop_columns(["age"]).set_column(1, "city", pa.array([1] * len(table)))))
    assert [error["field"] for error in refused.value.members["errors"]] == ["age", "city"]


@pytest.mark.parametrize("change", ["compressed", "dictionaries", "cut", "no stream", "garbage inside"])
def test_streams_of_strangers_are_refused(table, change):
    whole = stream(table.select(["age", "city"]), compression="zstd" if change == "compressed" else None)
    if change == "dictionaries":
        whole = stream(pa.table({"city": table["city"].dictionary_encode()}))
    bodies = {"cut": whole[:-100], "no stream": b"age,city\n1,Rome\n", "garbage inside": whole[:40] + b"\xff" * 40 + whole[80:]}
    with pytest.raises(RefusedError) as refused:
        read_stream(bodies.get(change, whole), max_rows=1000)
    assert refused.value.status == 400


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_stream_is_read_or_refused(data):
    whole = bytearray(stream(pa.table({"age": [1.0, 2.0, 3.0], "city": ["a", "bb", None]})))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        batch = read_stream(bytes(whole), max_rows=1000)
    except RefusedError:
        return
    assert batch.num_rows <= 1000
    batch.to_pylist()


def test_images_come_as_base64_or_as_files(photos_run):
    reader = reader_of(photos_run)
    name = reader.names[0]
    as_text = read(reader, {name: base64.b64encode(png()).decode()})
    as_file = reader.read_form(
        read_form(
            b'--x\r\nContent-Disposition: form-data; name="' + name.encode() + b'"; filename="a.png"\r\n\r\n' + png() + b"\r\n--x--\r\n",
            b"multipart/form-data; boundary=x",
        )
    )
    assert as_text.batch.equals(as_file.batch)
    assert Predictor.load(photos_run).answer(as_text.batch).num_rows == 1


@pytest.mark.parametrize("given", ["/etc/passwd", "photos/cat/0.png", "!", "", None, 3, base64.b64encode(b"GIF89a nothing").decode()])
def test_a_path_or_anything_else_is_no_image(photos_run, given):
    reader = reader_of(photos_run)
    assert read(reader, {reader.names[0]: given}).bad


def test_a_picture_too_large_to_decode_is_refused_by_its_head(photos_run):
    reader = reader_of(photos_run)
    bomb = base64.b64encode(png(9000, 9000)).decode()
    (error,) = read(reader, {reader.names[0]: bomb}).bad[0]
    assert "pixels" in error["allowed"]
    assert len(error["given"]) < 100


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"--x--", b"multipart/form-data"), (b"age=1", b"multipart/form-data; boundary=x"),
        (b"--x\r\n\r\n1\r\n--x--", b"multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="age"\r\n\r\n1\r\n', b"multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n1\r\n--x--', b"multipart/form-data; boundary=x"),
    ],
)  # fmt: skip
def test_what_is_no_form_is_refused(body, kind):
    with pytest.raises(RefusedError) as refused:
        read_form(body, kind)
    assert refused.value.status == 400


def test_a_form_holds_values_as_json_or_text(reader):
    parts = {name: orjson.dumps(value) for name, value in ROW.items()} | {
        "city": b"Oslo",
        "note": b"new here",
        "since": b"2021-03-04T05:06:07Z",
    }
    assert reader.read_form(parts).batch.equals(read(reader, ROW).batch)
    assert reader.read_form({**parts, "age": b"old"}).bad[0][0]["field"] == "age"


def test_a_picture_may_be_missing_where_the_model_can_do_without(photos_run, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.png").write_bytes(png())
    table = pa.table(
        {"size": [float(number) for number in range(40)], "picture": [f"{number}.png" for number in range(40)], "big": ["no", "yes"] * 20}
    )
    pa.csv.write_csv(table, folder / "table.csv")
    overrides = ["train.max_steps=1", "train.precision=fp32", "data.fields={picture: image}"]
    run = deepseek.train(folder / "table.csv", target="big", out=tmp_path / "runs", overrides=overrides).run
    reader = reader_of(run)
    rows = read(reader, [{"size": 1.0, "picture": None}, {"size": 2.0, "picture": base64.b64encode(png()).decode()}])
    assert not rows.bad
    assert Predictor.load(run).answer(rows.batch).num_rows == 2
    assert read(reader, {"size": 1.0, "picture": "0.png"}).bad
    alone = reader_of(photos_run)
    assert read(alone, {alone.names[0]: None}).bad
