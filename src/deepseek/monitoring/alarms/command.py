"""Alarms as calls of a command."""

from __future__ import annotations

import json
import subprocess
from typing import Annotated

from annotated_types import Gt

from deepseek.errors import RunError
from deepseek.monitoring.alarms.base import Alarm, AlarmEvent


class CommandAlarm(Alarm):
    """Runs a command with the event as JSON on its standard input; no shell is involved.

    Args:
        command: The program and its arguments.
        timeout_s: Seconds after which it is stopped.
    """

    def __init__(self, *, command: list[str], timeout_s: Annotated[float, Gt(0)] = 30.0) -> None:
        self.command, self.timeout_s = command, timeout_s

    def send(self, event: AlarmEvent) -> None:
        """Run the command.

        Raises:
            RunError: It is not there, fails, or takes too long.
        """
        text = json.dumps(event.to_json(), ensure_ascii=False).encode()
        try:
            done = subprocess.run(self.command, input=text, capture_output=True, timeout=self.timeout_s, check=False)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise RunError(f"the alarm's command {self.command[0]!r} did not run: {error}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise RunError(f"the alarm's command {self.command[0]!r} ended with status {done.returncode}: {said}")
