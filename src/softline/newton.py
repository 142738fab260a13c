"""Newton's method for softmax regression with L2 and L1 penalties, to a certified gradient.

A step solves H d = -g by conjugate gradients, as far as it pays (inexact Newton: Dembo, Eisenstat and
Steihaug, 1982), in the metric of :mod:`softline.preconditioner`. H need not be exact where g is: far from the
minimum it is that of some rows (subsampled Newton: Byrd, Chin, Neveitt and Nocedal, 2011), whose products
cost a fraction of a pass over the data; as steps stop paying, more rows are taken, in the end all. The
weights are kept in float64 and gradients are summed in it, so that float32 data converge, too.

With an L1 penalty a step minimises the quadratic model with that penalty (proximal Newton: Lee, Sun and
Saunders, 2014), by accelerated proximal gradients on the model (FISTA: Beck and Teboulle, 2009, restarted as
O'Donoghue and Candes, 2015).
"""

from dataclasses import dataclass

import numpy as np

from softline import _kernels
from softline._objective import hessian_product, loss_gradient
from softline.column_stats import ColumnStats
from softline.preconditioner import Preconditioner
from softline.trainer import Trainer

# Epochs of gradient descent before the first Newton step, rows of a batch, and steps that an epoch must be.
START_EPOCHS, START_BATCH = 4, 256
START_STEPS, START_STEPS_PER_CLASS = 32, 4
# Rows for the metric, and for the Hessian at first: so many, or so many for each feature.
METRIC_ROWS, METRIC_ROWS_PER_FEATURE = 4096, 2
HESSIAN_ROWS, HESSIAN_SHARE = 4096, 0.1
# A step solves its system to this share of the gradient at first, in at most so many products.
FORCING, MOST_PRODUCTS = 0.3, 200
# A step that leaves more than this share of the gradient is followed by a better one: from twice the rows, or
# where it had all, solved ten times as far.
SLOW = 0.4
# A step is not shortened below this.
LEAST_STEP = 1e-10


