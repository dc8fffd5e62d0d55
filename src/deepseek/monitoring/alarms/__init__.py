"""Where alarms go: a webhook, a file, a command."""

from deepseek.monitoring.alarms.base import Alarm, AlarmEvent

__all__ = ["Alarm", "AlarmEvent"]
