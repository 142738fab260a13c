"""Linear classifiers, under the name of scikit-learn's module."""

from softline._estimators.least_squares import LeastSquaresClassifier
from softline._estimators.logistic_regression import LogisticRegression
from softline._estimators.softmax_classifier import DivergenceError, SoftmaxClassifier

__all__ = ["DivergenceError", "LeastSquaresClassifier", "LogisticRegression", "SoftmaxClassifier"]
