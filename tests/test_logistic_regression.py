"""LogisticRegression against scikit-learn's, and against the conditions of a minimum."""

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.special import logsumexp
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.preprocessing import StandardScaler

from softline import datasets
from softline._solvers import objective
from softline.linear_model import LogisticRegression

# Before scikit-learn 1.8 the kind of penalty had a parameter of its own.
PENALTY_BY_RATIO = SklearnLogisticRegression().penalty == "deprecated"
LOADERS = {f.__name__: f for f in (load_iris, load_wine, load_breast_cancer, load_digits)}


def mixing(l1_ratio):
    """Parameters of an elastic net, as the installed scikit-learn takes them."""
    if PENALTY_BY_RATIO:
        return {"l1_ratio": l1_ratio}
    return {0: {}, 1: {"penalty": "l1"}}.get(l1_ratio, {"penalty": "elasticnet", "l1_ratio": l1_ratio})


def standardised(name):
    X, y = LOADERS[name](return_X_y=True)
    return StandardScaler().fit_transform(X), y


def pair(X, y, sample_weight=None, tol=1e-10, **params):
    """Both models, fitted; scikit-learn's by exact Newton steps."""
    ours = LogisticRegression(tol=tol, max_iter=1000, **params).fit(X, y, sample_weight)
    params = {"solver": "newton-cholesky"} | params
    theirs = SklearnLogisticRegression(tol=tol, max_iter=1000, **params).fit(X, y, sample_weight)
    return ours, theirs


def assert_same_model(ours, theirs, X, y):
    # A gradient of 1e-10 leaves weights free within 1e-10 over the least curvature, 1/(C n).
    atol = max(1e-6, 1e-10 * ours.C * len(y)) if np.isfinite(ours.C) else 1e-5
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=atol, rtol=0)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=10 * atol, rtol=0)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6, rtol=0)
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    assert np.array_equal(ours.classes_, theirs.classes_)
    for name in ("coef_", "intercept_", "n_iter_"):
        assert getattr(ours, name).shape == getattr(theirs, name).shape
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype


@pytest.mark.parametrize("C", [1e-4, 1e-2, 1, 1e2, 1e4])
@pytest.mark.parametrize("name", ["load_iris", "load_wine", "load_breast_cancer"])
def test_equals_scikit_learn(name, C):
    for X, y in (standardised(name), LOADERS[name](return_X_y=True)):
        assert_same_model(*pair(X, y, C=C), X, y)


@pytest.mark.parametrize("C", [1e-4, 1, 1e4])
def test_equals_scikit_learn_on_digits(C):
    X, y = standardised("load_digits")
    assert_same_model(*pair(X, y, C=C), X, y)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3, 1: 0.5}])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("name", ["load_iris", "load_breast_cancer"])
def test_weights_and_intercept_as_scikit_learn(name, weighted, class_weight, fit_intercept):
    X, y = standardised(name)
    weight = np.random.default_rng(0).integers(0, 4, len(y)).astype(float) if weighted else None
    ours, theirs = pair(X, y, weight, class_weight=class_weight, fit_intercept=fit_intercept)
    assert_same_model(ours, theirs, X, y)


def test_unpenalised():
    X, y = make_classification(
        400, 6, n_informative=6, n_redundant=0, n_classes=3, flip_y=0.3, random_state=0
    )
    assert_same_model(*pair(X, y, C=np.inf), X, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_unpenalised_with_features_that_repeat_others(n_classes, dtype):
    """The weights are not determined, the probabilities are."""
    X, y = make_classification(
        400, 20, n_informative=4, n_redundant=10, n_classes=n_classes, flip_y=0.3, random_state=0
    )
    model = LogisticRegression(C=np.inf, tol=1e-5).fit(X.astype(dtype), y)
    assert model.n_iter_[0] < 15
    distinct = LogisticRegression(C=1e10, tol=1e-9).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), distinct.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_newton_takes_over_where_steps_are_many(dtype):
    """The 650 weights of digits as they are: rows of any dtype, with weights."""
    X, y = load_digits(return_X_y=True)
    weight = np.random.default_rng(0).integers(1, 3, len(y))
    model = LogisticRegression(tol=1e-5).fit(X.astype(dtype), y, weight)
    assert model.solver_used_ == "lbfgs, newton" and 75 < model.n_iter_[0] < 85  # three quarters of max_iter
    assert np.abs(gradient(model, np.repeat(X, weight, axis=0), np.repeat(y, weight))).max() < 1e-5


def test_separable_and_unpenalised_ends():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(C=np.inf).fit(X, y == 0)
    assert model.score(X, y == 0) == 1
    assert np.isfinite(model.coef_).all()


