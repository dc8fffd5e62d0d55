"""A server of ingest over an empty folder."""

import pytest
from tests.unit.serving.intake.sending import Server


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "in")
