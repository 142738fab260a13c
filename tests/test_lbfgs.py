import warnings
from itertools import pairwise

import numpy as np
import pytest

from softline import SoftmaxClassifier, reference
from softline._kernels import gram
from softline._kernels.rows import Rows
from softline._solvers import average_curvature, lbfgs, newton, objective, proximal
from softline._solvers.average_curvature import AverageCurvature
from softline._solvers.lbfgs import InverseHessian, Memory, largest_gap
from softline._solvers.newton import minimize
from softline._solvers.objective import Objective
from softline._solvers.proximal import Hessian


def problem(n=400, D=12, C=4, dtype=np.float64, **changes):
    """An objective on correlated features of different scale and offset."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, D)) @ rng.standard_normal((D, D)) * np.logspace(-1, 1, D) + 2
    y = (X @ rng.standard_normal((D, C)) + 20 * rng.gumbel(size=(n, C))).argmax(axis=1)
    options = {"l2": 1e-2, "sample_weight": rng.random(n).astype(dtype)} | changes
    return Objective(Rows(X.astype(dtype)), y.astype(np.int32), n_classes=C, **options)


def start(objective):
    return np.zeros(objective.shape)


def random_weights(objective, n=1):
    Z = 0.05 * np.random.default_rng(1).standard_normal((n, *objective.shape))
    return Z if n > 1 else Z[0]


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
def test_the_slope_along_a_step_is_that_on_its_side(C):
    """Where a step ends at 0, the penalty falls on the way there."""
    objective = problem(C=C, l1=0.02)
    Z, step = random_weights(objective), random_weights(objective, 2)[1]
    Z[:, :5] = 0
    h = 1e-6
    before = exact_value(objective, Z - h * step)
    slope = objective.slope(Z, objective(Z)[1], step)
    assert slope == pytest.approx((exact_value(objective, Z) - before) / h, rel=1e-4)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("C", [2, 4])
def test_a_row_that_weighs_two_is_two_rows(C, exact):
    """To the loss, its gradient and both metrics."""
    weight = np.random.default_rng(3).integers(0, 4, 400).astype(float)
    one = problem(C=C, sample_weight=weight, condition=False)
    rows = np.repeat(np.arange(400), weight.astype(int))
    two = Objective(Rows(one.X.array[rows]), one.codes[rows], None, C, l2=1e-2, condition=False)
    Z = random_weights(one)
    (value, G), (expected, exact_G) = one(Z), two(Z)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(G, exact_G, atol=1e-12)
    steps = [(objective.hessian(Z) if exact else objective.metric(Z)).solve(G) for objective in (one, two)]
    for step in steps if C > 2 else []:
        step[:, -1] -= step[:, -1].mean()  # what all intercepts share is not determined
    np.testing.assert_allclose(*steps, rtol=1e-5, atol=1e-7 * np.abs(steps[0]).max())


@pytest.mark.parametrize("C", [2, 4])
def test_a_search_on_many_rows_begins_where_descent_ends(C, monkeypatch):
    monkeypatch.setattr(objective, "SMALL_WEIGHTS", 0)
    far = problem(n=9000, C=C, sample_weight=None)
    Z = far.first_guess()
    assert Z.shape == far.shape
    assert far(Z)[0] < 0.9 * np.log(C)
    assert not problem(C=C).first_guess().any()  # of few rows


@pytest.mark.parametrize("C", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_expand_and_collapse(C, fit_intercept):
    objective = problem(C=C)
    Z = random_weights(objective)
    np.testing.assert_allclose(objective.collapse(*objective.expand(Z)), Z)


def memory_of(objective, n):
    """A memory of n random steps, and these."""
    memory, Z = Memory(n, objective.shape), random_weights(objective, n + 1)
    for a, b in pairwise(Z):
        memory.add(b - a, objective(b)[1] - objective(a)[1])
    return memory


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_inverse_hessian_knows_the_last_step(fit_intercept):
    """The secant equation: what the last step did to the gradient."""
    objective = problem(fit_intercept=fit_intercept)
    memory = memory_of(objective, 5)
    step, change, _ = memory.pairs[-1]
    inverse = InverseHessian(objective.metric(start(objective)), memory)
    np.testing.assert_allclose(inverse.solve(change), step, atol=1e-10)


def test_the_minimum_of_the_model_without_penalty_is_the_step_of_the_inverse_hessian(monkeypatch):
    monkeypatch.setattr(proximal, "DESCENT_TOL", 1e-13)
    for name in ("MOST_ROUNDS", "FEWEST_ROUNDS"):
        monkeypatch.setattr(proximal, name, 100_000)
    objective = problem(l1=1e-300)
    Z = random_weights(objective)
    metric, memory, G = objective.metric(Z), memory_of(objective, 4), objective(Z)[1]
    step = Hessian(metric, memory).minimum(Z, G, objective.l1) - Z
    np.testing.assert_allclose(step, -InverseHessian(metric, memory).solve(G), atol=1e-6 * np.abs(step).max())


def test_features_that_repeat_others_are_no_harder_with_an_l1_penalty():
    """Coordinate descent alone would take thousands of rounds: steps on the support go to its minimum."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((300, 3))
    X = np.repeat(z, 4, axis=1) + 1e-3 * rng.standard_normal((300, 12))
    y = (z.sum(axis=1) + rng.standard_normal(300) > 0).astype(np.int32)
    far = Objective(Rows(X), y, None, 2, l2=0.0, l1=1e-3)
    result = minimize(far, start(far), 1e-6, 100)
    assert result.converged and result.n_iter < 15
    G = far.pseudo_gradient(result.Z, far(result.Z)[1])
    assert np.abs(G).max() < 1e-7 and (result.Z == 0).any()


