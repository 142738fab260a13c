"""SoftmaxClassifier on small tables against scikit-learn's SGDClassifier: the accuracy, then the time.

python benchmarks/small_sgd.py
python benchmarks/small_sgd.py --only iris wine

Both fit with their default parameters, SGDClassifier by the logistic loss. The accuracy on the training rows
must be at least SGDClassifier's, which is fitted from several seeds, and the median of them counts; then
processor time is compared, the least of many fits in turn, so that it holds on a busy machine. "epochs" are
those until each stopped.
"""

import argparse
import os
import sys
import time
import warnings

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is imported

import numpy as np  # noqa: E402
from sklearn import datasets  # noqa: E402
from sklearn.linear_model import SGDClassifier  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from softline import SoftmaxClassifier  # noqa: E402

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


def compare(X, y, repeats):
    """(milliseconds, accuracy, epochs) of softline and of scikit-learn."""
    models = [
        [SoftmaxClassifier(random_state=seed) for seed in range(SEEDS)],
        [SGDClassifier(loss="log_loss", random_state=seed) for seed in range(SEEDS)],
    ]
    seconds = np.full((2, SEEDS), np.inf)
    for _ in range(repeats):
        for seed in range(SEEDS):
            for side in range(2):
                start = time.process_time()
                models[side][seed].fit(X, y)
                seconds[side, seed] = min(seconds[side, seed], time.process_time() - start)
    return [
        (
            1e3 * np.median(seconds[side]),
            np.median([model.score(X, y) for model in models[side]]),
            int(np.median([model.n_iter_ for model in models[side]])),
        )
        for side in range(2)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="data sets whose name has one of these in it")
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="fits of each model; default 10")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # softline's, that it still improved after max_iter
    columns = f"{'softline ms':>12}{'sklearn ms':>12}{'times':>8}"
    print(f"{'data':29}{columns}{'accuracy':>16}{'epochs':>12}")
    lower = 0
    for name, load in DATA.items():
        if args.only and not any(wanted in name for wanted in args.only):
            continue
        (ours, our_accuracy, our_epochs), (theirs, accuracy, epochs) = compare(*load(), args.repeats)
        lower += our_accuracy < accuracy
        print(
            f"{name:29}{ours:12.2f}{theirs:12.2f}{theirs / ours:7.2f}x{our_accuracy:9.3f}{accuracy:7.3f}"
            f"{our_epochs:7}{epochs:5}{'  LOWER' if our_accuracy < accuracy else ''}",
            flush=True,
        )
    sys.exit(bool(lower))


if __name__ == "__main__":
    main()
