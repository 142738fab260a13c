"""One epoch of a multi-layer perceptron in softline and in its peers: checked first, then timed. Linux only.

    python benchmarks/mlp.py
    python benchmarks/mlp.py --hidden 512 256 --repeats 3

The work is an epoch of shuffled mini-batch descent with momentum on rows of CIFAR-10's shape, relu units, a
softmax on top, the loss of each batch recorded, from He's weights, with rows in an order drawn beforehand and
the same for all. X is standard normal, y the answers of a random linear teacher. How it is measured is told
in peers.py, whose processes and turns these are: on some thousand rows everyone's loss and weights must match
``softline.reference`` in float64, on all rows softline's; if not: exit 1, no times.

Peers are written for speed. scikit-learn is given rows in order, so that it takes slices where the others
gather.
"""

import argparse
import itertools
import json
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from peers import (
    PAUSE,
    Implementation,
    Worker,
    difference,
    digits,
    installed,
    limit_threads,
    machine,
    pick_cpus,
    show,
)

MOMENTUM = 0.9
CHECK_ROWS = 4_437  # the last batch ragged


@dataclass(frozen=True)
class Task:
    """What to compute."""

    hidden: tuple
    n_rows: int = 50_000
    n_features: int = 3072
    n_classes: int = 10
    batch_size: int = 256
    dtype: str = "float32"
    learning_rate: float = 1e-3
    calls: int = 1

    @property
    def n_steps(self):
        return -(-self.n_rows // self.batch_size)

    @property
    def tolerance(self):
        """Of loss and weights, relative to the largest: roundings of a step, and a relu that tips over."""
        return 64 * self.n_steps * np.finfo(self.dtype).eps

    @property
    def operations(self):
        """Floating-point operations of the matrix products: forward, to the weights, to the units below."""
        sizes = self.n_features, *self.hidden, self.n_classes
        products = [n_in * n_out for n_in, n_out in itertools.pairwise(sizes)]
        return 2 * self.n_rows * (3 * sum(products) - products[0])

    def data(self):
        """X (N, D), labels (N,), layers of W (n_out, n_in) and b (n_out,), and the order of the rows (N,)."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.n_rows, self.n_features), self.dtype)
        y = (X @ rng.standard_normal((self.n_features, self.n_classes), self.dtype)).argmax(axis=1)
        layers = []
        for n_in, n_out in itertools.pairwise((self.n_features, *self.hidden, self.n_classes)):
            W = rng.standard_normal((n_out, n_in), self.dtype) * np.sqrt(2 / n_in, dtype=self.dtype)
            layers.append((W, np.zeros(n_out, self.dtype)))
        return X, y, layers, rng.permutation(self.n_rows)


# Each function prepares an implementation and returns its run(), which trains an epoch from the given layers
# and returns the mean loss of the batches and all weights.


def softline_epoch(task, X, y, layers, order):
    from softline import _kernels, optimizers

    optimizer, y, rates = optimizers.Momentum(MOMENTUM), y.astype(np.int32), rates_of(task)
    weights = [(_kernels.padded(*W.shape, W.dtype), np.empty_like(b)) for W, b in layers]
    states = [optimizers.State(optimizer, W) for W, _ in weights]
    arena = _kernels.Arena()

    def run():
        for (W, b), (first_W, first_b), state in zip(weights, layers, states, strict=True):
            W[...], b[...], state.W[...], state.b[...] = first_W, first_b, 0, 0
        losses = _kernels.epoch(
            X,
            y,
            None,
            order,
            weights,
            rates,
            task.batch_size,
            np.zeros(task.n_steps),
            scales_of(task, X),
            optimizer=optimizer,
            states=states,
            arena=arena,
        )
        return losses.mean(), *itertools.chain(*weights)

    return run


def rates_of(task):
    return np.full(task.n_steps, task.learning_rate)


def scales_of(task, X):
    """The weight of a row in the mean of its batch."""
    sizes = np.minimum(task.batch_size, len(X) - task.batch_size * np.arange(task.n_steps))
    return (1 / sizes).astype(X.dtype)


def reference_epoch(task, X, y, layers, order):
    """In float64."""
    from softline import optimizers, reference

    optimizer, X, y = optimizers.Momentum(MOMENTUM), X.astype(float), y.astype(np.int32)

    def run():
        weights = [(W.astype(float), b.astype(float)) for W, b in layers]
        states = [optimizers.State(optimizer, W) for W, _ in weights]
        losses = reference.epoch(
            X,
            y,
            None,
            order,
            weights,
            rates_of(task),
            task.batch_size,
            np.zeros(task.n_steps),
            scales_of(task, X),
            optimizer=optimizer,
            states=states,
        )
        return losses.mean(), *itertools.chain(*weights)

    return run


def torch_epoch(task, X, y, layers, order):
    """By hand: buffers allocated beforehand, no autograd."""
    import torch

    X, y, order = map(torch.from_numpy, (X, y, order))
    first = [(torch.from_numpy(W), torch.from_numpy(b)) for W, b in layers]
    weights = [(W.clone(), b.clone()) for W, b in first]
    velocities = [(torch.zeros_like(W), torch.zeros_like(b)) for W, b in first]
    sizes = [len(b) for _, b in layers]
    buffers = {}  # by rows of the batch: the last one may be ragged
    for m in {task.batch_size, task.n_rows % task.batch_size or task.batch_size}:
        new = partial(torch.empty, m, dtype=X.dtype)
        buffers[m] = (
            [
                torch.empty((m, task.n_features), dtype=X.dtype),
                *(torch.empty((m, size), dtype=X.dtype) for size in sizes),
            ],
            new(),
        )

    @torch.inference_mode()
    def run():
        for target, source in zip(itertools.chain(*weights), itertools.chain(*first), strict=True):
            target.copy_(source)
        for velocity in itertools.chain(*velocities):
            velocity.zero_()
        total = torch.zeros((), dtype=torch.float64)
        for idx in order.split(task.batch_size):
            units, log_p = buffers[len(idx)]
            torch.index_select(X, 0, idx, out=units[0])
            for i, (W, b) in enumerate(weights):
                torch.addmm(b, units[i], W.T, out=units[i + 1])
                if i < len(weights) - 1:
                    units[i + 1].relu_()
            labels = y[idx].unsqueeze(1)
            delta = torch.log_softmax(units[-1], 1)
            torch.gather(delta, 1, labels, out=log_p.unsqueeze(1))
            total -= log_p.mean()
            delta.exp_().scatter_add_(1, labels, torch.full_like(labels, -1, dtype=X.dtype)).div_(len(idx))
            for i in reversed(range(len(weights))):
                (W, b), (mW, mb) = weights[i], velocities[i]
                below = (delta @ W).mul_(units[i] > 0) if i > 0 else None
                mW.addmm_(delta.T, units[i], beta=MOMENTUM)
                mb.mul_(MOMENTUM).add_(delta.sum(0))
                W.add_(mW, alpha=-task.learning_rate)
                b.add_(mb, alpha=-task.learning_rate)
                delta = below
        return total.item() / task.n_steps, *(a.numpy() for layer in weights for a in layer)

    return run


def torch_eager_epoch(task, X, y, layers, order):
    """The usual training loop."""
    import torch

    X, y, order = map(torch.from_numpy, (X, y, order))
    modules = [torch.nn.Linear(W.shape[1], W.shape[0], dtype=X.dtype) for W, _ in layers]
    model = torch.nn.Sequential(*(m for linear in modules for m in (linear, torch.nn.ReLU())))[:-1]

    def run():
        for linear, (W, b) in zip(modules, layers, strict=True):
            linear.weight.data.copy_(torch.from_numpy(W))
            linear.bias.data.copy_(torch.from_numpy(b))
        optimizer = torch.optim.SGD(model.parameters(), lr=task.learning_rate, momentum=MOMENTUM)
        total = torch.zeros((), dtype=torch.float64)
        for idx in order.split(task.batch_size):
            loss = torch.nn.functional.cross_entropy(model(X[idx]), y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total.item() / task.n_steps, *(p.detach().numpy() for p in model.parameters())

    return run


def jax_epoch(task, X, y, layers, order, scan=True):
    """With `scan` an epoch is one compiled call; without, each step is, weights and velocities donated."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", task.dtype == "float64")
    X, y, order = jnp.asarray(X), jnp.asarray(y, np.int32), jnp.asarray(order, np.int32)

    def loss_of(weights, x, y):
        for W, b in weights[:-1]:
            x = jax.nn.relu(x @ W.T + b)
        W, b = weights[-1]
        log_p = jax.nn.log_softmax(x @ W.T + b)
        return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean()

    def step(state, X, y, idx):
        weights, velocities = state
        # Without the promise, XLA compares every index with the bounds.
        x = X.at[idx].get(mode="promise_in_bounds")
        loss, gradients = jax.value_and_grad(loss_of)(weights, x, y[idx])
        velocities = jax.tree.map(lambda m, g: MOMENTUM * m + g, velocities, gradients)
        return (jax.tree.map(lambda w, m: w - task.learning_rate * m, weights, velocities), velocities), loss

    one_step = jax.jit(step, donate_argnums=0)

    @partial(jax.jit, donate_argnums=0)
    def epoch(state, X, y, batches):
        return jax.lax.scan(lambda state, idx: step(state, X, y, idx), state, batches)

    full = task.n_rows - task.n_rows % task.batch_size

    def run():
        weights = jax.tree.map(jnp.array, layers)
        state, losses = (weights, jax.tree.map(jnp.zeros_like, weights)), []
        batches = order[:full].reshape(-1, task.batch_size)
        if scan:
            state, of_epoch = epoch(state, X, y, batches)
            losses.append(of_epoch)
        else:
            for idx in batches:
                state, loss = one_step(state, X, y, idx)
                losses.append(loss[None])
        if full < task.n_rows:
            state, loss = one_step(state, X, y, order[full:])
            losses.append(loss[None])
        return float(jnp.concatenate(losses).mean()), *jax.tree.leaves(jax.block_until_ready(state[0]))

    return run


