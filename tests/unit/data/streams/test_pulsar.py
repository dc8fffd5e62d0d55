"""Pulsar's client before a broker that refuses, one that is silent, and one that is imitated: nothing is acknowledged before it is safe."""

import os
import socket
import subprocess
import sys
import uuid

import pytest

from deepseek.data.streams.pulsar_library import pulsar_library

try:
    pulsar = pulsar_library()  # never by `import`: see there
except ImportError:
    pytest.skip("pulsar-client is not installed", allow_module_level=True)

from deepseek.data.sources import open_source
from deepseek.data.streams import snapshot
from deepseek.data.streams.contract import StreamContract
from deepseek.data.streams.manifest import Manifest
from deepseek.data.streams.pulsar import PulsarStream
from deepseek.data.streams.pulsar_ids import id_of, number_of
from deepseek.errors import DataError

REAL = os.environ.get("DEEPSEEK_TEST_PULSAR")


class FakeId:
    def __init__(self, ledger, entry, place=-1):
        self.parts = (ledger, entry, place)

    def ledger_id(self):
        return self.parts[0]

    def entry_id(self):
        return self.parts[1]

    def batch_index(self):
        return self.parts[2]


class FakeMessage:
    """What the documented interface of a message says."""

    def __init__(self, message_id, value, key=""):
        self.id, self.value, self.key = message_id, value, key

    def message_id(self):
        return self.id

    def data(self):
        return self.value or b""

    def has_null_value(self):
        return self.value is None

    def partition_key(self):
        return self.key

    def publish_timestamp(self):
        return 1_700_000_000_000


