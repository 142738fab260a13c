"""The kernels of networks against their twins, and backpropagation against numerical gradients."""

from itertools import pairwise

import numpy as np
import pytest
from kernel_harness import (
    dtypes,
    isas,
    linear_epoch,
    network_epoch,
    network_gradient,
    same_for_any_threads,
    wide,
)

from softline import _kernels, optimizers, reference
from softline._kernels.rows import Rows

ULPS = {np.float32: 8, np.float64: 1e-13 / np.finfo(np.float64).eps}
SHAPES = [(n, D, C) for n in (0, 1, 15, 16, 17, 31, 33) for D, C in ((1, 2), (17, 3), (100, 10))]
SHAPES += [(33, D, C) for D in (2, 15, 16, 33, 784) for C in (1, 4, 5, 9, 11, 31)]
SHAPES += [(70, 64, 77), (17, 3073, 3), (5, 64, 1000)]
# Units of the layers; the last are the outputs.
NETWORKS = [
    (1, 2),
    (20, 3),
    (3073, 17, 3),
    (40, 33, 10),
    (100, 16, 15, 1),
    (64, 7, 31, 2, 77),
    (784, 100, 10),
]
OPTIMIZERS = [
    optimizers.SGD(),
    optimizers.Momentum(),
    optimizers.Nesterov(0.5),
    optimizers.Adam(),
    optimizers.Adam(eps_hat=True),
    optimizers.AdamW(),
    optimizers.RMSProp(),
    optimizers.AdaGrad(),
    optimizers.ASGD(t0=2),
]

activations = pytest.mark.parametrize("activation", _kernels.ACTIVATIONS)


class Problem:
    """Rows, labels, weights and layers; `several` is for outputs that are classes by themselves."""

    def __init__(self, sizes, dtype, n=101, several=None):
        rng = np.random.default_rng([n, *sizes])
        several = sizes[-1] == 1 if several is None else several
        self.X = rng.standard_normal((n + 3, sizes[0])).astype(dtype)
        shape = (n + 3, sizes[-1]) if several else n + 3
        self.y = rng.integers(0, 2 if several else sizes[-1], shape).astype(np.int32)
        self.sample_weight = (0.1 + rng.random(n + 3)).astype(dtype)
        self.order = rng.permutation(n + 3)[:n]
        self.layers = [
            (
                (rng.standard_normal((n_out, n_in)) / np.sqrt(n_in)).astype(dtype),
                rng.random(n_out).astype(dtype),
            )
            for n_in, n_out in pairwise(sizes)
        ]

    def weights(self, dtype=None):
        """A copy of the layers."""
        return [tuple(np.array(a, dtype or a.dtype) for a in layer) for layer in self.layers]

    def gradients(self):
        return [tuple(np.full_like(a, np.nan) for a in layer) for layer in self.layers]


def flat(layers):
    return [a for layer in layers for a in layer]


# ---- kernels ---------------------------------------------------------------------------------------------


@isas
@dtypes
@pytest.mark.parametrize("transposed", [False, True])
def test_affine(isa, dtype, transposed):
    for n, D, C in SHAPES:
        rng = np.random.default_rng([n, D, C])
        A, b = rng.standard_normal((n, D + 3)).astype(dtype)[:, :D], rng.standard_normal(C).astype(dtype)
        W = rng.standard_normal((D, C) if transposed else (C, D)).astype(dtype)
        W = W.T if transposed else W
        for bias in (b, None):
            exact = np.empty((n, C))
            reference.affine(wide(A), wide(W), None if bias is None else wide(bias), exact)

            def run(n_threads, A=A, W=W, bias=bias, shape=(n, C)):
                out = np.full(shape, np.nan, dtype)
                _kernels.affine(A, W, bias, out, n_threads)
                return [out]

            (out,) = same_for_any_threads(run)
            magnitude = np.abs(wide(A)) @ np.abs(wide(W)).T + (0 if bias is None else np.abs(wide(bias)))
            assert np.all(np.abs(out - exact) <= ULPS[dtype] * np.finfo(dtype).eps * magnitude)