class Objective:
    """Mean cross-entropy + sum(l2 * Z^2)/2 + sum(l1 * |Z|), as a function of Z = (W, b).

    Z is (C, D + 1); for two classes (1, D + 1), the log-odds of the second: the scores are -Z x/2 and Z x/2.

    Parameters
    ----------
    X : (N, D) Rows
    codes : (N,) int32 array
    sample_weight : (N,) array of X.dtype, or None
    n_classes : int
    l2, l1 : float
        Penalties on W; :attr:`SoftmaxClassifier.alpha` times 1 - l1_ratio, and times l1_ratio.
    intercept_penalty : float, default=0
        Share of these penalties (of l2; its root of l1) that is on b.
    fit_intercept : bool
    n_threads : int or None
    """

    def __init__(
        self,
        X,
        codes,
        sample_weight,
        n_classes,
        *,
        l2,
        l1=0.0,
        intercept_penalty=0.0,
        fit_intercept=True,
        n_threads=None,
    ):
        self.X, self.codes, self.sample_weight, self.n_classes = X, codes, sample_weight, n_classes
        self.fit_intercept, self.n_threads = fit_intercept, n_threads
        D = X.shape[1]
        self.shape = (1 if n_classes == 2 else n_classes, D + 1)
        self.l2, self.l1 = np.full(D + 1, l2), np.full(D + 1, l1)
        self.l2[D] *= intercept_penalty
        self.l1[D] *= np.sqrt(intercept_penalty)
        self.rows = np.arange(len(X)) if sample_weight is None else np.flatnonzero(sample_weight)
        self._W = _kernels.padded(n_classes, D, X.dtype)

    def expand(self, Z):
        """W (C, D) and b (C,) of Z."""
        if self.n_classes == 2:
            Z = np.vstack([-Z / 2, Z / 2])
        return Z[:, :-1], Z[:, -1]

    def collapse(self, W, b):
        """The Z, float64, of W and b."""
        Z = np.column_stack([W, b]).astype(float)
        return Z[1:] - Z[:1] if self.n_classes == 2 else Z

    def _weights(self, Z):
        """W and b of Z, as the kernels take them."""
        self._W[...], b = self.expand(Z)
        return self._W, b.astype(self.X.dtype)

    def _gradient(self, dW, db, Z):
        G = np.column_stack([dW, db])[-len(Z) :]
        G += self.l2 * Z
        if not self.fit_intercept:
            G[:, -1] = 0
        return G

    def __call__(self, Z):
        """Value at Z, and the gradient of all but the L1 penalty, float64."""
        dW, db = np.empty((self.n_classes, self.shape[1] - 1)), np.empty(self.n_classes)
        loss = loss_gradient(
            self.X, self.codes, self.sample_weight, *self._weights(Z), dW, db, self.n_threads
        )
        value = loss + np.sum(self.l2 * Z**2) / 2 + np.sum(self.l1 * np.abs(Z))
        return value, self._gradient(dW, db, Z)

    def pseudo_gradient(self, Z, G):
        """The element of least size of the subdifferential at Z; zero where and only where Z is a minimum."""
        if not self.l1.any():
            return G
        return np.where(Z == 0, soft_threshold(G, self.l1), G + self.l1 * np.sign(Z))

    def probabilities(self, Z, idx):
        """Probabilities (n, C) of the rows `idx` (None: all) at Z."""
        probs = np.empty((len(self.X) if idx is None else len(idx), self.n_classes), self.X.dtype)
        _kernels.scores(self.X, idx, *self._weights(Z), probs, self.n_threads)
        _kernels.softmax(probs, self.n_threads)
        return probs

    def hessian(self, Z, idx):
        """The function P -> (Hessian of the rows `idx` at Z) P, for P like Z."""
        probs = self.probabilities(Z, idx)

        def product(P):
            HW, Hb = np.empty((self.n_classes, self.shape[1] - 1)), np.empty(self.n_classes)
            hessian_product(self.X, idx, probs, self.sample_weight, *self._weights(P), HW, Hb, self.n_threads)
            return self._gradient(HW, Hb, P)

        return product

    def preconditioner(self, Z, idx):
        """The metric at Z, estimated on the rows `idx`."""
        probs = self.probabilities(Z, idx)
        curvature = np.mean(probs * (1 - probs), axis=1)
        total = float(len(idx))
        if self.sample_weight is not None:
            curvature *= self.sample_weight[idx]
            total = self.sample_weight[idx].sum(dtype=float)
        return Preconditioner(
            self.X, idx, curvature, total, self.l2[0], self.l2[-1], self.fit_intercept, self.n_threads
        )


def first_guess(objective):
    """Where a search may begin: after a few epochs of gradient descent if an epoch is many steps, else zero.

    The first epochs gain more than as many passes over the data do in any other way. At first a class has a
    probability, and a curvature, of 1/C: the more classes, the less a step does.
    """
    X, n_classes, weight, rows = objective.X, objective.n_classes, objective.sample_weight, objective.rows
    zero = np.zeros(objective.shape)
    if len(rows) < START_BATCH * max(START_STEPS, START_STEPS_PER_CLASS * n_classes):
        return zero
    stats = ColumnStats(X.shape[1])
    stats.update(X, rows, None if weight is None else weight[rows], objective.n_threads)
    # Two classes have weights -Z/2 and Z/2, whose squares are half Z's.
    alpha = objective.l2[0] * (2 if n_classes == 2 else 1)
    try:
        trainer = Trainer(
            X,
            objective.codes,
            weight,
            rows,
            np.zeros((n_classes, X.shape[1])),
            np.zeros(n_classes),
            alpha=alpha,
            learning_rate="auto",
            batch_size=START_BATCH,
            max_iter=START_EPOCHS,
            fit_intercept=objective.fit_intercept,
            rng=np.random.RandomState(0),
            n_threads=objective.n_threads,
            stats=stats,
        )
        loss = np.inf
        for epoch in range(START_EPOCHS):
            loss, _ = trainer.epoch(epoch)
    except ValueError:  # features too large to descend on
        return zero
    return objective.collapse(trainer.W, trainer.b) if loss < np.log(n_classes) else zero


