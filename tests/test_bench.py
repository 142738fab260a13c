import contextlib
import io
import json
import math
import os
import re

import numpy as np
import pytest

from softline import _kernels
from softline._cli import bench
from softline._cli.commands import main
from softline._kernels import machine_limits
from softline._words import format_seconds

KERNELS = ["scores", "cross_entropy_gradient", "gradient", "step", "loss_gradient", "epoch"]


@pytest.fixture(scope="module")
def report():
    """What `softline bench --quick --json --data digits` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["bench", "--quick", "--json", "--data", "digits"]) == 0
    return json.loads(out.getvalue())


@pytest.fixture
def tiny(monkeypatch):
    """A shape, caches and a machine that take no time."""
    monkeypatch.setattr(bench, "SHAPES", {"tiny": (12_500, 20, 3)})
    monkeypatch.setattr(machine_limits, "caches", lambda: {"L1": (16 << 10, 2), "L2": (64 << 10, 1)})
    monkeypatch.setattr(
        machine_limits, "_best_rate", lambda loop, threads, seconds, budget=0.0: 1e6 * loop(1, threads)
    )


def run(capsys, *args):
    """A run with --quick and --json."""
    capsys.readouterr()
    assert main(["bench", "--quick", "--json", *map(str, args)]) == 0
    return json.loads(capsys.readouterr().out)


def assert_fails(capsys, args, message):
    """The command prints nothing but one line on stderr, which holds the regular expression `message`."""
    capsys.readouterr()
    assert main(["bench", "--quick", *map(str, args)]) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"softline: error: [^\n]*{message}[^\n]*\n", err), err
    assert out == ""


# ---- the report ------------------------------------------------------------------------------------------


def test_report_says_what_was_measured_where(report):
    assert report["isa"] == _kernels.isa_name()
    assert report["compiler"] == _kernels.config()["compiler"]
    assert report["versions"]["numpy"] == np.__version__
    assert report["machine"]["processor"]
    assert report["threads"] == _kernels.max_threads()
    assert (report["dtype"], report["batch_size"], report["quick"]) == ("float32", 256, True)


def test_report_has_every_peak_and_bandwidth(report):
    threads = sorted({1, report["threads"]})
    assert [(p["threads"], p["dtype"]) for p in report["peaks"]] == [
        (count, dtype) for count in threads for dtype in ("float32", "float64")
    ]
    memories = [*report["machine"]["caches"], "DRAM"]
    assert [(b["threads"], b["memory"]) for b in report["bandwidths"]] == [
        (count, memory) for count in threads for memory in memories
    ]
    for peak in report["peaks"]:
        assert 0 < peak["gflops"] < 1e6
    for bandwidth in report["bandwidths"]:
        assert 0 < bandwidth["gbytes"] < 1e6


def test_report_has_every_kernel_on_every_shape(report):
    assert [(r["shape"], r["kernel"]) for r in report["results"]] == [
        (shape, kernel) for shape in [*bench.SHAPES, "digits"] for kernel in KERNELS
    ]
    for r in report["results"]:
        if r["shape"] != "digits":
            assert (r["n_features"], r["n_classes"]) == bench.SHAPES[r["shape"]][1:]
    digits = report["results"][-1]
    assert (digits["n_rows"], digits["n_features"], digits["n_classes"]) == (1293, 64, 10)


def test_shares_follow_from_peaks_and_bandwidths(report):
    threads = report["threads"]
    peak = next(p["gflops"] for p in report["peaks"] if (p["dtype"], p["threads"]) == ("float32", threads))
    bandwidth = {b["memory"]: b["gbytes"] for b in report["bandwidths"] if b["threads"] == threads}
    for r in report["results"]:
        best = max(r["flops"] / peak / 1e9, r["bytes"] / bandwidth[r["memory"]] / 1e9)
        assert math.isfinite(r["share"])
        assert r["share"] > 0
        assert r["share"] == pytest.approx(best / r["seconds"])
        assert r["gflops"] == pytest.approx(r["flops"] / r["seconds"] / 1e9)
        assert r["gbytes"] == pytest.approx(r["bytes"] / r["seconds"] / 1e9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_counts(tiny, capsys, dtype):
    """On 500 rows, 20 features, 3 classes, batches of 100."""
    report = run(capsys, "--batch-size", 100, "--threads", 1, "--dtype", dtype)
    assert (report["threads"], report["dtype"], report["batch_size"]) == (1, dtype, 100)
    assert {p["threads"] for p in report["peaks"]} == {1}
    counted = {
        "scores": (2 * 100 * 20 * 3, 100 * 20 + 3 * 20 + 100 * 3),
        "cross_entropy_gradient": (20 * 100 * 3, 2 * 100 * 3),
        "gradient": (2 * 100 * 20 * 3, 100 * 20 + 3 * 20 + 100 * 3),
        "step": (4 * 3 * 20, 3 * 3 * 20),
        "loss_gradient": (4 * 500 * 20 * 3, 500 * 20),
        "epoch": (4 * 500 * 20 * 3, 500 * 20),
    }
    size = np.dtype(dtype).itemsize
    assert {r["kernel"]: (r["flops"], r["bytes"] // size) for r in report["results"]} == counted
    memories = {r["kernel"]: r["memory"] for r in report["results"]}
    assert memories["scores"] == ("L1" if dtype == "float32" else "L2")
    assert memories["epoch"] == ("L2" if dtype == "float32" else "DRAM")


def test_tables(tiny, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["bench", "--quick", "--threads", "2"]) == 0
    out = capsys.readouterr().out
    number = r"[\d.e+-]+"
    for line in (
        rf"instruction set +{_kernels.isa_name()}",
        r" +machine +1 thread +2 threads +",
        rf" +FMA float64 +{number} GFLOP/s +{number} GFLOP/s +",
        rf" +read L1, 16 KiB +{number} GB/s +{number} GB/s +",
        rf" +read DRAM +{number} GB/s +{number} GB/s +",
        r" +tiny, 500x20, C=3 +",
        *(
            rf" +{kernel} +{number} [mu]?s +{number} +{number} +(L1|L2|DRAM) +{number}% +"
            for kernel in KERNELS
        ),
    ):
        assert re.search(rf"^{line}$", out, re.M), line
    assert max(map(len, out.splitlines())) <= 90
    assert "\x1b" not in out


def test_data_of_a_file(tiny, tmp_path, capsys):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 4)), rng.choice(["cat", "[dog]"], 300)
    rows = [",".join([label, *map(str, row)]) for label, row in zip(y, X, strict=True)]
    (tmp_path / "[pets].csv").write_text("\n".join(["kind,a,b,c,d", *rows]))
    file = tmp_path / "[pets].csv"
    result = run(capsys, "--data", file, "--label", "kind")["results"][-1]
    assert (result["shape"], result["n_features"], result["n_classes"]) == ("[pets].csv", 4, 2)
    assert main(["bench", "--quick", "--data", str(file), "--label", "kind"]) == 0
    assert "[pets].csv, " in capsys.readouterr().out


def test_a_batch_of_more_rows_than_there_are(tiny, capsys):
    results = run(capsys, "--batch-size", 10**6)["results"]
    assert results[0]["flops"] == 2 * 500 * 20 * 3


# ---- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [1e-2, np.nan])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_wrong_result_is_an_error_and_no_time_is_printed(tiny, capsys, monkeypatch, kernel, fault):
    right = getattr(_kernels, kernel)
    written = {"scores": 4, "gradient": 3, "loss_gradient": 5, "epoch": 4}.get(kernel, 0)

    def wrong(*args):
        returned = right(*args)
        array = args[written][0][0] if kernel == "epoch" else args[written]
        array[-1, -1] += fault * np.abs(array).max()
        return returned

    monkeypatch.setattr(_kernels, kernel, wrong)
    args = ["--json"] if fault > 0 else []
    assert_fails(capsys, args, rf"{kernel} on tiny is wrong: off softline.reference by ([\d.e-]+|nan) ")


def test_wrong_data(tiny, tmp_path, capsys):
    assert_fails(capsys, ["--data", "mnits"], "unknown data set 'mnits'")
    assert_fails(capsys, ["--data", "mnist", "--data-dir", tmp_path / "none"], "none")
    assert_fails(capsys, ["--label", "y"], "--label names a column of a file; --data says which file")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--threads", "0"], "argument --threads: expected a whole number from 1 to 1024; got '0'"),
        (["--threads", "two"], "argument --threads: expected a whole number"),
        (["--batch-size", "full"], "argument --batch-size: expected a whole number"),
        (["--dtype", "float16"], "argument --dtype: invalid choice: 'float16'"),
        (["digits"], "unrecognized arguments: digits"),
    ],
)
def test_wrong_usage(capsys, args, message):
    with pytest.raises(SystemExit) as exit:
        main(["bench", *args])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


# ---- the machine -----------------------------------------------------------------------------------------


@pytest.fixture(params=[name for name, runs in _kernels.isas().items() if runs])
def isa(request):
    in_use = _kernels.isa_name()
    _kernels._use_isa(request.param)
    yield request.param
    _kernels._use_isa(in_use)


@pytest.mark.parametrize("double_precision", [False, True])
def test_multiply_add_counts_what_every_thread_does(isa, double_precision):
    once = _kernels.multiply_add(double_precision, 1, 1)
    lanes = 8 if double_precision else 16
    assert once > 0
    assert once % (2 * lanes) == 0
    assert _kernels.multiply_add(double_precision, 1000, 3) == 3000 * once


def test_read_counts_what_every_thread_reads(isa):
    data = np.ones(10_000 + 64, np.uint8)
    data = data[-data.ctypes.data % 64 :][:10_000]
    assert _kernels.read(data, 5, 1) == 5 * 8192
    assert _kernels.read(data, 5, 2) == 5 * 8192
    assert _kernels.read(data, 5, 3) == 0


def test_no_threads_is_an_error():
    with pytest.raises(ValueError, match="n_threads"):
        _kernels.multiply_add(False, 1, 0)


def test_caches_as_linux_lists_them(tmp_path, monkeypatch):
    """Two CPUs with caches of their own but for one; a third that the process may not use."""
    listed = [
        ("1", "Data", "48K"),
        ("1", "Instruction", "32K"),
        ("2", "Unified", "2048K"),
        ("3", "Unified", "1M"),
    ]
    for cpu in range(3):
        for i, (level, kind, size) in enumerate(listed):
            folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cache/index{i}"
            folder.mkdir(parents=True)
            shared = "0-2" if level == "3" else str(cpu)
            for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
                (folder / name).write_text(text + "\n")
    monkeypatch.setattr(machine_limits, "Path", lambda path: tmp_path / path.lstrip("/"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    caches = machine_limits.caches()
    assert list(caches.items()) == [("L1", (48 << 10, 2)), ("L2", (2 << 20, 2)), ("L3", (1 << 20, 1))]


def test_caches_where_nothing_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_limits, "Path", lambda path: tmp_path / path.lstrip("/"))
    caches = machine_limits.caches()
    assert list(caches) == ["L1", "L2", "L3"]
    assert all(size > 0 and count > 0 for size, count in caches.values())


def test_operands_lie_in_the_nearest_memory_that_holds_them():
    caches = {"L1": (100, 4), "L2": (1000, 1)}
    assert machine_limits.memory_of(100, caches, 1) == "L1"
    assert machine_limits.memory_of(101, caches, 1) == "L2"
    assert machine_limits.memory_of(101, caches, 2) == "L1"
    assert machine_limits.memory_of(401, caches, 9) == "L2"
    assert machine_limits.memory_of(1001, caches, 9) == "DRAM"


@pytest.mark.parametrize("threads", [1, 2, 16, 1000])
def test_what_is_read_lies_in_the_memory_that_is_measured(threads):
    caches = {"L1": (32 << 10, 16), "L2": (1 << 20, 16), "L3": (32 << 20, 1)}
    parts = machine_limits._parts(caches, threads, quick=False)
    assert list(parts) == [*caches, "DRAM"]
    assert min(parts.values()) >= 4096
    assert parts["DRAM"] * threads >= 4 * (32 << 20) - 4 * threads
    if threads <= 16:
        assert 2 * parts["L1"] <= 32 << 10 < parts["L2"] <= 1 << 20 < parts["L3"]


def test_what_is_measured_is_read_by_every_thread(monkeypatch):
    levels, read = {"L1": (1 << 14, 4), "L2": (1 << 16, 2)}, []

    def rate(loop, threads, *_):
        read.append(loop(1, threads))
        return 5e9

    monkeypatch.setattr(machine_limits, "_best_rate", rate)
    peaks, bandwidths = machine_limits.measure(levels, 3, quick=True)
    assert [(peak["dtype"], peak["threads"], peak["gflops"]) for peak in peaks] == [
        (dtype, threads, 5) for threads in (1, 3) for dtype in ("float32", "float64")
    ]
    told = {(row["threads"], row["memory"]): row for row in bandwidths}
    for threads in (1, 3):
        for memory, part in machine_limits._parts(levels, threads, True).items():
            assert told[threads, memory]["bytes"] == part * threads and told[threads, memory]["gbytes"] == 5
    for row, done in zip(bandwidths, [*read[2:5], *read[7:]], strict=True):
        assert 0.95 * row["bytes"] < done <= row["bytes"]


def test_bytes_to_read_begin_on_a_cache_line():
    for size in (1, 64, 1000):
        data = machine_limits._written(size)
        assert data.ctypes.data % 64 == 0 and size <= data.nbytes <= size + 64 and data.all()


def test_times_have_three_digits_and_a_unit():
    assert [format_seconds(t) for t in (2.5e-7, 1.234e-5, 9.996e-4, 0.0123, 0.99996, 61.2)] == [
        "0.25 us",
        "12.3 us",
        "1 ms",
        "12.3 ms",
        "1 s",
        "61.2 s",
    ]
