import pickle
import warnings

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn import neural_network as sklearn_neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from softline import SoftmaxClassifier, datasets, load_model, optimizers, reference, save_model, schedules
from softline.export import to_sklearn
from softline.gradient_check import check_gradient
from softline.neural_network import DivergenceError, MLPClassifier

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:The number of unique classes"),
]

X, Y = load_digits(return_X_y=True)
X /= 16
SMALL_X, SMALL_Y = X[:300], Y[:300]
LABELS = {"three": Y % 3, "two": Y % 2, "several": np.stack([Y % 2, Y > 4, Y == 3], axis=1).astype(int)}


def weights_of(model):
    return [*model.coefs_, *model.intercepts_]


def same_bits(a, b):
    return all(p.tobytes() == q.tobytes() for p, q in zip(weights_of(a), weights_of(b), strict=True))


def small(**params):
    return MLPClassifier(**{"hidden_layer_sizes": (20,), "max_iter": 3, "random_state": 0, **params})


@parametrize_with_checks(
    [MLPClassifier(max_iter=100), MLPClassifier((), solver="sgd", learning_rate_init=0.1, max_iter=50)]
)
def test_check_estimator(estimator, check):
    check(estimator)


def test_signature_and_defaults_are_scikit_learns():
    ours, theirs = MLPClassifier().get_params(), sklearn_neural_network.MLPClassifier().get_params()
    assert {name: ours[name] for name in theirs} == theirs
    own = {"init", "dropout", "standardize", "n_threads"}
    as_linear = {"l1_ratio", "class_weight", "label_smoothing", "clip_norm", "max_norm"}
    assert set(ours) - set(theirs) == own | as_linear
    linear = SoftmaxClassifier().get_params()
    assert {name: ours[name] for name in as_linear} == {name: linear[name] for name in as_linear}
    changed = MLPClassifier(l1_ratio=0.5, class_weight={0: 2}, label_smoothing=0.1, clip_norm=1, max_norm=2)
    assert clone(changed).get_params() == changed.get_params()


# ---- the same steps as scikit-learn ----------------------------------------------------------------------


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"solver": "sgd", "learning_rate_init": 0.1},
        {
            "solver": "sgd",
            "nesterovs_momentum": False,
            "learning_rate": "invscaling",
            "learning_rate_init": 0.5,
        },
        {
            "solver": "sgd",
            "learning_rate": "adaptive",
            "learning_rate_init": 0.5,
            "tol": 0.05,
            "n_iter_no_change": 1,
        },
        {"solver": "sgd", "momentum": 1, "learning_rate_init": 1e-3},
        {"solver": "lbfgs"},
        {"hidden_layer_sizes": (30, 20), "activation": "tanh", "alpha": 1},
        {"hidden_layer_sizes": 7, "activation": "logistic", "batch_size": 32, "alpha": 0},
        {"hidden_layer_sizes": (9,), "activation": "identity", "shuffle": False},
        {"early_stopping": True, "n_iter_no_change": 2, "tol": 0.02},
    ],
    ids=lambda params: ",".join(f"{name}={value}" for name, value in params.items()) or "default",
)
def test_equals_scikit_learn(params, labels):
    """From the same seed: initial weights, batches, held-out rows, steps, losses and when to stop."""
    rows, y = X[:900], LABELS[labels][:900]
    common = {"max_iter": 6, "random_state": 3, **params}
    theirs = sklearn_neural_network.MLPClassifier(**common).fit(rows, y)
    ours = MLPClassifier(**common).fit(rows, y)
    for a, b in zip(weights_of(ours), weights_of(theirs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=1e-10)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-10)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    for name in ("n_iter_", "n_layers_", "n_outputs_", "out_activation_", "t_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    if params.get("solver") != "lbfgs":
        # Ours adds the penalty of the weights that an epoch began with, scikit-learn's that of each batch.
        tolerance = {0: 1e-10, 1: 1e-2}.get(params.get("alpha"), 1e-3)
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance)
        assert ours.validation_scores_ == theirs.validation_scores_
        assert (ours.best_loss_ is None) == (theirs.best_loss_ is None)
        assert ours.best_validation_score_ == theirs.best_validation_score_
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-2)


def test_sample_weights_and_float32_equal_scikit_learns():
    weight = 0.5 + np.random.default_rng(0).random(len(X))
    common = {"max_iter": 5, "random_state": 3}
    theirs = sklearn_neural_network.MLPClassifier(**common)
    try:
        theirs.fit(X.astype(np.float32), Y, sample_weight=weight)
    except TypeError:
        pytest.skip("scikit-learn's takes sample weights since 1.7")
    ours = MLPClassifier(**common).fit(X.astype(np.float32), Y, sample_weight=weight)
    for a, b in zip(weights_of(ours), weights_of(theirs), strict=True):
        assert a.dtype == b.dtype == np.float32
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)


