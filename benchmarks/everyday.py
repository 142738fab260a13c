"""LogisticRegression on everyday data against scikit-learn, by every solver: the objective, then the time.

python benchmarks/everyday.py --out everyday.jsonl        # goes on where it was interrupted
python benchmarks/everyday.py --only iris "wide 62"

Both fit with the same parameters and default tol. The objective of softline must not be higher by more than
one part in 100,000; then the time is compared, the least of several fits in turn: of one thread its processor
time, which holds on a busy machine, of more the time that passes. Where scikit-learn is faster because it
stops above the minimum, it fits again to a smaller tol, until it is as low: "same" is its time then, as a
multiple of softline's. Without --out nothing is kept.
"""

import argparse
import itertools
import json
import sys
import warnings
from pathlib import Path

from one_thread import THREADS, clock  # isort: skip, before NumPy

import numpy as np
from scipy.special import logsumexp
from sklearn import datasets
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.preprocessing import StandardScaler, normalize

from softline.linear_model import LogisticRegression

# What an objective may be above scikit-learn's, as a share of it.
ABOVE = 1e-5
# How far above softline's scikit-learn's objective counts as the same; its tols and iterations to get there.
SAME, TOLS, MOST_ITERATIONS = 1e-4, (1e-5, 1e-6, 1e-7, 1e-8, 1e-9), 10_000
# Seconds of fits of each side, and the most fits.
BUDGET, MOST_FITS = 0.4, 15


