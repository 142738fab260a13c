"""Readers of arrays in .npy and .npz files."""

from __future__ import annotations

import os

import numpy as np

from softline._data.files import DataError, Source
from softline._data.table import Columns, Missing, Table, checked_labels, take_columns, warn
from softline._typing import Array
from softline._words import counted

NPZ_ARRAYS = ("X", "y", "X_train", "y_train", "X_val", "y_val", "X_test", "y_test")
CELLS_AT_ONCE = 1 << 20  # in a check for finite numbers


def read_npz(source: Source) -> dict[str, Array]:
    """Arrays of a .npz file with the names expected."""
    try:
        # Opened here because np.load leaves a damaged file open.
        with open(source, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in NPZ_ARRAYS if name in archive}
    except (MemoryError, PermissionError):
        raise
    except Exception as err:  # zip, zlib and NumPy have their own errors for what is damaged
        raise DataError(f"{source}: expected a complete .npz file of plain arrays; found: {err!r}") from err
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # NumPy hands out other members of the archive as bytes
            raise DataError(
                f"{source}: {name} is not in NumPy's format; expected an array that np.savez wrote"
            )
    return arrays


def table_of(
    source: Source, arrays: dict[str, Array], part: str, missing: Missing, *, labelled: bool
) -> Table:
    """Features and labels of a part ("_train", ..., or "") of a .npz file."""
    X = _array(source, arrays, f"X{part}")
    X, shape = _as_matrix(source, f"X{part}", X, missing)
    y = checked_targets(source, f"y{part}", _array(source, arrays, f"y{part}"), len(X)) if labelled else None
    return Table(X, y, None, range(X.shape[1]), f"y{part}", n_columns=X.shape[1], image_shape=shape)


def _array(source: Source, arrays: dict[str, Array], name: str) -> Array:
    if name not in arrays:
        raise DataError(
            f"{source}: no array {name!r}; found {', '.join(arrays) or 'none of ' + ', '.join(NPZ_ARRAYS)}"
        )
    return arrays[name]


def checked_targets(source: Source, name: str, y: Array, n_rows: int) -> Array:
    """Labels (n,), or targets (n, C): a row of probabilities for each row of X."""
    is_targets = y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind == "f"
    if len(y.shape) == 0 or len(y) != n_rows or not (y.ndim == 1 or is_targets):
        raise DataError(
            f"{source}: {name} of shape {y.shape} and type {y.dtype}; expected ({n_rows},), a label for each "
            f"row of X, or ({n_rows}, C), a row of C probabilities"
        )
    if is_targets and not np.isfinite(y).all():
        row = int((~np.isfinite(y)).any(axis=1).argmax())
        raise DataError(f"{source}: {name}[{row}] holds {y[row]}; expected probabilities")
    return y if is_targets else checked_labels(source, y)


def _as_matrix(source: Source, name: str, X: Array, missing: Missing) -> tuple[Array, tuple[int, ...] | None]:
    """Features (n, D), and the shape of a row if it had one."""
    shape = X.shape[1:] if X.ndim > 2 and X.size else None
    if shape is not None:
        X = X.reshape(len(X), -1)
        told = " x ".join(map(str, shape))
        warn(source, f"{name} of {told} a row is taken as {counted(X.shape[1], 'feature')} a row")
    return _checked_features(source, name, X, missing), shape


def _checked_features(source: Source, name: str, X: Array, missing: Missing) -> Array:
    """Check that X is a matrix of finite numbers, or NaN where one may be missing, and return it."""
    if X.ndim != 2 or X.dtype.kind not in "biuf" or X.size == 0:
        raise DataError(
            f"{source}: {name} of shape {X.shape} and type {X.dtype}; expected a matrix of numbers"
        )
    n_rows = max(1, CELLS_AT_ONCE // X.shape[1])
    for start in range(0, len(X) if X.dtype.kind == "f" else 0, n_rows):
        block = X[start : start + n_rows]
        finite = np.isfinite(block) if missing == "error" else ~np.isinf(block)
        if not finite.all():
            row, column = np.argwhere(~finite)[0] + (start, 0)
            hint = "; training with --missing mean takes the mean for NaN" if np.isnan(X[row, column]) else ""
            raise DataError(
                f"{source}: {name}[{row}, {column}] is {X[row, column]}; expected a finite number{hint}"
            )
    return X


def read_npy(source: Source, columns: Columns) -> Table:
    """Read a matrix, whose label is one of its columns."""
    matrix, shape = _as_matrix(source, "matrix", map_npy(source), columns.missing)
    n_columns = matrix.shape[1]
    position, numeric, categorical = columns.roles(source, n_columns)
    if shape is not None and position is not None:
        raise DataError(
            f"{source}: rows of shape {shape}; their labels are in a file of their own (--labels)"
        )
    if categorical:
        raise DataError(
            f"{source}: a .npy file holds numbers; categorical columns are those of tables of text"
        )
    if not numeric:
        raise DataError(f"{source}: {counted(n_columns, 'column')}; expected features and a label")
    y = None if position is None else checked_labels(source, matrix[:, position].copy())
    name = None if position is None else f"column {position}"
    X = take_columns(matrix, numeric)
    return Table(X, y, None, numeric, name, n_columns=n_columns, image_shape=shape)


def map_npy(source: Source) -> Array:
    """Array of a .npy file, mapped and not copied."""
    try:
        # Mapped, because that compares the sizes in header and file before it takes memory.
        return np.asarray(np.lib.format.open_memmap(os.fspath(source), mode="r"))
    except OSError:
        raise
    except Exception as err:  # NumPy has many errors for what is damaged
        raise DataError(f"{source}: expected a complete .npy file without objects; found: {err!r}") from err
