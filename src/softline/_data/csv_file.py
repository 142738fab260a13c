"""Reader of .csv and .tsv files, plain or gzip.

The first lines decide on separator, header and columns. pyarrow reads the rows below, where it is installed
and they are plain; NumPy reads all others. A row that neither can read is looked for line by line.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, groupby, islice
from typing import Any, NamedTuple

import numpy as np

from softline._data import arrow
from softline._data.files import DataError, Source
from softline._data.table import MISSING, BadColumn, Columns, Roles, Table, checked_labels, refuse
from softline._typing import Array
from softline._words import counted

# Where two fit a file equally well, the first wins, because "1,5;a" more likely has a decimal comma.
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas"}
SAMPLE = 20  # number of lines that decide the separator
MOST_CHARACTERS = 1 << 24  # of a line
DECIMAL_COMMA = re.compile(r"\s*[+-]?(\d+(\.\d{3})*)?,\d+\s*")


class Factors(NamedTuple):
    """Cells of a column of text: the different values, and the position of each cell's value among them."""

    values: list[str]
    codes: Array


def read_csv(source: Source, columns: Columns) -> Table:
    """Read a table; numbers become float64."""
    file = CsvFile(source, columns)
    try:
        file.find_layout()
        file.find_columns()
        X, text, labels = file.read()
    except (csv.Error, UnicodeDecodeError) as err:
        expected = f"expected UTF-8 text in columns separated by {SEPARATORS[file.separator]}"
        raise DataError(f"{source}: {expected}; found: {err}") from err
    except (gzip.BadGzipFile, EOFError, zlib.error) as err:
        raise DataError(f"{source}: expected a complete gzip file; found: {err}") from err
    header, (position, numeric, categorical) = file.header, file.roles
    return Table(
        X,
        None if labels is None else _parse_labels(source, labels),
        header and [header[j] for j in numeric],
        numeric,
        None if position is None else header[position] if header else f"column {position}",
        text,
        [header[j] if header else j for j in categorical],
        file.n_columns,
        header,
    )


