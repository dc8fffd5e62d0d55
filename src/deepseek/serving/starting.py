"""What every server does before it listens."""

from __future__ import annotations

import logging
import socket
import sys

from deepseek.errors import InputError, MissingExtraError

BACKLOG = 2048


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


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        InputError: The address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}", hint="choose another --port, or 0 for any") from None
    listening.setblocking(False)
    listening.set_inheritable(True)
    return listening
