"""What softline does not compute is left to scikit-learn's own code, and what it refuses is refused."""

import pickle

import joblib
import numpy as np
import pytest
from scipy.sparse import csr_array, issparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsClassifier as SklearnKNeighborsClassifier
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from softline import SoftmaxClassifier, explain
from softline.linear_model import LeastSquaresClassifier, LogisticRegression
from softline.neighbors import KNeighborsClassifier
from softline.neural_network import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X, Y, QUERIES = X[:300] / 16, Y[:300], X[300:400] / 16
SPARSE = csr_array(X)
LABELS = np.stack([Y % 2, Y > 4, Y == 3], axis=1).astype(int)
ESTIMATORS = [
    SoftmaxClassifier(max_iter=3, random_state=0),
    LogisticRegression(max_iter=3),
    LeastSquaresClassifier(),
    MLPClassifier((5,), max_iter=3, random_state=0),
    KNeighborsClassifier(),
]
everyone = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda model: type(model).__name__)


# ---- left to scikit-learn --------------------------------------------------------------------------------

LEFT = {
    "MLP, sparse X": (MLPClassifier((9,), max_iter=4, random_state=0), SPARSE, Y, "X is sparse"),
    "MLP, sparse X, lbfgs": (MLPClassifier((9,), solver="lbfgs", max_iter=4, random_state=0), SPARSE, Y, ""),
    "MLP, sparse y": (MLPClassifier((9,), max_iter=4, random_state=0), X, csr_array(LABELS), "y is sparse"),
    "ridge, sparse X": (LeastSquaresClassifier(), SPARSE, Y, "X is sparse"),
    "ridge, two classes": (LeastSquaresClassifier(), SPARSE, Y > 4, "X is sparse"),
    "ridge, several labels": (LeastSquaresClassifier(), X, LABELS, "y has several columns"),
    "ridge, one-hot": (LeastSquaresClassifier(), X, np.eye(10, dtype=int)[Y], "y has several columns"),
    "ridge, saga": (LeastSquaresClassifier(solver="saga", random_state=0), X, Y, "solver='saga'"),
    "ridge, svd": (LeastSquaresClassifier(solver="svd"), X, Y, "solver='svd'"),
    "ridge, positive": (LeastSquaresClassifier(positive=True), X, Y, "positive"),
    "ridge, penalties": (LeastSquaresClassifier(np.arange(1.0, 11)), X, Y, "alpha is not one number"),
    "knn, sparse X": (KNeighborsClassifier(), SPARSE, Y, "X is sparse"),
    "knn, tree": (KNeighborsClassifier(algorithm="kd_tree"), X, Y, "algorithm='kd_tree'"),
    "knn, cosine": (KNeighborsClassifier(metric="cosine"), X, Y, "'metric' parameter is 'cosine'"),
    "knn, function": (
        KNeighborsClassifier(metric=lambda a, b: abs(a - b).max()),
        X[:60],
        Y[:60],
        "'metric' parameter",
    ),
    "knn, p": (KNeighborsClassifier(p=3), X, Y, "p must be 1 or 2 for softline, and is 3"),
    "knn, parameters": (KNeighborsClassifier(metric_params={"w": np.arange(64)}), X, Y, "metric_params"),
    "knn, several labels": (
        KNeighborsClassifier(metric="cosine"),
        X,
        LABELS,
        "'metric' parameter is 'cosine'",
    ),
}
THEIRS = {
    MLPClassifier: SklearnMLPClassifier,
    LeastSquaresClassifier: RidgeClassifier,
    KNeighborsClassifier: SklearnKNeighborsClassifier,
}


def twin(model):
    """scikit-learn's estimator of the same parameters."""
    cls = THEIRS[type(model)]
    return cls(**{name: getattr(model, name) for name in cls().get_params()})


@pytest.mark.parametrize("case", LEFT)
def test_scikit_learns_own_code_fits_and_predicts(case):
    """To the bit, also after pickling and cloning, and `explain` says so."""
    ours, X, y, because = LEFT[case]
    theirs = twin(ours).fit(X, y)
    assert because in explain(ours, X, y) and "by scikit-learn" in explain(ours, X, y)
    ours = clone(ours).fit(X, y)
    assert because in explain(ours) and "by scikit-learn" in explain(ours)
    models = [ours] if case == "knn, function" else [ours, pickle.loads(pickle.dumps(ours))]
    of_dense_rows = ("knn, function", "knn, p", "knn, parameters", "knn, tree")
    for queries in (QUERIES,) if case in of_dense_rows else (QUERIES, csr_array(QUERIES)):
        for name in ("predict", "predict_proba", "predict_log_proba", "decision_function", "kneighbors"):
            if hasattr(theirs, name):
                expected = dense_arrays(getattr(theirs, name)(queries))
                for model in models:
                    found = dense_arrays(getattr(model, name)(queries))
                    assert all(map(np.array_equal, found, expected)) and len(found) == len(expected)


