"""Private names of scikit-learn that softline needs: a release may change them, and this is where to look.

No other module imports a private name or module of scikit-learn. This one imports nothing of softline, so
that all others may import it. Names that are handed on:

- `fit_context`: decorator of `fit` that checks parameters, with scikit-learn's switch to skip the check.
- `Interval`, `Options`, `StrOptions`: what a parameter may be, with scikit-learn's words for all else.
- `make_constraint`: tells whether scikit-learn's class accepts a value, before it is left to that class.
- `check_sample_weight`: the check, and the messages, of scikit-learn's own estimators.

Private attributes, which scikit-learn's code and softline's read from one another:

- `_get_param_names` of a class: the names of its parameters. softline's estimators keep them, because
  `get_params` asks for them, and so do `clone`, `set_params` and the check of parameters before each fit.
- `_parameter_constraints` of a class: what its parameters may be. softline's estimators have it because
  `fit_context` and `check_parameters` read it.
- `_label_binarizer` of a RidgeClassifier or MLPClassifier: whether rows have one label or several, and which;
  there is no public name. A model that goes to scikit-learn needs one to predict.
- `_fit_X`, `_fit_method`, `_tree` and `_y` of a KNeighborsClassifier: the training rows, how to search them,
  and the codes of their labels. scikit-learn's code reads them where queries are sparse.
- `_no_improvement_count`, `_best_coefs` and `_best_intercepts` of an MLPClassifier: scikit-learn's
  `partial_fit` goes on from them.
"""

from __future__ import annotations

import functools
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import Interval, Options, StrOptions, make_constraint
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "Interval",
    "Options",
    "StrOptions",
    "callback_context",
    "check_parameters",
    "check_sample_weight",
    "check_solver",
    "constraints_of",
    "fit_context",
    "make_constraint",
    "names_of_parameters",
]


def check_solver(solver: str, penalty: str | None, dual: bool) -> None:
    """Raise scikit-learn's error for a solver that lacks a penalty: its table of solvers is private."""
    from sklearn.linear_model._logistic import _check_solver  # late, because it takes a second to import

    _check_solver(solver, penalty, dual)


def check_parameters(estimator: Any) -> None:
    """Check the parameters of an estimator that is restored instead of fitted."""
    estimator._validate_params()


def constraints_of(cls: Any) -> dict[str, list[Any]]:
    """Constraints of the parameters of a class of scikit-learn."""
    return cls._parameter_constraints


@functools.cache
def names_of_parameters(cls: Any) -> tuple[str, ...]:
    """Names of the parameters of an estimator's class, read from the signature of its constructor."""
    return tuple(BaseEstimator._get_param_names.__func__(cls))


def callback_context(estimator: Any, max_subtasks: int) -> Any:
    """Root context of a fit's callbacks, which has no public name; None without callbacks."""
    if not hasattr(estimator, "_skl_callbacks"):
        return None
    return estimator._init_callback_context(max_subtasks=max_subtasks)
