"""Reading tables: softline beside pandas, pyarrow, NumPy and scikit-learn, in time and memory.

python benchmarks/files.py                  # a million rows, ten features and a label
python benchmarks/files.py --rows 100000

Each reader runs in a process of its own, which reads once to warm the cache, then times the best of several.
"seconds" is the clock's time, "CPU" that of all threads, "MB held" what the process held at its most beyond
what it held before the reading. All readers of a format must find the same numbers. softline also checks that
each is finite. svmlight is read by scikit-learn, whose sparse X softline's classes take.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from softline import datasets

FEATURES, CLASSES, REPEATS = 10, 5, 3


def pandas_csv(path):
    import pandas

    frame = pandas.read_csv(path)
    return frame.iloc[:, :-1].to_numpy(), frame.iloc[:, -1].to_numpy()


def pandas_parquet(path):
    import pandas

    frame = pandas.read_parquet(path)
    return frame.iloc[:, :-1].to_numpy(), frame.iloc[:, -1].to_numpy()


def pyarrow_csv(path):
    from pyarrow import csv

    *features, y = (column.to_numpy() for column in csv.read_csv(path).columns)
    return np.column_stack(features), y


def numpy_csv(path):
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    return table[:, :-1], table[:, -1]


def numpy_npy(path):
    table = np.load(path)
    return table[:, :-1], table[:, -1]


def softline(path):
    X, y, _ = datasets.read_features(path, label=-1)
    return X, y


def softline_without_pyarrow(path):
    sys.modules["pyarrow"] = None  # as if it were not installed
    return softline(path)


READERS = {
    "table.csv": [pandas_csv, pyarrow_csv, numpy_csv, softline, softline_without_pyarrow],
    "table.parquet": [pandas_parquet, softline],
    "table.npy": [numpy_npy, softline],
    "table.svmlight": [load_svmlight_file],
}


def write(folder, n_rows):
    """Write the same table in every format."""
    import pandas

    rng = np.random.default_rng(0)
    X = np.round(rng.standard_normal((n_rows, FEATURES)), 5)
    y = rng.integers(0, CLASSES, n_rows)
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(FEATURES)]).assign(y=y)
    frame.to_csv(folder / "table.csv", index=False)
    frame.to_parquet(folder / "table.parquet")
    np.save(folder / "table.npy", np.column_stack([X, y]))
    dump_svmlight_file(X, y, str(folder / "table.svmlight"))


def most_memory():
    """Bytes that this process held at its most."""
    status = Path("/proc/self/status")
    if status.exists():  # where the resource's maximum begins with that of the parent
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(reader, path):
    """Seconds, CPU seconds and bytes of the best reading; and sums that tell whether it is right."""
    before, times = most_memory(), []
    for _ in range(1 + REPEATS):
        start, cpu = time.perf_counter(), time.process_time()
        X, y = reader(path)
        total, labels = float(X.sum(dtype=np.longdouble)), int(y.sum())
        times.append((time.perf_counter() - start, time.process_time() - cpu))
    seconds, cpu = min(times[1:])
    return {
        "seconds": seconds,
        "cpu": cpu,
        "bytes": most_memory() - before,
        "found": [round(total, 3), labels],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        reader, path = args.measure
        print(json.dumps(measure(globals()[reader], path)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.rows)
        print(f"{args.rows} rows, {FEATURES} features and a label")
        print(f"{'file':16}{'MB':>7}  {'reader':26}{'seconds':>8}{'CPU':>8}{'MB held':>9}")
        for name, readers in READERS.items():
            path, found = Path(folder) / name, []
            for reader in readers:
                command = [sys.executable, __file__, "--measure", reader.__name__, str(path)]
                result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                found.append(result["found"])
                size = path.stat().st_size / 1e6
                times = f"{result['seconds']:8.2f}{result['cpu']:8.2f}"
                print(
                    f"{name:16}{size:7.1f}  {reader.__name__:26}{times}{result['bytes'] / 1e6:9.0f}",
                    flush=True,
                )
            if any(sums != found[0] for sums in found):
                sys.exit(f"{name}: the readers found different numbers: {found}")


if __name__ == "__main__":
    main()
