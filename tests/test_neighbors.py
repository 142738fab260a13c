"""Nearest neighbours: the kernels against their twins, the classifier against scikit-learn's."""

import pickle
import tracemalloc

import numpy as np
import pytest
from kernel_harness import isas
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KDTree
from sklearn.neighbors import KNeighborsClassifier as SklearnKNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from softline import _kernels, datasets, reference
from softline._kernels.rows import KERNEL_DTYPES
from softline.neighbors import KNeighborsClassifier

metrics = pytest.mark.parametrize("metric", _kernels.METRICS)
# (training rows, queries, features, neighbours): around the widths of registers, tiles, chunks and blocks
SHAPES = [
    (N, n, D, min(N, 5)) for N in (1, 15, 16, 17, 63, 65) for n, D in ((1, 1), (2, 33), (17, 64), (31, 3))
]
SHAPES += [(70, 9, D, 3) for D in (2, 15, 16, 31, 32, 63, 65, 511, 513, 1025, 3073)]
SHAPES += [(400, 130, 20, 1), (300, 3, 7, 300), (130, 260, 40, 130), (4, 0, 3, 2)]


def matrix(name, n, d, seed=0):
    """Small whole numbers, so that many distances are equal, or normal variates, for every other shape."""
    rng = np.random.default_rng([n, d, seed])
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)
    if name in ("uint8", "int8", "bool"):
        return rng.integers(-128, 128, (n, d)).astype(dtype)
    X = rng.standard_normal((n, d))
    return (np.round(X) if d % 2 else X).astype(dtype)


def all_distances(Q, X, metric, n_threads=None):
    out = np.full((len(Q), len(X)), np.nan)
    _kernels.distances(Q, X, metric, out, n_threads)
    return out


def neighbours(Q, X, metric, k, n_threads=None):
    neigh_dist, neigh_ind = np.full((len(Q), k), np.nan), np.full((len(Q), k), -1)
    _kernels.nearest(Q, X, metric, neigh_dist, neigh_ind, n_threads)
    return neigh_dist, neigh_ind


def assert_nearest(Q, X, metric, k, n_threads=None):
    """What `nearest` finds is what sorting all distances gives, to the bit."""
    neigh_dist, neigh_ind = neighbours(Q, X, metric, k, n_threads)
    every = all_distances(Q, X, metric, n_threads)
    order = np.argsort(every, axis=1, kind="stable")[:, :k]
    assert np.array_equal(neigh_ind, order)
    assert neigh_dist.tobytes() == np.take_along_axis(every, order, axis=1).tobytes()


# ---- kernels ---------------------------------------------------------------------------------------------


@isas
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_kernels_are_right(isa, dtype):
    for N, n, D, k in SHAPES:
        X, Q = matrix(dtype, N, D), matrix(dtype, n, D, 1)
        for metric in _kernels.METRICS:
            exact = np.empty((n, N))
            reference.distances(Q, X, metric, exact)
            np.testing.assert_allclose(all_distances(Q, X, metric), exact, rtol=1e-13)
            assert_nearest(Q, X, metric, k)


@isas
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@metrics
def test_any_number_of_threads_gives_the_same_bits(isa, dtype, metric):
    for N, n, D, k in ((1000, 300, 40, 7), (1000, 1, 40, 1000), (400, 40, 513, 3), (30, 5, 5, 2)):
        X, Q = matrix(dtype, N, D), matrix(dtype, n, D, 1)
        expected, every = neighbours(Q, X, metric, k, 1), all_distances(Q, X, metric, 1)
        for n_threads in (2, 3, 7, None):
            for a, e in zip(neighbours(Q, X, metric, k, n_threads), expected, strict=True):
                assert a.tobytes() == e.tobytes()
            assert all_distances(Q, X, metric, n_threads).tobytes() == every.tobytes()


