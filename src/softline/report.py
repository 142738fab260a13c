"""Web page about a training: ``softline train DATA --report report.html``.

The page holds all that it shows: no scripts, no fonts, nothing from a network, and its policy forbids them.
Needs matplotlib: ``pip install "softline[plot]"``.
"""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from html import escape
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.metrics import confusion_matrix

from softline import _kernels, plots
from softline._data.files import write_file
from softline._kernels import machine_limits
from softline._typing import Array, PathLike
from softline._words import format_rate, format_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from softline._estimators.description import Description
    from softline.callbacks import History
    from softline.datasets import Dataset

__all__ = ["write_report"]

# Largest number of entries shown of each kind.
MOST_MISTAKES, MOST_TEMPLATES, MOST_FEATURES, MOST_CONFUSIONS = 24, 100, 12, 20
# Largest number of classes with a whole confusion matrix.
MOST_CELLS = 30
# Colour that stands for the colour of the text around a figure.
INK = "#010203"
FIGURE_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "softline",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "font.size": 10,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


def write_report(
    path: PathLike,
    model: Any,
    data: Dataset,
    *,
    part: Literal["test", "validation"] = "test",
    predicted: Array | None = None,
    results: dict[str, str] | None = None,
    history: History | None = None,
    notes: Iterable[str] = (),
) -> None:
    """Write a web page about a fitted classifier: its training, its mistakes, data, parameters and machine.

    Parameters
    ----------
    path : path-like
        Where to; the page appears whole or not at all.
    model : classifier
        One of softline, fitted on the training rows of `data`.
    data : Dataset
    part : {"test", "validation"}, default="test"
        The rows to judge the model on; those of the other part are not looked at.
    predicted : (n,) array or None, default=None
        What the model predicts of these rows, where that is known already.
    results : dict of str to str or None, default=None
        What to begin with, by name. None means the accuracy on `part`.
    history : History or None, default=None
        Loss and accuracy after each epoch. None means what the model kept itself.
    notes : sequence of str, default=()
        What else there is to say of the training: warnings.

    Raises
    ------
    ImportError
        If there is no matplotlib.
    OSError
        If the page cannot be written.

    Examples
    --------
    >>> from softline import SoftmaxClassifier, datasets
    >>> from softline.report import write_report
    >>> data = datasets.load_digits()
    >>> model = SoftmaxClassifier(random_state=0).fit(
    ...     data.X_train, data.y_train, eval_set=(data.X_val, data.y_val)
    ... )
    >>> write_report("report.html", model, data)  # doctest: +SKIP
    """
    plots.import_pyplot()
    told = model._describe()
    judged = _Judged(model, data, part, predicted)
    results = results or {f"{part} accuracy": f"{np.mean(judged.right):.2%}"}
    # The accuracy on test rows is the last result, and comes first on the page.
    accuracies = {name: results[name] for name in reversed(results) if "accuracy" in name}
    others = {name: value for name, value in results.items() if name not in accuracies}
    title = f"{type(model).__name__} on {data.name}"
    sections = {
        "Training": _training(told, history),
        "Templates": _templates(told, data, judged),
        "Classes": _classes(data, judged),
        "Confusion": _confusion(judged),
        "Worst mistakes": _mistakes(model, data, judged),
        "Time": _time(model, data),
        "Data": _data(data, judged),
        "Parameters": _parameters(model),
        "Machine": _machine(told),
    }
    body = "".join(
        f"<section>\n<h2>{escape(heading)}</h2>\n{content}</section>\n"
        for heading, content in sections.items()
        if content
    )
    page = PAGE.format(
        title=escape(title),
        style=STYLE,
        made=f"{datetime.now().astimezone():%Y-%m-%d %H:%M}, softline {escape(version('softline'))}",
        notes="".join(f'<p class="note">{escape(note)}</p>\n' for note in notes),
        results=_definitions(accuracies, "results") + _definitions(others),
        body=body,
    )
    write_file(path, page.encode())


