"""Data sets, split by class: digits, MNIST, CIFAR-10 and files of your own.

Nothing is downloaded, and nothing in a file is believed before it is checked: what is damaged, short or
hostile raises `DataError`, one line that says where; what is hardly meant to be trained on, `DataWarning`.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from softline._data.files import DataError, Part, existing
from softline._data.images import (
    CIFAR10_CLASSES,
    CIFAR10_SHAPE,
    find_cifar10,
    read_cifar10_binary,
    read_cifar10_pickle,
    read_mnist,
)
from softline._data.sealed import Look, SealedTestSet, TestSetWarning, sealed
from softline._data.tables import (
    FILE_TYPES,
    DataWarning,
    Table,
    check_labels_are_classes,
    counting_columns,
    read_matrix,
    read_npz,
    read_pair,
    read_table,
    warn_of_identifiers,
    without_row_numbers,
)
from softline._kernels.rows import kernels_read
from softline._typing import Array, PathLike, RandomState

__all__ = [
    "DataError",
    "DataWarning",
    "Dataset",
    "Features",
    "Look",
    "SealedTestSet",
    "TestSetWarning",
    "load",
    "load_cifar10",
    "load_digits",
    "load_file",
    "load_mnist",
    "make_red_pandas",
    "make_spiral",
    "read_features",
    "sealed",
    "source_files",
]


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Rows and labels of a classification problem, split into training, validation and test parts.

    A part is empty, with `X` of shape (0, n_features), only if its fraction was set to 0.

    Attributes
    ----------
    name : str
        "digits", "mnist", "cifar10", or the name of a file.
    X_train, X_val, X_test : ndarray of shape (n_samples, n_features), of a dtype that the kernels read
        Features as stored, neither centred nor scaled: pixels are 0..255, those of digits 0..16.
    y_train, y_val, y_test : ndarray of shape (n_samples,), int64, float64, bool or str
        Labels.
    feature_names : list of str or None
        Names of the columns, where the source has some.
    class_names : list of str or None
        Name of class k at position k, for labels 0..C-1; None where labels are their own names.
    image_shape : tuple of int or None
        A row's shape as an image: (height, width) or, channel-major, (3, height, width).
    label_name : str or None
        Name of the label's column in a file; "column 4", counted from 0, if it has none.
    """

    name: str
    X_train: np.ndarray
    y_train: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    feature_names: list[str] | None = None
    class_names: list[str] | None = None
    image_shape: tuple[int, ...] | None = None
    label_name: str | None = None

    @property
    def parts(self) -> dict[str, Part]:
        """X and y of "training", "validation" and "test"."""
        return {
            "training": (self.X_train, self.y_train),
            "validation": (self.X_val, self.y_val),
            "test": (self.X_test, self.y_test),
        }

    def __repr__(self) -> str:
        parts = ", ".join(f"{len(y)} {name}" for name, (_, y) in self.parts.items()) + " rows"
        label = "" if self.label_name is None else f", label {self.label_name!r}"
        return f"<Dataset {self.name!r}: {parts} of {self.X_train.shape[1]} features{label}>"


class Features(NamedTuple):
    """Rows to predict.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features), of a dtype that the kernels read
        Features.
    y : ndarray of shape (n_samples,) or None
        Labels, if there are any.
    feature_names : list of str or None
        Names of the columns, if there is a header.
    """

    X: np.ndarray
    y: np.ndarray | None
    feature_names: list[str] | None


