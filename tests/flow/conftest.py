"""Two models of one recipe, and the keys that open a server of them."""

import pytest
from tests.live_server import KEYS, train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    return [train(folder, seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"{KEYS['user']}\nadmin:{KEYS['admin']}\n")
    return file
