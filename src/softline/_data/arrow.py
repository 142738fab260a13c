"""Tables as pyarrow reads them: plain .csv files fast, and .parquet files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from softline._data.files import DataError, Source
from softline._data.table import BadColumn, Columns, Table, checked_labels, refuse, warn
from softline._typing import Array

INDEX = re.compile(r"__index_level_\d+__")  # pandas calls the index of a data frame so

# ---- .csv ------------------------------------------------------------------------------------------------


def read_csv(
    source: Source,
    skipped: int,
    separator: str,
    n_columns: int,
    numeric: Sequence[int],
    text: Sequence[int],
    missing: Collection[str],
) -> tuple[Array, dict[int, tuple[list[str], Array]]] | None:
    """Read the rows below the first `skipped` lines.

    Returns numbers (n, D) float64, NaN for the cells that are `missing`; and of each column of `text`, by
    position, the different values and the position of each cell's value among them. None where pyarrow is not
    installed, or a row is not plain: then the caller knows better.
    """
    try:
        import pyarrow
        from pyarrow import csv
    except ImportError:
        return None
    names = [str(j) for j in range(n_columns)]
    types = {names[j]: pyarrow.float64() for j in numeric}
    types |= {names[j]: pyarrow.dictionary(pyarrow.int32(), pyarrow.string()) for j in text}

    def skip_comments(row: Any) -> str:
        return "skip" if row.text.startswith("#") else "error"

    try:
        table = csv.read_csv(
            pyarrow.input_stream(os.fspath(source), "gzip" if source.suffix.endswith(".gz") else None),
            csv.ReadOptions(skip_rows=skipped, column_names=names),
            csv.ParseOptions(delimiter=separator, invalid_row_handler=skip_comments),
            csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=list(missing)),
        )
    except (pyarrow.ArrowException, OSError, TypeError):
        return None
    columns = {j: _factors(table.column(names[j])) for j in text}
    return _matrix([table.column(names[j]) for j in numeric], len(table)), columns


def _factors(column: Any) -> tuple[list[str], Array]:
    """Values of a column of text, and the position of each cell's value among them."""
    column = column.unify_dictionaries().combine_chunks()
    return column.dictionary.to_pylist(), column.indices.to_numpy()


# ---- .parquet --------------------------------------------------------------------------------------------


def read_parquet(source: Source, columns: Columns) -> Table:
    """Read a table; numbers keep their type, and a column of lists of the same length is as many features."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f'{source}: reading .parquet needs pyarrow: pip install "softline[arrow]"'
        ) from error
    try:
        table = parquet.ParquetFile(os.fspath(source)).read()
    except (pyarrow.ArrowException, OSError) as err:
        raise DataError(f"{source}: expected a complete .parquet file; found: {err}") from err
    kept = [name for name in table.column_names if not INDEX.fullmatch(name)]
    if len(kept) < table.num_columns:
        warn(source, "left out the index of a data frame: row numbers and row names are no features")
    table = table.select(kept)
    roles = columns.features_named(source, kept, columns.roles(source, len(kept), kept))
    if not len(table) or not (roles.numeric or roles.categorical):
        raise DataError(f"{source}: {len(table)} rows, {len(kept)} columns; expected features, and a label")
    numeric = [_as_numbers(table.column(j)) for j in roles.numeric]
    _check(source, columns, table, dict(zip(roles.numeric, numeric, strict=True)))
    X = _matrix(numeric, len(table))
    names, positions = [], []
    for j, column in zip(roles.numeric, numeric, strict=True):
        width = _width(column)
        names += [f"{kept[j]}_{i}" for i in range(width)] if _is_list(column) else [kept[j]]
        positions += [j] * width
    text = np.empty((len(table), len(roles.categorical)), object)
    for i, j in enumerate(roles.categorical):
        text[:, i] = ["" if cell is None else str(cell) for cell in table.column(j).to_pylist()]
    label = None if roles.label is None else kept[roles.label]
    y = None if label is None else _labels(source, label, table.column(label))
    text_columns = [kept[j] for j in roles.categorical]
    return Table(X, y, names, positions, label, text, text_columns, len(kept), kept)


def _labels(source: Source, name: str, column: Any) -> Array:
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(f"{source}: row {row}, counted from 0, has an empty label ({name!r})")
    labels = np.array(column.to_pylist())
    return checked_labels(source, labels)


def _check(source: Source, columns: Columns, table: Any, numeric: dict[int, Any]) -> None:
    """Raise DataError for columns that are no finite numbers; a missing one may be allowed."""
    bad = []
    for j, column in numeric.items():
        name, values = table.column_names[j], set()
        if column is None:
            cells = table.column(j)
            row = next((i for i, cell in enumerate(cells) if cell.is_valid), 0)
            cell, values = str(cells[row]), set(map(str, cells.to_pylist()))
        else:
            X = _matrix([column], len(column))
            wrong = np.isinf(X) if columns.missing != "error" else ~np.isfinite(X)
            if not wrong.any():
                continue
            row = int(wrong.any(axis=1).argmax())
            cell = str(X[row][wrong[row]][0])
        n_texts = len(table) if values else 0
        bad.append(BadColumn(repr(name), name, f"row {row} (counted from 0)", cell, values, n_texts))
    if bad:
        refuse(source, columns, bad, len(table))


def _as_numbers(column: Any) -> Any:
    """Column of numbers or of lists of numbers; None if it holds something else."""
    from pyarrow import bool_, compute, float64, int8, types

    if column.type == bool_():
        return column.cast(int8())
    if types.is_decimal(column.type):
        return column.cast(float64())
    if _is_list(column):
        is_number = types.is_floating(column.type.value_type) or types.is_integer(column.type.value_type)
        same = not column.null_count and len(compute.list_value_length(column).unique()) == 1
        return column if is_number and same and _width(column) else None
    return column if types.is_floating(column.type) or types.is_integer(column.type) else None


def _is_list(column: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_list(column.type)
        or types.is_large_list(column.type)
        or types.is_fixed_size_list(column.type)
    )


def _width(column: Any) -> int:
    return len(column[0]) if _is_list(column) else 1


def _matrix(columns: Sequence[Any], n_rows: int) -> Array:
    """Columns of numbers, or of lists of them, as a matrix of the narrowest type for all; NaN for nulls."""
    dtypes = [_dtype(column) for column in columns]
    X = np.empty((n_rows, sum(map(_width, columns))), np.result_type(*dtypes) if dtypes else np.float64)
    first = 0
    for column in columns:
        start, last = 0, first + _width(column)
        for chunk in column.chunks:
            stop = start + len(chunk)
            values = chunk.flatten() if _is_list(column) else chunk
            X[start:stop, first:last] = values.to_numpy(zero_copy_only=False).reshape(len(chunk), -1)
            start = stop
        first = last
    return X


def _dtype(column: Any) -> Any:
    if _is_list(column):
        return column.type.value_type.to_pandas_dtype()
    return np.float64 if column.null_count else column.type.to_pandas_dtype()
