"""Rows as they come: X in its own dtype and layout, standardised on the way if asked; and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from softline._typing import Array, Layer

# What the kernels read; float32 holds every value of all but float64.
KERNEL_DTYPES = ("float32", "float64", "float16", "bfloat16", "uint8", "int8", "bool")
_BUILT_IN = frozenset(np.dtype(name) for name in KERNEL_DTYPES if name != "bfloat16")


def kernels_read(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is one of `KERNEL_DTYPES`, in this machine's byte order."""
    return dtype in _BUILT_IN or dtype.name == "bfloat16"


class Rows:
    """A matrix (N, D) that the kernels read as (array - shift) * scale, converting as they go.

    Parameters
    ----------
    array : (N, D) ndarray
        Any strides, copied only if it is not aligned to its items; the dtype is one of `KERNEL_DTYPES`
        (bfloat16 is that of ml_dtypes).
    shift, scale : (D,) arrays or None
        Mean and 1/deviation of each feature, to standardise; or a mean image alone.
    dtype : dtype or None
        What is computed in. None: float64 for float64, float32 for all others.

    Raises
    ------
    TypeError
        If the kernels do not read this dtype.
    """

    def __init__(
        self,
        array: Array,
        shift: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        if not isinstance(array, np.ndarray) or array.ndim != 2:
            what = type(array).__name__ if not isinstance(array, np.ndarray) else f"shape {array.shape}"
            raise TypeError(f"X must be a NumPy array of 2 dimensions; got {what}")
        if not kernels_read(array.dtype):
            raise TypeError(f"X must be of native {', '.join(KERNEL_DTYPES)}; got {array.dtype}")
        self.array = array if array.flags.aligned else array.copy()
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = np.dtype(
            dtype or (np.float64 if array.dtype == np.float64 else np.float32)
        )
        self.shift: Array | None
        self.scale: Array | None
        self.shift, self.scale = (
            None if a is None else np.ascontiguousarray(a, self.dtype) for a in (shift, scale)
        )

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: Any) -> Array:
        """Rows as the kernels read them."""
        rows = self.array[index].astype(self.dtype, copy=False)
        if self.shift is not None:
            rows = rows - self.shift
        return rows if self.scale is None else rows * self.scale

    def weights_for_array(self, W: Array, b: Array) -> Layer:
        """Weights W (C, D) and b (C,) that act on these rows, as those that act on the array itself."""
        coef = W if self.scale is None else W * self.scale.astype(float)
        intercept = b if self.shift is None else b - _along(coef, self.shift)
        return np.ascontiguousarray(coef, W.dtype), intercept.astype(b.dtype)

    def weights_from_array(self, coef: Array, intercept: Array) -> Layer:
        """The inverse of `weights_for_array`; a feature of scale 0 has weight 0."""
        W, b = coef, intercept
        if self.scale is not None:
            scale = self.scale.astype(float)
            W = np.divide(coef, scale, where=scale != 0, out=np.zeros(coef.shape))
        if self.shift is not None:
            b = intercept + _along(coef * (1 if self.scale is None else self.scale != 0), self.shift)
        return W, b

    def layers_for_array(self, layers: Sequence[Layer]) -> list[Layer]:
        """Layers of a network on these rows as those of one that acts on the array itself; copies."""
        first, *others = layers
        return [self.weights_for_array(*first), *((W.copy(), b.copy()) for W, b in others)]

    def layers_from_array(self, layers: Sequence[Layer]) -> list[Layer]:
        """The inverse of `layers_for_array`; not copied where nothing changes."""
        first, *others = layers
        return [self.weights_from_array(*first), *others]


class Samples:
    """Rows with their labels and weights, of which some take part.

    y (N,) are codes 0..C-1; or y (N, C), a column for each output, targets of the dtype of X or int32 zeros
    and ones. `rows` are the numbers of those that take part, None for all that have a weight; `mean_weight`
    is what weights are divided by, None for their mean over `rows`.
    """

    def __init__(
        self,
        X: Rows,
        y: Array,
        row_weight: Array | None = None,
        rows: Array | None = None,
        mean_weight: float | None = None,
    ) -> None:
        self.X, self.y, self.row_weight = X, y, row_weight
        if rows is None:
            rows = np.arange(len(X)) if row_weight is None else np.flatnonzero(row_weight)
        self.rows = rows
        if mean_weight is None and row_weight is not None:
            mean_weight = float(row_weight[rows].mean(dtype=float))
        self.mean_weight = None if row_weight is None else mean_weight

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def weights(self) -> Array | None:
        """Weights of the rows that take part, (n,), or None."""
        return None if self.row_weight is None else self.row_weight[self.rows]

    def standardised_as(self, X: Rows) -> Samples:
        """The same samples, read with shift, scale and dtype of other rows."""
        rows = Rows(self.X.array, X.shift, X.scale, X.dtype)
        return Samples(rows, self.y, self.row_weight, self.rows, self.mean_weight)


def _along(W: Array, shift: Array) -> Array:
    """W times shift, float64; not by BLAS, whose bits depend on its threads."""
    return np.einsum("cd,d->c", W, shift.astype(float))


def in_row_order(array: Array) -> Array:
    """The array (N, D), its rows one after the other: itself, or a copy made by blocks that fit in cache."""
    if abs(array.strides[1]) <= abs(array.strides[0]):
        return array
    copy, (N, D), block = np.empty(array.shape, array.dtype), array.shape, 256
    for i in range(0, N, block):
        for d in range(0, D, block):
            copy[i : i + block, d : d + block] = array[i : i + block, d : d + block]
    return copy


def as_rows(X: Array | Rows) -> Rows:
    """X as Rows; Rows pass through."""
    return X if isinstance(X, Rows) else Rows(X)
