"""Models of everyday data: at the minimum, or a warning says that they are not."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression

from softline import SoftmaxClassifier
from softline.linear_model import LogisticRegression

# How far above the minimum, as a share of it, a fit without a warning may end: see docs/convergence.md. Where
# the objective is below 1e-4, the default tol, it is that share of tol.
ABOVE = 1e-5
L1_BY_RATIO = {
    "solver": "saga",
    **({"penalty": "elasticnet"} if hasattr(SklearnLogisticRegression(), "multi_class") else {}),
}


# What may be special about a table.
KINDS = (
    "constants",
    "correlated",
    "duplicates",
    "heavy tails",
    "offsets",
    "rare classes",
    "scales",
    "separable",
    "sparse",
    "unit rows",
    "weights",
)


def table(seed, kinds):
    """X (n, D), y (n,), sample weights or None."""
    rng = np.random.default_rng(seed)
    n, D, C = (int(rng.choice(sizes)) for sizes in ([12, 30, 80, 200], [1, 2, 5, 20, 60], [2, 2, 3, 5]))
    X = rng.standard_normal((n, D))
    if "heavy tails" in kinds:
        X = np.exp(rng.integers(1, 4) * X) * rng.choice([-1, 1], (n, D))
    if "sparse" in kinds:
        X = (rng.random((n, D)) < rng.choice([0.05, 0.3])).astype(float)
    if "correlated" in kinds:
        X = X @ rng.standard_normal((D, D))
    noise = 0 if "separable" in kinds else rng.choice([0.3, 1, 10])
    y = (X @ rng.standard_normal((D, C)) / np.sqrt(D) + noise * rng.gumbel(size=(n, C))).argmax(axis=1)
    if "rare classes" in kinds:
        y[rng.permutation(n)[: int(0.9 * n)]] = 0
    if "duplicates" in kinds:
        X = np.hstack([X, X[:, : max(1, D // 2)], 2 * X[:, :1]])
    if "constants" in kinds:
        X = np.hstack([X, np.full((n, 1), rng.choice([0, 1, 1e8, 1.7e12]))])
    if "unit rows" in kinds:
        X /= np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-300)
    if "scales" in kinds:
        X *= 10.0 ** rng.uniform(-12, 12, X.shape[1] if rng.random() < 0.5 else None)
    if "offsets" in kinds:
        X += X.std(axis=0) * 10.0 ** rng.uniform(0, 6, X.shape[1])
    y[:C] = np.arange(C)
    weight = None
    if "weights" in kinds:
        weight = rng.integers(0, 4, n).astype(float)
        weight[:C] = 1
    return X, y, weight


def objective(X, y, weight, C, coef, intercept, l1_ratio=0.0):
    """C's objective over C times the sum of the weights, in extended precision."""
    X, coef, intercept = (np.asarray(a, np.longdouble) for a in (X, coef, intercept))
    weight = np.ones(len(y)) if weight is None else weight
    scores = X @ coef.T + intercept
    if len(coef) == 1:
        scores = np.hstack([np.zeros_like(scores), scores])
    scores -= scores.max(axis=1, keepdims=True)
    losses = np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(y)), y]
    penalty = (1 - l1_ratio) / 2 * np.sum(coef**2) + l1_ratio * np.sum(np.abs(coef))
    return float((weight @ losses + penalty / C) / weight.sum())


def least_objective(X, y, weight, C):
    """The minimum with L2, by Newton's method in NumPy on centred and scaled features."""
    n, D = X.shape
    share = np.full(n, 1.0) if weight is None else weight
    penalty, share = 1 / (C * share.sum()), share / share.sum()
    Z = X - share @ X
    deviation = np.sqrt(share @ Z**2)
    constant = deviation <= 1e-14 * np.abs(X).max(axis=0)
    deviation[constant], Z[:, constant] = 1, 0
    Z = np.column_stack([Z / deviation, np.ones(n)])
    l2 = np.append(penalty / deviation**2, 0)
    K = y.max() + 1
    onehot = np.eye(K)[y]

    def value_and_probabilities(W):
        scores = Z @ W.T
        scores -= scores.max(axis=1, keepdims=True)
        sums = np.exp(scores).sum(axis=1, keepdims=True)
        losses = np.log(sums[:, 0]) - scores[np.arange(n), y]
        return share @ losses + np.sum(l2 * W**2) / 2, np.exp(scores) / sums

    # Two classes: w = W[1] - W[0] is penalised, W = (-w/2, w/2) has half its squares.
    l2 = l2 * (2 if K == 2 else 1)
    W = np.zeros((K, D + 1))
    value, P = value_and_probabilities(W)
    for _ in range(300):
        G = ((P - onehot) * share[:, None]).T @ Z + l2 * W
        PZ = (P[:, :, None] * Z[:, None, :]).reshape(n, -1)
        H = -PZ.T @ (PZ * share[:, None]) + np.diag(np.tile(l2, K))
        for c in range(K):
            of_class = slice(c * (D + 1), (c + 1) * (D + 1))
            H[of_class, of_class] += Z.T @ (Z * (share * P[:, c])[:, None])
        scale = np.sqrt(np.maximum(np.diagonal(H), 1e-300))
        H = H / scale / scale[:, None] + 1e-13 * np.eye(len(H))
        try:
            step = -(np.linalg.lstsq(H, G.ravel() / scale, rcond=None)[0] / scale).reshape(W.shape)
        except np.linalg.LinAlgError:  # LAPACK gives up: what there is, is a bound
            break
        gain, t = -np.sum(G * step), 1.0
        while t > 1e-10 and not value_and_probabilities(W + t * step)[0] < value - 1e-4 * t * gain:
            t /= 2
        if gain < 1e-14 * value or t <= 1e-10:
            break
        W = W + t * step
        value, P = value_and_probabilities(W)
    return value


