import numpy as np
import pytest

from softline import newton, reference
from softline.rows import Rows


def problem(n=400, D=12, C=4, dtype=np.float64, **changes):
    """An objective on correlated features of different scale and offset."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, D)) @ rng.standard_normal((D, D)) * np.logspace(-1, 1, D) + 2
    y = (X @ rng.standard_normal((D, C)) + 20 * rng.gumbel(size=(n, C))).argmax(axis=1)
    options = {"l2": 1e-2, "sample_weight": rng.random(n).astype(dtype)} | changes
    return newton.Objective(Rows(X.astype(dtype)), y.astype(np.int32), n_classes=C, **options)


def start(objective):
    return np.zeros(objective.shape)


def exact_value(objective, Z):
    """The objective by the reference, in float64; two classes as a softmax of two."""
    W = np.vstack([-Z / 2, Z / 2]) if objective.n_classes == 2 else Z
    dW, db = np.empty((len(W), Z.shape[1] - 1)), np.empty(len(W))
    X, weight = objective.X[:].astype(float), objective.sample_weight
    weight = None if weight is None else weight.astype(float)
    loss = reference.loss_gradient(X, objective.codes, weight, W[:, :-1], W[:, -1], dW, db)
    return loss + np.sum(objective.l2 * Z**2) / 2 + np.sum(objective.l1 * np.abs(Z))


@pytest.mark.parametrize("C", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_value_and_gradient(C, fit_intercept):
    objective = problem(C=C, fit_intercept=fit_intercept, intercept_penalty=0.25)
    Z = 0.05 * np.random.default_rng(1).standard_normal(objective.shape)
    if not fit_intercept:
        Z[:, -1] = 0
    value, G = objective(Z)
    assert value == pytest.approx(exact_value(objective, Z), rel=1e-13)
    for i in [(0, 0), (0, 5), (-1, 11), (0, 12)]:
        step = np.zeros_like(Z)
        step[i] = 1e-6
        numerical = (exact_value(objective, Z + step) - exact_value(objective, Z - step)) / 2e-6
        expected = 0 if i[1] == 12 and not fit_intercept else numerical
        assert G[i] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("C", [2, 4])
def test_hessian(C):
    objective = problem(C=C)
    rng = np.random.default_rng(1)
    Z, P = 0.05 * rng.standard_normal((2, *objective.shape))
    numerical = (objective(Z + 1e-5 * P)[1] - objective(Z - 1e-5 * P)[1]) / 2e-5
    np.testing.assert_allclose(objective.hessian(Z, None)(P), numerical, rtol=1e-5, atol=1e-6)


def test_conjugate_gradients_solve():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20, 20))
    A = A @ A.T + np.eye(20)
    R = rng.standard_normal((1, 20))
    d = newton.conjugate_gradients(lambda P: P @ A, lambda R: R / np.diag(A), R, 1e-12, 100)
    np.testing.assert_allclose(d @ A, R, atol=1e-9)


def test_conjugate_gradients_stop_where_there_is_no_curvature():
    R = np.ones((1, 3))
    assert np.array_equal(newton.conjugate_gradients(np.zeros_like, lambda R: 2 * R, R, 0.1, 10), 2 * R)


def test_proximal_gradients_minimise_the_model():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((30, 10))
    A, G, Z, l1 = A.T @ A, 20 * rng.standard_normal((2, 10)), rng.standard_normal((2, 10)), np.full(10, 5.0)
    V = newton.proximal_gradients(lambda P: P @ A, l1, np.diag(A), Z, G, 1e-10, 2000)
    slope = G + (V - Z) @ A
    assert 0 < np.count_nonzero(V) < V.size
    np.testing.assert_allclose(slope[V != 0], -(l1 * np.sign(V))[V != 0], atol=1e-6)
    assert np.all(np.abs(slope[V == 0]) <= 5 + 1e-6)


@pytest.mark.parametrize("l1", [0.0, 0.02])
@pytest.mark.parametrize("C", [2, 4])
def test_minimize(C, l1):
    objective = problem(C=C, l1=l1)
    result = newton.minimize(objective, start(objective), 1e-9, 100)
    assert result.converged and result.gradient <= 1e-9
    assert result.n_iter < 25
    assert np.any(result.Z[:, :-1] == 0) == (l1 > 0)
    rng = np.random.default_rng(0)
    for size in (1e-1, 1e-3):
        other = result.Z + size * rng.standard_normal(objective.shape)
        assert exact_value(objective, other) > result.value


@pytest.mark.parametrize("l1", [0.0, 0.02])
def test_a_hessian_of_some_rows_leads_to_the_same_minimum(monkeypatch, l1):
    objective = problem(n=3000, l1=l1)
    exact = newton.minimize(objective, start(objective), 1e-9, 100)
    monkeypatch.setattr(newton, "HESSIAN_ROWS", 100)
    monkeypatch.setattr(newton, "HESSIAN_SHARE", 0)
    monkeypatch.setattr(newton, "METRIC_ROWS", 200)
    taken = []
    hessian = newton.Objective.hessian
    monkeypatch.setattr(
        newton.Objective,
        "hessian",
        lambda self, Z, idx: taken.append(3000 if idx is None else len(idx)) or hessian(self, Z, idx),
    )
    result = newton.minimize(objective, start(objective), 1e-9, 200)
    assert taken[0] == 100 and taken[-1] > 100 and taken == sorted(taken)
    assert result.converged
    np.testing.assert_allclose(result.Z, exact.Z, atol=1e-6)


def test_float32_reaches_the_minimum_of_float64():
    far, near = problem(dtype=np.float64), problem(dtype=np.float32)
    exact = newton.minimize(far, start(far), 1e-10, 100)
    result = newton.minimize(near, start(near), 1e-6, 100)
    assert exact_value(far, result.Z) / exact.value - 1 < 1e-9


def test_rounding_ends_the_search():
    """float32 cannot make the gradient zero: a few steps in vain, and the result says so."""
    objective = problem(dtype=np.float32)
    result = newton.minimize(objective, start(objective), 0.0, 10_000)
    assert not result.converged
    assert result.n_iter < 60
    assert result.gradient < 1e-4


def test_the_scale_of_a_feature_does_not_matter():
    objective = problem(l2=0.0)
    scale = np.logspace(-5, 5, 12)
    scaled = newton.Objective(
        Rows(objective.X.array * scale), objective.codes, objective.sample_weight, 4, l2=0.0
    )
    results = [newton.minimize(o, start(o), 1e-9, 100) for o in (objective, scaled)]
    assert results[0].converged
    assert results[1].value == pytest.approx(results[0].value, rel=1e-10)


def test_callback_sees_each_step_and_can_stop():
    objective = problem()
    values = []

    def callback(Z, value, n_iter):
        values.append(value)
        assert len(values) == n_iter
        return n_iter == 3

    result = newton.minimize(objective, start(objective), 1e-9, 100, callback)
    assert result.n_iter == 3 and not result.converged
    assert values == sorted(values, reverse=True)


def test_classes_stay_balanced():
    """What is added to all classes alike is not determined: from zero, the search adds nothing."""
    objective = problem(l2=0.0)
    result = newton.minimize(objective, start(objective), 1e-12, 100)
    np.testing.assert_allclose(result.Z.mean(axis=0), 0, atol=1e-9)
