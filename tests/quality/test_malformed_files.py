"""Five hundred damaged files of each format: each is read with every record accounted for, or refused with an error of ours."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.quality.damage import FORMATS

ROOT = Path(__file__).parents[2]
LEAST = dict.fromkeys(FORMATS, 90) | {"csv": 250, "jsonl": 250, "folder": 250, "csv.gz": 40, "csv.zip": 40}
"""How many have to be readable: a source that refuses everything loses nothing either."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_read_whole_or_refused(kind, tmp_path):
    """Rows and rejects are as many as the records that another reader finds, with the same values; no crash, no error of another's."""
    program = [sys.executable, "-m", "tests.quality.damage", kind, str(tmp_path), "500"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, f"a library took the process with it: {done.returncode}\n{done.stderr[-2000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert not found["wrong"], "\n".join(found["wrong"][:20])
    assert found["read"] + found["refused"] == 500
    assert found["read"] >= LEAST[kind]
    assert found["refused"] > 5