def fitted(estimator, *data):
    """The model, and whether it warned."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimator.fit(*data)
    assert {one.category for one in caught} <= {ConvergenceWarning}, [str(one.message) for one in caught]
    return estimator, bool(caught)


tables = st.tuples(st.integers(0, 2**32 - 1), st.sets(st.sampled_from(KINDS), max_size=4))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tables, st.floats(-4, 6), st.sampled_from([LogisticRegression, SoftmaxClassifier]))
def test_a_fit_is_at_the_minimum_or_warns(which, log_C, estimator):
    X, y, weight = table(*which)
    C = 10.0**log_C
    total, two = len(y) if weight is None else weight.sum(), y.max() == 1
    if estimator is LogisticRegression:
        model, warned = fitted(LogisticRegression(C=C), X, y, weight)
        coef, intercept = model.coef_, model.intercept_
    else:
        alpha = (2 if two else 1) / (C * total)
        model, warned = fitted(SoftmaxClassifier(solver="lbfgs", alpha=alpha), X, y, weight)
        coef, intercept = (
            (model.coef_[1:] - model.coef_[:1], np.diff(model.intercept_))
            if two
            else (
                model.coef_,
                model.intercept_,
            )
        )
    ours = objective(X, y, weight, C, coef, intercept)
    least = min(ours, least_objective(X, y, weight, C))
    assert ours <= np.log(y.max() + 1) * (1 + 1e-9)  # that of all weights zero
    assert warned or ours - least <= ABOVE * max(least, 1e-4)
    if warned:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = SklearnLogisticRegression(C=C).fit(X, y, weight)
    assert ours <= objective(X, y, weight, C, theirs.coef_, theirs.intercept_) + ABOVE * max(least, 1e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tables, st.floats(-2, 4), st.sampled_from([0.5, 1.0]))
def test_l1_is_at_the_minimum_or_warns(which, log_C, l1_ratio):
    X, y, weight = table(*which)
    C = 10.0**log_C
    model, warned = fitted(LogisticRegression(C=C, l1_ratio=l1_ratio, **L1_BY_RATIO), X, y, weight)
    ours = objective(X, y, weight, C, model.coef_, model.intercept_, l1_ratio)
    exact, _ = fitted(
        LogisticRegression(C=C, l1_ratio=l1_ratio, tol=1e-7, max_iter=1000, **L1_BY_RATIO), X, y, weight
    )
    least = min(ours, objective(X, y, weight, C, exact.coef_, exact.intercept_, l1_ratio))
    assert ours <= np.log(y.max() + 1) * (1 + 1e-9)
    assert warned or ours - least <= ABOVE * max(least, 1e-4)


def embeddings(n=1500, d=192, n_classes=25, spread=0.08):
    """Rows of length 1, some around each of the classes' means."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, n_classes, n)
    X = rng.normal(size=(n, d)) / np.sqrt(d) + spread * rng.normal(size=(n_classes, d))[y]
    return X / np.linalg.norm(X, axis=1, keepdims=True), y


@pytest.mark.parametrize("C", [10, 100])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_linear_probe_on_embeddings_of_unit_length(C, dtype):
    """It stopped after one step, at ten times the minimum, without a word."""
    X, y = embeddings()
    X = X.astype(dtype)
    model, warned = fitted(LogisticRegression(C=C), X, y)
    exact = LogisticRegression(C=C, tol=1e-7, max_iter=1000).fit(X.astype(float), y)
    ours, least = (objective(X, y, None, C, m.coef_, m.intercept_) for m in (model, exact))
    assert not warned and ours <= (1 + ABOVE) * least


