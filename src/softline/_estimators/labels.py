"""Labels and weights as the kernels take them: codes, targets, and the weight of each row."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from softline._estimators._sklearn import check_sample_weight
from softline._kernels.rows import Rows
from softline._training.trainer import Seen
from softline._typing import Array, ClassWeight

# Largest deviation of the sum of a row of targets from 1: what rounding to float16 does.
TARGET_TOLERANCE = 1e-3


# ---- labels and targets ----------------------------------------------------------------------------------


def n_columns(y: Any) -> int:
    """Number of columns of a matrix; 0 for anything else."""
    shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    return shape[1] if len(shape) == 2 else 0


def holds_indicators(y: Array) -> bool:
    """Whether a checked y holds 0 and 1 for each of several labels, not probabilities, which are floats."""
    return y.ndim == 2 and y.dtype.kind != "f"


def check_labels(y: Array) -> Array:
    """Check labels of a classification; objects that are numbers become plain numbers."""
    if y.dtype == object and (plain := np.asarray(y.tolist())).dtype.kind in "biuf":
        y = plain  # because scikit-learn takes only objects that are strings
    try:
        check_classification_targets(y)
    except TypeError as error:  # labels are sorted, and some cannot be compared
        raise TypeError(f"the labels in y must all be numbers or all be strings: {error}") from error
    return y


def check_targets(y: Array, dtype: np.dtype[Any]) -> Array:
    """Rows of probabilities as the kernels read them, copied only if needed; ValueError if they are none."""
    if y.dtype.kind not in "buif":
        raise ValueError(f"y of shape {y.shape} must hold probabilities; its dtype is {y.dtype}")
    if y.min() < 0:
        row = int(y.min(axis=1).argmin())
        raise ValueError(f"y of shape {y.shape} must hold probabilities; row {row} has {y[row].min()}")
    sums = y.sum(axis=1, dtype=float)
    row = int(np.abs(sums - 1).argmax())
    if abs(sums[row] - 1) > TARGET_TOLERANCE:
        raise ValueError(
            f"y of shape {y.shape} must hold probabilities that sum to 1 in each row, within "
            f"{TARGET_TOLERANCE}; row {row} sums to {sums[row]:.6g}"
        )
    return np.asarray(y, dtype) if y.strides[1] == y.itemsize else np.ascontiguousarray(y, dtype)


def check_targets_or_indicators(y: Array, dtype: np.dtype[Any], several: bool | None = None) -> Array:
    """Rows of 0 and 1, for `several` labels a row, as int32; others as `check_targets` returns them.

    With `several` None, floats that are not all 0 or 1 are probabilities. ValueError if they are neither.
    """
    ones = np.isin(y, (0, 1)).all()
    if several is None:
        several = bool(ones) or y.dtype.kind != "f"
    if not several:
        return check_targets(y, dtype)
    if not ones:
        raise ValueError(f"y of shape {y.shape} must hold 0 and 1, for several labels a row")
    return np.ascontiguousarray(y, np.int32)


def classes_of(y: Array) -> tuple[Array, Array]:
    """Classes and codes of labels y; for a matrix y, its column numbers and y itself."""
    if y.ndim == 2:
        return np.arange(y.shape[1]), y
    classes, codes = np.unique(y, return_inverse=True)
    return classes, codes.astype(np.int32)


def encode(y: Array, classes: Array, name: str) -> Array:
    """Codes of labels of known classes; a matrix with a column for each class is passed through.

    ValueError if a label is not among the classes; the message begins with `name`.
    """
    if y.ndim == 2:
        if y.shape[1] != len(classes):
            raise ValueError(f"{name} has {y.shape[1]} columns; the classes are {classes}")
        return y
    try:
        codes = np.searchsorted(classes, y)
    except TypeError as error:
        raise ValueError(f"{name} has labels of another type than the classes {classes}") from error
    codes[codes == len(classes)] = 0
    unknown = classes[codes] != y
    if np.any(unknown):
        raise ValueError(f"{name} has labels that are not among the classes: {np.unique(y[unknown])[:5]}")
    return codes.astype(np.int32)


def classes_of_stream(known: Array | None, y: Array, classes: ArrayLike | None, fewest: int = 2) -> Array:
    """Classes of a call to partial_fit; `known` are those of earlier calls, None in the first.

    ValueError if `classes` is missing in the first call, has fewer than `fewest` labels, or differs from
    `known`.
    """
    if known is not None:
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(f"classes={classes!r} differs from the first call's: {known}")
        return known
    if classes is None and y.ndim == 2:
        return np.arange(y.shape[1])
    if classes is None:
        raise ValueError("classes must be passed on the first call to partial_fit")
    classes = np.unique(column_or_1d(classes))
    if len(classes) < fewest:
        raise ValueError(f"classes needs at least two labels; got {classes!r}")
    return classes


# ---- weights ---------------------------------------------------------------------------------------------


def row_weights(
    X: Rows,
    y: Array,
    classes: Array,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight = None,
    seen: Seen | None = None,
    *,
    dtype: DTypeLike | None = None,
    balance_by_weight: bool = True,
) -> Array | None:
    """Product of sample and class weights, (N,) of `dtype` (None: that of X); None where all are 1.

    y holds codes or targets. `seen` has counted earlier rows, which take part in "balanced" weights, and
    counts those of X. "balanced" goes by the sample weights in each class or, with `balance_by_weight` False
    and codes, by the number of rows. ValueError if a weight is negative or not finite, or if all are zero or
    too large to be summed.
    """
    seen = seen or Seen(len(classes))
    if sample_weight is None and class_weight is None:
        seen.n_rows, seen.weight = seen.n_rows + len(X), seen.weight + len(X)
        return None
    weight = check_sample_weight(sample_weight, X.array, dtype=dtype or X.dtype, copy=True)
    if np.any(weight < 0):
        raise ValueError(f"sample_weight must not be negative; the smallest is {weight.min()}")
    counts = seen.of_classes
    if class_weight is not None:
        if class_weight == "balanced":
            if y.ndim == 2:
                counts = counts + np.einsum("n,nc->c", weight, y)  # BLAS's bits depend on its threads
            else:
                counts = counts + np.bincount(y, weights=weight, minlength=len(classes))
            if balance_by_weight:
                of_classes = balanced_weights(counts)
            else:
                n_rows = np.bincount(y, minlength=len(classes))
                of_classes = balanced_weights(np.where(counts > 0, n_rows, 0))
        else:
            of_classes = _weights_of_classes(class_weight, classes)
        of_rows = np.einsum("nc,c->n", y, of_classes) if y.ndim == 2 else of_classes[y]
        weight *= of_rows.astype(weight.dtype)
    with np.errstate(over="ignore"):
        total = weight.sum()
    if not 0 < total < np.inf:
        multiplied = "" if class_weight is None else ", multiplied with the class weights,"
        wrong = "all zero" if total == 0 else f"too large for {weight.dtype}; scale them down"
        raise ValueError(f"the sample weights{multiplied} are {wrong}")
    # Balancing leaves the sum of the weights of all rows as it is.
    balanced = class_weight == "balanced"
    seen.weight = counts.sum() if balanced else seen.weight + weight.sum(dtype=float)
    seen.n_rows, seen.of_classes = seen.n_rows + int(np.count_nonzero(weight)), counts
    return weight


def balanced_weights(counts: Array) -> Array:
    """Weights (C,) of "balanced" classes, from the number or the total weight of the rows of each.

    n / (C n_c) for n rows of C classes, as in scikit-learn. A class without rows, or with rows
    of weight 0, takes no part: its weight is 0, and the others are balanced as if it were not there.
    """
    present = counts > 0
    return np.where(present, counts.sum() / np.where(present, counts, 1), 0) / max(present.sum(), 1)


def _weights_of_classes(class_weight: dict[Any, Any], classes: Array) -> Array:
    """Weights (C,) of a dict, 1 for the classes that it leaves out.

    As in scikit-learn, it may hold labels that are not among the classes, but only if it leaves none out.
    """
    for label, weight in class_weight.items():
        if not (isinstance(weight, Real) and 0 <= float(weight) < np.inf):
            raise ValueError(f"class_weight must hold finite numbers of at least 0; {label!r} has {weight!r}")
    known = classes.tolist()
    unknown = set(class_weight) - set(known)
    if unknown and not set(known) <= set(class_weight):
        raise ValueError(f"class_weight has labels that are not among the classes: {list(unknown)[:5]}")
    return np.array([class_weight.get(label, 1) for label in known], dtype=float)
