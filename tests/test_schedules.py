import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from softline import SoftmaxClassifier, schedules


@pytest.mark.parametrize(
    ("schedule", "epochs", "expected"),
    [
        (schedules.Constant(), [0, 3.5, 100], [1, 1, 1]),
        (schedules.Step(every=10, factor=0.5), [0, 9.9, 10, 25], [1, 1, 0.5, 0.25]),
        (schedules.Exponential(factor=0.9), [0, 1, 2], [1, 0.9, 0.81]),
        (schedules.InverseTime(decay=0.5), [0, 2, 6], [1, 0.5, 0.25]),
        (schedules.Cosine(floor=0.2), [0, 5, 10, 20], [1, 0.6, 0.2, 0.2]),
        (schedules.WarmUp(epochs=4), [2, 4, 50], [0.5, 1, 1]),
        (schedules.WarmUp(epochs=2, then=schedules.Exponential(0.5)), [2, 3], [1, 0.5]),
        (schedules.WarmUp(epochs=2, then="cosine"), [2, 6, 10], [1, 0.5, 0]),
    ],
)
def test_values(schedule, epochs, expected):
    np.testing.assert_allclose(schedule(np.array(epochs, float), 10), expected, rtol=1e-3)
    np.testing.assert_allclose([schedule(epoch, 10) for epoch in epochs], expected, rtol=1e-3)


@pytest.mark.parametrize("name", schedules.BY_NAME)
def test_every_name_trains(name):
    X, y = load_iris(return_X_y=True)
    model = SoftmaxClassifier(schedule=name, max_iter=60, tol=None, random_state=0, batch_size=16).fit(X, y)
    assert model.score(X, y) > 0.85
    assert schedules.get(name) == schedules.BY_NAME[name]


def test_a_schedule_scales_each_step():
    """Rates reach the kernel batch by batch: with 0 after the first batch, one step is made."""
    X, y = load_iris(return_X_y=True)  # the first 50 rows are class 0

    def once(epoch, max_iter):
        return np.where(epoch > 0, 0, 1)

    model = SoftmaxClassifier(
        schedule=once, learning_rate=0.001, batch_size=50, shuffle=False, max_iter=1, tol=None
    )
    gradient = np.outer([1 / 3 - 1, 1 / 3, 1 / 3], X[:50].mean(axis=0))
    with pytest.warns(ConvergenceWarning):  # it only ever sees class 0
        model.fit(X, y)
    np.testing.assert_allclose(model.coef_, -0.001 * gradient, atol=1e-12)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda epoch, max_iter: None, "one for each of the 3 times.*object"),
        (lambda epoch, max_iter: [1], r"one for each of the 3 times.*shape \(1,\)"),
        (lambda epoch, max_iter: [1, 2], r"one for each of the 3 times.*shape \(2,\)"),
        (lambda epoch, max_iter: np.full(3, np.nan), "finite numbers of at least 0.*gave nan"),
        (lambda epoch, max_iter: -1, "finite numbers of at least 0.*gave -1"),
        (schedules.InverseTime(decay=-2), r"finite numbers of at least 0; InverseTime\(decay=-2\) gave -3"),
    ],
)
def test_what_is_no_schedule(schedule, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        SoftmaxClassifier(schedule=schedule, batch_size=50).fit(X, y)


def test_get_refuses():
    with pytest.raises(ValueError, match="constant, step, exponential, inverse_time, cosine, warm_up"):
        schedules.get("linear")
    with pytest.raises(TypeError, match="name or a callable"):
        schedules.get(0.5)
