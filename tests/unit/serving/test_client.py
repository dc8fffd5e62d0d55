"""The client: what it sends, and what it makes of refusals."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deepseek.errors import InputError
from deepseek.serving.client import Client, ServerError


@pytest.fixture
def server():
    asked, answers = [], {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked.append((self.command, self.path, body, self.headers.get("authorization"), self.headers.get("x-experiment-key")))
            status, content = answers.get(self.path, (200, b"{}"))
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST  # noqa: N815 - the base class's name

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    made.asked, made.answers, made.url = asked, answers, f"http://127.0.0.1:{made.server_port}"
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_each_method_asks_its_address(server):
    client = Client(server.url + "/", "secret")
    client.predict("shop", {"x": 1}, key="customer-17")
    client.feedback("shop", [{"id": "a", "label": "yes"}])
    client.load("shop", "runs/shop/003")
    client.start("shop", {"candidate": "runs/shop/002"}, share=0.1, key_field="who")
    client.status("shop")
    client.share("shop", 0.5, arm="candidate")
    client.promote("shop")
    client.rollback("shop")
    client.stop("a b")
    assert [(method, path, body) for method, path, body, *_ in server.asked] == [
        ("POST", "/v1/models/shop/predict", {"x": 1}),
        ("POST", "/v1/models/shop/feedback", [{"id": "a", "label": "yes"}]),
        ("POST", "/admin/models/shop/load", {"path": "runs/shop/003"}),
        ("POST", "/admin/models/shop/experiment", {"arms": {"candidate": "runs/shop/002"}, "share": 0.1, "key_field": "who"}),
        ("GET", "/admin/models/shop/experiment", None),
        ("POST", "/admin/models/shop/experiment/share", {"share": 0.5, "arm": "candidate"}),
        ("POST", "/admin/models/shop/promote", {}),
        ("POST", "/admin/models/shop/rollback", {}),
        ("POST", "/admin/models/a%20b/experiment/stop", {}),
    ]
    assert {key for *_, key, _ in server.asked} == {"Bearer secret"}
    assert server.asked[0][4] == "customer-17"


def test_a_refusal_is_an_error_with_what_the_server_said(server):
    server.answers["/admin/models/shop/promote"] = (409, b'{"detail": "no experiment runs", "hint": "begin one"}')
    with pytest.raises(ServerError, match="no experiment runs") as caught:
        Client(server.url).promote("shop")
    assert (caught.value.status, caught.value.hint) == (409, "begin one")
    server.answers["/admin/models/shop/promote"] = (502, b"<html>")
    with pytest.raises(ServerError, match="status 502"):
        Client(server.url).promote("shop")
    server.answers["/admin/models/shop/promote"] = (200, b"<html>")
    with pytest.raises(ServerError, match="no JSON"):
        Client(server.url).promote("shop")


def test_without_an_admin_key_the_status_is_the_public_one(server):
    server.answers["/admin/models/shop/experiment"] = (403, b'{"detail": "this key may not"}')
    server.answers["/v1/models/shop/experiment"] = (200, b'{"state": "running"}')
    assert Client(server.url).status("shop") == {"state": "running"}


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(ServerError, match=r"http://127\.0\.0\.1:9 cannot be reached") as caught:
        Client("http://127.0.0.1:9").status("shop")
    assert caught.value.status == 0
    with pytest.raises(InputError, match="address"):
        Client("127.0.0.1:8000")


def test_a_wrong_key_is_told_in_the_words_of_whoever_gives_it_here(server):
    told = {"detail": "the key is not right", "hint": "send the header Authorization: Bearer KEY"}
    server.answers["/v1/models/shop"] = (401, json.dumps(told).encode())
    with pytest.raises(ServerError, match="the key is not right") as caught:
        Client(server.url, "wrong").describe("shop")
    assert "--key or DEEPSEEK_KEY" in caught.value.hint