def gradient(model, X, y, l1_ratio=0):
    """Gradient of mean loss and L2 part at a fitted model, by NumPy: (C, D + 1), for two (1, D + 1)."""
    P = model.predict_proba(X.astype(float))
    P[np.arange(len(y)), np.searchsorted(model.classes_, y)] -= 1
    G = P.T @ np.column_stack([X, np.ones(len(y))]) / len(y)
    G = G[1:] if len(model.classes_) == 2 else G
    G[:, :-1] += (1 - l1_ratio) / (model.C * len(y)) * model.coef_
    return G


@pytest.mark.parametrize("l1_ratio", [0.5, 1])
@pytest.mark.parametrize("C", [0.01, 1])
@pytest.mark.parametrize("name", ["load_iris", "load_breast_cancer", "load_digits"])
def test_l1_meets_the_conditions_of_a_minimum(name, C, l1_ratio):
    X, y = standardised(name)
    model = LogisticRegression(C=C, solver="saga", tol=1e-8, max_iter=1000, **mixing(l1_ratio)).fit(X, y)
    G, l1 = gradient(model, X, y, l1_ratio=l1_ratio), l1_ratio / (C * len(y))
    zero = model.coef_ == 0
    assert zero.any()
    np.testing.assert_allclose(G[:, :-1][~zero], -l1 * np.sign(model.coef_[~zero]), atol=2e-8)
    assert np.abs(G[:, :-1][zero]).max() <= l1 + 2e-8
    assert np.abs(G[:, -1]).max() <= 2e-8


def test_l1_of_many_features_needs_no_matrix_of_them():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 6000))
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    tracemalloc.start()
    model = LogisticRegression(C=1.0, solver="saga", tol=1e-5, max_iter=1000, **mixing(1)).fit(X, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * X.nbytes < 6000**2 * 8
    G, l1 = gradient(model, X, y, l1_ratio=1)[:, :-1], 1 / len(y)
    assert 0 < np.count_nonzero(model.coef_) < 180
    assert np.abs(G).max() <= l1 + 1e-5


@pytest.mark.parametrize("l1_ratio", [0, 1])
def test_liblinear_penalises_the_intercept(l1_ratio):
    X, y = standardised("load_breast_cancer")
    params = {"solver": "liblinear", "C": 0.1, "intercept_scaling": 2.0, "tol": 1e-8} | mixing(l1_ratio)
    ours = LogisticRegression(**params).fit(X, y)
    theirs = SklearnLogisticRegression(max_iter=10_000, random_state=0, **params).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-4)


@pytest.mark.skipif(not PENALTY_BY_RATIO, reason="scikit-learn's own before 1.8")
def test_liblinear_with_l1_converges_on_raw_features():
    """The intercept is penalised, so features cannot be taken about their means."""
    X, y = LOADERS["load_breast_cancer"](return_X_y=True)
    params = {"solver": "liblinear", **mixing(1)}
    theirs = SklearnLogisticRegression(max_iter=10_000, random_state=0, **params).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        ours = LogisticRegression(**params).fit(X, y)

    def value(model):
        losses = np.logaddexp(0, -(2 * y - 1) * model.decision_function(X))
        return losses.sum() + np.abs(model.coef_).sum() + np.abs(model.intercept_).sum()

    assert value(ours) <= value(theirs)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "newton-cholesky", "sag", "saga"])
def test_every_solver_reaches_the_same_minimum(solver):
    X, y = standardised("load_wine")
    model = LogisticRegression(solver=solver, tol=1e-10).fit(X, y)
    exact = LogisticRegression(tol=1e-12).fit(X, y)
    np.testing.assert_allclose(model.coef_, exact.coef_, atol=1e-7)


def test_start_by_gradient_descent_changes_no_minimum(monkeypatch):
    X, y = make_classification(9000, 30, n_informative=10, n_classes=5, random_state=0)
    fits = []
    for batches in (objective.START_BATCHES, 10**6):
        monkeypatch.setattr(objective, "START_BATCHES", batches)
        fits.append(LogisticRegression(tol=1e-9).fit(X, y))
    np.testing.assert_allclose(fits[0].coef_, fits[1].coef_, atol=1e-5)
    assert fits[0].n_iter_[0] <= fits[1].n_iter_[0] + 1


def test_a_weight_of_two_is_the_row_twice():
    X, y = standardised("load_iris")
    times = np.random.default_rng(0).integers(0, 3, len(y))
    weighted = LogisticRegression(tol=1e-11).fit(X, y, times)
    repeated = LogisticRegression(tol=1e-11).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-8)


