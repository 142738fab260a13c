"""Numerical gradients, and checks of the gradient of any function and of any softline model.

A model that can be checked has a method ``_loss_and_gradient(X, y, sample_weight, rng)``, which returns

- its parameters, a dict from name to float64 array: copies of the fitted ones or, if there are none, drawn
  from `rng`;
- a function without arguments that gives the loss at these parameters, and a dict from the same names to its
  gradient. It sees what is written into the arrays, and computes in float64 with the kernels that train.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softline._typing import Array, RandomState

__all__ = ["GradientCheck", "check_function", "check_gradient", "numerical_gradient", "relative_error"]

# Rounding error of a loss, in units in the last place.
LOSS_ULPS = 8


# ---- differences -----------------------------------------------------------------------------------------


def numerical_gradient(
    f: Callable[[Array], ArrayLike],
    x: Array,
    h: float = 1e-5,
    method: Literal["centred", "forward"] = "centred",
    upstream: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Gradient of f at x from differences of f, entry by entry.

    Parameters
    ----------
    f : callable
        f(x) is a number or, with `upstream`, an array.
    x : ndarray of float64
        Changed in place, an entry at a time, and restored whatever f raises: f may also look at an array of
        its own that shares this memory.
    h : float, default=1e-5
        Step.
    method : {"centred", "forward"}, default="centred"
        (f(x + h) - f(x - h)) / 2h, wrong by O(h^2), or (f(x + h) - f(x)) / h, wrong by O(h).
    upstream : array-like or None, default=None
        What comes from above in backpropagation: the gradient is that of sum(upstream * f(x)), as in
        ``eval_numerical_gradient_array`` of CS231n.

    Returns
    -------
    gradient : ndarray of float64, of the shape of x

    Raises
    ------
    TypeError
        If x is no float64 array.
    ValueError
        If h is not positive, `method` is none of these, or f(x) is no number and there is no `upstream`.

    Examples
    --------
    >>> import numpy as np
    >>> from softline.gradient_check import numerical_gradient
    >>> numerical_gradient(lambda x: np.sum(x**2), np.array([1.0, -2.0])).round(6)
    array([ 2., -4.])
    """
    if not (isinstance(x, np.ndarray) and x.dtype == np.float64):
        what = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"x must be a float64 array, for it is changed in place by tiny steps; got {what}")
    if not h > 0:
        raise ValueError(f"h must be a step above 0; got {h}")
    if method not in ("centred", "forward"):
        raise ValueError(f"method must be 'centred' or 'forward'; got {method!r}")

    def value() -> Any:
        out = np.array(f(x), dtype=np.float64)  # a copy, because f may return the same array each time
        if upstream is not None:
            return out
        if out.size != 1:
            raise ValueError(f"f must return a number, or upstream be given; it returned shape {out.shape}")
        return out.item()

    weight = 1.0 if upstream is None else np.asarray(upstream, dtype=np.float64)
    gradient = np.empty_like(x)
    here = value() if method == "forward" else None
    for index in np.ndindex(x.shape):
        if method == "centred":
            change = (_moved(value, x, index, h) - _moved(value, x, index, -h)) / (2 * h)
        else:
            change = (_moved(value, x, index, h) - here) / h
        gradient[index] = np.sum(weight * change)
    return gradient


def _moved(value: Callable[[], Any], x: Array, index: tuple[int, ...], step: float) -> Any:
    """Value while x[index] is larger by `step`."""
    before = x[index]
    x[index] = before + step
    try:
        return value()
    finally:
        x[index] = before


def relative_error(a: ArrayLike, b: ArrayLike) -> float:
    """The largest ``|a - b| / max(1e-8, |a| + |b|)`` of all entries, as CS231n defines it.

    Parameters
    ----------
    a, b : array-like
        Of shapes that broadcast.

    Returns
    -------
    error : float
        From 0 to 1; 0 for empty arrays.
    """
    a, b = np.asarray(a), np.asarray(b)
    return float(np.max(np.abs(a - b) / np.maximum(1e-8, np.abs(a) + np.abs(b)), initial=0))


