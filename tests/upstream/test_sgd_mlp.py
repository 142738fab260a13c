"""Behaviours of SGDClassifier and MLPClassifier that apply to SoftmaxClassifier.

scikit-learn's tests cannot run as they are, for the parameters bear other names (eta0, loss, penalty, solver,
hidden_layer_sizes) and `coef_` has a row for each of two classes. Those of test_sgd.py that apply, and where:

    here                       class_weights, sample_weights, weights_multiplied, balanced_weight,
                               equal_class_weight, validation_set_not_used_for_training, n_iter_no_change,
                               large_regularization, tol_parameter, sgd_random_state, fit_then_partial_fit,
                               partial_fit_equal_fit_classif, multiple_fit, sgd_numerical_consistency,
                               SGDClassifier_fit_for_all_backends, sgd_at_least_two_labels
    test_softmax_classifier    clone, early_stopping, not_enough_sample_for_early_stopping, input_format,
                               wrong_class_weight_label, wrong_sample_weights, partial_fit_exception,
                               partial_fit_multiclass, partial_fit_weight_class_balanced,
                               warm_start_multiclass, sgd_early_stopping_with_partial_fit,
                               sgd_error_on_zero_validation_weight, underflow_or_overflow, sgd_dtype_match,
                               sgd_multiclass, sgd_clf
    test_progress              sgd_verbose

The rest are of other losses, of regression, of one class, of coef_init, averaging and learning rates that
SoftmaxClassifier does not have. Of test_mlp.py:

    here                       shuffle, tolerance, early_stopping, early_stopping_stratified,
                               mlp_early_stopping_string_labels, warm_start, warm_start_full_iteration,
                               mlp_warm_start_with_early_stopping, partial_fit_unseen_classes,
                               mlp_loading_from_joblib_partial_fit, preserve_feature_names,
                               mlp_classifier_dtypes_casting, mlp_partial_fit_after_fit,
                               mlp_sample_weight_with_early_stopping
    test_softmax_classifier    alpha, fit, partial_fit_classification, partial_fit_classes_error,
                               mlp_param_dtypes, predict_proba_binary, predict_proba_multiclass,
                               nonfinite_params, mlp_diverging_loss
    test_progress              verbose_sgd

The rest are of hidden layers, of regression, of several labels a row, and of solvers; all of them run, as
they are, against softline's MLPClassifier (test_upstream).
"""

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

from softline import SoftmaxClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X_IRIS, Y_IRIS = load_iris(return_X_y=True)
X_IRIS = scale(X_IRIS)
# A point that turns from 1 to -1 when the rows of 1 lose their weight.
X_TURN = np.array([[-1.0, -1.0], [-1.0, 0.0], [-0.8, -1.0], [1.0, 1.0], [1.0, 0.0]])
Y_TURN, POINT = [1, 1, 1, -1, -1], [[0.4, -1.0]]


def fitted(X=X_IRIS, y=Y_IRIS, *, sample_weight=None, **params):
    return SoftmaxClassifier(**{"random_state": 0} | params).fit(X, y, sample_weight)


# ---- SGDClassifier ----------------------------------------------------------------------------------------


def test_weights_turn_the_boundary():
    params = {"alpha": 0.1, "max_iter": 1000, "fit_intercept": False}
    assert fitted(X_TURN, Y_TURN, **params).predict(POINT) == [1]
    assert fitted(X_TURN, Y_TURN, class_weight={1: 0.001}, **params).predict(POINT) == [-1]
    assert fitted(X_TURN, Y_TURN, sample_weight=[0.001] * 3 + [1] * 2, **params).predict(POINT) == [-1]


def test_class_and_sample_weights_multiply():
    sample_weight, of_class = np.random.RandomState(0).random_sample(150), {0: 0.6, 1: 0.3, 2: 1.2}
    multiplied = sample_weight * np.array([of_class[label] for label in Y_IRIS])
    a = fitted(sample_weight=sample_weight, class_weight=of_class, max_iter=20)
    np.testing.assert_allclose(a.coef_, fitted(sample_weight=multiplied, max_iter=20).coef_, atol=1e-12)


def test_balanced_weights():
    """They change nothing where the classes are even, and help the small ones where they are not."""
    plain, balanced = fitted(class_weight=None), fitted(class_weight="balanced")
    np.testing.assert_allclose(plain.coef_, balanced.coef_, atol=1e-12)
    np.testing.assert_allclose(fitted(class_weight={0: 0.5, 1: 0.5, 2: 0.5}).coef_, plain.coef_, atol=1e-12)
    # nine of ten rows of class 1 are gone
    rows = np.sort(np.concatenate([np.flatnonzero(Y_IRIS != 1), np.flatnonzero(Y_IRIS == 1)[::10]]))
    f1 = [
        f1_score(
            Y_IRIS,
            fitted(X_IRIS[rows], Y_IRIS[rows], class_weight=weight, max_iter=1000).predict(X_IRIS),
            average="weighted",
        )
        for weight in (None, "balanced")
    ]
    assert f1[0] < f1[1] > 0.9


