"""The same work in softline and in its peers: checked first, then timed. Linux only.

    python benchmarks/peers.py
    python benchmarks/peers.py --shapes cifar10 mnist --batch-sizes 1 32 128 256 1024 full --threads 1
    python benchmarks/peers.py --predict

The work is one epoch of shuffled mini-batch SGD for softmax regression with an L2 penalty, the loss of the
epoch included, from W = 0, with rows in an order drawn beforehand and the same for all; or, with --predict,
predict_proba. X is standard normal, y the answers of a random linear teacher. A full batch needs no order,
and nobody shuffles it. Batches of 1 and 32 use fewer rows, so that a run stays short.

How it is measured:

- Results first. On some thousand rows, the last batch ragged, loss and weights of everyone must match
  ``softline.reference`` in float64; on all rows they must match softline's. If not: exit 1, no times.
- Each implementation has a process of its own and its own copy of the data, and waits on a pipe for its
  turn. Side by side in one process most times were the same within noise, but without a pause PyTorch's were
  in some runs half as long again; in processes of their own they were not. Idle threads that still spin are
  the likely cause, hence a pause between turns too. Two OpenMP runtimes and process-wide settings also stay
  apart.
- Turns are interleaved in rounds, the order rotated, so that a slow minute of the machine hits everyone. A
  turn is two epochs and the second counts, as in the middle of a training: threads awake, caches warm.
- Everyone has the same CPUs and as many threads, one for each physical core by default. softline chooses,
  as it does for users, how many of them a small batch is worth; so do the others.
- Medians are quoted; the ratio is time of the peer / time of softline.
- Settings of the environment by which some machines hold OpenBLAS back do not count; which of its kernels ran
  is printed below the table.

Peers are written for speed: buffers allocated beforehand, no autograd where it can be done by hand, no
synchronisation inside the epoch. "PyTorch eager" is the usual training loop. Compiling is not timed.
"""

import argparse
import contextlib
import itertools
import json
import math
import multiprocessing
import os
import platform
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import openblas  # noqa: F401  # isort: skip, before NumPy

import numpy as np
from threadpoolctl import threadpool_info

SHAPES = {  # rows, features, classes
    "cifar10": (50_000, 3072, 10),
    "mnist": (60_000, 784, 10),
    "narrow": (200_000, 64, 5),
    "wide": (50_000, 512, 1000),
    "tiny": (700, 20, 3),  # for the tests
}
MOST_ROWS = {1: 6_000, 32: 25_600}  # by batch size
CHECK_ROWS = 4_437
ALPHA = 1e-4
NOISY = 1.25  # a median so many times the fastest turn is not to be trusted
PAUSE = 0.1  # seconds between turns, for idle threads to fall asleep


