"""Five hundred damaged files: each is read with every record accounted for, or refused with an error of ours."""

import numpy as np
import pytest

from deepseek.data.sources import open_source
from deepseek.errors import DeepSeekError


def damaged(rng, suffix):
    """Return the bytes of a file, damaged in one or several ways, and how many records it would have."""
    rows = int(rng.integers(0, 60))
    if suffix == ".jsonl":
        lines = [f'{{"a": {i}, "b": "w{i}"}}' for i in range(rows)]
    else:
        lines = ["a,b,c"] + [f"{i},w{i},{i / 4}" for i in range(rows)]
    for _ in range(int(rng.integers(0, 4))):
        if not lines:
            break
        at = int(rng.integers(len(lines)))
        how = int(rng.integers(8))
        line = lines[at]
        lines[at] = [line[: len(line) // 2], line + ",9", line + line, line.replace(",", ";"), "?,?,?", f' "{line}', line + "é", "[1]"][how]
    data = "\n".join(lines).encode() + b"\n" * int(rng.integers(0, 3))
    match int(rng.integers(12)):
        case 0:
            data = data[: int(rng.integers(len(data) + 1))]
        case 1:
            data = data + b"\0\0"
        case 2:
            data = data.replace(b"w", b"\xff", 1)
        case 3:
            data = b"\xef\xbb\xbf" + data
        case 4:
            data = data.replace(b"\n", b"\r\n")
        case 5:
            data = rng.bytes(200)
        case 6:
            data = data.decode(errors="replace").encode("utf-16")
        case 7:
            data = data.replace(b"w", b'"w', 1)
    return data


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet", ".npz", ".arrow", ".csv.gz"])
def test_a_damaged_file_is_read_whole_or_refused(suffix, tmp_path):
    rng = np.random.default_rng(7)
    read = refused = 0
    for number in range(250 if suffix == ".csv" else 100 if suffix == ".jsonl" else 30):
        data = damaged(rng, ".jsonl" if suffix == ".jsonl" else ".csv")
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(data)
        try:
            source = open_source(path)
            rows = sum(batch.num_rows for batch in source.read())
            rejects = sum(batch.num_rows for batch in source.rejects())
        except DeepSeekError:
            refused += 1
            continue
        read += 1
        lines = [line for line in data.decode().lstrip("\ufeff").splitlines() if line]
        part = source._plan().parts[0] if suffix == ".csv" else None
        header = part.dialect.skip_lines if part else 0
        if not (part and part.multiline):
            assert rows + rejects == len(lines) - header, (number, data)
    assert refused > 5
    assert (read > 30) == (suffix in {".csv", ".jsonl"})
