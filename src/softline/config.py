"""Versions and hardware of this installation: for bug reports, and for ``softline info``."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import version


def show_config() -> None:
    """Print versions, instruction set, threads and compiler.

    Examples
    --------
    >>> import softline
    >>> softline.show_config()  # doctest: +SKIP
    """
    print_rows(config())


def config() -> dict[str, object]:
    """Versions, instruction set, threads and compiler, by name."""
    import numpy as np

    from softline import _kernels

    isas, built = _kernels.isas(), _kernels.config()
    return {
        "softline": version("softline"),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "scikit-learn": version("scikit-learn"),
        "instruction set": _kernels.isa_name(),
        "can run here": ", ".join(name for name, runs in isas.items() if runs),
        "built": ", ".join(isas),
        "SOFTLINE_ISA": os.environ.get("SOFTLINE_ISA", "not set"),
        "threads": _kernels.max_threads(),
        "compiler": built["compiler"],
        "OpenMP": built["openmp"],
        "Cython": built["cython"],
    }


def print_rows(rows: Mapping[str, object]) -> None:
    """Print a dict as two aligned columns."""
    for name, value in rows.items():
        print(f"{name:19}  {value}")
