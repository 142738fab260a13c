"""Weights of the classes, as all estimators with `class_weight` mean them."""

from __future__ import annotations

from numbers import Real

import numpy as np

from softline._typing import Array, ClassWeight


def check_class_weight(class_weight: ClassWeight) -> None:
    """Raise ValueError if a dict of class weights holds anything but finite numbers of at least 0."""
    if not isinstance(class_weight, dict):
        return
    for label, weight in class_weight.items():
        if not (isinstance(weight, Real) and 0 <= weight < np.inf):
            raise ValueError(f"class_weight must hold finite numbers of at least 0; {label!r} has {weight!r}")


def balanced_weights(counts: Array) -> Array:
    """The weights (C,) that "balanced" means, for the rows of each class, counted or their weights summed.

    n / (C n_c) for n rows of C classes, as in scikit-learn. A class without rows, or whose rows weigh
    nothing, takes no part: its weight is 0, and the others are balanced as if it were not there.
    """
    present = counts > 0
    return np.where(present, counts.sum() / np.where(present, counts, 1), 0) / max(present.sum(), 1)
