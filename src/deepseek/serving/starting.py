"""What every server does before it listens."""

from __future__ import annotations

import logging
import sys

from deepseek.errors import MissingExtraError


def require_libraries(feature: str) -> None:
    """Check that what servers need is installed.

    Args:
        feature: What it is needed for.

    Raises:
        MissingExtraError: It is not.
    """
    for library in ("orjson", "uvicorn", "httptools", "uvloop"):
        try:
            __import__(library)
        except ImportError:
            raise MissingExtraError(library, "serve", feature) from None


def log_to_stderr(log: logging.Logger) -> None:
    """Let a log be seen, where whoever began the server has not said where it goes."""
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
