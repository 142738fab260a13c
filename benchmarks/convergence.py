"""Objective against time: softline's LogisticRegression and its peers on the way to the same minimum.

    python benchmarks/convergence.py --plot convergence.png
    python benchmarks/convergence.py --problems mnist-1e-3 --solvers softline sklearnex --json curves.json

The work is multinomial logistic regression with an L2 penalty, the intercept free of it, from zeros, float32:
mean cross-entropy + alpha/2 sum(W^2), or C = 1/(alpha n). MNIST and CIFAR-10 are those of
`softline.datasets`, all training rows, from --data-dir; the probe is synthetic, class means plus noise, as
embeddings are.

How it is measured:

- The minimum first. softline's fit in float64, and a point of the dual problem, both evaluated here with
  NumPy in float64, enclose it; without such a proof no suboptimality is quoted.
- Then curves: seconds since the call of fit, and the objective of the weights reached by then, evaluated by
  the same NumPy function for everyone, with the clock stopped. Where a solver calls back at every iteration
  (SciPy's L-BFGS under scikit-learn, scikit-learn-intelex and JAX; PyTorch's closure) one run is watched, at
  iterations a tenth apart. The others are fitted anew with ever more iterations, and whole fits are timed.
- Time to a suboptimality is interpolated along a peer's curve. softline's is that of the first whole fit that
  got there.
- Each solver runs in a process of its own, with the same CPUs and as many threads, after a fit of some rows
  that wakes it. With --repeats the runs are interleaved, and medians quoted.
- A solver that takes longer than --limit is stopped; "-" is what it did not reach.

With --json, curves already in FILE are kept, unless they are measured again: long comparisons can be made in
parts.
"""

import argparse
import contextlib
import itertools
import json
import logging
import math
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import peers

TARGETS = (1e-2, 1e-3, 1e-4, 1e-6)
ENOUGH = 5e-7  # relative suboptimality at which a run ends
WARM_UP_ROWS = 2_000
NO_MORE = 12  # equal values that end a series of fits
PROBE = 50_000, 512, 1000  # rows, features, classes


@dataclass(frozen=True)
class Problem:
    title: str
    data: str
    alpha: float


PROBLEMS = {
    "mnist-1e-3": Problem("MNIST X/255", "mnist", 1e-3),
    "mnist-1e-4": Problem("MNIST X/255", "mnist", 1e-4),
    "mnist-std-1e-3": Problem("MNIST standardised", "mnist-std", 1e-3),
    "mnist-std-1e-4": Problem("MNIST standardised", "mnist-std", 1e-4),
    "cifar10-1e-3": Problem("CIFAR-10 standardised", "cifar10-std", 1e-3),
    "cifar10-1e-4": Problem("CIFAR-10 standardised", "cifar10-std", 1e-4),
    "probe": Problem("probe, 50,000 x 512, 1000 classes", "probe", 1e-3),
    "digits": Problem("digits", "digits", 1e-3),  # for the tests
}


# ---- data and objective ----------------------------------------------------------------------------------


def standardised(X):
    """Columns of mean 0 and deviation 1; a constant one is 0."""
    X = X - X.mean(axis=0, dtype=float).astype(X.dtype)
    deviation = X.std(axis=0, dtype=float)
    return X / np.where(deviation > 0, deviation, 1).astype(X.dtype)