def dense_arrays(result):
    """What a prediction consists of, as a list of arrays."""
    arrays = result if isinstance(result, (list, tuple)) else [result]
    return [array.toarray() if issparse(array) else array for array in arrays]


def test_distances_of_ones_own():
    distances = pairwise_distances(X)
    model = KNeighborsClassifier(metric="precomputed").fit(distances, Y)
    assert np.array_equal(model.predict(distances[:50]), KNeighborsClassifier().fit(X, Y).predict(X[:50]))


def test_missing_values_are_a_metrics_matter():
    holes = X.copy()
    holes[::3, 5] = np.nan
    model = KNeighborsClassifier(metric="nan_euclidean").fit(holes, Y)
    assert model.score(holes, Y) > 0.9
    with pytest.raises(ValueError, match="Input X contains NaN"):
        KNeighborsClassifier().fit(holes, Y)


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier((9,), max_iter=30, random_state=0),
        MLPClassifier((), max_iter=30, random_state=0),
        MLPClassifier((9, 8), activation="leaky_relu", max_iter=30, random_state=0),
        LeastSquaresClassifier(),
        KNeighborsClassifier(),
        LogisticRegression(),
    ],
    ids=str,
)
@pytest.mark.parametrize("y", [Y, Y > 4], ids=["ten", "two"])
def test_what_softline_fitted_predicts_sparse_rows_too(estimator, y):
    model = clone(estimator).fit(X, y)
    assert explain(model) == f"{type(model).__name__} is fitted by softline"
    assert np.array_equal(model.predict(csr_array(QUERIES)), model.predict(QUERIES))
    name = "predict_proba" if hasattr(model, "predict_proba") else "decision_function"
    np.testing.assert_allclose(
        getattr(model, name)(csr_array(QUERIES)), getattr(model, name)(QUERIES), atol=1e-12
    )


def test_a_fit_decides_anew():
    for estimator in (KNeighborsClassifier(), LeastSquaresClassifier(), MLPClassifier((5,), max_iter=3)):
        model = clone(estimator).fit(SPARSE, Y)
        assert "X is sparse" in explain(model)
        model.fit(X, Y)
        assert explain(model).endswith("by softline")
        assert model.predict(QUERIES).shape == (100,)
        assert "X is sparse" in explain(model.fit(SPARSE, Y))


def test_a_network_goes_on_with_the_code_that_began_it():
    ours, theirs = (cls((9,), random_state=0) for cls in (MLPClassifier, SklearnMLPClassifier))
    for rows in (SPARSE[:100], X[100:200], SPARSE[200:]):
        for model in (ours, theirs):
            model.partial_fit(rows, Y[: rows.shape[0]], classes=np.arange(10))
    assert np.array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    assert "X is sparse" in explain(ours)
    dense = MLPClassifier((9,), random_state=0).partial_fit(X, Y, classes=np.arange(10))
    with pytest.raises(ValueError, match="X is sparse, and scikit-learn's code cannot go on from weights"):
        dense.partial_fit(SPARSE, Y)


@pytest.mark.parametrize(
    ("params", "fit", "what"),
    [
        ({"dropout": 0.5}, {}, "dropout=0.5"),
        ({"standardize": True}, {}, "standardize=True"),
        ({"activation": "leaky_relu"}, {}, "activation='leaky_relu'"),
        ({"solver": "rmsprop"}, {}, "solver='rmsprop'"),
        ({}, {"callback": print}, "callback"),
        ({}, {"eval_set": (X, Y)}, "eval_set"),
    ],
)
def test_what_only_softline_has_is_not_forgotten_in_silence(params, fit, what):
    with pytest.raises(ValueError, match=f"{what} is softline's own, .* because X is sparse"):
        MLPClassifier((5,), **params).fit(SPARSE, Y, **fit)


def test_negative_weights_of_a_logistic_regression():
    weight = np.where(np.arange(300) < 2, -0.1, 1.0)
    assert explain(LogisticRegression(), X, Y, weight).endswith("because a sample weight is negative")


def test_explain():
    assert explain(SoftmaxClassifier(), X) == "SoftmaxClassifier is fitted by softline"
    assert explain(LogisticRegression()) == "LogisticRegression is fitted by softline"
    assert explain(KNeighborsClassifier(p=3)).endswith(
        "by scikit-learn, because p must be 1 or 2 for softline, and is 3"
    )
    assert explain(RidgeClassifier(), X) == (
        "RidgeClassifier is fitted by scikit-learn, because the class is not softline's"
    )
    model = LogisticRegression().fit(SPARSE, Y)
    assert explain(model) == "LogisticRegression is fitted by scikit-learn, because X is sparse"
    assert explain(model, X) == "LogisticRegression is fitted by softline"


