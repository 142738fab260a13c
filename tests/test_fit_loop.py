import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from softline import SoftmaxClassifier
from softline._training.fit_loop import StoppingRule
from softline._training.trainer import DivergenceError
from softline.neural_network import MLPClassifier

X, Y = load_digits(return_X_y=True)


@pytest.mark.parametrize(
    ("tol", "ties", "values", "ends"),
    [
        (1, False, [5, 4, 3, 2, 1], 3),  # an improvement of tol is none
        (1, True, [5, 4, 3, 2, 1], None),  # an improvement of tol is one
        (1, True, [5, 4.5, 4.1, 2], 3),  # each by less than tol, though both by as much
        (0, False, [5, 4, 3, 3, 2.5, 2.5, 2.5], 7),
        (None, False, [5, 5, 5, 5], None),
    ],
)
def test_stopping_rule(tol, ties, values, ends):
    rule = StoppingRule(tol, patience=2, ties=ties)
    still, best = [], []
    for value in values:
        best.append(rule.update(value))
        still.append(rule.stands_still)
    assert (still.index(True) + 1 if any(still) else None) == ends
    assert best == [value < min([np.inf, *values[:i]]) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    "model",
    [
        SoftmaxClassifier(optimizer="adam", schedule="cosine", max_iter=8, class_weight="balanced"),
        SoftmaxClassifier(optimizer="momentum", standardize=True),
        SoftmaxClassifier(optimizer="asgd", learning_rate=0.01, standardize=True),
        MLPClassifier((7,), standardize=True, learning_rate="cosine", max_iter=8),
        MLPClassifier((7,), solver="sgd", learning_rate="invscaling"),
        MLPClassifier((7,), solver="asgd", standardize=True),
    ],
    ids=str,
)
def test_a_stream_is_saved_and_goes_on_as_one(model):
    """Pickled after each call it ends as it does in one process, and as no memory would let it end."""
    model.set_params(random_state=0)
    stream, copied, forgetful = (pickle.loads(pickle.dumps(model)) for _ in range(3))
    for first in range(0, 1600, 400):
        rows = slice(first, first + 400)
        for one in (stream, copied, forgetful):
            one.partial_fit(X[rows], Y[rows], classes=np.arange(10))
        copied = pickle.loads(pickle.dumps(copied))
        forgetful._stream = None
    probs = stream.predict_proba(X)
    assert np.array_equal(copied.predict_proba(X), probs)
    assert copied.loss_curve_ == stream.loss_curve_
    assert not np.array_equal(forgetful.predict_proba(X), probs)


@pytest.mark.parametrize(("estimator", "epochs"), [(SoftmaxClassifier, 4), (MLPClassifier, 5)])
def test_epochs_without_improvement(estimator, epochs):
    """After the first none improves by so much: three more; in a network, as in scikit-learn, four more."""
    model = estimator(tol=1e9, n_iter_no_change=3, max_iter=20, random_state=0).fit(X[:200], Y[:200])
    assert model.n_iter_ == epochs


def heard(epoch):
    """Callback of a fit, which then runs epoch by epoch."""


@pytest.mark.parametrize(
    "model",
    [
        SoftmaxClassifier(),
        SoftmaxClassifier(tol=0.01),
        SoftmaxClassifier(batch_size=50, max_iter=30, tol=None),
        SoftmaxClassifier(batch_size=64, optimizer="adam", schedule="cosine", l1_ratio=0.5, alpha=1e-3),
        SoftmaxClassifier(batch_size=64, optimizer="asgd", standardize=True, max_norm=1.0),
        SoftmaxClassifier(batch_size=37, shuffle=False, schedule="warm_up", max_iter=7),
        SoftmaxClassifier(batch_size=2, n_iter_no_change=3),  # whose rate is lowered
        MLPClassifier((7,), max_iter=20, dropout=0.2),
        MLPClassifier((7, 5), solver="sgd", learning_rate="adaptive", learning_rate_init=0.1, tol=0.1),
        MLPClassifier((7,), solver="sgd", learning_rate="invscaling", max_iter=20),
    ],
    ids=str,
)
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("x", [X[:300], X[:300, 26:30]], ids=["64 features", "4 features"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_epochs_in_one_call_are_those_of_a_call_each(model, weighed, x):
    """To the bit; and random numbers are left as they were, also where a fit ends among epochs of a call."""
    weight = np.random.RandomState(0).uniform(0.5, 2, 300) if weighed else None
    together, one_by_one = (clone(model).set_params(random_state=np.random.RandomState(0)) for _ in range(2))
    together.fit(x, Y[:300], sample_weight=weight)
    one_by_one.fit(x, Y[:300], sample_weight=weight, callback=heard)
    assert together.loss_curve_ == one_by_one.loss_curve_ and together.n_iter_ == one_by_one.n_iter_
    assert np.array_equal(together.predict_proba(x), one_by_one.predict_proba(x))
    assert together.random_state.randint(2**31) == one_by_one.random_state.randint(2**31)


@pytest.mark.parametrize("batch_size", [1, 5, 20])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_epochs_in_one_call_end_where_the_rate_is_lowered(batch_size):
    """By a few rows that are much longer than the others."""
    long, y = np.random.default_rng(0).standard_normal((300, 5)), Y[:300] % 3
    long[::40] *= 300
    models = [
        SoftmaxClassifier(batch_size=batch_size, random_state=np.random.RandomState(0)) for _ in range(2)
    ]
    rates = []
    models[0].fit(long, y, callback=lambda epoch: rates.append(epoch.model.learning_rate_))
    models[1].fit(long, y)
    assert len(set(rates)) > 2 and models[1].learning_rate_ == rates[-1]
    assert models[0].loss_curve_ == models[1].loss_curve_
    assert np.array_equal(models[0].coef_, models[1].coef_)
    assert models[0].random_state.randint(2**31) == models[1].random_state.randint(2**31)


def test_epochs_in_one_call_end_where_one_diverges():
    """With the history and the weights before it."""
    models = [SoftmaxClassifier(learning_rate=3e38, batch_size=30, random_state=0) for _ in range(2)]
    for model, callback in zip(models, (None, heard), strict=True):
        with pytest.raises(DivergenceError, match="in epoch"):
            model.fit(X[:300].astype(np.float32), Y[:300], callback=callback)
    assert models[0].n_iter_ == models[1].n_iter_ and models[0].loss_curve_ == models[1].loss_curve_
    assert np.array_equal(models[0].coef_, models[1].coef_)
