import multiprocessing
import pickle
import subprocess
import sys
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_wine, make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from softline import SoftmaxClassifier, linear_model, schedules
from softline._estimators.base import is_plain
from softline._estimators.softmax_classifier import DivergenceError
from softline.reference import SoftmaxClassifierReference

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:The number of unique classes"),
]


def same_bits(a, b):
    return (
        a.coef_.tobytes() == b.coef_.tobytes()
        and a.intercept_.tobytes() == b.intercept_.tobytes()
        and a.loss_curve_ == b.loss_curve_
    )


@parametrize_with_checks([SoftmaxClassifier(), SoftmaxClassifier(batch_size=None)])
def test_check_estimator(estimator, check):
    check(estimator)


# ---- learning: the default works at any scale -------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "batch_size"), [(np.float32, 256), (np.float64, None), (np.float32, 1)])
def test_default_learns_digits_at_any_scale(digits_at_scale, dtype, batch_size):
    X, X_test, y, y_test, alpha = digits_at_scale
    model = SoftmaxClassifier(random_state=0, batch_size=batch_size, alpha=alpha)
    model.set_params(max_iter=20 if batch_size == 1 else 300)
    model.fit(X.astype(dtype), y)
    assert model.score(X_test.astype(dtype), y_test) >= 0.95
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0] < np.log(10)


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])
def test_default_learns_raw_tables(load):
    """Features in unequal units: wine's proline is a thousand times its hue."""
    X, y = load(return_X_y=True)
    assert cross_val_score(SoftmaxClassifier(random_state=0, max_iter=500), X, y).mean() > 0.95


@pytest.mark.parametrize("form", ["uint8", "float32", "standardised"])
def test_default_learns_mnist(mnist, form):
    X, X_test = mnist.X_train[:20000], mnist.X_test
    if form == "standardised":
        scaler = StandardScaler().fit(X)
        X, X_test = scaler.transform(X), scaler.transform(X_test)
    elif form == "float32":
        X, X_test = X.astype(np.float32), X_test.astype(np.float32)
    model = SoftmaxClassifier(random_state=0, max_iter=30).fit(X, mnist.y_train[:20000])
    assert model.score(X_test, mnist.y_test) >= 0.905
    assert max(model.loss_curve_) == model.loss_curve_[0] < np.log(10)


@pytest.mark.parametrize("form", ["uint8", "uint8, standardize", "float32", "standardised"])
def test_default_learns_cifar10_without_copying_it(cifar10, form):
    X, X_test = cifar10.X_train, cifar10.X_test
    if not form.startswith("uint8"):
        X, X_test = X.astype(np.float32), X_test.astype(np.float32)
    if form == "standardised":
        mean, scale = X.mean(axis=0), X.std(axis=0)
        for part in (X, X_test):
            part -= mean
            part /= scale
    model = SoftmaxClassifier(random_state=0, max_iter=5, standardize=form.endswith("standardize"))
    tracemalloc.start()
    model.fit(X, cifar10.y_train)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.score(X_test, cifar10.y_test) >= 0.38
    assert max(model.loss_curve_) == model.loss_curve_[0] < np.log(10)
    assert peak < 16e6


def test_the_optimum_is_logistic_regressions():
    """Full-batch descent ends where scikit-learn's solver does: the same loss, alpha = 1/(C n)."""
    X, y = load_iris(return_X_y=True)
    alpha = 1e-2
    ours = SoftmaxClassifier(alpha=alpha, batch_size=None, max_iter=100_000, tol=1e-16, n_iter_no_change=50)
    ours.fit(X, y)
    theirs = LogisticRegression(C=1 / (alpha * len(X)), tol=1e-10, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-5)


def test_loss_at_the_start_is_log_of_the_number_of_classes(digits):
    X, _, y, _ = digits
    model = SoftmaxClassifier(batch_size=None, max_iter=1).fit(X, y)
    assert model.loss_curve_[0] == pytest.approx(np.log(10), rel=1e-14)


@pytest.mark.parametrize("batch_size", [1, 50, 5000])
def test_same_as_the_readable_reference(digits, batch_size):
    X, X_test, y, _ = digits
    args = {"alpha": 1e-3, "learning_rate": 1e-3, "max_iter": 5, "random_state": 7, "batch_size": batch_size}
    ours = SoftmaxClassifier(**args, tol=None).fit(X, y)
    reference = SoftmaxClassifierReference(**args).fit(X, y)
    np.testing.assert_allclose(ours.coef_, reference.coef_, atol=1e-12)
    np.testing.assert_allclose(ours.intercept_, reference.intercept_, atol=1e-12)
    np.testing.assert_allclose(ours.loss_curve_, reference.loss_curve_, rtol=1e-12)
    assert np.array_equal(ours.predict(X_test), reference.predict(X_test))


