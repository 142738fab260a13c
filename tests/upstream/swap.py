"""A pytest plug-in: those of scikit-learn's tests that name their class, run against softline's.

The classes are swapped while test modules are imported, and only under the names that users import them by:
LogisticRegressionCV, for one, keeps its own.
"""

import inspect
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import sklearn.linear_model
import sklearn.neighbors
import sklearn.neural_network

import softline.linear_model
import softline.neighbors
import softline.neural_network


class Swap(NamedTuple):
    """A class, and what its tests ask that softline's does not do.

    Attributes
    ----------
    tests : str
        The module of scikit-learn's tests of the class.
    theirs, ours : modules
    excluded : dict
        Tests that fail, by name, or by name[parameters] where others pass; each with the reason. One that
        passes, or that no longer exists, fails the run.
    private : str
        A pattern of what is scikit-learn's own: functions whose results are not softline's to pass, and
        attributes that nobody but its tests should look at.
    our_name : str or None
        If softline's class has another name.
    """

    tests: str
    theirs: object
    ours: object
    excluded: dict
    private: str = r"(?!)"  # matches nothing
    our_name: str | None = None


SWAPS = {
    "LogisticRegression": Swap(
        "sklearn.linear_model.tests.test_logistic",
        sklearn.linear_model,
        softline.linear_model,
        {
            "test_liblinear_dual_random_state": (
                "asserts that another random_state gives other coefficients; softline's fit has no randomness"
            ),
            "test_logistic_cv": (
                "compares with LogisticRegressionCV, which stops at scikit-learn's loose default tol; "
                "softline goes nearer to the minimum"
            ),
            "test_logistic_cv_multinomial_score[neg_log_loss-multiclass_agg_list3]": (
                "compares log losses with scikit-learn's private path, which stops at its loose default tol"
            ),
            "test_logreg_l1": (
                "compares dense with sparse fits to 1e-7; sparse ones are scikit-learn's own, by coordinate "
                "descent"
            ),
            "test_newton_cholesky_fallback_to_lbfgs": (
                "asserts that a singular Hessian makes newton-cholesky fall back to lbfgs, and that lbfgs's "
                "warning follows; softline's steps need no fallback"
            ),
        },
        r"_logistic_regression_path|_log_reg_scoring_path",
    ),
    "MLPClassifier": Swap(
        "sklearn.neural_network.tests.test_mlp",
        sklearn.neural_network,
        softline.neural_network,
        {
            **{
                name: "reads or calls what is private to scikit-learn's class"
                for name in (
                    "test_fit",
                    "test_gradient",
                    "test_learning_rate_warmstart",
                    "test_adaptive_learning_rate",
                    "test_n_iter_no_change",
                    "test_n_iter_no_change_inf",
                )
            },
            "test_early_stopping_stratified": "asserts how scikit-learn encodes labels, in an error message",
            "test_predict_proba_multilabel": (
                "compares the largest logarithms of probabilities that are 1 to rounding; softline's "
                "logarithms still differ"
            ),
            "test_verbose_sgd": "asserts what is printed; softline shows a progress bar",
        },
        r"_loss_grad_lbfgs|_optimizer|_no_improvement_count|_random_state|_label_binarizer",
    ),
    "KNeighborsClassifier": Swap(
        "sklearn.neighbors.tests.test_neighbors", sklearn.neighbors, softline.neighbors, {}
    ),
    "RidgeClassifier": Swap(
        "sklearn.linear_model.tests.test_ridge",
        sklearn.linear_model,
        softline.linear_model,
        {},
        our_name="LeastSquaresClassifier",
    ),
}


def pytest_addoption(parser):
    parser.addoption("--counts", help="file for the counts of outcomes by class, as JSON")
    parser.addoption("--half", type=int, help="0 or 1: every other test, beginning with this")


def pytest_configure(config):
    config.swapped = {name: getattr(swap.theirs, name) for name, swap in SWAPS.items()}
    for name, swap in SWAPS.items():
        setattr(swap.theirs, name, getattr(swap.ours, swap.our_name or name))


def pytest_collection_modifyitems(items, config):
    for name, swap in SWAPS.items():
        setattr(swap.theirs, name, config.swapped[name])
    names = {swap.tests: name for name, swap in SWAPS.items()}
    unmatched = {(name, excluded) for name, swap in SWAPS.items() for excluded in swap.excluded}
    source = cache(inspect.getsource)  # of a function with hundreds of parameters, once
    items[:] = [
        item for item in items if re.search(rf"\b{names[item.module.__name__]}\b", source(item.function))
    ]
    for item in items:
        name = names[item.module.__name__]
        swap = SWAPS[name]
        private = bool(re.search(rf"\b({swap.private})\b", source(item.function)))
        item.user_properties += [("class", name), ("private", private)]
        for excluded in {item.name, item.originalname} & set(swap.excluded):
            item.add_marker(pytest.mark.xfail(reason=swap.excluded[excluded], strict=True))
            item.user_properties.append(("excluded", True))
            unmatched.discard((name, excluded))
    if unmatched:
        raise pytest.UsageError(f"these exclusions match no test: {sorted(unmatched)}")
    items[:] = items[config.getoption("half") :: 2]


def pytest_terminal_summary(terminalreporter, config):
    counts = {name: Counter() for name in SWAPS}
    for outcome in ("passed", "failed", "error", "skipped", "xfailed"):
        for report in terminalreporter.getreports(outcome):
            told = dict(report.user_properties)
            if outcome != "xfailed" or told.get("excluded"):  # else scikit-learn's own
                counts[told["class"]][f"{'private' if told['private'] else 'public'} {outcome}"] += 1
    Path(config.getoption("counts")).write_text(json.dumps(counts))
