import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.preprocessing import StandardScaler

from softline import SoftmaxClassifier
from softline._estimators.description import Description, layers_of
from softline.linear_model import LeastSquaresClassifier, LogisticRegression
from softline.neighbors import KNeighborsClassifier
from softline.neural_network import MLPClassifier

X, Y = load_iris(return_X_y=True)
SEVERAL = np.column_stack([Y == 0, Y == 1]).astype(int)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize(
    ("model", "y", "shapes", "output", "several", "training"),
    [
        (SoftmaxClassifier(max_iter=3), Y, [(3, 4)], "softmax", False, "epochs"),
        (SoftmaxClassifier(max_iter=3), Y == 0, [(2, 4)], "softmax", False, "epochs"),
        (LogisticRegression(), Y, [(3, 4)], "softmax", False, "steps"),
        (LogisticRegression(), Y == 0, [(1, 4)], "logistic", False, "steps"),
        (LeastSquaresClassifier(), Y, [(3, 4)], "scores", False, None),
        (LeastSquaresClassifier(), SEVERAL, [(2, 4)], "scores", True, None),
        (MLPClassifier((5, 6), max_iter=3), Y, [(5, 4), (6, 5), (3, 6)], "softmax", False, "epochs"),
        (MLPClassifier((), max_iter=3), Y == 0, [(1, 4)], "logistic", False, "epochs"),
        (MLPClassifier(5, max_iter=3), SEVERAL, [(5, 4), (2, 5)], "logistic", True, "epochs"),
        (KNeighborsClassifier(n_jobs=2), Y, [], "votes", False, None),
    ],
)
def test_models_describe_themselves(model, y, shapes, output, several, training):
    told = model.fit(X, y)._describe()
    assert [W.shape for W, _ in told.layers] == shapes
    assert [b.shape for _, b in told.layers] == [shape[:1] for shape in shapes]
    assert (told.output, told.several, list(told.training)) == (
        output,
        several,
        [training] if training else [],
    )
    assert (told.activation is None) == (not isinstance(model, MLPClassifier))
    assert told.has_probabilities == hasattr(model, "predict_proba")
    assert told.n_threads == getattr(model, "n_jobs", None)


def test_history():
    model = MLPClassifier(max_iter=3, early_stopping=True, random_state=0).fit(X, Y)
    history = model._describe().history
    assert (history["n_iter"], history["t"]) == (3, model.t_)
    assert history["loss_curve"] == model.loss_curve_
    assert history["validation_scores"] == model.validation_scores_
    assert LeastSquaresClassifier().fit(X, Y)._describe().training == {}


def test_training_in_words():
    def training(**history):
        return Description([], "softmax", history=history).training

    assert training() == training(n_iter=None) == {}
    assert training(n_iter=np.array([3, 9, 7])) == {"steps": "9"}  # of the model of each class, the most
    curve = {"n_iter": 3, "loss_curve": [2.0, 1.0, 0.25]}
    assert training(**curve, learning_rate=0.0125) == {"epochs": "3, loss 0.2500, learning rate 0.0125"}
    assert training(**curve, learning_rate=None) == {"epochs": "3, loss 0.2500"}
    assert training(n_iter=3, loss_curve=[], learning_rate=0.1) == {"epochs": "3, learning rate 0.1"}


def test_layers_of_scikit_learns_models():
    model = SklearnLogisticRegression().fit(X, Y)
    ((W, b),) = layers_of(model)
    np.testing.assert_array_equal(W, model.coef_)
    np.testing.assert_array_equal(b, model.intercept_)
    ((sparse, _),) = layers_of(model.sparsify())
    np.testing.assert_array_equal(sparse, W)


def test_layers_of_scikit_learns_networks():
    model = SklearnMLPClassifier((5,), max_iter=3).fit(X, Y)
    for (W, b), coef, intercept in zip(layers_of(model), model.coefs_, model.intercepts_, strict=True):
        np.testing.assert_array_equal(W.T, coef)
        np.testing.assert_array_equal(b, intercept)
    assert layers_of(StandardScaler().fit(X)) == []
