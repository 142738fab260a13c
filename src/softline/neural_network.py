"""Neural networks, under the name of scikit-learn's module."""

from softline._estimators.mlp_classifier import DivergenceError, MLPClassifier

__all__ = ["DivergenceError", "MLPClassifier"]