class _Judged:
    """Rows that a model is judged on, and its predictions.

    Attributes
    ----------
    X : (n, D) array
    classes : (C,) array
        Every label there is, in the model or the rows.
    names : list of str
        What they are called.
    y, predicted : (n,) int arrays
        Codes of the classes.
    known : (n_known,) int array
        Codes of the classes of the model.
    right : (n,) bool array
    """

    def __init__(self, model: Any, data: Dataset, part: str, predicted: Array | None) -> None:
        self.part = part
        self.X, y = data.parts[part]
        predicted = model.predict(self.X) if predicted is None else predicted
        self.classes = np.unique(np.concatenate([model.classes_, y]))
        names = dict(enumerate(data.class_names or []))
        self.names = [str(names.get(label, label)) for label in self.classes]
        self.y, self.predicted, self.known = (
            np.searchsorted(self.classes, labels) for labels in (y, predicted, model.classes_)
        )
        self.right = self.y == self.predicted


# ---- sections --------------------------------------------------------------------------------------------


def _training(told: Description, history: History | None) -> str:
    if not told.history.get("loss_curve"):
        return ""
    losses, scores = (
        {"training": told.history["loss_curve"]},
        {"validation": told.history["validation_scores"]},
    )
    if history is not None:
        losses, scores = history.losses, history.scores
    figures = [_curve("loss", losses=losses)]
    if all(scores.values()):
        figures.append(_curve("accuracy", scores=scores))
    named = " and ".join(f"{name} rows" for name in losses | {k: v for k, v in scores.items() if v})
    return f'<p>Values after each epoch, of the {named}.</p>\n<div class="figures">{"".join(figures)}</div>\n'


def _curve(what: str, **curves: Any) -> str:
    alt = "; ".join(
        f"{name} {what}: {values[0]:.4g} after the first epoch, {values[-1]:.4g} after {len(values)}"
        for name, values in next(iter(curves.values())).items()
    )
    return _svg(alt, plots.TrainingCurveDisplay(**curves).plot)


def _templates(told: Description, data: Dataset, judged: _Judged) -> str:
    if data.image_shape is None or not told.layers:
        return ""
    (weights, _), *_ = told.layers
    if told.activation is not None:
        what, captions = "unit of the first layer", [f"unit {i}" for i in range(len(weights))]
    else:
        what = "class"
        # A single row of weights is that of the second class.
        captions = [judged.names[code] for code in judged.known][-len(weights) :]
    shown = weights[:MOST_TEMPLATES]
    images = plots.TemplatesDisplay(templates=shown, image_shape=data.image_shape).images()
    figures = [
        _image(image, f"weights of {caption}", escape(caption), cmap="RdBu_r", vmin=-1, vmax=1)
        for image, caption in zip(images, captions, strict=False)
    ]
    scale = "Red speaks for it, blue against it."
    if images.ndim == 4:
        scale = "A colour above mid-grey speaks for it, below against it."
    only = f" The first {len(shown)} of {len(weights)}." if len(shown) < len(weights) else ""
    return (
        f"<p>The weights of each {what} as an image: what it looks for. {scale}{only}</p>\n"
        f'<div class="images">{"".join(figures)}</div>\n'
    )


def _classes(data: Dataset, judged: _Judged) -> str:
    counts = dict(zip(*np.unique(data.y_train, return_counts=True), strict=True))
    rows = []
    for code, (label, name) in enumerate(zip(judged.classes, judged.names, strict=True)):
        of_class = judged.right[judged.y == code]
        accuracy = "-"
        if of_class.size:
            share = of_class.mean()
            accuracy = f'<span class="bar" style="--share:{share:.4f}">{share:.1%}</span>'
        rows.append([name, _Raw(accuracy), f"{of_class.size:,}", f"{counts.get(label, 0):,}"])
    header = ["class", "accuracy", f"{judged.part} rows", "training rows"]
    intro = f"<p>The share of each class's {judged.part} rows that the model gets right.</p>\n"
    return intro + _table(header, rows, "tall")


