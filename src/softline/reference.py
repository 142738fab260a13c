"""The definition of right, in plain NumPy: a twin of every compiled kernel, and of the classifier.

Each function has the name and the argument order of its kernel in ``softline._kernels``; the test suite runs
both and compares. Read this file to learn what softline computes, and the kernels to learn how.

For N rows x (D features), weights W (C, D), bias b (C), weights of rows s and labels y in 0..C-1::

    f_i  = W x_i + b                                scores
    L_i  = -log(exp(f_iy) / sum_j exp(f_ij))        cross-entropy, largest score subtracted first
    L    = sum_i s_i L_i / sum_i s_i + alpha/2 sum(W * W)
    dL_i/df_i = softmax(f_i) - onehot(y_i)

as in the course notes of CS231n ("Linear classification", with reg = alpha/2) and scikit-learn's
LogisticRegression (with C = 1/(alpha N)).

Arguments common to all: `X` (N, D), an array of any dtype in `KERNEL_DTYPES` or
`Rows`; `idx` (n,) int, rows of X in the order to take them, None for all; `y` (n,)
int32; `n_threads` is ignored here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, cast

import numpy as np

from softline._kernels.rows import Rows, as_rows
from softline._typing import Activation, Array, Layer, Metric

if TYPE_CHECKING:
    from softline._kernels import Arena
    from softline.optimizers import Optimizer, State


class SoftmaxClassifierReference:
    """The algorithm of :class:`softline.SoftmaxClassifier` in forty lines of NumPy.

    For readers and benchmarks: labels are 0..C-1, rows all weigh the same, nothing is validated, and
    training runs for `max_iter` epochs. Given the same `random_state` and a number as `learning_rate`,
    it takes the steps that SoftmaxClassifier takes.

    Parameters
    ----------
    alpha : float, default=1e-4
        L2 penalty alpha/2 sum(W * W).
    learning_rate : float, default=0.1
    batch_size : int, default=256
    max_iter : int, default=100
        Epochs.
    random_state : int, default=0

    Attributes
    ----------
    coef_ : (C, D) array
    intercept_ : (C,) array
    loss_curve_ : list of float
        Mean loss of each epoch, the penalty of the weights it began with included.
    """

    def __init__(
        self,
        *,
        alpha: float = 1e-4,
        learning_rate: float = 0.1,
        batch_size: int = 256,
        max_iter: int = 100,
        random_state: int = 0,
    ) -> None:
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Array, y: Array) -> Self:
        """Train on X (N, D) and y (N,), codes 0..C-1."""
        rng = np.random.RandomState(self.random_state)
        n = len(X)
        W, b = np.zeros((y.max() + 1, X.shape[1]), X.dtype), np.zeros(y.max() + 1, X.dtype)
        self.loss_curve_: list[float] = []
        for _ in range(self.max_iter):
            order = rng.permutation(n)
            penalty = self.alpha / 2 * np.sum(W * W)
            total = 0
            for first in range(0, n, self.batch_size):
                batch = order[first : first + self.batch_size]
                x, labels = X[batch], y[batch]
                f = x @ W.T + b
                f -= f.max(axis=1, keepdims=True)
                p = np.exp(f)
                p /= p.sum(axis=1, keepdims=True)
                total -= np.log(p[np.arange(len(x)), labels]).sum()
                p[np.arange(len(x)), labels] -= 1
                p /= len(x)
                W -= self.learning_rate * (p.T @ x + self.alpha * W)
                b -= self.learning_rate * p.sum(axis=0)
            self.loss_curve_.append(total / n + penalty)
        self.coef_, self.intercept_ = W, b
        return self

    def decision_function(self, X: Array) -> Array:
        """Scores (N, C)."""
        return X @ self.coef_.T + self.intercept_

    def predict(self, X: Array) -> Array:
        """Labels (N,)."""
        return self.decision_function(X).argmax(axis=1)


# ---- the kernels -----------------------------------------------------------------------------------------


Loss: TypeAlias = Literal["cross_entropy", "hinge", "outputs"]


def _rows(X: Array | Rows, idx: Array | None) -> Array:
    return as_rows(X)[slice(None) if idx is None else idx]


def scores(
    X: Array | Rows, idx: Array | None, W: Array, b: Array | None, out: Array, n_threads: int | None = None
) -> bool:
    """Write the scores X[idx] W^T + b into `out` (n, C); `b` None means 0.

    Returns
    -------
    finite : bool
        Whether all scores are, as none is of a row with NaN or infinity.
    """
    out[...] = _rows(X, idx) @ W.T
    if b is not None:
        out += b
    return bool(np.isfinite(out).all())


def probabilities(
    X: Array | Rows, W: Array, b: Array | None, out: Array, n_threads: int | None = None, *, log: bool = False
) -> bool:
    """Write the softmax of the scores X W^T + b into `out` (N, C), or its logarithm.

    W and b of one row are the log-odds of the second of two classes: then `out` is (N, 2).

    Returns
    -------
    finite : bool
        Whether all scores are.
    """
    found = np.empty((len(out), len(W)), out.dtype)
    finite = scores(X, None, W, b, found)
    out[...] = found * np.array([-0.5, 0.5], out.dtype) if len(W) == 1 else found
    (log_softmax if log else softmax)(out)
    return finite


def classes(
    X: Array | Rows, W: Array, b: Array | None, names: Array, out: Array, n_threads: int | None = None
) -> bool:
    """Write the name of the largest of the scores X W^T + b into `out` (N,); of equal ones, the first.

    W and b of one row are the log-odds of the second of two classes; `names` are of all classes.

    Returns
    -------
    finite : bool
        Whether all scores are.
    """
    found = np.empty((len(out), len(W)), W.dtype)
    finite = scores(X, None, W, b, found)
    if len(W) > 0:
        out[...] = names[(found[:, 0] > 0).astype(int) if len(W) == 1 else found.argmax(axis=1)]
    return finite


def softmax(scores: Array, n_threads: int | None = None) -> None:
    """Turn rows of `scores` (n, C) into probabilities, in place.

    A score of -inf has probability exactly 0; a row with NaN or +inf becomes NaN.
    """
    scores -= scores.max(axis=1, keepdims=True, initial=-np.inf)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)


def log_softmax(scores: Array, n_threads: int | None = None) -> None:
    """Turn rows of `scores` (n, C) into logarithms of probabilities, in place."""
    scores -= scores.max(axis=1, keepdims=True, initial=-np.inf)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))


def _targets(y: Array, n_classes: int, label_smoothing: float) -> Array:
    """Targets (n, C) of labels (n,), or targets (n, C), smoothed."""
    targets = y if y.ndim == 2 else np.eye(n_classes)[y]
    return (1 - label_smoothing) * targets + label_smoothing / n_classes


def cross_entropy(
    scores: Array, y: Array, losses: Array, n_threads: int | None = None, *, label_smoothing: float = 0.0
) -> None:
    """Write -log softmax(scores[i])[y[i]] into `losses` (n,).

    For y (n, C), probabilities instead of labels, it is -sum_c y[i, c] log softmax(scores[i])[c].
    `label_smoothing` mixes so much of the uniform distribution into either (Szegedy et al., 2016).
    """
    log_probs = scores.copy()
    log_softmax(log_probs)
    if y.ndim == 1 and label_smoothing == 0:
        losses[...] = -log_probs[np.arange(len(y)), y]
    else:
        targets = _targets(y, scores.shape[1], label_smoothing)
        losses[...] = -np.sum(np.multiply(targets, log_probs, where=targets > 0, out=0 * targets), axis=1)


def cross_entropy_gradient(
    scores: Array,
    y: Array,
    weight: Array,
    losses: Array,
    n_threads: int | None = None,
    *,
    label_smoothing: float = 0.0,
) -> None:
    """Write the losses, and turn `scores` into weight[i] dL_i/df_i, in place."""
    cross_entropy(scores, y, losses, label_smoothing=label_smoothing)
    softmax(scores)
    scores -= _targets(y, scores.shape[1], label_smoothing)
    scores *= weight[:, None]


def hinge_gradient(
    scores: Array, y: Array, weight: Array, losses: Array, n_threads: int | None = None
) -> None:
    """Write sum_j max(0, s_j - s_y + 1) over j != y[i] into `losses`, and turn `scores` into its gradient.

    The multiclass hinge loss of Weston and Watkins (1999), delta = 1, as in the course notes of CS231n; row i
    of the gradient is weighted by weight[i]. A margin of exactly 0 has no slope.
    """
    rows = np.arange(len(y))
    margins = scores - scores[rows, y][:, None] + 1
    margins[rows, y] = 0
    losses[...] = np.maximum(margins, 0).sum(axis=1)
    scores[...] = margins > 0
    scores[rows, y] = -scores.sum(axis=1)
    scores *= weight[:, None]


def gradient(
    X: Array | Rows, idx: Array | None, dscores: Array, dW: Array, db: Array, n_threads: int | None = None
) -> None:
    """Write dscores^T X[idx] into `dW` (C, D) and the column sums of `dscores` (n, C) into `db` (C,)."""
    dW[...] = dscores.T @ _rows(X, idx)
    db[...] = dscores.sum(axis=0)


def gram(
    X: Array | Rows,
    idx: Array | None,
    weight: Array,
    last: float,
    out: Array,
    n_threads: int | None = None,
) -> None:
    """Write sum_i weight[i] z_i z_i^T into the upper triangle of `out` (D + 1, D + 1).

    z_i is row idx[i] of X, and the number `last` after its D features. What is below the diagonal of `out` is
    undefined.
    """
    rows = _rows(X, idx)
    z = np.column_stack([rows, np.full(len(rows), last, out.dtype)])
    out[...] = np.triu((z * weight[:, None]).T @ z)


# ---- steps ---------------------------------------------------------------------------------------------


def step(
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    learning_rate: float,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    n_threads: int | None = None,
    *,
    optimizer: Optimizer | None = None,
    state: State | None = None,
    l1: float = 0.0,
) -> None:
    """One step of an optimizer on W (C, D) and b (C,), in place.

    With g the gradient to W, the L2 penalty's included, and the hyper-parameters by their names in
    :mod:`softline.optimizers`, which has the sources::

        sgd        W -= learning_rate g
        momentum   m = momentum m + g;   W -= learning_rate m
        nesterov   m = momentum m + g;   W -= learning_rate (g + momentum m)
        adam       m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
                   W -= learning_rate m' / (sqrt(v') + eps),  m' = m / (1 - beta1^t),  v' = v / (1 - beta2^t)
        adamw      the same with alpha = 0, on weights multiplied with 1 - learning_rate alpha
        rmsprop    v = rho v + (1 - rho) g^2;   W -= learning_rate g / (sqrt(v) + eps)
        adagrad    v = v + g^2;   W -= learning_rate g / (sqrt(v) + eps)
        asgd       a step of sgd; then the state takes the mean of all W and b since step t0

    Parameters
    ----------
    dW, db : (C, D) and (C,) arrays
        The gradient of the loss.
    learning_rate : float
    alpha : float
        L2 penalty alpha/2 sum(W * W). The bias is not penalised.
    shift : (D,) array or None
        Makes the step the one that descent on the features x - shift would take, though W and b go on acting
        on x itself: with scores W (x - shift) + a, the gradient to W is dW - db shift^T, and b = a - W shift
        follows W. The bias is not penalised, so the minimum stays where it was.
    metric : (D,) array or None
        Scales the step of each feature: descent on features divided by 1/sqrt(metric). With V = W /
        sqrt(metric), the gradient to V is sqrt(metric) times that to W, a step of W sqrt(metric) times V's.
    fit_intercept : bool
        Whether b moves, and what is remembered of it.
    optimizer : softline.optimizers.Optimizer or None
        None is plain descent.
    state : softline.optimizers.State or None
        What the optimizer remembers: t, the steps taken; W (n_moments, C, D); b (n_moments, C).
    l1 : float, default=0
        A proximal step that follows: W shrinks towards 0 by l1 times the size of the step for a gradient of
        1, and stays at 0 where it would change its sign (Tibshirani's lasso by proximal gradient: Parikh and
        Boyd, 2014, 4.2; of momentum, whose steady steps are 1 / (1 - momentum) times as large; of AdaGrad:
        Duchi et al., 2011, 5.1; of Adam: Yun, Lozano and Yang, ProxGen, 2021).
    """
    rule = "sgd" if optimizer is None else optimizer.rule
    of: Any = optimizer
    past: Any = state
    root = np.sqrt(_rate(1.0, metric))
    kept = None if past is None or fit_intercept else past.b.copy()
    if past is not None:
        past.t += 1
    if rule == "adamw":
        before, alpha_of_step = W.copy(), 0.0
        W *= 1 - learning_rate * alpha
        if shift is not None and fit_intercept:
            b -= (W - before) @ shift
    else:
        alpha_of_step = alpha
    g = _penalised(W, dW, db, alpha_of_step, shift)
    moments = [] if past is None else list(zip(past.W, past.b, strict=True))
    if rule in ("sgd", "asgd"):
        steps, rate = (root**2 * g, db), learning_rate * root**2
    elif rule in ("momentum", "nesterov"):
        for moment, a in zip(moments[0], (g, db), strict=True):
            moment[...] = of.momentum * moment + a
        m, mb = moments[0]
        steps = (m, mb) if rule == "momentum" else (g + of.momentum * m, db + of.momentum * mb)
        steps, rate = (root**2 * steps[0], steps[1]), learning_rate * root**2 / (1 - of.momentum)
    elif rule in ("adam", "adamw"):
        first, second = 1 - of.beta1**past.t, 1 - of.beta2**past.t
        learning_rate = learning_rate / first
        means, sizes = [], []
        for m, v, a in zip(*moments, (root * g, db), strict=True):
            m += (1 - of.beta1) * (a - m)
            v[...] = of.beta2 * v + (1 - of.beta2) * a**2
            means.append(m)
            sizes.append(np.sqrt(v / second) + (of.eps / np.sqrt(second) if of.eps_hat else of.eps))
        steps, rate = (root * means[0] / sizes[0], means[1] / sizes[1]), learning_rate * root**2 / sizes[0]
    else:
        keep, take = (1, 1) if rule == "adagrad" else (of.rho, 1 - of.rho)
        sizes = []
        for v, a in zip(moments[0], (root * g, db), strict=True):
            v[...] = keep * v + take * a**2
            sizes.append(np.sqrt(v) + of.eps)
        steps, rate = (root**2 * g / sizes[0], db / sizes[1]), learning_rate * root**2 / sizes[0]
    _move(W, b, -learning_rate * steps[0], -learning_rate * steps[1], rate * l1, shift, fit_intercept)
    if rule == "asgd":
        _average(W, b, past, of.t0, fit_intercept)
    if kept is not None:
        past.b[...] = kept


def _average(W: Array, b: Array, state: State, t0: int, fit_intercept: bool) -> None:
    share = 1 / max(1, state.t - t0)
    state.W[0] += share * (W - state.W[0])
    if fit_intercept:
        state.b[0] += share * (b - state.b[0])


def _penalised(W: Any, dW: Any, db: Array, alpha: float, shift: Array | None) -> Array:
    """The gradient to W with the L2 penalty's, of the features x - shift."""
    g = dW + alpha * W
    return g if shift is None else g - np.outer(db, shift)


