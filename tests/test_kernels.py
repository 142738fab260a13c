"""Every kernel against its NumPy twin, over dtype x ISA x threads x awkward shapes.

The twin runs on the same numbers in a longer type. A sum of terms t is right within ULPS units in the last
place of sum(|t|): no order of summation can promise less for terms that cancel.
"""

import itertools
from functools import cache

import numpy as np
import pytest
from kernel_harness import (
    LONG,
    THREADS,
    assert_close,
    dtypes,
    isas,
    linear_epoch,
    long_rows,
    longer,
    same_for_any_threads,
    wide,
)

from softline import _kernels, optimizers, reference
from softline._kernels.rows import Rows

ULPS = {np.float32: 6, np.float64: 8 if LONG else 4500}
# (rows, features, classes): around the widths of registers and tiles, and each number of classes
SHAPES = [(n, D, C) for n in (0, 1, 15, 16, 17, 31, 33) for D, C in ((1, 2), (17, 3), (100, 10))]
SHAPES += [(33, D, C) for D in (2, 15, 16, 31, 32, 33, 511, 513, 784) for C in (2, 5, 10)]
SHAPES += [(17, D, C) for D in (3072, 3073) for C in (3, 10, 77)]
SHAPES += [(300, 40, C) for C in (2, 3, 4, 6, 7, 8, 9, 11, 16, 100)] + [(5, 64, 1000), (2, 3073, 1000)]
# (features, classes), for kernels that see no rows
# Wide ones with many classes would take half of the time.
WEIGHTS = sorted({(D, C) for _, D, C in SHAPES} - {(3072, 77), (3073, 77), (3073, 1000)} | {(513, 77)})


class Problem:
    """Random arrays of a shape; X has more rows than idx takes, and a row stride of its own."""

    def __init__(self, n, D, C, dtype):
        rng = np.random.default_rng([n, D, C])
        self.n, self.D, self.C, self.dtype = n, D, C, dtype
        self.X = rng.standard_normal((n + 3, D + 5)).astype(dtype)[:, :D]
        self.X.flags.writeable = False
        self.W = rng.standard_normal((C, D)).astype(dtype)
        self.b = rng.standard_normal(C).astype(dtype)
        self.y = rng.integers(0, C, n + 3).astype(np.int32)
        self.idx = rng.permutation(n + 3)[:n]
        self.scores = (5 * rng.standard_normal((n, C))).astype(dtype)
        self.weight = rng.random(n + 3).astype(dtype)
        self.shift = rng.standard_normal(D).astype(dtype)
        self.metric = rng.random(D).astype(dtype)
        self.targets = rng.dirichlet(np.ones(C), n + 3).astype(dtype)


@cache
def problems(dtype):
    return [Problem(*shape, dtype) for shape in SHAPES]


@cache
def weights(dtype):
    return [Problem(1, *shape, dtype) for shape in WEIGHTS]


@isas
@dtypes
def test_scores(isa, dtype):
    for p in problems(dtype):
        for idx, b in ((p.idx, p.b), (None, None)):
            n = p.n if idx is not None else len(p.X)
            exact = np.empty((n, p.C))
            reference.scores(long_rows(p.X), idx, longer(p.W), None if b is None else longer(b), exact)

            def run(n_threads, p=p, n=n, idx=idx, b=b):
                out = np.full((n, p.C), np.nan, p.dtype)
                _kernels.scores(p.X, idx, p.W, b, out, n_threads)
                return [out]

            (out,) = same_for_any_threads(run)
            rows = p.X if idx is None else p.X[idx]
            magnitude = np.abs(longer(rows)) @ np.abs(longer(p.W)).T + (0 if b is None else np.abs(longer(b)))
            assert_close(out, exact, magnitude, ULPS[dtype])


@isas
@dtypes
def test_probabilities_and_classes(isa, dtype):
    for p in problems(dtype):
        scores = np.empty((len(p.X), p.C), p.dtype)
        _kernels.scores(p.X, None, p.W, p.b, scores)
        pairs = [np.multiply(scores, half, dtype=p.dtype) for half in (-0.5, 0.5)]
        of_two = np.hstack(pairs) if p.C == 1 else scores
        for name, log in (("softmax", False), ("log_softmax", True)):
            expected = of_two.copy()
            getattr(_kernels, name)(expected)

            def run(n_threads, p=p, log=log, shape=expected.shape):
                out = np.full(shape, np.nan, p.dtype)
                assert _kernels.probabilities(p.X, p.W, p.b, out, n_threads, log=log) is True
                return [out]

            (out,) = same_for_any_threads(run)
            assert out.tobytes() == expected.tobytes()

        def run(n_threads, p=p, n_classes=of_two.shape[1]):
            found, numbers = [], np.arange(n_classes)
            for names in (numbers, numbers.astype("U5")):
                found.append(np.empty(len(p.X), names.dtype))
                assert _kernels.classes(p.X, p.W, p.b, names, found[-1], n_threads) is True
            return found

        if p.C > 0:
            numbers, words = same_for_any_threads(run)
            np.testing.assert_array_equal(numbers, of_two.argmax(axis=1))
            np.testing.assert_array_equal(words, numbers.astype("U5"))


@isas
@dtypes
@pytest.mark.parametrize("D", [0, 1, 2, 5, 8, 17, 20, 40, 48, 90, 96, 97])
@pytest.mark.parametrize("n_classes", [1, 2, 3, 7, 10])
def test_scores_are_those_of_a_row_alone(isa, dtype, D, n_classes):
    """However many there are, and however they lie: few features are scored by columns, many by dots."""
    rng = np.random.default_rng(D)
    W = rng.standard_normal((n_classes, D + 400)).astype(dtype)
    b = rng.standard_normal(n_classes).astype(dtype)
    X = np.zeros((37, D + 400), dtype)  # zeros add nothing, and so many features are dot products
    X[:, :D] = rng.standard_normal((37, D)).astype(np.float16)
    by_dots, out = np.empty((37, n_classes), dtype), np.full((40, n_classes), 7, dtype)
    beyond, out = out[37:], out[:37]
    _kernels.scores(X, None, W, b, by_dots)
    W, few = W[:, :D].copy(), X[:, :D]
    for rows in (few, few.copy(), np.asfortranarray(few), few.astype(np.float16), few[::-1].copy()[::-1]):
        assert _kernels.scores(rows, None, W, b, out)
        np.testing.assert_array_equal(out, by_dots)
        assert (beyond == 7).all()
        _kernels.scores(rows, np.arange(37)[::-1].copy(), W, b, out)
        np.testing.assert_array_equal(out, by_dots[::-1])
        for i in (0, 36):
            alone = np.empty((1, n_classes), dtype)
            _kernels.scores(rows[i : i + 1], None, W, b, alone)
            np.testing.assert_array_equal(alone[0], by_dots[i])


@isas
@dtypes
@pytest.mark.parametrize("D", [3, 150])
def test_predictions_tell_of_scores_that_are_not_finite(isa, dtype, D):
    X, W, b = np.ones((70, D), dtype), np.ones((3, D), dtype), np.zeros(3, dtype)
    out, names, found = np.empty((70, 3), dtype), np.arange(3), np.empty(70, int)
    for value in (np.nan, np.inf, -np.inf):
        X[66, 1] = value
        assert _kernels.scores(X, None, W, b, out) is False
        assert _kernels.probabilities(X, W, b, out) is False
        assert _kernels.classes(X, W, b, names, found) is False
        assert _kernels.scores(X, np.arange(66), W, b, out[:66]) is True


@isas
@dtypes
@pytest.mark.wheel
def test_softmax(isa, dtype):
    for p in problems(dtype):
        for name in ("softmax", "log_softmax"):
            exact = longer(p.scores)
            getattr(reference, name)(exact)

            def run(n_threads, p=p, name=name):
                out = p.scores.copy()
                getattr(_kernels, name)(out, n_threads)
                return [out]

            (out,) = same_for_any_threads(run)
            # exp turns an absolute error of the difference of scores into a relative one
            spread = 1 + np.abs(p.scores).max(initial=0)
            assert_close(out, exact, spread * (exact if name == "softmax" else 1), ULPS[dtype])


@isas
@dtypes
def test_cross_entropy(isa, dtype):
    for p in problems(dtype):
        y, weight = p.y[: p.n], p.weight[: p.n]
        exact, exact_losses, losses = longer(p.scores), np.empty(p.n), np.empty(p.n, dtype)
        reference.cross_entropy_gradient(exact, y, longer(weight), exact_losses)

        def run(n_threads, p=p, y=y, weight=weight):
            dscores, losses = p.scores.copy(), np.empty(p.n, p.dtype)
            _kernels.cross_entropy_gradient(dscores, y, weight, losses, n_threads)
            return [dscores, losses]

        dscores, losses = same_for_any_threads(run)
        spread = 1 + np.abs(p.scores).max(initial=0)
        assert_close(losses, exact_losses, spread, ULPS[dtype])
        assert_close(dscores, exact, spread * weight[:, None], ULPS[dtype])
        alone = np.empty(p.n, dtype)
        _kernels.cross_entropy(p.scores, y, alone)
        assert alone.tobytes() == losses.tobytes()


