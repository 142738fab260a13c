"""Numerical gradients under the course's names; :mod:`softline.gradient_check` has them, and more."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from softline._typing import Array
from softline.gradient_check import numerical_gradient, relative_error

__all__ = ["eval_numerical_gradient", "eval_numerical_gradient_array", "grad_check_sparse"]


def eval_numerical_gradient(
    f: Callable[[Array], Any], x: Array, verbose: bool = True, h: float = 1e-5
) -> Array:
    """Gradient of f at x, by centred differences of step h; x is perturbed in place and restored.

    Parameters
    ----------
    f : callable
        f(x) is a number.
    x : ndarray of float64
    verbose : bool, default=True
        Print each index with its derivative.
    h : float, default=1e-5

    Returns
    -------
    gradient : ndarray of the shape of x
    """
    gradient = numerical_gradient(f, x, h)
    if verbose:
        for index in np.ndindex(x.shape):
            print(index, gradient[index])
    return gradient


def eval_numerical_gradient_array(
    f: Callable[[Array], Any], x: Array, df: ArrayLike, h: float = 1e-5
) -> Array:
    """Gradient of sum(df * f(x)) to x, for a function f that returns an array of the shape of df."""
    return numerical_gradient(f, x, h, upstream=df)


def grad_check_sparse(
    f: Callable[[Array], Any], x: Array, analytic_grad: Array, num_checks: int = 10, h: float = 1e-5
) -> None:
    """Print the numerical and the analytic derivative of f at `num_checks` random places of x.

    Parameters
    ----------
    f : callable
        f(x) is a number.
    x : ndarray of float64
        Perturbed in place and restored. Places are drawn by ``random.randrange``.
    analytic_grad : ndarray of the shape of x
    num_checks : int, default=10
    h : float, default=1e-5
    """
    for _ in range(num_checks):
        index = tuple(random.randrange(size) for size in x.shape)
        place = x[tuple(slice(i, i + 1) for i in index)]  # a view of x, because f sees x
        numerical = numerical_gradient(lambda _: f(x), place, h).item()
        analytic = analytic_grad[index]
        error = relative_error(numerical, analytic)
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {error:e}")