def load(
    name: PathLike,
    *,
    data_dir: PathLike | None = None,
    label: int | str | None = None,
    random_state: RandomState = 0,
) -> Dataset:
    """Load a data set by name, or a file by path.

    Parameters
    ----------
    name : str or path-like
        "digits", "mnist", "cifar10", or the path of a .csv, .npy or .npz file.
    data_dir : path-like, default=None
        Folder of MNIST and CIFAR-10, as for `load_mnist` and `load_cifar10`. None means the environment
        variable SOFTLINE_DATA or, where that is not set, "data" in the current directory.
    label : int or str, default=None
        Label column of a file, as for `load_file`.
    random_state : int, RandomState instance or None, default=0
        Seed of the splits.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        If the data set or the file is not there.
    ValueError
        If `name` is neither a data set nor a file, or `label` is given for a data set.
    DataError
        If a file is damaged.
    """
    if name not in ("digits", "mnist", "cifar10"):
        if Path(name).suffix.lower() not in FILE_TYPES and not Path(name).exists():
            raise ValueError(
                f"unknown data set {str(name)!r}; expected digits, mnist, cifar10 or a .csv, .npy, .npz file"
            )
        return load_file(name, label=label, random_state=random_state)
    if label is not None:
        raise ValueError(f"label={label!r} chooses a column of a file, and {name} is not one")
    if name == "digits":
        return load_digits(random_state=random_state)
    load_images = load_mnist if name == "mnist" else load_cifar10
    return load_images(_data_dir(data_dir), random_state=random_state)


def load_digits(
    *, validation_fraction: float = 0.1, test_fraction: float = 0.2, random_state: RandomState = 0
) -> Dataset:
    """Load the 1797 handwritten digits of 8x8 pixels that come with scikit-learn.

    Parameters
    ----------
    validation_fraction : float, default=0.1
        Share of the rows outside the test part that become the validation part.
    test_fraction : float, default=0.2
        Share of all rows that become the test part.
    random_state : int, RandomState instance or None, default=0
        Seed of the splits.

    Returns
    -------
    Dataset
        Features are float32, 0..16.
    """
    from sklearn import datasets

    X, y = datasets.load_digits(return_X_y=True)
    return _split(
        "digits",
        X.astype(np.float32),
        y.astype(np.int64),
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        random_state=random_state,
        image_shape=(8, 8),
    )


def load_mnist(path: PathLike, *, validation_fraction: float = 0.1, random_state: RandomState = 0) -> Dataset:
    """Load MNIST, or a set published in its place such as Fashion-MNIST, from four idx files.

    Parameters
    ----------
    path : path-like
        Folder with the files, or with a folder ``mnist`` that has them: train-images-idx3-ubyte,
        train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or with
        ``.gz``, also spelt ``train-images.idx3-ubyte``.
    validation_fraction : float, default=0.1
        Share of the train files that becomes the validation part. The t10k files are the test part.
    random_state : int, RandomState instance or None, default=0
        Seed of the split.

    Returns
    -------
    Dataset
        Features are uint8, 0..255.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    DataError
        If a file is damaged, or images and labels do not match.

    Notes
    -----
    The idx format, as described on http://yann.lecun.com/exdb/mnist/: two zero bytes, the type (8 is
    unsigned byte), the number of axes, their lengths as big-endian 32-bit integers, the values.
    """
    images, labels = read_mnist(Path(path), "train")
    test_images, test_labels = read_mnist(Path(path), "t10k")
    image_shape = images.shape[1:]
    if test_images.shape[1:] != image_shape:
        raise DataError(
            f"{path}: test images of shape {test_images.shape[1:]}; expected {image_shape}, as in training"
        )
    return _split(
        "mnist",
        images.reshape(len(images), -1),
        labels,
        test=(test_images.reshape(len(test_images), -1), test_labels),
        validation_fraction=validation_fraction,
        random_state=random_state,
        image_shape=image_shape,
    )


