"""The definition of right, in plain NumPy: a twin of every compiled kernel, and of the classifier.

Each function has the name and the argument order of its kernel in ``softline._kernels`` or
``softline._epoch``; the test suite runs both and compares. Read this file to learn what softline
computes, and the kernels to learn how.

For N rows x (D features), weights W (C, D), bias b (C), weights of rows s and labels y in 0..C-1:

    f_i  = W x_i + b                                scores
    L_i  = -log(exp(f_iy) / sum_j exp(f_ij))        cross-entropy, largest score subtracted first
    L    = sum_i s_i L_i / sum_i s_i + alpha/2 sum(W * W)
    dL_i/df_i = softmax(f_i) - onehot(y_i)

as in the course notes of CS231n ("Linear classification", with reg = alpha/2) and scikit-learn's
LogisticRegression (with C = 1/(alpha N)).

Arguments common to all: `X` (N, D), an array of any dtype in ``softline.rows.KERNEL_DTYPES`` or
:class:`softline.rows.Rows`; `idx` (n,) int, rows of X in the order to take them, None for all; `y` (n,)
int32; `n_threads` is ignored here.
"""

import numpy as np

from softline.rows import as_rows


def _rows(X, idx):
    return as_rows(X)[slice(None) if idx is None else idx]


def scores(X, idx, W, b, out, n_threads=None):
    """Write the scores X[idx] W^T + b into `out` (n, C); `b` None means 0."""
    out[...] = _rows(X, idx) @ W.T
    if b is not None:
        out += b


def softmax(scores, n_threads=None):
    """Turn rows of `scores` (n, C) into probabilities, in place.

    A score of -inf has probability exactly 0; a row with NaN or +inf becomes NaN.
    """
    scores -= scores.max(axis=1, keepdims=True, initial=-np.inf)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)


def log_softmax(scores, n_threads=None):
    """Turn rows of `scores` (n, C) into logarithms of probabilities, in place."""
    scores -= scores.max(axis=1, keepdims=True, initial=-np.inf)
    scores -= np.log(np.exp(scores).sum(axis=1, keepdims=True))


def cross_entropy(scores, y, losses, n_threads=None):
    """Write -log softmax(scores[i])[y[i]] into `losses` (n,)."""
    log_probs = scores.copy()
    log_softmax(log_probs)
    losses[...] = -log_probs[np.arange(len(y)), y]


def cross_entropy_gradient(scores, y, weight, losses, n_threads=None):
    """Write the losses, and turn `scores` into weight[i] dL_i/df_i, in place."""
    cross_entropy(scores, y, losses)
    softmax(scores)
    scores[np.arange(len(y)), y] -= 1
    scores *= weight[:, None]


def gradient(X, idx, dscores, dW, db, n_threads=None):
    """Write dscores^T X[idx] into `dW` (C, D) and the column sums of `dscores` (n, C) into `db` (C,)."""
    dW[...] = dscores.T @ _rows(X, idx)
    db[...] = dscores.sum(axis=0)


def sgd_update(W, b, dW, db, learning_rate, alpha, shift, metric, fit_intercept, n_threads=None):
    """One step of gradient descent on W (C, D) and b (C,), in place.

    With `shift` and `metric` None this is W -= learning_rate (dW + alpha W), b -= learning_rate db.

    `shift` (D,) makes it the step that descent on the features x - shift would take, though W and b go
    on acting on x itself: with scores W (x - shift) + a, the gradient to W is dW - db shift^T, and
    b = a - W shift follows W. The bias is not penalised, so the minimum stays where it was.
    `metric` (D,) scales the step of each feature: descent on features divided by 1/sqrt(metric).
    """
    g = dW + alpha * W
    if shift is not None:
        g -= np.outer(db, shift)
    step = -learning_rate * g
    if metric is not None:
        step *= metric
    W += step
    if fit_intercept:
        b -= learning_rate * db
        if shift is not None:
            b -= step @ shift


def column_stats(X, idx, weight, n_threads=None):
    """Mean, squared deviations, minimum and maximum of each column of X[idx].

    Mean and squares, sum_i weight[i] (x_i - mean)^2, are float64 and weighted by `weight` (n,), None for
    ones; both are 0 without any weight.
    """
    rows = _rows(X, idx).astype(np.float64, copy=False)
    weight = np.ones(len(rows)) if weight is None else weight.astype(np.float64)
    mean = weight @ rows / max(weight.sum(), np.finfo(np.float64).tiny)
    low, high = rows.min(axis=0, initial=np.inf), rows.max(axis=0, initial=-np.inf)
    return mean, weight @ (rows - mean) ** 2, low, high


