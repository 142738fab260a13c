"""Base of the estimators: validation of X, scores, labels and probabilities."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import assert_all_finite
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from softline import _kernels
from softline._estimators._sklearn import Interval, StrOptions, fit_context, names_of_parameters
from softline._estimators.description import Description, Output, history_of, layers_of
from softline._estimators.labels import check_labels, check_targets, n_columns
from softline._kernels.rows import Rows, in_row_order, kernels_read
from softline._typing import Array, Floats, Layer

Method = TypeVar("Method", bound=Callable[..., Any])

# Constraints of the parameters that all estimators trained epoch by epoch share.
DESCENT_CONSTRAINTS: dict[str, list[Any]] = {
    "alpha": [Interval(Real, 0, None, closed="left")],
    "l1_ratio": [Interval(Real, 0, 1, closed="both")],
    "standardize": ["boolean"],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left"), None],
    "early_stopping": ["boolean"],
    "class_weight": [StrOptions({"balanced"}), dict, None],
    "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "max_norm": [Interval(Real, 0, None, closed="neither"), None],
    "shuffle": ["boolean"],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    "verbose": ["verbose"],
}


def checks_parameters(fit: Method) -> Method:
    """Typed form of scikit-learn's decorator that checks parameters before `fit`."""
    return cast(Method, fit_context(prefer_skip_nested_validation=True)(fit))


def available_where(check: Callable[[Any], bool]) -> Callable[[Method], Method]:
    """Typed form of scikit-learn's decorator of a method that exists only where `check` is true."""
    return cast(Callable[[Method], Method], available_if(check))


def convert_to(X: object) -> Any:
    """Dtype that scikit-learn must convert X to: None if the kernels read it, "numeric" to refuse text."""
    dtype = getattr(X, "dtype", None)
    if isinstance(dtype, np.dtype) and kernels_read(dtype):
        return None
    return np.float32 if dtype in (np.uint16, np.int16) else "numeric"


def as_numbers(X: Array, converted_to: Any) -> Array:
    """X, converted as `convert_to` says, in a dtype that the kernels read; TypeError for dates and text."""
    if X.dtype.kind in "mMT":
        raise TypeError(f"X must hold numbers; convert its {X.dtype} explicitly")
    if converted_to is None or X.dtype in (np.float32, np.float64):
        return X
    return X.astype(np.float64)


def largest_of(scores: Floats, names: Array) -> Array:
    """The one of `names` (C,) for the largest of scores (N, C), or of one log-odds (N, 1) of two classes."""
    if len(names) == 1:
        return names.repeat(len(scores))
    return names.take(scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(axis=1))


def is_plain(X: Any, y: Any = None, *, model: Any = None) -> bool:
    """Whether scikit-learn's checks of X, and of labels y, would raise, warn of and convert nothing.

    That is, but for NaN and infinity, which is not their task here. A fitted `model` takes only arrays
    of as many features as it was fitted to, without names. Labels are whole numbers that lie close together:
    scikit-learn warns where there are more classes than half the rows, if these are more than 20.
    """
    if not (type(X) is np.ndarray and X.ndim == 2 and X.size > 0 and kernels_read(X.dtype)):
        return False
    if model is not None and (
        X.shape[1] != getattr(model, "n_features_in_", None) or hasattr(model, "feature_names_in_")
    ):
        return False
    if y is None:
        return True
    if not (type(y) is np.ndarray and y.shape == (len(X),) and y.dtype.kind in "biu"):
        return False
    return len(y) <= 20 or int(y.max()) - int(y.min()) < len(y) // 2


def take_plain(model: Any, X: Array) -> None:
    """Set the attributes that scikit-learn's checks of a plain X set."""
    model.n_features_in_ = X.shape[1]
    vars(model).pop("feature_names_in_", None)


