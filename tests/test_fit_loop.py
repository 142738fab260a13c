import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits

from softline import SoftmaxClassifier
from softline._training.fit_loop import StoppingRule
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
