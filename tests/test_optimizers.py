"""SoftmaxClassifier with every optimizer, penalty, target and constraint; the kernels are in test_kernels."""

import pickle
import tracemalloc
from functools import cache
from typing import get_args

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from softline import SoftmaxClassifier, _kernels, optimizers, schedules
from softline._estimators.softmax_classifier import DivergenceError

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:The number of unique classes"),
]
by_name = pytest.mark.parametrize("name", optimizers.BY_NAME)


def same_bits(a, b):
    return (
        a.coef_.tobytes() == b.coef_.tobytes()
        and a.intercept_.tobytes() == b.intercept_.tobytes()
        and a.loss_curve_ == b.loss_curve_
    )


def probabilities(n, n_classes, dtype=float):
    return np.random.default_rng(0).dirichlet(np.ones(n_classes), n).astype(dtype)


@parametrize_with_checks(
    [
        SoftmaxClassifier(optimizer="asgd"),  # predicts with the mean of the weights
        SoftmaxClassifier(optimizer="adam", l1_ratio=0.5, label_smoothing=0.1, clip_norm=1.0, max_norm=10.0),
    ]
)
def test_check_estimator(estimator, check):
    check(estimator)


# ---- the dataclasses --------------------------------------------------------------------------------------


@by_name
def test_optimizers_are_values(name):
    optimizer = optimizers.BY_NAME[name]
    assert optimizers.get(name) is optimizer and optimizers.get(optimizer) is optimizer
    assert type(optimizer)() == optimizer == pickle.loads(pickle.dumps(optimizer))
    model = SoftmaxClassifier(optimizer=optimizer)
    assert clone(model).get_params()["optimizer"] == optimizer


def test_names_are_those_of_the_classes():
    assert {name: type(one).__name__.lower() for name, one in optimizers.BY_NAME.items()} == {
        name: name for name in get_args(optimizers.Name)
    }
    assert {name: type(one).__name__.lower() for name, one in schedules.BY_NAME.items()} == {
        name: name.replace("_", "") for name in get_args(schedules.Name)
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.Momentum(1.0), r"momentum must be in \[0, 1\); got 1.0"),
        (lambda: optimizers.Nesterov(-0.1), "momentum must be in"),
        (lambda: optimizers.Adam(beta1=1), r"beta1 must be in \[0, 1\)"),
        (lambda: optimizers.AdamW(beta2=-1), "beta2 must be in"),
        (lambda: optimizers.Adam(eps=0), r"eps must be in \(0, inf\); got 0"),
        (lambda: optimizers.RMSProp(rho=float("nan")), "rho must be in"),
        (lambda: optimizers.AdaGrad(eps=-1), "eps must be in"),
        (lambda: optimizers.ASGD(t0=-1), "t0 must be in"),
        (lambda: optimizers.get("lion"), "optimizer must be one of sgd, momentum, .*; got 'lion'"),
    ],
)
def test_senseless_hyper_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_get_refuses_what_is_no_optimizer():
    with pytest.raises(TypeError, match=r"a name or one of softline\.optimizers; got 0\.9"):
        optimizers.get(0.9)


@pytest.mark.parametrize(
    "params",
    [
        {"optimizer": "lion"},
        {"optimizer": 0.9},
        {"l1_ratio": 1.5},
        {"l1_ratio": -0.1},
        {"label_smoothing": 1.0},
        {"clip_norm": 0},
        {"max_norm": -1.0},
    ],
)
def test_wrong_parameters_name_themselves(params):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter of SoftmaxClassifier must be"):
        SoftmaxClassifier(**params).fit(X, y)


# ---- learning_rate="auto" ---------------------------------------------------------------------------------


# Every optimizer at every scale, and one of each kind of automatic rate with full batches and single rows.
SCALES = "raw", "standardised", "huge", "tiny", "offset"
AT_SCALE = [(scale, name, 256) for scale in SCALES for name in optimizers.BY_NAME] + [
    (scale, name, batch_size)
    for scale in ("raw", "offset")
    for name in ("momentum", "adam", "adagrad", "asgd")
    for batch_size in (None, 1)
]


@pytest.mark.parametrize(("digits_at_scale", "name", "batch_size"), AT_SCALE, indirect=["digits_at_scale"])
def test_auto_learns_digits_at_any_scale(digits_at_scale, name, batch_size):
    X, X_test, y, y_test, alpha = digits_at_scale
    model = SoftmaxClassifier(optimizer=name, random_state=0, batch_size=batch_size, alpha=alpha)
    model.set_params(max_iter=10 if batch_size == 1 else 300)
    model.fit(X.astype(np.float32), y)
    assert model.score(X_test.astype(np.float32), y_test) >= 0.94
    assert max(model.loss_curve_) == model.loss_curve_[0] < np.log(10) + 1e-6


