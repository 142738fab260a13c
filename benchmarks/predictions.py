"""Predictions of LogisticRegression against scikit-learn, of tables of every size: checked, then timed.

python benchmarks/predictions.py
python benchmarks/predictions.py --rows 1 100000 --features 2 --classes 2

Both have the same weights. Scores and probabilities must be the same to rounding, and so must classes but
where scores are; then processor time is compared, the least of several calls of each in turn, so that it
holds on a busy machine. Each result is dropped before the next call.
"""

import argparse
import itertools
import sys
from functools import partial

from one_thread import THREADS, clock  # isort: skip, before NumPy

import numpy as np
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression

from softline.linear_model import LogisticRegression

# Seconds of calls of each side, and the most turns.
BUDGET, MOST_TURNS = 0.2, 30
# Seconds of a turn: shorter calls are repeated.
TURN = 5e-4


def seconds_of(calls):
    """The least processor time of each of two calls, in turn."""
    repeats = []
    for call in calls:
        start = clock()
        call()
        repeats.append(1 + int(TURN / (clock() - start + 1e-6)))
    best, spent, turns = [np.inf, np.inf], [0.0, 0.0], 0
    while turns < 3 or (turns < MOST_TURNS and max(spent) < BUDGET):
        for i, (call, n) in enumerate(zip(calls, repeats, strict=True)):
            start = clock()
            for _ in range(n):
                call()
            taken = clock() - start
            best[i], spent[i] = min(best[i], taken / n), spent[i] + taken
        turns += 1
    return best


def models_of(D, n_classes):
    """softline's and scikit-learn's, of the same random weights."""
    rng = np.random.default_rng(D)
    W = rng.standard_normal((1 if n_classes == 2 else n_classes, D)) / np.sqrt(D)
    b = 0.1 * rng.standard_normal(len(W))
    models = []
    for cls in (LogisticRegression, SklearnLogisticRegression):
        model = cls().fit(np.eye(n_classes, D), np.arange(n_classes))
        model.coef_, model.intercept_ = W.copy(), b.copy()
        models.append(model)
    return models


def check(ours, theirs, X):
    probabilities = ours.predict_proba(X)
    np.testing.assert_allclose(probabilities, theirs.predict_proba(X), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), rtol=1e-10, atol=1e-12)
    top = np.sort(probabilities, axis=1)
    clear = top[:, -1] - top[:, -2] > 1e-9
    np.testing.assert_array_equal(ours.predict(X)[clear], theirs.predict(X)[clear])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], parents=[THREADS])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 10, 100, 1000, 10_000, 100_000])
    parser.add_argument("--features", nargs="+", type=int, default=[2, 5, 20, 64, 100, 784])
    parser.add_argument("--classes", nargs="+", type=int, default=[2, 3, 10])
    args = parser.parse_args()
    found = []
    for D, n_classes, N in itertools.product(args.features, args.classes, args.rows):
        models = models_of(D, n_classes)
        X = np.random.default_rng(N).standard_normal((N, D))
        check(*models, X)
        for method in ("decision_function", "predict", "predict_proba"):
            ours, theirs = seconds_of([partial(getattr(model, method), X) for model in models])
            name = f"{N:7} x {D:<4} {n_classes:3} classes  {method:18}"
            found.append((ours / theirs, name))
            print(
                f"{name}{1e6 * ours:10.1f}{1e6 * theirs:10.1f} us{ours / theirs:7.2f}x the time"
                f"{'  slower' if ours > theirs else ''}",
                flush=True,
            )
    ratios = np.array([ratio for ratio, _ in found])
    print(
        f"{len(found)} rows: {np.count_nonzero(ratios > 1)} slower than scikit-learn; median "
        f"{np.median(ratios):.2f}x its time, most {max(found)[0]:.2f}x:{max(found)[1]}"
    )
    sys.exit(bool((ratios > 1).any()))


if __name__ == "__main__":
    main()
