import numpy as np
import pytest

from softline import preconditioner
from softline.preconditioner import Preconditioner, invert_cholesky
from softline.rows import Rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("D", [1, 2, 63, 64, 65, 130])
def test_invert_cholesky(D, dtype):
    rng = np.random.default_rng(D)
    Z = rng.standard_normal((2 * D + 1, D))
    A = Z.T @ Z / len(Z)
    upper = np.triu(A).astype(dtype) + np.tril(np.full((D, D), 7, dtype), -1)  # below is not read
    V = invert_cholesky(upper.copy()).astype(np.float64)
    assert not np.tril(V, -1).any()
    np.testing.assert_allclose(V.T @ A @ V, np.eye(D), atol=2e3 * np.finfo(dtype).eps)


def test_singular_matrices_get_a_pivot():
    V = invert_cholesky(np.ones((3, 3)))
    assert np.isfinite(V).all()
    assert V[0, 0] == 1


def problem(n=300, D=20, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((n, D)) @ rng.standard_normal((D, D)) + 5).astype(dtype)
    return Rows(X), rng.random(n).astype(dtype)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_solve_inverts_the_average_curvature(fit_intercept):
    """For one class the curvature is a matrix: h-weighted second moments of (x, 1), and the penalty."""
    X, h = problem()
    n, D = X.shape
    metric = Preconditioner(X, np.arange(n), h, n, 0.1, 0.0, fit_intercept)
    ones = np.column_stack([X.array, np.ones(n)])
    curvature = (ones * h[:, None]).T @ ones / n + np.diag(np.append(np.full(D, 0.1), 0))
    R = np.random.default_rng(1).standard_normal((3, D + 1))
    solved = metric.solve(R)
    if fit_intercept:
        np.testing.assert_allclose(solved @ curvature, R, rtol=1e-7, atol=1e-7)
    else:
        assert not solved[:, D].any()
        np.testing.assert_allclose(solved[:, :D] @ curvature[:D, :D], R[:, :D], rtol=1e-7, atol=1e-7)


def test_many_features_are_taken_one_by_one(monkeypatch):
    X, h = problem()
    n, D = X.shape
    monkeypatch.setattr(preconditioner, "MOST_FEATURES", 10)
    metric = Preconditioner(X, np.arange(n), h, n, 0.1, 0.0, False)
    R = np.ones((2, D + 1))
    diagonal = h @ X.array**2 / n + 0.1
    np.testing.assert_allclose(metric.solve(R)[:, :D], np.ones((2, D)) / diagonal)


def test_a_constant_feature_without_penalty():
    X, h = problem()
    X.array[:, 3] = 2
    metric = Preconditioner(X, np.arange(len(X)), h, len(X), 0.0, 0.0, True)
    assert np.isfinite(metric.solve(np.ones((2, X.shape[1] + 1)))).all()


def test_any_number_of_threads_gives_the_same_bits():
    X, h = problem(1500, 90, np.float32)
    R = np.random.default_rng(1).standard_normal((5, 91))
    results = [
        Preconditioner(X, np.arange(1500), h, 1500, 1e-3, 0.0, True, n_threads).solve(R).tobytes()
        for n_threads in (1, 2, 3, 7)
    ]
    assert len(set(results)) == 1
