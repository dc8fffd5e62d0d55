"""What holds for every test."""

import signal

import hypothesis
import pytest

# a machine may be as slow as it likes: tests judge answers, not times; what else holds (CI draws the same examples each time) stays
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c():
    """Let SIGINT mean Ctrl-C also where the suite runs in the background of a shell, which ignores it there, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
