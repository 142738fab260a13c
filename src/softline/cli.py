"""The command line: softline train, evaluate, predict, export, check-gradient, info, bench and demo.

Heavy modules are imported by the commands that use them, so that `softline --help` is instant.
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
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from softline.config import print_rows, show_config

if TYPE_CHECKING:
    from softline._typing import Array
    from softline.callbacks import History
    from softline.datasets import Dataset

COMMANDS = ("train", "evaluate", "predict", "export", "check-gradient", "info", "bench", "demo")
NAMED = ("digits", "mnist", "cifar10")
TOYS = ("red-panda", "circle", "spiral", "blobs")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "asgd")
SOLVERS = ("sgd", "gd", "lbfgs", "random_search", "random_local_search")
ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "leaky_relu")
SCHEDULES = ("constant", "step", "exponential", "inverse_time", "cosine", "warm_up")


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
    if sys.stdout is None:  # closed by the shell, as in `softline info >&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        args = _parser().parse_args(argv)
        with warnings.catch_warnings():
            # The commands check the names of columns themselves.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            warnings.showwarning = lambda message, *_, **__: _tell(message)
            _check_outputs(args)
            code = args.run(args) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    except BrokenPipeError:
        # Python flushes once more at exit: let it flush into nothing.
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
    """Raise ValueError if a command is to write over what it reads, or twice to one file."""
    paths = {name: vars(args)[name] for name in getattr(args, "writes", ())}
    outputs = {WRITES[name]: path for name, path in paths.items() if path is not None}
    if not outputs:
        return
    from softline import datasets, files

    inputs = []
    for name in getattr(args, "reads", ()):
        inputs += datasets.source_files(vars(args)[name], getattr(args, "data_dir", None))
    files.check_outputs(outputs, inputs)


# ---- models ----------------------------------------------------------------------------------------------


class _Model(NamedTuple):
    """What --model names.

    Attributes
    ----------
    home : str
        Module and class.
    options : dict
        Which options of a command it takes, as the parameters that they set.
    """

    home: str
    options: dict[str, str]


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


MODELS = {
    "softmax": _Model(
        "softline.softmax_classifier:SoftmaxClassifier",
        _same("solver", "max_iter", "batch_size", "learning_rate", "schedule", "alpha", "l1_ratio")
        | _same("label_smoothing", "optimizer", "n_threads", "early_stopping", "standardize"),
    ),
    "logistic": _Model(
        "softline.logistic_regression:LogisticRegression", _same("max_iter", "l1_ratio") | {"alpha": "C"}
    ),
    "least_squares": _Model("softline.least_squares:LeastSquaresClassifier", _same("alpha", "n_threads")),
    "knn": _Model(
        "softline.neighbors:KNeighborsClassifier",
        _same("n_neighbors", "metric", "weights") | {"n_threads": "n_jobs"},
    ),
    "mlp": _Model(
        "softline.neural_network:MLPClassifier",
        _same("hidden_layer_sizes", "activation", "dropout", "max_iter", "batch_size", "alpha", "n_threads")
        | _same("early_stopping", "standardize")
        | {"learning_rate": "learning_rate_init", "schedule": "learning_rate", "optimizer": "solver"},
    ),
}
# How options are spelt whose names are not those of parameters.
FLAGS = {
    "max_iter": "--epochs",
    "n_threads": "--threads",
    "n_neighbors": "--neighbors",
    "hidden_layer_sizes": "--hidden",
}
# Arguments that name a file to write, as a person knows them.
WRITES = {"out": "--out", "report": "--report", "file": "FILE"}
LAST_COLUMN = "the last column; --label COLUMN chooses another"
# What has no effect on solvers other than sgd.
OF_SGD = ("batch_size", "schedule", "label_smoothing", "optimizer", "early_stopping")
NOT_OF_SOLVER: dict[str, tuple[str, ...]] = {
    "gd": ("batch_size",),
    "lbfgs": (*OF_SGD, "learning_rate"),
    "random_search": OF_SGD,
    "random_local_search": OF_SGD,
}


def _parameters(args: argparse.Namespace) -> dict[str, Any]:
    """The parameters that the options ask for.

    Raises
    ------
    ValueError
        If an option belongs to another model, or to another solver.
    """
    model, parameters = MODELS[args.model], {}
    for name in {name: None for other in MODELS.values() for name in other.options}:
        if name not in vars(args):
            continue
        flag = FLAGS.get(name, f"--{name.replace('_', '-')}")
        if name not in model.options:
            owners = ", ".join(owner for owner, other in MODELS.items() if name in other.options)
            raise ValueError(f"{flag} is an option of --model {owners}, not of {args.model}")
        if name in NOT_OF_SOLVER.get(getattr(args, "solver", "sgd"), ()):
            raise ValueError(f"{flag} has no effect with --solver {args.solver}")
        parameters[model.options[name]] = getattr(args, name)
    if parameters.get("solver") == "gd":
        parameters |= {"solver": "sgd", "batch_size": None}
    if parameters.get("learning_rate_init") == "auto":
        raise ValueError("--learning-rate auto is for --model softmax; an mlp takes a number")
    return parameters


def _estimator(args: argparse.Namespace, parameters: dict[str, Any], n_rows: int) -> Any:
    """The estimator that --model names, for a training on so many rows."""
    if args.model == "logistic":  # in scikit-learn's terms
        if "C" in parameters:
            parameters["C"] = 1 / (parameters["C"] * n_rows) if parameters["C"] > 0 else math.inf
        if parameters.get("l1_ratio", 0) > 0:
            parameters["solver"] = "saga"
    module, name = MODELS[args.model].home.split(":")
    estimator = getattr(import_module(module), name)(**parameters)
    if parameters.get("l1_ratio", 0) > 0 and getattr(estimator, "penalty", None) == "l2":
        estimator.set_params(penalty="elasticnet")  # scikit-learn before 1.8
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=args.random_state)
    return estimator


# ---- arguments -------------------------------------------------------------------------------------------


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import softline

        print(f"softline {softline.__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="softline",
        description="Softmax classifiers trained on CPUs at the speed of the hardware.",
        epilog="python -m softline SCRIPT.py (or -m MODULE) runs a script in which scikit-learn's "
        "LogisticRegression is softline's.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    count = _checked(int, lambda n: 1 <= n < 2**31, "a whole number from 1 to 2147483647")
    threads = _checked(int, lambda n: 1 <= n <= 1024, "a whole number from 1 to 1024")
    seed = _checked(int, lambda seed: 0 <= seed < 2**32, "a whole number from 0 to 4294967295")
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument(
        "--data-dir", metavar="DIR", help="folder of mnist or cifar10 (default: $SOFTLINE_DATA, or data)"
    )
    place.add_argument(
        "--label", metavar="COLUMN", help="label column of a file, by name or position (default: the last)"
    )
    data = argparse.ArgumentParser(add_help=False, parents=[place])
    data.add_argument("data", metavar="DATA", help="digits, mnist, cifar10, or a .csv, .npy or .npz file")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("model", metavar="MODEL", help="a file that softline train --out wrote")

    options = argparse.ArgumentParser(
        add_help=False,
        argument_default=argparse.SUPPRESS,  # what is not given is left to the estimator
    )
    options.add_argument(
        "--model", choices=tuple(MODELS), default="softmax", help="what to train (default: softmax)"
    )
    options.add_argument(
        "--solver",
        choices=SOLVERS,
        help="how: gd is sgd with full batches, the random ones guess --epochs times (default: sgd)",
    )
    options.add_argument(
        "--epochs", dest="max_iter", type=count, metavar="N", help="most epochs to run (default: 100)"
    )
    options.add_argument(
        "--batch-size",
        type=_checked(
            lambda text: None if text == "full" else int(text),
            lambda n: n is None or 1 <= n < 2**31,
            "full or a whole number from 1 to 2147483647",
        ),
        metavar="B",
        help="rows of a step; full takes all rows at once (default: 256)",
    )
    options.add_argument(
        "--learning-rate",
        type=_checked(
            lambda text: text if text == "auto" else float(text),
            lambda rate: rate == "auto" or 0 < rate < math.inf,
            "auto or a number above 0",
        ),
        metavar="LR",
        help="auto finds the largest that is stable (default: auto); of an mlp a number",
    )
    options.add_argument(
        "--schedule", choices=SCHEDULES, help="how the learning rate changes (default: constant)"
    )
    options.add_argument(
        "--alpha",
        type=_checked(float, lambda alpha: 0 <= alpha < math.inf, "a number of at least 0"),
        metavar="A",
        help="penalty, L2 unless --l1-ratio is given (default: 0.0001)",
    )
    options.add_argument(
        "--l1-ratio",
        type=_checked(float, lambda ratio: 0 <= ratio <= 1, "a number from 0 to 1"),
        metavar="R",
        help="share of L1 in the penalty: 1 is the lasso (default: 0.0)",
    )
    options.add_argument(
        "--label-smoothing",
        type=_checked(float, lambda share: 0 <= share < 1, "a number of at least 0, below 1"),
        metavar="S",
        help="share of the uniform distribution in the labels (default: 0.0)",
    )
    options.add_argument(
        "--optimizer", choices=OPTIMIZERS, help="what a step makes of the gradient (default: sgd)"
    )
    options.add_argument(
        "--threads", dest="n_threads", type=threads, metavar="T", help="threads (default: as many as help)"
    )
    options.add_argument(
        "--early-stopping", action="store_true", help="stop when the validation accuracy stands still"
    )
    options.add_argument(
        "--standardize", action="store_true", help="train as if features had mean 0 and variance 1"
    )
    options.add_argument(
        "--neighbors", dest="n_neighbors", type=count, metavar="K", help="of a knn, that vote (default: 5)"
    )
    options.add_argument("--metric", choices=("l1", "l2"), help="distance of a knn (default: l2)")
    options.add_argument(
        "--weights", choices=("uniform", "distance"), help="of the votes of a knn (default: uniform)"
    )
    options.add_argument(
        "--hidden",
        dest="hidden_layer_sizes",
        type=_checked(
            lambda text: tuple(map(int, text.split(","))),
            lambda sizes: all(1 <= size < 2**31 for size in sizes),
            "whole numbers of at least 1, as in 100,50",
        ),
        metavar="H,...",
        help="units of the hidden layers of an mlp (default: 100)",
    )
    options.add_argument(
        "--activation", choices=ACTIVATIONS, help="of the hidden units of an mlp (default: relu)"
    )
    options.add_argument(
        "--dropout",
        type=_checked(float, lambda share: 0 <= share < 1, "a number of at least 0, below 1"),
        metavar="P",
        help="share of the hidden units of an mlp that a step leaves out (default: 0.0)",
    )
    options.add_argument(
        "--seed",
        dest="random_state",
        type=seed,
        default=0,
        metavar="S",
        help="seed of the splits and of the order of the rows (default: 0)",
    )
    train = commands.add_parser(
        "train",
        parents=[data, options],
        help="train a classifier and report its accuracy",
        description="Train a classifier and report its accuracy. Ctrl-C ends the training early: the "
        "weights so far are saved and evaluated, and the exit code is 130; once more ends at once.",
    )
    train.set_defaults(run=_train, reads=("data",), writes=("out", "report"))
    train.add_argument(
        "--sealed",
        action="store_true",
        help="leave the test rows alone; softline evaluate then counts the looks at them in the model",
    )
    train.add_argument("--out", metavar="FILE", help="save the model, as in model.safetensors")
    train.add_argument(
        "--report", metavar="FILE", help="write a web page about training and mistakes, as in report.html"
    )
    amount = train.add_mutually_exclusive_group()
    amount.add_argument("--quiet", action="store_true", help="print the results only")
    amount.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="tell how many GFLOP/s the epochs reach, too, and which share of this machine's peak that is",
    )

    evaluate = commands.add_parser(
        "evaluate",
        parents=[model, data],
        help="report the accuracy of a saved model, class by class",
        description="Report the accuracy of a saved model, class by class: on the test rows of digits, "
        "mnist or cifar10, on every row of a file, or on the rows that --split names. Splits are those "
        "that the model was trained with.",
    )
    evaluate.set_defaults(run=_evaluate)
    evaluate.add_argument("--split", choices=("train", "validation", "test"), help="rows to evaluate")

    predict = commands.add_parser(
        "predict",
        parents=[model],
        help="print a label for each row of a file",
        description="Print a label for each row of a file, as csv with a header.",
    )
    predict.set_defaults(run=_predict, reads=("model", "file"), writes=("out",))
    predict.add_argument("file", metavar="FILE", help="a .csv, .npy or .npz file of features")
    predict.add_argument("--proba", action="store_true", help="print the probability of each class, too")
    predict.add_argument("--label", metavar="COLUMN", help="column to leave out, by name or position")
    predict.add_argument("--out", metavar="FILE", help="write here instead of standard output")

    export = commands.add_parser(
        "export",
        parents=[model],
        help="write a saved model as an ONNX graph or a state dict of PyTorch",
        description="Write a saved model for other runtimes.",
    )
    export.set_defaults(run=_export, reads=("model",), writes=("file",))
    export.add_argument("file", metavar="FILE", help="a .onnx graph, or a .pt state dict of PyTorch")

    check = commands.add_parser(
        "check-gradient",
        parents=[data, options],
        help="compare the gradient of a model with differences of its loss",
        description="Compare the gradient of a model at random weights, as the kernels that train compute "
        "it, with centred differences of its loss, and tell of the worst entry.",
    )
    check.set_defaults(run=_check_gradient)
    check.add_argument(
        "--rows", type=count, default=500, metavar="N", help="training rows, drawn at random (default: 500)"
    )
    check.add_argument(
        "--checks", type=count, default=100, metavar="N", help="entries of each array (default: 100)"
    )

    info = commands.add_parser(
        "info",
        help="print what this softline is and runs on, or what is in a model",
        description="Print what this softline is and runs on or, given a model, what is in it.",
    )
    info.set_defaults(run=_info)
    info.add_argument("model", metavar="MODEL", nargs="?", help="a file that softline train --out wrote")

    bench = commands.add_parser(
        "bench",
        parents=[place],
        help="measure this machine, and how near to its best the kernels come",
        description="Measure the most that this machine computes and reads in a second, then each kernel "
        "and a whole epoch on four shapes: median time, rates, and share of the roofline, which is the least "
        "time that those allow. Every result is checked against NumPy before it is timed.",
    )
    bench.set_defaults(run=_bench)
    bench.add_argument("--data", metavar="DATA", help="measure on this data set, too, named as for train")
    bench.add_argument("--quick", action="store_true", help="fewer rows and repeats: a few seconds")
    bench.add_argument(
        "--dtype", choices=("float32", "float64"), default="float32", help="of the kernels (default: float32)"
    )
    bench.add_argument("--batch-size", type=count, default=256, metavar="B", help="(default: 256)")
    bench.add_argument(
        "--threads", type=threads, dest="n_threads", metavar="T", help="threads (default: as many as help)"
    )
    bench.add_argument("--json", action="store_true", help="print JSON instead of tables")

    demo = commands.add_parser(
        "demo",
        help="draw how a classifier learns to part two features, epoch by epoch",
        description="Train classifiers on a problem of two features, and draw the regions of their classes: "
        "epoch by epoch into a .gif, or at a few moments into a .png. red-panda tells red pandas from dogs "
        'by how much of a picture is brown, and how much white. Needs pip install "softline[plot]".',
    )
    demo.set_defaults(run=_demo, writes=("out",))
    demo.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        choices=TOYS,
        default=TOYS[0],
        help=f"{', '.join(TOYS)} (default: {TOYS[0]})",
    )
    demo.add_argument(
        "--model",
        choices=("softmax", "mlp", "both"),
        default="both",
        help="a linear classifier, a network, or one beside the other (default: both)",
    )
    demo.add_argument("--epochs", type=count, default=50, metavar="N", help="(default: 50)")
    demo.add_argument(
        "--seed",
        dest="random_state",
        type=seed,
        default=0,
        metavar="S",
        help="of rows and training (default: 0)",
    )
    demo.add_argument(
        "--out", metavar="FILE", default="demo.gif", help="a .gif or .png file (default: demo.gif)"
    )
    return parser


def _checked(
    convert: Callable[[str], Any], right: Callable[[Any], bool], expected: str
) -> Callable[[str], Any]:
    """An argparse type: text converted, if the result is right."""

    def convert_and_check(text: str) -> Any:
        try:
            value = convert(text)
            if right(value):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"expected {expected}; got {text!r}")

    return convert_and_check


# ---- commands --------------------------------------------------------------------------------------------


def _train(args: argparse.Namespace) -> int:
    import numpy as np

    from softline import _kernels, callbacks, datasets, files, model_file

    for path in (args.out, args.report):
        if path is not None:
            files.check_target(path)  # told before the work, not after
    if args.report is not None:
        from softline import plots, report

        plots.import_pyplot()
    if args.out is not None:
        name = MODELS[args.model].home.partition(":")[2]
        if name not in model_file.ESTIMATORS:
            raise ValueError(f"--out: a model file holds no {name}, which is its training rows")
    parameters = _parameters(args)
    data = datasets.load(args.data, data_dir=args.data_dir, label=args.label, random_state=args.random_state)
    model = _estimator(args, parameters, len(data.X_train))
    label = {} if data.label_name is None else {"label": _label(args, data.label_name)}
    if args.quiet:
        print_rows(label)
    else:
        parts = f"{len(data.X_train)} training, {len(data.X_val)} validation, {len(data.X_test)} test"
        classes = data.class_names or np.unique(data.y_train)
        threads = getattr(model, "n_threads", None) or getattr(model, "n_jobs", None)
        print_rows(
            {
                "data": data.name,
                "rows": parts,
                "features": f"{data.X_train.shape[1]}, {data.X_train.dtype}",
                **label,
                "classes": f"{len(classes)}: {_shortened(classes)}",
                "training": _plan(model),
                "running on": f"{_kernels.isa_name()}, {threads or _kernels.max_threads()} threads",
            }
        )
    sys.stdout.flush()

    history = None
    if args.report is not None and hasattr(model, "early_stopping"):
        rows = slice(10_000)  # enough to see by
        history = callbacks.History(
            training=(data.X_train[rows], data.y_train[rows]), validation=(data.X_val, data.y_val)
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
    for part, X, y in (
        ("training", data.X_train, data.y_train),
        ("validation", data.X_val, data.y_val),
        ("test", data.X_test, data.y_test),
    ):
        if part == "training" and args.model == "knn":  # each row is its own nearest neighbour
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
    """What the labels are called, and how they were found."""
    if args.label is not None or args.data.lower().endswith(".npz"):
        return name
    return f"{name}, {LAST_COLUMN}"


def _fit(
    model: Any, data: Dataset, args: argparse.Namespace, history: History | None
) -> tuple[float, list[str], bool]:
    """Train; return the seconds that it took, what to tell of it, and whether Ctrl-C ended it early.

    Raises
    ------
    KeyboardInterrupt
        If there is nothing to keep yet.
    """
    import time

    import numpy as np

    from softline.fit_loop import INTERRUPTED

    by_epochs, tells = hasattr(model, "early_stopping"), "verbose" in model.get_params()
    if tells:
        model.set_params(verbose=0 if args.quiet else 1 + args.verbose)
    raised = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        try:
            watched = {"eval_set": (data.X_val, data.y_val), "callback": history} if by_epochs else {}
            model.fit(data.X_train, data.y_train, **watched)
        except KeyboardInterrupt:  # LogisticRegression lets it through, as scikit-learn's does
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
    """What the training of so many seconds came to."""
    import numpy as np

    from softline.progress import format_rate

    if not hasattr(model, "early_stopping"):
        steps = {"steps": _training(model)} if getattr(model, "n_iter_", None) is not None else {}
        return steps | {"time": f"{seconds:.3g} s"}
    median = np.median(model.epoch_seconds_)
    return {
        "epochs": _training(model),
        "time per epoch": f"{1e3 * median:.3g} ms (median), {format_rate(n_rows / median)}",
    }


def _predicted(model: Any, X: Array, part: str, quiet: bool) -> Array:
    """Labels of X, block by block, for to some models it is long work."""
    import numpy as np

    from softline.progress import track_blocks

    with track_blocks(len(X), f"predicting {part} rows", disable=quiet) as blocks:
        return np.concatenate([model.predict(X[rows]) for rows in blocks])


def _plan(model: Any) -> str:
    """How the model is going to be trained."""
    if getattr(model, "optimizer", None) is None:
        return " ".join(repr(model).split())
    rate = f"learning rate {model.learning_rate}"
    if getattr(model, "solver", "sgd") != "sgd":
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
    if rows == "test" and hasattr(model, "test_looks_"):  # sealed when it was trained
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
    if hasattr(model, "predict_log_proba"):
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
    """X, y, names of the features and of the classes or None, and what rows these are."""
    from softline import datasets

    if args.split or args.data in NAMED:
        split = args.split or "test"
        data = datasets.load(args.data, data_dir=args.data_dir, label=args.label, random_state=seed)
        X, y = {
            "train": (data.X_train, data.y_train),
            "validation": (data.X_val, data.y_val),
            "test": (data.X_test, data.y_test),
        }[split]
        return X, y, data.feature_names, data.class_names, split
    label = args.label
    if label is None and not args.data.lower().endswith(".npz"):
        label = -1  # the last column, as in training
    X, y, feature_names = datasets.read_features(args.data, label=label, model=model)
    if y is None:
        raise ValueError(f"{args.data}: no labels; expected an array y")
    return X, y, feature_names, None, "all"


def _codes(y: Array, classes: Array, source: str) -> Array:
    """Position in `classes` of each label: numbers are compared as numbers, all else as text."""
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
        if not hasattr(model, "predict_proba"):
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
    if feature_names is None or not hasattr(model, "feature_names_in_"):
        return
    for i, (name, trained_on) in enumerate(zip(feature_names, model.feature_names_in_, strict=True)):
        if name != trained_on:
            raise ValueError(
                f"{source}: feature {i} is {name!r}; the model was trained with {trained_on!r} there"
            )


def _check_gradient(args: argparse.Namespace) -> None:
    import numpy as np

    from softline import datasets
    from softline.gradient_check import check_gradient

    parameters = _parameters(args)
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
    coefs = getattr(model, "coefs_", None) or [model.coef_]
    rows = {
        "file": f"{args.model}, written by softline {header['version']}",
        "model": " ".join(repr(model).split()),
        "features": f"{model.n_features_in_}, {coefs[0].dtype}",
        "classes": f"{len(model.classes_)}, {model.classes_.dtype}: {_shortened(model.classes_)}",
    }
    if hasattr(model, "coefs_"):
        rows["layers"] = " - ".join(str(len(coef)) for coef in coefs) + f" - {model.n_outputs_} units"
    if getattr(model, "n_iter_", None) is not None:
        rows["epochs" if hasattr(model, "loss_curve_") else "steps"] = _training(model)
    if hasattr(model, "test_looks_"):
        looks = ", ".join(f"{look.score:.2%} on {look.date}" for look in model.test_looks_)
        rows["test set"] = f"sealed, looked at: {looks or 'never'}"
    if hasattr(model, "feature_names_in_"):
        rows["features"] += f": {_shortened(model.feature_names_in_)}"
    if header["image_shape"]:
        rows["features"] += f", images of {' x '.join(map(str, header['image_shape']))}"
    print_rows(rows)


def _bench(args: argparse.Namespace) -> None:
    import json

    from rich.console import Console
    from rich.text import Text

    from softline import bench, datasets

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
    from softline import demo, files, plots

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


def _training(model: Any) -> str:
    """How the training went: epochs or steps, and what came of them."""
    if not hasattr(model, "loss_curve_"):
        return str(max(model.n_iter_))
    loss = f", loss {model.loss_curve_[-1]:.4f}" if model.loss_curve_ else ""
    rate = "" if model.learning_rate_ is None else f", learning rate {model.learning_rate_:.3g}"
    return f"{model.n_iter_}{loss}{rate}"


def _shortened(names: Iterable[object]) -> str:
    """Names, in a line that is not too long."""
    return textwrap.shorten(", ".join(map(str, names)), 70, placeholder=" ...")
