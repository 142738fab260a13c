"""Preparation of a table: how its columns become features, as a model's file keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from softline._data.files import DataError, Source
from softline._data.table import Column, Columns, Missing, Roles, Table, listed, position_of, warn
from softline._typing import Array

# A column of more different texts than this, in more than half of the rows, holds names or dates.
MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class Preparation:
    """How the columns of a table become the features of a model.

    A dataset has one as `preparation`; a model that has it as `preparation_` keeps it in its file, and
    `read_features` prepares new rows in the same way.

    Attributes
    ----------
    label : int, str or None
        Column of the label in the file that the model was trained on.
    left_out : tuple of int or str
        Columns that are no features.
    categorical : tuple of int or str
        Columns of text, each of which becomes a feature for each of its categories.
    categories : tuple of tuple of str
        Categories of each of these columns.
    numeric : tuple of str or None
        Names of the columns of numbers; None without a header.
    n_columns : int
        Number of columns of that file.
    missing : {"error", "drop", "mean"}
        What became of rows that lack a number.
    means : tuple of float or None
        What stands for a missing number in each feature.
    dtype : str or None
        Type of the features; None keeps that of the file.
    has_test_file : bool
        Whether the test rows are in a file of their own.
    """

    label: Column | None = None
    left_out: tuple[Column, ...] = ()
    categorical: tuple[Column, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    numeric: tuple[str, ...] | None = None
    n_columns: int = 0
    missing: Missing = "error"
    means: tuple[float, ...] | None = None
    dtype: str | None = None
    has_test_file: bool = False

    # ---- from a table to its features ------------------------------------------------------------------

    def features(self, source: Source, table: Table) -> tuple[Array, list[str] | None]:
        """Features of a table and their names: its numbers, then 0 and 1 for each category."""
        if not self.categorical:
            return table.X, table.names
        from sklearn.preprocessing import OneHotEncoder

        for column, known, cells in zip(self.categorical, self.categories, table.text.T, strict=True):
            if new := sorted(set(cells) - set(known)):
                told = listed([repr(value) for value in new])
                warn(source, f"column {column!r} has values that training had not, of no category: {told}")
        encoder = OneHotEncoder(
            categories=[np.array(known, object) for known in self.categories],
            handle_unknown="ignore",
            sparse_output=False,
            dtype=np.float32 if table.X.dtype == np.float32 else np.float64,
        )
        encoder.fit(np.array([[known[0] for known in self.categories]], object))
        X = np.hstack([table.X, encoder.transform(table.text)])
        if table.names is None:
            return X, None
        return X, [*table.names, *encoder.get_feature_names_out(list(self.categorical))]

    def filled(self, X: Array) -> Array:
        """Features of the type of the model, with means for the missing ones."""
        if self.means is not None and X.dtype.kind == "f" and np.isnan(X).any():
            X = np.where(np.isnan(X), np.array(self.means, X.dtype), X)
        return X if self.dtype is None else X.astype(self.dtype, copy=False)

    # ---- new rows --------------------------------------------------------------------------------------

    def columns(self, label: Column | None, missing: Missing) -> Columns:
        """Columns of a file with rows to predict, or to evaluate if `label` says where the labels are."""
        return _KnownColumns(label, self.left_out, self.categorical, missing, self)

    # ---- in a model's file -----------------------------------------------------------------------------

    def to_header(self) -> dict[str, Any]:
        """Fields as JSON holds them, without those that say nothing."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Preparation, name)}

    @classmethod
    def from_header(cls, header: dict[str, Any], n_features: int) -> Preparation:
        """Preparation from a header that is not trusted; ValueError if it fits no model of `n_features`."""
        header = {name: _tuples(value) for name, value in header.items()}
        found = cls(**header)
        columns = (*found.left_out, *found.categorical, *(() if found.label is None else (found.label,)))
        texts = [*(found.numeric or ()), *(text for known in found.categories for text in known)]
        right = (
            all(type(column) in (int, str) for column in columns)
            and all(isinstance(text, str) for text in texts)
            and len(found.categories) == len(found.categorical)
            and all(found.categories)
            and type(found.n_columns) is int
            and found.missing in ("error", "drop", "mean")
            and found.dtype in (None, "float32", "float64")
            and type(found.has_test_file) is bool
            and (found.means is None or (len(found.means) == n_features and np.isfinite(found.means).all()))
        )
        if not right:
            raise ValueError(f"the preparation is {found}")
        return found


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def prepare(source: Source, table: Table, columns: Columns, dtype: str | None) -> Preparation:
    """Preparation of a table to be trained on; its means are those of `with_means`."""
    categories = []
    for column, cells in zip(table.text_columns, table.text.T, strict=True):
        values = sorted(set(cells))
        if len(values) > max(MOST_CATEGORIES, len(cells) / 2):
            raise DataError(
                f"{source}: categorical column {column!r} has {len(values)} different values in {len(cells)} "
                "rows, as names and dates have, which are no features; --drop leaves it out"
            )
        categories.append(tuple(values))
    names: Any = table.header or range(table.n_columns)
    numeric = list(dict.fromkeys(names[j] for j in table.positions))
    label = None if columns.label is None else names[position_of(source, columns.label, len(names), names)]
    features = {*numeric, *table.text_columns}
    return Preparation(
        label=label,
        left_out=tuple(name for name in names if name not in features and name != label),
        categorical=tuple(table.text_columns),
        categories=tuple(categories),
        numeric=None if table.header is None else tuple(numeric),
        n_columns=table.n_columns,
        missing=columns.missing,
        dtype=dtype,
    )


