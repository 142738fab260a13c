"""What a call costs on tables of some ten rows, of softline and of scikit-learn: mostly checks and Python.

python benchmarks/overhead.py
python benchmarks/overhead.py --only import search

"sgd" compares SoftmaxClassifier with SGDClassifier(loss="log_loss"), "logistic" the two LogisticRegression.
Processor time by one thread, the least of many calls in turn, so that it holds on a busy machine; imports
take that of new processes, and searches, some of them by two processes, wall time. Predictions are checked
first: those of the two LogisticRegression must be the same.
"""

import argparse
import os
import subprocess
import sys
import time
import warnings

from one_thread import THREADS  # isort: skip, before NumPy

import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import StandardScaler

from softline import SoftmaxClassifier
from softline.linear_model import LogisticRegression

PAIRS = {
    "sgd": (SoftmaxClassifier(random_state=0), SGDClassifier(loss="log_loss", random_state=0)),
    "logistic": (LogisticRegression(), SklearnLogisticRegression()),
}
X = np.random.default_rng(0).standard_normal((20, 4))
Y = (X[:, 0] > 0).astype(int)


def calls_of(model):
    """What is called, by name, on a model fitted to 20 rows."""
    model = clone(model).fit(X, Y)
    calls = {
        "construct": type(model),
        "clone": lambda: clone(model),
        "get_params": model.get_params,
        "set_params": lambda: model.set_params(max_iter=100),
        "fit 20 rows": lambda: model.fit(X, Y),
        "predict a row": lambda: model.predict(X[:1]),
        "predict_proba of a row": lambda: model.predict_proba(X[:1]),
    }
    if hasattr(model, "partial_fit"):
        stream = clone(model).partial_fit(X, Y, classes=[0, 1])
        calls["partial_fit of a row"] = lambda: stream.partial_fit(X[:1], Y[:1])
    return calls


def searches_of(model):
    """Searches with a model, by name and whether they take processes."""
    big, labels = load_breast_cancer(return_X_y=True)
    big = StandardScaler().fit_transform(big)
    grid = {"C": [0.01, 0.1, 1.0, 10.0]}
    found = {}
    for n_jobs in (None, 2):
        found[f"cross_val_score, n_jobs={n_jobs}"] = lambda n=n_jobs: cross_val_score(
            model, big, labels, n_jobs=n
        )
        found[f"GridSearchCV, n_jobs={n_jobs}"] = lambda n=n_jobs: GridSearchCV(model, grid, n_jobs=n).fit(
            big, labels
        )
    return found


def least(sides, clock, budget=0.3, most=200, at_once=20):
    """Seconds of a call for each side, the least of those in turn that fit into the budget.

    At first, and of short calls, so many `at_once` are timed.
    """
    seconds, spent = [np.inf, np.inf], 0.0
    for i in range(most):
        if spent > budget and i >= 3:
            break
        for side, call in enumerate(sides):
            repeats = 1 if seconds[side] > 1e-4 and i else at_once
            start = clock()
            for _ in range(repeats):
                call()
            taken = (clock() - start) / repeats
            seconds[side], spent = min(seconds[side], taken), spent + taken * repeats
    return seconds


def imported(statement):
    return lambda: subprocess.run([sys.executable, "-c", statement], check=True)


def processes_time():
    """Processor time of the processes that were started and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def rows():
    """(name, calls of both sides, clock, options) of each row."""
    for name, pair in PAIRS.items():
        ours, theirs = map(calls_of, pair)
        for what in ours:
            yield f"{name}: {what}", (ours[what], theirs[what]), time.process_time, {}
    ours, theirs = map(searches_of, PAIRS["logistic"])
    for what in ours:
        yield f"search: {what}", (ours[what], theirs[what]), time.perf_counter, {"budget": 2, "at_once": 1}
    for ours, theirs in (
        ("import softline", "import sklearn"),
        (
            "from softline.linear_model import LogisticRegression",
            "from sklearn.linear_model import LogisticRegression",
        ),
    ):
        sides = imported(ours), imported(theirs)
        yield f"import: {ours.split()[-1]}", sides, processes_time, {"budget": 30, "most": 10, "at_once": 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], parents=[THREADS])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows whose name has one of these in it")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # that they still improved after max_iter
    ours, theirs = (clone(model).fit(X, Y) for model in PAIRS["logistic"])
    if not np.array_equal(ours.predict(X), theirs.predict(X)):
        sys.exit("the two LogisticRegression predict differently")
    print(f"{'':42}{'softline us':>12}{'sklearn us':>12}{'times':>8}")
    for name, sides, clock, options in rows():
        if args.only and not any(wanted in name for wanted in args.only):
            continue
        mine, other = least(sides, clock, **options)
        note = "  slower" if other < mine else ""
        print(f"{name:42}{1e6 * mine:12.1f}{1e6 * other:12.1f}{other / mine:7.2f}x{note}", flush=True)


if __name__ == "__main__":
    main()
