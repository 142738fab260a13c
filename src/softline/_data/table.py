"""Table of features and labels, which columns of a file are what, and messages about them."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from softline._data.files import DataError, Source
from softline._typing import Array
from softline._words import did_you_mean, shortened

Column: TypeAlias = int | str  # position, counted from 0 or, if negative, from the end; or name
Missing: TypeAlias = Literal["error", "drop", "mean"]

# Names that pandas gives to columns without one.
NAMELESS = re.compile(r"|Unnamed: \d+(\.\d+)*")
# Cells that lack a number.
MISSING = frozenset(["", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None"])


class DataWarning(UserWarning):
    """Warning of a file that can be read, but has something that is unlikely to be meant for training."""


def warn(source: Source | Path, message: str) -> None:
    """Warn of the contents of a file."""
    warnings.warn(f"{source}: {message}", DataWarning, stacklevel=4)


def listed(names: Sequence[object]) -> str:
    """Names in one line, cut where it is too long."""
    return shortened(names, 100)


class Roles(NamedTuple):
    """Positions of the columns of a file, by what they are; the others are left out."""

    label: int | None
    numeric: list[int]
    categorical: list[int]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what.

    Attributes
    ----------
    label : int, str or None
    drop, categorical : sequence of int or str
        Columns to leave out, and columns of text to make features of.
    missing : {"error", "drop", "mean"}
        What becomes of a row without a number in one of its columns.
    """

    label: Column | None = None
    drop: Sequence[Column] = ()
    categorical: Sequence[Column] = ()
    missing: Missing = "error"

    @property
    def names(self) -> set[str]:
        """Names of columns that a header must have."""
        return {column for column in (self.label, *self.drop, *self.categorical) if isinstance(column, str)}

    def roles(self, source: Source, n_columns: int, names: Sequence[str] = ()) -> Roles:
        """Roles of the columns of a file, which may have names; DataError if one is not there."""
        label = None if self.label is None else position_of(source, self.label, n_columns, names)
        dropped, categorical = (
            [position_of(source, column, n_columns, names) for column in columns]
            for columns in (self.drop, self.categorical)
        )
        taken = {label, *dropped, *categorical}
        if len(taken) < 1 + len(dropped) + len(categorical):
            raise DataError(
                f"{source}: a column has two of the roles label, drop and categorical; expected one"
            )
        return Roles(label, [j for j in range(n_columns) if j not in taken], sorted(categorical))

    def features_named(self, source: Source, header: list[str], roles: Roles) -> Roles:
        """Roles of the columns below a header: the features are those that have names."""
        nameless = list(takewhile(lambda j: NAMELESS.fullmatch(header[j]), roles.numeric))
        if not nameless or nameless == roles.numeric:
            return roles
        warn(
            source, "left out the first column, which has no name: row numbers and row names are no features"
        )
        return roles._replace(numeric=roles.numeric[len(nameless) :])


def position_of(source: Source, column: Column, n_columns: int, names: Sequence[str] = ()) -> int:
    """Position 0..n_columns-1 of a column: a position or, if text, one of `names`."""
    if column in names:
        if names.count(column) > 1:
            raise DataError(f"{source}: {names.count(column)} columns {column!r}; give the position of one")
        return names.index(column)
    if isinstance(column, str):
        known = listed(names) or "its positions: it has no names"
        hint = did_you_mean(column, names)
        raise DataError(f"{source}: no column {column!r}; expected one of {known}{hint}")
    if not -n_columns <= column < n_columns:
        raise DataError(f"{source}: no column {column}; expected {-n_columns} to {n_columns - 1}")
    return column % n_columns


