"""What `linear_model.py` hands on lazily, for type checkers and editors."""

from softline._estimators.least_squares import LeastSquaresClassifier as LeastSquaresClassifier
from softline._estimators.logistic_regression import LogisticRegression as LogisticRegression
from softline._estimators.softmax_classifier import DivergenceError as DivergenceError
from softline._estimators.softmax_classifier import SoftmaxClassifier as SoftmaxClassifier
