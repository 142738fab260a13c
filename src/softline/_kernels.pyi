"""What these kernels compute, :mod:`softline.reference` says: its functions have the same signatures."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from softline._typing import Array
from softline.optimizers import State
from softline.rows import Rows

MOST_THREADS: int
DTYPE_CODES: dict[np.dtype[Any], int]
UPDATES: dict[str, tuple[int, int]]  # the code of an update, and its moments

def isas() -> dict[str, bool]: ...
def isa_name() -> str: ...
def config() -> dict[str, Any]: ...
def max_threads() -> int: ...
def threads_for_epoch(n_threads: int | None, n_rows: float, batch_size: float, operations: float) -> int: ...
def take_fewer_threads(threads: int, seconds: float) -> int: ...
def members_after(members: int, lost: float, seconds: float) -> int: ...
def padded(n_rows: int, n_features: int, dtype: DTypeLike) -> Array: ...
def step(name: str, numbers: dict[str, float], state: State, W: Array, *arguments: Any) -> None: ...
def scores(
    X: Array | Rows, idx: Array | None, W: Array, b: Array | None, out: Array, n_threads: int | None = None
) -> None: ...
def softmax(scores: Array, n_threads: int | None = None) -> None: ...
def log_softmax(scores: Array, n_threads: int | None = None) -> None: ...
def cross_entropy(
    scores: Array, y: Array, losses: Array, n_threads: int | None = None, *, label_smoothing: float = 0.0
) -> None: ...
def cross_entropy_gradient(
    scores: Array,
    y: Array,
    weight: Array,
    losses: Array,
    n_threads: int | None = None,
    *,
    label_smoothing: float = 0.0,
) -> None: ...
def hinge_gradient(
    scores: Array, y: Array, weight: Array, losses: Array, n_threads: int | None = None
) -> None: ...
def gradient(
    X: Array | Rows, idx: Array | None, dscores: Array, dW: Array, db: Array, n_threads: int | None = None
) -> None: ...
def sgd_update(
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    learning_rate: float,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    n_threads: int | None = None,
    *,
    l1: float = 0.0,
) -> None: ...
def momentum_update(
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    learning_rate: float,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    n_threads: int | None = None,
    *,
    state: State,
    l1: float = 0.0,
    momentum: float = 0.9,
) -> None: ...
def nesterov_update(
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    learning_rate: float,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    n_threads: int | None = None,
    *,
    state: State,
    l1: float = 0.0,
    momentum: float = 0.9,
) -> None: ...
def adam_update(
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    learning_rate: float,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    n_threads: int | None = None,
    *,
    state: State,
    l1: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-08,
    eps_hat: bool = False,
) -> None: ...
def adamw_update(
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    learning_rate: float,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    n_threads: int | None = None,
    *,
    state: State,
    l1: float = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-08,
    eps_hat: bool = False,
) -> None: ...
def rmsprop_update(
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    learning_rate: float,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    n_threads: int | None = None,
    *,
    state: State,
    l1: float = 0.0,
    rho: float = 0.99,
    eps: float = 1e-08,
) -> None: ...
def adagrad_update(
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    learning_rate: float,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    n_threads: int | None = None,
    *,
    state: State,
    l1: float = 0.0,
    eps: float = 1e-10,
) -> None: ...
def asgd_update(
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    learning_rate: float,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    n_threads: int | None = None,
    *,
    state: State,
    l1: float = 0.0,
    t0: int = 0,
) -> None: ...
def clip_gradient(
    dW: Array,
    db: Array,
    clip_norm: float,
    shift: Array | None,
    metric: Array | None,
    n_threads: int | None = None,
) -> float: ...
def project_rows(
    W: Array, b: Array, max_norm: float, shift: Array | None, n_threads: int | None = None
) -> None: ...
def column_stats(
    X: Array | Rows, idx: Array | None, weight: Array | None, n_threads: int | None = None
) -> tuple[Array, Array, Array, Array]: ...
