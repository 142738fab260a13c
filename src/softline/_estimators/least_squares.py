"""Least-squares classifier: another loss on the scores W x + b, with its minimum in closed form."""

from __future__ import annotations

from functools import cached_property
from numbers import Integral
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import LinAlgError, blas, cho_factor, cho_solve, lapack, svd
from scipy.sparse import issparse
from sklearn.linear_model import RidgeClassifier

from softline import _kernels
from softline._estimators import labels
from softline._estimators._sklearn import Interval
from softline._estimators.base import LinearPredictor, checks_parameters, largest_of
from softline._estimators.served import LeavesTheRest, as_fitted
from softline._kernels.rows import Rows
from softline._training.column_stats import ColumnStats
from softline._typing import Array, ClassWeight, Differentiable, Floats, MatrixLike, RandomState

Solver: TypeAlias = Literal["auto", "svd", "cholesky", "lsqr", "sparse_cg", "sag", "saga", "lbfgs"]
# Bytes of X that are converted to float64 at a time.
BLOCK_BYTES = 32 << 20
# Reciprocal condition number below which X itself, copied to float64, is decomposed instead of the normal
# equations. They square the condition number: this limit leaves six digits of sixteen.
LEAST_RCOND = 1e-10


class LeastSquaresClassifier(LeavesTheRest, LinearPredictor, RidgeClassifier):
    """Linear classifier that minimises squared errors: scikit-learn's RidgeClassifier, fitted by softline.

    Parameters, defaults, attributes and errors are those of the class of the installed scikit-learn, which
    this one derives from; `n_threads` is an addition. What is minimised, for targets t_ic = 1 if row i is of
    class c, else -1, is ::

        sum_i s_i |W x_i + b - t_i|^2 + alpha sum(W * W)

    by LAPACK: the normal equations, D x D or for fewer rows than features N x N, are summed in float64 from
    blocks of rows and solved by Cholesky's factorisation. Where they are too ill-conditioned for that, a
    singular value decomposition of X gives the solution of least norm. For two classes there is one row of
    weights, with the target 1 for ``classes_[1]``.

    Targets of 0 and 1, "one-hot", lead to the same classifier: as t = 2 onehot - 1, its weights are W/2 and
    its bias (b + 1)/2, for the same alpha, and the largest score stays the largest.

    Parameters
    ----------
    alpha : float or (C,) array-like, default=1.0
        L2 penalty, on the sum over the rows and not on their mean; the intercept is not penalised.
        Several numbers are left to scikit-learn's own code.
    fit_intercept : bool, default=True
    copy_X : bool, default=True
        Changes nothing: X is not written to.
    max_iter : int or None, default=None
        Of solvers that are left to scikit-learn's own code, as are `tol` and `random_state`.
    tol : float, default=1e-4
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with `sample_weight`; "balanced" is by the number of rows.
    solver : str, default="auto"
        "auto" and "cholesky" are softline's. "svd", "lsqr", "sparse_cg", "sag", "saga" and "lbfgs" are left
        to scikit-learn's own code.
    positive : bool, default=False
        Whether no weight may be negative, which is left to scikit-learn's own code.
    random_state : int, RandomState or None, default=None
    n_threads : int or None, default=None
        Threads for scores, as in :class:`softline.SoftmaxClassifier`. The threads of `fit` are BLAS's own,
        and their number may change the last bits.

    Attributes
    ----------
    coef_ : (C, D) ndarray, or (1, D) for two classes
        float64; float32 if X is of a dtype that float32 holds: float32, float16, bfloat16, uint8, int8, bool.
    intercept_ : (C,) or (1,) ndarray
    classes_ : (C,) ndarray
    solver_ : str
        "cholesky", or the solver of scikit-learn that fitted.
    n_iter_ : ndarray or None
        Of solvers of scikit-learn that count them.
    n_features_in_ : int
    feature_names_in_ : (D,) ndarray of str
        Only where X has them.

    References
    ----------
    Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 4.2 and 3.4.1;
    :class:`sklearn.linear_model.RidgeClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from softline.linear_model import LeastSquaresClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> LeastSquaresClassifier().fit(X, y).score(X, y)
    0.94...
    """

    _sklearn = RidgeClassifier
    # A property that can be set: in scikit-learn before 1.7 it cannot.
    classes_: Any = cached_property(lambda self: self._label_binarizer.classes_)
    solver_: str
    n_iter_: Array | None = None

    _parameter_constraints = {
        **RidgeClassifier._parameter_constraints,
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        alpha: float | ArrayLike = 1.0,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        max_iter: int | None = None,
        tol: float = 1e-4,
        class_weight: ClassWeight = None,
        solver: Solver = "auto",
        positive: bool = False,
        random_state: RandomState = None,
        n_threads: int | None = None,
    ) -> None:
        super().__init__(
            alpha,
            fit_intercept=fit_intercept,
            copy_X=copy_X,
            max_iter=max_iter,
            tol=tol,
            class_weight=class_weight,
            solver=solver,
            positive=positive,
            random_state=random_state,
        )
        self.n_threads = n_threads

    @checks_parameters
    def fit(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Solve for the weights.

        Parameters
        ----------
        X : (N, D) array-like or sparse matrix
            Read in its own dtype, as by :class:`softline.SoftmaxClassifier`: no more than a block of it is
            converted at a time. Sparse matrices, and arrays of other libraries under
            ``array_api_dispatch``, are left to scikit-learn's own code.
        y : (N,) array-like or (N, K) array-like
            Labels of any type. A matrix of 0 and 1, for rows that may have several labels, is left to
            scikit-learn's own code.
        sample_weight : (N,) array-like or None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X, y or a parameter does not make sense.
        """
        because = self._why_left(X, y, sample_weight)
        if because is not None:
            self._leave(because, "fit", X, y, sample_weight=sample_weight)
            self.classes_ = self._label_binarizer.classes_
            return self
        X, y = self._validate(X, y, reset=True)
        targets, weight = self._targets_and_weight(X, y, sample_weight)
        root = None if weight is None else np.sqrt(weight)[:, None]
        mean, mean_target = np.zeros(X.shape[1]), np.zeros(targets.shape[1])
        if self.fit_intercept:
            stats, rows = ColumnStats(X.shape[1]), np.arange(len(X))
            stats.update(X, rows, None if weight is None else weight.astype(X.dtype), self.n_threads)
            mean, mean_target = stats.mean, np.average(targets, axis=0, weights=weight)
            targets = targets - mean_target
        if root is not None:
            targets = targets * root
        problem = _Ridge(X.array, mean, root, targets, float(self.alpha), self.fit_intercept)
        W = problem.solve()
        self.coef_ = np.ascontiguousarray(W, X.dtype)
        self.intercept_ = (mean_target - W @ mean).astype(X.dtype)
        self.solver_, self.n_iter_, self._left_because = "cholesky", None, None
        return self

    def _targets_and_weight(
        self, X: Rows, y: Array, sample_weight: ArrayLike | None
    ) -> tuple[Array, Array | None]:
        """Targets -1 and 1, (N, C) or (N, 1), and the float64 weights of the rows, None if all are 1."""
        self.classes_, codes = labels.classes_of(y)
        n_classes = len(self.classes_)
        targets = 2.0 * (codes[:, None] == (np.arange(n_classes) if n_classes > 2 else 1)) - 1
        weights = sample_weight, self.class_weight
        weight = labels.row_weights(
            X, codes, self.classes_, *weights, dtype=np.float64, balance_by_weight=False
        )
        return targets, weight

    def _loss_and_gradient(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, rng: np.random.RandomState
    ) -> Differentiable:
        """See :mod:`softline.gradient_check`."""
        fitted = hasattr(self, "coef_")
        X, y = self._validate(X, y, reset=not fitted)
        X = Rows(X.array, dtype=np.float64)
        targets, weight = self._targets_and_weight(X, y, sample_weight)
        weight = np.ones(len(X)) if weight is None else weight
        n_rows, D = targets.shape[1], X.shape[1]
        W = np.array(self.coef_, float) if fitted else 0.01 * rng.standard_normal((n_rows, D))
        b = np.array(self.intercept_, float) if fitted else np.zeros(n_rows)

        def evaluate() -> tuple[float, dict[str, Array]]:
            errors, dW, db = np.empty(targets.shape), np.empty_like(W), np.empty_like(b)
            _kernels.scores(X, None, W, b, errors, self.n_threads)
            errors -= targets
            loss = weight @ np.sum(errors**2, axis=1) + self.alpha * np.sum(W**2)
            errors *= 2 * weight[:, None]
            _kernels.gradient(X, None, errors, dW, db, self.n_threads)
            return loss, {"coef_": dW + 2 * self.alpha * W, "intercept_": db}

        return {"coef_": W} | ({"intercept_": b} if self.fit_intercept else {}), evaluate

    # ---- prediction --------------------------------------------------------------------------------

    @property
    def _several(self) -> bool:
        """Whether rows may have several labels."""
        return self._left_because is not None and self._label_binarizer.y_type_.startswith("multilabel")

    def _outputs(self, X: Any) -> Floats:
        if not issparse(X):
            return super()._outputs(X)
        scores: Floats = RidgeClassifier.decision_function(self, X)
        return scores if scores.ndim == 2 else scores[:, None]

    def _largest(self, X: Any, names: Array) -> Array:
        return largest_of(self._outputs(X), names) if issparse(X) else super()._largest(X, names)

    decision_function = as_fitted(LinearPredictor.decision_function)
    predict = as_fitted(LinearPredictor.predict)


class _Ridge:
    """Minimum of |A W^T - T|^2 + alpha |W|^2 for A = root (X - mean), which is never held as a whole.

    Parameters
    ----------
    X : (N, D) ndarray
        Of any dtype.
    mean : (D,) array
    root : (N, 1) array or None
        Square roots of the weights of the rows; None for ones.
    T : (N, C) array
        Targets, weighted.
    alpha : float
    centred : bool
        Whether `mean` is that of the rows, and T has weighted columns of mean 0.
    """

    def __init__(
        self, X: Array, mean: Array, root: Array | None, T: Array, alpha: float, centred: bool
    ) -> None:
        self.X, self.mean, self.root, self.T, self.alpha, self.centred = X, mean, root, T, alpha, centred

    def _block(self, rows: slice, columns: slice) -> Array:
        """Block of A, float64."""
        A = self.X[rows, columns].astype(np.float64) - self.mean[columns]
        return A if self.root is None else A * self.root[rows]

    def solve(self) -> Array:
        """Weights W (C, D) at the minimum."""
        N, D = self.X.shape
        every, n_blocks = slice(None), -(-8 * N * D // BLOCK_BYTES)
        if N > D:  # (A^T A + alpha) W^T = A^T T, by blocks of rows
            gram, right = np.zeros((D, D), order="F"), np.zeros((D, self.T.shape[1]))
            for rows in _pieces(N, n_blocks):
                A = self._block(rows, every)
                gram = blas.dsyrk(1.0, A.T, 1.0, gram, lower=1, overwrite_c=1)
                right += A.T @ self.T[rows]
            W = self._solve_positive(gram, right)
            return self._decompose() if W is None else W.T
        # W = V^T A, (A A^T + alpha) V = T, by blocks of features
        gram = np.zeros((N, N), order="F")
        for columns in _pieces(D, n_blocks):
            gram = blas.dsyrk(1.0, self._block(every, columns), 1.0, gram, lower=1, overwrite_c=1)
        if self.centred:  # root^T A = 0 and root^T T = 0: a multiple of root root^T does not change V
            root = np.ones((N, 1)) if self.root is None else self.root
            gram += np.tril(np.trace(gram) / N / np.sum(root**2) * root * root.T)
        V = self._solve_positive(gram, self.T)
        if V is None:
            return self._decompose()
        return np.hstack([V.T @ self._block(every, columns) for columns in _pieces(D, n_blocks)])

    def _solve_positive(self, gram: Array, right: Array) -> Array | None:
        """Product of (gram + alpha)^-1 and `right`; None if gram is too ill-conditioned."""
        gram[np.diag_indices_from(gram)] += self.alpha
        sizes = np.abs(gram)  # only of the lower triangle, because the upper one is zero
        norm = np.max(sizes.sum(axis=0) + sizes.sum(axis=1) - sizes.diagonal())
        try:
            factor, _ = cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        rcond, _ = lapack.dpocon(factor, norm, uplo="L")
        if not rcond >= LEAST_RCOND:
            return None
        return cho_solve((factor, True), right, check_finite=False)

    def _decompose(self) -> Array:
        """Solution by singular values, of least norm where some of them are zero up to rounding."""
        U, s, Vt = svd(
            self._block(slice(None), slice(None)), full_matrices=False, overwrite_a=True, check_finite=False
        )
        zero = np.max(s, initial=0) * np.finfo(s.dtype).eps * max(self.X.shape)
        shrunk = np.divide(s, s**2 + self.alpha, where=s > zero, out=np.zeros_like(s))
        return ((shrunk[:, None] * (U.T @ self.T)).T) @ Vt


def _pieces(n: int, n_pieces: int) -> list[slice]:
    """Slices that divide range(n) evenly."""
    n_pieces = max(1, min(n, n_pieces))
    return [slice(n * k // n_pieces, n * (k + 1) // n_pieces) for k in range(n_pieces)]