def _rate(learning_rate: float, metric: Array | None) -> Any:
    return learning_rate * (1 if metric is None else metric)


def _move(
    W: Array,
    b: Array,
    step: Array,
    step_b: Array | float,
    threshold: Array | float,
    shift: Array | None,
    fit_intercept: bool,
) -> None:
    """Move W and b by their steps, then W by the proximal step; b follows W where features are shifted."""
    moved = W + step
    moved -= np.clip(moved, -threshold, threshold)
    if fit_intercept:
        b += step_b
        if shift is not None:
            b -= (moved - W) @ shift
    W[...] = moved


def clip_gradient(
    dW: Array,
    db: Array,
    clip_norm: float,
    shift: Array | None,
    metric: Array | None,
    n_threads: int | None = None,
) -> float:
    """Scale a gradient whose norm is above `clip_norm` down to it, in place; return the norm before.

    It is the norm of all parameters together, as in ``torch.nn.utils.clip_grad_norm_``, without the penalty,
    and in the geometry of `shift` and `metric`.
    """
    return _clip([(dW, db)], clip_norm, [(shift, metric)])


def _clip(gradients: Sequence[Layer], clip_norm: float, geometries: Any) -> float:
    total = 0.0
    for (dW, db), (shift, metric) in zip(gradients, geometries, strict=True):
        g = _penalised(0, dW, db, 0, shift).astype(np.float64) * np.sqrt(_rate(1.0, metric))
        total += np.sum(g**2) + np.sum(db.astype(np.float64) ** 2)
    norm = float(np.sqrt(total))
    scale = min(1, clip_norm / (norm + 1e-6))
    for dW, db in gradients:
        dW *= scale
        db *= scale
    return norm


