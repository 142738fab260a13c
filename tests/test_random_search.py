import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from softline import SoftmaxClassifier
from softline._solvers.random_search import RandomSearch

SOLVERS = ("random_search", "random_local_search")
solvers = pytest.mark.parametrize("solver", SOLVERS)


def one_after_the_other(X, y, scale, n, local, seed, alpha=0.0):
    """The algorithm of the course notes, guess by guess; the bias is the last column."""
    rng, X = np.random.RandomState(seed), np.column_stack([X, np.ones(len(X))])
    C = y.max() + 1
    W, curve = np.zeros((C, X.shape[1])), []

    def loss(W):
        scores = X @ W.T
        return -log_softmax(scores, axis=1)[np.arange(len(y)), y].mean() + alpha / 2 * np.sum(W[:, :-1] ** 2)

    best = loss(W) if local else np.inf
    for _ in range(n):
        guess = scale * rng.standard_normal(W.shape) + (W if local else 0)
        value = loss(guess)
        if value < best:
            best, W = value, guess
        curve.append(best)
    return W, curve


@solvers
@pytest.mark.parametrize("n", [3, 7, 300])
def test_as_if_guessed_one_after_the_other(solver, n):
    """However many are scored at once."""
    X, y = load_iris(return_X_y=True)
    W, curve = one_after_the_other(X, y, 0.1, n, solver == "random_local_search", seed=3, alpha=0.01)
    model = SoftmaxClassifier(solver=solver, learning_rate=0.1, max_iter=n, alpha=0.01, random_state=3)
    model.fit(X, y)
    np.testing.assert_allclose(model.loss_curve_, curve, rtol=1e-12)
    np.testing.assert_allclose(model.coef_, W[:, :-1], rtol=1e-12)
    np.testing.assert_allclose(model.intercept_, W[:, -1], rtol=1e-12)
    assert model.n_iter_ == len(model.epoch_seconds_) == n
    assert model.learning_rate_ == 0.1


@solvers
def test_reproducible_on_any_number_of_threads(solver, digits):
    X, _, y, _ = digits
    models = [
        SoftmaxClassifier(solver=solver, max_iter=50, random_state=0, n_threads=n).fit(X, y)
        for n in (1, 2, 3)
    ]
    for model in models[1:]:
        assert model.coef_.tobytes() == models[0].coef_.tobytes()
        assert model.loss_curve_ == models[0].loss_curve_
    other = SoftmaxClassifier(solver=solver, max_iter=50, random_state=1).fit(X, y)
    assert not np.array_equal(other.coef_, models[0].coef_)


def test_the_story(digits):
    """Guessing is better than chance, walking than guessing, and following the gradient than either."""
    X, X_test, y, y_test = digits
    accuracies = [
        SoftmaxClassifier(solver=solver, max_iter=300, random_state=0).fit(X, y).score(X_test, y_test)
        for solver in SOLVERS
    ] + [SoftmaxClassifier(batch_size=None, tol=None).fit(X, y).score(X_test, y_test)]
    assert 0.12 < accuracies[0] < 0.4 < accuracies[1] < 0.85 < 0.9 < accuracies[2]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_begins_at_log_C(digits):
    X, _, y, _ = digits
    for solver, batch_size in (("random_local_search", 256), ("sgd", None), ("sgd", len(X))):
        model = SoftmaxClassifier(solver=solver, batch_size=batch_size, max_iter=1, learning_rate=1e3)
        assert model.fit(X, y).loss_curve_[0] == pytest.approx(np.log(10), rel=1e-12)


def test_auto_follows_the_length_of_the_rows(digits):
    X, _, y, _ = digits
    raw, small, standard = (
        SoftmaxClassifier(solver="random_search", max_iter=40, random_state=0, **options).fit(features, y)
        for features, options in ((X, {}), (X / 1000, {}), (X, {"standardize": True}))
    )
    length = np.sqrt(np.mean(np.sum(X**2, axis=1)) + 1)
    assert raw.learning_rate_ == pytest.approx(1 / length)
    assert small.learning_rate_ > 50 * raw.learning_rate_
    varying = np.count_nonzero(X.std(axis=0))
    assert standard.learning_rate_ == pytest.approx(1 / np.sqrt(varying + 1))
    local = SoftmaxClassifier(solver="random_local_search", max_iter=1).fit(X, y)
    assert local.learning_rate_ == pytest.approx(0.1 / length)