def test_partial_fit_after_fit_equals_scikit_learns():
    models = (
        MLPClassifier(random_state=1, max_iter=2),
        sklearn_neural_network.MLPClassifier(random_state=1, max_iter=2),
    )
    for model in models:
        model.fit(SMALL_X, SMALL_Y).partial_fit(SMALL_X, SMALL_Y)
    for a, b in zip(*map(weights_of, models), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_partial_fit_equals_scikit_learns():
    models = MLPClassifier(random_state=1), sklearn_neural_network.MLPClassifier(random_state=1)
    for model in models:
        for first in range(0, 900, 300):
            rows = slice(first, first + 300)
            model.partial_fit(X[rows], Y[rows], classes=np.arange(10) if first == 0 else None)
    for a, b in zip(*map(weights_of, models), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    assert models[0].t_ == models[1].t_ == 900


# ---- what the linear classifier has, too -----------------------------------------------------------------

WEIGHT = 0.5 + np.random.default_rng(0).random(len(SMALL_X))
TARGETS = np.random.default_rng(1).dirichlet(np.full(10, 0.3), len(SMALL_X))


def by_reference(start, y, weight, rule, *, alpha=1e-4, l1_ratio=0.0, batch_size=128, epochs=2, **options):
    """Layers after epochs of the NumPy twin, from those of a model; the penalty is that of each batch."""
    layers = [(coef.T.copy(), b.copy()) for coef, b in zip(start.coefs_, start.intercepts_, strict=True)]
    states = [optimizers.State(rule, W) for W, _ in layers]
    for _ in range(epochs):
        for first in range(0, len(SMALL_X), batch_size):
            rows = np.arange(len(SMALL_X))[first : first + batch_size]
            penalty = alpha / weight[rows].sum()
            reference.epoch(
                SMALL_X,
                y,
                weight,
                rows,
                layers,
                np.array([0.05]),
                batch_size,
                np.array([penalty * (1 - l1_ratio)]),
                np.array([1 / weight[rows].sum()]),
                optimizer=rule,
                states=states,
                l1s=np.array([penalty * l1_ratio]),
                **options,
            )
    return [W.T for W, _ in layers] + [b for _, b in layers]


@pytest.mark.parametrize("solver", ["momentum", "adam"])
@pytest.mark.parametrize(
    "params",
    [
        {"l1_ratio": 0.4, "alpha": 2},
        {"clip_norm": 0.3},
        {"max_norm": 0.8},
        {"label_smoothing": 0.2},
        {"l1_ratio": 1, "alpha": 0.5, "clip_norm": 1, "max_norm": 1, "label_smoothing": 0.1},
    ],
    ids=lambda params: ",".join(params),
)
@pytest.mark.parametrize("y", [SMALL_Y.astype(np.int32), TARGETS], ids=["labels", "targets"])
def test_steps_equal_the_reference(y, params, solver):
    common = {"batch_size": 128, "max_iter": 2, "shuffle": False, "tol": None, "solver": solver}
    still = small(**common, learning_rate_init=1e-300).fit(SMALL_X, y)
    model = small(**common, **params, learning_rate_init=0.05).fit(SMALL_X, y, sample_weight=WEIGHT)
    rule = optimizers.Momentum(0.9) if solver == "momentum" else optimizers.Adam(eps_hat=True)
    expected = by_reference(still, y, WEIGHT, rule, **params)
    plain = by_reference(still, y, WEIGHT, rule)
    for a, b in zip(weights_of(model), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(expected, plain, strict=True))
    watched = small(**common, **params, learning_rate_init=0.05)
    watched.fit(SMALL_X, y, sample_weight=WEIGHT, batch_callback=lambda batch: False)
    assert same_bits(watched, model)


def test_l1_leaves_zeros_and_is_in_the_loss():
    model = small(l1_ratio=1, alpha=20, max_iter=30, tol=None, batch_size=None).fit(SMALL_X, SMALL_Y)
    assert 0.1 < np.mean(model.coefs_[0] == 0) < 1
    penalty = 20 / 300 * sum(np.abs(coef).sum() for coef in model.coefs_)
    losses = -np.log(model.predict_proba(SMALL_X)[np.arange(300), SMALL_Y])
    model.set_params(warm_start=True, max_iter=1).fit(SMALL_X, SMALL_Y)
    assert model.loss_ == pytest.approx(losses.mean() + penalty)


@pytest.mark.parametrize("solver", ["adam", "asgd"])
def test_max_norm_holds_for_each_unit(solver):
    model = small(max_norm=0.5, solver=solver, learning_rate_init=0.1).fit(SMALL_X, SMALL_Y)
    for coef in model.coefs_:
        norms = np.linalg.norm(coef, axis=0)
        assert norms.max() <= 0.5 + 1e-9
    free = small(solver=solver, learning_rate_init=0.1).fit(SMALL_X, SMALL_Y)
    assert np.linalg.norm(free.coefs_[1], axis=0).max() > 0.5


def test_clipped_gradients_limit_the_step():
    still, moved = (
        small(hidden_layer_sizes=(20, 9), solver=optimizers.SGD(), batch_size=None, max_iter=1, alpha=0)
        .set_params(learning_rate_init=rate, clip_norm=0.01)
        .fit(SMALL_X, SMALL_Y)
        for rate in (1e-300, 1.0)
    )
    steps = [a - b for a, b in zip(weights_of(moved), weights_of(still), strict=True)]
    assert np.sqrt(sum(np.sum(step**2) for step in steps)) == pytest.approx(0.01, rel=1e-5)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("y", [SMALL_Y % 3, SMALL_Y % 2, np.array(["a", "b", "c"])[SMALL_Y % 3]])
def test_class_weights_are_sample_weights(y, solver):
    classes, codes = np.unique(y, return_inverse=True)
    balanced = (WEIGHT.sum() / len(classes) / np.bincount(codes, weights=WEIGHT))[codes]
    for class_weight, of_rows in (
        ("balanced", balanced),
        ({classes[0]: 3, classes[1]: 0.5}, np.array([3, 0.5, 1])[codes]),
    ):
        ours = small(class_weight=class_weight, solver=solver).fit(SMALL_X, y, sample_weight=WEIGHT)
        theirs = small(solver=solver).fit(SMALL_X, y, sample_weight=WEIGHT * of_rows)
        for a, b in zip(weights_of(ours), weights_of(theirs), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-9)


def test_balanced_weights_of_a_stream_count_all_its_rows():
    stream, whole = (small(class_weight="balanced", shuffle=False, alpha=0) for _ in range(2))
    first, second = np.flatnonzero(SMALL_Y < 7)[:100], np.flatnonzero(SMALL_Y > 5)[:60]
    for rows in (first, second):
        stream.partial_fit(SMALL_X[rows], SMALL_Y[rows], classes=np.arange(10))
    counts = np.bincount(SMALL_Y[first], minlength=10)
    whole.set_params(class_weight=None).partial_fit(
        SMALL_X[first], SMALL_Y[first], 1 / counts[SMALL_Y[first]], np.arange(10)
    )
    counts += np.bincount(SMALL_Y[second], minlength=10)
    whole.partial_fit(SMALL_X[second], SMALL_Y[second], 1 / counts[SMALL_Y[second]])
    for a, b in zip(weights_of(stream), weights_of(whole), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_targets_of_one_class_a_row_are_labels(params):
    """0 and 1 of any dtype are several labels a row, as in scikit-learn: so these are smoothed."""
    by_labels = small(label_smoothing=0.1, **params).fit(SMALL_X, SMALL_Y)
    by_targets = small(**params).fit(SMALL_X, 0.9 * np.eye(10)[SMALL_Y] + 0.01)
    assert by_targets.out_activation_ == "softmax" and by_targets.n_outputs_ == 10
    for a, b in zip(weights_of(by_targets), weights_of(by_labels), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert by_targets.score(X, 0.9 * np.eye(10)[Y] + 0.01) == by_targets.score(X, Y) == by_labels.score(X, Y)
    if by_labels.validation_scores_:
        assert by_targets.validation_scores_ == by_labels.validation_scores_
    if params.get("solver") != "lbfgs":
        for model, y in ((by_labels, SMALL_Y), (by_targets, 0.9 * np.eye(10)[SMALL_Y] + 0.01)):
            model.set_params(early_stopping=False).partial_fit(SMALL_X, y)
        np.testing.assert_allclose(by_targets.coefs_[0], by_labels.coefs_[0], atol=1e-9)


@pytest.mark.parametrize("dtype", [float, np.float32, int, bool])
def test_0_and_1_of_any_dtype_are_several_labels_a_row(dtype):
    y = LABELS["several"][:300]
    expected, model = small().fit(SMALL_X, y), small().fit(SMALL_X, y.astype(dtype))
    assert same_bits(model, expected)
    assert model.score(SMALL_X, y.astype(dtype)) == expected.score(SMALL_X, y)
    assert same_bits(model.partial_fit(SMALL_X, y.astype(dtype)), expected.partial_fit(SMALL_X, y))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_two_classes_with_smoothing_or_targets_have_two_outputs(solver, tmp_path):
    y = SMALL_Y % 2
    smoothed = small(label_smoothing=0.2, solver=solver).fit(SMALL_X, y)
    targets = small(solver=solver).fit(SMALL_X, 0.8 * np.eye(2)[y] + 0.1)
    for model in (smoothed, targets):
        assert model.n_outputs_ == 2 and model.out_activation_ == "softmax"
        log_odds = np.log(model.predict_proba(X)[:, 1] / model.predict_proba(X)[:, 0])
        np.testing.assert_allclose(model.decision_function(X), log_odds, atol=1e-9)
        assert np.array_equal(model.predict(X), (log_odds > 0).astype(int))
        np.testing.assert_allclose(to_sklearn(model).predict_proba(X), model.predict_proba(X), atol=1e-12)
        assert np.array_equal(to_sklearn(model).predict(X), model.predict(X))
        save_model(model, tmp_path / "model.safetensors")
        assert same_bits(load_model(tmp_path / "model.safetensors"), model)
    for a, b in zip(weights_of(smoothed), weights_of(targets), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    for params, y_again in (({"label_smoothing": 0.1}, y), ({}, 0.9 * np.eye(2)[y] + 0.05)):
        plain = small(warm_start=True).fit(SMALL_X, y).set_params(**params)
        with pytest.raises(ValueError, match="need an output for each class"):
            plain.fit(SMALL_X, y_again)
    one = np.zeros(300)
    assert same_bits(small(label_smoothing=0.5).fit(SMALL_X, one), small().fit(SMALL_X, one))


@pytest.mark.parametrize(
    "params", [{"l1_ratio": 0.5, "alpha": 3}, {"label_smoothing": 0.3, "class_weight": "balanced"}], ids=str
)
@pytest.mark.parametrize("y", [SMALL_Y, SMALL_Y % 2, TARGETS], ids=["labels", "two", "targets"])
def test_gradients_of_what_the_linear_classifier_has(y, params):
    assert check_gradient(small(**params), SMALL_X, y, random_state=0).passed
    fitted = small(**params).fit(SMALL_X.astype(np.float32), y)
    assert check_gradient(fitted, SMALL_X.astype(np.float32), y, random_state=0).passed


def test_model_files_hold_the_parameters(tmp_path):
    params = {"l1_ratio": 0.2, "clip_norm": 2.0, "max_norm": 3.0, "label_smoothing": 0.1}
    model = small(**params, class_weight={0: 2.0, 1: 0.5}).fit(SMALL_X, SMALL_Y)
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert {**loaded.get_params(), "hidden_layer_sizes": (20,)} == model.get_params()
    assert same_bits(loaded, model)


@pytest.mark.parametrize(
    ("params", "y", "message"),
    [
        ({"solver": "lbfgs", "l1_ratio": 0.5}, SMALL_Y, "l1_ratio needs another solver"),
        ({"solver": "lbfgs", "clip_norm": 1}, SMALL_Y, "clip_norm needs another solver"),
        ({"solver": "lbfgs", "max_norm": 1}, SMALL_Y, "max_norm needs another solver"),
        ({"class_weight": "balanced"}, LABELS["several"][:300], "class_weight is for one label a row"),
        ({"label_smoothing": 0.1}, LABELS["several"][:300], "label_smoothing is for one label a row"),
        ({}, LABELS["several"][:300] * 0.7, "must hold probabilities that sum to 1"),
        ({"class_weight": {0: -1}}, SMALL_Y, "class_weight must hold finite numbers of at least 0"),
        ({"class_weight": {12: 1}}, SMALL_Y, "labels that are not among the classes"),
        ({"l1_ratio": 1.5}, SMALL_Y, "'l1_ratio' parameter"),
        ({"label_smoothing": 1.0}, SMALL_Y, "'label_smoothing' parameter"),
        ({"clip_norm": 0}, SMALL_Y, "'clip_norm' parameter"),
        ({"max_norm": 0}, SMALL_Y, "'max_norm' parameter"),
    ],
)
def test_what_networks_refuse(params, y, message):
    with pytest.raises(ValueError, match=message):
        small(**params).fit(SMALL_X, y)


def test_sparse_rows_take_no_targets():
    for fit in (small().fit, small().partial_fit):
        with pytest.raises(ValueError, match="floats, which are probabilities, is softline's own"):
            fit(csr_array(SMALL_X), TARGETS)
    with pytest.raises(ValueError, match=r"max_norm=1 is softline's own"):
        small(max_norm=1).fit(csr_array(SMALL_X), SMALL_Y)


# ---- learning --------------------------------------------------------------------------------------------


def linear_fall(epoch, max_iter):
    return 1 - epoch / max_iter


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "sgd", "learning_rate_init": 0.1},
        *({"solver": name, "learning_rate_init": 0.05} for name in ("momentum", "nesterov", "adagrad")),
        *({"solver": name, "learning_rate_init": 0.003} for name in ("adam", "adamw", "rmsprop")),
        {"solver": optimizers.ASGD(t0=50), "learning_rate_init": 0.5},
        {"solver": optimizers.Momentum(0.5), "learning_rate_init": 0.1},
        {"activation": "leaky_relu", "init": "he"},
        {"hidden_layer_sizes": (64, 32, 16), "init": "he", "learning_rate_init": 0.003},
        {"dropout": 0.2},
        {"learning_rate": "cosine", "learning_rate_init": 0.005},
        {"learning_rate": schedules.WarmUp(2), "learning_rate_init": 0.005},
        {"learning_rate": linear_fall, "learning_rate_init": 0.005},
        {"batch_size": None, "solver": "momentum", "learning_rate_init": 0.5, "max_iter": 200},
    ],
    ids=lambda params: str(params).replace(str(linear_fall), "linear_fall"),
)
def test_learns_digits(digits, params):
    X, X_test, y, y_test = digits
    model = MLPClassifier(**{"max_iter": 25, "standardize": True, "random_state": 0, **params}).fit(X, y)
    assert model.score(X_test, y_test) >= 0.95
    assert model.loss_curve_[-1] < 0.5 * model.loss_curve_[0]


def test_cifar10_beyond_a_linear_classifier(cifar10_dir):
    """Half of the test images in a few epochs, from the bytes; the linear classifier reaches about 40 %."""
    data = datasets.load("cifar10", data_dir=cifar10_dir)
    model = MLPClassifier(
        solver="sgd",
        learning_rate_init=0.02,
        learning_rate="cosine",
        batch_size=256,
        max_iter=5,
        tol=None,
        standardize=True,
        random_state=0,
    ).fit(data.X_train, data.y_train)
    assert model.score(data.X_test, data.y_test) > 0.5


def test_no_hidden_layer_is_the_linear_classifier():
    """A softmax over W x + b, with this alpha over the batch."""
    model = MLPClassifier((), solver="lbfgs", alpha=0.1 * len(X), max_iter=500, tol=1e-6).fit(X, Y)
    linear = SoftmaxClassifier(solver="lbfgs", alpha=0.1, tol=1e-6).fit(X, Y)
    np.testing.assert_allclose(model.coefs_[0].T, linear.coef_, atol=1e-3)
    np.testing.assert_allclose(model.predict_proba(X), linear.predict_proba(X), atol=1e-3)


def test_a_stack_of_layers_without_activation_is_a_linear_classifier():
    """However many: scores are (x W1 + b1) W2 + b2 = x (W1 W2) + (b1 W2 + b2)."""
    model = MLPClassifier((30, 20), activation="identity", max_iter=10, random_state=0).fit(X, Y)
    W, b = np.eye(X.shape[1]), np.zeros(X.shape[1])
    for coef, intercept in zip(model.coefs_, model.intercepts_, strict=True):
        W, b = W @ coef, b @ coef + intercept
    np.testing.assert_allclose(model.decision_function(X), X @ W + b, atol=1e-11)
    deep = MLPClassifier((30, 20), max_iter=10, random_state=0).fit(X, Y)
    inputs, scores = np.column_stack([np.ones(len(X)), X]), deep.decision_function(X)
    best = inputs @ np.linalg.lstsq(inputs, scores, rcond=None)[0]
    assert np.abs(best - scores).max() > 0.1  # with relu, no W and b give its scores


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float16, np.float32, np.float64])
def test_rows_in_their_own_dtype(dtype):
    rows = (16 * SMALL_X).astype(dtype)
    model = small(standardize=True).fit(rows, SMALL_Y)
    assert model.coefs_[0].dtype == (np.float64 if dtype == np.float64 else np.float32)
    wide = small(standardize=True).fit(rows.astype(np.float64), SMALL_Y)
    np.testing.assert_allclose(model.predict_proba(rows), wide.predict_proba(rows), atol=1e-3)
    strided = np.repeat(rows, 2, axis=1)[:, ::2]
    assert same_bits(model, small(standardize=True).fit(strided, SMALL_Y))