@pytest.mark.parametrize("y", [[1, 1], ["a", "a"]])
def test_one_class_is_not_enough(y):
    with pytest.raises(ValueError, match="at least two classes"):
        fitted([[0.0], [1.0]], y)


def test_validation_rows_are_not_trained_on():
    params = {"shuffle": False, "tol": None, "max_iter": 10, "learning_rate": 0.01}
    model = fitted(early_stopping=True, validation_fraction=0.4, **params)
    best = int(np.argmax(model.validation_scores_)) + 1
    rows, _ = train_test_split(
        np.arange(150), test_size=0.4, random_state=np.random.RandomState(0), stratify=Y_IRIS
    )
    alone = fitted(X_IRIS[rows], Y_IRIS[rows], **params | {"max_iter": best})
    assert np.array_equal(model.coef_, alone.coef_)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_more_patience_means_more_epochs(early_stopping):
    epochs = [
        fitted(early_stopping=early_stopping, n_iter_no_change=n, tol=1e-3, max_iter=1000).n_iter_
        for n in (2, 3, 10)
    ]
    assert epochs == sorted(epochs) and epochs[0] < epochs[-1] < 1000


def test_tol():
    assert fitted(tol=None, max_iter=42).n_iter_ == 42
    strict, loose = fitted(tol=1e-5, max_iter=5000), fitted(tol=0.1, max_iter=5000)
    assert 3 < loose.n_iter_ < strict.n_iter_ < 5000
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        assert fitted(max_iter=3, tol=1e-4).n_iter_ == 3


def test_a_large_penalty_leaves_no_weights():
    with np.errstate(all="raise"):
        model = fitted(alpha=1e5, tol=None, max_iter=50)
    np.testing.assert_allclose(model.coef_, 0, atol=1e-4)


def test_random_state_decides_the_order_of_the_rows():
    params = {"batch_size": 1, "max_iter": 1}
    a, b, c = (fitted(random_state=seed, **params).coef_ for seed in (7, 7, 8))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_fit_forgets_the_fit_before():
    model = fitted(max_iter=5)
    first = model.coef_.copy()
    model.fit(X_IRIS[Y_IRIS > 0], np.array(["b", "c"])[Y_IRIS[Y_IRIS > 0] - 1])
    assert model.classes_.tolist() == ["b", "c"] and model.coef_.shape == (2, 4)
    assert np.array_equal(model.fit(X_IRIS, Y_IRIS).coef_, first)
    model.partial_fit(X_IRIS, Y_IRIS)
    assert model.n_iter_ == 6


@pytest.mark.parametrize("n_classes", [2, 3])
def test_two_epochs_by_partial_fit_are_those_of_fit(n_classes):
    rows = np.isin(Y_IRIS, range(n_classes))
    X, y = X_IRIS[rows], Y_IRIS[rows]
    params = {"learning_rate": 0.01, "shuffle": False, "alpha": 0.01}
    whole = fitted(X, y, max_iter=2, tol=None, **params)
    model = SoftmaxClassifier(**params)
    for _ in range(2):
        model.partial_fit(X, y, classes=range(n_classes))
    np.testing.assert_allclose(model.decision_function(X), whole.decision_function(X), atol=1e-12)


def test_float32_is_float64_but_for_rounding():
    X, params = X_IRIS.round(2), {"max_iter": 22, "shuffle": False}
    double, single = fitted(X, **params), fitted(X.astype(np.float32), Y_IRIS.astype(np.float32), **params)
    assert single.coef_.dtype == np.float32 and single.classes_.dtype == np.float32
    np.testing.assert_allclose(single.coef_, double.coef_, atol=1e-4)
    assert np.array_equal(single.predict(X), double.predict(X))


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_every_backend_of_joblib_gives_the_same_bits(backend):
    models = [SoftmaxClassifier(alpha=alpha, max_iter=5, tol=None, random_state=0) for alpha in (1e-4, 1e-1)]
    with joblib.parallel_backend(backend, n_jobs=2):
        # bound methods: a worker process cannot import this module
        fits = joblib.Parallel()(joblib.delayed(model.fit)(X_IRIS, Y_IRIS) for model in models)
    for model, fit in zip(models, fits, strict=True):
        assert np.array_equal(fit.coef_, clone(model).fit(X_IRIS, Y_IRIS).coef_)