@isas
@dtypes
def test_hinge_gradient(isa, dtype):
    for p in problems(dtype):
        y, weight = p.y[: p.n], p.weight[: p.n]
        exact, exact_losses = longer(p.scores), np.empty(p.n)
        reference.hinge_gradient(exact, y, longer(weight), exact_losses)

        def run(n_threads, p=p, y=y, weight=weight):
            dscores, losses = p.scores.copy(), np.empty(p.n, p.dtype)
            _kernels.hinge_gradient(dscores, y, weight, losses, n_threads)
            return [dscores, losses]

        dscores, losses = same_for_any_threads(run)
        size = 1 + np.abs(longer(p.scores)).sum(axis=1) + p.C * np.abs(p.scores).max(axis=1, initial=0)
        assert_close(losses, exact_losses, size, ULPS[dtype])
        # a weight is added up as often as there are margins
        assert_close(dscores, exact, p.C * weight[:, None], ULPS[dtype] + p.C / 8)


@isas
@dtypes
def test_hinge_of_extreme_scores(isa, dtype):
    scores = np.array([[3, 2, 0], [3, 2, np.nan], [np.inf, 0, 0], [0, -np.inf, 5]], dtype)
    losses, weight = np.empty(4, dtype), np.ones(4, dtype)
    _kernels.hinge_gradient(scores, np.zeros(4, np.int32), weight, losses)
    assert losses[0] == 0 and not scores[0].any()  # a margin of exactly 0 has no slope
    assert np.isnan(losses[1]) and losses[3] == 6
    assert scores[3].tolist() == [-1, 0, 1]


@isas
@dtypes
def test_epoch_of_the_hinge_loss(isa, dtype):
    """And the squared norms of the weights before each step, whatever takes it."""
    for shape in ((33, 17, 3), (31, 100, 10), (20, 3073, 10), (17, 33, 77)):
        p = Problem(*shape, dtype)
        args = np.full(-(-p.n // 7), 0.01), 7, 1e-2, None, None, True
        for options in ({}, {"clip_norm": 0.5}, {"optimizer": optimizers.BY_NAME["momentum"]}):

            def run(module, W, b, X, n_threads=None, p=p, args=args, options=options):
                options, norms = dict(options), np.full(len(args[0]), np.nan)
                if "optimizer" in options:
                    options["state"] = optimizers.State(options["optimizer"], W)
                losses = linear_epoch(
                    module,
                    X,
                    p.y,
                    None,
                    p.idx,
                    W,
                    b,
                    *args,
                    n_threads,
                    loss="hinge",
                    square_norms=norms,
                    **options,
                )
                return [W, b, losses, norms]

            exact = run(reference, wide(p.W), wide(p.b), wide(p.X))
            found = same_for_any_threads(
                lambda n_threads, p=p, run=run: run(_kernels, p.W.copy(), p.b.copy(), p.X, n_threads)
            )
            tolerance = 1e-4 if dtype is np.float32 else 1e-12
            for a, b in zip(found, exact, strict=True):
                np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


@isas
@dtypes
def test_gradient(isa, dtype):
    for p in problems(dtype):
        exact, exact_db = np.empty((p.C, p.D)), np.empty(p.C)
        reference.gradient(long_rows(p.X), p.idx, longer(p.scores), exact, exact_db)

        def run(n_threads, p=p):
            dW, db = np.full((p.C, p.D), np.nan, p.dtype), np.full(p.C, np.nan, p.dtype)
            _kernels.gradient(p.X, p.idx, p.scores, dW, db, n_threads)
            return [dW, db]

        dW, db = same_for_any_threads(run)
        magnitude = np.abs(longer(p.scores)).T @ np.abs(longer(p.X[p.idx]))
        # every row is one term of a single chain: errors add up over the rows
        assert_close(dW, exact, magnitude, ULPS[dtype] + p.n / 8)
        assert_close(db, exact_db, np.abs(longer(p.scores)).sum(axis=0), ULPS[dtype] + p.n / 8)


@isas
@dtypes
@pytest.mark.parametrize("geometry", [False, True])
def test_sgd_update(isa, dtype, geometry):
    for p in weights(dtype):
        dW, db, db_wide = p.W[::-1].copy(), p.b[::-1].copy(), longer(p.b[::-1])
        shift, metric = (p.shift, p.metric) if geometry else (None, None)
        exact, exact_b = longer(p.W), longer(p.b)
        far = [None if a is None else longer(a) for a in (shift, metric)]
        reference.step(exact, exact_b, longer(dW), db_wide, 0.5, 0.25, *far, True)

        def run(n_threads, p=p, dW=dW, db=db, shift=shift, metric=metric):
            W, b = p.W.copy(), p.b.copy()
            _kernels.step(W, b, dW, db, 0.5, 0.25, shift, metric, True, n_threads)
            return [W, b]

        W, b = same_for_any_threads(run)
        size = np.abs(longer(p.W)) + np.abs(longer(dW)) + np.abs(np.outer(db, p.shift))
        assert_close(W, exact, size, ULPS[dtype])
        assert_close(b, exact_b, np.abs(db) + np.abs(p.b) + size @ np.abs(p.shift), ULPS[dtype])


class Wide:
    """A state in float64, or in another type."""

    def __init__(self, state, convert=wide):
        self.t, self.W, self.b = state.t, convert(state.W), convert(state.b)


def random_state(optimizer, p, t):
    """What `optimizer` might remember after t steps."""
    state = optimizers.State(optimizer, p.W)
    rng = np.random.default_rng(t)
    state.t = t
    state.W[...] = rng.random(state.W.shape)
    state.b[...] = rng.random(state.b.shape)
    return state


stateful = pytest.mark.parametrize("name", [name for name in optimizers.BY_NAME if name != "sgd"])


@isas
@dtypes
@stateful
@pytest.mark.parametrize("geometry", [False, True])
def test_updates(isa, dtype, name, geometry):
    """One step of each optimizer, from the middle of a training, with both penalties."""
    optimizer = optimizers.BY_NAME[name]
    for p in weights(dtype):
        dW, db = p.W[::-1].copy(), p.b[::-1].copy()
        shift, metric = (p.shift, p.metric) if geometry else (None, None)
        exact, exact_b, far = longer(p.W), longer(p.b), Wide(random_state(optimizer, p, 3), longer)
        far_geometry = [None if a is None else longer(a) for a in (shift, metric)]
        options = {"l1": 0.125, "optimizer": optimizer}
        reference.step(
            exact, exact_b, longer(dW), longer(db), 0.25, 0.25, *far_geometry, True, state=far, **options
        )

        def run(n_threads, p=p, dW=dW, db=db, shift=shift, metric=metric, options=options):
            W, b, state = p.W.copy(), p.b.copy(), random_state(optimizer, p, 3)
            _kernels.step(W, b, dW, db, 0.25, 0.25, shift, metric, True, n_threads, state=state, **options)
            assert state.t == 4
            return [W, b, np.ascontiguousarray(state.W), state.b]

        W, b, state_W, state_b = same_for_any_threads(run)
        size = 1 + np.abs(longer(p.W)) + np.abs(longer(dW)) + np.abs(np.outer(db, p.shift))
        size_b = 1 + np.abs(db) + np.abs(p.b) + size @ np.abs(p.shift)
        assert_close(W, exact, size, ULPS[dtype])
        assert_close(b, exact_b, size_b, ULPS[dtype])
        assert_close(state_W, far.W, size**2, ULPS[dtype])
        assert_close(state_b, far.b, size_b**2, ULPS[dtype])


@isas
@dtypes
def test_sgd_update_with_l1(isa, dtype):
    for p in weights(dtype):
        dW, db = p.W[::-1].copy(), p.b[::-1].copy()
        exact, exact_b = longer(p.W), longer(p.b)
        args = 0.5, 0.25
        reference.step(
            exact, exact_b, longer(dW), longer(db), *args, longer(p.shift), longer(p.metric), True, l1=1.0
        )

        def run(n_threads, p=p, dW=dW, db=db, args=args):
            W, b = p.W.copy(), p.b.copy()
            _kernels.step(W, b, dW, db, *args, p.shift, p.metric, True, n_threads, l1=1.0)
            return [W, b]

        W, b = same_for_any_threads(run)
        size = np.abs(longer(p.W)) + np.abs(longer(dW)) + np.abs(np.outer(db, p.shift))
        assert_close(W, exact, size, ULPS[dtype])
        assert_close(b, exact_b, np.abs(db) + np.abs(p.b) + size @ np.abs(p.shift), ULPS[dtype])
        assert np.count_nonzero(W == 0) == np.count_nonzero(exact == 0)


@isas
@dtypes
@pytest.mark.parametrize("geometry", [False, True])
def test_clip_gradient(isa, dtype, geometry):
    for p in weights(dtype):
        shift, metric = (p.shift, p.metric) if geometry else (None, None)
        far = [None if a is None else wide(a) for a in (shift, metric)]
        for clip_norm in (0.5, 1e6):
            exact, exact_b = wide(p.W), wide(p.b)
            norm = reference.clip_gradient(exact, exact_b, clip_norm, *far)

            def run(n_threads, p=p, args=(clip_norm, shift, metric)):
                dW, db = p.W.copy(), p.b.copy()
                return [np.array([_kernels.clip_gradient(dW, db, *args, n_threads)]), dW, db]

            found, dW, db = same_for_any_threads(run)
            tolerance = 1e-5 if dtype is np.float32 else 1e-13
            np.testing.assert_allclose(found[0], norm, rtol=tolerance)
            np.testing.assert_allclose(dW, exact, rtol=tolerance)
            np.testing.assert_allclose(db, exact_b, rtol=tolerance)


@isas
@dtypes
def test_project_rows(isa, dtype):
    for p in weights(dtype):
        for shift in (None, p.shift):
            exact, exact_b = longer(p.W), longer(p.b)
            max_norm = float(np.median(np.linalg.norm(exact, axis=1)))
            reference.project_rows(exact, exact_b, max_norm, None if shift is None else longer(shift))

            def run(n_threads, p=p, max_norm=max_norm, shift=shift):
                W, b = p.W.copy(), p.b.copy()
                _kernels.project_rows(W, b, max_norm, shift, n_threads)
                return [W, b]

            W, b = same_for_any_threads(run)
            tolerance = 1e-5 if dtype is np.float32 else 1e-13
            np.testing.assert_allclose(W, exact, rtol=tolerance)
            size = np.abs(longer(p.W)) @ np.abs(longer(p.shift)) + np.abs(longer(p.b))
            assert_close(b, exact_b, size, 4 * ULPS[dtype])
            assert np.linalg.norm(longer(W), axis=1).max() <= max_norm * (1 + tolerance)


@isas
@dtypes
def test_cross_entropy_with_targets(isa, dtype):
    for p in problems(dtype):
        weight = p.weight[: p.n]
        for y, smoothing in ((p.y[: p.n], 0.1), (p.targets[: p.n], 0.0), (p.targets[: p.n], 0.25)):
            exact, exact_losses = longer(p.scores), np.empty(p.n)
            far = y if y.ndim == 1 else longer(y)
            reference.cross_entropy_gradient(
                exact, far, longer(weight), exact_losses, label_smoothing=smoothing
            )

            def run(n_threads, p=p, y=y, weight=weight, smoothing=smoothing):
                dscores, losses = p.scores.copy(), np.empty(p.n, p.dtype)
                _kernels.cross_entropy_gradient(
                    dscores, y, weight, losses, n_threads, label_smoothing=smoothing
                )
                return [dscores, losses]

            dscores, losses = same_for_any_threads(run)
            spread = 1 + np.abs(p.scores).max(initial=0)
            assert_close(losses, exact_losses, spread, 2 * ULPS[dtype] + p.C / 8)
            assert_close(dscores, exact, spread * weight[:, None], ULPS[dtype])
            alone = np.empty(p.n, dtype)
            _kernels.cross_entropy(p.scores, y, alone, label_smoothing=smoothing)
            assert alone.tobytes() == losses.tobytes()


@isas
@dtypes
def test_targets_at_the_ends_of_their_range(isa, dtype):
    """Targets 0 and 1 are labels, and a target of 0 takes no part even where the score is -inf."""
    p = Problem(33, 4, 5, dtype)
    y = p.y[:33]
    hard, soft = np.empty(33, dtype), np.empty(33, dtype)
    _kernels.cross_entropy(p.scores, y, hard)
    _kernels.cross_entropy(p.scores, np.eye(5, dtype=dtype)[y], soft)
    np.testing.assert_allclose(soft, hard, rtol=1e-6, atol=1e-6)
    scores = np.array([[0, 0, -np.inf], [0, 0, -np.inf], [0, np.nan, 0]], dtype)
    targets = np.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [1, 0, 0]], dtype)
    losses = np.empty(3, dtype)
    _kernels.cross_entropy(scores, targets, losses)
    assert losses[0] == pytest.approx(np.log(2)) and losses[1] == np.inf and np.isnan(losses[2])


