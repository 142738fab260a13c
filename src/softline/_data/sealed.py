"""Hold-out test set that counts how often it is looked at."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from softline._typing import MatrixLike

__all__ = ["Look", "SealedTestSet", "TestSetWarning", "sealed"]


class TestSetWarning(UserWarning):
    """Warning that a test set was looked at more than once: its score is no longer that of unseen rows."""

    __test__ = False  # because pytest takes the class for a test


@dataclass(frozen=True)
class Look:
    """One look at a test set.

    Attributes
    ----------
    date : str
        UTC, as ISO 8601: "2026-01-31T12:00:00+00:00".
    test_set : str
        Fingerprint of the rows and labels.
    model : str
        Name of the model's class.
    score : float
    """

    date: str
    test_set: str
    model: str
    score: float


class SealedTestSet:
    """Rows and labels that can be scored on but not read; every look is counted and dated.

    Made by :func:`sealed`. Neither indexing nor unpacking gives out a row, and there are no copies, which
    would count for themselves.

    Attributes
    ----------
    looks : tuple of Look
        All looks, oldest first.
    """

    def __init__(self, X: Any, y: Any) -> None:
        n_rows, n_labels = np.shape(X)[0], np.shape(y)[0]
        if n_rows != n_labels or n_rows == 0:
            raise ValueError(f"X and y must be rows and a label for each; got {n_rows} and {n_labels}")
        self.__X, self.__y = X, y
        self.__looks: list[Look] = []
        self.__fingerprint = _fingerprint(X, y)

    @property
    def looks(self) -> tuple[Look, ...]:
        return tuple(self.__looks)

    def score(self, model: Any) -> float:
        """Score a model: its ``score(X, y)``, the accuracy of a classifier.

        This is a look. It is counted here and in the attribute ``test_looks_`` of the model, a list of
        :class:`Look`, which :func:`softline.save_model` keeps, and which fitting anew does not clear. A call
        that raises tells no score, and is no look.

        Parameters
        ----------
        model : fitted estimator
            Any of scikit-learn's kind.

        Returns
        -------
        score : float

        Warns
        -----
        TestSetWarning
            If this is not the first look at the test set, with whatever model; or not the model's first at
            these rows, in whatever object.
        """
        score = float(model.score(self.__X, self.__y))
        look = Look(
            datetime.now(UTC).isoformat(timespec="seconds"), self.__fingerprint, type(model).__name__, score
        )
        of_model = getattr(model, "test_looks_", [])
        elsewhere = [past for past in of_model if past.test_set == look.test_set and past not in self.__looks]
        earlier = [*self.__looks, *elsewhere]
        self.__looks.append(look)
        model.test_looks_ = [*of_model, look]
        if earlier:
            warnings.warn(
                f"look number {len(earlier) + 1} at this test set, the first on "
                f"{min(past.date for past in earlier)}: what is chosen by its score is fitted to it. Choose "
                "by validation rows, and report the first look.",
                TestSetWarning,
                stacklevel=2,
            )
        return score

    def __len__(self) -> int:
        return np.shape(self.__y)[0]

    def __repr__(self) -> str:
        looked = {0: "not looked at", 1: "looked at once"}.get(
            len(self.looks), f"looked at {len(self.looks)} times"
        )
        return f"<SealedTestSet of {len(self)} rows, {looked}>"

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError("a sealed test set gives out no rows and no copies; use its score(model)")

    __iter__ = __getitem__ = __array__ = __reduce_ex__ = __copy__ = __deepcopy__ = _refuse


def sealed(X_test: MatrixLike, y_test: ArrayLike) -> SealedTestSet:
    """Seal a test set: models can be scored on it, each look is counted, and a second one warns.

    Parameters
    ----------
    X_test : (N, D) array-like
    y_test : (N,) array-like

    Returns
    -------
    SealedTestSet

    Raises
    ------
    ValueError
        If there are no rows, or not as many labels.

    Examples
    --------
    >>> from softline import SoftmaxClassifier, datasets
    >>> data = datasets.load_digits()
    >>> test = datasets.sealed(data.X_test, data.y_test)
    >>> model = SoftmaxClassifier(random_state=0).fit(data.X_train, data.y_train)
    >>> test.score(model) > 0.9
    True
    >>> test
    <SealedTestSet of 360 rows, looked at once>
    """
    return SealedTestSet(X_test, y_test)


def _fingerprint(X: Any, y: Any) -> str:
    """Digest of shapes, types and bytes, which tells test sets apart."""
    digest = hashlib.sha256()
    if hasattr(X, "tocsr"):
        X = X.tocsr()
    parts = (X.data, X.indices, X.indptr) if hasattr(X, "indptr") else (X,)
    for array in map(np.asarray, (*parts, y)):
        if array.dtype.hasobject:
            array = array.astype(str)
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        contents: Any = np.ascontiguousarray(array)
        digest.update(contents)
    return digest.hexdigest()[:16]
