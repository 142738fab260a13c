"""A table of softline against its NumPy twin after the run, with GFLOP/s and GB/s."""

import numpy as np
import pytest

_rows = {}


def pytest_xdist_auto_num_workers():
    """No processes beside this one: they would disturb each other."""
    return 0


@pytest.fixture
def versus(benchmark, request):
    """Time `run` and file the median under a kernel, a shape and who ran it ("softline" or "numpy").

    `operations` are floating-point operations, `bytes` what must at least move between memory and cores.
    """

    def measure(kernel, shape, who, run, operations, bytes):
        benchmark.group = f"{kernel} {shape}"
        benchmark.extra_info.update(kernel=kernel, shape=shape, who=who)
        run()
        benchmark.pedantic(run, rounds=7, iterations=1)
        if benchmark.stats is not None:
            seconds = benchmark.stats.stats.median
            benchmark.extra_info.update(gflops=operations / seconds / 1e9, gbytes=bytes / seconds / 1e9)
            _rows.setdefault((kernel, shape), {})[who] = seconds, operations, bytes

    return measure


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter):
    if not _rows:
        return
    from softline import _kernels

    write = terminalreporter.write_line
    threads = f"{_kernels.max_threads()} threads"
    write("")
    write(f"medians, {_kernels.isa_name()}, {threads}, NumPy {np.__version__}")
    columns = f"{'softline ms':>12}{'GFLOP/s':>9}{'GB/s':>7}{'NumPy ms':>10}{'ratio':>7}"
    write(f"{'kernel':<24}{'shape':<28}{columns}")
    for (kernel, shape), found in _rows.items():
        if set(found) != {"softline", "numpy"}:
            continue
        seconds, operations, bytes = found["softline"]
        numpy_seconds = found["numpy"][0]
        rates = f"{operations / seconds / 1e9:>9.1f}{bytes / seconds / 1e9:>7.1f}"
        times = f"{1e3 * numpy_seconds:>10.2f}{numpy_seconds / seconds:>6.1f}x"
        write(f"{kernel:<24}{shape:<28}{1e3 * seconds:>12.3f}{rates}{times}")