# ---- reproducible -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(dtype):
    X, y = make_classification(
        3000, 200, n_informative=40, n_classes=5, n_clusters_per_class=1, random_state=0
    )
    models = [
        SoftmaxClassifier(random_state=3, max_iter=5, early_stopping=True, n_threads=n_threads).fit(
            X.astype(dtype), y, sample_weight=1 + y
        )
        for n_threads in (1, 2, 3, 7, None)
    ]
    for model in models[1:]:
        assert same_bits(models[0], model)
        assert models[0].validation_scores_ == model.validation_scores_
        assert models[0].predict_proba(X).tobytes() == model.predict_proba(X).tobytes()


def test_threads_change_no_bit_on_mnist(mnist):
    models = [
        SoftmaxClassifier(random_state=3, max_iter=2, n_threads=n).fit(mnist.X_train, mnist.y_train)
        for n in (1, 2, 3, 7)
    ]
    assert all(same_bits(models[0], model) for model in models[1:])


def test_threads_of_blas_change_no_bit():
    """Sums over many features, or many rows of targets, are not BLAS's: it splits them among threads."""
    from threadpoolctl import threadpool_limits

    rng = np.random.RandomState(0)
    wide = rng.standard_normal((50, 20_000)), rng.randint(3, size=50)
    long = rng.standard_normal((60_000, 3)), rng.dirichlet(np.ones(10), 60_000)
    for (X, y), options in ((wide, {}), (long, {"class_weight": "balanced"})):
        models = []
        for n_threads in (1, 2, 3, 7):
            with threadpool_limits(n_threads, "blas"):
                models.append(SoftmaxClassifier(random_state=0, max_iter=2, tol=None, **options).fit(X, y))
        assert all(same_bits(models[0], model) for model in models[1:])


def test_concurrent_fits(digits):
    X, _, y, _ = digits
    alone = SoftmaxClassifier(random_state=0, max_iter=10, n_threads=2).fit(X, y)
    models = [SoftmaxClassifier(random_state=0, max_iter=10, n_threads=2) for _ in range(8)]
    threads = [threading.Thread(target=model.fit, args=(X, y)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same_bits(alone, model) for model in models)


def _fit_in_child(X, y, queue):
    model = SoftmaxClassifier(random_state=0, max_iter=3, n_threads=4).fit(X, y)
    queue.put((model.coef_.tobytes(), model.loss_curve_))


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.wheel
def test_fit_in_a_forked_child(digits):
    """libgomp would hang in a child forked after its parent started threads."""
    X, _, y, _ = digits
    parent = SoftmaxClassifier(random_state=0, max_iter=3, n_threads=4).fit(X, y)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_fit_in_child, args=(X, y, queue))
    child.start()
    coef, losses = queue.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0
    assert coef == parent.coef_.tobytes() and losses == parent.loss_curve_


def test_default_threads_obey_the_limits_of_the_process():
    code = "from softline import _kernels; print(_kernels.max_threads())"
    env = {"OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_threadpoolctl_limits_the_default():
    from threadpoolctl import threadpool_limits

    from softline import _kernels

    with threadpool_limits(1):
        assert _kernels.max_threads() == 1


# ---- weights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"learning_rate": 0.1}, {"class_weight": "balanced"}])
def test_weight_of_two_is_the_row_twice(params):
    X, y = load_iris(return_X_y=True)
    weight = np.random.RandomState(0).randint(0, 4, len(X))
    args = {"batch_size": None, "max_iter": 50, "tol": None, **params}
    weighted = SoftmaxClassifier(**args).fit(X, y, sample_weight=weight)
    repeated = SoftmaxClassifier(**args).fit(X.repeat(weight, axis=0), y.repeat(weight))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-12)


def test_weight_of_two_is_the_row_twice_of_many_rows():
    """Full batches take their step from all rows, though mini-batches take it from a sample."""
    rng = np.random.RandomState(0)
    X, weight = rng.randn(5000, 3), rng.randint(0, 3, 5000)
    y = (X @ rng.randn(3, 3)).argmax(axis=1)
    args = {"batch_size": None, "max_iter": 5, "tol": None}
    weighted = SoftmaxClassifier(**args).fit(X, y, sample_weight=weight)
    repeated = SoftmaxClassifier(**args).fit(X.repeat(weight, axis=0), y.repeat(weight))
    np.testing.assert_allclose(weighted.learning_rate_, repeated.learning_rate_, rtol=1e-12)
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-9)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_weight_of_zero_is_the_row_left_out(early_stopping):
    X, y = load_iris(return_X_y=True)
    weight = np.random.RandomState(0).randint(0, 2, len(X))
    args = {"early_stopping": early_stopping, "max_iter": 20, "tol": None, "random_state": 0}
    weighted = SoftmaxClassifier(**args).fit(X, y, sample_weight=weight)
    left = weight > 0
    rest = SoftmaxClassifier(**args).fit(X[left], y[left], sample_weight=weight[left])
    assert same_bits(weighted, rest) and weighted.validation_scores_ == rest.validation_scores_
    with pytest.raises(ValueError, match="of 1 rows with"):
        SoftmaxClassifier(early_stopping=True).fit(X, y, sample_weight=np.arange(150) == 7)


