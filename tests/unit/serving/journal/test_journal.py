"""The journal keeps what it took: over kills of its writers and its reader, torn ends, damage, rotation and a limit to its size."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepseek.errors import RunError
from deepseek.serving.journal import Answered, Journal, JournalFullError, JournalReader, Outcomes, Unanswered, records
from deepseek.serving.journal import reader as journal_reader


def answered(name, rows=1, *, model="m", version="1", arm=None, keys=None):
    batch = pa.record_batch({"age": [float(place) for place in range(rows)], "city": ["Rome"] * rows})
    answers = pa.table({"prediction": ["yes"] * rows, "probability_yes": pa.array([0.75] * rows, pa.float32())})
    return Answered(model, version, arm, 5.0, [f"{name}/{place}" for place in range(rows)], keys, batch, answers, 0.25)


def outcome(name):
    return Outcomes("m", 6.0, [name], ["yes"], None)


def drained(folder, most=100):
    """Everything that can be read now, acknowledged."""
    found = []
    with JournalReader(folder) as reader:
        while part := reader.read(most):
            found += part
            reader.acknowledge()
        reader.acknowledge()
        return found, reader.torn, reader.damaged


def names(entries):
    return [name for entry in entries for name in entry.ids]


def files(folder):
    return sorted(folder.glob("*.journal"))


def test_what_is_written_is_read(tmp_path):
    missed = Unanswered("m", "2", "candidate", 8.0, ["c/0"], ["x"], "late")
    with Journal(tmp_path) as journal:
        journal.answers(answered("a", 3, arm="candidate", keys=["x", "y", "z"]))
        journal.outcomes(Outcomes("m", 7.0, ["a/0", "a/1"], ["no", None], [0.5, None]))
        journal.answers(answered("b", 2, version="2"))
        assert journal.answers(missed)
    first, told, second, third = drained(tmp_path)[0]
    assert (first.model, first.version, first.arm, first.at, first.keys, first.seconds) == (
        "m",
        "1",
        "candidate",
        5.0,
        ["x", "y", "z"],
        0.25,
    )
    assert first.ids == ["a/0", "a/1", "a/2"]
    assert first.rows.to_pydict() == {"age": [0.0, 1.0, 2.0], "city": ["Rome"] * 3}
    assert first.answers.equals(answered("a", 3).answers)
    assert told == Outcomes("m", 7.0, ["a/0", "a/1"], ["no", None], [0.5, None])
    assert (second.ids, second.version) == (["b/0", "b/1"], "2")
    assert third == missed


def test_rows_may_be_slices_chunks_and_dictionaries(tmp_path):
    table = pa.table({"city": pa.chunked_array([["a", "b"], ["c"]]).dictionary_encode(), "n": pa.chunked_array([[1], [2, 3]])})
    rows = pa.record_batch({"n": list(range(100))}).slice(40, 3)
    empty = Answered("m", "1", None, 1.0, [], None, rows.slice(0, 0), table.slice(0, 0), 0.0)
    with Journal(tmp_path) as journal:
        journal.answers(Answered("m", "1", None, 1.0, ["x"] * 3, None, rows, table, 0.0))
        journal.answers(empty)
    first, second = drained(tmp_path)[0]
    assert first.rows.to_pydict() == {"n": [40, 41, 42]}
    assert first.answers.to_pydict() == {"city": ["a", "b", "c"], "n": [1, 2, 3]}
    assert second.rows.num_rows == second.answers.num_rows == 0


def test_a_schema_is_written_once_a_file_and_anew_where_it_changes(tmp_path):
    with Journal(tmp_path) as journal:
        for name in "abc":
            journal.answers(answered(name))
        other = answered("d")
        journal.answers(Answered("m", "1", None, 5.0, ["d"], None, pa.record_batch({"n": [1]}), other.answers, 0.0))
    (file,) = files(tmp_path)
    assert file.read_bytes().count(b"probability_yes") == 2
    assert [entry.rows.column_names for entry in drained(tmp_path)[0]] == [["age", "city"]] * 3 + [["n"]]


def test_a_reader_goes_on_where_the_last_one_acknowledged(tmp_path):
    with Journal(tmp_path) as journal:
        for number in range(5):
            journal.answers(answered(str(number)))
        with JournalReader(tmp_path) as reader:
            assert names(reader.read(2)) == ["0/0", "1/0"]
            reader.acknowledge()
            assert names(reader.read(2)) == ["2/0", "3/0"]  # not acknowledged
        with JournalReader(tmp_path) as reader:
            assert names(reader.read(9)) == ["2/0", "3/0", "4/0"]
            reader.acknowledge()
            journal.answers(answered("5"))
            assert names(reader.read(9)) == ["5/0"]


def test_files_are_ended_at_a_size_and_deleted_once_they_are_through(tmp_path):
    with Journal(tmp_path, rotate_bytes=3_000) as journal:
        for number in range(40):
            journal.answers(answered(str(number)))
        assert len(files(tmp_path)) > 3
        found, torn, damaged = drained(tmp_path, most=7)
        assert (names(found), torn, damaged) == ([f"{number}/0" for number in range(40)], 0, 0)
        assert len(files(tmp_path)) <= 1
    assert drained(tmp_path)[0] == []
    assert files(tmp_path) == []


def test_every_writer_gets_its_turn(tmp_path):
    with Journal(tmp_path) as busy, Journal(tmp_path) as other, JournalReader(tmp_path) as reader:
        for number in range(100):
            busy.answers(answered(f"busy{number}"))
        other.answers(answered("other"))
        seen = []
        for _ in range(2):
            seen += names(reader.read(10))
        assert "other/0" in seen


def test_a_second_reader_is_refused(tmp_path):
    with JournalReader(tmp_path), pytest.raises(RunError, match="has a reader already"):
        JournalReader(tmp_path)
    JournalReader(tmp_path).close()


def test_a_full_journal_refuses_until_it_is_read(tmp_path):
    limit = 50_000
    with Journal(tmp_path, limit_bytes=limit) as journal:
        taken = [journal.answers(answered(str(number), 20)) for number in range(200)]
        assert taken[0]
        assert not taken[-1]
        assert journal.dropped == taken.count(False)
        assert sum(file.stat().st_size for file in files(tmp_path)) <= limit * (1 + 1 / 64)
        with pytest.raises(JournalFullError, match="limit of 50,000 bytes"):
            journal.outcomes(Outcomes("m", 1.0, ["x" * 5_000], ["yes"], None))
        assert len(drained(tmp_path)[0]) == taken.count(True)
        wait_for(lambda: journal.answers(answered("again")))
        journal.outcomes(outcome("again/0"))
        assert names(drained(tmp_path)[0]) == ["again/0", "again/0"]


def test_many_idle_writers_do_not_fill_it_for_ever(tmp_path):
    writers = [Journal(tmp_path, limit_bytes=64_000) for _ in range(20)]
    for number in range(400):
        writers[number % 20].answers(answered(str(number), 20))
    drained(tmp_path)
    for writer in writers:
        wait_for(lambda writer=writer: writer.answers(answered("new")) or not drained(tmp_path))
        writer.close()


def wait_for(condition):
    for _ in range(600):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not become true")


def test_outcomes_wait_for_the_disk_together(tmp_path, monkeypatch):
    calls, whole, fsync = [], threading.Barrier(6), os.fsync
    journal = Journal(tmp_path)

    def slow(handle):
        calls.append(handle)
        if len(calls) == 1:
            wait_for(lambda: journal._file.size > 5 * 60)  # the others have written meanwhile
        fsync(handle)

    def tell(number):
        whole.wait(30)
        journal.outcomes(outcome(f"id-{number}"))

    monkeypatch.setattr(os, "fsync", slow)
    threads = [threading.Thread(target=tell, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(calls) <= 3
    monkeypatch.undo()
    journal.close()
    assert sorted(names(drained(tmp_path)[0])) == [f"id-{number}" for number in range(6)]


def test_a_disk_that_takes_no_more_refuses_and_leaves_the_file_whole(tmp_path, monkeypatch):
    journal, pwrite = Journal(tmp_path), os.pwrite
    journal.outcomes(outcome("first"))

    def short(handle, data, at):
        if len(data) > 20:
            return pwrite(handle, data[:20], at)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", short)
    with pytest.raises(JournalFullError, match="No space left"):
        journal.outcomes(outcome("refused"))
    assert not journal.answers(answered("dropped"))
    monkeypatch.undo()
    journal.outcomes(outcome("second"))
    journal.close()
    assert names(drained(tmp_path)[0]) == ["first", "second"]


@pytest.mark.parametrize("what", ["pwrite", "fsync"])
def test_a_disk_that_stays_full_is_not_filled_with_files_that_nobody_began(tmp_path, monkeypatch, what):
    with Journal(tmp_path) as journal:
        journal.outcomes(outcome("a"))

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, what, full)
            for _ in range(20):
                with pytest.raises(JournalFullError):
                    journal.outcomes(outcome("lost"))
            assert len(list(tmp_path.iterdir())) <= 2
        journal.outcomes(outcome("b"))
    found = [name for name in names(drained(tmp_path)[0]) if name != "lost"]
    assert found == ["a", "b"]


def test_a_failed_sync_is_no_promise(tmp_path, monkeypatch):
    def fails(handle):
        raise OSError(5, "Input/output error")

    with Journal(tmp_path) as journal:
        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(JournalFullError, match="Input/output error"):
            journal.outcomes(outcome("a"))
        monkeypatch.undo()
        journal.outcomes(outcome("b"))
    assert "b" in names(drained(tmp_path)[0])


def test_half_a_record_is_waited_for_while_its_writer_lives(tmp_path):
    journal = Journal(tmp_path)
    journal.outcomes(outcome("a"))
    (file,) = files(tmp_path)
    whole = file.stat().st_size
    journal.outcomes(outcome("b"))
    content = file.read_bytes()
    os.truncate(file, whole + 9)
    with JournalReader(tmp_path) as reader:
        assert names(reader.read(9)) == ["a"]
        assert reader.read(9) == []
        file.write_bytes(content)
        assert names(reader.read(9)) == ["b"]
        assert (reader.torn, reader.damaged) == (0, 0)
    journal.close()


def test_a_record_that_becomes_whole_between_two_looks_is_no_damage(tmp_path, monkeypatch):
    """The writer ends this record and writes the next one just when the reader looks what stands behind it."""
    journal = Journal(tmp_path)
    journal.outcomes(outcome("a"))
    (file,) = files(tmp_path)
    whole = file.stat().st_size
    journal.outcomes(outcome("b"))
    journal.outcomes(outcome("c"))
    content, looked = file.read_bytes(), journal_reader._File._following
    os.truncate(file, whole + 40)

    def written_meanwhile(self):
        file.write_bytes(content)
        return looked(self)

    monkeypatch.setattr(journal_reader._File, "_following", written_meanwhile)
    with JournalReader(tmp_path) as reader:
        assert names(reader.read(9)) == ["a", "b", "c"]
        assert (reader.torn, reader.damaged) == (0, 0)
    journal.close()


def test_a_clients_text_cannot_pass_for_a_record(tmp_path):
    """What stands in a damaged record is never read as records, whatever a client wrote into it."""
    forged = records.framed(b"12345678", records.OUTCOMES, records.plain_payload(outcome("forged")))
    with Journal(tmp_path) as journal:
        journal.outcomes(Outcomes("m", 1.0, ["a"], [forged.decode("latin-1")], None))
        journal.outcomes(outcome("b"))
    (file,) = files(tmp_path)
    damaged = bytearray(file.read_bytes())
    damaged[records.FILE_HEAD_BYTES + records.HEAD_BYTES + 3] ^= 1
    file.write_bytes(damaged)
    found, torn, bad = drained(tmp_path)
    assert (names(found), torn, bad) == (["b"], 0, 1)


def written(folder, count):
    """A journal of some entries whose writer was killed, with the ends of its records."""
    journal, ends = Journal(folder, sync=False), []
    (file,) = files(folder)
    for number in range(count):
        if number % 3:
            journal.answers(answered(str(number)))
        else:
            journal.outcomes(outcome(f"{number}/0"))
        ends.append(file.stat().st_size)
    content = file.read_bytes()
    journal.close()
    file.write_bytes(content)  # without its end, and its lock is gone
    return file, ends


@settings(max_examples=40, deadline=None)
@given(cut=st.floats(0, 1), most=st.integers(1, 9))
def test_of_a_file_cut_anywhere_every_whole_record_is_read(cut, most):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, ends = written(folder, 12)
        size = int(cut * ends[-1])
        os.truncate(file, size)
        found, torn, damaged = drained(folder, most)
        whole = sum(end <= size for end in ends)
        assert names(found) == [f"{number}/0" for number in range(whole)]
        assert damaged == 0
        assert torn <= 1
        assert files(folder) == []


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255), most=st.integers(1, 9))
def test_damage_costs_only_the_records_that_it_met(place, flip, most):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, ends = written(folder, 12)
        at = records.FILE_HEAD_BYTES + int(place * (ends[-1] - records.FILE_HEAD_BYTES))
        content = bytearray(file.read_bytes())
        content[at] ^= flip
        file.write_bytes(content)
        found, torn, damaged = drained(folder, most)
        hit = next(number for number, end in enumerate(ends) if at < end)
        intact = [f"{number}/0" for number in range(12) if number != hit]
        # the first answers stand behind their schemas: where those are hit, no answer of the file can be read
        assert names(found) == intact or (hit == 1 and set(names(found)) >= {"0/0", "3/0", "6/0", "9/0"})
        assert 1 <= torn + damaged <= 9
        assert files(folder) == []


def test_a_position_that_is_damaged_reads_again_rather_than_loses(tmp_path):
    with Journal(tmp_path) as journal:
        journal.answers(answered("a"))
        with JournalReader(tmp_path) as reader:
            reader.read(9)
            reader.acknowledge()
        (tmp_path / "position.json").write_bytes(b"{half")
        assert names(drained(tmp_path)[0]) == ["a/0"]


WRITER = """
import sys
from pathlib import Path
from tests.unit.serving.journal.test_journal import answered, outcome
from deepseek.serving.journal import Journal