@dataclass(frozen=True)
class Task:
    """What to compute; `batch_size` 0: no training, the probabilities of all rows, `calls` times."""

    shape: str
    n_rows: int
    n_features: int
    n_classes: int
    batch_size: int
    dtype: str
    calls: int = 1

    @property
    def whole(self):
        """Whether the batch is all of X, in any order."""
        return self.batch_size == self.n_rows

    @property
    def n_steps(self):
        return -(-self.n_rows // (self.batch_size or self.n_rows))

    @property
    def learning_rate(self):
        # About 1 / the largest eigenvalue of a batch's covariance: nobody diverges.
        return 1 / (1 + math.sqrt(self.n_features / self.batch_size)) ** 2

    @property
    def tolerance(self):
        """Largest difference allowed between two results, relative to the largest element.

        A step may add eps / 4: the decay 1 - rate * alpha, rounded, of those who scale W by it. Errors of a
        sum over the batch grow with its length where terms are equal, as the losses of the first step are.
        """
        return (256 + self.n_steps / 4 + self.batch_size / 64) * np.finfo(self.dtype).eps

    def data(self):
        """X (N, D), labels (N,), the teacher's weights (C, D) and the order of the rows (N,)."""
        rng = np.random.default_rng(0)
        W = rng.standard_normal((self.n_classes, self.n_features), self.dtype)
        W /= np.sqrt(self.n_features, dtype=self.dtype)
        X = rng.standard_normal((self.n_rows, self.n_features), self.dtype)
        order = np.arange(self.n_rows) if self.whole else rng.permutation(self.n_rows)
        return X, (X @ W.T).argmax(axis=1), W, order


def mean_of_batches(log_p, task):
    """Mean of the batches' mean losses, from log p(y) of each row in the order of training."""
    full = task.n_rows - task.n_rows % task.batch_size
    total = log_p[:full].reshape(-1, task.batch_size).mean(axis=1).sum()
    if full < task.n_rows:
        total += log_p[full:].mean()
    return -float(total) / task.n_steps


# ---- one epoch -------------------------------------------------------------------------------------------
# Each function prepares an implementation and returns its run(), which trains an epoch from W = 0 and
# returns the loss and the weights.


def softline_epoch(task, X, y, _, order):
    from softline import _kernels

    W, b = _kernels.padded(task.n_classes, task.n_features, X.dtype), np.zeros(task.n_classes, X.dtype)
    y, rates = y.astype(np.int32), np.full(task.n_steps, task.learning_rate)

    def run():
        W[...], b[...] = 0, 0
        losses = _kernels.epoch(
            X, y, None, order, [(W, b)], rates, task.batch_size, *penalty_and_scale(task, X)
        )
        return losses.mean(), W, b

    return run


def penalty_and_scale(task, X):
    """Of each batch: the L2 penalty, and the weight of a row in the mean."""
    sizes = np.minimum(task.batch_size, len(X) - task.batch_size * np.arange(task.n_steps))
    return np.full(task.n_steps, ALPHA), (1 / sizes).astype(X.dtype)


def reference_epoch(task, X, y, _, order):
    """In float64."""
    from softline import reference

    X, y, rates = X.astype(np.float64), y.astype(np.int32), np.full(task.n_steps, task.learning_rate)

    def run():
        W, b = np.zeros((task.n_classes, task.n_features)), np.zeros(task.n_classes)
        losses = reference.epoch(
            X, y, None, order, [(W, b)], rates, task.batch_size, *penalty_and_scale(task, X)
        )
        return losses.mean(), W, b

    return run


def numpy_epoch(task, X, y, _, order):
    """Scores lie by class, (C, batch): maxima and sums over classes are then long vector operations."""
    N, B, C, D, rate = task.n_rows, task.batch_size, task.n_classes, task.n_features, task.learning_rate
    W, b = np.empty((C, D), X.dtype), np.empty((C, 1), X.dtype)
    rows = None if task.whole else np.empty((B, D), X.dtype)
    by_row, by_class, dW = np.empty((B, C), X.dtype), np.empty((C, B), X.dtype), np.empty_like(W)
    flat, log_p = by_class.reshape(-1), np.empty(N, X.dtype)

    def run():
        W[...], b[...] = 0, 0
        label_at = y[order] * B + np.arange(N) % B  # where in `flat` the score of a row's label lies
        for first in range(0, N, B):
            last = min(first + B, N)
            m = last - first
            # mode="clip": with the default, NumPy gathers into a temporary and copies.
            x = X if task.whole else np.take(X, order[first:last], axis=0, out=rows[:m], mode="clip")
            p = np.add(np.matmul(x, W.T, out=by_row[:m]).T, b, out=by_class[:, :m])
            p -= p.max(axis=0)
            log_p[first:last] = flat[label_at[first:last]]
            np.exp(p, out=p)
            total = p.sum(axis=0)
            log_p[first:last] -= np.log(total)
            p *= rate / m / total
            flat[label_at[first:last]] -= rate / m
            np.matmul(p, x, out=dW)
            np.multiply(W, 1 - rate * ALPHA, out=W)
            np.subtract(W, dW, out=W)
            np.subtract(b, p.sum(axis=1, keepdims=True), out=b)
        return mean_of_batches(log_p, task), W, b[:, 0]

    return run


def torch_epoch(task, X, y, _, order, compiled=False):
    """Scores lie by class, as in NumPy, or by row where PyTorch was measured to be faster so."""
    import torch

    X, y, order = map(torch.from_numpy, (X, y, order))
    N, B, C, D, rate = task.n_rows, task.batch_size, task.n_classes, task.n_features, task.learning_rate
    by_row = C >= 64 or (task.whole and D >= 512)
    axis = 1 if by_row else 0
    new = partial(torch.empty, dtype=X.dtype)
    W, b, log_p = new(C, D), new(C), new(N)
    buffers = {}  # by rows of the batch: the last one may be ragged
    for m in {B, N % B or B}:
        shape = (C, m) if axis == 0 else (m, C)
        minus_one = torch.full((1, m) if axis == 0 else (m, 1), -1, dtype=X.dtype)
        buffers[m] = X if task.whole else new(m, D), new(shape), new(shape), minus_one

    def step(x, y, log_p, f, p, minus_one):
        if axis == 0:
            torch.addmm(b[:, None], W, x.T, out=f)
        else:
            torch.addmm(b, x, W.T, out=f)
        torch.log_softmax(f, axis, out=p)
        torch.gather(p, axis, y, out=log_p)
        p.exp_().scatter_add_(axis, y, minus_one)
        W.addmm_(p if axis == 0 else p.T, x, beta=1 - rate * ALPHA, alpha=-rate / len(x))
        b.add_(p.sum(1 - axis), alpha=-rate / len(x))

    def step_to_compile(W, b, x, y, log_p):
        # No buffers and no scatter: Inductor fuses what lies between the two matrix products.
        f = torch.addmm(b[:, None], W, x.T) if axis == 0 else torch.addmm(b, x, W.T)
        p = torch.log_softmax(f, axis)
        log_p.copy_(p.gather(axis, y))
        p = p.exp() - (y == torch.arange(C).unsqueeze(1 - axis))
        W.addmm_(p if axis == 0 else p.T, x, beta=1 - rate * ALPHA, alpha=-rate / len(x))
        b.sub_(p.sum(1 - axis), alpha=rate / len(x))

    if compiled:
        torch.compiler.reset()
        fused = torch.compile(step_to_compile, dynamic=False)

    @torch.inference_mode()
    def run():
        W.zero_()
        b.zero_()
        labels, logs = y[order].unsqueeze(axis), log_p.unsqueeze(axis)
        batches = zip(order.split(B), labels.split(B, 1 - axis), logs.split(B, 1 - axis), strict=True)
        for idx, batch_y, batch_log_p in batches:
            x, *scratch = buffers[len(idx)]
            if not task.whole:
                torch.index_select(X, 0, idx, out=x)
            if compiled:
                fused(W, b, x, batch_y, batch_log_p)
            else:
                step(x, batch_y, batch_log_p, *scratch)
        return mean_of_batches(log_p.numpy(), task), W.numpy(), b.numpy()

    return run


def torch_eager_epoch(task, X, y, _, order, loader=False):
    """The usual training loop."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    X, y, order = map(torch.from_numpy, (X, y, order))
    model = torch.nn.Linear(task.n_features, task.n_classes, dtype=X.dtype)
    W, b = model.parameters()
    groups = [{"params": [W], "weight_decay": ALPHA}, {"params": [b]}]
    optimizer = torch.optim.SGD(groups, lr=task.learning_rate)

    def batches():
        if loader:
            return DataLoader(TensorDataset(X, y), task.batch_size, sampler=order.tolist())
        if task.whole:
            return [(X, y)]
        return ((X[idx], y[idx]) for idx in order.split(task.batch_size))

    def run():
        W.data.zero_()
        b.data.zero_()
        total = torch.zeros((), dtype=torch.float64)
        for x, labels in batches():
            loss = torch.nn.functional.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total.item() / task.n_steps, W.detach().numpy(), b.detach().numpy()

    return run


def jax_epoch(task, X, y, _, order):
    """An epoch is one compiled call: a scan over batches, rows gathered inside, weights donated."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", task.dtype == "float64")
    N, B, C, D, rate = task.n_rows, task.batch_size, task.n_classes, task.n_features, task.learning_rate
    X, y, order = jnp.asarray(X), jnp.asarray(y, np.int32), jnp.asarray(order, np.int32)

    def loss_of(weights, x, y):
        W, b = weights
        log_p = jax.nn.log_softmax(x @ W.T + b)
        return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

    @partial(jax.jit, donate_argnums=0)
    def epoch(weights, X, y, order):
        def step(weights, idx):
            # Without the promise, XLA compares every index with the bounds.
            x = X if task.whole else X.at[idx].get(mode="promise_in_bounds")
            loss, (dW, db) = jax.value_and_grad(loss_of)(weights, x, y[idx])
            W, b = weights
            return (W - rate * (dW + ALPHA * W), b - rate * db), loss

        full = N - N % B
        weights, losses = jax.lax.scan(step, weights, order[:full].reshape(-1, B))
        total = losses.sum()
        if full < N:
            weights, loss = step(weights, order[full:])
            total += loss
        return total / task.n_steps, *weights

    def run():
        zeros = jnp.zeros((C, D), X.dtype), jnp.zeros(C, X.dtype)
        return jax.block_until_ready(epoch(zeros, X, y, order))

    return run


