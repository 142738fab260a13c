"""benchmarks/notebooks.py on a notebook made here; the course's own are not part of the project."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "notebooks.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="needs benchmarks/")

CELLS = [
    "from google.colab import drive\ndrive.mount('/content/drive')",
    "# This cell has a comment only.",
    "%matplotlib inline\nimport numpy as np\nfrom cs231n.classifiers.fc_net import *\n"
    "from cs231n.data_utils import load_CIFAR10\nfrom cs231n.solver import Solver\n%load_ext autoreload",
    "X_train, y_train, X_test, y_test = load_CIFAR10('cs231n/datasets/cifar-10-batches-py')\n"
    "assert X_train.shape == (10, 32, 32, 3)",
    "X = X_train / 255\n"
    "model = FullyConnectedNet([8], num_classes=10, normalization='batchnorm', dtype=np.float64)\n"
    "data = {'X_train': X, 'y_train': y_train, 'X_val': X, 'y_val': y_train}\n"
    "solver = Solver(model, data, batch_size=5, num_epochs=1)\nsolver.train()",
    "best_model = None\n# *****START OF YOUR CODE*****\n# *****END OF YOUR CODE*****",
    "best_model.save('best_model.npy')",
    "model.save('model.npy')\nassert model.load('model.npy')\n!ls cs231n/saved",
]


def write_notebook(path, cells):
    written = [{"cell_type": "markdown", "source": ["# A title\n", "that is not code\n"]}]
    written += [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    path.write_text(json.dumps({"cells": written, "nbformat": 4}))


def call(*arguments, **env):
    command = [sys.executable, SCRIPT, *arguments]
    clean = {key: value for key, value in os.environ.items() if key != "SOFTLINE_CS231N"}
    return subprocess.run(
        command, env=clean | env | {"COLUMNS": "200"}, capture_output=True, text=True, check=False
    )


def test_cells_of_a_notebook_are_counted(tmp_path):
    (tmp_path / "assignment1").mkdir()
    write_notebook(tmp_path / "assignment1" / "deep.ipynb", CELLS)
    data = tmp_path / "data"
    data.mkdir()
    records = np.random.default_rng(0).integers(0, 256, (12, 3073), np.uint8)
    records[:, 0] = np.arange(12) % 10
    for i, name in enumerate([*(f"data_batch_{j}" for j in range(1, 6)), "test_batch"]):
        records[2 * i : 2 * i + 2].tofile(data / f"{name}.bin")
    done = call(SOFTLINE_CS231N=str(tmp_path), SOFTLINE_DATA=str(data))
    assert done.returncode == 0, done.stderr
    (row,) = (line for line in done.stdout.splitlines() if "deep.ipynb" in line)
    notebook, n_cells, n_passed, error = (word.strip() for word in row.strip("│ ").split("│"))
    assert (notebook, n_cells, n_passed) == ("assignment1/deep.ipynb", "6", "5")
    assert error == "cell 5: AttributeError: 'NoneType' object has no attribute 'save'"
    assert sorted(path.name for path in (tmp_path / "assignment1").iterdir()) == ["deep.ipynb"]
    verbose = call(tmp_path / "assignment1", "--verbose", SOFTLINE_DATA=str(data))
    assert "(Epoch 1 / 1) train acc:" in verbose.stderr and "model.npy loaded." in verbose.stderr


def test_no_notebooks(tmp_path):
    for arguments in ((), (str(tmp_path),)):
        done = call(*arguments)
        assert done.returncode == 2
        assert "no .ipynb files; name a folder, or set SOFTLINE_CS231N to one" in done.stderr
