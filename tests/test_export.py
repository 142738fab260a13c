import json
import pickle
import subprocess
import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
import sklearn
from scipy.special import expit, softmax
from sklearn import linear_model as of_sklearn
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.neighbors import KNeighborsClassifier as SklearnKNeighborsClassifier
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.svm import SVC

from softline import SoftmaxClassifier, load_model, save_model
from softline._cli.commands import main
from softline.export import from_sklearn, to_onnx, to_sklearn, to_torch
from softline.linear_model import LeastSquaresClassifier, LogisticRegression
from softline.neighbors import KNeighborsClassifier
from softline.neural_network import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

sklearn_version = tuple(map(int, sklearn.__version__.split(".")[:2]))
rng = np.random.default_rng(0)
N, D = 308, 6
X = rng.standard_normal((N, D)) * [1, 10, 0.1, 1, 3, 1] + 1
SCORES = X @ rng.standard_normal((D, 77)) + rng.standard_normal((N, 77))

MODELS = {
    "softmax": SoftmaxClassifier(max_iter=3, random_state=0),
    "standardised": SoftmaxClassifier(max_iter=3, standardize=True, random_state=0),
    "logistic": LogisticRegression(max_iter=20),
    "least squares": LeastSquaresClassifier(),
    "network": MLPClassifier((8, 5), max_iter=3, standardize=True, dropout=0.2, random_state=0),
}
ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "leaky_relu")


def codes(n_classes):
    """Labels 0..n_classes-1, each of them there."""
    y = SCORES[:, :n_classes].argmax(axis=1)
    y[:n_classes] = np.arange(n_classes)
    return y


def trained(name, y=None, dtype=np.float64):
    return clone(MODELS[name]).fit(X.astype(dtype), codes(3) if y is None else y)


