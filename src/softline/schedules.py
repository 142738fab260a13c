"""Learning-rate schedules: how the step shrinks as training goes on.

A schedule is called with `epoch`, the time in epochs (a float or an array: 2.5 is half-way through the
third epoch), and `max_iter`, the epochs planned; it returns what to multiply the learning rate with.
They are small frozen dataclasses: they compare, print, clone and pickle like values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from softline._typing import Array

Schedule: TypeAlias = Callable[[Any, Any], Any]
Name: TypeAlias = Literal["constant", "step", "exponential", "inverse_time", "cosine", "warm_up"]

__all__ = ["Constant", "Cosine", "Exponential", "InverseTime", "Step", "WarmUp"]


@dataclass(frozen=True)
class Constant:
    """Keep the learning rate: 1 throughout."""

    def __call__(self, epoch: ArrayLike, max_iter: float) -> Any:
        return np.ones_like(epoch, dtype=float)


@dataclass(frozen=True)
class Step:
    """Multiply by `factor` every `every` epochs.

    Parameters
    ----------
    every : float, default=10
    factor : float, default=0.5
    """

    every: float = 10
    factor: float = 0.5

    def __call__(self, epoch: ArrayLike, max_iter: float) -> Any:
        return self.factor ** np.floor(np.asarray(epoch) / self.every)


@dataclass(frozen=True)
class Exponential:
    """Multiply by `factor` each epoch, smoothly: ``factor ** epoch``.

    Parameters
    ----------
    factor : float, default=0.95
    """

    factor: float = 0.95

    def __call__(self, epoch: ArrayLike, max_iter: float) -> Any:
        return self.factor ** np.asarray(epoch, dtype=float)


@dataclass(frozen=True)
class InverseTime:
    """1 / (1 + decay * epoch), the 1/t decay of the CS231n notes.

    Parameters
    ----------
    decay : float, default=0.1
    """

    decay: float = 0.1

    def __call__(self, epoch: ArrayLike, max_iter: float) -> Any:
        return 1 / (1 + self.decay * np.asarray(epoch, dtype=float))


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to `floor` over `max_iter` epochs (Loshchilov and Hutter, SGDR, 2017).

    Parameters
    ----------
    floor : float, default=0.0
    """

    floor: float = 0.0

    def __call__(self, epoch: ArrayLike, max_iter: float) -> Any:
        done = np.minimum(np.asarray(epoch, dtype=float) / max_iter, 1)
        return self.floor + (1 - self.floor) * (1 + np.cos(np.pi * done)) / 2


@dataclass(frozen=True)
class WarmUp:
    """Rise linearly over the first `epochs`, then follow `then`.

    Parameters
    ----------
    epochs : float, default=1
    then : schedule or str, default=Constant()
        Followed from its start.
    """

    epochs: float = 1
    then: str | Schedule = Constant()

    def __call__(self, epoch: ArrayLike, max_iter: float) -> Any:
        epoch = np.asarray(epoch, dtype=float)
        after = get(self.then)(np.maximum(epoch - self.epochs, 0), max(max_iter - self.epochs, 1))
        return np.minimum((epoch + 1e-3) / (self.epochs + 1e-3), 1) * after


BY_NAME: dict[str, Schedule] = {
    "constant": Constant(),
    "step": Step(),
    "exponential": Exponential(),
    "inverse_time": InverseTime(),
    "cosine": Cosine(),
    "warm_up": WarmUp(),
}


def get(schedule: str | Schedule) -> Schedule:
    """Schedule of a name, or the schedule given."""
    if isinstance(schedule, str):
        if schedule not in BY_NAME:
            raise ValueError(f"schedule must be one of {', '.join(BY_NAME)} or a callable; got {schedule!r}")
        return BY_NAME[schedule]
    if not callable(schedule):
        raise TypeError(f"schedule must be a name or a callable (epoch, max_iter); got {schedule!r}")
    return schedule


def multipliers(schedule: Schedule, times: Array, max_iter: float) -> Array:
    """Factors of the learning rate at `times` (n,), in epochs; ValueError unless finite and at least 0."""
    given = np.asarray(schedule(times, max_iter))
    if given.dtype.kind not in "biuf" or given.shape not in ((), times.shape):
        raise ValueError(
            f"schedule must give a number, or one for each of the {len(times)} times in its argument; "
            f"{schedule} gave {given.dtype} of shape {given.shape}"
        )
    right = np.isfinite(given) & (given >= 0)
    if not right.all():
        raise ValueError(
            f"schedule must give finite numbers of at least 0; {schedule} gave {given[~right][0]}"
        )
    return np.broadcast_to(given, times.shape)
