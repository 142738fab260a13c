"""Stochastic gradient descent on a model of layers: the course's ``solver.py``."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from softline._typing import Array
from softline.cs231n import optim

__all__ = ["Solver"]

DEFAULTS: dict[str, Any] = {
    "update_rule": "sgd",
    "optim_config": {},
    "lr_decay": 1.0,
    "batch_size": 100,
    "num_epochs": 10,
    "num_train_samples": 1000,
    "num_val_samples": None,
    "checkpoint_name": None,
    "print_every": 10,
    "verbose": True,
}


class Solver:
    """Trainer of a model with ``params``, a dict of arrays, and ``loss(X, y=None)``.

    Without y, ``model.loss`` returns scores (N, C); with it the loss and a dict of gradients. Batches are
    drawn by np.random.choice, with replacement.

    Parameters
    ----------
    model : object
    data : dict
        "X_train", "y_train", "X_val" and "y_val".
    update_rule : str, default="sgd"
        A function of `softline.cs231n.optim`.
    optim_config : dict, default={}
        Its hyper-parameters; each parameter of the model has a copy.
    lr_decay : float, default=1.0
        The learning rate is multiplied with it after each epoch.
    batch_size : int, default=100
    num_epochs : int, default=10
    num_train_samples : int or None, default=1000
        Training rows, drawn anew each time, on which to take the training accuracy; None for all.
    num_val_samples : int or None, default=None
        The same of the validation rows.
    checkpoint_name : str or None, default=None
        Each accuracy leaves a pickle of model and histories in ``<checkpoint_name>_epoch_<epoch>.pkl``.
    print_every : int, default=10
        Iterations from one printed loss to the next.
    verbose : bool, default=True
        Print losses and accuracies.

    Attributes
    ----------
    loss_history : list of float
        Of each batch, before its update.
    train_acc_history, val_acc_history : list of float
        After the first iteration, after each epoch and after the last iteration.
    best_val_acc : float
    best_params : dict
        Copies of the parameters that reached it.
    epoch : int
        Epochs completed.
    """

    X_train: Array
    y_train: Array
    X_val: Array
    y_val: Array
    update_rule: Any  # the name, later the function
    optim_config: dict[str, Any]
    lr_decay: float
    batch_size: int
    num_epochs: int
    num_train_samples: int | None
    num_val_samples: int | None
    checkpoint_name: str | None
    print_every: int
    verbose: bool

    def __init__(self, model: Any, data: Mapping[str, Array], **kwargs: Any) -> None:
        unknown = kwargs.keys() - DEFAULTS.keys()
        if unknown:
            raise ValueError(
                f"Unrecognized arguments {', '.join(sorted(unknown))}; known: {', '.join(DEFAULTS)}"
            )
        self.model = model
        self.X_train, self.y_train = data["X_train"], data["y_train"]
        self.X_val, self.y_val = data["X_val"], data["y_val"]
        for name, value in (DEFAULTS | kwargs).items():
            setattr(self, name, value)
        if self.update_rule not in optim.__all__:
            raise ValueError(f"Invalid update_rule {self.update_rule!r}; known: {', '.join(optim.__all__)}")
        self.update_rule = getattr(optim, self.update_rule)
        self.epoch: int = 0
        self.best_val_acc: float = 0
        self.best_params: dict[str, Array] = {}
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.optim_configs: dict[str, dict[str, Any]] = {
            name: dict(self.optim_config) for name in self.model.params
        }

    def _step(self) -> None:
        batch = np.random.choice(len(self.X_train), self.batch_size)
        loss, grads = self.model.loss(self.X_train[batch], self.y_train[batch])
        self.loss_history.append(loss)
        for name, w in self.model.params.items():
            self.model.params[name], self.optim_configs[name] = self.update_rule(
                w, grads[name], self.optim_configs[name]
            )

    def check_accuracy(
        self, X: Array, y: Array, num_samples: int | None = None, batch_size: int = 100
    ) -> float:
        """Accuracy: share of the rows of X in which the label y has the highest score.

        Parameters
        ----------
        X : ndarray of shape (N, d_1, ..., d_k)
        y : ndarray of shape (N,)
        num_samples : int or None, default=None
            Number of rows to draw, with replacement, if X has more.
        batch_size : int, default=100
            Rows that are scored at a time.
        """
        if num_samples is not None and len(X) > num_samples:
            rows = np.random.choice(len(X), num_samples)
            X, y = X[rows], y[rows]
        batches = (X[first : first + batch_size] for first in range(0, len(X), batch_size))
        predicted = np.concatenate([np.argmax(self.model.loss(batch), axis=1) for batch in batches])
        return np.mean(predicted == y)

    def train(self) -> None:
        """Train for `num_epochs`; the model is left with the parameters of the best validation accuracy."""
        epoch_length = max(len(self.X_train) // self.batch_size, 1)
        num_iterations = self.num_epochs * epoch_length
        for t in range(num_iterations):
            self._step()
            if self.verbose and t % self.print_every == 0:
                print(f"(Iteration {t + 1} / {num_iterations}) loss: {self.loss_history[-1]:f}")
            epoch_ends = (t + 1) % epoch_length == 0
            if epoch_ends:
                self.epoch += 1
                for config in self.optim_configs.values():
                    config["learning_rate"] *= self.lr_decay
            if epoch_ends or t == 0:
                self._take_accuracies()
        if self.best_params:
            self.model.params = self.best_params

    def _take_accuracies(self) -> None:
        train_acc = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        val_acc = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        self.train_acc_history.append(train_acc)
        self.val_acc_history.append(val_acc)
        self._save_checkpoint()
        if self.verbose:
            epochs = f"(Epoch {self.epoch} / {self.num_epochs})"
            print(f"{epochs} train acc: {train_acc:f}; val_acc: {val_acc:f}")
        if val_acc > self.best_val_acc:
            self.best_val_acc = val_acc
            self.best_params = {name: w.copy(order="K") for name, w in self.model.params.items()}

    def _save_checkpoint(self) -> None:
        if self.checkpoint_name is None:
            return
        names = ("model", *DEFAULTS.keys() - {"checkpoint_name", "print_every", "verbose"})
        names += ("epoch", "loss_history", "train_acc_history", "val_acc_history")
        filename = f"{self.checkpoint_name}_epoch_{self.epoch}.pkl"
        if self.verbose:
            print(f'Saving checkpoint to "{filename}"')
        with open(filename, "wb") as file:
            pickle.dump({name: getattr(self, name) for name in names}, file)
