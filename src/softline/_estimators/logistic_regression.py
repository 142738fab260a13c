"""scikit-learn's LogisticRegression on softline's kernels: the same minimum, sooner."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Self, TypeGuard

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.utils import compute_class_weight

from softline._estimators import labels
from softline._estimators._sklearn import check_solver
from softline._estimators.base import SoftmaxPredictor, checks_parameters
from softline._estimators.description import Output
from softline._estimators.served import LeavesTheRest
from softline._kernels.rows import Rows
from softline._solvers import lbfgs, reductions
from softline._solvers.objective import Objective
from softline._training.hooks import IterationHooks
from softline._typing import Array, ClassWeight, Differentiable, Floats, Layer, MatrixLike, RandomState

# Whether `l1_ratio` and `C` say the kind of penalty: since scikit-learn 1.8.
_PENALTY_IS_DEPRECATED = (
    inspect.signature(SklearnLogisticRegression).parameters["penalty"].default == "deprecated"
)
# Whether "balanced" class weights take sample weights into account: since scikit-learn 1.7.
_BALANCE_BY_WEIGHT = "sample_weight" in inspect.signature(compute_class_weight).parameters
# C from here on means no penalty.
LARGEST_C = 1e20


class LogisticRegression(LeavesTheRest, SoftmaxPredictor, SklearnLogisticRegression):
    """scikit-learn's LogisticRegression, fitted by softline.

    Parameters, defaults, attributes, warnings and errors are those of the class of the installed scikit-
    learn, which this one derives from; the minimum is the same, to `tol`. For two classes `coef_` is (1,
    D), for more (C, D), multinomial. Penalties are L2, L1, elastic-net and none.

    Whatever `solver` is named, one engine runs: L-BFGS, preconditioned by the curvature of the loss. The name
    decides which penalties are allowed and whether the intercept is penalised ("liblinear"). `random_state`,
    `dual` and `n_jobs` change nothing: a fit gives the same bits each time, on any number of threads.

    Parameters
    ----------
    penalty : {"l2", "l1", "elasticnet"} or None
        As in :class:`sklearn.linear_model.LogisticRegression`; since its 1.8 `l1_ratio` and `C` say it.
    C : float, default=1.0
        Inverse of the penalty on the sum of the losses; inf, or 1e20 and more, is none.
    l1_ratio : float or None
        Share of L1 in the penalty: 0, the default, is L2, 1 is L1.
    dual : bool, default=False
        Changes nothing.
    tol : float, default=1e-4
        How near the minimum the search ends: at most 1000 tol^2 of the objective above it (above 1e-4,
        tol/10), one part in 100,000 unless given, as far as can be estimated; see "To the minimum" in the
        documentation.
    fit_intercept : bool, default=True
    intercept_scaling : float, default=1
        With "liblinear" the intercept is penalised as a weight is, by 1/intercept_scaling^2 of it.
    class_weight : dict, "balanced" or None, default=None
    random_state : int, RandomState or None, default=None
        Changes nothing.
    solver : {"lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga"}, default="lbfgs"
    max_iter : int, default=100
        Most steps of the search.
    verbose : int, default=0
        1 shows a progress bar.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previous one.
    n_jobs : int or None, default=None
        Changes nothing.

    Attributes
    ----------
    coef_ : (C, D) or (1, D) ndarray
        float64; float32 if X is of a dtype that float32 holds: float32, float16, bfloat16, uint8, int8, bool;
        float64 again if features are so large, small or far from 0 that float32 would not predict with it.
    intercept_ : (C,) or (1,) ndarray
    classes_ : (C,) ndarray
    n_iter_ : (1,) ndarray of int32
        Steps of the search; not counted is the epoch of gradient descent that a fit of many rows begins with.
    solver_used_ : str
        What took them, chosen by the shape of X and the penalty: "lbfgs"; "newton", where the Hessian of all
        weights is small; "lbfgs, newton", one after the other; "newton-cd", Newton's steps by coordinate
        descent, where an L1 penalty leaves most weights at zero. "of row space" where there are at least
        twice as many features as rows; "of working sets" where an L1 penalty chooses among many features.
    dual_gap_ : float
        Only with an L1 penalty: how far the objective, the mean loss and the penalty over C n, is above its
        minimum at most, whatever `tol` is (the duality gap).
    n_features_in_ : int
    feature_names_in_ : (D,) ndarray of str
        Only where X has them.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softline.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> LogisticRegression().fit(X, y).score(X, y)
    0.97...
    """

    n_iter_: Array
    _sklearn = SklearnLogisticRegression

    if TYPE_CHECKING:  # because scikit-learn's class has no types

        def __init__(
            self,
            penalty: Literal["l1", "l2", "elasticnet", "deprecated"] | None = "deprecated",
            *,
            C: float = 1.0,
            l1_ratio: float | None = 0.0,
            dual: bool = False,
            tol: float = 1e-4,
            fit_intercept: bool = True,
            intercept_scaling: float = 1,
            class_weight: ClassWeight = None,
            random_state: RandomState = None,
            solver: Literal["lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga"] = "lbfgs",
            max_iter: int = 100,
            verbose: int = 0,
            warm_start: bool = False,
            n_jobs: int | None = None,
        ) -> None: ...

        def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float: ...

    @checks_parameters
    def fit(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit the model according to the given training data.

        Parameters
        ----------
        X : (N, D) array-like or sparse matrix
            float32, float64, float16, bfloat16 (of ml_dtypes), uint8, int8 and bool are read where they lie
            and computed with in float32, float64 in float64; other types are converted once. Sparse
            matrices, and arrays of other libraries under ``array_api_dispatch``, are left to
            scikit-learn.
        y : (N,) array-like
        sample_weight : (N,) array-like or None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As scikit-learn's class does.

        Warns
        -----
        ConvergenceWarning
            If the objective may be further above its minimum than `tol` allows; it says how far.
        """
        if (because := self._why_left(X, y, sample_weight)) is not None:
            return self._leave(because, "fit", X, y, sample_weight=sample_weight)
        self._left_because = None
        penalty, C, l1_ratio = self._penalty()
        check_solver(self.solver, penalty, self.dual)
        if self.n_jobs is not None and _PENALTY_IS_DEPRECATED:
            warnings.warn(
                "'n_jobs' has no effect since 1.8 and will be removed in 1.10. "
                f"You provided 'n_jobs={self.n_jobs}', please leave it unspecified.",
                FutureWarning,
                stacklevel=2,
            )
        X, y = self._validate(X, y, reset=True)
        objective = self._objective(X, y, sample_weight, penalty, C, l1_ratio)
        Z = self._start(objective)
        self._keep(objective, Z)
        self.n_iter_ = np.zeros(1, np.int32)
        hooks = IterationHooks(self, X.array, y, sample_weight, self.max_iter, self._fitted)

        latest: Callable[[], Array] = Z.copy

        def after_step(weights: Callable[[], Array], value: float, n_iter: int) -> bool:
            nonlocal latest
            latest = weights
            self.n_iter_ = np.array([n_iter], np.int32)
            if bar is not None:
                bar.update(n_iter, value)
            if hooks.active:
                self._keep(objective, weights())
            return hooks.next()

        # A small problem is one call, unless someone wants to hear of each step.
        tell = after_step if self.verbose or hooks.active or not objective.is_small else None
        try:
            with self._progress(len(X)) as bar:
                result = reductions.minimize(objective, Z, self.tol, self.max_iter, tell)
        except BaseException:  # as Ctrl-C, which leaves the weights of the last step
            self._keep(objective, latest())
            raise
        self._keep(objective, result.Z)
        hooks.end(result.n_iter)
        if not (result.converged or result.stopped):
            self._warn(result)
        self.n_iter_ = np.array([result.n_iter], np.int32)
        self.solver_used_ = result.solver
        if objective.l1.any():
            gap = result.dual_gap
            self.dual_gap_ = objective.duality_gap(result.Z, *objective(result.Z)) if gap is None else gap
        return self

    def _objective(
        self,
        X: Rows,
        y: Array,
        sample_weight: ArrayLike | None,
        penalty: Any,
        C: float,
        l1_ratio: Any,
        **options: Any,
    ) -> Objective:
        self.classes_, codes = labels.classes_of(y)
        n_classes = len(self.classes_)
        if self.solver == "liblinear":
            self._check_liblinear(X)
        if n_classes < 2:
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data contains only one "
                f"class: {self.classes_[0]!r}"
            )
        weights = sample_weight, self.class_weight
        weight = labels.row_weights(X, codes, self.classes_, *weights, balance_by_weight=_BALANCE_BY_WEIGHT)
        total = len(X) if weight is None else weight.sum(dtype=float)
        alpha = 1 / (C * total) if C < LARGEST_C else 0.0
        l1_ratio = {"l1": 1, "elasticnet": l1_ratio}.get(penalty, 0)
        return Objective(
            X,
            codes,
            weight,
            n_classes,
            l2=alpha * (1 - l1_ratio),
            l1=alpha * l1_ratio,
            intercept_penalty=1 / self.intercept_scaling**2 if self.solver == "liblinear" else 0.0,
            fit_intercept=self.fit_intercept,
            **options,
        )

    def _loss_and_gradient(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, rng: np.random.RandomState
    ) -> Differentiable:
        """See :mod:`softline.gradient_check`."""
        if self._why_left(X, y, sample_weight) is not None:
            raise TypeError("scikit-learn would fit this model; softline's gradient takes dense arrays")
        X, y = self._validate(X, y, reset=not hasattr(self, "coef_"))
        objective = self._objective(
            Rows(X.array, dtype=np.float64), y, sample_weight, *self._penalty(), condition=False
        )
        Z = 0.01 * rng.standard_normal(objective.shape)
        if hasattr(self, "coef_"):
            Z = objective.collapse(self.coef_, self.intercept_)
        elif not self.fit_intercept:
            Z[:, -1] = 0
        return objective.differentiable(Z)

    def _progress(self, n_rows: int) -> AbstractContextManager[Any]:
        """Progress bar of steps on `n_rows` rows; nothing unless `verbose`."""
        if not self.verbose:
            return nullcontext()
        from softline._training.progress import EpochProgress  # late, because few ask for it

        return EpochProgress(self.max_iter, n_rows)

    def _keep(self, objective: Objective, Z: Array) -> None:
        W, b = objective.expand(Z)
        if len(Z) == 1:
            W, b = W[1:] - W[:1], b[1:] - b[:1]
        dtype = np.float64 if self.solver == "liblinear" else objective.result_dtype
        self.coef_, self.intercept_ = np.ascontiguousarray(W, dtype), b.astype(dtype)

    # ---- parameters and input ----------------------------------------------------------------------

    def _penalty(self) -> tuple[str | None, float, float | None]:
        """Penalty, C and l1_ratio as scikit-learn derives them, with its warnings."""
        penalty, C, l1_ratio = self.penalty, self.C, self.l1_ratio
        if penalty == "deprecated":
            if l1_ratio is None:
                warnings.warn(
                    "'l1_ratio=None' was deprecated in version 1.8 and will trigger an error in 1.10. Use "
                    "0<=l1_ratio<=1 instead.",
                    FutureWarning,
                    stacklevel=3,
                )
            penalty = {0: "l2", 1: "l1"}.get(l1_ratio or 0, "elasticnet")
            if np.inf == C:
                penalty = None
        elif _PENALTY_IS_DEPRECATED:
            warnings.warn(
                "'penalty' was deprecated in version 1.8 and will be removed in 1.10. To avoid this warning, "
                "leave 'penalty' set to its default value and use 'l1_ratio' or 'C' instead. Use l1_ratio=0 "
                "instead of penalty='l2', l1_ratio=1 instead of penalty='l1', l1_ratio set to a float "
                "between 0 and 1 instead of penalty='elasticnet', and C=np.inf instead of penalty=None.",
                FutureWarning,
                stacklevel=3,
            )
        if penalty == "elasticnet" and l1_ratio is None:
            raise ValueError("l1_ratio must be specified when penalty is elasticnet.")
        if penalty != "elasticnet" and l1_ratio is not None and 0 < l1_ratio < 1:
            warnings.warn(
                f"l1_ratio parameter is only used when penalty is 'elasticnet'. Got (penalty={penalty})",
                stacklevel=3,
            )
        if _PENALTY_IS_DEPRECATED and ((self.penalty, l1_ratio) in (("l2", 1), ("l1", 0))):
            warnings.warn(
                f"Inconsistent values: penalty={penalty} with l1_ratio={l1_ratio}. penalty is deprecated. "
                "Please use l1_ratio only.",
                stacklevel=3,
            )
        if self.penalty is None:
            if C != 1.0:
                warnings.warn("Setting penalty=None will ignore the C and l1_ratio parameters", stacklevel=3)
            C = np.inf
        return penalty, C, l1_ratio

    def _check_liblinear(self, X: Rows) -> None:
        if len(self.classes_) > 2:
            raise ValueError(
                "The 'liblinear' solver does not support multiclass classification (n_classes >= 3). Either "
                "use another solver or wrap the estimator in a OneVsRestClassifier to keep applying a "
                "one-versus-rest scheme."
            )
        if np.max(X.array) > 1e30:
            raise ValueError(
                "Using the 'liblinear' solver while X contains a maximum value > 1e30 results in a frozen "
                "fit. Please choose another solver or rescale the input X."
            )

    # ---- the search --------------------------------------------------------------------------------

    def _start(self, objective: Objective) -> Array:
        """Start of the search: the last fit's weights, those of a short gradient descent, or zeros."""
        Z = np.zeros(objective.shape)
        if self.warm_start and hasattr(self, "coef_"):
            given, expected = np.shape(self.coef_), (Z.shape[0], Z.shape[1] - 1)
            if given != expected:
                raise ValueError(f"Initialization coef is of shape {given}, expected shape {expected}")
            Z = objective.collapse(self.coef_, self.intercept_)
            if not self.fit_intercept:
                Z[:, -1] = 0
            return Z
        return objective.first_guess() if self.max_iter > 0 else Z

    def _warn(self, result: lbfgs.Result) -> None:
        what = {
            "liblinear": "Liblinear failed to converge, increase the number of iterations.",
            "newton-cholesky": f"Newton solver did not converge after {result.n_iter} iterations.",
            "sag": "The max_iter was reached which means the coef_ did not converge",
            "saga": "The max_iter was reached which means the coef_ did not converge",
        }.get(self.solver, f"{self.solver} failed to converge after {result.n_iter} iteration(s).")
        advice = "Increase the number of iterations (max_iter) or scale the data."
        if result.n_iter < self.max_iter:
            what = f"{self.solver} failed to converge: it stopped after {result.n_iter} iteration(s)."
            advice = "Rounding allows no more: pass float64 data, scale them, or raise tol."
        warnings.warn(f"{what} {result.shortfall(self.tol)} {advice}", ConvergenceWarning, stacklevel=4)

    # ---- prediction --------------------------------------------------------------------------------

    def _is_ours(self, X: MatrixLike) -> TypeGuard[ArrayLike]:
        """Whether softline's kernels predict these rows: if they fitted the model, or nobody did."""
        left = self._left_because or self._why_left(X)
        return left is None and not issparse(getattr(self, "coef_", None))

    def decision_function(self, X: MatrixLike) -> Floats:
        if not self._is_ours(X):
            return SklearnLogisticRegression.decision_function(self, X)
        return super().decision_function(X)

    def predict(self, X: MatrixLike) -> Array:
        if not self._is_ours(X):
            return SklearnLogisticRegression.predict(self, X)
        return super().predict(X)

    def predict_proba(self, X: MatrixLike) -> Floats:
        if not self._is_ours(X):
            return SklearnLogisticRegression.predict_proba(self, X)
        return super().predict_proba(X)

    def predict_log_proba(self, X: MatrixLike) -> Floats:
        if not self._is_ours(X):
            return SklearnLogisticRegression.predict_log_proba(self, X)
        return super().predict_log_proba(X)

    @property
    def _output(self) -> Output:
        if len(self.classes_) == 2:
            return "logistic"
        one_versus_rest = not _PENALTY_IS_DEPRECATED and (
            self.multi_class == "ovr" or self.solver == "liblinear"
        )
        return "one versus rest" if one_versus_rest else "softmax"

    def _restore(self, layers: list[Layer], history: dict[str, Any]) -> None:
        super()._restore(layers, history | {"n_iter": np.array(history["n_iter"], np.int32)})