def test_class_weight_multiplies_sample_weight():
    X, y = load_iris(return_X_y=True)
    weight = np.linspace(1, 2, len(X))
    args = {"max_iter": 20, "random_state": 0}
    both = SoftmaxClassifier(class_weight={0: 1.0, 1: 3.0, 2: 0.5}, **args).fit(X, y, sample_weight=weight)
    product = SoftmaxClassifier(**args).fit(X, y, sample_weight=weight * np.array([1, 3, 0.5])[y])
    assert same_bits(both, product)


def test_class_weight_takes_labels_as_they_are():
    X, y = load_iris(return_X_y=True)
    names = np.array(["0", "1", "2"])
    named = SoftmaxClassifier(class_weight={"0": 2.0}, max_iter=20, random_state=0).fit(X, names[y])
    assert same_bits(named, SoftmaxClassifier(class_weight={0: 2.0}, max_iter=20, random_state=0).fit(X, y))
    with pytest.raises(ValueError, match="class_weight has labels that are not among the classes"):
        SoftmaxClassifier(class_weight={"5": 2.0}).fit(X, names[y])


def test_scaling_all_weights_changes_nothing():
    X, y = load_iris(return_X_y=True)
    a = SoftmaxClassifier(max_iter=20, random_state=0, batch_size=16).fit(X, y)
    b = SoftmaxClassifier(max_iter=20, random_state=0, batch_size=16).fit(
        X, y, sample_weight=np.full(150, 8.0)
    )
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-9)


@pytest.mark.parametrize("weight", [-1, np.nan, np.inf, None, "2"])
def test_senseless_class_weights_are_refused(weight):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=f"class_weight.*at least 0; 1 has {weight!r}"):
        SoftmaxClassifier(class_weight={0: 2, 1: weight}).fit(X, y)


def test_weights_whose_sum_overflows_are_refused():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="too large for float32"):
        SoftmaxClassifier().fit(X.astype(np.float32), y, sample_weight=np.full(150, 1e38))


@pytest.mark.parametrize("weight", [-np.ones(150), np.zeros(150), np.full(150, np.nan), np.ones(3)])
def test_senseless_weights_are_refused(weight):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=r"sample.weight|NaN|zero"):
        SoftmaxClassifier().fit(X, y, sample_weight=weight)


# ---- labels and inputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        np.array(["cat", "dog", "owl"]),
        np.array(["cat", "dog", "owl"], dtype=object),
        np.array([-5, 0, 1000]),
        np.array([0, 2, 255], np.uint8),
        np.array([1.0, 2.0, 7.0]),
        np.array([2**62, 2**62 + 1, 2**63 - 1]),
    ],
    ids=lambda names: str(names.dtype),
)
def test_any_label_type(names):
    X, y = load_iris(return_X_y=True)
    model = SoftmaxClassifier(max_iter=5, random_state=0).fit(X, names[y])
    assert model.classes_.dtype == names.dtype and np.array_equal(model.classes_, names)
    assert model.predict(X).dtype == names.dtype
    assert same_bits(model, SoftmaxClassifier(max_iter=5, random_state=0).fit(X, y))


@pytest.mark.parametrize("names", [[3, 5, 9], [-1, 0, 2]])
def test_objects_that_are_numbers_are_numbers(names):
    X, y = load_iris(return_X_y=True)
    labels = np.array(names)[y]
    model = SoftmaxClassifier(max_iter=5, random_state=0).fit(X, labels.astype(object), eval_set=(X, labels))
    assert model.classes_.dtype == int and model.classes_.tolist() == names
    assert model.validation_scores_[-1] == model.score(X, labels)


def test_objects_that_are_bools_are_bools():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxClassifier(max_iter=5, random_state=0).fit(X, (y > 0).astype(object))
    assert model.classes_.dtype == bool


@pytest.mark.parametrize("names", [np.array([False, True]), np.array(["no", "yes"]), np.array([-1, 1])])
def test_two_classes_are_a_softmax_too(names):
    X, y = load_breast_cancer(return_X_y=True)
    model = SoftmaxClassifier(random_state=0).fit(X, names[y])
    scores = model.decision_function(X)
    assert model.coef_.shape == (2, 30) and model.intercept_.shape == (2,) and scores.shape == (len(X),)
    assert np.array_equal(model.predict(X) == names[1], scores > 0)
    np.testing.assert_allclose(
        model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-scores)), rtol=1e-9, atol=1e-300
    )
    np.testing.assert_allclose(model.coef_[0], -model.coef_[1], atol=1e-12)


