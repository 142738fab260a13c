"""Optimizers: what a step makes of the gradient.

Small frozen dataclasses: they compare, print, clone and pickle like values. Their fields are the
hyper-parameters, under their usual names and with their usual defaults (docs/optimizers.md gives formulas and
sources); the learning rate is the classifier's. :func:`softline.reference.step` defines the steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from softline import _kernels
from softline._typing import Array, Layer

Name: TypeAlias = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "asgd"]

__all__ = ["ASGD", "SGD", "AdaGrad", "Adam", "AdamW", "Momentum", "Nesterov", "Optimizer", "RMSProp"]


@dataclass(frozen=True)
class Optimizer:
    """Base of the optimizers.

    Attributes
    ----------
    rule : str
        Name of what its steps do with a gradient: see :func:`softline.reference.step`.
    n_moments : int
        Number of arrays of the shape of W, and of b, that it remembers.
    averages : bool
        Whether the model is the mean of the weights, its first moment, instead of the last.
    """

    rule: ClassVar[str] = "sgd"
    n_moments: ClassVar[int] = 0
    averages: ClassVar[bool] = False

    def auto_change(self, batch_size: float) -> float | None:
        """Largest change of an average row's scores by the first step under ``learning_rate="auto"``.

        None for optimizers with steps proportional to the gradient: the curvature says which rate is stable.

        Parameters
        ----------
        batch_size : float
            Size of batches drawn with replacement that would be as noisy; infinite for full batches.

        Returns
        -------
        change : float or None
        """
        return None


def _check(name: str, value: float, low: float, high: float, open_low: bool = False) -> None:
    """Raise unless low <= value < high (with `open_low`: low < value)."""
    if not (low < value < high or (value == low and not open_low)):
        raise ValueError(f"{name} must be in {'(' if open_low else '['}{low}, {high}); got {value!r}")


def _change_of_normalised_steps(batch_size: float) -> float:
    """Change of scores that suits Adam and RMSProp: measured, see docs/learning-rate.md.

    The noise of a batch calls for sqrt(batch_size) (Malladi et al., 2022).
    """
    return 0.4 * min(1, np.sqrt(batch_size) / 4)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Plain gradient descent."""


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Descent along a decaying sum of gradients (Polyak, 1964), as torch.optim.SGD(momentum=...).

    Parameters
    ----------
    momentum : float, default=0.9
    """

    momentum: float = 0.9
    rule: ClassVar[str] = "momentum"
    n_moments: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check("momentum", self.momentum, 0, 1)


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Momentum that looks ahead (Nesterov, 1983; Sutskever et al., 2013), as PyTorch's SGD(nesterov=True).

    Parameters
    ----------
    momentum : float, default=0.9
    """

    rule: ClassVar[str] = "nesterov"


@dataclass(frozen=True)
class Adam(Optimizer):
    """Steps of the mean gradient over its root mean square (Kingma and Ba, 2015), as torch.optim.Adam.

    Parameters
    ----------
    beta1, beta2 : float, default=0.9 and 0.999
        How much of the running means of the gradient and of its square each step keeps.
    eps : float, default=1e-8
    eps_hat : bool, default=False
        Whether `eps` is added before the root mean square makes up for its start at 0: the paper's "epsilon
        hat", as in scikit-learn.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_hat: bool = False
    rule: ClassVar[str] = "adam"
    n_moments: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _check("beta1", self.beta1, 0, 1)
        _check("beta2", self.beta2, 0, 1)
        _check("eps", self.eps, 0, np.inf, open_low=True)

    def auto_change(self, batch_size: float) -> float:
        return _change_of_normalised_steps(batch_size)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with an L2 penalty that shrinks the weights directly (Loshchilov and Hutter, 2019), as in PyTorch.

    Its `weight_decay` is the classifier's `alpha`.

    Parameters
    ----------
    beta1, beta2 : float, default=0.9 and 0.999
    eps : float, default=1e-8
    eps_hat : bool, default=False
        As of :class:`Adam`.
    """

    rule: ClassVar[str] = "adamw"


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """Steps of the gradient over its root mean square (Tieleman and Hinton, 2012), as torch.optim.RMSprop.

    Parameters
    ----------
    rho : float, default=0.99
        How much of the running mean of squares each step keeps: PyTorch's `alpha`, CS231n's `decay_rate`.
    eps : float, default=1e-8
    """

    rho: float = 0.99
    eps: float = 1e-8
    rule: ClassVar[str] = "rmsprop"
    n_moments: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check("rho", self.rho, 0, 1)
        _check("eps", self.eps, 0, np.inf, open_low=True)

    def auto_change(self, batch_size: float) -> float:
        return _change_of_normalised_steps(batch_size)


@dataclass(frozen=True)
class AdaGrad(Optimizer):
    """Steps of the gradient over the root of its summed squares (Duchi et al., 2011), as torch.optim.Adagrad.

    Parameters
    ----------
    eps : float, default=1e-10
    """

    eps: float = 1e-10
    rule: ClassVar[str] = "adagrad"
    n_moments: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check("eps", self.eps, 0, np.inf, open_low=True)

    def auto_change(self, batch_size: float) -> float:
        return 4.0  # large, because its steps shrink by themselves


@dataclass(frozen=True)
class ASGD(Optimizer):
    """Descent to the mean of the weights of all steps (Polyak and Juditsky, 1992).

    As scikit-learn's SGDClassifier(average=...) and, with a constant step, torch.optim.ASGD.

    Parameters
    ----------
    t0 : int, default=0
        Steps before the mean begins.
    """

    t0: int = 0
    rule: ClassVar[str] = "asgd"
    n_moments: ClassVar[int] = 1
    averages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check("t0", self.t0, 0, np.inf)


BY_NAME = {
    "sgd": SGD(),
    "momentum": Momentum(),
    "nesterov": Nesterov(),
    "adam": Adam(),
    "adamw": AdamW(),
    "rmsprop": RMSProp(),
    "adagrad": AdaGrad(),
    "asgd": ASGD(),
}


def get(optimizer: str | Optimizer) -> Optimizer:
    """Optimizer of a name, or the optimizer given."""
    if isinstance(optimizer, str):
        if optimizer not in BY_NAME:
            raise ValueError(f"optimizer must be one of {', '.join(BY_NAME)}; got {optimizer!r}")
        return BY_NAME[optimizer]
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a name or one of softline.optimizers; got {optimizer!r}")
    return optimizer


class State:
    """Memory of an optimizer from step to step, zeros at first.

    Parameters
    ----------
    optimizer : Optimizer
    W : (C, D) array
        The weights, for their shape and dtype.

    Attributes
    ----------
    t : int
        Steps taken.
    W : (n_moments, C, D) array
    b : (n_moments, C) array
    """

    t: int
    W: Array
    b: Array
    iterate: Layer  # weights of the last step, of an averaging optimizer only

    def __init__(self, optimizer: Optimizer, W: Array) -> None:
        (C, D), n = W.shape, optimizer.n_moments
        self.optimizer, self.t = optimizer, 0
        self.W = _kernels.padded(n * C, D, W.dtype).reshape(n, C, D)
        self.b = np.zeros((n, C), W.dtype)

    def fits(self, other: State) -> bool:
        """Whether `other` is a state of such an optimizer on weights of the same shape."""
        return type(self.optimizer) is type(other.optimizer) and self.W.shape == other.W.shape

    def copy_from(self, other: State) -> None:
        """Copy the memory of `other`, which fits."""
        self.t = other.t
        self.W[...], self.b[...] = other.W, other.b
