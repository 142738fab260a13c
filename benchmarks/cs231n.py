"""CS231n's first assignment on softline.cs231n and on NumPy: checked first, then timed.

    python benchmarks/cs231n.py --data-dir DIR    # DIR holds cifar-10-batches-py; or set SOFTLINE_DATA

The NumPy side is what a good student hands in: vectorised, float64, no loop over rows or classes. Both sides
train from the same seed on the same rows, CIFAR-10 as the notebooks prepare it (49,000 rows, the mean image
subtracted, a column of ones for the linear classifiers), and must give the same losses to rounding; if not:
exit 1, no times. Then they take turns in rounds, with a pause before each turn, for idle threads to fall
asleep. Medians are printed, and the median of the rounds' ratios.
"""

import argparse
import os
import sys
import time

import numpy as np

from softline import _kernels
from softline.cs231n.classifiers import KNearestNeighbor, LinearSVM, Softmax, fc_net, neural_net
from softline.cs231n.solver import Solver
from softline.datasets import load_cifar10

PAUSE = 0.3  # seconds
SEED = 0
LINEAR = {"softmax": (1e-7, 2.5e4), "svm": (1e-7, 2.5e4)}  # learning rate, reg


# ---- NumPy -----------------------------------------------------------------------------------------------


def softmax_loss(scores, y):
    """Mean cross-entropy and its gradient to the scores."""
    rows = np.arange(len(y))
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[rows, y]).sum() / len(y)
    p[rows, y] -= 1
    return loss, p / len(y)


def svm_loss(scores, y):
    """Mean multiclass hinge loss and its gradient to the scores."""
    rows = np.arange(len(y))
    margins = np.maximum(0, scores - scores[rows, y][:, np.newaxis] + 1)
    margins[rows, y] = 0
    dscores = (margins > 0).astype(float)
    dscores[rows, y] = -dscores.sum(axis=1)
    return margins.sum() / len(y), dscores / len(y)


def train_linear(data_loss, X, y, learning_rate, reg, num_iters, batch_size=200):
    """Weights and losses of a linear classifier."""
    W = 0.001 * np.random.randn(X.shape[1], y.max() + 1)
    losses = []
    for _ in range(num_iters):
        batch = np.random.choice(len(X), batch_size)
        X_batch, y_batch = X[batch], y[batch]
        loss, dscores = data_loss(X_batch.dot(W), y_batch)
        losses.append(loss + reg * np.sum(W * W))
        W -= learning_rate * (X_batch.T.dot(dscores) + 2 * reg * W)
    return losses, W


def distances(X, X_train):
    """Euclidean, by (x - y)^2 = x^2 - 2 x y + y^2."""
    squares = np.sum(X**2, axis=1)[:, np.newaxis] - 2 * X.dot(X_train.T) + np.sum(X_train**2, axis=1)
    return np.sqrt(np.maximum(squares, 0))


def two_layer_loss(params, X, y, alpha, to_X=False):
    """Loss with the penalty alpha/2 sum(W * W), and gradients."""
    hidden = np.maximum(0, X.dot(params["W1"]) + params["b1"])
    scores = hidden.dot(params["W2"]) + params["b2"]
    if y is None:
        return scores
    loss, dscores = softmax_loss(scores, y)
    dhidden = dscores.dot(params["W2"].T) * (hidden > 0)
    if to_X:
        dhidden.dot(params["W1"].T)
    loss += alpha / 2 * (np.sum(params["W1"] ** 2) + np.sum(params["W2"] ** 2))
    return loss, {
        "W1": X.T.dot(dhidden) + alpha * params["W1"],
        "b1": dhidden.sum(axis=0),
        "W2": hidden.T.dot(dscores) + alpha * params["W2"],
        "b2": dscores.sum(axis=0),
    }


class NumpyNet(neural_net.TwoLayerNet):
    """Trains by a loss of its own, on NumPy."""

    def loss(self, X, y=None, reg=0.0):
        return two_layer_loss(self.params, X, y, 2 * reg)

    def predict(self, X):
        return self.loss(X).argmax(axis=1)