def load(data, data_dir):
    """Training rows (N, D) float32, labels (N,), then rows and labels to test, or None."""
    from softline import datasets

    if data == "probe":
        N, D, C = PROBE
        rng = np.random.default_rng(0)
        means = 0.22 * rng.standard_normal((C, D), np.float32)
        y = rng.permutation(np.arange(N + N // 5) % C)
        X = means[y] + rng.standard_normal((len(y), D), np.float32)
        return X[:N], y[:N], X[N:], y[N:]
    name, _, std = data.partition("-")
    if name == "digits":
        parts = datasets.load_digits(validation_fraction=0)
    else:
        read = {"mnist": datasets.load_mnist, "cifar10": datasets.load_cifar10}[name]
        parts = read(data_dir, validation_fraction=0)
    X = parts.X_train.astype(np.float32) / (16 if name == "digits" else 255)
    return (standardised(X) if std else X), parts.y_train.astype(np.int64), None, None


def objective(X, y, alpha, W, b, certify=False):
    """The objective at (W, b), by NumPy in float64; if `certify`, also a bound that no point lies below.

    The bound is the dual problem's value. A dual point is one distribution q_i over classes for each row,
    with mean(q) = mean(y) where the intercept is free; it bounds the minimum by mean_i H(q_i) -
    |mean_i (q_i - y_i) x_i|^2 / (2 alpha), H the entropy. The model's own probabilities p_i, mixed with just
    enough of a distribution r to meet the condition, are such a point: q = (1 - t) p + t r. H is concave.
    """
    W, b = W.astype(float), b.astype(float)
    N, (C, D) = len(X), W.shape
    loss = entropy = 0.0
    M, mean_p, mean_x, class_sums = np.zeros((C, D)), np.zeros(C), np.zeros(D), np.zeros((C, D))
    for first in range(0, N, 4096):
        x = X[first : first + 4096].astype(float)
        labels, rows = y[first : first + 4096], np.arange(len(x))
        log_p = x @ W.T + b
        log_p -= log_p.max(axis=1, keepdims=True)
        p = np.exp(log_p)
        total = p.sum(axis=1, keepdims=True)
        log_p -= np.log(total)
        loss -= log_p[rows, labels].sum() / N
        if certify:
            p /= total
            entropy -= np.sum(p * log_p) / N
            one_hot = np.zeros((len(x), C))
            one_hot[rows, labels] = 1
            M += (p - one_hot).T @ x / N
            class_sums += one_hot.T @ x / N
            mean_p += p.sum(axis=0) / N
            mean_x += x.sum(axis=0) / N
    value = loss + alpha / 2 * np.sum(W**2)
    if not certify:
        return value
    mean_y = np.bincount(y, minlength=C) / N
    off = mean_p - mean_y
    t = max(np.abs(off).max() / mean_y.min(), np.finfo(float).tiny)
    if t >= 1:
        return value, -np.inf
    r = mean_y - (1 - t) / t * off
    r = np.clip(r, np.finfo(float).tiny, None)
    pull = (1 - t) * M + t * (r[:, None] * mean_x - class_sums)
    bound = (1 - t) * entropy - t * np.sum(r * np.log(r)) - np.sum(pull**2) / (2 * alpha)
    return value, bound


def minimum(problem, data_dir):
    """Value at softline's minimum in float64, and what is proven: no point lies below `bound`."""
    from softline.linear_model import LogisticRegression

    X, y, X_test, y_test = load(problem.data, data_dir)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=1 / (problem.alpha * len(X)), tol=1e-12, max_iter=5000)
        model.fit(X.astype(float), y)
    seconds = time.perf_counter() - start
    value, bound = objective(X, y, problem.alpha, model.coef_, model.intercept_, certify=True)
    found = {"value": value, "bound": bound, "seconds": seconds, "n_iter": int(model.n_iter_[0])}
    if X_test is not None:
        found["test_accuracy"] = float(np.mean(model.predict(X_test) == y_test))
    return found


# ---- solvers ---------------------------------------------------------------------------------------------


class Done(Exception):
    """The run has got where it should, or has taken too long."""


class Watch:
    """A stopwatch that looks at weights with the clock stopped, and ends the run in time.

    `seconds` and `values` are the curve.
    """

    def __init__(self, value_of, least, limit):
        self.value_of, self.least, self.limit = value_of, least, limit
        self.seconds, self.values = [], []
        self.calls = self.next = 0
        self.start = time.perf_counter()

    def __call__(self, weights):
        """`weights`: a function that returns (W, b)."""
        now = time.perf_counter()
        self.calls += 1
        elapsed = now - self.start
        if self.calls >= self.next or elapsed > self.limit:
            self.add(elapsed, *weights())
            self.next = max(self.calls + 1, 1.1 * self.calls)
        self.start += time.perf_counter() - now

    def add(self, elapsed, W, b):
        self.seconds.append(elapsed)
        self.values.append(self.value_of(W, b))
        if self.values[-1] <= self.least * (1 + ENOUGH) or elapsed > self.limit:
            raise Done


def whole_fits(make, counts, X, y, alpha, watch):
    """Fit anew with ever more iterations."""
    model = make(alpha, len(X))
    model.fit(X[:WARM_UP_ROWS], y[:WARM_UP_ROWS])
    for n_iter in counts:
        model = make(alpha, len(X), max_iter=n_iter)
        start = time.perf_counter()
        model.fit(X, y)
        elapsed = time.perf_counter() - start
        by_feature = model.coef_.shape[0] == X.shape[1]  # Cyanure's are
        watch.add(elapsed, model.coef_.T if by_feature else model.coef_, np.ravel(model.intercept_))
        if watch.values[-NO_MORE:].count(watch.values[-1]) == NO_MORE:  # it finds no more to do
            break


def softline_model(alpha, n, max_iter=1):
    from softline.linear_model import LogisticRegression

    return LogisticRegression(C=1 / (alpha * n), tol=1e-12, max_iter=max_iter)


def sklearn_model(alpha, n, max_iter=1, solver="lbfgs"):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1 / (alpha * n), tol=1e-12, max_iter=max_iter, solver=solver)


