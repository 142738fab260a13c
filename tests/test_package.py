import os
import subprocess
import sys

import numpy as np
import pytest

import softline
from softline import _kernels


def run(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


def test_import_brings_nothing_heavy():
    """`import softline` costs no more than NumPy: the rest comes when it is used."""
    heavy = "{'sklearn', 'scipy', 'joblib', 'rich', 'safetensors', 'pandas', 'matplotlib'}"
    done = run(f"import sys, softline; print(sorted({heavy} & set(sys.modules)))")
    assert done.stdout == "[]\n", done.stderr


def test_names_are_there():
    for name in softline.__all__:
        assert getattr(softline, name) is not None
        assert name in dir(softline)
    assert softline.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        softline.nothing  # noqa: B018


@pytest.mark.parametrize("name", [name for name, runs in _kernels.isas().items() if runs])
def test_isa_can_be_chosen(name):
    done = run("from softline import _kernels; print(_kernels.isa_name())", SOFTLINE_ISA=name)
    assert done.stdout == f"{name}\n", done.stderr


def test_an_isa_that_cannot_run_is_refused_at_import():
    done = run("import softline._kernels", SOFTLINE_ISA="avx9")
    assert done.returncode == 1
    assert "ImportError: SOFTLINE_ISA=avx9 cannot run here; this build and processor offer" in done.stderr


def test_importing_does_not_flush_subnormals():
    """-ffast-math would, for the whole process."""
    from softline import _epoch  # noqa: F401

    assert np.float32(1e-39) * np.float32(1) != 0
    assert np.float64(1e-310) * 1 != 0
