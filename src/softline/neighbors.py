"""Nearest neighbours, under the name of scikit-learn's module."""

from softline._estimators.k_neighbors_classifier import KNeighborsClassifier

__all__ = ["KNeighborsClassifier"]