@pytest.mark.parametrize(
    ("load", "name"),
    [(load_wine, name) for name in optimizers.BY_NAME]
    + [(load, name) for load in (load_iris, load_breast_cancer) for name in ("momentum", "adam")],
)
def test_auto_learns_raw_tables(load, name):
    X, y = load(return_X_y=True)
    model = SoftmaxClassifier(optimizer=name, random_state=0, max_iter=500)
    assert cross_val_score(model, X, y).mean() > 0.945


@pytest.mark.parametrize(
    ("name", "form"), [(name, "uint8") for name in optimizers.BY_NAME] + [("adam", "standardised")]
)
def test_auto_learns_mnist(mnist, name, form):
    X, X_test = mnist.X_train[:20000], mnist.X_test
    if form == "standardised":
        scaler = StandardScaler().fit(X)
        X, X_test = (scaler.transform(part).astype(np.float32) for part in (X, X_test))
    model = SoftmaxClassifier(optimizer=name, random_state=0, max_iter=20).fit(X, mnist.y_train[:20000])
    assert model.score(X_test, mnist.y_test) >= 0.905
    assert max(model.loss_curve_) == model.loss_curve_[0] < np.log(10)


@pytest.mark.parametrize(
    ("name", "standardize"), [("sgd", False), ("adam", False), ("nesterov", True), ("adagrad", True)]
)
def test_auto_learns_cifar10(cifar10, name, standardize):
    model = SoftmaxClassifier(optimizer=name, random_state=0, max_iter=5, standardize=standardize)
    model.fit(cifar10.X_train, cifar10.y_train)
    assert model.score(cifar10.X_test, cifar10.y_test) >= 0.38
    assert max(model.loss_curve_) == model.loss_curve_[0] < np.log(10)


@pytest.mark.parametrize("name", ["momentum", "nesterov"])
def test_momentum_is_faster(digits, name):
    """What momentum is for: a full-batch descent gets further in as many steps."""
    X, _, y, _ = digits
    args = {"batch_size": None, "max_iter": 50, "tol": None}
    plain = SoftmaxClassifier(**args).fit(X, y)
    assert SoftmaxClassifier(optimizer=name, **args).fit(X, y).loss_curve_[-1] < 0.5 * plain.loss_curve_[-1]


def test_divergence_restores_the_state(digits):
    X, _, y, _ = digits
    model = SoftmaxClassifier(optimizer="momentum", learning_rate=1e3, alpha=1e3, random_state=0)
    with pytest.raises(DivergenceError, match=r"Up to .* is stable"):
        model.fit(X, y)
    assert np.isfinite(model.coef_).all() and np.isfinite(model._stream.states[0].W).all()
    with pytest.raises(DivergenceError, match=r"learning_rate=1e\+300 is too large.*A smaller one helps"):
        SoftmaxClassifier(optimizer="adam", learning_rate=1e300, alpha=1e300).fit(X, y)


@by_name
@pytest.mark.parametrize("listens", [False, True])
def test_interrupted_epochs_leave_no_trace(digits, name, monkeypatch, listens):
    """Neither one that is a call to the kernels, nor several that are."""
    X, _, y, _ = digits
    args = {"optimizer": name, "random_state": 0, "tol": None}
    epoch, calls = _kernels.epoch, []

    def interrupted(*args, **options):
        losses = epoch(*args, **options)
        calls.append(losses)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return losses

    monkeypatch.setattr(_kernels, "epoch", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        model = SoftmaxClassifier(max_iter=50, **args).fit(
            X, y, callback=(lambda _: None) if listens else None
        )
    monkeypatch.undo()
    assert model.n_iter_ == 3 if listens else 3 < model.n_iter_ < 50
    expected = SoftmaxClassifier(max_iter=model.n_iter_, **args).fit(X, y)
    assert same_bits(model, expected)
    assert model._stream.states[0].t == expected._stream.states[0].t
    assert np.array_equal(model._stream.states[0].W, expected._stream.states[0].W)
    assert np.array_equal(model._stream.states[0].b, expected._stream.states[0].b)


# ---- the same bits, and going on --------------------------------------------------------------------------


@by_name
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1, "max_norm": 0.5, "label_smoothing": 0.1}])
def test_threads_change_no_bit(name, options):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((1000, 300)), rng.integers(0, 7, 1000)
    models = [
        SoftmaxClassifier(
            optimizer=name, l1_ratio=0.5, random_state=0, max_iter=4, n_threads=n, **options
        ).fit(X, y)
        for n in (1, 2, 3, 7)
    ]
    assert all(same_bits(models[0], model) for model in models[1:])