def sklearn_epoch(task, X, y, *_):
    """Batches of 1, in an order that scikit-learn draws itself; returns the weights."""
    from sklearn.linear_model import SGDClassifier

    n_jobs, classes = len(os.sched_getaffinity(0)), np.arange(task.n_classes)

    def run():
        model = SGDClassifier(
            loss="log_loss", alpha=ALPHA, learning_rate="constant", eta0=task.learning_rate, n_jobs=n_jobs
        )
        model.partial_fit(X, y, classes)
        return model.coef_, model.intercept_

    return run


# ---- predict_proba ---------------------------------------------------------------------------------------
# Each function returns a run() that returns the probabilities. The weights are the teacher's, the bias too.


def bias_of(W):
    return np.linspace(-1, 1, len(W), dtype=W.dtype)


def fitted(estimator, W):
    """`estimator`, given weights as if it had been fitted."""
    estimator.coef_, estimator.intercept_ = W, bias_of(W)
    estimator.classes_, estimator.n_features_in_ = np.arange(len(W)), W.shape[1]
    return estimator


def kernels_proba(task, X, _, W, *__):
    from softline import _kernels

    b, probs = bias_of(W), np.empty((len(X), len(W)), X.dtype)

    def run():
        _kernels.scores(X, None, W, b, probs)
        _kernels.softmax(probs)
        return probs

    return run


