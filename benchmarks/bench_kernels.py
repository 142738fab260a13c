"""Each kernel and a whole epoch against the NumPy twin: checked first, then timed.

pytest benchmarks/bench_kernels.py --benchmark-disable-gc
"""

import numpy as np
import pytest

from softline import _kernels, reference

SHAPES = {  # rows, features, classes
    "CIFAR-10 50000x3072, C=10": (50_000, 3072, 10),
    "MNIST 60000x784, C=10": (60_000, 784, 10),
    "narrow 200000x64, C=5": (200_000, 64, 5),
    "wide 20000x512, C=1000": (20_000, 512, 1000),
}
BATCH = 256
WHO = {"softline": _kernels, "numpy": reference}


class Problem:
    def __init__(self, N, D, C):
        rng = np.random.default_rng(0)
        self.N, self.D, self.C = N, D, C
        self.X = rng.standard_normal((N, D), dtype=np.float32)
        self.y = rng.integers(0, C, N).astype(np.int32)
        self.order = rng.permutation(N)
        self.batch = self.order[:BATCH]
        self.W = _kernels.padded(C, D, np.float32)
        self.W[...] = 0.01 * rng.standard_normal((C, D))
        self.b = np.zeros(C, np.float32)
        self.scores = rng.standard_normal((BATCH, C), dtype=np.float32)


@pytest.fixture(scope="module", params=SHAPES)
def shape(request):
    return request.param


@pytest.fixture(scope="module")
def problem(shape):
    return Problem(*SHAPES[shape])


@pytest.fixture(params=WHO)
def who(request):
    return request.param


def check(runs, tolerance=1e-3):
    """Both implementations give the same numbers."""
    ours, theirs = (run() for run in runs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def test_scores(versus, problem, shape, who):
    p, out = problem, np.empty_like(problem.scores)

    def run(kernels):
        kernels.scores(p.X, p.batch, p.W, p.b, out)
        return [out.copy()]

    check([lambda: run(_kernels), lambda: run(reference)])
    kernels = WHO[who]
    moved = p.X[:BATCH].nbytes + p.W.nbytes + out.nbytes
    versus(
        "scores",
        shape,
        who,
        lambda: kernels.scores(p.X, p.batch, p.W, p.b, out),
        2 * BATCH * p.D * p.C,
        moved,
    )


def test_cross_entropy_gradient(versus, problem, shape, who):
    p, losses, weight = problem, np.empty(BATCH, np.float32), np.full(BATCH, 1 / BATCH, np.float32)
    y, scratch = p.y[p.batch], p.scores.copy()

    def run(kernels):
        np.copyto(scratch, p.scores)
        kernels.cross_entropy_gradient(scratch, y, weight, losses)
        return [scratch.copy(), losses.copy()]

    check([lambda: run(_kernels), lambda: run(reference)])
    kernels = WHO[who]
    versus(
        "cross_entropy_gradient",
        shape,
        who,
        lambda: kernels.cross_entropy_gradient(scratch, y, weight, losses),
        20 * BATCH * p.C,
        2 * scratch.nbytes,
    )


def test_gradient(versus, problem, shape, who):
    p, dW, db = problem, np.empty_like(problem.W), np.empty_like(problem.b)

    def run(kernels):
        kernels.gradient(p.X, p.batch, p.scores, dW, db)
        return [dW.copy(), db.copy()]

    check([lambda: run(_kernels), lambda: run(reference)])
    kernels = WHO[who]
    moved = p.X[:BATCH].nbytes + dW.nbytes + p.scores.nbytes
    versus(
        "gradient",
        shape,
        who,
        lambda: kernels.gradient(p.X, p.batch, p.scores, dW, db),
        2 * BATCH * p.D * p.C,
        moved,
    )


def test_step(versus, problem, shape, who):
    p, dW, db = problem, problem.W.copy(), np.ones_like(problem.b)

    def run(kernels):
        W, b = p.W.copy(), p.b.copy()
        kernels.step(W, b, dW, db, 0.1, 1e-4, None, None, True)
        return [W, b]

    check([lambda: run(_kernels), lambda: run(reference)])
    kernels, W, b = WHO[who], p.W.copy(), p.b.copy()
    versus(
        "step",
        shape,
        who,
        lambda: kernels.step(W, b, dW, db, 1e-6, 1e-4, None, None, True),
        4 * p.C * p.D,
        3 * dW.nbytes,
    )


def test_loss_gradient(versus, problem, shape, who):
    p, dW, db = problem, np.empty(problem.W.shape), np.empty(problem.b.shape)

    def run(kernels, n=None):
        loss = kernels.loss_gradient(p.X[:n], p.y[:n], None, p.W, p.b, dW, db)
        return [np.array(loss), dW.copy(), db.copy()]

    check([lambda: run(_kernels, 5000), lambda: run(reference, 5000)])
    versus("loss_gradient", shape, who, lambda: run(WHO[who]), 4 * p.N * p.D * p.C, p.X.nbytes)


def candidate_losses_by_one_product(X, y, sample_weight, Ws, bs, losses):
    """What NumPy does best: the twin passes over X once a candidate."""
    K, C, D = Ws.shape
    scores = (X @ Ws.reshape(K * C, D).T).reshape(len(X), K, C)
    scores += bs
    own = np.take_along_axis(scores, y[:, None, None], axis=2)[:, :, 0]
    largest = scores.max(axis=2)
    scores -= largest[:, :, None]
    np.exp(scores, out=scores)
    losses[...] = np.mean(np.log(scores.sum(axis=2)) - (own - largest), axis=0, dtype=np.float64)


def test_candidate_losses(versus, problem, shape, who):
    p, K = problem, 10
    if p.C > 100:
        pytest.skip("nobody guesses that many weights")
    Ws = _kernels.padded(K * p.C, p.D, np.float32).reshape(K, p.C, p.D)
    Ws[...] = 0.01 * np.random.default_rng(0).standard_normal(Ws.shape)
    bs, losses = np.zeros((K, p.C), np.float32), np.empty(K)
    kernels = {"softline": _kernels.candidate_losses, "numpy": candidate_losses_by_one_product}

    def run(candidate_losses, n=None):
        candidate_losses(p.X[:n], p.y[:n], None, Ws, bs, losses)
        return [losses.copy()]

    check([lambda kernel=kernel: run(kernel, 5000) for kernel in kernels.values()])
    operations = 2 * p.N * K * p.D * p.C
    versus("losses of 10 candidates", shape, who, lambda: run(kernels[who]), operations, p.X.nbytes)


def test_epoch(versus, problem, shape, who):
    p = problem
    rates = np.full(-(-p.N // BATCH), 1e-3)

    def run(epoch, order):
        layer = p.W.copy(), p.b.copy()
        of_batches = rates[: -(-len(order) // BATCH)]
        scales = np.full(len(of_batches), 1 / BATCH, np.float32)
        args = of_batches, BATCH, np.full(len(of_batches), 1e-4), scales
        return [epoch(p.X, p.y, None, order, [layer], *args), *layer]

    epochs = {"softline": _kernels.epoch, "numpy": reference.epoch}
    check([lambda epoch=epoch: run(epoch, p.order[:5000]) for epoch in epochs.values()])
    operations = 4 * p.N * p.D * p.C
    versus("epoch, batch 256", shape, who, lambda: run(epochs[who], p.order), operations, p.X.nbytes)