@by_name
@pytest.mark.parametrize("pickled", [False, True])
def test_partial_fit_goes_on_where_it_was(digits, name, pickled):
    """Calls on the same rows are the epochs of one fit: the state lives on, in a pickle too."""
    X, _, y, _ = digits
    args = {"optimizer": name, "learning_rate": 0.01, "shuffle": False, "l1_ratio": 0.5}
    model = SoftmaxClassifier(**args)
    for _ in range(3):
        model.partial_fit(X, y, classes=range(10))
        if pickled:
            model = pickle.loads(pickle.dumps(model))
    assert same_bits(model, SoftmaxClassifier(max_iter=3, tol=None, **args).fit(X, y))
    model = SoftmaxClassifier(max_iter=2, tol=None, **args).fit(X, y)
    model.partial_fit(X, y)
    assert same_bits(model, SoftmaxClassifier(max_iter=3, tol=None, **args).fit(X, y))


@by_name
@pytest.mark.parametrize("standardize", [False, True])
def test_partial_fit_learns_a_stream(digits, name, standardize):
    X, X_test, y, y_test = digits
    model = SoftmaxClassifier(optimizer=name, random_state=0, standardize=standardize)
    order = np.argsort(X[:, 20], kind="stable")  # the first rows do not show the range of the features
    for _ in range(10):
        for first in range(0, len(X), 100):
            rows = order[first : first + 100]
            model.partial_fit(X[rows], y[rows], classes=np.arange(10))
    assert model.score(X_test, y_test) > 0.9


def test_another_optimizer_or_fit_starts_afresh(digits):
    X, _, y, _ = digits
    model = SoftmaxClassifier(optimizer="momentum", max_iter=3).fit(X, y)
    assert model._stream.states[0].t == 3 * 6
    model.set_params(optimizer="adam").partial_fit(X, y)
    assert model._stream.states[0].t == 6 and len(model._stream.states[0].W) == 2
    model.set_params(optimizer="rmsprop").partial_fit(X, y)
    model.set_params(optimizer="momentum").partial_fit(X, y)  # which remembers as much, but not the same
    assert model._stream.states[0].t == 6
    model.set_params(optimizer="adam").partial_fit(X, y)
    model.partial_fit(X.astype(np.float32), y)
    assert model._stream.states[0].t == 12 and model._stream.states[0].W.dtype == np.float32
    model.set_params(warm_start=True).fit(X, y)
    assert model._stream.states[0].t == 18


def test_asgd_is_the_mean_of_the_steps():
    X, y = load_iris(return_X_y=True)
    args = {"learning_rate": 0.01, "batch_size": None, "tol": None}
    steps = [SoftmaxClassifier(max_iter=n, **args).fit(X, y) for n in range(1, 9)]
    for t0 in (0, 5):
        model = SoftmaxClassifier(optimizer=optimizers.ASGD(t0=t0), max_iter=8, **args).fit(X, y)
        np.testing.assert_allclose(model.coef_, np.mean([s.coef_ for s in steps[t0:]], axis=0), rtol=1e-12)
        mean = np.mean([s.intercept_ for s in steps[t0:]], axis=0)
        np.testing.assert_allclose(model.intercept_, mean, rtol=1e-12)


def test_asgd_keeps_the_best_epoch(digits):
    X, X_test, y, y_test = digits
    model = SoftmaxClassifier(optimizer="asgd", early_stopping=True, max_iter=50, random_state=0)
    model.fit(X, y, eval_set=(X_test, y_test))
    assert model.score(X_test, y_test) == max(model.validation_scores_)


# ---- penalties --------------------------------------------------------------------------------------------


def objective(model, X, targets, alpha, l1_ratio, smoothing=0.0):
    targets = (1 - smoothing) * targets + smoothing / targets.shape[1]
    W = model.coef_
    penalty = alpha * ((1 - l1_ratio) / 2 * np.sum(W * W) + l1_ratio * np.sum(np.abs(W)))
    return -np.mean(np.sum(targets * model.predict_log_proba(X), axis=1)) + penalty


