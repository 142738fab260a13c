import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from joblib import cpu_count
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from softline import _kernels, datasets


def pytest_xdist_auto_num_workers(config):
    """Processes that share out the tests: the cores, but none beside this for a run of single files."""
    whole = all(Path(argument).is_dir() for argument in config.args)
    return min(4, cpu_count()) if whole else 0


@pytest.fixture(scope="session", autouse=True)
def ctrl_c():
    """Heard also in the background of a shell, whose jobs begin with deaf ears."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def digits():
    """X, X_test, y, y_test."""
    X, y = load_digits(return_X_y=True)
    return train_test_split(X, y, test_size=0.25, random_state=0, stratify=y)


@pytest.fixture
def isa(request):
    """Kernels of an instruction set, by name; see kernel_harness.py."""
    _kernels._use_isa(request.param)
    yield request.param
    _kernels._use_isa()


@pytest.fixture(params=["raw", "standardised", "huge", "tiny", "offset"])
def digits_at_scale(request, digits):
    """The same with other features; and an alpha that does not outweigh them."""
    X, X_test, y, y_test = digits
    change = {
        "raw": lambda X: X,
        "standardised": StandardScaler().fit(X).transform,
        "huge": lambda X: 1e6 * X,
        "tiny": lambda X: 1e-6 * X,
        "offset": lambda X: X + 1000,
    }[request.param]
    return change(X), change(X_test), y, y_test, 0 if request.param == "tiny" else 1e-4


@pytest.fixture(scope="session")
def data_dir():
    """Folder of the published data sets: $SOFTLINE_DATA."""
    folder = os.environ.get("SOFTLINE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set SOFTLINE_DATA to a folder that has the data sets: mnist/, cifar10/")
    return Path(folder)


@pytest.fixture(scope="session")
def mnist_dir(data_dir):
    folder = data_dir / "mnist"
    if not folder.is_dir():
        pytest.skip("put MNIST's four files into $SOFTLINE_DATA/mnist")
    return folder


@pytest.fixture(scope="session")
def cifar10_dir(data_dir, tmp_path_factory):
    """Folder of cifar-10-batches-py and -bin, unpacked if need be: some 15 s and 370 MB, once a session."""
    folder = data_dir / "cifar10"
    if (folder / "cifar-10-batches-py").is_dir():
        return folder
    unpack = folder / "unpack"
    if not unpack.is_file():
        pytest.skip("unpack CIFAR-10's cifar-10-batches-py into $SOFTLINE_DATA/cifar10")
    pytest.importorskip("PIL")
    unpacked = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, unpack, unpacked], check=True)
    return unpacked


@pytest.fixture(scope="session")
def mnist(mnist_dir):
    return _read_only(datasets.load_mnist(mnist_dir))


@pytest.fixture(scope="session")
def cifar10(cifar10_dir):
    return _read_only(datasets.load_cifar10(cifar10_dir))


def _read_only(data):
    """A data set that tests share."""
    for array in (data.X_train, data.X_val, data.X_test, data.y_train, data.y_val, data.y_test):
        array.flags.writeable = False
    return data
