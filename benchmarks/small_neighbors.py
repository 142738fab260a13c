"""KNeighborsClassifier on tables of every size against scikit-learn, as it comes: checked first, then timed.

python benchmarks/small_neighbors.py
python benchmarks/small_neighbors.py --rows 100 1000 --features 2 30 --queries 1

Both are KNeighborsClassifier(), 5 neighbours. Distances must be the same to one part in a million, and
neighbours where these differ; then processor time is compared, the least of several turns of each, so that
it holds on a busy machine.
"""

import argparse
import itertools

from one_thread import THREADS, clock  # isort: skip, before NumPy

import numpy as np
from sklearn.neighbors import KNeighborsClassifier as SklearnKNeighborsClassifier

from softline.neighbors import KNeighborsClassifier

# Seconds of calls of each side, and the most calls.
BUDGET, MOST_CALLS = 0.3, 40


def seconds_of(calls):
    """The least processor time of each of two calls, in turn."""
    best, spent, n = [np.inf, np.inf], [0.0, 0.0], 0
    while n < 2 or (n < MOST_CALLS and min(spent) < BUDGET):
        for i, call in enumerate(calls):
            if n < 2 or spent[i] < BUDGET:
                start = clock()
                call()
                taken = clock() - start
                best[i], spent[i] = min(best[i], taken), spent[i] + taken
        n += 1
    return best


def compare(N, D, queries):
    """(what, seconds of softline, seconds of scikit-learn) of each method."""
    rng = np.random.default_rng(0)
    X, Q, y = rng.standard_normal((N, D)), rng.standard_normal((queries, D)), np.arange(N) % 3
    ours, theirs = models = [KNeighborsClassifier(), SklearnKNeighborsClassifier()]
    yield "fit", *seconds_of([lambda model=model: model.fit(X, y) for model in models])
    (neigh_dist, neigh_ind), (their_dist, their_ind) = ours.kneighbors(Q), theirs.kneighbors(Q)
    np.testing.assert_allclose(neigh_dist, their_dist, rtol=1e-6)
    np.testing.assert_array_equal(neigh_ind, their_ind)
    yield "kneighbors", *seconds_of([lambda model=model: model.kneighbors(Q) for model in models])
    yield "predict", *seconds_of([lambda model=model: model.predict(Q) for model in models])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], parents=[THREADS])
    parser.add_argument("--rows", nargs="+", type=int, default=[50, 100, 1000, 10_000])
    parser.add_argument("--features", nargs="+", type=int, default=[2, 5, 15, 16, 30, 100, 784])
    parser.add_argument("--queries", nargs="+", type=int, default=[1, 100, 1000])
    args = parser.parse_args()
    ratios = {}
    for N, D, queries in itertools.product(args.rows, args.features, args.queries):
        for what, ours, theirs in compare(N, D, queries):
            ratios[N, D, queries, what] = ours / theirs
            print(
                f"{N:6} x {D:<4} {queries:5} queries  {what:11}{1e3 * ours:9.3f}{1e3 * theirs:9.3f} ms"
                f"{ours / theirs:7.2f}x the time{'  slower' if ours > theirs else ''}",
                flush=True,
            )
    worst = max(ratios, key=ratios.get)
    print(
        f"{len(ratios)} rows: {sum(r > 1 for r in ratios.values())} slower than scikit-learn; median "
        f"{np.median(list(ratios.values())):.2f}x its time, most {ratios[worst]:.2f}x ("
        f"{worst[0]} x {worst[1]}, {worst[2]} queries, {worst[3]})"
    )


if __name__ == "__main__":
    main()