def sklearnex_model(alpha, n, max_iter=1):
    from sklearnex.linear_model import LogisticRegression

    return LogisticRegression(C=1 / (alpha * n), tol=1e-12, max_iter=max_iter)


def cyanure_model(alpha, n, max_iter=5):
    from cyanure.estimators import LogisticRegression

    return LogisticRegression(
        penalty="l2", lambda_1=alpha, tol=1e-9, max_iter=max_iter, multi_class="multinomial", verbose=False
    )


def watch_lbfgs(make, order, intercept, X, y, alpha, watch):
    """One fit, with a callback for the L-BFGS of SciPy inside, whose weights are (C, D + 1) in `order`."""
    from scipy import optimize

    original = optimize.minimize
    make(alpha, len(X)).fit(X[:WARM_UP_ROWS], y[:WARM_UP_ROWS])
    shape = len(np.unique(y)), X.shape[1] + 1

    def weights(x):
        Z = x.reshape(shape, order=order).astype(X.dtype)
        return np.delete(Z, intercept, axis=1), Z[:, intercept]

    def watched(*args, **options):
        return original(*args, **{**options, "callback": lambda x: watch(partial(weights, x))})

    optimize.minimize = watched
    watch.start = time.perf_counter()
    make(alpha, len(X), max_iter=100_000).fit(X, y)


