"""Readers of tables in .csv, .npy and .npz files, with warnings of columns that look wrong.

Nothing in a file is trusted before it is checked, and no column is left out without a warning.
"""

from __future__ import annotations

import contextlib
import csv
import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from softline._data.files import DataError, Part
from softline._typing import Array

FILE_TYPES = (".csv", ".npy", ".npz")
NPZ_ARRAYS = ("X", "y", "X_train", "y_train", "X_val", "y_val", "X_test", "y_test")

# Where two fit a file equally well, the first wins, because "1,5;a" more likely has a decimal comma.
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas"}
SAMPLE = 20  # number of lines that decide the separator
MOST_CHARACTERS = 1 << 24  # of a line
CELLS_AT_ONCE = 1 << 20  # in a check for finite numbers

# Names that pandas gives to columns without one.
NAMELESS = re.compile(r"|Unnamed: \d+(\.\d+)*")
DECIMAL_COMMA = re.compile(r"\s*[+-]?(\d+(\.\d{3})*)?,\d+\s*")

# Fewest rows to take a column for a count, or for identifiers: fewer may look so by chance.
FEWEST_COUNTED, FEWEST_IDENTIFIERS = 10, 20


class DataWarning(UserWarning):
    """Warning of a file that can be read, but has something that is unlikely to be meant for training."""


@dataclass(frozen=True)
class Table:
    """Features and labels of a file.

    Attributes
    ----------
    X : (n, D) array
    y : (n,) array or None
    names : list of str or None
        Names of the features, if there is a header.
    positions : sequence of int
        Where the features stand in the file.
    label_name : str or None
        Name of the label's column, or "column 4", counted from 0.
    """

    X: Array
    y: Array | None = None
    names: list[str] | None = None
    positions: Sequence[int] = ()
    label_name: str | None = None

    def told(self, columns: Sequence[int]) -> str:
        """Names of some of the features in a message."""
        listed = _listed(self.positions[j] if self.names is None else repr(self.names[j]) for j in columns)
        counted = " (counted from 0)" if self.names is None else ""
        return f"column{'s' * (len(columns) > 1)} {listed}{counted}"

    def without(self, columns: Sequence[int]) -> Table:
        """Table without some of its features."""
        kept = [j for j in range(self.X.shape[1]) if j not in set(columns)]
        return replace(
            self,
            X=_take_columns(self.X, kept),
            names=self.names and [self.names[j] for j in kept],
            positions=[self.positions[j] for j in kept],
        )


def read_table(path: Path, label: Any, names: Sequence[str] = ()) -> Table:
    """Read a .csv or .npy file: features as stored, and labels if `label` says which column they are.

    Of a file with a header that has some of `names`, only these columns are features.
    """
    with contextlib.suppress(TypeError, ValueError):
        label = int(label)  # a command line gives positions as text
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _read_csv(path, label, names)
    if suffix == ".npy":
        return _read_npy(path, label)
    raise DataError(f"{path}: a name that ends with {suffix!r}; expected {', '.join(FILE_TYPES)}")


def _listed(names: Iterable[object]) -> str:
    """Names in one line, cut where it is too long."""
    return textwrap.shorten(", ".join(map(str, names)), 100, placeholder=" ...")


def warn(path: Path, message: str) -> None:
    """Warn of the contents of a file."""
    warnings.warn(f"{path}: {message}", DataWarning, stacklevel=4)


# ---- what looks wrong ------------------------------------------------------------------------------------


def counting_columns(X: Array) -> list[int]:
    """Columns that only count the rows, from any number on."""
    n, first, last = len(X), X[0].astype(np.float64), X[-1].astype(np.float64)
    candidates = np.flatnonzero((first == np.rint(first)) & (last - first == n - 1))
    return [int(j) for j in candidates if np.array_equal(X[:, j].astype(np.float64), first[j] + np.arange(n))]