class CsvFile:
    """A .csv file, read line by line."""

    separator, n_columns = ",", 0
    header: list[str] | None = None
    after = 0  # the number of the line that ends the header
    roles: Roles

    def __init__(self, source: Source, columns: Columns) -> None:
        self.source, self.wanted = source, columns

    def lines(self) -> Iterator[tuple[int, str]]:
        """Lines below the header, with their numbers, without blank lines and comments."""
        number = 0
        open_file = gzip.open if self.source.suffix.endswith(".gz") else io.open
        with open_file(self.source, "rt", newline="", encoding="utf-8-sig") as file:
            while line := file.readline(MOST_CHARACTERS + 1):
                number += 1
                if len(line) > MOST_CHARACTERS:
                    what = f"longer than {MOST_CHARACTERS} characters; expected a row a line"
                    raise DataError(f"{self.source}: line {number} is {what}")
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

        self.separator = "\t" if self.source.suffix.startswith(".tsv") else max(SEPARATORS, key=fit)
        self.n_columns = len((_split_lines(lines, self.separator) or [[]])[0])

    def find_columns(self) -> None:
        """Find the header, the label and the features, by the first rows."""
        head = list(islice(self.rows(), 3))
        if not head:
            raise DataError(f"{self.source}: empty; expected rows of numbers")
        if len(head) > 1 and head[0][1][0].startswith("#") and all(map(_is_text, head[1][1])):
            self.after, _ = head.pop(0)  # a comment with as many cells as the header below it
        first, second = ([cell.strip() for cell in row] for _, row in (head[0], head[min(1, len(head) - 1)]))
        first[0] = first[0].removeprefix("#").lstrip()  # as NumPy writes a header
        self.roles = self.wanted.roles(self.source, len(first), first)
        if not (self.roles.numeric or self.roles.categorical):
            separators = ", ".join(reversed(SEPARATORS.values()))
            found = counted(len(first), "column")
            raise DataError(f"{self.source}: {found}; expected features and a label, by {separators}")
        named = bool(self.wanted.names) and self.wanted.names <= set(first)
        if named or _is_header(first, second, self.roles.numeric, self.roles.label):
            self.after, self.header = head[0][0], first
            self.roles = self.wanted.features_named(self.source, first, self.roles)
            if len(head) == 1:
                raise DataError(f"{self.source}: a header and nothing else; expected rows of numbers")

    def read(self) -> tuple[Array, Array, Factors | None]:
        """Numbers, categorical cells and labels."""
        position, _, categorical = self.roles
        X, factors = self._read_with_arrow() or self._read_with_numpy()
        labels = None if position is None else factors[position]
        # An unclosed quote turns all that follows into one label.
        empty_or_long = labels and not all(label and "\n" not in label for label in labels.values)
        if empty_or_long or not np.isfinite(X if self.wanted.missing == "error" else np.nan_to_num(X)).all():
            self.check()
        text = np.empty((len(X), len(categorical)), object)
        for i, j in enumerate(categorical):
            text[:, i] = np.array(factors[j].values, object)[factors[j].codes]
        return X, text, labels

    def _read_with_arrow(self) -> tuple[Array, dict[int, Factors]] | None:
        """Numbers, and columns of text by position; None where pyarrow is missing or cannot read a row."""
        position, numeric, categorical = self.roles
        text = [*categorical, *([] if position is None else [position])]
        missing = MISSING if self.wanted.missing != "error" else ()
        read = arrow.read_csv(self.source, self.after, self.separator, self.n_columns, numeric, text, missing)
        if read is None:
            return None
        X, columns = read
        return X, {
            j: Factors([value.strip() for value in values], codes) for j, (values, codes) in columns.items()
        }

    def _read_with_numpy(self) -> tuple[Array, dict[int, Factors]]:
        """Numbers, and columns of text by position."""
        position, numeric, categorical = self.roles
        kinds = dict.fromkeys(numeric, "number") | dict.fromkeys((position, *categorical), "text")
        runs = [(kind, [*run]) for kind, run in groupby(range(self.n_columns), kinds.get)]
        types = [
            (f"{i}", float if kind == "number" else object, (len(run),)) for i, (kind, run) in enumerate(runs)
        ]
        lines = (line for _, line in self.lines())
        to_number: Any = None if self.wanted.missing == "error" else dict.fromkeys(numeric, _number_or_nan)
        try:
            table = np.loadtxt(lines, types, None, self.separator, to_number, ndmin=1, quotechar='"')
        except ValueError as error:
            self.check()
            raise DataError(f"{self.source}: {error}") from error
        numbers = [table[f"{i}"] for i, (kind, _) in enumerate(runs) if kind == "number"]
        X = numbers[0] if len(numbers) == 1 else np.hstack([np.empty((len(table), 0)), *numbers])
        factors = {}
        for i, (kind, run) in enumerate(runs):
            for k, j in enumerate(run if kind == "text" else ()):
                factors[j] = _factors(cell.strip() for cell in table[f"{i}"][:, k])
        return X, factors

    def check(self) -> None:
        """Raise DataError for columns that cannot be read, or for the first row of another length."""
        position, numeric, _ = self.roles
        bad: dict[int, BadColumn] = {}
        hint, n_rows = "", 0
        for line, row in self.rows():
            place, n_rows = f"line {line}", n_rows + 1
            if len(row) != self.n_columns:
                raise DataError(
                    f"{self.source}: {place} has {counted(len(row), 'column')}, separated by "
                    f"{SEPARATORS[self.separator]}; expected {self.n_columns}, as in the first row"
                )
            if position is not None and not row[position].strip():
                raise DataError(f"{self.source}: {place} has an empty label")
            for j in numeric:
                cell, missing = row[j], row[j].strip() in MISSING
                if math.isfinite(_number(cell, default=math.nan)) or (
                    missing and self.wanted.missing != "error"
                ):
                    continue
                if j not in bad:
                    name = repr(self.header[j]) if self.header else str(j + 1)
                    bad[j] = BadColumn(name, self.header[j] if self.header else str(j), place, cell)
                if not missing and _number(cell) is None:
                    bad[j].values.add(cell)
                    bad[j].n_texts += 1
                if DECIMAL_COMMA.fullmatch(cell):
                    hint = " with a decimal point: pandas.read_csv(..., decimal=',') reads decimal commas"
        if bad:
            refuse(self.source, self.wanted, [bad[j] for j in sorted(bad)], n_rows, hint)


def _factors(cells: Iterable[str]) -> Factors:
    values: dict[str, int] = {}
    codes = [values.setdefault(cell, len(values)) for cell in cells]
    return Factors(list(values), np.array(codes, np.intp))


def _number_or_nan(cell: str) -> float:
    """Number in a cell, NaN if it lacks one; ValueError for anything else."""
    return math.nan if cell.strip() in MISSING else float(cell if _number(cell) is not None else "no number")


def _split_lines(lines: list[str], separator: str) -> list[list[str]]:
    """Split lines into rows of cells; no rows if the quotes are wrong."""
    with contextlib.suppress(csv.Error):
        return list(csv.reader(lines, delimiter=separator))
    return []


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


def _parse_labels(source: Source, labels: Factors) -> Array:
    """Labels (n,): numbers if all of them are, else text."""
    values = labels.values
    if any(map(_is_text, values)):
        return np.array(values)[labels.codes]
    try:
        return np.array(list(map(int, values)), np.int64)[labels.codes]  # because floats are not exact
    except OverflowError:
        return np.array(values)[labels.codes]
    except ValueError:
        return checked_labels(source, np.array(values, np.float64)[labels.codes])