def test_layouts_of_x_give_the_same_model(digits):
    X, _, y, _ = digits
    expected = SoftmaxClassifier(max_iter=3, random_state=0).fit(X, y)
    padded = np.full((len(X), 80), np.nan)
    padded[:, :64] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    forms = [
        np.asfortranarray(X),
        padded[:, :64],
        X[::-1].copy()[::-1],
        X.astype(">f8"),
        read_only,
        X.tolist(),
    ]
    for form in forms:
        model = SoftmaxClassifier(max_iter=3, random_state=0).fit(form, y)
        assert same_bits(model, expected)
        assert model.predict_proba(form).tobytes() == expected.predict_proba(X).tobytes()


def test_small_types_train_in_float32(digits):
    X, _, y, _ = digits
    expected = SoftmaxClassifier(max_iter=3, random_state=0).fit(X.astype(np.float32), y)
    for dtype in (np.uint8, np.int8, np.int16, np.float16):
        model = SoftmaxClassifier(max_iter=3, random_state=0).fit(X.astype(dtype), y)
        assert model.coef_.dtype == np.float32 and same_bits(model, expected)
        assert model.predict_proba(X.astype(dtype)).tobytes() == model.predict_proba(X.astype("f4")).tobytes()
    assert SoftmaxClassifier(max_iter=3).fit(X.astype(np.int64), y).coef_.dtype == np.float64


def test_bfloat16_trains(digits):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    X, _, y, _ = digits
    expected = SoftmaxClassifier(max_iter=3, random_state=0).fit(X.astype(np.float32), y)
    assert same_bits(SoftmaxClassifier(max_iter=3, random_state=0).fit(X.astype(bfloat16), y), expected)
    bad = X.astype(bfloat16)
    bad[3, 5] = np.nan
    for call in (lambda: SoftmaxClassifier().fit(bad, y), lambda: expected.predict(bad)):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            call()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("bad", "message"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_predictions_refuse_what_is_not_finite(digits, dtype, bad, message):
    X, X_test, y, _ = digits
    model = SoftmaxClassifier(max_iter=3, random_state=0).fit(X, y)
    model.coef_[:, 7] = 0
    for feature in (7, 63):  # of weight 0, and the last
        form = X_test.astype(dtype)
        form[5, feature] = bad
        for predict in (model.predict, model.predict_proba, model.predict_log_proba):
            with pytest.raises(ValueError, match=f"Input X contains {message}"):
                predict(form)


def test_finite_rows_of_infinite_scores_are_not_refused(digits):
    X, _, y, _ = digits
    model = SoftmaxClassifier(max_iter=3, random_state=0).fit(X.astype(np.float32), y)
    far = np.zeros((1, 64), np.float32)
    far[0, 20] = 3e38
    model.coef_[:, 20] = np.arange(10)
    assert np.isinf(model.decision_function(far)).any()


# ---- standardize -----------------------------------------------------------------------------------------


def scaled(X):
    """Features in odd units and far from 0, one of them constant."""
    X = X * np.logspace(-3, 3, X.shape[1]) + np.linspace(0, 1e3, X.shape[1])
    X[:, 4] = 7
    return X


@pytest.mark.parametrize("learning_rate", ["auto", 0.05])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_standardize_is_a_pipeline_with_a_scaler(digits, learning_rate, fit_intercept):
    X, X_test, y, _ = digits
    X, X_test = (scaled(part) if fit_intercept else part * np.logspace(-3, 3, 64) for part in (X, X_test))
    options = {
        "learning_rate": learning_rate,
        "fit_intercept": fit_intercept,
        "max_iter": 20,
        "tol": None,
        "random_state": 0,
    }
    model = SoftmaxClassifier(standardize=True, **options).fit(X, y)
    scaler = StandardScaler(with_mean=fit_intercept)
    piped = make_pipeline(scaler, SoftmaxClassifier(**options)).fit(X, y)
    np.testing.assert_allclose(
        model.decision_function(X_test), piped.decision_function(X_test), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(model.loss_curve_, piped[-1].loss_curve_, rtol=1e-8)
    if fit_intercept:
        assert np.all(model.coef_[:, 4] == 0)
    else:
        assert np.all(model.intercept_ == 0)


def test_standardize_weighs_rows(digits):
    """Rows of weight 0 and the others twice: the statistics and the model of those others alone."""
    X, X_test, y, _ = digits
    weight = np.where(np.arange(len(X)) % 3 == 0, 0.0, 2.0)
    options = {"standardize": True, "batch_size": None, "learning_rate": 0.5, "max_iter": 10, "tol": None}
    model = SoftmaxClassifier(**options).fit(scaled(X), y, sample_weight=weight)
    alone = SoftmaxClassifier(**options).fit(scaled(X)[weight > 0], y[weight > 0])
    np.testing.assert_allclose(
        model.decision_function(scaled(X_test)), alone.decision_function(scaled(X_test)), rtol=1e-8, atol=1e-8
    )


def test_standardize_takes_raw_rows_everywhere(digits):
    """Bytes, eval_set, warm starts and threads: always the model of the raw rows."""
    X, X_test, y, y_test = digits
    options = {"standardize": True, "random_state": 0, "max_iter": 8, "tol": None}
    model = SoftmaxClassifier(**options).fit(X.astype(np.uint8), y, eval_set=(X_test, y_test))
    assert model.coef_.dtype == np.float32
    assert model.validation_scores_[-1] == pytest.approx(model.score(X_test, y_test), abs=2e-3)
    threads = SoftmaxClassifier(**options, n_threads=3).fit(X.astype(np.uint8), y)
    assert same_bits(threads, SoftmaxClassifier(**options, n_threads=1).fit(X.astype(np.float32), y))
    warm = SoftmaxClassifier(**options, warm_start=True).fit(X, y)
    before = warm.loss_curve_[-1]
    assert warm.fit(X, y).loss_curve_[0] < 1.05 * before


def test_standardize_of_a_stream(digits):
    X, X_test, y, y_test = digits
    X = scaled(X)
    model = SoftmaxClassifier(standardize=True, random_state=0)
    for _ in range(3):
        for first in range(0, len(X), 200):
            model.partial_fit(X[first : first + 200], y[first : first + 200], classes=np.arange(10))
    assert model.score(scaled(X_test), y_test) > 0.9


def test_data_frames_keep_their_names():
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = SoftmaxClassifier(random_state=0).fit(X, y)
    assert list(model.feature_names_in_) == list(X.columns)
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(X.to_numpy())
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X.rename(columns={X.columns[0]: "other"}))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": -1}, "alpha"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"schedule": "linear"}, "schedule"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_iter": 0}, "max_iter"),
        ({"n_threads": 0}, "n_threads"),
        ({"tol": -1}, "tol"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"class_weight": "even"}, "class_weight"),
    ],
)
def test_wrong_parameters_name_themselves(params, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=f"'{message}' parameter of SoftmaxClassifier must be"):
        SoftmaxClassifier(**params).fit(X, y)