def reference(model, X):
    """Scores (N, C) in float64, of NumPy; one column for two classes with one row of weights."""
    A = np.asarray(X, float)
    if not hasattr(model, "coefs_"):
        return A @ model.coef_.astype(float).T + model.intercept_
    f = {
        "identity": lambda z: z,
        "logistic": expit,
        "tanh": np.tanh,
        "relu": lambda z: np.maximum(z, 0),
        "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    }[model.activation]
    for i, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        A = (A if i == 0 else f(A)) @ W.astype(float) + b
    return A


def reference_proba(model, X):
    scores = reference(model, X)
    if scores.shape[1] > 1:
        return softmax(scores, axis=1)
    return np.column_stack([expit(-scores), expit(scores)])


# ---- ONNX ------------------------------------------------------------------------------------------------


def run(model, X, **options):
    """What onnxruntime makes of rows: a dict of the outputs. The graph is checked before."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    graph = to_onnx(model, **options)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3, 10, 77])
@pytest.mark.parametrize("name", MODELS)
def test_onnx_gives_labels_and_probabilities(name, n_classes, dtype):
    model = trained(name, codes(n_classes), dtype)
    got = run(model, X.astype(dtype))
    label = got.pop("label")
    assert label.dtype == np.int64
    assert np.array_equal(label, model.predict(X.astype(dtype)))
    ((what, values),) = got.items()
    assert values.dtype == dtype
    if name == "least squares":
        assert what == "scores"
        expected = reference(model, X.astype(dtype))
        expected = np.column_stack([-expected, expected]) if n_classes == 2 else expected
    else:
        assert what == "probabilities"
        expected = reference_proba(model, X.astype(dtype))
    assert np.abs(values - expected).max() < (1e-12 if dtype == np.float64 else 1e-6)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([-5, 0, 7]),
        np.array([0, 200, 255], np.uint8),
        np.array([0.0, 1.0, 2.0]),
        np.array([1, 2, 2**53 + 1], object),
        np.array(["b", "été", "a long one"]),
        np.array(["b", "été", ""], object),
    ],
    ids=lambda labels: labels.dtype.str,
)
@pytest.mark.parametrize("name", MODELS)
def test_onnx_labels(name, labels):
    model = trained(name, labels[codes(3)])
    label = run(model, X)["label"]
    assert label.dtype == (object if labels.dtype.kind == "U" or "" in labels.tolist() else np.int64)
    assert label.tolist() == model.predict(X).tolist()


@pytest.mark.parametrize("labels", [np.array([False, True]), np.array(["no", "yes"])])
@pytest.mark.parametrize("name", MODELS)
def test_onnx_labels_of_two_classes(name, labels):
    model = trained(name, labels[codes(2)])
    assert run(model, X)["label"].tolist() == model.predict(X).tolist()


def test_onnx_refuses_labels_that_int64_does_not_hold():
    pytest.importorskip("onnx")
    model = trained("softmax", np.array([0, 1, 2**64 - 1], np.uint64)[codes(3)])
    with pytest.raises(
        ValueError, match=r"labels that are text, bools or numbers that int64 holds; got .*uint64"
    ):
        to_onnx(model)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (7,), (7, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_onnx_networks(dtype, hidden, activation):
    rows = X.astype(dtype)
    for n_classes in (2, 3):
        model = MLPClassifier(hidden, activation, max_iter=2, standardize=True, random_state=0)
        model.fit(rows, codes(n_classes))
        got = run(model, rows)
        assert np.array_equal(got["label"], model.predict(rows))
        error = np.abs(got["probabilities"] - reference_proba(model, rows)).max()
        assert error < (1e-12 if dtype == np.float64 else 1e-6)


def test_onnx_networks_of_several_labels_a_row():
    model = MLPClassifier((8,), max_iter=5, random_state=0).fit(X, (SCORES[:, :4] > 0).astype(int))
    got = run(model, X)
    assert got["label"].dtype == np.int64
    assert np.array_equal(got["label"], model.predict(X))
    assert np.abs(got["probabilities"] - model.predict_proba(X)).max() < 1e-12


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.bool_, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["softmax", "network"])
def test_onnx_input_of_any_dtype(name, dtype):
    rows = (X > 1 if dtype is np.bool_ else np.abs(X)).astype(dtype)
    model = clone(MODELS[name]).fit(rows, codes(3))
    assert (model.coefs_[0] if name == "network" else model.coef_).itemsize == (
        8 if dtype is np.float64 else 4
    )
    got = run(model, rows, dtype=dtype)
    assert got["probabilities"].dtype == model.predict_proba(rows).dtype
    assert np.abs(got["probabilities"] - reference_proba(model, rows)).max() < 1e-6
    assert np.array_equal(got["label"], model.predict(rows))


def test_onnx_computes_in_float64_where_x_is():
    model = trained("network", dtype=np.float32)
    got = run(model, X, dtype=np.float64)
    assert got["probabilities"].dtype == np.float64
    assert np.abs(got["probabilities"] - reference_proba(model, X)).max() < 1e-12


def test_onnx_takes_bfloat16():
    onnx, ml_dtypes = pytest.importorskip("onnx"), pytest.importorskip("ml_dtypes")
    graph = to_onnx(trained("softmax", dtype=np.float32), dtype=ml_dtypes.bfloat16)
    onnx.checker.check_model(graph, full_check=True)
    assert graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16


@pytest.mark.parametrize("dtype", [np.int32, ">f4", "c8"])
def test_onnx_refuses_other_dtypes(dtype):
    pytest.importorskip("onnx")
    with pytest.raises(TypeError, match=r"dtype must be one that softline reads, float32, .*; got"):
        to_onnx(trained("softmax"), dtype=dtype)


def test_onnx_refuses_images_of_other_shapes():
    pytest.importorskip("onnx")
    with pytest.raises(ValueError, match=r"image_shape=\(2, 2\) has 4 values; the model takes 6 features"):
        to_onnx(trained("softmax"), image_shape=(2, 2))


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_onnx_takes_any_number_of_rows(name, n):
    model = trained(name)
    label, values = run(model, X[:n]).values()
    assert label.shape == (n,)
    assert values.shape == (n, 3)
    if n:
        assert np.array_equal(label, model.predict(X[:n]))


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", ["softmax", "logistic", "least squares", "network"])
def test_onnx_takes_the_first_of_equal_scores(name, n_classes):
    model = trained(name, codes(n_classes) + 5)
    for array in (
        [*model.coefs_, *model.intercepts_] if name == "network" else [model.coef_, model.intercept_]
    ):
        array[...] = 0
    assert run(model, X)["label"].tolist() == model.predict(X).tolist() == [5] * N


def test_onnx_of_weights_that_are_sparse():
    model = trained("logistic")
    expected = model.predict_proba(X)
    got = run(model.sparsify(), X)
    assert np.abs(got["probabilities"] - expected).max() < 1e-12


def test_onnx_says_what_it_is(tmp_path):
    onnx = pytest.importorskip("onnx")
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcdef"))
    model = clone(MODELS["softmax"]).fit(table, codes(3))
    graph = to_onnx(model, tmp_path / "m.onnx", image_shape=(np.int64(2), 3))
    assert (graph.ir_version, graph.producer_name) == (8, "softline")
    assert graph.producer_version.count(".") == 2
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 17)]
    assert graph.doc_string
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert metadata.pop("estimator") == "SoftmaxClassifier"
    assert {key: json.loads(value) for key, value in metadata.items()} == {
        "feature_names": list("abcdef"),
        "image_shape": [2, 3],
    }
    assert [dim.dim_param or dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim] == [
        "N",
        D,
    ]
    assert onnx.load(tmp_path / "m.onnx") == graph
    assert [entry.key for entry in to_onnx(trained("network")).metadata_props] == ["estimator"]


@pytest.mark.parametrize("name", MODELS)
def test_onnx_of_the_same_model_is_the_same_file(name, tmp_path):
    pytest.importorskip("onnx")
    model = trained(name, np.array(["b", "a", "c"])[codes(3)])
    to_onnx(model, tmp_path / "1.onnx")
    save_model(model, tmp_path / "m")
    to_onnx(load_model(tmp_path / "m"), tmp_path / "2.onnx")
    assert (tmp_path / "1.onnx").read_bytes() == (tmp_path / "2.onnx").read_bytes()


def test_onnx_leaves_the_model_as_it_is():
    pytest.importorskip("onnx")
    for name in MODELS:
        model = trained(name, codes(2))
        before = pickle.dumps(model)
        to_onnx(model)
        assert pickle.dumps(model) == before


@pytest.mark.skipif(
    sklearn_version >= (1, 8), reason="scikit-learn has no one-versus-rest LogisticRegression"
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("options", [{"multi_class": "ovr"}, {"solver": "liblinear"}])
def test_onnx_refuses_one_versus_rest(options):
    model = LogisticRegression(**options).fit(X, codes(3))
    with pytest.raises(ValueError, match="one versus the rest"):
        to_onnx(model)
    for twin in to_sklearn(model), from_sklearn(to_sklearn(model)):
        assert np.array_equal(twin.predict_proba(X), model.predict_proba(X))
    two = LogisticRegression(**options).fit(X, codes(2))
    assert np.abs(run(two, X)["probabilities"] - two.predict_proba(X)).max() < 1e-12


def test_onnx_on_digits(digits):
    X, X_test, y, _ = digits
    for name in MODELS:
        model = clone(MODELS[name]).fit(X.astype(np.uint8), y)
        for dtype in (np.float32, np.uint8):
            got = run(model, X_test.astype(dtype), dtype=dtype)
            assert np.array_equal(got["label"], model.predict(X_test.astype(dtype)))
            if "probabilities" in got:
                assert np.abs(got["probabilities"] - reference_proba(model, X_test)).max() < 1e-6


def test_onnx_on_mnist(mnist):
    for model in (
        SoftmaxClassifier(max_iter=2, random_state=0),
        MLPClassifier((30,), max_iter=1, standardize=True, random_state=0),
    ):
        model.fit(mnist.X_train[:3000], mnist.y_train[:3000])
        dtype = np.float64 if isinstance(model, MLPClassifier) else np.uint8
        got = run(model, mnist.X_test.astype(dtype), dtype=dtype)
        assert np.array_equal(got["label"], model.predict(mnist.X_test))
        assert np.abs(got["probabilities"] - reference_proba(model, mnist.X_test)).max() < 1e-6


# ---- PyTorch ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_classes", [2, 3, 77])
@pytest.mark.parametrize("name", ["softmax", "logistic", "least squares"])
def test_torch_linear(name, n_classes, dtype):
    torch = pytest.importorskip("torch")
    model = trained(name, codes(n_classes), dtype)
    state = to_torch(model)
    assert list(state) == ["weight", "bias"]
    rows = 1 if n_classes == 2 and name != "softmax" else n_classes
    module = torch.nn.Linear(D, rows, dtype=getattr(torch, np.dtype(dtype).name))
    module.load_state_dict(state)
    with torch.no_grad():
        scores = module(torch.from_numpy(X.astype(dtype))).numpy()
    assert scores.dtype == dtype
    expected = reference(model, X.astype(dtype))
    assert np.abs(scores - expected).max() < (1e-12 if dtype == np.float64 else 1e-4)
    state["weight"].zero_()
    assert np.array_equal(reference(model, X.astype(dtype)), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (7,), (7, 4)])
def test_torch_networks(hidden, activation):
    torch = pytest.importorskip("torch")
    between = {
        "identity": torch.nn.Identity,
        "logistic": torch.nn.Sigmoid,
        "tanh": torch.nn.Tanh,
        "relu": torch.nn.ReLU,
        "leaky_relu": torch.nn.LeakyReLU,
    }[activation]
    for n_classes in (2, 3):
        model = MLPClassifier(hidden, activation, max_iter=2, random_state=0).fit(X, codes(n_classes))
        state = to_torch(model)
        assert all(tensor.is_contiguous() for tensor in state.values())
        sizes, modules = [D, *hidden, model.n_outputs_], []
        for n_in, n_out in pairwise(sizes):
            modules += [torch.nn.Linear(n_in, n_out, dtype=torch.float64), between()]
        module = torch.nn.Sequential(*modules[:-1])
        module.load_state_dict(state)
        with torch.no_grad():
            scores = module(torch.from_numpy(X)).numpy()
        assert np.abs(scores - reference(model, X)).max() < 1e-12


# ---- scikit-learn ----------------------------------------------------------------------------------------


def assert_same_predictions(twin, model, X=X, tolerance=1e-12):
    assert type(twin).__module__.startswith("softline") != type(model).__module__.startswith("softline")
    assert twin.predict(X).dtype.kind.replace("O", "U") == model.predict(X).dtype.kind.replace("O", "U")
    assert np.array_equal(twin.predict(X), model.predict(X))
    assert np.array_equal(twin.classes_, model.classes_)
    assert twin.n_features_in_ == model.n_features_in_
    for method in ("predict_proba", "decision_function"):
        if hasattr(twin, method) and hasattr(model, method):
            got, expected = getattr(twin, method)(X), getattr(model, method)(X)
            assert got.shape == expected.shape or len(model.classes_) == 2
            assert np.abs(got - expected).max() < tolerance * max(1, np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "labels",
    [
        np.array([-5, 7]),
        np.array([False, True]),
        np.array(["no", "yes"]),
        np.array(["a", "b", "c"], object),
        np.arange(77),
    ],
    ids=lambda labels: f"{len(labels)} {labels.dtype}",
)
@pytest.mark.parametrize("name", MODELS)
def test_to_sklearn_and_back(name, labels, dtype):
    model = trained(name, labels[codes(len(labels))], dtype)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    twin = to_sklearn(model)
    assert type(twin).__module__.startswith("sklearn.")
    assert_same_predictions(twin, model, X.astype(dtype), tolerance)
    back = from_sklearn(twin)
    assert type(back) is (LogisticRegression if isinstance(model, SoftmaxClassifier) else type(model))
    assert_same_predictions(back, twin, X.astype(dtype), tolerance)


def test_to_sklearn_needs_no_softline(tmp_path):
    models = [trained(name) for name in MODELS] + [KNeighborsClassifier().fit(X, codes(3))]
    models += [MLPClassifier((5,), max_iter=2, solver="rmsprop", learning_rate="cosine").fit(X, codes(3))]
    contents = [(to_sklearn(model), X, model.predict(X)) for model in models]
    (tmp_path / "models.pickle").write_bytes(pickle.dumps(contents))
    code = """if True:
        import pickle, sys
        sys.modules["softline"] = None
        for model, X, expected in pickle.load(open(sys.argv[1], "rb")):
            assert (model.predict(X) == expected).all()
            print(type(model).__name__)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "models.pickle"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = "LogisticRegression LogisticRegression LogisticRegression RidgeClassifier MLPClassifier"
    assert done.stdout.split() == [*names.split(), "KNeighborsClassifier", "MLPClassifier"]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.4])
