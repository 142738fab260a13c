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
from upstream.swap import SWAPS


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """Of outcomes, by class: from two processes, each of which runs every other test."""
    folder = tmp_path_factory.mktemp("upstream")
    (folder / "pytest.ini").write_text("[pytest]\n")
    options = ["-q", "-c", "pytest.ini", "--rootdir", Path(sklearn.__file__).parents[1], "-W", "ignore"]
    options += ["-p", "no:cacheprovider", "-p", "upstream.swap"]
    options += ["--pyargs", *(swap.tests for swap in SWAPS.values())]
    paths = str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    halves = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, "--half", str(half), "--counts", f"{half}.json"],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for half in (0, 1)
    ]
    total = {name: Counter() for name in SWAPS}
    outputs = [process.communicate()[0] for process in halves]
    for half, process in enumerate(halves):
        assert process.returncode == 0, outputs[half][-5000:]
        for name, counts in json.loads((folder / f"{half}.json").read_text()).items():
            total[name].update(counts)
    return total


@pytest.mark.skipif(
    importlib.util.find_spec("sklearn.linear_model.tests") is None,
    reason="scikit-learn came without its tests",
)
@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="the exclusions are those of its 1.9"
)
@pytest.mark.parametrize(
    ("name", "share", "fewest", "fewest_private"),
    [
        ("LogisticRegression", 0.94, 200, 1),
        ("MLPClassifier", 0.8, 35, 0),
        ("KNeighborsClassifier", 1, 100, 0),
        ("RidgeClassifier", 1, 30, 0),
    ],
)
def test_upstream(counts, name, share, fewest, fewest_private):
    of_class = counts[name]
    print(dict(of_class))
    assert of_class["public passed"] >= share * (of_class["public passed"] + of_class["public xfailed"])
    assert (
        of_class["public passed"] >= fewest and of_class["private passed"] >= fewest_private
    )  # they did run