@isas
@dtypes
def test_column_stats(isa, dtype):
    for p in problems(dtype):
        for weight in (None, p.weight[: p.n]):
            exact = reference.column_stats(p.X, p.idx, weight)
            mean, squares, low, high = same_for_any_threads(
                lambda n_threads, p=p, weight=weight: _kernels.column_stats(p.X, p.idx, weight, n_threads)
            )
            largest = np.abs(wide(p.X[p.idx])).max(axis=0, initial=0)
            assert_close(mean.astype(dtype), exact[0], largest, p.n + 1)
            assert_close(squares.astype(dtype), exact[1], p.n * largest**2, p.n + 1)
            assert np.array_equal(low, exact[2])
            assert np.array_equal(high, exact[3])


@dtypes
def test_column_stats_of_many_blocks(dtype):
    # More than one task of a thread, a mean far from 0 and blocks without weight.
    rng = np.random.default_rng(0)
    X = rng.normal([0, 100, -100], 1, (9001, 3)).astype(dtype)
    weight = rng.random(len(X)).astype(dtype)
    weight[1000:3100] = weight[-2000:] = 0
    exact = reference.column_stats(X, None, weight)
    found = same_for_any_threads(lambda n_threads: _kernels.column_stats(X, None, weight, n_threads))
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=16 * np.finfo(dtype).eps)
    mean, squares, _, _ = _kernels.column_stats(X, None, np.zeros_like(weight))
    assert np.array_equal(mean, np.zeros(3)) and np.array_equal(squares, np.zeros(3))


@isas
@dtypes
@pytest.mark.parametrize("batch_size", [1, 7, 16, 1000])
def test_epoch(isa, dtype, batch_size):
    shapes = [(0, 5, 3), (1, 1, 2), (33, 17, 3), (31, 100, 10), (20, 3073, 10), (17, 33, 77), (3, 40, 1000)]
    for shape in shapes:
        p = Problem(*shape, dtype)
        n_steps = -(-p.n // min(batch_size, max(p.n, 1)))
        rates = np.linspace(0.02, 0.01, n_steps)
        for weight, shift, metric in ((None, None, None), (p.weight, p.shift, p.metric)):
            far = [None if a is None else wide(a) for a in (weight, shift, metric)]
            exact, exact_b = wide(p.W), wide(p.b)
            exact_losses = linear_epoch(
                reference,
                wide(p.X),
                p.y,
                far[0],
                p.idx,
                exact,
                exact_b,
                rates,
                batch_size,
                1e-3,
                *far[1:],
                True,
            )

            def run(n_threads, p=p, args=(batch_size, 1e-3, shift, metric, True), weight=weight, rates=rates):
                W, b = p.W.copy(), p.b.copy()
                losses = linear_epoch(_kernels, p.X, p.y, weight, p.idx, W, b, rates, *args, n_threads)
                return [W, b, losses]

            W, b, losses = same_for_any_threads(run)
            tolerance = 1e-4 if dtype is np.float32 else 1e-12
            np.testing.assert_allclose(W, exact, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(b, exact_b, rtol=tolerance, atol=tolerance * np.sqrt(p.D))
            np.testing.assert_allclose(losses, exact_losses, rtol=tolerance, atol=tolerance)


# Beside SHAPES, rows of one, two, three and seven blocks.
MANY_ROWS = [(700, 33, 3), (1500, 17, 2), (2530, 100, 10), (6200, 5, 3)]


@isas
@dtypes
def test_loss_gradient(isa, dtype):
    for p in problems(dtype) + [Problem(*shape, dtype) for shape in MANY_ROWS]:
        for weight in (None, p.weight):
            exact, exact_db = np.empty((p.C, p.D)), np.empty(p.C)
            W = p.W / np.sqrt(p.D).astype(dtype)
            far = None if weight is None else longer(weight)
            exact_loss = reference.loss_gradient(
                long_rows(p.X), p.y, far, longer(W), longer(p.b), exact, exact_db
            )

            def run(n_threads, p=p, weight=weight, W=W):
                dW, db = np.full((p.C, p.D), np.nan), np.full(p.C, np.nan)
                loss = _kernels.loss_gradient(p.X, p.y, weight, W, p.b, dW, db, n_threads)
                return [dW, db, np.array(loss)]

            dW, db, loss = same_for_any_threads(run)
            spread = 1 + np.abs(longer(p.X) @ longer(W).T + p.b).max()
            bound = ULPS[dtype] * np.finfo(dtype).eps * spread
            assert abs(loss - exact_loss) <= bound
            assert np.abs(dW - exact).max() <= 4 * bound * np.abs(p.X).max()
            assert np.abs(db - exact_db).max() <= 4 * bound


@isas
@dtypes
def test_candidate_losses(isa, dtype):
    """A candidate has the same loss to the bit, whichever others there are."""
    for p in problems(dtype) + [Problem(*shape, dtype) for shape in MANY_ROWS]:
        K = 1 if p.C > 100 else 5
        Ws = p.W / np.sqrt(p.D).astype(dtype) * np.arange(1, K + 1, dtype=dtype)[:, None, None] / K
        bs = p.b * np.arange(K, dtype=dtype)[:, None]
        for weight in (None, p.weight):
            exact = np.empty(K)
            far = None if weight is None else longer(weight)
            reference.candidate_losses(long_rows(p.X), p.y, far, longer(Ws), longer(bs), exact)

            def run(n_threads, p=p, weight=weight, Ws=Ws, bs=bs):
                losses = np.full(len(Ws), np.nan)
                _kernels.candidate_losses(p.X, p.y, weight, Ws, bs, losses, n_threads)
                return [losses]

            (losses,) = same_for_any_threads(run)
            spread = 1 + max(np.abs(longer(p.X) @ longer(W).T + b).max() for W, b in zip(Ws, bs, strict=True))
            # rows of a block are one chain, summed in float64
            bound = ULPS[dtype] * np.finfo(dtype).eps / np.finfo(float).eps + len(p.X) / 1000
            assert_close(losses, exact, 0 * exact + spread, bound)
            alone = np.empty(1)
            _kernels.candidate_losses(p.X, p.y, weight, Ws[-1:], bs[-1:], alone)
            assert alone[0] == losses[-1]


def test_loss_at_the_start_is_log_C():
    for C in (2, 3, 10, 1000):
        p, loss = Problem(100, 20, C, np.float64), np.empty(1)
        _kernels.candidate_losses(p.X, p.y, p.weight, 0 * p.W[None], 0 * p.b[None], loss)
        assert loss[0] == pytest.approx(np.log(C), rel=1e-14)


@pytest.mark.parametrize("M", [0, 1, 7, 64])
def test_invert_factor(M):
    A = np.random.default_rng(M).standard_normal((M + 3, M))
    A = A.T @ A + np.eye(M)
    ours, theirs = np.full((M, M), np.nan), np.empty((M, M))
    for module, out in ((_kernels, ours), (reference, theirs)):
        module.invert_factor(A.copy(), out, 1e-12)
    assert ours.tobytes() == theirs.tobytes()
    np.testing.assert_allclose(ours @ A @ ours.T, np.eye(M), atol=1e-12)


def test_invert_factor_leaves_out_what_rounding_decides():
    for module in (_kernels, reference):
        out = np.empty((3, 3))
        module.invert_factor(np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 4]]), out, 1e-9)
        np.testing.assert_array_equal(out, np.diag([1, 0, 0.5]))
    with pytest.raises(ValueError, match="out has 2 rows, expected 3"):
        _kernels.invert_factor(np.eye(3), np.empty((2, 3)), 1e-9)


