"""Classifiers of the first two assignments."""

from typing import Any

from softline.cs231n.absent import absent
from softline.cs231n.classifiers.fc_net import FullyConnectedNet, TwoLayerNet
from softline.cs231n.classifiers.k_nearest_neighbor import KNearestNeighbor
from softline.cs231n.classifiers.linear_classifier import LinearClassifier, LinearSVM, Softmax

__all__ = [
    "FullyConnectedNet",
    "KNearestNeighbor",
    "LinearClassifier",
    "LinearSVM",
    "Softmax",
    "TwoLayerNet",
]


def __getattr__(name: str) -> Any:
    raise absent(__name__, name)
