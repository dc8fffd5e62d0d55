"""The public suite, on every built-in alarm."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deepseek.components import FAMILIES
from deepseek.errors import InputError, RunError
from deepseek.monitoring.alarms.base import AlarmEvent
from deepseek.monitoring.alarms.command import CommandAlarm
from deepseek.monitoring.alarms.contract import AlarmContract
from deepseek.monitoring.alarms.file import FileAlarm
from deepseek.monitoring.alarms.webhook import WebhookAlarm

COVERED = {"file", "command", "webhook"}


def test_every_built_in_alarm_is_covered():
    assert set(FAMILIES["alarm"][1]) == COVERED


class TestFile(AlarmContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.path = tmp_path / "deep" / "alarms.jsonl"

    def make(self):
        return FileAlarm(path=str(self.path))

    def arrived(self):
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def broken(self):
        self.path.parent.write_text("a file where a folder is needed")
        return self.make()


class TestCommand(AlarmContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        self.path = tmp_path / "alarms.jsonl"

    def make(self):
        program = f"import sys; open({str(self.path)!r}, 'ab').write(sys.stdin.buffer.read() + b'\\n')"
        return CommandAlarm(command=[sys.executable, "-c", program])

    def arrived(self):
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def broken(self):
        return CommandAlarm(command=[sys.executable, "-c", "import sys; sys.exit('no mail today')"])


@pytest.mark.parametrize("status", [0, 3])
def test_what_a_command_says_may_be_no_text(status):
    program = f"import sys; sys.stderr.buffer.write(b'caf\\xe9 is closed'); sys.stdout.buffer.write(b'\\xff'); sys.exit({status})"
    alarm = CommandAlarm(command=[sys.executable, "-c", program])
    event = AlarmEvent("drift:age", "raised", 1.0, "it has drifted", "runs/a/001")
    if status:
        with pytest.raises(RunError, match=r"ended with status 3: caf. is closed"):
            alarm.send(event)
    else:
        alarm.send(event)


class TestWebhook(AlarmContract):
    @pytest.fixture(autouse=True)
    def server(self):
        bodies = self.bodies = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Key"] == "right":
                    bodies.append(json.loads(body))
                self.send_response(204 if self.headers["Key"] == "right" else 403)
                self.end_headers()

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield
        server.shutdown()
        thread.join()
        server.server_close()

    def make(self):
        return WebhookAlarm(url=self.url, headers={"Key": "right"})

    def arrived(self):
        return self.bodies

    def broken(self):
        return WebhookAlarm(url=self.url, headers={"Key": "wrong"})

    def test_only_web_addresses(self):
        with pytest.raises(InputError, match="file:///etc/passwd"):
            WebhookAlarm(url="file:///etc/passwd")