def test_to_sklearn_fits_the_same_penalty(l1_ratio, n_classes):
    y = codes(n_classes)
    model = SoftmaxClassifier(alpha=0.1, l1_ratio=l1_ratio, solver="lbfgs", tol=1e-9, max_iter=1000).fit(X, y)
    twin = to_sklearn(model)
    again = clone(twin).set_params(tol=1e-9, max_iter=20000, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of penalty
        warnings.simplefilter("error", ConvergenceWarning)
        again.fit(X, y)
    assert np.abs(again.coef_ - twin.coef_).max() < 1e-5
    assert np.abs(twin.coef_).max() > 0.1


def test_to_sklearn_has_no_penalty_where_it_means_something_else(tmp_path):
    save_model(trained("softmax"), tmp_path / "m")
    for model, C in (
        (trained("softmax"), 1 / (1e-4 * N)),
        (SoftmaxClassifier(alpha=0, max_iter=2).fit(X, codes(3)), np.inf),
        (trained("standardised"), 1.0),
        (load_model(tmp_path / "m"), 1.0),
    ):
        assert to_sklearn(model).get_params()["C"] == C


def test_parameters_that_mean_the_same():
    model = MLPClassifier(
        [4], "tanh", solver="nesterov", batch_size=None, tol=None, max_iter=3, momentum=0.5, random_state=3
    )
    twin = to_sklearn(model.fit(X, codes(3)))
    got = {
        name: value
        for name, value in twin.get_params().items()
        if value != SklearnMLPClassifier().get_params()[name]
    }
    assert got == {
        "activation": "tanh",
        "hidden_layer_sizes": [4],
        "max_iter": 3,
        "momentum": 0.5,
        "random_state": 3,
    }
    model = SoftmaxClassifier(
        class_weight="balanced", fit_intercept=False, warm_start=True, max_iter=2, tol=1
    )
    got = to_sklearn(model.fit(X, codes(3)))
    assert (got.class_weight, got.fit_intercept, got.warm_start) == ("balanced", False, True)
    assert (got.tol, got.max_iter) == (1e-4, 100)  # of other things
    got = to_sklearn(LeastSquaresClassifier(alpha=3, fit_intercept=False).fit(X, codes(3)))
    assert (got.alpha, got.fit_intercept) == (3, False)


def test_feature_names_go_along():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcdef"))
    for model in [*MODELS.values(), KNeighborsClassifier()]:
        model = clone(model).fit(table, codes(3))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            twin = to_sklearn(model)
            for estimator in twin, from_sklearn(twin):
                assert estimator.feature_names_in_.tolist() == list("abcdef")
                estimator.predict(table)


def test_twins_share_nothing():
    for name in MODELS:
        method = "predict_proba" if name != "least squares" else "decision_function"
        model = trained(name)
        twin = to_sklearn(model)
        back = from_sklearn(twin)
        chain = [model, twin, back]
        expected = [getattr(estimator, method)(X) for estimator in chain]
        while len(chain) > 1:  # the last is spoilt, and those that it came from are not
            estimator = chain.pop()
            for name in ("coef_", "coefs_", "intercept_", "intercepts_"):
                arrays = getattr(estimator, name, [])
                for array in arrays if isinstance(arrays, list) else [arrays]:
                    array[...] = 0
            estimator.classes_[0] = 9
            for source, scores in zip(chain, expected, strict=False):
                assert np.array_equal(getattr(source, method)(X), scores)
                assert source.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("early_stopping", [False, True])
def test_networks_go_on_in_scikit_learn(early_stopping):
    y = codes(3)
    model = MLPClassifier((8,), max_iter=5, early_stopping=early_stopping, random_state=0).fit(X, y)
    twin = to_sklearn(model).set_params(warm_start=True, max_iter=30)
    twin.fit(X, y)
    assert twin.n_iter_ > 5
    assert twin.loss_curve_[:5] == model.loss_curve_
    assert twin.loss_curve_[-1] < model.loss_
    if not early_stopping:
        to_sklearn(model).partial_fit(X, y)
    several = MLPClassifier((8,), max_iter=5, random_state=0).fit(X, (SCORES[:, :4] > 0).astype(int))
    twin = to_sklearn(several)
    assert_same_predictions(twin, several)
    assert_same_predictions(from_sklearn(twin), several.fit(X, several.predict(X)) and twin)


def test_networks_go_on_as_in_scikit_learn(tmp_path):
    """A step of plain gradient descent, of which no memory is lost."""
    y = codes(3)
    options = {"solver": "sgd", "momentum": 0.0, "shuffle": False, "learning_rate_init": 0.01}
    theirs = SklearnMLPClassifier((8,), max_iter=3, random_state=0, **options).fit(X, y)
    ours = from_sklearn(theirs)
    assert (ours.t_, ours.n_iter_, ours.loss_curve_) == (theirs.t_, theirs.n_iter_, theirs.loss_curve_)
    assert (ours.loss_, ours.best_loss_) == (theirs.loss_, theirs.best_loss_)
    save_model(ours, tmp_path / "m")
    ours = load_model(tmp_path / "m")
    ours.partial_fit(X, y)
    theirs.partial_fit(X, y)
    assert_same_predictions(ours, theirs)


@pytest.mark.parametrize(
    "estimator",
    [
        of_sklearn.LogisticRegression(max_iter=10),
        of_sklearn.LogisticRegression(fit_intercept=False, C=0.1, max_iter=10),
        of_sklearn.LogisticRegression(solver="saga", max_iter=5),
        of_sklearn.RidgeClassifier(alpha=3),
        of_sklearn.RidgeClassifier(fit_intercept=False, class_weight="balanced"),
        SklearnMLPClassifier((8, 5), "tanh", max_iter=3, random_state=0),
        SklearnMLPClassifier((8,), solver="lbfgs", max_iter=3, random_state=0),
        SklearnMLPClassifier((8,), early_stopping=True, max_iter=3, random_state=0),
    ],
    ids=repr,
)
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_from_sklearn(estimator, n_classes, tmp_path):
    numbers = np.arange(n_classes)
    fails_on_text = getattr(estimator, "early_stopping", False) and sklearn_version < (1, 7)
    for labels in [numbers] if fails_on_text else [numbers, numbers.astype(str)]:
        estimator = clone(estimator).fit(X, labels[codes(n_classes)])
        model = from_sklearn(estimator)
        assert_same_predictions(model, estimator)
        save_model(model, tmp_path / "m")
        assert_same_predictions(load_model(tmp_path / "m"), estimator)


@pytest.mark.parametrize("penalty", ["l2", "l1", "elasticnet", None])
def test_from_sgd_of_two_classes(penalty, tmp_path):
    y = codes(2)
    estimator = of_sklearn.SGDClassifier(
        loss="log_loss", penalty=penalty, alpha=0.01, l1_ratio=0.4, max_iter=5, tol=None, random_state=0
    ).fit(X, y)
    model = from_sklearn(estimator)
    assert type(model) is SoftmaxClassifier
    assert_same_predictions(model, estimator)
    save_model(model, tmp_path / "m")
    assert_same_predictions(load_model(tmp_path / "m"), estimator)
    assert (model.max_iter, model.tol, model.random_state) == (5, None, 0)
    # alpha means the same after the way there and back.
    got = to_sklearn(model.fit(X, y)).get_params()
    assert got["C"] == (np.inf if penalty is None else pytest.approx(1 / (0.01 * N)))
    assert (got["l1_ratio"] or 0) == pytest.approx({"l1": 1, "elasticnet": 0.4}.get(penalty, 0))


def test_models_of_sklearn_go_on_training():
    y = codes(3)
    ours = from_sklearn(of_sklearn.LogisticRegression(warm_start=True, max_iter=10000).fit(X, y))
    assert ours.fit(X, y).n_iter_ <= 1
    y = codes(2)
    ours = from_sklearn(of_sklearn.SGDClassifier(loss="log_loss", random_state=0).fit(X, y))
    before = ours.coef_.copy()
    ours.partial_fit(X, y)
    assert ours.score(X, y) > 0.9
    assert 0 < np.abs(ours.coef_ - before).max() < np.abs(before).max()


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("name", ["float64", "uint8", "bfloat16"])
def test_neighbors(name, n_outputs):
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)
    rows = np.abs(X).astype(dtype)
    y = np.array(["a", "b", "c"])[codes(3)]
    y = np.column_stack([y, y[::-1]]) if n_outputs == 2 else y
    model = KNeighborsClassifier(3, weights="distance", metric="l2").fit(rows, y)
    new = rng.standard_normal((50, D))
    twin = to_sklearn(model)
    assert type(twin) is SklearnKNeighborsClassifier
    for estimator in twin, from_sklearn(twin):
        assert np.array_equal(estimator.predict(new), model.predict(new))
        assert np.allclose(estimator.predict_proba(new), model.predict_proba(new))
    tree = SklearnKNeighborsClassifier(algorithm="kd_tree").fit(rows.astype(float), y)
    assert np.array_equal(from_sklearn(tree).predict(new), tree.predict(new))


