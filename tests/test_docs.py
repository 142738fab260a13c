"""The examples in README.md, in docs/ and in docstrings run, and print what stands there."""

import doctest
import inspect
import io
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path

import pytest

import softline
from softline import _kernels
from softline._cli import commands as cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Pages whose scripts need data; they have tests of their own.
APART = {"cs231n", "export", "neural_network", "plots"}
# Lines of a command's output that no two machines have alike: the first words of them.
VARYING = re.compile(r"^(running on|time per epoch|time)  .*$", re.M)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def blocks(page, languages="python|console"):
    """(language, text) of each block of code in a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```({languages})\n(.*?)^```$", text, re.M | re.S)


def python_blocks(page):
    return [text for _, text in blocks(page, "python")]


PAGES = [page.stem for page in sorted(DOCS.glob("*.md")) if blocks(page)]


@pytest.mark.parametrize("page", PAGES)
def test_examples(page, tmp_path, monkeypatch):
    if page == "export":
        pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    names, differences = {"__name__": "__main__"}, []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for language, text in blocks(f"docs/{page}.md"):
        if language == "console":
            for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.M):
                check_command(command, expected)
        elif text.startswith(">>> "):
            test = doctest.DocTestParser().get_doctest(text, names, page, None, None)
            runner.run(test, out=differences.append, clear_globs=False)
            names = test.globs
        elif page not in APART:
            check_script(text, names)
    assert not differences, "".join(differences)


def check_command(command, expected):
    """Run a command line of the shell: of softline in this process, others in one of their own."""
    words = shlex.split(command)
    env = dict(word.split("=") for word in words if re.match(r"[A-Z_]+=", word))
    if not _kernels.isas().get(env.get("SOFTLINE_ISA"), True):
        return  # this machine cannot
    if words[0] == "softline":
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(out), suppress(SystemExit):
            cli.main(words[1:])
        printed = re.sub(r"^epoch .*\n", "", out.getvalue(), flags=re.M)  # progress
    else:
        assert words[len(env)] == "python"
        argv, env = [sys.executable, *words[len(env) + 1 :]], os.environ | env
        printed = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
    assert VARYING.sub(r"\1", printed) == VARYING.sub(r"\1", expected)


def check_script(text, names):
    """Run lines of Python; what they print stands beside each print as a comment."""
    with redirect_stdout(io.StringIO()) as out:
        exec(text, names)
    comments = re.findall(r"^print\(.*\)  # (.*)$", text, re.M)
    for printed, comment in zip(out.getvalue().splitlines(), comments, strict=True):
        assert printed and comment.startswith(printed)


MODULES = [
    module.name
    for module in pkgutil.walk_packages(softline.__path__, "softline.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    differences = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for test in doctest.DocTestFinder().find(import_module(name)):
        runner.run(test, out=differences.append)
    assert not differences, "".join(differences)


def documented(module):
    """Functions and classes of a module, and methods of these."""
    for thing in list(vars(module).values()):
        for own in (thing, *(vars(thing).values() if inspect.isclass(thing) else ())):
            own = getattr(own, "__func__", own)
            if callable(own) and getattr(own, "__module__", None) == module.__name__:
                yield own


def test_defaults_are_those_documented():
    n_checked = 0
    for name in MODULES:
        module = import_module(name)
        for thing in documented(module):
            parameters = re.search(
                r"^Parameters\n-+\n(.*?)(^\w+\n-+\n|\Z)", inspect.getdoc(thing) or "", re.M | re.S
            )
            told = re.findall(r"^([\w, ]+) : .*?default=(.+)$", parameters[1], re.M) if parameters else []
            actual = {p.name: p.default for p in inspect.signature(thing).parameters.values()} if told else {}
            if "kwargs" in actual:
                actual |= module.DEFAULTS
            for names, defaults in told:
                names, defaults = names.split(", "), re.split(", | and ", defaults)
                defaults = defaults if len(names) == len(defaults) else defaults * len(names)
                for parameter, default in zip(names, defaults, strict=True):
                    assert eval(default, vars(module).copy()) == actual[parameter], (thing, parameter)
                    n_checked += 1
    assert n_checked > 200


def test_readme_on_digits(capsys):
    example, *_ = python_blocks("README.md")
    exec(example, {})
    assert float(capsys.readouterr().out) > 0.95


@pytest.mark.parametrize("page", ["README.md", "docs/neural_network.md"])
def test_networks_on_cifar10(page, cifar10_dir, tmp_path, monkeypatch):
    (example,) = (block for block in python_blocks(page) if "load_cifar10" in block)
    (tmp_path / "data").symlink_to(cifar10_dir)
    monkeypatch.chdir(tmp_path)
    check_script(example, {})


def test_pictures(capsys, cifar10_dir, mnist_dir, tmp_path, monkeypatch):
    """The code of plots.md makes the pictures that it shows, but for those of `softline demo`."""
    pytest.importorskip("matplotlib").use("agg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar10").symlink_to(cifar10_dir)
    (tmp_path / "data" / "mnist").symlink_to(mnist_dir)
    monkeypatch.chdir(tmp_path)
    names = {}
    for example in python_blocks("docs/plots.md"):
        exec(example, names)
    text = (DOCS / "plots.md").read_text(encoding="utf-8")
    assert float(capsys.readouterr().out) == pytest.approx(float(re.search(r"# (0\.\d+)", text)[1]), abs=0.01)
    shown = set(re.findall(r"!\[.*?\]\(images/(.*?)\)", text))
    drawn = set(re.findall(r"^softline demo .*--out (\S+)$", text, re.M))
    assert {path.name for path in tmp_path.iterdir()} == shown - drawn | {"data"}
    assert shown <= {path.name for path in (DOCS / "images").iterdir()}
    names["pyplot"].close("all")


def test_cs231n(capsys, digits):
    example, *_ = python_blocks("docs/cs231n.md")
    X, X_val, y, y_val = digits
    exec(example, {"X_train": X, "y_train": y, "X_val": X_val, "y_val": y_val})
    *lines, accuracy = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"iteration {100 * i} / 1500" for i in range(15)]
    assert 0 < float(accuracy) <= 1


def test_export_to_torch():
    pytest.importorskip("torch")
    *_, linear, network = python_blocks("docs/export.md")
    for example in linear, network:
        names = {}
        exec(example, names)
        expected = names["model"].predict_proba(names["X"])
        assert abs(names["probabilities"].detach().numpy() - expected).max() < 1e-12
