"""SoftmaxClassifier on small tables against scikit-learn's SGDClassifier: the accuracy, then the time.

python benchmarks/small_sgd.py
python benchmarks/small_sgd.py --only iris wine

Both fit with default parameters, SGDClassifier by the logistic loss. Of five seeds the medians count. The
accuracy on the training rows must be at least SGDClassifier's; then processor time is compared, the least of
many fits in turn, so that it holds on a busy machine. Two rows for each table: as both stop by themselves,
and to the same accuracy, SGDClassifier's own, each with the fewest epochs that reach it.
"""

import argparse
import sys
import warnings

from one_thread import THREADS, clock  # isort: skip, before NumPy

import numpy as np
from sklearn import datasets
from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler

from softline import SoftmaxClassifier

SEEDS = 5


def standardised(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


DATA = {
    "iris": lambda: datasets.load_iris(return_X_y=True),
    "wine, standardised": lambda: standardised(datasets.load_wine),
    "breast cancer, standardised": lambda: standardised(datasets.load_breast_cancer),
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "1000 x 20": lambda: datasets.make_classification(1000, 20, random_state=0),
}


def models(**options):
    """Models of softline and of scikit-learn, one for each seed."""
    return [
        [SoftmaxClassifier(random_state=seed, **options) for seed in range(SEEDS)],
        [SGDClassifier(loss="log_loss", random_state=seed, **options) for seed in range(SEEDS)],
    ]


def accuracy(side, X, y):
    return np.median([model.score(X, y) for model in side])


def fewest_epochs(side, X, y, wanted):
    """The fewest epochs after which the models of one side are as accurate as wanted."""
    for epochs in range(1, 1000):
        for model in side:
            model.set_params(max_iter=epochs, tol=None).fit(X, y)
        if accuracy(side, X, y) >= wanted:
            return


def milliseconds(sides, X, y, repeats):
    """Processor time of a fit for each side."""
    seconds = np.full((2, SEEDS), np.inf)
    for _ in range(repeats):
        for seed in range(SEEDS):
            for side in range(2):
                start = clock()
                sides[side][seed].fit(X, y)
                seconds[side, seed] = min(seconds[side, seed], clock() - start)
    return 1e3 * np.median(seconds, axis=1)


def compare(name, X, y, repeats):
    """Print two rows; return whether softline is the less accurate."""
    sides = models()
    by_themselves = milliseconds(sides, X, y, repeats)
    wanted = accuracy(sides[1], X, y)
    for how in ("", "to the same accuracy"):
        if how:
            for side in sides:
                fewest_epochs(side, X, y, wanted)
        ours, theirs = milliseconds(sides, X, y, repeats) if how else by_themselves
        ours_right, theirs_right = (accuracy(side, X, y) for side in sides)
        epochs = [int(np.median([model.n_iter_ for model in side])) for side in sides]
        lower = "  LOWER" if ours_right < theirs_right and not how else ""
        print(
            f"{name if not how else '  ' + how:29}{ours:12.2f}{theirs:12.2f}{theirs / ours:7.2f}x"
            f"{ours_right:9.3f}{theirs_right:7.3f}{epochs[0]:7}{epochs[1]:5}{lower}",
            flush=True,
        )
        if lower:
            return True
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], parents=[THREADS])
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="data sets whose name has one of these in it"
    )
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="fits of each model; default 10")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # that they still improved after max_iter
    print(f"{'data':29}{'softline ms':>12}{'sklearn ms':>12}{'times':>8}{'accuracy':>16}{'epochs':>12}")
    wanted = [name for name in DATA if not args.only or any(one in name for one in args.only)]
    sys.exit(any([compare(name, *DATA[name](), args.repeats) for name in wanted]))


if __name__ == "__main__":
    main()
