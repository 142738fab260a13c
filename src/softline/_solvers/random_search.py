"""Random search: guess weights, look at the loss, keep the best.

The first two strategies of CS231n's notes on optimization, for teaching and as baselines that show the worth
of gradients.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np

from softline import _kernels
from softline._kernels.rows import Samples
from softline._typing import Array, Layer

# Most candidates scored in a pass over X, and most bytes of their weights.
MOST_CANDIDATES, CANDIDATES_BYTES = 100, 16 << 20
# Steps of a local search, as a share of weights that give scores of variance 1.
LOCAL_STEP = 0.1


class RandomSearch:
    """Minimisation of the penalised cross-entropy of samples by guessing.

    A guess is `scale` times standard normal numbers or, if `local`, the best weights so far plus such a step.
    Guesses are scored many at a time, but the result is that of one after the other: when a step is taken,
    the steps drawn after it are tried from there.

    Parameters
    ----------
    samples : Samples
        All of X takes part, by its weights; y are codes.
    local : bool
    scale : float or None
        None gives the scores of an average row a variance of 1; if `local`, LOCAL_STEP of that scale.
    alpha, l1_ratio, fit_intercept, n_threads
        As in :class:`softline.SoftmaxClassifier`.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        local: bool,
        scale: float | None,
        alpha: float = 0.0,
        l1_ratio: float = 0.0,
        fit_intercept: bool = True,
        n_threads: int | None = None,
    ) -> None:
        self.samples, self.local, self.alpha, self.l1_ratio = samples, local, alpha, l1_ratio
        self.fit_intercept, self.n_threads = fit_intercept, n_threads
        self.scale = self._auto_scale() if scale is None else scale

    def _auto_scale(self) -> float:
        samples, weight = self.samples, self.samples.weights
        total = len(samples) if weight is None else weight.sum(dtype=float)
        mean, squares, _, _ = _kernels.column_stats(samples.X, samples.rows, weight, self.n_threads)
        length = float(np.sqrt(np.sum(mean**2 + squares / total) + self.fit_intercept))
        return (LOCAL_STEP if self.local else 1.0) / (length if length > 0 else 1.0)

    def losses(self, Ws: Array, bs: Array) -> Array:
        """Losses with the penalty of each of K candidates, (K, C, D) and (K, C)."""
        out, samples = np.empty(len(Ws)), self.samples
        _kernels.candidate_losses(samples.X, samples.y, samples.row_weight, Ws, bs, out, self.n_threads)
        penalty = (1 - self.l1_ratio) / 2 * np.sum(np.square(Ws, dtype=float), axis=(1, 2))
        if self.l1_ratio > 0:
            penalty += self.l1_ratio * np.sum(np.abs(Ws), axis=(1, 2), dtype=float)
        return out + self.alpha * penalty

    def run(
        self,
        W: Array,
        b: Array,
        max_iter: int,
        rng: np.random.RandomState,
        after_try: Callable[[float, Layer | None, float], bool],
    ) -> str | None:
        """Guess `max_iter` times, writing better weights into W and b; return a warning, or None.

        W (C, D) and b (C,) are the start of a local search, or the first guess of a random search, unless
        they are zeros. `rng` draws (C, D + 1) numbers a guess, the bias in the last column. `after_try` is
        called after each guess with the best loss so far, (W, b) or None if this guess was no better, and the
        seconds that it took; a true result ends the search.
        """
        local, found_any = self.local, False
        most = max(1, min(MOST_CANDIDATES, CANDIDATES_BYTES // max(1, W.nbytes)))
        C, D = W.shape
        Ws = _kernels.padded(most * C, D, W.dtype).reshape(most, C, D)
        bs = np.zeros((most, C), W.dtype)
        best = self.losses(W[None], b[None])[0] if local or W.any() else np.inf
        steps: deque[Array] = deque()
        tried, K = 0, 1 if local else most
        while tried < max_iter:
            start = time.perf_counter()
            K = min(K, most, max_iter - tried)
            while len(steps) < K:
                steps.append(rng.standard_normal((C, D + 1)))
            for k in range(K):
                Ws[k] = self.scale * steps[k][:, :-1] + (W if local else 0)
                if self.fit_intercept:
                    bs[k] = self.scale * steps[k][:, -1] + (b if local else 0)
            found = self.losses(Ws[:K], bs[:K])
            seconds = (time.perf_counter() - start) / K
            for k in range(K):
                better = bool(found[k] < best)
                if better:
                    best, found_any = float(found[k]), True
                    W[...], b[...] = Ws[k], bs[k]
                steps.popleft()
                tried += 1
                if after_try(float(best), (W, b) if better else None, seconds):
                    return None
                if local and better:
                    break
            # Next time as many as were needed to find a better one, or twice as many if none was better.
            K = (k + 1 if better else 2 * K) if local else most
        if found_any:
            return None
        return (
            f"none of max_iter={max_iter} guesses was better than the weights at the start; lower "
            f"learning_rate={self.scale:.3g}, or raise max_iter."
        )