@dataclass(frozen=True)
class Result:
    """Where :func:`minimize` ended.

    Attributes
    ----------
    Z : float64 array
    value : float
    gradient : float
        Largest absolute element of the (pseudo-)gradient.
    n_iter : int
        Steps.
    converged : bool
        `gradient` is at most `tol`.
    stopped : bool
        The callback ended the search.
    """

    Z: np.ndarray
    value: float
    gradient: float
    n_iter: int
    converged: bool
    stopped: bool


def minimize(objective, Z, tol, max_iter, callback=None, change_tol=np.inf):
    """Newton steps from Z until no element of the (pseudo-)gradient exceeds `tol`.

    Parameters
    ----------
    objective : Objective
    Z : float64 array, of the objective's shape
    tol : float
    max_iter : int
        Most steps.
    callback : callable or None
        Called with (Z, value, n_iter) after each step; a true result ends the search.
    change_tol : float, default=inf
        The last step, too, must not have changed a weight by more than this share of the largest.

    Returns
    -------
    Result
    """
    rng = np.random.RandomState(0)
    rows, D = objective.rows, objective.X.shape[1]
    sample = _sample(rng, rows, max(METRIC_ROWS, METRIC_ROWS_PER_FEATURE * D))
    n_hessian = max(HESSIAN_ROWS, int(HESSIAN_SHARE * len(rows)))
    value, G = objective(Z)
    left = objective.pseudo_gradient(Z, G)
    metric, size, n_iter, stalled, forcing, moved, stopped = None, np.inf, 0, 0, FORCING, False, False
    noise = 8 * np.finfo(objective.X.dtype).eps
    while (np.abs(left).max() > tol or moved) and n_iter < max_iter and stalled < 3 and not stopped:
        # Where it costs less than a pass over the data, the metric is that of the present.
        if metric is None or len(sample) * D <= 4 * len(rows) * objective.n_classes:
            metric = objective.preconditioner(Z, sample)
            size = _dot(left, metric.solve(left))
        idx = None if n_hessian >= len(objective.X) else _sample(rng, rows, n_hessian)
        # The nearer the minimum, the nearer to Newton's own step, if it is from all rows.
        share = forcing if idx is not None else min(forcing, (size / value) ** 0.25)
        step = newton_step(objective, metric, Z, G, idx, share)
        trial, new_value, new_G, expected = line_search(objective, Z, value, G, step, noise * abs(value))
        new_left = objective.pseudo_gradient(trial, new_G)
        new_size = _dot(new_left, metric.solve(new_left))
        # Rounding hides what is left to gain: steps that do not make the gradient smaller are in vain.
        within_noise = expected < noise * abs(value)
        if within_noise and new_size >= size:
            stalled += 1
        else:
            stalled = 0
            moved = np.abs(trial - Z).max() > change_tol * np.abs(trial).max()
            Z, value, G, left = trial, new_value, new_G, new_left
        if new_size > SLOW**2 * size:
            if idx is None:
                forcing *= 0.1
            n_hessian *= 2
        size = min(size, new_size) if within_noise else new_size
        n_iter += 1
        stopped = callback is not None and bool(callback(Z, value, n_iter))
    gradient = np.abs(left).max()
    return Result(Z, value, gradient, n_iter, gradient <= tol, stopped)


def newton_step(objective, metric, Z, G, idx, share):
    """The step that minimises the model of the objective at Z, with the Hessian of the rows `idx`.

    To `share` of its (pseudo-)gradient at Z.
    """
    hessian = objective.hessian(Z, idx)
    # Without an L2 penalty there are directions of no curvature: rounding must not take them for some.
    damping = 0.0
    if objective.l2[0] == 0:
        damping = 32 * np.finfo(objective.X.dtype).eps * metric.diagonal

    def product(P):
        return hessian(P) + damping * P

    if objective.l1.any():
        V = proximal_gradients(product, objective.l1, metric.diagonal, Z, G, share, 4 * MOST_PRODUCTS)
        return V - Z

    # What is added to all classes alike changes nothing but a penalty: where there is none, rounding must not
    # become a step.
    free = (objective.l2 == 0) & (len(Z) > 1)

    def solve(R):
        step = metric.solve(R)
        step[:, free] -= step[:, free].mean(axis=0)
        return step

    return conjugate_gradients(product, solve, -G, share, MOST_PRODUCTS)


