"""LeastSquaresClassifier against scikit-learn's RidgeClassifier: checked first, then timed; and peak memory.

python benchmarks/least_squares.py --data-dir DIR
"""

import argparse
import time
import tracemalloc

import numpy as np
from sklearn.linear_model import RidgeClassifier

from softline import datasets
from softline.linear_model import LeastSquaresClassifier


def measure(model, X, y):
    """(seconds, bytes allocated at most) of a fit."""
    start = time.perf_counter()
    model.fit(X, y)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    model.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder of mnist and cifar10 (default: $SOFTLINE_DATA, or data)")
    parser.add_argument("--alpha", type=float, default=1e7, help="(default: 1e7)")
    args = parser.parse_args()
    print(f"{'data':10}{'rows':>18}  {'':24}{'seconds':>9}{'MB':>7}  test accuracy")
    for name in ("mnist", "cifar10"):
        data = datasets.load(name, data_dir=args.data_dir)
        models = [cls(alpha=args.alpha) for cls in (LeastSquaresClassifier, RidgeClassifier)]
        found = [measure(model, data.X_train, data.y_train) for model in models]
        ours, theirs = models
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5 * np.abs(theirs.coef_).max())
        shape = "{} x {}".format(*data.X_train.shape)
        for model, (seconds, peak) in zip(models, found, strict=True):
            rates = f"{seconds:9.2f}{peak / 1e6:7.0f}  {model.score(data.X_test, data.y_test):.2%}"
            print(f"{name:10}{shape:>18}  {type(model).__name__:24}{rates}", flush=True)


if __name__ == "__main__":
    main()