def project_rows(
    W: Array, b: Array, max_norm: float, shift: Array | None, n_threads: int | None = None
) -> None:
    """Scale each row of W (C, D) whose norm is above `max_norm` down to it, in place.

    The constraint of Srebro and Shraibman (2005) and of Srivastava et al. (2014, "Dropout"). With `shift`, b
    follows so that the scores of the row `shift` stay.
    """
    norms = np.linalg.norm(W, axis=1, keepdims=True)
    _move(W, b, W * (np.minimum(1, max_norm / np.maximum(norms, max_norm)) - 1), 0, 0, shift, True)


def column_stats(
    X: Array | Rows, idx: Array | None, weight: Array | None, n_threads: int | None = None
) -> tuple[Array, Array, Array, Array]:
    """Mean, squared deviations, minimum and maximum of each column of X[idx].

    Mean and squares, sum_i weight[i] (x_i - mean)^2, are float64 and weighted by `weight` (n,), None for
    ones; both are 0 without any weight.
    """
    rows = _rows(X, idx).astype(np.float64, copy=False)
    weight = np.ones(len(rows)) if weight is None else weight.astype(np.float64)
    mean = weight @ rows / max(weight.sum(), np.finfo(np.float64).tiny)
    low, high = rows.min(axis=0, initial=np.inf), rows.max(axis=0, initial=-np.inf)
    return mean, weight @ (rows - mean) ** 2, low, high