@cache
def saga(alpha, l1_ratio):
    """scikit-learn's optimum on standardised irises."""
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(
        solver="saga", l1_ratio=l1_ratio, C=1 / (alpha * len(X)), tol=1e-10, max_iter=100_000
    )
    return model.fit(StandardScaler().fit_transform(X), y)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5])
@by_name
def test_the_optimum_is_the_elastic_nets(name, l1_ratio):
    """The optimum of scikit-learn's saga, and where that has zeros, exact zeros: for momentum, too."""
    X, y = load_iris(return_X_y=True)
    X, alpha = StandardScaler().fit_transform(X), 0.03
    model = SoftmaxClassifier(
        optimizer=name, alpha=alpha, l1_ratio=l1_ratio, schedule="cosine", batch_size=None,
        max_iter=2000 if l1_ratio < 1 else 10_000 if name in ("sgd", "adagrad") else 3000,
        tol=None,
    ).fit(X, y)  # fmt: skip
    exact = saga(alpha, l1_ratio)
    best = objective(exact, X, np.eye(3)[y], alpha, l1_ratio)
    if name == "adamw" and l1_ratio < 1:  # its L2 part is not that of the loss
        assert model.loss_curve_[-1] < 1.5 * best
    else:
        assert model.loss_curve_[-1] == pytest.approx(best, rel=5e-3 if name == "asgd" else 1e-6)
    if name not in ("asgd", "adamw"):
        assert np.count_nonzero(exact.coef_ == 0) >= 3
        np.testing.assert_array_equal(model.coef_ == 0, exact.coef_ == 0)
        np.testing.assert_allclose(model.coef_, exact.coef_, atol=1e-3)


def test_the_loss_includes_penalty_and_smoothing(digits):
    X, _, y, _ = digits
    options = {"alpha": 0.01, "l1_ratio": 0.7, "label_smoothing": 0.2, "batch_size": None, "tol": None}
    model = SoftmaxClassifier(max_iter=5, **options).fit(X, y)
    longer = SoftmaxClassifier(max_iter=6, **options).fit(X, y)
    assert longer.loss_curve_[-1] == pytest.approx(objective(model, X, np.eye(10)[y], 0.01, 0.7, 0.2))


def test_the_bias_is_not_penalised():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxClassifier(alpha=1e3, l1_ratio=1.0, batch_size=None, max_iter=500).fit(X, y)
    assert not model.coef_.any()
    weight = np.where(y == 0, 8.0, 1.0)
    model.fit(X, y, sample_weight=weight)
    assert not model.coef_.any()
    np.testing.assert_allclose(model.predict_proba(X[:1]), [[0.8, 0.1, 0.1]], atol=0.01)


def test_adamw_decays_weights_directly():
    """With a loss that has no gradient, weights shrink by 1 - learning_rate alpha a step."""
    X, y = np.zeros((6, 2)), np.arange(6) % 3
    model = SoftmaxClassifier(
        optimizer="adamw", alpha=0.5, learning_rate=0.1, batch_size=None, warm_start=True
    )
    model.set_params(max_iter=10, tol=None).fit(X, y)
    model.coef_ = np.ones((3, 2))
    np.testing.assert_allclose(model.fit(X, y).coef_, 0.95**10, rtol=1e-12)


# ---- constraints ------------------------------------------------------------------------------------------


@by_name
@pytest.mark.parametrize("learning_rate", ["auto", 0.1])
def test_max_norm_holds(digits, name, learning_rate):
    X, X_test, y, y_test = digits
    X, X_test = X / 16, X_test / 16
    model = SoftmaxClassifier(optimizer=name, max_norm=1.5, learning_rate=learning_rate, random_state=0)
    model.fit(X, y)
    norms = np.linalg.norm(model.coef_, axis=1)
    assert 1.2 < norms.max() <= 1.5 * (1 + 1e-12)
    if learning_rate == "auto":
        assert model.score(X_test, y_test) > 0.85


def test_clip_norm_bounds_a_step(digits):
    X, _, y, _ = digits
    args = {"learning_rate": 1.0, "batch_size": None, "max_iter": 1, "alpha": 0.0}

    def step(**options):
        model = SoftmaxClassifier(**args, **options).fit(X, y)
        return np.column_stack([model.coef_, model.intercept_])

    free = step()
    norm = np.linalg.norm(free)
    np.testing.assert_allclose(step(clip_norm=norm / 4), free / 4, rtol=1e-5)
    np.testing.assert_allclose(step(clip_norm=norm * 4), free, rtol=1e-12)


