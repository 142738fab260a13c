"""Properties that hold exactly, of every estimator and solver.

One table names the estimators; each test says which of them it concerns. Comparisons are to the bit where
both sides do the same arithmetic, and else to a tolerance just above rounding in float64.
"""

import pickle
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from softline import SoftmaxClassifier, load_model, save_model
from softline._estimators.labels import balanced_weights
from softline._kernels.rows import Rows, Samples
from softline._training import fit_loop
from softline._training.column_stats import ColumnStats
from softline._training.trainer import Trainer
from softline.linear_model import LeastSquaresClassifier, LogisticRegression
from softline.neighbors import KNeighborsClassifier
from softline.neural_network import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

# Before scikit-learn 1.8 the kind of penalty had a parameter of its own.
LASSO = {"l1_ratio": 1} if LogisticRegression().penalty == "deprecated" else {"penalty": "l1"}

softmax = partial(SoftmaxClassifier, batch_size=None, max_iter=6, tol=None, random_state=0)
network = partial(MLPClassifier, (7,), alpha=0.5, batch_size=None, max_iter=6, tol=None, random_state=0)


@dataclass
class Case:
    """An estimator, and what it does with the sum of the weights.

    Attributes
    ----------
    make : callable
        Makes the estimator; it sees all rows at each step.
    tolerance : float
        Of probabilities or scores, relative to the largest.
    times_ten : dict
        Parameters with which weights ten times as large give the same model; empty if weights are relative.
    """

    make: partial
    tolerance: float = 1e-11
    times_ten: dict = field(default_factory=dict)

    def __call__(self, **params):
        return self.make(**params)


SOFTMAX = {
    "softmax sgd": Case(partial(softmax, learning_rate=0.1)),
    "softmax auto": Case(softmax),
    # Adam divides by the size of the gradient: where balanced classes leave none, rounding counts 1e8-fold.
    "softmax adam": Case(partial(softmax, optimizer="adam", learning_rate=0.05), 1e-8),
    "softmax auto adam": Case(partial(softmax, optimizer="adam"), 1e-8),
    "softmax asgd": Case(partial(softmax, optimizer="asgd", learning_rate=0.1)),
    "softmax lbfgs": Case(partial(softmax, solver="lbfgs", alpha=0.01, tol=1e-10, max_iter=300), 1e-7),
}
NETWORKS = {
    "mlp sgd": Case(partial(network, solver="sgd", learning_rate_init=0.1), times_ten={"alpha": 5.0}),
    "mlp adam": Case(partial(network, learning_rate_init=0.01), times_ten={"alpha": 5.0}),
    "mlp lbfgs": Case(partial(network, solver="lbfgs", max_iter=5), 1e-8, times_ten={"alpha": 5.0}),
}
LOGISTIC = {
    "logistic l2": Case(partial(LogisticRegression, tol=1e-10, max_iter=300), 1e-7, times_ten={"C": 0.1}),
    "logistic l1": Case(
        partial(LogisticRegression, solver="saga", tol=1e-10, max_iter=300, C=0.5, **LASSO),
        1e-7,
        times_ten={"C": 0.05},
    ),
}
LEAST_SQUARES = {"least squares": Case(LeastSquaresClassifier, times_ten={"alpha": 10.0})}
NEIGHBORS = {"neighbours": Case(partial(KNeighborsClassifier, 3))}

WEIGHTED = SOFTMAX | NETWORKS | LOGISTIC | LEAST_SQUARES
BALANCED = SOFTMAX | LOGISTIC | LEAST_SQUARES
LINEAR = BALANCED
STREAMS = {name: WEIGHTED[name] for name in WEIGHTED if "lbfgs" not in name and name in SOFTMAX | NETWORKS}
STANDARDISING = SOFTMAX | NETWORKS
EVERY = WEIGHTED | NEIGHBORS


def each(cases):
    return pytest.mark.parametrize("case", cases.values(), ids=cases)


