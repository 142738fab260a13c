"""softline evaluate, softline predict and softline info."""

from __future__ import annotations

import argparse
import csv
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from softline import datasets, model_file
from softline._cli import parser as cli_parser
from softline._cli.output import Output
from softline._cli.train import LAST_COLUMN
from softline._typing import Array
from softline._words import counted, shortened
from softline.config import config


def evaluate(args: argparse.Namespace, output: Output) -> None:
    """Report the accuracy of a saved model, class by class."""
    model, header = model_file.read_model(args.model)
    seed = header.get("split_seed")
    if seed is None:
        seed = getattr(model, "random_state", None) or 0
    with output.waiting(args.data):
        X, y, feature_names, class_names, rows, label = _rows_to_evaluate(args, seed, model)
    _check_columns(model, X, feature_names, args.data)
    targets, y = (y, model.classes_[y.argmax(axis=1)]) if y.ndim == 2 else (None, y)
    codes = _codes(y, model.classes_, args.data)
    if rows == "test" and hasattr(model, "test_looks_"):  # the test rows were sealed in training
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", datasets.TestSetWarning)
            datasets.sealed(X, model.classes_[codes]).score(model)
        for warning in caught:
            output.tell(warning.message)
        model_file.save_model(model, args.model, image_shape=header["image_shape"], split_seed=seed)
    hits = model.predict(X) == model.classes_[codes]
    told = {"data": f"{args.data}, {rows}: {counted(len(X), 'row')}"}
    if label is not None:
        told["label"] = label
    told["accuracy"] = f"{hits.mean():.2%}"
    loss = None
    if model._describe().has_probabilities:
        log_probs = model.predict_log_proba(X)
        losses = log_probs[np.arange(len(X)), codes] if targets is None else (targets * log_probs).sum(axis=1)
        loss = -float(losses.mean(dtype=float))
        told["cross-entropy"] = f"{loss:.4f}"
    output.rows(told)
    names = dict(enumerate(class_names or []))
    classes = [
        {"class": str(names.get(label, label)), "rows": int(of_class.size), "accuracy": _mean(of_class)}
        for code, label in enumerate(model.classes_)
        for of_class in [hits[codes == code]]
    ]
    output.text(_table(classes))
    output.facts(
        {
            "model": args.model,
            "data": args.data,
            "split": rows,
            "rows": len(X),
            "accuracy": hits.mean(),
            "cross_entropy": loss,
            "classes": classes,
        }
    )


def _mean(hits: Array) -> float | None:
    return float(hits.mean()) if hits.size else None


def _table(classes: list[dict[str, Any]]) -> str:
    """Table of the accuracy of each class."""
    width = max(len(str(row["class"])) for row in [*classes, {"class": "class"}])
    lines = [f"\n{'class':{width}}  {'rows':>8}  accuracy"]
    for row in classes:
        accuracy = "-" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        lines.append(f"{row['class']:{width}}  {row['rows']:8}  {accuracy:>8}")
    return "\n".join(lines)


def _rows_to_evaluate(
    args: argparse.Namespace, seed: int, model: Any
) -> tuple[Array, Array, list[str] | None, list[str] | None, str, str | None]:
    """Return X, y, names of the features and of the classes (or None), name of the part and of the label."""
    trained = getattr(model, "preparation_", datasets.Preparation())
    label = args.label
    has_columns = args.data not in cli_parser.NAMED and not args.data.lower().endswith(".npz")
    if label is None and args.labels is None and has_columns:
        label = trained.label
    if args.split or args.data in cli_parser.NAMED:
        split = args.split or "test"
        options: dict[str, Any] = {"dtype": trained.dtype}
        if args.data not in cli_parser.NAMED:
            options |= {"drop": trained.left_out, "categorical": trained.categorical}
            options |= {"missing": trained.missing}
            options |= {"test_fraction": 0} if trained.has_test_file else {}
        options |= {"data_dir": args.data_dir, "label": label, "labels": args.labels, "random_state": seed}
        data = datasets.load(args.data, **options)
        X, y = data.parts["training" if split == "train" else split]
        if not len(y):
            raise ValueError(f"--split {split}: {args.data} has no {split} rows")
        return X, y, data.feature_names, data.class_names, split, None
    told = args.labels
    if label is None and args.labels is None and has_columns:
        label, told = -1, LAST_COLUMN
    X, y, names = datasets.read_features(args.data, label=label, labels=args.labels, model=model)
    if y is None:
        raise ValueError(f"{args.data}: no labels; expected an array y")
    return X, y, names, None, "all", told if label in (None, -1) else str(label)


