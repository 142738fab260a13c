"""The softmax classifier trained by gradient descent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from softline import optimizers, schedules
from softline._estimators import labels
from softline._estimators._sklearn import Interval, StrOptions
from softline._estimators.base import DESCENT_CONSTRAINTS, SoftmaxPredictor, checks_parameters
from softline._kernels.rows import Rows, Samples
from softline._solvers import reductions
from softline._solvers.network_objective import NetworkObjective
from softline._solvers.objective import Objective
from softline._solvers.random_search import RandomSearch
from softline._training.column_stats import ColumnStats
from softline._training.fit_loop import FitLoop, StoppingRule, TrainsByEpochs, warn
from softline._training.hooks import Batch, Epoch
from softline._training.trainer import DivergenceError, Stream, Trainer, TrainerOptions, epoch_flops
from softline._typing import Array, ClassWeight, Differentiable, EvalSet, Layer, RandomState

__all__ = ["DivergenceError", "SoftmaxClassifier"]


class SoftmaxClassifier(TrainsByEpochs, SoftmaxPredictor, ClassifierMixin, BaseEstimator):
    """Softmax classifier (multinomial logistic regression) trained by gradient descent.

    Minimises the weighted mean of the cross-entropy plus a penalty on the weights, by default L2, ::

        sum_i s_i L_i / sum_i s_i + alpha/2 sum(W * W),   L_i = -log softmax(W x_i + b)[y_i],

    by mini-batch, full-batch or online gradient descent, each epoch in one call to compiled kernels. The
    result is the same to the bit for any `n_threads`. Two classes are a softmax too.

    Parameters
    ----------
    alpha : float, default=1e-4
        L2 penalty; the intercept is not penalised. scikit-learn's `alpha`; its `C` is 1/(alpha N), and the
        `reg` of CS231n is alpha/2.
    l1_ratio : float, default=0.0
        Share of L1 in the penalty, ``alpha ((1 - l1_ratio)/2 sum(W * W) + l1_ratio sum(|W|))``: 0 is L2, 1
        is L1, between them is the elastic net. L1 acts by proximal steps: weights that do not pay are exactly
        0.
    solver : {"sgd", "lbfgs", "random_search", "random_local_search"}, default="sgd"
        "lbfgs" goes to the minimum, as :class:`softline.linear_model.LogisticRegression` does, by the same
        engine: `tol` then says how near the minimum it ends, `max_iter` counts steps of L-BFGS, and what
        concerns batches, steps and targets has no effect or is refused. The other two are for teaching,
        as in the CS231n notes on optimization, and guess `max_iter` times: weights anew, or a step from the
        best so far. `learning_rate` is the standard deviation of guesses and steps ("auto": as suits the
        length of the rows), `loss_curve_` the least loss so far, and they always run to `max_iter`.
    optimizer : str or Optimizer, default="sgd"
        What a step makes of the gradient: "sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop",
        "adagrad", "asgd", or one of :mod:`softline.optimizers` with parameters of your own.
    learning_rate : "auto" or float, default="auto"
        "auto" trains unattended at any scale of the features, also where a few rows are much longer than the
        others: it descends as if each had been centred and divided by a typical deviation, with the largest
        step that is safe (see docs/learning-rate.md), or with one that does well, if the steps of the
        optimizer do not follow the size of the gradient. It lowers the rate when the loss of mini-batches
        rises.
        A float is the optimizer's textbook form: with "sgd", W -= learning_rate * gradient.
    schedule : str or callable, default="constant"
        What the learning rate is multiplied with as training goes on: "constant", "step", "exponential",
        "inverse_time", "cosine", "warm_up", one of :mod:`softline.schedules` with parameters of your own,
        or any function of (epoch, max_iter).
    standardize : bool, default=False
        Whether to train as a pipeline with StandardScaler would: on features of mean 0 and variance 1
        (weighted; not centred without an intercept), with `alpha` acting on their weights. X is not copied,
        and `coef_` and `intercept_` take raw rows. In `partial_fit` the statistics are those of all rows
        since the first call.
    batch_size : int or None, default=256
        Rows of a step. None, or N and more, is full-batch gradient descent; 1 is online.
    max_iter : int, default=100
        Most epochs to run.
    tol : float or None, default=1e-4
        Training stops when the loss (with `early_stopping`, the validation accuracy) has not improved by
        `tol` for `n_iter_no_change` epochs. None runs all of `max_iter`.
    n_iter_no_change : int, default=5
    early_stopping : bool, default=False
        Stop on the accuracy of rows that are not trained on: the `eval_set` given to `fit`, or else a
        stratified `validation_fraction` of the training rows. The best epoch's weights are kept; with
        `warm_start`, the weights at the start, if no epoch is better.
    validation_fraction : float, default=0.1
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with `sample_weight`: a dict from labels to weights, 1 for those
        left out; or "balanced", inversely proportional to the (weighted) class frequencies, which in
        `partial_fit` are those of all rows so far. A row with targets weighs what its classes do on average.
    label_smoothing : float, default=0.0
        Share of the uniform distribution that is mixed into the labels or targets, in [0, 1).
    clip_norm : float or None, default=None
        Gradients are scaled down to this norm, that of all parameters together and without the penalty's, as
        in PyTorch's `clip_grad_norm_`; with ``learning_rate="auto"`` for features centred and divided by
        their ranges.
    max_norm : float or None, default=None
        After each step the weights of a class are scaled down to this norm.
    fit_intercept : bool, default=True
    shuffle : bool, default=True
        Whether each epoch takes the rows in a new order.
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previous one.
    random_state : int, RandomState or None, default=None
        Orders the rows and makes the validation split. An int gives the same bits each time.
    n_threads : int or None, default=None
        Threads to use. None: what the process may use (CPU affinity and quota, OMP_NUM_THREADS,
        threadpoolctl), fewer where the work is small or the machine busy.
    verbose : int, default=0
        1 shows a progress bar with loss, validation accuracy, rows a second and the time left; 2 also how
        many GFLOP/s the kernels reach, and which share of the machine's peak that is (not for "lbfgs").

    Attributes
    ----------
    coef_ : (C, D) ndarray
        Weights, float32 or float64 as X. Two rows for two classes.
    intercept_ : (C,) ndarray
    classes_ : (C,) ndarray
    n_features_in_ : int
    feature_names_in_ : (D,) ndarray of str
        Only where X has them.
    n_iter_ : int
        Epochs run.
    loss_curve_ : list of float
        Loss of each epoch: the mean over its batches, each before its update, and the penalty of the
        weights that the epoch began with.
    validation_scores_ : list of float or None
        Validation accuracy after each epoch.
    learning_rate_ : float
        The learning rate, before its schedule; where "auto" has lowered it, as it was at the end.
    epoch_seconds_ : list of float
        Wall time of each epoch's call to the kernels.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from softline import SoftmaxClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> SoftmaxClassifier(random_state=0).fit(X, y).score(X, y) > 0.97
    True
    """

    _takes_targets = True
    _parameter_constraints = {
        **DESCENT_CONSTRAINTS,
        "optimizer": [StrOptions(set(optimizers.BY_NAME)), optimizers.Optimizer],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"sgd", "lbfgs", "random_search", "random_local_search"})],
        "schedule": [StrOptions(set(schedules.BY_NAME)), callable],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "fit_intercept": ["boolean"],
    }

    def __init__(
        self,
        *,
        alpha: float = 1e-4,
        l1_ratio: float = 0.0,
        solver: Literal["sgd", "lbfgs", "random_search", "random_local_search"] = "sgd",
        optimizer: optimizers.Name | optimizers.Optimizer = "sgd",
        learning_rate: float | Literal["auto"] = "auto",
        schedule: schedules.Name | schedules.Schedule = "constant",
        standardize: bool = False,
        batch_size: int | None = 256,
        max_iter: int = 100,
        tol: float | None = 1e-4,
        n_iter_no_change: int = 5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        class_weight: ClassWeight = None,
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        max_norm: float | None = None,
        fit_intercept: bool = True,
        shuffle: bool = True,
        warm_start: bool = False,
        random_state: RandomState = None,
        n_threads: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.solver = solver
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.standardize = standardize
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.clip_norm = clip_norm
        self.max_norm = max_norm
        self.fit_intercept = fit_intercept
        self.shuffle = shuffle
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    # ---- training ----------------------------------------------------------------------------------

    @checks_parameters
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        eval_set: EvalSet | None = None,
        callback: Callable[[Epoch], object] | None = None,
        batch_callback: Callable[[Batch], object] | None = None,
    ) -> Self:
        """Train on X and y.

        Parameters
        ----------
        X : (N, D) array-like
            float32, float64, float16, bfloat16 (of ml_dtypes), uint8, int8 and bool are read where they lie,
            sliced or memory-mapped, and computed with in float32, float64 in float64. Anything else is
            converted once: 16-bit integers to float32, other types to float64. A matrix in Fortran order
            is copied to C order, because its rows are taken one by one.
        y : (N,) array-like or (N, C) array-like
            Labels of any type: numbers, strings, bools. Or targets: a row of C probabilities for each row of
            X, read where they lie if they are of the dtype computed in; `classes_` is then 0..C-1, and
            accuracy is that of the most probable class.
        sample_weight : (N,) array-like or None
            A weight of 2 is the row twice, a weight of 0 the row left out.
        eval_set : (X, y) or None
            Rows to report the accuracy on after each epoch, and to stop on with `early_stopping`.
        callback : callable or None
            Called after each epoch with a :class:`softline.callbacks.Epoch`. Training ends if it returns
            something true.
        batch_callback : callable or None
            Called after each batch with a :class:`softline.callbacks.Batch`; the same. The epochs then take
            a call to the kernels for each batch instead of one for all, and give the same bits.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If a callback cannot be called.
        ValueError
            If X, y or a parameter does not make sense.
        DivergenceError
            If the loss became infinite or NaN. The last finite weights stay on the estimator.
        """
        self._check_callbacks(callback=callback, batch_callback=batch_callback)
        X, y = self._validate(X, y, reset=True)
        given = X.array, y, sample_weight
        rng = check_random_state(self.random_state)
        classes, y = labels.classes_of(y)
        if len(classes) < 2:
            raise ValueError(
                f"y needs at least two classes to tell apart; it has one class: {classes.tolist()[0]!r}"
            )
        layer = np.zeros((len(classes), X.shape[1])), np.zeros(len(classes))
        goes_on = self.warm_start and hasattr(self, "coef_")
        if goes_on:
            if not np.array_equal(classes, self.classes_) or self.coef_.shape != layer[0].shape:
                raise ValueError(
                    f"warm_start continues with the classes {self.classes_} and {self.coef_.shape[1]} "
                    f"features; y has the classes {classes} and X {X.shape[1]} features"
                )
            layer = self.coef_, self.intercept_
        self.classes_ = classes
        stream = Stream(X.shape[1], len(classes))
        samples = self._samples(X, y, sample_weight, stream)
        if self.solver != "sgd":
            self._check_full_batch(y, batch_callback)
        samples, validation = self._split(samples, eval_set, rng)
        self.loss_curve_, self.epoch_seconds_ = [], []
        self.validation_scores_ = None if validation is None else []
        if self.solver != "sgd":
            self._stream = stream
            return self._fit_full_batch(samples, layer, validation, given, callback, rng)
        trainer, samples = self._trainer(samples, [layer], stream, rng)
        accuracy = None
        if validation is not None:
            accuracy = partial(trainer.accuracy, validation.standardised_as(samples.X))
        loop = FitLoop(self, given, samples, lambda: self._keep(trainer, samples.X), accuracy, callback)
        rule = StoppingRule(self.tol, self.n_iter_no_change, ties=False)
        converged = loop.descend(trainer, samples, rule, batch_callback, goes_on)
        if not loop.stopped:
            self._warn(trainer, samples, converged)
        return self

    def _samples(self, X: Rows, y: Array, sample_weight: ArrayLike | None, stream: Stream) -> Samples:
        """Rows with their weights, counted by the stream; y holds codes or targets."""
        weights = sample_weight, self.class_weight, stream.seen
        return Samples(X, y, labels.row_weights(X, y, self.classes_, *weights))

    def _options(self) -> TrainerOptions:
        """Options of the trainer."""
        return TrainerOptions(
            self.learning_rate,
            optimizers.get(self.optimizer),
            schedules.get(self.schedule),
            batch_size=self.batch_size,
            fit_intercept=self.fit_intercept,
            **self._shared_options(),
        )

    def _put(self, layers: Sequence[Layer]) -> None:
        ((self.coef_, self.intercept_),) = layers

    def _warn(self, trainer: Trainer, samples: Samples, converged: bool) -> None:
        """Warn if the epochs have not led to a minimum."""
        C = len(self.classes_)
        if self.loss_curve_[-1] > 1.01 * np.log(C):
            warn(
                f"the loss is {self.loss_curve_[-1]:.4g}, above log({C}) = {np.log(C):.4g} of a model that "
                f"knows nothing: {trainer.advice(samples)}",
                ConvergenceWarning,
            )
        elif self.tol is not None and not converged:
            self._warn_of_max_iter()
        elif (
            self.tol is not None
            and not self.early_stopping
            and self.max_norm is None
            and (warning := trainer.disturbance(samples, 100 * self.tol))
        ):
            warn(warning, ConvergenceWarning)

    # ---- solvers that see all rows at each step ------------------------------------------------------------

    def _epoch_flops(self, n_rows: int) -> int | None:
        flops = epoch_flops(n_rows, self.n_features_in_ * len(self.classes_))
        # A guess needs scores, but no gradient; steps of L-BFGS take any number of passes over the rows.
        return {"sgd": flops, "lbfgs": None}.get(self.solver, flops // 2)

    def _check_full_batch(self, y: Array, batch_callback: Callable[[Batch], object] | None) -> None:
        """Raise ValueError for options that only mini-batch descent has."""
        if y.ndim == 2 or self.label_smoothing > 0:
            raise ValueError(
                f"solver={self.solver!r} takes labels; targets and label_smoothing need solver='sgd'"
            )
        if self.early_stopping:
            raise ValueError(
                f"solver={self.solver!r} goes by the loss of all rows; early_stopping needs solver='sgd'"
            )
        if batch_callback is not None:
            raise ValueError(f"solver={self.solver!r} has no batches; batch_callback needs solver='sgd'")

    def _objective(self, samples: Samples) -> Objective:
        # For two classes the squares of W = (-Z/2, Z/2) are half those of Z.
        squares_of_Z = 0.5 if len(self.classes_) == 2 else 1.0
        return Objective(
            samples.X,
            samples.y,
            samples.row_weight,
            len(self.classes_),
            l2=self.alpha * (1 - self.l1_ratio) * squares_of_Z,
            l1=self.alpha * self.l1_ratio,
            fit_intercept=self.fit_intercept,
            n_threads=self.n_threads,
        )

    def _fit_full_batch(
        self,
        samples: Samples,
        layer: Layer,
        validation: Samples | None,
        given: tuple[Array, Array, Any],
        callback: Callable[[Epoch], object] | None,
        rng: np.random.RandomState,
    ) -> Self:
        """Fit by a solver that sees all rows in each step; the history then has an entry a step."""
        if self.standardize:
            samples = self._standardised(samples, ColumnStats(samples.X.shape[1]), self.fit_intercept)
        X = samples.X
        W, b = X.weights_from_array(*(a.astype(float) for a in layer))
        self.learning_rate_ = None
        self._put([(layer[0].astype(X.dtype), layer[1].astype(X.dtype))])
        score: float | None = None

        def accuracy() -> float:
            """Validation accuracy, computed anew only if the weights have moved."""
            nonlocal score
            if score is None:
                assert validation is not None
                predicted = self._largest(validation.X.array, np.arange(len(self.classes_)))
                score = float(np.mean(predicted == self._strata(validation.y)))
            return score

        def after_step(value: float, weights: Layer | None, seconds: float) -> bool:
            """Report a step to `weights`; None if it has not moved them."""
            nonlocal score
            if weights is not None:
                self._put([X.weights_for_array(*(a.astype(X.dtype) for a in weights))])
                score = None
            loop.tell(value, self._record([value], seconds, loop.accuracy), seconds)
            return loop.stopped

        to_score = None if validation is None else accuracy
        loop = FitLoop(self, given, samples, self._fitted, to_score, callback)
        warning = None
        with loop:
            if self.solver == "lbfgs":
                warning = self._to_the_minimum(samples, W, b, after_step)
            else:
                search = RandomSearch(
                    samples,
                    local=self.solver == "random_local_search",
                    scale=None if self.learning_rate == "auto" else float(self.learning_rate),
                    alpha=self.alpha,
                    l1_ratio=self.l1_ratio,
                    fit_intercept=self.fit_intercept,
                    n_threads=self.n_threads,
                )
                self.learning_rate_ = search.scale
                warning = search.run(W.astype(X.dtype), b.astype(X.dtype), self.max_iter, rng, after_step)
        if warning:
            warn(warning, ConvergenceWarning)
        return self

    def _to_the_minimum(
        self,
        samples: Samples,
        W: Array,
        b: Array,
        after_step: Callable[[float, Layer | None, float], bool],
    ) -> str | None:
        """Step by L-BFGS; return a warning, or None."""
        objective, start = self._objective(samples), time.perf_counter()

        def after(weights: Callable[[], Array], value: float, n_iter: int) -> bool:
            nonlocal start
            stop = after_step(value, objective.expand(weights()), time.perf_counter() - start)
            start = time.perf_counter()
            return stop

        Z = objective.collapse(W, b) if W.any() or b.any() else objective.first_guess()
        result = reductions.minimize(objective, Z, self.tol or 0.0, self.max_iter, after)
        W, b = (a.astype(objective.result_dtype) for a in objective.expand(result.Z))
        self._put([samples.X.weights_for_array(W, b)])
        if result.converged or result.stopped or self.tol is None:
            return None
        return (
            f"stopped after {result.n_iter} steps. {result.shortfall(self.tol)} Raise "
            f"max_iter={self.max_iter} or tol, or scale the data."
        )

    # ---- streams -------------------------------------------------------------------------------------------

    @checks_parameters
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on these rows, from the present weights.

        With ``learning_rate="auto"`` the ranges of the features, and the step that suits them, are learned
        from all rows since the first call, and so are the weights of ``class_weight="balanced"``. Sample and
        class weights count relative to their mean over all these rows. What the optimizer remembers goes on
        from call to call.

        Parameters
        ----------
        X : (N, D) array-like
        y : (N,) array-like or (N, C) array-like
            Labels, or targets as in `fit`: probabilities of ``classes_``, in their order.
        classes : (C,) array-like or None
            All the labels there will be; needed on the first call, unless y are targets.
        sample_weight : (N,) array-like or None

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If `classes` is missing on the first call, or y holds a label that is not among them.
        DivergenceError
            As in `fit`.
        """
        if self.early_stopping:
            raise ValueError("early_stopping must be False with partial_fit")
        if self.solver != "sgd":
            raise ValueError(f"partial_fit is gradient descent; solver must be 'sgd', not {self.solver!r}")
        first_call = not hasattr(self, "coef_")
        X, y = self._validate(X, y, reset=first_call)
        self.classes_ = labels.classes_of_stream(None if first_call else self.classes_, y, classes)
        y = self._encode(y, "y")
        shape = len(self.classes_), X.shape[1]
        stream = None if first_call else self._stream
        stream = stream or Stream(shape[1], shape[0])
        samples = self._samples(X, y, sample_weight, stream)
        if samples.row_weight is not None:
            samples = Samples(X, y, samples.row_weight, mean_weight=stream.seen.mean_weight)
        if first_call:
            self.coef_, self.intercept_ = np.zeros(shape, X.dtype), np.zeros(shape[0], X.dtype)
            self.loss_curve_, self.epoch_seconds_, self.validation_scores_ = [], [], None
            self.n_iter_ = 0
        rng = check_random_state(self.random_state)
        layers = [(self.coef_, self.intercept_)]
        self._train_on(*self._trainer(samples, layers, stream, rng, resume=True))
        return self

    def _loss_and_gradient(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, rng: np.random.RandomState
    ) -> Differentiable:
        """See :mod:`softline.gradient_check`; the gradient is what the kernel of an epoch steps by."""
        fitted = hasattr(self, "coef_")
        X, y = self._validate(X, y, reset=not fitted)
        if not fitted:
            self.classes_, _ = labels.classes_of(y)
            self.coef_ = 0.01 * rng.standard_normal((len(self.classes_), X.shape[1]))
            self.intercept_ = 0.01 * rng.standard_normal(len(self.classes_))
        X, y = Rows(X.array, dtype=np.float64), self._encode(y, "y")
        y = y.astype(float) if y.ndim == 2 else y
        stream = Stream(X.shape[1], len(self.classes_))
        samples = self._samples(X, y, sample_weight, stream)
        if self.standardize:
            samples = self._standardised(samples, stream.stats, self.fit_intercept)
        layer = samples.X.weights_from_array(self.coef_, self.intercept_)
        if self.solver == "lbfgs":
            self._check_full_batch(y, None)
            objective = self._objective(samples)
            return objective.differentiable(objective.collapse(*layer))

        def named(layers: Sequence[Layer]) -> dict[str, Array]:
            ((W, b),) = layers
            return {"coef_": W} | ({"intercept_": b} if self.fit_intercept else {})

        trainer = Trainer([layer], self._options(), rng, X.dtype)
        return NetworkObjective(trainer, samples).differentiable(named)

    def _encode(self, y: Array, name: str) -> Array:
        return labels.encode(y, self.classes_, name)

    def _restore(self, layers: list[Layer], history: dict[str, Any]) -> None:
        super()._restore(layers, history)
        self._stream = None