def _identifiers(X: Array) -> list[int]:
    """Columns with a different whole number in each row."""
    if len(X) < FEWEST_IDENTIFIERS:
        return []

    def distinct(column: Array) -> bool:
        return bool((column == np.rint(column)).all()) and len(np.unique(column)) == len(column)

    # The first rows rule out most columns.
    candidates = [j for j, column in enumerate(np.asarray(X[:FEWEST_IDENTIFIERS]).T) if distinct(column)]
    return [j for j in candidates if distinct(X[:, j])]


def without_row_numbers(path: Path, table: Table) -> Table:
    """Table without columns that only count its rows, with a warning."""
    counting = counting_columns(table.X) if len(table.X) >= FEWEST_COUNTED else []
    if not counting or len(counting) == table.X.shape[1]:
        return table
    what = "they only count" if len(counting) > 1 else "it only counts"
    warn(path, f"left out {table.told(counting)}: {what} the rows")
    return table.without(counting)


def warn_of_identifiers(path: Path, table: Table) -> None:
    """Warn of features with a different whole number in each row."""
    columns = _identifiers(table.X)
    if not columns:
        return
    verb = "has" if len(columns) == 1 else "have"
    message = (
        f"{table.told(columns)} {verb} a different whole number in each row, as identifiers have, which are "
        "no features: leave out what is one"
    )
    y = table.y
    if y is not None and np.count_nonzero(y[1:] != y[:-1]) == len(np.unique(y)) - 1:
        message += ". The rows are sorted by class, so that a row's number would give its class away"
    warn(path, message)


def check_labels_are_classes(path: Path, y: Array, label_name: str | None, *, chosen: bool) -> None:
    """Warn of labels that look like measurements; refuse fractions if nobody chose the column."""
    if y.dtype.kind not in "iuf":
        return
    values = np.unique(y)
    examples = ", ".join(f"{value:.6g}" for value in values[:3])
    what = f"looks like a measurement: {len(values)} different numbers in {len(y)} rows, as {examples}"
    if y.dtype.kind == "f" and not chosen:
        raise DataError(
            f"{path}: the last column ({label_name}) is taken for the label, but {what}; choose another "
            "column (label=..., --label COLUMN), or put the labels into an array y of a .npz file"
        )
    if y.dtype.kind == "f" or len(values) > max(20, len(y) / 5):
        warn(
            path, f"the label ({label_name}) {what}; a classifier takes each for a class, regression does not"
        )


# ---- .npz and .npy ---------------------------------------------------------------------------------------


def read_npz(path: Path, label: int | str | None) -> dict[str, Array]:
    """Arrays of a .npz file with the names expected."""
    if label is not None:
        raise ValueError(
            f"label={label!r} chooses a column; the labels of a .npz file are an array of their own"
        )
    try:
        # Opened here because np.load leaves a damaged file open.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in NPZ_ARRAYS if name in archive}
    except (MemoryError, PermissionError):
        raise
    except Exception as err:  # zip, zlib and NumPy have their own errors for what is damaged
        raise DataError(f"{path}: expected a complete .npz file of plain arrays; found: {err!r}") from err
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # NumPy hands out other members of the archive as bytes
            raise DataError(f"{path}: {name} is not in NumPy's format; expected an array that np.savez wrote")
    return arrays


def read_pair(path: Path, arrays: dict[str, Array], part: str = "") -> Part:
    """Features and labels of a part ("_train", ...) of a .npz file."""
    X, y = read_matrix(path, arrays, f"X{part}"), _array(path, arrays, f"y{part}")
    if y.shape != X.shape[:1]:
        raise DataError(
            f"{path}: y{part} of shape {y.shape}; expected ({len(X)},), one label a row of X{part}"
        )
    return X, _checked_labels(path, y)


def read_matrix(path: Path, arrays: dict[str, Array], name: str) -> Array:
    """Features of a .npz file."""
    return _checked_features(path, name, _array(path, arrays, name))


def _array(path: Path, arrays: dict[str, Array], name: str) -> Array:
    if name not in arrays:
        raise DataError(
            f"{path}: no array {name!r}; found {', '.join(arrays) or 'none of ' + ', '.join(NPZ_ARRAYS)}"
        )
    return arrays[name]