class LinearPredictor:
    """Mixin of estimators that predict by `coef_`, `intercept_` and `classes_`.

    Networks override `_outputs`, `_largest` and `_probabilities`.

    `coef_` (C, D) has a row a class; or, as scikit-learn has it for two classes, one row: the log-odds of
    ``classes_[1]``.
    """

    coef_: Floats
    intercept_: Floats
    classes_: Array
    n_features_in_: int
    feature_names_in_: Array
    n_threads: int | None = None
    _takes_targets = False

    if TYPE_CHECKING:  # of scikit-learn's mixin, which has no types

        def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float: ...

    @classmethod
    def _get_param_names(cls) -> list[str]:
        return list(names_of_parameters(cast(Any, cls)))

    @overload
    def _validate(self, X: Any, *, reset: bool) -> Rows: ...

    @overload
    def _validate(self, X: Any, y: ArrayLike, *, reset: bool) -> tuple[Rows, Array]: ...

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Rows | tuple[Rows, Array]:
        """X as Rows, in its own dtype where the kernels read it; and y if there is one.

        With y, X is checked to be finite; without, that is left to the scores, which NaN and infinity reach.
        """
        converted = convert_to(X)
        options = {"dtype": converted, "ensure_all_finite": False}
        if not isinstance(y, str):
            soft = False
            if y is not None and is_plain(X, y, model=None if reset else self):
                take_plain(self, X)
            else:
                soft = self._takes_targets and n_columns(y) > 1
                X, y = validate_data(self, X, y, reset=reset, multi_output=soft, **options)
                if not soft:
                    y = check_labels(y)
            X = Rows(in_row_order(as_numbers(X, converted)))
            zeros, scores = np.zeros((1, X.shape[1]), X.dtype), np.empty((len(X), 1), X.dtype)
            if not _kernels.scores(X, None, zeros, None, scores, self.n_threads):  # 0 times infinity is NaN
                self._raise_if_not_finite(X)
            return X, self._check_matrix(y, X.dtype, reset) if soft else y
        if not is_plain(X, model=self):
            X = as_numbers(validate_data(self, X, reset=reset, **options), converted)
        return Rows(X)

    def _check_matrix(self, y: Array, dtype: np.dtype[Any], reset: bool) -> Array:
        """Check a matrix y, which has a column for each class."""
        return check_targets(y, dtype)

    @property
    def _output(self) -> Output:
        return "scores"

    @property
    def _several(self) -> bool:
        return False

    def _describe(self) -> Description:
        """Describe the fitted model."""
        attributes = vars(self)
        names = attributes.get("feature_names_in_")
        return Description(
            layers_of(self),
            self._output,
            attributes.get("activation"),
            self._several,
            history_of(self),
            self.n_threads,
            None if names is None else names.tolist(),
        )

    def _restore(self, layers: list[Layer], history: dict[str, Any]) -> None:
        """Set weights and history of a model that has its `classes_`."""
        ((self.coef_, self.intercept_),) = layers
        for name, value in history.items():
            setattr(self, f"{name}_", value)

    def _fitted(self) -> dict[str, Any]:
        """Attributes from which callbacks can rebuild the model as it is at present."""
        return {"coef_": self.coef_, "intercept_": self.intercept_}

    def _raise_if_not_finite(self, X: Rows) -> None:
        """Raise scikit-learn's error if X has NaN or infinity."""
        array = X[:] if X.array.dtype.name == "bfloat16" else X.array
        assert_all_finite(array, estimator_name=type(self).__name__, input_name="X")

    # ---- prediction --------------------------------------------------------------------------------

    def _operands(self, X: ArrayLike) -> tuple[Rows, Floats, Floats]:
        """X, W with a row for each of `coef_`, and b, in the dtype that is computed in."""
        if not hasattr(self, "coef_"):
            check_is_fitted(self, "coef_")
        X = self._validate(X, reset=False)
        dtype = np.result_type(X.dtype, self.coef_)
        W, b = (np.ascontiguousarray(a, dtype) for a in (self.coef_, self.intercept_))
        return Rows(X.array, dtype=dtype), W, b

    def _outputs(self, X: ArrayLike) -> Floats:
        """W x + b as a new array with a column for each row of `coef_`: (N, C), or (N, 1) of two classes."""
        X, W, b = self._operands(X)
        outputs = np.empty((len(X), len(W)), X.dtype)
        if not _kernels.scores(X, None, W, b, outputs, self.n_threads):
            self._raise_if_not_finite(X)
        return outputs

    def _largest(self, X: ArrayLike, names: Array) -> Array:
        """The one of `names` (C,) for the largest score of each row, a new array."""
        if names.dtype.hasobject:
            return names.take(self._largest(X, np.arange(len(names))))
        X, W, b = self._operands(X)
        names = names.repeat(2) if len(names) == 1 else np.ascontiguousarray(names)
        found = np.empty(len(X), names.dtype)
        if not _kernels.classes(X, W, b, names, found, self.n_threads):
            self._raise_if_not_finite(X)
        return found

    def decision_function(self, X: ArrayLike) -> Floats:
        """Scores W x + b.

        Parameters
        ----------
        X : (N, D) array-like

        Returns
        -------
        scores : (N, C) ndarray; for two classes (N,), as in scikit-learn
            Of two classes the log-odds: the score of ``classes_[1]`` less that of ``classes_[0]``.
        """
        scores = self._outputs(X)
        if len(self.classes_) > 2:
            return scores
        return scores[:, 0] if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]

    def predict(self, X: ArrayLike) -> Array:
        """The class of the largest score.

        Parameters
        ----------
        X : (N, D) array-like

        Returns
        -------
        y : (N,) ndarray of type ``classes_.dtype``
        """
        if not hasattr(self, "classes_"):
            check_is_fitted(self, "classes_")
        return self._largest(X, self.classes_)


class SoftmaxPredictor(LinearPredictor):
    """Mixin of estimators that also predict probabilities, by a softmax of the scores."""

    @property
    def _output(self) -> Output:
        return "softmax"

    def _probabilities(self, X: ArrayLike, log: bool = False) -> Floats:
        """Probabilities (N, C) or their logarithms, a new array."""
        X, W, b = self._operands(X)
        probs = np.empty((len(X), max(len(W), 2)), X.dtype)
        if not _kernels.probabilities(X, W, b, probs, self.n_threads, log=log):
            self._raise_if_not_finite(X)
        return probs

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probabilities of the classes.

        Parameters
        ----------
        X : (N, D) array-like

        Returns
        -------
        probabilities : (N, C) ndarray
            Columns in the order of ``classes_``.
        """
        return self._probabilities(X)

    def predict_log_proba(self, X: ArrayLike) -> Floats:
        """Logarithms of the probabilities.

        Parameters
        ----------
        X : (N, D) array-like

        Returns
        -------
        log_probabilities : (N, C) ndarray
            Finite where a probability underflows to 0.
        """
        return self._probabilities(X, log=True)
