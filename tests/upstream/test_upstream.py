"""scikit-learn's own tests of classes pass against softline's."""

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import sklearn
from sklearn.utils.fixes import parse_version


@pytest.mark.skipif(
    importlib.util.find_spec("sklearn.linear_model.tests") is None,
    reason="scikit-learn came without its tests",
)
@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="the exclusions are those of its 1.9"
)
@pytest.mark.parametrize(
    ("name", "tests", "share", "fewest", "fewest_private"),
    [
        ("LogisticRegression", "sklearn.linear_model.tests.test_logistic", 0.94, 200, 1),
        ("MLPClassifier", "sklearn.neural_network.tests.test_mlp", 0.8, 35, 0),
        ("KNeighborsClassifier", "sklearn.neighbors.tests.test_neighbors", 1, 100, 0),
        ("RidgeClassifier", "sklearn.linear_model.tests.test_ridge", 1, 30, 0),
    ],
)
def test_upstream(name, tests, share, fewest, fewest_private, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    options = ["-q", "-c", "pytest.ini", "--rootdir", Path(sklearn.__file__).parents[1], "-W", "ignore"]
    options += ["-p", "no:cacheprovider", "-p", "swap", "--swap", name, "--pyargs", tests]
    path = os.pathsep.join([str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    halves = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, "--half", str(half), "--counts", f"{half}.json"],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for half in (0, 1)
    ]
    counts = Counter()
    for half, process in enumerate(halves):
        output, _ = process.communicate()
        assert process.returncode == 0, output[-5000:]
        counts.update(json.loads((tmp_path / f"{half}.json").read_text()))
    print(dict(counts))
    assert counts["public passed"] >= share * (counts["public passed"] + counts["public xfailed"])
    assert counts["public passed"] >= fewest and counts["private passed"] >= fewest_private  # they did run
