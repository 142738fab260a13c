"""Data sets, split by class: digits, MNIST, CIFAR-10 and files of your own.

Nothing is downloaded, and nothing in a file is believed before it is checked: what is damaged, short or
hostile raises `DataError`, one line that says where; what is hardly meant to be trained on, `DataWarning`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from softline._data.arrays import read_npz, table_of
from softline._data.files import (
    FILE_TYPES,
    STANDARD_INPUT,
    DataError,
    Part,
    Source,
    is_table,
    open_sources,
)
from softline._data.images import (
    CIFAR10_CLASSES,
    CIFAR10_SHAPE,
    find_cifar10,
    read_cifar10_binary,
    read_cifar10_pickle,
    read_mnist,
)
from softline._data.preparation import Preparation, prepare, with_means
from softline._data.sealed import Look, SealedTestSet, TestSetWarning, sealed
from softline._data.table import Column, Columns, DataWarning, Missing
from softline._data.tables import (
    check_labels_are_classes,
    counting_columns,
    read_table,
    warn_of_identifiers,
    with_all_numbers,
    without_row_numbers,
)
from softline._kernels.rows import kernels_read
from softline._typing import Array, PathLike, RandomState
from softline._words import did_you_mean

__all__ = [
    "DataError",
    "DataWarning",
    "Dataset",
    "Features",
    "Look",
    "Preparation",
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

NAMED = ("digits", "mnist", "cifar10")


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
        Labels; or targets, a row of probabilities of the classes for each sample, (n_samples, n_classes).
    feature_names : list of str or None
        Names of the columns, where the source has some.
    class_names : list of str or None
        Name of class k at position k, for labels 0..C-1; None where labels are their own names.
    image_shape : tuple of int or None
        A row's shape as an image: (height, width) or, channel-major, (3, height, width).
    label_name : str or None
        Name of the label's column in a file; "column 4", counted from 0, if it has none.
    preparation : Preparation or None
        How columns of a file became features, for `read_features` to do the same.
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
    preparation: Preparation | None = None

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
    random_state: RandomState = 0,
    dtype: Literal["float32", "float64"] | None = None,
    **options: Any,
) -> Dataset:
    """Load a data set by name, or a file by path.

    Parameters
    ----------
    name : str or path-like
        "digits", "mnist", "cifar10", or what `load_file` reads.
    data_dir : path-like, default=None
        Folder of MNIST and CIFAR-10, as for `load_mnist` and `load_cifar10`. None means the environment
        variable SOFTLINE_DATA or, where that is not set, "data" in the current directory.
    random_state : int, RandomState instance or None, default=0
        Seed of the splits.
    dtype : {"float32", "float64"} or None, default=None
        Type of the features. None keeps that of the data.
    **options
        Further options of `load_file`, for a file. Those that are None or empty are left out.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        If the data set or the file is not there.
    ValueError
        If `name` is neither a data set nor a file, or an option of files is given for a data set.
    DataError
        If a file is damaged.
    """
    options = {option: value for option, value in options.items() if value not in (None, (), [], "error")}
    if name not in NAMED:
        if not is_table(name) and os.fspath(name) != STANDARD_INPUT and not Path(name).exists():
            raise ValueError(
                f"unknown data set {str(name)!r}; expected {', '.join(NAMED)}, a folder or a "
                f"{', '.join(FILE_TYPES)} file{did_you_mean(str(name), NAMED)}"
            )
        return load_file(name, random_state=random_state, dtype=dtype, **options)
    if options:
        option, value = next(iter(options.items()))
        raise ValueError(f"{option}={value!r} is for files, and {name} is not one")
    if name == "digits":
        data = load_digits(random_state=random_state)
    else:
        load_images = load_mnist if name == "mnist" else load_cifar10
        data = load_images(_data_dir(data_dir), random_state=random_state)
    if dtype is None:
        return data
    X = {f: getattr(data, f).astype(dtype, copy=False) for f in ("X_train", "X_val", "X_test")}
    return replace(data, **X, preparation=Preparation(dtype=dtype))


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
    labels: PathLike | None = None,
    drop: Sequence[int | str] = (),
    categorical: Sequence[int | str] = (),
    missing: Literal["error", "drop", "mean"] = "error",
    dtype: Literal["float32", "float64"] | None = None,
    test: PathLike | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    random_state: RandomState = 0,
) -> Dataset:
    """Load labelled rows from a file, from a folder of shards, or from standard input.

    Parameters
    ----------
    path : path-like
        A .csv or .tsv file, also with .gz: UTF-8, separated by commas, semicolons, tabs or vertical bars,
        whichever make the most numbers of its first lines; features are finite numbers with decimal points,
        labels numbers or text. Its first row is a header if `label` is a name, if all its features are text
        or what pandas calls columns without names, or if its label is text and the next row's is a number.
        Lines that begin with # and are no row are left out.
        A .parquet file: columns of numbers, or of lists of the same length; needs pyarrow.
        A .npy file: one matrix, with the labels in one of its columns, or in a file `labels`.
        A .npz file: arrays ``X`` and ``y``, or ``X_train``, ``y_train``, ``X_test``, ``y_test`` and, if
        there, ``X_val`` and ``y_val``; other arrays are left alone.
        A folder: its files of one of these kinds, in the order of their names. "-": standard input.
    label : int or str, default=None
        Column of the labels: its name, or its position, counted from 0 or, if negative, from the end (as
        text, too: "-1"). None means the last one, if it does not hold fractions. Not for .npz files.
    labels : path-like, default=None
        A .npy file, or a folder of them, with a label for each row, or a row of probabilities.
    drop : sequence of int or str, default=()
        Columns to leave out.
    categorical : sequence of int or str, default=()
        Columns of text. Each becomes a feature, 0 or 1, for each of its categories, as scikit-learn's
        OneHotEncoder makes them; an empty cell is a category, too.
    missing : {"error", "drop", "mean"}, default="error"
        Whether a cell that lacks a number (empty, ?, NA, NaN, null, None) is an error, drops its row, or
        stands for the mean of the training rows.
    dtype : {"float32", "float64"} or None, default=None
        Type of the features. None keeps that of the file.
    test : path-like, default=None
        A file of test rows; `test_fraction` is then not used.
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
        If columns are left out: of a table a first one without a name, where pandas and R write row
        numbers and row names; of a table of ten rows or more those that only count the rows. An
        array X of a .npz file, or beside `labels`, stays as it is, but for rows of several axes, which are
        flattened. If a feature is a different whole number in each of twenty rows or more, as identifiers
        are; or if the labels look like measurements.

    Notes
    -----
    Splits are stratified. A class of one row stays in the training part. However small the file, a part
    held out has at least as many rows as there are classes of two rows or more.
    """
    if label is not None and labels is not None:
        raise ValueError(
            f"label={label!r} and labels={str(labels)!r} exclude each other; expected one of them"
        )
    if missing not in ("error", "drop", "mean"):
        raise ValueError(f"missing must be 'error', 'drop' or 'mean'; got {missing!r}")
    sources = open_sources(path)
    source, kind = sources[0], sources[0].suffix
    label = None if label is None else _position(label)
    options: dict[str, Any] = {
        "validation_fraction": validation_fraction,
        "test_fraction": 0 if test is not None else test_fraction,
        "random_state": random_state,
    }
    if kind == ".npz" and len(sources) == 1 and "X_train" in (arrays := read_npz(source)):
        if label is not None or labels is not None or test is not None or len(drop) or len(categorical):
            raise ValueError(
                f"{source} has labels, features and a test part of its own; expected no option for one"
            )
        return _load_parts(source, arrays, missing, dtype, options)
    default = None if kind == ".npz" or labels is not None else -1
    columns = Columns(
        default if label is None else label,
        [_position(column) for column in drop],
        [_position(column) for column in categorical],
        missing,
    )
    table = read_table(sources, columns, labels)
    y: Any = table.y
    if y is None:
        raise DataError(f"{source}: no array 'y' of labels")
    if y.ndim == 1:
        by_default = columns.label is not None and label is None
        check_labels_are_classes(source, y, table.label_name, chosen=not by_default)
    if columns.label is not None:
        table = without_row_numbers(source, table)
    warn_of_identifiers(source, table)
    preparation = prepare(source, table, columns, dtype)
    X, names = preparation.features(source, table)
    options |= {"feature_names": names, "label_name": table.label_name, "preparation": preparation}
    options["image_shape"] = _image_shape(table.image_shape)
    data = _split(_short_name(path, source), X, y, **options)
    return data if test is None else _with_test(data, test, label)


def _load_parts(
    source: Source, arrays: dict[str, Array], missing: Missing, dtype: str | None, options: dict[str, Any]
) -> Dataset:
    """Data set of a .npz file that has parts of its own."""
    parts: dict[str, Part] = {}
    for part in ("train", "test", "val"):
        if part == "val" and "X_val" not in arrays:
            continue
        table = table_of(source, arrays, f"_{part}", missing, labelled=True)
        table = with_all_numbers(source, table) if missing == "drop" else table
        y: Any = table.y
        if part == "train":
            if y.ndim == 1:
                check_labels_are_classes(source, y, table.label_name, chosen=True)
            warn_of_identifiers(source, table)
            options["image_shape"] = _image_shape(table.image_shape)
        else:
            _check_classes(source, f"y_{part}", y, parts["train"][1], "y_train")
        parts[part] = table.X, y
    widths = {X.shape[1] for X, _ in parts.values()}
    if len(widths) > 1:
        raise DataError(f"{source}: parts of {sorted(widths)} features; expected the same number in each")
    preparation = Preparation(n_columns=max(widths), missing=missing, dtype=dtype)
    options |= {"label_name": "y_train", "preparation": preparation}
    options |= {"validation": parts.get("val"), "test": parts["test"]}
    return _split(source.path.name, *parts["train"], **options)


def _with_test(data: Dataset, test: PathLike, label: Column | None) -> Dataset:
    """Data set with the test rows of another file."""
    preparation = data.preparation or Preparation()
    label = preparation.label if label is None else label
    X, y, names = _read_features(test, label, None, preparation, data.X_train.shape[1])
    if y is None:
        raise DataError(f"{test}: no labels; expected test rows with labels, as in training")
    if X.shape[1] != data.X_train.shape[1] or names != data.feature_names:
        raise DataError(
            f"{test}: other features than the training rows; expected the same, in the same order"
        )
    _check_classes(test, "a row", y, data.y_train, "training")
    return replace(data, X_test=X, y_test=y, preparation=replace(preparation, has_test_file=True))


def _check_classes(source: Source | PathLike, what: str, y: Array, y_train: Array, training: str) -> None:
    """Raise DataError for labels that the training rows do not have."""
    if y.ndim != y_train.ndim or y.shape[1:] != y_train.shape[1:]:
        raise DataError(
            f"{source}: {what} of shape {y.shape}; expected (n, *{y_train.shape[1:]}), as in {training}"
        )
    unknown = np.setdiff1d(y, y_train) if y.ndim == 1 else np.empty(0)
    if unknown.size:
        raise DataError(f"{source}: {what} has the label {unknown[0]}, which {training} does not have")


def _position(column: Column) -> Column:
    """Column by position, if that is what a text says: a command line gives positions as text."""
    with contextlib.suppress(ValueError):
        return int(column)
    return column


def _short_name(path: PathLike, source: Source) -> str:
    return str(source) if os.fspath(path) == STANDARD_INPUT else Path(path).name


def _image_shape(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Shape of a row, if it is that of an image: (height, width) or (3, height, width)."""
    is_image = shape is not None and (len(shape) == 2 or (len(shape) == 3 and shape[0] == 3))
    return shape if is_image else None


