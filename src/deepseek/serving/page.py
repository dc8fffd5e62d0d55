"""The page at `/` on which people try a model: a form from its fields, its answer with bars. Self-contained; it asks this server only."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from deepseek.reporting import style as reporting
from deepseek.reporting.html import Html, element, join


@cache
def page(*, needs_key: bool) -> bytes:
    """Return the page; what it shows of models it asks the server for, so that it holds nothing which a key protects.

    Args:
        needs_key: Whether there is a place for a key.
    """
    head = join(
        [
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", "Try the model"),
            Html(f"<style>{reporting.style()}{_asset('try.css')}</style>"),
            *(Html(f"<script>{text}</script>") for text in _scripts()),
        ]
    )
    switch = element("button", "Dark theme", type="button", _class="theme", hidden=True)
    title = element("div", element("h1", "Try the model"), element("p", "", id="about", _class="quiet"))
    key = element("p", element("label", "Key", _for="key"), element("input", id="key", type="password", autocomplete="off"), _class="field")
    choice = element("p", element("label", "Model", _for="model"), element("select", id="model"), _class="field", hidden=True, id="choice")
    form = element("form", element("div", id="fields"), element("button", "Answer", type="submit", id="ask"), id="form", autocomplete="off")
    answer = element(
        "section", element("h2", "Answer"), element("div", id="answer", role="status", aria_live="polite"), id="result", hidden=True
    )
    request = element(
        "details", element("summary", "The same request as a command"), element("pre", element("code", "", id="command"), tabindex="0")
    )
    links = element("footer", element("a", "openapi.json", href="openapi.json"), " · ", element("a", "metrics", href="metrics"))
    without = element("noscript", element("p", "The form needs JavaScript. The models are described in openapi.json."))
    main = element("main", key if needs_key else "", choice, without, form, answer, request)
    body = element("body", element("div", element("header", title, switch, _class="top"), main, links, _class="page"))
    return f"<!DOCTYPE html>\n{element('html', element('head', head), body, lang='en')}\n".encode()


@cache
def policy() -> str:
    """Return the page's Content-Security-Policy: its two scripts by their hashes, requests to this server, and nothing else."""
    hashes = " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in _scripts())
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _scripts() -> tuple[str, str]:
    return reporting.script(), _asset("try.js")


@cache
def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