def softline_proba(task, X, _, W, *__):
    from softline import SoftmaxClassifier

    return partial(fitted(SoftmaxClassifier(), W).predict_proba, X)


def logistic_proba(task, X, _, W, *__):
    from softline.linear_model import LogisticRegression

    return partial(fitted(LogisticRegression(), W).predict_proba, X)


def sklearn_proba(task, X, _, W, *__):
    from sklearn.linear_model import LogisticRegression

    return partial(fitted(LogisticRegression(), W).predict_proba, X)


def numpy_proba(task, X, _, W, *__):
    b, probs = bias_of(W), np.empty((len(X), len(W)), X.dtype)

    def run():
        p = np.matmul(X, W.T, out=probs)
        p += b
        p -= p.max(axis=1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        return p

    return run


def reference_proba(task, X, y, W, order):
    """In float64."""
    return numpy_proba(task, X.astype(np.float64), y, W.astype(np.float64), order)


def torch_proba(task, X, _, W, *__):
    import torch

    X, W, b = map(torch.from_numpy, (X, W, bias_of(W)))

    @torch.inference_mode()
    def run():
        return torch.softmax(torch.addmm(b, X, W.T), 1)

    return run


def onnx_proba(task, X, _, W, *__):
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    of_dtype = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}[task.dtype]
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["X", "W", "b"], ["scores"], transB=1),
            helper.make_node("Softmax", ["scores"], ["probs"], axis=1),
        ],
        "softmax",
        [helper.make_tensor_value_info("X", of_dtype, [None, task.n_features])],
        [helper.make_tensor_value_info("probs", of_dtype, [None, task.n_classes])],
        [numpy_helper.from_array(W, "W"), numpy_helper.from_array(bias_of(W), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"X": X})[0]


@dataclass(frozen=True)
class Implementation:
    title: str
    needs: str  # modules
    make: Callable
    against: str = "softline"  # whose time its ratio divides by
    footnote: str = ""