def watch_torch(X, y, alpha, watch):
    """PyTorch's LBFGS; each evaluation of the loss is watched."""
    import torch

    X, y = torch.from_numpy(X), torch.from_numpy(y)
    n_classes = int(y.max()) + 1

    def train(X, y, max_iter, look):
        W = torch.zeros(n_classes, X.shape[1], requires_grad=True)
        b = torch.zeros(n_classes, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [W, b],
            max_iter=max_iter,
            max_eval=100_000,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def closure():
            look(lambda: (W.detach().numpy(), b.detach().numpy()))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(torch.addmm(b, X, W.T), y) + alpha / 2 * (W**2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)

    train(X[:WARM_UP_ROWS], y[:WARM_UP_ROWS], 1, lambda _: None)
    watch.start = time.perf_counter()
    train(X, y, 100_000, watch)


def watch_jax(X, y, alpha, watch):
    """JAX's compiled loss and gradient under SciPy's L-BFGS. Compiling is not timed."""
    import jax
    import jax.numpy as jnp
    from scipy.optimize import minimize

    X, y = jnp.asarray(X), jnp.asarray(y, np.int32)
    shape = int(y.max()) + 1, X.shape[1] + 1

    @jax.jit
    @jax.value_and_grad
    def loss(Z, X, y):
        W, b = Z[:, :-1], Z[:, -1]
        log_p = jax.nn.log_softmax(X @ W.T + b)
        return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean() + alpha / 2 * jnp.sum(W**2)

    def as_scipy(z):
        value, gradient = loss(z.reshape(shape).astype(np.float32), X, y)
        return float(value), np.asarray(gradient, float).ravel()

    def look(z):
        Z = z.reshape(shape).astype(np.float32)
        watch(lambda: (Z[:, :-1], Z[:, -1]))

    as_scipy(np.zeros(shape))
    watch.start = time.perf_counter()
    options = {"maxiter": 100_000, "maxfun": 100_000, "ftol": 0, "gtol": 1e-12}
    minimize(as_scipy, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", callback=look, options=options)


def count_by(step, first, factor):
    """Multiples of `step`, each about `factor` times the last."""
    for k in itertools.count():
        yield step * math.ceil(first * factor**k / step)


@dataclass(frozen=True)
class Solver:
    title: str
    needs: str  # modules
    run: Callable


SOLVERS = {
    "softline": Solver("softline", "softline", partial(whole_fits, softline_model, range(1, 200))),
    "sklearnex": Solver("sklearnex lbfgs", "sklearnex", partial(watch_lbfgs, sklearnex_model, "C", 0)),
    # From 10 on, Cyanure stops at multiples of 10.
    "cyanure": Solver(
        "Cyanure",
        "cyanure",
        partial(whole_fits, cyanure_model, itertools.chain((2, 3, 5, 7, 10), count_by(10, 20, 1.35))),
    ),
    "torch": Solver("PyTorch LBFGS", "torch", watch_torch),
    "jax": Solver("JAX + SciPy L-BFGS", "jax", watch_jax),
    "sklearn": Solver("scikit-learn lbfgs", "sklearn", partial(watch_lbfgs, sklearn_model, "F", -1)),
    "newton-cg": Solver(
        "scikit-learn newton-cg",
        "sklearn",
        partial(whole_fits, partial(sklearn_model, solver="newton-cg"), count_by(1, 1, 1.5)),
    ),
    "saga": Solver(
        "scikit-learn saga",
        "sklearn",
        partial(whole_fits, partial(sklearn_model, solver="saga"), count_by(1, 1, 2)),
    ),
}


def curve(name, problem, data_dir, least, limit):
    """Seconds and values of a solver; runs in a process of its own."""
    warnings.simplefilter("ignore")  # none of these fits is meant to converge
    logging.disable()
    X, y, *_ = load(problem.data, data_dir)
    watch = Watch(partial(objective, X, y, problem.alpha), least, limit)
    with contextlib.suppress(Done):
        SOLVERS[name].run(X, y, problem.alpha, watch)
    return {"seconds": watch.seconds, "values": watch.values}


def alone(function, *arguments):
    """function(*arguments), in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *arguments).result()


# ---- the answer ------------------------------------------------------------------------------------------


def time_to(target, run, least, interpolate):
    """Seconds until the relative suboptimality is `target`, or None."""
    before = None
    for seconds, value in zip(run["seconds"], run["values"], strict=True):
        off = max(value / least - 1, 1e-16)
        if off <= target:
            if not interpolate or before is None:
                return seconds
            last_seconds, last_off = before
            share = math.log(last_off / target) / math.log(last_off / off)
            return last_seconds + share * (seconds - last_seconds)
        if before is None or off < before[1]:
            before = seconds, off
    return None


def times_to(name, entry, target):
    """Median over runs of `time_to`, or None where most did not get there."""
    least, runs = entry["minimum"]["value"], entry["curves"][name]
    times = [time_to(target, run, least, name != "softline") for run in runs]
    median = float(np.median([math.inf if t is None else t for t in times]))
    return median if math.isfinite(median) else None


def table(results):
    """Rows of cells, the head first."""
    shown = [name for name in SOLVERS if any(name in entry["curves"] for entry in results.values())]
    rows = [["problem", "to", *(f"{SOLVERS[name].title} s" for name in shown), "best peer / softline"]]
    for key, entry in results.items():
        problem = PROBLEMS[key]
        for target in TARGETS:
            times = {name: times_to(name, entry, target) for name in entry["curves"]}
            cells = [peers.digits(times[name]) if times.get(name) else "-" for name in shown]
            ours = times.pop("softline", None)
            best = min((t for t in times.values() if t), default=None)
            ratio = f"{best / ours:.1f}x" if best and ours else "-"
            rows.append([f"{problem.title}, alpha {problem.alpha:g}", f"{target:.0e}", *cells, ratio])
    return rows


def plot(results, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(2, len(results))
    lines = -(-len(results) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(5.5 * columns, 3.6 * lines), squeeze=False, layout="constrained"
    )
    colours = {name: f"C{i}" for i, name in enumerate(SOLVERS)}
    for axis in axes.flat[len(results) :]:
        axis.axis("off")
    for axis, (key, entry) in zip(axes.flat, results.items(), strict=False):
        least = entry["minimum"]["value"]
        for name in [name for name in SOLVERS if name in entry["curves"]]:
            run = entry["curves"][name][0]
            off = np.minimum.accumulate(np.maximum(np.array(run["values"]) / least - 1, 1e-8))
            axis.loglog(
                run["seconds"],
                off,
                marker="o" if name == "softline" else ".",
                markersize=4,
                linewidth=2 if name == "softline" else 1,
                color=colours[name],
                label=SOLVERS[name].title,
            )
        axis.set_ylim(ENOUGH / 2, 2)
        # not the zeros that some begin with
        axis.set_xlim(left=min(runs[0]["seconds"][:2][-1] for runs in entry["curves"].values()) / 2)
        axis.set_title(f"{PROBLEMS[key].title}, alpha {PROBLEMS[key].alpha:g}", fontsize=10)
        axis.set_xlabel("seconds of fit")
        axis.set_ylabel("(f - f*) / f*")
        axis.grid(True, which="major", alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def parse():
    parser = argparse.ArgumentParser(description="Objective against time: softline and its peers.")
    add = parser.add_argument
    problems = [key for key in PROBLEMS if key != "digits"]
    add("--problems", nargs="+", choices=PROBLEMS, default=problems, metavar="NAME", help=", ".join(problems))
    add(
        "--solvers",
        nargs="+",
        choices=SOLVERS,
        default=list(SOLVERS),
        metavar="NAME",
        help=", ".join(SOLVERS),
    )
    add("--data-dir", default=os.environ.get("SOFTLINE_DATA", "data"), metavar="DIR", help="as for softline")
    add("--threads", type=int, metavar="N", help="and CPUs; default: one for each physical core")
    add("--repeats", type=int, default=1, metavar="N", help="runs of each solver; default 1")
    add("--limit", type=float, default=60, metavar="SECONDS", help="for the longest fit; default 60")
    add("--json", type=Path, metavar="FILE", help="keep every curve in FILE, with those it has")
    add("--plot", type=Path, metavar="FILE", help="draw the curves, by matplotlib")
    add("--markdown", action="store_true", help="print the table as Markdown")
    args = parser.parse_args()
    if args.threads is not None and not 1 <= args.threads <= len(os.sched_getaffinity(0)):
        parser.error(f"--threads must be within 1..{len(os.sched_getaffinity(0))}, the CPUs to be had")
    if args.repeats < 1 or not args.limit > 0:
        parser.error("--repeats must be at least 1, and --limit positive")
    return args


@cache
def describe(key, value, bound):
    """Print what is proven about a minimum, once."""
    gap = (value - bound) / value
    print(f"{key}: f* = {value:.9f}, proven to {max(gap, 0):.0e} of it", file=sys.stderr)
    if not gap <= TARGETS[-1] / 10:
        sys.exit(f"{key}: the minimum is not known well enough to quote a suboptimality of {TARGETS[-1]:g}")


def keep(path, about, results):
    if path:
        path.write_text(json.dumps({"machine": about, "problems": results}, indent=1) + "\n")


def main():
    args = parse()
    cpus = peers.pick_cpus(args.threads)
    peers.limit_threads(cpus)
    about = peers.machine(cpus)
    solvers = peers.installed({name: SOLVERS[name] for name in SOLVERS if name in args.solvers})
    results = {}
    if args.json and args.json.exists():
        results = json.loads(args.json.read_text())["problems"]
    for key in args.problems:
        problem = PROBLEMS[key]
        entry = results.setdefault(key, {"curves": {}})
        if "minimum" not in entry:
            entry["minimum"] = alone(minimum, problem, args.data_dir)
            keep(args.json, about, results)
        least = entry["minimum"]["value"]
        describe(key, least, entry["minimum"]["bound"])
        measured = {name: [] for name in solvers}
        for _, name in itertools.product(range(args.repeats), solvers):
            run = alone(curve, name, problem, args.data_dir, least, args.limit)
            measured[name].append(run)
            low = min(run["values"]) / least - 1
            print(f"  {SOLVERS[name].title}: {low:.1e} after {run['seconds'][-1]:.2f} s", file=sys.stderr)
            entry["curves"][name] = measured[name]
            keep(args.json, about, results)
    results = {key: results[key] for key in PROBLEMS if key in results}
    peers.show(table(results), args.markdown)
    print("\n" + ", ".join(f"{name} {value}" for name, value in about.items()))
    if args.plot:
        plot(results, args.plot)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
