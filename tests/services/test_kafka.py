"""Kafka over its real protocol: librdkafka's mock cluster, and the broker that DEEPSEEK_TEST_KAFKA names, where it names one."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import uuid

import pyarrow as pa
import pytest

confluent_kafka = pytest.importorskip("confluent_kafka")

from tests.services.kafka_server import MockCluster, produce  # noqa: E402

from deepseek.data.sources import open_source  # noqa: E402 - only where there is a client
from deepseek.data.sources.contract import SourceContract  # noqa: E402
from deepseek.data.streams.contract import StreamContract  # noqa: E402
from deepseek.data.streams.kafka import KafkaStream  # noqa: E402
from deepseek.errors import DataError, InputError, UnknownNameError  # noqa: E402

FETCH, LIST_OFFSETS, METADATA = 1, 2, 3
NOT_LEADER, LEADER_NOT_AVAILABLE, REQUEST_TIMED_OUT = 6, 5, 7
REAL = os.environ.get("DEEPSEEK_TEST_KAFKA")


@pytest.fixture(scope="module")
def mock():
    cluster = MockCluster()
    yield cluster
    cluster.close()


class RealBroker:
    """The broker that the environment names."""

    servers = REAL

    def create(self, topic, partitions=1):
        from confluent_kafka.admin import AdminClient, NewTopic

        AdminClient({"bootstrap.servers": REAL}).create_topics([NewTopic(topic, partitions, 1)])[topic].result(30)

    def delete_records(self, topic, partition, before):
        from confluent_kafka.admin import AdminClient

        place = confluent_kafka.TopicPartition(topic, partition, before)
        AdminClient({"bootstrap.servers": REAL}).delete_records([place])[place].result(30)


@pytest.fixture(params=["mock", pytest.param("real", marks=pytest.mark.requires_kafka)])
def broker(request):
    if request.param == "mock":
        return request.getfixturevalue("mock")
    if not REAL:
        pytest.skip("DEEPSEEK_TEST_KAFKA names no broker")
    return RealBroker()


def new_topic(broker, partitions=3):
    name = f"t-{uuid.uuid4().hex[:12]}"
    broker.create(name, partitions)
    return name


@pytest.fixture
def topic(mock):
    """A new topic of three partitions."""
    return new_topic(mock)


@pytest.fixture
def its_topic(broker):
    """The same, of whichever broker."""
    return new_topic(broker)


def stream_of(broker, topic, **more):
    return KafkaStream(servers=broker.servers, topics=topic, **more)


def source_of(broker, topic, folder, **more):
    return open_source(
        {"type": "kafka", "servers": broker.servers, "topics": topic, "path": "snapshot", "places": True, **more}, folder=folder
    )


def table_of(source, *columns):
    return pa.Table.from_batches(list(source.read(columns=list(columns) or None)))


def records(count, start=0):
    return [b'{"n": %d}' % number for number in range(start, start + count)]


class TestContract(StreamContract):
    @pytest.fixture
    def make(self, broker, its_topic):
        return lambda: stream_of(broker, its_topic)

    @pytest.fixture
    def write(self, broker, its_topic):
        written = iter(range(10**6))
        return lambda values: produce(broker.servers, its_topic, values, partition_of=lambda _: next(written) % 3)


class TestSource(SourceContract):
    @pytest.fixture
    def source(self, mock, tmp_path):
        name = new_topic(mock, 1)
        values = [b'{"a": 1, "b": "x"}', b"no", b'{"a": 2, "b": null}', b'{"a": 3, "b": "z"}']
        produce(mock.servers, name, values)
        source = open_source({"type": "kafka", "servers": mock.servers, "topics": name, "path": "s"}, folder=tmp_path)
        return Fields(source)

    @pytest.fixture
    def expected(self):
        return pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})


class Fields:
    """A source without the time at which its messages were written."""

    def __new__(cls, source):
        from tests.contract.test_source_contract import Projected

        return Projected(source, ["a", "b"])


class TestPositions:
    def test_reading_begins_where_it_is_told(self, mock, topic):
        produce(mock.servers, topic, records(12))
        with stream_of(mock, topic, start="latest") as stream:
            assert stream.position() == stream.end()
        with stream_of(mock, topic, start={f"{topic}/1": 3, f"{topic}/2": "latest"}) as stream:
            assert stream.position() == {f"{topic}/0": 0, f"{topic}/1": 3, f"{topic}/2": 4}
        with stream_of(mock, topic, start={f"{topic}/9": 3}) as stream, pytest.raises(DataError, match="no such partition"):
            stream.position()

    def test_a_moment_is_asked_of_the_broker(self, mock, topic, monkeypatch):
        """The mock broker knows no offsets by time: what is asked, and what becomes of the answer, is looked at here."""
        produce(mock.servers, topic, records(12))
        asked = []

        def answer(places, timeout):
            asked.extend(places)
            return [confluent_kafka.TopicPartition(places[0].topic, places[0].partition, -1 if places[0].partition == 2 else 2)]

        with stream_of(mock, topic, start="2026-03-01 12:00") as stream:
            consumer = stream._client.consumer
            monkeypatch.setattr(stream._client, "_consumer", Wrapped(consumer, offsets_for_times=answer))
            assert stream.position() == {f"{topic}/0": 2, f"{topic}/1": 2, f"{topic}/2": 4}
        assert {place.offset for place in asked} == {1772366400000}

    @pytest.mark.requires_kafka
    def test_a_moment_on_a_real_broker(self, tmp_path):
        if not REAL:
            pytest.skip("DEEPSEEK_TEST_KAFKA names no broker")
        broker, name = RealBroker(), new_topic(RealBroker(), 1)
        produce(broker.servers, name, records(3))
        with stream_of(broker, name, start="2001-01-01") as stream:
            assert stream.position() == {f"{name}/0": 0}

    def test_what_is_committed_is_what_the_group_is_told(self, mock, topic):
        produce(mock.servers, topic, records(9))
        with stream_of(mock, topic, group="readers") as stream:
            while not stream.poll(100).num_rows:
                pass
            stream.commit({f"{topic}/0": 2, f"{topic}/1": 1})
        probe = confluent_kafka.Consumer({"bootstrap.servers": mock.servers, "group.id": "readers"})
        known = probe.committed([confluent_kafka.TopicPartition(topic, number) for number in range(3)], timeout=30)
        probe.close()
        assert [place.offset for place in known] == [2, 1, confluent_kafka.OFFSET_INVALID]


class Wrapped:
    """A consumer, some of whose methods are others."""

    def __init__(self, inner, **methods):
        self.inner = inner
        self.__dict__.update(methods)

    def __getattr__(self, name):
        return getattr(self.inner, name)


class Delivered:
    """A message, or the event of a partition's end, as librdkafka hands it over."""

    def __init__(self, topic, partition, offset, *, end=False):
        self.place, self.end = (topic, partition, offset), end

    def __getattr__(self, name):
        values = dict(zip(("topic", "partition", "offset"), self.place, strict=True))
        values |= {"timestamp": (1, 0), "key": None, "value": b"{}"}
        values["error"] = confluent_kafka.KafkaError(confluent_kafka.KafkaError._PARTITION_EOF) if self.end else None
        return lambda: values[name]


