"""Update rules, as the course's ``optim.py`` has them.

A rule takes weights w, their gradient dw and a dict `config` (None: defaults), and returns the next weights
and the `config` for the next call, in which it keeps what it remembers, under the course's names. What
`config` lacks is filled in. `sgd` changes w in place and returns it; the others return new arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from softline._typing import Array

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]


def sgd(w: Array, dw: Array, config: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
    """Step of gradient descent: w - learning_rate dw.

    config: learning_rate = 1e-2.
    """
    config = _filled(config, learning_rate=1e-2)
    w -= config["learning_rate"] * dw
    return w, config


def sgd_momentum(w: Array, dw: Array, config: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
    """Step with momentum: v = momentum v - learning_rate dw; w + v.

    config: learning_rate = 1e-2, momentum = 0.9, velocity = zeros.
    """
    config = _filled(config, learning_rate=1e-2, momentum=0.9, velocity=np.zeros_like(w))
    config["velocity"] = config["momentum"] * config["velocity"] - config["learning_rate"] * dw
    return w + config["velocity"], config


def rmsprop(w: Array, dw: Array, config: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
    """Step of RMSProp: w - learning_rate dw / (sqrt(cache) + epsilon).

    cache = decay_rate cache + (1 - decay_rate) dw^2.
    config: learning_rate = 1e-2, decay_rate = 0.99, epsilon = 1e-8, cache = zeros. (Hinton, 2012.)
    """
    config = _filled(config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8, cache=np.zeros_like(w))
    config["cache"] = _decayed(config["cache"], dw**2, config["decay_rate"])
    return w - config["learning_rate"] * dw / (np.sqrt(config["cache"]) + config["epsilon"]), config


def adam(w: Array, dw: Array, config: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
    """Step of Adam: w - learning_rate m / (sqrt(v) + epsilon).

    m and v are running means of dw and dw^2, corrected for their start.
    config: learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, m = v = zeros, t = 0, the
    number of steps taken. (Kingma and Ba, 2015.)
    """
    config = _filled(
        config,
        learning_rate=1e-3,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-8,
        m=np.zeros_like(w),
        v=np.zeros_like(w),
        t=0,
    )
    config["t"] += 1
    config["m"] = _decayed(config["m"], dw, config["beta1"])
    config["v"] = _decayed(config["v"], dw**2, config["beta2"])
    m = config["m"] / (1 - config["beta1"] ** config["t"])
    v = config["v"] / (1 - config["beta2"] ** config["t"])
    return w - config["learning_rate"] * m / (np.sqrt(v) + config["epsilon"]), config


def _filled(config: dict[str, Any] | None, **defaults: Any) -> dict[str, Any]:
    config = {} if config is None else config
    for name, value in defaults.items():
        config.setdefault(name, value)
    return config


def _decayed(mean: Array, value: Array, rate: float) -> Array:
    return rate * mean + (1 - rate) * value