# ---- networks: layers (W, b) with an activation in between ---------------------------------------------
#
# Common to all: `layers` or `weights`, a list of pairs W (n_out, n_in) and b (n_out,), the first with D
# inputs, the last with C outputs, the scores; `activation`, "identity", "relu", "leaky_relu", "tanh" or
# "logistic", of all layers but the last. Units are columns here.

LEAK = 0.01


def affine(A: Array, W: Array, b: Array | None, out: Array, n_threads: int | None = None) -> None:
    """Write A W^T + b into `out` (n, n_out); `b` None means 0."""
    out[...] = A @ W.T + (0 if b is None else b)


def activate(Z: Array, activation: Activation, n_threads: int | None = None) -> None:
    """Turn Z (n, units) into f(Z), in place: max(z, 0), the same with a slope of LEAK below 0, and so on."""
    if activation == "relu":
        Z[...] = np.maximum(Z, 0)
    elif activation == "leaky_relu":
        Z *= np.where(Z < 0, LEAK, 1).astype(Z.dtype)
    elif activation == "tanh":
        np.tanh(Z, out=Z)
    elif activation == "logistic":
        Z[...] = np.where(Z < 0, np.exp(-np.abs(Z)), 1) / (1 + np.exp(-np.abs(Z)))


def activation_gradient(
    A: Array, activation: Activation, dA: Array, n_threads: int | None = None, *, keep: float = 1.0
) -> None:
    """Multiply `dA` with f'(Z), in place, where f(Z) is keep * A: that of dropout is undone."""
    f = keep * A
    if activation == "relu":
        dA *= f > 0
    elif activation == "leaky_relu":
        dA *= np.where(f > 0, 1, LEAK).astype(dA.dtype)
    elif activation == "tanh":
        dA *= 1 - f**2
    elif activation == "logistic":
        dA *= f * (1 - f)


def mix(x: Array | int) -> Array:
    """Well mixed bits of uint32 numbers (C. Wellons, "Prospecting for hash functions": lowbias32)."""
    x = np.array(x, np.uint32)
    with np.errstate(over="ignore"):
        x = (x ^ x >> 16) * np.uint32(0x7FEB352D)
        x = (x ^ x >> 15) * np.uint32(0x846CA68B)
    return x ^ x >> 16


def dropout(A: Array, rate: float, key: int, n_threads: int | None = None) -> None:
    """Zero elements of A (n, units) with probability `rate`, divide the others by 1 - rate, in place.

    "Inverted" dropout (Srivastava et al., 2014; the notes of CS231n). Which ones, a hash of the key, the unit
    and the row tells: the same for any number of threads, and again on the way back.
    """
    units, rows = np.arange(A.shape[1], dtype=np.uint64), np.arange(len(A), dtype=np.uint64)
    of_unit = mix((key + units) % 2**32).astype(np.uint64)
    bits = mix((of_unit + rows[:, None]) % 2**32)
    A *= np.where(bits < np.uint32(rate * 2**32), 0, 1 / (1 - rate)).astype(A.dtype)


def network_scores(
    X: Array | Rows,
    idx: Array | None,
    weights: Sequence[Layer],
    activation: Activation,
    out: Array,
    n_threads: int | None = None,
) -> bool:
    """Write the scores of the rows X[idx] into `out` (n, C).

    Returns
    -------
    finite : bool
        Whether all scores of the first layer are: an activation may hide NaN and infinity in X.
    """
    *_, scores, finite = _forward(_rows(X, idx), weights, activation, 0.0, 0)
    out[...] = scores
    return finite


def _forward(
    x: Array, weights: Sequence[Layer], activation: Activation, rate: float, key: int
) -> tuple[Any, ...]:
    """The inputs of each layer, the scores, and whether those of the first layer are finite."""
    inputs, finite = [x], True
    for i, (W, b) in enumerate(weights):
        z = np.empty((len(x), len(W)), W.dtype)
        affine(inputs[-1], W, b, z)
        if i == 0:
            finite = bool(np.isfinite(z).all())
        if i < len(weights) - 1:
            activate(z, activation)
            if rate > 0:
                dropout(z, rate, int(mix((key + i) % 2**32)))
        inputs.append(z)
    return *inputs, finite


