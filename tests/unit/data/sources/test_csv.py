import gzip
import zipfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.data.sources.csv import CsvSource
from deepseek.data.sources.dialect import QuoteScan
from deepseek.errors import DataError, InputError, UnknownNameError


def write(folder, text, name="t.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return name


def table(folder, text, **arguments):
    source = CsvSource(folder, path=write(folder, text), **arguments)
    return pa.Table.from_batches(list(source.read()), schema=source.schema())


def rejects(source):
    return [row for batch in source.rejects() for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("late", "kind"), [("x", pa.string()), ("0.5", pa.float64()), ("007", pa.string()), ("9" * 20, pa.string()), ("", pa.int64())]
)
def test_a_late_value_widens_the_whole_column(tmp_path, late, kind):
    rows = 300_000  # more than one block, so that a guess from the first block would be wrong
    text = "a,b\n" + "".join(f"{i},1\n" for i in range(rows)) + f"{late},1\n"
    source = CsvSource(tmp_path, path=write(tmp_path, text))
    batches = list(source.read())
    assert len(batches) > 1
    assert source.schema().field("a").type == kind
    assert {batch.schema.field("a").type for batch in batches} == {kind}
    assert batches[-1].column("a")[-1].as_py() == ({"": None, "0.5": 0.5}.get(late, late))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["true", "False", ""], pa.bool_()),
        (["2024-01-31", "2024-02-01 10:00:00"], pa.timestamp("us")),
        (["2024-01-31T10:00:00Z", "2024-01-31T10:00:00+02:00"], pa.timestamp("us", "UTC")),
        (["01234", "12345"], pa.string()),
        (["+4930123456", "1"], pa.string()),
        (["0x1F", "2"], pa.string()),
        (["-5", "9223372036854775807"], pa.int64()),
        (["1e5", "2"], pa.float64()),
        (["", "NA"], pa.null()),
        (["true", "1"], pa.string()),
    ],
)
def test_types(tmp_path, values, kind):
    read = table(tmp_path, "a,b\n" + "".join(f"{value},1\n" for value in values))
    assert read.schema.field("a").type == kind


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_finds_the_delimiter(tmp_path, delimiter):
    rows = [["name", "note", "n"], ["a", "x, y; z", "1"], ["b", "u", "2"]]
    text = "".join(delimiter.join(f'"{cell}"' if set(",;") & set(cell) else cell for cell in row) + "\n" for row in rows)
    assert table(tmp_path, text).to_pydict() == {"name": ["a", "b"], "note": ["x, y; z", "u"], "n": [1, 2]}


def test_a_decimal_comma_is_no_delimiter(tmp_path):
    assert table(tmp_path, "a;b\n1,5;2,5\n3,5;4\n").to_pydict() == {"a": [1.5, 3.5], "b": [2.5, 4.0]}


def test_no_header_spaces_and_question_marks(tmp_path):
    read = table(tmp_path, "39, State-gov, ?\n50, ?, 13\n")
    assert read.to_pydict() == {"column_0": [39, 50], "column_1": ["State-gov", None], "column_2": [None, 13]}


def test_strip_can_be_switched_off(tmp_path):
    assert table(tmp_path, "a,b\n1, x\n", strip=False).to_pydict() == {"a": [1], "b": [" x"]}


def test_malformed_records_are_given_out_with_their_lines(tmp_path):
    text = 'a,b\n1,2\n\n"x\ny",3\nlonely\n5,6\n7,8,9\n'
    source = CsvSource(tmp_path, path=write(tmp_path, text))
    assert sum(batch.num_rows for batch in source.read()) == 3
    assert rejects(source) == [
        {"line": 6, "reason": "1 fields instead of 2", "raw": "lonely"},
        {"line": 8, "reason": "3 fields instead of 2", "raw": "7,8,9"},
    ]


