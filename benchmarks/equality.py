"""LogisticRegression beside scikit-learn's, both to tol=1e-10 in float64: how far apart, and how long.

python benchmarks/equality.py --data-dir DIR

scikit-learn's takes exact Newton steps: "newton-cholesky", on MNIST "newton-cg", minutes for a large C. A
gradient of 1e-10 leaves weights free within 1e-10 C n; what is below that is no difference.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.preprocessing import StandardScaler

from softline import datasets
from softline.linear_model import LogisticRegression

SMALL = {"iris": load_iris, "wine": load_wine, "breast cancer": load_breast_cancer, "digits": load_digits}
TOL = 1e-10


def fitted(model, X, y):
    """(seconds, whether it says that it converged) of a fit."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    return time.perf_counter() - start, not caught


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder of mnist; without it, only scikit-learn's small data sets")
    parser.add_argument(
        "--C", type=float, nargs="+", default=[1e-4, 1e-2, 1.0], help="(default: 1e-4 1e-2 1)"
    )
    args = parser.parse_args()
    print("data                 C  tol C n     coef  intercept    proba  seconds, ours  theirs")
    data = {name: load(return_X_y=True) for name, load in SMALL.items()}
    data = {name: (StandardScaler().fit_transform(X), y) for name, (X, y) in data.items()}
    if args.data_dir:
        mnist = datasets.load("mnist", data_dir=args.data_dir)
        data["mnist, X/255"] = mnist.X_train / 255.0, mnist.y_train
    for name, (X, y) in data.items():
        for C in args.C:
            solver = "newton-cholesky" if X.size < 1e6 else "newton-cg"
            ours = LogisticRegression(C=C, tol=TOL, max_iter=5000)
            theirs = SklearnLogisticRegression(C=C, tol=TOL, max_iter=1000, solver=solver)
            (seconds, sure), (their_seconds, they_are) = fitted(ours, X, y), fitted(theirs, X, y)
            apart = [
                np.abs(a - b).max()
                for a, b in (
                    (ours.coef_, theirs.coef_),
                    (ours.intercept_, theirs.intercept_),
                    (ours.predict_proba(X), theirs.predict_proba(X)),
                )
            ]
            sizes = "{:9.1e}{:11.1e}{:9.1e}".format(*apart)
            doubt = "" if sure and they_are else "  not converged: " + ("theirs" if sure else "ours")
            print(
                f"{name:14}{C:8.0e}{TOL * C * len(y):9.1e}{sizes}{seconds:15.2f}{their_seconds:8.2f}{doubt}",
                flush=True,
            )


if __name__ == "__main__":
    main()
