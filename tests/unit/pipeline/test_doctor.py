import json
import sys
from importlib.util import find_spec

import pytest

from deepseek.pipeline.doctor import doctor


def test_doctor_describes_the_machine_in_plain_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_DATA", "/somewhere")
    found = doctor()
    assert json.loads(json.dumps(found)) == found
    assert found["environment"]["DEEPSEEK_DATA"] == "/somewhere"
    assert found["libraries"]["torch"]
    assert found["cpu"]["threads"] >= 1
    assert found["disk"]["free_bytes"] > 0
    assert found["components"]["optimizer"] == 7
    assert found["accelerator_libraries"]["tpu"] == (find_spec("torch_xla") is not None)


def test_a_missing_extra_comes_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[doctor.__module__]  # the package's attribute of this name is the function
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    extra = doctor()["extras"]["tensorboard"]
    assert extra == {"present": False, "extra": "track", "install": "pip install 'deepseek-framework[track]'"}
