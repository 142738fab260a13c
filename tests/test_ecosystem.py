"""Both estimators in the company of scikit-learn, data frames, joblib, threads and callbacks."""

import os
import pickle
import subprocess
import sys
import threading
import warnings
from itertools import pairwise

import joblib
import numpy as np
import pytest
import sklearn
from kernel_harness import linear_epoch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.inspection import DecisionBoundaryDisplay, permutation_importance
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from softline import _kernels
from softline.linear_model import LogisticRegression, SoftmaxClassifier
from softline.neural_network import MLPClassifier

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:The number of unique classes"),
]

X, Y = load_iris(return_X_y=True)
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
SPECIES = np.array(["setosa", "versicolor", "virginica"])

both = pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(max_iter=200), SoftmaxClassifier(random_state=0)],
    ids=["LogisticRegression", "SoftmaxClassifier"],
)


# ---- scikit-learn's conventions ---------------------------------------------------------------------------


def fails_as_scikit_learns_does(estimator):
    """Checks that scikit-learn's own class fails, too, and why."""
    failed = {}
    if estimator.solver == "liblinear":
        failed["check_classifier_not_supporting_multiclass"] = "scikit-learn words the error in its own way"
    if estimator.solver in ("sag", "saga"):
        failed["check_sample_weight_equivalence_on_sparse_data"] = "sparse fits are scikit-learn's own"
    if np.isinf(estimator.C):
        failed["check_sample_weight_equivalence_on_dense_data"] = (
            "without a penalty, tol leaves more than 1e-7"
        )
    return failed


@parametrize_with_checks(
    [
        LogisticRegression(),  # the other solvers are this one by another name
        LogisticRegression(solver="liblinear"),
        LogisticRegression(solver="saga", l1_ratio=1),
    ],
    expected_failed_checks=fails_as_scikit_learns_does,
)
def test_check_estimator_of_logistic_regression(estimator, check):
    check(estimator)


@pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 7),
    reason="before scikit-learn 1.7 the score of a pipeline does not route to its last step",
)
@both
def test_metadata_routing(estimator):
    weight = np.random.RandomState(0).rand(150)
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        model = clone(estimator).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(make_pipeline(scaler, model), {}, cv=2)
        search.fit(X, Y, sample_weight=weight)
        with pytest.raises(ValueError, match=r"sample_weight.*not explicitly set as requested or not"):
            GridSearchCV(make_pipeline(scaler, clone(estimator)), {}).fit(X, Y, sample_weight=weight)
    scaled = StandardScaler().fit_transform(X)
    alone = clone(estimator).fit(scaled, Y, sample_weight=weight)
    assert np.array_equal(search.best_estimator_[-1].coef_, alone.coef_)
    assert not np.array_equal(alone.coef_, clone(estimator).fit(scaled, Y).coef_)


def test_eval_set_and_callback_are_routed_too():
    epochs = []
    with sklearn.config_context(enable_metadata_routing=True):
        model = SoftmaxClassifier(max_iter=3).set_fit_request(callback=True, eval_set=True)
        make_pipeline(StandardScaler(), model).fit(X, Y, callback=epochs.append, eval_set=(X, Y))
    assert len(epochs) == 3 and epochs[0].validation_score is not None


@both
def test_set_output_and_feature_names_in_a_pipeline(estimator):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=NAMES)
    pipeline = make_pipeline(StandardScaler(), clone(estimator)).set_output(transform="pandas").fit(frame, Y)
    assert pipeline[-1].feature_names_in_.tolist() == NAMES
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pipeline.score(frame, Y) > 0.9
    with pytest.raises(ValueError, match="feature names should match"):
        pipeline[-1].predict(frame[NAMES[::-1]])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        pipeline[-1].predict(X)


@both
@pytest.mark.wheel
def test_pickle_and_clone(estimator):
    model = clone(estimator).fit(X, SPECIES[Y])
    again = pickle.loads(pickle.dumps(model))
    assert again.get_params() == model.get_params() == clone(model).get_params()
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert not hasattr(clone(model), "coef_")


