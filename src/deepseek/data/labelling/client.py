"""Talking to a Label Studio server over its REST API."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from deepseek.errors import DataError, InputError, RunError

TOKEN = "LABEL_STUDIO_API_KEY"  # noqa: S105 - the name of the variable
"""The environment variable that holds the access token; it stands in no recipe and no file."""
_PUSHED_AT_ONCE = 250


class LabelStudio:
    """A server.

    Both kinds of token are taken: the legacy one, and personal access tokens, which are exchanged for a short one.

    Args:
        url: Where the server is: `http://localhost:8080`.
        token: The access token; that of the environment variable `LABEL_STUDIO_API_KEY` where not given.
        timeout_s: Seconds until an answer must have begun.

    Raises:
        InputError: There is no token, or the URL is none.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = 60.0) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise InputError(f"the server is given as {url!r}", hint="such as http://localhost:8080")
        given = token or os.environ.get(TOKEN)
        if not given:
            raise InputError(f"there is no token for {url}", hint=f"put it into the environment variable {TOKEN}")
        self.url, self._token, self._timeout_s = url.rstrip("/"), given, timeout_s
        self._access: str | None = None

    def create_project(self, title: str, config: str) -> int:
        """Make a project and return its number.

        Args:
            title: Its title, of at least three characters.
            config: The labelling set-up, XML.
        """
        return int(self._ask("POST", "/api/projects/", {"title": title, "label_config": config})["id"])

    def config(self, project: int) -> str:
        """Return a project's labelling set-up."""
        return str(self._ask("GET", f"/api/projects/{project}/")["label_config"])

    def push(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> int:
        """Add tasks to a project, with their pre-annotations, and return how many there were."""
        done = 0
        for start in range(0, len(tasks), _PUSHED_AT_ONCE):
            part = [dict(task) for task in tasks[start : start + _PUSHED_AT_ONCE]]
            self._ask("POST", f"/api/projects/{project}/import", part)
            done += len(part)
        return done

    def data(self, project: int) -> list[dict[str, Any]]:
        """Return what is to be labelled in each task of a project."""
        return [dict(task["data"]) for task in json.loads(self.export(project))]

    def export(self, project: int) -> str:
        """Return a project's export as JSON, tasks without annotations among them."""
        query = urllib.parse.urlencode({"exportType": "JSON", "download_all_tasks": "true"})
        return self._send("GET", f"/api/projects/{project}/export?{query}", None, self._authorization()).decode("utf-8")

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        return json.loads(self._send(method, path, body, self._authorization()) or b"null")

    def _authorization(self) -> str:
        if self._token.count(".") != 2:
            return f"Token {self._token}"
        if self._access is None:
            self._access = str(json.loads(self._send("POST", "/api/token/refresh", {"refresh": self._token}, None))["access"])
        return f"Bearer {self._access}"

    def _send(self, method: str, path: str, body: object, authorization: str | None) -> bytes:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if authorization is not None:
            headers["Authorization"] = authorization
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)  # noqa: S310 - http and https alone
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:  # noqa: S310 - as above
                found: bytes = response.read()
                return found
        except urllib.error.HTTPError as error:
            raise _refusal(error, self.url) from None
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise RunError(f"{self.url} cannot be reached: {reason}", hint="is the server running there?") from None


def _refusal(error: urllib.error.HTTPError, url: str) -> Exception:
    said = error.read().decode("utf-8", errors="replace")[:500]
    if error.code in (401, 403):
        return InputError(f"{url} refuses the token ({error.code})", hint=f"see the environment variable {TOKEN}")
    if error.code == 404:
        return DataError(f"{url} has no such project ({error.code})", hint="its number stands in the address of its page")
    return RunError(f"{url} answers {error.code}: {said}")
