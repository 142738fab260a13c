"""Many Python threads at once, in kernels that start threads of their own: nothing shared is written.

What a thread computes is what it computes alone, to the bit. On free-threaded Python the threads run in
parallel all the time, elsewhere wherever kernels have released the GIL.
"""

import copy
import inspect
import os
import subprocess
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from kernel_harness import linear_epoch, network_epoch

from softline import SoftmaxClassifier, _kernels, optimizers, reference
from softline.linear_model import LeastSquaresClassifier, LogisticRegression
from softline.neighbors import KNeighborsClassifier
from softline.neural_network import MLPClassifier

THREADS = 4
ROUNDS = 5

rng = np.random.default_rng(0)
N, D, C, H = 300, 70, 5, 9  # rows, features, classes, hidden units
X = rng.standard_normal((N, D)).astype(np.float32)
X_bytes = rng.integers(0, 256, (N, D), dtype=np.uint8)
idx = rng.permutation(N)
y = rng.integers(0, C, N).astype(np.int32)
weight, shift, metric = (rng.random(size).astype(np.float32) for size in (N, D, D))
W, dW, W1, W2 = (rng.standard_normal(shape).astype(np.float32) for shape in ((C, D), (C, D), (H, D), (C, H)))
b, db, b1, b2 = (rng.standard_normal(size).astype(np.float32) for size in (C, C, H, C))
S, hidden, dhidden = (rng.standard_normal(shape).astype(np.float32) for shape in ((N, C), (N, H), (N, H)))
losses, rates = np.empty(N, np.float32), np.full((N + 63) // 64, 0.1)
layers = [(W1, b1), (W2, b2)]
step = (W, b, dW, db, 0.1, 0.01, shift, metric, True)

# The arguments of each kernel, up to n_threads.
ARGUMENTS = {
    "scores": (X, idx, W, b, S),
    "probabilities": (X, W, b, S),
    "classes": (X, W, b, np.arange(C), np.empty(N, int)),
    "softmax": (S,),
    "log_softmax": (S,),
    "cross_entropy": (S, y, losses),
    "cross_entropy_gradient": (S, y, weight, losses),
    "hinge_gradient": (S, y, weight, losses),
    "gradient": (X, idx, S, dW, db),
    **{f"step {name}": step for name in optimizers.BY_NAME},
    "clip_gradient": (dW, db, 0.5, shift, metric),
    "project_rows": (W, b, 0.5, shift),
    "column_stats": (X, idx, weight),
    "affine": (hidden, W2, b2, S),
    "activate": (hidden, "tanh"),
    "activation_gradient": (hidden, "tanh", dhidden),
    "dropout": (hidden, 0.3, 1),
    "network_scores": (X, idx, layers, "relu", S),
    "gradients": (X, y, weight, idx, layers, copy.deepcopy(layers), 1 / N),
    "epoch": (X, y, weight, idx, layers, rates, 64, rates, rates.astype(np.float32)),
    "loss_gradient": (X, y, weight, W, b, dW.astype(float), db.astype(float)),
    "newton": (X[:, :5], y, None, np.full(6, 0.01), np.full(6, 0.001), True, np.zeros((C, 6)), 1e-4, 20),
    "candidate_losses": (X, y, weight, np.stack([W, dW]), np.stack([b, db]), np.empty(2)),
    "distances": (X[:20], X, "euclidean", np.empty((20, N))),
    "nearest": (X_bytes[:20], X_bytes, "euclidean", np.empty((20, 3)), np.empty((20, 3), np.intp)),
    "coordinate_descent": (
        X.T @ X / N + np.eye(D, dtype=np.float32),
        1.5,
        np.zeros((0, C, D)),
        np.zeros(0),
        np.ones((C, D)),
        np.ones(D),
        np.ones((C, D)),
        1e-3,
        20,
    ),
    "gram": (X, idx, weight, 0.5, np.empty((D + 1, D + 1), np.float32)),
    "precondition": (np.ones((C, D)), np.ones(D - 1), np.ones(D), np.triu(X[:D]), np.empty((C, D))),
    "first_loop": (np.ones((C, D)), *np.ones((2, 3, C, D)), np.ones(3), np.arange(2), np.ones(2)),
    "second_loop": (np.ones((C, D)), *np.ones((2, 3, C, D)), np.ones(3), np.arange(2), np.ones(2)),
    "invert_factor": (np.eye(D) + 0.5, np.empty((D, D)), 1e-9),
    "duality_gap": (np.ones((C, D)), 9.0, np.ones((C, D)), np.zeros(D), np.full(D, 0.5)),
}
SERIAL = {"coordinate_descent", "duality_gap", "first_loop", "invert_factor", "second_loop"}


def call(name, n_threads):
    """A digest of what kernel `name` returns and of all that it wrote."""
    kernel, _, rule = name.partition(" ")
    arguments = copy.deepcopy(ARGUMENTS[name], {id(shared): shared for shared in (X, X_bytes)})
    options = {} if kernel in SERIAL else {"n_threads": n_threads}
    state = None
    if rule:
        optimizer = optimizers.BY_NAME[rule]
        state = SimpleNamespace(t=1)
        state.W = np.ones((optimizer.n_moments, C, D), np.float32)
        state.b = np.ones((optimizer.n_moments, C), np.float32)
        options |= {"optimizer": optimizer, "state": state}
    result = getattr(_kernels, kernel)(*arguments, **options)
    return joblib.hash((arguments, state and vars(state), result))


def in_threads(work):
    """work(thread) of THREADS threads that start together; an error in one is raised here."""
    start = threading.Barrier(THREADS)

    def run(thread):
        start.wait()
        return work(thread)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


@pytest.mark.wheel
def test_every_kernel_is_called():
    functions = inspect.getmembers(reference, inspect.isfunction)
    twins = {name for name, twin in functions if twin.__module__ == reference.__name__}
    assert {name.partition(" ")[0] for name in ARGUMENTS} == twins & set(dir(_kernels))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_kernels(n_threads):
    alone = {name: call(name, n_threads) for name in ARGUMENTS}
    names = list(ARGUMENTS)

    def work(thread):
        found = {}
        for i in range(ROUNDS * len(names)):
            name = names[(i + thread * len(names) // THREADS) % len(names)]
            found.setdefault(name, set()).add(call(name, n_threads))
        return found

    for found in in_threads(work):
        assert found == {name: {digest} for name, digest in alone.items()}


def test_the_same_kernel():
    """At the same time in all threads."""
    for name in ARGUMENTS:
        alone = call(name, 2)
        assert set(in_threads(lambda _, name=name: call(name, 2))) == {alone}


ESTIMATORS = [
    SoftmaxClassifier(max_iter=5, tol=None, random_state=0),
    SoftmaxClassifier(max_iter=5, tol=None, optimizer="adam", batch_size=None, random_state=0),
    LogisticRegression(max_iter=200),
    LeastSquaresClassifier(),
    MLPClassifier((8,), max_iter=3, tol=None, random_state=0),
    KNeighborsClassifier(3),
]


def fitted(estimator):
    """A digest of a fit and of what it predicts."""
    model = copy.deepcopy(estimator).fit(X, y)
    scores = model.decision_function if hasattr(model, "decision_function") else model.predict_proba
    return joblib.hash((model.predict(X), scores(X)))


@pytest.mark.wheel
def test_fits():
    alone = [fitted(estimator) for estimator in ESTIMATORS]

    def work(thread):
        order = np.roll(np.arange(len(ESTIMATORS)), thread)
        return {i: fitted(ESTIMATORS[i]) for i in order}

    for found in in_threads(work):
        assert [found[i] for i in range(len(ESTIMATORS))] == alone


def test_one_model_for_all():
    model = SoftmaxClassifier(max_iter=5, tol=None, random_state=0).fit(X, y)
    alone = model.predict_proba(X).tobytes()
    assert set(in_threads(lambda _: model.predict_proba(X).tobytes())) == {alone}


@pytest.mark.wheel
def test_machine():
    assert set(in_threads(lambda _: _kernels.multiply_add(False, 1000, 2))) == {
        _kernels.multiply_add(False, 1000, 2)
    }


def run_python(code, *options):
    done = subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python")
@pytest.mark.parametrize("module", ["core", "dense", "training", "descent", "neighbors", "machine"])
@pytest.mark.wheel
def test_the_gil_stays_off(module):
    """Python turns it on, with a warning, for a module that does not declare that it can do without."""
    code = f"import sys, numpy, softline._kernels.{module}; print(sys._is_gil_enabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


class TestBusyMachine:
    @pytest.fixture(autouse=True)
    def several_processors(self):
        """At least two, and no memory of regions before or after."""
        if _kernels.max_threads() < 2:
            pytest.skip("needs two threads")
        _kernels.take_fewer_threads(1, 0)
        yield
        _kernels.take_fewer_threads(1, 0)

    def test_small_work_has_one_thread(self):
        digits = 1347, 256, 64 * 10  # rows, batch, weights
        assert _kernels.threads_for_epoch(None, *digits) == 1
        assert _kernels.threads_for_epoch(2, *digits) == 2
        assert _kernels.threads_for_epoch(None, 60_000, 256, 784 * 10) > 1

    def test_a_region_held_up_is_followed_by_fewer_threads(self):
        mnist = 60_000, 256, 784 * 10
        _kernels.take_fewer_threads(1, 1e6)
        assert _kernels.threads_for_epoch(None, *mnist) == 1
        assert _kernels.threads_for_epoch(2, *mnist) == 2  # asked for by number
        _kernels.take_fewer_threads(1, 0)  # that time is over
        assert _kernels.threads_for_epoch(None, *mnist) > 1

    @pytest.mark.parametrize(
        ("members", "lost", "seconds", "after"),
        [
            (2, 0.0, 1.0, 2),
            (2, 0.2, 1.0, 2),
            (2, 0.3, 1.0, 1),
            (16, 0.02, 1.0, 16),  # what it costs grows with those who wait
            (16, 0.3, 1.0, 15),
            (1, 0.9, 1.0, 1),  # nobody waits
        ],
    )
    def test_the_decision(self, members, lost, seconds, after):
        assert _kernels.members_after(members, lost, seconds) == after

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity of threads")
    @pytest.mark.parametrize("n_threads", [None, 2, 16])
    @pytest.mark.parametrize("name", ["linear_epoch", "network_epoch", "loss_gradient"])
    def test_threads_of_one_core(self, name, n_threads):
        """A thread that runs only while the others do not: who leaves a team changes no bit."""
        rng = np.random.default_rng(0)
        n, D, C = 4096, 512, 10
        X, y = rng.standard_normal((n, D)).astype(np.float32), rng.integers(0, C, n).astype(np.int32)
        order = rng.permutation(n)

        def weights(n_threads):
            W, b = np.zeros((C, D), np.float32), np.zeros(C, np.float32)
            if name == "linear_epoch":
                for _ in range(5):
                    rates = np.full(16, 0.01)
                    linear_epoch(
                        _kernels, X, y, None, order, W, b, rates, 256, 0.01, None, None, True, n_threads
                    )
                return W.tobytes() + b.tobytes()
            if name == "network_epoch":
                rates = np.full(16, 0.01)
                for _ in range(5):
                    network_epoch(_kernels, X, y, None, order, [(W, b)], rates, 256, 0.01, "relu", n_threads)
                return W.tobytes() + b.tobytes()
            dW, db = W.astype(float), b.astype(float)
            return [
                (_kernels.loss_gradient(X, y, None, W, b, dW, db, n_threads), dW.tobytes(), db.tobytes())
                for _ in range(5)
            ]

        def on_one_core(_):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # also of the threads it starts
            return weights(n_threads)

        with ThreadPoolExecutor(1) as pool:
            (found,) = pool.map(on_one_core, range(1))
        assert found == weights(1)