@metrics
def test_instruction_sets_give_the_same_bits(metric):
    X, Q = matrix("float64", 200, 1026), matrix("float64", 30, 1026, 1)
    found = set()
    for isa, runs in _kernels.isas().items():
        if runs and isa != "baseline":  # which has no fused multiply-add
            _kernels._use_isa(isa)
            found.add(b"".join(a.tobytes() for a in neighbours(Q, X, metric, 9)))
    _kernels._use_isa()
    assert len(found) <= 1


@metrics
def test_the_twin_finds_the_same(metric):
    X, Q = matrix("uint8", 90, 5), matrix("uint8", 30, 5, 1)
    neigh_dist, neigh_ind = np.empty((30, 9)), np.empty((30, 9), np.intp)
    reference.nearest(Q, X, metric, neigh_dist, neigh_ind)
    for a, e in zip(neighbours(Q, X, metric, 9), (neigh_dist, neigh_ind), strict=True):
        assert np.array_equal(a, e)


@isas
@metrics
def test_any_pair_of_dtypes_and_layouts(isa, metric, tmp_path):
    """As the float64 copies of the same numbers."""
    for name in KERNEL_DTYPES:
        X = matrix(name, 70, 33)
        mapped = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.uint8, (X.nbytes,))
        mapped[:] = X.view(np.uint8).ravel()
        wide = np.zeros((140, 100), X.dtype)
        wide[::2, 1::3] = X
        forms = [X, np.asfortranarray(X), wide[::2, 1::3], X[::-1, ::-1].copy()[::-1, ::-1]]
        forms.append(mapped.view(X.dtype).reshape(X.shape))
        for other in KERNEL_DTYPES:
            Q = matrix(other, 5, 33, 1)
            expected = neighbours(Q.astype(float), X.astype(float), metric, 4)
            for form in forms if other == name else forms[:1]:
                for a, e in zip(neighbours(Q, form, metric, 4), expected, strict=True):
                    assert a.tobytes() == e.tobytes(), (name, other)


@metrics
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("scale", "offset"), [(1, 0), (1, 1e6), (1e-3, 1e6), (1e18, 0), (1e-18, 0), (1e37, 0), (1e-40, 0), (0, 3)]
)
def test_the_filter_never_decides(metric, dtype, scale, offset):
    """Where float32 has no digits left for the differences, or overflows, or underflows."""
    rng = np.random.default_rng(0)
    X, Q = ((offset + scale * rng.standard_normal((n, 37))).astype(dtype) for n in (150, 20))
    with np.errstate(over="ignore"):
        assert_nearest(Q, X, metric, 7)


@metrics
def test_float64_beyond_float32(metric):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 37))
    Q = rng.standard_normal((20, 37))
    for scale in (1e140, 1e-140):
        assert_nearest(scale * Q, scale * X, metric, 7)
    X[1::7] *= 1e30  # rows that the sample may not have shown
    X[3::11] *= 1e-60
    assert_nearest(Q, X, metric, 150)
    assert_nearest(1e30 * Q, X, metric, 150)
    assert_nearest(Q, X + 1e-9 * rng.integers(0, 3, X.shape), metric, 7)


@metrics
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_equal_rows_come_in_order(metric, dtype):
    """Of many at the same distance the lowest numbers, whatever came before them."""
    X = np.repeat(matrix(dtype, 3, 20), 100, axis=0)
    Q = np.concatenate([X[:1], X[-1:], matrix(dtype, 2, 20, 1)])
    for k in (1, 5, 150, 300):
        assert_nearest(Q, X, metric, k, 2)
    neigh_dist, neigh_ind = neighbours(Q, X, metric, 5)
    assert np.array_equal(neigh_ind[:2], [[0, 1, 2, 3, 4], [200, 201, 202, 203, 204]])
    assert not neigh_dist[:2].any()


