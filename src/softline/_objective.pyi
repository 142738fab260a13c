"""What these kernels compute, :mod:`softline.reference` says: its functions have the same signatures."""

from softline._typing import Array
from softline.rows import Rows

def loss_gradient(
    X: Array | Rows,
    y: Array,
    sample_weight: Array | None,
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    n_threads: int | None = None,
) -> float: ...
def candidate_losses(
    X: Array | Rows,
    y: Array,
    sample_weight: Array | None,
    Ws: Array,
    bs: Array,
    losses: Array,
    n_threads: int | None = None,
) -> None: ...
def coordinate_descent(
    A: Array | None,
    scale: float,
    T: Array,
    signs: Array,
    G: Array,
    l1: Array,
    V: Array,
    tol: float,
    most_rounds: int,
) -> None: ...
def cholesky_solve(A: Array, b: Array) -> None: ...