def sgd_epoch(
    X,
    y,
    sample_weight,
    order,
    W,
    b,
    learning_rates,
    batch_size,
    alpha,
    shift,
    metric,
    fit_intercept,
    n_threads=None,
    *,
    mean_weight=None,
):
    """One pass of mini-batch SGD over the rows `order` of X, in place on W and b.

    Parameters
    ----------
    X : (N, D) array or Rows
    y : (N,) int32 array
        Labels in 0..C-1.
    sample_weight : (N,) float array or None
        Divided by `mean_weight`: each batch estimates the same gradient.
    order : (n,) int array
        The rows, in the order to take them; batches are consecutive pieces of `batch_size`.
    W, b : (C, D) and (C,) float arrays
    learning_rates : (number of batches,) float array
    batch_size : int
    alpha : float
        L2 penalty alpha/2 sum(W * W).
    shift, metric : (D,) float arrays or None
        As in :func:`sgd_update`.
    fit_intercept : bool
    mean_weight : float or None
        None: the mean over `order`.

    Returns
    -------
    losses : (number of batches,) float64 array
        Mean (weighted) cross-entropy of each batch before its update, without the penalty.
    """
    scale = 1
    if sample_weight is not None and len(order) > 0:
        scale = 1 / (mean_weight or sample_weight[order].mean(dtype=np.float64))
    losses = []
    for step, first in enumerate(range(0, len(order), batch_size)):
        idx = order[first : first + batch_size]
        weight = np.full(len(idx), scale / len(idx), W.dtype)
        if sample_weight is not None:
            weight *= sample_weight[idx]
        dscores = np.empty((len(idx), len(W)), W.dtype)
        row_losses = np.empty(len(idx), W.dtype)
        dW, db = np.empty_like(W), np.empty_like(b)
        scores(X, idx, W, b, dscores)
        cross_entropy_gradient(dscores, y[idx], weight, row_losses)
        gradient(X, idx, dscores, dW, db)
        sgd_update(W, b, dW, db, learning_rates[step], alpha, shift, metric, fit_intercept)
        losses.append(np.dot(weight.astype(np.float64), row_losses))
    return np.array(losses)


def loss_gradient(X, y, sample_weight, W, b, dW, db, n_threads=None):
    """Mean cross-entropy of all rows, weighted by `sample_weight` (N,), None for ones.

    Its gradient is written into `dW` (C, D) and `db` (C,), float64. Without the penalty.
    """
    weight = np.ones(len(y)) if sample_weight is None else sample_weight.astype(np.float64)
    dscores, losses = np.empty((len(y), len(W)), W.dtype), np.empty(len(y), W.dtype)
    scores(X, None, W, b, dscores)
    cross_entropy_gradient(dscores, y, weight / weight.sum(), losses)
    gradient(X, None, dscores, dW, db)
    return weight @ losses / weight.sum()


def hessian_product(X, idx, probs, sample_weight, V, v, HV, Hv, n_threads=None):
    """Write the Hessian of `loss_gradient` times the direction (V, v) into `HV` (C, D) and `Hv` (C,).

    The mean is over the rows `idx`, whose probabilities are `probs` (n, C). With f = V x + v, the change of
    the scores of a row, the change of its gradient to them is (diag(p) - p p^T) f.
    """
    rows = _rows(X, idx)
    weight = np.ones(len(rows)) if sample_weight is None else sample_weight.astype(np.float64)
    weight = weight if idx is None or sample_weight is None else weight[idx]
    changes = rows @ V.T + v
    changes -= np.sum(probs * changes, axis=1, keepdims=True)
    changes *= probs * (weight / weight.sum())[:, None]
    HV[...] = changes.T @ rows
    Hv[...] = changes.sum(axis=0)


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

    def __init__(self, *, alpha=1e-4, learning_rate=0.1, batch_size=256, max_iter=100, random_state=0):
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X, y):
        """Train on X (N, D) and y (N,), codes 0..C-1."""
        rng = np.random.RandomState(self.random_state)
        n = len(X)
        W, b = np.zeros((y.max() + 1, X.shape[1]), X.dtype), np.zeros(y.max() + 1, X.dtype)
        self.loss_curve_ = []
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

    def decision_function(self, X):
        """Scores (N, C)."""
        return X @ self.coef_.T + self.intercept_

    def predict(self, X):
        """Labels (N,)."""
        return self.decision_function(X).argmax(axis=1)
