"""Softmax classifiers trained on CPUs at the speed of the hardware."""

from importlib import import_module

# Names handed on, by the module that defines them: imported when first asked for.
_HOMES = {
    "SoftmaxClassifier": "_estimators.softmax_classifier",
    "explain": "_estimators.served",
    "load_model": "model_file",
    "patch_sklearn": "patch",
    "save_model": "model_file",
    "show_config": "config",
    "unpatch_sklearn": "patch",
}
_MODULES = [
    "cs231n",
    "datasets",
    "export",
    "gradient_check",
    "linear_model",
    "model_file",
    "neighbors",
    "neural_network",
    "optimizers",
    "plots",
    "reference",
    "report",
    "schedules",
]

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name):
    if name == "__version__":
        from importlib.metadata import version

        return version("softline")
    if name in _HOMES:
        return getattr(import_module(f"softline.{_HOMES[name]}"), name)
    if name in _MODULES:
        return import_module(f"softline.{name}")
    raise AttributeError(f"module 'softline' has no attribute {name!r}")


def __dir__():
    return [*__all__, "__version__"]