def test_wrong_data_is_refused():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="one class"):
        SoftmaxClassifier().fit(X, np.zeros(150))
    with pytest.raises(ValueError, match="NaN"):
        SoftmaxClassifier().fit(np.where(X > 7, np.nan, X), y)
    with pytest.raises(ValueError, match="continuous"):
        SoftmaxClassifier().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        SoftmaxClassifier().fit(X, y[:-1])
    with pytest.raises(NotFittedError):
        SoftmaxClassifier().predict(X)
    with pytest.raises(ValueError, match="3 features, but SoftmaxClassifier is expecting 4"):
        SoftmaxClassifier(max_iter=1).fit(X, y).predict(X[:, :3])
    with pytest.raises(ValueError, match=r"spans 1e\+30.*float64"):
        SoftmaxClassifier().fit(np.where(X > 7, 1e30, X).astype(np.float32), y)
    with pytest.raises(ValueError, match=r"spans 1e\+308"), np.errstate(all="ignore"):
        SoftmaxClassifier().fit(np.where(X > 7, 1e308, X), y)
    with pytest.raises(TypeError, match="all be numbers or all be strings"):
        SoftmaxClassifier().fit(X, np.where(y == 0, "a", None))
    with pytest.raises(ValueError, match="eval_set has labels of another type"):
        SoftmaxClassifier().fit(X, y.astype(str).astype(object), eval_set=(X, y))
    with pytest.raises(ValueError, match=r"=0.1 of 30 rows with 30 classes.*validation_fraction"):
        SoftmaxClassifier(early_stopping=True).fit(X[:30], np.arange(30))


# ---- stopping ---------------------------------------------------------------------------------------------


def test_stops_when_the_loss_stands_still():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxClassifier(max_iter=10_000, tol=1e-3, n_iter_no_change=3, batch_size=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) < 10_000
    assert len(model.epoch_seconds_) == model.n_iter_
    assert SoftmaxClassifier(max_iter=500, tol=None, batch_size=None).fit(X, y).n_iter_ == 500


def test_warns_when_it_has_not_converged():
    X, y = load_iris(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match="max_iter=2 epochs"):
        SoftmaxClassifier(max_iter=2).fit(X, y)