journal, name, number = Journal(Path(sys.argv[1]), rotate_bytes=4_000), sys.argv[2], 0
while True:
    if number % 2:
        journal.answers(answered(f"{name}-{number}"))
    else:
        journal.outcomes(outcome(f"{name}-{number}/0"))
    print(f"{name}-{number}/0", flush=True)
    number += 1
"""
READER = """
import sys
from pathlib import Path
from deepseek.serving.journal import JournalReader

reader, taken = JournalReader(Path(sys.argv[1])), open(sys.argv[2], "a")
print("ready", flush=True)
while True:
    for entry in reader.read(3):
        taken.write("".join(f"{name}\\n" for name in entry.ids))
        taken.flush()
    reader.acknowledge()
"""


def began(program, *arguments):
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def killed(process):
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().splitlines(keepends=True)
    process.wait(60)
    return [line.strip() for line in rest if line.endswith("\n")]


@pytest.mark.parametrize("seed", range(2))
def test_nothing_acknowledged_is_lost_whoever_is_killed(tmp_path, seed):
    """Writers and readers die at random moments; what writers had acknowledged is there, and ids make what came twice one."""
    draw = random.Random(seed)
    acknowledged, taken = [], tmp_path / "taken"
    readers = []
    for turn in range(3):
        writers = [began(WRITER, tmp_path, f"{turn}{place}") for place in range(2)]
        readers.append(began(READER, tmp_path, taken))
        assert readers[-1].stdout.readline() == "ready\n"
        for writer in writers:
            acknowledged += [writer.stdout.readline().strip() for _ in range(draw.randint(1, 40))]
        for process in draw.sample([*writers, readers[-1]], 3):
            acknowledged += [line for line in killed(process) if process is not readers[-1]]
    found, torn, damaged = drained(tmp_path)
    kept = set(taken.read_text().splitlines()) | set(names(found))
    assert damaged == 0
    assert torn <= 8
    assert set(acknowledged) <= kept
    last = {writer: max(int(name.split("-")[1].split("/")[0]) for name in acknowledged if name.startswith(writer)) for writer in
            {name.split("-")[0] for name in acknowledged}}  # fmt: skip
    # beyond what it had said, a writer may have written one entry more
    assert all(int(name.split("-")[1].split("/")[0]) <= last[name.split("-")[0]] + 1 for name in kept)
    assert files(tmp_path) == []


def test_the_reader_reads_bounded_amounts(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_reader, "MOST_BYTES", 5_000)
    with Journal(tmp_path) as journal:
        for number in range(100):
            journal.answers(answered(str(number), 5))
        with JournalReader(tmp_path) as reader:
            assert reader.waiting_bytes > 5_000
            assert 0 < len(reader.read(1_000)) < 50


def test_positions_are_plain_json(tmp_path):
    with Journal(tmp_path) as journal:
        journal.answers(answered("a"))
        with JournalReader(tmp_path) as reader:
            reader.read(1)
            reader.acknowledge()
        (place,) = json.loads((tmp_path / "position.json").read_text()).values()
        assert place["at"] == files(tmp_path)[0].stat().st_size