def sklearn_epoch(task, X, y, layers, order):
    from sklearn.neural_network import MLPClassifier

    X, y = X[order], y[order]
    model = MLPClassifier(
        task.hidden,
        solver="sgd",
        alpha=0,
        batch_size=task.batch_size,
        learning_rate_init=task.learning_rate,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        shuffle=False,
    )

    def run():
        if not hasattr(model, "coefs_"):
            model.partial_fit(X[: task.batch_size], y[: task.batch_size], classes=np.arange(task.n_classes))
        model.coefs_ = [np.ascontiguousarray(W.T) for W, _ in layers]
        model.intercepts_ = [b.copy() for _, b in layers]
        del model._optimizer  # and with it the velocities
        model.partial_fit(X, y)
        weights = [(coef.T, b) for coef, b in zip(model.coefs_, model.intercepts_, strict=True)]
        return model.loss_, *itertools.chain(*weights)

    return run


EPOCHS = {
    "softline": Implementation("softline", "softline", softline_epoch),
    "jax": Implementation("JAX, scan", "jax", jax_epoch),
    "jax-step": Implementation("JAX, steps", "jax", partial(jax_epoch, scan=False)),
    "torch": Implementation("PyTorch by hand", "torch", torch_epoch),
    "torch-eager": Implementation("PyTorch eager", "torch", torch_eager_epoch),
    "sklearn": Implementation("scikit-learn", "sklearn", sklearn_epoch),
    "reference": Implementation("", "softline", reference_epoch),
}