def test_a_step_without_curvature_is_not_remembered():
    memory = Memory(3, (1, 2))
    memory.add(np.ones((1, 2)), np.zeros((1, 2)))
    memory.add(np.ones((1, 2)), -np.ones((1, 2)))
    assert memory.pairs == []


def test_the_memory_forgets_what_is_old():
    memory = Memory(2, (1, 2))
    for size in (1.0, 2.0, 3.0):
        memory.add(np.full((1, 2), size), np.ones((1, 2)))
    assert [step[0, 0] for step, _, _ in memory.pairs] == [2, 3]


@pytest.mark.parametrize("l1", [0.0, 0.02])
@pytest.mark.parametrize("C", [2, 4])
def test_minimize(C, l1):
    objective = problem(C=C, l1=l1)
    tol = 1e-9 if l1 == 0 else 1e-7
    result = minimize(objective, start(objective), tol, 200)
    assert result.converged and result.gap <= largest_gap(tol, result.value)
    assert result.n_iter < (30 if l1 == 0 else 200)
    assert np.any(result.Z[:, :-1] == 0) == (l1 > 0)
    rng = np.random.default_rng(0)
    for size in (1e-1, 1e-3):
        other = result.Z + size * rng.standard_normal(objective.shape)
        assert exact_value(objective, other) > result.value


@pytest.mark.parametrize("l1", [0.0, 0.02])
def test_a_metric_of_some_rows_leads_to_the_same_minimum(monkeypatch, l1):
    monkeypatch.setattr(objective, "SMALL_WEIGHTS", 0)
    monkeypatch.setattr(objective, "MOST_WEIGHTS", 0)
    far = problem(n=3000, l1=l1)
    exact = minimize(far, start(far), 1e-9, 500)
    monkeypatch.setattr(objective, "METRIC_ROWS", 100)
    monkeypatch.setattr(objective, "METRIC_ROWS_PER_FEATURE", 1)
    samples = []

    def spy(X, rows, sample, *args, **kwargs):
        samples.append(len(sample))
        return AverageCurvature(X, rows, sample, *args, **kwargs)

    monkeypatch.setattr(objective, "AverageCurvature", spy)
    result = minimize(far, start(far), 1e-9, 500)
    assert set(samples) == {100}
    assert result.converged and result.value == pytest.approx(exact.value, rel=1e-9)
    # What is added to all classes alike changes nothing where two of four weights are negative.
    ours, theirs = (found.Z - found.Z.mean(axis=0) for found in (result, exact))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("penalty", [{"l2": 1e-2}, {"l2": 0.0, "l1": 1e-2}])