ONE_VS_REST = "trains one binary classifier per class: another loss, so only its accuracy is checked."
CHECKS_TOO = "is compared with SoftmaxClassifier, which checks its input alike."
TRAIN = {
    "softline": Implementation("softline", "softline", softline_epoch),
    "numpy": Implementation("NumPy", "numpy", numpy_epoch),
    "torch": Implementation("PyTorch by hand", "torch", torch_epoch),
    "torch-compile": Implementation("torch.compile", "torch", partial(torch_epoch, compiled=True)),
    "torch-eager": Implementation("PyTorch eager", "torch", torch_eager_epoch),
    "torch-dataloader": Implementation("DataLoader", "torch", partial(torch_eager_epoch, loader=True)),
    "jax": Implementation("JAX jit", "jax", jax_epoch),
    "sklearn": Implementation("SGDClassifier*", "sklearn", sklearn_epoch, footnote=ONE_VS_REST),
    "reference": Implementation("", "softline", reference_epoch),
}
PREDICT = {
    "softline": Implementation("softline kernels", "softline", kernels_proba),
    "estimator": Implementation("SoftmaxClassifier", "softline", softline_proba),
    "logistic": Implementation("LogisticRegression", "softline", logistic_proba),
    "sklearn": Implementation("scikit-learn*", "sklearn", sklearn_proba, "estimator", CHECKS_TOO),
    "numpy": Implementation("NumPy", "numpy", numpy_proba),
    "torch": Implementation("PyTorch", "torch", torch_proba),
    "onnxruntime": Implementation("onnxruntime", "onnxruntime onnx", onnx_proba),
    "reference": Implementation("", "softline", reference_proba),
}
OURS = ("softline", "estimator", "logistic", "reference")  # always run


# ---- processes -------------------------------------------------------------------------------------------


def serve(pipe, make):
    """Answer the parent's commands on `pipe` with the implementation that `make` prepares."""
    run = task = None

    def load(new_task):
        nonlocal run, task
        run = None  # frees the last task's data
        task = new_task
        run = make(task, *task.data())

    def result():
        answer = run()
        return [np.asarray(array) for array in (answer if isinstance(answer, tuple) else (answer,))]

    def seconds():
        for _ in range(2):
            start = time.perf_counter()
            for _ in range(task.calls):
                run()
            elapsed = time.perf_counter() - start
        return elapsed / task.calls

    commands = {"load": load, "result": result, "seconds": seconds}
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent has gone
        while True:
            command, *arguments = pipe.recv()
            try:
                answer = True, commands[command](*arguments)
            except Exception:
                answer = False, traceback.format_exc()
            pipe.send(answer)


class Worker:
    """A process for one implementation: ``worker("seconds")``."""

    def __init__(self, name, implementation):
        self.title = implementation.title or name
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, implementation.make), daemon=True)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is the parent's business
        process.start()
        signal.signal(signal.SIGINT, handler)
        theirs.close()

    def __call__(self, *command):
        try:
            self.pipe.send(command)
            worked, answer = self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            worked, answer = False, "its process died; too little memory?"
        if not worked:
            sys.exit(f"{self.title}: {answer}")
        return answer


def difference(found, expected):
    """Largest difference relative to the largest element: of the loss, and of weights and bias together."""
    (first, *rest), (expected_first, *expected_rest) = found, expected
    pairs = [(np.ravel(first), np.ravel(expected_first))]
    if rest:
        pairs.append(
            [np.concatenate([array.ravel() for array in arrays]) for arrays in (rest, expected_rest)]
        )
    # np.max keeps NaN, which no tolerance admits.
    return np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in pairs])


def check(workers, expected_from, task):
    """Load `task` everywhere; exit unless the results agree. Returns the largest difference."""
    results = {}
    for name, worker in workers.items():
        worker("load", task)
        results[name] = worker("result")
    worst = 0
    for name, found in results.items():
        title = workers[name].title
        if name == "sklearn" and task.batch_size:
            X, y, *_ = task.data()
            W, b = found
            accuracy = np.mean((X @ W.T + b).argmax(axis=1) == y)
            if not accuracy > 1.5 / task.n_classes:
                sys.exit(f"{title} has not learned: its accuracy is {accuracy:.3f}; {task}")
            continue
        worst = max(worst, error := difference(found, results[expected_from]))
        if not error <= task.tolerance:
            sys.exit(f"{title} differs from {expected_from} by {error:.1e}; {task}")
    return worst


def measure(workers, task, repeats):
    """Check, then time; returns the seconds of each turn by implementation."""
    small = replace(task, n_rows=min(task.n_rows, CHECK_ROWS), calls=1)
    if task.whole:
        small = replace(small, batch_size=small.n_rows)
    worst = check(workers, "reference", small)
    workers = {name: worker for name, worker in workers.items() if name != "reference"}
    worst = max(worst, check(workers, "softline", task))
    what = f"{task.shape}, {task.n_rows} rows, {task.dtype}, batch {task.batch_size or '-'}"
    print(f"{what}: {len(workers)} implementations agree within {worst:.0e}", file=sys.stderr)
    seconds = {name: [] for name in workers}
    for turn in range(repeats):
        names = list(workers)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(PAUSE)
            seconds[name].append(workers[name]("seconds"))
    return seconds