def test_negative_weights_are_left_to_scikit_learn():
    X, y = standardised("load_iris")
    weight = np.where(np.arange(len(y)) % 10, 1.0, -0.1)
    ours = LogisticRegression(C=0.1).fit(X, y, weight)
    theirs = SklearnLogisticRegression(C=0.1).fit(X, y, weight)
    assert np.array_equal(ours.coef_, theirs.coef_)


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64", "bool"])
def test_dtypes(dtype):
    X, y = load_digits(return_X_y=True)
    X = (X > 7 if dtype == "bool" else X).astype(dtype)
    model = LogisticRegression(C=0.01).fit(X, y)
    expected = np.float64 if dtype == "int64" else np.float32
    assert model.coef_.dtype == model.predict_proba(X).dtype == expected
    exact = LogisticRegression(C=0.01, tol=1e-8).fit(X.astype(float), y)
    np.testing.assert_allclose(model.predict_proba(X), exact.predict_proba(X.astype(float)), atol=2e-3)


def objective_of(model, X, y, l1_ratio=0):
    """Mean loss, and the penalty over C n, in float64."""
    W = model.coef_.astype(float)
    scores = X.astype(float) @ W.T + model.intercept_
    scores = np.column_stack([np.zeros(len(X)), scores]) if len(W) == 1 else scores
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]
    penalty = l1_ratio * np.abs(W).sum() + (1 - l1_ratio) / 2 * np.sum(W**2)
    return losses.mean() + penalty / (model.C * len(y))


@pytest.fixture(scope="module")
def mnist(mnist_dir):
    data = datasets.load_mnist(mnist_dir)
    return (data.X_train / np.float32(255)), data.y_train.astype(np.int32)


def test_mnist_in_float32_is_within_1e_6_of_the_minimum(mnist):
    """The minimum is bounded from below by strong convexity: f - |g|^2 / (2 alpha)."""
    X, y = mnist
    model = LogisticRegression(C=1 / (1e-3 * len(y)), tol=1e-5).fit(X, y)
    assert model.coef_.dtype == np.float32
    assert np.sum(gradient(model, X, y) ** 2) / (2 * 1e-3) < 1e-6 * objective_of(model, X, y)
    assert model.n_iter_[0] < 80


def test_convergence_warning_says_what_was_reached():
    X, y = load_digits(return_X_y=True)
    with pytest.warns(
        ConvergenceWarning,
        match=r"after 2 iteration.*may be 0\.\d+ above its minimum; tol=0\.0001 asks for \d",
    ):
        model = LogisticRegression(max_iter=2).fit(X, y)
    assert model.n_iter_[0] == 2
    with pytest.warns(ConvergenceWarning, match="Rounding allows no more"):
        LogisticRegression(tol=0, max_iter=1000).fit(X.astype(np.float32), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LogisticRegression().fit(X, y)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(("dtype", "exponent"), [(np.float32, 100), (np.float64, 1000), (np.float64, -990)])
@pytest.mark.parametrize("rows", [slice(None), slice(0, 1)])
def test_features_of_any_size_are_fitted(dtype, exponent, rows):
    X, y = load_iris(return_X_y=True)
    X[rows] = np.ldexp(X[rows], exponent)
    model = LogisticRegression(C=1 if exponent > 0 else np.inf).fit(X.astype(dtype), y)
    assert np.isfinite(model.coef_).all() and np.isfinite(model.intercept_).all()
    if rows == slice(None):
        assert model.score(X.astype(dtype), y) > 0.95


def test_max_iter_0_keeps_the_start():
    X, y = load_iris(return_X_y=True)
    with pytest.warns(ConvergenceWarning):
        model = LogisticRegression(max_iter=0).fit(X, y)
    assert not model.coef_.any() and model.n_iter_[0] == 0


def test_warm_start():
    X, y = standardised("load_digits")
    model = LogisticRegression(warm_start=True).fit(X, y)
    coef = model.coef_.copy()
    model.fit(X, y)
    assert model.n_iter_[0] == 0 and np.array_equal(model.coef_, coef)
    with pytest.raises(ValueError, match=r"coef is of shape \(10, 64\), expected shape \(10, 63\)"):
        model.fit(X[:, 1:], y)


def test_sparse_is_left_to_scikit_learn():
    X, y = load_digits(return_X_y=True)
    ours = LogisticRegression(C=0.01).fit(sparse.csr_array(X), y)
    theirs = SklearnLogisticRegression(C=0.01).fit(sparse.csr_array(X), y)
    assert np.array_equal(ours.coef_, theirs.coef_)
    assert np.array_equal(ours.predict(sparse.csr_array(X)), ours.predict(X))
    sparsified = LogisticRegression(C=0.01).fit(X, y).sparsify()
    assert sparsified.score(X, y) > 0.95


def test_decision_function_and_probabilities_of_two_classes():
    X, y = standardised("load_breast_cancer")
    labels = np.array(["malign", "benign"])[y]
    model = LogisticRegression().fit(X, labels)
    scores = model.decision_function(X)
    assert scores.shape == (len(y),)
    np.testing.assert_allclose(scores, X @ model.coef_[0] + model.intercept_[0], atol=1e-12)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)), atol=1e-12)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X), atol=1e-12)
    assert np.array_equal(model.predict(X), np.where(scores > 0, "malign", "benign"))