def test_constant_features_beside_an_offset(penalty):
    """Features that are centred and scaled, of which some are constant: as if these were not there."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((400, 20))
    X = z + 1e5
    y = (z[:, :3] @ rng.standard_normal((3, 4)) + rng.gumbel(size=(400, 4))).argmax(axis=1).astype(np.int32)
    with_constants = np.insert(X, [0, 7, 20], [0.0, 1e5, -3.0], axis=1)
    least, far = (Objective(Rows(A), y, None, 4, **penalty) for A in (X, with_constants))
    assert (far.X.scale == 0).sum() == 3
    results = [lbfgs.minimize(o, start(o), 1e-7, 500) for o in (least, far)]
    assert all(result.converged for result in results)
    assert results[1].value == pytest.approx(results[0].value, rel=1e-9)


def unit_rows(l2, n=1200, D=300):
    X = np.random.default_rng(0).standard_normal((n, D))
    X /= np.linalg.norm(X, axis=1)[:, None]
    y = (X[:, :3].sum(axis=1) > 0.05).astype(np.int32)
    return Objective(Rows(X), y, None, 2, l2=l2, condition=False)


def test_a_strong_penalty_needs_no_correlations(monkeypatch):
    """The duality gap says so; under a weak penalty the correlations are made after a few steps."""
    made = []
    monkeypatch.setattr(average_curvature._kernels, "gram", lambda *args: made.append(1) or gram(*args))
    for l2, expected in ((0.1, 0), (1e-6, 1)):
        made.clear()
        far = unit_rows(l2)
        result = minimize(far, start(far), 1e-4, 100)
        exact = minimize(far, start(far), 1e-9, 500)
        assert result.converged and bool(made[:1]) == bool(expected)
        assert exact.value <= result.value <= exact.value + largest_gap(1e-4, result.value)


def test_lbfgs_goes_on_where_the_steps_of_newton_cost_more():
    far = problem(n=1500, D=60, C=8, l2=1e-4)
    assert far.has_hessian and not far.is_small and far.hessian_passes > 30
    result = minimize(far, start(far), 1e-4, 1000)
    assert result.converged and result.solver == "lbfgs" and result.n_iter > newton.PATIENCE
    # which leaves Newton's steps a quarter of max_iter
    few = minimize(far, start(far), 1e-4, result.n_iter)
    assert few.converged and few.solver == "lbfgs, newton"


def test_rare_features_do_not_spoil_the_metric(monkeypatch):
    """Features that are 0 but in two rows, and none of the sample's, standardised: values of some 40."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 60))
    X[:, 30:] = 0
    X[np.arange(60) * 50, 30 + np.arange(60) % 30] = 1
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = rng.integers(0, 3, 3000).astype(np.int32)
    monkeypatch.setattr(objective, "METRIC_ROWS", 200)
    far = Objective(Rows(X), y, None, 3, l2=1e-3)
    result = minimize(far, start(far), 1e-4, 100)
    assert result.converged and result.n_iter < 40
    assert minimize(far, start(far), 1e-7, 100).converged


@pytest.mark.parametrize(
    ("tol", "value", "expected"),
    [
        (1e-4, 2.0, 2e-5),  # 1000 tol^2 of the objective
        (1e-6, 0.5, 5e-10),
        (1e-2, 3.0, 3e-3),  # tol / 10 of it
        (1e-4, 1e-5, 1e-9),  # 1000 tol^2 of tol
        (0.0, 1.0, 0.0),
    ],
)
def test_largest_gap(tol, value, expected):
    assert largest_gap(tol, value) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("l1", [0.0, 0.02])
@pytest.mark.parametrize("small", [False, True])
def test_the_verdict_of_each_step(small, l1, monkeypatch):
    """A search that ends after k steps has converged where its gap is allowed, and rightly so."""
    if not small:
        monkeypatch.setattr(objective, "SMALL_WEIGHTS", 0)
        monkeypatch.setattr(objective, "MOST_WEIGHTS", 0)
    far, tol, verdicts = problem(l1=l1), 1e-4, []
    least = minimize(far, start(far), 1e-8, 500).value
    for k in range(1, 60):
        result = minimize(far, start(far), tol, k)
        allowed = largest_gap(tol, result.value)
        assert result.converged == (result.gap <= allowed)
        assert result.value == pytest.approx(exact_value(far, result.Z), rel=1e-12)
        assert not result.converged or result.value - least <= 2 * allowed
        verdicts.append(result.converged)
        if result.n_iter < k:
            break
    assert result.converged and result.gap <= 0.05 * allowed  # it ends where the estimate leaves no doubt
    assert not verdicts[0]
    for factor in (0.99, 1.01):  # of the gap that is left after one step
        first = minimize(far, start(far), tol, 1)
        edge = np.sqrt(factor * first.gap / first.value / 1000)
        if edge < 1e-4:
            assert minimize(far, start(far), edge, 1).converged == (factor > 1)


class Steep:
    """A metric that takes the curvature for a million times what it is, and so promises hardly any gain."""

    def __init__(self, metric):
        self.metric = metric

    def solve(self, G):
        return self.metric.solve(G) / 1e6

    def __getattr__(self, name):
        return getattr(self.metric, name)


