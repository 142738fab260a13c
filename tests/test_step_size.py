"""The numbers behind learning_rate="auto", against NumPy's eigenvalues and the documented formulas."""

import numpy as np
import pytest

from softline import SoftmaxClassifier, optimizers
from softline._kernels.rows import Rows, Samples
from softline._training import step_size
from softline._training.column_stats import ColumnStats
from softline._training.step_size import (
    AutoStep,
    center_and_spread,
    draw,
    largest_gradient,
    rate_of_change,
    smoothness,
    stable_rate,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.RandomState(0)


@pytest.fixture(scope="module")
def samples():
    """Rows with one direction that is much longer than the others: power iteration finds it."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 6)) * [5, 1, 1, 1, 1, 0.5] + 0.5
    X[[50, 200]] *= 8  # these two are much longer than any other row
    return Samples(Rows(X), rng.integers(0, 3, 300).astype(np.int32), rng.random(300) + 0.1)


def exact_smoothness(samples, alpha, shift, metric, fit_intercept, cut=np.inf):
    """The same by NumPy: eigenvalues of the weighted second moments of z, 1 appended for an intercept."""
    Z = (samples.X.array - (0 if shift is None else shift)) * (1 if metric is None else np.sqrt(metric))
    lengths = np.abs(Z).sum(axis=1)
    weight = samples.weights / samples.weights.sum()
    with_one = np.column_stack([Z, np.ones(len(Z))]) if fit_intercept else Z
    squares = np.sum(with_one**2, axis=1)
    order = np.argsort(squares)
    median = squares[order][np.searchsorted(np.cumsum(weight[order]), 0.5)]
    kept = np.minimum(1, cut**2 * median / squares)
    moments = (with_one * (weight * kept)[:, None]).T @ with_one
    penalty = alpha * (1 if metric is None else metric.max())
    return (
        np.linalg.eigvalsh(moments)[-1] / 2 + penalty,
        np.max(kept * squares) / 2 + penalty,
        np.sum(weight * np.sqrt(kept) * lengths) + fit_intercept,
    )


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("cut", [np.inf, 1.2])
@pytest.mark.parametrize("geometry", [False, True])
def test_smoothness(samples, geometry, cut, fit_intercept):
    shift, metric = (np.arange(6) / 4, np.arange(1, 7) / 7) if geometry else (None, None)
    if not fit_intercept:
        shift = None
    found = smoothness(samples, 0.25, shift, metric, fit_intercept, RNG, cut=cut)
    expected = exact_smoothness(samples, 0.25, shift, metric, fit_intercept, cut)
    assert found[0] == pytest.approx(expected[0], rel=1e-3)
    assert found[1:] == pytest.approx(expected[1:], rel=1e-12)


def test_smoothness_of_a_sample(monkeypatch, samples):
    """A pass over few rows, drawn without regard to their order, unless all rows are asked for."""
    monkeypatch.setattr(step_size, "SAMPLE_ROWS", 100)
    every = smoothness(samples, 0, None, None, True, np.random.RandomState(1), sample=False, cut=2)
    some = smoothness(samples, 0, None, None, True, np.random.RandomState(1), cut=2)
    assert every[0] == pytest.approx(exact_smoothness(samples, 0, None, None, True, 2)[0], rel=1e-3)
    assert some != every and some[0] == pytest.approx(every[0], rel=0.3)
    few = Samples(samples.X, samples.y, samples.row_weight, np.arange(100))
    assert smoothness(few, 0, None, None, True, RNG) == smoothness(
        few, 0, None, None, True, RNG, sample=False
    )


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "momentum", "expected"),
    [
        (100, 100, 0.0, 1 / 2),  # a full batch knows L alone
        (100, 1, 0.0, 1 / 50),  # a single row L_max alone
        (100, 1, 0.9, 1 / 500),
        (100, 100, 0.9, 1 / 2),
        (np.inf, 4, 0.0, 1 / (0.75 * 2 + 0.25 * 50)),
        (101, 10, 0.5, 1 / (0.909 * 2 + 0.091 * 100)),  # q = (1/10 - 1/101) / (1 - 1/101)
        (1, 1, 0.0, 1 / 50),
    ],
)
def test_stable_rate(n_rows, batch_size, momentum, expected):
    assert stable_rate(2, 50, n_rows, batch_size, momentum) == pytest.approx(expected, rel=1e-12)


def test_rates_at_their_ends():
    assert stable_rate(0, 0, 10, 10) == 1
    assert rate_of_change(0.4, 8.0) == pytest.approx(0.05) and rate_of_change(0.4, 0.0) == 0.4
    assert largest_gradient(0.5, 10) == pytest.approx(np.sqrt(4 * np.log(10)))


@pytest.mark.parametrize(
    ("name", "batch_size", "expected"),
    [
        ("sgd", 4, None),
        ("momentum", 4, None),
        ("nesterov", 4, None),
        ("asgd", 4, None),
        ("adam", 16, 0.4),
        ("adam", 4, 0.2),
        ("adamw", 1, 0.1),
        ("adamw", np.inf, 0.4),
        ("rmsprop", 4, 0.2),
        ("rmsprop", 400, 0.4),
        ("adagrad", 4, 4.0),
    ],
)
def test_change_of_a_first_step(name, batch_size, expected):
    assert optimizers.BY_NAME[name].auto_change(batch_size) == expected


def test_geometry():
    """A feature is taken about its mean, near its median, and divided by a deviation typical of it."""
    X = np.zeros((256, 4))
    X[:, 0] = np.arange(256) % 2 * 2  # 0 and 2: mean 1
    X[:, 1] = np.r_[np.arange(255) % 3 - 1, 1000]  # a wild value
    X[:, 2] = 7  # constant
    X[:, 3] = np.arange(256) % 2
    samples, stats, auto = Samples(Rows(X), np.zeros(256, np.int32)), ColumnStats(4), AutoStep()
    stats.update(samples.X, samples.rows, None)
    auto.observe(samples, stats, 0.0, True, RNG)
    center, spread = center_and_spread(X[draw(samples.rows, None)])
    assert np.array_equal(auto.seen, X[draw(samples.rows, None)])
    mean = np.clip(X.mean(axis=0), center - spread, center + spread)
    np.testing.assert_allclose(auto.shift, mean)
    deviation = np.maximum(X.max(axis=0) - mean, mean - X.min(axis=0))
    assert deviation[1] > 900 and spread[1] == 1
    expected = np.array([1 / deviation[0] ** 2, 1 / 2**2, 0, 1 / deviation[3] ** 2])
    np.testing.assert_allclose(auto.metric, expected)
    penalised = AutoStep()
    penalised.observe(samples, stats, 3.0, True, RNG)
    np.testing.assert_allclose(
        penalised.metric, np.where(expected > 0, 1 / (1 / np.maximum(expected, 1e-9) + 3), 0)
    )
    without = AutoStep()
    without.observe(samples, stats, 0.0, False, RNG)
    assert without.shift is None
    largest = np.minimum(np.abs(X).max(axis=0), np.where(spread > 0, 2 * spread + np.abs(center), np.inf))
    np.testing.assert_allclose(without.metric, 1 / largest**2)


def test_center_and_spread():
    seen = np.array([[1, 0], [2, 0], [3, 0], [10, 0], [4, 5.0]])
    center, spread = center_and_spread(seen)
    assert center.tolist() == [3, 0]
    # Distances from 3: 0 (left out), 1, 1, 2, 7, of which the upper quartile is the last but one of four.
    assert spread.tolist() == [7, 5]


def test_rows_are_drawn_by_weight():
    rows = np.arange(50, 90)
    assert set(draw(rows, None)) == set(rows)
    weight = np.r_[np.zeros(10), np.full(10, 3.0), np.full(20, 1.0)]
    counts = np.bincount(draw(rows, weight), minlength=90)[50:]
    assert counts[:10].sum() == 0
    assert counts[10:20].sum() == pytest.approx(256 * 30 / 50, abs=3)


def test_curvature_is_estimated_whenever_the_rows_have_doubled(samples, monkeypatch):
    estimates = []

    def spy(given, *args):
        estimates.append(len(given))
        return smoothness(given, *args)

    monkeypatch.setattr(step_size, "smoothness", spy)
    stats, auto = ColumnStats(6), AutoStep()
    for size in (10, 9, 1, 10, 9, 1, 40):
        part = Samples(samples.X, samples.y, None, np.arange(size))
        stats.update(part.X, part.rows, None)
        auto.observe(part, stats, 0.0, True, RNG)
    assert estimates == [10, 1, 1, 40]  # at 10, 20, 40 and 80 rows
    assert auto.n_rows == 80 and auto.n_rows_estimated == 80


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("batch_size", [None, 30, 1])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adagrad"])
def test_rate_of_a_classifier(samples, name, batch_size, standardize, weighted):
    """From the exact curvature of the first step's geometry: a factor of 1.02 would be noticed."""
    weight = samples.row_weight if weighted else np.ones(300)
    options = {"optimizer": name, "batch_size": batch_size, "standardize": standardize, "alpha": 0.01}
    model = SoftmaxClassifier(**options, max_iter=1, tol=None, random_state=0)
    model.fit(samples.X.array, samples.y, weight if weighted else None)
    X, n, stats = Rows(samples.X.array), 300, ColumnStats(6)
    given = Samples(X, samples.y, weight)
    stats.update(X, given.rows, weight)
    if standardize:
        given = given.standardised_as(Rows(X.array, *stats.standardization(True)))
    auto = AutoStep()
    auto.observe(given, stats, 0.01, True, RNG)
    plain = Samples(Rows(given.X[:]), samples.y, weight)
    largest, longest, length = exact_smoothness(plain, 0.01, auto.shift, auto.metric, True, 2)
    B = batch_size or n
    optimizer, noise = optimizers.BY_NAME[name], 1 / B - 1 / n
    change = optimizer.auto_change(1 / noise if noise else np.inf)
    if change is None:
        q = noise / (1 - 1 / n)
        momentum = getattr(optimizer, "momentum", 0)
        expected = 1 / ((1 - q) * largest + q * longest / (1 - momentum))
    else:
        expected = change / length
    # The loss of the only epoch is the least, so the rate is still the first.
    assert model.learning_rate_ == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", ["sgd", "momentum"])
def test_rate_of_a_stream(samples, name):
    """There is no end of rows: even a full batch is a sample of them."""
    X, y = samples.X.array[:30], samples.y[:30]
    model = SoftmaxClassifier(optimizer=name, batch_size=None, alpha=0.01)
    model.partial_fit(X, y, classes=range(3))
    auto = model._stream.auto
    given = Samples(Rows(X), y, np.ones(30))
    largest, longest, _ = exact_smoothness(given, 0.01, auto.shift, auto.metric, True, 2)
    momentum = getattr(optimizers.BY_NAME[name], "momentum", 0)
    expected = 1 / (29 / 30 * largest + longest / 30 / (1 - momentum))
    assert model.learning_rate_ == pytest.approx(expected, rel=0.02)
    assert (
        SoftmaxClassifier(optimizer=name, batch_size=None, max_iter=1).fit(X, y).learning_rate_
        > 1.04 * expected
    )


def test_rows_of_a_stream_are_remembered_alike(samples):
    """Whenever they came: of parts of 100, 100 and 200 rows a quarter, a quarter and a half."""
    stats, auto = ColumnStats(1), AutoStep()
    for value, size in ((1, 100), (2, 100), (3, 200)):
        part = Samples(Rows(np.full((size, 1), float(value))), np.zeros(size, np.int32))
        stats.update(part.X, part.rows, None)
        auto.observe(part, stats, 0.1, True, RNG)
    counts = np.bincount(auto.seen[:, 0].astype(int), minlength=4)[1:]
    np.testing.assert_allclose(counts / 256, [0.25, 0.25, 0.5], atol=0.09)


def test_rate_falls_after_an_epoch_whose_loss_has_risen(samples, monkeypatch):
    """By 0.7 where the loss of mini-batches is above 1.01 times the least; else never."""
    from softline._training.trainer import Trainer

    trainer_epoch = Trainer._batches
    losses = iter([1.0, 1.009, 1.011, 0.9, 0.91])

    def planted(self, *args):
        found, seconds = trainer_epoch(self, *args)
        return np.full(len(found), next(losses)), seconds

    monkeypatch.setattr(Trainer, "_batches", planted)
    rates = []
    model = SoftmaxClassifier(batch_size=30, max_iter=5, tol=None, random_state=0)
    model.fit(samples.X.array, samples.y, callback=lambda epoch: rates.append(model.learning_rate_))
    np.testing.assert_allclose(np.array(rates) / rates[0], [1, 1, 0.7, 0.7, 0.49])
    losses = iter([1.0, 2.0])
    model = SoftmaxClassifier(batch_size=30, learning_rate=0.01, max_iter=2, tol=None)
    assert model.fit(samples.X.array, samples.y).learning_rate_ == 0.01
    losses, rates = iter([1.0, 2.0]), []
    model = SoftmaxClassifier(batch_size=None, max_iter=2, tol=None)
    model.fit(samples.X.array, samples.y, callback=lambda epoch: rates.append(model.learning_rate_))
    assert rates[0] == rates[1]