def test_standardize_is_a_pipeline_with_a_scaler():
    rows = 100 + 7 * SMALL_X
    inside = small(standardize=True, alpha=1).fit(rows, SMALL_Y)
    outside = make_pipeline(StandardScaler(), small(alpha=1)).fit(rows, SMALL_Y)
    np.testing.assert_allclose(inside.predict_proba(rows), outside.predict_proba(rows), atol=1e-9)
    again = clone(inside).set_params(warm_start=True, max_iter=2).fit(rows, SMALL_Y).fit(rows, SMALL_Y)
    chained = make_pipeline(StandardScaler(), small(alpha=1, warm_start=True, max_iter=2))
    chained.fit(rows, SMALL_Y).fit(rows, SMALL_Y)
    np.testing.assert_allclose(again.predict_proba(rows), chained.predict_proba(rows), atol=1e-9)


# ---- determinism -----------------------------------------------------------------------------------------


AS_LINEAR = {"l1_ratio": 0.5, "alpha": 1, "clip_norm": 1, "max_norm": 1, "label_smoothing": 0.1}


@pytest.mark.parametrize(
    "params", [{}, {"dropout": 0.5}, {"solver": "lbfgs"}, {"early_stopping": True}, AS_LINEAR], ids=str
)
def test_any_number_of_threads_gives_the_same_bits(params):
    models = [small(n_threads=n, **params).fit(X, Y) for n in (1, 2, 5, None)]
    assert all(same_bits(model, models[0]) for model in models)
    assert all(model.loss_curve_ == models[0].loss_curve_ for model in models)
    probabilities = {
        model.set_params(n_threads=n).predict_proba(X).tobytes() for n in (1, 3) for model in models
    }
    assert len(probabilities) == 1


