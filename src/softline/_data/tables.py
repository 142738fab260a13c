"""Tables of files and folders of shards, with warnings of columns that look wrong.

Nothing in a file is trusted before it is checked, and no column is left out without a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from softline._data.arrays import checked_targets, map_npy, read_npy, read_npz, table_of
from softline._data.arrow import read_parquet
from softline._data.csv_file import read_csv
from softline._data.files import DataError, Source, open_sources
from softline._data.table import Columns, Table, warn
from softline._typing import Array, PathLike
from softline._words import counted

# Fewest rows to take a column for a count, or for identifiers: fewer may look so by chance.
FEWEST_COUNTED, FEWEST_IDENTIFIERS = 10, 20


def read_table(sources: Sequence[Source], columns: Columns, labels: PathLike | None = None) -> Table:
    """Read the files of a table: features as stored, and labels, if columns or `labels` say where they are.

    Parameters
    ----------
    sources : sequence of Source
        As :func:`open_sources` returns them; their rows follow each other.
    columns : Columns
    labels : path-like or None
        A .npy file of labels or targets, or a folder of them.

    Returns
    -------
    Table
    """
    table = _joined(sources, [_read(source, columns, labels is None) for source in sources])
    if labels is not None:
        table = replace(table, y=read_labels(labels, len(table.X)), label_name=str(labels))
    return with_all_numbers(sources[0], table) if columns.missing == "drop" else table


def _read(source: Source, columns: Columns, labelled: bool) -> Table:
    """Table of one file; one of arrays has a y, if it is `labelled` and there is any."""
    match source.suffix:
        case ".npz":
            if columns.label is not None:
                raise ValueError(
                    f"label={columns.label!r} chooses a column; labels of a .npz file are an array"
                )
            arrays = read_npz(source)
            return table_of(source, arrays, "", columns.missing, labelled=labelled and "y" in arrays)
        case ".npy":
            return read_npy(source, columns)
        case ".parquet":
            return read_parquet(source, columns)
    return read_csv(source, columns)


def _joined(sources: Sequence[Source], tables: list[Table]) -> Table:
    """Rows of all shards."""
    first, *others = tables
    if not others:
        return first
    for source, table in zip(sources[1:], others, strict=True):
        columns = table.names, list(table.positions), table.label_name
        if columns != (first.names, list(first.positions), first.label_name):
            raise DataError(f"{source}: other columns than {sources[0]}; expected the same in each shard")
    return replace(
        first,
        X=np.concatenate([table.X for table in tables]),
        y=None if first.y is None else np.concatenate([table.y for table in tables]),
        text=np.concatenate([table.text for table in tables]),
    )


def read_labels(path: PathLike, n_rows: int) -> Array:
    """Read labels (n,), or targets (n, C), from a .npy file or a folder of them."""
    sources = open_sources(path)
    for source in sources:
        if source.suffix != ".npy":
            raise DataError(f"{source}: labels in a file of their own are an array; expected a .npy file")
    y = np.concatenate([map_npy(source) for source in sources])
    return checked_targets(sources[0], "y", y, n_rows)


def with_all_numbers(source: Source, table: Table) -> Table:
    """Table without rows that lack a number, with a warning."""
    is_nan: Array = np.isnan(table.X) if table.X.dtype.kind == "f" else np.zeros(table.X.shape, bool)
    lack = np.asarray(is_nan.any(axis=1))
    if not lack.any():
        return table
    if lack.all():
        raise DataError(f"{source}: every row lacks a number; expected some that are whole")
    warn(source, f"left out {counted(int(lack.sum()), 'row')} of {len(lack)}, which lack a number")
    return table.rows(~lack)


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


def without_row_numbers(source: Source, table: Table) -> Table:
    """Table without columns that only count its rows, with a warning."""
    counting = counting_columns(table.X) if len(table.X) >= FEWEST_COUNTED else []
    if not counting or len(counting) == table.X.shape[1]:
        return table
    what = "they only count" if len(counting) > 1 else "it only counts"
    warn(source, f"left out {table.told(counting)}: {what} the rows")
    return table.without(counting)


def warn_of_identifiers(source: Source, table: Table) -> None:
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
    warn(source, message)


def check_labels_are_classes(source: Source, y: Array, label_name: str | None, *, chosen: bool) -> None:
    """Warn of labels that look like measurements; refuse fractions if nobody chose the column."""
    if y.dtype.kind not in "iuf":
        return
    values = np.unique(y)
    examples = ", ".join(f"{value:.6g}" for value in values[:3])
    what = f"looks like a measurement: {len(values)} different numbers in {len(y)} rows, as {examples}"
    if y.dtype.kind == "f" and not chosen:
        raise DataError(
            f"{source}: the last column ({label_name}) is taken for the label, but {what}; choose another "
            "column (label=..., --label COLUMN), or put the labels into an array y of a .npz file"
        )
    if y.dtype.kind == "f" or len(values) > max(20, len(y) / 5):
        warn(
            source,
            f"the label ({label_name}) {what}; a classifier takes each for a class, regression does not",
        )
