"""A client for programs: ask a server, tell it of outcomes, and lead its experiments; with the standard library alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from deepseek.errors import InputError, RunError

TIMEOUT_S = 120.0
_NO_KEY = 401
_WHERE_KEYS_GO = "give the right one: Client(url, key), or --key or DEEPSEEK_KEY on the command line; without admin:"


class ServerError(RunError):
    """A server refused, or could not be reached.

    Args:
        message: What it said.
        hint: What to do about it.
        status: The HTTP status; 0 where no answer came.
    """

    def __init__(self, message: str, *, hint: str | None = None, status: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Client:
    """Asks one server.

    Args:
        url: Where it is: `http://127.0.0.1:8000`.
        key: The key that it wants; experiments are led with one of the kind `admin:KEY`, given without `admin:`.
        timeout_s: How long an answer may take.

    Raises:
        InputError: The address is none.

    Example:
        >>> Client("http://127.0.0.1:8000").url
        'http://127.0.0.1:8000'
    """

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"the server's address is {url!r}", hint="give one like http://127.0.0.1:8000")
        self.url, self._key, self._timeout_s = url.rstrip("/"), key, timeout_s

    def predict(self, name: str, rows: Mapping[str, Any] | Sequence[Mapping[str, Any]], *, key: str | None = None) -> dict[str, Any]:
        """Return the answer to one row or to many.

        Args:
            name: The model.
            rows: One row, or several.
            key: Whom they are about, where an experiment divides by that.

        Raises:
            ServerError: It refused, or could not be reached.
        """
        given = rows if isinstance(rows, Mapping) else list(rows)
        return self._ask("POST", f"/v1/models/{quote(name)}/predict", given, {} if key is None else {"X-Experiment-Key": key})

    def feedback(self, name: str, outcomes: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Tell what became of answers.

        Args:
            name: The model.
            outcomes: Each `id` with `label`, `reward` or both.

        Raises:
            ServerError: It refused, or could not be reached.
        """
        given = outcomes if isinstance(outcomes, Mapping) else list(outcomes)
        return self._ask("POST", f"/v1/models/{quote(name)}/feedback", given)

    def describe(self, name: str) -> dict[str, Any]:
        """Return what a model is: its version, fields and classes.

        Args:
            name: The model.

        Raises:
            ServerError: There is no such model, or the server could not be reached.
        """
        return self._ask("GET", f"/v1/models/{quote(name)}")

    def load(self, name: str, path: str, *, force: bool = False) -> dict[str, Any]:
        """Let a model's address be answered by another bundle.

        Args:
            name: The model.
            path: The bundle, as the server sees it.
            force: Whether it may predict something else, or ask for fields that clients did not have to send.

        Raises:
            ServerError: It refused, or could not be reached.
        """
        return self._ask("POST", f"/admin/models/{quote(name)}/load", {"path": path, **({"force": True} if force else {})})

    def start(self, name: str, arms: Mapping[str, str], **settings: Any) -> dict[str, Any]:
        """Begin an experiment.

        Args:
            name: The model that is served.
            arms: The others by name: runs or bundles, as the server sees them.
            settings: Further keys of `serve.experiment`: `share`, `role`, `key_field`, `metric`, `guard` …

        Raises:
            ServerError: It refused, or could not be reached.
        """
        return self._ask("POST", f"/admin/models/{quote(name)}/experiment", {"arms": dict(arms), **settings})

    def status(self, name: str, *, leading: bool = False) -> dict[str, Any]:
        """Return the experiment that runs or was the last one, with what was found so far; without an admin key, without paths.

        Args:
            name: The model that is served.
            leading: Whether a key that may not lead experiments is refused.

        Raises:
            ServerError: There was none, or the server could not be reached.
        """
        try:
            return self._ask("GET", f"/admin/models/{quote(name)}/experiment")
        except ServerError as error:
            if error.status != 403 or leading:
                raise
            return self._ask("GET", f"/v1/models/{quote(name)}/experiment")

    def share(self, name: str, share: float, *, arm: str | None = None) -> dict[str, Any]:
        """Give a challenger another share, or a shadow its first one.

        Args:
            name: The model that is served.
            share: From 0 to 1.
            arm: Which arm; may be left out where there is one only.

        Raises:
            ServerError: It refused, or could not be reached.
        """
        return self._ask("POST", f"/admin/models/{quote(name)}/experiment/share", {"share": share, **_named(arm)})

    def promote(self, name: str, *, arm: str | None = None) -> dict[str, Any]:
        """Make an arm the model.

        Args:
            name: The model that is served.
            arm: Which arm; may be left out where there is one only.

        Raises:
            ServerError: It refused, or could not be reached.
        """
        return self._ask("POST", f"/admin/models/{quote(name)}/promote", _named(arm))

    def rollback(self, name: str) -> dict[str, Any]:
        """End the experiment and keep the champion; where none runs, go back to the model that was there before.

        Args:
            name: The model that is served.

        Raises:
            ServerError: It refused, or could not be reached.
        """
        return self._ask("POST", f"/admin/models/{quote(name)}/rollback", {})

    def stop(self, name: str) -> dict[str, Any]:
        """End the experiment and keep the champion.

        Args:
            name: The model that is served.

        Raises:
            ServerError: It refused, or could not be reached.
        """
        return self._ask("POST", f"/admin/models/{quote(name)}/experiment/stop", {})

    def _ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        sent = {"Content-Type": "application/json", **(headers or {})}
        if self._key is not None:
            sent["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, sent, method=method)  # noqa: S310 - http and https alone
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:  # noqa: S310 - as above
                found: dict[str, Any] = json.load(response)
                return found
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ServerError(
                f"the server {self.url} cannot be reached: {reason}", hint="is it running, and is this its address?"
            ) from None
        except ValueError:
            raise ServerError(f"{self.url}{path} answered with something that is no JSON", hint="is this a server of deepseek?") from None


def _named(arm: str | None) -> dict[str, str]:
    return {} if arm is None else {"arm": arm}


def _refusal(error: urllib.error.HTTPError) -> ServerError:
    try:
        told = json.load(error)
        hint = _WHERE_KEYS_GO if error.code == _NO_KEY else told.get("hint")  # the server names a header, which nobody here writes
        return ServerError(str(told["detail"]), hint=hint, status=error.code)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ServerError(f"the server answered with status {error.code}", status=error.code)