def test_dropout_is_drawn_anew_for_each_seed_and_absent_in_prediction():
    one, two = (small(dropout=0.5, random_state=seed).fit(SMALL_X, SMALL_Y) for seed in (0, 1))
    assert not same_bits(one, two)
    assert same_bits(one, small(dropout=0.5).fit(SMALL_X, SMALL_Y))
    assert one.predict_proba(SMALL_X).tobytes() == one.predict_proba(SMALL_X).tobytes()


def test_initial_weights():
    many = MLPClassifier((2000,), init="he", max_iter=1, learning_rate_init=1e-12, random_state=0).fit(X, Y)
    assert many.coefs_[0].std() == pytest.approx(np.sqrt(2 / 64), rel=0.02)
    assert many.coefs_[1].std() == pytest.approx(np.sqrt(2 / 2000), rel=0.02)
    assert np.abs(many.intercepts_[0]).max() < 1e-6
    bound = np.sqrt(6 / 2064)
    many.set_params(init="xavier").fit(X, Y)
    assert 0.99 * bound < np.abs(many.coefs_[0]).max() <= bound + 1e-6
    assert many.coefs_[0].std() == pytest.approx(bound / np.sqrt(3), rel=0.02)


# ---- the course of a fit ---------------------------------------------------------------------------------


