"""The examples in README.md and docs/ run, and print what stands there."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ("gradient-check", "least-squares", "optimization", "report", "test-set")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("page", PAGES)
def test_examples(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(>>> .*?)^```$", text, re.M | re.S)
    assert blocks
    names, runner = {}, doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for block in blocks:
        test = doctest.DocTestParser().get_doctest(block, names, page, None, None)
        runner.run(test, clear_globs=False)
        names = test.globs
    assert runner.summarize(verbose=False).failed == 0


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def test_readme_on_digits(capsys):
    example, *_ = python_blocks("README.md")
    exec(example, {})
    assert float(capsys.readouterr().out) > 0.95


@pytest.mark.parametrize("page", ["README.md", "docs/neural_network.md"])
def test_networks_on_cifar10(page, capsys, cifar10_dir, tmp_path, monkeypatch):
    (example,) = (block for block in python_blocks(page) if "load_cifar10" in block)
    (tmp_path / "data").symlink_to(cifar10_dir)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out.strip() == re.search(r"print.*# ([\d.]+)", example)[1]


def test_cs231n(capsys, digits):
    (example,) = python_blocks("docs/cs231n.md")
    X, X_val, y, y_val = digits
    exec(example, {"X_train": X, "y_train": y, "X_val": X_val, "y_val": y_val})
    *lines, accuracy = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"iteration {100 * i} / 1500" for i in range(15)]
    assert 0 < float(accuracy) <= 1
