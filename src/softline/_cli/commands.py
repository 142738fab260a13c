"""The command line: softline train, evaluate, predict, export, check-gradient, info, bench and demo.

Heavy modules are imported by the commands that use them, so that `softline --help` is instant. The arguments
are defined in `cli_parser`.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Literal

from softline._cli import parser as cli_parser
from softline.config import print_rows, show_config

if TYPE_CHECKING:
    from softline._typing import Array
    from softline.callbacks import History
    from softline.datasets import Dataset

LAST_COLUMN = "the last column; --label COLUMN chooses another"


def main(argv: list[str] | None = None) -> int:
    """Run a command; return its exit code.

    Parameters
    ----------
    argv : list of str or None, default=None
        Arguments; None means those of the process.

    Returns
    -------
    int
        0 if all went well, 1 if not, 130 after Ctrl-C, 141 if nobody reads the output any more.
        A wrong usage raises SystemExit(2), as argparse does.
    """
    if sys.stdout is None:  # the shell has closed it, as in `softline info >&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        args = cli_parser.build_parser().parse_args(argv)
        with warnings.catch_warnings():
            # Ignored, because the commands check the names of columns themselves.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            warnings.showwarning = lambda message, *_, **__: _tell(message)
            _check_outputs(args)
            code = COMMANDS[args.command](args) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    except BrokenPipeError:
        # Python flushes once more at exit: into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ImportError, MemoryError, OSError, ValueError) as error:
        print(f"softline: error: {_one_line(error)}", file=sys.stderr)
        return 1
    return code


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"out of memory: {text}" if text else "out of memory"
    return text or type(error).__name__


def _tell(message: object) -> None:
    print(f"softline: {message}", file=sys.stderr)


def _check_outputs(args: argparse.Namespace) -> None:
    """Raise ValueError if a command would write over a file that it reads, or twice to one file."""
    command, given = cli_parser.COMMANDS[args.command], vars(args)
    paths = {name: given[name.strip("-").lower()] for name in command.writes}
    outputs = {name: path for name, path in paths.items() if path is not None}
    if not outputs:
        return
    from softline import datasets
    from softline._data import files

    inputs = []
    for name in command.reads:
        inputs += datasets.source_files(given[name], given.get("data_dir"))
    files.check_outputs(outputs, inputs)


# ---- commands --------------------------------------------------------------------------------------------


def _estimator(args: argparse.Namespace, parameters: dict[str, Any], n_rows: int) -> Any:
    """Make the estimator that --model names, to be trained on `n_rows` rows."""
    if args.model == "logistic":  # translate into scikit-learn's parameters
        if "C" in parameters:
            parameters["C"] = 1 / (parameters["C"] * n_rows) if parameters["C"] > 0 else math.inf
        if parameters.get("l1_ratio", 0) > 0:
            parameters["solver"] = "saga"
    estimator = cli_parser.estimator_class(args.model)(**parameters)
    if parameters.get("l1_ratio", 0) > 0 and getattr(estimator, "penalty", None) == "l2":
        estimator.set_params(penalty="elasticnet")  # scikit-learn before 1.8
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=args.random_state)
    return estimator


def _train(args: argparse.Namespace) -> int:
    import numpy as np

    from softline import _kernels, callbacks, datasets, model_file
    from softline._data import files
    from softline._training.fit_loop import TrainsByEpochs

    for path in (args.out, args.report):
        if path is not None:
            files.check_target(path)  # so that it does not fail after the work
    if args.report is not None:
        from softline import plots, report

        plots.import_pyplot()
    if args.out is not None:
        name = cli_parser.estimator_class(args.model).__name__
        if name not in model_file.ESTIMATORS:
            raise ValueError(f"--out: a model file holds no {name}, which is its training rows")
    parameters = cli_parser.parameters(args)
    data = datasets.load(args.data, data_dir=args.data_dir, label=args.label, random_state=args.random_state)
    model = _estimator(args, parameters, len(data.X_train))
    label = {} if data.label_name is None else {"label": _label(args, data.label_name)}
    if args.quiet:
        print_rows(label)
    else:
        classes = data.class_names or np.unique(data.y_train)
        threads = vars(args).get("n_threads") or _kernels.max_threads()
        print_rows(
            {
                "data": data.name,
                "rows": ", ".join(f"{len(y)} {part}" for part, (_, y) in data.parts.items()),
                "features": f"{data.X_train.shape[1]}, {data.X_train.dtype}",
                **label,
                "classes": f"{len(classes)}: {_shortened(classes)}",
                "training": _plan(args.model, model),
                "running on": f"{_kernels.isa_name()}, {threads} threads",
            }
        )
    sys.stdout.flush()

    history = None
    if args.report is not None and isinstance(model, TrainsByEpochs):
        rows = slice(10_000)  # enough rows for a curve
        history = callbacks.History(
            training=(data.X_train[rows], data.y_train[rows]), validation=data.parts["validation"]
        )
    seconds, messages, interrupted = _fit(model, data, args, history)
    for message in messages:
        _tell(message)
    if data.feature_names is not None:
        model.feature_names_in_ = np.array(data.feature_names, dtype=object)
    if args.sealed:
        model.test_looks_ = []
    if args.out is not None:
        model_file.save_model(model, args.out, image_shape=data.image_shape, split_seed=args.random_state)

    rows = _training_rows(model, len(data.X_train), seconds)
    predicted = {}
    for part, (X, y) in data.parts.items():
        if part == "training" and args.model == "knn":  # because each row is its own nearest neighbour
            continue
        if part == "test" and args.sealed:
            rows["test accuracy"] = "sealed"
            continue
        predicted[part] = _predicted(model, X, part, args.quiet)
        rows[f"{part} accuracy"] = f"{np.mean(predicted[part] == y):.2%}"
    if args.report is not None:
        judged: Literal["test", "validation"] = "validation" if args.sealed else "test"
        report.write_report(
            args.report,
            model,
            data,
            part=judged,
            predicted=predicted[judged],
            results=rows,
            history=history,
            notes=messages,
        )
    rows |= {name: path for name, path in (("saved", args.out), ("report", args.report)) if path is not None}
    print_rows(rows)
    return 130 if interrupted else 0


def _label(args: argparse.Namespace, name: str) -> str:
    """Name of the label, and how its column was chosen."""
    if args.label is not None or args.data.lower().endswith(".npz"):
        return name
    return f"{name}, {LAST_COLUMN}"


def _fit(
    model: Any, data: Dataset, args: argparse.Namespace, history: History | None
) -> tuple[float, list[str], bool]:
    """Train; return the seconds that it took, messages, and whether Ctrl-C ended it early.

    With nothing to keep yet, KeyboardInterrupt is raised.
    """
    import time

    import numpy as np

    from softline._training.fit_loop import INTERRUPTED, TrainsByEpochs

    by_epochs, tells = isinstance(model, TrainsByEpochs), "verbose" in model.get_params()
    if tells:
        model.set_params(verbose=0 if args.quiet else 1 + args.verbose)
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
            messages[i] = (
                f"still improving after {model.max_iter} epochs; more of them (--epochs) may do better"
            )
    if interrupted:
        n, what = int(np.max(model.n_iter_)), "epoch" if by_epochs else "step"
        messages.append(f"interrupted: the model is that of {n} {what}{'s' * (n > 1)}")
    return seconds, messages, interrupted


def _training_rows(model: Any, n_rows: int, seconds: float) -> dict[str, str]:
    """Rows to print about a training that took `seconds`."""
    import numpy as np

    from softline._training.progress import format_rate

    told = model._describe()
    if not told.history.get("epoch_seconds"):
        return told.training | {"time": f"{seconds:.3g} s"}
    median = np.median(told.history["epoch_seconds"])
    rate = f"{1e3 * median:.3g} ms (median), {format_rate(n_rows / median)}"
    return told.training | {"time per epoch": rate}


def _predicted(model: Any, X: Array, part: str, quiet: bool) -> Array:
    """Labels of X, block by block with a progress bar, because some models take long."""
    import numpy as np

    from softline._training.progress import track_blocks

    with track_blocks(len(X), f"predicting {part} rows", disable=quiet) as blocks:
        return np.concatenate([model.predict(X[rows]) for rows in blocks])


def _plan(name: str, model: Any) -> str:
    """Line to print about the training to come."""
    if name != "softmax":
        return " ".join(repr(model).split())
    rate = f"learning rate {model.learning_rate}"
    if model.solver != "sgd":
        rate = "" if model.solver == "lbfgs" else f"{rate}, "
        return f"up to {model.max_iter} steps of {model.solver}, {rate}alpha {model.alpha}"
    batches = f"batches of {model.batch_size}" if model.batch_size else "full batches"
    how = f"{model.optimizer}, {rate}, {model.schedule} schedule"
    return f"up to {model.max_iter} epochs, {batches}, {how}, alpha {model.alpha}"


def _evaluate(args: argparse.Namespace) -> None:
    import numpy as np

    from softline import datasets, model_file

    model, header = model_file.read_model(args.model)
    seed = header.get("split_seed")
    if seed is None:
        seed = getattr(model, "random_state", None) or 0
    X, y, feature_names, class_names, rows = _rows_to_evaluate(args, seed, model)
    _check_columns(model, X, feature_names, args.data)
    codes = _codes(y, model.classes_, args.data)
    if rows == "test" and hasattr(model, "test_looks_"):  # the test rows were sealed in training
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", datasets.TestSetWarning)
            datasets.sealed(X, model.classes_[codes]).score(model)
        for warning in caught:
            _tell(warning.message)
        model_file.save_model(model, args.model, image_shape=header["image_shape"], split_seed=seed)
    hits = model.predict(X) == model.classes_[codes]
    results = {"data": f"{args.data}, {rows}: {len(X)} rows"}
    if rows == "all" and not args.data.lower().endswith(".npz"):
        results["label"] = args.label or LAST_COLUMN
    results["accuracy"] = f"{hits.mean():.2%}"
    if model._describe().has_probabilities:
        losses = -model.predict_log_proba(X)[np.arange(len(X)), codes]
        results["cross-entropy"] = f"{losses.mean(dtype=float):.4f}"
    print_rows(results)
    names = dict(enumerate(class_names or []))
    names = [str(names.get(label, label)) for label in model.classes_]
    width = max(map(len, ["class", *names]))
    print(f"\n{'class':{width}}  {'rows':>8}  accuracy")
    for code, name in enumerate(names):
        hits_of_class = hits[codes == code]
        accuracy = f"{hits_of_class.mean():.2%}" if hits_of_class.size else "-"
        print(f"{name:{width}}  {hits_of_class.size:8}  {accuracy:>8}")


def _rows_to_evaluate(
    args: argparse.Namespace, seed: int, model: Any
) -> tuple[Array, Array, list[str] | None, list[str] | None, str]:
    """Return X, y, names of the features and of the classes (or None), and the name of the part."""
    from softline import datasets

    if args.split or args.data in cli_parser.NAMED:
        split = args.split or "test"
        data = datasets.load(args.data, data_dir=args.data_dir, label=args.label, random_state=seed)
        X, y = data.parts["training" if split == "train" else split]
        return X, y, data.feature_names, data.class_names, split
    label = args.label
    if label is None and not args.data.lower().endswith(".npz"):
        label = -1  # the last column, as in training
    X, y, feature_names = datasets.read_features(args.data, label=label, model=model)
    if y is None:
        raise ValueError(f"{args.data}: no labels; expected an array y")
    return X, y, feature_names, None, "all"


def _codes(y: Array, classes: Array, source: str) -> Array:
    """Position in `classes` of each label; numbers are compared as numbers, other labels as text."""
    import numpy as np

    if y.dtype.kind not in "iuf" or classes.dtype.kind not in "iuf":
        y, classes = y.astype(str), classes.astype(str)
    order = np.argsort(classes)
    codes = order[np.searchsorted(classes, y, sorter=order).clip(max=len(classes) - 1)]
    unknown = np.unique(y[classes[codes] != y])
    if unknown.size:
        raise ValueError(
            f"{source}: labels that the model does not know: {_shortened(unknown)}; "
            f"its classes are {_shortened(classes)}"
        )
    return codes


def _predict(args: argparse.Namespace) -> None:
    import csv

    from softline import datasets, model_file

    model = model_file.load_model(args.model)
    X, _, feature_names = datasets.read_features(args.file, label=args.label, model=model)
    _check_columns(model, X, feature_names, args.file, hint="; --label COLUMN leaves one out")
    header, rows = ["label"], ([label] for label in model.predict(X))
    if args.proba:
        if not model._describe().has_probabilities:
            raise ValueError(f"--proba: a {type(model).__name__} has no probabilities")
        header += [f"p_{label}" for label in model.classes_]
        rows = ([*row, *p] for row, p in zip(rows, model.predict_proba(X), strict=True))
    with (
        nullcontext(sys.stdout) if args.out is None else open(args.out, "w", newline="", encoding="utf-8")
    ) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _export(args: argparse.Namespace) -> None:
    from softline import export, model_file

    suffix = os.path.splitext(args.file)[1].lower()
    if suffix not in (".onnx", ".pt"):
        raise ValueError(f"{args.file}: expected a name that ends in .onnx or .pt")
    model, header = model_file.read_model(args.model)
    if suffix == ".onnx":
        graph = export.to_onnx(model, args.file, image_shape=header["image_shape"]).graph
        gives = ", ".join(output.name for output in graph.output)
        contents = f"ONNX, opset {export.OPSET}: X to {gives}"
    else:
        state = export.to_torch(model, args.file)
        contents = f"state dict of PyTorch: {_shortened(state)}"
    print_rows({"model": type(model).__name__, "contents": contents, "saved": args.file})


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


def _check_gradient(args: argparse.Namespace) -> None:
    import numpy as np

    from softline import datasets
    from softline.gradient_check import check_gradient

    parameters = cli_parser.parameters(args)
    data = datasets.load(args.data, data_dir=args.data_dir, label=args.label, random_state=args.random_state)
    rng = np.random.RandomState(args.random_state)
    rows = rng.choice(len(data.X_train), min(args.rows, len(data.X_train)), replace=False)
    model = _estimator(args, parameters, len(rows))
    if not hasattr(model, "_loss_and_gradient"):
        raise ValueError(f"--model {args.model} has no gradient")
    X, y = data.X_train[rows], data.y_train[rows]
    found = check_gradient(model, X, y, n_checks=args.checks, random_state=args.random_state)
    if not found.passed:
        raise ValueError(str(found))
    print(found)


def _info(args: argparse.Namespace) -> None:
    if args.model is None:
        show_config()
        return
    from softline import model_file

    model, header = model_file.read_model(args.model)
    told = model._describe()
    rows = {
        "file": f"{args.model}, written by softline {header['version']}",
        "model": " ".join(repr(model).split()),
        "features": f"{model.n_features_in_}, {told.layers[0][0].dtype}",
        "classes": f"{len(model.classes_)}, {model.classes_.dtype}: {_shortened(model.classes_)}",
    }
    if told.activation is not None:
        rows["layers"] = " - ".join(map(str, [model.n_features_in_, *(len(b) for _, b in told.layers)]))
        rows["layers"] += " units"
    rows |= told.training
    if hasattr(model, "test_looks_"):
        looks = ", ".join(f"{look.score:.2%} on {look.date}" for look in model.test_looks_)
        rows["test set"] = f"sealed, looked at: {looks or 'never'}"
    if told.feature_names is not None:
        rows["features"] += f": {_shortened(told.feature_names)}"
    if header["image_shape"]:
        rows["features"] += f", images of {' x '.join(map(str, header['image_shape']))}"
    print_rows(rows)


def _bench(args: argparse.Namespace) -> None:
    import json

    from rich.console import Console
    from rich.text import Text

    from softline import datasets
    from softline._cli import bench

    if args.label is not None and args.data is None:
        raise ValueError("--label names a column of a file; --data says which file")
    data = args.data and datasets.load(args.data, data_dir=args.data_dir, label=args.label)
    with Console(stderr=True).status("") as status:
        report = bench.measure(
            n_threads=args.n_threads,
            dtype=args.dtype,
            batch_size=args.batch_size,
            data=data,
            quick=args.quick,
            tell=lambda what: status.update(Text(what)),
        )
    one, *more = (peak["gflops"] for peak in report["peaks"] if peak["dtype"] == args.dtype)
    if more and more[0] <= one:
        print(
            "softline: one thread computes as much as all; shares mean little on a busy machine",
            file=sys.stderr,
        )
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        bench.print_report(report)


def _demo(args: argparse.Namespace) -> None:
    from softline import plots
    from softline._cli import demo
    from softline._data import files

    plots.import_pyplot()
    draw = {".gif": demo.animate, ".png": demo.draw}.get(os.path.splitext(args.out)[1].lower())
    if draw is None:
        raise ValueError(f"--out {args.out}: expected a name that ends with .gif or .png")
    files.check_target(args.out)
    toy = demo.TOYS[args.data]
    X, y = toy.make(random_state=args.random_state)
    print_rows(
        {
            "data": f"{args.data}, {len(X)} rows",
            "features": ", ".join(toy.feature_names),
            "classes": f"{len(toy.class_names)}: {', '.join(toy.class_names)}",
        }
    )
    sys.stdout.flush()
    runs = {}
    for name in demo.MODELS if args.model == "both" else [args.model]:
        runs[name] = demo.train(name, X, y, epochs=args.epochs, random_state=args.random_state)
        loss, accuracy = runs[name][-1].loss_curve_[-1], runs[name][-1].score(X, y)
        print_rows({name: f"{args.epochs} epochs, loss {loss:.4f}, accuracy {accuracy:.2%}"})
    sys.stdout.flush()
    draw(args.out, toy, X, y, runs)
    print_rows({"saved": args.out})


def _shortened(names: Iterable[object]) -> str:
    """Names in one line, cut where it is too long."""
    return textwrap.shorten(", ".join(map(str, names)), 70, placeholder=" ...")


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "export": _export,
    "check-gradient": _check_gradient,
    "info": _info,
    "bench": _bench,
    "demo": _demo,
}