@isas
@dtypes
@pytest.mark.parametrize(("n", "D"), [(1, 1), (5, 7), (130, 8), (300, 63), (300, 64), (129, 600)])
def test_gram(isa, n, D, dtype):
    rng = np.random.default_rng(D)
    X = rng.standard_normal((n + 3, D)).astype(dtype)
    rows = Rows(X, rng.standard_normal(D), rng.random(D) + 0.5, dtype)
    idx, weight = rng.permutation(n + 3)[:n], rng.random(n).astype(dtype)
    expected, bits = np.empty((D + 1, D + 1), dtype), set()
    reference.gram(rows, idx, weight, 0.7, expected)
    for n_threads in (1, 2, 5):
        out = np.full((D + 1, D + 1), np.nan, dtype)
        _kernels.gram(rows, idx, weight, 0.7, out, n_threads)
        atol = 0.1 * n * np.finfo(dtype).eps * np.abs(expected).max()
        np.testing.assert_allclose(np.triu(out), expected, rtol=0, atol=atol)
        bits.add(np.triu(out).tobytes())
    assert len(bits) == 1


@isas
@dtypes
@pytest.mark.parametrize(("R", "n"), [(1, 1), (1, 8), (3, 9), (2, 64), (10, 65), (7, 300), (40, 530)])
def test_precondition(isa, R, n, dtype):
    rng = np.random.default_rng(n)
    G, mean, roots = rng.standard_normal((R, n)), rng.standard_normal(n - 1), rng.random(n) + 0.5
    V = (np.triu(rng.standard_normal((n, n))) / np.sqrt(n)).astype(dtype)
    for inverse_root in (V, None):
        expected, bits = np.empty((R, n)), set()
        reference.precondition(G, mean, roots, inverse_root, expected)
        for n_threads in (1, 2, 5):
            out = np.full((R, n), np.nan)
            _kernels.precondition(G, mean, roots, inverse_root, out, n_threads)
            np.testing.assert_allclose(out, expected, rtol=0, atol=200 * n * np.finfo(dtype).eps)
            bits.add(out.tobytes())
        assert len(bits) == 1
    with pytest.raises(ValueError, match="share memory"):
        _kernels.precondition(G, mean, roots, None, G)


@isas
@pytest.mark.parametrize("shape", [(1, 1), (1, 31), (3, 32), (2, 100)])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_two_loops_of_lbfgs(isa, shape, count):
    rng = np.random.default_rng(count)
    steps, changes = rng.standard_normal((2, 6, *shape))
    slopes, order = rng.random(6) + 1, rng.permutation(6)[:count]
    results = []
    for module in (_kernels, reference):
        G, shares = np.arange(float(np.prod(shape))).reshape(shape), np.empty(count)
        module.first_loop(G, steps, changes, slopes, order, shares)
        D = 2 * G
        module.second_loop(D, steps, changes, slopes, order, shares)
        results.append((G, shares, D))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * max(1, np.abs(theirs).max(initial=0)))
    with pytest.raises(IndexError, match="row numbers"):
        _kernels.first_loop(G, steps, changes, slopes, np.array([6]), np.empty(1))


@dtypes
def test_coordinate_descent(dtype):
    for D, C, K in ((1, 1, 0), (2, 3, 1), (17, 2, 4), (33, 10, 20)):
        rng = np.random.default_rng([D, C])
        A = rng.standard_normal((2 * D, D)).astype(dtype)
        A = A.T @ A / D + np.eye(D, dtype=dtype)
        T, signs = 0.3 * rng.standard_normal((K, C, D)), np.where(np.arange(K) % 4, 1.0, -0.01)
        G, Z, l1 = 3 * rng.standard_normal((C, D)), rng.standard_normal((C, D)), rng.random(D)
        for matrix, exact_matrix in ((A, wide(A)), (None, np.eye(D))):
            args = 1.5, T, signs, G, l1
            for tol, rounds in ((0.1, 10), (1e-12, 1000), (0.0, 1)):
                exact, V = Z.copy(), Z.copy()
                reference.coordinate_descent(exact_matrix, *args, exact, tol, rounds)
                _kernels.coordinate_descent(matrix, *args, V, tol, rounds)
                np.testing.assert_allclose(V, exact, atol=1e-10)
            V = Z.copy()
            _kernels.coordinate_descent(matrix, *args, V, 1e-13, 10_000)
            slope = G + 1.5 * (V - Z) @ exact_matrix
            for sign, term in zip(signs, T, strict=True):
                slope += sign * np.sum(term * (V - Z)) * term
            balanced = np.abs(slope + l1 * np.sign(V)) < 1e-9
            assert np.all(np.where(V == 0, np.abs(slope) <= l1 + 1e-9, balanced))


