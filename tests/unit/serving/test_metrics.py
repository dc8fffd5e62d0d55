"""Numbers of several workers, summed by whichever is asked."""

import multiprocessing
import os
import threading
import time
from pathlib import Path

from deepseek.serving.metrics import Metrics


def lines(metrics):
    found = dict(line.rsplit(" ", 1) for line in metrics.text().decode().splitlines() if not line.startswith("#"))
    return {name: value for name, value in found.items() if not name.startswith(("deepseek_process", "deepseek_gpu"))}


def count(folder):
    metrics = Metrics(folder)
    metrics.cell("deepseek_requests_total", model="a", endpoint="predict", status="200").add(3)
    metrics.cell("deepseek_queue_rows", model="a").set(7)
    metrics.histogram("deepseek_batch_rows", model="a").observe(3)
    os._exit(0)


def test_counters_of_the_dead_stay_and_their_gauges_go(tmp_path):
    worker = multiprocessing.get_context("fork").Process(target=count, args=(tmp_path,))
    worker.start()
    worker.join(30)
    metrics = Metrics(tmp_path)
    metrics.cell("deepseek_requests_total", model="a", endpoint="predict", status="200").add()
    metrics.cell("deepseek_queue_rows", model="a").set(2)
    found = lines(metrics)
    assert found['deepseek_requests_total{model="a",endpoint="predict",status="200"}'] == "4"
    assert found['deepseek_queue_rows{model="a"}'] == "2"
    assert found['deepseek_batch_rows_sum{model="a"}'] == "3"


def test_buckets_add_up_from_below(tmp_path):
    metrics = Metrics(tmp_path)
    histogram = metrics.histogram("deepseek_batch_rows", model="a")
    for rows in (1, 2, 3, 5_000):
        histogram.observe(rows)
    found = lines(metrics)
    assert [found[f'deepseek_batch_rows_bucket{{model="a",le="{end}"}}'] for end in ("1", "2", "4", "1024", "+Inf")] == [
        "1",
        "2",
        "3",
        "3",
        "4",
    ]
    assert found['deepseek_batch_rows_count{model="a"}'] == "4"
    assert found['deepseek_batch_rows_sum{model="a"}'] == "5006"


def test_labels_are_escaped(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.cell("deepseek_queue_rows", model='a"b\\c\nd').set(1)
    assert b'deepseek_queue_rows{model="a\\"b\\\\c\\nd"} 1\n' in metrics.text()


def test_a_half_written_name_is_passed_over(tmp_path):
    metrics = Metrics(tmp_path)
    metrics.cell("deepseek_queue_rows", model="a").set(1)
    (file,) = tmp_path.glob("*.keys")
    with file.open("ab") as keys:
        keys.write(b'{"name": "deepseek_que')
    assert lines(metrics) == {'deepseek_queue_rows{model="a"}': "1"}


def test_numbers_that_threads_make_at_once_keep_their_names(tmp_path, monkeypatch):
    metrics, begun = Metrics(tmp_path), threading.Event()
    opened = Path.open

    def slowly(path, *given, **settings):  # the interpreter changes threads wherever a file is opened
        if path.suffix == ".keys" and threading.current_thread() is first:
            begun.set()
            time.sleep(0.1)
        return opened(path, *given, **settings)

    monkeypatch.setattr(Path, "open", slowly)
    first = threading.Thread(target=lambda: metrics.cell("deepseek_queue_rows", model="a").set(1))
    first.start()
    begun.wait(30)
    metrics.cell("deepseek_queue_rows", model="b").set(2)
    first.join()
    assert lines(metrics) == {'deepseek_queue_rows{model="a"}': "1", 'deepseek_queue_rows{model="b"}': "2"}
