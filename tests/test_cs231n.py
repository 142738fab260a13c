"""softline.cs231n against NumPy solutions, and the facts that the course's notebooks check."""

import math
import pickle
import random
import re

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from softline import _kernels
from softline.cs231n import classifiers, layers, optim
from softline.cs231n.classifiers import (
    KNearestNeighbor,
    LinearClassifier,
    LinearSVM,
    Softmax,
    fc_net,
    neural_net,
)
from softline.cs231n.classifiers.linear_svm import svm_loss_naive, svm_loss_vectorized
from softline.cs231n.classifiers.softmax import softmax_loss_naive, softmax_loss_vectorized
from softline.cs231n.data_utils import get_CIFAR10_data, load_CIFAR10
from softline.cs231n.features import color_histogram_hsv, extract_features, hog_feature
from softline.cs231n.gradient_check import (
    eval_numerical_gradient,
    eval_numerical_gradient_array,
    grad_check_sparse,
)
from softline.cs231n.layer_utils import affine_relu_backward, affine_relu_forward
from softline.cs231n.layers import (
    affine_backward,
    affine_forward,
    relu_backward,
    relu_forward,
    softmax_loss,
    svm_loss,
)
from softline.cs231n.solver import Solver
from softline.cs231n.vis_utils import visualize_grid
from softline.datasets import load_cifar10
from softline.gradient_check import relative_error

# ---- NumPy solutions -------------------------------------------------------------------------------------


def numpy_softmax(scores, y):
    """Mean loss and its gradient to the scores."""
    rows = np.arange(len(y))
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    return loss, p / len(y)


def numpy_hinge(scores, y):
    rows = np.arange(len(y))
    margins = np.maximum(0, scores - scores[rows, y][:, None] + 1)
    margins[rows, y] = 0
    dscores = (margins > 0).astype(float)
    dscores[rows, y] = -dscores.sum(axis=1)
    return margins.sum() / len(y), dscores / len(y)


def numpy_linear(data_loss, W, X, y, reg):
    loss, dscores = data_loss(X @ W, y)
    return loss + reg * np.sum(W * W), X.T @ dscores + 2 * reg * W


def numpy_train(data_loss, W, X, y, learning_rate, reg, num_iters, batch_size):
    losses = []
    if W is None:
        W = 0.001 * np.random.randn(X.shape[1], y.max() + 1)
    for _ in range(num_iters):
        batch = np.random.choice(len(X), batch_size, replace=True)
        loss, dW = numpy_linear(data_loss, W, X[batch], y[batch], reg)
        losses.append(loss)
        W = W - learning_rate * dW
    return W, losses


def numpy_two_layers(params, X, y, alpha):
    """Loss with the penalty alpha/2 sum(W * W), and the gradients."""
    hidden = np.maximum(0, X @ params["W1"] + params["b1"])
    loss, dscores = numpy_softmax(hidden @ params["W2"] + params["b2"], y)
    dhidden = dscores @ params["W2"].T * (hidden > 0)
    loss += alpha / 2 * (np.sum(params["W1"] ** 2) + np.sum(params["W2"] ** 2))
    return loss, {
        "W1": X.T @ dhidden + alpha * params["W1"],
        "b1": dhidden.sum(axis=0),
        "W2": hidden.T @ dscores + alpha * params["W2"],
        "b2": dscores.sum(axis=0),
    }


LOSSES = {
    "softmax": (Softmax, numpy_softmax, softmax_loss_vectorized, softmax_loss_naive),
    "svm": (LinearSVM, numpy_hinge, svm_loss_vectorized, svm_loss_naive),
}
both = pytest.mark.parametrize("name", LOSSES)


