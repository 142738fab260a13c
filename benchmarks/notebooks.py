"""Run the CS231n notebooks that you have on softline: how many of their cells pass.

    SOFTLINE_CS231N=assignment1 python benchmarks/notebooks.py
    python benchmarks/notebooks.py 2025/assignment1 2026/assignment1 --verbose

A folder holds .ipynb files as the course hands them out, unfilled. ``import cs231n`` finds
softline.cs231n. Each notebook runs in an empty folder, so that nothing of yours is overwritten. CIFAR-10
is that of the folder cs231n/datasets beside the notebook, or else of SOFTLINE_DATA. A cell passes if it
raises nothing. Cells that do nothing outside Colab are left out, and so are lines for IPython (% and !).
Cells that need what students write into the notebook itself, such as a search over learning rates,
cannot pass.
"""

import argparse
import io
import json
import os
import pkgutil
import sys
import tempfile
import traceback
import warnings
from contextlib import chdir, redirect_stdout
from importlib import import_module
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import softline.cs231n


def provide_course():
    """Let ``import cs231n`` and its modules find softline.cs231n."""
    sys.modules["cs231n"] = softline.cs231n
    for module in pkgutil.walk_packages(softline.cs231n.__path__, "softline.cs231n."):
        sys.modules[module.name.removeprefix("softline.")] = import_module(module.name)


def code_cells(path):
    """Sources of the code cells of a notebook that have something to run, without lines for IPython."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "google.colab" in source:
            continue
        lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
        if any(line.strip() and not line.lstrip().startswith("#") for line in lines):
            yield "\n".join(lines)


def link_datasets(folder, notebook):
    """Let cs231n/datasets in a folder be that beside the notebook, or have CIFAR-10 of SOFTLINE_DATA."""
    (folder / "cs231n").mkdir()
    datasets, given = notebook.parent / "cs231n" / "datasets", os.environ.get("SOFTLINE_DATA")
    if datasets.is_dir():
        (folder / "cs231n" / "datasets").symlink_to(datasets)
    elif given:
        (folder / "cs231n" / "datasets").mkdir()
        (folder / "cs231n" / "datasets" / "cifar-10-batches-py").symlink_to(Path(given).resolve())


def run(path, verbose):
    """Number of cells of a notebook, and what went wrong in which: pairs of number and error."""
    names, errors, n_cells = {"__name__": "__main__"}, [], 0
    np.random.seed(0)  # noqa: NPY002  # the course draws from NumPy's global generator
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        link_datasets(Path(folder), path)
        with chdir(folder):
            for n_cells, source in enumerate(code_cells(path), 1):
                try:
                    with redirect_stdout(sys.stderr if verbose else io.StringIO()):
                        exec(compile(source, f"{path.name}, cell {n_cells}", "exec"), names)
                except Exception as error:
                    errors.append((n_cells, f"{type(error).__name__}: {error}"))
                    if verbose:
                        traceback.print_exc()
    return n_cells, errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "folders", type=Path, nargs="*", help="folders of notebooks; default: SOFTLINE_CS231N"
    )
    parser.add_argument("--verbose", action="store_true", help="print what cells print, and their errors")
    args = parser.parse_args()
    given = os.environ.get("SOFTLINE_CS231N")
    folders = args.folders or ([Path(given)] if given else [])
    notebooks = [path.resolve() for folder in folders for path in sorted(folder.rglob("*.ipynb"))]
    if not notebooks:
        parser.error("no .ipynb files; name a folder, or set SOFTLINE_CS231N to one")
    try:
        import_module("matplotlib").use("agg")  # pictures go nowhere
    except ImportError:
        print("without matplotlib, cells that draw fail: pip install matplotlib", file=sys.stderr)
    provide_course()
    table = Table("notebook", "cells", "pass", "first error", title="CS231n on softline")
    for path in notebooks:
        n_cells, errors = run(path, args.verbose)
        first = "cell {}: {}".format(*errors[0]) if errors else ""
        table.add_row(f"{path.parent.name}/{path.name}", str(n_cells), str(n_cells - len(errors)), first)
    Console().print(table)


if __name__ == "__main__":
    main()
