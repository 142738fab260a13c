import numpy as np
from softline import _kernels
from softline._kernels import Arena, ACTIVATIONS, affine, activate, activation_gradient, dropout, network_scores
def batch_weights(sample_weight, order, batch_size):
    weight = np.ones(len(order)) if sample_weight is None else sample_weight[order].astype(float)
    return np.add.reduceat(weight, np.arange(0, len(order), batch_size)) if len(order) else np.zeros(0)
def network_epoch(X, y, sample_weight, order, weights, learning_rates, batch_size, alpha, activation, n_threads=None, *, optimizer=None, states=None, dropout=0.0, seed=0, arena=None, kernels=_kernels):
    weights = list(weights)
    total = batch_weights(sample_weight, order, max(1, min(batch_size, len(order))))
    if not (total > 0).all(): raise ValueError(f"sample_weight must have a positive sum in each batch; in batch {int(np.argmin(total > 0))} it is {total.min()}")
    return kernels.epoch(X, y, sample_weight, order, weights, learning_rates, batch_size, alpha / total, (1 / total).astype(weights[0][0].dtype), n_threads, loss="outputs" if y.ndim == 2 else "cross_entropy", optimizer=optimizer, states=states, activation=activation, dropout=dropout, seed=seed, arena=arena)
def network_gradient(X, y, sample_weight, idx, weights, activation, gradients, n_threads=None, *, dropout=0.0, seed=0, t=0, arena=None, kernels=_kernels):
    idx = np.arange(len(X)) if idx is None else idx
    total = len(idx) if sample_weight is None else sample_weight[idx].astype(float).sum()
    return kernels.gradients(X, y, sample_weight, idx, weights, gradients, 1 / max(total, 1e-300), n_threads, loss="outputs" if y.ndim == 2 else "cross_entropy", activation=activation, dropout=dropout, seed=seed, t=t, arena=arena)