@isas
@metrics
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_a_tree_finds_the_same_to_the_bit(isa, metric, dtype):
    """Ties, rows that are equal, queries far away, and numbers whose squares underflow or overflow, too."""
    for N, n, D, k in ((1, 3, 2, 1), (31, 70, 1, 31), (300, 130, 2, 5), (300, 130, 3, 40), (200, 9, 8, 7),
                       (200, 9, 11, 7), (90, 5, 16, 3)):  # fmt: skip
        X, Q = matrix(dtype, N, D), matrix(dtype, n, D, 1)
        X[N // 2 :] = X[: N - N // 2]
        for scale in (1, 1e-161, 1e153) if dtype == "float64" else (1,):
            x, q = (A * np.array(scale, A.dtype) for A in (X, Q))
            expected = neighbours(q, x, metric, k)
            tree = KDTree(x, leaf_size=3)
            for n_threads in (1, 3):
                found = np.empty((n, k)), np.empty((n, k), np.intp)
                _kernels.nearest(q, x, metric, *found, n_threads, tree)
                for a, e in zip(found, expected, strict=True):
                    assert a.tobytes() == e.tobytes()


@metrics
def test_ever_nearer_rows(metric):
    """Each row is nearer than all before it."""
    for dtype in (np.uint8, np.float32):
        X = np.arange(200, 0, -1)[:, None].astype(dtype) * np.ones(5, dtype)
        assert_nearest(np.zeros((3, 5), dtype), X, metric, 4)


@metrics
def test_rows_of_very_many_bytes(metric):
    """More than integers of 32 bits hold the sums of."""
    for D in (16512, 16513, 40000):
        X, Q = np.zeros((5, D), np.uint8), np.full((2, D), 255, np.uint8)
        X[1:4, ::2] = 255
        X[2, 1::2] = 255
        X[3, 5] = 254
        assert_nearest(Q, X, metric, 5)


def test_kernels_refuse_what_does_not_fit():
    Q, X = np.zeros((3, 4)), np.zeros((5, 4))
    with pytest.raises(
        ValueError, match="metric must be one of manhattan, euclidean, sqeuclidean; got 'cosine'"
    ):
        all_distances(Q, X, "cosine")
    with pytest.raises(ValueError, match="Q has 3 columns, expected 4"):
        all_distances(Q[:, :3], X, "euclidean")
    with pytest.raises(ValueError, match="out has 5 rows, expected 3"):
        _kernels.distances(Q, X, "euclidean", np.empty((5, 3)))
    with pytest.raises(ValueError, match="there are 5 rows, of which 6 cannot be the nearest"):
        neighbours(Q, X, "euclidean", 6)
    with pytest.raises(ValueError, match="neigh_ind has 2 columns, expected 1"):
        _kernels.nearest(Q, X, "euclidean", np.empty((3, 1)), np.empty((3, 2), np.intp))
    with pytest.raises(TypeError, match="X must be of native float32"):
        all_distances(Q, X.astype(int), "euclidean")
    out = np.empty((3, 1)), np.empty((3, 1), np.intp)
    with pytest.raises(TypeError, match="tree must be a KDTree of scikit-learn; got ndarray"):
        _kernels.nearest(Q, X, "euclidean", *out, None, X)
    with pytest.raises(ValueError, match=r"tree must be that of X, \(5, 4\); got one of \(4, 4\)"):
        _kernels.nearest(Q, X, "euclidean", *out, None, KDTree(X[1:]))
    with pytest.raises(ValueError, match="Q and X must be finite"):
        _kernels.nearest(Q + np.nan, X, "euclidean", *out, None, KDTree(X))


# ---- the classifier against scikit-learn's ---------------------------------------------------------------


def assert_agrees(X, y, queries, dtypes, **parameters):
    """Same distances and, where no two of them are equal, same neighbours and votes.

    Of the rows that are equally far as the last neighbour, scikit-learn keeps any. X are whole numbers: each
    dtype gives the same bits.
    """
    theirs = SklearnKNeighborsClassifier(algorithm="brute", **parameters).fit(X.astype(float), y)
    ours = KNeighborsClassifier(**parameters).fit(X.astype(float), y)
    for Q in queries:
        neigh_dist, neigh_ind = ours.kneighbors(Q)
        their_dist, their_ind = theirs.kneighbors(Q)
        np.testing.assert_allclose(neigh_dist, their_dist, rtol=1e-9, atol=1e-6)
        farther = np.diff(ours.kneighbors(Q, neigh_dist.shape[1] + 1)[0], axis=1) > 0
        no_tie, same_rows = farther.all(axis=1), farther[:, -1]
        assert same_rows.mean() > 0.5
        assert np.array_equal(neigh_ind[no_tie], their_ind[no_tie])
        probabilities = ours.predict_proba(Q)
        np.testing.assert_allclose(probabilities[same_rows], theirs.predict_proba(Q)[same_rows], rtol=1e-12)
        assert np.array_equal(ours.predict(Q)[same_rows], theirs.predict(Q)[same_rows])
        for dtype in dtypes:
            other = KNeighborsClassifier(**parameters).fit(X.astype(dtype), y)
            other_Q = None if Q is None else Q.astype(dtype)
            for a, e in zip(other.kneighbors(other_Q), (neigh_dist, neigh_ind), strict=True):
                assert a.tobytes() == e.tobytes()
            assert np.array_equal(other.predict_proba(other_Q), probabilities)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"p": 1},
        {"metric": "l2", "n_neighbors": 1},
        {"metric": "cityblock", "n_neighbors": 30, "weights": "distance"},
        {"metric": "sqeuclidean", "weights": "distance"},
        {"weights": lambda neigh_dist: np.exp(-neigh_dist / 30)},
        {"weights": None, "n_jobs": 2},
    ],
)
def test_digits(digits, parameters):
    """Whole numbers: every third query has a tie among its neighbours."""
    X, Q, y, _ = digits
    X = np.concatenate([X[:500], X[:20]])  # some rows twice
    assert_agrees(X, y[np.arange(520) % 500], [Q, None], [np.uint8, np.float32], **parameters)