@isas
@dtypes
@activations
def test_activation(isa, dtype, activation):
    rng = np.random.default_rng(0)
    eps, limit = np.finfo(dtype).eps, np.finfo(dtype).max
    special = np.array([0, -0.0, 1e-30, -1e-30, 1e-3, -1e-3, 30, -30, limit, -limit, np.inf, -np.inf, np.nan])
    for n, units in ((0, 3), (1, 1), (17, 5), (33, 100)):
        Z = (3 * rng.standard_normal((n, units))).astype(dtype)
        if n == 33:
            Z[:13, 0] = special
        dA = rng.standard_normal((n, units)).astype(dtype)
        exact, exact_gradient = wide(Z), wide(dA)
        with np.errstate(under="ignore"):
            reference.activate(exact, activation)

        def run(n_threads, Z=Z, dA=dA):
            out, gradient = Z.copy(), dA.copy()
            _kernels.activate(out, activation, n_threads)
            _kernels.activation_gradient(out, activation, gradient, n_threads, keep=0.75)
            return out, gradient

        out, gradient = same_for_any_threads(run)
        # Below the smallest normal number, exp is 0.
        np.testing.assert_allclose(out, exact, rtol=6 * eps, atol=float(np.finfo(dtype).tiny))
        reference.activation_gradient(wide(out), activation, exact_gradient, keep=0.75)
        finite = np.isfinite(out)
        np.testing.assert_allclose(gradient[finite], exact_gradient[finite], rtol=6 * eps, atol=4 * eps)


@isas
@dtypes
def test_dropout_is_its_twin_to_the_bit(isa, dtype):
    for n, units in ((0, 3), (1, 1), (17, 5), (100, 130)):
        A = np.random.default_rng(0).standard_normal((n, units)).astype(dtype)
        for rate in (0.0, 0.25, 0.9):
            exact = A.copy()
            reference.dropout(exact, rate, 12345)

            def run(n_threads, A=A, rate=rate):
                out = A.copy()
                _kernels.dropout(out, rate, 12345, n_threads)
                return [out]

            (out,) = same_for_any_threads(run)
            assert out.tobytes() == exact.tobytes()


def test_dropout_drops_its_share_everywhere():
    ones = np.ones((4096, 64))
    for key in (0, 1, 2**32 - 1):
        A = ones.copy()
        _kernels.dropout(A, 0.3, key)
        dropped = A == 0
        assert set(np.unique(A)) == {0, 1 / 0.7}
        # Five standard deviations of a mean of 4096, or 64, draws.
        assert np.abs(dropped.mean(axis=0) - 0.3).max() < 5 * np.sqrt(0.21 / 4096)
        assert np.abs(dropped.mean(axis=1) - 0.3).max() < 5 * np.sqrt(0.21 / 64)
        # Units are dropped independently of each other, and rows of the rows before.
        correlations = np.corrcoef(dropped.T) - np.eye(64)
        assert np.abs(correlations).max() < 5.5 / np.sqrt(4096)
        assert abs(np.corrcoef(dropped[1:].ravel(), dropped[:-1].ravel())[0, 1]) < 5 / np.sqrt(dropped.size)


# ---- the whole network -----------------------------------------------------------------------------------


