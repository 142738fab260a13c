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


# Rooms from the ground up: a module imports from its own room and from those before it. What no room names is
# a public face, and stands on all rooms but the last.
ROOMS = [
    ("softline._typing", "softline._words", "softline._estimators._sklearn"),  # import nothing of softline
    ("softline._kernels",),
    ("softline.optimizers", "softline.schedules", "softline._data"),  # the first two: values of parameters
    ("softline._training",),
    ("softline._solvers",),
    ("softline._estimators",),
    (),  # public faces
    ("softline._cli", "softline.__main__"),
]
FACES = ROOMS.index(())


def is_inside(module, room):
    return module == room or module.startswith(f"{room}.")


def floor(module):
    """Number of the room of a module, by the longest name that fits."""
    found = [(len(room), i) for i, rooms in enumerate(ROOMS) for room in rooms if is_inside(module, room)]
    return max(found)[1] if found else FACES


def imports(node):
    """Pairs (module, name) of the import statements that run; the name is "" where a module is imported."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        yield from ((node.module, alias.name) for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


def arrows():
    """For each module, those of the package that it imports, compiled ones included."""
    found = {}
    for module, tree in TREES.items():
        targets = {f"{a}.{b}" if f"{a}.{b}" in MODULES else a for a, b in imports(tree)}
        found[module] = {target for target in targets if target.startswith("softline.")}
    return found


def test_imports_run_one_way():
    wrong = {(a, b) for a, targets in arrows().items() for b in targets if floor(b) > floor(a)}
    assert wrong == set()
    assert all(arrows()[module] == set() for module in ROOMS[0])
    assert "softline._training.trainer" in arrows()["softline._estimators.labels"]


def test_no_import_cycles():
    left = arrows()
    while free := [module for module, targets in left.items() if not targets & left.keys()]:
        left = {module: targets for module, targets in left.items() if module not in free}
    assert left == {}


def is_private(dotted):
    return any(part.startswith("_") for part in dotted.split("."))


def test_one_module_imports_private_names_of_scikit_learn():
    found = {
        module
        for module, tree in TREES.items()
        for source, name in imports(tree)
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
