"""Mini-batch descent on a network, epoch by epoch: what MLPClassifier runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.utils import shuffle

from softline import _kernels, optimizers
from softline._network import Arena, batch_weights, network_epoch, network_gradient, network_scores
from softline._typing import Activation, Array, Layer
from softline.rows import Rows
from softline.trainer import DivergenceError, batch_losses, epoch_flops, mean_loss

# Bytes of scores at a time.
CHUNK_BYTES = 4 << 20


class NetworkTrainer:
    """Layers (W, b) of a network, and the epochs that move them.

    Parameters
    ----------
    X : (N, D) Rows
    y : (N,) or (N, C) int32 array
        Labels 0..C-1, or 0 and 1 for outputs that are classes by themselves.
    sample_weight : (N,) float array or None
    rows : (n,) int array
        The rows to train on.
    weights : list of (W, b)
        Where to start, W (n_out, n_in) and b (n_out,); copied.
    alpha, activation, dropout, shuffle, n_threads
        As in :class:`softline.neural_network.MLPClassifier`.
    optimizer : Optimizer
    batch_size : int
    rng : RandomState
    states : list of State or None
        Of earlier rows of a stream, to go on from if they fit.

    Attributes
    ----------
    states : list of State
        What the optimizer remembers of each layer.
    after_batch : callable or None, default=None
        Called after each batch with its number (from 0), loss and learning rate; a true result ends the
        epoch. An epoch then takes a call for each batch, and gives the same bits.
    """

    def __init__(
        self,
        X: Rows,
        y: Array,
        sample_weight: Array | None,
        rows: Array,
        weights: Sequence[Layer],
        *,
        alpha: float,
        activation: Activation,
        dropout: float,
        optimizer: optimizers.Optimizer,
        batch_size: int,
        shuffle: bool,
        rng: np.random.RandomState,
        n_threads: int | None,
        states: Sequence[optimizers.State] | None = None,
    ) -> None:
        self.X, self.y, self.sample_weight, self.order = X, y, sample_weight, rows
        self.weights = []
        for W, b in weights:
            self.weights.append((_kernels.padded(W.shape[0], W.shape[1], X.dtype), b.astype(X.dtype)))
            self.weights[-1][0][...] = W
        self.alpha, self.activation, self.dropout, self.optimizer = alpha, activation, dropout, optimizer
        self.batch_size, self.shuffle, self.rng, self.n_threads = batch_size, shuffle, rng, n_threads
        self.states = [optimizers.State(optimizer, W) for W, _ in self.weights]
        if optimizer.averages:
            for state, (W, b) in zip(self.states, self.weights, strict=True):
                state.W[0], state.b[0] = W, b
        if states is not None and all(map(optimizers.State.fits, states, self.states)):
            for i, (state, past) in enumerate(zip(self.states, states, strict=True)):
                if optimizer.averages:
                    state.t, (W, b) = past.t, past.iterate
                    self.weights[i][0][...], self.weights[i][1][...] = (
                        X.weights_from_array(W, b) if i == 0 else (W, b)
                    )
                else:
                    state.copy_from(past)
        self.seed = int(rng.randint(2**32, dtype=np.uint32)) if dropout > 0 else 0
        self.arena = Arena()
        self.after_batch: Callable[[int, float, float], object] | None = None

    @property
    def finite(self) -> bool:
        """Whether all weights are."""
        return all(np.isfinite(a).all() for layer in self.weights for a in layer)

    @property
    def model(self) -> list[Layer]:
        """The layers to predict with: those of the last step, or their means over all steps."""
        if self.optimizer.averages:
            return [(state.W[0], state.b[0]) for state in self.states]
        return self.weights

    def copy_of_model(self) -> list[Layer]:
        """Copies of the layers to predict with, for `restore`."""
        return [(W.copy(), b.copy()) for W, b in self.model]

    def restore(self, weights: Sequence[Layer]) -> None:
        """Make these the layers, of the model as of the next step."""
        for layers in (self.weights, self.model):
            for (W, b), (new_W, new_b) in zip(layers, weights, strict=True):
                W[...], b[...] = new_W, new_b

    def epoch(self, epoch: int, rate_at: Callable[[Array], Array]) -> tuple[float, float]:
        """Run epoch number `epoch` (from 0); return its loss and the seconds that the kernels took.

        The loss is the mean over the rows, each batch before its update, and the penalty of the weights that
        the epoch began with. `rate_at` gives the learning rates at times, in epochs.

        Raises
        ------
        DivergenceError
            If a loss or a weight is not finite. Whatever is raised, weights and states are as before the
            epoch.
        """
        if self.shuffle:
            self.order = shuffle(self.order, random_state=self.rng)
        rates = rate_at(epoch + np.arange(0, len(self.order), self.batch_size) / len(self.order))
        before = [(W.copy(), b.copy()) for W, b in self.weights]
        states = [optimizers.State(self.optimizer, W) for W, _ in self.weights]
        for copy, state in zip(states, self.states, strict=True):
            copy.copy_from(state)
        try:
            return self._epoch(rates, epoch)
        except BaseException:  # KeyboardInterrupt, too: the weights go with the history
            for (W, b), (old_W, old_b) in zip(self.weights, before, strict=True):
                W[...], b[...] = old_W, old_b
            for copy, state in zip(states, self.states, strict=True):
                state.copy_from(copy)
            raise

    def _epoch(self, rates: Array, epoch: int) -> tuple[float, float]:
        B = self.batch_size
        with np.errstate(over="ignore"):
            penalties = self._squares() * self.alpha / 2 / batch_weights(self.sample_weight, self.order, B)
        start = time.perf_counter()
        losses = batch_losses(self._descend, self.order, rates, B, penalties, self.flops, self.after_batch)
        seconds = time.perf_counter() - start
        if not np.isfinite(losses).all() or not all(
            np.isfinite(a).all() for layer in self.model for a in layer
        ):
            bad = losses[~np.isfinite(losses)]
            raise DivergenceError(
                f"{f'the loss became {bad[0]}' if bad.size else 'a weight became infinite'} in epoch "
                f"{epoch + 1}: learning_rate_init={rates[0]:.3g} is too large for these data. A smaller one "
                "helps, and so does standardize=True."
            )
        return mean_loss(losses, len(self.order), B), seconds

    def _descend(self, order: Array, rates: Array) -> Array:
        return network_epoch(
            self.X,
            self.y,
            self.sample_weight,
            order,
            self.weights,
            rates,
            self.batch_size,
            self.alpha,
            self.activation,
            self.n_threads,
            optimizer=self.optimizer,
            states=self.states,
            dropout=self.dropout,
            seed=self.seed,
            arena=self.arena,
        )

    def _squares(self) -> float:
        return sum(np.sum(np.square(W, dtype=float)) for W, _ in self.weights)

    @property
    def flops(self) -> int:
        """Floating-point operations of an epoch."""
        return epoch_flops(len(self.order), *(W.size for W, _ in self.weights))

    def rescale_momentum(self, factor: float) -> None:
        """Multiply what the optimizer remembers of gradients."""
        for state in self.states:
            state.W *= factor
            state.b *= factor

    # ---- all rows at once ------------------------------------------------------------------------------

    def flat(self) -> Array:
        """All weights in one float64 vector."""
        return _flat(self.weights)

    def set_flat(self, vector: Array) -> None:
        """Take the weights from such a vector."""
        at = 0
        for a in (a for layer in self.weights for a in layer):
            a[...] = vector[at : at + a.size].reshape(a.shape)
            at += a.size

    def objective(self, vector: Array) -> tuple[float, Array]:
        """Mean loss of all rows with the penalty, and its gradient, at such a vector."""
        self.set_flat(vector)
        loss, gradients = self.loss_and_gradients()
        return loss, _flat(gradients)

    def loss_and_gradients(self) -> tuple[float, list[Layer]]:
        """Mean loss of all rows with the penalty, and its gradients to the layers: pairs (dW, db)."""
        gradients = [(np.empty_like(W), np.empty_like(b)) for W, b in self.weights]
        loss = network_gradient(
            self.X,
            self.y,
            self.sample_weight,
            self.order,
            self.weights,
            self.activation,
            gradients,
            self.n_threads,
            dropout=self.dropout,
            seed=self.seed,
            arena=self.arena,
        )
        l2 = self.alpha / batch_weights(self.sample_weight, self.order, len(self.order))[0]
        for (W, _), (dW, _) in zip(self.weights, gradients, strict=True):
            dW += l2 * W
        return loss + l2 / 2 * self._squares(), gradients

    def accuracy(self, X: Rows, rows: Array, y: Array) -> float:
        """Share of X[rows] that the model gives the class, or all the classes, of y[rows]."""
        weights = self.model
        n_outputs = len(weights[-1][1])
        block = max(256, CHUNK_BYTES // (8 * n_outputs))
        hits = 0
        for first in range(0, len(rows), block):
            idx = rows[first : first + block]
            out = np.empty((len(idx), n_outputs), X.dtype)
            network_scores(X, idx, weights, self.activation, out, self.n_threads)
            right = out.argmax(axis=1) == y[idx] if y.ndim == 1 else ((out > 0) == y[idx]).all(axis=1)
            hits += np.count_nonzero(right)
        return float(hits / len(rows))


def _flat(layers: Sequence[Layer]) -> Array:
    return np.concatenate([a.ravel() for layer in layers for a in layer]).astype(float)
