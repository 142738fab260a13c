"""Model files: save_model and load_model.

A model file is a safetensors file. Its metadata has one entry, "softline": the header, a JSON object. Its
tensors are `coef` (C, D) and `intercept` (C,), or of a network `coef_0` (D, n_0), `intercept_0` (n_0,),
`coef_1` (n_0, n_1) and so on; `classes` (C,) if the labels are numbers (text labels are in the header), and
`sha256` (32,), a checksum of the header and the other tensors: it finds damage and careless edits, but is no
signature. Nothing in a file is believed: loading builds one of `ESTIMATORS` out of checked
numbers and strings, and runs no code that a file names. The same model is the same file, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save
from sklearn.utils.validation import check_is_fitted

import softline
from softline import optimizers, schedules
from softline._data.files import check_target, write_file
from softline._data.preparation import Preparation
from softline._data.sealed import Look
from softline._estimators._sklearn import check_parameters
from softline._typing import Array, Layer, PathLike

Header: TypeAlias = dict[str, Any]
Tensors: TypeAlias = dict[str, Array]

__all__ = ["ModelFileError", "load_model", "read_model", "save_model"]

FORMAT = 1

# Estimators that a file may hold, and the modules that define them.
ESTIMATORS = {
    "SoftmaxClassifier": "linear_model",
    "LogisticRegression": "linear_model",
    "LeastSquaresClassifier": "linear_model",
    "MLPClassifier": "neural_network",
}

# Classes of the objects that a parameter may be, by kind and by name.
OBJECTS = {
    what: {type(value).__name__: type(value) for value in module.BY_NAME.values()}
    for what, module in (("schedule", schedules), ("optimizer", optimizers))
}

# Attributes that tell of the training and are kept in a file, without the _ at their end.
KEPT = ("n_iter", "learning_rate", "loss_curve", "validation_scores")

# Dtypes of labels that a header may name, because NumPy's own parser would take more.
DTYPE = re.compile(r"[<>|=]?([biuf]\d|U\d+|O)")

# Most bytes of text labels as a NumPy array: a header that asks for more is forged.
MOST_LABEL_BYTES = 1 << 30


class ModelFileError(ValueError):
    """A file is damaged, or is not a softline model; one line names the file and says what is wrong."""


# ---- saving ----------------------------------------------------------------------------------------------


def save_model(
    model: Any, path: PathLike, *, image_shape: Sequence[int] | None = None, split_seed: int | None = None
) -> None:
    """Save a fitted classifier.

    The file appears whole or not at all: a failed save leaves an older file as it was.

    Parameters
    ----------
    model : SoftmaxClassifier, LogisticRegression, LeastSquaresClassifier or MLPClassifier
        A fitted one of softline. Of its attributes, `epoch_seconds_` is left out; so is a `random_state` that
        is not an int, which loads as None.
    path : path-like
        Where to; `.safetensors` is the usual suffix.
    image_shape : tuple of int or None, default=None
        Shape of a row as an image, kept for whoever wants to look at the weights.
    split_seed : int or None, default=None
        Seed of the split of the data, kept for whoever wants to know the rows that it was not trained on.

    Raises
    ------
    TypeError
        If the model is none of these, or its labels or parameters are objects that a file cannot hold
        without code.
    ValueError
        If the model is broken: weights that are not finite, or that do not fit the classes.
    OSError
        If the file cannot be written.
    """
    name = type(model).__name__
    if name not in ESTIMATORS or type(model) is not _estimator(name):
        raise TypeError(
            f"a model file holds a {', '.join(ESTIMATORS)} of softline; got {type(model).__module__}.{name}"
        )
    check_is_fitted(model, "classes_")
    target = check_target(path)
    header, tensors = _pack(model, image_shape, split_seed)
    _unpack(header, tensors)  # so that no file is written that could not be loaded
    text = json.dumps(header)
    contents = save({**tensors, "sha256": _checksum(text, tensors)}, {"softline": text})
    write_file(target, contents)


def _estimator(name: str) -> type[Any]:
    return getattr(import_module(f"softline.{ESTIMATORS[name]}"), name)


def _pack(model: Any, image_shape: Sequence[int] | None, split_seed: int | None) -> tuple[Header, Tensors]:
    """Header (a dict for JSON) and tensors of a model."""
    labels, dtype = model.classes_, model.classes_.dtype
    told = model._describe()
    if told.activation is not None:
        tensors = {f"coef_{i}": W.T for i, (W, _) in enumerate(told.layers)}
        tensors |= {f"intercept_{i}": b for i, (_, b) in enumerate(told.layers)}
    elif told.several:
        raise TypeError("a model file holds no linear model of rows with several labels")
    else:
        ((W, b),) = told.layers
        tensors = {"coef": W, "intercept": b}
    texts = None
    if dtype.kind in "biuf" and dtype.itemsize <= 8:
        tensors["classes"] = labels
    elif dtype.kind == "U" or (dtype.kind == "O" and all(isinstance(label, str) for label in labels)):
        texts = labels.tolist()
    else:
        raise TypeError(f"a model file holds labels that are numbers, bools or strings; got {dtype}")
    header = {
        "format": FORMAT,
        "version": softline.__version__,
        "estimator": type(model).__name__,
        "params": {name: _encode(name, value) for name, value in model.get_params(deep=False).items()},
        "n_features": model.n_features_in_,
        "feature_names": told.feature_names,
        "image_shape": None if image_shape is None else list(image_shape),
        "classes_dtype": dtype.str,
        "classes": texts,
    }
    if told.history.get("n_iter") is not None:
        header |= {name: told.history[name] for name in KEPT if name in told.history}
        header["n_iter"] = np.asarray(header["n_iter"]).tolist()
    if told.activation is not None:
        header |= {"out_activation": told.output, "t": told.history["t"]}
    if split_seed is not None:
        header["split_seed"] = split_seed
    if hasattr(model, "test_looks_"):
        header["test_looks"] = [asdict(look) for look in model.test_looks_]
    if hasattr(model, "preparation_"):
        header["preparation"] = model.preparation_.to_header()
    # Contiguous copies, because safetensors ignores strides and byte order.
    return header, {
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("=")) for name, array in tensors.items()
    }


def _encode(name: str, value: Any) -> Any:
    """Parameter in a form that JSON can hold."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.random.RandomState):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):  # a list of pairs, because keys of JSON are strings
        return {"dict": [[_encode(name, key), _encode(name, item)] for key, item in value.items()]}
    if isinstance(value, (tuple, list, np.ndarray)):
        return [_encode(name, item) for item in value]
    for what, types in OBJECTS.items():
        if type(value) in types.values():
            arguments = {field.name: _encode(name, getattr(value, field.name)) for field in fields(value)}
            return {what: type(value).__name__, "arguments": arguments}
    raise TypeError(
        f"a model file cannot hold {name}={value!r}; for predictions it does not matter: "
        f"replace it, as in model.set_params({name}=...), before saving"
    )