class TestBounds:
    """What lies behind a bound is of the next snapshot, in whatever order it is delivered before the pause is heard."""

    @pytest.mark.parametrize("late", [[("message", 12), ("message", 13)], [("end", 20)], [("message", 10), ("end", 20)]], ids=str)
    def test_a_partition_never_stands_behind_its_bound(self, mock, topic, monkeypatch, late):
        produce(mock.servers, topic, records(60))
        first = [Delivered(topic, 0, offset) for offset in range(12)]  # two more than are wanted
        after = [Delivered(topic, 0, offset, end=kind == "end") for kind, offset in late]
        others = [Delivered(topic, partition, offset) for partition in (1, 2) for offset in range(10)]
        for deliveries in ([first, after, others], [first + after, others], [others + first + after]):
            with stream_of(mock, topic) as stream:
                stream.stop_at({f"{topic}/{partition}": 10 for partition in range(3)})
                coming = iter(deliveries)
                monkeypatch.setattr(stream._client, "consume", lambda *_, coming=coming, **__: next(coming))
                rows = 0
                while not stream.finished:
                    rows += stream.poll(100).num_rows
                assert rows == 30
                assert set(stream.position().values()) == {10}


def test_a_partition_that_was_made_later_is_read_from_its_first_message(broker, its_topic):
    produce(broker.servers, its_topic, records(30))
    with stream_of(broker, its_topic, start="latest") as stream:
        position = stream.position()
        kept = {name: offset for name, offset in position.items() if not name.endswith("/2")}  # of before there were three
    produce(broker.servers, its_topic, records(3, start=30))
    with stream_of(broker, its_topic, start="latest") as stream:
        stream.seek(kept)
        assert stream.position() == {**position, f"{its_topic}/2": 0}