@both
@pytest.mark.parametrize(
    "meta",
    [
        lambda model: make_pipeline(StandardScaler(), model),
        lambda model: GridSearchCV(model, {"class_weight": [None, "balanced"]}, cv=3),
        lambda model: CalibratedClassifierCV(model, cv=3),
        lambda model: OneVsRestClassifier(model),
        lambda model: VotingClassifier([("softline", model), ("nb", GaussianNB())], voting="soft"),
        lambda model: StackingClassifier([("softline", model), ("nb", GaussianNB())], model, cv=3),
    ],
    ids=["Pipeline", "GridSearchCV", "CalibratedClassifierCV", "OneVsRest", "Voting", "Stacking"],
)
def test_within(estimator, meta):
    model = meta(clone(estimator)).fit(X, SPECIES[Y])
    assert model.score(X, SPECIES[Y]) > 0.9
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-6)
    assert set(model.predict(X)) <= set(SPECIES)


@both
def test_inspection(estimator):
    model = clone(estimator).fit(X, Y)
    found = permutation_importance(model, X, Y, n_repeats=3, random_state=0, n_jobs=2)
    assert set(found.importances_mean.argsort()[2:]) == {2, 3}  # the petals
    pytest.importorskip("matplotlib").use("agg")
    display = DecisionBoundaryDisplay.from_estimator(clone(estimator).fit(X[:, 2:], Y), X[:, 2:])
    assert np.unique(display.response).size >= 3


# ---- data frames ------------------------------------------------------------------------------------------


def tables(library):
    """X, and y by the names of the labels' types, of a library."""
    module = pytest.importorskip(library)
    strings, bools, small = SPECIES[Y], Y > 0, Y.astype(np.int32)
    if library == "pyarrow":
        return module.table(dict(zip(NAMES, X.T, strict=True))), {
            "int32": module.chunked_array([small]),
            "bool": module.chunked_array([bools]),
            "str": module.chunked_array([strings]),
            "category": module.chunked_array([module.array(strings).dictionary_encode()]),
        }
    category = "category" if library == "pandas" else module.Categorical
    return module.DataFrame(dict(zip(NAMES, X.T, strict=True))), {
        "int32": module.Series(small),
        "bool": module.Series(bools),
        "str": module.Series(strings),
        "category": module.Series(strings, dtype=category),
    }


@both
@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_tables(estimator, library):
    table, labels = tables(library)
    for kind, y in labels.items():
        model = clone(estimator).fit(table, y)
        assert model.feature_names_in_.tolist() == NAMES
        predicted = model.predict(table)
        assert predicted.dtype == model.classes_.dtype
        if kind in ("int32", "bool"):
            assert predicted.dtype == kind
        else:
            assert set(predicted) == set(SPECIES) and isinstance(predicted[0], str)
        plain = clone(estimator).fit(X, np.asarray(y))
        assert np.array_equal(model.coef_, plain.coef_)
        assert model.score(table, y) == plain.score(X, np.asarray(y)) > 0.9


# ---- threads and processes --------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(estimator, backend):
    models = [clone(estimator).set_params(tol=tol) for tol in (1e-2, 1e-3, 1e-4)]
    with joblib.parallel_backend(backend, n_jobs=2):
        # bound methods: a worker process cannot import this module
        fits = joblib.Parallel()(joblib.delayed(model.fit)(X, Y) for model in models)
    for model, fit in zip(models, fits, strict=True):
        assert np.array_equal(fit.coef_, clone(model).fit(X, Y).coef_)


