"""Every instruction set and dtype, any number of threads, and bounds for rounding: for tests of kernels."""

import numpy as np
import pytest

from softline import _kernels
from softline._kernels.rows import Rows

THREADS = (1, 2, 3, 7)

ISAS = [name for name, runs in _kernels.isas().items() if runs]
isas = pytest.mark.parametrize("isa", ISAS, indirect=True)  # a fixture of conftest.py
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def wide(a):
    """In float64; None stays None."""
    return None if a is None else a.astype(np.float64)


# Long double has 64 bits of precision on x86 and 113 on Linux for ARM. Elsewhere it may be a double: then the
# twins round as much as the kernels.
LONG = np.finfo(np.longdouble).eps < 1e-18
LONGER = {np.float32: np.float64, np.float64: np.longdouble}


def longer(a):
    """The same numbers in a type with more digits, to be computed with as if exactly; None stays None."""
    return None if a is None else a.astype(LONGER[a.dtype.type])


class LongRows(Rows):
    """Rows for twins alone: kernels do not read long doubles."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.shift = self.scale = None


def long_rows(X):
    return LongRows(longer(X))


def assert_close(actual, exact, magnitude, ulps):
    """Within so many units in the last place of the sum of magnitudes of the terms.

    No order of summation can promise less for terms that cancel.
    """
    assert actual.shape == exact.shape
    bound = ulps * np.finfo(actual.dtype).eps * magnitude
    assert np.all(np.abs(actual - exact) <= bound)


def same_for_any_threads(run):
    """The arrays run(n_threads), after checking that the number of threads does not change a bit."""
    first = run(THREADS[0])
    for n_threads in (*THREADS[1:], None):
        for a, b in zip(first, run(n_threads), strict=True):
            assert a.tobytes() == b.tobytes()
    return first


def batch_totals(weight, order, batch_size):
    """Sums of the weights of the rows of each batch."""
    weight = np.ones(len(order)) if weight is None else weight[order].astype(float)
    return np.array([weight[i : i + batch_size].sum() for i in range(0, len(order), batch_size)])


def linear_epoch(
    kernels, X, y, row_weight, order, W, b, learning_rates, batch_size, alpha, shift, metric, fit_intercept,
    n_threads=None, *, state=None, mean_weight=None, **options,
):  # fmt: skip
    """An epoch of one layer by `kernels` or by their twins, as SoftmaxClassifier runs it.

    Each batch estimates the mean loss, in which rows weigh relative to their mean.
    """
    sizes = batch_totals(None, order, batch_size)
    mean = row_weight[order].mean(dtype=float) if row_weight is not None and len(order) else 1.0
    scales = (1 / (mean_weight or mean) / sizes).astype(W.dtype)
    states = None if state is None else [state]
    if "l1" in options:
        options["l1s"] = np.full(len(sizes), options.pop("l1"))
    return kernels.epoch(
        X, y, row_weight, order, [(W, b)], learning_rates, batch_size,
        np.full(len(sizes), float(alpha)), scales, n_threads, shift=shift, metric=metric,
        fit_intercept=fit_intercept, states=states, **options,
    )  # fmt: skip


def network_epoch(
    kernels, X, y, row_weight, order, layers, learning_rates, batch_size, alpha, activation, n_threads=None,
    **options,
):  # fmt: skip
    """An epoch of a network by `kernels` or by their twins, as MLPClassifier runs it.

    Each batch has the mean of its rows by their weights, and a penalty divided by these.
    """
    totals = batch_totals(row_weight, order, batch_size)
    loss = options.pop("loss", "outputs" if y.ndim == 2 else "cross_entropy")
    return kernels.epoch(
        X, y, row_weight, order, layers, learning_rates, batch_size, alpha / totals,
        (1 / totals).astype(layers[0][0].dtype), n_threads, activation=activation, loss=loss, **options,
    )  # fmt: skip


def network_gradient(kernels, X, y, row_weight, idx, layers, activation, out, n_threads=None, **options):
    """The mean loss of the rows by their weights, and its gradient in `out`."""
    total = batch_totals(row_weight, np.arange(len(X)) if idx is None else idx, 10**9)[0]
    loss = "outputs" if y.ndim == 2 else "cross_entropy"
    return kernels.gradients(
        X, y, row_weight, idx, layers, out, 1 / total, n_threads, activation=activation, loss=loss, **options
    )
