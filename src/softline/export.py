"""Conversion of models: to ONNX graphs and PyTorch state dicts, to and from scikit-learn's estimators."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Sequence
from copy import deepcopy
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike
from scipy.sparse import issparse
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.linear_model import RidgeClassifier, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier as SklearnKNeighborsClassifier
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

import softline
from softline._data.files import check_target, write_file
from softline._estimators._sklearn import check_parameters
from softline._estimators.description import Description, history_of, layers_of
from softline._estimators.least_squares import LeastSquaresClassifier
from softline._estimators.logistic_regression import _PENALTY_IS_DEPRECATED, LogisticRegression
from softline._estimators.softmax_classifier import SoftmaxClassifier
from softline._kernels.rows import KERNEL_DTYPES, kernels_read
from softline._typing import Array, PathLike
from softline.neighbors import KNeighborsClassifier
from softline.neural_network import MLPClassifier

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor

WithWeights: TypeAlias = SoftmaxClassifier | LogisticRegression | LeastSquaresClassifier | MLPClassifier

__all__ = ["from_sklearn", "to_onnx", "to_sklearn", "to_torch"]

# The oldest opset with all operators used here in float64, and its IR version: runtimes refuse newer ones.
OPSET, IR_VERSION = 17, 8

WITH_WEIGHTS = (SoftmaxClassifier, LogisticRegression, LeastSquaresClassifier, MLPClassifier)
OF_SKLEARN = (
    SklearnLogisticRegression,
    SGDClassifier,
    RidgeClassifier,
    SklearnMLPClassifier,
    SklearnKNeighborsClassifier,
)


def _import(module: str, function: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f'{function} needs {module}: pip install "softline[{module}]"') from error


def _check(model: object, types: tuple[type, ...], function: str, hint: str = "") -> None:
    """Raise unless the model is a fitted one of these types."""
    if not isinstance(model, types):
        raise TypeError(f"{function} takes a fitted {_listed(types)} of softline; got {_what(model)}{hint}")
    check_is_fitted(model, "classes_")
    if isinstance(model, LeastSquaresClassifier) and model._describe().several:
        raise ValueError(f"{function} takes no LeastSquaresClassifier of rows with several labels")


def _listed(types: Iterable[type]) -> str:
    *names, last = (cls.__name__ for cls in types)
    return f"{', '.join(names)} or {last}"


def _what(model: object) -> str:
    if isinstance(model, type):
        return f"the class {model.__module__}.{model.__name__}"
    return f"a {type(model).__module__}.{type(model).__name__}"


# ---- ONNX ------------------------------------------------------------------------------------------------


def to_onnx(
    model: WithWeights,
    path: PathLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    image_shape: Sequence[int] | None = None,
) -> ModelProto:
    """Convert a model to an ONNX graph, of opset 17.

    The graph has one input, ``X`` (N, D), any N, and the outputs that skl2onnx gives a classifier:

    - ``label`` (N,): what `predict` says. int64 for labels that are numbers or bools, string for text.
    - ``probabilities`` (N, C): what `predict_proba` says, and of the same dtype. A LeastSquaresClassifier has
      none, and in their place ``scores`` (N, C), for two classes the score and before it its negative.

    For rows that may have several of K labels, both are (N, K). Standardisation is in the weights, and
    dropout is for training only. Linear models are computed in float64, because with large features float32
    has too few digits for probabilities right to 1e-6; networks in the dtype of their weights, or float64 if
    X is. The metadata hold "estimator" and, as JSON, "feature_names" and "image_shape" where there are any.
    The same model is the same graph, byte for byte.

    Parameters
    ----------
    model : SoftmaxClassifier, LogisticRegression, LeastSquaresClassifier or MLPClassifier
        A fitted one of softline.
    path : path-like or None, default=None
        Where to save the graph, whole or not at all; `.onnx` is the usual suffix. None: nowhere.
    dtype : dtype or None, default=None
        Of ``X``: any that softline reads, as np.uint8 for images as bytes. None is that of the weights.
    image_shape : tuple of int or None, default=None
        Shape of a row as an image, for the metadata.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ImportError
        Without onnx, which ``pip install "softline[onnx]"`` brings.
    TypeError
        If the model is none of these, or softline does not read `dtype`.
    NotFittedError
        If it is not fitted.
    ValueError
        If its labels are neither text nor numbers that int64 holds; if it is a LogisticRegression that
        scikit-learn before 1.8 fitted one class versus the rest; or if images of `image_shape` have another
        number of features.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from softline import SoftmaxClassifier
    >>> from softline.export import to_onnx
    >>> X, y = load_digits(return_X_y=True)
    >>> graph = to_onnx(SoftmaxClassifier(random_state=0).fit(X, y))
    >>> [output.name for output in graph.graph.output]
    ['label', 'probabilities']
    """
    hint = ""
    if isinstance(model, KNeighborsClassifier):
        hint = ", which is its training rows; skl2onnx takes to_sklearn(model)"
    elif type(model) in OF_SKLEARN:
        hint = "; skl2onnx takes it, or from_sklearn makes it softline's"
    _check(model, WITH_WEIGHTS, "to_onnx", hint)
    told = model._describe()
    if told.output == "one versus rest":
        raise ValueError("to_onnx has softmax probabilities; this LogisticRegression is one versus the rest")
    if image_shape is not None and math.prod(image_shape) != model.n_features_in_:
        raise ValueError(
            f"image_shape={image_shape} has {math.prod(image_shape)} values; the model takes "
            f"{model.n_features_in_} features"
        )
    target = None if path is None else check_target(path)
    onnx = _import("onnx", "to_onnx")

    dtype = told.layers[0][0].dtype if dtype is None else np.dtype(dtype)
    if not kernels_read(dtype):
        raise TypeError(f"dtype must be one that softline reads, {', '.join(KERNEL_DTYPES)}; got {dtype}")
    proto = _graph(onnx, told, model.classes_, dtype).model(model, dtype, image_shape)
    if target is not None:
        write_file(target, proto.SerializeToString(deterministic=True))
    return proto


def _graph(onnx: Any, told: Description, classes: Array, dtype: np.dtype[Any]) -> _Graph:
    """Graph of a model, for rows of `dtype`."""
    *hidden, (W, b) = told.layers
    result = np.result_type(W, np.float64 if dtype == np.float64 else np.float32)
    computed_in = np.dtype(np.float64) if told.activation is None else result
    if len(W) == 1:  # make two rows of the one that stands for two classes
        signs = np.array([-1, 1]) * (0.5 if told.has_probabilities else 1)
        W, b = signs[:, None] * W, signs * b
    graph = _Graph(onnx)
    x = graph.cast("X", dtype, computed_in)
    for i, layer in enumerate([*hidden, (W, b)]):
        if i > 0:
            x = graph.activation(x, told.activation, computed_in)
        weights, intercept = (array.astype(computed_in) for array in layer)
        weights, intercept = graph.constant(f"coef_{i}", weights), graph.constant(f"intercept_{i}", intercept)
        x = graph.node("Gemm", x, weights, intercept, transB=1)
    if told.several:
        positive = graph.node("Greater", x, graph.constant("zero", np.zeros((), computed_in)))
        graph.output("label", graph.cast(positive, np.bool_, np.int64), np.int64, len(b))
        graph.output("probabilities", graph.node("Sigmoid", x), result, len(b))
        return graph
    labels = _label_tensor(classes)
    code = graph.node("ArgMax", x, axis=1, keepdims=0)
    label = graph.node("Gather", graph.constant("classes", labels), code)
    graph.output("label", label, labels.dtype)
    x = graph.node("Softmax", x) if told.has_probabilities else x
    what = "probabilities" if told.has_probabilities else "scores"
    graph.output(what, graph.cast(x, computed_in, result), result, len(b))
    return graph


def _label_tensor(classes: Array) -> Array:
    """Labels as int64, or as objects that are strings."""
    if classes.dtype.kind in "UO" and all(isinstance(label, str) for label in classes):
        return classes.astype(object)
    if classes.dtype.kind in "biuf":
        with np.errstate(invalid="ignore"):
            labels = classes.astype(np.int64)
        if labels.tolist() == classes.tolist():  # compared as Python numbers, which are exact
            return labels
    raise ValueError(
        f"to_onnx takes labels that are text, bools or numbers that int64 holds; got {classes[:5]} of "
        f"{classes.dtype}"
    )


class _Graph:
    """Graph under construction; each of its nodes has one output."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.outputs: list[Any] = []

    def type_of(self, dtype: DTypeLike) -> int:
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def constant(self, name: str, array: Array) -> str:
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, *inputs: str, **attributes: int) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [name], **attributes))
        return name

    def cast(self, x: str, dtype: DTypeLike, to: DTypeLike) -> str:
        return x if dtype == to else self.node("Cast", x, to=self.type_of(to))

    def activation(self, x: str, name: Any, dtype: DTypeLike) -> str:
        match name:
            case "identity":
                return x
            case "leaky_relu":  # ONNX's LeakyRelu has its slope in float32
                return self.node(
                    "Max", x, self.node("Mul", x, self.constant(f"slope_{x}", np.array(0.01, dtype)))
                )
        return self.node({"logistic": "Sigmoid", "relu": "Relu", "tanh": "Tanh"}[name], x)

    def output(self, name: str, x: str, dtype: DTypeLike, *columns: int) -> None:
        """Make x an output of the graph, (N,) or (N, columns)."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [x], [name]))
        self.outputs.append(
            self.onnx.helper.make_tensor_value_info(name, self.type_of(dtype), ["N", *columns])
        )

    def model(self, model: Any, dtype: DTypeLike, image_shape: Sequence[int] | None) -> Any:
        """Finished graph of a model for rows of `dtype`, with metadata."""
        helper, name = self.onnx.helper, type(model).__name__
        shape = ["N", model.n_features_in_]
        rows = helper.make_tensor_value_info("X", self.type_of(dtype), shape)
        graph = helper.make_graph(self.nodes, name, [rows], self.outputs, self.constants)
        proto = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="softline",
            producer_version=softline.__version__,
            doc_string=f"{name} of softline: labels and scores of rows X (N, {model.n_features_in_})",
        )
        metadata = {"estimator": name}
        feature_names = model._describe().feature_names
        if feature_names is not None:
            metadata["feature_names"] = json.dumps(feature_names)
        if image_shape is not None:
            metadata["image_shape"] = json.dumps([int(n) for n in image_shape])
        helper.set_model_props(proto, metadata)
        return proto


# ---- PyTorch ---------------------------------------------------------------------------------------------


def to_torch(model: WithWeights, path: PathLike | None = None) -> dict[str, Tensor]:
    """Convert the weights of a model to a state dict of PyTorch.

    Those of a linear model are for ``torch.nn.Linear(D, C)``. Those of a network are for a
    ``torch.nn.Sequential`` of Linear layers with the activation in between: "0.weight", "0.bias", "2.weight"
    and so on. What comes out are scores, as of `decision_function`: softmax makes probabilities of them, and
    ``torch.nn.CrossEntropyLoss`` takes them as they are.

    Two classes have one row of weights in LogisticRegression, MLPClassifier and LeastSquaresClassifier: the
    module has one output, the log-odds of ``classes_[1]``; their sigmoid is the probability. A
    SoftmaxClassifier has two.

    Parameters
    ----------
    model : SoftmaxClassifier, LogisticRegression, LeastSquaresClassifier or MLPClassifier
        A fitted one of softline.
    path : path-like or None, default=None
        Where to save the state dict, for ``torch.load``; `.pt` is the usual suffix. None: nowhere.

    Returns
    -------
    state : dict of str to torch.Tensor
        Copies, of the dtype of the weights: a module for float64 is built with ``dtype=torch.float64``.

    Raises
    ------
    ImportError
        Without PyTorch, which ``pip install "softline[torch]"`` brings.
    TypeError
        If the model is none of these.
    NotFittedError
        If it is not fitted.
    OSError
        If the file cannot be written.
    """
    _check(model, WITH_WEIGHTS, "to_torch")
    target = None if path is None else check_target(path)
    torch = _import("torch", "to_torch")
    state, told = {}, model._describe()
    for i, layer in enumerate(told.layers):
        place = "" if told.activation is None else f"{2 * i}."
        for name, array in zip(("weight", "bias"), layer, strict=True):
            state[place + name] = torch.from_numpy(np.array(array, order="C"))
    if target is not None:
        contents = io.BytesIO()
        torch.save(state, contents)
        write_file(target, contents.getvalue())
    return state


# ---- scikit-learn ----------------------------------------------------------------------------------------


def to_sklearn(model: WithWeights | KNeighborsClassifier) -> Any:
    """Convert a model to scikit-learn's own estimator, fitted, with the same predictions to rounding.

    ============================ ============================
    of softline                  of scikit-learn
    ============================ ============================
    SoftmaxClassifier            LogisticRegression
    LogisticRegression           LogisticRegression
    LeastSquaresClassifier       RidgeClassifier
    MLPClassifier                MLPClassifier
    KNeighborsClassifier         KNeighborsClassifier
    ============================ ============================

    It works, and is unpickled, where softline is not installed. Its parameters, for fitting it anew, are
    those that mean the same; the others are scikit-learn's defaults. A SoftmaxClassifier's `alpha` becomes
    C = 1/(alpha n), for two classes 2/(alpha n), unless it is for standardised features, or the number n of
    training rows is not known, as that of a model from a file.

    Parameters
    ----------
    model : one of these of softline
        Fitted.

    Returns
    -------
    estimator
        Of scikit-learn, with copies of the weights.

    Raises
    ------
    TypeError
        If the model is none of these.
    NotFittedError
        If it is not fitted.
    ValueError
        If its activation is "leaky_relu", which scikit-learn does not have.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softline import SoftmaxClassifier
    >>> from softline.export import to_sklearn
    >>> X, y = load_iris(return_X_y=True)
    >>> type(to_sklearn(SoftmaxClassifier(random_state=0).fit(X, y)))
    <class 'sklearn.linear_model._logistic.LogisticRegression'>
    """
    _check(model, (*WITH_WEIGHTS, KNeighborsClassifier), "to_sklearn")
    match model:
        case SoftmaxClassifier():
            return _logistic_from_softmax(model)
        case LogisticRegression():
            return _logistic(SklearnLogisticRegression, model)
        case LeastSquaresClassifier():
            labels = LabelBinarizer(pos_label=1, neg_label=-1).fit(model.classes_)
            return _twin(
                RidgeClassifier,
                _shared(RidgeClassifier, model),
                model,
                "coef_",
                "intercept_",
                n_iter_=None,
                _label_binarizer=labels,
            )
        case KNeighborsClassifier():
            X = model._fit_X
            if X.dtype.name == "bfloat16":  # scikit-learn does not read it
                X = X.astype(np.float32)
            return _neighbors(SklearnKNeighborsClassifier, model, X, model.algorithm)
    return _network_of_sklearn(model)


def from_sklearn(estimator: Any) -> Any:
    """Convert a fitted estimator of scikit-learn to softline's, with the same predictions to rounding.

    The pairs are those of :func:`to_sklearn`; and a SGDClassifier of two classes with ``loss="log_loss"``
    becomes a SoftmaxClassifier. For more classes it is one model for each class against the rest, and its
    probabilities are no softmax of the scores.

    It predicts by softline's kernels, can be saved by :func:`softline.save_model` (but for the last), and
    goes on training from where it is, by `partial_fit` or with ``warm_start=True``. Its parameters are those
    that mean the same; the others are softline's defaults.

    Parameters
    ----------
    estimator : one of these of scikit-learn
        Fitted; not of a subclass.

    Returns
    -------
    model
        Of softline, with copies of the weights; of nearest neighbours, with the same training rows.

    Raises
    ------
    TypeError
        If the estimator is none of these, or its training rows are sparse.
    NotFittedError
        If it is not fitted.
    ValueError
        If softline has no model with these predictions; the message says why.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from softline.export import from_sklearn
    >>> X, y = load_iris(return_X_y=True)
    >>> from_sklearn(LogisticRegression(max_iter=1000).fit(X, y)).score(X, y)
    0.97...
    """
    if type(estimator) not in OF_SKLEARN:
        raise TypeError(
            f"from_sklearn takes a fitted {_listed(OF_SKLEARN)} of scikit-learn; got {_what(estimator)}"
        )
    check_is_fitted(estimator)
    if type(estimator) is not SklearnKNeighborsClassifier and len(estimator.classes_) < 2:
        raise ValueError(f"softline tells classes apart; the estimator has one: {estimator.classes_[0]!r}")
    match estimator:
        case SklearnLogisticRegression():
            if getattr(estimator, "multi_class", None) == "multinomial" and len(estimator.classes_) == 2:
                raise ValueError(
                    "multi_class='multinomial' of two classes has probabilities of its own, and is "
                    "deprecated by scikit-learn; fit with the default"
                )
            return _logistic(LogisticRegression, estimator)
        case SGDClassifier():
            return _softmax_from_sgd(estimator)
        case RidgeClassifier():
            if estimator._label_binarizer.y_type_.startswith("multilabel"):
                raise ValueError("a RidgeClassifier of several labels a row has no twin in softline")
            coef = np.atleast_2d(estimator.coef_)
            return _twin(
                LeastSquaresClassifier,
                _shared(LeastSquaresClassifier, estimator),
                estimator,
                coef_=coef,
                intercept_=np.broadcast_to(estimator.intercept_, len(coef)).astype(coef.dtype),
            )
        case SklearnKNeighborsClassifier():
            parameters = estimator.get_params(deep=False) | {"algorithm": "auto"}
            because = KNeighborsClassifier(**parameters)._why_left(estimator._fit_X)
            if because is not None:
                error = TypeError if issparse(estimator._fit_X) else ValueError
                raise error(f"softline has no neighbours of this kind, because {because}")
            return _neighbors(KNeighborsClassifier, estimator, estimator._fit_X, "auto")
    return _network_of_softline(estimator)


def _twin(cls: Any, parameters: dict[str, Any], model: Any, *names: str, **fitted: Any) -> Any:
    """Estimator with copies of these parameters and attributes, and of the attributes `names` of `model`."""
    twin = cls(**deepcopy(parameters))
    names += "classes_", "n_features_in_", "feature_names_in_"
    fitted |= {name: getattr(model, name) for name in names if hasattr(model, name)}
    for name, value in fitted.items():
        if not isinstance(getattr(cls, name, None), property):  # as classes_ of RidgeClassifier before 1.7
            setattr(twin, name, deepcopy(value))
    return twin


def _shared(cls: Any, model: Any, *names: str) -> dict[str, Any]:
    """Parameters of a model, all or those in `names`, that `cls` has, too, with values that it accepts."""
    defaults, shared = cls().get_params(deep=False), {}
    for name, value in model.get_params(deep=False).items():
        if name in defaults and (not names or name in names):
            try:
                check_parameters(cls(**{name: value}))
            except ValueError:
                continue
            shared[name] = value
    return shared


def _logistic(cls: Any, model: Any) -> Any:
    """LogisticRegression of class `cls` from that of the other library."""
    parameters = model.get_params(deep=False)
    if len(model.classes_) == 2:
        parameters.pop("multi_class", None)  # because all its values mean the same for two classes
    ((W, b),) = layers_of(model)
    return _twin(cls, parameters, model, "n_iter_", coef_=W, intercept_=b)


def _logistic_from_softmax(model: SoftmaxClassifier) -> Any:
    """LogisticRegression of scikit-learn; for two classes its row of weights is the difference of both."""
    coef, intercept = model.coef_, model.intercept_
    alpha, l1_ratio = model.alpha, model.l1_ratio
    if len(coef) == 2:  # w = W[1] - W[0]: at the minimum, sum(w * w) = 2 sum(W * W), sum(|w|) = sum(|W|)
        coef, intercept = np.diff(coef, axis=0), np.diff(intercept)
        alpha, l1_ratio = alpha * (1 + l1_ratio) / 2, 2 * l1_ratio / (1 + l1_ratio)
    names = "class_weight", "fit_intercept", "random_state", "warm_start"
    parameters = _shared(SklearnLogisticRegression, model, *names)
    if model._stream is not None and not model.standardize:
        parameters["C"] = 1 / (alpha * model._stream.seen.weight) if alpha > 0 else np.inf
    if l1_ratio > 0:
        parameters |= {"solver": "saga", "l1_ratio": l1_ratio}
        if not _PENALTY_IS_DEPRECATED:
            parameters["penalty"] = "elasticnet"
    return _twin(
        SklearnLogisticRegression,
        parameters,
        model,
        coef_=coef,
        intercept_=intercept,
        n_iter_=np.array([model.n_iter_], np.int32),
    )


def _softmax_from_sgd(estimator: Any) -> SoftmaxClassifier:
    """SoftmaxClassifier of two classes from a SGDClassifier."""
    if estimator.loss != "log_loss":
        raise ValueError(
            f"a SGDClassifier with loss={estimator.loss!r} has no twin in softline, whose loss is the "
            "cross-entropy: loss='log_loss' of two classes"
        )
    if len(estimator.classes_) > 2:
        raise ValueError(
            f"a SGDClassifier of {len(estimator.classes_)} classes is one model for each against the rest, "
            "whose probabilities are no softmax of its scores; fit a SoftmaxClassifier to the data instead"
        )
    alpha = 0.0 if estimator.penalty is None else estimator.alpha
    l1_ratio = {"l1": 1.0, "elasticnet": estimator.l1_ratio}.get(estimator.penalty, 0.0)
    parameters = _shared(SoftmaxClassifier, estimator)
    parameters |= {"alpha": alpha * (2 - l1_ratio), "l1_ratio": l1_ratio / (2 - l1_ratio)}
    ((W, b),), signs = layers_of(estimator), np.array([-0.5, 0.5])
    layer = (signs[:, None] * W).astype(W.dtype), (signs * b).astype(W.dtype)
    model = _twin(SoftmaxClassifier, parameters, estimator)
    history = dict.fromkeys(("learning_rate", "validation_scores"))
    empty: dict[str, list[float]] = {"loss_curve": [], "epoch_seconds": []}
    model._restore([layer], history | empty | {"n_iter": int(estimator.n_iter_)})
    return model


def _network_of_sklearn(model: Any) -> Any:
    if model.activation == "leaky_relu":
        raise ValueError("activation='leaky_relu' is none that scikit-learn's MLPClassifier has")
    coefs = [np.ascontiguousarray(coef) for coef in model.coefs_]
    labels = np.eye(model.n_outputs_, dtype=int) if model._several else model.classes_
    best_loss, best_score = model.best_loss_, model.best_validation_score_
    if model.early_stopping:
        best_score = -np.inf if best_score is None else best_score
    else:
        best_loss = np.inf if best_loss is None else best_loss
    return _twin(
        SklearnMLPClassifier,
        _shared(SklearnMLPClassifier, model),
        model,
        *("intercepts_", "n_layers_", "n_outputs_", "out_activation_", "n_iter_", "t_", "loss_"),
        *("loss_curve_", "validation_scores_"),
        coefs_=coefs,
        best_loss_=best_loss,
        best_validation_score_=best_score,
        _label_binarizer=LabelBinarizer().fit(labels),
        _no_improvement_count=0,
        _best_coefs=coefs,
        _best_intercepts=model.intercepts_,
    )


def _network_of_softline(estimator: Any) -> MLPClassifier:
    model = _twin(MLPClassifier, _shared(MLPClassifier, estimator), estimator, "out_activation_")
    history = {name: np.asarray(value).tolist() for name, value in history_of(estimator).items() if value}
    history |= {"learning_rate": None if model.solver == "lbfgs" else float(model.learning_rate_init)}
    model._restore(deepcopy(layers_of(estimator)), history)
    return model


def _neighbors(cls: Any, model: Any, X: Array, algorithm: str) -> Any:
    """KNeighborsClassifier of class `cls` with the training rows X and the labels of another."""
    y = model._y
    if model.outputs_2d_:
        y = np.column_stack([classes[codes] for classes, codes in zip(model.classes_, y.T, strict=True)])
    else:
        y = model.classes_[y]
    twin = cls(**model.get_params(deep=False) | {"algorithm": algorithm}).fit(X, y)
    if hasattr(model, "feature_names_in_"):
        twin.feature_names_in_ = model.feature_names_in_.copy()
    return twin
