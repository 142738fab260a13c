"""The examples in README.md and docs/ run, and print what stands there."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = ("gradient-check", "least-squares", "optimization", "test-set")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("page", PAGES)
def test_examples(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(>>> .*?)^```$", text, re.M | re.S)
    assert blocks
    names, runner = {}, doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for block in blocks:
        test = doctest.DocTestParser().get_doctest(block, names, page, None, None)
        runner.run(test, clear_globs=False)
        names = test.globs
    assert runner.summarize(verbose=False).failed == 0


def python_blocks():
    return re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )


def test_readme_on_digits(capsys):
    example, *_ = python_blocks()
    exec(example, {})
    assert float(capsys.readouterr().out) > 0.95


def test_readme_on_cifar10(capsys, cifar10_dir, tmp_path, monkeypatch):
    _, example = python_blocks()
    (tmp_path / "data").symlink_to(cifar10_dir)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    assert capsys.readouterr().out.strip() == re.search(r"# (.*)", example)[1]
