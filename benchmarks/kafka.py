"""From a Kafka topic to a snapshot on disk, against the bare client; and whole processes killed on the way, every message there once.

Protocol: 500,000 JSON messages of 100 bytes in 16 partitions of librdkafka's mock cluster, which runs in a process of its own: protocol
and sockets are real, the broker is imitated. Each arm is a fresh process that imports everything before its clock starts. `bare` assigns
all partitions from their beginning and consumes in batches of 10,000 until all messages have come, and drops them, with librdkafka's own
settings; `tuned` is the same with the one setting that the framework changes: a queue that was full is asked again after 20 ms, not after
a second. `snapshot` decodes and writes them to Parquet with a manifest, and waits for the disk. The arms take turns; medians are
reported. With `--kills N` the snapshot is taken by processes of which N are killed with SIGKILL, at random moments of the work; then
every message has to be there once.

Usage: python benchmarks/kafka.py [--messages 500000] [--repeats 5] [--kills 30]
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
PARTITIONS = 16
KILLED_ROWS = 2_000
ARMS = ("bare", "tuned", "snapshot")


def value_of(number: int) -> bytes:
    return b'{"n": %09d, "amount": %06d.25, "country": "DE", "device": "phone", "note": "abcdefghijklmno"}' % (
        number + 100_000_000,
        number % 900_000 + 100_000,
    )


def bare(servers: str, topic: str, messages: int, _: Path, **settings: int) -> Callable[[], int]:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": servers, "group.id": "bare", "enable.auto.commit": False, **settings})
    places = [TopicPartition(topic, number, 0) for number in range(PARTITIONS)]

    def read() -> int:
        consumer.assign(places)
        count = 0
        while count < messages:
            found = consumer.consume(10_000, 1.0)
            count += sum(message.error() is None for message in found)
        return count

    return read


def tuned(servers: str, topic: str, messages: int, folder: Path) -> Callable[[], int]:
    return bare(servers, topic, messages, folder, **{"fetch.queue.backoff.ms": 20})


def snapshot(servers: str, topic: str, _: int, folder: Path) -> Callable[[], int]:
    import confluent_kafka  # noqa: F401 - before the clock starts
    import pyarrow.parquet  # noqa: F401

    from deepseek import progress
    from deepseek.data.sources import open_source

    progress.quiet()
    source = open_source({"type": "kafka", "servers": servers, "topics": topic, "path": str(folder / "snapshot")})
    return lambda: source.take().counts()["rows"]


def measure(arm: str, servers: str, topic: str, messages: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = {"bare": bare, "tuned": tuned, "snapshot": snapshot}[arm](servers, topic, messages, Path(folder))
        started = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - started
        assert found == messages, f"{arm} read {found} of {messages}"
        print(json.dumps({"seconds": seconds}))


def take(servers: str, topic: str, folder: Path) -> None:
    from dataclasses import replace

    from deepseek import progress
    from deepseek.data.sources import open_source

    progress.quiet()
    source = open_source({"type": "kafka", "servers": servers, "topics": topic, "path": str(folder)})
    source._plan = replace(source._plan, part_rows=KILLED_ROWS)  # noqa: SLF001 - many parts, many moments to be killed between
    print("ready", flush=True)
    source.take()


def killed(servers: str, topic: str, messages: int, kills: int) -> dict[str, object]:
    """Kill processes once the work is at random places, and some milliseconds later; then let one finish, and compare."""
    from deepseek.data.sources import open_source

    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder, done = Path(name) / "snapshot", 0
        for parts in sorted(draw.sample(range(messages // KILLED_ROWS), kills)):
            command = [sys.executable, __file__, "--take", str(folder), "--servers", servers, "--topic", topic]
            process = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
            while process.poll() is None and len(list(folder.glob("parts/*"))) < parts:
                time.sleep(0.001)
            time.sleep(draw.random() * 0.03)
            done += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        source = open_source({"type": "kafka", "servers": servers, "topics": topic, "path": str(folder), "places": True})
        source.take()
        numbers, places = [], set()
        for batch in source.read(columns=["n", "_partition", "_offset"]):
            numbers += batch.column("n").to_pylist()
            places |= set(zip(batch.column("_partition").to_pylist(), batch.column("_offset").to_pylist(), strict=True))
    once = sorted(numbers) == [number + 100_000_000 for number in range(messages)] and len(places) == messages
    return {"kills": done, "messages": messages, "rows": len(numbers), "each_once": once}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--take", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--servers", help=argparse.SUPPRESS)
    parser.add_argument("--topic", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        measure(options.arm, options.servers, options.topic, options.messages)
        return
    if options.take:
        take(options.servers, options.topic, options.take)
        return
    from tests.services.kafka_server import MockCluster, produce

    cluster = MockCluster()
    topic = f"benchmark-{uuid.uuid4().hex[:8]}"
    cluster.create(topic, PARTITIONS)
    produce(cluster.servers, topic, [value_of(number) for number in range(options.messages)])
    seen: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for turn in range(options.repeats):
        for arm in (*ARMS[turn % len(ARMS) :], *ARMS[: turn % len(ARMS)]):
            command = [sys.executable, __file__, "--arm", arm, "--servers", cluster.servers, "--topic", topic]
            done = subprocess.run([*command, "--messages", str(options.messages)], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{arm}:\n{done.stderr}")
            seen[arm].append(json.loads(done.stdout.splitlines()[-1])["seconds"])
    result: dict[str, object] = {
        "benchmark": "kafka", "messages": options.messages, "bytes": len(value_of(0)), "partitions": PARTITIONS, "repeats": options.repeats,
    }  # fmt: skip
    medians = {arm: statistics.median(seconds) for arm, seconds in seen.items()}
    for arm, seconds in medians.items():
        result[arm] = {"seconds": round(seconds, 2), "rate": round(options.messages / seconds), "all": [round(one, 2) for one in seen[arm]]}
    result["of_bare"] = round(medians["bare"] / medians["snapshot"], 3)
    result["of_tuned"] = round(medians["tuned"] / medians["snapshot"], 3)
    if options.kills:
        result["killed"] = killed(cluster.servers, topic, options.messages, options.kills)
    cluster.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