@dtypes
def test_ten_steps_follow_the_reference(dtype):
    """Ten steps on an easy and on a large problem: a wrong sign or factor would show at once."""
    for shape in ((640, 50, 4), (320, 784, 10)):
        p = Problem(*shape, dtype)
        W, b, exact, exact_b = p.W.copy(), p.b.copy(), wide(p.W), wide(p.b)
        args = np.full(10, 0.05), p.n // 10, 1e-2
        losses = linear_epoch(_kernels, p.X, p.y, None, p.idx, W, b, *args, None, None, True)
        exact_losses = linear_epoch(
            reference, wide(p.X), p.y, None, p.idx, exact, exact_b, *args, None, None, True
        )
        tolerance = 2e-5 if dtype is np.float32 else 1e-12
        np.testing.assert_allclose(losses, exact_losses, rtol=tolerance)
        np.testing.assert_allclose(W, exact, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(b, exact_b, rtol=tolerance, atol=tolerance)
        assert exact_losses[-1] < exact_losses[0]


# Each optimizer plain and with all options, and each option by itself.
EVERY_OPTION = {"l1": 0.01, "label_smoothing": 0.2, "clip_norm": 0.3, "max_norm": 2.0}
EPOCHS = [(name, options) for name in optimizers.BY_NAME for options in ({}, EVERY_OPTION)] + [
    ("adagrad", {"l1": 0.01}),
    ("sgd", {"label_smoothing": 0.1}),
    ("nesterov", {"clip_norm": 0.05}),
    ("asgd", {"max_norm": 1.0}),
]


@isas
@dtypes
@pytest.mark.parametrize(
    ("name", "options"), EPOCHS, ids=[f"{name}-{'+'.join(options) or 'plain'}" for name, options in EPOCHS]
)
def test_epochs_of_optimizers(isa, dtype, name, options):
    """Ten steps in two epochs, and with them the state, on several shapes, batch sizes and geometries."""
    optimizer = optimizers.BY_NAME[name]
    for shape, batch_size in (((50, 33, 3), 10), ((700, 20, 4), 140), ((15, 600, 10), 3), ((5, 40, 77), 1)):
        p = Problem(*shape, dtype)
        rates = np.linspace(0.02, 0.01, 5)
        for y, shift, metric in ((p.y, None, None), (p.targets, p.shift, p.metric)):
            far = [None if a is None else wide(a) for a in (shift, metric)]
            exact, exact_b, state = wide(p.W), wide(p.b), Wide(optimizers.State(optimizer, p.W))
            exact_losses = [
                linear_epoch(reference,
                    wide(p.X), y if y.ndim == 1 else wide(y), wide(p.weight), p.idx, exact, exact_b, rates,
                    batch_size, 1e-2, *far, True, optimizer=optimizer, state=state, **options,
                )
                for _ in range(2)
            ]  # fmt: skip

            def run(n_threads, p=p, y=y, args=(rates, batch_size, 1e-2, shift, metric, True)):
                W, b, state = p.W.copy(), p.b.copy(), optimizers.State(optimizer, p.W)
                losses = [
                    linear_epoch(_kernels,
                        p.X, y, p.weight, p.idx, W, b, *args, n_threads, optimizer=optimizer, state=state,
                        **options,
                    )
                    for _ in range(2)
                ]  # fmt: skip
                assert state.t == 10
                return [W, b, np.array(losses), np.ascontiguousarray(state.W), state.b]

            W, b, losses, state_W, state_b = same_for_any_threads(run)
            # adaptive steps of tiny gradients follow their signs: rounding may turn one
            tolerance = 2e-3 if dtype is np.float32 else 1e-8
            np.testing.assert_allclose(losses, exact_losses, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(W, exact, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(b, exact_b, rtol=tolerance, atol=tolerance * np.sqrt(p.D))
            np.testing.assert_allclose(state_W, state.W, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(state_b, state.b, rtol=tolerance, atol=tolerance)


def torch_steps(name, w, gradients, lr, weight_decay):
    """w after each step of torch.optim, as its documentation writes the algorithms."""
    m, v, path = np.zeros_like(w), np.zeros_like(w), []
    for t, g in enumerate(gradients, start=1):
        if name == "adamw":
            w = w - lr * weight_decay * w
        else:
            g = g + weight_decay * w
        if name in ("momentum", "nesterov"):  # SGD(momentum=0.9, dampening=0)
            m = 0.9 * m + g
            w = w - lr * (g + 0.9 * m if name == "nesterov" else m)
        elif name in ("adam", "adamw"):  # betas=(0.9, 0.999), eps=1e-8
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g**2
            w = w - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        elif name == "rmsprop":  # alpha=0.99, eps=1e-8
            v = 0.99 * v + 0.01 * g**2
            w = w - lr * g / (np.sqrt(v) + 1e-8)
        elif name == "adagrad":  # lr_decay=0, eps=1e-10
            v = v + g**2
            w = w - lr * g / (np.sqrt(v) + 1e-10)
        else:  # "asgd": ASGD(lambd=0, alpha=0, t0=0); the model is `ax`
            w = w - lr * g
            m = m + (w - m) / t
        path.append(m if name == "asgd" else w)
    return path


@isas
@stateful
def test_ten_steps_follow_torch(isa, name):
    """Hyper-parameters mean what they mean in torch.optim; PyTorch's bias has a penalty, ours has none."""
    optimizer, rng = optimizers.BY_NAME[name], np.random.default_rng(0)
    W, b, gradients = rng.standard_normal((3, 37)), np.zeros(3), rng.standard_normal((10, 3, 38))
    expected = torch_steps(name, W.copy(), gradients[:, :, :37], 0.1, 0.25)
    expected_b = torch_steps(name, b.copy(), gradients[:, :, 37], 0.1, 0)
    state = optimizers.State(optimizer, W)
    for g, w, w_b in zip(gradients, expected, expected_b, strict=True):
        dW, db = np.ascontiguousarray(g[:, :37]), g[:, 37].copy()
        _kernels.step(W, b, dW, db, 0.1, 0.25, None, None, True, optimizer=optimizer, state=state)
        found, found_b = (state.W[0], state.b[0]) if optimizer.averages else (W, b)
        np.testing.assert_allclose(found, w, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(found_b, w_b, rtol=1e-12, atol=1e-13)


@stateful
def test_geometry_is_descent_on_changed_features(name):
    """With shift and metric, steps are those that the optimizer takes on (x - shift) sqrt(metric)."""
    optimizer = optimizers.BY_NAME[name]
    p = Problem(60, 12, 3, np.float64)
    metric = p.metric + 0.1
    root = np.sqrt(metric)
    Z = np.ascontiguousarray((p.X - p.shift) * root)
    W, b = np.zeros((3, 12)), np.zeros(3)
    V, a = W.copy(), b.copy()
    args = np.full(6, 0.1), 10, 0.0
    state, state_of_z = optimizers.State(optimizer, W), optimizers.State(optimizer, W)
    linear_epoch(
        _kernels, p.X, p.y, None, p.idx, W, b, *args, p.shift, metric, True, optimizer=optimizer, state=state
    )
    linear_epoch(
        _kernels, Z, p.y, None, p.idx, V, a, *args, None, None, True, optimizer=optimizer, state=state_of_z
    )
    np.testing.assert_allclose(W, V * root, rtol=1e-9)
    np.testing.assert_allclose(b, a - W @ p.shift, rtol=1e-9)
    if optimizer.averages:
        np.testing.assert_allclose(state.W[0], state_of_z.W[0] * root, rtol=1e-9)
        np.testing.assert_allclose(state.b[0], state_of_z.b[0] - state.W[0] @ p.shift, rtol=1e-9)


@dtypes
def test_chunks_of_a_large_batch_change_no_bit(dtype):
    """A full batch of many chunks and its gradient in one call are the same sums in the same order."""
    p = Problem(1000, 24, 3, dtype)
    W, b = p.W.copy(), p.b.copy()
    linear_epoch(_kernels, p.X, p.y, None, p.idx, W, b, np.ones(1), p.n, 0.0, None, None, False)
    dscores, losses = np.empty((p.n, 3), dtype), np.empty(p.n, dtype)
    dW, db = np.empty_like(W), np.empty_like(b)
    _kernels.scores(p.X, p.idx, p.W, p.b, dscores)
    _kernels.cross_entropy_gradient(dscores, p.y[p.idx], np.full(p.n, 1 / p.n, dtype), losses)
    _kernels.gradient(p.X, p.idx, dscores, dW, db)
    stepped = p.W.copy()
    _kernels.step(stepped, b, dW, db, 1.0, 0.0, None, None, False)
    assert W.tobytes() == stepped.tobytes()


@isas
@pytest.mark.wheel
def test_fused_isas_agree_to_the_bit(isa):
    """AVX2, AVX-512 and NEON sum in the same virtual lanes and fuse the same multiply-adds."""
    if isa == "baseline":
        pytest.skip("the baseline has no fused multiply-add")
    for dtype in (np.float32, np.float64):
        for shape in ((100, 100, 10), (40, 3073, 77), (33, 17, 3)):
            p = Problem(*shape, dtype)
            results = []
            for name in (isa, None):
                _kernels._use_isa(name)
                W, b = p.W.copy(), p.b.copy()
                args = np.full(4, 0.1), -(-p.n // 4), 1e-3, p.shift, p.metric, True
                losses = linear_epoch(_kernels, p.X, p.y, p.weight, p.idx, W, b, *args)
                dW, db = np.empty(W.shape), np.empty(len(b))
                loss = _kernels.loss_gradient(p.X, p.y, p.weight, p.W, p.b, dW, db)
                arrays = W, b, losses, dW, db, np.array(loss)
                results.append(b"".join(a.tobytes() for a in arrays))
            assert results[0] == results[1]


# ---- stability -------------------------------------------------------------------------------------------


@isas
@dtypes
@pytest.mark.parametrize("n_classes", [2, 3, 10, 77, 1000])
def test_extreme_scores(isa, dtype, n_classes):
    scores = np.zeros((6, n_classes), dtype)
    scores[0, 0], scores[0, 1] = 1e4, -1e4
    scores[1] = -1e4
    scores[2, 1] = -np.inf
    scores[3, 1] = np.nan
    scores[4, 1] = np.inf
    scores[5] = -np.inf
    y = np.array([1, 0, 0, 0, 0, 0], np.int32)
    probs, log_probs, losses = scores.copy(), scores.copy(), np.empty(6, dtype)
    _kernels.softmax(probs)
    _kernels.log_softmax(log_probs)
    _kernels.cross_entropy(scores, y, losses)
    assert probs[0, 0] == 1 and probs[0, 1] == 0 and losses[0] == 2e4 and log_probs[0, 1] == -2e4
    np.testing.assert_allclose(probs[1], 1 / n_classes, rtol=1e-5)
    np.testing.assert_allclose(losses[1], np.log(n_classes), rtol=1e-5)
    assert probs[2, 1] == 0 and log_probs[2, 1] == -np.inf
    np.testing.assert_allclose(probs[2].sum(), 1, rtol=1e-5)
    for bad in (3, 4, 5):
        assert np.isnan(probs[bad]).all()
        assert np.isnan(losses[bad])


def spread_out(dtype, low, high, n=20001):
    """Numbers from low to high, evenly and by their logarithms, rounded to dtype."""
    ends = np.sort(np.abs([low, high]).astype(float)) + np.finfo(dtype).tiny
    by_size = np.geomspace(*ends, n) * np.sign(low + high)
    return np.unique(np.concatenate([np.linspace(low, high, n), by_size]).astype(dtype))


@isas
@dtypes
@pytest.mark.wheel
def test_exp_over_its_whole_range(isa, dtype):
    """Probabilities of two classes are 1 / (1 + exp(-x)) from 1/2 down to the smallest normal number."""
    info = np.finfo(dtype)
    x = spread_out(dtype, 0, np.log(info.tiny))
    scores = np.stack([x, np.zeros_like(x)], axis=1)
    _kernels.softmax(scores)
    exact = np.exp(longer(x)) / (1 + np.exp(longer(x)))
    normal = exact > 2 * info.tiny
    assert normal.sum() > 0.9 * len(x)
    np.testing.assert_array_less(np.abs(scores - np.stack([exact, 1 - exact], axis=1))[normal], 4 * info.eps)
    assert np.max(np.abs(scores[normal, 0] - exact[normal]) / exact[normal]) <= 4 * info.eps
    far = np.array([[np.log(info.tiny) - 1, 0], [-np.inf, 0]], dtype)
    _kernels.softmax(far)
    assert far[0, 0] == far[1, 0] == 0


@isas
@dtypes
def test_log_over_its_whole_range(isa, dtype):
    """Of 1 + exp(x), and of the numbers of classes of the same score: between powers of two and at them."""
    eps = np.finfo(dtype).eps
    x = spread_out(dtype, 0, -40)
    scores = np.stack([np.zeros_like(x), x], axis=1)
    _kernels.log_softmax(scores)
    # exp rounds 1 + exp(x), which is at least 1: an absolute error of an ulp in its log.
    exact = np.log1p(np.exp(longer(x)))
    assert np.abs(-scores[:, 0] - exact).max() <= 2 * eps
    for C in (*range(2, 70), 127, 128, 129, 191, 192, 193, 1000, 1023, 1024, 1025, 1535, 1536, 1537):
        scores = np.zeros((1, C), dtype)
        _kernels.log_softmax(scores)
        exact = np.log(longer(np.array([C], dtype)))[0]
        assert np.abs(-scores - exact).max() <= 2 * eps * exact


@isas
@dtypes
def test_expm1_over_its_whole_range(isa, dtype):
    """tanh(x) is m / (m + 2) with m = expm1(-2 |x|), in sign and to the last digits near 0, too."""
    info = np.finfo(dtype)
    x = np.concatenate([spread_out(dtype, 0, -25), spread_out(dtype, 0, 25)])
    tiny = np.array([0.0, -0.0, info.tiny, -info.tiny, info.eps, -info.eps, 1e-3 * info.eps], dtype)
    x = np.concatenate([x, tiny, [-np.inf, np.inf]]).astype(dtype)
    Z = x[:, None].copy()
    _kernels.activate(Z, "tanh")
    exact = np.tanh(longer(x))
    assert np.all(np.abs(Z[:, 0] - exact) <= 6 * info.eps * np.abs(exact))
    logistic = x[:, None].copy()
    _kernels.activate(logistic, "logistic")
    with np.errstate(over="ignore"):
        exact = 1 / (1 + np.exp(-longer(x)))
    assert np.all(np.abs(logistic[:, 0] - exact) <= 4 * info.eps * exact)


def test_nan_in_x_reaches_the_scores():
    X = np.ones((40, 33))
    X[7, 32] = np.nan
    out = np.empty((40, 5))
    _kernels.scores(X, None, np.ones((5, 33)), None, out)
    assert np.isnan(out[7]).all()
    assert np.isfinite(np.delete(out, 7, axis=0)).all()


# ---- the numerical gradient ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7, 4, 3), (33, 17, 2), (20, 31, 10)])
def test_numerical_gradient(shape):
    """Centred differences of the loss agree with the kernels within 1e-7 relative error (CS231n's)."""
    p = Problem(*shape, np.float64)
    alpha, h, n = 0.1, 1e-5, p.n
    W, b = 0.3 * p.W, 0.3 * p.b
    y, weight = p.y[p.idx], np.full(n, 1 / n)

    def loss():
        scores, losses = np.empty((n, p.C)), np.empty(n)
        _kernels.scores(p.X, p.idx, W, b, scores)
        _kernels.cross_entropy(scores, y, losses)
        return losses.mean() + alpha / 2 * np.sum(W * W)

    scores, losses, dW, db = np.empty((n, p.C)), np.empty(n), np.empty_like(W), np.empty_like(b)
    _kernels.scores(p.X, p.idx, W, b, scores)
    _kernels.cross_entropy_gradient(scores, y, weight, losses)
    _kernels.gradient(p.X, p.idx, scores, dW, db)
    dW += alpha * W
    for array, analytic in ((W, dW), (b, db)):
        numerical = np.empty_like(array)
        for i in np.ndindex(array.shape):
            kept = array[i]
            array[i] = kept + h
            above = loss()
            array[i] = kept - h
            below = loss()
            array[i] = kept
            numerical[i] = (above - below) / (2 * h)
        error = np.linalg.norm(numerical - analytic) / (np.linalg.norm(numerical) + np.linalg.norm(analytic))
        assert error < 1e-7
        assert np.max(np.abs(numerical - analytic)) < 1e-8


# ---- bad input -------------------------------------------------------------------------------------------


def epoch(**changes):
    """A small valid call of the epoch, with some arguments changed."""
    p = Problem(20, 6, 3, np.float64)
    args = {
        "X": p.X,
        "y": p.y,
        "row_weight": None,
        "order": p.idx,
        "layers": [(changes.pop("W", p.W), changes.pop("b", p.b))],
        "learning_rates": np.full(2, 0.1),
        "batch_size": 10,
        "alphas": np.zeros(2),
        "scales": np.full(2, 0.1),
    }
    return _kernels.epoch(**(args | changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"y": np.full(23, 3, np.int32)}, ValueError, r"labels must be in \[0, 3\), found 3"),
        ({"y": np.full(23, -1, np.int32)}, ValueError, "found -1"),
        ({"y": np.zeros(5, np.int32)}, ValueError, "y has 5 elements, expected 23"),
        ({"order": np.r_[np.arange(19), 23]}, IndexError, r"row numbers must be in \[0, 23\), found 23"),
        ({"order": np.r_[-1, np.arange(19)]}, IndexError, "found -1"),
        ({"W": np.zeros((3, 7))}, ValueError, "W of layer 0 has 7 columns, expected 6"),
        ({"b": np.zeros(4)}, ValueError, "b of layer 0 has 4 elements, expected 3"),
        ({"learning_rates": np.ones(3)}, ValueError, "learning_rates has 3 elements, expected 2"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"shift": np.zeros(5)}, ValueError, "shift has 5 elements, expected 6"),
        ({"metric": np.zeros(5)}, ValueError, "metric has 5 elements, expected 6"),
        ({"row_weight": np.ones(2)}, ValueError, "row_weight has 2 elements, expected 23"),
        ({"X": np.zeros((23, 6), np.int64)}, TypeError, "X must be of native float32.* got int64"),
        ({"X": np.zeros((23, 6), ">f8")}, TypeError, "got >f8"),
        (
            {"W": np.zeros((3, 6), np.float32)},
            ValueError,
            "b of layer 0 must be of native float32; got float64",
        ),
        ({"W": np.zeros((6, 3)).T}, ValueError, "rows of W of layer 0 must be contiguous"),
        ({"W": np.zeros((3, 6))[::-1]}, ValueError, "must lie one after the other, without overlap"),
        ({"W": np.broadcast_to(np.zeros(6), (3, 6))}, ValueError, "W of layer 0 is read-only"),
        ({"W": np.zeros(6)}, ValueError, r"W of layer 0 must have 2 dimensions; got shape \(6,\)"),
        ({"W": [[0.0] * 6] * 3}, TypeError, "W of layer 0 must be a NumPy array; got list"),
        ({"b": None}, TypeError, "b of layer 0 must be a NumPy array; got NoneType"),
        ({"y": np.zeros((23, 4))}, ValueError, "y has 4 columns, expected 3"),
        ({"y": np.zeros((20, 3))}, ValueError, "y has 20 rows, expected 23"),
        ({"label_smoothing": 1.5}, ValueError, r"label_smoothing must be in \[0, 1\]; got 1.5"),
        ({"loss": "log"}, ValueError, "loss must be one of cross_entropy, hinge, outputs; got 'log'"),
        ({"loss": "hinge", "label_smoothing": 0.1}, ValueError, "no label_smoothing"),
        ({"loss": "hinge", "y": np.ones((23, 3))}, ValueError, "needs labels"),
        ({"square_norms": np.ones(3)}, ValueError, "square_norms has 3 elements, expected 2"),
        ({"optimizer": optimizers.Adam()}, ValueError, "adam needs a state"),
        (
            {
                "optimizer": optimizers.Adam(),
                "states": [optimizers.State(optimizers.Momentum(), np.ones((3, 6)))],
            },
            ValueError,
            "state.W has 1 matrices, expected 2",
        ),
        (
            {
                "optimizer": optimizers.Adam(),
                "states": [optimizers.State(optimizers.Adam(), np.ones((3, 5)))],
            },
            ValueError,
            "state.W has 5 columns, expected 6",
        ),
    ],
)
def test_epoch_refuses(changes, error, message):
    assert np.isfinite(epoch()).all()
    with pytest.raises(error, match=message):
        epoch(**changes)


def test_kernels_refuse_wrong_shapes():
    X, W, out = np.zeros((4, 3)), np.zeros((2, 3)), np.zeros((4, 2))
    for args in [
        (X, None, np.zeros((2, 4)), None, out),
        (X, None, W, np.zeros(3), out),
        (X, None, W, None, np.zeros((5, 2))),
        (X, None, W, None, np.zeros((4, 3))),
    ]:
        with pytest.raises(ValueError, match="expected"):
            _kernels.scores(*args)
    with pytest.raises(IndexError):
        _kernels.scores(X, np.array([4]), W, None, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="labels"):
        _kernels.cross_entropy(out, np.array([0, 1, 2, 0], np.int32), np.zeros(4))
    with pytest.raises(ValueError, match="n_threads must be at least 1"):
        _kernels.scores(X, None, W, None, out, 0)
    with pytest.raises(ValueError, match="expected"):
        _kernels.gradient(X, None, np.zeros((4, 3)), np.zeros((2, 3)), np.zeros(2))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"y": np.full(23, 3, np.int32)}, ValueError, r"labels must be in \[0, 3\), found 3"),
        ({"y": np.zeros(22, np.int32)}, ValueError, "y has 22 elements, expected 23"),
        ({"W": np.zeros((3, 7))}, ValueError, "W has 7 columns, expected 6"),
        ({"b": np.zeros(2)}, ValueError, "b has 2 elements, expected 3"),
        ({"sample_weight": np.zeros(23)}, ValueError, "positive sum"),
        ({"sample_weight": np.ones(20)}, ValueError, "sample_weight has 20 elements, expected 23"),
        ({"dW": np.zeros((3, 5))}, ValueError, "dW has 5 columns, expected 6"),
        ({"db": np.zeros(4)}, ValueError, "db has 4 elements, expected 3"),
        ({"X": np.zeros((0, 6)), "y": np.zeros(0, np.int32)}, ValueError, "there must be rows"),
    ],
)
def test_loss_gradient_refuses(changes, error, message):
    p = Problem(20, 6, 3, np.float64)
    args = {"X": p.X, "y": p.y, "sample_weight": None, "W": p.W, "b": p.b}
    args |= {"dW": np.empty((3, 6)), "db": np.empty(3)}
    assert np.isfinite(_kernels.loss_gradient(*args.values()))
    with pytest.raises(error, match=message):
        _kernels.loss_gradient(*(args | changes).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": np.full(23, 3, np.int32)}, r"labels must be in \[0, 3\), found 3"),
        ({"y": np.zeros(22, np.int32)}, "y has 22 elements, expected 23"),
        ({"sample_weight": np.ones(22)}, "sample_weight has 22 elements, expected 23"),
        ({"sample_weight": np.zeros(23)}, "their weights have a positive sum; it is 0"),
        ({"Ws": np.ones((4, 3, 5))}, "Ws has 5 columns, expected 6"),
        ({"bs": np.ones((4, 2))}, "bs has 2 columns, expected 3"),
        ({"losses": np.ones(3)}, "losses has 3 elements, expected 4"),
    ],
)
def test_candidate_losses_refuses(changes, message):
    p = Problem(20, 6, 3, np.float64)
    args = {"X": p.X, "y": p.y, "sample_weight": None, "Ws": np.ones((4, 3, 6)), "bs": np.ones((4, 3))}
    args |= {"losses": np.empty(4)}
    _kernels.candidate_losses(*args.values())
    with pytest.raises(ValueError, match=message):
        _kernels.candidate_losses(*(args | changes).values())