@by_name
def test_clipped_descent_learns(digits, name):
    X, X_test, y, y_test = digits
    model = SoftmaxClassifier(optimizer=name, clip_norm=0.2, random_state=0, max_iter=200).fit(X, y)
    assert model.score(X_test, y_test) > 0.93


# ---- targets and label smoothing --------------------------------------------------------------------------


@by_name
def test_one_hot_targets_are_labels(digits, name):
    X, X_test, y, y_test = digits
    args = {"optimizer": name, "max_iter": 5, "random_state": 0, "label_smoothing": 0.1}
    hard = SoftmaxClassifier(**args).fit(X, y)
    for Y in (
        np.eye(10)[y],
        np.eye(10, dtype=int)[y],
        np.asfortranarray(np.eye(10)[y]),
        np.eye(10)[y].tolist(),
    ):
        soft = SoftmaxClassifier(**args).fit(X, Y, eval_set=(X_test, np.eye(10)[y_test]))
        np.testing.assert_allclose(soft.coef_, hard.coef_, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(soft.loss_curve_, hard.loss_curve_, rtol=1e-12)
        assert np.array_equal(soft.classes_, np.arange(10))
        assert (
            soft.validation_scores_[-1]
            == soft.score(X_test, y_test)
            == soft.score(X_test, np.eye(10)[y_test])
        )


def test_label_smoothing_is_smoothed_targets(digits):
    X, _, y, _ = digits
    args = {"max_iter": 5, "random_state": 0}
    smooth = SoftmaxClassifier(label_smoothing=0.3, **args).fit(X, y)
    targets = SoftmaxClassifier(**args).fit(X, 0.7 * np.eye(10)[y] + 0.03)
    np.testing.assert_allclose(smooth.coef_, targets.coef_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(smooth.loss_curve_, targets.loss_curve_, rtol=1e-12)


def test_targets_are_learned():
    """Probabilities that a model made are those that a model trained on them predicts."""
    X, y = load_iris(return_X_y=True)
    teacher = SoftmaxClassifier(alpha=0.01, batch_size=None, max_iter=500).fit(X, y)
    Y = teacher.predict_proba(X)
    student = SoftmaxClassifier(alpha=0, optimizer="nesterov", batch_size=None, max_iter=2000, tol=None)
    np.testing.assert_allclose(student.fit(X, Y).predict_proba(X), Y, atol=1e-3)
    entropy = -np.mean(np.sum(Y * np.log(Y), axis=1))
    assert student.loss_curve_[-1] == pytest.approx(entropy, rel=1e-3)


def test_targets_are_not_copied():
    X = np.random.default_rng(0).standard_normal((20_000, 3))
    Y = probabilities(20_000, 200)
    Y.flags.writeable = False
    tracemalloc.start()
    SoftmaxClassifier(max_iter=1, tol=None).fit(X, Y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Y.nbytes == 32e6 and peak < 8e6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_with_weights_and_held_out_rows(dtype):
    X, Y = load_iris().data.astype(dtype), probabilities(150, 3, np.float32)
    weight = np.random.RandomState(0).randint(0, 3, 150)
    args = {"batch_size": None, "max_iter": 20, "tol": None}
    weighted = SoftmaxClassifier(**args).fit(X, Y, sample_weight=weight)
    repeated = SoftmaxClassifier(**args).fit(X.repeat(weight, axis=0), Y.repeat(weight, axis=0))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-4, atol=1e-6)
    held_out = SoftmaxClassifier(early_stopping=True, random_state=0, max_iter=5).fit(X, Y)
    assert len(held_out.validation_scores_) == held_out.n_iter_


@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 3.0, 2: 0.5}])
def test_class_weights_of_targets(class_weight):
    X, y = load_iris(return_X_y=True)
    X, y = X[:120], y[:120]
    args = {"class_weight": class_weight, "max_iter": 10, "random_state": 0}
    hard = SoftmaxClassifier(**args).fit(X, y)
    soft = SoftmaxClassifier(**args).fit(X, np.eye(3)[y])
    np.testing.assert_allclose(soft.coef_, hard.coef_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("Y", "message"),
    [
        (np.full((150, 3), 0.5), "sum to 1 in each row, within 0.001; row 0 sums to 1.5"),
        (np.tile([1.5, -0.5, 0.0], (150, 1)), "must hold probabilities; row 0 has -0.5"),
        (np.full((150, 2), np.nan), "contains NaN"),
        (np.full((150, 2), "a"), r"y of shape \(150, 2\) must hold probabilities; its dtype is <U1"),
        (np.full((100, 2), 0.5), "inconsistent numbers of samples"),
    ],
)
def test_senseless_targets_are_refused(Y, message):
    X = load_iris().data
    with pytest.raises(ValueError, match=message):
        SoftmaxClassifier().fit(X, Y)


