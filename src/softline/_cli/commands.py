"""The command line: softline train, evaluate, predict, export, check-gradient, info, bench and demo.

Heavy modules are imported by the commands that use them, so that `softline --help` is instant. The arguments
are defined in `cli_parser`.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable

from softline._cli import parser as cli_parser
from softline._cli.output import Output, tell
from softline._words import counted, shortened


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
        args = cli_parser.parse(argv)
        output = Output(vars(args).get("quiet", False), vars(args).get("json", False))
        with warnings.catch_warnings():
            # Ignored, because the commands check the names of columns themselves.
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            warnings.showwarning = lambda message, *_, **__: output.tell(message)
            _check_outputs(args)
            code = COMMANDS[args.command](args, output) or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        tell("interrupted")
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
        if given[name] is not None:
            inputs += datasets.source_files(given[name], given.get("data_dir"))
    files.check_outputs(outputs, inputs)


# ---- commands --------------------------------------------------------------------------------------------


def _train(args: argparse.Namespace, output: Output) -> int:
    from softline._cli import train

    return train.train(args, output)


def _evaluate(args: argparse.Namespace, output: Output) -> None:
    from softline._cli import evaluate

    evaluate.evaluate(args, output)


def _predict(args: argparse.Namespace, output: Output) -> None:
    from softline._cli import evaluate

    evaluate.predict(args, output)


def _info(args: argparse.Namespace, output: Output) -> None:
    from softline._cli import evaluate

    evaluate.info(args, output)


def _export(args: argparse.Namespace, output: Output) -> None:
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
        contents = f"state dict of PyTorch: {shortened(state)}"
    output.rows({"model": type(model).__name__, "contents": contents, "saved": args.file})


def _check_gradient(args: argparse.Namespace, output: Output) -> None:
    import numpy as np

    from softline._cli import train
    from softline.gradient_check import check_gradient

    parameters = cli_parser.parameters(args)
    data = train.load(args, output)
    rng = np.random.RandomState(args.random_state)
    rows = rng.choice(len(data.X_train), min(args.rows, len(data.X_train)), replace=False)
    model = train.estimator(args, parameters, data.y_train[rows])
    if not hasattr(model, "_loss_and_gradient"):
        raise ValueError(f"--model {args.model} has no gradient")
    X, y = data.X_train[rows], data.y_train[rows]
    found = check_gradient(model, X, y, n_checks=args.checks, random_state=args.random_state)
    if not found.passed:
        raise ValueError(str(found))
    print(found)


def _bench(args: argparse.Namespace, output: Output) -> None:
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
        output.tell("one thread computes as much as all: the machine is busy, and shares mean little")
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        bench.print_report(report)


def _demo(args: argparse.Namespace, output: Output) -> None:
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
    output.rows(
        {
            "data": f"{args.data}, {len(X)} rows",
            "features": ", ".join(toy.feature_names),
            "classes": f"{len(toy.class_names)}: {', '.join(toy.class_names)}",
        }
    )
    runs = {}
    for name in demo.MODELS if args.model == "both" else [args.model]:
        runs[name] = demo.train(name, X, y, epochs=args.epochs, random_state=args.random_state)
        loss, accuracy = runs[name][-1].loss_curve_[-1], runs[name][-1].score(X, y)
        output.rows({name: f"{counted(args.epochs, 'epoch')}, loss {loss:.4f}, accuracy {accuracy:.2%}"})
    draw(args.out, toy, X, y, runs)
    output.rows({"saved": args.out})


COMMANDS: dict[str, Callable[[argparse.Namespace, Output], int | None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "export": _export,
    "check-gradient": _check_gradient,
    "info": _info,
    "bench": _bench,
    "demo": _demo,
}