@pytest.fixture(params=[3, 2], ids=["three classes", "two classes"])
def table(request):
    """X (60, 4), whose features have means and scales of their own, y, and weights 0 to 3."""
    rng = np.random.default_rng(request.param)
    Z = rng.standard_normal((60, 4))
    scores = Z @ rng.standard_normal((4, request.param)) + rng.standard_normal((60, request.param))
    y = scores.argmax(axis=1)
    weight = rng.integers(0, 4, 60).astype(float)
    return Z * [1, 2, 0.5, 3] + [0, 1, -1, 2], y, weight


def outputs(model, X):
    """Probabilities; scores of a model that has none."""
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.decision_function(X)


def same_bits(a, b, X):
    return np.array_equal(outputs(a, X), outputs(b, X))


def assert_same(a, b, X, tolerance):
    found, expected = outputs(a, X), outputs(b, X)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


# ---- weights -------------------------------------------------------------------------------------------


@each(WEIGHTED)
@pytest.mark.parametrize("standardize", [False, True])
def test_a_weight_is_the_number_of_times_that_a_row_counts(case, standardize, table):
    """A weight of 2 is the row twice, one of 0 no row."""
    X, y, weight = table
    if standardize and not hasattr(case(), "standardize"):
        pytest.skip("does not standardise")
    params = {"standardize": True} if standardize else {}
    times = weight.astype(int)
    weighted = case(**params).fit(X, y, weight)
    repeated = case(**params).fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    assert_same(weighted, repeated, X, case.tolerance)
    unweighted = case(**params).fit(X, y)
    assert np.abs(outputs(weighted, X) - outputs(unweighted, X)).max() > 1e-6


@each(WEIGHTED)
def test_weights_are_relative_but_for_the_penalty(case, table):
    X, y, weight = table
    once = case().fit(X, y, weight)
    assert_same(case(**case.times_ten).fit(X, y, 10 * weight), once, X, case.tolerance)


@each(WEIGHTED)
def test_a_row_of_weight_0_is_as_if_it_were_not_there(case, table):
    """Also where orders, the rows held out and statistics of features depend on the rows."""
    X, y, weight = table
    params = {}
    if "shuffle" in case().get_params() and case().get_params().get("solver") != "lbfgs":
        params = {"batch_size": 8, "early_stopping": True, "validation_fraction": 0.25, "standardize": True}
    with_it, without = case(**params).fit(X, y, weight), case(**params)
    kept = weight > 0
    wild = X.copy()
    wild[~kept] = 1e3
    without.fit(X[kept], y[kept], weight[kept])
    for model in (with_it, case(**params).fit(wild, y, weight)):
        assert_same(model, without, X, case.tolerance)
        if params:
            assert model.validation_scores_ == without.validation_scores_


@each(BALANCED)
def test_balanced_is_the_sample_weights_that_it_stands_for(case, table):
    X, y, _ = table
    balanced = case(class_weight="balanced").fit(X, y)
    assert_same(balanced, case().fit(X, y, compute_sample_weight("balanced", y)), X, case.tolerance)
    assert np.abs(outputs(balanced, X) - outputs(case().fit(X, y), X)).max() > 1e-6


@each(SOFTMAX)
def test_balanced_by_weight(case, table):
    """Sample weights count in the sums of the classes, as often as a row would."""
    X, y, weight = table
    times = weight.astype(int)
    weighted = case(class_weight="balanced").fit(X, y, weight)
    repeated = case(class_weight="balanced").fit(np.repeat(X, times, axis=0), np.repeat(y, times))
    assert_same(weighted, repeated, X, case.tolerance)


