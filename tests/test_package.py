import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import softline
from softline import _kernels

pytestmark = pytest.mark.wheel


def run(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )


def test_import_brings_nothing_heavy():
    """`import softline` costs no more than NumPy: the rest comes when it is used."""
    heavy = "{'sklearn', 'scipy', 'joblib', 'rich', 'safetensors', 'pandas', 'matplotlib'}"
    done = run(f"import sys, softline; print(sorted({heavy} & set(sys.modules)))")
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("module", [softline, softline.linear_model])
def test_names_are_there(module):
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match=f"'{module.__name__}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_version():
    assert softline.__version__.count(".") == 2


def test_a_linear_model_is_imported_without_the_others():
    others = [f"softline._estimators.{name}" for name in ("least_squares", "softmax_classifier")]
    code = "import sys; from softline.linear_model import LogisticRegression"
    done = run(f"{code}; print([name for name in {others} if name in sys.modules])")
    assert done.stdout == "[]\n", done.stderr


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
    import softline._kernels  # noqa: F401

    assert np.float32(1e-39) * np.float32(1) != 0
    assert np.float64(1e-310) * 1 != 0


FITS = {
    "softline": """
import hashlib, numpy as np
from softline import SoftmaxClassifier
rng = np.random.default_rng(0)
X, y = rng.standard_normal((2000, 200)).astype(np.float32), rng.integers(0, 10, 2000)
model = SoftmaxClassifier(max_iter=3, tol=None, random_state=0, n_threads=2).fit(X, y)
print(hashlib.sha256(model.coef_.tobytes() + model.predict_proba(X).tobytes()).hexdigest())
""",
    "torch": """
import torch
torch.set_num_threads(2)
a = torch.ones(300, 300, requires_grad=True)
(a @ a).sum().backward()
assert a.grad[0, 0] == 600
""",
    "xgboost": """
import numpy as np, xgboost
data = xgboost.DMatrix(np.arange(2000.0).reshape(1000, 2), np.arange(1000) % 2)
xgboost.train({"nthread": 2, "max_depth": 2, "objective": "binary:logistic"}, data, 2)
""",
    "sklearn": """
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
HistGradientBoostingClassifier(max_iter=3).fit(np.arange(2000.0).reshape(1000, 2), np.arange(1000) % 2)
""",
}


@pytest.fixture(scope="module")
def alone():
    done = run(FITS["softline"])
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("first", [False, True], ids=["second", "first"])
@pytest.mark.parametrize("other", ["torch", "xgboost", "sklearn"])
def test_other_openmp_runtimes(other, first, alone):
    """Each brings its own: whichever is loaded first, both fit, and softline's bits are the same."""
    if find_spec(other) is None:
        pytest.skip(f"no {other}")
    ours = "softline._kernels"
    imports = (ours, other) if first else (other, ours)
    done = run("import " + ", ".join(imports) + FITS[other] + FITS["softline"] + FITS[other])
    assert done.returncode == 0, done.stderr
    assert done.stdout == alone
