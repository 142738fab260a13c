"""What this machine can do at most: FMA peak, caches and bandwidths; and the roofline that they make.

The best of several runs, because noise only slows:

- FMA peak: multiply-adds in registers, of the instruction set in use; each counts as 2 flops.
- Bandwidth of a cache: reading arrays of half its size, one a thread. Of DRAM: reading four times as much
  as the last caches hold (twice with `quick`), written by one thread before, as X is.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from softline import _kernels
from softline._typing import Array

Caches: TypeAlias = dict[str, tuple[int, int]]


def processor() -> str:
    """The name of the processor."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def caches() -> Caches:
    """Caches of data that the process may use, nearest first: {"L1": (bytes of one, how many), ...}."""
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    found: dict[str, dict[str, int]] = {}  # level -> CPUs that share a cache -> its size
    for cpu in cpus:
        for index in Path(f"/sys/devices/system/cpu/cpu{cpu}/cache").glob("index*"):
            with suppress(OSError, ValueError, KeyError):
                level, kind, size, shared = (
                    (index / name).read_text().strip()
                    for name in ("level", "type", "size", "shared_cpu_list")
                )
                if kind != "Instruction":
                    unit = {"K": 2**10, "M": 2**20}[size[-1]]
                    found.setdefault(f"L{level}", {})[shared] = int(size[:-1]) * unit
    if found:
        return {level: (min(found[level].values()), len(found[level])) for level in sorted(found)}
    # Where the system does not tell, what most processors of the last ten years have at least.
    assumed = {}
    for level, name, default, count in (
        ("L1", "SC_LEVEL1_DCACHE_SIZE", 32 << 10, len(cpus)),
        ("L2", "SC_LEVEL2_CACHE_SIZE", 512 << 10, len(cpus)),
        ("L3", "SC_LEVEL3_CACHE_SIZE", 8 << 20, 1),
    ):
        size = 0
        with suppress(ValueError, OSError, AttributeError):
            size = os.sysconf(name)
        assumed[level] = (size if size > 0 else default, count)
    return assumed


def _reach(cache: tuple[int, int], threads: int) -> int:
    """Bytes of all caches of a level that `threads` threads use."""
    size, count = cache
    return size * min(threads, count)


def memory_of(size: int, levels: Caches, threads: int) -> str:
    """The nearest memory that holds `size` bytes."""
    return next((level for level, cache in levels.items() if size <= _reach(cache, threads)), "DRAM")


def _parts(levels: Caches, threads: int, quick: bool) -> dict[str, int]:
    """Bytes that each thread reads, to measure each memory: {"L1": bytes, ..., "DRAM": bytes}."""
    parts, inner = {}, 0
    for level, cache in levels.items():
        part = _reach(cache, threads) // threads
        # A cache may be little larger than the one before it, and threads be many more than caches.
        parts[level] = max(part // 2, 2 * inner, 4096)
        inner = part
    return parts | {"DRAM": (2 if quick else 4) * inner}


def measure(levels: Caches, threads: int, quick: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Peaks of both dtypes and bandwidths of all memories, with one thread and with `threads`."""
    seconds, peaks, bandwidths = 0.002 if quick else 0.01, [], []
    for count in sorted({1, threads}):
        for dtype in ("float32", "float64"):
            rate = _fma_rate(dtype, count, seconds)
            peaks.append({"dtype": dtype, "threads": count, "gflops": rate / 1e9})
        parts = _parts(levels, count, quick)
        data = _written(max(parts.values()) * count)
        for memory, part in parts.items():
            rate = _best_rate(partial(_read, data, part), count, seconds)
            bandwidths.append(
                {"memory": memory, "threads": count, "bytes": part * count, "gbytes": rate / 1e9}
            )
    return peaks, bandwidths


@lru_cache
def fma_peak(dtype: str, n_threads: int | None) -> float:
    """Most flops in a second of multiply-adds in registers, measured once a process, in a fifth of a second.

    Short runs, and as many as fit: on a busy machine some are left alone. There one thread, which waits for
    no other, may do more than all.

    Parameters
    ----------
    dtype : {"float32", "float64"}
    n_threads : int or None
        None means all that the process may use.
    """
    counts = {1, n_threads or _kernels.max_threads()}
    return max(_fma_rate(dtype, count, seconds=0.0005, budget=0.08) for count in counts)


def _fma_rate(dtype: str, threads: int, seconds: float, budget: float = 0.0) -> float:
    return _best_rate(partial(_kernels.multiply_add, dtype == "float64"), threads, seconds, budget)


def roofline(
    flops: float, n_bytes: int, dtype: str, n_threads: int | None = None
) -> tuple[float, str | None]:
    """The least time that this machine allows a pass over an array, measured in half a second.

    Parameters
    ----------
    flops : float
    n_bytes : int
        Of the array, which is read once, from the nearest memory that holds it.
    dtype : {"float32", "float64"}
        What is computed with.
    n_threads : int or None, default=None
        None means all that the process may use.

    Returns
    -------
    seconds : float
    memory : str or None
        The memory whose bandwidth is the limit; None where it is the peak.
    """
    found, threads = caches(), n_threads or _kernels.max_threads()
    memory = memory_of(n_bytes, found, threads)
    part = _parts(found, threads, quick=True)[memory]
    reading = n_bytes / _best_rate(partial(_read, _written(part * threads), part), threads, seconds=0.002)
    computing = flops / fma_peak(dtype, n_threads)
    return (reading, memory) if reading > computing else (computing, None)


def _written(n_bytes: int) -> Array:
    """Bytes that start on 64; written, because zeros that were never written all lie in one page."""
    data = np.ones(n_bytes + 64, np.uint8)
    return data[-data.ctypes.data % 64 :]


def _read(data: Array, part: int, rounds: int, threads: int) -> int:
    return _kernels.read(data[: part * threads], rounds, threads)


def _best_rate(loop: Callable[[int, int], float], threads: int, seconds: float, budget: float = 0.0) -> float:
    """The most that `loop(rounds, threads)`, which returns what it did, does in a second.

    The best of ten runs of some `seconds` each, or of as many as `budget` allows.
    """

    def run(threads: int) -> tuple[float, float]:
        start = perf_counter()
        done = loop(rounds, threads)
        return perf_counter() - start, done

    rounds = 1
    while min(run(1)[0] for _ in range(3)) < seconds:
        rounds *= 2
    runs: list[tuple[float, float]] = []
    end = perf_counter() + budget
    while len(runs) < 10 or perf_counter() < end:
        runs.append(run(threads))
    return max(done / taken for taken, done in runs)
