"""Epochs: the trainer, the one loop of a fit, step sizes, statistics of features, progress."""