@each({name: case for name, case in SOFTMAX.items() if "lbfgs" not in name})
@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_with_targets(case, weighted, table):
    """A row with targets weighs what its classes do on average; (weighted) sums of targets are the counts."""
    X, y, weight = table
    weight = weight if weighted else np.ones(len(y))
    rng = np.random.default_rng(0)
    targets = rng.dirichlet(np.ones(y.max() + 1), len(y)) * (1 + np.arange(y.max() + 1))
    targets /= targets.sum(axis=1, keepdims=True)
    counts = weight @ targets
    by_hand = weight * (targets @ (counts.sum() / len(counts) / counts))
    balanced = case(class_weight="balanced").fit(X, targets, weight if weighted else None)
    assert_same(balanced, case().fit(X, targets, by_hand), X, case.tolerance)
    one_hot = np.eye(y.max() + 1)[y]
    of_labels = case(class_weight="balanced").fit(X, y, weight)
    assert_same(case(class_weight="balanced").fit(X, one_hot, weight), of_labels, X, case.tolerance)


@each(EVERY)
def test_score_is_the_weighted_accuracy(case, table):
    X, y, weight = table
    model = case().fit(X[:40], y[:40])
    predicted = model.predict(X)
    weight = weight + 2 * (predicted == y)
    expected = accuracy_score(y, predicted, sample_weight=weight)
    assert expected != accuracy_score(y, predicted)
    assert model.score(X, y, weight) == expected
    assert model.score(X, y) == accuracy_score(y, predicted)


def test_score_on_targets_is_weighted(table):
    X, y, weight = table
    one_hot = np.eye(y.max() + 1)[y]
    model = softmax().fit(X, one_hot)
    weight = weight + 2 * (model.predict(X) == y)
    assert model.score(X, one_hot, weight) == model.score(X, y, weight) != model.score(X, one_hot)


# ---- standardised features -----------------------------------------------------------------------------


@each(STANDARDISING)
@pytest.mark.parametrize("weighted", [False, True])
def test_standardize_is_a_pipeline_with_a_weighted_scaler(case, weighted, table):
    X, y, weight = table
    weight = weight if weighted else None
    Z = StandardScaler().fit(X, sample_weight=weight).transform(X)
    ours, pipeline = case(standardize=True).fit(X, y, weight), case().fit(Z, y, weight)
    expected = outputs(pipeline, Z)
    np.testing.assert_allclose(outputs(ours, X), expected, rtol=0, atol=10 * case.tolerance)
    assert np.abs(outputs(case().fit(X, y, weight), X) - expected).max() > 1e-6


@each({name: case for name, case in STANDARDISING.items() if "lbfgs" not in name})
def test_what_is_held_out_is_not_trained_on(case, table, monkeypatch):
    """Neither weights nor statistics of the features know the rows that tell when to stop."""
    X, y, weight = table
    held_out = []

    def split(*args, **options):
        parts = train_test_split(*args, **options)
        held_out.append(parts[1])
        return parts

    train_test_split = fit_loop.train_test_split
    monkeypatch.setattr(fit_loop, "train_test_split", split)
    make = partial(
        case,
        standardize=True,
        early_stopping=True,
        validation_fraction=0.25,
        batch_size=8,
        n_iter_no_change=99,
    )
    curves = [make().fit(X, y, 1 + weight).loss_curve_]
    wild = X.copy()
    wild[held_out[0]] *= 1000
    curves.append(make().fit(wild, y, 1 + weight).loss_curve_)
    other = 1 + weight
    other[held_out[0]] = 50
    curves.append(make().fit(X, y, other).loss_curve_)
    assert len(held_out[0]) == 15 and np.array_equal(*held_out[:2])
    assert curves[0] == curves[1] == curves[2]
    wild[np.setdiff1d(np.arange(60), held_out[0])[0]] *= 2
    assert make().fit(wild, y, 1 + weight).loss_curve_ != curves[0]


@each({name: case for name, case in STANDARDISING.items() if "lbfgs" not in name})
def test_early_stopping_trains_on_the_other_rows_by_their_weights(case, table, monkeypatch):
    X, y, weight = table
    kept = np.flatnonzero(weight)
    trained_on = kept[np.arange(len(kept)) % 4 > 0]
    held_out = np.setdiff1d(kept, trained_on)
    monkeypatch.setattr(fit_loop, "train_test_split", lambda *args, **options: (trained_on, held_out))
    stopping = case(early_stopping=True, shuffle=False, standardize=True).fit(X, y, weight)
    plain = case(shuffle=False, standardize=True)
    plain.fit(X[trained_on], y[trained_on], weight[trained_on])
    np.testing.assert_allclose(stopping.loss_curve_, plain.loss_curve_, rtol=1e-8)
    assert stopping.validation_scores_[-1] == pytest.approx(plain.score(X[held_out], y[held_out]), abs=1e-12)