@pytest.mark.wheel
def test_empty_problems_do_nothing():
    out = np.full((3, 2), 7.0)
    _kernels.scores(np.empty((3, 0)), None, np.empty((2, 0)), np.array([1.0, 2.0]), out)
    assert np.array_equal(out, [[1, 2]] * 3)
    dW, db = np.full((2, 5), 7.0), np.full(2, 7.0)
    _kernels.gradient(np.empty((0, 5)), None, np.empty((0, 2)), dW, db)
    assert not dW.any() and not db.any()


@dtypes
@pytest.mark.wheel
def test_padded(dtype):
    for D in (1, 16, 100, 1024, 3072):
        W = _kernels.padded(3, D, dtype)
        assert W.shape == (3, D) and W.dtype == dtype and not W.any()
        assert W.ctypes.data % 64 == 0 and W.strides[0] % 64 == 0 and W.strides[0] % 4096 != 0


# ---- Newton's method ------------------------------------------------------------------------------------


@isas
@pytest.mark.parametrize(("l1", "by_columns"), [(0.0, False), (0.02, False), (0.02, True)])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    ("n", "D", "C", "dtype"),
    [
        (40, 16, 3, np.float64),
        (100, 1, 2, np.float32),
        (130, 7, 2, np.uint8),
        (150, 4, 3, np.float32),
        (1500, 9, 2, np.float64),
        (2500, 11, 4, np.uint8),
        (60, 40, 2, np.float64),
    ],
)
def test_newton(isa, n, D, C, dtype, fit_intercept, l1, by_columns):
    rng = np.random.default_rng([n, D])
    X = rng.integers(0, 9, (n, D)) if dtype == np.uint8 else 3 * rng.standard_normal((n, D))
    X, y = X.astype(dtype), rng.integers(0, C, n).astype(np.int32)
    weight = rng.integers(0, 3, n).astype(float) if dtype == np.float32 else None
    rows = Rows(X, rng.standard_normal(D), rng.uniform(0.2, 0.5, D), np.float64)
    penalties = np.append(np.full(D, 0.03), 0), None if l1 == 0 else np.append(np.full(D, l1), 0)

    def run(kernels, n_threads=None, callback=None):
        Z = np.zeros((1 if C == 2 else C, D + 1))
        arguments = rows, y, weight, *penalties, fit_intercept, Z, 1e-6, 50, n_threads
        return Z, *kernels.newton(*arguments, ridge=1e-13, by_columns=by_columns, callback=callback)

    Z, value, gap, n_iter, status = run(_kernels)
    exact = run(reference)
    assert status == exact[4] == "converged"
    assert value == pytest.approx(exact[1], rel=1e-9) and gap <= 1e-9
    np.testing.assert_allclose(Z, exact[0], atol=1e-5)
    assert fit_intercept or not Z[:, -1].any()
    for n_threads in THREADS:
        assert run(_kernels, n_threads)[0].tobytes() == Z.tobytes()
    steps = []
    told = run(_kernels, 1, lambda Z, value, n_iter: steps.append(n_iter))
    assert told[0].tobytes() == Z.tobytes() and told[1:] == (value, gap, n_iter, status)
    assert steps == list(range(1, n_iter + 1))