@dataclass(frozen=True)
class Table:
    """Features and labels of a file.

    Attributes
    ----------
    X : (n, D) array
        Numbers; NaN where one is missing.
    y : (n,) or (n, C) array, or None
        Labels, or targets.
    names : list of str or None
        Names of the columns of X, if there is a header.
    positions : sequence of int
        Where the columns of X stand in the file; a column of lists is several of X.
    label_name : str or None
        Name of the label's column, or "column 4", counted from 0.
    text : (n, k) array of str
        Categorical columns.
    text_columns : list of int or str
        Their names or, without a header, positions.
    n_columns : int
        Number of columns of the file.
    header : list of str or None
        Their names.
    image_shape : tuple of int or None
        Shape of a row before it was flattened.
    """

    X: Array
    y: Array | None = None
    names: list[str] | None = None
    positions: Sequence[int] = ()
    label_name: str | None = None
    text: Array = field(default_factory=lambda: np.empty((0, 0), object))
    text_columns: Sequence[Column] = ()
    n_columns: int = 0
    header: list[str] | None = None
    image_shape: tuple[int, ...] | None = None

    def told(self, columns: Sequence[int]) -> str:
        """Names of some of the features in a message."""
        found = listed([self.positions[j] if self.names is None else repr(self.names[j]) for j in columns])
        counted = " (counted from 0)" if self.names is None else ""
        return f"column{'s' * (len(columns) > 1)} {found}{counted}"

    def without(self, columns: Sequence[int]) -> Table:
        """Table without some of its features."""
        kept = [j for j in range(self.X.shape[1]) if j not in set(columns)]
        return replace(
            self,
            X=take_columns(self.X, kept),
            names=self.names and [self.names[j] for j in kept],
            positions=[self.positions[j] for j in kept],
        )

    def rows(self, kept: Array) -> Table:
        """Table of some of its rows."""
        y, text = (
            None if self.y is None else self.y[kept],
            self.text[kept] if self.text_columns else self.text,
        )
        return replace(self, X=self.X[kept], y=y, text=text)


def take_columns(X: Array, columns: Sequence[int]) -> Array:
    """Columns in order, without a copy if they are adjacent."""
    if columns and len(columns) == columns[-1] - columns[0] + 1:
        return X[:, columns[0] : columns[-1] + 1]
    return X[:, list(columns)]


def checked_labels(source: Source, y: Array) -> Array:
    """Check labels (n,); whole numbers become int64, others stay as they are."""
    if y.dtype.kind not in "biufU":
        raise DataError(f"{source}: labels of type {y.dtype}; expected numbers or text")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        row = np.flatnonzero(~np.isfinite(y))[0]
        raise DataError(f"{source}: label {y[row]} in row {row}, counted from 0; expected a finite number")
    if y.dtype.kind == "f":
        whole = ((y == np.rint(y)) & (abs(y) < 2**53)).all()
    else:
        whole = y.dtype.kind in "iu" and (y.size == 0 or y.max() < 2**63)
    return y.astype(np.int64) if whole else y


# ---- columns that are no numbers -------------------------------------------------------------------------


@dataclass
class BadColumn:
    """Column with cells that are no finite numbers.

    Attributes
    ----------
    name : str
        What messages call the column.
    option : str
        What an option of the command line calls it.
    place, cell : str
        The first such cell: "line 3", and what it holds.
    values : set of str
        The texts in it; none if cells only lack a number.
    n_texts : int
        Number of cells with such a text.
    """

    name: str
    option: str
    place: str
    cell: str
    values: set[str] = field(default_factory=set)
    n_texts: int = 0


def refuse(source: Source, columns: Columns, bad: Sequence[BadColumn], n_rows: int, hint: str = "") -> None:
    """Raise DataError for columns that are no numbers, with the options that would read them."""
    cells = "; ".join(f"{column.place}, column {column.name} holds {column.cell!r}" for column in bad)
    expected = "a finite number" if len(bad) == 1 else "finite numbers"
    if not hint and columns.label is None:
        hint = "; if the column is the label, name it as such"
    elif not hint and type(columns) is Columns:  # and not those that a model knows
        # A text that most rows have for themselves is a name or a date; one that few rows have is damage.
        own = [column.option for column in bad if len(column.values) > max(20, n_rows / 2)]
        text = [column.option for column in bad if column.n_texts > n_rows / 2 and column.option not in own]
        options = (("--categorical", text), ("--drop", own))
        advice = [f"{flag} {shlex.quote(','.join(names))}" for flag, names in options if names]
        advice += ["--missing mean"] * any(not column.values for column in bad)
        hint = f"; {' '.join(advice)} would read {'it' if len(bad) == 1 else 'them'}" if advice else ""
    raise DataError(f"{source}: {cells}; expected {expected}{hint}")