@solvers
def test_weights_penalties_and_intercepts(solver, digits):
    X, _, y, _ = digits
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    options = {"solver": solver, "max_iter": 20, "random_state": 0, "learning_rate": 0.01}
    weighted = SoftmaxClassifier(**options, fit_intercept=False).fit(X, y, weight)
    repeated = SoftmaxClassifier(**options, fit_intercept=False).fit(
        X.repeat(weight, axis=0), y.repeat(weight)
    )
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-12)
    assert not weighted.intercept_.any()
    model = SoftmaxClassifier(**options, alpha=0.3, l1_ratio=0.25).fit(X, y)
    cross_entropy = -model.predict_log_proba(X)[np.arange(len(X)), y].mean()
    penalty = 0.3 * (0.75 / 2 * np.sum(model.coef_**2) + 0.25 * np.abs(model.coef_).sum())
    assert model.loss_curve_[-1] == pytest.approx(cross_entropy + penalty, rel=1e-12)


@solvers
def test_what_a_fit_tells(solver, digits):
    X, X_test, y, y_test = digits
    epochs = []
    model = SoftmaxClassifier(solver=solver, max_iter=30, random_state=0)
    model.fit(X, y, eval_set=(X_test, y_test), callback=epochs.append)
    assert [epoch.loss for epoch in epochs] == model.loss_curve_ == sorted(model.loss_curve_)[::-1]
    assert [epoch.validation_score for epoch in epochs] == model.validation_scores_
    assert model.validation_scores_[-1] == pytest.approx(model.score(X_test, y_test))
    stopped = SoftmaxClassifier(solver=solver, max_iter=30, random_state=0)
    stopped.fit(X, y, callback=lambda epoch: epoch.epoch == 4)
    assert stopped.n_iter_ == 4
    assert stopped.loss_curve_ == model.loss_curve_[:4]


def test_warm_start_goes_on(digits):
    X, _, y, _ = digits
    for solver in SOLVERS:
        model = SoftmaxClassifier(solver=solver, max_iter=30, warm_start=True, random_state=0).fit(X, y)
        before = model.loss_curve_[-1]
        model.set_params(random_state=1).fit(X, y)
        assert model.loss_curve_[0] <= before + 1e-12


def test_warns_where_no_guess_was_better(digits):
    X, _, y, _ = digits
    model = SoftmaxClassifier(solver="random_local_search", learning_rate=10.0, max_iter=5, random_state=0)
    with pytest.warns(ConvergenceWarning, match="none of max_iter=5 guesses .* lower learning_rate=10"):
        model.fit(X, y)
    assert not model.coef_.any()


@solvers
def test_what_is_refused(solver, digits):
    X, _, y, _ = digits
    with pytest.raises(ValueError, match=f"solver='{solver}' takes labels"):
        SoftmaxClassifier(solver=solver).fit(X, np.eye(10)[y])
    with pytest.raises(ValueError, match="early_stopping needs solver='sgd'"):
        SoftmaxClassifier(solver=solver, early_stopping=True).fit(X, y)
    with pytest.raises(ValueError, match="has no batches"):
        SoftmaxClassifier(solver=solver).fit(X, y, batch_callback=print)
    with pytest.raises(ValueError, match="partial_fit is gradient descent"):
        SoftmaxClassifier(solver=solver).partial_fit(X, y, classes=range(10))


def test_no_more_is_drawn_than_guessed():
    """A step that was drawn before another led away is not lost."""
    rng, drawn = np.random.RandomState(0), []

    class Counting:
        def standard_normal(self, shape):
            drawn.append(shape)
            return rng.standard_normal(shape)

    class Bowl(RandomSearch):
        def losses(self, Ws, bs):
            return np.sum((Ws - 1) ** 2, axis=(1, 2)) + np.sum(bs**2, axis=1)

    W, b, curve, bowl = np.zeros((2, 3)), np.zeros(2), [], Bowl(None, local=True, scale=0.1)
    bowl.run(W, b, 200, Counting(), lambda *told: curve.append(told[0]))
    assert len(drawn) == len(curve) == 200
    assert set(drawn) == {(2, 4)}
    assert curve[-1] == pytest.approx(float(bowl.losses(W[None], b[None])[0]))
