"""Limits of this machine, and how near to them each kernel comes: ``softline bench``.

The machine: its limits, with one thread and with all, as :mod:`softline._kernels.machine_limits` finds them.

The kernels, as called from Python on the rows of one batch again and again, loss and gradient of all rows,
and a whole epoch in shuffled order with L2: the median of the times. What counts, for batches of n rows,
N rows, D features, C classes:

    ======================  ==========  =================================================
    kernel                  flops       elements moved
    ======================  ==========  =================================================
    scores                  2 n D C     n D + C D + n C: X and W read, scores written
    cross_entropy_gradient  20 n C      2 n C: scores read and written
    gradient                2 n D C     n D + n C + C D: X and dscores read, dW written
    step                    4 C D       3 C D: W read and written, dW read
    loss_gradient           4 N D C     N D: X read once
    epoch                   4 N D C     N D: X read once
    ======================  ==========  =================================================

20 flops stand for an exponential and its share of maximum, sum and scaling. Vectors (b, y, losses, row
numbers) are not counted, nor what a pass over all rows does beside its two matrix products, or moves beside
X.

The roofline is the least time that the machine allows, max(flops / peak, bytes / bandwidth), at the peak of
the dtype and the bandwidth of the nearest memory that holds all operands, both with all threads. Share is
roofline / median. It can exceed 1 where part of the operands lies nearer than the whole.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from softline import _kernels, reference
from softline._kernels import machine_limits
from softline._training.trainer import epoch_flops
from softline._typing import Array
from softline._words import counted, format_seconds
from softline.config import print_rows

if TYPE_CHECKING:
    from softline.datasets import Dataset

SHAPES = {  # rows, features, classes
    "CIFAR-10": (50_000, 3072, 10),
    "MNIST": (60_000, 784, 10),
    "narrow": (200_000, 64, 5),
    "wide": (50_000, 512, 1000),
}
ALPHA = 1e-4
# Rows of a batch, and of an epoch, on which a kernel must agree with the reference.
CHECKED_ROWS = 2000
# A share above this is no matter of operands that lie nearer than the whole.
MOST_SHARE = 1.2


def measure(
    *,
    n_threads: int | None = None,
    dtype: Literal["float32", "float64"] = "float32",
    batch_size: int = 256,
    data: Dataset | None = None,
    quick: bool = False,
    tell: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """Measure the machine, then every kernel and an epoch on `SHAPES` and on the training rows of `data`.

    `n_threads` None leaves the kernels their choice, and measures the machine with all threads that it may
    use. `quick` means a few seconds, on fewer rows. `tell` is called with the name of the next measurement.
    The report is ready for JSON: sizes in bytes, times in seconds. A result that differs from
    `softline.reference` raises ValueError.
    """
    tell = tell or (lambda what: None)
    threads = n_threads or _kernels.max_threads()
    tell("machine")
    caches = machine_limits.caches()
    peaks, bandwidths = machine_limits.measure(caches, threads, quick)
    peak = next(p["gflops"] for p in peaks if (p["dtype"], p["threads"]) == (dtype, threads))
    bandwidth = {b["memory"]: b["gbytes"] for b in bandwidths if b["threads"] == threads}

    results = []
    for shape, X, y, n_classes in _problems(np.dtype(dtype), data, quick):
        for result in _measure_kernels(shape, X, y, n_classes, batch_size, n_threads, quick, tell):
            memory = machine_limits.memory_of(result.pop("held"), caches, threads)
            best = max(result["flops"] / peak, result["bytes"] / bandwidth[memory]) / 1e9
            result |= {"memory": memory, "roofline_seconds": best, "share": best / result["seconds"]}
            results.append(result)
    built = _kernels.config()
    return {
        "machine": {
            "processor": machine_limits.processor(),
            "system": platform.platform(),
            "caches": {level: {"bytes": size, "count": count} for level, (size, count) in caches.items()},
        },
        "isa": _kernels.isa_name(),
        "compiler": built["compiler"],
        "versions": {
            "softline": version("softline"),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "cython": built["cython"],
            "openmp": built["openmp"],
        },
        "threads": threads,
        "dtype": dtype,
        "batch_size": batch_size,
        "quick": quick,
        "peaks": peaks,
        "bandwidths": bandwidths,
        "results": results,
    }


# ---- the kernels -----------------------------------------------------------------------------------------


def _problems(
    dtype: np.dtype[Any], data: Dataset | None, quick: bool
) -> Iterator[tuple[str, Array, Array, int]]:
    """Name, X, y and number of classes of each shape."""
    rng = np.random.default_rng(0)
    for shape, (n, n_features, n_classes) in SHAPES.items():
        if quick:
            n //= 25
        # Random numbers repeat: drawing all of them would take longer than measuring.
        X = np.resize(rng.standard_normal(1_000_003, dtype), (n, n_features))
        yield shape, X, rng.integers(0, n_classes, n, np.int32), n_classes
    if data is not None:
        classes, y = np.unique(data.y_train, return_inverse=True)
        rows = slice(CHECKED_ROWS if quick else None)
        X = np.ascontiguousarray(data.X_train[rows], dtype)
        yield data.name, X, y[rows].astype(np.int32), len(classes)


def _measure_kernels(
    shape: str,
    X: Array,
    y: Array,
    n_classes: int,
    batch_size: int,
    n_threads: int | None,
    quick: bool,
    tell: Callable[[str], object],
) -> Iterator[dict[str, Any]]:
    """Check every kernel, then time it; in each result, `held` is the size of the operands in bytes."""
    (N, D), C = X.shape, n_classes
    n = min(batch_size, N)
    rng = np.random.default_rng(0)
    order = rng.permutation(N)
    # With these weights scores are about 1, and with this rate descent is stable, whatever the features.
    square = np.mean(np.sum(np.square(X[order[:CHECKED_ROWS]], dtype=float), axis=1)) or 1.0
    W = _padded(rng.standard_normal((C, D)) / math.sqrt(square), X.dtype)
    b = np.zeros(C, X.dtype)
    rate = 0.1 / square

    def calls(batch: Array, order: Array) -> dict[str, tuple[list[Any], list[int]]]:
        """Arguments of each kernel, and the positions of those that it writes."""
        scores = _padded(rng.standard_normal((len(batch), C)), X.dtype)
        weight = np.full(len(batch), 1 / len(batch), X.dtype)
        rates = np.full(math.ceil(len(order) / n), rate)
        alphas, scales = np.full(len(rates), ALPHA), np.full(len(rates), 1 / n, X.dtype)
        dW, db = _padded(W, X.dtype), np.ones(C, X.dtype)
        step = [ALPHA, None, None, True]
        return {
            "scores": ([X, batch, W, b, scores.copy()], [4]),
            "cross_entropy_gradient": ([scores.copy(), y[batch], weight, weight.copy()], [0, 3]),
            "gradient": ([X, batch, scores, _padded(W, X.dtype), b.copy()], [3, 4]),
            "step": ([_padded(W, X.dtype), b.copy(), dW, db, rate, *step], [0, 1]),
            "loss_gradient": (
                [X[: len(order)], y[: len(order)], None, W, b, np.empty((C, D)), np.empty(C)],
                [5, 6],
            ),
            "epoch": (
                [X, y, None, order, [(_padded(W, X.dtype), b.copy())], rates, n, alphas, scales],
                [4],
            ),
        }

    work = {  # flops, elements moved, elements of the operands
        "scores": (2 * n * D * C, n * D + C * D + n * C, n * D + C * D + n * C),
        "cross_entropy_gradient": (20 * n * C, 2 * n * C, n * C),
        "gradient": (2 * n * D * C, n * D + n * C + C * D, n * D + n * C + C * D),
        "step": (4 * C * D, 3 * C * D, 2 * C * D),
        "loss_gradient": (epoch_flops(N, D * C), N * D, N * D),
        "epoch": (epoch_flops(N, D * C), N * D, N * D),
    }
    pieces = calls(order[:n][:CHECKED_ROWS], order[:CHECKED_ROWS])
    for kernel, (args, _) in calls(order[:n], order).items():
        tell(f"{shape}: {kernel}")
        function = getattr(_kernels, kernel)
        _check(f"{kernel} on {shape}", function, getattr(reference, kernel), *pieces[kernel], n_threads)
        seconds = _median_seconds(partial(function, *args, n_threads), budget=0.1 if quick else 1)
        flops, moved, held = work[kernel]
        size = X.dtype.itemsize
        yield {
            "shape": shape,
            "n_rows": N,
            "n_features": D,
            "n_classes": C,
            "kernel": kernel,
            "seconds": seconds,
            "flops": flops,
            "bytes": moved * size,
            "held": held * size,
            "gflops": flops / seconds / 1e9,
            "gbytes": moved * size / seconds / 1e9,
        }


def _padded(A: Array, dtype: np.dtype[Any]) -> Array:
    copy = _kernels.padded(A.shape[0], A.shape[1], dtype)
    copy[...] = A
    return copy


def _check(
    what: str,
    function: Callable[..., Any],
    twin: Callable[..., Any],
    args: list[Any],
    written: list[int],
    n_threads: int | None,
) -> None:
    """Raise ValueError unless both functions write and return the same."""
    from threadpoolctl import threadpool_limits

    results = []
    with threadpool_limits(1, "blas"):  # or BLAS's threads would still spin when the clock runs
        for run in (function, twin):
            own = [deepcopy(arg) if i in written else arg for i, arg in enumerate(args)]
            returned = run(*own, n_threads)
            arrays = [a for i in written for a in ([own[i]] if isinstance(own[i], np.ndarray) else own[i][0])]
            results.append(arrays + ([] if returned is None else [returned]))
    for a, b in zip(*results, strict=True):
        error, scale = np.abs(a - b).max(), np.abs(b).max()
        if not error <= 1000 * np.finfo(args[0].dtype).eps * scale:
            raise ValueError(
                f"{what} is wrong: off softline.reference by {error:.2g} where that is {scale:.2g}"
            )


def _median_seconds(run: Callable[[], object], budget: float) -> float:
    """Median time of 3 runs, or of as many as `budget` seconds allow, up to 200."""
    run()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < budget and len(times) < 200):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return median(times)


# ---- the report ------------------------------------------------------------------------------------------


def print_report(report: dict[str, Any]) -> None:
    """Print a report of `measure` as tables."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    versions = report["versions"]
    print_rows(
        {
            "processor": report["machine"]["processor"],
            "instruction set": report["isa"],
            "threads": report["threads"],
            "softline": f"{versions['softline']}, {report['compiler']}, NumPy {versions['numpy']}",
            "kernels": f"{report['dtype']}, batches of {counted(report['batch_size'], 'row')}",
        }
    )
    console = Console(markup=False, emoji=False, highlight=False)

    rows: dict[str, list[str]] = {}
    for peak in report["peaks"]:
        rows.setdefault(f"FMA {peak['dtype']}", []).append(f"{peak['gflops']:.1f} GFLOP/s")
    for bandwidth in report["bandwidths"]:
        memory = bandwidth["memory"]
        if memory in report["machine"]["caches"]:
            memory += f", {_size(report['machine']['caches'][memory]['bytes'])}"
        rows.setdefault(f"read {memory}", []).append(f"{bandwidth['gbytes']:.1f} GB/s")
    table = Table("machine", box=box.SIMPLE_HEAD)
    for threads in sorted({1, report["threads"]}):
        table.add_column(counted(threads, "thread"), justify="right")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)

    table = Table("kernel", box=box.SIMPLE_HEAD)
    for name in ("median", "GFLOP/s", "GB/s", "from", "share"):
        table.add_column(name, justify="right")
    for shape, results in groupby(
        report["results"], itemgetter("shape", "n_rows", "n_features", "n_classes")
    ):
        table.add_section()
        table.add_row("{}, {}x{}, C={}".format(*shape), style="bold")
        for r in results:
            rates = f"{r['gflops']:.1f}", f"{r['gbytes']:.1f}"
            table.add_row(
                f"  {r['kernel']}", format_seconds(r["seconds"]), *rates, r["memory"], f"{r['share']:.1%}"
            )
    console.print(table)
    print("share: of the roofline, the best that the FMA peak and the bandwidth of that memory allow")
    if any(r["share"] > MOST_SHARE for r in report["results"]):
        print("above 100%: the machine was busy while its limits were measured; measure again")


def _size(n: float) -> str:
    return f"{n / 2**20:.3g} MiB" if n >= 2**20 else f"{n / 2**10:.3g} KiB"