def line_search(objective, Z, value, G, step, slack):
    """A point from Z along `step` that descends enough: (Z, value, gradient, expected gain)."""
    l1 = objective.l1
    slope = _dot(G, step) + np.sum(l1 * (np.abs(Z + step) - np.abs(Z)))
    t = 1.0
    while True:
        trial = Z + t * step
        new_value, new_G = objective(trial)
        if new_value - value <= 1e-4 * t * slope + slack or t < LEAST_STEP:
            return trial, new_value, new_G, -t * slope
        # the minimum of the parabola through what is known
        bend = new_value - value - t * slope
        t *= min(0.5, max(0.1, -t * slope / (2 * bend))) if np.isfinite(bend) else 0.1


def proximal_gradients(product, l1, diagonal, Z, G, share, most):
    """The minimum V of G (V - Z) + (V - Z) H (V - Z)/2 + sum(l1 |V|), from V = Z.

    Parameters
    ----------
    product : callable
        P -> H P.
    l1, diagonal : (D + 1,) arrays
        The penalty, and the metric in which the gradient descends.
    Z, G : (C, D + 1) arrays
    share : float
        Ends when a proximal step is this share of the first, in the metric.
    most : int
        Most products.
    """
    V, HV = Z, np.zeros_like(Z)  # HV: H (V - Z)
    last_V, last_HV = V, HV
    momentum, steepest, first = 1.0, 1.0, None
    for _ in range(most):
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = (momentum - 1) / grown
        Y, HY = V + ahead * (V - last_V), HV + ahead * (HV - last_HV)
        new_V = soft_threshold(Y - (G + HY) / (steepest * diagonal), l1 / (steepest * diagonal))
        step = new_V - Y
        H_step = product(step)
        size = _dot(step, step * diagonal)
        curvature = _dot(step, H_step)
        if curvature > 1.01 * steepest * size:  # steeper than was thought: again, with shorter steps
            steepest = 1.1 * curvature / size
            last_V, last_HV, momentum = V, HV, 1.0
            continue
        if _dot(step, new_V - V) < 0 and momentum > 1:  # the momentum leads uphill
            last_V, last_HV, momentum = V, HV, 1.0
            continue
        last_V, last_HV, momentum = V, HV, grown
        V, HV = new_V, HY + H_step
        size *= steepest**2
        first = size if first is None else first
        if size <= share**2 * first:
            break
    return V


def soft_threshold(Z, by):
    """Z moved towards zero by `by`, and no further."""
    return np.sign(Z) * np.maximum(np.abs(Z) - by, 0)


def conjugate_gradients(product, solve, R, share, most):
    """The solution d of H d = R, to `share` of R in the metric, by preconditioned conjugate gradients.

    Parameters
    ----------
    product, solve : callables
        P -> H P, and the preconditioner R -> M^-1 R.
    R : (C, D + 1) array
    share : float
    most : int
        Most products.
    """
    d = np.zeros_like(R)
    Y = solve(R)
    P, size = Y, _dot(R, Y)
    enough = share**2 * size
    for _ in range(most):
        HP = product(P)
        curvature = _dot(P, HP)
        if not curvature > 0:  # a direction without any, or none left
            return d if d.any() else Y
        length = size / curvature
        d += length * P
        R = R - length * HP
        Y = solve(R)
        last, size = size, _dot(R, Y)
        if size <= enough:
            break
        P = Y + size / last * P
    return d


def _sample(rng, rows, n):
    """n of the rows, in order."""
    return rows if n >= len(rows) else np.sort(rng.choice(rows, n, replace=False))


def _dot(A, B):
    """Sum of the products of the elements; not by BLAS, whose bits depend on its threads."""
    return float(np.einsum("ij,ij->", A, B))