@pytest.mark.parametrize("p", [1, 2])
def test_mnist(mnist_dir, p):
    part = datasets.load_mnist(mnist_dir, validation_fraction=0)
    X, Q = part.X_train[:2000], part.X_test[:50]
    assert_agrees(X, part.y_train[:2000], [Q], [np.uint8, np.float32], p=p)


@pytest.mark.parametrize("p", [1, 2])
def test_cifar10(cifar10_dir, p):
    part = datasets.load_cifar10(cifar10_dir, validation_fraction=0)
    X, Q = part.X_train[:1000], part.X_test[:20]
    assert_agrees(X, part.y_train[:1000], [Q], [np.uint8, np.float32], p=p)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("parameters", [{}, {"p": 1, "weights": "distance"}, {"metric": "sqeuclidean"}])
def test_few_features_are_searched_by_a_tree(parameters, dtype):
    """With the results of brute force, ties among them."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 99, (3000, 2)).astype(dtype), rng.integers(0, 3, 3000)
    Q = rng.integers(0, 120, (500, 2)).astype(dtype)
    tree, brute = (KNeighborsClassifier(algorithm=a, **parameters).fit(X, y) for a in ("auto", "brute"))
    assert tree._search_tree is not None and brute._search_tree is None
    for queries in (Q, None):
        for a, b in zip(tree.kneighbors(queries), brute.kneighbors(queries), strict=True):
            assert a.tobytes() == b.tobytes()
        assert np.array_equal(tree.predict_proba(queries), brute.predict_proba(queries))
        assert np.array_equal(tree.predict(queries), brute.predict(queries))
    again = pickle.loads(pickle.dumps(tree))
    assert np.array_equal(again.kneighbors(Q)[1], brute.kneighbors(Q)[1])


def test_many_features_are_searched_by_brute_force():
    X = np.random.default_rng(0).standard_normal((2000, 14))
    assert KNeighborsClassifier().fit(X, X[:, 0] > 0)._search_tree is None
    assert KNeighborsClassifier().fit(X[:, [0] * 14], X[:, 0] > 0)._search_tree is not None  # along a line


@pytest.mark.wheel
def test_votes_tie_for_the_first_class():
    X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array(["d", "c", "b", "a"])
    model = KNeighborsClassifier(n_neighbors=4).fit(X, y)
    assert model.predict([[0.1]]) == ["a"]
    assert np.array_equal(model.predict_proba([[0.1]]), np.full((1, 4), 0.25))
    assert model.set_params(weights="distance").predict([[0.1]]) == ["d"]


def test_neighbours_at_distance_zero_outweigh_all_others():
    X, y = np.array([[0.0], [0.0], [1.0], [1.0], [1.0]]), [2, 1, 0, 0, 0]
    model = KNeighborsClassifier(weights="distance").fit(X, y)
    assert np.array_equal(model.predict_proba([[0.0]]), [[0, 0.5, 0.5]])


def test_training_rows_without_themselves():
    """A row that has more equals than neighbours leaves out itself all the same."""
    X = np.zeros((9, 3), np.float32)
    neigh_dist, neigh_ind = KNeighborsClassifier(n_neighbors=3).fit(X, np.arange(9)).kneighbors()
    assert not neigh_dist.any()
    assert np.array_equal(neigh_ind[[0, 2, 8]], [[1, 2, 3], [0, 1, 3], [0, 1, 2]])


def test_several_outputs(digits):
    X, Q, y, _ = digits
    Y = np.column_stack([y, y % 3])
    for weights in ("uniform", "distance"):
        ours, theirs = (
            C(weights=weights, algorithm="brute").fit(X, Y)
            for C in (KNeighborsClassifier, SklearnKNeighborsClassifier)
        )
        assert ours.outputs_2d_ and len(ours.classes_) == 2
        assert np.mean(ours.predict(Q) != theirs.predict(Q)) < 0.01
        for a, e in zip(ours.predict_proba(Q), theirs.predict_proba(Q), strict=True):
            assert a.shape == e.shape
            assert np.mean(np.abs(a - e)) < 0.01
    text = np.array([["a", "longer"], ["b", "x"]])
    assert KNeighborsClassifier(1).fit([[0.0], [1.0]], text).predict([[0.2]]).tolist() == [["a", "longer"]]


def test_column_vector_y_warns(digits):
    X, Q, y, _ = digits
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        model = KNeighborsClassifier().fit(X, y[:, None])
    assert np.array_equal(model.predict(Q), KNeighborsClassifier().fit(X, y).predict(Q))


# ---- scikit-learn's conventions --------------------------------------------------------------------------


@parametrize_with_checks(
    [KNeighborsClassifier(), KNeighborsClassifier(p=1, weights="distance")],
    expected_failed_checks=lambda model: {
        f"check_estimator_sparse_{form}": "scikit-learn's own L1 of sparse rows takes no 64-bit indices"
        for form in ("array", "matrix")
        if model.p == 1
    },
)
def test_estimator_checks(estimator, check):
    check(estimator)


def test_is_scikit_learns_class():
    ours, theirs = KNeighborsClassifier(), SklearnKNeighborsClassifier()
    assert isinstance(ours, SklearnKNeighborsClassifier)
    assert ours.get_params() == theirs.get_params()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"algorithm": "tree"}, "The 'algorithm' parameter"),
        ({"metric": "cosines"}, "The 'metric' parameter"),
        ({"metric": "cosine", "algorithm": "kd_tree"}, "Metric 'cosine' not valid"),
        ({"p": 0}, "The 'p' parameter"),
        ({"n_neighbors": 0}, "The 'n_neighbors' parameter"),
        ({"weights": "gaussian"}, "The 'weights' parameter"),
    ],
)
def test_parameters_that_are_refused(digits, parameters, message):
    X, _, y, _ = digits
    with pytest.raises(ValueError, match=message):
        KNeighborsClassifier(**parameters).fit(X, y)


def test_bad_input(digits):
    X, Q, y, _ = digits
    with pytest.raises(NotFittedError):
        KNeighborsClassifier().predict(Q)
    model = KNeighborsClassifier().fit(X, y)
    with pytest.raises(ValueError, match="X has 63 features, but KNeighborsClassifier is expecting 64"):
        model.predict(Q[:, 1:])
    with pytest.raises(ValueError, match="Expected n_neighbors > 0"):
        model.kneighbors(Q, 0)
    with pytest.raises(
        TypeError, match="n_neighbors does not take <class 'float'> value, enter integer value"
    ):
        model.kneighbors(Q, 2.0)
    with pytest.raises(ValueError, match="Expected n_neighbors <= n_samples_fit, but n_neighbors = 2000"):
        model.kneighbors(Q, 2000)
    few = KNeighborsClassifier(5).fit(X[:5], y[:5])
    with pytest.raises(ValueError, match="Expected n_neighbors < n_samples_fit, but n_neighbors = 5"):
        few.kneighbors()
    with pytest.raises(ValueError, match="n_jobs == 0"):
        model.set_params(n_jobs=0).predict(Q)
    with pytest.raises(ValueError, match="All neighbors of some sample is getting zero weights"):
        KNeighborsClassifier(weights=np.zeros_like).fit(X, y).predict(Q)
    with pytest.raises(ValueError, match="Unknown label type"):
        KNeighborsClassifier().fit(X, X[:, 2] + 0.5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(dtype, bad):
    X = matrix(dtype, 9, 4)
    y = np.arange(9) % 2
    worse = X.copy()
    worse[7, 2] = bad
    with pytest.raises(ValueError, match="Input X contains"):
        KNeighborsClassifier().fit(worse, y)
    with pytest.raises(ValueError, match="Input X contains"):
        KNeighborsClassifier().fit(X, y).predict(worse)


@pytest.mark.parametrize("dtype", KERNEL_DTYPES)
def test_X_is_kept_as_it_is(dtype):
    X = matrix(dtype, 50, 8)
    model = KNeighborsClassifier().fit(X, np.arange(50) % 3)
    assert np.shares_memory(model._fit_X, X)
    assert model.predict(X).shape == (50,)


def test_no_matrix_of_all_distances():
    """20,000 x 2,000 distances would take 320 MB."""
    rng = np.random.default_rng(0)
    X, Q = rng.random((20_000, 4), np.float32), rng.random((2_000, 4), np.float32)
    model = KNeighborsClassifier().fit(X, np.arange(20_000) % 10)
    tracemalloc.start()
    model.predict(Q)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_company(digits):
    """Cloned, pickled, searched, and fitted on a data frame."""
    pandas = pytest.importorskip("pandas")
    X, Q, y, _ = digits
    frame = pandas.DataFrame(X, columns=[f"pixel{i}" for i in range(64)])
    model = KNeighborsClassifier(3, weights="distance").fit(frame, y)
    assert list(model.feature_names_in_) == list(frame.columns)
    queries = pandas.DataFrame(Q, columns=frame.columns)
    expected = model.predict(queries)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(queries), expected)
    assert np.array_equal(clone(model).fit(frame, y).predict(queries), expected)
    with pytest.raises(ValueError, match="The feature names should match"):
        model.predict(queries[frame.columns[::-1]])
    graph = model.kneighbors_graph(queries, mode="distance")
    assert graph.shape == (len(Q), len(X)) and graph.nnz == 3 * len(Q)
    search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 5], "p": [1, 2]}, cv=3)
    assert search.fit(X[:300], y[:300]).best_score_ > 0.9
