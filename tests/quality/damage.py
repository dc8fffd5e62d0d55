"""Five hundred damaged files of each format, made from a seed, and an account of what was read of each.

Run as a program in a process of its own, `python -m tests.quality.damage FORMAT FOLDER COUNT`, so that a crash of a library is seen as one.
It prints one JSON line: how many were read and refused, and what went wrong.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from deepseek.data.sources import open_source
from deepseek.errors import DeepSeekError

COLUMNS = ("id", "word", "share", "flag")
FORMATS = ("csv", "csv.gz", "csv.zip", "jsonl", "json", "parquet", "arrow", "npz", "folder", "texts")
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS = ["plain", "two words", "comma, inside", 'quo"te', "", "é ü 漢", " spaced ", "line\nend", "007", "1e5", "NULL"]


def table(rng):
    """Return rows of every sort as a mapping of columns."""
    rows = int(rng.integers(1, 60))
    return {
        "id": list(range(rows)),
        "word": [str(rng.choice(_WORDS)) for _ in range(rows)],
        "share": [float(value) for value in np.round(rng.normal(size=rows), 3)],
        "flag": [bool(value) for value in rng.integers(0, 2, rows)],
    }


def as_lines(rng, columns):
    sink = io.StringIO()
    plain = {**columns, "word": [word.replace("\n", " ") for word in columns["word"]]}
    csv.writer(sink, lineterminator="\n").writerows([COLUMNS, *zip(*plain.values(), strict=True)])
    return sink.getvalue().encode().split(b"\n")[:-1]


def broken_line(rng, line):
    """Return a line of CSV with one thing wrong with it, or unusual."""
    half = len(line) // 2
    return [
        line[:half],
        line + b",9",
        line + line,
        line.replace(b",", b";"),
        line.replace(b",", b"\t", 1),
        b'"' + line,
        line + b'"',
        b" " + line,
        line[:half] + b"\xff\xfe" + line[half:],
        line[:half] + b"\0" + line[half:],
        line[:half] + b"\r" + line[half:],
        b"9" * 400 + b",x,1e999,true",
        b"9223372036854775808,x,-0,false",
        b"nan,nan,nan,nan",
        b"",
        b",,,",
        b",",
        line[:half] + b'""' + line[half:],
        b"'" + line + b"'",
        "\u202eé\u200b,".encode() + line,
    ][int(rng.integers(20))]


def whole_file(rng, data):
    """Damage the bytes of a text file as a whole, or leave them."""
    cut = int(rng.integers(len(data) + 1))
    return [
        data, data, data, data, data,
        data[:cut],
        b"\xef\xbb\xbf" + data,
        data.replace(b"\n", b"\r\n"),
        data.replace(b"\n", b"\r"),
        data[:cut].replace(b"\n", b"\r\n") + data[cut:],
        data.decode(errors="replace").encode("utf-16"),
        data.decode(errors="replace").encode("latin-1", errors="replace"),
        rng.bytes(300),
        b"",
        data + b"\x1a",
        data.rstrip(b"\n"),
        b"\n\n" + data,
        data + data,
    ][int(rng.integers(18))]  # fmt: skip


def make_csv(rng):
    lines = as_lines(rng, table(rng))
    for _ in range(int(rng.integers(0, 4))):
        at = int(rng.integers(len(lines)))
        lines[at] = broken_line(rng, lines[at])
    if rng.random() < 0.05:
        lines[0] = b"id,word,id,flag"
    return whole_file(rng, b"".join(line + b"\n" for line in lines))


def make_jsonl(rng):
    columns = table(rng)
    lines = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False).encode() for row in zip(*columns.values(), strict=True)]
    for _ in range(int(rng.integers(0, 4))):
        at = int(rng.integers(len(lines)))
        line = lines[at]
        other = [
            line[: len(line) // 2], line + line, b"[1]", b"null", b"{}", b"{", b'{"id": 1, "id": 2}', b'{"id": NaN}', b'{"id": "x"}',
            b'{"id": 12345678901234567891}', b"{]",
            b'{"id": ' + b"9" * 400 + b"}", b'{"id": 1e999}', b'{"id": {"deep": 1}}', b"[" * 5000, b'{"a":' * 3000,
            line.replace(b'"', b"'"),
            line[:-1] + b",}", b"//" + line, line + b"\r", b"  ", b'{"word": "\\ud800"}', b'{"\\u0000": 1}', line[:4] + b"\xff" + line[4:],
            b'{"id": -0.0, "share": 1}', b'{"id": true}', b'{"word": [1, "x", null]}', b'{"share": [1, 2]}', b'{"share": []}', b'{"": 3}',
        ]  # fmt: skip
        lines[at] = other[int(rng.integers(len(other)))]
    return whole_file(rng, b"".join(line + b"\n" for line in lines))


def make_json(rng):
    lines = [line for line in make_jsonl(rng).split(b"\n") if line.strip()]
    return b"[" + b",".join(lines) + (b"]" if rng.random() < 0.8 else b"")


def make_binary(kind):
    def make(rng):
        columns, sink = table(rng), io.BytesIO()
        if kind == "npz":
            arrays = {
                "id": np.array(columns["id"]),
                "share": np.array(columns["share"]),
                "image": rng.integers(0, 9, (len(columns["id"]), 2, 2)),
            }
            if rng.random() < 0.1:
                arrays["object"] = np.array([{"a": 1}] * len(columns["id"]), dtype=object)
            [np.savez, np.savez_compressed][int(rng.integers(2))](sink, **arrays)
        elif kind == "parquet":
            packing = [None, "snappy", "zstd", "gzip"][int(rng.integers(4))]
            pa.parquet.write_table(pa.table(columns), sink, compression=packing, row_group_size=20, write_page_checksum=True)
        else:
            writer = [pa.ipc.new_file, pa.ipc.new_stream][int(rng.integers(2))]
            options = pa.ipc.IpcWriteOptions(compression=[None, "zstd", "lz4"][int(rng.integers(3))])
            made = pa.table(
                {**columns, "kind": pa.array(columns["word"]).dictionary_encode(), "list": [[i] * (i % 3) for i in columns["id"]]}
            )
            with writer(sink, made.schema, options=options) as out:
                out.write_table(made, max_chunksize=16)
        return damaged_bytes(rng, sink.getvalue())

    return make


def damaged_bytes(rng, data):
    """Cut, flip, fill, repeat or leave out bytes, or leave all as it is."""
    data = bytearray(data)
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 40))
    match int(rng.integers(12)):
        case 0:
            del data[at:]
        case 1 | 2:
            data[at] ^= 1 << int(rng.integers(8))
        case 3:
            for _ in range(size):
                data[int(rng.integers(len(data)))] ^= int(rng.integers(1, 256))
        case 4:
            data[at : at + size] = bytes(size)
        case 5:
            data[at : at + size] = b"\xff" * size
        case 6:
            del data[at : at + size]
        case 7:
            data[at:at] = data[at : at + size]
        case 8:
            data = bytearray(rng.bytes(at))
    return bytes(data)


def packed(make, how):
    def made(rng):
        data, sink = make(rng), io.BytesIO()
        if how == "gz":
            sink.write(gzip.compress(data))
        else:
            with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
                for number in range(1 + int(rng.random() < 0.1)):
                    archive.writestr(f"{number}.csv", data)
        return damaged_bytes(rng, sink.getvalue())

    return made


MAKERS = {"csv": make_csv, "jsonl": make_jsonl, "json": make_json, "csv.gz": packed(make_csv, "gz"), "csv.zip": packed(make_csv, "zip")}
MAKERS |= {kind: make_binary(kind) for kind in ("parquet", "arrow", "npz")}


def make_folder(rng, folder, kind):
    """Write a folder of classes with files that are empty, cut, of another sort or at another place; return how many files there are."""
    files = 0
    for number in range(int(rng.integers(1, 12))):
        place = folder / str(rng.choice(["cat", "dog", "train/cat", "test/cat", ".hidden", "a b", "é"]))
        if rng.random() < 0.1:
            place = folder
        place.mkdir(parents=True, exist_ok=True)
        data = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).save(data, "PNG")
        content = data.getvalue() if kind == "folder" else whole_file(rng, b"some words\nand more\n")
        suffixes = [".png", ".png", ".PNG", ".txt", "", ".csv"] if kind == "folder" else [".txt", ".txt", ".TXT", ".png"]
        (place / f"{number}{rng.choice(suffixes)}").write_bytes(damaged_bytes(rng, content) if rng.random() < 0.5 and content else content)
        files += ".hidden" not in place.parts
    return files


def read(source):
    """Return the rows, how many were rejected, and the first reasons."""
    batches = list(source.read())
    for batch in batches:
        batch.validate(full=True)
    rows = [row for batch in batches for row in batch.to_pylist()]
    rejected = [row for batch in source.rejects() for row in batch.to_pylist()]
    assert all(row["reason"] and isinstance(row["raw"], str) for row in rejected)
    return rows, rejected


def account_csv(path, data, rows, rejected):
    """Compare with Python's own reader, told the same dialect: the same records, value for value."""
    source = open_source(path)
    dialect = source._plan().parts[0].dialect
    texts = [list(row.values()) for batch in source.as_text(dialect.names).read() for row in batch.to_pylist()]
    text = data.decode("utf-8-sig")
    given = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or "\0",
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
    )
    records = [record for record in given if record]
    records = records[1 if dialect.skip_lines else 0 :]
    nulls = set(source.null_values)
    good = [
        [None if field.strip() in nulls else field.strip() for field in record] for record in records if len(record) == len(dialect.names)
    ]
    assert len(rows) + len(rejected) == len(records), f"{len(rows)} rows and {len(rejected)} rejects of {len(records)} records"
    assert len(rows) == len(good), f"{len(rows)} rows of {len(good)} good records"
    assert texts == good, next(pair for pair in zip(texts, good, strict=True) if pair[0] != pair[1])
    for row, record in zip(rows, good, strict=True):
        for value, field in zip(row.values(), record, strict=True):
            assert same_value(value, field, dialect.decimal_point), (value, field)