def test_early_stopping_keeps_the_best_epoch():
    scores = []
    model = small(max_iter=30, early_stopping=True, n_iter_no_change=3, learning_rate_init=0.02)
    held_out = X[300:500], Y[300:500]
    model.fit(SMALL_X, SMALL_Y, eval_set=held_out, callback=lambda e: scores.append(e.validation_score))
    assert model.validation_scores_ == scores
    assert model.score(*held_out) == max(scores) == model.best_validation_score_
    assert model.best_loss_ is None


def test_warm_starts_keep_the_best_weights_of_all_fits():
    """Also where a later fit never beats the earlier best; and on whatever rows are validated on now."""
    rows, held_out, y, y_held_out = train_test_split(X, Y, test_size=0.3, random_state=0)
    model = small(warm_start=True, early_stopping=True, learning_rate_init=0.02, max_iter=15)
    model.set_params(n_iter_no_change=3)
    scores, never_better = [], False
    for _ in range(6):
        before = model.best_validation_score_ if scores else 0
        model.fit(rows, y, eval_set=(held_out, y_held_out))
        scores = model.validation_scores_
        never_better |= model.best_validation_score_ == before
        assert model.score(held_out, y_held_out) == model.best_validation_score_ == max(scores)
    assert never_better
    model.fit(rows, y, eval_set=(held_out[:50], y_held_out[:50]))
    assert model.score(held_out[:50], y_held_out[:50]) == model.best_validation_score_


