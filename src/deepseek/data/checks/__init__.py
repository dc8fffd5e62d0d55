"""Rules that say which rows are bad, one in each file; `contract.py` holds the suite that a plugin's check must pass."""

from deepseek.data.checks.base import Check, OnFail

__all__ = ["Check", "OnFail"]
