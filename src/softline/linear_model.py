"""Linear classifiers, under the name of scikit-learn's module; each is imported when first asked for."""

from importlib import import_module

# Modules that define the names.
_HOMES = {
    "DivergenceError": "softmax_classifier",
    "LeastSquaresClassifier": "least_squares",
    "LogisticRegression": "logistic_regression",
    "SoftmaxClassifier": "softmax_classifier",
}

__all__ = [*_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'softline.linear_model' has no attribute {name!r}")
    return getattr(import_module(f"softline._estimators.{_HOMES[name]}"), name)


def __dir__():
    return __all__
