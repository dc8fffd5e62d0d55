"""Real servers, each begun by a fixture: a folder of its own, a free port, readiness polled, ended by its process id."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
OWN_ENVIRONMENTS = Path(__file__).parents[2] / "build/services"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def lacking(line):
    """Skip a test for want of something, or fail it where servers are required."""
    if os.environ.get("DEEPSEEK_REQUIRE_SERVICES") == "1":
        pytest.fail(line)
    return pytest.skip(line)


def program(name, package, *folders):
    """The path of a server's program; a test without it is skipped, or fails where servers are required."""
    found = shutil.which(name, path=os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin"]))
    if found:
        return found
    return lacking(f"{name} is not installed: make services, or apt-get install {package}")


def own_program(name, *, variable):
    """The path of a program that has an environment of its own, or that an environment variable names; else as `program`."""
    given = os.environ.get(variable)
    path = Path(given) if given else OWN_ENVIRONMENTS / name / "bin" / name
    if path.is_file():
        return str(path)
    line = f"there is no {path}: make services, or name the command in {variable}"
    if given or os.environ.get("DEEPSEEK_REQUIRE_SERVICES") == "1":
        pytest.fail(line)
    return pytest.skip(line)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def as_user(name):
    """Servers refuse to run as root; a container's tests do."""
    return {"user": name, "group": name, "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def folder_of(user):
    folder = Path(tempfile.mkdtemp(prefix="deepseek-services-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, user, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def server(command, *, user, folder, ready, timeout_s=60):
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, **as_user(user))
        try:
            end = time.monotonic() + timeout_s
            while not ready():
                if process.poll() is not None or time.monotonic() > end:
                    pytest.fail(f"{command[0]} did not start:\n{(folder / 'log').read_text(errors='replace')[-2000:]}")
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(30)


def connects(connect):
    try:
        connect().close()
    except Exception:  # noqa: BLE001 - whatever a driver raises while its server is not up
        return False
    return True


@pytest.fixture(scope="session")
def postgresql():
    """The URL of a fresh PostgreSQL database."""
    psycopg = pytest.importorskip("psycopg")
    initdb, postgres = (program(name, "postgresql", *POSTGRESQL) for name in ("initdb", "postgres"))
    with folder_of("postgres") as folder:
        port, data = free_port(), folder / "data"
        initialise = [initdb, "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(initialise, cwd=folder, check=True, capture_output=True, **as_user("postgres"))
        options = {"port": port, "unix_socket_directories": folder, "listen_addresses": "127.0.0.1", "fsync": "off"}
        command = [postgres, "-D", str(data), *(part for key, value in options.items() for part in ("-c", f"{key}={value}"))]
        url = f"postgresql://postgres:secret-word@127.0.0.1:{port}/postgres"
        with server(command, user="postgres", folder=folder, ready=lambda: connects(lambda: psycopg.connect(url))):
            yield url


@pytest.fixture(scope="session")
def mariadb():
    """The URL of a fresh MariaDB database."""
    pymysql = pytest.importorskip("pymysql")
    install, daemon = (program(name, "mariadb-server") for name in ("mariadb-install-db", "mariadbd"))
    with folder_of("mysql") as folder:
        port, data = free_port(), folder / "data"
        common = ["--no-defaults", f"--datadir={data}", *(["--user=mysql"] if os.geteuid() == 0 else [])]
        initialise = [install, *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(initialise, cwd=folder, check=True, capture_output=True)
        places = [
            f"--port={port}",
            f"--socket={folder / 's'}",
            f"--pid-file={folder / 'pid'}",
            "--bind-address=127.0.0.1",
            "--skip-log-bin",
        ]

        def connect():
            return pymysql.connect(host="127.0.0.1", port=port, user="root")

        with server([daemon, *common, *places], user="mysql", folder=folder, ready=lambda: connects(connect)):
            with connect() as connection, connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE studies")
                cursor.execute("CREATE USER worker@'%' IDENTIFIED BY 'secret-word'")
                cursor.execute("GRANT ALL ON studies.* TO worker@'%'")
            yield f"mysql://worker:secret-word@127.0.0.1:{port}/studies"


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


@contextlib.contextmanager
def prometheus_with(*, rules, scraped, key, alerts_to):
    """A Prometheus that scrapes a port every second, and an Alertmanager that sends what fires to an address; the Prometheus's URL."""
    prometheus, alertmanager = program("prometheus", "prometheus"), program("prometheus-alertmanager", "prometheus-alertmanager")
    with folder_of("prometheus") as folder, folder_of("prometheus") as other:
        port, sending = free_port(), free_port()
        hook = {"url": alerts_to, "send_resolved": False}
        route = {"receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
        (other / "config.yaml").write_text(json.dumps({"route": route, "receivers": [{"name": "hook", "webhook_configs": [hook]}]}))
        (folder / "rules.yaml").write_text(rules)
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{sending}"]}]}]},
            "scrape_configs": [
                {
                    "job_name": "deepseek",
                    "authorization": {"credentials": key},
                    "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}],
                }
            ],
        }
        (folder / "config.yaml").write_text(json.dumps(config))
        send = [
            *(alertmanager, "--config.file=config.yaml", f"--storage.path={other}"),
            *(f"--web.listen-address=127.0.0.1:{sending}", "--cluster.listen-address="),
        ]
        watch = [
            *(prometheus, "--config.file=config.yaml", f"--storage.tsdb.path={folder / 'data'}"),
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        url = f"http://127.0.0.1:{port}"
        with (
            server(send, user="prometheus", folder=other, ready=lambda: answers(f"http://127.0.0.1:{sending}/-/ready")),
            server(watch, user="prometheus", folder=folder, ready=lambda: answers(f"{url}/-/ready")),
        ):
            yield url


@pytest.fixture(scope="module")
def browser():
    """A real browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("playwright is not installed: pip install 'deepseek-framework[test]'")
    if CHROMIUM is None:
        lacking("no browser is installed: make services, or apt-get install -y --no-install-recommends chromium")
    with sync_playwright() as play:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        running = play.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()
