"""Watching a model in production: inputs, answers and, once they are known, mistakes, against what the bundle says of training."""

from deepseek.monitoring.reference import REFERENCE_FILE, ModelReference
from deepseek.monitoring.settings import MonitorSettings
from deepseek.monitoring.store import Store
from deepseek.monitoring.watcher import Watcher, open_store

__all__ = ["REFERENCE_FILE", "ModelReference", "MonitorSettings", "Store", "Watcher", "open_store"]
