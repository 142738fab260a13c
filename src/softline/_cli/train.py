"""softline train."""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from softline import _kernels, callbacks, datasets, model_file
from softline._cli import parser as cli_parser
from softline._cli.output import Output
from softline._data import files
from softline._training.fit_loop import INTERRUPTED, TrainsByEpochs
from softline._training.progress import track_blocks
from softline._typing import Array
from softline._words import counted, format_rate, format_seconds, shortened

if TYPE_CHECKING:
    from softline.callbacks import History
    from softline.datasets import Dataset

LAST_COLUMN = "the last column; --label COLUMN chooses another"
# Endings that promise another format than a model file has.
OTHER_FORMATS = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".onnx", ".h5", ".json", ".npz", ".csv")


def train(args: argparse.Namespace, output: Output) -> int:
    """Train a classifier, evaluate it, and save it; return the exit code."""
    _check_before_the_work(args)
    parameters = cli_parser.parameters(args)
    data = load(args, output, test=args.test)
    model = estimator(args, parameters, data.y_train)
    output.rows(_plan(args, data, model))
    scores = _cross_validate(model, data, args)
    if scores is not None:
        output.rows({f"{args.folds} folds": f"{scores.mean():.2%}, standard deviation {scores.std():.2%}"})

    history = None
    if args.report is not None and isinstance(model, TrainsByEpochs):
        rows = slice(10_000)  # enough rows for a curve
        history = callbacks.History(
            training=(data.X_train[rows], data.y_train[rows]), validation=data.parts["validation"]
        )
    seconds, messages, interrupted = _fit(model, data, args, output, history)
    for message in messages:
        output.tell(message)
    if data.feature_names is not None:
        model.feature_names_in_ = np.array(data.feature_names, dtype=object)
    if data.preparation is not None:
        model.preparation_ = data.preparation
    if args.sealed:
        model.test_looks_ = []
    if args.out is not None:
        model_file.save_model(model, args.out, image_shape=data.image_shape, split_seed=args.random_state)

    results, accuracies, predicted = _judge(model, data, args, output, seconds)
    if args.report is not None:
        from softline import report

        judged: Literal["test", "validation"] = "validation" if args.sealed else "test"
        report.write_report(
            args.report,
            model,
            data,
            part=judged,
            predicted=predicted[judged],
            results=results,
            history=history,
            notes=messages,
        )
    written = {"saved": args.out, "report": args.report}
    output.rows(results | {name: path for name, path in written.items() if path is not None})
    output.facts(
        {
            "data": data.name,
            "rows": {part: len(y) for part, (_, y) in data.parts.items()},
            "features": data.X_train.shape[1],
            "dtype": data.X_train.dtype.name,
            "label": data.label_name,
            "classes": model.classes_,
            "model": type(model).__name__,
            "parameters": model.get_params(deep=False),
            **_history(model),
            "seconds": seconds,
            "fold_accuracies": scores,
            "accuracy": accuracies,
            "messages": messages,
            "interrupted": interrupted,
            **written,
        }
    )
    return 130 if interrupted else 0


def _check_before_the_work(args: argparse.Namespace) -> None:
    """Raise an error for what would fail after the work."""
    for path in (args.out, args.report):
        if path is not None:
            files.check_target(path)
    if args.report is not None:
        from softline import plots

        plots.import_pyplot()
    if args.out is None:
        return
    stem, suffix = os.path.splitext(args.out)
    if suffix.lower() in OTHER_FORMATS:
        raise ValueError(f"--out {args.out}: a model file is a safetensors file; name it {stem}.safetensors")
    name = cli_parser.estimator_class(args.model).__name__
    if name not in model_file.ESTIMATORS:
        raise ValueError(f"--out: a model file holds no {name}, which is its training rows")


def load(args: argparse.Namespace, output: Output, **options: Any) -> Dataset:
    """Data set that the arguments name."""
    names = ("data_dir", "label", "labels", "drop", "categorical", "missing", "dtype", "random_state")
    with output.waiting(args.data):
        return datasets.load(args.data, **{name: vars(args)[name] for name in names}, **options)


def estimator(args: argparse.Namespace, parameters: dict[str, Any], y: Array) -> Any:
    """Make the estimator that --model names, to be trained on rows with labels or targets `y`."""
    if args.model == "logistic":  # translate into scikit-learn's parameters
        if "alpha" in vars(args):
            parameters["C"] = 1 / (args.alpha * len(y)) if args.alpha > 0 else math.inf
        if parameters.get("l1_ratio", 0) > 0:
            parameters["solver"] = "saga"
    if isinstance(weights := parameters.get("class_weight"), dict):
        parameters["class_weight"] = _weights_of_labels(weights, y)
    made = cli_parser.estimator_class(args.model)(**parameters)
    if y.ndim == 2 and not getattr(made, "_takes_targets", False):
        raise ValueError(f"--model {args.model} takes labels; rows of probabilities are for softmax and mlp")
    if parameters.get("l1_ratio", 0) > 0 and getattr(made, "penalty", None) == "l2":
        made.set_params(penalty="elasticnet")  # scikit-learn before 1.8
    if "random_state" in made.get_params():
        made.set_params(random_state=args.random_state)
    return made


def _weights_of_labels(weights: dict[str, float], y: Array) -> dict[Any, float]:
    """Weights by label, of those that a command line gives as text."""
    classes = np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)
    labels = {str(label): label for label in classes.tolist()}
    if unknown := weights.keys() - labels.keys():
        raise ValueError(
            f"--class-weight: no label {shortened(sorted(unknown))}; the labels are {shortened(labels)}"
        )
    return {labels[text]: weight for text, weight in weights.items()}