@both
def test_concurrent_fits_are_safe(estimator):
    """Many threads at once, of which each gives the bits that it gives alone."""
    rng = np.random.RandomState(0)
    X, y = rng.rand(3000, 50), rng.randint(0, 4, 3000)
    alone = clone(estimator).fit(X, y)
    models = [clone(estimator) for _ in range(6)]
    threads = [threading.Thread(target=model.fit, args=(X, y)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model in models:
        assert model.coef_.tobytes() == alone.coef_.tobytes()
        assert np.array_equal(model.predict_proba(X), alone.predict_proba(X))


def lets_others_run(call):
    """Whether another thread gets to run during a call, of many.

    Between the calls nothing gives the GIL away of its own accord, and the interpreter takes it from no one:
    who else runs, runs within a call.
    """
    ran, begin = [], threading.Event()

    def other():
        begin.wait()
        ran.append(True)

    thread = threading.Thread(target=other)
    interval = sys.getswitchinterval()
    thread.start()
    sys.setswitchinterval(1000)
    try:
        begin.set()
        for _ in range(100):
            call()
            if ran:
                break
        return bool(ran)
    finally:
        sys.setswitchinterval(interval)
        thread.join()


@pytest.mark.parametrize(
    "kernel", ["scores", "epoch", "loss_gradient", "candidate_losses", "coordinate_descent"]
)
def test_kernels_release_the_gil(kernel):
    rng = np.random.RandomState(0)
    n, D, C = 20_000, 100, 10
    X, y, idx = rng.rand(n, D), rng.randint(0, C, n).astype(np.int32), np.arange(n)
    W, b, out, dW, db = rng.rand(C, D), rng.rand(C), np.empty((n, C)), np.empty((C, D)), np.empty(C)
    rates, A, T, l1 = np.full(100, 1e-6), 0.9 + 0.1 * np.eye(D), np.zeros((0, C, D)), np.full(D, 1e-3)
    call = {
        "scores": lambda: _kernels.scores(X, idx, W, b, out, 1),
        "epoch": lambda: linear_epoch(_kernels, X, y, None, idx, W, b, rates, 200, 0.0, None, None, True, 1),
        "loss_gradient": lambda: _kernels.loss_gradient(X, y, None, W, b, dW, db, 1),
        "candidate_losses": lambda: _kernels.candidate_losses(X, y, None, W[None], b[None], db[:1], 1),
        "coordinate_descent": lambda: _kernels.coordinate_descent(
            A, 1.0, T, np.zeros(0), -W, l1, np.zeros((C, D)), 0.0, 1000
        ),
    }[kernel]
    assert lets_others_run(call)


def test_what_holds_the_gil_is_found():
    assert not lets_others_run(lambda: sum(range(100_000)))


def python(code, **env):
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


BITS = """
import hashlib, warnings
import numpy as np
from softline.linear_model import LogisticRegression, SoftmaxClassifier
warnings.simplefilter("ignore")
rng = np.random.RandomState(0)
X = rng.standard_normal((20_000, 200)).astype(np.float32)
scores = X @ rng.standard_normal((200, 5)) + 10 * rng.standard_normal((20_000, 5))
def show(*arrays):
    print(hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest())
for y in (scores.argmax(axis=1), scores.argmax(axis=1) > 1):
    for params in ({}, {"l1_ratio": 1, "C": 1e-2, "solver": "saga"}):
        model = LogisticRegression(max_iter=8, **params).fit(X, y)
        show(model.coef_, model.intercept_, model.n_iter_, model.predict_proba(X[:1000]))
model = SoftmaxClassifier(batch_size=1, max_iter=1, random_state=0).fit(X, y)
show(model.coef_, model.intercept_, model.loss_curve_)
X, y = rng.standard_normal((500, 20_000)).astype(np.float32), rng.randint(0, 10, 500)
model = SoftmaxClassifier(max_iter=2, random_state=0, standardize=True, warm_start=True).fit(X, y).fit(X, y)
show(model.coef_, model.intercept_, model.loss_curve_)
"""


def test_the_number_of_threads_changes_no_bit():
    """Large enough for a start by gradient descent, Hessians of some rows, and a BLAS with threads."""
    bits = [python(BITS, OMP_NUM_THREADS=n, OPENBLAS_NUM_THREADS=n) for n in ("1", "2")]
    assert bits[0] == bits[1] and len(bits[0].splitlines()) == 6


THREADS = """
import os, warnings
import numpy as np
from threadpoolctl import threadpool_limits
from softline import _kernels
from softline.linear_model import LogisticRegression, SoftmaxClassifier
warnings.simplefilter("ignore")
rng = np.random.RandomState(0)
X, y = rng.rand(20_000, 200), rng.randint(0, 5, 20_000)
estimators = [LogisticRegression(max_iter=2), SoftmaxClassifier(max_iter=2)]
def threads():
    return len(os.listdir("/proc/self/task"))
for model in estimators:
    model.fit(X[:10, :2], y[:10])  # what it imports may start threads
before = threads()
with threadpool_limits(1):
    limited = _kernels.max_threads()
    for model in estimators:
        model.fit(X, y).predict(X)
within = threads() - before
for model in estimators:
    model.fit(X, y)
print(limited, within, threads() - before, _kernels.max_threads())
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
@pytest.mark.wheel
def test_threadpool_limits_are_respected():
    """OpenMP's threads stay once they are started: those of a fit can be counted after it."""
    numbers = python(THREADS, OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="1")
    limited, within, after, most = map(int, numbers.split())
    assert limited == 1 and within == 0
    assert after >= most - 1


# ---- callbacks --------------------------------------------------------------------------------------------


@both
def test_scikit_learns_callbacks(estimator, capsys):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    model = clone(estimator).set_callbacks(monitor, callback.ProgressBar()).fit(X, Y)
    log = [row for row in monitor.get_logs().data if row["task_name"] == "iter"]
    assert len(log) == np.max(model.n_iter_)
    assert log[-1]["accuracy"] == model.score(X, Y)
    assert log[0]["neg_log_loss"] < log[-1]["neg_log_loss"]
    assert type(model).__name__ in capsys.readouterr().out
    assert np.array_equal(model.coef_, clone(estimator).fit(X, Y).coef_)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        SoftmaxClassifier(max_iter=3),
        SoftmaxClassifier(max_iter=3, solver="lbfgs", tol=None),
        MLPClassifier(max_iter=3),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learns_callbacks_get_the_labels(estimator, n_classes):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    rows = np.isin(Y, range(n_classes))
    model = clone(estimator).set_callbacks(monitor).fit(X[rows], SPECIES[Y[rows]])
    log = [row for row in monitor.get_logs().data if row["task_name"] == "iter"]
    assert log[-1]["accuracy"] == model.score(X[rows], SPECIES[Y[rows]])


@both
def test_scikit_learns_callbacks_in_a_search(estimator):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = clone(estimator).set_callbacks(monitor)
    search = GridSearchCV(model, {"class_weight": [None, "balanced"]}, cv=2).fit(X, Y)
    assert len(monitor.get_logs().data) > 0 and search.best_score_ > 0.9


class Stop:
    """A callback of scikit-learn's protocol that stops the fit after some iterations, or raises."""

    def __init__(self, after, error=None):
        self.after, self.error, self.ended, self.torn_down = after, error, 0, 0

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.parent is None or fitted_estimator is None:
            return False
        self.ended += 1
        fitted_estimator.predict(X)
        if self.error is not None:
            raise self.error
        return self.ended == self.after

    def teardown(self, estimator, context):
        self.torn_down += 1


@both
def test_a_callback_of_the_protocol_stops_the_fit(estimator):
    pytest.importorskip("sklearn.callback")
    stop = Stop(after=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # who stops a fit knows that it is not at the minimum
        model = clone(estimator).set_callbacks(stop).fit(X, Y)
    assert np.max(model.n_iter_) == 2 and stop.torn_down == 1
    raises = Stop(after=1, error=RuntimeError("on purpose"))
    with pytest.raises(RuntimeError, match="on purpose"):
        clone(estimator).set_callbacks(raises).fit(X, Y)
    assert raises.torn_down == 1


def test_a_fit_of_no_steps_is_told_of_once():
    pytest.importorskip("sklearn.callback")
    told = Stop(after=2)
    model = LogisticRegression(warm_start=True).fit(X, Y).set_callbacks(told).fit(X, Y)
    assert model.n_iter_.tolist() == [0] and told.ended == told.torn_down == 1


@pytest.mark.parametrize(
    "params", [{}, {"early_stopping": True}, {"standardize": True}, {"learning_rate": 0.01}]
)
def test_callback_for_each_epoch(params):
    told, coefs = [], []

    def callback(epoch):
        told.append((epoch.epoch, epoch.loss, epoch.validation_score, epoch.seconds))
        assert epoch.model.predict_proba(X).shape == (150, 3)
        coefs.append(epoch.model.coef_)

    model = SoftmaxClassifier(random_state=0, max_iter=7, tol=None, **params)
    model.fit(X, Y, callback=callback)
    plain = clone(model).fit(X, Y)
    assert np.array_equal(model.coef_, plain.coef_)
    scores = plain.validation_scores_ or [None] * 7
    assert told == list(zip(range(1, 8), plain.loss_curve_, scores, model.epoch_seconds_, strict=True))
    if not params.get("early_stopping"):
        for epochs, coef in enumerate(coefs, 1):
            assert np.array_equal(coef, clone(model).set_params(max_iter=epochs).fit(X, Y).coef_)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "asgd"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_callback_for_each_batch_changes_no_bit(optimizer, weighted, dtype):
    batches, weight = [], np.random.RandomState(0).rand(150) if weighted else None
    model = SoftmaxClassifier(
        optimizer=optimizer, random_state=0, max_iter=3, tol=None, batch_size=40, schedule="cosine"
    )
    model.fit(X.astype(dtype), Y, weight, batch_callback=batches.append)
    plain = clone(model).fit(X.astype(dtype), Y, weight)
    assert model.coef_.tobytes() == plain.coef_.tobytes() and model.loss_curve_ == plain.loss_curve_
    assert [(b.epoch, b.batch) for b in batches] == [(e, b) for e in (1, 2, 3) for b in (1, 2, 3, 4)]
    rates = [b.learning_rate for b in batches]
    assert rates == sorted(rates, reverse=True) and rates[0] == pytest.approx(model.learning_rate_)
    losses = np.array([b.loss for b in batches]).reshape(3, 4) @ [40, 40, 40, 30] / 150
    np.testing.assert_allclose(losses, model.loss_curve_, rtol=1e-6)


def test_a_batch_callback_sees_the_weights_of_the_moment():
    coefs = []
    model = SoftmaxClassifier(random_state=0, max_iter=2, tol=None, batch_size=50)
    model.fit(X, Y, batch_callback=lambda batch: coefs.append(batch.model.coef_))
    assert len(coefs) == 6 and not any(np.array_equal(a, b) for a, b in pairwise(coefs))
    assert np.array_equal(coefs[-1], model.coef_)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_true_results_end_the_training():
    model = SoftmaxClassifier(random_state=0, max_iter=100, batch_size=50)
    model.fit(X, Y, callback=lambda epoch: epoch.epoch == 4)
    assert model.n_iter_ == len(model.loss_curve_) == 4
    model.fit(X, Y, batch_callback=lambda batch: (batch.epoch, batch.batch) == (3, 2))
    assert model.n_iter_ == 3
    batches = []
    again = clone(model).fit(X, Y, batch_callback=lambda batch: batches.append(batch) or len(batches) == 8)
    assert np.array_equal(again.coef_, model.coef_)
    assert again.loss_curve_[-1] == pytest.approx(np.mean([batch.loss for batch in batches[6:]]))


def test_what_a_callback_raises_is_raised():
    def fail(told):
        raise RuntimeError("on purpose")

    for name in ("callback", "batch_callback"):
        model = SoftmaxClassifier(random_state=0)
        with pytest.raises(RuntimeError, match="on purpose"):
            model.fit(X, Y, **{name: fail})
        assert np.isfinite(model.predict_proba(X)).all()  # with the weights before
        with pytest.raises(TypeError, match=f"{name} must be callable or None; got 3"):
            model.fit(X, Y, **{name: 3})


def test_ctrl_c_in_a_callback_ends_the_training():
    def interrupt(epoch):
        if epoch.epoch == 3:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        model = SoftmaxClassifier(random_state=0).fit(X, Y, callback=interrupt)
    assert model.n_iter_ == 3


def test_only_callbacks_part_epochs_into_calls(monkeypatch):
    calls, epoch = [], _kernels.epoch
    monkeypatch.setattr(_kernels, "epoch", lambda *a, **k: calls.append(1) or epoch(*a, **k))
    model = SoftmaxClassifier(max_iter=3, tol=None, batch_size=10)
    for options, expected in (
        ({}, 1),
        ({"callback": lambda model: None}, 3),
        ({"callback": id}, 1),  # is true: one epoch
        ({"batch_callback": lambda batch: None}, 45),
    ):
        calls.clear()
        model.fit(X, Y, **options)
        assert len(calls) == expected