class TestSnapshot:
    def test_versions_follow_the_topic_and_earlier_ones_stay(self, broker, its_topic, tmp_path):
        produce(broker.servers, its_topic, records(10))
        source = source_of(broker, its_topic, tmp_path)
        assert sorted(table_of(source)["n"].to_pylist()) == list(range(10))
        before = source.fingerprint()
        produce(broker.servers, its_topic, records(5, start=10))
        assert table_of(source_of(broker, its_topic, tmp_path)).num_rows == 10  # nothing is read of the topic again unless it is asked for
        manifest = source.take()
        assert [version.number for version in manifest.versions] == [1, 2]
        assert sorted(table_of(source)["n"].to_pylist()) == list(range(15))
        assert source.fingerprint() != before
        assert source_of(broker, its_topic, tmp_path, version=1).fingerprint() == before
        assert len(source.take().versions) == 2  # nothing new, no new version

    def test_rows_come_partition_after_partition(self, mock, topic, tmp_path):
        produce(mock.servers, topic, records(30))
        source = source_of(mock, topic, tmp_path)
        source.schema()
        produce(mock.servers, topic, records(30, start=30))
        source.take()
        places = [(row["_partition"], row["_offset"]) for row in table_of(source, "_partition", "_offset").to_pylist()]
        assert places == sorted(places)
        assert len(places) == 60

    def test_bounds_and_limits(self, mock, topic, tmp_path):
        produce(mock.servers, topic, records(30))
        bounded = source_of(mock, topic, tmp_path, until={f"{topic}/0": 4, f"{topic}/1": 0, f"{topic}/2": 10})
        assert bounded.take().versions[-1].position == {f"{topic}/0": 4, f"{topic}/1": 0, f"{topic}/2": 10}
        limited = source_of(mock, topic, tmp_path, limit=7)
        assert limited.take().counts()["rows"] == 21
        assert limited.take().counts()["rows"] == 28
        whole = source_of(mock, topic, tmp_path)
        whole.take()
        assert sorted(table_of(whole)["n"].to_pylist()) == list(range(30))
        with pytest.raises(DataError, match="ends at 10"):
            source_of(mock, topic, tmp_path / "other", until={f"{topic}/0": 11}).take()

    def test_thirty_partitions(self, mock, tmp_path):
        name = new_topic(mock, 30)
        produce(mock.servers, name, records(3000))
        source = source_of(mock, name, tmp_path)
        assert sorted(table_of(source)["n"].to_pylist()) == list(range(3000))
        assert len(set(table_of(source)["_partition"].to_pylist())) == 30

    def test_several_topics_keep_their_columns(self, mock, topic, tmp_path):
        other = new_topic(mock, 2)
        produce(mock.servers, topic, records(6))
        produce(mock.servers, other, [b'{"m": "x"}'] * 4)
        table = table_of(source_of(mock, [topic, other], tmp_path))
        assert (table["n"].null_count, table["m"].null_count) == (4, 6)

    def test_an_empty_topic_and_one_that_is_none(self, mock, topic, tmp_path):
        source = source_of(mock, topic, tmp_path)
        assert source.take().counts()["rows"] == 0
        with pytest.raises(DataError, match="holds no rows"):
            source.schema()
        with pytest.raises(UnknownNameError, match=f"unknown topic of .* '{topic}s'.*") as found:
            source_of(mock, f"{topic}s", tmp_path / "other").take()
        assert found.value.suggestion == topic

    def test_keys_and_times_stand_beside_the_fields(self, mock, topic, tmp_path):
        produce(mock.servers, topic, records(2), keys=[b"ada", b"\xff\x01"])
        table = table_of(source_of(mock, topic, tmp_path)).sort_by("n")
        assert table["_key"].to_pylist() == ["ada", "0xff01"]
        assert table["_at"].null_count == 0

    def test_a_folder_holds_one_stream(self, mock, topic, tmp_path):
        produce(mock.servers, topic, records(3))
        source_of(mock, topic, tmp_path).take()
        with pytest.raises(InputError, match="was taken with decoder"):
            source_of(mock, topic, tmp_path, decoder="raw").take()
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.txt").write_text("mine")
        with pytest.raises(InputError, match="holds other things"):
            source_of(mock, topic, tmp_path, path="full").take()