class NumpySolverNet(fc_net.TwoLayerNet):
    """The same for a Solver; of modular layers, so that the gradient to X is computed, too."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.params = {name: np.ascontiguousarray(value) for name, value in self.params.items()}

    def loss(self, X, y=None):
        return two_layer_loss(self.params, X.reshape(len(X), -1), y, self.reg, to_X=True)


# ---- tasks: each returns a function of a scale of the work that gives the numbers to compare ---------------


def linear(name, X, y):
    Classifier, data_loss = {"softmax": (Softmax, softmax_loss), "svm": (LinearSVM, svm_loss)}[name]
    rate, reg = LINEAR[name]

    def softline(num_iters):
        model = Classifier()
        return model.train(X, y, rate, reg, num_iters), model.W

    return softline, lambda num_iters: train_linear(data_loss, X, y, rate, reg, num_iters)


def neighbors(Q, X, y):
    model = KNearestNeighbor()
    model.train(X, y)
    return lambda _: [model.compute_distances_no_loops(Q)], lambda _: [distances(Q, X)]


def network(X, y, X_val, y_val):
    def run(Net, num_iters):
        net = Net(X.shape[1], 50, 10)
        history = net.train(X, y, X_val, y_val, learning_rate=1e-4, reg=0.25, num_iters=num_iters)
        return history["loss_history"], net.params["W1"], net.params["W2"]

    return lambda n: run(neural_net.TwoLayerNet, n), lambda n: run(NumpyNet, n)


def solver(X, y, X_val, y_val):
    def run(Net, num_iters):
        data = {
            "X_train": X[: 100 * num_iters],
            "y_train": y[: 100 * num_iters],
            "X_val": X_val,
            "y_val": y_val,
        }
        net = Net(X.shape[1], 100, 10, reg=0.25)
        options = {"optim_config": {"learning_rate": 1e-4}, "num_epochs": 1, "verbose": False}
        training = Solver(net, data, **options)
        training.train()
        return training.loss_history, net.params["W1"], net.params["W2"]

    return lambda n: run(fc_net.TwoLayerNet, n), lambda n: run(NumpySolverNet, n)


# ---- checks and clocks -----------------------------------------------------------------------------------


def seeded(run, size):
    np.random.seed(SEED)
    return run(size)


def agree(run_softline, run_numpy, size):
    """Whether both give the same numbers to rounding, which a training lets grow."""
    pairs = zip(seeded(run_softline, size), seeded(run_numpy, size), strict=True)
    return all(np.allclose(a, b, rtol=1e-8, atol=1e-10 * np.abs(b).max()) for a, b in pairs)


def clock(run, size):
    time.sleep(PAUSE)
    start = time.perf_counter()
    seeded(run, size)
    return time.perf_counter() - start


def peak():
    """Most float64 flops a second that this machine does, in registers, on all threads."""
    rounds, n_threads = 2_000_000, _kernels.max_threads()
    best = 0
    for _ in range(10):
        start = time.perf_counter()
        flops = _kernels.multiply_add(True, rounds, n_threads)
        best = max(best, flops / (time.perf_counter() - start))
    return best


def prepare(data_dir):
    """Rows and labels for training and validation, the mean image subtracted; and the raw pixels."""
    data = load_cifar10(data_dir, validation_fraction=0)
    X = data.X_train - data.X_train[:49_000].mean(axis=0)
    return X[:49_000], data.y_train[:49_000], X[49_000:], data.y_train[49_000:], data


def main(arguments=None):
    """Check, time and print; 0 if the checks hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default=os.environ.get("SOFTLINE_DATA", "data"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", help="some of them: softmax svm knn network solver")
    options = parser.parse_args(arguments)
    X, y, X_val, y_val, data = prepare(options.data_dir)
    with_ones = np.hstack([X, np.ones((len(X), 1))])
    tasks = {  # what it is, its two sides, and how many iterations to check and to time
        "softmax": ("Softmax, 1500 iterations", linear("softmax", with_ones, y), 200, 1500),
        "svm": ("LinearSVM, 1500 iterations", linear("svm", with_ones, y), 200, 1500),
        "knn": (
            "kNN, 500 x 5000 distances",
            neighbors(
                data.X_test[:500].astype(float), data.X_train[:5000].astype(float), data.y_train[:5000]
            ),
            1,
            1,
        ),
        "network": (
            "TwoLayerNet to 2020, H = 50, 500 iterations",
            network(X, y, X_val, y_val),
            100,
            500,
        ),
        "solver": (
            "TwoLayerNet from 2021, H = 100, Solver, 490 steps",
            solver(X, y, X_val, y_val),
            50,
            490,
        ),
    }
    width = max(len(name) for name, *_ in tasks.values())
    print(f"{'seconds':{width}}  softline    NumPy   ratio")
    for key in options.tasks or tasks:
        name, sides, check_size, size = tasks[key]
        if not agree(*sides, check_size):
            print(f"{name}: the results differ", file=sys.stderr)
            return 1
        times = np.array([[clock(run, size) for run in sides] for _ in range(options.rounds)])
        ours, theirs = np.median(times, axis=0)
        print(
            f"{name:{width}}  {ours:8.3f} {theirs:8.3f} {np.median(times[:, 1] / times[:, 0]):6.1f}x",
            flush=True,
        )
    rate, flops = peak(), 1500 * 4 * 200 * X.shape[1] * 10
    print(f"float64 peak {rate / 1e9:.0f} GFLOP/s: Softmax takes {flops / rate:.3f} s at least")
    return 0


if __name__ == "__main__":
    sys.exit(main())