def gradients(
    X: Array | Rows,
    y: Array,
    row_weight: Array | None,
    idx: Array | None,
    layers: Sequence[Layer],
    out: Sequence[Layer],
    scale: float,
    n_threads: int | None = None,
    *,
    loss: Loss = "cross_entropy",
    label_smoothing: float = 0.0,
    activation: Activation = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    t: int = 0,
    arena: Arena | None = None,
) -> float:
    """The loss of the rows X[idx], sum_i scale row_weight[i] L_i, and its gradient by backpropagation.

    Without the penalty, and with the dropout of step `t` of `seed`. From the scores down, dZ being the
    gradient to what a layer puts out before its activation, A its input::

        dW = dZ^T A,   db = sum of the rows of dZ,   dZ below = (dZ W) f'(Z below)

    as in Rumelhart, Hinton and Williams (1986) and the notes of CS231n ("Backpropagation").

    Parameters
    ----------
    out : list of (dW, db)
        Arrays of the shapes of `layers`, overwritten with the gradient.
    y, row_weight, loss, label_smoothing, activation, dropout, seed, arena
        As in :func:`epoch`.
    """
    idx = np.arange(len(y)) if idx is None else idx
    if len(idx) == 0:
        for dW, db in out:
            dW[...], db[...] = 0, 0
        return 0.0
    weight = np.full(len(idx), scale, layers[0][0].dtype)
    if row_weight is not None:
        weight *= row_weight[idx]
    key = int(mix((int(mix(seed)) + t) % 2**32))
    *inputs, dscores, _ = _forward(_rows(X, idx), layers, activation, dropout, key)
    losses = np.zeros(len(idx), dscores.dtype)
    if loss == "hinge":
        hinge_gradient(dscores, y[idx], weight, losses)
    elif loss == "cross_entropy":
        cross_entropy_gradient(dscores, y[idx], weight, losses, label_smoothing=label_smoothing)
    else:  # each output is a softmax over 0 and its score
        for c in range(dscores.shape[1]):
            pair, of_output = np.zeros((len(idx), 2), dscores.dtype), np.empty_like(losses)
            pair[:, 1] = dscores[:, c]
            cross_entropy_gradient(pair, y[idx, c], weight, of_output)
            dscores[:, c] = pair[:, 1]
            losses += of_output
    for i in reversed(range(len(layers))):
        (W, _), (dW, db) = layers[i], out[i]
        gradient(inputs[i], None, dscores, dW, db)
        if i > 0:
            below = np.empty_like(inputs[i])
            affine(dscores, W.T, None, below)
            if dropout > 0:
                globals()["dropout"](below, dropout, int(mix((key + i - 1) % 2**32)))
            activation_gradient(inputs[i], activation, below, keep=1 - dropout)
            dscores = below
    return float(np.dot(weight.astype(float), losses))


def epoch(
    X: Array | Rows,
    y: Array,
    row_weight: Array | Sequence[Array | None] | None,
    order: Array,
    layers: Sequence[Layer],
    learning_rates: Array,
    batch_size: int,
    alphas: Array,
    scales: Array,
    n_threads: int | None = None,
    *,
    loss: Loss = "cross_entropy",
    label_smoothing: float = 0.0,
    optimizer: Optimizer | None = None,
    states: Sequence[State] | None = None,
    l1s: Array | None = None,
    clip_norm: float | None = None,
    max_norm: float | None = None,
    shift: Array | None = None,
    metric: Array | None = None,
    fit_intercept: bool = True,
    activation: Activation = "relu",
    dropout: float = 0.0,
    seed: int = 0,
    square_norms: Array | None = None,
    starts: Array | None = None,
    arena: Arena | None = None,
) -> Array:
    """One pass of mini-batch descent over the rows `order` of X, in place on the layers; or several.

    A linear classifier is a network of one layer.

    Parameters
    ----------
    X : (N, D) array or Rows
    y : (N,) int32 array, (N, C) int32 array or (N, C) float array
        Labels in 0..C-1; 0 or 1 for each output; or targets: probabilities, of the dtype of the weights.
    row_weight : (N,) float array, or None; or a list of these for each model
        Of the dtype of the weights; None for ones.
    order : (n,) int array
        The rows, in the order to take them; batches are consecutive pieces of `batch_size`.
    layers : list of (W, b)
        W (n_out, n_in) and b (n_out,), the first with D inputs, the last with C outputs, the scores.
    learning_rates : (number of batches,) or (number of batches, number of models) float64 array
        With two dimensions the only layer holds several models, the outputs of one below those of the other.
        Each takes the steps that it would take alone. `alphas`, `scales`, `l1s`, `square_norms` and the
        losses have the same shape.
    batch_size : int
    alphas : (number of batches,) float64 array
        L2 penalty of each batch, alpha/2 sum(W * W), of all W.
    scales : (number of batches,) float array
        What row weights are multiplied with: 1 / the rows of the batch gives their mean. Of the dtype of the
        weights.
    loss : {"cross_entropy", "hinge", "outputs"}
        The cross-entropy of a softmax over the scores; the loss of :func:`hinge_gradient`, of labels; or the
        cross-entropy of each output by itself, with probability 1/(1 + exp(-score)).
    label_smoothing : float
        As in :func:`cross_entropy`.
    optimizer : softline.optimizers.Optimizer or None
        Whose steps to take; None for plain descent.
    states : list of softline.optimizers.State or None
        What the optimizer remembers of each layer, changed in place.
    l1s : (number of batches,) float64 array or None
        L1 penalty of each batch, ``l1 sum(|W|)`` of all W, by a proximal step; None for none.
    clip_norm, max_norm : float or None
        As in :func:`clip_gradient`, over all layers, before each step, and :func:`project_rows`, after it.
    shift, metric : (D,) float arrays or None
        Geometry of the first layer, as in :func:`step`.
    fit_intercept : bool
    activation : str
        Of the units of all layers but the last.
    dropout : float
        Share of the hidden units that each row goes without.
    seed : int
        Of dropout, uint32; the step number t of the states goes into it.
    square_norms : (number of batches,) float64 array or None
        Overwritten with sum(W * W) of all W before each step, for losses with their penalty.
    starts : (number of epochs, number of weights) float array or None
        With it `order` is that of several epochs, one after the other, of as many rows each, and so are the
        numbers of the batches. Overwritten with the weights before each epoch, of all W one after the other.
    arena : softline._kernels.Arena or None
        Room for buffers, kept from call to call; not needed here.

    Returns
    -------
    losses : (number of batches,) float64 array
        Of each batch before its step, without the penalty: the sum over its rows of scale, weight and loss.
    """
    if starts is not None:
        return _epochs(**locals())
    if np.ndim(learning_rates) == 2:
        return _epoch_of_models(**locals())
    dWs = [(np.empty_like(W), np.empty_like(b)) for W, b in layers]
    averages = optimizer is not None and optimizer.averages
    losses = []
    for k, first in enumerate(range(0, len(order), batch_size)):
        idx = order[first : first + batch_size]
        losses.append(
            gradients(
                X,
                y,
                cast("Array | None", row_weight),
                idx,
                layers,
                dWs,
                scales[k],
                loss=loss,
                label_smoothing=label_smoothing,
                activation=activation,
                dropout=dropout,
                seed=seed,
                t=states[0].t if states else k,
            )
        )
        if square_norms is not None:
            square_norms[k] = sum(np.sum(W * W) for W, _ in layers)
        geometries = [(shift, metric)] + [(None, None)] * (len(layers) - 1)
        if clip_norm is not None:
            _clip(dWs, clip_norm, geometries)
        for i, ((W, b), (dW, db), geometry) in enumerate(zip(layers, dWs, geometries, strict=True)):
            state, l1 = states[i] if states else None, 0.0 if l1s is None else l1s[k]
            if averages and state is not None:  # the mean takes in what the projection leaves
                step(W, b, dW, db, learning_rates[k], alphas[k], *geometry, fit_intercept, l1=l1)
                state.t += 1
            else:
                rates = learning_rates[k], alphas[k]
                of: Any = {"optimizer": optimizer, "state": state, "l1": l1}
                step(W, b, dW, db, *rates, *geometry, fit_intercept, **of)
            if max_norm is not None:
                project_rows(W, b, max_norm, geometry[0])
            if averages and state is not None:
                _average(W, b, state, cast(Any, optimizer).t0, fit_intercept)
    return np.array(losses)