def changed(name, X):
    """(X changed, what C is multiplied with so that the minimum stays the same)."""
    if name == "rotated":
        return X @ np.linalg.qr(np.random.default_rng(1).standard_normal((X.shape[1],) * 2))[0], 1
    if name == "a common mean":
        return X + np.random.default_rng(1).standard_normal(X.shape[1]), 1
    return X * name, 1 / name**2


@pytest.mark.parametrize("change", [1e-3, 1e3, "rotated", "a common mean"], ids=str)
@pytest.mark.parametrize("data", ["digits", "embeddings"])
def test_the_unit_of_the_features_does_not_matter(data, change):
    X, y = load_digits(return_X_y=True) if data == "digits" else embeddings()
    Z, of_C = changed(change, X)
    C = 1 if data == "digits" else 30
    values = []
    for features, penalty in ((X, C), (Z, C * of_C)):
        model, warned = fitted(LogisticRegression(C=penalty), features, y)
        assert not warned
        values.append(objective(features, y, None, penalty, model.coef_, model.intercept_))
    assert values[1] == pytest.approx(values[0], rel=ABOVE)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("constant", [1.0, 1e8, 1.7e9, 1.7e12])
def test_a_constant_column_changes_nothing(constant, n_classes, dtype):
    """Dates in milliseconds gave losses of a billion."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 6))
    y = (X @ rng.standard_normal((6, n_classes)) + rng.gumbel(size=(400, n_classes))).argmax(axis=1)
    with_it = np.column_stack([X, np.full(400, constant)]).astype(dtype)
    model, warned = fitted(LogisticRegression(), with_it, y)
    X = X.astype(dtype)
    without = LogisticRegression().fit(X, y)
    assert not warned and not model.coef_[:, 6].any()
    np.testing.assert_allclose(
        model.predict_proba(with_it), without.predict_proba(X.astype(dtype)), atol=1e-3
    )


@pytest.mark.parametrize("n", [60, 3000])
def test_float32_far_from_zero(n):
    """Seconds since 1970, within two days: float32 tells 128 of them apart."""
    X, y = embeddings(n, 6, 3, 0.3)
    X = (1.7e9 + 5e4 * X).astype(np.float32)
    model, warned = fitted(LogisticRegression(C=1), X, y)
    X = X.astype(float)
    exact = LogisticRegression(C=1, tol=1e-8).fit(X, y)
    ours, least = (objective(X, y, None, 1, m.coef_, m.intercept_) for m in (model, exact))
    assert not warned and ours <= (1 + ABOVE) * least
    assert np.array_equal(model.predict(X.astype(np.float32)), exact.predict(X))


def test_float32_features_that_repeat_others_are_told_of():
    """They differ by rounding alone, and a lower objective makes use of it."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((200, 4))
    y = (A[:, 0] + rng.logistic(size=200) > 0).astype(int)
    X = np.hstack([A, np.pi * A])
    with pytest.warns(ConvergenceWarning, match=r"above its minimum.*Rounding allows no more: pass float64"):
        model = LogisticRegression(C=np.inf).fit(X.astype(np.float32), y)
    exact, warned = fitted(LogisticRegression(C=np.inf), A, y)
    assert not warned
    np.testing.assert_allclose(model.predict_proba(X), exact.predict_proba(A), atol=1e-3)
    _, warned = fitted(LogisticRegression(), X.astype(np.float32), y)  # the penalty decides
    assert not warned


def genes(n=60, d=1200):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = rng.standard_normal((n, 10)) @ rng.standard_normal((10, d)) + rng.standard_normal((n, d))
    return X + 0.5 * np.eye(2)[y] @ (rng.standard_normal((2, d)) * (rng.random(d) < 0.02)), y


@pytest.mark.parametrize("l1_ratio", [0, 0.5, 1])
@pytest.mark.parametrize("warm", [False, True])
def test_many_more_features_than_rows(l1_ratio, warm):
    """In the space of the rows, or on working sets: the conditions of a minimum hold for all features."""
    X, y = genes()
    kind = L1_BY_RATIO | {"l1_ratio": l1_ratio} if l1_ratio else {}
    model = LogisticRegression(tol=1e-7, max_iter=1000, warm_start=warm, **kind).fit(X, y)
    if warm:
        coef = model.coef_
        model.fit(X, y)
        np.testing.assert_allclose(model.coef_, coef, atol=1e-6)
    w, alpha = model.coef_[0], 1 / len(y)
    residuals = model.predict_proba(X)[:, 1] - y
    slopes = residuals @ X / len(y) + alpha * (1 - l1_ratio) * w
    assert abs(residuals.mean()) < 1e-6
    weighted = w != 0
    np.testing.assert_allclose(slopes[weighted], -alpha * l1_ratio * np.sign(w[weighted]), atol=1e-6)
    assert np.all(np.abs(slopes[~weighted]) <= alpha * l1_ratio * (1 + 1e-4))
    assert weighted.all() == (l1_ratio == 0)


