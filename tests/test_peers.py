import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "peers.py"

pytestmark = pytest.mark.skipif(
    not SCRIPT.exists() or not hasattr(os, "sched_setaffinity"), reason="needs benchmarks/ and Linux"
)


@pytest.mark.parametrize("options", [("--shapes", "tiny", "--batch-sizes", "256", "full"), ("--predict",)])
def test_peers_agree_and_are_timed(options, tmp_path):
    out = tmp_path / "times.json"
    command = [sys.executable, SCRIPT, *options, "--peers", "numpy", "--repeats", "1", "--json", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = json.loads(out.read_text())["records"]
    assert len(records) == 2
    assert all(record["ratio"]["numpy"] > 0 for record in records)