def same_value(value, text, point):
    if value is None or text is None:
        return value is None and (text is None or text.lower() == "nan")
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    if isinstance(value, int | float):
        return float(text.replace(point, ".")) == value or (value != value and text.lower() == "nan")  # noqa: PLR0124
    return value == text if isinstance(value, str) else True  # a point in time


def account_json(path, data, rows, rejected):
    """Compare with Python's own decoder, record by record."""
    text = data.decode("utf-8-sig")
    records = list(elements(text)) if path.suffix == ".json" else [line for line in text.split("\n") if line.strip()]
    objects = []
    for record in records:
        try:
            value = json.loads(record)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and not _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            objects.append(value)
    assert len(rows) + len(rejected) == len(records), f"{len(rows)} rows and {len(rejected)} rejects of {len(records)} records"
    assert len(rows) == len(objects), f"{len(rows)} rows of {len(objects)} objects"
    for row, value in zip(rows, objects, strict=True):
        for name, wanted in value.items():
            if not isinstance(wanted, dict):
                assert same_json(row[name], wanted), (name, row[name], wanted)


def account_columns(columns, rows):
    """See that what a checksum stands over is what was written; names and types, over which none does, may be others."""
    assert len(rows) == len(columns["id"]), f"{len(rows)} rows of {len(columns['id'])}"
    for name in set(columns) & set(rows[0]):
        values = [row[name] for row in rows]
        if isinstance(values[0], type(columns[name][0])):
            assert values == columns[name], name


