"""The command line: softline train, evaluate, predict and info.

Heavy modules are imported by the commands that use them, so that `softline --help` is instant.
"""

import argparse
import math
import os
import sys
import warnings

from softline.config import print_rows, show_config

NAMED = ("digits", "mnist", "cifar10")
SCHEDULES = ("constant", "step", "exponential", "inverse_time", "cosine", "warm_up")


def main(argv=None):
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
    args = _parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            # The commands check the names of columns themselves.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("softline: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Python flushes once more at exit: let it flush into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ImportError, MemoryError, OSError, ValueError) as error:
        print(f"softline: error: {_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def _one_line(error):
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


# ---- arguments -------------------------------------------------------------------------------------------


class _Version(argparse.Action):
    def __call__(self, parser, *_):
        import softline

        print(f"softline {softline.__version__}")
        parser.exit()


def _parser():
    parser = argparse.ArgumentParser(
        prog="softline", description="Softmax classifiers trained on CPUs at the speed of the hardware."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("data", metavar="DATA", help="digits, mnist, cifar10, or a .csv, .npy or .npz file")
    data.add_argument(
        "--data-dir", metavar="DIR", help="folder of mnist or cifar10 (default: $SOFTLINE_DATA, or data)"
    )
    data.add_argument(
        "--label", metavar="COLUMN", help="label column of a file, by name or position (default: the last)"
    )
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("model", metavar="MODEL", help="a file that softline train --out wrote")

    train = commands.add_parser(
        "train",
        parents=[data],
        help="train a classifier and report its accuracy",
        description="Train a classifier and report its accuracy. Ctrl-C ends the training early: the "
        "weights so far are saved and evaluated.",
    )
    train.set_defaults(run=_train)
    # Options not given are left to SoftmaxClassifier, whose parameters they are named after.
    option = _defaults_elsewhere(train)
    option("--epochs", "max_iter", _integer(1), "N", "most epochs to run (default: 100)")
    option("--batch-size", "batch_size", _batch_size, "B", "rows of a step, or full (default: 256)")
    option("--learning-rate", "learning_rate", _learning_rate, "LR", "a number, or auto (default: auto)")
    option("--schedule", "schedule", str, None, "how the learning rate falls (default: constant)", SCHEDULES)
    option("--alpha", "alpha", _number(0), "A", "L2 penalty (default: 0.0001)")
    option("--threads", "n_threads", _integer(1, 1024), "T", "threads (default: as many as help)")
    train.add_argument(
        "--seed",
        dest="random_state",
        type=_integer(0, 2**32 - 1),
        default=0,
        metavar="S",
        help="seed of the splits and of the order of rows (default: 0)",
    )
    train.add_argument(
        "--early-stopping", action="store_true", help="stop when the validation accuracy stands still"
    )
    train.add_argument("--out", metavar="FILE", help="save the model here, as in model.safetensors")
    train.add_argument("--quiet", action="store_true", help="print the results only")

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
    predict.set_defaults(run=_predict)
    predict.add_argument("file", metavar="FILE", help="a .csv, .npy or .npz file of features")
    predict.add_argument("--proba", action="store_true", help="print the probability of each class, too")
    predict.add_argument("--label", metavar="COLUMN", help="column to leave out, by name or position")
    predict.add_argument("--out", metavar="FILE", help="write here instead of standard output")

    info = commands.add_parser(
        "info",
        help="print what this softline is and runs on, or what is in a model",
        description="Print what this softline is and runs on or, given a model, what is in it.",
    )
    info.set_defaults(run=_info)
    info.add_argument("model", metavar="MODEL", nargs="?", help="a file that softline train --out wrote")
    return parser


def _defaults_elsewhere(parser):
    def option(name, dest, kind, metavar, text, choices=None):
        parser.add_argument(
            name,
            dest=dest,
            type=kind,
            metavar=metavar,
            help=text,
            choices=choices,
            default=argparse.SUPPRESS,
        )

    return option


def _integer(low, high=math.inf):
    def integer(text):
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {low} to {high}; got {text}" if high < math.inf else f"expected at least {low}; got {text}")
        return value

    return integer