def read_features(
    path: PathLike, *, label: int | str | None = None, labels: PathLike | None = None, model: Any = None
) -> Features:
    """Read rows to predict, with or without labels, from files as for `load_file`.

    Parameters
    ----------
    path : path-like
        What `load_file` reads; a .npz file has ``X`` and, perhaps, ``y``.
    label : int or str, default=None
        Column of the labels, as for `load_file`, but None means that there is none.
    labels : path-like, default=None
        A file of labels, as for `load_file`.
    model : fitted classifier or None, default=None
        Whose features to read. With a `preparation_`, that of the `Dataset` it was trained on: the same
        columns, categories and means, and the column of its label is left out. Otherwise of a file with a
        header the columns that it knows by `feature_names_in_`; of others all or, if these are too many for
        it, all but columns that only count the rows.

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
        If columns are left out: those that the training did not see, or a first one without a name.
    """
    preparation = getattr(model, "preparation_", None)
    if preparation is None:
        names = getattr(model, "feature_names_in_", None)
        preparation = Preparation(numeric=None if names is None else tuple(names))
    return _read_features(path, label, labels, preparation, getattr(model, "n_features_in_", None))


def _read_features(
    path: PathLike,
    label: Column | None,
    labels: PathLike | None,
    preparation: Preparation,
    n_features: int | None,
) -> Features:
    """Features of new rows, prepared as those of the training."""
    sources = open_sources(path)
    label = None if label is None else _position(label)
    labelled = label is not None or labels is not None
    # Each row to predict has its prediction, so that none may be left out.
    missing = "error" if preparation.missing == "drop" and not labelled else preparation.missing
    table = read_table(sources, preparation.columns(label, missing), labels)
    surplus = 0 if n_features is None or preparation.n_columns else table.X.shape[1] - n_features
    if surplus > 0 and len(counting := counting_columns(table.X)) == surplus:
        table = table.without(counting)
    X, names = preparation.features(sources[0], table)
    return Features(_as_trained_on(preparation.filled(X)), table.y, names)


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
    if name not in NAMED:
        path = Path(name)
        return [path] if path.is_file() else [file for file in path.glob("*") if file.is_file()]
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
    preparation: Preparation | None = None,
    **about: Any,
) -> Dataset:
    """Split X and y into parts; `validation` and `test` are pairs (X, y) if these parts exist already.

    X is copied once, and converted to float one part at a time. Missing numbers become means.
    """
    rows = np.arange(len(y))
    if test is None:
        rows, held_out = _hold_out(name, rows, y, test_fraction, random_state)
        test = X[held_out], y[held_out]
    if validation is None:
        rows, held_out = _hold_out(name, rows, y, validation_fraction, random_state)
        validation = X[held_out], y[held_out]
    parts = (X[rows], y[rows]), validation, test
    about["preparation"] = preparation = with_means(preparation or Preparation(), parts[0][0])
    arrays: Any = chain.from_iterable((_as_trained_on(preparation.filled(X)), y) for X, y in parts)
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

    labels = y[rows] if y.ndim == 1 else y[rows].argmax(axis=1)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
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