class FakeBroker:
    """Topics of messages and, by subscription, the last message that is acknowledged."""

    def __init__(self):
        self.topics = {}
        self.acknowledged = {}
        self.log = []

    def write(self, topic, *values, batch=False):
        held = self.topics.setdefault(topic, [])
        for value in values:
            entry = len(held)
            held.append(FakeMessage(FakeId(3, entry // 2, entry % 2) if batch else FakeId(3, entry), value))


class FakeConsumer:
    """The documented interface of a consumer: it delivers from behind what is acknowledged, and again after it was made anew."""

    def __init__(self, broker, topic, subscription):
        self.broker, self.topic, self.subscription = broker, topic, subscription
        self.next = self._behind(broker.acknowledged.get((topic, subscription), 0))

    @property
    def held(self):
        return self.broker.topics.setdefault(self.topic, [])

    def _behind(self, number):
        return sum(number_of(message.message_id()) <= number for message in self.held)

    def receive(self, timeout_millis=None):
        if self.next >= len(self.held):
            raise pulsar.Timeout
        self.next += 1
        return self.held[self.next - 1]

    def acknowledge_cumulative(self, message_id):
        self.broker.acknowledged[self.topic, self.subscription] = number_of(message_id)
        self.broker.log.append(("acknowledged", self.topic, number_of(message_id)))

    def seek(self, message_id):
        number = 0 if message_id.ledger_id() < 0 else number_of(message_id)
        self.next = max(self._behind(number) - 1, 0)  # the message itself comes once more, as some versions have it

    def get_last_message_id(self):
        return self.held[-1].message_id() if self.held else FakeId(-1, -1)


class FakeClient:
    def __init__(self, broker, partitions):
        self.broker, self.partitions = broker, partitions

    def get_topic_partitions(self, topic):
        return [f"{topic}-partition-{number}" for number in range(self.partitions)]

    def subscribe(self, topic, subscription, **_):
        return FakeConsumer(self.broker, topic, subscription)

    def close(self):
        pass


@pytest.fixture
def broker(monkeypatch):
    broker = FakeBroker()
    monkeypatch.setattr(PulsarStream, "_connected", lambda self: FakeClient(broker, 2))
    return broker


def stream_of(**more):
    return PulsarStream(url="pulsar://127.0.0.1:1", topics="t", **more)


class TestContract(StreamContract):
    """Against the imitation: it shows that the adapter keeps the contract, not that Pulsar is as imitated."""

    @pytest.fixture
    def make(self, broker):
        return stream_of

    @pytest.fixture
    def write(self, broker):
        def write(values):
            for place, value in enumerate(values):
                broker.write(f"t-partition-{place % 2}", value)

        return write


@pytest.mark.requires_pulsar
@pytest.mark.skipif(not REAL, reason="DEEPSEEK_TEST_PULSAR names no broker")
class TestRealContract(StreamContract):
    @pytest.fixture
    def topic(self):
        return f"persistent://public/default/t-{uuid.uuid4().hex}"

    @pytest.fixture
    def make(self, topic):
        return lambda: PulsarStream(url=REAL, topics=topic, subscription=f"s-{uuid.uuid4().hex}")

    @pytest.fixture
    def write(self, topic):
        def write(values):
            client = pulsar.Client(REAL)
            producer = client.create_producer(topic)
            for value in values:
                producer.send(value)
            client.close()

        return write


class TestAcknowledging:
    def source(self, folder):
        spec = {"type": "pulsar", "url": "pulsar://127.0.0.1:1", "topics": "t", "path": "s", "places": True}
        return open_source(spec, folder=folder)

    def test_only_what_the_manifest_names_is_acknowledged(self, broker, tmp_path, monkeypatch):
        broker.write("t-partition-0", *(b'{"n": %d}' % number for number in range(5)))
        broker.write("t-partition-1", *(b'{"n": %d}' % number for number in range(5, 8)), None)
        written = Manifest.write
        monkeypatch.setattr(Manifest, "write", lambda self, folder: (broker.log.append(("written", self.position)), written(self, folder)))
        source = self.source(tmp_path)
        assert source.take().counts() == {"rows": 8, "rejected": 1, "missing": {}}
        safe = {}
        for kind, *what in broker.log:
            if kind == "written":
                safe = what[0]
            else:
                assert what[1] <= safe[what[0]]
        assert broker.acknowledged == {(topic, "deepseek"): number for topic, number in source.take().position.items()}

    def test_what_is_sent_again_after_a_kill_comes_once(self, broker, tmp_path):
        broker.write("t-partition-0", *(b'{"n": %d}' % number for number in range(6)), batch=True)
        source = self.source(tmp_path)
        source.take()
        broker.acknowledged.clear()  # the process died between the manifest and the acknowledgement
        broker.write("t-partition-0", b'{"n": 6}', b'{"n": 7}', batch=True)
        source.take()
        assert [row["n"] for batch in source.read() for row in batch.to_pylist()] == list(range(8))
        assert broker.acknowledged["t-partition-0", "deepseek"] == source.take().position["t-partition-0"]

    def test_nothing_is_acknowledged_by_reading(self, broker):
        broker.write("t-partition-0", b"a", b"b")
        with stream_of() as stream:
            assert stream.poll(10).num_rows == 2
        assert broker.acknowledged == {}


class TestLatest:
    """`start: latest` says where reading begins, once: whatever is written from then on is read."""

    def test_what_comes_after_an_empty_beginning_is_not_skipped(self, broker, tmp_path):
        broker.write("t-partition-0", b'{"n": -1}')
        spec = {"type": "pulsar", "url": "pulsar://127.0.0.1:1", "topics": "t", "path": "s", "start": "latest"}
        source = open_source(spec, folder=tmp_path)
        assert source.take().counts()["rows"] == 0
        for partition in (0, 1):  # the second had no message when reading began
            broker.write(f"t-partition-{partition}", *(b'{"n": %d}' % (partition + 2 * number) for number in range(4)))
        source.take()
        assert sorted(row["n"] for batch in source.read() for row in batch.to_pylist()) == list(range(8))

    def test_what_comes_after_a_beginning_that_was_killed_is_of_the_next_version(self, broker, tmp_path, monkeypatch):
        broker.write("t-partition-0", b'{"n": -1}')
        spec = {"type": "pulsar", "url": "pulsar://127.0.0.1:1", "topics": "t", "path": "s", "start": "latest"}
        source = open_source(spec, folder=tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(snapshot, "_read", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                source.take()
        broker.write("t-partition-0", *(b'{"n": %d}' % number for number in range(3)))
        assert source.take().counts()["rows"] == 0  # it ends where it was to end
        assert source.take().counts()["rows"] == 3

    def test_a_partition_that_was_made_later_is_read_from_its_first_message(self, broker):
        broker.write("t-partition-0", b"old")
        with stream_of(start="latest") as stream:
            kept = {"t-partition-0": stream.position()["t-partition-0"]}
        broker.write("t-partition-0", b"new")
        broker.write("t-partition-1", b"first")
        with stream_of(start="latest") as stream:
            stream.seek(kept)
            assert sorted(stream.poll(10).column("value").to_pylist()) == [b"first", b"new"]


class TestTrouble:
    """A partition that cannot be read takes no message of another with it, nor those that came before of its own."""

    @pytest.mark.parametrize("after", [0, 2])
    @pytest.mark.parametrize("trouble", ["raised", "told by an id that does not fit"])
    def test_what_came_before_it_is_handed_out_first(self, broker, monkeypatch, after, trouble):
        broker.write("t-partition-0", b"a", b"b")
        broker.write("t-partition-1", b"c", b"d", b"e")
        receive, failing = FakeConsumer.receive, [trouble]

        def receives(self, timeout_millis=None):
            if failing and self.topic == "t-partition-1" and self.next == after:
                if failing.pop() == "raised":
                    raise pulsar.PulsarException("the broker went away")
                return FakeMessage(FakeId(1, 1 << 20), b"")
            return receive(self, timeout_millis)

        monkeypatch.setattr(FakeConsumer, "receive", receives)
        with stream_of() as stream:
            assert stream.poll(10).column("value").to_pylist() == [b"a", b"b", b"c", b"d"][: 2 + after]
            with pytest.raises(DataError):
                stream.poll(10)
            assert stream.poll(10).column("value").to_pylist() == [b"c", b"d", b"e"][after:]


def test_ids_are_numbers_that_grow_and_come_back():
    ids = [FakeId(0, 0), FakeId(0, 0, 0), FakeId(0, 0, 1), FakeId(0, 1), FakeId(7, 0, 4), FakeId(7, 99, 0), FakeId(8, 0)]
    numbers = [number_of(one) for one in ids]
    assert numbers == sorted(set(numbers))
    assert min(numbers) > 0
    for one, number in zip(ids, numbers, strict=True):
        again = id_of(number)
        assert (again.ledger_id(), again.entry_id(), again.batch_index()) == one.parts
    assert number_of(FakeId(-1, -1)) == 0
    with pytest.raises(DataError, match="does not fit"):
        number_of(FakeId(1, 1 << 20))


@pytest.fixture
def silent_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen(8)
        yield one.getsockname()[1]


@pytest.fixture
def refusing_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


@pytest.mark.parametrize("port", ["silent_port", "refusing_port"])
def test_a_broker_that_does_not_answer_is_an_error_without_the_token(port, request):
    number = request.getfixturevalue(port)
    stream = PulsarStream(url=f"pulsar://127.0.0.1:{number}", topics="t", token="hush-hush", patience=2.0)
    with pytest.raises(DataError, match=f"127.0.0.1:{number}") as found:
        stream.poll(1)
    stream.close()
    assert "hush" not in str(found.value)
    assert found.value.hint


OTHERS = "import numpy; from openvino import opset13 as ops"
CLIENT = "from deepseek.data.streams.pulsar_library import pulsar_library; client = pulsar_library()"


@pytest.mark.parametrize("order", [(OTHERS, CLIENT), (CLIENT, OTHERS)], ids=["after", "before"])
def test_other_native_libraries_work_as_before_with_the_client_loaded(order):
    pytest.importorskip("openvino")
    used = "assert client.MessageId.wrap(client.MessageId.earliest).ledger_id() == -1"
    shown = "print(tuple(ops.constant(numpy.ones((4, 2))).get_output_shape(0)))"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*order, used, shown])], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout.strip()) == (0, "(4, 2)"), done.stderr