def random_table(n, D, n_classes=2, seed=0, **options):
    options = {"n_informative": max(2, D // 2), "n_redundant": 0, "flip_y": 0.1} | options
    return datasets.make_classification(n, D, n_classes=n_classes, random_state=seed, **options)


def genes(n, D, n_classes=2):
    """Few rows, many features of ten factors, and a few that tell the classes apart."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % n_classes
    X = rng.standard_normal((n, 10)) @ rng.standard_normal((10, D)) + rng.standard_normal((n, D))
    return X + 0.5 * np.eye(n_classes)[y] @ (rng.standard_normal((n_classes, D)) * (rng.random(D) < 0.02)), y


def standardised(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def collinear(n, D):
    X, y = random_table(n, D, n_informative=5, n_redundant=D - 5)
    return X * 10.0 ** np.random.default_rng(0).uniform(-1, 2, D), y


def heavy_tailed(n, D):
    X, y = random_table(n, D)
    return np.sign(X) * np.abs(X) ** 3, y


def unit_norm(n, D, n_classes):
    X, y = random_table(n, D, n_classes, n_informative=min(D, 20))
    return normalize(X), y


DATA = {
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "wine, standardised": lambda: standardised(datasets.load_wine),
    "breast cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "breast cancer, standardised": lambda: standardised(datasets.load_breast_cancer),
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "digits, standardised": lambda: standardised(datasets.load_digits),
    "100 x 2": lambda: random_table(100, 2),
    "200 x 5": lambda: random_table(200, 5),
    "500 x 10 x 3": lambda: random_table(500, 10, 3),
    "1000 x 20": lambda: random_table(1000, 20),
    "1000 x 20 x 5": lambda: random_table(1000, 20, 5),
    "2000 x 50": lambda: random_table(2000, 50),
    "3000 x 8 x 4": lambda: random_table(3000, 8, 4),
    "5000 x 30": lambda: random_table(5000, 30),
    "5000 x 100": lambda: random_table(5000, 100),
    "10000 x 10": lambda: random_table(10000, 10),
    "10000 x 20 x 4": lambda: random_table(10000, 20, 4),
    "20000 x 20": lambda: random_table(20000, 20),
    "200000 x 5": lambda: random_table(200000, 5),
    "wide 62 x 2000": lambda: genes(62, 2000),
    "wide 72 x 4000": lambda: genes(72, 4000),
    "wide 100 x 200": lambda: genes(100, 200),
    "wide 100 x 500": lambda: genes(100, 500),
    "wide 100 x 1000": lambda: genes(100, 1000),
    "wide 300 x 1000 x 20": lambda: genes(300, 1000, 20),
    "wide 500 x 3000 x 5": lambda: genes(500, 3000, 5),
    "collinear 300 x 20": lambda: collinear(300, 20),
    "collinear 2000 x 40": lambda: collinear(2000, 40),
    "heavy-tailed 1000 x 10": lambda: heavy_tailed(1000, 10),
    "unit rows 1000 x 64 x 10": lambda: unit_norm(1000, 64, 10),
    "unit rows 2000 x 384 x 5": lambda: unit_norm(2000, 384, 5),
}
CS = (1e-2, 1.0, 1e2)
# Most weights for scikit-learn's "newton-cholesky", which makes and factorises a Hessian of all.
MOST_CHOLESKY = 5000
# l1_ratio, and scikit-learn's solvers of that penalty; liblinear knows two classes.
SOLVERS = [
    (0, "lbfgs"),
    (0, "newton-cholesky"),
    (0, "liblinear"),
    (1, "liblinear"),
    (1, "saga"),
    (0.5, "saga"),
]


def rows(only):
    """(name, l1_ratio, solver, C) of each comparison."""
    for name, (l1_ratio, solver), C in itertools.product(DATA, SOLVERS, CS):
        if not only or any(wanted.lower() in name for wanted in only):
            yield name, l1_ratio, solver, C


def objective(model, X, y):
    """C times the sum of the losses, and the penalty: what both minimise."""
    scores = X @ model.coef_.T + model.intercept_
    if len(model.coef_) == 1:
        scores = np.column_stack([np.zeros(len(X)), scores])
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(X)), np.searchsorted(model.classes_, y)]
    W = model.coef_
    if model.solver == "liblinear":
        W = np.append(W, model.intercept_)
    penalty = model.l1_ratio * np.sum(np.abs(W)) + (1 - model.l1_ratio) / 2 * np.sum(W**2)
    return model.C * np.sum(losses) + penalty


def compare(name, l1_ratio, solver, C):
    """A row of the table."""
    X, y = DATA[name]()
    models = [
        cls(C=C, l1_ratio=l1_ratio, solver=solver) for cls in (LogisticRegression, SklearnLogisticRegression)
    ]
    seconds, spent = [np.inf, np.inf], [0.0, 0.0]
    for _ in range(MOST_FITS):
        for i, model in enumerate(models):
            if spent[i] < BUDGET:
                start = clock()
                model.fit(X, y)
                taken = clock() - start
                seconds[i], spent[i] = min(seconds[i], taken), spent[i] + taken
    ours, theirs = (objective(model, X, y) for model in models)
    same = None
    if seconds[1] < seconds[0] and theirs > ours * (1 + SAME):
        same = seconds_to(ours * (1 + SAME), models[1], X, y) / seconds[0]
    return {
        "data": name,
        "penalty": {0: "L2", 1: "L1"}.get(l1_ratio, "elastic net"),
        "solver": solver,
        "C": C,
        "softline_ms": 1e3 * seconds[0],
        "sklearn_ms": 1e3 * seconds[1],
        "times": seconds[1] / seconds[0],
        "above": ours / theirs - 1,
        "same": same,
    }


def seconds_to(value, model, X, y):
    """Seconds of a fit of scikit-learn's that ends no higher; infinite if none does."""
    for tol in TOLS:
        model.set_params(tol=tol, max_iter=MOST_ITERATIONS)
        start = clock()
        model.fit(X, y)
        taken = clock() - start
        if objective(model, X, y) <= value:
            return taken
    return np.inf


def show(row):
    note = "  HIGHER" if row["above"] > ABOVE else "  slower" if row["times"] < 1 else ""
    if row.get("same"):
        note += f", to the same minimum {row['same']:.2f}x"
    row = row | {"note": note}
    print(
        "{data:28}{penalty:12}{solver:16}C={C:<6g}{softline_ms:9.2f}{sklearn_ms:9.2f} ms{times:7.2f}x"
        "{above:10.1e}{note}".format(**row),
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], parents=[THREADS])
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="data sets whose name has one of these in it"
    )
    parser.add_argument("--out", type=Path, help="file of rows to go on with")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # scikit-learn's, that it did not converge
    done = {}
    if args.out and args.out.exists():
        kept = [json.loads(line) for line in args.out.read_text().splitlines()]
        done = {(row["data"], row["penalty"], row["solver"], row["C"]): row for row in kept}
    found = []
    for name, l1_ratio, solver, C in rows(args.only):
        penalty = {0: "L2", 1: "L1"}.get(l1_ratio, "elastic net")
        row = done.get((name, penalty, solver, C))
        if row is None:
            X, y = DATA[name]()
            n_classes = len(np.unique(y))
            n_weights = X.shape[1] * (n_classes if n_classes > 2 else 1)
            if (solver == "liblinear" and n_classes > 2) or (
                solver == "newton-cholesky" and n_weights > MOST_CHOLESKY
            ):
                continue
            row = compare(name, l1_ratio, solver, C)
            if args.out:
                with args.out.open("a") as file:
                    print(json.dumps(row), file=file)
        show(row)
        found.append(row)
    times = np.array([row["times"] for row in found])
    worst = found[int(times.argmin())]
    higher = sum(row["above"] > ABOVE for row in found)
    print(
        f"{len(found)} rows: {np.count_nonzero(times < 1)} slower than scikit-learn, {higher} with a higher "
        f"objective; median {np.median(times):.1f} times as fast, least {times.min():.2f} "
        f"({worst['data']}, {worst['penalty']}, {worst['solver']}, C={worst['C']:g})"
    )
    sys.exit(bool(higher))


if __name__ == "__main__":
    main()