# ---- what to run, where, and the answer ------------------------------------------------------------------


def pick_cpus(threads):
    """`threads` of the usable CPUs, one of each physical core first; None for one per core."""
    first = {}
    usable = sorted(os.sched_getaffinity(0))
    for cpu in usable:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        first.setdefault(siblings.read_text() if siblings.exists() else cpu, cpu)
    cores = list(first.values())
    return (cores + [cpu for cpu in usable if cpu not in cores])[: threads or len(cores)]


def limit_threads(cpus):
    """Everyone's threads; the workers inherit the limits."""
    os.sched_setaffinity(0, cpus)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(len(cpus))
    os.environ["JAX_PLATFORMS"] = "cpu"  # its pool has a thread for each CPU of the affinity mask
    if len(cpus) == 1:
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"


def installed(implementations):
    """Those that can run here; a line on stderr for each that cannot."""
    found = {}
    for name, implementation in implementations.items():
        modules = implementation.needs.split()
        if any(find_spec(module) is None for module in modules):
            packages = " ".join({"sklearn": "scikit-learn"}.get(module, module) for module in modules)
            print(f"{implementation.title} skipped: pip install {packages}", file=sys.stderr)
        elif name == "torch-compile" and not shutil.which(os.environ.get("CXX", "g++")):
            print(f"{implementation.title} skipped: no C++ compiler, g++ or $CXX", file=sys.stderr)
        else:
            found[name] = implementation
    return found


def tasks_of(args):
    if args.predict:
        shape = "tiny" if args.shapes == ["tiny"] else "cifar10"
        _, D, C = SHAPES[shape]
        return [Task(shape, n, D, C, 0, args.dtype, calls) for n, calls in ((1, 1000), (10_000, 5))]
    tasks = []
    for shape, size in itertools.product(args.shapes, args.batch_sizes):
        N, D, C = SHAPES[shape]
        N = min(N, MOST_ROWS.get(size, N))
        tasks.append(Task(shape, N, D, C, min(N, size or N), args.dtype))
    return tasks


def digits(milliseconds):
    """Three significant digits."""
    return f"{milliseconds:.{max(0, 2 - math.floor(math.log10(milliseconds)))}f}"


def table(implementations, records):
    """Rows of cells, the head first."""
    shown = [name for name in implementations if name != "reference"]
    titles = [f"{implementations[name].title} ms" for name in shown]
    rows = [["shape", "rows", "batch", *titles, "best peer"]]
    for record in records:
        median, ratio = record["median"], record["ratio"]
        cells = [
            f"{digits(1e3 * median[name])} ({ratio[name]:.2f}x)" if name in median else "-" for name in shown
        ]
        cells[0] = digits(1e3 * median["softline"])
        peers = [
            name for name in median if name not in OURS and implementations[name].footnote != ONE_VS_REST
        ]
        best = f"{min(ratio[name] for name in peers):.2f}x" if peers else "-"
        rows.append([record["shape"], str(record["n_rows"]), str(record["batch_size"] or "-"), *cells, best])
    return rows


def short_table(implementations, records, n_threads):
    """Rows of cells, the head first: softline beside the peak of this machine and the best peer."""
    from softline._kernels.machine_limits import fma_peak

    rows = [["shape", "rows", "batch", "softline ms", "of the FMA peak", "best peer", "ms", "times softline"]]
    for record in records:
        median = record["median"]
        peers = [name for name in median if name not in OURS]
        best = min(peers, key=median.get, default=None)
        flops = 4 * record["n_rows"] * record["n_features"] * record["n_classes"]
        share = flops / median["softline"] / fma_peak(record["dtype"], n_threads)
        cells = [record["shape"], str(record["n_rows"]), str(record["batch_size"] or "-")]
        cells += [digits(1e3 * median["softline"]), f"{share:.0%}"]
        if best is not None:
            ratio = median[best] / median["softline"]
            cells += [implementations[best].title, digits(1e3 * median[best]), f"{ratio:.2f}x"]
        rows.append(cells + ["-"] * (len(rows[0]) - len(cells)))
    return rows


def show(rows, markdown):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    if markdown:
        lines = [f"| {' | '.join(row)} |" for row in rows]
        lines.insert(1, "|---" + "|---:" * (len(widths) - 1) + "|")
    print(*lines, sep="\n")