def _confusion(judged: _Judged) -> str:
    counts = confusion_matrix(judged.y, judged.predicted, labels=range(len(judged.classes)))
    totals = counts.sum(axis=1)
    if len(judged.classes) > MOST_CELLS:
        np.fill_diagonal(counts, 0)
        worst = np.argsort(-counts, axis=None, kind="stable")[:MOST_CONFUSIONS]
        pairs = [(i, j) for i, j in zip(*np.unravel_index(worst, counts.shape), strict=True) if counts[i, j]]
        rows = [
            [judged.names[i], judged.names[j], counts[i, j], f"{counts[i, j] / totals[i]:.0%}"]
            for i, j in pairs
        ]
        if not rows:
            return f"<p>No {judged.part} row was taken for another class.</p>\n"
        header = ["class", "taken for", f"{judged.part} rows", "of its rows"]
        return f"<p>The most frequent mistakes on {judged.part} rows.</p>\n{_table(header, rows)}"
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in judged.names)
    lines = [f"<tr><td></td>{head}</tr>\n"]
    for i, name in enumerate(judged.names):
        cells = "".join(
            f'<td class="{"hit" if i == j else "miss"}" style="--share:{count / totals[i]:.3f}">{count}</td>'
            if count
            else "<td></td>"
            for j, count in enumerate(counts[i])
        )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>\n')
    return (
        f"<p>Number of {judged.part} rows. Down: their class. Across: the class that the model chose.</p>\n"
        f'<div class="scroll" tabindex="0"><table class="matrix">\n{"".join(lines)}</table></div>\n'
    )


def _mistakes(model: Any, data: Dataset, judged: _Judged) -> str:
    wrong = np.flatnonzero(~judged.right)
    if not wrong.size:
        return f"<p>None: every {judged.part} row was right.</p>\n"
    confidence = _confidence(model, wrong, judged)
    sure = model._describe().has_probabilities
    unit, text = ("probability", "{:.1%}") if sure else ("score", "{:.3g}")
    count = f"The model is wrong on {wrong.size:,} of {len(judged.y):,} {judged.part} rows."
    which = f"The {MOST_MISTAKES} surest mistakes" if wrong.size > MOST_MISTAKES else "All"
    intro = f"<p>{count} {which} are shown, the surest first, with the {unit} of the class it chose.</p>\n"
    rows = []
    for k in np.argsort(-confidence, kind="stable")[:MOST_MISTAKES]:
        row = wrong[k]
        names = judged.names[judged.y[row]], judged.names[judged.predicted[row]]
        rows.append((int(row), *names, text.format(confidence[k])))
    if data.image_shape is not None:
        top = 255 if data.X_train.dtype == np.uint8 else float(np.max(data.X_train)) or 1.0
        figures = []
        for row, name, taken_for, how in rows:
            image = np.clip(judged.X[row].reshape(data.image_shape).astype(float) / top, 0, 1)
            image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
            alt = f"row {row}: {name}, taken for {taken_for}"
            caption = f"row {row}: {escape(name)},<br>taken for {escape(taken_for)}, {how}"
            figures.append(_image(image, alt, caption, cmap="gray", vmin=0, vmax=1))
        return f'{intro}<div class="images wide">{"".join(figures)}</div>\n'
    n_features = judged.X.shape[1]
    names = data.feature_names or [f"feature {i}" for i in range(n_features)]
    header = ["row", "class", "taken for", unit, *names[:MOST_FEATURES]]
    if n_features > MOST_FEATURES:
        header.append(f"… {n_features - MOST_FEATURES} more")
    cells = [
        [*row, *(f"{value:.4g}" for value in judged.X[row[0], :MOST_FEATURES])]
        + [""] * (n_features > MOST_FEATURES)
        for row in rows
    ]
    return intro + _table(header, cells)


def _confidence(model: Any, rows: Array, judged: _Judged) -> Array:
    """Probabilities, or else scores, of the classes that the model chose for rows."""
    X = judged.X[rows]
    sure = model._describe().has_probabilities
    scores = model.predict_proba(X) if sure else model.decision_function(X)
    if scores.ndim == 1:  # for two classes
        scores = np.column_stack([-scores, scores])
    return scores[np.arange(len(rows)), np.searchsorted(judged.known, judged.predicted[rows])]