@pytest.mark.parametrize("l2", [0.0, 0.01])
@pytest.mark.parametrize(("n", "D", "C"), [(30, 100, 2), (20, 50, 4), (65, 200, 3)])
def test_newton_by_columns_of_more_features_than_rows(n, D, C, l2):
    rng = np.random.default_rng([n, D])
    X, y = rng.standard_normal((n, D)), rng.integers(0, C, n).astype(np.int32)
    X[:, 1] = X[:, 0]  # which of the two has the weight is open
    penalties = np.append(np.full(D, l2), 0), np.append(np.full(D, 1e-3), 0)

    def run(most, by_columns):
        Z = np.zeros((1 if C == 2 else C, D + 1))
        found = _kernels.newton(
            X, y, None, *penalties, True, Z, 1e-5, most, ridge=1e-13, by_columns=by_columns
        )
        return Z, *found

    Z, value, gap, _, status = run(200, True)
    assert status == "converged" and gap <= 1e-7 * value
    assert value == pytest.approx(run(200, False)[1], rel=1e-6)
    assert np.count_nonzero(Z) < Z.size / 2 or l2
    # Of few steps, few are by a larger penalty: value and gap are of the penalty given.
    for most in (3, 9):
        early = run(most, True)
        assert early[3] <= most and early[1] >= value > early[1] - early[2]