def _codes(y: Array, classes: Array, source: str) -> Array:
    """Position in `classes` of each label; numbers are compared as numbers, other labels as text."""
    if y.dtype.kind not in "iuf" or classes.dtype.kind not in "iuf":
        y, classes = y.astype(str), classes.astype(str)
    order = np.argsort(classes)
    codes = order[np.searchsorted(classes, y, sorter=order).clip(max=len(classes) - 1)]
    unknown = np.unique(y[classes[codes] != y])
    if unknown.size:
        raise ValueError(
            f"{source}: labels that the model does not know: {shortened(unknown)}; "
            f"its classes are {shortened(classes)}"
        )
    return codes


def predict(args: argparse.Namespace, output: Output) -> None:
    """Print a label for each row of a file."""
    model = model_file.load_model(args.model)
    with output.waiting(args.file):
        X, _, feature_names = datasets.read_features(args.file, label=args.label, model=model)
    _check_columns(model, X, feature_names, args.file, hint="; --label COLUMN leaves one out")
    if args.proba and not model._describe().has_probabilities:
        raise ValueError(f"--proba: a {type(model).__name__} has no probabilities")
    labels, probs = model.predict(X), model.predict_proba(X) if args.proba else None
    if args.json:
        facts = {"model": args.model, "data": args.file, "labels": labels}
        facts |= {} if probs is None else {"classes": model.classes_, "probabilities": probs}
        _write(args.out, lambda: output.facts(facts))
    else:
        _write(args.out, lambda: _print_csv(labels, probs, model.classes_))


def _write(path: str | None, print_all: Callable[[], None]) -> None:
    """Print to standard output, or into a file."""
    if path is None:
        print_all()
        return
    with open(path, "w", newline="", encoding="utf-8") as file, redirect_stdout(file):
        print_all()


def _print_csv(labels: Array, probs: Array | None, classes: Array) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["label", *([] if probs is None else [f"p_{label}" for label in classes])])
    writer.writerows([label] for label in labels) if probs is None else writer.writerows(
        [label, *p] for label, p in zip(labels, probs, strict=True)
    )


def _check_columns(
    model: Any, X: Array, feature_names: list[str] | None, source: str, hint: str = ""
) -> None:
    """Raise ValueError unless the columns are those that the model was trained on."""
    if X.shape[1] != model.n_features_in_:
        hint = hint if X.shape[1] == model.n_features_in_ + 1 else ""
        raise ValueError(
            f"{source}: {X.shape[1]} features; the model was trained on {model.n_features_in_}{hint}"
        )
    known = model._describe().feature_names
    if feature_names is None or known is None:
        return
    for i, (name, trained_on) in enumerate(zip(feature_names, known, strict=True)):
        if name != trained_on:
            raise ValueError(
                f"{source}: feature {i} is {name!r}; the model was trained with {trained_on!r} there"
            )


def info(args: argparse.Namespace, output: Output) -> None:
    """Print what this softline is and runs on, or what is in a model."""
    if args.model is None:
        output.rows(config())
        output.facts(config())
        return
    model, header = model_file.read_model(args.model)
    told = model._describe()
    rows = {
        "file": f"{args.model}, written by softline {header['version']}",
        "model": " ".join(repr(model).split()),
        "features": f"{model.n_features_in_}, {told.layers[0][0].dtype}",
        "classes": f"{len(model.classes_)}, {model.classes_.dtype}: {shortened(model.classes_)}",
    }
    if told.activation is not None:
        rows["layers"] = " - ".join(map(str, [model.n_features_in_, *(len(b) for _, b in told.layers)]))
        rows["layers"] += " units"
    rows |= told.training
    trained = header.get("preparation", {})
    rows |= {name: str(trained[name]) for name in ("label", "missing") if name in trained}
    for name, categories in zip(trained.get("categorical", []), trained.get("categories", []), strict=True):
        rows[f"column {name}"] = f"{counted(len(categories), 'category')}: {shortened(categories)}"
    if hasattr(model, "test_looks_"):
        looks = ", ".join(f"{look.score:.2%} on {look.date}" for look in model.test_looks_)
        rows["test set"] = f"sealed, looked at: {looks or 'never'}"
    if told.feature_names is not None:
        rows["features"] += f": {shortened(told.feature_names)}"
    if header["image_shape"]:
        rows["features"] += f", images of {' x '.join(map(str, header['image_shape']))}"
    output.rows(rows)
    output.facts({"file": args.model, **header, "classes": model.classes_})