class TestPoison:
    def test_what_cannot_be_read_is_counted_kept_and_named(self, mock, topic, tmp_path):
        values = [*records(20), b"{", None, b'{"n": "' + b"x" * 2000 + b'"}', b"\xff\xfe"]
        produce(mock.servers, topic, values, partition_of=lambda _: 0)
        source = source_of(mock, topic, tmp_path, max_message=1000)
        assert source.take().counts() == {"rows": 20, "rejected": 4, "missing": {}}
        rejects = [row for batch in source.rejects() for row in batch.to_pylist()]
        assert [row["line"] for row in rejects] == [20, 21, 22, 23]
        reasons = " | ".join(row["reason"] for row in rejects)
        for said in ("offset 20: no JSON", "no content (a tombstone)", "2,009 bytes, more than max_message = 1,000", "no UTF-8 text"):
            assert said in reasons
        assert rejects[3]["raw"] == "��"

    def test_a_decoder_that_is_the_wrong_one_is_noticed(self, mock, topic, tmp_path):
        produce(mock.servers, topic, [b"not json"] * 1500)
        source = source_of(mock, topic, tmp_path)
        with pytest.raises(DataError, match=r"could not be read, such as .*no JSON"):
            source.take()
        assert source_of(mock, topic, tmp_path, path="texts", decoder="text").take().counts()["rows"] == 1500


class TestGaps:
    def test_what_is_kept_no_longer_is_an_error_that_says_what_is_missing(self, broker, its_topic, tmp_path):
        produce(broker.servers, its_topic, records(30))
        source = source_of(broker, its_topic, tmp_path, limit=6)
        source.take()
        produce(broker.servers, its_topic, records(30, start=30))
        wanted = source.take().versions[-1].position[f"{its_topic}/1"]
        broker.delete_records(its_topic, 1, 17)
        with pytest.raises(
            DataError, match=rf"{its_topic}/1 begins at offset 17, and the wanted {wanted} .*{17 - wanted} messages are missing"
        ):
            source.take()
        going_on = source_of(broker, its_topic, tmp_path, on_gap="continue")
        counts = going_on.take().counts()
        assert counts["missing"] == {f"{its_topic}/1": 17 - wanted}
        assert counts["rows"] == 60 - (17 - wanted)

    def test_retention_that_overtakes_the_reader(self, mock, topic):
        produce(mock.servers, topic, records(30), partition_of=lambda _: 0)
        with stream_of(mock, topic, on_gap="continue") as stream:
            low, stream._client.watermarks = stream._client.watermarks, lambda _: (0, 30)
            mock.delete_records(topic, 0, 10)
            stream.seek({})
            stream._client.watermarks = low
            offsets = []
            while len(offsets) < 20:
                offsets += stream.poll(100)["offset"].to_pylist()
        assert offsets == list(range(10, 30))
        assert stream.missing == {f"{topic}/0": 10}

    def test_a_topic_that_was_made_anew_is_noticed(self, mock, topic):
        with stream_of(mock, topic) as stream, pytest.raises(DataError, match="ends at offset 0, before the wanted 5"):
            stream.seek({f"{topic}/0": 5})


