"""What the loop did: one JSON line for each transition, on disk before the next step begins; a killed process goes on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepseek.artifacts import append_json, plain_disk_errors
from deepseek.errors import RunError

LOOP_FILE = "loop.jsonl"
"""The journal's name in the folder of a run's name."""
ENDED = frozenset({"promoted", "rejected", "rolled_back", "failed", "given_up"})
"""The states in which a round is over; `undone` may still follow `promoted`."""
NOTES = frozenset({"told", "undone"})
"""Lines that change no round's state."""


@dataclass(frozen=True)
class Event:
    """A line of the journal.

    Attributes:
        seq: Its number, from 1.
        at: When, in seconds since 1970.
        round: The number of the round, from 1.
        state: What the round has come to: `begun`, `gathered`, `training`, `made`, `trained`, `unsure`, `gated`, `shadow`, `canary`,
            `waiting`, `approved`, then `promoted`, `rejected`, `rolled_back`, `failed` or `given_up`; or a note, `told` or `undone`.
        why: The reason, in words.
        facts: Figures and names, as plain JSON values.
    """

    seq: int
    at: float
    round: int
    state: str
    why: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the line as plain JSON values."""
        return {"seq": self.seq, "at": self.at, "round": self.round, "state": self.state, "why": self.why, **self.facts}


@dataclass(frozen=True)
class Round:
    """What happened from an alarm on.

    Attributes:
        number: From 1.
        events: Its lines, notes among them.
    """

    number: int
    events: tuple[Event, ...]

    @property
    def state(self) -> str:
        """The state that it has come to."""
        return [event.state for event in self.events if event.state not in NOTES][-1]

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED

    @property
    def began_at(self) -> float:
        """When it began, in seconds since 1970."""
        return self.events[0].at

    @property
    def since(self) -> float:
        """When it came to its state."""
        return [event.at for event in self.events if event.state not in NOTES][-1]

    @property
    def latest(self) -> tuple[Event, ...]:
        """The lines since rows were last gathered: a round whose model was better, but not surely, makes another of more rows."""
        place = max((place for place, event in enumerate(self.events) if event.state == "gathered"), default=0)
        return self.events[place:]

    def last(self, state: str) -> Event | None:
        """Return the last line of a state, or nothing."""
        return next((event for event in reversed(self.events) if event.state == state), None)

    def fact(self, name: str, default: Any = None) -> Any:
        """Return what the latest line that says something under a name says."""
        return next((event.facts[name] for event in reversed(self.events) if name in event.facts), default)


class LoopJournal:
    """The file of a loop's lines.

    Args:
        path: The file. A last line that a kill has cut off is not read; the next `append` takes it away, as only whoever holds the
            loop's lock may change the file: to others that line may be one that is being written.

    Attributes:
        events: The lines.

    Raises:
        RunError: The file cannot be read or written, or a line in its midst is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = _read(path)

    def append(self, state: str, why: str, *, number: int, at: float, facts: Mapping[str, Any] | None = None) -> Event:
        """Add a line, and wait until the disk has it.

        Args:
            state: What the round has come to.
            why: The reason, in words.
            number: The round's number.
            at: When, in seconds since 1970.
            facts: What else there is to say.
        """
        event = Event(len(self.events) + 1, at, number, state, why, dict(facts or {}))
        with plain_disk_errors(self.path):
            _mend(self.path)
        append_json(self.path, event.to_json())
        self.events.append(event)
        return event

    @property
    def rounds(self) -> list[Round]:
        """The rounds, the first one first."""
        return rounds_of(self.events)


def rounds_of(events: Iterable[Event]) -> list[Round]:
    """Return lines by round."""
    by_round: dict[int, list[Event]] = {}
    for event in events:
        by_round.setdefault(event.round, []).append(event)
    return [Round(number, tuple(lines)) for number, lines in sorted(by_round.items())]


def standing(rounds: Sequence[Round], given: str) -> str:
    """Return the run that is deployed by now: the given one, or what was promoted in its place and not taken back.

    Args:
        rounds: The rounds, the first one first.
        given: The name of a run's folder, such as `001`.
    """
    now = given
    for one in rounds:
        if one.state == "promoted" and one.last("undone") is None and one.fact("champion") == now:
            now = str(one.fact("candidate"))
    return now


def untold(events: Sequence[Event]) -> list[Event]:
    """Return what is worth telling and was not told yet."""
    told = max((int(event.facts["up_to"]) for event in events if event.state == "told"), default=0)
    return [event for event in events if event.seq > told and event.state in ENDED | {"waiting", "undone"}]


def _read(path: Path) -> list[Event]:
    if not path.is_file():
        return []
    with plain_disk_errors(path):
        content = path.read_bytes()
    try:
        return [_event(json.loads(line)) for line in content[: content.rfind(b"\n") + 1].splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} is not as the loop wrote it: {error!r}", hint="put it back from a copy, or move it away to begin anew"
        ) from None


def _mend(path: Path) -> None:
    """Take away a last line that was never finished: what is written next would stand in its midst."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)


def _event(line: dict[str, Any]) -> Event:
    known = {name: line.pop(name) for name in ("seq", "at", "round", "state", "why")}
    return Event(**known, facts=line)
