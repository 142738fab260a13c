"""Mean loss of a network as a function of its weights, for solvers that see all rows at each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from softline import _kernels
from softline._kernels.rows import Samples
from softline._training.trainer import Trainer, batch_weights, loss_of
from softline._typing import Array, Differentiable, Layer


class NetworkObjective:
    """Mean loss of samples with the penalty, as a function of the weights of a trainer's layers.

    Parameters
    ----------
    trainer : Trainer
        The weights are written into its layers.
    samples : Samples
    """

    def __init__(self, trainer: Trainer, samples: Samples) -> None:
        self.trainer, self.samples = trainer, samples

    @property
    def vector(self) -> Array:
        """All weights in one float64 vector."""
        return _flat(self.trainer.layers)

    @vector.setter
    def vector(self, vector: Array) -> None:
        at = 0
        for a in (a for layer in self.trainer.layers for a in layer):
            a[...] = vector[at : at + a.size].reshape(a.shape)
            at += a.size

    def __call__(self, vector: Array) -> tuple[float, Array]:
        """Loss and gradient at a vector."""
        self.vector = vector
        loss, gradients = self.loss_and_gradients()
        return loss, _flat(gradients)

    def loss_and_gradients(self) -> tuple[float, list[Layer]]:
        """Loss, and its gradients to the layers: pairs (dW, db)."""
        trainer, samples, options = self.trainer, self.samples, self.trainer.options
        total = batch_weights(samples.row_weight, samples.rows, len(samples))[0]
        gradients = [(np.empty_like(W), np.empty_like(b)) for W, b in trainer.layers]
        loss = _kernels.gradients(
            samples.X,
            samples.y,
            samples.row_weight,
            samples.rows,
            trainer.layers,
            gradients,
            1 / total,
            options.n_threads,
            loss=loss_of(samples.y),
            label_smoothing=options.label_smoothing,
            activation=options.activation or "identity",
            dropout=options.dropout,
            seed=trainer.seed,
            arena=trainer.arena,
        )
        divisor = total if options.penalty_of_batch else 1
        l2, l1 = options.l2 / divisor, options.l1 / divisor
        with np.errstate(over="ignore"):
            loss += l2 / 2 * sum(np.sum(np.square(W, dtype=float)) for W, _ in trainer.layers)
        for (W, _), (dW, _) in zip(trainer.layers, gradients, strict=True):
            dW += l2 * W
            if l1 > 0:
                dW += l1 * np.sign(W)
                loss += l1 * np.sum(np.abs(W), dtype=float)
        return loss, gradients

    def differentiable(self, named: Callable[[Sequence[Layer]], dict[str, Array]]) -> Differentiable:
        """Parameters and gradient for :mod:`softline.gradient_check`; `named` gives layers their names."""

        def evaluate() -> tuple[float, dict[str, Array]]:
            loss, gradients = self.loss_and_gradients()
            return loss, named(gradients)

        return named(self.trainer.layers), evaluate


def _flat(layers: Sequence[Layer]) -> Array:
    return np.concatenate([a.ravel() for layer in layers for a in layer]).astype(float)