def test_wide_features_of_very_different_units():
    """Products of rows would hold the largest feature and no other."""
    X, y = genes(30, 80)
    C, units = 1e4, 10.0 ** np.random.default_rng(0).uniform(-6, 12, 80)
    model, warned = fitted(LogisticRegression(C=C, max_iter=1000), X * units, y)
    ours = objective(X * units, y, None, C, model.coef_, model.intercept_)
    assert not warned and ours - least_objective(X * units, y, None, C) <= ABOVE * max(ours, 1e-4)


def test_a_warm_start_is_never_made_worse():
    X, y, _ = table(3, {"heavy tails", "scales"})
    model, _ = fitted(LogisticRegression(C=1e3, tol=1e-6, max_iter=1000, warm_start=True), X, y)
    before = objective(X, y, None, 1e3, model.coef_, model.intercept_)
    for max_iter in (1, 2, 50):
        fitted(model.set_params(max_iter=max_iter, tol=1e-12), X, y)
        after = objective(X, y, None, 1e3, model.coef_, model.intercept_)
        assert after <= before * (1 + 1e-12)
        before = after


def test_a_C_of_1e20_is_no_penalty():
    X, y = embeddings(300, 5, 3, 0.3)
    models = [LogisticRegression(C=C).fit(X, y) for C in (1e20, 1e300, np.inf)]
    assert len({model.coef_.tobytes() for model in models}) == 1


@pytest.mark.parametrize("estimator", [LogisticRegression, SoftmaxClassifier])
def test_a_class_whose_rows_weigh_nothing_takes_no_part_in_balancing(estimator):
    """As bags of rows have it that a rare class is not in."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((100, 3)), rng.integers(2, size=100)
    y[:2] = 2
    options = {"class_weight": "balanced", "tol": 1e-8, "max_iter": 1000}
    options |= {"solver": "lbfgs"} if estimator is SoftmaxClassifier else {}
    model, _ = fitted(estimator(**options), X, y, np.where(y == 2, 0.0, 1.0))
    if estimator is LogisticRegression:
        options["C"] = 2.0  # one row of weights has twice the squares of two
    without, _ = fitted(estimator(**options), X[2:], y[2:])
    probs = model.predict_proba(X)
    assert probs[:, 2].max() < 1e-6
    np.testing.assert_allclose(probs[:, :2], without.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("weight", [np.nan, -1.0, np.inf])
def test_class_weights_that_are_no_weights_are_refused(weight):
    from softline.linear_model import LeastSquaresClassifier

    X, y = embeddings(60, 4, 2)
    for estimator in (LogisticRegression, SoftmaxClassifier, LeastSquaresClassifier):
        with pytest.raises(ValueError, match="class_weight must hold finite numbers of at least 0; 1 has"):
            estimator(class_weight={0: 1.0, 1: weight}).fit(X, y)


@pytest.mark.parametrize("classes", [["no", "yes"], [0, 1, 2]])
def test_a_model_made_by_hand_predicts_as_scikit_learns_does(classes):
    """Weights that another program trained."""
    X = np.array([[0.3, -1.2], [2.0, 0.7], [-1.0, 0.1]])
    coef = [[1.5, -0.5]] if len(classes) == 2 else [[1.0, 0], [0, 1], [-1, -1]]
    ours, theirs = LogisticRegression(), SklearnLogisticRegression()
    for model in (ours, theirs):
        model.coef_, model.classes_ = np.array(coef), np.array(classes)
        model.intercept_ = np.array([0.25, 0.1, 0.2])[: len(coef)]
    assert np.array_equal(ours.predict(X), theirs.predict(X))
    for method in ("decision_function", "predict_proba", "predict_log_proba"):
        np.testing.assert_allclose(getattr(ours, method)(X), getattr(theirs, method)(X))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.skipif(
    not hasattr(SklearnLogisticRegression(), "multi_class"),
    reason="scikit-learn 1.8 and newer has no multi_class",
)
def test_multinomial_of_two_classes_is_scikit_learns():
    X, y = embeddings(200, 5, 2, 0.3)
    ours, theirs = (
        cls(multi_class="multinomial").fit(X, y) for cls in (LogisticRegression, SklearnLogisticRegression)
    )
    assert np.array_equal(ours.coef_, theirs.coef_)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X))
