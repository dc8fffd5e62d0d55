"""S3 as s3fs speaks it, against moto's server."""

import importlib.util
import os

import pyarrow as pa
import pyarrow.parquet
import pytest

from deepseek.data.sources import open_source
from deepseek.data.sources.remote import cache
from deepseek.errors import DataError

LACKING = [name for name in ("s3fs", "moto", "flask", "flask_cors") if importlib.util.find_spec(name) is None]
if LACKING and os.environ.get("DEEPSEEK_REQUIRE_SERVICES") != "1":  # where they are required, importing them fails
    pytest.skip(f"{', '.join(LACKING)} not installed: pip install -c constraints.txt -e '.[test]'", allow_module_level=True)

CSV = b"a,b\n" + b"".join(f"{i},w{i}\n".encode() for i in range(50))


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    import boto3
    from moto.server import ThreadedMotoServer

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "me",
        "AWS_SECRET_ACCESS_KEY": "hush-4711",
        "AWS_DEFAULT_REGION": "us-east-1",
        "DEEPSEEK_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache, "_PAUSES_S", (0.0,))
    client = boto3.client("s3")
    client.create_bucket(Bucket="shop")
    yield lambda key, body: client.put_object(Bucket="shop", Key=key, Body=body)
    server.stop()


def rows(value):
    return pa.Table.from_batches(list(open_source(value).read()))


def test_files_patterns_and_folders(bucket, tmp_path):
    bucket("deep/t.csv", CSV)
    pa.parquet.write_table(pa.table({"a": [1, 2]}), tmp_path / "t.parquet")
    bucket("deep/t.parquet", (tmp_path / "t.parquet").read_bytes())
    for number in (1, 2):
        bucket(f"parts/{number}.csv", CSV)
    for name in ("cat/1.png", "dog/2.png"):
        bucket(f"photos/{name}", name.encode())
    assert rows("s3://shop/deep/t.csv").num_rows == 50
    assert rows("s3://shop/deep/t.parquet").to_pydict() == {"a": [1, 2]}
    assert rows("s3://shop/parts/*.csv").num_rows == rows("s3://shop/parts").num_rows == 100
    assert rows("s3://shop/photos").to_pydict() == {"image": ["cat/1.png", "dog/2.png"], "label": ["cat", "dog"]}


def test_an_object_is_fetched_again_when_it_changed(bucket, monkeypatch):
    bucket("t.csv", CSV)
    before = open_source("s3://shop/t.csv").fingerprint()
    with monkeypatch.context() as patched:
        patched.setattr(cache, "_copied", None)  # what is known already is not read
        assert open_source("s3://shop/t.csv").fingerprint() == before
    bucket("t.csv", CSV.replace(b"w1\n", b"x1\n"))
    assert open_source("s3://shop/t.csv").fingerprint() != before


def test_a_large_object_comes_in_pieces(bucket):
    bucket("t.csv", CSV + b"".join(b"%d,%s\n" % (i, b"x" * 1000) for i in range(15_000)))
    assert rows("s3://shop/t.csv").num_rows == 15_050


@pytest.mark.parametrize(
    ("url", "words"),
    [("s3://shop/absent.csv", "there is no"), ("s3://absent/t.csv", "there is no"), ("s3://shop/x*", "no object matches")],
)
def test_what_is_not_there_is_told(bucket, url, words):
    with pytest.raises(DataError, match=words) as caught:
        open_source(url).schema()
    assert "hush-4711" not in str(caught.value)


def test_without_credentials_the_variables_are_named(bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DataError, match=r"may not be read: .*\n.*AWS_ACCESS_KEY_ID"):
        open_source("s3://shop/t.csv").schema()
