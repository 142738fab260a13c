"""scikit-learn's KNeighborsClassifier on softline's kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.exceptions import DataConversionWarning
from sklearn.neighbors import KDTree
from sklearn.neighbors import KNeighborsClassifier as SklearnKNeighborsClassifier
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from softline._estimators.base import as_numbers, checks_parameters, convert_to, is_plain, take_plain
from softline._estimators.description import Description
from softline._estimators.served import METRICS, LeavesTheRest, as_fitted
from softline._kernels import max_threads, nearest
from softline._kernels.rows import in_row_order
from softline._typing import Array, Floats, MatrixLike, Metric

__all__ = ["KNeighborsClassifier"]

# Rows checked at a time where the check needs a copy.
_ROWS = 1024
# Features up to which a tree is tried, as by scikit-learn, and training rows that it is tried on.
_MOST_TREE_FEATURES = 15
_SAMPLE = 8


class KNeighborsClassifier(LeavesTheRest, SklearnKNeighborsClassifier):
    """scikit-learn's KNeighborsClassifier on softline's kernels, by brute force or, for few features, a tree.

    Parameters, defaults, attributes and errors are those of the class of the installed scikit-learn, which
    this one derives from. Dense rows and the sum of absolute or of squared differences are softline's; trees,
    other metrics and sparse rows are left to scikit-learn's own code.

    softline computes distances in float64 from the rows as they came; of rows at the same distance, the one
    of the lowest number is nearer. Results are the same to the bit for any number of threads, and with or
    without a tree.

    Parameters
    ----------
    n_neighbors : int, default=5
    weights : {"uniform", "distance"}, callable or None, default="uniform"
        As in :class:`sklearn.neighbors.KNeighborsClassifier`.
    algorithm : {"auto", "brute", "ball_tree", "kd_tree"}, default="auto"
        "auto" is brute force or, for up to 15 features, a k-d tree where `fit` estimates that it takes less
        time. "ball_tree" and "kd_tree" are left to scikit-learn's own code.
    leaf_size : int, default=30
        Number of rows from which a tree divides no further.
    p : float or None, default=2
        Of the metric "minkowski": 1 and 2 are softline's, others scikit-learn's.
    metric : str, callable or DistanceMetric, default="minkowski"
        softline's are "minkowski", L1 as "manhattan", "l1" or "cityblock", L2 as "euclidean" or "l2", and
        "sqeuclidean"; others, as "cosine" and "precomputed", are scikit-learn's.
    metric_params : dict or None, default=None
        Of metrics of scikit-learn.
    n_jobs : int or None, default=None
        Threads; -1 means all that the process may use, -2 all but one. None means as many, but less where
        the work is small.

    Attributes
    ----------
    classes_ : (C,) ndarray, or list of them for several outputs
    effective_metric_ : str or callable
        Of softline's "manhattan", "euclidean" or "sqeuclidean".
    effective_metric_params_ : dict
        Of softline's metrics empty.
    n_features_in_ : int
    feature_names_in_ : (D,) ndarray of str
        Only where X has them.
    n_samples_fit_ : int
    outputs_2d_ : bool
        Whether y has several columns.

    Examples
    --------
    >>> from softline.neighbors import KNeighborsClassifier
    >>> model = KNeighborsClassifier(n_neighbors=3).fit([[0], [1], [2], [3]], [0, 0, 1, 1])
    >>> model.predict([[1.1]])
    array([0])
    >>> model.predict_proba([[0.9]])
    array([[0.66666667, 0.33333333]])
    """

    classes_: Any
    effective_metric_: Any
    n_features_in_: int
    feature_names_in_: Array
    n_samples_fit_: int
    outputs_2d_: bool
    _search_tree: Any = None

    if TYPE_CHECKING:  # because scikit-learn's class has no types

        def __init__(
            self,
            n_neighbors: int = 5,
            *,
            weights: Literal["uniform", "distance"] | Callable[[Array], Array] | None = "uniform",
            algorithm: Literal["auto", "brute", "ball_tree", "kd_tree"] = "auto",
            leaf_size: int = 30,
            p: float | None = 2,
            metric: str | Callable[..., float] = "minkowski",
            metric_params: dict[str, Any] | None = None,
            n_jobs: int | None = None,
        ) -> None: ...

        def score(
            self, X: MatrixLike | None, y: ArrayLike, sample_weight: ArrayLike | None = None
        ) -> float: ...

    _sklearn = SklearnKNeighborsClassifier

    @checks_parameters
    def fit(self, X: MatrixLike, y: ArrayLike) -> Self:
        """Keep X, which is not copied but by a tree, and y.

        Parameters
        ----------
        X : (N, D) array-like or sparse matrix
            float32, float64, float16, bfloat16 (of ml_dtypes), uint8, int8 and bool are read where they
            lie; other types are converted once. Sparse matrices are left to scikit-learn's own code.
        y : (N,) or (N, n_outputs) array-like

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As scikit-learn's class does.
        """
        because = self._why_left(X, y)
        if because is not None:
            return self._leave(because, "fit", X, y)
        X, y = self._validate(X, y, reset=True)
        minkowski: Metric = "manhattan" if self.p == 1 else "euclidean"
        self.effective_metric_ = METRICS.get(self.metric, minkowski)
        self.effective_metric_params_: dict[str, Any] = {}
        if y.ndim == 2 and y.shape[1] == 1:
            warnings.warn(
                "A column-vector y was passed when a 1d array was expected. Please change the shape of y to "
                "(n_samples,), for example using ravel().",
                DataConversionWarning,
                stacklevel=2,
            )
            y = y.ravel()
        self.outputs_2d_ = y.ndim == 2
        are_codes = y.ndim == 1 and y.dtype.kind in "biu"
        if not are_codes:
            check_classification_targets(y)
        columns = [np.unique(column, return_inverse=True) for column in np.atleast_2d(y.T)]
        self.classes_ = [classes for classes, _ in columns]
        self._y = np.column_stack([codes for _, codes in columns])
        if not self.outputs_2d_:
            self.classes_, self._y = self.classes_[0], self._y[:, 0]
        if are_codes and 2 * len(self.classes_) > len(y):  # of integers, all that it may find
            check_classification_targets(y)
        self._fit_X, self.n_samples_fit_ = X, len(X)
        self._fit_method, self._tree = "brute", None  # read by scikit-learn's code, for sparse queries
        self._search_tree = self._tree_where_faster() if self.algorithm == "auto" else None
        self._left_because = None
        return self

    def _tree_where_faster(self) -> Any:
        """A tree of the training rows where it finds neighbours in less time than brute force, or None.

        A tree compares each query with all N rows at most; where that is too many, the neighbours of a few
        training rows show with how many. The costs are nanoseconds on an AMD EPYC (Zen 4): 4 + 1.6 D for a
        row that is compared, nodes on the way to it included; by brute force 3 + 0.15 D for a row, and 3000
        for each query.
        """
        N, D = self._fit_X.shape
        if not 1 <= D <= _MOST_TREE_FEATURES:
            return None
        metric = "manhattan" if self.effective_metric_ == "manhattan" else "euclidean"
        tree = KDTree(self._fit_X, self.leaf_size, metric=metric)
        most = (3000 + (3 + 0.15 * D) * N) / (4 + 1.6 * D)  # rows for which the tree is as fast
        if most < N:
            all_leaves = np.count_nonzero(tree.get_arrays()[2]["is_leaf"])
            tree.reset_n_calls()
            for rows in np.split(np.linspace(0, N - 1, _SAMPLE).astype(int), 2):
                tree.query(self._fit_X[rows].astype(float), min(self.n_neighbors + 1, N))
                _, n_leaves, _ = tree.get_tree_stats()
                if n_leaves / all_leaves * N > most * _SAMPLE:  # however few the others would need
                    return None
        return tree

    def _validate(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        """Check X, which keeps a dtype that the kernels read, and y if there is one."""
        queries = isinstance(y, str)
        plain = is_plain(X, model=self) if queries else y is not None and is_plain(X, y)
        if plain and X.dtype.name != "bfloat16":
            with np.errstate(over="ignore", invalid="ignore"):  # no sum of NaN or infinity is finite
                finite = X.dtype.kind != "f" or np.isfinite(np.einsum("ij->", X, dtype=float))
            if finite and queries:
                return X
            if finite:
                take_plain(self, X)
                return in_row_order(X), y
        converted = convert_to(X)
        half = converted is None and X.dtype.name == "bfloat16"  # scikit-learn does not check it
        options = {"dtype": converted, "ensure_all_finite": not half}
        if queries:
            X = as_numbers(validate_data(self, X, reset=reset, **options), converted)
        else:
            X, y = validate_data(self, X, y, reset=reset, multi_output=True, **options)
            X = in_row_order(as_numbers(X, converted))
        for first in range(0, len(X) if half else 0, _ROWS):
            rows = X[first : first + _ROWS].astype(np.float32)
            assert_all_finite(rows, estimator_name=type(self).__name__, input_name="X")
        return X if queries else (X, y)

    @overload
    def kneighbors(
        self,
        X: MatrixLike | None = None,
        n_neighbors: int | None = None,
        return_distance: Literal[True] = True,
    ) -> tuple[Array, Array]: ...

    @overload
    def kneighbors(
        self, X: MatrixLike | None = None, n_neighbors: int | None = None, *, return_distance: Literal[False]
    ) -> Array: ...

    @overload
    def kneighbors(
        self, X: MatrixLike | None, n_neighbors: int | None, return_distance: Literal[False]
    ) -> Array: ...

    @as_fitted
    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> Array | tuple[Array, Array]:
        """The rows of the training data that are nearest to each row of X.

        Parameters
        ----------
        X : (n, D) array-like, sparse matrix or None, default=None
            None means the training rows, each without itself.
        n_neighbors : int or None, default=None
            None means that of the model.
        return_distance : bool, default=True

        Returns
        -------
        neigh_dist : (n, n_neighbors) ndarray of float64
            Nearest first; only if `return_distance`.
        neigh_ind : (n, n_neighbors) ndarray of int
            Numbers of training rows.
        """
        if not hasattr(self, "_fit_X"):
            check_is_fitted(self)
        if issparse(X):
            return super().kneighbors(X, n_neighbors, return_distance)
        k: int = self.n_neighbors if n_neighbors is None else n_neighbors
        if not isinstance(k, Integral):
            raise TypeError(f"n_neighbors does not take {type(k)} value, enter integer value")
        if k <= 0:
            raise ValueError(f"Expected n_neighbors > 0. Got {k}")
        leave_out = X is None
        X = self._fit_X if leave_out else self._validate(X, reset=False)
        if k + leave_out > self.n_samples_fit_:
            raise ValueError(
                f"Expected n_neighbors {'<' if leave_out else '<='} n_samples_fit, but n_neighbors = {k}, "
                f"n_samples_fit = {self.n_samples_fit_}, n_samples = {len(X)}"
            )
        neigh_dist = np.empty((len(X), k + leave_out))
        neigh_ind = np.empty(neigh_dist.shape, np.intp)
        metric, tree = self.effective_metric_, self._search_tree
        nearest(X, self._fit_X, metric, neigh_dist, neigh_ind, self._n_threads(), tree)
        if leave_out:
            keep = neigh_ind != np.arange(len(X))[:, None]
            keep[keep.all(axis=1), -1] = False  # many equal rows may leave a row itself out
            neigh_dist, neigh_ind = (a[keep].reshape(len(X), k) for a in (neigh_dist, neigh_ind))
        return (neigh_dist, neigh_ind) if return_distance else neigh_ind

    def _n_threads(self) -> int | None:
        if self.n_jobs is None or self.n_jobs > 0:
            return self.n_jobs
        if self.n_jobs == 0:
            raise ValueError("n_jobs == 0 has no meaning; pass a number of threads, -1 for all, or None")
        return max(1, max_threads() + 1 + self.n_jobs)

    def _votes(self, X: MatrixLike | None) -> list[Array]:
        """Total weight of the neighbours of each class: a list of (n, C) arrays, one an output."""
        neigh_dist, neigh_ind = self.kneighbors(X)
        weights = self._weights(neigh_dist)
        if weights is not None and (np.asarray(weights) == 0).all(axis=1).any():
            raise ValueError(
                "All neighbors of some sample is getting zero weights. Please modify 'weights' to avoid this "
                "case if you are using a user-defined function."
            )
        weights = None if weights is None else np.ravel(weights)
        all_votes = []
        for classes, y in zip(
            self.classes_ if self.outputs_2d_ else [self.classes_], np.atleast_2d(self._y.T), strict=True
        ):
            n, C = len(neigh_ind), len(classes)
            cells = y.take(neigh_ind)
            cells += C * np.arange(n)[:, None]
            votes = np.bincount(cells.ravel(), weights, minlength=n * C)
            all_votes.append(votes.reshape(n, C).astype(float, copy=False))
        return all_votes

    def _weights(self, neigh_dist: Array) -> Array | None:
        """Weights of the votes, None if all are 1."""
        if callable(self.weights):
            return self.weights(neigh_dist)
        if self.weights != "distance":
            return None
        with np.errstate(divide="ignore"):
            weights = 1 / neigh_dist
        at_once = np.isinf(weights)  # neighbours at distance 0 outweigh all others
        some = at_once.any(axis=1)
        weights[some] = at_once[some]
        return weights

    @as_fitted
    def predict(self, X: MatrixLike | None) -> Array:
        """The class with most votes among the neighbours of each row, the first of those with as many.

        Parameters
        ----------
        X : (n, D) array-like, sparse matrix or None
            None means the training rows, each without itself.

        Returns
        -------
        y : (n,) or (n, n_outputs) ndarray of the type of the classes
        """
        votes = self._votes(X)
        if not self.outputs_2d_:
            return self.classes_[votes[0].argmax(axis=1)]
        columns = [classes[v.argmax(axis=1)] for classes, v in zip(self.classes_, votes, strict=True)]
        return np.column_stack(columns).astype(self.classes_[0].dtype, copy=False)

    @as_fitted
    def predict_proba(self, X: MatrixLike | None) -> Floats | Any:
        """Shares of the votes.

        Parameters
        ----------
        X : (n, D) array-like, sparse matrix or None
            None means the training rows, each without itself.

        Returns
        -------
        probabilities : (n, C) ndarray, or a list of them for several outputs
            Columns in the order of ``classes_``.
        """
        shares = [votes / votes.sum(axis=1, keepdims=True) for votes in self._votes(X)]
        return shares if self.outputs_2d_ else shares[0]

    def _describe(self) -> Description:
        """Describe the fitted model."""
        return Description([], "votes", several=self.outputs_2d_, n_threads=self._n_threads())