@pytest.mark.parametrize("failing", [3, 5, 8])
def test_a_promise_that_no_step_has_confirmed_ends_no_search(failing, monkeypatch):
    """As after a step that led nowhere, when all that the steps before have taught is forgotten."""
    monkeypatch.setattr(objective, "SMALL_WEIGHTS", 0)
    monkeypatch.setattr(objective, "MOST_WEIGHTS", 0)
    far = problem()
    least = minimize(far, start(far), 1e-8, 500).value
    metric, search, searches = Objective.metric, lbfgs.line_search, iter(range(1, 500))
    monkeypatch.setattr(Objective, "metric", lambda *args, **options: Steep(metric(*args, **options)))
    monkeypatch.setattr(
        lbfgs, "line_search", lambda *args: None if next(searches) == failing else search(*args)
    )
    result = minimize(far, start(far), 1e-4, 500)
    assert next(searches) > failing
    assert result.converged and result.value - least <= largest_gap(1e-4, result.value)


def test_the_words_of_what_is_left():
    result = minimize(problem(), start(problem()), 1e-6, 1)
    words = result.shortfall(1e-6)
    assert f"The objective, {result.value:.4g}, may be {result.gap:.2g} above its minimum" in words
    assert f"tol=1e-06 asks for {largest_gap(1e-6, result.value):.2g}." in words


def warnings_of(X, y, callback=None, **params):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = SoftmaxClassifier(solver="lbfgs", **params).fit(X, y, callback=callback)
    return model, [str(w.message) for w in caught]


def test_softmax_classifier_tells_of_a_search_that_falls_short():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 6)), rng.integers(0, 3, 200)
    # Too few steps; and rounding in float32, which ends the search long before max_iter.
    for data, params, ends in (
        (X, {"max_iter": 1, "tol": 1e-6}, 1),
        (X.astype(np.float32), {"max_iter": 10_000, "tol": 0.0}, None),
    ):
        model, messages = warnings_of(data, y, **params)
        assert len(messages) == 1 and f"stopped after {model.n_iter_} steps" in messages[0]
        assert "above its minimum" in messages[0]
        assert model.n_iter_ == ends or (ends is None and 1 < model.n_iter_ < 100)
    # None of these: at the minimum, told to run exactly so far, ended by a callback.
    assert warnings_of(X, y, tol=1e-6)[1] == []
    assert warnings_of(X, y, tol=None, max_iter=1)[1] == []
    model, messages = warnings_of(X, y, tol=1e-12, callback=lambda epoch: epoch.epoch == 1)
    assert model.n_iter_ == 1 and messages == []


def test_float32_reaches_the_minimum_of_float64():
    far, near = problem(dtype=np.float64), problem(dtype=np.float32)
    exact = minimize(far, start(far), 1e-10, 100)
    result = minimize(near, start(near), 1e-6, 100)
    assert exact_value(far, result.Z) / exact.value - 1 < 1e-9


def test_rounding_ends_the_search():
    """float32 cannot make the gradient zero: a few steps in vain, and the result says so."""
    objective = problem(dtype=np.float32)
    result = minimize(objective, start(objective), 0.0, 10_000)
    assert not result.converged
    assert result.n_iter < 60
    assert result.gap < 1e-9 * result.value


def test_the_scale_of_a_feature_does_not_matter():
    objective = problem(l2=0.0)
    scale = np.logspace(-5, 5, 12)
    scaled = Objective(Rows(objective.X.array * scale), objective.codes, objective.sample_weight, 4, l2=0.0)
    results = [minimize(o, start(o), 1e-9, 100) for o in (objective, scaled)]
    assert results[0].converged
    assert results[1].value == pytest.approx(results[0].value, rel=1e-10)


def test_callback_sees_each_step_and_can_stop():
    objective = problem()
    values = []

    def callback(weights, value, n_iter):
        values.append(value)
        assert objective(weights())[0] == pytest.approx(value)
        assert len(values) == n_iter
        return n_iter == 3

    result = minimize(objective, start(objective), 1e-9, 100, callback)
    assert result.n_iter == 3 and not result.converged
    assert values == sorted(values, reverse=True)


def test_classes_stay_balanced():
    """What is added to all classes alike is not determined: from zero, the search adds nothing."""
    objective = problem(l2=0.0)
    result = minimize(objective, start(objective), 1e-12, 100)
    np.testing.assert_allclose(result.Z.mean(axis=0), 0, atol=1e-9)
