"""Rows of every dtype and layout, and standardised on the way: the kernels read what NumPy reads."""

import numpy as np
import pytest
from kernel_harness import isas, linear_epoch

from softline import _kernels, reference
from softline._kernels.rows import KERNEL_DTYPES, Rows, in_row_order
from softline._training.column_stats import ColumnStats

N, D, C = 37, 150, 5


def dtype_named(name):
    return pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)


def matrix(name, n=N, d=D):
    """Random numbers over the range of a dtype's integers, or around 0."""
    rng = np.random.default_rng(0)
    dtype = dtype_named(name)
    if name in ("uint8", "int8", "bool"):
        return rng.integers(-128, 128, (n, d)).astype(dtype)
    return rng.standard_normal((n, d)).astype(dtype)


def layouts(X, folder):
    """The same matrix, laid out in every way that NumPy knows."""
    wide = np.zeros((2 * len(X), 3 * X.shape[1] + 1), X.dtype)
    wide[::2, 1::3] = X
    mapped = np.lib.format.open_memmap(folder / "X.npy", "w+", np.uint8, (X.nbytes,))
    mapped[:] = X.view(np.uint8).ravel()
    mapped.flush()
    mapped = np.load(folder / "X.npy", mmap_mode="r").view(X.dtype).reshape(X.shape)
    assert not mapped.flags.writeable
    return {
        "C": X,
        "Fortran": np.asfortranarray(X),
        "sliced": wide[::2, 1::3],
        "backwards": X[::-1, ::-1].copy()[::-1, ::-1],
        "read-only memory map": mapped,
        "unaligned": np.frombuffer(b" " + X.tobytes(), np.uint8)[1:].view(X.dtype).reshape(X.shape),
    }


@isas
@pytest.mark.parametrize("name", KERNEL_DTYPES)
def test_any_dtype_and_layout_is_read_as_numpy_reads_it(isa, name, tmp_path):
    """Bit for bit what the matrix gives once converted to what is computed in."""
    X = matrix(name)
    rng = np.random.default_rng(1)
    dtype = Rows(X).dtype
    W, b = rng.standard_normal((C, D)).astype(dtype), rng.standard_normal(C).astype(dtype)
    idx, y = rng.permutation(N)[:33], rng.integers(0, C, N).astype(np.int32)
    dscores = rng.standard_normal((33, C)).astype(dtype)

    def run(X):
        out, dW, db = np.empty((33, C), dtype), np.empty((C, D), dtype), np.empty(C, dtype)
        _kernels.scores(X, idx, W, b, out)
        _kernels.gradient(X, idx, dscores, dW, db)
        stats, guessed = _kernels.column_stats(X, idx, None), np.empty(1)
        _kernels.candidate_losses(X, y, None, W[None], b[None], guessed)
        stepped, b_stepped = W.copy(), b.copy()
        losses = linear_epoch(
            _kernels, X, y, None, idx, stepped, b_stepped, np.full(5, 1e-4), 7, 1e-2, None, None, True
        )
        return [out, dW, db, *stats, guessed, stepped, b_stepped, losses]

    expected = run(X.astype(dtype))
    for layout, form in layouts(X, tmp_path).items():
        assert np.array_equal(form, X)
        for a, e in zip(run(form), expected, strict=True):
            assert a.tobytes() == e.tobytes(), layout


@isas
@pytest.mark.parametrize("name", KERNEL_DTYPES)
@pytest.mark.parametrize(("shifted", "scaled"), [(True, True), (True, False), (False, True)])
def test_rows_are_standardised_on_the_way(isa, name, shifted, scaled):
    X = matrix(name)
    rng = np.random.default_rng(2)
    rows = Rows(X, rng.random(D) if shifted else None, 1 + rng.random(D) if scaled else None)
    plain = rows[:]
    assert plain.dtype == rows.dtype
    W, out, expected = rng.standard_normal((C, D)).astype(rows.dtype), *np.empty((2, N, C), rows.dtype)
    _kernels.scores(rows, None, W, None, out)
    _kernels.scores(plain, None, W, None, expected)
    assert out.tobytes() == expected.tobytes()
    stats = [_kernels.column_stats(X, None, None) for X in (rows, plain)]
    for a, e in zip(*stats, strict=True):
        assert a.tobytes() == e.tobytes()
    reference.scores(rows, None, W, None, expected)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@isas