def _epochs(starts: Array, order: Array, layers: Sequence[Layer], **others: Any) -> Array:
    """Epochs one by one: what :func:`epoch` does for several at once."""
    of_batches = ("learning_rates", "alphas", "scales", "l1s", "square_norms")
    by_epoch = {name: np.split(others[name], len(starts)) for name in of_batches if others[name] is not None}
    losses = []
    for i, rows in enumerate(np.split(order, len(starts))):
        starts[i] = np.concatenate([W.ravel() for W, _ in layers])
        own = {name: numbers[i] for name, numbers in by_epoch.items()}
        losses.append(epoch(order=rows, layers=layers, **others | own))
    return np.concatenate(losses)


def _epoch_of_models(
    layers: Sequence[Layer], learning_rates: Array, row_weight: Any, states: Any, **others: Any
) -> Array:
    """An epoch of each model by itself: what :func:`epoch` does for several at once."""
    [(W, b)], n_models = layers, learning_rates.shape[1]
    weights = row_weight if isinstance(row_weight, list | tuple) else [row_weight] * n_models
    by_model = [k for k in ("alphas", "scales", "l1s", "square_norms") if others[k] is not None]
    losses = np.empty(learning_rates.shape)
    before = states[0].t if states else 0
    for i in range(n_models):
        its = slice(len(W) // n_models * i, len(W) // n_models * (i + 1))
        own = others | {name: others[name][:, i] for name in by_model}
        if states:
            own["states"] = [SimpleNamespace(t=before, W=states[0].W[:, its], b=states[0].b[:, its])]
        losses[:, i] = epoch(
            layers=[(W[its], b[its])], learning_rates=learning_rates[:, i], row_weight=weights[i], **own
        )
    if states:
        states[0].t = before + len(losses)
    return losses


def loss_gradient(
    X: Array | Rows,
    y: Array,
    sample_weight: Array | None,
    W: Array,
    b: Array,
    dW: Array,
    db: Array,
    n_threads: int | None = None,
) -> float:
    """Mean cross-entropy of all rows, weighted by `sample_weight` (N,), None for ones.

    Its gradient is written into `dW` (C, D) and `db` (C,), float64. Without the penalty.
    """
    weight = np.ones(len(y)) if sample_weight is None else sample_weight.astype(np.float64)
    dscores, losses = np.empty((len(y), len(W)), W.dtype), np.empty(len(y), W.dtype)
    scores(X, None, W, b, dscores)
    cross_entropy_gradient(dscores, y, weight / weight.sum(), losses)
    gradient(X, None, dscores, dW, db)
    return weight @ losses / weight.sum()


def candidate_losses(
    X: Array | Rows,
    y: Array,
    sample_weight: Array | None,
    Ws: Array,
    bs: Array,
    losses: Array,
    n_threads: int | None = None,
) -> None:
    """Write the mean cross-entropy of all rows for each of K candidates into `losses` (K,), float64.

    A candidate is weights and a bias, ``Ws[k]`` (C, D) and ``bs[k]`` (C,). `sample_weight` is (N,), None for
    ones.
    """
    weight = np.ones(len(y)) if sample_weight is None else sample_weight.astype(np.float64)
    for k, (W, b) in enumerate(zip(Ws, bs, strict=True)):
        out, row_losses = np.empty((len(y), len(W)), W.dtype), np.empty(len(y), W.dtype)
        scores(X, None, W, b, out)
        cross_entropy(out, y, row_losses)
        losses[k] = weight @ row_losses / weight.sum()


def newton(
    X: Array | Rows,
    y: Array,
    sample_weight: Array | None,
    l2: Array,
    l1: Array | None,
    fit_intercept: bool,
    Z: Array,
    tol: float,
    max_iter: int,
    n_threads: int | None = None,
    *,
    ridge: float = 0.0,
    by_columns: bool = False,
    callback: Callable[[Array, float, int], object] | None = None,
) -> tuple[float, float, int, str]:
    """Newton's method on mean cross-entropy + sum(l2 * Z^2)/2 + sum(l1 * abs(Z)), from Z on and in place.

    Computed in float64, whatever X is. A step leads to the minimum of the second-order model of the loss with
    the penalties, or by a backtracking line search towards it (Boyd and Vandenberghe, 2004, 9.5; with L1 the
    proximal Newton method of Lee, Sun and Saunders, 2014).

    Parameters
    ----------
    sample_weight : (N,) float64 array or None
    l2, l1 : (D + 1,) float64 arrays, l1 or None
        Penalties of W and b.
    Z : (C, D + 1) float64 array
        W and b side by side; for two classes (1, D + 1), the log-odds of the second.
    tol : float
        The search ends where the gap is at most min(1000 tol, 0.1) tol of the value, and a step further.
    max_iter : int
        Most steps.
    ridge : float
        What is added to the diagonal of the Hessian, scaled to 1, for what rounding leaves undecided.
    by_columns : bool
        Whether the compiled search goes feature by feature, by coordinate descent, which it does with less
        work where weights are many and an L1 penalty leaves most at zero. It begins with a larger penalty,
        and ends where the duality gap is as small as `tol` asks for.
    callback : callable or None
        Called with Z, the value and the number of steps after each; the search ends where it returns True.

    Returns
    -------
    value, gap, n_iter, status : float, float, int, {"converged", "searching", "stuck"}
        `gap` is how far the value is above the minimum: with an L1 penalty the duality gap, which is
        certain; else half the squared Newton decrement, an estimate. "searching"
        where `max_iter` ended it, or the callback; "stuck" where no step descends.
    """
    x, R = _rows(X, None).astype(np.float64), len(Z)
    z = np.column_stack([x, np.full(len(x), float(fit_intercept))])
    share = np.ones(len(x)) if sample_weight is None else sample_weight
    share, first = share / share.sum(), max(2, R) - R
    l1 = np.zeros(len(l2)) if l1 is None else l1

    def evaluated(Z: Array) -> tuple[float, Array, Array]:
        scores = np.column_stack([np.zeros((len(x), first)), z @ Z.T])
        losses, probs = np.empty(len(x)), scores.copy()
        cross_entropy(scores, y, losses)
        softmax(probs)
        probs = probs[:, first:]
        G = ((share[:, None] * (probs - (y[:, None] == np.arange(first, first + R)))).T @ z) + l2 * Z
        H = np.zeros((R, Z.shape[1], R, Z.shape[1]))
        for a in range(R):
            for b in range(R):
                h = share * probs[:, a] * ((a == b) - probs[:, b])
                H[a, :, b] = (z * h[:, None]).T @ z + (a == b) * np.diag(l2)
        value = share @ losses + np.sum(l2 * Z**2) / 2 + np.sum(l1 * np.abs(Z))
        return float(value), G * np.append(np.ones(x.shape[1]), fit_intercept), H.reshape(Z.size, Z.size)

    def step_from(Z: Array, G: Array, H: Array) -> Array:
        roots = np.sqrt(np.where(np.diagonal(H) > 0, np.diagonal(H), 1))
        A = H / np.outer(roots, roots) + ridge * np.eye(Z.size)
        if not l1.any():
            step = np.linalg.lstsq(A, -G.reshape(-1) / roots, rcond=1e-12)[0]
        else:
            V = (Z.reshape(-1) * roots)[None]
            none: Any = np.zeros((0, *V.shape))
            slope, penalty = G.reshape(1, -1) / roots, np.tile(l1, R) / roots
            coordinate_descent(A, 1.0, none, np.zeros(0), slope, penalty, V, 1e-6, 1000)
            step = V[0] - Z.reshape(-1) * roots
        step = (step / roots).reshape(Z.shape)
        free = (l2 == 0) & (l1 == 0) & (R > 1)
        step[:, free] -= step[:, free].mean(axis=0)
        return step

    value, G, H = evaluated(Z)
    n_iter, gap, lower, converged = 0, np.inf, -np.inf, False
    while True:
        step = step_from(Z, G, H)
        slope = np.sum(G * step) + np.sum(l1 * (np.abs(Z + step) - np.abs(Z)))
        gap, last = abs(slope) / 2, converged
        lower = max(lower, value - duality_gap(Z, value, G, l2, l1))
        allowed = min(1000 * tol, 0.1) * tol * max(value, tol)
        converged = gap <= max(allowed, 8 * np.finfo(float).eps * value)
        if (gap <= 0.05 * allowed and (last or n_iter == 0)) or n_iter == max_iter:
            break
        for t in 0.5 ** np.arange(30):
            new_value, *new = evaluated(Z + t * step)
            if new_value < value and new_value <= value + 1e-4 * t * slope:
                break
        else:
            return value, value - lower if l1.any() else gap, n_iter, "converged" if converged else "stuck"
        Z += t * step
        value, (G, H), n_iter = new_value, new, n_iter + 1
        if callback is not None and callback(Z, value, n_iter):
            break
    return value, value - lower if l1.any() else gap, n_iter, "converged" if converged else "searching"


def duality_gap(Z: Array, value: float, G: Array, l2: Array, l1: Array) -> float:
    """Upper bound of how far the objective of :func:`newton` at Z is above its minimum.

    G is the gradient of all but the L1 penalty. Gradients of the losses, scaled so that no feature wants a
    weight, are a point of the dual problem (Fenchel's inequality; Koh, Kim and Boyd, 2007, "An interior-point
    method for large-scale l1-regularized logistic regression"). Its value is at least the same share of the
    sum of the entropies, because these are concave. A weight without a penalty, an intercept, is taken to be
    off by no more than 1 + abs(Z).
    """
    G = G - l2 * Z
    wanted = np.abs(G) / np.where((l1 > 0) & (l2 == 0), l1, np.inf)
    share = 1 / float(wanted.max(initial=1))
    penalty = np.sum(l1 * np.abs(Z) + l2 * Z**2 / 2)
    slopes = share * np.abs(G)
    over = np.maximum(slopes - l1, 0) ** 2 / np.where(l2 > 0, 2 * l2, np.inf)
    free = np.where((l1 == 0) & (l2 == 0), slopes * (1 + np.abs(Z)), 0)
    gap = (1 - share) * (value - penalty) + share * np.sum(G * Z) + penalty + np.sum(over) + np.sum(free)
    return max(0.0, float(gap))


def coordinate_descent(
    A: Array | None,
    scale: float,
    T: Array,
    signs: Array,
    G: Array,
    l1: Array,
    V: Array,
    tol: float,
    most_rounds: int,
) -> None:
    """V := the minimum of ``G (V - Z) + (V - Z) H (V - Z)/2 + sum(l1 |V|)``, Z being the V given.

    H is scale A for each row, and of all elements together the sum of signs[k] T[k] T[k]^T. Coordinates are
    minimised in turn (Friedman, Hastie and Tibshirani, 2010, "Regularization paths for generalized linear
    models via coordinate descent"), all and then those that are not zero, until none of all moves by more
    than `tol` of the farthest move of the first round; in at most so many rounds.

    Parameters
    ----------
    A : (D, D) float array or None
        Symmetric, with a positive diagonal; None is the identity.
    scale : float
    T : (K, C, D) float64 array
    signs : (K,) float64 array
        1 or -1.
    G : (C, D) float64 array
    l1 : (D,) float64 array
    V : (C, D) float64 array
        Overwritten.
    tol : float
    most_rounds : int
    """
    C, D = V.shape
    H = np.kron(np.eye(C), scale * (np.eye(D) if A is None else A))
    for sign, term in zip(signs, T, strict=True):
        H += sign * np.outer(term, term)
    v, z, g = V.ravel(), V.ravel().copy(), G.ravel()
    every, enough = True, 0.0
    for k in range(most_rounds):
        farthest = 0.0
        for i in range(C * D) if every else np.flatnonzero(v):
            slope = g[i] + H[i] @ (v - z)
            best = H[i, i] * v[i] - slope
            best = np.sign(best) * max(abs(best) - l1[i % D], 0) / H[i, i]
            farthest = max(farthest, abs(best - v[i]) * np.sqrt(H[i, i]))
            v[i] = best
        if k == 0:
            enough = tol * farthest
        if farthest > enough:
            every = False
        elif every:
            break
        else:
            every = True
    V[...] = v.reshape(C, D)


# ---- nearest neighbours ---------------------------------------------------------------------------
#
# `Q` (n, D), queries, and `X` (N, D) are arrays of any dtypes in `KERNEL_DTYPES`; `metric`
# is "manhattan", sum(|q - x|), "euclidean", sqrt(sum((q - x)^2)), or "sqeuclidean", its square.


def distances(Q: Array, X: Array, metric: Metric, out: Array, n_threads: int | None = None) -> None:
    """Write the distance of Q[i] from X[j] into `out[i, j]` (n, N), float64."""
    X = X.astype(np.float64)
    for q, row in zip(Q.astype(np.float64), out, strict=True):
        row[...] = np.sum(np.abs(q - X) if metric == "manhattan" else (q - X) ** 2, axis=1)
    if metric == "euclidean":
        np.sqrt(out, out=out)


def nearest(
    Q: Array,
    X: Array,
    metric: Metric,
    neigh_dist: Array,
    neigh_ind: Array,
    n_threads: int | None = None,
    tree: Any = None,
) -> None:
    """Write the k rows of X nearest to each query: `neigh_dist` (n, k), float64, and `neigh_ind` (n, k).

    Nearest first; of rows at the same distance, as rounded to float64, that of the lowest number. A tree,
    scikit-learn's KDTree of X, is another way to the same bits.
    """
    all_distances = np.empty((len(Q), len(X)))
    distances(Q, X, metric, all_distances)
    neigh_ind[...] = np.argsort(all_distances, axis=1, kind="stable")[:, : neigh_ind.shape[1]]
    neigh_dist[...] = np.take_along_axis(all_distances, neigh_ind, axis=1)


def invert_factor(A: Array, out: Array, least: float) -> None:
    """``out`` := the inverse of L, lower triangular, for a symmetric A = L L^T.

    By Cholesky's factorisation (Golub and Van Loan, "Matrix Computations", 4.2), which is undone row by row.
    Of a coordinate with a pivot below `least` the row and the column are 0.

    Parameters
    ----------
    A : (M, M) float64 array
        Its upper triangle is read and overwritten.
    out : (M, M) float64 array
    least : float
    """
    out[...] = np.eye(len(A))
    for i in range(len(A)):
        pivot = np.sqrt(A[i, i]) if A[i, i] >= least else np.inf
        A[i, i:] /= pivot
        out[i, : i + 1] /= pivot
        A[i + 1 :, i + 1 :] -= A[i, i + 1 :, None] * A[i, i + 1 :]
        out[i + 1 :, : i + 1] -= A[i, i + 1 :, None] * out[i, : i + 1]


# ---- L-BFGS ---------------------------------------------------------------------------------------


def precondition(
    G: Array,
    mean: Array,
    roots: Array,
    inverse_root: Array | None,
    out: Array,
    n_threads: int | None = None,
) -> None:
    """Write G times the inverse of a curvature into `out`; both (R, n), float64.

    The curvature is T^T S A S T for each row: S has `roots` (n,) on its diagonal; T adds to the last element
    of a row the inner product of the others with `mean` (n - 1,); and A^-1 = V V^T, V = `inverse_root` (n, n)
    being upper triangular, or A the identity where it is None. V may be float32; U V V^T is then, too.
    """
    U = G.copy()
    U[:, :-1] -= G[:, -1:] * mean
    U /= roots
    if inverse_root is not None:
        V = np.triu(inverse_root)
        U = ((U.astype(V.dtype) @ V) @ V.T).astype(float)
    out[...] = U / roots
    out[:, -1:] -= out[:, :-1] @ mean[:, None]


def first_loop(G: Array, steps: Array, changes: Array, slopes: Array, order: Array, shares: Array) -> None:
    """First loop of L-BFGS over the pairs `order`, from the last to the first: G and `shares` follow.

    The two-loop recursion of Nocedal and Wright (2006), algorithm 7.4: between both loops G is multiplied
    with the first guess at the inverse Hessian.

    Parameters
    ----------
    G : (C, D) array
        A gradient; overwritten.
    steps, changes : (K, C, D) arrays
        Steps, and the changes of the gradient by them.
    slopes : (K,) array
        The inner product of each pair.
    order : (n,) intp array
        Which pairs count, the oldest first.
    shares : (n,) array
        Overwritten.
    """
    for i in reversed(range(len(order))):
        pair = order[i]
        shares[i] = np.sum(steps[pair] * G) / slopes[pair]
        G -= shares[i] * changes[pair]


def second_loop(D: Array, steps: Array, changes: Array, slopes: Array, order: Array, shares: Array) -> None:
    """Second loop of L-BFGS, from the first pair to the last: D, a direction, follows. See `first_loop`."""
    for share, pair in zip(shares, order, strict=True):
        D += (share - np.sum(changes[pair] * D) / slopes[pair]) * steps[pair]
