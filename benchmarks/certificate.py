"""How near the minimum fits of random tables end, and how often they warn: python benchmarks/certificate.py

Tables as people have them (tests/test_everyday.py) are fitted by LogisticRegression and SoftmaxClassifier's
"lbfgs" with default tol, in float64 and float32, for C from 1e-4 to 1e6. Each objective is compared, in
extended precision, with the minimum by Newton's method in NumPy, and with that of scikit-learn's default.
"""

import argparse
import importlib.util
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression

from softline import SoftmaxClassifier
from softline.linear_model import LogisticRegression

SPEC = importlib.util.spec_from_file_location(
    "test_everyday", Path(__file__).parents[1] / "tests" / "test_everyday.py"
)
everyday = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(everyday)


def fit(seed):
    """(gap as a share of the minimum, warned, above the start, above scikit-learn's); None for no table."""
    rng = np.random.default_rng([seed, 1])
    kinds = set(np.array(everyday.KINDS)[rng.random(len(everyday.KINDS)) < 0.2])
    X, y, weight = everyday.table(seed, kinds)
    dtype, C = rng.choice([np.float64, np.float64, np.float32]), 10.0 ** rng.uniform(-4, 6)
    with np.errstate(over="ignore"):
        X = X.astype(dtype)
    total, two = len(y) if weight is None else weight.sum(), y.max() == 1
    model = LogisticRegression(C=C)
    if rng.random() < 0.25:
        model = SoftmaxClassifier(solver="lbfgs", alpha=(2 if two else 1) / (C * total))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y, weight)
    warned = any(issubclass(one.category, ConvergenceWarning) for one in caught)
    coef, intercept = model.coef_.astype(float), model.intercept_.astype(float)
    if len(coef) == 2:
        coef, intercept = coef[1:] - coef[:1], np.diff(intercept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = SklearnLogisticRegression(C=C).fit(X, y, weight)
    X = X.astype(float)
    ours = everyday.objective(X, y, weight, C, coef, intercept)
    theirs = everyday.objective(X, y, weight, C, theirs.coef_, theirs.intercept_)
    least = min(ours, theirs, everyday.least_objective(X, y, weight, C))
    unit = max(least, 1e-4)
    start = np.log(y.max() + 1) * (1 + 1e-9)
    return (ours - least) / unit, warned, ours > start, ours > theirs + everyday.ABOVE * unit, dtype, kinds


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first table")
    args = parser.parse_args()
    began, gaps, warned, above_start, above_theirs = time.perf_counter(), [], 0, 0, 0
    for seed in range(args.first, args.first + args.tables):
        gap, warns, worse, above, dtype, kinds = fit(seed)
        warned, above_start, above_theirs = (
            warned + warns,
            above_start + worse,
            above_theirs + (above and not warns),
        )
        if not warns:
            gaps.append(gap)
        if worse or (not warns and (gap > everyday.ABOVE or above)):
            print(f"table {seed}, {np.dtype(dtype).name}, {', '.join(sorted(kinds))}: {gap:.1e}", flush=True)
    gaps = np.array(gaps)
    print(
        f"{args.tables} tables in {time.perf_counter() - began:.0f} s: {warned} warned; of the others "
        f"{np.sum(gaps > everyday.ABOVE)} ended more than {everyday.ABOVE:g} above the minimum, the furthest "
        f"{gaps.max():.1e}, 99 of 100 below {np.quantile(gaps, 0.99):.1e}; {above_start} above the start, "
        f"{above_theirs} above scikit-learn's"
    )


if __name__ == "__main__":
    main()
