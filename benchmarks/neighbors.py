"""The nearest neighbours of the same rows by softline and its peers: checked first, then timed. Linux only.

    python benchmarks/neighbors.py --data-dir DIR
    python benchmarks/neighbors.py --data-dir DIR --metrics manhattan --queries 200 --dtypes uint8
    python benchmarks/neighbors.py --data-dir DIR --queries 10000 --peers

The work is the 5 nearest of the 50,000 training rows of CIFAR-10 for its first test rows: as bytes, and as
float32 divided by 255.

- Results first. Distances must be those of a float64 computation by NumPy for some queries, and everyone's
  those of softline for all; neighbours must be the same, but for those that are equally far to 1e-5.
- Each implementation has a process of its own, which has found the neighbours of some rows before, and waits
  until the threads of others have gone to sleep. Turns are interleaved over --repeats, medians quoted; the
  ratio is time of the peer / time of softline.
- "over the data" is how much the resident memory grew at most during a turn: without data, with results.

scikit-learn is KNeighborsClassifier(algorithm="brute").kneighbors; PyTorch is cdist + topk, 500 queries at a
time; it takes float32 only, and training rows of bytes are converted before the clock starts.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import time
from importlib.util import find_spec

import numpy as np

K = 5
AT_ONCE = 500  # queries of PyTorch
PAUSE = 1.0  # seconds before a turn


def softline(X, metric, threads):
    from softline.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(K, metric=metric, n_jobs=threads).fit(X, np.arange(len(X)) % 2)
    return model.kneighbors


def scikit_learn(X, metric, threads):
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(K, metric=metric, algorithm="brute").fit(X, np.arange(len(X)) % 2)
    return model.kneighbors  # on all threads of OpenMP, or of the BLAS


def torch(X, metric, threads):
    import torch

    torch.set_num_threads(threads)
    rows = torch.from_numpy(X.astype(np.float32, copy=False))

    def neighbours(Q):
        parts = []
        for first in range(0, len(Q), AT_ONCE):
            queries = torch.from_numpy(Q[first : first + AT_ONCE].astype(np.float32, copy=False))
            every = torch.cdist(queries, rows, p=1 if metric == "manhattan" else 2)
            parts.append(every.topk(K, largest=False))
        return tuple(np.concatenate([part[i].numpy() for part in parts]) for i in range(2))

    return neighbours


PEERS = {"scikit-learn": "sklearn", "torch": "torch"}
IMPLEMENTATIONS = {"softline": softline, "scikit-learn": scikit_learn, "torch": torch}


def load(data_dir, dtype, queries):
    from softline import datasets

    part = datasets.load_cifar10(data_dir, validation_fraction=0)
    X, Q = part.X_train, part.X_test[:queries]
    if dtype == "uint8":
        return X, Q
    X, Q = X.astype(np.float32), Q.astype(np.float32)
    X /= 255
    Q /= 255
    return X, Q


def memory(field):
    """A field of /proc/self/status, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) << 10


def serve(pipe, name, args, dtype, metric):
    """In a process of its own: a turn for each message."""
    X, Q = load(args.data_dir, dtype, args.queries)
    neighbours = IMPLEMENTATIONS[name](X, metric, args.threads)
    neighbours(Q[:20])
    pipe.send("ready")
    while pipe.recv():
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")  # the peak starts anew
        before = memory("VmRSS")
        start = time.perf_counter()
        result = neighbours(Q)
        seconds = time.perf_counter() - start
        pipe.send((seconds, memory("VmHWM") - before, result))


def exact(X, Q, metric):
    """Distances (len(Q), len(X)) by NumPy, in float64."""
    X, out = X.astype(float), np.empty((len(Q), len(X)))
    for q, row in zip(Q.astype(float), out, strict=True):
        d = q - X
        row[...] = np.abs(d).sum(axis=1) if metric == "manhattan" else np.sqrt((d * d).sum(axis=1))
    return out


def check(name, result, expected):
    (neigh_dist, neigh_ind), (their_dist, their_ind) = expected, result
    np.testing.assert_allclose(their_dist, neigh_dist, rtol=1e-4, err_msg=name)
    apart = np.diff(neigh_dist, axis=1) > 1e-5 * neigh_dist[:, 1:]
    clear = np.ones(neigh_dist.shape, bool)
    clear[:, 1:] &= apart
    clear[:, :-1] &= apart
    clear[:, -1] = False
    if not np.array_equal(their_ind[clear], neigh_ind[clear]):
        sys.exit(f"{name} finds other neighbours than softline")


def compare(args, dtype, metric):
    """Print a row of the table for each implementation."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)
    context = multiprocessing.get_context("spawn")
    workers = {}
    for name in ["softline", *args.peers]:
        pipe, theirs = context.Pipe()
        worker = context.Process(target=serve, args=(theirs, name, args, dtype, metric))
        worker.start()
        workers[name] = (worker, pipe)
        if pipe.recv() != "ready":
            sys.exit(f"{name} did not start")
    times, peaks, expected = {name: [] for name in workers}, {}, None
    for _ in range(args.repeats):
        for name, (_, pipe) in workers.items():
            time.sleep(PAUSE)
            pipe.send(True)
            seconds, peak, result = pipe.recv()
            if expected is None:
                X, Q = load(args.data_dir, dtype, args.check)
                order = exact(X, Q, metric)
                indices = np.argsort(order, axis=1, kind="stable")[:, :K]
                check(
                    "softline",
                    [a[: len(Q)] for a in result],
                    (np.take_along_axis(order, indices, 1), indices),
                )
                del X, order
                expected = result
            check(name, result, expected)
            times[name].append(seconds)
            peaks[name] = max(peaks.get(name, 0), peak)
    for worker, pipe in workers.values():
        pipe.send(False)
        worker.join()
    ours = statistics.median(times["softline"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(
            f"| {metric}, {dtype} | {name} | {median:.2f} | {median / ours:.1f}x | {peaks[name] / 1e6:.0f} |",
            flush=True,
        )


def main():
    available = [name for name, module in PEERS.items() if find_spec(module)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, help="folder of CIFAR-10, as softline.datasets takes it")
    parser.add_argument("--dtypes", nargs="+", default=["uint8", "float32"], choices=["uint8", "float32"])
    parser.add_argument("--metrics", nargs="+", default=["euclidean"], choices=["euclidean", "manhattan"])
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--peers", nargs="*", default=available, choices=available)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--check", type=int, default=5, help="queries to check with NumPy")
    args = parser.parse_args()
    print(f"{platform.machine()}, {args.threads} threads, {args.queries} queries, median of {args.repeats}\n")
    print("| metric, X | | seconds | softline is faster by | MB over the data |\n|---|---|---:|---:|---:|")
    for dtype in args.dtypes:
        for metric in args.metrics:
            compare(args, dtype, metric)


if __name__ == "__main__":
    main()