def _time(model: Any, data: Dataset) -> str:
    seconds = model._describe().history.get("epoch_seconds")
    if not seconds:
        return ""
    n_rows, median = len(data.X_train), float(np.median(seconds))
    rows = {
        "epochs": f"{len(seconds):,}, {format_seconds(sum(seconds))} in the kernels",
        "time per epoch": f"{format_seconds(median)} (median), {format_rate(n_rows / median)}",
    }
    flops, least = model._epoch_flops(n_rows), None
    if flops is not None:
        dtype = "float64" if data.X_train.dtype == np.float64 else "float32"
        least, memory = machine_limits.roofline(flops, data.X_train.nbytes, dtype, model.n_threads)
        limit = f"reads {memory}" if memory else "multiplies and adds"
        peak = machine_limits.fma_peak(dtype, model.n_threads)
        rate = flops / median
        rows |= {
            "arithmetic": f"{rate / 1e9:.3g} GFLOP/s, {_share(rate / peak)} of the peak of {peak / 1e9:.3g}",
            "roofline": f"{format_seconds(least)}: no epoch can be shorter, as fast as this machine {limit}",
            "share of the roofline": f"{_share(least / median)} (median)",
        }
        if least > median:
            rows["share of the roofline"] += ": the machine was busy while its limits were measured"
    unit, factor = next(
        ((unit, factor) for unit, factor in (("s", 1), ("ms", 1e3)) if median * factor >= 1), ("us", 1e6)
    )

    def draw(axes: Axes) -> None:
        plots.plot_epochs(axes, factor * np.array(seconds), "an epoch", plots.COLORS[0])
        if least is not None:
            axes.axhline(factor * least, color=plots.COLORS[1], linestyle="--", label="roofline")
        axes.set_ylabel(f"time per epoch ({unit})")
        axes.set_ylim(bottom=0)
        axes.legend(loc="best")

    shortest, longest = format_seconds(min(seconds)), format_seconds(max(seconds))
    figure = _svg(f"time of each epoch: {shortest} to {longest}", draw)
    return f'{_definitions(rows)}<div class="figures">{figure}</div>\n'


def _share(share: float) -> str:
    return f"{share:.0%}" if share > 0.1 else f"{share:.1%}"


def _data(data: Dataset, judged: _Judged) -> str:
    shape = f", images of {' x '.join(map(str, data.image_shape))}" if data.image_shape else ""
    return _definitions(
        {
            "data": data.name,
            "features": f"{data.X_train.shape[1]:,}, {data.X_train.dtype}{shape}",
            "classes": len(judged.classes),
            **{f"{name} rows": f"{len(y):,}" for name, (_, y) in data.parts.items()},
        }
    )


def _parameters(model: Any) -> str:
    given, defaults = model.get_params(deep=False), type(model)().get_params(deep=False)
    changed = {name: value for name, value in given.items() if repr(value) != repr(defaults[name])}
    others = {name: repr(value) for name, value in given.items() if name not in changed}
    content = ""
    if changed:
        content = _definitions({name: repr(value) for name, value in changed.items()})
    summary = f"<summary>{len(others)} at their defaults</summary>"
    return f"{content}<details>{summary}\n{_definitions(others)}</details>\n"


def _machine(told: Description) -> str:
    return _definitions(
        {
            "processor": machine_limits.processor(),
            "system": platform.platform(),
            "instruction set": _kernels.isa_name(),
            "threads": told.n_threads or _kernels.max_threads(),
            "compiler": _kernels.config()["compiler"],
            "Python": platform.python_version(),
            "NumPy": np.__version__,
            "scikit-learn": version("scikit-learn"),
        }
    )


# ---- HTML ------------------------------------------------------------------------------------------------


class _Raw(str):
    """Text that is HTML and not to be escaped."""


def _cell(value: object) -> str:
    return value if isinstance(value, _Raw) else escape(str(value))


