"""CIFAR-10 as the course hands it to its classifiers; :mod:`softline.datasets` reads the files."""

from __future__ import annotations

import os

import numpy as np

from softline import datasets
from softline._data.images import CIFAR10_SHAPE
from softline._typing import Array, PathLike

__all__ = ["get_CIFAR10_data", "load_CIFAR10"]


def load_CIFAR10(ROOT: PathLike) -> tuple[Array, Array, Array, Array]:
    """All of CIFAR-10, in the order of its files.

    Parameters
    ----------
    ROOT : path-like
        The folder of the batches, or one that `softline.datasets.load_cifar10` finds them in.

    Returns
    -------
    Xtr, Ytr, Xte, Yte : ndarrays
        Images (50000, 32, 32, 3) and (10000, 32, 32, 3) float64, 0..255, and their labels 0..9, int64.
    """
    data = datasets.load_cifar10(ROOT, validation_fraction=0)
    Xtr, Xte = (
        _images(X).transpose(0, 2, 3, 1).astype(np.float64, order="C") for X in (data.X_train, data.X_test)
    )
    return Xtr, data.y_train, Xte, data.y_test


def get_CIFAR10_data(
    num_training: int = 49000,
    num_validation: int = 1000,
    num_test: int = 1000,
    subtract_mean: bool = True,
    *,
    cifar10_dir: PathLike | None = None,
) -> dict[str, Array]:
    """CIFAR-10 for a `Solver`: split, the mean image of the training part subtracted, channels first.

    Parameters
    ----------
    num_training, num_validation, num_test : int
        The first of the training batches, those after them, and the first of the test batch.
    subtract_mean : bool, default=True
    cifar10_dir : path-like, default=None
        As for `load_CIFAR10`. None: the environment variable SOFTLINE_DATA or, where it is not set, the
        course's ``cs231n/datasets`` in the current directory.

    Returns
    -------
    data : dict
        "X_train", "X_val", "X_test", float64 of shape (n, 3, 32, 32), and "y_train", "y_val", "y_test".
    """
    if cifar10_dir is None:
        cifar10_dir = os.environ.get("SOFTLINE_DATA", os.path.join("cs231n", "datasets"))
    data = datasets.load_cifar10(cifar10_dir, validation_fraction=0)
    training, validation = slice(num_training), slice(num_training, num_training + num_validation)
    parts = {
        "train": (data.X_train[training], data.y_train[training]),
        "val": (data.X_train[validation], data.y_train[validation]),
        "test": (data.X_test[:num_test], data.y_test[:num_test]),
    }
    mean = parts["train"][0].mean(axis=0) if subtract_mean else 0.0
    return {f"X_{part}": _images(X - mean) for part, (X, _) in parts.items()} | {
        f"y_{part}": y for part, (_, y) in parts.items()
    }


def _images(X: Array) -> Array:
    return X.reshape(-1, *CIFAR10_SHAPE)
