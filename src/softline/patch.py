"""scikit-learn's LogisticRegression replaced by softline's, for a whole program."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

# scikit-learn's class, while it is replaced.
_replaced = None


def patch_sklearn() -> None:
    """Replace ``sklearn.linear_model.LogisticRegression`` by softline's in all imports from now on.

    Modules that have imported the class by its name before keep scikit-learn's. The replacement is a subclass
    of the original, under its own name: `isinstance` with either holds, and pickles load where nothing is
    patched, as long as softline is installed. To patch twice is to patch once.

    See Also
    --------
    unpatch_sklearn : Undoes it.

    Examples
    --------
    >>> import softline
    >>> softline.patch_sklearn()
    >>> from sklearn.linear_model import LogisticRegression
    >>> LogisticRegression
    <class 'softline._estimators.logistic_regression.LogisticRegression'>
    >>> softline.unpatch_sklearn()
    """
    global _replaced
    from sklearn import linear_model

    from softline._estimators.logistic_regression import LogisticRegression

    if linear_model.LogisticRegression is not LogisticRegression:
        _replaced = linear_model.LogisticRegression
        linear_model.LogisticRegression = LogisticRegression


def unpatch_sklearn() -> None:
    """Undo :func:`patch_sklearn`; estimators made meanwhile stay what they are."""
    global _replaced
    if _replaced is not None:
        from sklearn import linear_model

        linear_model.LogisticRegression, _replaced = _replaced, None


class _PatchOnImport(MetaPathFinder):
    """Finder that patches scikit-learn on import: until then the program may set its environment."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "sklearn.linear_model":
            return None
        sys.meta_path.remove(self)
        spec: Any = find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            patch_sklearn()

        spec.loader.exec_module = execute_and_patch
        return spec


def run_patched(argv: list[str]) -> int:
    """Run a script or a module as `python` would, with scikit-learn patched as soon as it is imported.

    `argv` is the script or "-m" and a module, then arguments. The exit code is 0, or 1 after an exception
    that nobody caught, or 2 if there is nothing to run.
    """
    is_module, argv = argv[0] == "-m", argv[argv[0] == "-m" :]
    if not argv:
        print("softline: error: argument expected for the -m option", file=sys.stderr)
        return 2
    if not is_module and not Path(argv[0]).exists():
        print(f"softline: error: {argv[0]}: No such file or directory", file=sys.stderr)
        return 2
    sys.argv = argv
    sys.meta_path.insert(0, _PatchOnImport())
    try:
        if is_module:
            runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
        else:
            if not sys.flags.safe_path:
                sys.path[0] = str(Path(argv[0]).resolve().parent)
            runpy.run_path(argv[0], run_name="__main__")
    except Exception as error:
        error.__traceback__ = _below_runpy(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def _below_runpy(traceback: TracebackType | None) -> TracebackType | None:
    """The program's part of a traceback: all below the frames of this module and of runpy."""
    ours = (__file__, runpy.__file__, "<frozen runpy>")
    while traceback is not None and traceback.tb_frame.f_code.co_filename in ours:
        traceback = traceback.tb_next
    return traceback
