import os
import pickle
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import sklearn.linear_model
from sklearn.datasets import load_iris
from sklearn.linear_model._logistic import LogisticRegression as SklearnLogisticRegression

import softline
from softline import patch_sklearn, unpatch_sklearn
from softline._cli import commands as cli
from softline.linear_model import LogisticRegression


@pytest.fixture(autouse=True)
def unpatched():
    yield
    unpatch_sklearn()


def python(*args, cwd=None, **env):
    return subprocess.run(
        [sys.executable, *map(str, args)],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def script(tmp_path):
    """Writes a script; the folder holds a module beside it, too."""
    (tmp_path / "beside.py").write_text("number = 42\n")

    def write(code, name="script.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(code))
        return path

    return write


# ---- in a process -----------------------------------------------------------------------------------------


@pytest.mark.wheel
def test_patch_and_unpatch():
    assert sklearn.linear_model.LogisticRegression is SklearnLogisticRegression
    for _ in range(2):
        patch_sklearn()
        assert sklearn.linear_model.LogisticRegression is LogisticRegression
    for _ in range(2):
        unpatch_sklearn()
        assert sklearn.linear_model.LogisticRegression is SklearnLogisticRegression
    patch_sklearn()  # again
    assert sklearn.linear_model.LogisticRegression is LogisticRegression


def test_isinstance_holds_both_ways():
    patch_sklearn()
    model = sklearn.linear_model.LogisticRegression()
    assert isinstance(model, SklearnLogisticRegression)
    unpatch_sklearn()
    assert isinstance(model, sklearn.linear_model.LogisticRegression)


def test_what_another_patched_comes_back(monkeypatch):
    class Other(SklearnLogisticRegression):
        pass

    monkeypatch.setattr(sklearn.linear_model, "LogisticRegression", Other)
    patch_sklearn()
    assert sklearn.linear_model.LogisticRegression is LogisticRegression
    unpatch_sklearn()
    assert sklearn.linear_model.LogisticRegression is Other


def test_scikit_learns_own_estimators_of_the_name_keep_theirs():
    patch_sklearn()
    X, y = load_iris(return_X_y=True)
    model = sklearn.linear_model.LogisticRegressionCV(
        Cs=2, cv=2, use_legacy_attributes=False, scoring="accuracy", l1_ratios=(0,)
    )
    assert not isinstance(model, LogisticRegression)
    assert model.fit(X, y).score(X, y) > 0.9


@pytest.mark.wheel
def test_pickles_load_where_nothing_is_patched(tmp_path):
    X, y = load_iris(return_X_y=True)
    before = sklearn.linear_model.LogisticRegression(max_iter=1000).fit(X, y)
    patch_sklearn()
    ours = sklearn.linear_model.LogisticRegression().fit(X, y)
    (tmp_path / "models").write_bytes(pickle.dumps([before, ours]))
    code = """
        import pickle, sys
        models = pickle.load(open("models", "rb"))
        from sklearn.datasets import load_iris
        X, y = load_iris(return_X_y=True)
        print([type(model).__module__ for model in models], [model.score(X, y) for model in models])
    """
    done = python("-c", textwrap.dedent(code), cwd=tmp_path)
    modules = "['sklearn.linear_model._logistic', 'softline._estimators.logistic_regression']"
    assert done.stdout == f"{modules} {[before.score(X, y), ours.score(X, y)]}\n", done.stderr


# ---- a whole script ---------------------------------------------------------------------------------------


def test_a_script_runs_as_usual_but_patched(script, tmp_path):
    path = script(
        """
        import pickle, sys, warnings
        early = sorted({"numpy", "sklearn", "softline._kernels"} & set(sys.modules))
        import beside
        from sklearn.linear_model import LogisticRegression

        class Mine:
            pass

        print(early, beside.number, sys.argv, __name__, __file__, sys.path[0])
        print(LogisticRegression.__module__, sys.modules["__main__"].Mine is Mine)
        print(type(pickle.loads(pickle.dumps(Mine()))) is Mine)
        """
    )
    for folder, name in ((tmp_path.parent, path), (tmp_path, path.name)):
        done = python("-m", "softline", name, "--label", "-m", "x.py", cwd=folder)
        argv = [str(name), "--label", "-m", "x.py"]
        assert done.stdout == (
            f"[] 42 {argv} __main__ {name} {tmp_path}\nsoftline._estimators.logistic_regression True\nTrue\n"
        ), done.stderr


def test_an_import_from_deep_within_scikit_learn_is_patched_too(script):
    path = script(
        """
        from sklearn.ensemble import StackingClassifier
        from sklearn.datasets import load_iris
        from sklearn.naive_bayes import GaussianNB
        model = StackingClassifier([("nb", GaussianNB())], cv=2).fit(*load_iris(return_X_y=True))
        print(type(model.final_estimator_).__module__)
        """
    )
    done = python("-m", "softline", path)
    assert done.stdout == "softline._estimators.logistic_regression\n", done.stderr


def test_a_module_runs_too(script, tmp_path):
    script(
        "import sys, sklearn.linear_model as m; print(m.LogisticRegression.__module__, sys.argv[1:])",
        "mod.py",
    )
    done = python("-m", "softline", "-m", "mod", "a", "b", cwd=tmp_path)
    assert done.stdout == "softline._estimators.logistic_regression ['a', 'b']\n", done.stderr


def test_a_file_of_any_name_is_a_script_but_for_the_commands(script, tmp_path):
    script("print('ran', __file__)", "job")
    for name in cli.COMMANDS:
        script("print('ran', __file__)", name)
    assert python("-m", "softline", "job", cwd=tmp_path).stdout == "ran job\n"
    assert python("-m", "softline", "./info", cwd=tmp_path).stdout == "ran ./info\n"
    for name in cli.COMMANDS:
        assert python("-m", "softline", name, "--help", cwd=tmp_path).stdout.startswith(
            f"usage: softline {name}"
        )
    listed = re.findall(r"^    ([\w-]+)", python("-m", "softline", "-h").stdout, re.M)
    assert set(cli.COMMANDS) == set(listed)


def test_tracebacks_show_the_script_only(script):
    path = script(
        """
        def fail():
            raise ValueError("on purpose")
        fail()
        """
    )
    done, usual = python("-m", "softline", path), python(path)
    assert (done.returncode, done.stderr) == (usual.returncode, usual.stderr) and "on purpose" in done.stderr
    path.write_text("x = = 1\n")
    done, usual = python("-m", "softline", path), python(path)
    assert (done.returncode, done.stderr) == (usual.returncode, usual.stderr) and "SyntaxError" in done.stderr


def test_a_scripts_exit_code_is_its_own(script):
    assert python("-m", "softline", script("import sys; sys.exit(7)")).returncode == 7
    done = python("-m", "softline", script("raise SystemExit('enough')"))
    assert (done.returncode, done.stderr) == (1, "enough\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [(["none.py"], "none.py: No such file"), (["-m"], "argument expected for the -m option")],
)
def test_nothing_to_run(args, message):
    done = python("-m", "softline", *args)
    assert done.returncode == 2 and done.stderr.startswith(f"softline: error: {message}")


@pytest.mark.wheel
def test_the_names_are_handed_on_without_importing_scikit_learn():
    done = python("-c", "import sys, softline; softline.unpatch_sklearn(); print('sklearn' in sys.modules)")
    assert done.stdout == "False\n", done.stderr
    assert {"patch_sklearn", "unpatch_sklearn"} <= set(softline.__all__)


def test_a_patched_fit_is_softlines():
    X, y = load_iris(return_X_y=True)
    patch_sklearn()
    model = sklearn.linear_model.LogisticRegression(C=0.1).fit(X, y)
    assert np.array_equal(model.coef_, LogisticRegression(C=0.1).fit(X, y).coef_)