# ---- MLPClassifier ----------------------------------------------------------------------------------------


def test_shuffle_decides_whether_the_order_is_new():
    params = {"batch_size": 1, "max_iter": 1}
    for shuffle in (False, True):
        a, b = (fitted(shuffle=shuffle, **params).coef_ for _ in range(2))
        assert np.array_equal(a, b)
    assert not np.array_equal(a, fitted(shuffle=False, **params).coef_)


def test_training_ends_at_the_tolerance():
    assert fitted([[3, 2], [1, 6]], [1, 0], tol=0.5, max_iter=3000).n_iter_ < 3000


def test_early_stopping_watches_the_validation_scores():
    X, y = load_digits(n_class=2, return_X_y=True)
    model = fitted(X[:100], y[:100], early_stopping=True, tol=0.2, max_iter=3000)
    assert model.n_iter_ < 3000
    assert len(model.validation_scores_) == model.n_iter_
    assert max(model.validation_scores_) < model.validation_scores_[-1] + 0.2
    assert fitted(X[:100], y[:100], tol=0.2).validation_scores_ is None


def test_early_stopping_needs_two_rows_of_each_class():
    with pytest.raises(ValueError, match="cannot hold out"):
        fitted([[1, 2], [2, 3], [3, 4], [4, 5]], [0, 0, 0, 1], early_stopping=True)


def test_early_stopping_with_strings():
    X, y = make_classification(n_samples=200, n_features=10, n_classes=3, n_informative=5, random_state=42)
    model = fitted(X, np.array(["a", "b", "c"], dtype=object)[y], early_stopping=True, max_iter=50)
    assert np.isfinite(model.validation_scores_).all() and set(model.predict(X)) <= {"a", "b", "c"}


def test_warm_start_needs_the_same_classes():
    model = fitted(warm_start=True, max_iter=3, tol=None)
    assert model.fit(X_IRIS, np.roll(Y_IRIS, 10)).n_iter_ == 3  # as many again
    for y in (Y_IRIS > 0, np.where(Y_IRIS == 2, 3, Y_IRIS), np.arange(150) // 30):
        with pytest.raises(ValueError, match="warm_start continues with the classes"):
            model.fit(X_IRIS, y)


def test_warm_start_with_early_stopping():
    model = fitted(warm_start=True, early_stopping=True, max_iter=2, tol=None)
    model.set_params(max_iter=20).fit(X_IRIS, Y_IRIS)
    assert len(model.validation_scores_) == 20


def test_partial_fit_knows_its_classes():
    model = SoftmaxClassifier().partial_fit([[1], [2], [3]], ["a", "b", "c"], classes=["a", "b", "c", "d"])
    model.partial_fit([[4]], ["d"])
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit([[4]], ["e"])


def test_partial_fit_refuses_early_stopping():
    with pytest.raises(ValueError, match="early_stopping must be False with partial_fit"):
        fitted(early_stopping=True).partial_fit(X_IRIS, Y_IRIS)


def test_a_loaded_model_goes_on_learning(tmp_path):
    model = fitted()
    joblib.dump(model, tmp_path / "model.pkl")
    loaded = joblib.load(tmp_path / "model.pkl")
    for _ in range(200):
        loaded.partial_fit(X_IRIS, 2 - Y_IRIS)  # the opposite
    assert loaded.score(X_IRIS, 2 - Y_IRIS) > 0.9 < model.score(X_IRIS, Y_IRIS)
    model.partial_fit(X_IRIS, Y_IRIS)
    again = joblib.load(tmp_path / "model.pkl").partial_fit(X_IRIS, Y_IRIS)
    assert np.array_equal(model.coef_, again.coef_)


@pytest.mark.filterwarnings("error:X ")
def test_feature_names_survive_early_stopping():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(X_IRIS, columns=list("abcd"))
    model = fitted(X, pd.Series(Y_IRIS), early_stopping=True)
    assert model.feature_names_in_.tolist() == list("abcd")
    model.predict(X)


def test_dtypes_predict_alike():
    X, y = load_digits(return_X_y=True)
    double, single = (fitted(X.astype(dtype), y, max_iter=20) for dtype in (np.float64, np.float32))
    assert single.predict_proba(X.astype(np.float32)).dtype == np.float32
    assert single.predict(X.astype(np.float32)).dtype == double.predict(X).dtype
    np.testing.assert_allclose(single.predict_proba(X), double.predict_proba(X), rtol=1e-2, atol=1e-4)


def test_weights_of_one_are_none_with_early_stopping():
    a = fitted(early_stopping=True, sample_weight=np.ones(150))
    b = fitted(early_stopping=True)
    np.testing.assert_allclose(a.coef_, b.coef_, atol=1e-12)