@isas
@dtypes
def test_scores(isa, dtype):
    for sizes in NETWORKS:
        p = Problem(sizes, dtype)
        for idx in (p.order, None, p.order[:0]):
            rows = len(p.X) if idx is None else len(idx)
            exact = np.empty((rows, sizes[-1]))
            reference.network_scores(wide(p.X), idx, p.weights(np.float64), "tanh", exact)

            def run(n_threads, p=p, idx=idx, shape=exact.shape):
                out = np.full(shape, np.nan, dtype)
                assert _kernels.network_scores(p.X, idx, p.layers, "tanh", out, n_threads) is True
                return [out]

            (out,) = same_for_any_threads(run)
            np.testing.assert_allclose(out, exact, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_tell_of_what_an_activation_hides(value):
    p = Problem((20, 9, 3), np.float64)
    out = np.empty((len(p.X), 3))
    p.X[40, 7] = value
    assert _kernels.network_scores(p.X, None, p.layers, "relu", out) is False
    assert _kernels.network_scores(p.X, np.arange(40), p.layers, "relu", out[:40]) is True


@isas
@dtypes
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_epoch(isa, dtype, dropout):
    """Every network and activation, ragged batches, sample weights; optimizers have a test of their own."""
    for i, sizes in enumerate(NETWORKS):
        activation = list(_kernels.ACTIVATIONS)[i % 5]
        p = Problem(sizes, dtype, several=sizes[-1] in (1, 77))
        weight = p.sample_weight if i % 2 else None

        def run(n_threads, module=_kernels, dtype=dtype, p=p, weight=weight, activation=activation):
            weights, optimizer = p.weights(dtype), optimizers.Momentum()
            states = [optimizers.State(optimizer, W) for W, _ in weights]
            losses = network_epoch(
                module,
                p.X.astype(dtype),
                p.y,
                None if weight is None else weight.astype(dtype),
                p.order,
                weights,
                np.linspace(0.05, 0.1, 3),
                40,
                0.5,
                activation,
                n_threads,
                optimizer=optimizer,
                states=states,
                dropout=dropout,
                seed=7,
            )
            assert [state.t for state in states] == [3] * len(states)
            return [losses, *flat(weights), *(state.W for state in states), *(state.b for state in states)]

        for found, exact in zip(
            same_for_any_threads(run), run(1, reference, np.float64, p, weight, activation), strict=True
        ):
            tolerance = 50 * ULPS[dtype] * np.finfo(dtype).eps
            np.testing.assert_allclose(found, exact, rtol=tolerance, atol=tolerance * np.abs(exact).max())


@dtypes
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_every_optimizer_moves_every_layer(dtype, optimizer):
    p = Problem((30, 20, 4), dtype)

    def run(module, dtype):
        weights = p.weights(dtype)
        states = [optimizers.State(optimizer, W) for W, _ in weights]
        for state, (W, b) in zip(states, weights, strict=True):
            if optimizer.averages:
                state.W[0], state.b[0] = W, b
        for _ in range(2):
            network_epoch(
                module,
                p.X.astype(dtype),
                p.y,
                None,
                p.order,
                weights,
                np.full(4, 0.02),
                32,
                0.5,
                "relu",
                optimizer=optimizer,
                states=states,
            )
        return [*flat(weights), *(state.W for state in states)]

    for found, exact in zip(run(_kernels, dtype), run(reference, np.float64), strict=True):
        tolerance = 1e4 * np.finfo(dtype).eps  # steps by the sign of small gradients magnify rounding
        np.testing.assert_allclose(found, exact, rtol=tolerance, atol=tolerance)


def test_the_size_of_chunks_and_calls_changes_no_bit():
    """A batch in many chunks, in few (threads share the cache), and an epoch of a call for each batch."""
    p = Problem((3072, 20, 3), np.float32, n=500)

    def run(n_threads, pieces, dropout):
        weights, optimizer, arena = p.weights(), optimizers.Adam(), _kernels.Arena()
        states = [optimizers.State(optimizer, W) for W, _ in weights]
        losses = []
        for first in range(0, 500, pieces):
            order = p.order[first : first + pieces]
            rates = np.full(len(order) // 250, 0.01)
            losses += network_epoch(
                _kernels,
                p.X,
                p.y,
                None,
                order,
                weights,
                rates,
                250,
                1.0,
                "relu",
                n_threads,
                optimizer=optimizer,
                states=states,
                dropout=dropout,
                seed=3,
                arena=arena,
            ).tolist()
        return np.array(losses).tobytes(), *(a.tobytes() for a in flat(weights))

    for dropout in (0.0, 0.5):
        assert len({run(n, pieces, dropout) for n in (1, 2, 9) for pieces in (250, 500)}) == 1


def test_isas_give_the_same_bits():
    p = Problem((200, 33, 17, 5), np.float32)
    found = set()
    for name in ("avx512", "avx2"):
        if not _kernels.isas().get(name):
            pytest.skip(f"no {name} here")
        _kernels._use_isa(name)
        try:
            weights = p.weights()
            for activation in _kernels.ACTIVATIONS:
                network_epoch(
                    _kernels,
                    p.X,
                    p.y,
                    None,
                    p.order,
                    weights,
                    np.full(4, 0.1),
                    32,
                    1.0,
                    activation,
                    dropout=0.1,
                )
            found.add(b"".join(a.tobytes() for a in flat(weights)))
        finally:
            _kernels._use_isa()
    assert len(found) == 1


@dtypes
def test_no_hidden_layer_is_a_softmax_classifier(dtype):
    p = Problem((50, 7), dtype)
    (W, b), *_ = weights = p.weights()
    linear_W, linear_b = W.copy(), b.copy()
    losses = network_epoch(_kernels, p.X, p.y, None, p.order, weights, np.full(4, 0.1), 32, 0.0, "relu")
    args = (p.X, p.y, None, p.order, linear_W, linear_b, np.full(4, 0.1), 32, 0.0, None, None, True)
    linear_losses = linear_epoch(_kernels, *args)
    assert losses.tobytes() == linear_losses.tobytes()
    assert W.tobytes() == linear_W.tobytes()
    assert b.tobytes() == linear_b.tobytes()


def test_layers_without_activation_are_one_layer():
    """W3 (W2 (W1 x + b1) + b2) + b3 = (W3 W2 W1) x + (W3 (W2 b1 + b2) + b3): scores, and what X feels."""
    p = Problem((30, 12, 20, 4), np.float64)
    (W1, b1), (W2, b2), (W3, b3) = p.layers
    W, b = W3 @ W2 @ W1, W3 @ (W2 @ b1 + b2) + b3
    stack, one = np.empty((len(p.X), 4)), np.empty((len(p.X), 4))
    _kernels.network_scores(p.X, None, p.layers, "identity", stack)
    _kernels.scores(p.X, None, W, b, one)
    np.testing.assert_allclose(stack, one, rtol=1e-12, atol=1e-12)
    # The chain rule through the stack: dW1 = (W3 W2)^T dW.
    gradients, (dW, db) = p.gradients(), (np.empty_like(W), np.empty_like(b))
    network_gradient(_kernels, p.X, p.y, None, None, p.layers, "identity", gradients)
    network_gradient(_kernels, p.X, p.y, None, None, [(W, b)], "identity", [(dW, db)])
    np.testing.assert_allclose(gradients[0][0], (W3 @ W2).T @ dW, rtol=1e-10, atol=1e-14)


def test_rows_are_read_as_they_come():
    p = Problem((40, 9, 3), np.float32)
    bytes_ = np.random.default_rng(0).integers(0, 256, (len(p.X), 80)).astype(np.uint8)[:, ::2]
    shift, scale = bytes_.mean(axis=0), 1 / bytes_.std(axis=0)
    found = []
    for X in (Rows(bytes_, shift, scale), Rows(bytes_, shift, scale)[:]):
        weights = p.weights()
        network_epoch(_kernels, X, p.y, None, p.order, weights, np.full(4, 0.1), 32, 0.0, "relu")
        found.append(b"".join(a.tobytes() for a in flat(weights)))
    assert found[0] == found[1]


# ---- backpropagation -------------------------------------------------------------------------------------


@activations
@pytest.mark.parametrize("sizes", [(9, 3), (9, 6, 3), (7, 5, 4, 3), (6, 5, 1), (6, 5, 4)])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradient_is_the_numerical_one(activation, sizes, dropout):
    """Centred differences in float64, each weight in turn, with a fixed dropout mask; `several` for 4."""
    p = Problem(sizes, np.float64, n=23, several=sizes[-1] in (1, 4))

    def loss(module=_kernels):
        gradients = p.gradients()
        value = network_gradient(
            module,
            p.X,
            p.y,
            p.sample_weight,
            p.order,
            p.layers,
            activation,
            gradients,
            dropout=dropout,
            seed=5,
            t=3,
        )
        return value, gradients

    value, gradients = loss()
    exact_value, exact = loss(reference)
    assert abs(value - exact_value) < 1e-13
    h = 1e-6
    for a, analytic, twin in zip(flat(p.layers), flat(gradients), flat(exact), strict=True):
        numerical = np.empty_like(a)
        for at in np.ndindex(a.shape):
            here = a[at]
            a[at] = here + h
            above = loss()[0]
            a[at] = here - h
            below = loss()[0]
            a[at] = here
            numerical[at] = (above - below) / (2 * h)
        np.testing.assert_allclose(analytic, twin, rtol=1e-12, atol=1e-15)
        error = np.abs(analytic - numerical) / np.maximum(np.abs(analytic) + np.abs(numerical), 1e-2)
        assert error.max() < 1e-7


@dtypes
def test_a_step_is_the_gradient_with_the_penalty(dtype):
    p = Problem((50, 20, 3), dtype)
    gradients, weights = p.gradients(), p.weights()
    network_gradient(_kernels, p.X, p.y, p.sample_weight, p.order, p.layers, "tanh", gradients)
    network_epoch(
        _kernels, p.X, p.y, p.sample_weight, p.order, weights, np.array([0.5]), len(p.order), 3.0, "tanh"
    )
    l2 = 3.0 / p.sample_weight[p.order].sum(dtype=float)
    for (W, b), (dW, db), (new_W, new_b) in zip(p.layers, gradients, weights, strict=True):
        tolerance = 20 * np.finfo(dtype).eps
        np.testing.assert_allclose(new_W, W - 0.5 * (dW + l2 * W), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(new_b, b - 0.5 * db, rtol=tolerance, atol=tolerance)


# ---- what makes no sense ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "sine"}, "activation must be one of identity, relu"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"layers": []}, "at least one layer"),
        ({"y": np.full(104, 3, np.int32)}, r"labels must be in \[0, 3\)"),
        ({"y": np.full((104, 3), 2, np.int32), "loss": "outputs"}, r"labels must be in \[0, 2\)"),
        ({"y": np.zeros((104, 2), np.int32), "loss": "outputs"}, "y has 2 columns, expected 3"),
        ({"y": np.zeros(104, np.int32), "loss": "outputs"}, r"needs labels y \(n, K\)"),
        ({"y": np.zeros(7, np.int32)}, "y has 7 elements, expected 104"),
        ({"row_weight": np.ones(103)}, "row_weight has 103 elements, expected 104"),
        ({"scales": np.ones(3)}, "scales has 3 elements, expected 4"),
        ({"seed": -1}, r"seed must be in \[0, 2\*\*32\); got -1"),
        ({"learning_rates": np.ones(2)}, "learning_rates has 2 elements"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    p = Problem((20, 9, 3), np.float64)
    args = {
        "X": p.X,
        "y": p.y,
        "row_weight": None,
        "order": p.order,
        "layers": p.layers,
        "learning_rates": np.full(4, 0.1),
        "batch_size": 32,
        "alphas": np.zeros(4),
        "scales": np.full(4, 1 / 32),
    }
    with pytest.raises(ValueError, match=message):
        _kernels.epoch(**{**args, **change})


def test_layers_that_do_not_fit_are_refused():
    p = Problem((20, 9, 3), np.float64)
    (W1, b1), (W2, b2) = p.layers
    out = np.empty((len(p.X), 3))
    for layers, message in (
        ([(W1, b1), (W2[:, :5], b2)], "W of layer 1 has 5 columns, expected 9"),
        ([(W1, b1[:4]), (W2, b2)], "b of layer 0 has 4 elements"),
        ([(W1[:0], b1[:0]), (W2[:, :0], b2)], "layer 0 has 20 inputs and 0 outputs"),
    ):
        with pytest.raises(ValueError, match=message):
            _kernels.network_scores(p.X, None, layers, "relu", out)
    with pytest.raises(IndexError, match="row numbers"):
        _kernels.network_scores(p.X, np.array([len(p.X)]), p.layers, "relu", out[:1])
