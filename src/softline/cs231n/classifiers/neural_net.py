"""A network of two layers, as the course had it until 2020: it trains itself."""

import numpy as np

from softline import _kernels
from softline.cs231n.checks import as_labels, as_rows
from softline.cs231n.classifiers.fc_net import two_layer_loss
from softline.cs231n.classifiers.linear_loss import square_norm

__all__ = ["TwoLayerNet"]

# Iterations from one printed loss to the next.
PRINT_EVERY = 100


class TwoLayerNet:
    """Affine, relu, affine, softmax; the loss has the penalty reg sum(W * W), without 1/2.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        D, H and C.
    std : float, default=1e-4
        Standard deviation of the weights, drawn by np.random.randn, W1 first; biases are 0.

    Attributes
    ----------
    params : dict
        "W1" (D, H), "b1" (H,), "W2" (H, C) and "b2" (C,).
    """

    def __init__(self, input_size, hidden_size, output_size, std=1e-4):
        self.params = {
            "W1": std * np.random.randn(input_size, hidden_size),
            "b1": np.zeros(hidden_size),
            "W2": std * np.random.randn(hidden_size, output_size),
            "b2": np.zeros(output_size),
        }

    def loss(self, X, y=None, reg=0.0):
        """Scores of X or, with y, the loss and its gradients.

        Parameters
        ----------
        X : ndarray of shape (N, D)
        y : ndarray of shape (N,) or None
        reg : float, default=0.0
            L2 penalty reg (sum(W1 * W1) + sum(W2 * W2)).

        Returns
        -------
        scores : ndarray of shape (N, C)
            Where y is None; else
        loss : float
        grads : dict
            Gradients under the names of `params`.
        """
        return two_layer_loss(self.params, X, y, 2 * reg)

    def train(
        self,
        X,
        y,
        X_val,
        y_val,
        learning_rate=1e-3,
        learning_rate_decay=0.95,
        reg=5e-6,
        num_iters=100,
        batch_size=200,
        verbose=False,
    ):
        """Stochastic gradient descent; the parameters move in place.

        Batches are drawn with replacement by np.random.choice. Where a subclass has a `loss` of its own, that
        is called for each batch.

        Parameters
        ----------
        X, y : ndarrays of shape (N, D) and (N,)
        X_val, y_val : ndarrays of shape (n, D) and (n,)
        learning_rate : float, default=1e-3
        learning_rate_decay : float, default=0.95
            The learning rate is multiplied with it at each epoch, the first included.
        reg : float, default=5e-6
        num_iters : int, default=100
        batch_size : int, default=200
        verbose : bool, default=False
            Print the loss of every hundredth iteration.

        Returns
        -------
        history : dict
            "loss_history", the loss of each batch before its update; "train_acc_history", accuracies on a
            batch after its update, and "val_acc_history", on X_val: at the first iteration, and whenever the
            number of the iteration is a multiple of max(N / batch_size, 1).
        """
        X, y = np.asarray(X), np.asarray(y)
        rows, labels = as_rows(X), as_labels(y, len(X))
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        in_kernels = getattr(self.loss, "__func__", None) is TwoLayerNet.loss
        descent = _Descent(self.params, batch_size) if in_kernels else None
        epoch = max(len(X) / batch_size, 1)
        losses, train_accs, val_accs = [], [], []
        try:
            for it in range(num_iters):
                batch = np.random.choice(len(X), batch_size).astype(np.intp, copy=False)
                if in_kernels:
                    loss = descent.step(rows, labels, batch, learning_rate, 2 * reg)
                else:
                    loss, grads = self.loss(X[batch], y=y[batch], reg=reg)
                    for name, gradient in grads.items():
                        self.params[name] -= learning_rate * gradient
                losses.append(loss)
                if verbose and it % PRINT_EVERY == 0:
                    print(f"iteration {it} / {num_iters}: loss {loss:f}")
                if it % epoch == 0:
                    if in_kernels:
                        descent.store()
                    train_accs.append(np.mean(self.predict(X[batch]) == y[batch]))
                    val_accs.append(np.mean(self.predict(X_val) == y_val))
                    learning_rate *= learning_rate_decay
        finally:  # Ctrl-C, too, keeps what was learned
            if in_kernels:
                descent.store()
        return {"loss_history": losses, "train_acc_history": train_accs, "val_acc_history": val_accs}

    def predict(self, X):
        """The class of the highest score of each row of X (N, D); the first of equals."""
        return two_layer_loss(self.params, X, None, 0).argmax(axis=1)


class _Descent:
    """Descent on parameters as the kernels want them, (H, D) and (C, H), in arrays allocated once."""

    def __init__(self, params, batch_size):
        self.params = params
        self.weights = [_transposed(params[name]) for name in ("W1", "W2")]
        self.biases = [np.array(params[name], np.float64) for name in ("b1", "b2")]
        self.gradients = [_transposed(params[name]) for name in ("W1", "W2")]
        self.bias_gradients = [np.empty_like(b) for b in self.biases]
        self.hidden, self.scores = (np.empty((batch_size, len(b))) for b in self.biases)
        self.dhidden = np.empty_like(self.hidden)
        self.losses, self.share = np.empty(batch_size), np.full(batch_size, 1 / batch_size)

    def step(self, X, y, batch, learning_rate, alpha):
        """One step on the rows `batch`; the loss before it."""
        (W1, W2), (b1, b2) = self.weights, self.biases
        (dW1, dW2), (db1, db2) = self.gradients, self.bias_gradients
        penalty = alpha / 2 * (square_norm(W1) + square_norm(W2))
        _kernels.scores(X, batch, W1, b1, self.hidden)
        np.maximum(self.hidden, 0, out=self.hidden)
        _kernels.scores(self.hidden, None, W2, b2, self.scores)
        _kernels.cross_entropy_gradient(self.scores, y[batch], self.share, self.losses)
        _kernels.gradient(self.hidden, None, self.scores, dW2, db2)
        _kernels.scores(self.scores, None, np.ascontiguousarray(W2.T), None, self.dhidden)
        self.dhidden *= self.hidden > 0
        _kernels.gradient(X, batch, self.dhidden, dW1, db1)
        for W, b, dW, db in zip(self.weights, self.biases, self.gradients, self.bias_gradients, strict=True):
            _kernels.sgd_update(W, b, dW, db, learning_rate, alpha, None, None, True)
        return self.losses.mean() + penalty

    def store(self):
        """Write the parameters back."""
        for name, value in zip(("W1", "W2", "b1", "b2"), (*self.weights, *self.biases), strict=True):
            self.params[name][...] = value.T


def _transposed(W):
    out = _kernels.padded(W.shape[1], W.shape[0], np.float64)
    out[...] = W.T
    return out
