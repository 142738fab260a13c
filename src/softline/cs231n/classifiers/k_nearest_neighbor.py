"""Nearest neighbours by Euclidean distance: the course's ``k_nearest_neighbor.py``."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from softline import _kernels
from softline._typing import Array
from softline.cs231n.checks import as_rows

__all__ = ["KNearestNeighbor"]


class KNearestNeighbor:
    """Classifier by a vote of the k nearest training rows.

    Attributes
    ----------
    X_train : ndarray of shape (N, D)
    y_train : ndarray of shape (N,)
        What `train` was given.
    """

    def train(self, X: Array, y: Array) -> None:
        """Remember X (N, D) and its labels y (N,)."""
        self.X_train = X
        self.y_train = y

    def predict(self, X: Array, k: int = 1, num_loops: Literal[0, 1, 2] = 0) -> Array:
        """Labels of the rows of X.

        Parameters
        ----------
        X : ndarray of shape (n, D)
        k : int, default=1
        num_loops : {0, 1, 2}, default=0
            Which of the methods computes the distances; all run the same kernel.

        Returns
        -------
        y : ndarray of shape (n,)
        """
        methods = (
            self.compute_distances_no_loops,
            self.compute_distances_one_loop,
            self.compute_distances_two_loops,
        )
        if num_loops not in (0, 1, 2):
            raise ValueError(f"num_loops must be 0, 1 or 2; got {num_loops!r}")
        return self.predict_labels(methods[num_loops](X), k=k)

    def compute_distances_no_loops(self, X: Array) -> Array:
        """Euclidean distances of the rows of X (n, D) from the training rows: (n, N), float64.

        They are sums of squared differences, so that equal rows are exactly 0 apart.
        """
        X, X_train = as_rows(X), as_rows(self.X_train, "X_train")
        if X.shape[1] != X_train.shape[1]:
            raise ValueError(f"X has {X.shape[1]} features; the training rows have {X_train.shape[1]}")
        pixels: list[Any] = [_as_bytes(rows) for rows in (X, X_train)]
        if all(rows is not None for rows in pixels):
            X, X_train = pixels
        distances = np.empty((len(X), len(X_train)))
        _kernels.distances(X, X_train, "euclidean", distances)
        return distances

    compute_distances_one_loop = compute_distances_two_loops = compute_distances_no_loops

    def predict_labels(self, dists: Array, k: int = 1) -> Array:
        """Most frequent label of the k nearest training rows; of equally frequent ones the smallest.

        Parameters
        ----------
        dists : ndarray of shape (n, N)
            Distances from the training rows; of rows as near, the first are taken.
        k : int, default=1

        Returns
        -------
        y : ndarray of shape (n,), of the dtype of y_train
        """
        dists = np.asarray(dists)
        labels, codes = np.unique(self.y_train, return_inverse=True)
        if dists.ndim != 2 or dists.shape[1] != len(codes):
            raise ValueError(f"dists must have shape (n, {len(codes)}); got {dists.shape}")
        if not 1 <= k <= len(codes):
            raise ValueError(f"k must be between 1 and {len(codes)}, the number of training rows; got {k}")
        votes = np.empty(len(dists), np.intp)
        for i, row in enumerate(dists):
            near = np.flatnonzero(row <= np.partition(row, k - 1)[k - 1])
            nearest = near[np.argsort(row[near], kind="stable")[:k]]
            votes[i] = np.bincount(codes[nearest]).argmax()
        return labels[votes]


def _as_bytes(X: Array) -> Array | None:
    """X as bytes if all values are, as in raw pixels, else None: sums of bytes are exact and fast."""
    if X.dtype == np.uint8:
        return X
    with np.errstate(invalid="ignore"):
        for rows in (X[:1], X):  # the first row decides in most cases
            found = rows.astype(np.uint8)
            if not np.array_equal(found, rows):
                return None
    return found
