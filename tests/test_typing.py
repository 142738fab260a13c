"""Types: of the lazy names, of the kernels and their twins, and as mypy tells users of them."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import softline
from softline import _kernels, _typing, linear_model, optimizers, reference, schedules
from softline._kernels import ACTIVATIONS, METRICS
from softline.linear_model import LogisticRegression
from softline.neighbors import KNeighborsClassifier

HERE = Path(__file__).parent / "typing"
PACKAGE = Path(softline.__file__).parent


@pytest.mark.wheel
def test_type_checkers_see_the_lazy_names():
    """Stubs import what their modules hand on, from the same homes."""

    def homes_in(stub):
        imports = [node for node in ast.parse((PACKAGE / stub).read_text()).body if hasattr(node, "names")]
        return {name.name: node.module for node in imports for name in node.names}

    homes = {name: f"softline.{home}" for name, home in softline._HOMES.items()}
    assert homes_in("__init__.pyi") == homes | dict.fromkeys(softline._MODULES, "softline")
    linear = {name: f"softline._estimators.{home}" for name, home in linear_model._HOMES.items()}
    assert homes_in("linear_model.pyi") == linear


@pytest.mark.wheel
def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.wheel
def test_kernels_have_the_signatures_of_their_twins():
    """And the stub names them all."""
    twins = dict(inspect.getmembers(reference, is_function_of(reference)))
    kernels = {name for name, value in vars(_kernels).items() if callable(value) and name in twins}
    for name in kernels:
        given, expected = (
            [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
            for f in (getattr(_kernels, name), twins[name])
        )
        assert given == expected, name
    stub = ast.parse((PACKAGE / "_kernels" / "__init__.pyi").read_text()).body
    of_twins = [node for node in stub if isinstance(node, ast.ImportFrom) and "reference" in node.module]
    assert {name.name for node in of_twins for name in node.names} == kernels
    assert twins.keys() - kernels == {"mix"}


def is_function_of(module):
    return lambda value: (
        inspect.isfunction(value) and value.__module__ == module.__name__ and value.__name__[0] != "_"
    )


@pytest.mark.wheel
def test_names_in_types_are_all_there_are():
    assert set(get_args(optimizers.Name)) == optimizers.BY_NAME.keys()
    assert set(get_args(schedules.Name)) == schedules.BY_NAME.keys()
    assert set(get_args(_typing.Activation)) == ACTIVATIONS.keys()
    assert set(get_args(_typing.Metric)) == set(METRICS)


@pytest.mark.parametrize("estimator", [LogisticRegression, KNeighborsClassifier])
def test_parameters_in_types_are_those_of_scikit_learn(estimator):
    """The __init__ that type checkers see, of classes that inherit scikit-learn's."""
    source = inspect.getsource(sys.modules[estimator.__module__])
    init = next(
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    typed = {arg.arg for arg in init.args.args[1:] + init.args.kwonlyargs}
    # Before 1.8 scikit-learn had one more, which is deprecated.
    assert inspect.signature(estimator).parameters.keys() - typed <= {"multi_class"}
    assert typed <= inspect.signature(estimator).parameters.keys()


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """What ``mypy --strict`` says of the files in tests/typing: {file: {(line, code), ...}}."""
    pytest.importorskip("mypy", reason="of the extra lint")
    folder = tmp_path_factory.mktemp("mypy")  # where no settings are, and softline is the installed one
    files = [HERE / "user.py", HERE / "errors.py"]
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--no-pretty"]
    done = subprocess.run(
        [*command, f"--cache-dir={folder / 'cache'}", *map(str, files)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stderr
    found = {file.name: set() for file in files}
    for file, line, code in re.findall(r"^(.*):(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE):
        found[Path(file).name].add((int(line), code))
    return found


def test_mypy_accepts_what_users_write(messages):
    assert messages["user.py"] == set()


def test_mypy_reports_mistakes(messages):
    lines = enumerate((HERE / "errors.py").read_text().splitlines(), 1)
    assert messages["errors.py"] == {(i, line.split("  # ")[1]) for i, line in lines if "  # " in line}
