"""Fits on a busy machine: the threads that softline takes by itself beside one thread. Linux only.

    python benchmarks/busy.py --data-dir DIR
    python benchmarks/busy.py --data-dir DIR --repeats 15 --fits digits mnist

The same fit is timed in turn with the default number of threads and with one (by threadpoolctl), first as the
machine is, then with an endless loop on each of its cores. Weights are compared to the bit before anything is
timed. Each ratio is the median time of the default / the median time of one thread, under the same load.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
import warnings

import numpy as np
from threadpoolctl import threadpool_limits

from softline import SoftmaxClassifier, datasets
from softline.linear_model import LogisticRegression
from softline.neural_network import MLPClassifier

ROWS = 8000  # of MNIST for LogisticRegression


def digits(args):
    data = datasets.load_digits()
    model = SoftmaxClassifier(max_iter=100, tol=None, random_state=0)
    return lambda: model.fit(data.X_train, data.y_train).coef_


def network(args):
    data = datasets.load_digits()
    model = MLPClassifier(max_iter=20, tol=None, random_state=0)
    return lambda: model.fit(data.X_train, data.y_train).coefs_[0]


def mnist(args):
    data = datasets.load_mnist(args.data_dir)
    X = data.X_train[:ROWS].astype(np.float32) / 255
    model = LogisticRegression(max_iter=100)
    return lambda: model.fit(X, data.y_train[:ROWS]).coef_


def epochs(args):
    data = datasets.load_mnist(args.data_dir)
    X = data.X_train.astype(np.float32) / 255
    model = SoftmaxClassifier(max_iter=10, tol=None, learning_rate=0.1, random_state=0)
    return lambda: model.fit(X, data.y_train).coef_


FITS = {
    "digits": ("SoftmaxClassifier, digits", digits),
    "network": ("MLPClassifier, digits", network),
    "mnist": (f"LogisticRegression, {ROWS:,} rows of MNIST", mnist),
    "epochs": ("SoftmaxClassifier, MNIST", epochs),
}


def seconds(fit, threads):
    with threadpool_limits(threads, user_api="openmp"):
        start = time.perf_counter()
        fit()
        return time.perf_counter() - start


def in_turn(fit, repeats):
    """Median seconds with one thread and with the default."""
    times = {1: [], None: []}
    for _ in range(repeats):
        for threads, found in times.items():
            found.append(seconds(fit, threads))
    return [statistics.median(found) for found in times.values()]


def endless_loops():
    """A process on each core that never ends by itself."""
    loops = []
    for core in os.sched_getaffinity(0):
        loops.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        os.sched_setaffinity(loops[-1].pid, {core})
    return loops


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder of MNIST, as softline.datasets takes it")
    parser.add_argument("--fits", nargs="+", default=list(FITS), choices=list(FITS))
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # fits that stop before they have converged
    print("| fit | one thread, ms | default | ratio | busy: one thread, ms | default | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in args.fits:
        title, make = FITS[name]
        fit = make(args)
        with threadpool_limits(1, user_api="openmp"):
            alone = fit()
        if not np.array_equal(alone, fit()):
            sys.exit(f"{title}: the weights depend on the number of threads")
        quiet = in_turn(fit, args.repeats)
        loops = endless_loops()
        try:
            time.sleep(1)  # until they run
            busy = in_turn(fit, args.repeats)
        finally:
            for loop in loops:
                loop.kill()
        cells = [
            f"{1e3 * one:.1f} | {1e3 * default:.1f} | {default / one:.2f}" for one, default in (quiet, busy)
        ]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