def check(workers, expected_from, task):
    """Load `task` everywhere; exit unless loss and weights agree. Returns the largest difference."""
    results = {}
    for name, worker in workers.items():
        worker("load", task)
        results[name] = worker("result")
    worst = 0
    for name, found in results.items():
        # scikit-learn's loss is the mean over the rows, not over the batches.
        skip = 1 if name == "sklearn" else 0
        error = difference(found[skip:], results[expected_from][skip:])
        worst = max(worst, error)
        if not error <= task.tolerance:
            sys.exit(f"{workers[name].title} differs from {expected_from} by {error:.1e}; {task}")
    return worst


def parse():
    parser = argparse.ArgumentParser(description="An epoch of an MLP in softline and in its peers.")
    peers = [name for name in EPOCHS if name not in ("softline", "reference")]
    parser.add_argument("--hidden", nargs="*", type=int, default=[100], metavar="N", help="default 100")
    parser.add_argument("--rows", type=int, default=50_000, metavar="N", help="default 50000")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=int, metavar="N", help="and CPUs; default: one for each core")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="rounds; default 7")
    parser.add_argument("--peers", nargs="+", choices=peers, default=peers, metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measured time to FILE")
    return parser.parse_args()


def main():
    args = parse()
    cpus = pick_cpus(args.threads)
    limit_threads(cpus)
    wanted = {*args.peers, "softline", "reference"}
    implementations = installed({name: EPOCHS[name] for name in EPOCHS if name in wanted})
    workers = {name: Worker(name, implementation) for name, implementation in implementations.items()}
    task = Task(tuple(args.hidden), n_rows=args.rows, dtype=args.dtype)
    worst = check(workers, "reference", replace(task, n_rows=min(task.n_rows, CHECK_ROWS)))
    del workers["reference"]
    worst = max(worst, check(workers, "softline", task))
    print(f"{len(workers)} implementations agree within {worst:.0e}", file=sys.stderr)
    seconds = {name: [] for name in workers}
    for turn in range(args.repeats):
        names = list(workers)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(PAUSE)
            seconds[name].append(workers[name]("seconds"))
    median = {name: float(np.median(turns)) for name, turns in seconds.items()}
    rows = [["", "ms, median", "fastest", "GFLOP/s", "ratio"]]
    for name, turns in seconds.items():
        rate = task.operations / median[name] / 1e9
        ratio = median[name] / median["softline"]
        rows.append(
            [
                workers[name].title,
                digits(1e3 * median[name]),
                digits(1e3 * min(turns)),
                f"{rate:.0f}",
                f"{ratio:.2f}x",
            ]
        )
    show(rows, False)
    about = machine(cpus)
    if args.json:
        args.json.write_text(json.dumps({"machine": about, "seconds": seconds}, indent=1) + "\n")
    print("\n" + ", ".join(f"{name} {value}" for name, value in about.items()))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
