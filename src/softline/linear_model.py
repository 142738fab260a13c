"""Linear classifiers, under the name of scikit-learn's module."""

from softline.logistic_regression import LogisticRegression
from softline.softmax_classifier import DivergenceError, SoftmaxClassifier

__all__ = ["DivergenceError", "LogisticRegression", "SoftmaxClassifier"]
