import subprocess
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn import metrics, neural_network
from sklearn.datasets import make_blobs, make_circles
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from softline import SoftmaxClassifier, datasets, plots
from softline.linear_model import LogisticRegression
from softline.neural_network import MLPClassifier
from softline.plots import (
    ConfusionMatrixDisplay,
    DecisionRegionsDisplay,
    HeatMapDisplay,
    KFoldDisplay,
    TemplatesDisplay,
    TrainingCurveDisplay,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
pyplot = pytest.importorskip("matplotlib.pyplot")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def draws_without_warning():
    """What a test has drawn can be rendered, its letters and layout included."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in pyplot.get_fignums():
            pyplot.figure(number).draw_without_rendering()
    pyplot.close("all")


@pytest.fixture(scope="module")
def model(digits):
    X, X_val, y, y_val = digits
    return SoftmaxClassifier(max_iter=5, tol=None, random_state=0).fit(X, y, eval_set=(X_val, y_val))


# ---- training --------------------------------------------------------------------------------------------


def test_curves_are_those_of_the_fit(model):
    display = TrainingCurveDisplay.from_estimator(model)
    assert [axis.get_ylabel() for axis in display.axes_] == ["loss", "accuracy"]
    loss, score = display.lines_["loss", "training"], display.lines_["accuracy", "validation"]
    assert (loss.axes, score.axes) == tuple(display.axes_)
    np.testing.assert_array_equal(loss.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(loss.get_ydata(), model.loss_curve_)
    np.testing.assert_array_equal(score.get_ydata(), model.validation_scores_)
    assert loss.get_color() != score.get_color()
    assert display.figure_ is display.axes_[0].figure


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier(max_iter=3),
        neural_network.MLPClassifier(max_iter=3),
        make_pipeline(StandardScaler(), SoftmaxClassifier(max_iter=3)),
        GridSearchCV(SoftmaxClassifier(max_iter=3), {"alpha": [0.1, 1]}, cv=2),
        SoftmaxClassifier(max_iter=3, solver="lbfgs"),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_curves_of_other_estimators(estimator, digits):
    X, _, y, _ = digits
    display = TrainingCurveDisplay.from_estimator(estimator.fit(X[:300], y[:300]))
    (axis,) = display.axes_  # no validation rows
    assert len(axis.lines) == 1
    assert len(display.lines_["loss", "training"].get_ydata()) == 3


def test_curves_of_a_regressor():
    X = np.random.RandomState(0).randn(100, 3)
    model = neural_network.MLPRegressor(max_iter=3, early_stopping=True).fit(X, X[:, 0])
    display = TrainingCurveDisplay.from_estimator(model)
    np.testing.assert_array_equal(display.lines_["R²", "validation"].get_ydata(), model.validation_scores_)


def test_curves_of_ones_own():
    scores = {"training": [0.5, 0.7, 0.8], "validation": [0.4, 0.6]}
    display = TrainingCurveDisplay(losses={"training": [2, 1]}, scores=scores).plot()
    assert {key: line.get_ydata().tolist() for key, line in display.lines_.items()} == {
        ("loss", "training"): [2, 1],
        ("accuracy", "training"): [0.5, 0.7, 0.8],
        ("accuracy", "validation"): [0.4, 0.6],
    }
    colors = {key: line.get_color() for key, line in display.lines_.items()}
    assert colors["loss", "training"] == colors["accuracy", "training"] != colors["accuracy", "validation"]
    with pytest.raises(ValueError, match="neither losses nor scores"):
        TrainingCurveDisplay().plot()


def test_curves_need_a_history(digits):
    X, _, y, _ = digits
    with pytest.raises(NotFittedError):
        TrainingCurveDisplay.from_estimator(SoftmaxClassifier())
    with pytest.raises(ValueError, match="KNeighborsClassifier has no loss_curve_"):
        TrainingCurveDisplay.from_estimator(KNeighborsClassifier().fit(X, y))


def test_where_to_draw(model):
    figure, axes = pyplot.subplots(1, 3)
    display = TrainingCurveDisplay.from_estimator(model, ax=axes[:2])
    assert list(display.axes_) == list(axes[:2])
    display.plot(ax=axes[2])  # one axes makes room for two
    assert display.figure_ is figure
    assert len(figure.axes) == 5
    assert not axes[2].axison
    assert all(axes[2].get_position().contains(*axis.get_position().min + 1e-6) for axis in display.axes_)
    with pytest.raises(ValueError, match="ax has 3 axes; expected 2"):
        display.plot(ax=axes)
    with pytest.raises(ValueError, match="no room to divide"):
        display.plot(ax=figure.add_axes([0, 0, 1, 1]))


# ---- templates -------------------------------------------------------------------------------------------


def rescaled(weights):
    """-1..1, by the 99th percentile of the sizes."""
    return np.clip(weights / np.quantile(abs(weights), 0.99), -1, 1)


def test_grey_templates_are_the_weights(model):
    display = TemplatesDisplay.from_estimator(model)
    assert len(display.axes_) == len(display.images_) == 10
    for label, image in enumerate(display.images_):
        np.testing.assert_allclose(image.get_array(), rescaled(model.coef_[label]).reshape(8, 8))
        assert image.get_clim() == (-1, 1)  # 0 is the middle of the colours
        assert image.axes.get_title() == str(label)
    # five and five
    assert display.axes_[0].get_gridspec().get_geometry() == (2, 5)


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5, 3)])
def test_colour_templates(shape):
    W = np.random.RandomState(0).randn(2, 60)
    display = TemplatesDisplay(templates=W, image_shape=shape, names=["cat", "dog"]).plot()
    for weights, image, name in zip(W, display.images_, ["cat", "dog"], strict=True):
        expected = (1 + rescaled(weights).reshape(shape)) / 2
        expected = expected.transpose(1, 2, 0) if shape[0] == 3 else expected
        np.testing.assert_allclose(image.get_array(), expected)
        assert image.axes.get_title() == name


def test_cifar10_is_drawn_as_its_loader_lays_it_out():
    """A model that looks for blue at the top left."""
    X = np.zeros((2, *datasets.CIFAR10_SHAPE), np.uint8)
    X[1, 2, :10, :12] = 255
    model = SoftmaxClassifier(max_iter=1, tol=None).fit(X.reshape(2, -1), [0, 1])
    names = ["background", "blue"]
    image = TemplatesDisplay.from_estimator(model, class_names=names).images_[1].get_array()
    assert image.shape == (32, 32, 3)
    assert np.all(image[:10, :12, 2] == 1)
    assert np.all(image[:, :, :2] == 0.5)
    assert np.all(image[10:] == 0.5) and np.all(image[:, 12:] == 0.5)


def test_templates_of_networks_and_of_two_classes(digits):
    X, _, y, _ = digits
    network = make_pipeline(StandardScaler(), MLPClassifier((7, 5), max_iter=2)).fit(X, y)
    display = TemplatesDisplay.from_estimator(network)
    for weights, image in zip(network[-1].coefs_[0].T, display.images_, strict=True):
        np.testing.assert_allclose(image.get_array(), rescaled(weights).reshape(8, 8))
    assert len(display.figure_.axes) == 7  # of 3 x 3; the rest is not there

    log_odds = LogisticRegression().fit(X[y < 2], y[y < 2])
    display = TemplatesDisplay.from_estimator(log_odds, class_names=["nought", "one"])
    assert [axis.get_title() for axis in display.axes_] == ["one"]
    softmax = SoftmaxClassifier(max_iter=2).fit(X[y < 2], y[y < 2])
    display = TemplatesDisplay.from_estimator(softmax, class_names=["nought", "one"])
    assert [axis.get_title() for axis in display.axes_] == ["nought", "one"]


def test_weights_of_zero_are_grey():
    display = TemplatesDisplay(templates=np.zeros((1, 12)), image_shape=(2, 2, 3)).plot()
    assert np.all(display.images_[0].get_array() == 0.5)
    sparse = np.zeros((1, 400))
    sparse[0, 7] = -0.01
    display = TemplatesDisplay(templates=sparse, image_shape=(20, 20)).plot()
    np.testing.assert_array_equal(display.images_[0].get_array().ravel(), 100 * sparse[0])


def test_templates_that_cannot_be_drawn(model, digits):
    X, _, y, _ = digits
    with pytest.raises(ValueError, match=r"image_shape=\(4, 4\) has 16 values; a template has 64"):
        TemplatesDisplay.from_estimator(model, image_shape=(4, 4))
    with pytest.raises(ValueError, match=r"image_shape=\(64,\) is no image; expected \(height, width\)"):
        TemplatesDisplay.from_estimator(model, image_shape=(64,))
    with pytest.raises(ValueError, match=r"image_shape=\(4, 4, 4\) is no image"):
        TemplatesDisplay.from_estimator(model, image_shape=(4, 4, 4))
    with pytest.raises(ValueError, match="class_names has 2 names for 10 classes"):
        TemplatesDisplay.from_estimator(model, class_names=["cat", "dog"])
    with pytest.raises(ValueError, match="20 features may be images of several shapes; give image_shape"):
        TemplatesDisplay.from_estimator(make_pipeline(PCA(20), SoftmaxClassifier(max_iter=1)).fit(X, y))
    with pytest.raises(ValueError, match="KNeighborsClassifier has no weights"):
        TemplatesDisplay.from_estimator(KNeighborsClassifier().fit(X, y))
    one_vs_one = SVC(kernel="linear").fit(X[y < 4], y[y < 4])
    with pytest.raises(ValueError, match="names has 4 names for 6 templates"):
        TemplatesDisplay.from_estimator(one_vs_one)


# ---- decision regions ------------------------------------------------------------------------------------

RINGS = make_circles(60, noise=0.05, factor=0.4, random_state=0)
BLOBS = make_blobs(60, centers=4, random_state=0)
NAMES = np.array(["ant", "bee", "cat", "dog"])


@pytest.mark.parametrize("estimator", [SoftmaxClassifier(), MLPClassifier((8,)), KNeighborsClassifier()])
@pytest.mark.parametrize("X, y", [(RINGS[0], RINGS[1] * 3 - 1), (BLOBS[0], NAMES[BLOBS[1]])])
def test_regions_are_what_is_predicted(estimator, X, y):
    estimator.fit(X, y)
    display = DecisionRegionsDisplay.from_estimator(estimator, X, y, grid_resolution=20)
    grid = np.column_stack([display.boundary.xx0.ravel(), display.boundary.xx1.ravel()])
    assert grid.shape == (400, 2)
    beyond = 0.1 * np.ptp(X, axis=0).max()
    np.testing.assert_allclose(grid.min(axis=0), X.min(axis=0) - beyond)
    np.testing.assert_allclose(grid.max(axis=0), X.max(axis=0) + beyond)
    codes = display.surface_.get_array().ravel().astype(int)
    np.testing.assert_array_equal(estimator.classes_[codes], estimator.predict(grid))
    # a pale colour a class
    regions = display.surface_.to_rgba(np.arange(len(estimator.classes_)))
    assert len(np.unique(regions, axis=0)) == len(estimator.classes_)
    for label, points, region in zip(estimator.classes_, display.points_, regions, strict=True):
        np.testing.assert_array_equal(points.get_offsets(), X[y == label])
        np.testing.assert_allclose(region[:3], 0.65 + 0.35 * points.get_facecolor()[0, :3])
        assert points.get_label() == str(label)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("feature 0", "feature 1")
    display.figure_.draw_without_rendering()
    legend, plane = display.ax_.get_legend().get_window_extent(), display.ax_.get_window_extent()
    assert legend.x0 >= plane.x1 and legend.x1 <= display.figure_.bbox.x1  # it hides no row, and is whole


def test_regions_of_frames_and_names():
    pandas = pytest.importorskip("pandas")
    X, y = RINGS
    frame = pandas.DataFrame(X, columns=["brown", "white"])
    model = SoftmaxClassifier().fit(frame, y)
    _, ax = pyplot.subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that X has no feature names
        display = DecisionRegionsDisplay.from_estimator(model, frame, y, class_names=["dog", "panda"], ax=ax)
    assert display.ax_ is ax
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("brown", "white")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["dog", "panda"]


def test_more_classes_than_colours():
    y = np.arange(60) % 12
    display = DecisionRegionsDisplay.from_estimator(
        KNeighborsClassifier(1).fit(RINGS[0], y), RINGS[0], y, grid_resolution=20
    )
    assert len({tuple(points.get_facecolor()[0]) for points in display.points_}) == 12


def test_regions_that_cannot_be_drawn(model, digits):
    X, _, y, _ = digits
    fitted = SoftmaxClassifier().fit(*RINGS)
    with pytest.raises(NotFittedError):
        DecisionRegionsDisplay.from_estimator(SoftmaxClassifier(), *RINGS)
    with pytest.raises(ValueError, match="n_features must be equal to 2"):
        DecisionRegionsDisplay.from_estimator(model, X, y)
    with pytest.raises(ValueError, match="unseen labels"):
        DecisionRegionsDisplay.from_estimator(fitted, RINGS[0], RINGS[1] + 1)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        DecisionRegionsDisplay.from_estimator(fitted, RINGS[0], RINGS[1][1:])
    with pytest.raises(ValueError, match="class_names has 1 names for 2 classes"):
        DecisionRegionsDisplay.from_estimator(fitted, *RINGS, class_names=["dog"])


# ---- confusion matrix ------------------------------------------------------------------------------------


def test_confusion_matrix(model, digits):
    _, X, _, y = digits
    display = ConfusionMatrixDisplay.from_estimator(model, X, y)
    expected = metrics.confusion_matrix(y, model.predict(X))
    np.testing.assert_array_equal(display.im_.get_array(), expected)
    assert [[int(cell.get_text()) for cell in row] for row in display.text_] == expected.tolist()
    assert display.ax_.get_xticklabels()[0].get_rotation() == 0
    again = ConfusionMatrixDisplay.from_predictions(
        y, model.predict(X), normalize="true", display_labels=[f"the digit {i}" for i in range(10)]
    )
    np.testing.assert_allclose(again.im_.get_array().sum(axis=1), 1)
    assert again.ax_.get_xticklabels()[0].get_rotation() == 90


@pytest.mark.parametrize("n", [2, 26, 100])
def test_letters_of_many_classes_do_not_overlap(n):
    y = np.arange(n)
    names, thousands = [f"class {i}" for i in y], np.full(n, 1000)
    display = ConfusionMatrixDisplay.from_predictions(
        y, y[::-1], display_labels=names, sample_weight=thousands
    )
    display.figure_.draw_without_rendering()
    axis = display.ax_
    for labels, side in ((axis.get_xticklabels(), "x"), (axis.get_yticklabels(), "y")):
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) == n
        ends = sorted((getattr(box, f"{side}0"), getattr(box, f"{side}1")) for box in boxes)
        assert all(end <= start for (_, end), (start, _) in pairwise(ends))
    if n <= 26:
        cell = axis.get_window_extent().width / n
        assert {text.get_text() for text in display.text_.flat} == {"0", "1000"}
        assert max(text.get_window_extent().width for text in display.text_.flat) < cell
    else:
        assert display.text_ is None
        # one mistake of a hundred can be told from none
        none, one = display.im_.to_rgba(0), display.im_.to_rgba(10)
        assert np.abs(np.subtract(none, one)).max() > 0.05


def test_a_confusion_matrix_where_one_says():
    _, axes = pyplot.subplots(1, 2)
    y = np.arange(30)
    display = ConfusionMatrixDisplay.from_predictions(y, y, ax=axes[1], colorbar=False, cmap="Blues")
    assert display.ax_ is axes[1]
    assert display.text_ is None
    assert display.im_.get_cmap().name == "Blues"
    assert not axes[1].child_axes


# ---- searches --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(digits):
    X, _, y, _ = digits
    return X[:300], y[:300]


@pytest.fixture(scope="module")
def grid(small):
    """Two parameters, and one of text."""
    parameters = {"learning_rate": [1e-3, 1e-5, 1e-4], "alpha": [1e-3, 1], "schedule": ["constant", "cosine"]}
    estimator = SoftmaxClassifier(max_iter=3, tol=None, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GridSearchCV(estimator, parameters, cv=3).fit(*small).cv_results_


def test_k_folds(small):
    search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 50, 5, 10]}, cv=4).fit(*small)
    results = search.cv_results_
    display = KFoldDisplay.from_cv_results(results)
    points = display.points_.get_offsets().reshape(4, 4, 2)
    for i, k in enumerate([1, 50, 5, 10]):
        np.testing.assert_array_equal(points[i, :, 0], k)
        np.testing.assert_array_equal(points[i, :, 1], [results[f"split{j}_test_score"][i] for j in range(4)])
    line, _, (bars,) = display.errorbar_
    order = [0, 2, 3, 1]
    np.testing.assert_array_equal(line.get_xdata(), [1, 5, 10, 50])
    np.testing.assert_allclose(line.get_ydata(), results["mean_test_score"][order])
    lengths = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
    np.testing.assert_allclose(lengths, results["std_test_score"][order])
    assert display.ax_.get_xscale() == "log"
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["1", "5", "10", "50"]
    assert display.ax_.get_xlabel() == "n_neighbors"


def test_k_folds_go_through_the_best(grid):
    display = KFoldDisplay.from_cv_results(grid, "learning_rate")
    best = grid["params"][grid["mean_test_score"].argmax()]
    assert display.fixed == {"alpha": best["alpha"], "schedule": best["schedule"]}
    expected = {
        params["learning_rate"]: score
        for params, score in zip(grid["params"], grid["mean_test_score"], strict=True)
        if {**params, "learning_rate": 0} == {**best, "learning_rate": 0}
    }
    line, *_ = display.errorbar_
    assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == pytest.approx(expected)
    assert f"schedule={best['schedule']}" in display.ax_.get_title()


def test_candidates_that_failed_are_not_the_best(grid):
    scores = grid["mean_test_score"].copy()
    best = grid["params"][scores.argmax()]
    scores[(scores.argmax() + 1) % len(scores)] = np.nan
    display = KFoldDisplay.from_cv_results(grid | {"mean_test_score": scores}, "learning_rate")
    assert display.fixed == {"alpha": best["alpha"], "schedule": best["schedule"]}


def test_parameters_of_text(grid):
    display = KFoldDisplay.from_cv_results(grid, "schedule")
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["constant", "cosine"]
    np.testing.assert_array_equal(display.errorbar_[0].get_xdata(), [0, 1])


def test_heat_map_of_a_grid(grid):
    display = HeatMapDisplay.from_cv_results(grid, ["alpha", "learning_rate"])
    (schedule,) = display.fixed.values()
    cells = display.im_.get_array()
    for params, score in zip(grid["params"], grid["mean_test_score"], strict=True):
        if params["schedule"] == schedule:
            i = [1e-3, 1].index(params["alpha"])
            j = [1e-5, 1e-4, 1e-3].index(params["learning_rate"])
            assert cells[i, j] == score
            assert display.text_[i, j].get_text() == f"{score:.3f}"
            assert display.text_[i, j].get_position() == (j, i)
    assert cells.shape == (2, 3)
    assert [tick.get_text() for tick in display.ax_.get_xticklabels()] == ["1e-05", "0.0001", "0.001"]
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == ["0.001", "1"]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("learning_rate", "alpha")
    (frame,) = display.ax_.patches
    i, j = np.unravel_index(cells.argmax(), cells.shape)
    assert frame.get_xy() == (j - 0.5, i - 0.5)


def test_heat_map_of_a_random_search(small):
    parameters = {"learning_rate": loguniform(1e-5, 1e-2), "alpha": loguniform(1e-4, 1)}
    estimator = SoftmaxClassifier(max_iter=2, tol=None, random_state=0)
    search = RandomizedSearchCV(estimator, parameters, n_iter=6, cv=2, random_state=0).fit(*small)
    display = HeatMapDisplay.from_cv_results(search.cv_results_, ["alpha", "learning_rate"])
    expected = [(params["learning_rate"], params["alpha"]) for params in search.cv_results_["params"]]
    np.testing.assert_array_equal(display.im_.get_offsets(), expected)
    np.testing.assert_array_equal(display.im_.get_array(), search.cv_results_["mean_test_score"])
    assert (display.ax_.get_xscale(), display.ax_.get_yscale()) == ("log", "log")
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("learning_rate", "alpha")
    assert display.text_ is None
    best = display.ax_.collections[-1].get_offsets()[0]
    assert dict(zip(["learning_rate", "alpha"], best, strict=True)) == search.best_params_
    with pytest.raises(ValueError, match=r"fewer than two candidates.*alpha varies, too"):
        KFoldDisplay.from_cv_results(search.cv_results_, "learning_rate")


def test_several_scores(small):
    search = GridSearchCV(
        KNeighborsClassifier(), {"n_neighbors": [1, 3]}, cv=2, scoring=["accuracy", "f1_macro"], refit=False
    ).fit(*small)
    display = KFoldDisplay.from_cv_results(search.cv_results_, score_name="f1_macro")
    np.testing.assert_allclose(
        display.errorbar_[0].get_ydata(), search.cv_results_["mean_test_f1_macro"], rtol=1e-12
    )
    assert display.ax_.get_ylabel() == "validation f1_macro"
    with pytest.raises(
        ValueError, match="no parameters with a mean_test_score; its scores are: accuracy, f1"
    ):
        KFoldDisplay.from_cv_results(search.cv_results_)


def test_searches_that_cannot_be_drawn(grid):
    with pytest.raises(ValueError, match=r"expected 1 of the parameters .*; got gamma"):
        KFoldDisplay.from_cv_results(grid, "gamma")
    with pytest.raises(ValueError, match="expected 2 of the parameters alpha, learning_rate, schedule; got"):
        HeatMapDisplay.from_cv_results(grid)
    with pytest.raises(ValueError, match="got alpha, alpha"):
        HeatMapDisplay.from_cv_results(grid, ["alpha", "alpha"])
    with pytest.raises(ValueError, match="every mean_test_score of cv_results is NaN"):
        KFoldDisplay.from_cv_results({**grid, "mean_test_score": np.full(12, np.nan)}, "alpha")


# ---- without matplotlib ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        "TrainingCurveDisplay(losses={'training': [2, 1]}).plot()",
        "TemplatesDisplay(templates=np.eye(4), image_shape=(2, 2)).plot()",
        "DecisionRegionsDisplay.from_estimator(KNeighborsClassifier(1).fit(X, y), X, y)",
        "ConfusionMatrixDisplay.from_predictions(y, y)",
        "ConfusionMatrixDisplay.from_estimator(KNeighborsClassifier(1).fit(X, y), X, y)",
        "HeatMapDisplay(param_names='ab', param_values=[[1, 2], [3, 4]], scores=[1, 2]).plot()",
        "KFoldDisplay(param_name='a', param_values=[1, 2], scores=np.eye(2)).plot()",
    ],
)
def test_without_matplotlib_the_error_names_the_extra(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    X, y = RINGS
    with pytest.raises(ImportError, match=r'softline.plots needs matplotlib: pip install "softline\[plot\]"'):
        eval(call, {**vars(plots), "np": np, "KNeighborsClassifier": KNeighborsClassifier, "X": X, "y": y})


def test_importing_plots_does_not_import_matplotlib():
    code = "import sys, softline.plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
