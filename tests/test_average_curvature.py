import numpy as np
import pytest

from softline._kernels.rows import Rows
from softline._solvers import average_curvature
from softline._solvers.average_curvature import AverageCurvature, invert_cholesky


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


@pytest.mark.parametrize("D", [3, 130])
def test_of_features_that_are_the_same_one_takes_part(D):
    V = invert_cholesky(np.ones((D, D)))
    expected = np.zeros((D, D))
    expected[0, 0] = 1
    assert np.array_equal(V, expected)


def problem(n=300, D=20, dtype=np.float64):
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((n, D)) @ rng.standard_normal((D, D)) + 5).astype(dtype)
    return Rows(X), rng.random(n).astype(dtype)


def metric_of(X, h, alpha=0.1, sample=None, **options):
    rows = np.arange(len(X))
    sample = rows if sample is None else sample
    return AverageCurvature(X, rows, sample, h, len(X), np.append(np.full(X.shape[1], alpha), 0), **options)


@pytest.mark.parametrize(("fit_intercept", "centred"), [(True, True), (True, False), (False, False)])
def test_the_curvature_and_its_inverse(fit_intercept, centred):
    """For one class it is a matrix: h-weighted second moments of (x, 1), and the penalty."""
    X, h = problem()
    n, D = X.shape
    metric = metric_of(X, h, fit_intercept=fit_intercept, centred=centred, keep_correlations=True)
    ones = np.column_stack([X.array, np.ones(n)])
    curvature = (ones * h[:, None]).T @ ones / n + np.diag(np.append(np.full(D, 0.1), 0))
    if not fit_intercept:
        curvature[D, :D] = curvature[:D, D] = 0
    Z = np.random.default_rng(1).standard_normal((3, D + 1))
    np.testing.assert_allclose(metric.solve(Z @ curvature), Z, atol=1e-6)
    U = metric.to_coordinates(Z)
    np.testing.assert_allclose(metric.from_coordinates(U), Z, rtol=1e-12)
    np.testing.assert_allclose(metric.product(U), metric.gradient(Z @ curvature), rtol=1e-6)
    np.testing.assert_allclose(metric.product(U), U @ metric.correlations)


def test_the_diagonal_is_that_of_all_rows():
    """A feature that no row of the sample has is as steep as it is in the others."""
    X, h = problem()
    n, D = X.shape
    X.array[:, 3] = 0
    X.array[50:54, 3] = 10
    X.array[:, 3] -= h @ X.array[:, 3] / h.sum()
    metric = metric_of(X, h, sample=np.arange(100, n))
    G = np.zeros((1, D + 1))
    G[0, 3] = 1
    assert metric.solve(G)[0, 3] == pytest.approx(1 / (h @ X.array[:, 3] ** 2 / n + 0.1), rel=1e-2)


def test_a_sample_of_half_the_rows_weighs_as_much_as_all():
    """Where every row comes twice, and one of both is in the sample, it is as if all were."""
    X, h = problem()
    X, h = Rows(np.repeat(X.array, 2, axis=0)), np.repeat(h, 2)
    some, every = (
        metric_of(X, h, sample=np.arange(0, len(X), step), keep_correlations=True) for step in (2, 1)
    )
    np.testing.assert_allclose(some.correlations, every.correlations, rtol=1e-12, atol=1e-13)


def test_features_that_are_the_same_share_a_step():
    """The ridge sees to that: without it one of them would take no part."""
    X, h = problem()
    X.array[:, 7] = X.array[:, 3]
    G = np.random.default_rng(1).standard_normal((3, X.shape[1] + 1))
    G[:, 7] = G[:, 3]
    step = metric_of(X, h, alpha=0.0).solve(G)
    np.testing.assert_allclose(step[:, 7], step[:, 3], rtol=1e-4)
    assert np.abs(step[:, 7]).min() > 0


def test_many_features_are_taken_one_by_one(monkeypatch):
    X, h = problem()
    n, D = X.shape
    monkeypatch.setattr(average_curvature, "MOST_FEATURES", 10)
    metric = metric_of(X, h, centred=False, keep_correlations=True)
    G = np.ones((2, D + 1))
    diagonal = h @ X.array**2 / n + 0.1
    np.testing.assert_allclose(metric.solve(G)[:, :D], np.ones((2, D)) / diagonal)
    assert metric.correlations is None
    assert np.array_equal(metric.product(G), G)


def test_a_constant_feature_without_penalty():
    X, h = problem()
    X.array[:, 3] = 2
    assert np.isfinite(metric_of(X, h, alpha=0.0).solve(np.ones((2, X.shape[1] + 1)))).all()


def test_any_number_of_threads_gives_the_same_bits():
    X, h = problem(1500, 90, np.float32)
    G = np.random.default_rng(1).standard_normal((5, 91))
    results = []
    for n_threads in (1, 2, 3, 7):
        metric = metric_of(X, h, 1e-3, np.arange(0, 1500, 2), keep_correlations=True, n_threads=n_threads)
        results.append(metric.solve(G).tobytes() + metric.product(G).tobytes())
    assert len(set(results)) == 1