def test_lbfgs_does_not_stop_early():
    """As in scikit-learn: the parameter has no effect."""
    plain, stopping = (
        small(solver="lbfgs", early_stopping=early_stopping).fit(SMALL_X, SMALL_Y)
        for early_stopping in (False, True)
    )
    assert same_bits(plain, stopping) and stopping.validation_scores_ is None
    stopping.fit(SMALL_X, SMALL_Y, eval_set=(X[300:], Y[300:]))
    assert same_bits(plain, stopping) and len(stopping.validation_scores_) == 3


def test_lbfgs_has_no_partial_fit():
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    assert hasattr(MLPClassifier(solver="adamw"), "partial_fit")
    with pytest.raises(AttributeError, match="partial_fit"):
        MLPClassifier(solver="lbfgs").partial_fit(SMALL_X, SMALL_Y)


def test_callbacks_see_the_model_and_can_stop():
    seen = []

    def after_epoch(epoch):
        seen.append((epoch.epoch, epoch.loss, epoch.model.score(SMALL_X, SMALL_Y)))
        return epoch.epoch == 2

    model = small(max_iter=10).fit(SMALL_X, SMALL_Y, callback=after_epoch)
    assert [epoch for epoch, *_ in seen] == [1, 2]
    assert model.n_iter_ == 2
    assert model.loss_curve_ == [loss for _, loss, _ in seen]
    assert model.score(SMALL_X, SMALL_Y) == seen[-1][2]


