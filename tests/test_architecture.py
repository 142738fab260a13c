"""The order of the package's modules, and what they may not import."""

import ast
from pathlib import Path

import softline

ROOT = Path(softline.__file__).parent
MODULES = {
    ".".join(("softline", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}


def imported(tree):
    """Pairs (module, name) of all import statements; the name is "" where a module itself is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.module, alias.name) for alias in node.names)


def is_private(dotted):
    return any(part.startswith("_") for part in dotted.split("."))


def test_one_module_imports_private_names_of_scikit_learn():
    found = {
        module
        for module, tree in TREES.items()
        for source, name in imported(tree)
        if source.partition(".")[0] == "sklearn" and is_private(f"{source}.{name}")
    }
    assert found == {"softline._estimators._sklearn"}


def test_one_module_calls_private_methods_of_scikit_learn():
    names = {"_validate_params", "_init_callback_context", "_skl_callbacks"}
    found = {
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.Constant) and node.value in names)
    }
    assert found == {"softline._estimators._sklearn"}
