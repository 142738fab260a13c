"""What these kernels compute, :mod:`softline.reference` says: its functions have the same signatures."""

from typing import Literal

from softline._typing import Array
from softline.optimizers import Optimizer, State
from softline.rows import Rows

def sgd_epoch(
    X: Array | Rows,
    y: Array,
    sample_weight: Array | None,
    order: Array,
    W: Array,
    b: Array,
    learning_rates: Array,
    batch_size: int,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    n_threads: int | None = None,
    *,
    optimizer: Optimizer | None = None,
    state: State | None = None,
    l1: float = 0.0,
    label_smoothing: float = 0.0,
    clip_norm: float | None = None,
    max_norm: float | None = None,
    mean_weight: float | None = None,
    loss: Literal["cross_entropy", "hinge"] = "cross_entropy",
    square_norms: Array | None = None,
) -> Array: ...
