"""Pictures of ``softline demo``: how the regions of a classifier of two features grow, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from sklearn.datasets import make_blobs, make_circles

from softline._estimators.softmax_classifier import SoftmaxClassifier
from softline._typing import Array
from softline.datasets import make_red_pandas, make_spiral
from softline.neural_network import MLPClassifier
from softline.plots import DecisionRegionsDisplay, import_pyplot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Model: TypeAlias = SoftmaxClassifier | MLPClassifier
Panel: TypeAlias = tuple[str, Sequence[Model], int]  # name, the model after each epoch, which of them to draw

FRAMES_PER_SECOND = 8
LAST_FRAMES = 2 * FRAMES_PER_SECOND  # the last one stands for two seconds before all begins again
MOMENTS = 4  # epochs in a still picture
PANEL, DPI = (4, 3.6), 80  # inches, and points of a picture per inch


class Toy(NamedTuple):
    """A problem of two features."""

    make: Callable[..., tuple[Array, Array]]  # X and y for a `random_state`
    class_names: list[str]
    feature_names: tuple[str, str] = ("x", "y")


TOYS = {
    "red-panda": Toy(make_red_pandas, ["dog", "red panda"], ("share of brown", "share of white")),
    "circle": Toy(partial(make_circles, 200, noise=0.1, factor=0.4), ["outside", "inside"]),
    "spiral": Toy(make_spiral, ["arm 1", "arm 2", "arm 3"]),
    "blobs": Toy(partial(make_blobs, 200, centers=4), ["blob 1", "blob 2", "blob 3", "blob 4"]),
}

# Slow enough to be watched.
MODELS: dict[str, Model] = {
    "softmax": SoftmaxClassifier(learning_rate=0.02, batch_size=20, standardize=True, tol=None),
    "mlp": MLPClassifier(
        (20, 20), "tanh", learning_rate_init=0.01, batch_size=20, standardize=True, tol=None
    ),
}


def train(name: str, X: Array, y: Array, *, epochs: int, random_state: int | None) -> list[Model]:
    """Train one of `MODELS`; return it as it was after each epoch."""
    models: list[Model] = []
    model = deepcopy(MODELS[name]).set_params(max_iter=epochs, random_state=random_state)
    model.fit(X, y, callback=lambda epoch: models.append(deepcopy(epoch.model)))
    if len(models) < epochs:
        raise KeyboardInterrupt  # because fit only warns of Ctrl-C
    return models


def animate(path: str | Path, toy: Toy, X: Array, y: Array, runs: Mapping[str, Sequence[Model]]) -> None:
    """Write a GIF with a frame an epoch, in which `runs`, results of `train` by name, are side by side.

    It pauses on its last frame.
    """
    import_pyplot()
    from matplotlib.animation import FuncAnimation, PillowWriter

    n_epochs = len(next(iter(runs.values())))
    panels = [(name, models, 0) for name, models in runs.items()]
    figure, displays = _figure(toy, X, y, panels, len(panels))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # so that nothing moves from frame to frame
    grid = np.column_stack([displays[0].boundary.xx0.ravel(), displays[0].boundary.xx1.ravel()])

    def frame(epoch: int) -> None:
        for display, (name, models, _) in zip(displays, panels, strict=True):
            display.surface_.set_array(models[epoch].predict(grid))
            display.ax_.set_title(_title(name, models[epoch], X, y))

    epochs = [*range(n_epochs), *[n_epochs - 1] * (LAST_FRAMES - 1)]
    animation = FuncAnimation(figure, frame, epochs, init_func=lambda: None)
    animation.save(path, PillowWriter(FRAMES_PER_SECOND))


def draw(path: str | Path, toy: Toy, X: Array, y: Array, runs: Mapping[str, Sequence[Model]]) -> None:
    """Write a picture of a few epochs, the first and the last among them; otherwise as `animate`."""
    n_epochs = len(next(iter(runs.values())))
    moments = np.unique(np.geomspace(1, n_epochs, MOMENTS).round().astype(int)) - 1
    panels = [(name, models, epoch) for name, models in runs.items() for epoch in moments]
    figure, _ = _figure(toy, X, y, panels, len(moments))
    figure.savefig(path)


def _figure(
    toy: Toy, X: Array, y: Array, panels: Sequence[Panel], n_columns: int
) -> tuple[Figure, list[DecisionRegionsDisplay]]:
    """Figure with a panel for each (name, models, epoch), and the displays in it."""
    import_pyplot()
    from matplotlib.figure import Figure

    n_rows = len(panels) // n_columns
    size = PANEL[0] * n_columns + 1, PANEL[1] * n_rows
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
    displays = [
        DecisionRegionsDisplay.from_estimator(
            models[epoch], X, y, grid_resolution=round(PANEL[0] * DPI), class_names=toy.class_names, ax=ax
        )
        for ax, (_, models, epoch) in zip(axes.flat, panels, strict=True)
    ]
    for display, (name, models, epoch) in zip(displays, panels, strict=True):
        display.ax_.set_title(_title(name, models[epoch], X, y))
        display.ax_.set(xlabel=toy.feature_names[0], ylabel=toy.feature_names[1])
        display.ax_.label_outer()
    for ax, (panel, following) in zip(axes.flat, pairwise(panels), strict=False):
        if panel[0] == following[0]:  # one legend for each model, at its last panel
            ax.get_legend().remove()
    return figure, displays


def _title(name: str, model: Model, X: Array, y: Array) -> str:
    return f"{name}, epoch {len(model.loss_curve_)}: {model.score(X, y):.1%} right"