def load_cifar10(
    path: PathLike, *, validation_fraction: float = 0.1, random_state: RandomState = 0
) -> Dataset:
    """Load CIFAR-10 from its python version (pickles) or its binary version.

    Parameters
    ----------
    path : path-like
        Folder with the batches, or with ``cifar-10-batches-py`` or ``cifar-10-batches-bin``, or with a
        folder ``cifar10`` that has one of these; the first found in this order is read.
    validation_fraction : float, default=0.1
        Share of the five training batches that becomes the validation part. The test batch is the test
        part.
    random_state : int, RandomState instance or None, default=0
        Seed of the split.

    Returns
    -------
    Dataset
        Features are uint8, 0..255, channel-major: 1024 values of red, then of green, then of blue.

    Raises
    ------
    FileNotFoundError
        If a batch is missing.
    DataError
        If a batch is damaged, or is a pickle that asks for anything but a CIFAR-10 batch: no object is
        made and nothing is called that a pickle names.

    Notes
    -----
    Both versions are described on https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    folder, suffix = find_cifar10(Path(path))
    read = read_cifar10_binary if suffix else read_cifar10_pickle
    batches = [read(folder / f"data_batch_{i}{suffix}") for i in range(1, 6)]
    pixels, labels = map(np.concatenate, zip(*batches, strict=True))
    del batches
    return _split(
        "cifar10",
        pixels,
        labels,
        test=read(folder / f"test_batch{suffix}"),
        validation_fraction=validation_fraction,
        random_state=random_state,
        class_names=list(CIFAR10_CLASSES),
        image_shape=CIFAR10_SHAPE,
    )


def load_file(
    path: PathLike,
    *,
    label: int | str | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    random_state: RandomState = 0,
) -> Dataset:
    """Load labelled rows from a .csv, .npy or .npz file.

    Parameters
    ----------
    path : path-like
        A .csv file: UTF-8, separated by commas, semicolons, tabs or vertical bars, whichever make the most
        numbers of its first lines; features are finite numbers with decimal points, labels numbers or text.
        Its first row is a header if `label` is a name, if all its features are text or what pandas calls
        columns without names, or if its label is text and the next row's is a number. Lines that begin with
        # and are no row are left out.
        A .npy file: one matrix, with the labels in one of its columns.
        A .npz file: arrays ``X`` and ``y``, or ``X_train``, ``y_train``, ``X_test``, ``y_test`` and, if
        there, ``X_val`` and ``y_val``; other arrays are left alone.
    label : int or str, default=None
        Column of the labels: its name, or its position, counted from 0 or, if negative, from the end (as
        text, too: "-1"). None means the last one, if it does not hold fractions. Not for .npz files.
    validation_fraction : float, default=0.1
        Share of the rows outside the test part that become the validation part, unless the file has one.
    test_fraction : float, default=0.2
        Share of all rows that become the test part, unless the file has one.
    random_state : int, RandomState instance or None, default=0
        Seed of the splits.

    Returns
    -------
    Dataset
        Features of a .csv file are float64; from the others, what the kernels read (float32, float64,
        float16, uint8, int8, bool) stays what it is, integers of 16 bits become float32, all else float64.
        Labels that are whole numbers become int64.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a fraction is outside [0, 1), or `label` is given for a .npz file.
    DataError
        If the file is damaged, or holds no classification problem.

    Warns
    -----
    DataWarning
        If columns are left out: of a .csv file a first one without a name, where pandas and R write row
        numbers and row names; of a .csv or .npy file of ten rows or more those that only count the rows. An
        array X of a .npz file stays as it is. If a feature is a different whole number in each of twenty rows
        or more, as identifiers are; or if the labels look like measurements.

    Notes
    -----
    Splits are stratified. A class of one row stays in the training part. However small the file, a part
    held out has at least as many rows as there are classes of two rows or more.
    """
    path = existing(path)
    options: dict[str, Any] = {
        "validation_fraction": validation_fraction,
        "test_fraction": test_fraction,
        "random_state": random_state,
    }
    if path.suffix.lower() != ".npz":
        table = read_table(path, -1 if label is None else label)
        y: Any = table.y
        check_labels_are_classes(path, y, table.label_name, chosen=label is not None)
        table = without_row_numbers(path, table)
        warn_of_identifiers(path, table)
        options |= {"feature_names": table.names, "label_name": table.label_name}
        return _split(path.name, table.X, y, **options)
    arrays = read_npz(path, label)
    part = "_train" if "X_train" in arrays else ""
    train = read_pair(path, arrays, part)
    options["label_name"] = f"y{part}"
    check_labels_are_classes(path, train[1], f"y{part}", chosen=True)
    warn_of_identifiers(path, Table(*train, positions=range(train[0].shape[1])))
    if not part:
        return _split(path.name, *train, **options)
    test = read_pair(path, arrays, "_test")
    validation = read_pair(path, arrays, "_val") if "X_val" in arrays else None
    widths = {part[0].shape[1] for part in (train, validation, test) if part}
    if len(widths) > 1:
        raise DataError(f"{path}: parts of {sorted(widths)} features; expected the same number in each")
    for name, part in (("y_val", validation), ("y_test", test)):
        unknown: Any = part and np.setdiff1d(part[1], train[1])
        if part and unknown.size:
            raise DataError(f"{path}: {name} has the label {unknown[0]}, which y_train does not have")
    return _split(path.name, *train, validation=validation, test=test, **options)


def read_features(path: PathLike, *, label: int | str | None = None, model: Any = None) -> Features:
    """Read rows to predict, with or without labels, from a .csv, .npy or .npz file.

    Parameters
    ----------
    path : path-like
        A file as for `load_file`; a .npz file has ``X`` and, perhaps, ``y``.
    label : int or str, default=None
        Column of the labels, as for `load_file`, but None means that there is none.
    model : fitted classifier or None, default=None
        Whose features to read: of a file with a header the columns that it knows by `feature_names_in_`; of
        others all or, if these are too many for it, all but columns that only count the rows.

    Returns
    -------
    Features
        Named tuple (X, y, feature_names), with types as for `load_file`. X of a .npy file is mapped, not
        copied, where its type allows.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If `label` is given for a .npz file.
    DataError
        If the file is damaged, or its features are not finite numbers.

    Warns
    -----
    DataWarning
        If columns are left out: those that the model does not know, or a first one without a name.
    """
    path = existing(path)
    if path.suffix.lower() != ".npz":
        table = read_table(path, label, list(getattr(model, "feature_names_in_", [])))
        surplus = 0 if model is None else table.X.shape[1] - model.n_features_in_
        if surplus > 0 and len(counting := counting_columns(table.X)) == surplus:
            table = table.without(counting)
        return Features(_as_trained_on(table.X), table.y, table.names)
    arrays = read_npz(path, label)
    X, y = read_pair(path, arrays) if "y" in arrays else (read_matrix(path, arrays, "X"), None)
    return Features(_as_trained_on(X), y, None)


def source_files(name: PathLike, data_dir: PathLike | None = None) -> list[Path]:
    """List the files that `load` may read, so that no one writes over them.

    Parameters
    ----------
    name, data_dir : str or path-like
        As for `load`.

    Returns
    -------
    list of Path
        Only files that exist.
    """
    if name == "digits":
        return []
    if name not in ("mnist", "cifar10"):
        return [path for path in [Path(name)] if path.is_file()]
    folder = _data_dir(data_dir)
    if name == "cifar10":
        folders, pattern = [find_cifar10(folder)[0]], "*"
    else:
        folders, pattern = [folder, folder / "mnist"], "*ubyte*"
    return [path for folder in folders for path in folder.glob(pattern) if path.is_file()]


def _data_dir(data_dir: PathLike | None) -> Path:
    return Path(os.environ.get("SOFTLINE_DATA", "data") if data_dir is None else data_dir)


# ---- two features ----------------------------------------------------------------------------------------


def make_red_pandas(n_samples: int = 200, *, random_state: RandomState = None) -> tuple[Array, Array]:
    """Make dogs and red pandas, described by the brown and the white share of their pictures.

    The shares of brown, white and everything else are drawn from a Dirichlet distribution: they add up to 1.

    Parameters
    ----------
    n_samples : int, default=200
        Rows, half of them red pandas.
    random_state : int, RandomState instance or None, default=None
        An int gives the same rows each time.

    Returns
    -------
    X : ndarray of shape (n_samples, 2)
        Share of brown, share of white, 0..1.
    y : ndarray of shape (n_samples,)
        0 for a dog, 1 for a red panda.

    Raises
    ------
    ValueError
        If there is no row to make.
    """
    rng, y = _toy_labels(n_samples, 2, random_state)
    X = np.empty((n_samples, 2))
    for label, (brown, white, rest) in enumerate([(3, 6, 7), (12, 3, 7)]):
        X[y == label] = rng.dirichlet((brown, white, rest), size=np.sum(y == label))[:, :2]
    return X, y


def make_spiral(
    n_samples: int = 300, *, n_classes: int = 3, noise: float = 0.2, random_state: RandomState = None
) -> tuple[Array, Array]:
    """Make the arms of a spiral, a class each, which no line can separate.

    Parameters
    ----------
    n_samples : int, default=300
        Rows, as many of each class as of the others, but for a remainder.
    n_classes : int, default=3
        Arms.
    noise : float, default=0.2
        Standard deviation of the angle, in radians.
    random_state : int, RandomState instance or None, default=None
        An int gives the same rows each time.

    Returns
    -------
    X : ndarray of shape (n_samples, 2)
        Points no farther than 1 from the origin.
    y : ndarray of shape (n_samples,)
        Labels 0..n_classes-1.

    Raises
    ------
    ValueError
        If a number is negative, or there is no row or class to make.

    Notes
    -----
    As in the CS231n notes, "Putting it together: Minimal Neural Network Case Study", where an arm turns by 4
    radians, too.
    """
    if not noise >= 0:
        raise ValueError(f"noise must be at least 0; got {noise}")
    rng, y = _toy_labels(n_samples, n_classes, random_state)
    radius = rng.uniform(size=n_samples)
    angle = 4 * radius + 2 * np.pi / n_classes * y + noise * rng.standard_normal(n_samples)
    return np.column_stack([radius * np.sin(angle), radius * np.cos(angle)]), y


def _toy_labels(
    n_samples: int, n_classes: int, random_state: RandomState
) -> tuple[np.random.RandomState, Array]:
    """Random generator, and labels of equally large classes in random order."""
    from sklearn.utils import check_random_state

    for name, count in (("n_samples", n_samples), ("n_classes", n_classes)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1; got {count}")
    rng = check_random_state(random_state)
    return rng, rng.permutation(np.arange(n_samples) % n_classes)


# ---- splits ----------------------------------------------------------------------------------------------


def _split(
    name: str,
    X: Array,
    y: Array,
    *,
    validation_fraction: float,
    random_state: RandomState,
    test_fraction: float = 0,
    validation: Part | None = None,
    test: Part | None = None,
    **about: Any,
) -> Dataset:
    """Split X and y into parts; `validation` and `test` are pairs (X, y) if these parts exist already.

    X is copied once, and converted to float one part at a time.
    """
    rows = np.arange(len(y))
    if test is None:
        rows, held_out = _hold_out(name, rows, y, test_fraction, random_state)
        test = X[held_out], y[held_out]
    if validation is None:
        rows, held_out = _hold_out(name, rows, y, validation_fraction, random_state)
        validation = X[held_out], y[held_out]
    parts = (X[rows], y[rows]), validation, test
    arrays: Any = chain.from_iterable((_as_trained_on(X), y) for X, y in parts)
    return Dataset(name, *arrays, **about)


def _hold_out(
    name: str, rows: Array, y: Array, fraction: float, random_state: RandomState
) -> tuple[Array, Array]:
    """Split row numbers, class by class, into those kept and those held out."""
    if not 0 <= fraction < 1:
        raise ValueError(f"the fraction to hold out must be at least 0 and less than 1; got {fraction!r}")
    if fraction == 0:
        return rows, rows[:0]
    from sklearn.model_selection import train_test_split

    _, codes, counts = np.unique(y[rows], return_inverse=True, return_counts=True)
    n_classes = np.count_nonzero(counts > 1)
    if n_classes == 0:
        raise DataError(f"{name}: {len(rows)} rows and no label twice; expected classes of several rows")
    lonely = counts[codes] == 1  # the only row of its class
    n_rows = np.count_nonzero(~lonely)
    # A stratified split needs a row of each class on either side.
    n_held_out = min(max(math.ceil(fraction * n_rows), n_classes), n_rows - n_classes)
    kept, held_out = train_test_split(
        rows[~lonely], test_size=n_held_out, stratify=codes[~lonely], random_state=random_state
    )
    return np.concatenate([kept, rows[lonely]]), held_out


def _as_trained_on(X: Array) -> Array:
    """X itself if the kernels read its type, else in float32 if that is exact, else in float64."""
    if kernels_read(X.dtype):
        return X
    return X.astype(np.float32 if np.result_type(X.dtype, np.float32) == np.float32 else np.float64)