def test_every_half_and_every_bfloat(isa):
    """All 65536 values of either, the subnormal, infinite and NaN ones included."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype in (np.float16, ml_dtypes.bfloat16):
        values = np.arange(2**16, dtype=np.uint16).view(dtype)
        with np.errstate(invalid="ignore"):
            expected = values.astype(np.float32)
        finite = np.isfinite(expected)
        for D in (1, 64):  # read one by one, and by the vector
            out = np.empty((2**16 // D, D), np.float32)
            X = np.where(finite, values, dtype(0)).reshape(-1, D)
            _kernels.scores(X, None, np.eye(D, dtype=np.float32), None, out)
            assert np.array_equal(out.ravel(), np.where(finite, expected, 0))
        for bad in (np.inf, -np.inf, np.nan):
            X = np.full((1, 17), bad, dtype)
            out = np.empty((1, 1), np.float32)
            _kernels.scores(X, None, np.ones((1, 17), np.float32), None, out)
            assert np.array_equal(out[0, 0], np.float32(bad), equal_nan=True)


@pytest.mark.wheel
def test_rows_refuse_what_the_kernels_do_not_read():
    for dtype in (np.int64, np.complex64, ">f4", object):
        with pytest.raises(TypeError, match="X must be of native float32"):
            Rows(np.zeros((2, 3), dtype))
    rows = Rows(np.zeros((2, 3), np.uint8), np.zeros(4))
    with pytest.raises(ValueError, match="shift of X has 4 elements, expected 3"):
        _kernels.scores(rows, None, np.zeros((1, 3), np.float32), None, np.zeros((2, 1), np.float32))
    with pytest.raises(ValueError, match="shift of X must be of native float64; got float32"):
        rows = Rows(np.zeros((2, 3), np.uint8), np.zeros(3))
        _kernels.scores(rows, None, np.zeros((1, 3)), None, np.zeros((2, 1)))


def test_weights_move_between_rows_and_their_array():
    """Scores of the standardised rows are scores of the array itself, there and back."""
    rng = np.random.default_rng(3)
    X, W, b = rng.standard_normal((9, 4)) * 7 + 50, rng.standard_normal((3, 4)), rng.standard_normal(3)
    scale = np.array([0.5, 2.0, 0.0, 3.0])
    W[:, 2] = 0
    rows = Rows(X, X.mean(axis=0), scale)
    coef, intercept = rows.weights_for_array(W, b)
    np.testing.assert_allclose(X @ coef.T + intercept, rows[:] @ W.T + b)
    back, b_back = rows.weights_from_array(coef, intercept)
    np.testing.assert_allclose(back, W)
    np.testing.assert_allclose(b_back, b)
    coef[:, 2] = 7  # what the scale of 0 leaves nothing of
    back, b_back = rows.weights_from_array(coef, intercept)
    np.testing.assert_allclose(back, W)
    np.testing.assert_allclose(b_back, b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_for_the_array_have_the_dtype_of_those_of_the_rows(dtype):
    X = np.ones((2, 3), dtype)
    for rows in (Rows(X), Rows(X, X[0]), Rows(X, X[0], X[0])):
        layers = rows.layers_for_array([(np.ones((4, 3), dtype), np.ones(4, dtype))])
        assert {array.dtype for layer in layers for array in layer} == {np.dtype(dtype)}


def test_rows_are_aligned():
    for offset in (0, 1):
        X = np.frombuffer(bytes(8 + 48), np.uint8)[offset : offset + 48].view(np.float64).reshape(2, 3)
        rows = Rows(X)
        assert rows.array.flags.aligned and (rows.array is X) == X.flags.aligned


def test_column_stats_of_a_stream_are_those_of_the_whole():
    rng = np.random.default_rng(4)
    X = rng.standard_normal((1000, 20)) * rng.random(20) + 1e4 * rng.random(20)
    X[:, 7] = 3
    weight = rng.integers(0, 4, 1000).astype(float)
    stats = ColumnStats(20)
    for first in (0, 1, 300, 999):
        last = {0: 1, 1: 300, 300: 999, 999: 1000}[first]
        stats.update(Rows(X), np.arange(first, last), weight[first:last])
    mean = np.average(X, axis=0, weights=weight)
    np.testing.assert_allclose(stats.mean, mean, rtol=1e-12)
    variance = np.average((X - mean) ** 2, axis=0, weights=weight)
    np.testing.assert_allclose(stats.squares / stats.weight, variance, rtol=1e-7, atol=1e-9)
    shift, scale = stats.standardization(center=True)
    Z = (X - shift) * scale
    assert not Z[:, 7].any()
    shift, scale = stats.standardization(center=False)
    assert shift is None and scale[7] == 1
    np.testing.assert_allclose(np.average(Z**2, axis=0, weights=weight)[:7], 1)


def test_a_variance_beside_a_large_mean_keeps_its_digits():
    """float32 values of 10000 +- 1: a sum of squares would have no digit left."""
    X = (1e4 + np.random.default_rng(5).standard_normal((5000, 3))).astype(np.float32)
    _, squares, _, _ = _kernels.column_stats(X, None, None)
    np.testing.assert_allclose(squares / len(X), X.astype(float).var(axis=0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (255, 257), (600, 300)])
def test_copies_in_row_order_only_what_is_not(shape):
    X = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    assert in_row_order(X) is X
    copy = in_row_order(np.asfortranarray(X))
    assert copy.flags.c_contiguous
    np.testing.assert_array_equal(copy, X)
