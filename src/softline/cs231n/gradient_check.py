"""Numerical gradients under the course's names; :mod:`softline.gradient_check` has them, and more."""

import random

import numpy as np

from softline.gradient_check import numerical_gradient, relative_error

__all__ = ["eval_numerical_gradient", "eval_numerical_gradient_array", "grad_check_sparse"]


def eval_numerical_gradient(f, x, verbose=True, h=1e-5):
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


def eval_numerical_gradient_array(f, x, df, h=1e-5):
    """Gradient of sum(df * f(x)) to x, for f whose result is an array of the shape of df."""
    return numerical_gradient(f, x, h, upstream=df)


def grad_check_sparse(f, x, analytic_grad, num_checks=10, h=1e-5):
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
        place = x[tuple(slice(i, i + 1) for i in index)]  # shares memory with x, which is what f sees
        numerical = numerical_gradient(lambda _: f(x), place, h).item()
        analytic = analytic_grad[index]
        error = relative_error(numerical, analytic)
        print(f"numerical: {numerical:f} analytic: {analytic:f}, relative error: {error:e}")