@pytest.mark.parametrize("C", [1, 3])
def test_duality_gap(C):
    rng = np.random.default_rng(C)
    Z, G = rng.standard_normal((2, C, 7))
    Z[:, 2] = 0
    for l2, l1 in itertools.product((np.zeros(7), rng.random(7)), repeat=2):
        gap = _kernels.duality_gap(Z, 30.0, G, l2, l1)
        assert gap == pytest.approx(reference.duality_gap(Z, 30.0, G, l2, l1), rel=1e-13) and gap > 0
    nothing = np.zeros((C, 0)), 30.0, np.zeros((C, 0)), np.zeros(0), np.zeros(0)
    assert _kernels.duality_gap(*nothing) == reference.duality_gap(*nothing) == 0
    with pytest.raises(ValueError, match="G has 6 columns, expected 7"):
        _kernels.duality_gap(Z, 30.0, np.ascontiguousarray(G[:, 1:]), l2, l1)


def test_duality_gap_bounds_how_far_the_minimum_is():
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((60, 8)), rng.integers(0, 3, 60).astype(np.int32)
    for l2, l1 in ((0.0, 0.02), (0.05, 0.02), (0.05, 0.0)):
        penalties = np.append(np.full(8, l2), 0), np.append(np.full(8, l1), 0)
        least = np.inf
        for most in (50, 4, 1, 0):
            Z = np.zeros((3, 9))
            value, gap, *_ = reference.newton(X, y, None, *penalties, True, Z, 1e-9, most)
            least = min(least, value)
            if l1:
                assert value - least <= gap + 1e-15
        assert reference.newton(X, y, None, *penalties, True, Z, 1e-9, 50)[1] < 1e-8


def test_newton_ends_where_it_is_told():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 3)), rng.integers(0, 2, 50).astype(np.int32)
    Z = np.zeros((1, 4))
    assert _kernels.newton(X, y, None, np.full(4, 1e-3), None, True, Z, 1e-4, 0)[2:] == (0, "searching")
    assert not Z.any()
    value, _, n_iter, _ = _kernels.newton(
        X, y, None, np.full(4, 1e-3), None, True, Z, 1e-4, 50, callback=lambda Z, value, n_iter: n_iter == 1
    )
    assert n_iter == 1 and Z.any() and value < np.log(2)
    X[0, 0] = np.nan
    assert _kernels.newton(X, y, None, np.full(4, 1e-3), None, True, 0 * Z, 1e-4, 50)[3] == "stuck"


def test_newton_on_classes_that_a_line_separates():
    # The loss has no minimum but 0, far out, where all probabilities are 0 or 1.
    X, y = np.array([[-1.0], [1.0]]), np.array([0, 1], np.int32)
    Z = np.zeros((1, 2))
    value, _, _, status = _kernels.newton(X, y, None, np.zeros(2), None, True, Z, 1e-4, 100, ridge=1e-14)
    assert status == "converged" and 0 <= value < 1e-8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Z": np.zeros((2, 4))}, "Z must have a row for each class, or one for two classes.*got 2 rows"),
        ({"Z": np.zeros((0, 4))}, "got 0 rows"),
        ({"Z": np.zeros((1, 3))}, "Z has 3 columns, expected 4"),
        ({"max_iter": -1}, "max_iter=-1"),
        ({"l2": np.zeros(3)}, "l2 has 3 elements, expected 4"),
        ({"l1": np.zeros(5)}, "l1 has 5 elements, expected 4"),
        ({"y": np.full(9, 2, np.int32)}, "labels"),
        ({"sample_weight": np.zeros(9)}, "positive sum"),
        ({"by_columns": True}, "by_columns=True needs l1"),
    ],
)
def test_newton_refuses(changes, message):
    call = {
        "X": np.zeros((9, 3)),
        "y": np.zeros(9, np.int32),
        "sample_weight": None,
        "l2": np.ones(4),
        "l1": None,
        "fit_intercept": True,
        "Z": np.zeros((1, 4)),
        "tol": 1e-4,
        "max_iter": 9,
    }
    with pytest.raises(ValueError, match=message):
        _kernels.newton(**call | changes)


# ---- several models in one epoch -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "asgd"])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"max_norm": 1.0}, {"label_smoothing": 0.1}])
@isas
@dtypes
def test_a_model_is_what_it_is_alone(isa, dtype, name, options):
    # Rates, penalties and row weights of their own; 40 features are not a multiple of the lanes.
    rng = np.random.default_rng(0)
    N, D, C, models, batch_size = 70, 40, 3, 4, 32
    X, y = rng.standard_normal((N, D)).astype(dtype), rng.integers(0, C, N).astype(np.int32)
    fold = (rng.random(N) < 0.8).astype(dtype)
    row_weight = [None, fold, fold, rng.random(N).astype(dtype)]
    W, b = rng.standard_normal((models * C, D)).astype(dtype), np.zeros(models * C, dtype)
    order, n_steps = rng.permutation(N), 3
    shape = n_steps, models
    numbers = {
        "learning_rates": 10.0 ** rng.uniform(-3, -1, shape),
        "alphas": 10.0 ** rng.uniform(-3, 0, shape),
    }
    l1s, scales = 10.0 ** rng.uniform(-4, -2, shape), np.full(shape, 1 / batch_size, dtype)
    l1s[:, 2] = 0
    optimizer = optimizers.get(name)
    shift, metric = rng.standard_normal(D).astype(dtype), rng.uniform(0.5, 2, D).astype(dtype)

    def run(kernels, at, weights, n_threads=None):
        """An epoch of the models `at`, the only one of which loses its axis."""
        rows = np.arange(models * C).reshape(models, C)[at].reshape(-1)
        new = W[rows], b[rows]
        states = [optimizers.State(optimizer, new[0])]
        norms = np.empty_like(np.ascontiguousarray(l1s[:, at]))
        losses = kernels.epoch(
            X, y, weights, order, [new], np.ascontiguousarray(numbers["learning_rates"][:, at]), batch_size,
            np.ascontiguousarray(numbers["alphas"][:, at]), np.ascontiguousarray(scales[:, at]), n_threads,
            optimizer=optimizer, states=states, l1s=np.ascontiguousarray(l1s[:, at]), shift=shift,
            metric=metric, square_norms=norms, **options,
        )  # fmt: skip
        assert states[0].t == n_steps
        return *new, losses, norms, states[0].W, states[0].b

    together = same_for_any_threads(lambda n: run(_kernels, slice(None), row_weight, n))
    for i in range(models):
        its = slice(i * C, (i + 1) * C)
        alone = run(_kernels, i, row_weight[i])
        of_model = (together[0][its], together[1][its], together[2][:, i], together[3][:, i],
                    together[4][:, its], together[5][:, its])  # fmt: skip
        for a, o in zip(alone, of_model, strict=True):
            assert a.tobytes() == np.ascontiguousarray(o).tobytes()
        # in other company and another order
        pair = run(_kernels, [models - 1, i], [row_weight[-1], row_weight[i]])
        assert pair[0][C:].tobytes() == together[0][its].tobytes()
    for a, exact in zip(together, run(reference, slice(None), row_weight), strict=True):
        np.testing.assert_allclose(a, exact, rtol=1e-3, atol=1e-4)


def test_a_model_that_diverges_disturbs_no_other():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((64, 5)), rng.integers(0, 3, 64).astype(np.int32)

    def run(rates, **options):
        models = len(rates)
        W, b = np.zeros((3 * models, 5)), np.zeros(3 * models)
        rates = np.tile(np.asarray(rates, float), (4, 1))
        losses = _kernels.epoch(
            X, y, None, np.arange(64), [(W, b)], rates, 16, np.ones_like(rates), np.full_like(rates, 1 / 16),
            **options,
        )  # fmt: skip
        return W, losses

    W, losses = run([1e200, 0.1], clip_norm=1e300)
    alone, its = run([0.1], clip_norm=1e300)
    assert not np.isfinite(losses[:, 0]).all()
    assert W[3:].tobytes() == alone.tobytes() and losses[:, 1].tobytes() == its[:, 0].tobytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rates": np.ones((2, 4))}, "as many outputs of each; there are 1 layers, the last of 6"),
        ({"learning_rates": np.ones((2, 0))}, "learning_rates are of 0 models"),
        ({"alphas": np.ones(2)}, r"alphas must be a contiguous array of shape \(2, 2\); got \(2,\)"),
        ({"scales": np.ones((2, 3))}, r"scales must be a contiguous array of shape \(2, 2\)"),
        ({"row_weight": [None]}, "row_weight has 1 elements, expected 2"),
        ({"layers": [(np.ones((4, 5)), np.ones(4)), (np.ones((6, 4)), np.ones(6))]}, "there are 2 layers"),
    ],
)
def test_models_that_do_not_fit_are_refused(changes, message):
    call = {
        "X": np.ones((8, 5)),
        "y": np.zeros(8, np.int32),
        "row_weight": None,
        "order": np.arange(8),
        "layers": [(np.ones((6, 5)), np.ones(6))],
        "learning_rates": np.ones((2, 2)),
        "batch_size": 4,
        "alphas": np.ones((2, 2)),
        "scales": np.ones((2, 2)),
    }
    with pytest.raises(ValueError, match=message):
        _kernels.epoch(**call | changes)
