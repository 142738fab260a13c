import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.skipif(
    not BENCHMARKS.exists() or not hasattr(os, "sched_setaffinity"), reason="needs benchmarks/ and Linux"
)


def test_minimum_is_proven_and_reached(tmp_path):
    out = tmp_path / "curves.json"
    command = [sys.executable, BENCHMARKS / "convergence.py", "--problems", "digits", "--json", out]
    command += ["--solvers", "softline", "sklearn", "--limit", "inf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    entry = json.loads(out.read_text())["problems"]["digits"]
    value, bound = entry["minimum"]["value"], entry["minimum"]["bound"]
    assert bound <= value * (1 + 1e-12)
    assert value - bound < 1e-7 * value
    for runs in entry["curves"].values():
        assert min(runs[0]["values"]) < (1 + 1e-5) * value
        assert min(runs[0]["values"]) > bound * (1 - 1e-12)


def test_bound_lies_below_every_point(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import convergence

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 5)).astype(np.float32), np.arange(60) % 3
    bounds, values = [], []
    for scale in (0, 1e-3, 1e-2):
        W, b = scale * rng.standard_normal((3, 5)), scale * rng.standard_normal(3)
        value, bound = convergence.objective(X, y, 0.1, W, b, certify=True)
        assert value == pytest.approx(convergence.objective(X, y, 0.1, W, b))
        values.append(value)
        bounds.append(bound)
    assert max(bounds) < min(values)
    assert np.isfinite(max(bounds))
