import copy
import pickle
import warnings
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.sparse import coo_array, csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeClassifier

from softline import datasets

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_looks_are_counted_and_dated(digits):
    X, X_test, y, y_test = digits
    test, model = datasets.sealed(X_test, y_test), RidgeClassifier().fit(X, y)
    assert (test.looks, len(test)) == ((), len(y_test))
    before = datetime.now(UTC).replace(microsecond=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = test.score(model)
    assert score == model.score(X_test, y_test)
    (look,) = test.looks
    assert before <= datetime.fromisoformat(look.date) <= datetime.now(UTC)
    assert (look.model, look.score) == ("RidgeClassifier", score)
    assert model.test_looks_ == [look]
    assert repr(test) == f"<SealedTestSet of {len(y_test)} rows, looked at once>"


def test_a_second_look_warns(digits):
    X, X_test, y, y_test = digits
    test, first, second = datasets.sealed(X_test, y_test), RidgeClassifier(), RidgeClassifier(alpha=10)
    test.score(first.fit(X, y))
    with pytest.warns(datasets.TestSetWarning, match=r"look number 2 .* the first on \d{4}-"):
        test.score(second.fit(X, y))
    with pytest.warns(datasets.TestSetWarning, match="look number 3"):
        test.score(first)
    assert len(test.looks) == 3
    assert (len(first.test_looks_), len(second.test_looks_)) == (2, 1)
    assert "looked at 3 times" in repr(test)
    # The model remembers, fitted anew or not, in whatever object the rows are.
    first.fit(X, y)
    with pytest.warns(datasets.TestSetWarning, match="look number 3"):
        datasets.sealed(X_test.copy(), y_test).score(first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        datasets.sealed(X_test[1:], y_test[1:]).score(first)
        datasets.sealed(X_test, y_test).score(clone(first).fit(X, y))


def test_the_first_look_is_the_oldest(digits):
    _, X_test, _, y_test = digits
    model, test = RidgeClassifier().fit(X_test, y_test), datasets.sealed(X_test, y_test)
    test.score(model)
    (look,) = test.looks
    model.test_looks_ = [replace(look, date=f"{year}-01-31T12:00:00+00:00") for year in (2021, 2019, 2020)]
    with pytest.warns(datasets.TestSetWarning, match="look number 5 .* the first on 2019-01-31"):
        test.score(model)


class Constant:
    """Scores any rows alike."""

    def score(self, X, y):
        return 0.5


def test_other_rows_are_another_test_set():
    """Of the same bytes, too: other columns of a sparse matrix, other shapes and types."""
    y, model = np.arange(4), Constant()
    X, numbers = np.diag([1.0, 2, 3, 4]), np.array([0, 2, 1, 3])
    sets = [X, X.reshape(4, 2, 2), X.view(np.int64), csr_array(X), csr_array((X.diagonal(), (y, numbers)))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in sets:
            datasets.sealed(rows, y).score(model)
        datasets.sealed(X, y[::-1]).score(model)
    assert len({look.test_set for look in model.test_looks_}) == len(sets) + 1
    for number, rows in enumerate((X.copy(), np.asfortranarray(X), coo_array(X)), len(sets) + 2):
        with pytest.warns(datasets.TestSetWarning, match="look number 2|look number 3"):
            datasets.sealed(rows, y.copy()).score(model)
        assert len(model.test_looks_) == number


def test_a_score_that_fails_is_no_look(digits):
    _, X_test, _, y_test = digits
    test = datasets.sealed(X_test, y_test)
    with pytest.raises(NotFittedError):
        test.score(RidgeClassifier())
    assert test.looks == ()
    assert "not looked at" in repr(test)


@pytest.mark.parametrize(
    "look",
    [list, np.asarray, copy.copy, copy.deepcopy, pickle.dumps, lambda test: test[0], lambda test: (*test,)],
)
def test_a_sealed_test_set_gives_nothing_away(digits, look):
    _, X_test, _, y_test = digits
    test = datasets.sealed(X_test, y_test)
    with pytest.raises(TypeError, match=r"gives out no rows and no copies; use its score\(model\)"):
        look(test)
    assert not any(hasattr(test, name) for name in ("X", "y", "_X", "_y", "data", "X_test", "y_test"))


def test_any_kind_of_rows_can_be_sealed(digits):
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    X, X_test, y, y_test = digits
    names = np.array(list("abcdefghij"))
    for convert in (pandas.DataFrame, sparse.csr_array, sparse.coo_array, np.asfortranarray):
        model = LogisticRegression(max_iter=20).fit(convert(X), names[y])
        for labels in (names[y_test], pandas.Series(names[y_test]), names[y_test].tolist()):
            test = datasets.sealed(convert(X_test), labels)
            assert 0.9 < test.score(clone(model).fit(convert(X), names[y])) < 1


def test_what_cannot_be_sealed():
    with pytest.raises(ValueError, match="X and y must be rows and a label for each; got 3 and 2"):
        datasets.sealed(np.ones((3, 2)), np.ones(2))
    with pytest.raises(ValueError, match="got 0 and 0"):
        datasets.sealed(np.ones((0, 2)), np.ones(0))
