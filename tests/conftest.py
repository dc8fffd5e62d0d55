"""What holds for every test."""

import os
import signal
import sys

import hypothesis
import pytest

from deepseek.components import FAMILIES
from deepseek.registry import family

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when Keras is imported, which some tests do before this project does

# a machine may be as slow as it likes: tests judge answers, not times; what else holds (CI draws the same examples each time) stays
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c():
    """Let SIGINT mean Ctrl-C also where the suite runs in the background of a shell, which ignores it there, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def plugins_forgotten():
    """Forget, after the test, what plugins it loaded: names that they registered, and their modules."""
    families = [family(name) for name in FAMILIES]
    before = [dict(one._added) for one in families]
    yield
    for one, added in zip(families, before, strict=True):
        one._added = added
    for name in [name for name in sys.modules if name.startswith("deepseek_plugin_")]:
        del sys.modules[name]