@pytest.mark.parametrize("own_set", [False, True])
def test_early_stopping_keeps_the_best_epoch(digits, own_set):
    X, X_test, y, y_test = digits
    model = SoftmaxClassifier(early_stopping=True, random_state=0, max_iter=200, n_iter_no_change=4)
    model.fit(X, y, eval_set=(X_test, y_test) if own_set else None)
    scores = model.validation_scores_
    assert len(scores) == model.n_iter_ < 200
    assert max(scores[-4:]) <= max(scores[:-4]) + 1e-4
    if own_set:
        assert model.score(X_test, y_test) == max(scores)


def test_a_warm_start_that_stops_early_never_ends_worse_than_it_began(digits):
    X, X_test, y, y_test = digits
    model = SoftmaxClassifier(
        early_stopping=True, warm_start=True, random_state=0, max_iter=20, n_iter_no_change=2
    )
    scores, never_better = [0.0], False
    for _ in range(5):
        model.fit(X, y, eval_set=(X_test, y_test))
        scores.append(model.score(X_test, y_test))
        assert scores[-1] == max(*scores, *model.validation_scores_)
        never_better |= max(model.validation_scores_) < scores[-1]
    assert never_better


def test_eval_set_is_only_watched_without_early_stopping(digits):
    X, X_test, y, y_test = digits
    watched = SoftmaxClassifier(random_state=0, max_iter=20).fit(X, y, eval_set=(X_test, y_test))
    assert same_bits(watched, SoftmaxClassifier(random_state=0, max_iter=20).fit(X, y))
    assert watched.validation_scores_[-1] == watched.score(X_test, y_test)
    with pytest.raises(ValueError, match="eval_set must be a pair"):
        SoftmaxClassifier().fit(X, y, eval_set=X_test)
    with pytest.raises(ValueError, match="the y of eval_set has labels that are not among the classes"):
        SoftmaxClassifier().fit(X, y, eval_set=(X_test, y_test + 1))


def test_divergence_is_an_error_that_helps(digits):
    X, _, y, _ = digits
    model = SoftmaxClassifier(learning_rate=1e3, alpha=1e3, random_state=0)
    with pytest.raises(DivergenceError, match=r"epoch \d+: learning_rate=1e\+03 is too large") as caught:
        model.fit(X, y)
    assert isinstance(caught.value, ValueError)
    assert np.isfinite(model.coef_).all() and np.isfinite(model.loss_curve_).all()
    assert model.n_iter_ == len(model.loss_curve_)
    assert model.predict(X).shape == y.shape
    stable = float(str(caught.value).split("Up to ")[1].split(" is stable")[0])
    losses = SoftmaxClassifier(learning_rate=stable, alpha=1e3, random_state=0).fit(X, y).loss_curve_
    assert losses[-1] < np.log(10)


def test_a_rate_that_only_raises_the_loss_is_named(digits):
    X, _, y, _ = digits
    with pytest.warns(
        ConvergenceWarning, match=r"above log\(10\).*learning_rate=100 is too large.*is stable"
    ):
        SoftmaxClassifier(learning_rate=100.0, alpha=0, max_iter=3, random_state=0).fit(X, y)


def test_a_rate_that_suits_is_not_called_too_large():
    """Labels that X says nothing about, a row at a time: all there is is noise."""
    X = np.zeros((300, 1))
    y = np.random.RandomState(0).randint(0, 10, 300)
    for learning_rate in ("auto", 2.0):
        with pytest.warns(ConvergenceWarning, match=r"=(2|1\.4) suits these data.*raise batch_size"):
            SoftmaxClassifier(
                learning_rate=learning_rate, batch_size=1, alpha=0, max_iter=3, random_state=0
            ).fit(X, y)


def test_a_sorted_table_takes_single_rows(recwarn):
    """The step of single rows follows from the longest, which may be among the last."""
    rng = np.random.RandomState(0)
    X, y = rng.randn(2000, 64), rng.randint(0, 3, 2000)
    X[np.arange(2000), y] += 2
    X[:1024] /= 100
    model = SoftmaxClassifier(batch_size=1, max_iter=3, tol=None, random_state=0).fit(X, y)
    assert model.loss_curve_[-1] < np.log(3) and not recwarn.list


def test_interrupt_keeps_the_weights(digits):
    X, _, y, _ = digits

    def interrupted(epoch, max_iter):
        if np.max(epoch) >= 3:
            raise KeyboardInterrupt
        return 1.0

    model = SoftmaxClassifier(schedule=interrupted, random_state=0)
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(X, y)
    assert model.n_iter_ == 3
    assert same_bits(model, SoftmaxClassifier(max_iter=3, random_state=0).fit(X, y))


