"""Labels and weights mean the same to every estimator."""

import numpy as np
import pytest
from sklearn.datasets import load_iris

from softline import SoftmaxClassifier
from softline._estimators import labels
from softline._kernels.rows import Rows
from softline.linear_model import LeastSquaresClassifier, LogisticRegression
from softline.neural_network import MLPClassifier

X, Y = load_iris(return_X_y=True)
WITH_CLASS_WEIGHT = {
    "softmax": SoftmaxClassifier(solver="lbfgs", tol=1e-8, max_iter=1000),
    "logistic": LogisticRegression(tol=1e-8, max_iter=1000),
    "least squares": LeastSquaresClassifier(),
}
ESTIMATORS = WITH_CLASS_WEIGHT | {"network": MLPClassifier((5,), max_iter=3, tol=None, random_state=0)}
by_name = pytest.mark.parametrize("name", ESTIMATORS)
by_name_with_class_weight = pytest.mark.parametrize("name", WITH_CLASS_WEIGHT)


@by_name
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(150), r"the sample weights are all zero|at least one non-zero number"),
        (np.full(150, np.finfo(float).max), "the sample weights are too large for float64; scale them down"),
        (np.full(150, np.nan), "NaN"),
    ],
)
def test_sample_weights_that_make_no_sense(name, weight, message):
    with pytest.raises(ValueError, match=message):
        ESTIMATORS[name].fit(X, Y, sample_weight=weight)


@by_name_with_class_weight
def test_class_weights_that_make_no_sense(name):
    model = WITH_CLASS_WEIGHT[name]
    for class_weight, message in (
        ({0: 0, 1: 0, 2: 0}, "the sample weights, multiplied with the class weights, are all zero"),
        ({0: 1, 1: -1}, "class_weight must hold finite numbers of at least 0; 1 has -1"),
        ({0: 1, 7: 2}, r"class_weight has labels that are not among the classes: \[7\]"),
    ):
        with pytest.raises(ValueError, match=message):
            model.set_params(class_weight=class_weight).fit(X, Y)
    model.set_params(class_weight=None)


@by_name_with_class_weight
def test_class_weights_are_sample_weights(name):
    """As in scikit-learn, a dict that leaves no class out may hold more labels."""
    model = WITH_CLASS_WEIGHT[name]
    rows = np.r_[0:50, 60:100, 110:130]
    of_class = np.array([0.5, 2, 1.5])
    for class_weight, weight in (
        ({0: 0.5, 1: 2, 2: 1.5, 7: 3}, of_class[Y[rows]]),
        ("balanced", (110 / 3 / np.array([50, 40, 20]))[Y[rows]]),
    ):
        found = model.set_params(class_weight=class_weight).fit(X[rows], Y[rows]).decision_function(X)
        expected = model.set_params(class_weight=None).fit(X[rows], Y[rows], weight).decision_function(X)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_counts_of_a_stream_are_those_of_all_its_rows():
    weight = np.linspace(0, 2, 150)
    order = np.random.RandomState(0).permutation(150)
    whole, parts = labels.Seen(3), labels.Seen(3)
    for seen, pieces in ((whole, [order]), (parts, np.array_split(order, 4))):
        for rows in pieces:
            given = Rows(X[rows]), Y[rows].astype(np.int32), np.arange(3), weight[rows], "balanced", seen
            last = labels.row_weights(*given)
    assert parts.n_rows == whole.n_rows == 149
    np.testing.assert_allclose(parts.of_classes, np.bincount(Y, weight))
    assert parts.weight == pytest.approx(weight.sum()) == pytest.approx(whole.weight)
    of_class = labels.balanced_weights(np.bincount(Y, weight))
    np.testing.assert_allclose(last, (weight * of_class[Y])[rows])


def test_codes():
    classes, codes = labels.classes_of(np.array(["b", "a", "b"]))
    assert classes.tolist() == ["a", "b"] and codes.tolist() == [1, 0, 1] and codes.dtype == np.int32
    assert labels.encode(np.array(["b"]), classes, "y").tolist() == [1]
    with pytest.raises(ValueError, match=r"y has labels that are not among the classes: \['c'\]"):
        labels.encode(np.array(["c", "a"]), classes, "y")
    with pytest.raises(ValueError, match="y has labels of another type than the classes"):
        labels.encode(np.array([None, 1], dtype=object), classes, "y")
    with pytest.raises(ValueError, match="y has 3 columns; the classes are"):
        labels.encode(np.eye(3), classes, "y")


def test_balanced_weights():
    """n / (C n_c), for the classes that are there."""
    np.testing.assert_allclose(labels.balanced_weights(np.array([2, 6, 4])), [2, 2 / 3, 1])
    np.testing.assert_allclose(labels.balanced_weights(np.array([2.0, 0, 6])), [2, 0, 2 / 3])
    assert labels.balanced_weights(np.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize("by_weight", [True, False])
def test_a_class_that_weighs_nothing_is_balanced_as_if_it_were_not_there(by_weight):
    """By the weights of the rows as by their number, as scikit-learn counts before 1.7."""
    codes = np.array([0, 0, 0, 1, 2, 2])
    weight = np.where(codes == 2, 0.0, 1.0)
    args = np.arange(3), weight, "balanced"
    found = labels.row_weights(Rows(np.zeros((6, 1))), codes, *args, balance_by_weight=by_weight)
    np.testing.assert_allclose(found, [4 / 6, 4 / 6, 4 / 6, 2, 0, 0])
