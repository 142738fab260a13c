"""Tables as people have them: SoftmaxClassifier with its defaults learns them."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from softline import SoftmaxClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def table():
    """Latent features and labels that depend on them: 90 % can be told."""
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((5000, 6))
    return Z, (Z @ rng.standard_normal(6) + rng.standard_normal(5000) > 0).astype(int)


def with_a_long_row(Z):
    X = Z.copy()
    X[7] *= 1000
    return X


def with_a_wild_value(Z):
    X = Z.copy()
    X[7, 1] = 1e6
    return X


def with_a_constant(Z):
    return np.column_stack([Z, np.full(len(Z), 1e8)])


def in_other_units(Z):
    return Z * 10.0 ** np.array([0, 1, 2, 3, 6, 9])


def heavy_tailed(Z):
    """Cauchy distributed, in the order of Z."""
    return np.sign(Z) * np.abs(Z) / np.maximum(1e-4, 1 - np.abs(Z) / 4.5)


TABLES = [with_a_long_row, with_a_wild_value, with_a_constant, in_other_units, heavy_tailed, np.exp]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("change", TABLES)
def test_defaults_are_as_good_as_scaling_first(table, change, dtype):
    Z, y = table
    X = change(Z).astype(dtype)
    ours = SoftmaxClassifier(random_state=0).fit(X, y)
    theirs = make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)).fit(X, y)
    assert ours.score(X, y) > theirs.score(X, y) - 0.01
    assert ours.score(X, y) > 0.83


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "asgd"])
@pytest.mark.parametrize("standardize", [False, True])
def test_one_row_a_thousand_times_longer_disturbs_no_optimizer(table, optimizer, standardize):
    Z, y = table
    model = SoftmaxClassifier(optimizer=optimizer, standardize=standardize, random_state=0)
    assert model.fit(with_a_long_row(Z), y).score(Z, y) > 0.88


@pytest.mark.parametrize("change", [with_a_long_row, heavy_tailed])
def test_full_batches_learn_them_too(table, change):
    Z, y = table
    model = SoftmaxClassifier(batch_size=None, max_iter=300).fit(change(Z), y)
    assert model.score(change(Z), y) > 0.85


def test_a_stream_recovers_from_a_first_batch_in_wrong_units(table):
    Z, y = table
    model = SoftmaxClassifier(random_state=0)
    model.partial_fit(1e6 * Z[:100], y[:100], classes=[0, 1])
    for first in range(100, 5000, 100):
        model.partial_fit(Z[first : first + 100], y[first : first + 100])
    assert model.score(Z, y) > 0.85


def test_rare_words_count(table):
    """Features that are 1 in one row of a hundred, and say which class it is."""
    rng = np.random.default_rng(0)
    X = (rng.random((5000, 60)) < 0.01).astype(float)
    y = (X @ rng.standard_normal(60) > 0).astype(int)
    assert SoftmaxClassifier(random_state=0, alpha=0).fit(X, y).score(X, y) > 0.95


@pytest.mark.parametrize("options", [{}, {"standardize": True}, {"learning_rate": 1e-3}])
@pytest.mark.parametrize("unit", [1e12, 1e16, 1e20, 1e30])
def test_float32_in_huge_units_is_learned_or_refused_in_words(table, unit, options):
    Z, y = table
    X = (Z * unit).astype(np.float32)
    try:
        model = SoftmaxClassifier(random_state=0, **options).fit(X, y)
    except ValueError as refusal:
        assert unit > 1e16 and ("X spans" in str(refusal) or "scale them" in str(refusal))
    else:
        assert model.score(X, y) > 0.8


def test_heavy_tails_reach_the_minimum_or_a_warning_says_how_far_it_is():
    """Log-normal features, sigma 1 to 4: the loss is near that of L-BFGS unless a warning says otherwise."""
    rng = np.random.default_rng(1)
    Z = rng.standard_normal((3000, 6))
    y = (Z @ rng.standard_normal(6) + rng.standard_normal(3000) > 0).astype(int)
    for sigma in (1, 2, 3, 4):
        X = np.exp(sigma * Z)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = SoftmaxClassifier(random_state=0).fit(X, y)
        loss = -np.mean(model.predict_log_proba(X)[np.arange(len(y)), y])
        least = SoftmaxClassifier(solver="lbfgs", tol=1e-6, max_iter=5000).fit(X, y).loss_curve_[-1]
        assert loss < least + 0.01 or any("above its least" in str(w.message) for w in caught)


def test_what_a_wild_row_with_a_wrong_label_leaves_is_told(table):
    Z, y = table
    X, y = with_a_long_row(Z), y.copy()
    y[7] = 1 - y[7]
    with pytest.warns(ConvergenceWarning, match="above its least: some rows are so much longer.*lbfgs"):
        model = SoftmaxClassifier(random_state=0).fit(X, y)
    assert model.score(Z, y) > 0.85
