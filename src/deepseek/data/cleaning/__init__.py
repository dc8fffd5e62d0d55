"""Steps that repair values, one in each file; `contract.py` holds the suite that a plugin's cleaner must pass."""

from deepseek.data.cleaning.base import Cleaner

__all__ = ["Cleaner"]
