"""Pictures of training and of what was learned, in scikit-learn's Display convention.

A display holds what is drawn; `from_estimator`, `from_predictions` or `from_cv_results` computes it, and
`plot` draws it, again if need be. Needs matplotlib: ``pip install "softline[plot]"``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from sklearn import metrics
from sklearn.base import is_regressor
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from softline._estimators.description import layers_of
from softline._typing import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection, QuadMesh
    from matplotlib.colors import Colormap
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

    AxesLike: TypeAlias = Axes | Sequence[Axes] | Array

Curves: TypeAlias = Mapping[str, Sequence[float] | Array]
Names: TypeAlias = Sequence[Any] | Array

__all__ = [
    "ConfusionMatrixDisplay",
    "DecisionRegionsDisplay",
    "HeatMapDisplay",
    "KFoldDisplay",
    "TemplatesDisplay",
    "TrainingCurveDisplay",
]

# Shapes of images by number of features: digits, MNIST, and CIFAR-10 as softline.datasets reads it.
IMAGE_SHAPES = {64: (8, 8), 784: (28, 28), 3072: (3, 32, 32)}

# Colours that colour-blind people, too, can tell apart: M. A. Petroff, "Accessible color sequences for data
# visualization", arXiv:2107.02270.
COLORS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
MARKERS = "os^Dv<>Pph"


def import_pyplot() -> ModuleType:
    """Import matplotlib.pyplot; without matplotlib, raise an ImportError that says what to install."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('softline.plots needs matplotlib: pip install "softline[plot]"') from error
    return pyplot


def _axes(ax: Any, n: int, n_columns: int, cell: tuple[float, float]) -> Array:
    """Array of n axes, in a new figure of `cell` inches each or in what `ax` gives.

    As in scikit-learn's PartialDependenceDisplay, an array of axes is drawn into, and one axes is divided.
    """
    pyplot = import_pyplot()
    n_rows = math.ceil(n / n_columns)
    if ax is None:
        size = n_columns * cell[0], n_rows * cell[1]
        _, axes = pyplot.subplots(n_rows, n_columns, figsize=size, layout="constrained", squeeze=False)
    elif n > 1 and isinstance(ax, pyplot.Axes):
        if ax.get_subplotspec() is None:
            raise ValueError("ax has no room to divide; give one of a figure's subplots, or an array of axes")
        ax.set_axis_off()
        axes = ax.get_subplotspec().subgridspec(n_rows, n_columns).subplots(squeeze=False)
    else:
        axes = np.ravel(ax)
        if len(axes) != n:
            raise ValueError(f"ax has {len(axes)} axes; expected {n}, or one to be divided")
        return axes
    for axis in axes.flat[n:]:
        axis.remove()
    return axes.flat[:n]


def _trained(estimator: Any) -> Any:
    """The estimator that was trained: the last step of a pipeline, the best of a search."""
    check_is_fitted(estimator)
    if hasattr(estimator, "best_estimator_"):
        return _trained(estimator.best_estimator_)
    if hasattr(estimator, "steps"):
        return _trained(estimator[-1])
    return estimator


def _checked_names(class_names: Names | None, classes: Array) -> Names:
    if class_names is None:
        return classes
    if len(class_names) != len(classes):
        raise ValueError(f"class_names has {len(class_names)} names for {len(classes)} classes: {classes}")
    return class_names