@each({name: case for name, case in STANDARDISING.items() if "lbfgs" not in name})
def test_rows_of_an_eval_set_are_not_trained_on(case, table):
    X, y, weight = table
    alone = case(standardize=True).fit(X, y, weight)
    watched = case(standardize=True).fit(X, y, weight, eval_set=(1000 * X[:20], y[:20]))
    assert same_bits(alone, watched, X) and alone.loss_curve_ == watched.loss_curve_
    assert watched.validation_scores_[-1] == watched.score(1000 * X[:20], y[:20])


# ---- streams -------------------------------------------------------------------------------------------

SCHEDULES = ["step", "exponential", "inverse_time", "cosine", "warm_up"]
OPTIMIZERS = ["momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "asgd"]


def by_epochs(model, X, y, weight=None, calls=4, **options):
    """The model after so many calls to partial_fit on the same rows."""
    classes = np.unique(y)
    for _ in range(calls):
        model.partial_fit(X, y, sample_weight=weight, classes=classes, **options)
    return model


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(
    "params",
    [{"schedule": name} for name in SCHEDULES] + [{"optimizer": name} for name in OPTIMIZERS],
    ids=lambda params: next(iter(params.values())),
)
def test_calls_to_partial_fit_are_epochs_of_a_fit(params, standardize, table):
    """Schedule and memory of the optimizer go on from call to call: of the same rows they are one fit."""
    X, y, weight = table
    make = partial(
        SoftmaxClassifier, learning_rate=0.05, batch_size=16, shuffle=False, tol=None, max_iter=4,
        standardize=standardize, **params
    )  # fmt: skip
    fitted, stream = make().fit(X, y, weight), by_epochs(make(), X, y, weight)
    assert_same(stream, fitted, X, 1e-12)
    np.testing.assert_allclose(stream.loss_curve_, fitted.loss_curve_, rtol=1e-12)
    assert stream.n_iter_ == 4


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize(
    "params",
    [{"learning_rate": name} for name in (*SCHEDULES, "invscaling")]
    + [{"solver": name} for name in ("sgd", *OPTIMIZERS)],
    ids=lambda params: next(iter(params.values())),
)
def test_calls_to_partial_fit_of_a_network_are_epochs_of_a_fit(params, standardize, table):
    X, y, weight = table
    make = partial(
        MLPClassifier, (5,), learning_rate_init=0.05, batch_size=16, shuffle=False, tol=None, max_iter=4,
        random_state=0, standardize=standardize, **{"solver": "sgd"} | params,
    )  # fmt: skip
    weight = weight + 0.1
    fitted, stream = make().fit(X, y, weight), by_epochs(make(), X, y, weight)
    assert_same(stream, fitted, X, 1e-11)
    np.testing.assert_allclose(stream.loss_curve_, fitted.loss_curve_, rtol=1e-11)
    assert stream.learning_rate_ == pytest.approx(fitted.learning_rate_, rel=1e-12)
    assert stream.t_ == fitted.t_ == 4 * 60


def test_partial_fit_goes_on_from_fit(table):
    """A network's does, with the memory of the optimizer."""
    X, y, _ = table
    make = partial(MLPClassifier, (5,), batch_size=16, shuffle=False, tol=None, random_state=0)
    assert_same(make(max_iter=2).fit(X, y).partial_fit(X, y), make(max_iter=3).fit(X, y), X, 1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_an_automatic_rate_goes_on_as_by_hand(optimizer, table):
    """Ranges, step and memory are those of all rows since the first call."""
    X, y, weight = table
    weight = weight + 1
    model = SoftmaxClassifier(optimizer=optimizer, batch_size=16, shuffle=False)
    stats, auto, states = ColumnStats(4), None, []
    layers = [(np.zeros((y.max() + 1, 4)), np.zeros(y.max() + 1))]
    # The second part is twice as large as the first, so that the curvature is estimated anew.
    for call, rows in enumerate((slice(0, 20), slice(20, 60), slice(0, 10))):
        model.partial_fit(X[rows], y[rows], np.unique(y), weight[rows])
        so_far = np.concatenate([weight[:20], weight[20:60], weight[:10]][: call + 1])
        samples = Samples(
            Rows(X[rows]), y[rows].astype(np.int32), weight[rows], mean_weight=so_far.mean(dtype=float)
        )
        stats.update(samples.X, samples.rows, samples.weights)
        trainer = Trainer(layers, model._options(), np.random.RandomState(0), X.dtype)
        trainer.resume(states, samples.X)
        auto = trainer.find_rate(samples, stats, auto or fit_loop.AutoStep())
        trainer.epochs(samples, call)
        layers, states = trainer.copy_of_model(), trainer.states
        assert model.learning_rate_ == trainer.rate
        assert np.array_equal(model.coef_, layers[0][0]) and np.array_equal(model.intercept_, layers[0][1])
    forgetful = SoftmaxClassifier(optimizer=optimizer, batch_size=16, shuffle=False)
    forgetful.partial_fit(X[:20], y[:20], np.unique(y), weight[:20])
    forgetful._stream.auto = None
    forgetful.partial_fit(X[20:], y[20:], sample_weight=weight[20:])
    assert forgetful.learning_rate_ != model.learning_rate_


@pytest.mark.parametrize("targets", [False, True])
def test_balanced_weights_of_a_stream_are_those_of_all_its_rows(targets, table):
    """Two steps by hand: W -= rate (dL/df)^T X, rows weighed relative to their mean so far."""
    X, y, weight = table
    weight, C = weight + 0.5, y.max() + 1
    Y = np.eye(C)[y]
    if targets:
        Y = 0.7 * Y + 0.3 / C
    model = SoftmaxClassifier(learning_rate=0.1, alpha=0, batch_size=None, class_weight="balanced")
    W, b = np.zeros((C, 4)), np.zeros(C)
    for rows, so_far in ((slice(0, 20), slice(0, 20)), (slice(20, 60), slice(0, 60))):
        model.partial_fit(X[rows], Y[rows] if targets else y[rows], np.arange(C), weight[rows])
        of_classes = balanced_weights(weight[so_far] @ Y[so_far])
        every = weight[so_far] * (Y[so_far] @ of_classes)
        scores = X[rows] @ W.T + b
        probs = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        dscores = (probs - Y[rows]) * (weight[rows] * (Y[rows] @ of_classes))[:, None]
        dscores /= every.mean() * len(probs)
        W, b = W - 0.1 * dscores.T @ X[rows], b - 0.1 * dscores.sum(axis=0)
    np.testing.assert_allclose(model.coef_, W, rtol=1e-12)
    np.testing.assert_allclose(model.intercept_, b, rtol=1e-12, atol=1e-14)


@each(STREAMS)
def test_statistics_of_a_stream_are_those_of_all_its_rows(case, table):
    """After rows in other units, standardised features are those of a scaler that has seen both."""
    X, y, weight = table
    model = case(standardize=True, shuffle=False)
    for rows in (slice(0, 20), slice(20, 60)):
        model.partial_fit(X[rows], y[rows], classes=np.unique(y), sample_weight=weight[rows])
    scaler = StandardScaler().fit(X, sample_weight=weight)
    shift, scale = model._stream.stats.standardization(True)
    np.testing.assert_allclose(shift, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(scale, 1 / scaler.scale_, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "asgd"])
def test_new_statistics_change_no_prediction_by_themselves(optimizer, table):
    """A step of next to nothing, on rows that move the mean and scale of each feature."""
    X, y, _ = table
    model = SoftmaxClassifier(optimizer=optimizer, learning_rate=0.5, batch_size=None, standardize=True)
    model.partial_fit(X[:30], y[:30], classes=np.unique(y))
    before = model.predict_proba(X)
    model.set_params(learning_rate=1e-30).partial_fit(10 * X[30:] + 5, y[30:])
    np.testing.assert_allclose(model.predict_proba(X), before, rtol=1e-9)
    # A third call of full size is not from where the second began.
    assert (
        np.abs(model.set_params(learning_rate=0.5).partial_fit(X, y).predict_proba(X) - before).max() > 1e-3
    )


# ---- seeds ---------------------------------------------------------------------------------------------

RANDOM = {
    "orders": partial(SoftmaxClassifier, batch_size=8, max_iter=2, tol=None),
    "rows of a full batch in order": partial(
        SoftmaxClassifier, early_stopping=True, validation_fraction=0.25, shuffle=False, max_iter=2, tol=None
    ),
    "guesses": partial(SoftmaxClassifier, solver="random_search", max_iter=5),
    "random steps": partial(SoftmaxClassifier, solver="random_local_search", max_iter=5),
    "weights": partial(MLPClassifier, (5,), shuffle=False, max_iter=1, tol=None),
    "weights for l-bfgs": partial(MLPClassifier, (5,), solver="lbfgs", max_iter=2),
    "weights by He": partial(MLPClassifier, (5,), init="he", shuffle=False, max_iter=1, tol=None),
    "dropout": partial(MLPClassifier, (5,), dropout=0.5, shuffle=False, max_iter=1, tol=None),
}


@pytest.mark.parametrize("make", RANDOM.values(), ids=RANDOM)
def test_a_seed_repeats_and_another_differs(make, table):
    X, y, _ = table
    first, again, other = (make(random_state=seed).fit(X, y) for seed in (1, 1, 2))
    assert same_bits(first, again, X)
    assert not same_bits(first, other, X)
    drawn = [make(random_state=np.random.RandomState(1)).fit(X, y) for _ in range(2)]
    assert same_bits(drawn[0], drawn[1], X) and same_bits(drawn[0], first, X)


@pytest.mark.parametrize(
    "params", [{"batch_size": 8}, {"dropout": 0.5, "shuffle": False}], ids=["orders", "dropout"]
)
def test_orders_and_dropout_of_a_network_follow_the_seed(params, table):
    """From the same weights, so that these are what differs; and an epoch does not repeat the one before."""
    X, y, _ = table
    start = MLPClassifier((5,), max_iter=1, tol=None, random_state=0).fit(X, y)
    models = []
    for seed in (1, 1, 2):
        model = pickle.loads(pickle.dumps(start)).set_params(random_state=seed, warm_start=True, **params)
        models.append(model.fit(X, y))
    assert same_bits(models[0], models[1], X)
    assert not same_bits(models[0], models[2], X)


@pytest.mark.parametrize("make", [partial(softmax, learning_rate=0.1), network], ids=["softmax", "mlp"])
def test_rows_in_order_need_no_seed(make, table):
    X, y, _ = table
    start = make(batch_size=8, shuffle=False, warm_start=True, random_state=0).fit(X, y)
    models = [pickle.loads(pickle.dumps(start)).set_params(random_state=seed).fit(X, y) for seed in (1, 2)]
    assert same_bits(*models, X)


# ---- labels --------------------------------------------------------------------------------------------

NAMES = {
    "strings": np.array(["ape", "bee", "cat"]),
    "numbers": np.array([-3, 0, 12]),
    "floats": np.array([-2.0, 1.0, 7.0]),
}


@each(EVERY)
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_of_labels_change_nothing(case, names, table):
    X, y, weight = table
    weights = () if isinstance(case(), KNeighborsClassifier) else (weight,)
    coded, named = case().fit(X, y, *weights), case().fit(X, names[y], *weights)
    assert same_bits(coded, named, X)
    assert np.array_equal(named.predict(X), names[coded.predict(X)])
    assert named.score(X, names[y], weight) == coded.score(X, y, weight)


@each(LINEAR | NEIGHBORS)
def test_permuted_classes_permute_the_result(case, table):
    """Numbers of classes in the opposite order give the same probabilities in the opposite order."""
    X, y, weight = table
    weights = () if isinstance(case(), KNeighborsClassifier) else (weight,)
    params = {} if not weights else {"class_weight": {0: 2, 1: 1, 2: 0.5} if y.max() == 2 else {0: 2, 1: 1}}
    last = y.max()
    permuted = {"class_weight": {last - c: w for c, w in params["class_weight"].items()}} if params else {}
    model = case(**params).fit(X, y, *weights)
    other = case(**permuted).fit(X, last - y, *weights)
    found, expected = outputs(other, X), outputs(model, X)
    expected = -expected if expected.ndim == 1 else expected[:, ::-1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=10 * case.tolerance * np.abs(expected).max())


# ---- types of features ---------------------------------------------------------------------------------


@each(EVERY)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_rows_of_another_type_are_predicted_as_the_numbers_they_hold(case, dtype, table):
    """By a model that was fitted in float64."""
    X, y, _ = table
    X = np.clip(np.rint(4 * X), 0, 200)
    model = case().fit(X, y)
    assert np.array_equal(model.predict(X.astype(dtype)), model.predict(X))
    found, expected = outputs(model, X.astype(dtype)), outputs(model, X)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


# ---- copies --------------------------------------------------------------------------------------------


@each(EVERY)
@pytest.mark.wheel
def test_a_saved_model_predicts_the_same(case, table, tmp_path):
    X, y, _ = table
    model = case().fit(X, y)
    copies = [pickle.loads(pickle.dumps(model))]
    if not isinstance(model, KNeighborsClassifier):  # no model file holds one
        save_model(model, tmp_path / "model.st")
        copies.append(load_model(tmp_path / "model.st"))
    for copy in copies:
        assert same_bits(copy, model, X) and np.array_equal(copy.predict(X), model.predict(X))
        params, expected = copy.get_params(), model.get_params()
        assert {name: str(value) for name, value in params.items()} == {
            name: str(value) for name, value in expected.items()
        }


@each(SOFTMAX | NETWORKS | {"logistic l2": LOGISTIC["logistic l2"]})
def test_a_saved_model_goes_on_the_same(case, table, tmp_path):
    """A fit with warm_start does; it needs the weights alone."""
    X, y, weight = table
    if isinstance(case(), MLPClassifier):
        weight = None
    model = case(warm_start=True).set_params(max_iter=3).fit(X, y, weight)
    before = outputs(model, X)
    save_model(model, tmp_path / "model.st")
    copies = load_model(tmp_path / "model.st"), pickle.loads(pickle.dumps(model))
    model.fit(X, y, weight)
    assert np.abs(outputs(model, X) - before).max() > 1e-9
    for copy in copies:
        assert same_bits(copy.fit(X, y, weight), model, X)
        assert getattr(copy, "loss_curve_", None) == getattr(model, "loss_curve_", None)


@each(STREAMS)
def test_a_pickled_stream_goes_on_the_same(case, table):
    X, y, weight = table
    model = by_epochs(case(standardize=True), X[:30], y[:30], 1 + weight[:30], calls=2)
    copy = pickle.loads(pickle.dumps(model))
    for one in (model, copy):
        one.partial_fit(X, y, sample_weight=1 + weight)
    assert same_bits(copy, model, X) and copy.loss_curve_ == model.loss_curve_


@each(EVERY)
def test_a_second_fit_knows_nothing_of_the_first(case, table):
    X, y, weight = table
    weights = () if isinstance(case(), KNeighborsClassifier) else (weight,)
    model = case().fit(1000 * X[:30], y[:30]).fit(X, y, *weights)
    assert same_bits(model, clone(model).fit(X, y, *weights), X)
