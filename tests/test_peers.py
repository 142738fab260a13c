import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "peers.py"

pytestmark = pytest.mark.skipif(
    not SCRIPT.exists() or not hasattr(os, "sched_setaffinity"), reason="needs benchmarks/ and Linux"
)


@pytest.mark.parametrize("options", [("--batch-sizes", "256", "full"), ("--predict",)])
def test_peers_agree_and_are_timed(options, tmp_path):
    out = tmp_path / "times.json"
    command = [
        sys.executable,
        SCRIPT,
        "--shapes",
        "tiny",
        *options,
        "--peers",
        "numpy",
        "--repeats",
        "1",
        "--json",
        out,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = json.loads(out.read_text())["records"]
    assert len(records) == 2
    for record in records:
        seconds, median = record["seconds"], record["median"]
        assert set(seconds) == set(median) == set(record["ratio"]) >= {"softline", "numpy"}
        for name in seconds:
            assert len(seconds[name]) >= 1 and min(seconds[name]) > 0
            assert median[name] == statistics.median(seconds[name])
        assert record["ratio"]["numpy"] == pytest.approx(median["numpy"] / median["softline"], rel=1e-12)


def test_the_table_names_the_best_peer_and_the_share_of_the_peak():
    command = [sys.executable, SCRIPT, "--shapes", "tiny", "--peers", "numpy", "--repeats", "1", "--table"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    head, _, row, *_ = done.stdout.splitlines()
    assert head.split(" | ")[4:6] == ["of the FMA peak", "best peer"]
    cells = row.strip("| ").split(" | ")
    assert cells[0] == "tiny" and cells[4].endswith("%") and cells[5] == "NumPy"
    assert float(cells[7].rstrip("x")) == pytest.approx(float(cells[6]) / float(cells[3]), rel=0.02)
    assert ", blas " in done.stdout
