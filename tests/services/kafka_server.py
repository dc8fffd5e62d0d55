"""A Kafka broker for tests: librdkafka's mock cluster in a process of its own, steered over its standard input.

The protocol on the wire is the real one, the broker behind it is imitated: about 5 MB are kept of each partition, nothing survives the
process, there are no offsets by time and no transactions. As a program it prints the brokers' addresses and then answers one JSON command a
line with one JSON line.
"""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import confluent_kafka

LIBRARY = next(Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs").glob("librdkafka*"), None)
PRODUCER = 0


class MockCluster:
    """A mock cluster in another process.

    Attributes:
        servers: The addresses of its brokers.
    """

    def __init__(self, brokers=1):
        command = [sys.executable, __file__, str(brokers)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.servers = json.loads(self.process.stdout.readline())

    def create(self, topic, partitions=1):
        self._tell("topic_create", topic, partitions, 1)

    def delete_records(self, topic, partition, before):
        """Forget the messages of a partition below an offset, as retention does."""
        self._tell("partition_delete_records", topic, partition, before)

    def down(self, broker=1):
        self._tell("broker_set_down", broker)

    def up(self, broker=1):
        self._tell("broker_set_up", broker)

    def push_errors(self, api_key, *errors):
        """Answer the next requests of a kind with these errors."""
        self._tell("push_request_errors_array", api_key, list(errors))

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def _tell(self, command, *arguments):
        self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer == 0, f"{command}{arguments}: {answer}"


def produce(servers, topic, values, *, keys=None, partition_of=None):
    """Write messages and wait until the broker has them; they go around the partitions where not told otherwise."""
    producer = confluent_kafka.Producer({"bootstrap.servers": servers, "linger.ms": 5, "enable.idempotence": True})
    partitions = len(producer.list_topics(topic, timeout=30).topics[topic].partitions)
    failed = []
    for number, value in enumerate(values):
        place = number % partitions if partition_of is None else partition_of(number)
        while True:
            try:
                producer.produce(
                    topic,
                    value,
                    keys[number] if keys else None,
                    partition=place,
                    on_delivery=lambda error, _: error and failed.append(error),
                )
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(60) == 0
    assert not failed


def main(brokers):
    library = ctypes.CDLL(str(LIBRARY))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    reason = ctypes.create_string_buffer(512)
    handle = library.rd_kafka_new(PRODUCER, ctypes.c_void_p(library.rd_kafka_conf_new()), reason, ctypes.c_size_t(512))
    assert handle, reason.value
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(ctypes.c_void_p(handle), brokers))
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 100)
    _say(library.rd_kafka_mock_cluster_bootstraps(cluster).decode())
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        given = [one.encode() if isinstance(one, str) else ctypes.c_int64(one) if command.endswith("records") and place == 2 else one
                 for place, one in enumerate(arguments)]  # fmt: skip
        if isinstance(arguments[-1], list):
            errors = arguments[-1]
            given = [ctypes.c_int16(arguments[0]), ctypes.c_size_t(len(errors)), (ctypes.c_int * len(errors))(*errors)]
            library.rd_kafka_mock_push_request_errors_array.restype = None
        answer = getattr(library, f"rd_kafka_mock_{command}")(cluster, *given)
        _say(answer or 0)


def _say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