# ---- loading ---------------------------------------------------------------------------------------------


def load_model(path: PathLike) -> Any:
    """Load a classifier that `save_model` saved.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    SoftmaxClassifier, LogisticRegression, LeastSquaresClassifier or MLPClassifier
        Fitted, with the same bits in its weights and `classes_`, and so in its predictions.

    Raises
    ------
    OSError
        If the file cannot be read.
    ModelFileError
        If it is damaged, altered, or not a softline model.
    """
    return read_model(path)[0]


def read_model(path: PathLike) -> tuple[Any, Header]:
    """Load a classifier, and the header of its file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    model : SoftmaxClassifier, LogisticRegression, LeastSquaresClassifier or MLPClassifier
    header : dict
        The version that wrote it, the shape of a row as an image, the seed of the split, and so on.

    Raises
    ------
    OSError, ModelFileError
        As :func:`load_model`.
    """
    header, tensors = _read(path)
    try:
        return _unpack(header, tensors), header
    except MemoryError:
        raise
    except Exception as error:  # a forged header can raise nearly anything
        raise ModelFileError(f"{path}: no softline model; its checksum is right, but: {error}") from error


def _read(path: PathLike) -> tuple[Header, Tensors]:
    """Header and tensors of a file with the right checksum."""
    if Path(path).is_dir():
        raise IsADirectoryError(f"{path}: is a folder; expected a model file")
    open(path, "rb").close()  # because safetensors calls each file missing that it cannot open
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (MemoryError, OSError):
        raise
    except Exception as error:  # a forged header can raise nearly anything, as for a type that NumPy lacks
        raise ModelFileError(f"{path}: not a complete safetensors file: {error}") from error
    if list(metadata) != ["softline"] or "sha256" not in tensors:
        raise ModelFileError(f"{path}: a safetensors file, but not a model that softline saved")
    text, checksum = metadata["softline"], tensors.pop("sha256")
    try:
        header = json.loads(text)
        written_in = header["format"]
    except (LookupError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: damaged: the header cannot be read") from error
    if written_in != FORMAT:
        raise ModelFileError(
            f"{path}: in format {written_in!r}; softline {softline.__version__} reads format {FORMAT}"
        )
    if not np.array_equal(checksum, _checksum(text, tensors)):
        raise ModelFileError(f"{path}: damaged or altered: the checksum does not match the contents")
    return header, tensors


def _checksum(text: str, tensors: Tensors) -> Array:
    """SHA-256 of the header's text and of the tensors, as an array of 32 bytes."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(tensors.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _unpack(header: Header, tensors: Tensors) -> Any:
    """Model from a header and tensors that are not trusted."""
    estimator, classes = header["estimator"], _unpack_classes(header, tensors)
    _expect(estimator in ESTIMATORS, f"the estimator is a {estimator!r}")
    _expect(np.array_equal(np.unique(classes), classes), "the classes are not distinct and in order")
    model = _estimator(estimator)(**{name: _decode(value) for name, value in header["params"].items()})
    check_parameters(model)
    model.classes_ = classes
    layers = _unpack_layers(model, header, tensors)
    n_features = layers[0][0].shape[1]
    _expect(
        header["n_features"] == n_features, f"{header['n_features']!r} features, but {n_features} weights"
    )
    names, image_shape = header["feature_names"], header["image_shape"]
    if names is not None:
        _expect(
            len(names) == n_features and all(isinstance(name, str) for name in names),
            f"the feature names are not {n_features} strings",
        )
    if image_shape is not None:
        _expect(math.prod(image_shape) == n_features, f"images {image_shape}, but {n_features} features")
    _expect(isinstance(header.get("split_seed", 0), int), f"the seed is {header.get('split_seed')!r}")
    model.n_features_in_ = n_features
    if names is not None:
        model.feature_names_in_ = np.array(names, dtype=object)
    model._restore(layers, _unpack_history(header))
    if "test_looks" in header:
        model.test_looks_ = [Look(**look) for look in header["test_looks"]]
        for look in model.test_looks_:
            types = [type(value) for value in vars(look).values()]
            _expect(types == [str, str, str, float], f"{look} is no look at a test set")
    if "preparation" in header:
        model.preparation_ = Preparation.from_header(header["preparation"], n_features)
    return model


def _unpack_layers(model: Any, header: Header, tensors: Tensors) -> list[Layer]:
    """(W, b) of each layer, checked against the classes of the model."""
    if header["estimator"] == "MLPClassifier":
        n_layers = sum(name.startswith("coef_") for name in tensors)
        layers = [(tensors[f"coef_{i}"].T, tensors[f"intercept_{i}"]) for i in range(n_layers)]
        model.out_activation_ = header["out_activation"]
        _expect(model._output in ("softmax", "logistic"), f"the output is a {model._output!r}")
    else:
        layers = [(tensors["coef"], tensors["intercept"])]
    _expect(layers, "there are no layers")
    n_in, dtype = layers[0][0].shape[-1], layers[0][0].dtype
    _expect(dtype in (np.float32, np.float64), f"weights are {dtype}, not float32 or float64")
    for i, (W, b) in enumerate(layers):
        what = f"layer {i} of shape {W.shape}"
        _expect(W.ndim == 2 and W.size > 0, f"{what} has no weights")
        _expect(W.dtype == b.dtype == dtype, f"layer {i} is {W.dtype} and {b.dtype}, not {dtype}")
        _expect(np.isfinite(W).all() and np.isfinite(b).all(), "a weight is infinite or NaN")
        _expect(W.shape[1] == n_in, f"{what} after one of {n_in} units")
        _expect(b.shape == W.shape[:1], f"{what}, but intercept {b.shape}")
        n_in = len(W)
    n_classes = len(model.classes_)
    right = [n_classes]
    if n_classes == 2 and model._output != "softmax":  # one row of weights, as in scikit-learn
        right = [1, 2] if header["estimator"] == "MLPClassifier" else [1]
    _expect(n_classes >= 2 and n_in in right, f"{n_in} outputs, but classes {model.classes_.shape}")
    return layers


def _unpack_history(header: Header) -> Header:
    history: Header = {name: header[name] for name in ("n_iter", "t") if name in header}
    if "loss_curve" in header:
        rate, scores = header["learning_rate"], header["validation_scores"]
        history |= {
            "n_iter": int(header["n_iter"]),
            "learning_rate": None if rate is None else float(rate),
            "loss_curve": [float(loss) for loss in header["loss_curve"]],
            "validation_scores": None if scores is None else [float(score) for score in scores],
            "epoch_seconds": [],
        }
    return history


def _unpack_classes(header: Header, tensors: Tensors) -> Array:
    text, texts = header["classes_dtype"], header["classes"]
    _expect(DTYPE.fullmatch(text), f"the classes are of type {text!r}")
    dtype = np.dtype(text)
    if texts is None:
        classes = tensors["classes"]
        _expect(dtype.newbyteorder("=") == classes.dtype, f"classes are {classes.dtype}, not {dtype}")
        return classes.astype(dtype)
    _expect(dtype.kind in "UO", f"text labels cannot be {dtype}")
    _expect(all(isinstance(text, str) for text in texts), "a label is not a string")
    _expect(dtype.itemsize * len(texts) <= MOST_LABEL_BYTES, f"labels of type {dtype} are too long")
    return np.array(texts, dtype=dtype)


def _decode(value: Any) -> Any:
    """Parameter that `_encode` encoded."""
    match value:
        case [*items]:
            return tuple(_decode(item) for item in items)
        case {"dict": pairs}:
            return {_decode(key): _decode(item) for key, item in pairs}
        case {"arguments": arguments}:
            (what,) = value.keys() - {"arguments"}
            return OBJECTS[what][value[what]](**{key: _decode(item) for key, item in arguments.items()})
    return value


def _expect(right: object, otherwise: str) -> None:
    if not right:
        raise ValueError(otherwise)