# ---- what cannot be --------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [to_onnx, to_torch, to_sklearn])
def test_other_models_are_refused(function):
    names = "SoftmaxClassifier, LogisticRegression, LeastSquaresClassifier"
    for model, got in (
        (SVC(), "got a sklearn.svm._classes.SVC"),
        (of_sklearn.LogisticRegression(), "got a sklearn.linear_model._logistic.LogisticRegression"),
        (SoftmaxClassifier, "got the class softline._estimators.softmax_classifier.SoftmaxClassifier"),
        (None, "got a builtins.NoneType"),
    ):
        with pytest.raises(
            TypeError, match=rf"{function.__name__} takes a fitted {names}.* of softline; {got}"
        ):
            function(model)
    for model in MODELS.values():
        with pytest.raises(NotFittedError):
            function(clone(model))


def test_errors_say_what_would_do():
    with pytest.raises(TypeError, match=r"skl2onnx takes to_sklearn\(model\)"):
        to_onnx(KNeighborsClassifier().fit(X, codes(3)))
    with pytest.raises(TypeError, match="skl2onnx takes it, or from_sklearn makes it softline's"):
        to_onnx(of_sklearn.LogisticRegression(max_iter=1).fit(X, codes(3)))
    with pytest.raises(ValueError, match="activation='leaky_relu' is none that scikit-learn's"):
        to_sklearn(MLPClassifier((3,), "leaky_relu", max_iter=1).fit(X, codes(3)))