def elements(text):
    """Yield the texts of an array's elements."""
    decoder, at = json.JSONDecoder(), text.index("[") + 1
    while True:
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))
        if text[at] == "]":
            return
        _, end = decoder.raw_decode(text, at)
        yield text[at:end]
        at = end


def same_json(value, wanted):
    if value is None or wanted is None:
        return value is None and (wanted is None or wanted != wanted)  # noqa: PLR0124
    if isinstance(value, str) and not isinstance(wanted, str):
        return json.loads(value) == wanted or str(wanted).lower() == value.lower()
    if isinstance(value, float) and isinstance(wanted, int | float):
        if isinstance(wanted, int) and not -(2**63) <= wanted < 2**63:
            return False
        return value == float(wanted) or (value != value and wanted != wanted)  # noqa: PLR0124
    return value == wanted or not isinstance(value, int | float | str | bool | list)


def try_one(kind, folder, number):
    """Make a damaged file, read it, and return `read` or `refused`, or raise what is wrong."""
    rng = np.random.default_rng([11, number, FORMATS.index(kind)])
    path = folder / f"{number}.{kind}"
    if kind in ("folder", "texts"):
        path = folder / f"{number}"
        path.mkdir()
        data, files = b"", make_folder(rng, path, kind)
    else:
        data, files = MAKERS[kind](rng), 0
        path.write_bytes(data)
    try:
        source = open_source(path)
        rows, rejected = read(source)
        fingerprint = source.fingerprint()
    except DeepSeekError as error:
        told = str(error)
        if path.name not in told:
            raise ValueError(f"it names no file: {told}") from None
        return "refused"
    assert fingerprint == open_source(path).fingerprint()
    again = np.random.default_rng([11, number, FORMATS.index(kind)])
    if kind.startswith("csv"):
        account_csv(path, data if kind == "csv" else make_csv(again), rows, rejected)
    elif kind in ("parquet", "npz"):
        account_columns(table(again), rows)
    elif kind in ("json", "jsonl"):
        account_json(path, data, rows, rejected)
    elif kind in ("folder", "texts"):
        assert len(rows) + len(rejected) == files, f"{len(rows)} rows and {len(rejected)} rejects of {files} files"
    return "read"


def main(kind, folder, count):
    found, wrong = Counter(), []
    for number in range(int(count)):
        try:
            found[try_one(kind, Path(folder), number)] += 1
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what this program looks for
            wrong.append(f"{number}: {type(error).__name__}: {ascii(str(error))[:300]}")
    print(json.dumps({**found, "wrong": wrong}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