@pytest.fixture
def problem():
    """X (240, 33) with a column of ones, and labels 0..4."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((240, 33))
    X[:, -1] = 1
    return X, (X @ rng.standard_normal((33, 5))).argmax(axis=1)


# ---- linear classifiers ----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, np.int64, np.uint16])
def test_loss_and_gradient(name, dtype, problem):
    _, data_loss, vectorized, naive = LOSSES[name]
    X, y = problem
    X = (50 + 20 * X).clip(0).astype(dtype)
    W = 0.01 * np.random.default_rng(1).standard_normal((33, 5))
    expected, expected_dW = numpy_linear(data_loss, W, X.astype(float), y, 0.7)
    for function in (vectorized, naive):
        before = W.copy()
        loss, dW = function(W, X, y, 0.7)
        assert np.array_equal(W, before)
        assert loss == pytest.approx(expected, rel=1e-13)
        np.testing.assert_allclose(dW, expected_dW, rtol=1e-12, atol=1e-12 * np.abs(expected_dW).max())
        assert dW.shape == (33, 5) and dW.dtype == np.float64 and dW.flags.c_contiguous


@both
def test_loss_at_the_start(name, problem):
    """log C for softmax, C - 1 for the hinge loss."""
    X, y = problem
    loss, _ = LOSSES[name][2](0.0001 * np.random.default_rng(0).standard_normal((33, 5)), X, y, 0.0)
    assert loss == pytest.approx({"softmax": math.log(5), "svm": 4}[name], rel=1e-3)


@both
@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.int32])
@pytest.mark.parametrize("batch_size", [1, 20, 200, 300])
def test_a_seeded_training_is_that_of_a_numpy_solution(name, dtype, batch_size, problem):
    """To rounding: initial weights, batches, losses before updates, going on, and what is drawn next."""
    Classifier, data_loss, *_ = LOSSES[name]
    X, y = problem
    if dtype is not np.float64:
        X = (10 + 3 * X).astype(dtype)
    options = {"learning_rate": 1e-3, "reg": 0.25, "batch_size": batch_size}
    np.random.seed(3)
    W, expected = numpy_train(data_loss, None, X.astype(float), y, num_iters=130, **options)
    W, more = numpy_train(data_loss, W, X.astype(float), y, num_iters=7, **options)
    drawn_next = np.random.rand()

    np.random.seed(3)
    model = Classifier()
    assert model.W is None
    losses = model.train(X, y, num_iters=130, **options)
    first = model.W
    losses_more = model.train(X, y, num_iters=7, **options)
    assert model.W is first  # in place: a second call goes on
    assert np.random.rand() == drawn_next
    assert isinstance(losses, list) and len(losses) == 130 and len(losses_more) == 7
    np.testing.assert_allclose(losses + losses_more, expected + more, rtol=1e-11)
    np.testing.assert_allclose(model.W, W, rtol=1e-9, atol=1e-12)
    assert model.W.shape == (33, 5) and model.W.dtype == np.float64 and model.W.flags.writeable
    predicted = model.predict(X)
    assert np.array_equal(predicted, (X @ W).argmax(axis=1)) and predicted.dtype.kind == "i"


def test_defaults_of_train(problem):
    X, y = problem
    np.random.seed(0)
    W, expected = numpy_train(numpy_softmax, None, X, y, 1e-3, 1e-5, 100, 200)
    np.random.seed(0)
    model = Softmax()
    np.testing.assert_allclose(model.train(X, y), expected, rtol=1e-12)
    np.testing.assert_allclose(model.W, W, rtol=1e-12)


def test_weights_may_be_given_and_perturbed(problem):
    X, y = problem
    model = Softmax()
    model.W = W = np.zeros((33, 7))  # more classes than there are labels
    model.train(X, y, num_iters=5)
    assert model.W is W and W.any()
    loss, dW = model.loss(X, y, 0.3)
    numerical = eval_numerical_gradient(lambda _: model.loss(X, y, 0.3)[0], model.W, verbose=False)
    assert relative_error(numerical, dW) < 1e-5
    assert model.loss(X, y, 0.3)[0] == loss


def test_a_loss_of_a_subclass_is_called(problem):
    X, y = problem

    class Halved(Softmax):
        def loss(self, X_batch, y_batch, reg):
            assert X_batch.dtype == X.dtype and y_batch.dtype == y.dtype and X_batch.shape == (20, 33)
            loss, grad = super().loss(X_batch, y_batch, reg)
            return loss / 2, grad / 2

    class Same(LinearSVM):
        """Overrides nothing."""

    np.random.seed(0)
    W, expected = numpy_train(numpy_softmax, None, X, y, 0.05, 0.1, 30, 20)
    np.random.seed(0)
    model = Halved()
    losses = model.train(X, y, learning_rate=0.1, reg=0.1, num_iters=30, batch_size=20)
    np.testing.assert_allclose(2 * np.array(losses), expected, rtol=1e-12)
    np.testing.assert_allclose(model.W, W, rtol=1e-10)

    patched = Softmax()
    patched.loss = lambda X_batch, y_batch, reg: (7.0, np.ones((33, 5)))
    assert patched.train(X, y, num_iters=3) == [7, 7, 7]

    histories = []
    for Classifier in (LinearSVM, Same):
        np.random.seed(0)
        histories.append(Classifier().train(X, y, num_iters=3))
    assert histories[0] == histories[1]
    with pytest.raises(NotImplementedError, match="use Softmax, LinearSVM"):
        LinearClassifier().train(X, y)


@both
def test_printed_lines_of_train(name, problem, capsys):
    losses = LOSSES[name][0]().train(*problem, num_iters=230, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["iteration %d / %d: loss %f" % (it, 230, losses[it]) for it in (0, 100, 200)]  # noqa: UP031
    LOSSES[name][0]().train(*problem, num_iters=3)
    assert capsys.readouterr().out == ""


def test_an_interrupted_training_keeps_its_weights(problem, monkeypatch):
    calls = []

    def epoch(*args, **kwargs):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return right(*args, **kwargs)

    right = _kernels.epoch
    X, y = problem
    np.random.seed(0)
    expected = Softmax()
    expected.train(X, y, num_iters=200)
    monkeypatch.setattr(_kernels, "epoch", epoch)
    np.random.seed(0)
    model = Softmax()
    with pytest.raises(KeyboardInterrupt):
        model.train(X, y, num_iters=1000)
    assert np.array_equal(model.W, expected.W)


def test_threads_change_no_bit(problem, monkeypatch):
    X, y = np.tile(problem[0], (1, 100)), problem[1]
    weights = []
    for n_threads in (1, 2, 3):
        monkeypatch.setattr("softline._kernels.core.max_threads", lambda n_threads=n_threads: n_threads)
        np.random.seed(0)
        model = LinearSVM()
        weights.append((model.train(X, y, num_iters=5, learning_rate=1e-5, reg=0.1), model.W.tobytes()))
    assert weights[0] == weights[1] == weights[2]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"X": np.zeros(3)}, ValueError, "X must have 2 axes"),
        ({"X": np.array([["a"]]), "y": [0]}, TypeError, "X must hold real numbers"),
        ({"y": np.zeros(3, int)}, ValueError, "one label for each of the 240 rows"),
        ({"y": np.zeros(240)}, ValueError, "y must hold integers.* float64"),
        ({"y": np.full(240, -1)}, ValueError, "found -1"),
        ({"X": np.zeros((0, 33)), "y": np.zeros(0, int)}, ValueError, "there must be rows"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1; got 0"),
        ({"W": np.zeros((32, 5))}, ValueError, r"needs W of shape \(33, C\); got \(32, 5\)"),
        ({"W": np.zeros((33, 2))}, ValueError, r"labels must be in \[0, 2\), found 4"),
        ({"W": np.zeros((33, 5), int)}, TypeError, "W must be of a float dtype"),
    ],
)
def test_train_refuses(change, error, message, problem):
    model = Softmax()
    model.W = change.pop("W", None)
    with pytest.raises(error, match=message):
        model.train(**({"X": problem[0], "y": problem[1]} | change))


def test_predict_before_train():
    with pytest.raises(ValueError, match="no weights yet"):
        Softmax().predict(np.zeros((2, 3)))


# ---- nearest neighbours ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.int64])
def test_distances(dtype):
    rng = np.random.default_rng(0)
    X, Q = rng.integers(0, 256, (70, 40)).astype(dtype), rng.integers(0, 256, (30, 40)).astype(dtype)
    Q[3] = X[5]
    model = KNearestNeighbor()
    model.train(X, rng.integers(0, 4, 70))
    expected = np.sqrt(((Q[:, None].astype(float) - X[None].astype(float)) ** 2).sum(axis=2))
    for loops in ("two_loops", "one_loop", "no_loops"):
        dists = getattr(model, f"compute_distances_{loops}")(Q)
        assert dists.shape == (30, 70) and dists.dtype == np.float64
        np.testing.assert_allclose(dists, expected, rtol=1e-14)
    assert dists[3, 5] == 0
    assert model.X_train is X


@pytest.mark.parametrize("odd", [0.5, -1.0, 256.0, np.nan, np.inf])
def test_distances_of_what_only_looks_like_bytes(odd):
    rng = np.random.default_rng(0)
    X, Q = rng.integers(0, 256, (20, 9)).astype(float), rng.integers(0, 256, (7, 9)).astype(float)
    model = KNearestNeighbor()
    model.train(X, np.zeros(20))
    for a in (X, Q):
        a[-1, -1] = odd
        found = model.compute_distances_no_loops(Q)
        with np.errstate(invalid="ignore"):  # inf - inf
            expected = np.sqrt(((Q[:, None] - X) ** 2).sum(axis=2))
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_ties_go_to_the_smaller_label():
    model = KNearestNeighbor()
    model.train(np.array([[0.0], [1.0], [2.0], [3.0], [10.0]]), np.array([4, 4, 2, 2, 0]))
    dists = np.array([[1.0, 2, 3, 4, 9], [9, 9, 9, 9, 1], [5, 5, 5, 5, 5]])
    assert model.predict_labels(dists).tolist() == [4, 0, 4]
    assert model.predict_labels(dists, k=2).tolist() == [4, 0, 4]
    assert model.predict_labels(dists, k=4).tolist() == [2, 4, 2]
    assert model.predict_labels(dists, k=5).tolist() == [2, 2, 2]
    for num_loops in (0, 1, 2):
        assert model.predict(np.array([[0.4], [9.0]]), k=1, num_loops=num_loops).tolist() == [4, 0]
    with pytest.raises(ValueError, match="num_loops must be 0, 1 or 2; got 3"):
        model.predict(np.zeros((1, 1)), num_loops=3)
    with pytest.raises(ValueError, match="k must be between 1 and 5"):
        model.predict_labels(dists, k=6)


def test_votes_of_many_neighbours():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 5, 200)
    dists = rng.integers(0, 12, (50, 200)).astype(float)
    model = KNearestNeighbor()
    model.train(np.zeros((200, 1)), y)
    for k in (1, 3, 8, 200):
        nearest = np.argsort(dists, axis=1, kind="stable")[:, :k]
        expected = [np.bincount(y[row]).argmax() for row in nearest]
        assert model.predict_labels(dists, k=k).tolist() == expected


# ---- layers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 5), (3, 2, 5, 2), (2, 1, 1, 7, 3), (33, 40)])
def test_affine_layer(shape):
    rng = np.random.default_rng(0)
    x, D = rng.standard_normal(shape), math.prod(shape[1:])
    w, b, dout = rng.standard_normal((D, 6)), rng.standard_normal(6), rng.standard_normal((shape[0], 6))
    out, cache = affine_forward(x, w, b)
    np.testing.assert_allclose(out, x.reshape(-1, D) @ w + b, rtol=1e-12, atol=1e-12)
    assert all(a is b for a, b in zip(cache, (x, w, b), strict=True))
    dx, dw, db = affine_backward(dout, cache)
    assert dx.shape == x.shape
    np.testing.assert_allclose(dx, (dout @ w.T).reshape(shape), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dw, x.reshape(-1, D).T @ dout, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(db, dout.sum(axis=0), rtol=1e-12, atol=1e-12)


def test_layers_keep_float32():
    x, w, b = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32), np.zeros(2, np.float32)
    out, cache = affine_forward(x, w, b)
    assert out.dtype == np.float32
    assert {a.dtype for a in affine_backward(out, cache)} == {np.dtype(np.float32)}
    assert softmax_loss(out, np.zeros(4, int))[1].dtype == np.float32
    assert affine_forward(x.astype(np.uint8), w, b)[0].dtype == np.float64


def test_relu_and_affine_relu_pass_a_gradient_check():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((12, 10)), rng.standard_normal(10)
    dout = rng.standard_normal((2, 10))
    assert relu_forward(np.array([-1.0, 0, 2]))[0].tolist() == [0, 0, 2]
    assert relu_backward(np.array([3.0, 3, 3]), np.array([-1.0, 0, 2])).tolist() == [0, 0, 3]
    _, cache = affine_relu_forward(x, w, b)
    dx, dw, db = affine_relu_backward(dout, cache)
    for gradient, array, f in (
        (dx, x, lambda x: affine_relu_forward(x, w, b)[0]),
        (dw, w, lambda w: affine_relu_forward(x, w, b)[0]),
        (db, b, lambda b: affine_relu_forward(x, w, b)[0]),
    ):
        assert relative_error(eval_numerical_gradient_array(f, array, dout), gradient) < 1e-7


@pytest.mark.parametrize(
    ("loss", "data_loss", "start"), [(softmax_loss, numpy_softmax, 2.3), (svm_loss, numpy_hinge, 9)]
)
def test_losses_of_layers(loss, data_loss, start):
    rng = np.random.default_rng(231)
    x, y = 0.001 * rng.standard_normal((50, 10)), rng.integers(0, 10, 50)
    before = x.copy()
    value, dx = loss(x, y)
    assert np.array_equal(x, before)
    assert value == pytest.approx(start, rel=2e-3)
    expected, expected_dx = data_loss(x, y)
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-12, atol=1e-15)
    assert relative_error(eval_numerical_gradient(lambda x: loss(x, y)[0], x, verbose=False), dx) < 1e-6


def test_layers_refuse():
    with pytest.raises(ValueError, match=r"x of shape \(2, 3, 4\) needs w of shape \(12, M\)"):
        affine_forward(np.zeros((2, 3, 4)), np.zeros((4, 5)), np.zeros(5))
    with pytest.raises(ValueError, match="dout must have the shape of the scores"):
        affine_backward(np.zeros((2, 4)), (np.zeros((2, 3)), np.zeros((3, 5)), np.zeros(5)))
    with pytest.raises(ValueError, match="labels must be in"):
        softmax_loss(np.zeros((2, 3)), np.array([0, 3]))


# ---- networks --------------------------------------------------------------------------------------------


def toy():
    """The small network and data that the notebooks until 2020 check solutions with."""
    np.random.seed(0)
    net = neural_net.TwoLayerNet(4, 10, 3, std=1e-1)
    np.random.seed(1)
    return net, 10 * np.random.randn(5, 4), np.array([0, 1, 2, 2, 1])


def test_toy_network_until_2020():
    net, X, y = toy()
    scores = net.loss(X)
    assert scores.shape == (5, 3)
    np.testing.assert_allclose(scores[0], [-0.81233741, -1.27654624, -0.70335995], atol=1e-8)
    loss, grads = net.loss(X, y, reg=0.05)
    assert abs(loss - 1.30378789133) < 1e-11
    for name, gradient in grads.items():
        numerical = eval_numerical_gradient(
            lambda _: net.loss(X, y, reg=0.05)[0], net.params[name], verbose=False
        )
        assert relative_error(numerical, gradient) < 1e-7
    net, X, y = toy()
    history = net.train(X, y, X, y, learning_rate=1e-1, reg=5e-6, num_iters=100)
    assert history["loss_history"][-1] < 0.02
    assert set(history) == {"loss_history", "train_acc_history", "val_acc_history"}
    assert net.predict(X).tolist() == y.tolist()


@pytest.mark.parametrize("own_loss", [False, True])
def test_network_trains_as_a_numpy_solution(own_loss, problem, capsys):
    X, y = problem

    class Own(neural_net.TwoLayerNet):
        def loss(self, X, y=None, reg=0.0):
            return super().loss(X, y, reg)

    np.random.seed(5)
    net = (Own if own_loss else neural_net.TwoLayerNet)(33, 20, 5, std=0.1)
    arrays = dict(net.params)
    np.random.seed(5)
    params = {"W1": 0.1 * np.random.randn(33, 20), "W2": 0.1 * np.random.randn(20, 5)}
    params |= {"b1": np.zeros(20), "b2": np.zeros(5)}
    state = np.random.get_state()
    rate, losses, train_accs, val_accs = 0.5, [], [], []

    def predict(X):
        return (np.maximum(0, X @ params["W1"] + params["b1"]) @ params["W2"] + params["b2"]).argmax(axis=1)

    for it in range(110):
        batch = np.random.choice(240, 48)
        loss, grads = numpy_two_layers(params, X[batch], y[batch], 2 * 0.01)
        losses.append(loss)
        for name, gradient in grads.items():
            params[name] = params[name] - rate * gradient
        if it % 5 == 0:
            train_accs.append(np.mean(predict(X[batch]) == y[batch]))
            val_accs.append(np.mean(predict(X[:50]) == y[:50]))
            rate *= 0.9
    np.random.set_state(state)
    history = net.train(
        X,
        y,
        X[:50],
        y[:50],
        learning_rate=0.5,
        learning_rate_decay=0.9,
        reg=0.01,
        num_iters=110,
        batch_size=48,
        verbose=True,
    )
    np.testing.assert_allclose(history["loss_history"], losses, rtol=1e-10)
    assert history["train_acc_history"] == train_accs
    assert history["val_acc_history"] == val_accs
    for name, array in params.items():
        assert net.params[name] is arrays[name]
        np.testing.assert_allclose(net.params[name], array, rtol=1e-8, atol=1e-11)
    lines = [f"iteration {it} / 110: loss {losses[it]:f}" for it in (0, 100)]
    assert capsys.readouterr().out.splitlines() == lines


def test_toy_network_from_2021():
    N, D, H, C = 3, 5, 50, 7
    net = fc_net.TwoLayerNet(input_dim=D, hidden_dim=H, num_classes=C, weight_scale=1e-3)
    assert abs(net.params["W1"].std() - 1e-3) < 1e-4 and not net.params["b1"].any()
    net.params["W1"] = np.linspace(-0.7, 0.3, num=D * H).reshape(D, H)
    net.params["b1"] = np.linspace(-0.1, 0.9, num=H)
    net.params["W2"] = np.linspace(-0.3, 0.4, num=H * C).reshape(H, C)
    net.params["b2"] = np.linspace(-0.9, 0.1, num=C)
    X, y = np.linspace(-5.5, 4.5, num=N * D).reshape(D, N).T, np.array([0, 5, 1])
    scores = net.loss(X)
    np.testing.assert_allclose(scores[0, :2], [11.53165108, 12.2917344], atol=1e-8)
    assert abs(net.loss(X, y)[0] - 3.4702243556) < 1e-10
    net.reg = 1.0
    assert abs(net.loss(X, y)[0] - 26.5948426952) < 1e-10
    for net.reg in (0.0, 0.7):
        _, grads = net.loss(X, y)
        for name, gradient in grads.items():
            numerical = eval_numerical_gradient(lambda _: net.loss(X, y)[0], net.params[name], verbose=False)
            assert relative_error(numerical, gradient) < 1e-6


def test_networks_have_the_defaults_of_the_course():
    np.random.seed(0)
    net = classifiers.TwoLayerNet()
    assert isinstance(net, fc_net.TwoLayerNet)
    assert net.params["W1"].shape == (3072, 100) and net.params["W2"].shape == (100, 10) and net.reg == 0
    np.random.seed(0)
    assert np.array_equal(net.params["W1"], 1e-3 * np.random.randn(3072, 100))
    assert net.loss(np.ones((2, 3, 32, 32))).shape == (2, 10)
    names = {}
    exec("from softline.cs231n.classifiers.fc_net import *", names)
    assert {
        "TwoLayerNet",
        "FullyConnectedNet",
        "layernorm_forward",
        "affine_forward",
        "affine_relu_backward",
        "softmax_loss",
    } <= names.keys()


# ---- networks of any depth -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_batch_normalisation(dtype):
    rng = np.random.default_rng(0)
    x, gamma, beta = (5 + 3 * rng.standard_normal((200, 4))).astype(dtype), np.arange(1, 5), np.arange(4)
    gamma, beta = gamma.astype(dtype), beta.astype(dtype)
    bn_param = {"mode": "train", "momentum": 0.8}
    out, _ = layers.batchnorm_forward(x, gamma, beta, bn_param)
    assert out.dtype == dtype
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(out.mean(axis=0), beta, **tolerance)
    np.testing.assert_allclose(out.std(axis=0), gamma, **tolerance)
    np.testing.assert_allclose(bn_param["running_mean"], 0.2 * x.mean(axis=0), **tolerance)
    np.testing.assert_allclose(bn_param["running_var"], 0.2 * x.var(axis=0), **tolerance)
    layers.batchnorm_forward(x, gamma, beta, bn_param)
    np.testing.assert_allclose(bn_param["running_mean"], 0.36 * x.mean(axis=0), **tolerance)
    for _ in range(50):
        layers.batchnorm_forward(x, gamma, beta, bn_param)
    bn_param["mode"] = "test"
    np.testing.assert_allclose(
        layers.batchnorm_forward(x[:7], gamma, beta, bn_param)[0], out[:7], rtol=2e-3, atol=2e-3
    )
    with pytest.raises(ValueError, match='Invalid forward batchnorm mode "fly"'):
        layers.batchnorm_forward(x, gamma, beta, {"mode": "fly"})


def test_layer_normalisation():
    x = 5 + 3 * np.random.default_rng(0).standard_normal((4, 200))
    out, _ = layers.layernorm_forward(x, np.full(200, 3.0), np.full(200, 5.0), {})
    np.testing.assert_allclose(out.mean(axis=1), 5)
    np.testing.assert_allclose(out.std(axis=1), 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("batchnorm_forward", "batchnorm_backward"),
        ("batchnorm_forward", "batchnorm_backward_alt"),
        ("layernorm_forward", "layernorm_backward"),
    ],
)
def test_gradients_of_normalisation(forward, backward):
    rng = np.random.default_rng(0)
    x, dout = 5 * rng.standard_normal((2, 4, 5)) + 12
    gamma, beta = rng.standard_normal((2, 5))

    def output(_):
        return getattr(layers, forward)(x, gamma, beta, {"mode": "train"})[0]

    _, cache = getattr(layers, forward)(x, gamma, beta, {"mode": "train"})
    for gradient, a in zip(getattr(layers, backward)(dout, cache), (x, gamma, beta), strict=True):
        assert relative_error(eval_numerical_gradient_array(output, a, dout), gradient) < 1e-6


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dropout(dtype):
    x = (np.random.default_rng(0).standard_normal((500, 500)) + 10).astype(dtype)
    np.random.seed(3)
    expected = (np.random.rand(500, 500) < 0.25) / 0.25
    dropout_param = {"mode": "train", "p": 0.25, "seed": 3}
    out, cache = layers.dropout_forward(x, dropout_param)
    assert out.dtype == dtype and cache[0] is dropout_param
    np.testing.assert_allclose(out, x * expected, rtol=1e-6)
    np.testing.assert_allclose(layers.dropout_backward(x, cache), x * expected, rtol=1e-6)
    assert np.array_equal(layers.dropout_forward(x, dropout_param)[0], out)
    out, cache = layers.dropout_forward(x, {"mode": "test", "p": 0.25})
    assert np.array_equal(out, x) and np.array_equal(layers.dropout_backward(x, cache), x)


@pytest.mark.parametrize("dropout_keep_ratio", [1, 0.5])
@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
def test_gradients_of_a_deep_network(normalization, dropout_keep_ratio):
    np.random.seed(231)
    X, y = np.random.randn(3, 15), np.random.randint(10, size=3)
    for reg in (0, 3.14):
        net = classifiers.FullyConnectedNet(
            [20, 30],
            input_dim=15,
            dropout_keep_ratio=dropout_keep_ratio,
            normalization=normalization,
            reg=reg,
            weight_scale=5e-2,
            dtype=np.float64,
            seed=123,
        )
        loss, grads = net.loss(X, y)
        assert grads.keys() == net.params.keys()
        squares = sum(np.sum(net.params[f"W{i}"] ** 2) for i in (1, 2, 3))
        assert abs(loss - reg / 2 * squares - math.log(10)) < 1
        for name, gradient in grads.items():
            numerical = eval_numerical_gradient(
                lambda _, net=net: net.loss(X, y)[0], net.params[name], verbose=False
            )
            np.testing.assert_allclose(gradient, numerical, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_deep_network_of_two_layers_is_that_of_two_layers():
    np.random.seed(0)
    two = fc_net.TwoLayerNet(12, 9, 4, weight_scale=0.3, reg=0.7)
    np.random.seed(0)
    net = fc_net.FullyConnectedNet([9], 12, 4, reg=0.7, weight_scale=0.3, dtype=np.float64)
    X, y = np.random.randn(6, 3, 4), np.arange(6) % 4
    np.testing.assert_allclose(net.loss(X), two.loss(X), rtol=1e-13)
    (loss, grads), (expected, expected_grads) = net.loss(X, y), two.loss(X, y)
    assert loss == pytest.approx(expected, rel=1e-13)
    for name, gradient in expected_grads.items():
        np.testing.assert_allclose(grads[name], gradient, rtol=1e-11, atol=1e-14)


def test_a_deep_network_has_the_attributes_of_the_course():
    net = fc_net.FullyConnectedNet([5, 4], 6, 3, dropout_keep_ratio=0.9, normalization="batchnorm")
    assert net.num_layers == 3 and net.use_dropout and net.dropout_param == {"mode": "train", "p": 0.9}
    assert all(w.dtype == np.float32 for w in net.params.values())
    assert net.params.keys() == {
        *(f"{name}{i}" for name in "Wb" for i in (1, 2, 3)),
        *(f"{name}{i}" for name in ("gamma", "beta") for i in (1, 2)),
    }
    X = np.random.randn(8, 6)
    net.loss(X, np.arange(8) % 3)
    trained = [bn_param["running_mean"].copy() for bn_param in net.bn_params]
    assert net.bn_params[0]["mode"] == "train" and trained[0].any()
    scores = net.loss(X)
    assert scores.dtype == np.float32 and np.array_equal(scores, net.loss(X))  # neither drawn nor moved
    assert net.bn_params[0]["mode"] == net.dropout_param["mode"] == "test"
    assert np.array_equal(trained[1], net.bn_params[1]["running_mean"])
    with pytest.raises(ValueError, match=r"normalization must be .* got 'batch'"):
        fc_net.FullyConnectedNet([5], normalization="batch")


@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
def test_a_deep_network_overfits_what_it_is_given(normalization, problem, capsys):
    np.random.seed(0)
    X, y = problem
    data = {"X_train": X[:50], "y_train": y[:50], "X_val": X[50:80], "y_val": y[50:80]}
    net = fc_net.FullyConnectedNet([30, 20], 33, 5, normalization=normalization, weight_scale=0.1)
    solver = Solver(net, data, update_rule="adam", num_epochs=30, batch_size=25, verbose=False)
    solver.optim_configs = {name: {"learning_rate": 1e-2} for name in net.params}
    solver.train()
    assert solver.train_acc_history[-1] == 1
    assert "gamma1" not in net.params or (net.params["gamma1"] != 1).any()


@pytest.mark.parametrize(
    "line",
    [
        "from softline.cs231n.layers import conv_forward_naive",
        "from softline.cs231n.layers import max_pool_backward_naive, affine_forward",
        "from softline.cs231n.layers import spatial_batchnorm_forward",
        "from softline.cs231n.layer_utils import conv_relu_pool_forward",
        "from softline.cs231n.classifiers import ThreeLayerConvNet",
    ],
)
def test_convolution_is_not_part_of_the_package(line):
    with pytest.raises(ImportError, match=r"is not part of softline.cs231n, which has fully connected"):
        exec(line)
    with pytest.raises(AttributeError, match="no attribute 'convolve'"):
        layers.convolve  # noqa: B018


# ---- files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "two layers", "deep"])
def test_a_model_is_saved_and_loaded(name, tmp_path, monkeypatch, capsys):
    def make():
        if name == "softmax":
            model = Softmax()
            model.W = np.random.randn(5, 3)
            return model
        return fc_net.TwoLayerNet(5, 4, 3) if name == "two layers" else fc_net.FullyConnectedNet([4], 5, 3)

    monkeypatch.chdir(tmp_path)
    model, other = make(), make()
    assert other.load("best.npy") is False
    model.save("best.npy")
    assert other.load("best.npy") is True
    assert capsys.readouterr().out == "best.npy not available.\nbest.npy saved.\nbest.npy loaded.\n"
    # The course's own load reads the file, and its save writes one that load reads.
    stored = np.load(tmp_path / "cs231n" / "saved" / "best.npy", allow_pickle=True).item()
    params = {"W": model.W} if name == "softmax" else model.params
    loaded = {"W": other.W} if name == "softmax" else other.params
    assert stored.keys() == params.keys() == loaded.keys()
    for key, array in params.items():
        assert np.array_equal(stored[key], array) and np.array_equal(loaded[key], array)
        assert loaded[key].dtype == array.dtype and loaded[key].flags.writeable


class Harmful:
    def __reduce__(self):
        return print, ("harm",)


@pytest.mark.parametrize(
    "content", [{"W": Harmful()}, Harmful(), {"W": 3}, np.zeros(3), [np.zeros(2)], b"\x93NUMPY\x01", b"no"]
)
def test_a_file_of_anything_else_is_refused(content, tmp_path, monkeypatch, capsys):
    path = tmp_path / "cs231n" / "saved" / "odd.npy"
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"odd\.npy: expected a dict of arrays, as save writes it"):
        Softmax().load("odd.npy")
    assert "harm" not in capsys.readouterr().out


@both
def test_a_training_that_diverges_says_so_once(name, problem):
    """With reg 5e6, as on the features of the course: no RuntimeWarning, which pytest makes an error."""
    X, y = problem
    model = LOSSES[name][0]()
    with pytest.warns(ConvergenceWarning, match=r"loss is inf from iteration \d+ on.*reg is 5e\+03") as told:
        losses = model.train(X, y, learning_rate=1e-3, reg=5e6, num_iters=300, verbose=False)
    assert len(told) == 1 and told[0].filename == __file__
    assert np.inf in losses and np.isfinite(losses[0])
    loss, dW = LOSSES[name][2](np.full((33, 5), 1e200), X, y, 5e6)
    assert loss == np.inf and dW.shape == (33, 5)


# ---- optim and Solver ------------------------------------------------------------------------------------


def test_update_rules():
    rng = np.random.default_rng(0)
    w, dw, again = rng.standard_normal((3, 4, 5))
    config = {"learning_rate": 0.1}
    start = w.copy()
    next_w, same = optim.sgd(start, dw, config)
    assert same is config and next_w is start
    np.testing.assert_allclose(next_w, w - 0.1 * dw)

    next_w, config = optim.sgd_momentum(w, dw)
    np.testing.assert_allclose(next_w, w - 0.01 * dw)
    next_w, config = optim.sgd_momentum(next_w, again, config)
    np.testing.assert_allclose(config["velocity"], -0.01 * (0.9 * dw + again))
    np.testing.assert_allclose(next_w, w - 0.01 * dw + config["velocity"])
    assert config["momentum"] == 0.9 and config["learning_rate"] == 0.01

    next_w, config = optim.rmsprop(w, dw)
    np.testing.assert_allclose(config["cache"], 0.01 * dw**2)
    np.testing.assert_allclose(next_w, w - 0.01 * dw / (0.1 * np.abs(dw) + 1e-8))
    assert config["decay_rate"] == 0.99 and config["epsilon"] == 1e-8

    next_w, config = optim.adam(w, dw)
    np.testing.assert_allclose(next_w, w - 1e-3 * dw / (np.abs(dw) + 1e-8))
    next_w, config = optim.adam(next_w, again, config)
    np.testing.assert_allclose(config["m"], 0.09 * dw + 0.1 * again)
    np.testing.assert_allclose(config["v"], 0.001 * (0.999 * dw**2 + again**2))
    assert config["t"] == 2 and config["beta1"] == 0.9 and config["beta2"] == 0.999


def solver_data(problem):
    X, y = problem
    return {"X_train": X[:200], "y_train": y[:200], "X_val": X[200:], "y_val": y[200:]}


def test_solver_is_that_of_a_numpy_solution(problem, capsys):
    """Draws, losses, accuracies and printed lines, over two epochs of a learning rate that decays."""
    data = solver_data(problem)
    np.random.seed(7)
    net = fc_net.TwoLayerNet(33, 20, 5, weight_scale=0.1, reg=0.01)
    params = {name: value.copy() for name, value in net.params.items()}
    state = np.random.get_state()
    rate, losses, train_accs, val_accs, lines, best = 0.5, [], [], [], [], (0, None)

    def accuracy(X, y):
        hidden = np.maximum(0, X @ params["W1"] + params["b1"])
        return np.mean((hidden @ params["W2"] + params["b2"]).argmax(axis=1) == y)

    for t in range(12):
        batch = np.random.choice(200, 30)
        loss, grads = numpy_two_layers(params, data["X_train"][batch], data["y_train"][batch], 0.01)
        losses.append(loss)
        params = {name: params[name] - rate * grads[name] for name in params}
        if t % 5 == 0:
            lines.append(f"(Iteration {t + 1} / 12) loss: {loss:f}")
        if (t + 1) % 6 == 0:
            rate *= 0.8
        if t == 0 or (t + 1) % 6 == 0:
            rows = np.random.choice(200, 90)
            train_accs.append(accuracy(data["X_train"][rows], data["y_train"][rows]))
            val_accs.append(accuracy(data["X_val"], data["y_val"]))
            lines.append(
                f"(Epoch {(t + 1) // 6} / 2) train acc: {train_accs[-1]:f}; val_acc: {val_accs[-1]:f}"
            )
            if val_accs[-1] > best[0]:
                best = val_accs[-1], params
    np.random.set_state(state)
    solver = Solver(
        net,
        data,
        optim_config={"learning_rate": 0.5},
        lr_decay=0.8,
        batch_size=30,
        num_epochs=2,
        num_train_samples=90,
        print_every=5,
    )
    solver.train()
    np.testing.assert_allclose(solver.loss_history, losses, rtol=1e-10)
    assert solver.train_acc_history == train_accs and solver.val_acc_history == val_accs
    assert solver.best_val_acc == best[0] and solver.epoch == 2
    assert capsys.readouterr().out.splitlines() == lines
    for name, array in best[1].items():
        np.testing.assert_allclose(net.params[name], array, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(net.params[name], solver.best_params[name])


def test_accuracy_on_as_many_rows_as_there_are_draws_none(problem):
    data = solver_data(problem)
    X, y = data["X_train"], data["y_train"]
    solver = Solver(fc_net.TwoLayerNet(33, 20, 5), data)
    _, state, *_ = np.random.get_state()
    assert (
        solver.check_accuracy(X, y, len(y)) == solver.check_accuracy(X, y) == solver.check_accuracy(X, y, 999)
    )
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("rule", optim.__all__)
def test_solver_with_each_rule(rule, problem, tmp_path, capsys):
    np.random.seed(0)
    net = fc_net.TwoLayerNet(33, 20, 5)
    solver = Solver(
        net,
        solver_data(problem),
        update_rule=rule,
        optim_config={"learning_rate": {"sgd": 2.0, "sgd_momentum": 0.5}.get(rule, 1e-2)},
        num_epochs=30,
        batch_size=50,
        verbose=False,
        checkpoint_name=str(tmp_path / "net"),
    )
    solver.train()
    assert solver.best_val_acc > 0.6
    assert capsys.readouterr().out == ""
    checkpoint = pickle.loads((tmp_path / "net_epoch_30.pkl").read_bytes())
    assert checkpoint["epoch"] == 30 and checkpoint["loss_history"] == solver.loss_history
    assert checkpoint["optim_config"] == solver.optim_config and checkpoint["batch_size"] == 50


def test_solver_refuses(problem):
    net = fc_net.TwoLayerNet(33, 20, 5)
    with pytest.raises(ValueError, match="Unrecognized arguments learning_rate; known: update_rule"):
        Solver(net, solver_data(problem), learning_rate=1)
    with pytest.raises(ValueError, match="Invalid update_rule 'np'; known: adam"):
        Solver(net, solver_data(problem), update_rule="np")


# ---- gradient checks -------------------------------------------------------------------------------------


def test_numerical_gradient_prints_what_it_finds(capsys):
    x = np.array([[1.0, 2.0]])
    gradient = eval_numerical_gradient(lambda x: np.sum(x**2), x)
    assert relative_error(gradient, 2 * x) < 1e-8
    assert [line.split(" ", 2)[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["(0,", "0)"],
        ["(0,", "1)"],
    ]


def test_sparse_check_prints_its_lines(problem, capsys):
    X, y = problem
    W = 0.01 * np.random.default_rng(0).standard_normal((33, 5))
    before = W.copy()
    _, dW = softmax_loss_naive(W, X, y, 0.5)
    random.seed(1)
    grad_check_sparse(lambda w: softmax_loss_naive(w, X, y, 0.5)[0], W, dW, 10)
    lines = capsys.readouterr().out.splitlines()
    random.seed(1)
    assert len(lines) == 10
    for line in lines:
        place = random.randrange(33), random.randrange(5)
        found = re.fullmatch(r"numerical: (\S+) analytic: (\S+), relative error: (\d\.\d{6}e-\d\d)", line)
        assert found and found[2] == f"{dW[place]:f}" and float(found[3]) < 1e-6
    assert np.array_equal(W, before)
    grad_check_sparse(lambda w: softmax_loss_naive(w, X, y, 0.5)[0], W, -dW, 3)
    assert capsys.readouterr().out.count("relative error: 1.0") == 3


# ---- pictures and features -------------------------------------------------------------------------------


def test_grid_of_images():
    images = np.arange(7 * 2 * 3 * 3, dtype=float).reshape(7, 2, 3, 3)
    images[6] = 7  # one value
    grid = visualize_grid(images, ubound=1.0, padding=2)
    assert grid.shape == (3 * 2 + 2 * 2, 3 * 3 + 2 * 2, 3)
    for i, image in enumerate(images[:6]):
        top, left = i // 3 * 4, i % 3 * 5
        np.testing.assert_allclose(
            grid[top : top + 2, left : left + 3], (image - image.min()) / np.ptp(image)
        )
    assert not grid[2:4].any() and not grid[:, 3:5].any() and not grid[8:].any()
    assert visualize_grid(images.astype(np.uint8), padding=0).max() == 255


@pytest.mark.parametrize(
    ("n", "shape"),
    [(1, (1, 1)), (2, (1, 2)), (10, (2, 5)), (11, (3, 4)), (49, (7, 7)), (50, (5, 10)), (53, (7, 8))],
)
def test_a_grid_of_images_has_few_gaps(n, shape):
    images = np.tile([0.0, 1.0], (n, 1, 1, 1))
    assert visualize_grid(images, padding=0).shape == (shape[0] * 1, shape[1] * 1, 2)


def test_histogram_of_oriented_gradients():
    image = np.random.default_rng(0).integers(0, 256, (17, 24, 3)).astype(float)
    grey = image @ [0.299, 0.587, 0.144]
    expected = np.zeros((3, 2, 9))  # cells by columns
    for i in range(16):
        for j in range(24):
            dx = grey[i, j + 1] - grey[i, j] if j < 23 else 0.0
            dy = grey[i + 1, j] - grey[i, j]
            angle = math.degrees(math.atan2(dy, dx + 1e-15)) + 90
            if 0 < angle < 180:
                expected[j // 8, i // 8, int(angle // 20)] += math.hypot(dx, dy) / 64
    feature = hog_feature(image)
    np.testing.assert_allclose(feature, expected.ravel(), rtol=1e-12)
    np.testing.assert_allclose(hog_feature(grey), feature)
    assert hog_feature(np.zeros((32, 32, 3))).shape == (144,)


def test_histogram_of_hue():
    colors = pytest.importorskip("matplotlib.colors")
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(float)
    image[0, :3] = [[9, 9, 9], [200, 200, 10], [10, 200, 200]]
    hue = colors.rgb_to_hsv(image / 255)[..., 0] * 255
    expected = np.histogram(hue, bins=10, range=(0, 255))[0]
    np.testing.assert_allclose(color_histogram_hsv(image), expected / 1024, rtol=1e-12)
    assert color_histogram_hsv(image, nbin=4).sum() == pytest.approx(1)


def test_features_side_by_side(capsys):
    images = np.random.default_rng(0).integers(0, 256, (1001, 8, 8, 3)).astype(float)
    functions = [hog_feature, lambda image: color_histogram_hsv(image, nbin=7)]
    features = extract_features(images, functions, verbose=True)
    assert features.shape == (1001, 9 + 7)
    np.testing.assert_array_equal(features[5], np.r_[hog_feature(images[5]), functions[1](images[5])])
    assert capsys.readouterr().out == "Done extracting features for 1000 / 1001 images\n"
    with pytest.raises(ValueError, match="must return a vector; got an array of shape"):
        extract_features(images[:1], [lambda image: image])


# ---- CIFAR-10 --------------------------------------------------------------------------------------------


def test_cifar10_as_the_course_has_it(cifar10_dir, monkeypatch):
    stored = load_cifar10(cifar10_dir, validation_fraction=0)
    pixels = stored.X_train.reshape(-1, 3, 32, 32)
    X, y, X_test, y_test = load_CIFAR10(cifar10_dir / "cifar-10-batches-py")
    assert X.shape == (50_000, 32, 32, 3) and X.dtype == np.float64 and X.flags.c_contiguous
    assert X_test.shape == (10_000, 32, 32, 3)
    assert np.array_equal(y, stored.y_train) and np.array_equal(y_test, stored.y_test)
    assert np.array_equal(X[40_000:40_100], pixels[40_000:40_100].transpose(0, 2, 3, 1))
    assert X[7, 1, 2].tolist() == stored.X_train[7].reshape(3, -1)[:, 32 + 2].tolist()

    monkeypatch.setenv("SOFTLINE_DATA", str(cifar10_dir))
    data = get_CIFAR10_data(num_training=300, num_validation=20, num_test=10)
    mean = X[:300].mean(axis=0)
    np.testing.assert_array_equal(data["X_train"], (X[:300] - mean).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data["X_val"], (X[300:320] - mean).transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data["X_test"], (X_test[:10] - mean).transpose(0, 3, 1, 2))
    for part, labels in (("train", y[:300]), ("val", y[300:320]), ("test", y_test[:10])):
        assert np.array_equal(data[f"y_{part}"], labels)
    raw = get_CIFAR10_data(5, 5, 5, subtract_mean=False)["X_train"]
    assert raw.dtype == np.float64 and np.array_equal(raw, pixels[:5])


@pytest.mark.parametrize("subtract_mean", [True, False])
def test_parts_of_cifar10(subtract_mean, tmp_path):
    """As above, of batches of two rows."""
    records = np.random.default_rng(0).integers(0, 256, (12, 3073), np.uint8)
    records[:, 0] = np.arange(12) % 10
    for i, name in enumerate([*(f"data_batch_{j}" for j in range(1, 6)), "test_batch"]):
        records[2 * i : 2 * i + 2].tofile(tmp_path / f"{name}.bin")
    data = get_CIFAR10_data(5, 3, 1, subtract_mean, cifar10_dir=tmp_path)
    mean = records[:5, 1:].mean(axis=0) if subtract_mean else 0
    for part, rows in (("train", slice(5)), ("val", slice(5, 8)), ("test", slice(10, 11))):
        images = (records[rows, 1:] - mean).reshape(-1, 3, 32, 32)
        np.testing.assert_array_equal(data[f"X_{part}"], images)
        assert data[f"y_{part}"].tolist() == records[rows, 0].tolist()


def test_softmax_on_cifar10(cifar10_dir):
    """About 0.34 on the validation rows: learning rate 1e-7, reg 2.5e4, 1500 iterations, raw pixels."""
    data = load_cifar10(cifar10_dir, validation_fraction=0)
    y, X = data.y_train, np.ones((50_000, 3073))
    np.subtract(data.X_train, data.X_train[:49_000].mean(axis=0), out=X[:, :-1])
    np.random.seed(0)
    model = Softmax()
    losses = model.train(X[:49_000], y[:49_000], learning_rate=1e-7, reg=2.5e4, num_iters=1500)
    assert len(losses) == 1500 and losses[0] > 700 and 1.9 < losses[-1] < 2.3
    assert 0.32 < np.mean(model.predict(X[49_000:]) == y[49_000:]) < 0.38
    assert 0.31 < np.mean(model.predict(X[:49_000]) == y[:49_000]) < 0.35
