"""Problems of more features than decide them: their minimum is that of the whole search."""

import numpy as np
import pytest

from softline._kernels.rows import Rows
from softline._solvers import lbfgs, newton, objective, reductions
from softline._solvers.objective import Objective


@pytest.fixture(autouse=True)
def few_features_are_many(monkeypatch):
    monkeypatch.setattr(reductions, "NARROW", 40)
    monkeypatch.setattr(reductions, "FIRST_FEATURES", 10)
    monkeypatch.setattr(objective, "MOST_BY_COLUMNS", 0)


def problem(n=40, D=80, C=3, l1=0.0, units=1.0, **options):
    rng = np.random.default_rng(0)
    X = (rng.standard_normal((n, 8)) @ rng.standard_normal((8, D)) + rng.standard_normal((n, D))) * units
    y = np.arange(n, dtype=np.int32) % C
    X[:, :4] += units * y[:, None] if np.ndim(units) == 0 else y[:, None]
    weight = rng.integers(1, 4, n).astype(float)
    return Objective(Rows(X), y, weight, C, l2=0.0 if l1 == 1 else 0.05, l1=0.05 * l1, **options)


@pytest.mark.parametrize("C", [2, 3])
@pytest.mark.parametrize(("n", "l1"), [(40, 0.0), (40, 1.0), (200, 1.0), (40, 0.5)])
def test_the_minimum_is_that_of_the_whole_search(n, l1, C, monkeypatch):
    """And each step is told of: its number, all the weights, and the value at these."""
    far = problem(n=n, C=C, l1=l1)
    zero = np.zeros(far.shape)
    whole = newton.minimize(far, zero, 1e-8, 2000)
    told = []

    def tell(weights, value, n_iter):
        told.append(n_iter)
        assert value == pytest.approx(far(weights())[0], rel=1e-9)

    searched = []
    search = newton.minimize
    monkeypatch.setattr(newton, "minimize", lambda o, *args: searched.append(o.shape) or search(o, *args))
    result = reductions.minimize(far, zero, 1e-8, 2000, tell)
    assert whole.converged and result.converged
    assert {shape[1] < far.shape[1] for shape in searched} == {True}
    assert result.value == pytest.approx(whole.value, rel=1e-9)
    assert far(result.Z)[0] == pytest.approx(result.value, rel=1e-9)
    np.testing.assert_allclose(result.Z, whole.Z, atol=2e-4)
    assert told == list(range(1, result.n_iter + 1))


@pytest.mark.parametrize("l1", [1.0, 0.5])
def test_steps_by_columns_are_told_with_the_value_of_the_penalty_given(l1, monkeypatch):
    """Though the search begins with a larger one."""
    whole = newton.minimize(problem(l1=l1), np.zeros((3, 81)), 1e-8, 2000)
    monkeypatch.setattr(objective, "MOST_BY_COLUMNS", 1e6)
    far, told = problem(l1=l1), []

    def tell(weights, value, n_iter):
        told.append(n_iter)
        assert value == pytest.approx(far(weights())[0], rel=1e-9)

    result = reductions.minimize(far, np.zeros(far.shape), 1e-8, 2000, tell)
    assert whole.solver == "newton" and result.solver == "newton-cd"
    assert result.converged and told == list(range(1, result.n_iter + 1))
    assert result.value == pytest.approx(whole.value, rel=1e-9)


def test_the_penalty_of_a_feature_is_in_its_units():
    """In the space of the rows, where features are scaled and their penalties are not alike."""
    far = problem(units=np.logspace(-2, 2, 80), condition=True)
    far.l2[:-1] *= np.logspace(-1, 1, 80)
    whole = newton.minimize(far, np.zeros(far.shape), 1e-9, 2000)
    result = reductions._in_row_space(far, np.zeros(far.shape), 1e-9, 2000, None)
    assert whole.converged and result.value == pytest.approx(whole.value, rel=1e-8)
    np.testing.assert_allclose(result.Z, whole.Z, atol=1e-4 * np.abs(whole.Z).max())


@pytest.mark.parametrize("l1", [0.0, 1.0])
def test_a_search_of_few_steps_tells_what_is_left(l1, monkeypatch):
    """Features that still want to join count, too: the minimum of a first few is far above that of all."""
    monkeypatch.setattr(reductions, "FIRST_FEATURES", 2)
    far, zero = problem(l1=l1), np.zeros((3, 81))
    least = newton.minimize(far, zero, 1e-9, 2000).value
    for most in range(1, 60):
        result = reductions.minimize(far, zero, 1e-4, most)
        assert result.n_iter <= most
        if result.converged:
            assert result.value - least <= 2 * lbfgs.largest_gap(1e-4, result.value)
            break
        assert result.n_iter == most
    assert result.converged and most > 1


def test_a_callback_ends_either_search():
    for l1 in (0.0, 1.0):
        far = problem(l1=l1)
        result = reductions.minimize(
            far, np.zeros(far.shape), 1e-9, 100, lambda weights, value, n_iter: n_iter == 2
        )
        assert result.stopped and result.n_iter == 2


def test_features_in_units_of_their_deviation_are_of_one_size(monkeypatch):
    """Only such are searched in the space of the rows, whose products would lose the others."""
    X = problem().X.array * np.logspace(-9, 9, 80)
    y = np.arange(40, dtype=np.int32) % 3
    raw = Objective(Rows(X), y, None, 3, l2=1.0, condition=False)
    scaled = Objective(Rows(X, X.mean(axis=0), 1 / X.std(axis=0)), y, None, 3, l2=1.0)
    assert reductions._of_one_size(scaled) and not reductions._of_one_size(raw)
    searched, search = [], newton.minimize
    monkeypatch.setattr(newton, "minimize", lambda o, *args: searched.append(o.shape) or search(o, *args))
    for far in (raw, scaled):
        reductions.minimize(far, np.zeros(far.shape), 1e-4, 1)
    assert searched == [(3, 81), (3, 41)]