def machine(cpus):
    """CPU, versions, threads and command, to quote beside every number."""
    from softline import _kernels

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    about = {
        "cpu": (models or [platform.machine()])[0],
        "cpus": os.cpu_count(),
        "threads": len(cpus),
        "isa": _kernels.isa_name(),
        "python": platform.python_version(),
    }
    for package in ("softline", "numpy", "torch", "jax", "scikit-learn"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            about[package] = metadata.version(package)
    blas = [info for info in threadpool_info() if info["user_api"] == "blas"]
    about["blas"] = (
        " ".join(str(blas[0].get(key)) for key in ("internal_api", "architecture")) if blas else "?"
    )
    return {**about, "command": shlex.join(["python", *sys.argv])}


def parse():
    parser = argparse.ArgumentParser(
        description="The same work in softline and in its peers: checked first, then timed."
    )
    add = parser.add_argument
    shapes = [shape for shape in SHAPES if shape != "tiny"]
    peers = [name for name in {**TRAIN, **PREDICT} if name not in OURS]
    add("--shapes", nargs="+", choices=SHAPES, default=shapes, metavar="SHAPE", help=", ".join(shapes))
    add(
        "--batch-sizes",
        nargs="+",
        type=lambda text: None if text == "full" else int(text),
        default=[256],
        metavar="SIZE",
        help="numbers, or full; default 256",
    )
    add("--dtype", choices=("float32", "float64"), default="float32")
    add("--threads", type=int, metavar="N", help="and CPUs; default: one for each physical core")
    add("--repeats", type=int, default=7, metavar="N", help="rounds; default 7")
    add("--peers", nargs="+", choices=peers, metavar="NAME", help=", ".join(peers))
    add("--dataloader", action="store_true", help="PyTorch's DataLoader too, for reference")
    add("--predict", action="store_true", help="predict_proba instead of training")
    add("--json", type=Path, metavar="FILE", help="write every measured time to FILE")
    add("--markdown", action="store_true", help="print the table as Markdown")
    add("--table", action="store_true", help="print shares of the FMA peak and the best peer, as Markdown")
    args = parser.parse_args()
    args.peers = args.peers or [name for name in peers if name != "torch-dataloader" or args.dataloader]
    if args.threads is not None and not 1 <= args.threads <= len(os.sched_getaffinity(0)):
        parser.error(f"--threads must be within 1..{len(os.sched_getaffinity(0))}, the CPUs to be had")
    if args.repeats < 1 or any(size is not None and size < 1 for size in args.batch_sizes):
        parser.error("--repeats and --batch-sizes must be at least 1")
    return args


def main():
    args = parse()
    cpus = pick_cpus(args.threads)
    limit_threads(cpus)
    tasks, wanted = tasks_of(args), {*args.peers, *OURS}
    if not args.predict and all(task.batch_size > 1 for task in tasks):
        wanted -= {"sklearn"}
    every = PREDICT if args.predict else TRAIN
    implementations = installed({name: every[name] for name in every if name in wanted})
    workers = {name: Worker(name, implementation) for name, implementation in implementations.items()}
    about, records, interrupted = machine(cpus), [], False
    try:
        for task in tasks:
            suited = {name: workers[name] for name in workers if name != "sklearn" or task.batch_size < 2}
            seconds = measure(suited, task, args.repeats)
            median = {name: float(np.median(turns)) for name, turns in seconds.items()}
            if noisy := [workers[name].title for name in median if median[name] > NOISY * min(seconds[name])]:
                print(
                    f"  busy machine? median far above the fastest turn: {', '.join(noisy)}", file=sys.stderr
                )
            ratio = {name: median[name] / median[implementations[name].against] for name in median}
            records.append({**asdict(task), "median": median, "ratio": ratio, "seconds": seconds})
            if args.json:
                args.json.write_text(json.dumps({"machine": about, "records": records}, indent=1) + "\n")
    except KeyboardInterrupt:  # what has been measured is shown
        interrupted = True
    if args.table and not args.predict:
        show(short_table(implementations, records, len(cpus)), markdown=True)
    else:
        show(table(implementations, records), args.markdown)
    for implementation in implementations.values():
        if implementation.footnote:
            print(f"\n{implementation.title} {implementation.footnote}")
    print("\n" + ", ".join(f"{name} {value}" for name, value in about.items()))
    return 130 if interrupted else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
