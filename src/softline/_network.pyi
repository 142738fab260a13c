"""What these kernels compute, :mod:`softline.reference` says: its functions have the same signatures."""

from collections.abc import Sequence

from numpy.typing import DTypeLike

from softline._typing import Activation, Array, Layer
from softline.optimizers import Optimizer, State
from softline.rows import Rows

ACTIVATIONS: dict[Activation, int]

class Arena:
    array: Array
    def __init__(self) -> None: ...
    def room(self, n: int, dtype: DTypeLike) -> Array: ...

def network_epoch(
    X: Array | Rows,
    y: Array,
    sample_weight: Array | None,
    order: Array,
    weights: Sequence[Layer],
    learning_rates: Array,
    batch_size: int,
    alpha: float,
    activation: Activation,
    n_threads: int | None = None,
    *,
    optimizer: Optimizer | None = None,
    states: Sequence[State] | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    arena: Arena | None = None,
) -> Array: ...
def network_gradient(
    X: Array | Rows,
    y: Array,
    sample_weight: Array | None,
    idx: Array | None,
    weights: Sequence[Layer],
    activation: Activation,
    gradients: Sequence[Layer],
    n_threads: int | None = None,
    *,
    dropout: float = 0.0,
    seed: int = 0,
    t: int = 0,
    arena: Arena | None = None,
) -> float: ...
def batch_weights(sample_weight: Array | None, order: Array, batch_size: int) -> Array: ...
def network_scores(
    X: Array | Rows,
    idx: Array | None,
    weights: Sequence[Layer],
    activation: Activation,
    out: Array,
    n_threads: int | None = None,
) -> bool: ...
def affine(A: Array, W: Array, b: Array | None, out: Array, n_threads: int | None = None) -> None: ...
def activate(Z: Array, activation: Activation, n_threads: int | None = None) -> None: ...
def activation_gradient(
    A: Array, activation: Activation, dA: Array, n_threads: int | None = None, *, keep: float = 1.0
) -> None: ...
def dropout(A: Array, rate: float, key: int, n_threads: int | None = None) -> None: ...