class _Display:
    """Base of the displays."""

    figure_: Figure

    def plot(self, ax: AxesLike | None = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or array of Axes, default=None
            One for each panel, or one that the panels divide among them; None makes a figure.

        Returns
        -------
        self
        """
        self._draw(ax)
        return self

    def _draw(self, ax: AxesLike | None) -> None:
        raise NotImplementedError


# ---- training --------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class TrainingCurveDisplay(_Display):
    """Loss and accuracy after each epoch, side by side; one of them where the other is not known.

    Parameters
    ----------
    losses : dict of str to array-like of shape (n_epochs,), default=None
        Loss after each epoch, by the name of the rows: "training", "validation".
    scores : dict of str to array-like of shape (n_epochs,), default=None
        Accuracy after each epoch, likewise.
    score_name : str, default="accuracy"

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One for the losses and one for the scores, of those there are.
    figure_ : matplotlib Figure
    lines_ : dict of (str, str) to matplotlib Line2D
        By ("loss", name) and (`score_name`, name).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from softline import SoftmaxClassifier
    >>> from softline.plots import TrainingCurveDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SoftmaxClassifier(early_stopping=True, random_state=0).fit(X, y)
    >>> TrainingCurveDisplay.from_estimator(model)  # doctest: +SKIP
    """

    losses: Curves | None = None
    scores: Curves | None = None
    score_name: str = "accuracy"
    axes_: Array = field(init=False)
    lines_: dict[tuple[str, str], Line2D] = field(init=False)

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: AxesLike | None = None) -> Self:
        """Draw the training history of an estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted, with a `loss_curve_` and perhaps `validation_scores_`: softline's SoftmaxClassifier and
            MLPClassifier, scikit-learn's MLPClassifier and MLPRegressor; or a pipeline or search of one.
        ax : matplotlib Axes or array of Axes, default=None
            As for `plot`.

        Returns
        -------
        TrainingCurveDisplay

        Raises
        ------
        ValueError
            If the estimator has no `loss_curve_`, or not one epoch in it.
        """
        model = _trained(estimator)
        if not getattr(model, "loss_curve_", None):
            raise ValueError(
                f"{type(model).__name__} has no loss_curve_ to draw; estimators trained by epochs keep one"
            )
        scores = getattr(model, "validation_scores_", None)
        return cls(
            losses={"training": model.loss_curve_},
            scores={"validation": scores} if scores else None,
            score_name="R²" if is_regressor(model) else "accuracy",
        ).plot(ax=ax)

    def _draw(self, ax: AxesLike | None) -> None:
        panels = {"loss": self.losses, self.score_name: self.scores}
        panels = {name: curves for name, curves in panels.items() if curves}
        if not panels:
            raise ValueError("neither losses nor scores have a curve to draw")
        axes = _axes(ax, len(panels), len(panels), (4.5, 3.4))
        # A name has the same colour in both panels.
        names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
        self.lines_ = {}
        for axis, (title, curves) in zip(axes, panels.items(), strict=True):
            for name, values in curves.items():
                color = COLORS[names.index(name) % len(COLORS)]
                self.lines_[title, name] = plot_epochs(axis, values, name, color)
            axis.set_ylabel(title)
            axis.legend(loc="best")  # said: else matplotlib warns where it is slow
        self.axes_, self.figure_ = axes, axes[0].figure


def plot_epochs(axis: Any, values: Sequence[float] | Array, name: str, color: str) -> Line2D:
    """Draw values against epochs."""
    marker = "." if len(values) <= 30 else None
    (line,) = axis.plot(np.arange(1, len(values) + 1), values, label=name, color=color, marker=marker)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("epoch")
    axis.grid(alpha=0.3)
    return line


# ---- weights ---------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class TemplatesDisplay(_Display):
    """Weights as images: what each class, or each unit of a network's first layer, looks for.

    A weight of 0 is the middle of the scale. In grey images red speaks for the class and blue against it; in
    colour images a channel above mid-grey speaks for it. Each template has a scale of its own, which leaves
    out the largest hundredth of its weights.

    Parameters
    ----------
    templates : ndarray of shape (n_templates, n_features)
        Weights, a template a row.
    image_shape : tuple of int
        Shape of a row as an image: (height, width), channel-major (3, height, width), or (height, width, 3).
        What is neither is refused.
    names : list of str, default=None
        Titles of the templates.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One a template.
    figure_ : matplotlib Figure
    images_ : list of matplotlib AxesImage
        One a template.

    Examples
    --------
    >>> from softline import SoftmaxClassifier, datasets
    >>> from softline.plots import TemplatesDisplay
    >>> data = datasets.load_digits()
    >>> model = SoftmaxClassifier(random_state=0).fit(data.X_train, data.y_train)
    >>> TemplatesDisplay.from_estimator(model)  # doctest: +SKIP
    """

    templates: ArrayLike
    image_shape: Sequence[int]
    names: Names | None = None
    axes_: Array = field(init=False)
    images_: list[AxesImage] = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        image_shape: Sequence[int] | None = None,
        class_names: Names | None = None,
        ax: AxesLike | None = None,
    ) -> Self:
        """Draw the weights of a linear classifier, or of the first layer of a network.

        Parameters
        ----------
        estimator : estimator
            Fitted, with `coef_` or `coefs_`; or a pipeline or search of one.
        image_shape : tuple of int, default=None
            As for the class. None is allowed for rows of 64 (digits), 784 (MNIST) and 3072 features (CIFAR-10
            as :func:`softline.datasets.load_cifar10` reads it, channel-major).
        class_names : list of str, default=None
            Names of the classes, in the order of `classes_`; None means `classes_`. A network's first layer
            has units, not classes, and no names.
        ax : matplotlib Axes or array of Axes, default=None
            As for `plot`.

        Returns
        -------
        TemplatesDisplay

        Raises
        ------
        ValueError
            If the estimator has no weights, the images are not of `image_shape`, or there are too few names.
        """
        model = _trained(estimator)
        layers, names = layers_of(model), None
        if not layers:
            raise ValueError(
                f"{type(model).__name__} has no weights to draw: neither coef_ of classes nor coefs_"
            )
        templates, _ = layers[0]
        if not hasattr(model, "coefs_"):  # a single row of weights is that of the second class
            names = _checked_names(class_names, model.classes_)[-len(templates) :]
        n_features = templates.shape[1]
        if image_shape is None:
            if n_features not in IMAGE_SHAPES:
                raise ValueError(
                    f"{n_features} features may be images of several shapes; give image_shape, as (28, 28), "
                    "(3, 32, 32) or (32, 32, 3)"
                )
            image_shape = IMAGE_SHAPES[n_features]
        return cls(templates=templates, image_shape=image_shape, names=names).plot(ax=ax)

    def _draw(self, ax: AxesLike | None) -> None:
        images = self.images()
        n_columns = 5 if len(images) == 10 else math.ceil(math.sqrt(len(images)))
        axes = _axes(ax, len(images), n_columns, (1.3, 1.3 if self.names is None else 1.5))
        self.images_ = []
        for i, (axis, image) in enumerate(zip(axes, images, strict=True)):
            scale = {} if image.ndim == 3 else {"cmap": "RdBu_r", "vmin": -1, "vmax": 1}
            self.images_.append(axis.imshow(image, interpolation="nearest", **scale))
            axis.set_axis_off()
            if self.names is not None:
                axis.set_title(self.names[i], fontsize=10)
        self.axes_, self.figure_ = axes, axes[0].figure

    def images(self) -> Array:
        """The templates as images.

        Returns
        -------
        images : ndarray of shape (n, height, width) or (n, height, width, 3)
            Grey ones from -1 to 1, of colours from 0 to 1.

        Raises
        ------
        ValueError
            If the templates are not of `image_shape`.
        """
        templates, shape = np.asarray(self.templates, dtype=float), tuple(self.image_shape)
        if len(shape) not in (2, 3) or (len(shape) == 3 and 3 not in (shape[0], shape[2])):
            raise ValueError(
                f"image_shape={shape} is no image; expected (height, width), (3, height, width) or "
                "(height, width, 3)"
            )
        if self.names is not None and len(self.names) != len(templates):
            raise ValueError(f"names has {len(self.names)} names for {len(templates)} templates")
        if math.prod(shape) != templates.shape[1]:
            raise ValueError(
                f"image_shape={shape} has {math.prod(shape)} values; a template has {templates.shape[1]}"
            )
        sizes = abs(templates)
        largest = np.quantile(sizes, 0.99, axis=1, keepdims=True)
        # The quantile is 0 where nearly all weights are.
        largest = np.where(largest > 0, largest, sizes.max(axis=1, keepdims=True))
        images = np.clip(templates / np.where(largest > 0, largest, 1), -1, 1).reshape(-1, *shape)
        if len(shape) == 2:
            return images
        return (1 + (np.moveaxis(images, 1, -1) if shape[0] == 3 else images)) / 2


# ---- predictions -----------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class DecisionRegionsDisplay(_Display):
    """Classes that a classifier predicts in the plane of two features, and the rows.

    Parameters
    ----------
    boundary : sklearn.inspection.DecisionBoundaryDisplay
        With the codes of the predicted classes as its `response`.
    X : ndarray of shape (n_samples, 2)
        Rows to draw.
    y : ndarray of int of shape (n_samples,)
        Codes of their classes, 0..C-1.
    class_names : list of str
        Names of the classes.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    surface_ : matplotlib QuadMesh
        The regions.
    points_ : list of matplotlib PathCollection
        The rows of each class, with a colour and a marker of their own.

    Examples
    --------
    >>> from softline import datasets
    >>> from softline.neural_network import MLPClassifier
    >>> from softline.plots import DecisionRegionsDisplay
    >>> X, y = datasets.make_spiral(random_state=0)
    >>> model = MLPClassifier(learning_rate_init=0.01, random_state=0).fit(X, y)
    >>> DecisionRegionsDisplay.from_estimator(model, X, y)  # doctest: +SKIP
    """

    boundary: DecisionBoundaryDisplay
    X: Array
    y: Array
    class_names: Names
    ax_: Axes = field(init=False)
    surface_: QuadMesh = field(init=False)
    points_: list[PathCollection] = field(init=False)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        grid_resolution: int = 200,
        class_names: Names | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the regions of a classifier.

        Parameters
        ----------
        estimator : estimator
            Any fitted classifier of two features.
        X : array-like of shape (n_samples, 2)
            Rows to draw; the regions reach a tenth beyond them. The columns of a data frame name the axes;
            those of an array are "feature 0" and "feature 1".
        y : array-like of shape (n_samples,)
            Their labels.
        grid_resolution : int, default=200
            Points of the grid to predict, along each axis.
        class_names : list of str, default=None
            Names of the classes, in the order of `classes_`; None means `classes_`.
        ax : matplotlib Axes, default=None
            As for `plot`.

        Returns
        -------
        DecisionRegionsDisplay

        Raises
        ------
        ValueError
            If X has not two features, y a label that the estimator does not know, or there are too few names.
        """
        import_pyplot()
        from matplotlib.figure import Figure

        named = hasattr(X, "columns")
        check_is_fitted(estimator)
        check_consistent_length(X, y)
        points, encoder = np.asarray(X), LabelEncoder()
        encoder.classes_ = classes = estimator.classes_
        codes = encoder.transform(y)
        names = _checked_names(class_names, classes)
        boundary = DecisionBoundaryDisplay.from_estimator(
            estimator,
            X,
            grid_resolution=grid_resolution,
            eps=0.1 * float(np.ptp(points, axis=0).max()),
            response_method="predict",
            plot_method="pcolormesh",
            xlabel=None if named else "feature 0",
            ylabel=None if named else "feature 1",
            ax=Figure().subplots(),  # to throw away: scikit-learn draws at once, `plot` again in our colours
        )
        return cls(boundary=boundary, X=points, y=codes, class_names=names).plot(ax=ax)

    def _draw(self, ax: AxesLike | None) -> None:
        (axis,) = _axes(ax, 1, 1, (5.8, 4.2))
        colors = _class_colors(len(self.class_names))
        self.surface_ = self.boundary.plot(plot_method="pcolormesh", ax=axis, zorder=0).surface_
        self.surface_.set(cmap=_pale(colors), clim=(-0.5, len(colors) - 0.5), rasterized=True)
        self.points_ = [
            axis.scatter(
                *self.X[self.y == code].T,
                color=color,
                marker=MARKERS[code % len(MARKERS)],
                s=24,
                edgecolor="white",
                linewidth=0.5,
                label=str(name),
            )
            for code, (color, name) in enumerate(zip(colors, self.class_names, strict=True))
        ]
        # beside the plane, because it would hide rows
        axis.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=8, handletextpad=0.1
        )
        self.ax_, self.figure_ = axis, axis.figure


