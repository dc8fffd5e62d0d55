"""The examples that no page runs."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_parts_work_in_a_loop_of_ones_own(tmp_path):
    command = [sys.executable, str(EXAMPLES / "parts.py"), str(tmp_path / "parts")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(printed.split("auc ")[1].split(",")[0]) > 0.97
    assert "probability_malignant" in printed