# ---- checks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GradientCheck:
    """Result of a check, in a line if printed.

    Attributes
    ----------
    passed : bool
        Whether no error is above `tol`.
    name : str
        Of the array with the worst entry.
    index : tuple of int
        Where in it the worst entry is.
    analytic, numerical : float
        That entry, as the gradient says and as the differences say.
    error : float
        Relative error of that entry, beyond what the differences themselves are wrong by.
    tol : float
    n_checked, n_entries : int
        Entries compared, and all there are.
    n_kinks : int
        Entries that passed, or failed, as a subgradient: there is no derivative, only one on each side.
    """

    passed: bool
    name: str
    index: tuple[int, ...]
    analytic: float
    numerical: float
    error: float
    tol: float
    n_checked: int
    n_entries: int
    n_kinks: int

    def __str__(self) -> str:
        index = ", ".join(map(str, self.index))
        kinks = f", {self.n_kinks} at a kink" if self.n_kinks else ""
        return (
            f"gradient {'passed' if self.passed else 'FAILED'} at {self.tol:.0e}: {self.n_checked} of "
            f"{self.n_entries} entries{kinks}; worst {self.name}[{index}]: analytic {self.analytic:.9g}, "
            f"numerical {self.numerical:.9g}, relative error {self.error:.1e}"
        )


def check_function(
    f: Callable[[Any], Any],
    x: Array | dict[str, Array],
    gradient: Any,
    *,
    n_checks: int | None = 100,
    h: float = 1e-5,
    tol: float = 1e-7,
    random_state: RandomState = None,
) -> GradientCheck:
    """Compare a gradient with centred differences of f.

    Parameters
    ----------
    f : callable
        f(x) is a number.
    x : ndarray of float64, or dict from str to such
        Where; changed in place by the steps, and restored.
    gradient : array-like, or dict from str to array-like
        The gradient of f at x, to be checked.
    n_checks : int or None, default=100
        Number of entries of each array to check, drawn at random; None checks all.
    h : float, default=1e-5
        Step; divided by the root of the curvature of f along the entry where that is above 1, so that
        features of any size do.
    tol : float, default=1e-7
        Largest relative error that passes.
    random_state : int, RandomState or None, default=None
        Draws the entries.

    Returns
    -------
    GradientCheck

    Raises
    ------
    TypeError
        If an array of x is not of float64.
    ValueError
        If the shapes of x and gradient differ, or `n_checks` is less than 1.

    Notes
    -----
    The error of an entry is that of :func:`relative_error`, after what rounding makes of a difference has
    been taken off ``|a - b|``: 8 units in the last place of f, or of 1, over the step. An error of 0 means
    that the differences can tell no more.

    Where the slopes left and right of x differ however small the step, as those of abs(x) at 0, there is a
    kink: any gradient between the two slopes is right there (a subgradient), and others are not. A kink
    within a step of x, as of relu, is left outside by a step 10 or 100 times smaller.
    """
    from sklearn.utils import check_random_state

    point: Any = x
    if not isinstance(x, dict):
        x, gradient = {"x": x}, {"x": gradient}
    if n_checks is not None and n_checks < 1:
        raise ValueError(f"n_checks must be at least 1, or None for all entries; got {n_checks}")
    gradient = {name: np.asarray(a, dtype=np.float64) for name, a in gradient.items()}
    for name, a in x.items():
        if not (isinstance(a, np.ndarray) and a.dtype == np.float64):
            raise TypeError(f"{name} must be a float64 array; got {getattr(a, 'dtype', type(a).__name__)}")
        if name not in gradient or gradient[name].shape != a.shape:
            found = gradient[name].shape if name in gradient else "none"
            raise ValueError(f"the gradient to {name} must be of its shape, {a.shape}; found {found}")
    rng = check_random_state(random_state)
    worst: Any = None
    n_checked = n_kinks = 0
    for name, a in x.items():
        n = a.size if n_checks is None else min(n_checks, a.size)
        chosen = np.arange(a.size) if n == a.size else np.sort(rng.choice(a.size, n, replace=False))
        for flat in chosen:
            index = tuple(int(i) for i in np.unravel_index(flat, a.shape))
            analytic = float(gradient[name][index])
            numerical, error, kink = _check_entry(lambda: float(f(point)), a, index, analytic, h, tol)
            n_checked += 1
            n_kinks += kink
            badness = (math.inf if math.isnan(error) else error, abs(analytic - numerical))
            if worst is None or badness > worst[0]:
                worst = badness, name, index, analytic, numerical, error
    if worst is None:
        raise ValueError("x has no entries to check")
    badness, name, index, analytic, numerical, error = worst
    n_entries = sum(a.size for a in x.values())
    return GradientCheck(
        badness[0] <= tol, name, index, analytic, numerical, error, tol, n_checked, n_entries, n_kinks
    )