def test_malformed_records_can_be_fatal(tmp_path):
    with pytest.raises(DataError, match="line 3: 1 fields instead of 2"):
        table(tmp_path, "a,b\n1,2\nlonely\n3,4\n", on_bad_line="fail")


def test_a_wrong_delimiter_is_suggested(tmp_path):
    with pytest.raises(DataError, match="did you mean delimiter: ';'"):
        table(tmp_path, "a;b,c\n" + "1;2\n" * 20, delimiter=",")


def test_quotes_that_do_not_pair_up_hide_no_line(tmp_path):
    text = 'label\ttext\nham\t"I am\nspam\tbuy\nham\tshe" said\nspam\tmore\n'
    source = CsvSource(tmp_path, path=write(tmp_path, text))
    assert pa.Table.from_batches(source.read()).column("text").to_pylist() == ['"I am', "buy", 'she" said', "more"]
    with pytest.raises(DataError, match="quote"):
        CsvSource(tmp_path, path="t.csv", quote='"').schema()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b\n", "no rows"),
        (b"a,a\n1,2\n3,4\n", "more than one column named 'a'"),
        (b"a,b\n1,\xe9\n", "0xE9 at offset 6"),
        (b"a,b\n1,\x00\n", "NUL"),
        ("a,b\n1,2\n".encode("utf-16"), "utf-16"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "gzip"),
        (b"PAR1xxxx", "Parquet"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, match):
    (tmp_path / "t.csv").write_bytes(content)
    arguments = {"header": True} if b"a,a" in content else {}
    with pytest.raises(DataError, match=match):
        CsvSource(tmp_path, path="t.csv", **arguments).schema()


def test_missing_files_folders_and_columns(tmp_path):
    write(tmp_path, "a\n1\n", "train.csv")
    with pytest.raises(DataError, match=r"did you mean .*train\.csv"):
        CsvSource(tmp_path, path="trian.csv").schema()
    with pytest.raises(DataError, match="is a folder"):
        CsvSource(tmp_path, path=".").schema()
    with pytest.raises(DataError, match="no file matches"):
        CsvSource(tmp_path, path="*.tsv").schema()
    with pytest.raises(UnknownNameError, match="unknown column under types 'z'"):
        CsvSource(tmp_path, path="train.csv", types={"z": "string"}).schema()
    with pytest.raises(InputError, match="delimiter is"):
        CsvSource(tmp_path, path="train.csv", delimiter="ab")
    with pytest.raises(InputError, match="unknown encoding"):
        CsvSource(tmp_path, path="train.csv", encoding="utf-99")


def test_a_given_type_that_does_not_fit_is_an_error(tmp_path):
    with pytest.raises(DataError, match="x"):
        table(tmp_path, "a,b\n1,2\nx,3\n", types={"a": "int64"})


def test_several_files_share_types_and_columns(tmp_path):
    write(tmp_path, "a,b\n1,2\n", "1.csv")
    write(tmp_path, "a,b\nx,3\n", "2.csv")
    source = CsvSource(tmp_path, path="*.csv")
    assert pa.Table.from_batches(source.read()).to_pydict() == {"a": ["1", "x"], "b": [2, 3]}
    write(tmp_path, "a,c\nx,3\n", "3.csv")
    with pytest.raises(DataError, match=r"3\.csv.*lacks b and also has c"):
        source.schema()


def test_packed_files_and_encodings(tmp_path):
    text = "a,b\n1,é\n2,ü\n"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("x.csv", text)
        archive.writestr("y.csv", text)
    write(tmp_path, text, "latin.csv", "latin-1")
    write(tmp_path, text, "wide.csv", "utf-16")
    write(tmp_path, "\ufeff" + text, "mark.csv")
    sources = [
        CsvSource(tmp_path, path="t.csv.gz"),
        CsvSource(tmp_path, path="t.zip", member="x.csv"),
        CsvSource(tmp_path, path="latin.csv", encoding="latin-1"),
        CsvSource(tmp_path, path="wide.csv", encoding="utf-16"),
        CsvSource(tmp_path, path="mark.csv"),
    ]
    for source in sources:
        assert pa.Table.from_batches(source.read()).to_pydict() == {"a": [1, 2], "b": ["é", "ü"]}
    with pytest.raises(DataError, match=r"set member to one of: x\.csv, y\.csv"):
        CsvSource(tmp_path, path="t.zip").schema()


