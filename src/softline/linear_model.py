"""Linear classifiers, under the name of scikit-learn's module."""

from softline.least_squares import LeastSquaresClassifier
from softline.logistic_regression import LogisticRegression
from softline.softmax_classifier import DivergenceError, SoftmaxClassifier

__all__ = ["DivergenceError", "LeastSquaresClassifier", "LogisticRegression", "SoftmaxClassifier"]
