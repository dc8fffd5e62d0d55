"""The small parts of `tests/small.py`, as a fixture."""

from tests.small import small  # noqa: F401 (pytest looks for it here)
