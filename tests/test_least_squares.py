import numpy as np
import pytest
from scipy.linalg import lstsq
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import RidgeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from softline._estimators import least_squares
from softline.gradient_check import check_gradient
from softline.linear_model import LeastSquaresClassifier

LOADERS = (load_iris, load_wine, load_digits, load_breast_cancer)
loaders = pytest.mark.parametrize("load", LOADERS)


@parametrize_with_checks(
    [LeastSquaresClassifier(), LeastSquaresClassifier(alpha=0.0)],
    expected_failed_checks=lambda model: {
        "check_non_transformer_estimators_n_iter": (
            "RidgeClassifier, whose max_iter is of other solvers, is excepted from it by name"
        )
    },
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def assert_same_model(ours, theirs, X, rtol=1e-10):
    n_rows = 1 if len(ours.classes_) == 2 else len(ours.classes_)
    assert ours.coef_.shape == (n_rows, X.shape[1])
    for name, shape in (("coef_", ours.coef_.shape), ("intercept_", (n_rows,))):
        a, b = getattr(ours, name), np.asarray(getattr(theirs, name))  # theirs has lost axes of length 1
        np.testing.assert_allclose(
            a, b.reshape(shape) if b.size == a.size else b, rtol=0, atol=rtol * np.abs(b).max()
        )
    scores = theirs.decision_function(X)
    np.testing.assert_allclose(
        ours.decision_function(X), scores, rtol=0, atol=10 * rtol * np.abs(scores).max()
    )
    assert np.array_equal(ours.predict(X), theirs.predict(X))


@loaders
@pytest.mark.parametrize(
    "options", [{}, {"alpha": 1e-2, "fit_intercept": False}, {"class_weight": "balanced"}], ids=str
)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_ridge_classifier(load, options, weighted):
    X, y = load(return_X_y=True)
    weight = np.random.default_rng(0).random(len(X)) if weighted else None
    ours, theirs = (cls(**options).fit(X, y, weight) for cls in (LeastSquaresClassifier, RidgeClassifier))
    # Raw breast cancer has features from 1e-3 to 1e3.
    assert_same_model(ours, theirs, X, rtol=1e-8 if load is load_breast_cancer else 1e-10)
    assert ours.coef_.dtype == np.float64


@pytest.mark.parametrize("labels", [["no", "yes"], ["a", "b", "c"], [-3, 7], [True, False]])
def test_labels(labels):
    X, y = load_iris(return_X_y=True)
    keep = y < len(labels)
    X, y = X[keep], np.array(labels)[y[keep]]
    assert_same_model(LeastSquaresClassifier().fit(X, y), RidgeClassifier().fit(X, y), X)


@pytest.mark.parametrize("shape", [(20, 50), (50, 50), (51, 50), (3, 200)])
@pytest.mark.parametrize("options", [{}, {"fit_intercept": False}], ids=str)
def test_fewer_rows_than_features(shape, options, monkeypatch):
    """In one block, and in many."""
    rng = np.random.default_rng(0)
    X, y, weight = rng.standard_normal(shape), np.arange(shape[0]) % 3, rng.random(shape[0])
    theirs = RidgeClassifier(**options).fit(X, y, weight)
    for bytes_of_block in (least_squares.BLOCK_BYTES, 1000):
        monkeypatch.setattr(least_squares, "BLOCK_BYTES", bytes_of_block)
        assert_same_model(LeastSquaresClassifier(**options).fit(X, y, weight), theirs, X)


@pytest.mark.parametrize("shape", [(200, 12), (10, 40)])
@pytest.mark.parametrize("alpha", [0.0, 1e-13])
def test_singular_problems_have_the_solution_of_least_norm(shape, alpha):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal(shape), np.arange(shape[0]) % 3
    X[:, -1] = X[:, 0]
    X[:, -2] = 4.0
    model = LeastSquaresClassifier(alpha=alpha).fit(X, y)
    targets = 2.0 * np.eye(3)[y] - 1
    exact = lstsq(X - X.mean(axis=0), targets - targets.mean(axis=0))[0].T
    np.testing.assert_allclose(model.coef_, exact, atol=1e-8)
    np.testing.assert_allclose(model.decision_function(X).mean(axis=0), targets.mean(axis=0), atol=1e-8)


@pytest.mark.parametrize("shape", [(30, 300), (40, 40), (2, 5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_wide_problems_without_penalty_have_the_solution_of_least_norm(shape, weighted):
    """Centred rows are linearly dependent, in a known way."""
    rng = np.random.default_rng(0)
    X, y = 7 + rng.standard_normal(shape), np.arange(shape[0]) % 2
    weight = rng.random(shape[0]) if weighted else np.ones(shape[0])
    model = LeastSquaresClassifier(alpha=0.0).fit(X, y, weight if weighted else None)
    mean, target = np.average(X, axis=0, weights=weight), np.average(2.0 * y - 1, weights=weight)
    root = np.sqrt(weight)
    exact = np.linalg.pinv(root[:, None] * (X - mean), rcond=1e-10) @ (root * (2 * y - 1 - target))
    np.testing.assert_allclose(model.coef_[0], exact, rtol=1e-9, atol=1e-9 * np.abs(exact).max())
    np.testing.assert_allclose(model.intercept_, target - exact @ mean, atol=1e-7)


def test_ill_conditioned_problems_keep_their_digits():
    """Normal equations alone would lose all of them."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 5)) @ (np.eye(5) + 1e-7 * rng.standard_normal((5, 5)))
    X[:, 1] = X[:, 0] + 1e-6 * X[:, 1]
    y = (X[:, 1] - X[:, 0] > 0).astype(int)
    model = LeastSquaresClassifier(alpha=0.0, fit_intercept=False).fit(X, y)
    exact = lstsq(X, 2.0 * y - 1)[0]
    np.testing.assert_allclose(model.coef_[0], exact, rtol=1e-8)
    normal_equations = np.linalg.solve(X.T @ X, X.T @ (2.0 * y - 1))
    assert np.abs(normal_equations / exact - 1).max() > 1e-6


@loaders
def test_one_hot_targets_are_the_same_model(load):
    """The relation that the docstring states."""
    X, y = load(return_X_y=True)
    model = LeastSquaresClassifier(alpha=0.5).fit(X, y)
    targets = np.eye(len(model.classes_))[y]
    centred = X - X.mean(axis=0)
    W = np.linalg.solve(centred.T @ centred + 0.5 * np.eye(X.shape[1]), centred.T @ targets).T
    b = targets.mean(axis=0) - W @ X.mean(axis=0)
    if len(W) == 2:
        W, b = W[1:], b[1:]
    np.testing.assert_allclose(model.coef_ / 2, W, atol=1e-8)
    np.testing.assert_allclose((model.intercept_ + 1) / 2, b, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float16, bool])
def test_rows_as_they_come(dtype, digits):
    X, _, y, _ = digits
    X = X.astype(dtype)[:, ::-1]
    model = LeastSquaresClassifier().fit(X, y)
    assert model.coef_.dtype == model.decision_function(X).dtype == np.float32
    assert_same_model(model, RidgeClassifier().fit(X.astype(float), y), X, rtol=1e-6)


def test_weights_are_rows_repeated():
    X, y = load_wine(return_X_y=True)
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    weighted = LeastSquaresClassifier().fit(X, y, weight)
    repeated = LeastSquaresClassifier().fit(X.repeat(weight, axis=0), y.repeat(weight))
    assert_same_model(weighted, repeated, X)


@loaders
def test_its_gradient_is_right_and_zero_at_the_minimum(load):
    X, y = load(return_X_y=True)
    X = X[::4] / 10
    y = y[::4]
    weight = np.random.default_rng(0).random(len(X))
    for model in (
        LeastSquaresClassifier(alpha=2.0, class_weight="balanced"),
        LeastSquaresClassifier(fit_intercept=False),
    ):
        found = check_gradient(model, X, y, weight, random_state=0)
        assert found.passed, found
        model.fit(X, y, weight)
        parameters, evaluate = model._loss_and_gradient(X, y, weight, None)
        assert ("intercept_" in parameters) == model.fit_intercept
        gradient = evaluate()[1]
        for name in parameters:
            assert np.abs(gradient[name]).max() < 1e-8 * np.abs(X.sum(axis=0)).max()


def test_what_is_refused():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="sample_weight must not be negative; the smallest is -1"):
        LeastSquaresClassifier().fit(X, y, np.arange(-1, 149))
    with pytest.raises(ValueError, match="multiplied with the class weights, are all zero"):
        LeastSquaresClassifier(class_weight={0: 0, 1: 0, 2: 0}).fit(X, y)
    with pytest.raises(ValueError, match="The 'alpha' parameter of LeastSquaresClassifier must be"):
        LeastSquaresClassifier(alpha=-1.0).fit(X, y)
    with pytest.raises(AttributeError):
        LeastSquaresClassifier().fit(X, y).predict_proba(X)


def test_cifar10(cifar10):
    """As raw pixels, without a float copy of them."""
    X, y = cifar10.X_train[:2000], cifar10.y_train[:2000]
    ours, theirs = (
        LeastSquaresClassifier(alpha=1e7).fit(X, y),
        RidgeClassifier(alpha=1e7).fit(X.astype(float), y),
    )
    assert_same_model(ours, theirs, X, rtol=1e-6)
    assert ours.score(cifar10.X_test, cifar10.y_test) > 0.25
