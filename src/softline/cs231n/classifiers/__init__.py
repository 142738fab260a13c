"""Classifiers of the first assignment."""

from softline.cs231n.classifiers.fc_net import TwoLayerNet
from softline.cs231n.classifiers.k_nearest_neighbor import KNearestNeighbor
from softline.cs231n.classifiers.linear_classifier import LinearClassifier, LinearSVM, Softmax

__all__ = ["KNearestNeighbor", "LinearClassifier", "LinearSVM", "Softmax", "TwoLayerNet"]