def test_interrupt_keeps_the_weights_of_the_last_newton_step(digits):
    X, _, y, _ = digits

    def interrupted(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    model = SoftmaxClassifier(solver="lbfgs")
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(X, y, callback=interrupted)
    assert model.n_iter_ == 2
    assert same_bits(model, SoftmaxClassifier(solver="lbfgs", max_iter=2).fit(X, y))


# ---- going on ---------------------------------------------------------------------------------------------


def test_warm_start_goes_on(digits):
    X, _, y, _ = digits
    model = SoftmaxClassifier(warm_start=True, max_iter=20, random_state=0).fit(X, y)
    first = model.loss_curve_
    assert model.fit(X, y).loss_curve_[0] < 1.05 * first[-1]
    with pytest.raises(ValueError, match="warm_start continues with the classes"):
        model.fit(X, y + 1)


@pytest.mark.parametrize("learning_rate", ["auto", 3e-3])
def test_partial_fit_learns_a_stream(digits, learning_rate):
    X, X_test, y, y_test = digits
    model = SoftmaxClassifier(learning_rate=learning_rate, random_state=0)
    order = np.argsort(X[:, 20], kind="stable")  # the first rows do not show the range of the features
    for _ in range(10):
        for first in range(0, len(X), 100):
            rows = order[first : first + 100]
            model.partial_fit(X[rows], y[rows], classes=np.arange(10))
    assert model.score(X_test, y_test) > 0.9
    assert model.n_iter_ == len(model.loss_curve_) == 10 * -(-len(X) // 100)


def test_partial_fit_one_row_at_a_time(digits):
    X, X_test, y, y_test = digits
    model = SoftmaxClassifier()
    for x, label in zip(X, y, strict=True):
        model.partial_fit([x], [label], classes=np.arange(10))
    assert model.score(X_test, y_test) > 0.85


def test_partial_fit_is_an_epoch_of_fit(digits):
    X, _, y, _ = digits
    one = SoftmaxClassifier(random_state=0, learning_rate=0.01, max_iter=1).fit(X, y)
    assert same_bits(
        one, SoftmaxClassifier(random_state=0, learning_rate=0.01).partial_fit(X, y, classes=range(10))
    )
    one.partial_fit(X, y)
    assert one.n_iter_ == 2 and one.loss_curve_[1] < one.loss_curve_[0]


def test_partial_fit_refuses():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        SoftmaxClassifier().partial_fit(X, y)
    with pytest.raises(ValueError, match="not among the classes"):
        SoftmaxClassifier().partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="differs from the first call"):
        SoftmaxClassifier().partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="early_stopping"):
        SoftmaxClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])


def test_partial_fit_can_be_called_again_after_a_first_call_that_failed():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxClassifier()
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert model.partial_fit(X, y, classes=[0, 1, 2]).predict(X).shape == y.shape


# ---- in scikit-learn's company ----------------------------------------------------------------------------


def test_pickle_clone_pipeline_and_search(digits):
    X, X_test, y, _ = digits
    model = SoftmaxClassifier(schedule=schedules.Cosine(floor=0.1), max_iter=10, random_state=0)
    assert clone(model).get_params() == model.get_params()
    model.fit(X, y)
    assert np.array_equal(
        pickle.loads(pickle.dumps(model)).predict_proba(X_test), model.predict_proba(X_test)
    )
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SoftmaxClassifier(max_iter=5, random_state=0)),
        {"softmaxclassifier__schedule": ["constant", "cosine"], "softmaxclassifier__alpha": [1e-4, 1e-1]},
        n_jobs=2,
        cv=3,
    )
    assert search.fit(X, y).best_score_ > 0.9


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_predictions_agree_with_each_other(digits, fit_intercept):
    X, X_test, y, _ = digits
    model = SoftmaxClassifier(max_iter=10, random_state=0, fit_intercept=fit_intercept).fit(X, y)
    assert model.intercept_.any() == fit_intercept
    scores, probs = model.decision_function(X_test), model.predict_proba(X_test)
    np.testing.assert_allclose(scores, X_test @ model.coef_.T + model.intercept_, atol=1e-11)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    np.testing.assert_allclose(np.log(probs), model.predict_log_proba(X_test), atol=1e-12)
    assert np.array_equal(model.predict(X_test), model.classes_[probs.argmax(axis=1)])
    # a float32 model on float64 rows, and the reverse, compute in float64
    single = SoftmaxClassifier(max_iter=10, random_state=0).fit(X.astype(np.float32), y)
    assert single.predict_proba(X_test).dtype == np.float64
    assert single.predict_proba(X_test.astype(np.float32)).dtype == np.float32
    assert model.predict_proba(X_test.astype(np.float32)).dtype == np.float64


