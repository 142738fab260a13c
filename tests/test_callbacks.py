import numpy as np
import pytest
from sklearn.metrics import log_loss

from softline import SoftmaxClassifier
from softline.callbacks import History
from softline.neural_network import MLPClassifier

NAMES = np.array([f"digit {i}" for i in range(10)])


@pytest.mark.parametrize(
    "model", [SoftmaxClassifier(), SoftmaxClassifier(solver="lbfgs"), MLPClassifier((10,))], ids=str
)
def test_history_is_what_the_model_scores(digits, model):
    X, X_val, y, y_val = digits
    model.set_params(max_iter=3, random_state=0)
    history = History(training=(X, NAMES[y]), validation=(list(X_val), list(NAMES[y_val])))
    with pytest.warns(UserWarning):
        model.fit(X, NAMES[y], eval_set=(X_val, NAMES[y_val]), callback=history)
    assert history.scores["validation"] == model.validation_scores_
    assert [len(curve) for curve in (history.losses | history.scores).values()] == [3, 3]
    assert history.scores["training"][-1] == model.score(X, NAMES[y])
    loss = log_loss(NAMES[y], model.predict_proba(X).astype(float))
    assert history.losses["training"][-1] == pytest.approx(loss, rel=1e-5)


def test_history_of_unknown_labels(digits):
    X, _, y, _ = digits
    history = History(strangers=(X[:2], [3, 11]))
    with pytest.raises(ValueError, match=r"strangers has labels that are not among the classes: \[11\]"):
        SoftmaxClassifier(max_iter=1, tol=None).fit(X, y, callback=history)