def test_wide_data_and_constant_features():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 100))
    X[:, 7] = 3
    y = rng.integers(0, 3, 30)
    ours = LogisticRegression(tol=1e-9).fit(X, y)
    theirs = SklearnLogisticRegression(tol=1e-9, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"C": -1}, "'C' parameter"),
        ({"tol": "small"}, "'tol' parameter"),
        ({"solver": "adam"}, "'solver' parameter"),
        (mixing(1), "Solver lbfgs supports only 'l2'"),
        ({"solver": "liblinear"} | mixing(0.5), "Only 'saga' solver supports elasticnet"),
        ({"dual": True}, "supports only dual=False"),
        pytest.param(
            {"solver": "liblinear"},
            "does not support multiclass",
            marks=pytest.mark.skipif(not PENALTY_BY_RATIO, reason="one versus rest before 1.8"),
        ),
    ],
)
def test_refuses_parameters_as_scikit_learn(params, message):
    X, y = load_iris(return_X_y=True)
    for cls in (LogisticRegression, SklearnLogisticRegression):
        with pytest.raises(ValueError, match=message):
            cls(**params).fit(X, y)


def test_refuses_data_as_scikit_learn():
    X, y = load_iris(return_X_y=True)
    bad = X.copy()
    bad[3, 1] = np.nan
    for cls in (LogisticRegression, SklearnLogisticRegression):
        with pytest.raises(ValueError, match="contains NaN"):
            cls().fit(bad, y)
        with pytest.raises(ValueError, match="only one class"):
            cls().fit(X, np.zeros(len(y)))
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            cls().fit(X, y[1:])
        with pytest.raises(NotFittedError):
            cls().predict(X)
        with pytest.raises(ValueError, match="X has 3 features"):
            cls().fit(X, y).predict(X[:, :3])


def test_weights_that_are_all_zero():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=r"^the sample weights are all zero$|at least one non-zero"):
        LogisticRegression().fit(X, y, np.zeros(len(y)))
    words = r"^the sample weights, multiplied with the class weights, are all zero$"
    with pytest.raises(ValueError, match=words):
        LogisticRegression(class_weight=dict.fromkeys(range(3), 0)).fit(X, y)


def test_pickle_holds_no_kernel_state():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression().fit(X, y)
    pickled = pickle.dumps(model)
    again = pickle.loads(pickled)
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    fitted = {"coef_", "intercept_", "classes_", "n_iter_", "solver_used_", "n_features_in_", "_left_because"}
    assert set(vars(again)) == set(vars(model)) == fitted | set(model.get_params())
    assert b"_kernels" not in pickled and b"_solvers" not in pickled


def test_signature_is_scikit_learns():
    assert LogisticRegression().get_params() == SklearnLogisticRegression().get_params()
    assert issubclass(LogisticRegression, SklearnLogisticRegression)


@pytest.mark.parametrize(
    ("n", "D", "n_classes", "solver_used"),
    [
        (200, 5, 2, "newton"),
        (60, 400, 2, "newton-cd"),
        (60, 300, 4, "newton-cd"),
        (400, 60, 8, "newton-cd"),
        (1500, 6000, 2, "of working sets"),
    ],
)
@pytest.mark.parametrize("l1_ratio", [1, 0.5])
def test_dual_gap_bounds_the_distance_to_the_minimum(n, D, n_classes, solver_used, l1_ratio):
    rng = np.random.default_rng(D)
    X, y = rng.standard_normal((n, D)).astype(np.float32), rng.integers(0, n_classes, n)
    X[:, 0] += y
    C = 100 / n
    model = LogisticRegression(C=C, solver="saga", **mixing(l1_ratio)).fit(X, y)
    exact = LogisticRegression(C=C, solver="saga", tol=1e-7, max_iter=10_000, **mixing(l1_ratio)).fit(X, y)
    assert model.solver_used_.endswith(solver_used)
    value, least = (objective_of(m, X, y, l1_ratio) for m in (model, exact))
    assert 0 <= model.dual_gap_ <= 1e-3 * value and exact.dual_gap_ <= 1e-5 * value
    assert value - least <= model.dual_gap_ + 1e-6 * value


def test_without_l1_there_is_no_dual_gap():
    X, y = load_iris(return_X_y=True)
    assert not hasattr(LogisticRegression().fit(X, y), "dual_gap_")
    assert LogisticRegression().fit(X, y).solver_used_ == "newton"