def _check_entry(
    value: Callable[[], float], x: Array, index: tuple[int, ...], analytic: float, h: float, tol: float
) -> tuple[float, float, bool]:
    """Numerical derivative and error of one entry, and whether there is a kink."""
    here = value()

    def differences(step: float) -> tuple[float, float, float, float]:
        """Slope, slopes on the left and on the right, and the rounding error of each."""
        left, right = _moved(value, x, index, -step), _moved(value, x, index, step)
        rounding = LOSS_ULPS * sys.float_info.epsilon * max(1.0, abs(left), abs(right)) / step
        return (right - left) / (2 * step), (here - left) / step, (right - here) / step, rounding

    step = h
    numerical, left, right, rounding = differences(step)
    curvature = abs(right - left) / step
    if 1 < curvature < math.inf:
        step /= math.sqrt(curvature)
        numerical, left, right, rounding = differences(step)
    least = step / 50
    while True:
        beyond = max(abs(analytic - numerical) - rounding, 0.0)
        error = beyond / max(1e-8, abs(analytic) + abs(numerical))
        if error <= tol:
            return numerical, error, False
        if step < least:
            break
        step, bend = step / 10, abs(right - left)
        smaller = differences(step)
        _, left, right, rounding = smaller
        # Slopes on the two sides of a smooth f differ in proportion to the step: an error, then, and no kink.
        if bend / 20 - 2 * rounding <= abs(right - left) <= bend / 5 + 2 * rounding:
            return numerical, error, False
        numerical = smaller[0]
    if min(left, right) - rounding <= analytic <= max(left, right) + rounding:
        return numerical, 0.0, True
    return numerical, error, True


def check_gradient(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    n_checks: int | None = 100,
    h: float = 1e-5,
    tol: float = 1e-7,
    random_state: RandomState = None,
) -> GradientCheck:
    """Compare the gradient that trains a softline model with centred differences of its loss.

    Parameters
    ----------
    model : estimator
        A softline model with a loss. A fitted one is checked at its weights, another at random ones. It is
        not changed.
    X : (N, D) array-like
    y : (N,) array-like
    sample_weight : (N,) array-like or None, default=None
        As in its `fit`.
    n_checks : int or None, default=100
    h : float, default=1e-5
    tol : float, default=1e-7
        As in :func:`check_function`.
    random_state : int, RandomState or None, default=None
        Draws the entries, and the weights of a model that is not fitted.

    Returns
    -------
    GradientCheck

    Raises
    ------
    TypeError
        If the model has no gradient, as a nearest neighbours classifier.
    ValueError
        As `fit` does.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from softline import SoftmaxClassifier
    >>> from softline.gradient_check import check_gradient
    >>> X, y = load_digits(return_X_y=True)
    >>> check_gradient(SoftmaxClassifier(alpha=0.1), X, y, random_state=0).passed
    True
    """
    from sklearn.utils import check_random_state

    if not hasattr(model, "_loss_and_gradient"):
        raise TypeError(f"{type(model).__name__} has no gradient; pass a softline model that has a loss")
    rng = check_random_state(random_state)
    # A copy, because the validation of X sets attributes.
    parameters, evaluate = copy.copy(model)._loss_and_gradient(X, y, sample_weight, rng)
    _, gradient = evaluate()
    return check_function(
        lambda _: evaluate()[0], parameters, gradient, n_checks=n_checks, h=h, tol=tol, random_state=rng
    )