@pytest.mark.parametrize("params", [{}, {"dropout": 0.3}], ids=str)
def test_batch_callbacks_change_no_bit(params):
    batches = []
    watched = small(batch_size=64, **params).fit(
        SMALL_X, SMALL_Y, batch_callback=lambda b: batches.append(b.batch)
    )
    assert batches == [1, 2, 3, 4, 5] * 3
    assert same_bits(watched, small(batch_size=64, **params).fit(SMALL_X, SMALL_Y))
    stopped = small(batch_size=64).fit(SMALL_X, SMALL_Y, batch_callback=lambda b: b.batch == 2)
    assert stopped.n_iter_ == 1


def test_interrupt_keeps_the_weights():
    def interrupt(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        model = small(max_iter=9).fit(SMALL_X, SMALL_Y, callback=interrupt)
    assert same_bits(model, small(max_iter=2, tol=None).fit(SMALL_X, SMALL_Y))


@pytest.mark.parametrize(
    "params", [{"solver": "sgd", "learning_rate_init": 1e9}, {"solver": "lbfgs"}], ids=str
)
def test_divergence_keeps_finite_weights(params):
    rows = SMALL_X * (1e300 if params["solver"] == "lbfgs" else 1)
    model = small(max_iter=50, activation="identity", hidden_layer_sizes=(5, 5), **params)
    with pytest.raises(DivergenceError, match="standardize=True"), np.errstate(all="ignore"):
        model.fit(rows, SMALL_Y)
    assert all(np.isfinite(a).all() for a in weights_of(model))


def test_what_divergence_leaves_can_go_on():
    """Weights that were drawn for standardised rows act on raw ones once a fit has ended, however it did."""
    rows = 100 + 7 * SMALL_X
    common = {"solver": "sgd", "standardize": True, "warm_start": True, "max_iter": 1, "tol": None}
    model, right = small(learning_rate_init=1e200, **common), small(learning_rate_init=0.1, **common)
    with pytest.raises(DivergenceError), np.errstate(all="ignore"):
        model.fit(rows, SMALL_Y)
    model.set_params(learning_rate_init=0.1, shuffle=False).fit(rows, SMALL_Y)
    right.set_params(shuffle=False).fit(rows, SMALL_Y)
    np.testing.assert_allclose(model.predict_proba(rows), right.predict_proba(rows), atol=1e-9)


def test_warnings_and_their_absence():
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        small().fit(SMALL_X, SMALL_Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = small(tol=None).fit(SMALL_X, SMALL_Y)
        small(max_iter=500, tol=0.1, n_iter_no_change=1).fit(SMALL_X, SMALL_Y)
    assert model.n_iter_ == 3


def test_warm_start_goes_on():
    model = small(warm_start=True).fit(SMALL_X, SMALL_Y)
    before = model.score(SMALL_X, SMALL_Y)
    for _ in range(5):
        model.fit(SMALL_X, SMALL_Y)
    assert len(model.loss_curve_) == 18
    assert model.t_ == 18 * 300
    assert model.score(SMALL_X, SMALL_Y) > before
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"):
        model.fit(SMALL_X, SMALL_Y % 3)


def test_partial_fit_learns_from_a_stream():
    model = MLPClassifier((50,), standardize=True, random_state=0, batch_size=50, learning_rate_init=0.003)
    for _ in range(5):
        for first in range(0, len(X), 300):
            model.partial_fit(X[first : first + 300], Y[first : first + 300], classes=np.arange(10))
    assert model.score(X, Y) > 0.95
    assert len(model.loss_curve_) == len(model.epoch_seconds_) == model.n_iter_ == 30


@pytest.mark.parametrize("standardize", [False, True])
def test_asgd_goes_on_from_the_last_step(standardize):
    """Calls to partial_fit are the epochs of a fit."""
    common = {"solver": "asgd", "shuffle": False, "tol": None, "standardize": standardize}
    fitted, stream = small(max_iter=4, **common).fit(SMALL_X, SMALL_Y), small(**common)
    for _ in range(4):
        stream.partial_fit(SMALL_X, SMALL_Y, classes=np.arange(10))
    for a, b in zip(weights_of(stream), weights_of(fitted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


def test_asgd_follows_the_statistics_of_a_stream():
    """Its last step is kept for rows as they came, however later rows are standardised."""
    stream = small(solver="asgd", standardize=True, learning_rate_init=1e-12)
    stream.partial_fit(SMALL_X[:100], SMALL_Y[:100], classes=np.arange(10))
    before = stream.predict_proba(SMALL_X[:100])
    stream.partial_fit(2 * SMALL_X + 1, SMALL_Y)
    np.testing.assert_allclose(stream.predict_proba(SMALL_X[:100]), before, rtol=1e-6)


def test_rows_without_weight_take_no_part():
    weight = np.r_[np.ones(200), np.zeros(100)]
    broken = np.where(weight[:, None] > 0, SMALL_X, 1e3)
    weighted = small().fit(broken, SMALL_Y, sample_weight=weight)
    alone = small().fit(SMALL_X[:200], SMALL_Y[:200])
    for a, b in zip(weights_of(weighted), weights_of(alone), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


# ---- labels ----------------------------------------------------------------------------------------------


def test_labels_of_any_type():
    texts = np.array(["nought", "one", "two"])[SMALL_Y % 3]
    named, coded = small().fit(SMALL_X, texts), small().fit(SMALL_X, SMALL_Y % 3)
    assert same_bits(named, coded)
    assert set(named.predict(SMALL_X)) <= {"nought", "one", "two"}
    assert np.array_equal(named.predict(SMALL_X), named.classes_[coded.predict(SMALL_X)])


def test_several_labels_a_row():
    y = LABELS["several"]
    model = MLPClassifier(max_iter=40, learning_rate_init=0.003, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), model.predict_proba(X), atol=1e-12)
    assert np.array_equal(model.predict_proba(X) > 0.5, model.predict(X) == 1)
    assert model.decision_function(X).shape == y.shape
    with pytest.raises(ValueError, match="must hold 0 and 1"):
        MLPClassifier().fit(X, 2 * y)


# ---- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [*LABELS, "texts"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_model_files_round_trip_to_the_bit(tmp_path, labels, dtype):
    y = np.array(["a", "b", "c"])[Y % 3] if labels == "texts" else LABELS[labels]
    model = small(
        hidden_layer_sizes=[9, 8], solver=optimizers.AdamW(), learning_rate="cosine", early_stopping=True
    ).fit(X.astype(dtype), y)
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert type(loaded) is MLPClassifier
    assert same_bits(loaded, model)
    assert loaded.predict_proba(X).tobytes() == model.predict_proba(X).tobytes()
    assert np.array_equal(loaded.predict(X), model.predict(X))
    for name in (
        "n_iter_",
        "t_",
        "loss_",
        "loss_curve_",
        "best_loss_",
        "validation_scores_",
        "learning_rate_",
    ):
        assert getattr(loaded, name) == getattr(model, name)
    for name in ("n_layers_", "n_outputs_", "out_activation_", "best_validation_score_", "n_features_in_"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.get_params()["hidden_layer_sizes"] == (9, 8)
    loaded.set_params(early_stopping=False).partial_fit(X.astype(dtype), y)
    save_model(loaded, tmp_path / "again.safetensors")


def test_pickle_goes_on_where_it_was():
    model = MLPClassifier((10,), random_state=0).partial_fit(SMALL_X, SMALL_Y, classes=np.arange(10))
    copy = pickle.loads(pickle.dumps(model))
    for one in (model, copy):
        one.partial_fit(SMALL_X, SMALL_Y)
    assert same_bits(model, copy)


# ---- what makes no sense ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"hidden_layer_sizes": (10, 0)}, "hidden_layer_sizes must be > 0"),
        ({"hidden_layer_sizes": (10, 2.5)}, "hidden_layer_sizes must be > 0"),
        ({"activation": "sine"}, "'activation' parameter"),
        ({"solver": "newton"}, "'solver' parameter"),
        ({"learning_rate": 0.1}, "'learning_rate' parameter"),
        ({"learning_rate": lambda epoch, max_iter: -1}, "schedule must give finite numbers"),
        ({"dropout": 1}, "'dropout' parameter"),
        ({"solver": "lbfgs", "dropout": 0.1}, "dropout needs another solver"),
    ],
)
def test_parameters_that_make_no_sense(params, message):
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**params).fit(SMALL_X, SMALL_Y)


def test_data_that_make_no_sense():
    model = small()
    with pytest.raises(NotFittedError):
        model.predict(SMALL_X)
    with pytest.raises(ValueError, match="must not be negative"):
        model.fit(SMALL_X, SMALL_Y, sample_weight=np.full(300, -1.0))
    with pytest.raises(ValueError, match=r"are all zero|non-zero"):
        model.fit(SMALL_X, SMALL_Y, sample_weight=np.zeros(300))
    with pytest.raises(TypeError, match="callback must be callable"):
        model.fit(SMALL_X, SMALL_Y, callback=3)
    with pytest.raises(ValueError, match="classes must be passed"):
        model.partial_fit(SMALL_X, SMALL_Y)
    model.fit(SMALL_X, SMALL_Y)
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(SMALL_X, SMALL_Y + 5)
    with pytest.raises(ValueError, match="eval_set must be a pair"):
        model.fit(SMALL_X, SMALL_Y, eval_set=SMALL_X)
    for value in (np.nan, np.inf):
        broken = SMALL_X.copy()
        broken[5, 30] = value
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            model.fit(broken, SMALL_Y)
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            model.fit(SMALL_X, SMALL_Y).predict(broken)