def test_the_plan_follows_the_file(tmp_path):
    source = CsvSource(tmp_path, path=write(tmp_path, "a,b\n1,2\n"))
    assert source.schema().field("a").type == pa.int64()
    write(tmp_path, "a,b\nword,2\n")
    assert source.schema().field("a").type == pa.string()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text('a",\n ', max_size=6), min_size=1, max_size=20), st.integers(1, 7))
def test_well_quoted_text_is_not_called_broken_however_it_is_cut(cells, size):
    data = "".join('"' + cell.replace('"', '""') + '",1\n' for cell in cells).encode()
    scan = QuoteScan(",").scan(data[i : i + size] for i in range(0, len(data), size))
    assert not scan.broken
    assert scan.count == data.count(b'"')
    cut = QuoteScan(",").scan(iter([data + b'"open\nmore\n']))
    assert cut.open_line == data.count(b"\n") + 1


@settings(deadline=None, max_examples=50)
@given(cells=st.lists(st.lists(st.text('ab", \n\r', max_size=4), min_size=2, max_size=2), min_size=1, max_size=20), size=st.integers(1, 9))
def test_a_line_end_within_quotes_is_found_however_the_text_is_cut(cells, size):
    data = "".join(",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) + "\n" for row in cells).encode()
    scan = QuoteScan(",").scan(data[i : i + size] for i in range(0, len(data), size))
    assert scan.multiline == any("\n" in cell or "\r" in cell for row in cells for cell in row)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_pieces_that_are_parsed_side_by_side_come_in_order(tmp_path, monkeypatch, end):
    monkeypatch.setattr("deepseek.data.sources.csv._PIECE_BYTES", 64)
    lines = [f"{i},name{i}" if i % 10 else f"{i},too,many" for i in range(1000)]
    source = CsvSource(tmp_path, path=write(tmp_path, end.join(["number,word", *lines, ""])))
    batches = list(source.read())
    assert len(batches) > 100
    assert pa.Table.from_batches(batches).column("number").to_pylist() == [i for i in range(1000) if i % 10]
    assert len(rejects(source)) == 100


def test_quoted_line_ends_survive_small_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("deepseek.data.sources.csv._PIECE_BYTES", 64)
    found = table(tmp_path, "number,word\n" + "".join(f'{i},"one\ntwo {i}"\n' for i in range(200)))
    assert found.column("word").to_pylist() == [f"one\ntwo {i}" for i in range(200)]


def test_a_file_is_hashed_once(tmp_path, monkeypatch):
    source = CsvSource(tmp_path, path=write(tmp_path, "a,b\n1,2\n"))
    calls = []
    monkeypatch.setattr("deepseek.data.sources.files._digest", lambda file: calls.append(file) or "00" * 32)
    assert source.fingerprint() == source.fingerprint()
    assert list(source.digests().values()) == ["00" * 32]
    assert len(calls) == 1


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_part_of_whole_numbers_alone_does_not_hide_the_decimal_commas_of_the_others(tmp_path, order):
    texts = {"a": "price;n\n1;7\n2;8\n", "b": "price;n\n1,5;9\n2,25;10\n"}
    for place, name in enumerate(order):
        (tmp_path / f"{place}.csv").write_text(texts[name])
    source = CsvSource(tmp_path, path="*.csv")
    assert source.schema().field("price").type == pa.float64()
    table = pa.Table.from_batches(source.read())
    assert sorted(table["price"].to_pylist()) == [1.0, 1.5, 2.0, 2.25]
    assert sorted(table["n"].to_pylist()) == [7, 8, 9, 10]
