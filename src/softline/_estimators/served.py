"""Table of what softline leaves to scikit-learn's own code, for all estimators.

An estimator that derives from scikit-learn's class takes all that the class takes. What `TABLE` lists is
fitted by the class itself, and whatever the model does from then on, the class does.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import BaseEstimator, clone

from softline._estimators._sklearn import constraints_of, make_constraint
from softline._estimators.labels import n_columns
from softline._typing import MatrixLike, Metric

Method = TypeVar("Method", bound=Callable[..., Any])

# Metrics of the kernels by scikit-learn's names; so is "minkowski", where p is 1 or 2.
METRICS: dict[str, Metric] = {
    "cityblock": "manhattan",
    "euclidean": "euclidean",
    "l1": "manhattan",
    "l2": "euclidean",
    "manhattan": "manhattan",
    "sqeuclidean": "sqeuclidean",
}


class Case(NamedTuple):
    """A case that is left to scikit-learn.

    Attributes
    ----------
    because : str
        The reason, as the end of a sentence; ``{0.name}`` is a parameter of the estimator.
    holds : callable
        Whether an estimator, X, y and sample_weight are such a case. What is not known is None.
    """

    because: str
    holds: Callable[[Any, Any, Any, Any], bool]


def _is_negative(sample_weight: Any) -> bool:
    weight = np.asarray(sample_weight)
    return bool(weight.ndim == 1 and weight.dtype.kind in "if" and weight.size and weight.min() < 0)


def _is_tree(X: Any) -> bool:
    from sklearn.neighbors import BallTree, KDTree  # late, because other estimators need no module of trees

    return isinstance(X, (BallTree, KDTree))


def _is_unknown(metric: Any) -> bool:
    return not (isinstance(metric, str) and (metric == "minkowski" or metric in METRICS))


_SPARSE_X = Case("X is sparse", lambda model, X, y, weight: issparse(X))
_SPARSE_Y = Case("y is sparse", lambda model, X, y, weight: issparse(y))
_ARRAY_API = Case("array_api_dispatch is on", lambda *_: get_config()["array_api_dispatch"])

# Cases by the name of scikit-learn's class; the first that holds is the reason.
TABLE: dict[str, tuple[Case, ...]] = {
    "LogisticRegression": (
        _SPARSE_X,
        _ARRAY_API,
        Case(
            "multi_class='ovr' is a model for each class",
            lambda model, X, y, weight: getattr(model, "multi_class", None) == "ovr",
        ),
        Case(
            "multi_class='multinomial' of two classes is not the logistic loss",
            lambda model, X, y, weight: (
                getattr(model, "multi_class", None) == "multinomial"
                and y is not None
                and len(np.unique(y)) == 2
            ),
        ),
        Case(
            "solver='liblinear' is a model for each class before scikit-learn 1.8",
            lambda model, X, y, weight: model.solver == "liblinear" and hasattr(model, "multi_class"),
        ),
        Case("a sample weight is negative", lambda model, X, y, weight: _is_negative(weight)),
    ),
    "MLPClassifier": (_SPARSE_X, _SPARSE_Y),
    "RidgeClassifier": (
        _SPARSE_X,
        _ARRAY_API,
        Case("y has several columns", lambda model, X, y, weight: n_columns(y) > 1),
        Case("positive is True", lambda model, X, y, weight: model.positive),
        Case(
            "solver={0.solver!r} is another way to the minimum",
            lambda model, X, y, weight: model.solver not in ("auto", "cholesky"),
        ),
        Case("alpha is not one number", lambda model, X, y, weight: np.ndim(model.alpha) > 0),
    ),
    "KNeighborsClassifier": (
        _SPARSE_X,
        _SPARSE_Y,
        Case(
            "X is a tree or an estimator",
            lambda model, X, y, weight: isinstance(X, BaseEstimator) or _is_tree(X),
        ),
        Case(
            "algorithm={0.algorithm!r} is a tree",
            lambda model, X, y, weight: model.algorithm in ("ball_tree", "kd_tree"),
        ),
        Case("the 'metric' parameter is {0.metric!r}", lambda model, X, y, weight: _is_unknown(model.metric)),
        Case("metric_params are given", lambda model, X, y, weight: bool(model.metric_params)),
        Case(
            "p must be 1 or 2 for softline, and is {0.p}",
            lambda model, X, y, weight: model.metric == "minkowski" and model.p not in (1, 2),
        ),
    ),
}


class LeavesTheRest:
    """Mixin of estimators that leave some cases to the class of scikit-learn that they derive from."""

    _sklearn: ClassVar[Any]
    # Reason why scikit-learn's code fitted the model; None if softline's did.
    _left_because: str | None = None

    def _why_left(self, X: Any, y: Any = None, sample_weight: Any = None) -> str | None:
        """Reason why scikit-learn's code must fit; None if softline's does."""
        for case in TABLE[self._sklearn.__name__]:
            if case.holds(self, X, y, sample_weight):
                return case.because.format(self)
        return None

    def _leave(self, because: str | None, method: str, *args: Any, **optional: Any) -> Self:
        """Fit by a method of scikit-learn's class, without the arguments that are None.

        ValueError if a parameter has a value that only softline knows.
        """
        theirs, ours = constraints_of(self._sklearn), inspect.signature(type(self)).parameters
        for name, value in cast(Any, self).get_params(deep=False).items():
            if name in theirs:
                known = any(make_constraint(one).is_satisfied_by(value) for one in theirs[name])
            else:
                known = name == "n_threads" or value == ours[name].default
            if not known:
                raise ValueError(
                    f"{name}={value!r} is softline's own, but scikit-learn's code fits, because {because}"
                )
        given = {name: value for name, value in optional.items() if value is not None}
        getattr(self._sklearn, method)(self, *args, **given)
        self._left_because = because
        return self


def as_fitted(method: Method) -> Method:
    """Decorator of a method of scikit-learn's class, which serves the models that this class has fitted."""

    @functools.wraps(method)
    def of_whoever_fitted(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._left_because is None:
            return method(self, *args, **kwargs)
        return getattr(self._sklearn, method.__name__)(self, *args, **kwargs)

    return cast(Method, of_whoever_fitted)


def explain(
    estimator: Any,
    X: MatrixLike | None = None,
    y: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> str:
    """Say which code fits an estimator, softline's or scikit-learn's own, and why.

    softline's LogisticRegression, LeastSquaresClassifier, MLPClassifier and KNeighborsClassifier leave to the
    classes of scikit-learn that they derive from what softline does not compute.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Of a pipeline, the last step is looked at; copies of the others transform X.
    X, y, sample_weight : as for `fit`, or None
        Without X, the answer is which code fitted the estimator or, if it is not fitted, which code would, by
        its parameters alone.

    Returns
    -------
    sentence : str

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from softline import explain
    >>> from softline.linear_model import LogisticRegression
    >>> X = np.eye(4)
    >>> explain(LogisticRegression(), X)
    'LogisticRegression is fitted by softline'
    >>> explain(LogisticRegression(), csr_array(X))
    'LogisticRegression is fitted by scikit-learn, because X is sparse'
    """
    from sklearn.pipeline import Pipeline  # late, because estimators do not need it

    if isinstance(estimator, Pipeline):
        if X is not None and len(estimator.steps) > 1:
            X = clone(estimator[:-1]).fit_transform(X, y)
        return explain(estimator[-1], X, y, sample_weight)
    by, because = "softline", None
    packages = [cls.__module__.partition(".")[0] for cls in type(estimator).__mro__]
    if "softline" not in packages:
        by, because = packages[0], "the class is not softline's"
    elif isinstance(estimator, LeavesTheRest):
        of_the_past = X is None and hasattr(estimator, "classes_")
        because = estimator._left_because if of_the_past else estimator._why_left(X, y, sample_weight)
        by = "softline" if because is None else "scikit-learn"
    sentence = f"{type(estimator).__name__} is fitted by {by.replace('sklearn', 'scikit-learn')}"
    return sentence if because is None else f"{sentence}, because {because}"
