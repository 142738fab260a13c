import numpy as np
from softline import _kernels
def sgd_epoch(X, y, sample_weight, order, W, b, learning_rates, batch_size, alpha, shift, metric, fit_intercept, n_threads=None, *, optimizer=None, state=None, l1=0.0, label_smoothing=0.0, clip_norm=None, max_norm=None, mean_weight=None, loss="cross_entropy", square_norms=None, kernels=_kernels):
    n, dtype = len(order), W.dtype
    B = max(1, min(batch_size, n))
    scale = dtype.type(1)
    if sample_weight is not None and n:
        total = float(np.add.accumulate(sample_weight[order].astype(float))[-1])
        if not total > 0: raise ValueError(f"sample_weight must have a positive sum; it is {total}")
        scale = dtype.type(1 / mean_weight if mean_weight else n / total)
    sizes = np.minimum(B, n - np.arange(0, n, B))
    scales = scale / sizes.astype(dtype)
    return kernels.epoch(X, y, sample_weight, order, [(W, b)], learning_rates, batch_size, np.full(len(sizes), float(alpha)), scales, n_threads, loss=loss, label_smoothing=label_smoothing, optimizer=optimizer, states=None if state is None else [state], l1=l1, clip_norm=clip_norm, max_norm=max_norm, shift=shift, metric=metric, fit_intercept=fit_intercept, square_norms=square_norms)
