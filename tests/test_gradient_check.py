import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import SGDClassifier

from softline import SoftmaxClassifier, _kernels, reference
from softline.gradient_check import check_function, check_gradient, numerical_gradient, relative_error
from softline.linear_model import LogisticRegression
from softline.neural_network import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def cubes(x):
    return np.sum(x**3)


# ---- numerical_gradient and relative_error ---------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0), (2, 3, 2)])
def test_numerical_gradient(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    before = x.copy()
    centred, forward = (numerical_gradient(cubes, x, 1e-4, method) for method in ("centred", "forward"))
    assert centred.shape == forward.shape == shape
    np.testing.assert_allclose(centred, 3 * x**2, atol=2e-8)  # h^2 times the third derivative, 6, over 6
    np.testing.assert_allclose(forward, 3 * x**2, atol=1e-3)
    if x.size:
        assert np.abs(forward - 3 * x**2).max() > 1e-5
    assert x.tobytes() == before.tobytes()


def test_numerical_gradient_of_arrays():
    """CS231n's eval_numerical_gradient_array; f may look at x from elsewhere, and return one array always."""
    rng = np.random.default_rng(0)
    x, w, upstream = rng.standard_normal((4, 5)), rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    out = np.empty((4, 3))
    numerical = numerical_gradient(lambda _: np.matmul(x, w, out=out), w, upstream=upstream)
    assert relative_error(numerical, x.T @ upstream) < 1e-8
    strided = np.asfortranarray(x)[::2]
    assert relative_error(numerical_gradient(cubes, strided), 3 * strided**2) < 1e-8


@pytest.mark.parametrize("method", ["centred", "forward"])
def test_x_is_restored_to_the_bit(method):
    """Where a step forth and back would lose digits."""
    x = np.logspace(-20, 2, 45)
    before = x.copy()
    numerical_gradient(cubes, x, 1e-4, method)
    check_function(cubes, x, 3 * x**2, h=1e-4)
    assert x.tobytes() == before.tobytes()


@pytest.mark.parametrize("method", ["centred", "forward"])
def test_x_is_restored_even_when_f_raises(method):
    x = np.arange(3.0)

    def f(x):
        if x[1] != 1:
            raise ArithmeticError("planted")
        return x.sum()

    with pytest.raises(ArithmeticError, match="planted"):
        numerical_gradient(f, x, method=method)
    assert x.tolist() == [0, 1, 2]


def test_what_numerical_gradient_refuses():
    x = np.ones(2)
    with pytest.raises(TypeError, match=r"float64 array, for it is changed in place .*; got float32"):
        numerical_gradient(cubes, x.astype(np.float32))
    with pytest.raises(TypeError, match="got list"):
        numerical_gradient(cubes, [1.0])
    with pytest.raises(ValueError, match="h must be a step above 0; got -1"):
        numerical_gradient(cubes, x, h=-1)
    with pytest.raises(ValueError, match="'centred' or 'forward'; got 'backward'"):
        numerical_gradient(cubes, x, method="backward")
    with pytest.raises(ValueError, match=r"upstream be given; it returned shape \(2,\)"):
        numerical_gradient(lambda x: x, x)


def test_relative_error():
    assert relative_error([1.0, 2.0], [1.0, 2.0]) == 0
    assert relative_error([1.0], [-1.0]) == 1
    assert relative_error([0.0, 3.0], [1e-9, 1.0]) == 0.5
    assert relative_error([0.0], [1e-9]) == pytest.approx(0.1)  # the floor of 1e-8
    assert relative_error([], []) == 0
    assert np.isnan(relative_error([np.nan], [1.0]))


# ---- check_function --------------------------------------------------------------------------------------


def test_worst_entry_is_reported():
    x = {"a": np.arange(1.0, 7.0).reshape(2, 3), "b": np.ones(4)}
    gradient = {name: 3 * a**2 for name, a in x.items()}
    gradient["a"][1, 2] *= -1
    gradient["b"][3] *= 1.001

    def f(x):
        return cubes(x["a"]) + cubes(x["b"])

    found = check_function(f, x, gradient)
    assert not found.passed
    assert (found.name, found.index, found.analytic) == ("a", (1, 2), -108)
    assert found.numerical == pytest.approx(108)
    assert found.error == pytest.approx(1)
    assert (found.n_checked, found.n_entries, found.n_kinks) == (10, 10, 0)
    assert str(found).startswith("gradient FAILED at 1e-07: 10 of 10 entries; worst a[1, 2]: analytic -108, ")
    assert "\n" not in str(found)
    gradient["a"][1, 2] *= -1
    found = check_function(f, x, gradient)
    assert (found.name, found.index) == ("b", (3,))
    assert found.error == pytest.approx(5e-4, rel=0.01)
    assert check_function(f, x, gradient, tol=1e-3).passed


@pytest.mark.parametrize(("wrong_by", "passes"), [(1e-4, True), (2.5e-4, False), (2e-3, False)])
def test_rounding_is_forgiven_once(wrong_by, passes):
    """8 units in the last place of f over the step: 8 * 2.2e-16 * 1e6 / 1e-5 = 1.8e-4, and no more."""
    x = np.array([0.5])
    checked = check_function(lambda x: 1e6 + 3 * float(x[0]), x, np.array([3 + wrong_by]))
    assert checked.passed == passes
    assert (checked.error == 0) == passes


@pytest.mark.parametrize(("wrong_by", "passes"), [(0.9e-7, True), (1.1e-7, False)])
def test_tol_is_that_of_the_relative_error(wrong_by, passes):
    """|a - b| / (|a| + |b|), for a slope of 1000, of which rounding hides little."""
    x = np.array([0.001])
    gradient = np.array([1000 * (1 + 2 * wrong_by)])
    assert check_function(lambda x: 1000 * float(x[0]), x, gradient, tol=1e-7, h=1e-3).passed == passes


def test_sampled_checks():
    x, calls = np.linspace(1, 2, 500), []

    def f(x):
        calls.append(1)
        return cubes(x)

    found = check_function(f, x, 3 * x**2, n_checks=7, random_state=0)
    assert (found.passed, found.n_checked, found.n_entries) == (True, 7, 500)
    assert len(calls) <= 5 * 7
    assert check_function(f, x, 3 * x**2, n_checks=7, random_state=0) == found
    assert check_function(f, x, 3 * x**2, n_checks=None).n_checked == 500
    wrong = 3 * x**2
    wrong[123] += 1e-4
    assert check_function(f, x, wrong, n_checks=None).index == (123,)


@pytest.mark.parametrize("share", [-1, -0.3, 0.9, 1])
def test_any_subgradient_is_right_at_a_kink(share):
    x = np.zeros(3)
    found = check_function(lambda x: 2 * np.abs(x).sum() + x.sum(), x, np.full(3, 1 + 2 * share))
    assert (found.passed, found.n_kinks) == (True, 3)
    assert "3 at a kink" in str(found)


@pytest.mark.parametrize("share", [-1.1, 1.001])
def test_no_other_is(share):
    found = check_function(lambda x: 2 * np.abs(x).sum(), np.zeros(3), np.full(3, 2 * share))
    assert not found.passed


@pytest.mark.parametrize("distance", [2e-6, -2e-6, 2e-7])
def test_a_kink_within_a_step_is_left_outside(distance):
    x = np.full(1, distance)
    right = np.full(1, float(distance > 0))

    def relu(x):
        return np.maximum(x, 0).sum()

    found = check_function(relu, x, right)
    assert (found.passed, found.n_kinks) == (True, 0)
    assert not check_function(relu, x, 1 - right).passed
    assert not check_function(relu, x, right + 1e-3).passed


def test_what_check_function_refuses():
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match="x must be a float64 array; got float32"):
        check_function(cubes, x.astype(np.float32), x)
    with pytest.raises(ValueError, match=r"gradient to x must be of its shape, \(2, 3\); found \(3, 2\)"):
        check_function(cubes, x, x.T)
    with pytest.raises(ValueError, match=r"gradient to b must be of its shape, \(2, 3\); found none"):
        check_function(cubes, {"b": x}, {"a": x})
    with pytest.raises(ValueError, match="n_checks must be at least 1, or None for all entries; got 0"):
        check_function(cubes, x, x, n_checks=0)
    with pytest.raises(ValueError, match="no entries to check"):
        check_function(cubes, np.ones(0), np.ones(0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_fails(bad):
    assert not check_function(cubes, np.ones(2), np.array([3, bad])).passed
    assert not check_function(lambda x: bad, np.ones(2), np.zeros(2)).passed


# ---- check_gradient --------------------------------------------------------------------------------------

MODELS = [
    SoftmaxClassifier(alpha=0.1),
    SoftmaxClassifier(alpha=0.1, l1_ratio=1),
    SoftmaxClassifier(alpha=0.1, l1_ratio=0.3, standardize=True),
    SoftmaxClassifier(label_smoothing=0.2, class_weight="balanced"),
    SoftmaxClassifier(fit_intercept=False, standardize=True),
    SoftmaxClassifier(alpha=0.1, solver="lbfgs"),
    SoftmaxClassifier(alpha=0.1, l1_ratio=0.5, solver="lbfgs", standardize=True),
    LogisticRegression(),
    LogisticRegression(C=np.inf, fit_intercept=False),
    LogisticRegression(C=0.1, l1_ratio=1, solver="saga", class_weight="balanced"),
    LogisticRegression(solver="lbfgs", C=10),
]


@pytest.mark.parametrize("model", MODELS, ids=str)
@pytest.mark.parametrize("load", [load_iris, load_breast_cancer])
def test_every_loss_and_penalty_passes(model, load):
    X, y = load(return_X_y=True)
    X = X[::3] / X.std(axis=0)
    y, weight = y[::3], np.random.default_rng(0).random(len(X))
    at_random = check_gradient(model, X, y, weight, n_checks=None, random_state=0)
    assert at_random.passed, at_random
    assert at_random.n_kinks == 0
    assert not hasattr(model, "coef_")  # it is left alone
    model = clone(model).fit(X, y, weight)
    before = model.coef_.copy()
    fitted = check_gradient(model, X, y, weight, n_checks=None)
    assert fitted.passed, fitted
    assert model.coef_.tobytes() == before.tobytes()


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu", "leaky_relu"])
@pytest.mark.parametrize("options", [{"alpha": 3.0}, {"dropout": 0.3, "standardize": True}], ids=str)
def test_every_layer_of_a_network_passes(activation, options):
    X, y = load_iris(return_X_y=True)
    X, y, weight = X[::3], y[::3], np.random.default_rng(0).random(50)
    model = MLPClassifier((7, 5), activation, max_iter=3, random_state=0, **options)
    at_random = check_gradient(model, X, y, weight, n_checks=None, random_state=0)
    assert at_random.passed, at_random
    assert at_random.n_checked == 4 * 7 + 7 + 7 * 5 + 5 + 5 * 3 + 3
    assert not hasattr(model, "coefs_")
    fitted = check_gradient(clone(model).fit(X, y, weight), X, y, weight, n_checks=None, random_state=0)
    assert fitted.passed, fitted


def test_sparse_weights_pass():
    """0 for the slope of |w| at 0 is what centred differences give there, too."""
    X, y = load_iris(return_X_y=True)
    model = SoftmaxClassifier(solver="lbfgs", alpha=0.1, l1_ratio=1).fit(X, y)
    assert (model.coef_ == 0).any()
    found = check_gradient(model, X, y)
    assert (found.passed, found.n_kinks) == (True, 0)


def test_raw_features_and_dtypes(digits):
    X, _, y, _ = digits
    for features in (X.astype(np.uint8), X.astype(np.float32), 1e4 * X):
        found = check_gradient(SoftmaxClassifier(), features[:200], y[:200], n_checks=30, random_state=0)
        assert found.passed, found
    targets = np.random.default_rng(0).dirichlet(np.ones(10), 200).astype(np.float32)
    found = check_gradient(
        SoftmaxClassifier(label_smoothing=0.1), X[:200].astype(np.float16), targets, n_checks=30
    )
    assert found.passed, found


@pytest.mark.parametrize("model", [SoftmaxClassifier(alpha=0.1), LogisticRegression()], ids=str)
def test_a_planted_sign_error_is_found(model, monkeypatch, digits):
    """In one weight of many, in either kernel."""
    X, _, y, _ = digits
    right = check_gradient(model, X[:100] / 16, y[:100], n_checks=None, random_state=0)
    assert right.passed
    gradients, loss_gradient = _kernels.gradients, _kernels.loss_gradient

    def wrong_gradients(X, y, weight, rows, layers, out, *args, **options):
        loss = gradients(X, y, weight, rows, layers, out, *args, **options)
        out[0][0][3, 20] *= -1
        return loss

    def wrong_gradient(X, y, weight, W, b, dW, db, n_threads):
        loss = loss_gradient(X, y, weight, W, b, dW, db, n_threads)
        dW[3, 20] *= -1
        return loss

    monkeypatch.setattr(_kernels, "gradients", wrong_gradients)
    monkeypatch.setattr(_kernels, "loss_gradient", wrong_gradient)
    found = check_gradient(model, X[:100] / 16, y[:100], n_checks=None, random_state=0)
    assert not found.passed
    assert (found.name, found.index) == ("coef_", (3, 20))
    assert found.analytic == pytest.approx(-found.numerical, rel=0.2)


def test_kernels_agree_with_differences_of_their_twins():
    """The compiled gradient, and the loss in NumPy."""
    rng = np.random.default_rng(0)
    X, W, b = rng.standard_normal((40, 7)), rng.standard_normal((3, 7)), rng.standard_normal(3)
    y, weight = rng.integers(0, 3, 40).astype(np.int32), np.full(40, 1 / 40)

    def f(at):
        scores, losses = np.empty((40, 3)), np.empty(40)
        reference.scores(X, None, at["W"], at["b"], scores)
        reference.cross_entropy(scores, y, losses)
        return losses.mean()

    dscores, dW, db = np.empty((40, 3)), np.empty((3, 7)), np.empty(3)
    _kernels.scores(X, None, W, b, dscores)
    _kernels.cross_entropy_gradient(dscores, y, weight, np.empty(40))
    _kernels.gradient(X, None, dscores, dW, db)
    assert check_function(f, {"W": W, "b": b}, {"W": dW, "b": db}).passed


def test_models_without_a_gradient():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(TypeError, match="SGDClassifier has no gradient; pass a softline model"):
        check_gradient(SGDClassifier(), X, y)