# ---- solver="lbfgs" --------------------------------------------------------------------------------------


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
def test_lbfgs_goes_to_the_minimum(load, standardize):
    X, y = load(return_X_y=True)
    weight = np.random.default_rng(0).random(len(y))
    scaled = StandardScaler().fit(X, sample_weight=weight).transform(X) if standardize else X
    # Two rows for two classes: their squares are half of what one row's would be.
    C = (2 if len(np.unique(y)) == 2 else 1) / (0.01 * weight.sum())
    exact = LogisticRegression(C=C, tol=1e-9, max_iter=5000, solver="newton-cholesky").fit(scaled, y, weight)
    model = SoftmaxClassifier(solver="lbfgs", alpha=0.01, tol=1e-9, standardize=standardize)
    model.fit(X, y, weight, eval_set=(X, y))
    np.testing.assert_allclose(model.predict_proba(X), exact.predict_proba(scaled), atol=1e-6)
    assert model.coef_.shape == (len(model.classes_), X.shape[1])
    assert np.all(np.diff(model.loss_curve_) <= 1e-15)
    assert len(model.validation_scores_) == len(model.epoch_seconds_) == model.n_iter_
    again = model.set_params(warm_start=True).fit(X, y, weight)
    assert again.n_iter_ <= 2
    seen = []
    model.set_params(warm_start=False)
    model.fit(X, y, weight, callback=lambda epoch: seen.append(epoch.loss) or len(seen) == 2)
    assert seen == model.loss_curve_ and model.n_iter_ == 2


def test_lbfgs_refuses_what_it_does_not_do():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="label_smoothing need solver='sgd'"):
        SoftmaxClassifier(solver="lbfgs", label_smoothing=0.1).fit(X, y)
    with pytest.raises(ValueError, match="early_stopping needs solver='sgd'"):
        SoftmaxClassifier(solver="lbfgs", early_stopping=True).fit(X, y)
    with pytest.raises(ValueError, match="partial_fit is gradient descent"):
        SoftmaxClassifier(solver="lbfgs").partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="batch_callback needs solver='sgd'"):
        SoftmaxClassifier(solver="lbfgs").fit(X, y, batch_callback=print)
    with pytest.warns(ConvergenceWarning, match=r"after 1 steps\. The objective.* above its minimum"):
        SoftmaxClassifier(solver="lbfgs", max_iter=1).fit(X, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_many_rows_of_few_features_have_the_scores_of_few_rows(dtype, n_features, n_classes):
    """To the bit, because NumPy and the kernel add up the same products in the same order."""
    rng = np.random.default_rng(n_features)
    X = rng.standard_normal((10_007, n_features)).astype(dtype)
    y = np.arange(len(X)) % n_classes
    for model in (SoftmaxClassifier(max_iter=1), linear_model.LogisticRegression()):
        model.fit(X[:50], y[:50])
        pieces = [X[first : first + 500] for first in range(0, len(X), 500)]
        for method in (model.decision_function, model.predict, model.predict_proba):
            assert method(X).tobytes() == b"".join(method(piece).tobytes() for piece in pieces)
        assert np.array_equal(model.predict(X), model.classes_[model.predict_proba(X).argmax(axis=1)])
        X_bad = X.copy()
        X_bad[9_000, -1] = np.nan
        with pytest.raises(ValueError, match="Input X contains NaN"):
            model.predict(X_bad)


def test_arrays_that_need_no_check_are_taken_as_after_one():
    """The attributes, the errors and the warning are scikit-learn's."""
    X, y = np.random.default_rng(0).standard_normal((30, 3)), np.arange(30) % 3
    model = SoftmaxClassifier(max_iter=2, tol=None, random_state=0)
    assert is_plain(X, y) and not is_plain(X, y.astype(str)) and not is_plain(X, y[:-1])
    pd = pytest.importorskip("pandas")
    named = clone(model).fit(pd.DataFrame(X, columns=list("abc")), y)
    assert named.feature_names_in_.tolist() == list("abc")
    assert np.array_equal(named.coef_, model.fit(X, y).coef_) and model.n_features_in_ == 3
    assert is_plain(X, model=model) and not is_plain(X[:, :2], model=model) and not is_plain(X, model=named)
    assert not hasattr(named.fit(X, y), "feature_names_in_")
    with pytest.raises(ValueError, match="X has 2 features, but SoftmaxClassifier is expecting 3 features"):
        clone(model).partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X[:, :2], y)
    with pytest.raises(ValueError, match="Found input variables with inconsistent numbers of samples"):
        model.fit(X, y[:-1])
    with pytest.raises(ValueError, match="contains NaN"):
        model.fit(np.where(X.max() == X, np.nan, X), y)
    with pytest.warns(UserWarning, match="number of unique classes is greater than 50%"):
        model.fit(X, np.arange(30) // 1.5 // 1)
    with pytest.warns(UserWarning, match="number of unique classes is greater than 50%"):
        model.fit(X, np.arange(30) * 2 // 3)