def with_means(preparation: Preparation, X_train: Array) -> Preparation:
    """Preparation with the means of training rows, if these stand for missing numbers."""
    if preparation.missing != "mean":
        return preparation
    with np.errstate(invalid="ignore"):
        counts = (~np.isnan(X_train)).sum(axis=0) if X_train.dtype.kind == "f" else len(X_train)
        means = np.nansum(X_train, axis=0, dtype=float) / np.maximum(counts, 1)
    return replace(preparation, means=tuple(map(float, means)))


@dataclass(frozen=True)
class _KnownColumns(Columns):
    """Columns of a file with new rows, of which some may be missing that are no features."""

    trained: Preparation = Preparation()

    @property
    def names(self) -> set[str]:
        known = (self.label, *(self.trained.numeric or ()), *self.categorical)
        return {column for column in known if isinstance(column, str)}

    def roles(self, source: Source, n_columns: int, names: Sequence[str] = ()) -> Roles:
        trained = self.trained
        label = None if self.label is None else position_of(source, self.label, n_columns, names)
        if trained.numeric is not None or not trained.n_columns:
            aside = {names.index(name) for name in (trained.label, *self.drop) if name in names}
            categorical = [
                position_of(source, name, n_columns, names) for name in self.categorical if name in names
            ]
        else:
            # A file without a header has all columns, or lacks the label, or all that are no features.
            apart = () if trained.label is None else (trained.label,)
            missing: tuple[Any, ...] = ()
            for missing in ((), apart, (*apart, *self.drop)):
                if n_columns == trained.n_columns - len(missing):
                    break
            else:
                missing, apart = (), ()
            moved = {j: j - sum(k < j for k in missing) for j in (*apart, *self.drop, *self.categorical)}
            aside = {moved[j] for j in (*apart, *self.drop) if j not in missing}
            categorical = [moved[j] for j in self.categorical]
        features = [j for j in range(n_columns) if j not in {label, *aside, *categorical}]
        return Roles(label, features, categorical)

    def features_named(self, source: Source, header: list[str], roles: Roles) -> Roles:
        known = set(self.trained.numeric or ())
        numeric = [j for j in roles.numeric if header[j] in known]
        if not numeric:
            return super().features_named(source, header, roles)
        others = [
            repr(header[j]) if header[j] else "a column without a name"
            for j in roles.numeric
            if j not in numeric
        ]
        if others:
            warn(source, f"left out what the model was not trained on: {listed(others)}")
        return roles._replace(numeric=numeric)
