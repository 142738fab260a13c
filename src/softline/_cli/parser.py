"""Arguments of the command line, as tables of commands and of the options of estimators."""

from __future__ import annotations

import argparse
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from softline._words import did_you_mean

NAMED = ("digits", "mnist", "cifar10")
TOYS = ("red-panda", "circle", "spiral", "blobs")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "asgd")
SOLVERS = ("sgd", "gd", "lbfgs", "random_search", "random_local_search")
ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "leaky_relu")
SCHEDULES = ("constant", "step", "exponential", "inverse_time", "cosine", "warm_up")

# Module and class of each --model.
MODELS = {
    "softmax": "softline.linear_model:SoftmaxClassifier",
    "logistic": "softline.linear_model:LogisticRegression",
    "least_squares": "softline.linear_model:LeastSquaresClassifier",
    "knn": "softline.neighbors:KNeighborsClassifier",
    "mlp": "softline.neural_network:MLPClassifier",
}
# Names in a model of the parameters of SoftmaxClassifier.
RENAMED = {
    ("logistic", "alpha"): "C",
    ("knn", "n_threads"): "n_jobs",
    ("mlp", "learning_rate"): "learning_rate_init",
    ("mlp", "schedule"): "learning_rate",
    ("mlp", "optimizer"): "solver",
}
# Parameters without effect on solvers.
OF_SGD = ("batch_size", "schedule", "label_smoothing", "optimizer", "early_stopping")
NOT_OF_SOLVER: dict[str, tuple[str, ...]] = {
    "gd": ("batch_size",),
    "lbfgs": (*OF_SGD, "learning_rate"),
    "random_search": OF_SGD,
    "random_local_search": OF_SGD,
}


def estimator_class(model: str) -> Any:
    """Class that --model names."""
    module, name = MODELS[model].split(":")
    return getattr(import_module(module), name)


def parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Parameters that the options set; ValueError if one belongs to another model or solver."""
    found = {}
    for option in OPTIONS:
        flag = option.flags[0]
        if option.name not in vars(args):
            continue
        if args.model not in option.models.split():
            owners = ", ".join(option.models.split())
            raise ValueError(f"{flag} is an option of --model {owners}, not of {args.model}")
        if option.name in NOT_OF_SOLVER.get(getattr(args, "solver", "sgd"), ()):
            raise ValueError(f"{flag} has no effect with --solver {args.solver}")
        found[option.parameter(args.model)] = vars(args)[option.name]
    if args.model == "logistic" and {"alpha", "C"} <= vars(args).keys():
        raise ValueError("--alpha and --C are the same penalty on two scales; expected one of them")
    if found.get("solver") == "gd":
        found |= {"solver": "sgd", "batch_size": None}
    if found.get("learning_rate_init") == "auto":
        raise ValueError("--learning-rate auto is for --model softmax; an mlp takes a number")
    return found


def _weights(text: str) -> dict[str, float]:
    """Weights by label, of "spam=2,ham=1"."""
    pairs = (pair.rpartition("=") for pair in text.split(","))
    return {label: float(weight) for label, _, weight in pairs}


# ---- values ----------------------------------------------------------------------------------------------


def _checked(
    convert: Callable[[str], Any], right: Callable[[Any], bool], expected: str
) -> Callable[[str], Any]:
    """Type for argparse that converts a text, and refuses it unless the result is right."""

    def convert_and_check(text: str) -> Any:
        try:
            value = convert(text)
            if right(value):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"expected {expected}; got {text!r}")

    return convert_and_check


COUNT = _checked(int, lambda n: 1 <= n < 2**31, "a whole number from 1 to 2147483647")
THREADS = _checked(int, lambda n: 1 <= n <= 1024, "a whole number from 1 to 1024")
SEED = _checked(int, lambda seed: 0 <= seed < 2**32, "a whole number from 0 to 4294967295")
SHARE = _checked(float, lambda share: 0 <= share < 1, "a number of at least 0, below 1")
RATIO = _checked(float, lambda ratio: 0 <= ratio <= 1, "a number from 0 to 1")
PENALTY = _checked(float, lambda alpha: 0 <= alpha < math.inf, "a number of at least 0")
BATCH_SIZE = _checked(
    lambda text: None if text == "full" else int(text),
    lambda n: n is None or 1 <= n < 2**31,
    "full or a whole number from 1 to 2147483647",
)
RATE = _checked(
    lambda text: text if text == "auto" else float(text),
    lambda rate: rate == "auto" or 0 < rate < math.inf,
    "auto or a number above 0",
)
SIZES = _checked(
    lambda text: tuple(map(int, text.split(","))),
    lambda sizes: all(1 <= size < 2**31 for size in sizes),
    "whole numbers of at least 1, as in 100,50",
)
TOLERANCE = _checked(float, lambda tol: 0 <= tol < math.inf, "a number of at least 0")
INVERSE = _checked(float, lambda C: C > 0, "a number above 0")
FOLDS = _checked(int, lambda n: 2 <= n <= 1000, "a whole number from 2 to 1000")
COLUMNS = _checked(
    lambda text: text.split(","), lambda names: True, "names or positions of columns, as in a,b"
)
CLASS_WEIGHT = _checked(
    lambda text: text if text == "balanced" else _weights(text),
    lambda weights: weights == "balanced" or all(0 <= weight < math.inf for weight in weights.values()),
    "balanced, or weights of at least 0 as in spam=2,ham=1",
)
AS_HELP = "threads (default: as many as help)"


# ---- arguments -------------------------------------------------------------------------------------------


@dataclass
class Argument:
    """An argument of a command.

    Attributes
    ----------
    spelling : str
        Flags and what stands for the value: "--out FILE", "-v --verbose", "DATA", "[DATA]" if it is optional.
    help : str
    values : callable, tuple of str, True or None
        A type for argparse, the choices, True for a switch, or None for any text.
    name : str
        Name in the parsed arguments; "" means that of the longest flag.
    models : str
        Models with a parameter `name` that this sets. Without it, they keep their defaults.
    default : object
        Shown in the help unless it is None.
    group : str
        Heading of the help that it stands below; "" for the usual ones.
    """

    spelling: str
    help: str
    values: Any = None
    name: str = ""
    models: str = ""
    default: Any = None
    group: str = ""

    def __post_init__(self) -> None:
        words = self.spelling.split()
        self.flags = [word for word in words if word.startswith("-")]
        self.metavar = None if words[-1] in self.flags else words[-1].strip("[]")
        self.name = self.name or (self.flags or words)[-1].strip("-[]").replace("-", "_").lower()

    def add_to(self, parser: Any, model: str | None = None) -> None:
        """Add the argument to a parser or a group of argparse; with the defaults of one model, or of all."""
        details: dict[str, Any] = {"dest": self.name} if self.flags else {}
        details["default"] = argparse.SUPPRESS if self.models else self.default
        if self.values is True:
            details |= {"action": "store_true", "default": details["default"] or False}
        else:
            details |= {"metavar": self.metavar, "nargs": "?" if self.spelling[0] == "[" else None}
            details["choices" if isinstance(self.values, tuple) else "type"] = self.values
        if self.values is COLUMNS:
            details["action"] = "extend"
        action = parser.add_argument(*(self.flags or [self.name]), **details)
        of_classes = bool(self.models) and self.values is not True and "(default" not in self.help
        told = (
            " (default: %(default)s)" if self.default is not None else of_classes * " (default: %(defaults)s)"
        )
        vars(action).update(help=(self.help + told).lstrip(), defaults=_Defaults(self, model))
        if self.metavar in FILES:
            action.complete = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}

    def parameter(self, model: str) -> str:
        """Name of the parameter that the argument sets."""
        return RENAMED.get((model, self.name), self.name)


@dataclass
class _Defaults:
    """Defaults of an argument in a help: of the first model, and of each model where it differs.

    They are read only for a printed help, because importing the classes takes a second.
    """

    argument: Argument
    model: str | None

    def __str__(self) -> str:
        models: dict[str, list[str]] = {}
        for model in [self.model] if self.model else self.argument.models.split():
            name = self.argument.parameter(model)
            default = inspect.signature(estimator_class(model)).parameters[name].default
            models.setdefault(_spelt(self.argument.name, name, default), []).append(model)
        first, *others = models
        return "; ".join([first, *(f"{', '.join(models[other])}: {other}" for other in others)])


def _spelt(option: str, name: str, value: Any) -> str:
    """Value of a parameter, as an option of the command line spells it."""
    if name == "C" and option == "alpha":
        return f"{1 / value:g}/rows"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return {"minkowski": "l2", None: "0.0"}.get(value, str(value))  # scikit-learn's spelling


FILES = ("FILE", "DATA", "MODEL", "DIR")  # values that a shell completes as files
# Options that set parameters of estimators.
OPTIONS = [
    Argument(
        "--solver",
        "how: gd is sgd with full batches, the random ones guess --epochs times",
        SOLVERS,
        models="softmax",
    ),
    Argument("--epochs --max-iter N", "most epochs to run", COUNT, "max_iter", "softmax logistic mlp"),
    Argument(
        "--tol T",
        "improvement that still counts, of the loss or the gradient",
        TOLERANCE,
        "",
        "softmax logistic mlp",
    ),
    Argument("--batch-size B", "rows of a step; full takes all rows at once", BATCH_SIZE, "", "softmax mlp"),
    Argument(
        "--learning-rate --learning-rate-init LR",
        "auto finds the largest that is stable; of an mlp a number",
        RATE,
        "learning_rate",
        "softmax mlp",
    ),
    Argument("--schedule", "how the learning rate changes", SCHEDULES, "", "softmax mlp"),
    Argument(
        "--alpha A",
        "penalty, L2 unless --l1-ratio is given",
        PENALTY,
        models="softmax logistic least_squares mlp",
        group="model",
    ),
    Argument("--C C", "inverse of the penalty, on scikit-learn's scale", INVERSE, "C", "logistic"),
    Argument(
        "--class-weight W",
        "balanced, or weights of the classes as in spam=2,ham=1 (default: 1 each)",
        CLASS_WEIGHT,
        models="softmax logistic least_squares mlp",
    ),
    Argument("--l1-ratio R", "share of L1 in the penalty: 1 is the lasso", RATIO, "", "softmax logistic mlp"),
    Argument(
        "--label-smoothing S", "share of the uniform distribution in the labels", SHARE, "", "softmax mlp"
    ),
    Argument("--optimizer", "what a step makes of the gradient", OPTIMIZERS, "", "softmax mlp"),
    Argument("--threads --n-jobs T", AS_HELP, THREADS, "n_threads", "softmax least_squares knn mlp"),
    Argument("--early-stopping", "stop when the validation accuracy stands still", True, "", "softmax mlp"),
    Argument("--standardize", "train as if features had mean 0 and variance 1", True, "", "softmax mlp"),
    Argument("--neighbors --n-neighbors K", "of a knn, that vote", COUNT, "n_neighbors", "knn"),
    Argument("--metric", "distance of a knn", ("l1", "l2"), "", "knn"),
    Argument("--weights", "of the votes of a knn", ("uniform", "distance"), "", "knn"),
    Argument(
        "--hidden --hidden-layer-sizes H,...",
        "units of the hidden layers of an mlp",
        SIZES,
        "hidden_layer_sizes",
        "mlp",
    ),
    Argument("--activation", "of the hidden units of an mlp", ACTIVATIONS, "", "mlp"),
    Argument("--dropout P", "share of the hidden units of an mlp that a step leaves out", SHARE, "", "mlp"),
]
# Options of the model itself; all others are of its training.
OF_MODEL = {"alpha", "C", "class_weight", "l1_ratio", "label_smoothing", "n_neighbors", "metric", "weights"}
OF_MODEL |= {"hidden_layer_sizes", "activation", "dropout"}
for option in OPTIONS:
    option.group = "model" if option.name in OF_MODEL else "training"

PLACE = [
    Argument("--data-dir DIR", "folder of mnist or cifar10 (default: $SOFTLINE_DATA, or data)", group="data"),
    Argument(
        "--label COLUMN", "label column of a file, by name or position (default: the last)", group="data"
    ),
]
LABELS = Argument(
    "--labels FILE", "a .npy file of labels, or of rows of probabilities, beside DATA", group="data"
)
DATA_HELP = (
    "digits, mnist, cifar10, a .csv, .tsv, .csv.gz, .parquet, .npy or .npz file, a folder of such, or -"
)
DATA = [Argument("DATA", DATA_HELP, group="data"), *PLACE, LABELS]
TABLE = [
    Argument("--drop COLUMN,...", "columns to leave out", COLUMNS, group="data"),
    Argument(
        "--categorical COLUMN,...", "columns of text: a feature for each category", COLUMNS, group="data"
    ),
    Argument(
        "--missing",
        "cells without a number: an error, their rows dropped, or the mean of the column",
        ("error", "drop", "mean"),
        default="error",
        group="data",
    ),
    Argument("--dtype", "type of the features (default: as stored)", ("float32", "float64"), group="data"),
]
MODEL_FILE = "a file that softline train --out wrote"
SEED_HELP = "seed of the splits and of the order of the rows"
TRAINING = [
    *DATA,
    *TABLE,
    Argument("--model", "what to train", tuple(MODELS), default="softmax", group="model"),
    *OPTIONS,
    Argument("--seed --random-state S", SEED_HELP, SEED, "random_state", default=0, group="training"),
]
JSON = Argument("--json", "print JSON", True, group="output")
QUIET = Argument("--quiet", "print nothing but errors", True, group="output")


# ---- commands --------------------------------------------------------------------------------------------


class Command(NamedTuple):
    """A command."""

    help: str  # its line among the commands
    description: str
    arguments: Sequence[Argument]
    examples: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()  # names of the arguments with files to read, if it also writes
    writes: tuple[str, ...] = ()  # spellings of the arguments with files to write


COMMANDS = {
    "train": Command(
        "train a classifier and report its accuracy",
        "Train a classifier and report its accuracy. Ctrl-C ends the training early: the "
        "weights so far are saved and evaluated, and the exit code is 130; once more ends at once.",
        [
            *TRAINING,
            Argument("--test FILE", "test rows; without it a fifth of DATA is held out", group="data"),
            Argument(
                "--folds K", "cross-validate on the training rows first, in K folds", FOLDS, group="training"
            ),
            Argument(
                "--sealed",
                "leave the test rows alone; softline evaluate then counts the looks at them in the model",
                True,
                group="training",
            ),
            Argument("--out FILE", "save the model, as in model.safetensors", group="output"),
            Argument(
                "--report FILE",
                "write a web page about training and mistakes, as in report.html",
                group="output",
            ),
            JSON,
            QUIET,
            Argument(
                "-v --verbose",
                "tell how many GFLOP/s the epochs reach, too, and which share of this machine's peak that is",
                True,
                group="output",
            ),
        ],
        (
            "softline train digits",
            "softline train table.csv --label species --out model.safetensors",
            "softline train X.npy --labels y.npy --model mlp --hidden 100 --standardize",
        ),
        reads=("data", "labels", "test"),
        writes=("--out", "--report"),
    ),
    "evaluate": Command(
        "report the accuracy of a saved model, class by class",
        "Report the accuracy of a saved model, class by class: on the test rows of digits, "
        "mnist or cifar10, on every row of a file, or on the rows that --split names. Splits are those "
        "that the model was trained with, and so are the label's column and those that are no features.",
        [
            Argument("MODEL", MODEL_FILE),
            *DATA,
            Argument("--split", "rows to evaluate", ("train", "validation", "test"), group="data"),
            JSON,
            QUIET,
        ],
        (
            "softline evaluate model.safetensors digits",
            "softline evaluate model.safetensors table.csv",
            "softline evaluate model.safetensors table.csv --split test --json",
        ),
    ),
    "predict": Command(
        "print a label for each row of a file",
        "Print a label for each row of a file, as csv with a header.",
        [
            Argument("MODEL", MODEL_FILE),
            Argument("FILE", "features: a file or folder as for softline train, or -"),
            Argument("--proba", "print the probability of each class, too", True),
            Argument(
                "--label COLUMN", "column to leave out, by name or position (default: that of the training)"
            ),
            Argument("--out FILE", "write here instead of standard output"),
            JSON,
            Argument("--quiet", "no warnings", True, group="output"),
        ],
        (
            "softline predict model.safetensors new.csv",
            "softline predict model.safetensors new.parquet --proba --out answers.csv",
            "cat new.csv | softline predict model.safetensors - --json",
        ),
        reads=("model", "file"),
        writes=("--out",),
    ),
    "export": Command(
        "write a saved model as an ONNX graph or a state dict of PyTorch",
        "Write a saved model for other runtimes.",
        [Argument("MODEL", MODEL_FILE), Argument("FILE", "a .onnx graph, or a .pt state dict of PyTorch")],
        ("softline export model.safetensors model.onnx", "softline export model.safetensors model.pt"),
        reads=("model",),
        writes=("FILE",),
    ),
    "check-gradient": Command(
        "compare the gradient of a model with differences of its loss",
        "Compare the gradient of a model at random weights, as the kernels that train compute "
        "it, with centred differences of its loss, and tell of the worst entry.",
        [
            *TRAINING,
            Argument("--rows N", "training rows, drawn at random", COUNT, default=500, group="training"),
            Argument("--checks N", "entries of each array", COUNT, default=100, group="training"),
        ],
        ("softline check-gradient digits", "softline check-gradient digits --model mlp --hidden 10,10"),
    ),
    "info": Command(
        "print what this softline is and runs on, or what is in a model",
        "Print what this softline is and runs on or, given a model, what is in it.",
        [Argument("[MODEL]", MODEL_FILE), JSON],
        ("softline info", "softline info model.safetensors", "softline info model.safetensors --json"),
    ),
    "bench": Command(
        "measure this machine, and how near to its best the kernels come",
        "Measure the most that this machine computes and reads in a second, then each kernel "
        "and a whole epoch on four shapes: median time, rates, and share of the roofline, which is the least "
        "time that those allow. Every result is checked against NumPy before it is timed.",
        [
            *PLACE,
            Argument("--data DATA", "measure on this data set, too, named as for train"),
            Argument("--quick", "fewer rows and repeats: a few seconds", True),
            Argument("--dtype", "of the kernels", ("float32", "float64"), default="float32"),
            Argument("--batch-size B", "", COUNT, default=256),
            Argument("--threads T", AS_HELP, THREADS, "n_threads"),
            JSON,
        ],
        (
            "softline bench --quick",
            "softline bench --dtype float64 --threads 1",
            "softline bench --data digits",
        ),
    ),
    "demo": Command(
        "draw how a classifier learns to part two features, epoch by epoch",
        "Train classifiers on a problem of two features, and draw the regions of their classes: "
        "epoch by epoch into a .gif, or at a few moments into a .png. red-panda tells red pandas from dogs "
        'by how much of a picture is brown, and how much white. Needs pip install "softline[plot]".',
        [
            Argument("[DATA]", ", ".join(TOYS), TOYS, default="spiral"),
            Argument(
                "--model",
                "a linear classifier, a network, or one beside the other",
                ("softmax", "mlp", "both"),
                default="both",
            ),
            Argument("--epochs N", "", COUNT, default=50),
            Argument("--seed S", "of rows and training", SEED, "random_state", default=0),
            Argument("--out FILE", "a .gif or .png file", default="demo.gif"),
        ],
        (
            "softline demo",
            "softline demo red-panda --out red-panda.png",
            "softline demo circle --model mlp --out circle.png",
        ),
        writes=("--out",),
    ),
}


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import softline

        print(f"softline {softline.__version__}")
        parser.exit()


class _Completion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: Any, *__: object) -> None:
        try:
            import shtab
        except ImportError:
            parser.exit(1, 'softline: error: --completion needs shtab: pip install "softline[completion]"\n')
        print(shtab.complete(parser, shell))
        parser.exit()


class _Formatter(argparse.HelpFormatter):
    """Formatter that keeps the lines of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:") else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """Parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        if wrong := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            message += did_you_mean(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        self.exit(2, f"{self.prog}: error: {message}\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """End with an error about arguments that nobody knows."""
        flags = [word for word in unknown if word.startswith("-")]
        if not flags:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        flag = flags[0].partition("=")[0]
        known = [name for action in self._actions for name in action.option_strings if len(name) > 2]
        # "--lr" is --learning-rate: where several have these initials, the first.
        initials = {"--" + "".join(re.findall(r"\b\w", name)): name for name in reversed(known)}
        hint = f"; did you mean {initials[flag]}?" if flag in initials else did_you_mean(flag, known)
        self.error(f"no option {flag}{hint or f'; {self.prog} --help lists them'}")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; SystemExit(2) after one line about what is wrong."""
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser(_chosen_model(argv))
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        args.parser.refuse(unknown)
    return args


def _chosen_model(argv: Iterable[str]) -> str | None:
    """Model whose help is asked for, if it is one."""
    if not {"-h", "--help"} & set(argv):
        return None
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model")
    model = parser.parse_known_args([word for word in argv if word not in ("-h", "--help")])[0].model
    return model if model in MODELS else None


def build_parser(model: str | None = None) -> Parser:
    """Parser of the command line; `command` of the parsed arguments is a key of `COMMANDS`.

    With a `model`, options of other models are left out.
    """
    parser = Parser(
        prog="softline",
        description="Softmax classifiers trained on CPUs at the speed of the hardware.",
        epilog="python -m softline SCRIPT.py (or -m MODULE) runs a script in which scikit-learn's "
        "LogisticRegression is softline's.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument(
        "--completion",
        action=_Completion,
        choices=("bash", "zsh", "tcsh"),
        help="print a script that completes commands and options in a shell, and exit",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        examples = "\n  ".join(("examples:", *command.examples))
        of_command = commands.add_parser(
            name,
            help=command.help,
            description=command.description,
            epilog=examples,
            formatter_class=_Formatter,
        )
        of_command.set_defaults(command=name, parser=of_command)
        groups: dict[str, Any] = {"": of_command}
        for argument in command.arguments:
            if model and argument.models and model not in argument.models.split():
                continue
            if argument.group not in groups:
                groups[argument.group] = of_command.add_argument_group(argument.group)
            argument.add_to(groups[argument.group], model)
    return parser
