"""How pages look and the few lines of script that they carry, read from the files beside, and the policy that lets nothing else run."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files


@cache
def style() -> str:
    """Return the style sheet: two themes, of which the reader's system or the button on top chooses one."""
    return files(__package__).joinpath("page.css").read_text(encoding="utf-8")


@cache
def script() -> str:
    """Return the script: the switch of the theme, which is remembered; copying; sorting. A page says everything without it."""
    return files(__package__).joinpath("page.js").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """Return the page's Content-Security-Policy: this script, by its hash, and no other; no request to anywhere."""
    digest = b64encode(sha256(script().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; script-src 'sha256-{digest}'"
    )