def _table(header: Iterable[object], rows: Iterable[Iterable[object]], kind: str = "") -> str:
    """Table in a box that scrolls by itself; the cells are escaped."""
    head = "".join(f'<th scope="col">{_cell(name)}</th>' for name in header)
    lines = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return (
        f'<div class="scroll {kind}" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{lines}</tbody></table></div>\n"
    )


def _definitions(rows: Mapping[str, object], kind: str = "") -> str:
    items = [f"<div><dt>{_cell(name)}</dt><dd>{_cell(value)}</dd></div>\n" for name, value in rows.items()]
    return f'<dl class="{kind}">\n{"".join(items)}</dl>\n'


def _image(image: Array, alt: str, caption: str, **scale: Any) -> str:
    """Small image as PNG: grey or of a colour map (h, w), or of colours from 0 to 1 (h, w, 3)."""
    from matplotlib.image import imsave

    file = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None}
    imsave(file, image, format="png", metadata=metadata, **scale)
    source = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img src="data:image/png;base64,{source}" alt="{escape(alt)}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _svg(alt: str, draw: Callable[[Axes], object]) -> str:
    """Figure that `draw` draws into axes, in the colours of the text around it."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    file = io.StringIO()
    with rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(4.6, 3.1), layout="constrained")
        draw(figure.subplots())
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    _, tag, text = file.getvalue().partition("<svg")
    return f'{tag} role="img" aria-label="{escape(alt)}"{text}'.replace(INK, "currentColor")


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{made}</p>
</header>
<main>
{notes}{results}{body}</main>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c2128; --soft: #59636e; --line: #d5dae0;
  --box: #f5f7f9; --hit: #b3d6f5; --miss: #ff9a3d; --note: #fff3d6; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14181d; --ink: #e3e7ec; --soft: #9aa5b1; --line: #343b44; --box: #1d232a; --hit: #235078;
    --miss: #a3560f; --note: #3a2f14; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 1rem 0 0; font-size: 1.6rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); font-size: 1.15rem; }
header p, dt, figcaption, summary { color: var(--soft); }
header p { margin: .25rem 0 1.5rem; }
.note { padding: .5rem .75rem; border-radius: .4rem; background: var(--note); }
dl { margin: 0; }
dl > div { display: flex; flex-wrap: wrap; gap: 0 1rem; padding: .15rem 0; }
dt { flex: 0 0 11rem; }
dd { flex: 1 1 14rem; margin: 0; }
.results { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem;
  margin-bottom: .75rem; }
.results > div { display: block; padding: .6rem .8rem; border-radius: .4rem; background: var(--box); }
.results dd { font-size: 1.5rem; font-weight: 600; line-height: 1.3; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
dl + .figures { margin-top: 1rem; }
svg { display: block; width: 100%; max-width: 30rem; height: auto; }
svg text { font-family: inherit !important; }
figure { margin: 0; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(5rem, 1fr)); gap: .6rem; }
.images.wide { grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); gap: .75rem; }
img { display: block; width: 100%; max-width: 9rem; image-rendering: pixelated; border-radius: .2rem; }
figcaption { font-size: .85rem; line-height: 1.3; padding-top: .25rem; }
.scroll { overflow: auto; max-width: 100%; }
.tall { max-height: 32rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }
thead th { position: sticky; top: 0; background: var(--page); color: var(--soft); font-weight: 400; }
.bar { display: block; min-width: 7rem; padding: 0 .4rem; border-radius: .2rem;
  background: linear-gradient(var(--hit) 0 0) 0 / calc(100% * var(--share)) 100% no-repeat var(--box); }
.matrix th { font-weight: 400; color: var(--soft); white-space: nowrap; }
.matrix th[scope="col"] { text-align: center; border: 0; padding: .25rem .4rem; }
.matrix td { min-width: 2.2rem; padding: .25rem; text-align: center; border: 1px solid var(--line); }
.matrix tr:first-child td { border: 0; }
.hit { background: color-mix(in srgb, var(--hit) calc(100% * var(--share)), transparent); }
.miss { background: color-mix(in srgb, var(--miss) calc(12% + 160% * var(--share)), transparent); }
summary { cursor: pointer; margin-top: .5rem; }
"""