def test_explain_looks_at_what_reaches_the_last_step():
    assert explain(make_pipeline(StandardScaler(), LogisticRegression()), X, Y).endswith("by softline")
    encoded = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    assert explain(encoded, X, Y).endswith("X is sparse")
    assert not hasattr(encoded[0], "categories_")  # a copy was fitted
    assert explain(encoded.fit(X, Y)).endswith("X is sparse")


def test_arguments_that_are_not_given_are_not_passed_on(monkeypatch):
    """An older scikit-learn may not know them."""
    monkeypatch.setattr(SklearnMLPClassifier, "fit", lambda self, X, y: self)
    assert MLPClassifier().fit(SPARSE, Y)._left_because == "X is sparse"
    with pytest.raises(TypeError, match="sample_weight"):
        MLPClassifier().fit(SPARSE, Y, sample_weight=np.ones(len(Y)))


# ---- refused ---------------------------------------------------------------------------------------------


@everyone
@pytest.mark.parametrize("dtype", ["U", "S", "timedelta64[s]", "datetime64[s]"])
def test_text_and_times_are_no_numbers(estimator, dtype):
    """scikit-learn refuses them in `predict` at the latest, by the same types of errors."""
    rows = (16 * X).astype(int).astype(dtype)
    error = ValueError if dtype in "US" else TypeError
    model = clone(estimator)
    with pytest.raises(error, match=r"strings|must hold numbers"):
        model.fit(rows, Y)
    model.fit(X, Y)
    with pytest.raises(error, match=r"strings|must hold numbers"):
        model.predict(rows)
    with pytest.raises(ValueError, match="strings"):
        model.fit(rows.astype(str).tolist(), Y)


@everyone
def test_numbers_in_objects_are_numbers(estimator):
    """As in scikit-learn, text of digits among them."""
    rows = (16 * X).astype(int)
    expected = clone(estimator).fit(rows, Y).predict(rows)
    for objects in (rows.astype(object), rows.astype(str).astype(object)):
        assert np.array_equal(clone(estimator).fit(objects, Y).predict(objects), expected)


# ---- one class -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_network_of_one_class(solver):
    y = np.full(300, "only")
    ours, theirs = (
        cls((4,), solver=solver, max_iter=5, random_state=0).fit(X, y)
        for cls in (MLPClassifier, SklearnMLPClassifier)
    )
    assert ours.classes_.tolist() == ["only"]
    assert set(ours.predict(100 * QUERIES)) == {"only"}
    np.testing.assert_allclose(ours.predict_proba(QUERIES), theirs.predict_proba(QUERIES), atol=1e-9)
    if solver != "lbfgs":
        ours.partial_fit(X, y)
        alone = MLPClassifier((4,), random_state=0).partial_fit(X, y, classes=["only"])
        assert alone.predict(QUERIES).tolist() == ["only"] * 100


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_least_squares_of_one_class(fit_intercept):
    ours, theirs = (
        cls(fit_intercept=fit_intercept).fit(X, np.ones(300, int))
        for cls in (LeastSquaresClassifier, RidgeClassifier)
    )
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=1e-9)
    assert np.array_equal(ours.predict(-QUERIES), np.ones(100))


# ---- models in memory maps -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "rows"),
    [
        (SoftmaxClassifier(random_state=0), X),
        (SoftmaxClassifier(random_state=0, standardize=True, optimizer="asgd"), X),
        (SoftmaxClassifier(random_state=0, optimizer="adam", class_weight="balanced"), X),
        (MLPClassifier((5,), random_state=0), X),
        (MLPClassifier((5,), random_state=0, standardize=True, solver="sgd"), X),
        (MLPClassifier((5,), random_state=0), SPARSE),
    ],
)
def test_a_model_in_a_memory_map_goes_on(estimator, rows, tmp_path):
    model = clone(estimator).partial_fit(rows, Y, classes=np.arange(10))
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    for one in (model, mapped):
        one.partial_fit(rows, Y)
    assert np.array_equal(mapped.predict_proba(QUERIES), model.predict_proba(QUERIES))


@pytest.mark.parametrize("estimator", [ESTIMATORS[0], ESTIMATORS[1], ESTIMATORS[3]], ids=str)
def test_a_warm_start_from_a_memory_map(estimator, tmp_path):
    model = clone(estimator).set_params(warm_start=True).fit(X, Y)
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert np.array_equal(mapped.fit(X, Y).predict_proba(X), model.fit(X, Y).predict_proba(X))