def _checked_features(path: Path, name: str, X: Array) -> Array:
    """Check that X is a matrix of finite numbers, and return it."""
    if X.ndim != 2 or X.dtype.kind not in "biuf" or X.size == 0:
        raise DataError(f"{path}: {name} of shape {X.shape} and type {X.dtype}; expected a matrix of numbers")
    n_rows = max(1, CELLS_AT_ONCE // X.shape[1])
    for start in range(0, len(X) if X.dtype.kind == "f" else 0, n_rows):
        finite = np.isfinite(X[start : start + n_rows])
        if not finite.all():
            row, column = np.argwhere(~finite)[0] + (start, 0)
            raise DataError(f"{path}: {name}[{row}, {column}] is {X[row, column]}; expected a finite number")
    return X


def _checked_labels(path: Path, y: Array) -> Array:
    """Check labels (n,); whole numbers become int64, others stay as they are."""
    if y.dtype.kind not in "biufU":
        raise DataError(f"{path}: labels of type {y.dtype}; expected numbers or text")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = np.flatnonzero(~np.isfinite(y))[0]
        raise DataError(f"{path}: label {y[row]} in row {row}, counted from 0; expected a finite number")
    if y.dtype.kind == "f":
        whole = ((y == np.rint(y)) & (abs(y) < 2**53)).all()
    else:
        whole = y.dtype.kind in "iu" and (y.size == 0 or y.max() < 2**63)
    return y.astype(np.int64) if whole else y


def _read_npy(path: Path, label: int | str | None) -> Table:
    try:
        # Mapped, because that compares the sizes in header and file before it takes memory.
        matrix = np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except OSError:
        raise
    except Exception as err:  # NumPy has many errors for what is damaged
        raise DataError(f"{path}: expected a complete .npy file without objects; found: {err!r}") from err
    _checked_features(path, "matrix", matrix)
    n_columns = matrix.shape[1]
    if label is None:
        return Table(matrix, positions=range(n_columns))
    position = _label_position(path, label, n_columns)
    if n_columns == 1:
        raise DataError(f"{path}: one column; expected features and a label")
    columns = [j for j in range(n_columns) if j != position]
    y = _checked_labels(path, matrix[:, position].copy())
    return Table(_take_columns(matrix, columns), y, None, columns, f"column {position}")


def _take_columns(X: Array, columns: Sequence[int]) -> Array:
    """Columns in order, without a copy if they are adjacent."""
    if len(columns) == columns[-1] - columns[0] + 1:
        return X[:, columns[0] : columns[-1] + 1]
    return X[:, columns]


def _label_position(path: Path, label: int | str, n_columns: int, names: Sequence[str] = ()) -> int:
    """Position 0..n_columns-1 of the column `label`: a position or, if text, one of `names`."""
    if label in names:
        if names.count(label) > 1:
            raise DataError(f"{path}: {names.count(label)} columns {label!r}; give the position of one")
        return names.index(label)
    if isinstance(label, str):
        known = _listed(names) or "its positions: it has no names"
        raise DataError(f"{path}: no column {label!r}; expected one of {known}")
    if not -n_columns <= label < n_columns:
        raise DataError(f"{path}: no column {label}; expected {-n_columns} to {n_columns - 1}")
    return label % n_columns


# ---- .csv ------------------------------------------------------------------------------------------------


class _CsvFile:
    """A .csv file, read line by line."""

    separator, n_columns = ",", 0
    header: list[str] | None = None
    after = 0  # the number of the line that ends the header
    columns: list[int]  # positions of the features
    position: int | None = None  # of the label

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> Iterator[tuple[int, str]]:
        """Lines below the header, with their numbers, without blank lines and comments."""
        number = 0
        with open(self.path, newline="", encoding="utf-8-sig") as file:
            while line := file.readline(MOST_CHARACTERS + 1):
                number += 1
                if len(line) > MOST_CHARACTERS:
                    what = f"longer than {MOST_CHARACTERS} characters; expected a row a line"
                    raise DataError(f"{self.path}: line {number} is {what}")
                is_comment = self.n_columns > 0 and line.startswith("#")
                if is_comment and [*map(len, _split_lines([line], self.separator))] == [self.n_columns]:
                    is_comment = False
                if number > self.after and line.strip() and not is_comment:
                    yield number, line

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Cells of each row, with the number of its last line."""
        number = 0

        def lines() -> Iterator[str]:
            nonlocal number
            for number, line in self.lines():  # noqa: B007
                yield line

        for row in csv.reader(lines(), delimiter=self.separator, strict=True):
            yield number, row

    def find_layout(self) -> None:
        """Find the separator and the number of columns, by the first lines."""
        lines = [line for _, line in islice(self.lines(), SAMPLE)]
        lines = [line for line in lines if not line.startswith("#")] or lines

        def fit(separator: str) -> tuple[bool, float, bool, int]:
            rows = _split_lines(lines, separator)
            cells = list(chain.from_iterable(rows))
            widths = {len(row) for row in rows}
            share = sum(map(_is_numeric, cells)) / max(1, len(cells))
            return max(widths, default=0) > 1, share, len(widths) == 1, max(widths, default=0)

        self.separator = max(SEPARATORS, key=fit)
        self.n_columns = len((_split_lines(lines, self.separator) or [[]])[0])

    def find_columns(self, label: int | str | None, names: Sequence[str]) -> None:
        """Find the header, the label and the features, by the first rows."""
        head = list(islice(self.rows(), 3))
        if not head:
            raise DataError(f"{self.path}: empty; expected rows of numbers")
        if len(head) > 1 and head[0][1][0].startswith("#") and all(map(_is_text, head[1][1])):
            self.after, _ = head.pop(0)  # a comment with as many cells as the header below it
        first, second = ([cell.strip() for cell in row] for _, row in (head[0], head[min(1, len(head) - 1)]))
        first[0] = first[0].removeprefix("#").lstrip()  # as NumPy writes a header
        if label is not None:
            self.position = _label_position(self.path, label, len(first), first)
        self.columns = [j for j in range(len(first)) if j != self.position]
        if not self.columns:
            raise DataError(
                f"{self.path}: one column; expected features and a label, separated by "
                f"{', '.join(reversed(SEPARATORS.values()))}"
            )
        named = isinstance(label, str) or bool(names and set(names) <= set(first))
        if named or _is_header(first, second, self.columns, self.position):
            self.after, self.header = head[0][0], first
            self.columns = _columns_to_read(self.path, first, self.columns, names)
            if len(head) == 1:
                raise DataError(f"{self.path}: a header and nothing else; expected rows of numbers")

    def read(self) -> tuple[Array, list[str]]:
        """Features and labels."""
        kinds = dict.fromkeys(self.columns, "feature") | {self.position: "label"}
        runs = [(kind, len([*run])) for kind, run in groupby(map(kinds.get, range(self.n_columns)))]
        names = [f"{kind} {i}" for i, (kind, _) in enumerate(runs)]
        types = [
            (name, float if name[0] == "f" else object, (n,))
            for name, (_, n) in zip(names, runs, strict=True)
        ]
        lines = (line for _, line in self.lines())
        try:
            table = np.loadtxt(lines, types, None, self.separator, ndmin=1, quotechar='"')
        except ValueError as error:
            self.check()
            raise DataError(f"{self.path}: {error}") from error
        numbers = [table[name] for name in names if name[0] == "f"]
        X = numbers[0] if len(numbers) == 1 else np.hstack(numbers)
        labels = [text.strip() for name in names if name[0] == "l" for text in table[name][:, 0]]
        # An unclosed quote turns all that follows into one label.
        if not np.isfinite(X).all() or not all(labels) or any("\n" in label for label in labels):
            self.check()
        return X, labels

    def check(self) -> None:
        """Raise DataError for the first row that cannot be read."""
        for line, row in self.rows():
            place = f"{self.path}: line {line}"
            if len(row) != self.n_columns:
                raise DataError(
                    f"{place} has {len(row)} columns, separated by {SEPARATORS[self.separator]}; "
                    f"expected {self.n_columns}, as in the first row"
                )
            if self.position is not None and not row[self.position].strip():
                raise DataError(f"{place} has an empty label")
            for j in self.columns:
                if math.isfinite(_number(row[j], default=math.nan)):
                    continue
                hint = "; if the column is the label, name it as such" if self.position is None else ""
                if DECIMAL_COMMA.fullmatch(row[j]):
                    hint = " with a decimal point: pandas.read_csv(..., decimal=',') reads decimal commas"
                column = repr(self.header[j]) if self.header else j + 1
                raise DataError(f"{place}, column {column} holds {row[j]!r}; expected a finite number{hint}")


def _read_csv(path: Path, label: int | str | None, names: Sequence[str]) -> Table:
    file = _CsvFile(path)
    try:
        file.find_layout()
        file.find_columns(label, names)
        X, labels = file.read()
    except (csv.Error, UnicodeDecodeError) as err:
        raise DataError(
            f"{path}: expected UTF-8 text in columns separated by {SEPARATORS[file.separator]}; found: {err}"
        ) from err
    header, position = file.header, file.position
    return Table(
        X,
        None if position is None else _parse_labels(path, labels),
        header and [header[j] for j in file.columns],
        file.columns,
        None if position is None else header[position] if header else f"column {position}",
    )


def _split_lines(lines: list[str], separator: str) -> list[list[str]]:
    """Split lines into rows of cells; no rows if the quotes are wrong."""
    with contextlib.suppress(csv.Error):
        return list(csv.reader(lines, delimiter=separator))
    return []


def _columns_to_read(path: Path, header: list[str], columns: list[int], names: Sequence[str]) -> list[int]:
    """Positions of the features: columns in `names`, or else all after those without a name."""
    known = [j for j in columns if header[j] in set(names)]
    if known:
        others = [header[j] for j in columns if j not in set(known)]
        if others:
            listed = _listed(repr(name) if name else "a column without a name" for name in others)
            warn(path, f"left out what the model was not trained on: {listed}")
        return known
    nameless = list(takewhile(lambda j: NAMELESS.fullmatch(header[j]), columns))
    if not nameless or nameless == columns:
        return columns
    warn(path, "left out the first column, which has no name: row numbers and row names are no features")
    return columns[len(nameless) :]


def _number(cell: str, default: float | None = None) -> Any:
    try:
        # Python reads "1_0" as 10 and takes digits of other scripts, but NumPy does neither.
        return float(cell) if "_" not in cell and cell.strip().isascii() else default
    except ValueError:
        return default


def _is_numeric(cell: str) -> bool:
    return _number(cell) is not None or bool(DECIMAL_COMMA.fullmatch(cell))


def _is_text(cell: str) -> bool:
    return bool(cell.strip()) and _number(cell) is None


def _is_header(first: list[str], second: list[str], columns: list[int], position: int | None) -> bool:
    """Whether the first row names the columns; `second` is the next row, or the first again."""
    features = [first[j] for j in columns if first[j]]
    if features and not any(map(_is_numeric, features)):
        return True
    # "0,1,2", as pandas names columns: after the empty name of the index, or above fractions.
    named = [j for j, cell in enumerate(first) if cell and (j in columns or not _is_text(cell))]
    numbered = named and [first[j] for j in named] == list(map(str, range(len(named))))
    fractions = len(named) > 2 and not all(cell.isdigit() for cell in second)
    if numbered and (not first[0] or fractions):
        return True
    if position is None or len(second) <= position:
        return False
    # "0,1,2,label", as pandas writes a matrix and its labels.
    return _is_text(first[position]) and _number(second[position]) is not None


def _parse_labels(path: Path, labels: list[str]) -> Array:
    if any(map(_is_text, labels)):
        return np.array(labels)
    try:
        return np.array(list(map(int, labels)), np.int64)  # because floats are not exact
    except OverflowError:
        return np.array(labels)
    except ValueError:
        return _checked_labels(path, np.array(labels, np.float64))
