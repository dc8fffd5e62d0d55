"""Telling people of what the loop has done."""

from __future__ import annotations

from deepseek import progress
from deepseek.errors import RunError
from deepseek.monitoring.alarms.base import AlarmEvent
from deepseek.monitoring.settings import build_alarms
from deepseek.pipeline.closed_loop.champion import Champion
from deepseek.pipeline.closed_loop.journal import LoopJournal, untold


def tell(journal: LoopJournal, champion: Champion, *, now: float) -> None:
    """Tell of what was not told yet, the ways that the recipe's `monitor.notify` names; one that fails is tried again later.

    Args:
        journal: What happened; that it was told is written there.
        champion: The model that is deployed.
        now: The time in seconds.
    """
    events = untold(journal.events)
    alarms = build_alarms(champion.settings) if events else []
    for event in events:
        good = event.state == "promoted"
        alarm = AlarmEvent(
            f"loop:{event.state}",
            "cleared" if good else "raised",
            event.at,
            event.why,
            model=str(champion.bundle.path),
            facts=event.to_json(),
        )
        try:
            for way in alarms:
                way.send(alarm)
        except RunError as error:
            progress.warn(error.message)
            return
        journal.append("told", f"{event.state} was told", number=event.round, at=now, facts={"up_to": event.seq})