def _plan(args: argparse.Namespace, data: Dataset, model: Any) -> dict[str, str]:
    """Rows to print about the data and the training to come."""
    y = data.y_train
    classes = data.class_names or (np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y))
    threads = vars(args).get("n_threads") or _kernels.max_threads()
    label = data.label_name
    by_default = args.label is None and data.preparation is not None and data.preparation.label is not None
    return {
        "data": data.name,
        "rows": ", ".join(f"{len(y)} {part}" for part, (_, y) in data.parts.items()),
        "features": f"{data.X_train.shape[1]}, {data.X_train.dtype}",
        **({} if label is None else {"label": f"{label}, {LAST_COLUMN}" if by_default else label}),
        "classes": f"{len(classes)}: {shortened(classes)}" + ", rows of probabilities" * (y.ndim == 2),
        "training": _training_plan(args.model, model),
        "running on": f"{_kernels.isa_name()}, {counted(threads, 'thread')}",
    }


def _training_plan(name: str, model: Any) -> str:
    """Line to print about the training to come."""
    if name != "softmax":
        return " ".join(repr(model).split())
    rate = f"learning rate {model.learning_rate}"
    if model.solver != "sgd":
        rate = "" if model.solver == "lbfgs" else f"{rate}, "
        return f"up to {counted(model.max_iter, 'step')} of {model.solver}, {rate}alpha {model.alpha}"
    batches = f"batches of {model.batch_size}" if model.batch_size else "full batches"
    how = f"{model.optimizer}, {rate}, {model.schedule} schedule"
    return f"up to {counted(model.max_iter, 'epoch')}, {batches}, {how}, alpha {model.alpha}"


def _cross_validate(model: Any, data: Dataset, args: argparse.Namespace) -> Array | None:
    """Accuracy of each of --folds on the rows that are no test rows; None without folds."""
    if args.folds is None:
        return None
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    X, y = (np.concatenate(arrays) for arrays in zip(*list(data.parts.values())[:2], strict=True))
    labels = y.argmax(axis=1) if y.ndim == 2 else y
    folds = StratifiedKFold(args.folds, shuffle=True, random_state=args.random_state).split(X, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is to be told of the training is told of that of all rows
        return cross_val_score(model, X, y, cv=folds, error_score="raise")


def _fit(
    model: Any, data: Dataset, args: argparse.Namespace, output: Output, history: History | None
) -> tuple[float, list[str], bool]:
    """Train; return the seconds that it took, messages, and whether Ctrl-C ended it early.

    With nothing to keep yet, KeyboardInterrupt is raised.
    """
    by_epochs, tells = isinstance(model, TrainsByEpochs), "verbose" in model.get_params()
    if tells:
        model.set_params(verbose=0 if output.quiet else 1 + args.verbose)
    raised = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        try:
            watched = {"eval_set": data.parts["validation"], "callback": history} if by_epochs else {}
            model.fit(data.X_train, data.y_train, **watched)
        except KeyboardInterrupt:  # raised by LogisticRegression, as by scikit-learn's
            raised = True
        seconds = time.perf_counter() - start
    if tells:
        model.set_params(verbose=0)
    messages = [str(warning.message) for warning in caught]
    interrupted = raised or INTERRUPTED in messages
    if interrupted and not np.any(getattr(model, "n_iter_", 0)):
        raise KeyboardInterrupt
    messages = [message for message in messages if message != INTERRUPTED]
    for i, message in enumerate(messages):
        if message.startswith("stopped after max_iter"):
            epochs = counted(model.max_iter, "epoch")
            messages[i] = f"still improving after {epochs}; more of them (--epochs) may do better"
    if interrupted:
        done = counted(int(np.max(model.n_iter_)), "epoch" if by_epochs else "step")
        messages.append(f"interrupted: the model is that of {done}")
    return seconds, messages, interrupted


def _judge(
    model: Any, data: Dataset, args: argparse.Namespace, output: Output, seconds: float
) -> tuple[dict[str, str], dict[str, float], dict[str, Array]]:
    """Rows to print about a training that took `seconds`; the accuracy and the predictions of each part."""
    told = model._describe()
    rows, accuracies, predicted = dict(told.training), {}, {}
    if not told.history.get("epoch_seconds"):
        rows["time"] = format_seconds(seconds)
    else:
        median = float(np.median(told.history["epoch_seconds"]))
        rate = format_rate(len(data.X_train) / median)
        rows["time per epoch"] = f"{format_seconds(median)} (median), {rate}"
    for part, (X, y) in data.parts.items():
        if not len(y) or (part == "training" and args.model == "knn"):  # where each row is its own neighbour
            continue
        if part == "test" and args.sealed:
            rows["test accuracy"] = "sealed"
            continue
        predicted[part] = _predicted(model, X, part, output.quiet)
        labels = model.classes_[y.argmax(axis=1)] if y.ndim == 2 else y
        accuracies[part] = float(np.mean(predicted[part] == labels))
        rows[f"{part} accuracy"] = f"{accuracies[part]:.2%}"
    return rows, accuracies, predicted


def _predicted(model: Any, X: Array, part: str, quiet: bool) -> Array:
    """Labels of X, block by block with a progress bar, because some models take long."""
    with track_blocks(len(X), f"predicting {part} rows", disable=quiet) as blocks:
        return np.concatenate([model.predict(X[rows]) for rows in blocks])


def _history(model: Any) -> dict[str, Any]:
    """Number of iterations, last loss and learning rate of a fitted model, as far as it has them."""
    history = model._describe().history
    facts = {name: history[name] for name in ("n_iter", "learning_rate") if name in history}
    losses = history.get("loss_curve")
    return facts | ({"loss": losses[-1]} if losses else {})