class TestTrouble:
    def test_a_broker_that_goes_and_comes_again(self, tmp_path):
        cluster = MockCluster()
        try:
            cluster.create("t", 2)
            produce(cluster.servers, "t", records(5000))
            with stream_of(cluster, "t") as stream:
                first = []
                while len(first) < 10:
                    first += stream.poll(10)["value"].to_pylist()
                cluster.down()
                back = threading.Timer(2, cluster.up)
                back.start()
                position = stream.position()
                stream.seek(position)  # whatever was fetched ahead is fetched again
                while len(first) < 5000:
                    first += stream.poll(1000)["value"].to_pylist()
                back.join()
            assert sorted(json.loads(value)["n"] for value in first) == list(range(5000))
        finally:
            cluster.close()

    def test_a_broker_that_is_away_is_waited_for_and_then_named(self, tmp_path):
        cluster = MockCluster()
        try:
            cluster.create("t")
            cluster.down()
            source = source_of(cluster, "t", tmp_path, patience="3s")
            with pytest.raises(DataError, match=re.escape(cluster.servers)):
                source.take()
        finally:
            cluster.close()

    @pytest.mark.parametrize(
        ("request_kind", "errors"),
        [
            (FETCH, [NOT_LEADER, REQUEST_TIMED_OUT, NOT_LEADER]),
            (LIST_OFFSETS, [LEADER_NOT_AVAILABLE] * 3),
            (METADATA, [LEADER_NOT_AVAILABLE] * 2),
        ],
    )
    def test_errors_that_pass_cost_nothing(self, mock, topic, tmp_path, request_kind, errors):
        produce(mock.servers, topic, records(50))
        mock.push_errors(request_kind, *errors)
        assert sorted(table_of(source_of(mock, topic, tmp_path))["n"].to_pylist()) == list(range(50))

    def test_wrong_settings_are_said_without_the_secret(self, mock, topic, tmp_path, monkeypatch):
        monkeypatch.setenv("KAFKA_PASSWORD", "hush-hush")
        options = {"sasl.mechanism": "PLAIN", "sasl.username": "me", "sasl.password": "hush-hush", "security.protocol": "hush-hush"}
        with pytest.raises(InputError, match=r"\*\*\*") as found:
            source_of(mock, topic, tmp_path, options=options).take()
        assert "hush" not in str(found.value)
        with pytest.raises(InputError, match="the stream's own affair"):
            source_of(mock, topic, tmp_path, options={"enable.auto.commit": True}).take()


PROGRAM = """
import sys
from deepseek.data.sources import open_source
spec = {"type": "kafka", "servers": sys.argv[1], "topics": sys.argv[2], "path": sys.argv[3], "places": True}
source = open_source(spec)
source._plan = __import__("dataclasses").replace(source._plan, part_rows=int(sys.argv[4]))
print("ready", flush=True)
source.take()
"""


class TestKills:
    def test_kill_9_anywhere_loses_nothing_and_doubles_nothing(self, mock, tmp_path):
        """Processes are killed at moments that are spread over the work, told by how many files there are, not by the clock."""
        name, count = new_topic(mock, 4), 20_000
        produce(mock.servers, name, records(count))
        folder = tmp_path / "snapshot"
        kills = 0
        for files in (0, 1, 3, 6, 10, 15):
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, mock.servers, name, str(folder), "500"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            process.stdout.readline()
            while process.poll() is None and len(list(folder.glob("parts/*"))) <= files:
                pass
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            process.stderr.close()
            produce(mock.servers, name, records(100, start=count))  # what comes meanwhile is of a later version
            count += 100
        assert kills >= 4
        source = open_source({"type": "kafka", "servers": mock.servers, "topics": name, "path": str(folder), "places": True})
        source.take()
        source.take()
        table = table_of(source)
        assert sorted(table["n"].to_pylist()) == list(range(count))
        places = list(zip(table["_partition"].to_pylist(), table["_offset"].to_pylist(), strict=True))
        assert len(set(places)) == len(places)