def test_estimators_without_a_twin():
    for estimator in (
        SVC(),
        of_sklearn.LogisticRegressionCV(),
        trained("logistic"),
        of_sklearn.SGDClassifier,
    ):
        with pytest.raises(
            TypeError, match=r"from_sklearn takes a fitted LogisticRegression, .* of scikit-learn"
        ):
            from_sklearn(estimator)
    with pytest.raises(NotFittedError):
        from_sklearn(of_sklearn.LogisticRegression())
    y = codes(3)
    for estimator, labels, message in (
        (of_sklearn.SGDClassifier(), y, "loss='hinge' has no twin"),
        (of_sklearn.SGDClassifier(loss="log_loss"), y, "of 3 classes is one model for each against the rest"),
        (of_sklearn.RidgeClassifier(), np.eye(3)[y], "several labels a row"),
        (SklearnMLPClassifier((2,), max_iter=1), np.zeros(N), "the estimator has one: "),
        (SklearnKNeighborsClassifier(p=3), y, "p must be 1 or 2"),
        (SklearnKNeighborsClassifier(metric="cosine"), y, "'metric' parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            from_sklearn(estimator.fit(X, labels))


@pytest.mark.skipif(sklearn_version >= (1, 8), reason="scikit-learn has no multi_class")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_two_classes_fitted_as_multinomial_are_refused():
    estimator = of_sklearn.LogisticRegression(multi_class="multinomial").fit(X, codes(2))
    with pytest.raises(ValueError, match="multi_class='multinomial' of two classes"):
        from_sklearn(estimator)
    model = LogisticRegression(multi_class="multinomial").fit(X, codes(2))
    assert_same_predictions(to_sklearn(model), model)


@pytest.mark.parametrize(("function", "extra"), [(to_onnx, "onnx"), (to_torch, "torch")])
def test_a_missing_extra_is_named(function, extra, monkeypatch):
    model = trained("softmax")
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(
        ImportError, match=rf'{function.__name__} needs {extra}: pip install "softline\[{extra}\]"'
    ):
        function(model)


# ---- the command line ------------------------------------------------------------------------------------


def test_command_exports(tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    model = trained("network")
    save_model(model, tmp_path / "m", image_shape=(2, 3))
    assert main(["export", str(tmp_path / "m"), str(tmp_path / "m.ONNX")]) == 0
    assert "opset 17: X to label, probabilities" in capsys.readouterr().out
    graph = onnx.load(tmp_path / "m.ONNX")
    assert graph == to_onnx(model, image_shape=(2, 3))


def test_command_exports_to_torch(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    save_model(trained("softmax"), tmp_path / "m")
    assert main(["export", str(tmp_path / "m"), str(tmp_path / "m.pt")]) == 0
    assert "weight, bias" in capsys.readouterr().out
    state = torch.load(tmp_path / "m.pt", weights_only=True)
    assert np.array_equal(state["weight"], trained("softmax").coef_)


def test_command_says_what_is_wrong(tmp_path, capsys, monkeypatch):
    save_model(trained("softmax"), tmp_path / "m")
    for model, name, message in (
        ("m", "m.json", "expected a name that ends in .onnx or .pt"),
        ("nothing", "m.onnx", "No such file or directory"),
        ("m", "nowhere/m.onnx", "there is no folder"),
        ("m", "m.onnx", 'to_onnx needs onnx: pip install "softline[onnx]"'),
    ):
        if "pip" in message:
            monkeypatch.setitem(sys.modules, "onnx", None)
        assert main(["export", str(tmp_path / model), str(tmp_path / name)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.onnx"))
