"""Types that signatures name, beside those of :mod:`numpy.typing`."""

import os
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.floating[Any]]
Layer: TypeAlias = tuple[Array, Array]  # W and b
PathLike: TypeAlias = str | os.PathLike[str]
RandomState: TypeAlias = int | np.random.RandomState | None
EvalSet: TypeAlias = tuple[ArrayLike, ArrayLike]
Metric: TypeAlias = Literal["manhattan", "euclidean", "sqeuclidean"]
Activation: TypeAlias = Literal["identity", "logistic", "tanh", "relu", "leaky_relu"]
ClassWeight: TypeAlias = dict[Any, float] | dict[Any, int] | Literal["balanced"] | None
# The parameters of a model by name, and what gives its loss and gradient there: see softline.gradient_check.
Differentiable: TypeAlias = tuple[dict[str, Array], Callable[[], tuple[float, dict[str, Array]]]]


class SparseMatrix(Protocol):
    """A matrix or array of scipy.sparse, which ships no types."""

    def tocsr(self) -> Any: ...


MatrixLike: TypeAlias = ArrayLike | SparseMatrix