def _class_colors(n_classes: int) -> Any:
    if n_classes <= len(COLORS):
        return COLORS[:n_classes]
    return import_pyplot().get_cmap("turbo")(np.linspace(0, 1, n_classes))


def _pale(colors: Any) -> Colormap:
    """Colormap of these colours mixed with white."""
    from matplotlib.colors import ListedColormap, to_rgb

    return ListedColormap([0.35 * np.array(to_rgb(color)) + 0.65 for color in colors])


class ConfusionMatrixDisplay(metrics.ConfusionMatrixDisplay):
    """scikit-learn's confusion matrix, readable even with a hundred classes.

    The figure and the letters are as large as the classes need, and names stand upright where they are too
    long. Where cells have no room for values, colours go by the square root, so that mistakes show.
    """

    @classmethod
    def from_estimator(cls, estimator: Any, X: ArrayLike, y: ArrayLike, **options: Any) -> Self:
        """Draw what a classifier predicts for X, against y; options as in scikit-learn."""
        import_pyplot()
        return super().from_estimator(estimator, X, y, **options)

    @classmethod
    def from_predictions(cls, y_true: ArrayLike, y_pred: ArrayLike, **options: Any) -> Self:
        """Draw predicted labels against true ones; options as in scikit-learn."""
        import_pyplot()
        return super().from_predictions(y_true, y_pred, **options)

    def plot(
        self,
        *,
        include_values: bool = True,
        xticks_rotation: Literal["vertical", "horizontal"] | float = "horizontal",
        ax: Axes | None = None,
        colorbar: bool = True,
        im_kw: dict[str, Any] | None = None,
        text_kw: dict[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Draw the matrix.

        Parameters
        ----------
        include_values : bool, default=True
            Whether to write the values, if there is room.
        xticks_rotation : {"vertical", "horizontal"} or float, default="horizontal"
            Long names stand "vertical" all the same.
        ax : matplotlib Axes, default=None
            None makes a figure.
        colorbar : bool, default=True
        im_kw, text_kw : dict, default=None
        **options
            `cmap` and `values_format`, as in scikit-learn.

        Returns
        -------
        self
        """
        import_pyplot()
        from matplotlib.colors import PowerNorm

        n = len(self.confusion_matrix)
        side = min(max(2 + 0.4 * n, 4.5), 13)
        (axis,) = _axes(ax, 1, 1, (1.1 * side, side))
        # Points along a cell; a letter is about 0.6 of its size wide.
        cell = 72 * 0.85 * axis.get_window_extent().width / axis.figure.dpi / n
        fontsize = min(0.75 * cell, 10)
        names = range(n) if self.display_labels is None else self.display_labels
        if xticks_rotation == "horizontal" and 0.6 * fontsize * max(len(str(name)) for name in names) > cell:
            xticks_rotation = "vertical"
        include_values = include_values and cell >= 18
        super().plot(
            include_values=include_values,
            xticks_rotation=xticks_rotation,
            ax=axis,
            colorbar=False,
            im_kw=({} if include_values else {"norm": PowerNorm(0.5)}) | (im_kw or {}),
            text_kw={"fontsize": min(0.4 * cell, 10)} | (text_kw or {}),
            **options,
        )
        axis.tick_params(labelsize=fontsize, length=min(3.5, cell / 3))
        if colorbar:  # as high as the matrix, unlike scikit-learn's
            axis.figure.colorbar(self.im_, cax=axis.inset_axes([1.02, 0, 0.04, 1]))
        return self


# ---- searches --------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class KFoldDisplay(_Display):
    """Scores of each fold against one hyper-parameter, with their mean and standard deviation.

    As the k-nearest-neighbour assignment of CS231n draws them.

    Parameters
    ----------
    param_name : str
    param_values : list of length n_values
        Numbers, or anything else, which is then set out as it comes.
    scores : ndarray of shape (n_values, n_folds)
    score_name : str, default="score"
    fixed : dict, default=None
        The other parameters, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : matplotlib PathCollection
        A point a value and fold.
    errorbar_ : matplotlib ErrorbarContainer
        Means and standard deviations.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> from softline.neighbors import KNeighborsClassifier
    >>> from softline.plots import KFoldDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3, 5, 10, 20, 50]}).fit(X, y)
    >>> KFoldDisplay.from_cv_results(search.cv_results_)  # doctest: +SKIP
    """

    param_name: str
    param_values: Sequence[Any]
    scores: ArrayLike
    score_name: str = "score"
    fixed: Mapping[str, Any] | None = None
    ax_: Axes = field(init=False)
    points_: PathCollection = field(init=False)
    errorbar_: ErrorbarContainer = field(init=False)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        param_name: str | None = None,
        *,
        score_name: str = "score",
        ax: Axes | None = None,
    ) -> Self:
        """Draw the scores of a search against one parameter.

        Parameters
        ----------
        cv_results : dict
            `cv_results_` of GridSearchCV or RandomizedSearchCV.
        param_name : str, default=None
            The parameter. None is allowed where the search has only one. Where it has others, the candidates
            drawn are those that agree with the best one in them.
        score_name : str, default="score"
            Which score, where the search has several.
        ax : matplotlib Axes, default=None
            As for `plot`.

        Returns
        -------
        KFoldDisplay

        Raises
        ------
        ValueError
            If the search has no such parameter or score, or fewer than two candidates to draw.
        """
        names = None if param_name is None else [param_name]
        (param_name,), (values,), candidates, fixed = _candidates(cv_results, names, 1, score_name)
        n_folds = sum(key.startswith("split") and key.endswith(f"_test_{score_name}") for key in cv_results)
        scores = [cv_results[f"split{i}_test_{score_name}"][candidates] for i in range(n_folds)]
        return cls(
            param_name=param_name,
            param_values=values,
            scores=np.transpose(scores),
            score_name=score_name,
            fixed=fixed,
        ).plot(ax=ax)

    def _draw(self, ax: AxesLike | None) -> None:
        (axis,) = _axes(ax, 1, 1, (5.5, 3.8))
        scores = np.asarray(self.scores, dtype=float)
        x = _positions(self.param_values, axis, "x")
        order = np.argsort(x, kind="stable")
        self.points_ = axis.scatter(
            np.repeat(x, scores.shape[1]), scores.ravel(), s=14, alpha=0.6, color=COLORS[0], label="fold"
        )
        self.errorbar_ = axis.errorbar(
            x[order],
            scores.mean(axis=1)[order],
            yerr=scores.std(axis=1)[order],
            color=COLORS[2],
            capsize=3,
            label="mean ± standard deviation",
        )
        axis.set(xlabel=self.param_name, ylabel=f"validation {self.score_name}", title=_fixed(self.fixed))
        axis.grid(alpha=0.3)
        axis.legend(loc="best")
        self.ax_, self.figure_ = axis, axis.figure


@dataclass(kw_only=True, eq=False, repr=False)
class HeatMapDisplay(_Display):
    """Mean scores of a search against two hyper-parameters: cells of a grid, or points of a random search.

    Parameters
    ----------
    param_names : pair of str
        Down, and across.
    param_values : pair of lists of length n_candidates
        Values of each candidate.
    scores : ndarray of shape (n_candidates,)
    score_name : str, default="score"
    fixed : dict, default=None
        The other parameters, for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    im_ : matplotlib AxesImage, or PathCollection where the candidates are no grid
    text_ : ndarray of matplotlib Text, or None where the candidates are no grid
        The scores in the cells.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> from softline import SoftmaxClassifier
    >>> from softline.plots import HeatMapDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> grid = {"learning_rate": [1e-4, 1e-3, 1e-2], "alpha": [1e-4, 1e-2, 1]}
    >>> search = GridSearchCV(SoftmaxClassifier(max_iter=20, tol=None), grid).fit(X, y)
    >>> HeatMapDisplay.from_cv_results(search.cv_results_, ["learning_rate", "alpha"])  # doctest: +SKIP
    """

    param_names: Sequence[str]
    param_values: Sequence[Sequence[Any]]
    scores: Array
    score_name: str = "score"
    fixed: Mapping[str, Any] | None = None
    ax_: Axes = field(init=False)
    im_: AxesImage | PathCollection = field(init=False)
    text_: Array | None = field(init=False)

    @classmethod
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        param_names: Sequence[str] | None = None,
        *,
        score_name: str = "score",
        ax: Axes | None = None,
    ) -> Self:
        """Draw the scores of a search against two parameters.

        Parameters
        ----------
        cv_results : dict
            `cv_results_` of GridSearchCV or RandomizedSearchCV.
        param_names : pair of str, default=None
            The parameters, down and across. None is allowed where the search has only two. Where it has
            others, the candidates drawn are those that agree with the best one in them.
        score_name : str, default="score"
            Which score, where the search has several.
        ax : matplotlib Axes, default=None
            As for `plot`.

        Returns
        -------
        HeatMapDisplay

        Raises
        ------
        ValueError
            If the search has no such parameters or score, or fewer than two candidates to draw.
        """
        names, values, candidates, fixed = _candidates(cv_results, param_names, 2, score_name)
        return cls(
            param_names=names,
            param_values=values,
            scores=np.asarray(cv_results[f"mean_test_{score_name}"])[candidates],
            score_name=score_name,
            fixed=fixed,
        ).plot(ax=ax)

    def _draw(self, ax: AxesLike | None) -> None:
        down, across = self.param_values
        rows, columns = _ordered(down), _ordered(across)
        is_grid = len(self.scores) == len(rows) * len(columns)
        size = (2.5 + 0.7 * len(columns), 1.6 + 0.45 * len(rows)) if is_grid else (5.5, 4)
        (axis,) = _axes(ax, 1, 1, size)
        self.text_ = None
        if is_grid:
            cells = np.full((len(rows), len(columns)), np.nan)
            for value, other, score in zip(down, across, self.scores, strict=True):
                cells[rows.index(value), columns.index(other)] = score
            self._draw_cells(axis, cells)
            axis.set_yticks(range(len(rows)), map(_text, rows))
            axis.set_xticks(range(len(columns)), map(_text, columns))
        else:
            x, y = _positions(across, axis, "x"), _positions(down, axis, "y")
            self.im_ = axis.scatter(x, y, c=self.scores, s=60, edgecolor="0.3", linewidth=0.5)
            best = np.nanargmax(self.scores)
            axis.scatter(x[best], y[best], s=160, facecolor="none", edgecolor=COLORS[2], linewidth=2)
        axis.set(xlabel=self.param_names[1], ylabel=self.param_names[0], title=_fixed(self.fixed))
        axis.figure.colorbar(self.im_, ax=axis, label=f"mean validation {self.score_name}")
        self.ax_, self.figure_ = axis, axis.figure

    def _draw_cells(self, axis: Axes, cells: Array) -> None:
        self.im_ = axis.imshow(cells, aspect="auto")
        middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
        self.text_ = np.empty(cells.shape, dtype=object)
        for (i, j), score in np.ndenumerate(cells):
            color = "white" if score < middle else "black"
            self.text_[i, j] = axis.text(j, i, f"{score:.3f}", ha="center", va="center", color=color)
        i, j = np.unravel_index(np.nanargmax(cells), cells.shape)
        axis.add_patch(
            import_pyplot().Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=COLORS[2], linewidth=3)
        )


def _candidates(
    cv_results: Mapping[str, Any], names: Sequence[str] | None, n: int, score_name: str
) -> tuple[Sequence[str], list[list[Any]], Array, dict[str, Any]]:
    """Candidates that differ from the best in `n` parameters only.

    Returns the names of the parameters, their values by candidate, the indices of the candidates, and the
    parameters that these share.
    """
    searched = [key.removeprefix("param_") for key in cv_results if key.startswith("param_")]
    scores = cv_results.get(f"mean_test_{score_name}")
    if scores is None or not searched:
        known = [key.removeprefix("mean_test_") for key in cv_results if key.startswith("mean_test_")]
        raise ValueError(
            f"cv_results has no parameters with a mean_test_{score_name}; its scores are: {', '.join(known)}"
        )
    if np.isnan(scores).all():
        raise ValueError(f"every mean_test_{score_name} of cv_results is NaN")
    if names is None:
        names = searched
    if len(names) != n or set(names) - set(searched) or len(set(names)) != n:
        raise ValueError(f"expected {n} of the parameters {', '.join(searched)}; got {', '.join(names)}")
    params = cv_results["params"]
    others = [name for name in searched if name not in names]
    best = params[int(np.nanargmax(scores))]
    fixed = {name: best[name] for name in others if name in best}
    chosen = [
        i
        for i, candidate in enumerate(params)
        if {name: candidate[name] for name in others if name in candidate} == fixed
        and all(name in candidate for name in names)
    ]
    if len(chosen) < 2:
        raise ValueError(
            f"fewer than two candidates differ from the best in nothing but {' and '.join(names)}; "
            f"{', '.join(others) or 'nothing else'} varies, too"
        )
    return names, [[params[i][name] for i in chosen] for name in names], np.array(chosen), fixed


def _fixed(parameters: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in (parameters or {}).items())


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Distinct values: numbers by size, anything else as it came."""
    distinct = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return sorted(distinct) if all(map(_is_number, distinct)) else distinct


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, (float, np.floating)) else str(value)


def _positions(values: Sequence[Any], axis: Axes, which: Literal["x", "y"]) -> Array:
    """Positions of parameter values: numbers themselves, on a logarithmic axis if they span decades."""
    if all(map(_is_number, values)):
        values = np.array(values, dtype=float)
        if values.min() > 0 and values.max() >= 30 * values.min():
            axis.set(**{f"{which}scale": "log"})
            ticks = np.unique(values)
            if len(ticks) <= 8:
                axis.set(**{f"{which}ticks": ticks, f"{which}ticklabels": [f"{tick:.3g}" for tick in ticks]})
                axis.minorticks_off()
        return values
    names = _ordered(values)
    axis.set(**{f"{which}ticks": range(len(names)), f"{which}ticklabels": list(map(_text, names))})
    return np.array([names.index(value) for value in values], dtype=float)