def test_partial_fit_of_targets(digits):
    X, _, y, _ = digits
    Y = 0.9 * np.eye(10)[y] + 0.01
    args = {"random_state": 0, "learning_rate": 0.01}
    model = SoftmaxClassifier(**args).partial_fit(X, Y)
    assert same_bits(model, SoftmaxClassifier(max_iter=1, **args).fit(X, Y))
    model.partial_fit(X, y)
    named = SoftmaxClassifier(**args).partial_fit(X, Y, classes=list("abcdefghij"))
    assert list(named.classes_) == list("abcdefghij") and named.score(X, Y) > 0.5
    for call in (lambda: model.partial_fit(X, Y[:, :9] / Y[:, :9].sum(axis=1, keepdims=True)),
                 lambda: model.score(X, Y[:, :9])):  # fmt: skip
        with pytest.raises(ValueError, match="y has 9 columns; the classes are"):
            call()


# ---- class_weight="balanced" in a stream ------------------------------------------------------------------


def test_balanced_partial_fit_is_an_epoch_of_balanced_fit():
    X, y = load_iris(return_X_y=True)
    X, y = X[:110], y[:110]
    args = {"class_weight": "balanced", "random_state": 0}
    one = SoftmaxClassifier(**args, learning_rate=0.01, max_iter=1).fit(X, y)
    stream = SoftmaxClassifier(**args, learning_rate=0.01).partial_fit(X, y, classes=[0, 1, 2])
    np.testing.assert_allclose(stream.coef_, one.coef_, rtol=1e-9)


def test_balanced_weights_come_from_all_rows_so_far():
    """Row by row: each weighs n / (classes seen * count of its class), of all rows up to it."""
    X, y = np.array([[1.0, 2], [2, 1], [3, 0], [0, 4]]), np.array([0, 0, 0, 1])
    model = SoftmaxClassifier(class_weight="balanced", learning_rate=0.1, alpha=0)
    W, b, counts = np.zeros((2, 2)), np.zeros(2), np.zeros(2)
    for x, label in zip(X, y, strict=True):
        model.partial_fit([x], [label], classes=[0, 1])
        counts[label] += 1
        weight = counts.sum() / np.count_nonzero(counts) / counts[label]
        p = np.exp(W @ x + b)
        step = 0.1 * weight * (p / p.sum() - np.eye(2)[label])
        W, b = W - np.outer(step, x), b - step
    assert weight == 2
    np.testing.assert_allclose(model.coef_, W, rtol=1e-9)
    np.testing.assert_allclose(model.intercept_, b, rtol=1e-9)


def test_balanced_stream_of_single_rows_balances():
    rng = np.random.default_rng(0)
    y = (rng.random(2000) < 0.05).astype(int)
    X = rng.standard_normal((2000, 3)) + y[:, None]
    recall = {}
    for class_weight in (None, "balanced"):
        model = SoftmaxClassifier(class_weight=class_weight, learning_rate=0.02)
        for x, label in zip(X, y, strict=True):
            model.partial_fit([x], [label], classes=[0, 1])
        recall[class_weight] = np.mean(model.predict(X[y == 1]) == 1)
    assert recall[None] < 0.5 < 0.7 < recall["balanced"]


def test_weights_of_a_stream_count_relative_to_their_mean():
    X, y = load_iris(return_X_y=True)
    args = {"learning_rate": 0.01, "shuffle": False}
    weight = np.where(np.arange(150) < 75, 1.0, 3.0)
    model = SoftmaxClassifier(**args)
    for rows in (slice(0, 75), slice(75, 150)):
        model.partial_fit(X[rows], y[rows], classes=[0, 1, 2], sample_weight=weight[rows])
    expected = SoftmaxClassifier(**args).partial_fit(X[:75], y[:75], classes=[0, 1, 2])
    expected.set_params(learning_rate=0.015, alpha=1e-4 / 1.5).partial_fit(
        X[75:], y[75:]
    )  # 3 over the mean, 2
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
