"""Alarms as requests to a web address."""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPException
from typing import Annotated
from urllib.parse import urlsplit

from annotated_types import Gt

from deepseek.errors import InputError, RunError
from deepseek.monitoring.alarms.base import Alarm, AlarmEvent


class WebhookAlarm(Alarm):
    """Posts each event as JSON to an address.

    Args:
        url: The address, `http` or `https`.
        headers: Further headers, such as a key; in a recipe `${ENV:NAME}` takes it from the environment.
        timeout_s: Seconds after which the request is given up.
    """

    def __init__(self, *, url: str, headers: dict[str, str] | None = None, timeout_s: Annotated[float, Gt(0)] = 10.0) -> None:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise InputError(f"the webhook's address is {url!r}", hint="it begins with http:// or https://")
        self.url, self.headers, self.timeout_s = url, dict(headers or {}), timeout_s

    def send(self, event: AlarmEvent) -> None:
        """Post the event.

        Raises:
            RunError: The address cannot be reached, or does not answer with a status of success.
        """
        body = json.dumps(event.to_json(), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(self.url, data=body, headers=headers, method="POST")  # noqa: S310 - the scheme was checked
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s):  # noqa: S310
                pass
        except (OSError, HTTPException, ValueError) as error:
            raise RunError(f"the webhook {urlsplit(self.url).hostname} did not take the alarm: {error}") from None
