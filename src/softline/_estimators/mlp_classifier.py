"""scikit-learn's MLPClassifier on softline's kernels, with more optimizers, penalties and schedules."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, Literal, Self, cast

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.neural_network import MLPClassifier as SklearnMLPClassifier
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from softline import _kernels, optimizers, schedules
from softline._estimators import labels
from softline._estimators._sklearn import Interval, Options, StrOptions
from softline._estimators.base import (
    DESCENT_CONSTRAINTS,
    SoftmaxPredictor,
    available_where,
    checks_parameters,
    largest_of,
)
from softline._estimators.description import Output
from softline._estimators.served import LeavesTheRest, as_fitted
from softline._kernels.rows import Rows, Samples
from softline._solvers.network_objective import NetworkObjective
from softline._training.fit_loop import FitLoop, StoppingRule, TrainsByEpochs
from softline._training.hooks import Batch, Epoch
from softline._training.trainer import (
    DivergenceError,
    Stream,
    Trainer,
    TrainerOptions,
    epoch_flops,
)
from softline._typing import (
    Activation,
    Array,
    ClassWeight,
    Differentiable,
    EvalSet,
    Floats,
    Layer,
    MatrixLike,
    RandomState,
)

__all__ = ["DivergenceError", "MLPClassifier"]

# Learning rate at which scikit-learn's "adaptive" stops.
LEAST_RATE = 1e-6

# Error message for an argument that only softline takes, and the reason why scikit-learn's code fits.
OWN = "{} is softline's own, but scikit-learn's code fits, because {}"


class MLPClassifier(LeavesTheRest, TrainsByEpochs, SoftmaxPredictor, SklearnMLPClassifier):
    """Multi-layer perceptron: layers of units with an activation in between, and a softmax on top.

    Minimises the (weighted) mean cross-entropy plus alpha/2 sum(W * W) / n over batches of n rows by
    stochastic gradient descent with backpropagation, each epoch in one call to compiled kernels. Parameters,
    defaults and attributes are those of scikit-learn's MLPClassifier, which this class derives from, and so
    are, for the same `random_state`, initial weights and batches: the steps are the same to rounding. The
    result is the same to the bit for any `n_threads`. `init` and the parameters after it are additions.
    Sparse rows are left to scikit-learn's own code.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(100,)
        Units of each hidden layer; () is the linear classifier.
    activation : {"identity", "logistic", "tanh", "relu", "leaky_relu"}, default="relu"
        Of the hidden units; "leaky_relu" has slope 0.01 below 0.
    solver : str or Optimizer, default="adam"
        "sgd" (with `momentum` and `nesterovs_momentum`), "adam", "lbfgs" (all rows at once, by SciPy); also
        "momentum", "nesterov", "adamw", "rmsprop", "adagrad", "asgd", or one of :mod:`softline.optimizers`
        with parameters of your own.
    alpha : float, default=1e-4
        L2 penalty; the intercepts are not penalised. As in scikit-learn it is divided by the rows of the
        batch: SoftmaxClassifier's `alpha` is this one over `batch_size`.
    batch_size : int, "auto" or None, default="auto"
        Rows of a step. "auto" is min(200, N), None takes all rows at once.
    learning_rate : str or callable, default="constant"
        "constant"; "invscaling", learning_rate_init / t^power_t with t the rows seen; "adaptive", divided by
        5 whenever training stands still (neither has an effect on "adam", as in scikit-learn); "step",
        "exponential", "inverse_time", "cosine", "warm_up", one of :mod:`softline.schedules`, or any function
        of (epoch, max_iter) that gives what to multiply `learning_rate_init` with.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
    max_iter : int, default=200
        Most epochs to run; for "lbfgs" steps.
    shuffle : bool, default=True
        Whether each epoch takes the rows in a new order.
    random_state : int, RandomState or None, default=None
        Draws weights, the validation split, orders and dropout. An int gives the same bits each time.
    tol : float or None, default=1e-4
        Training stops when the loss (with `early_stopping`, the validation accuracy) has not improved by
        `tol` for more than `n_iter_no_change` epochs. None runs all of `max_iter`.
    verbose : bool or int, default=False
        True shows a progress bar with loss, validation accuracy, rows a second and the time left; 2 also how
        many GFLOP/s the kernels reach, and which share of the machine's peak that is (not for "lbfgs").
    warm_start : bool, default=False
        Whether `fit` starts from the weights of the previous one.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
    early_stopping : bool, default=False
        Stop on the accuracy of rows that are not trained on: the `eval_set` given to `fit`, or else
        `validation_fraction` of the training rows. The best epoch's weights are kept; with `warm_start`,
        the weights at the start, if no epoch is better. It has no effect on "lbfgs".
    validation_fraction : float, default=0.1
    beta_1, beta_2, epsilon : float, default=0.9, 0.999 and 1e-8
        Of "adam" and "adamw".
    n_iter_no_change : int or inf, default=10
    max_fun : int, default=15000
        Most passes over the rows of "lbfgs".
    init : {"xavier", "he"}, default="xavier"
        Initial weights. "xavier" is scikit-learn's, uniform with variance 2 / (n_in + n_out) (Glorot and
        Bengio, 2010; a third of it for "logistic"), the intercepts alike. "he" is normal with variance
        2 / n_in, which keeps the scale of relu units from layer to layer (He et al., 2015), and intercepts 0.
    dropout : float, default=0.0
        Share of the hidden units that each row goes without while it is trained on; the others are divided by
        1 - dropout (Srivastava et al., 2014).
    standardize : bool, default=False
        Whether to train as a pipeline with StandardScaler would. X is not copied, and `coefs_[0]` and
        `intercepts_[0]` take raw rows. In `partial_fit` the statistics are those of all rows since the first
        call.
    l1_ratio : float, default=0.0
        Share of L1 in the penalty, ``alpha ((1 - l1_ratio)/2 sum(W * W) + l1_ratio sum(|W|)) / n``: 0 is L2,
        1 is L1, between them is the elastic net. L1 acts by proximal steps: weights that do not pay are
        exactly 0. Not for "lbfgs".
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with `sample_weight`: a dict from labels to weights, 1 for those
        left out; or "balanced", inversely proportional to the (weighted) class frequencies, which in
        `partial_fit` are those of all rows so far. A row with targets weighs what its classes do on average.
        Not for rows with several labels.
    label_smoothing : float, default=0.0
        Share of the uniform distribution that is mixed into the labels or targets, in [0, 1). Two classes
        then have two outputs and a softmax. Not for rows with several labels.
    clip_norm : float or None, default=None
        Gradients are scaled down to this norm, that of all parameters together and without the penalty's, as
        in PyTorch's `clip_grad_norm_`. Not for "lbfgs".
    max_norm : float or None, default=None
        After each step the weights that go into a unit are scaled down to this norm; with `standardize`,
        those of the standardised features. Not for "lbfgs".
    n_threads : int or None, default=None
        Threads to use. None: what the process may use, fewer where the work is small or the
        machine busy.

    Attributes
    ----------
    coefs_ : list of (n_in, n_out) ndarrays
        Weights of each layer, float32 or float64 as X.
    intercepts_ : list of (n_out,) ndarrays
    classes_ : (C,) ndarray
    n_features_in_ : int
    feature_names_in_ : (D,) ndarray of str
        Only where X has them.
    n_layers_ : int
        Layers, input and output counted.
    n_outputs_ : int
        C; 1 for labels of two classes without `label_smoothing`.
    out_activation_ : {"softmax", "logistic"}
        "logistic", 1/(1 + exp(-score)), for one output and for each of several labels by itself.
    n_iter_ : int
        Epochs run.
    t_ : int
        Rows trained on.
    loss_ : float
        Of the last epoch.
    loss_curve_ : list of float
        Loss of each epoch: the mean over its rows, each batch before its update, and the penalty of the
        weights that the epoch began with.
    best_loss_ : float or None
        The least of them; None with `early_stopping`.
    validation_scores_ : list of float or None
        Validation accuracy after each epoch.
    best_validation_score_ : float or None
        With `early_stopping` that of the weights that were kept, on the rows of the last fit.
    learning_rate_ : float
        The learning rate of the last epoch, before a schedule.
    epoch_seconds_ : list of float
        Wall time of each epoch's call to the kernels.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from softline.neural_network import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> MLPClassifier(max_iter=20, tol=None, standardize=True, random_state=0).fit(X, y).score(X, y) > 0.97
    True
    """

    coefs_: list[Floats]
    intercepts_: list[Floats]
    n_layers_: int
    n_outputs_: int
    out_activation_: Literal["softmax", "logistic"]
    t_: int
    loss_: float | Any  # None before the first epoch
    best_loss_: float | None
    best_validation_score_: float | None
    _drawn: bool  # whether the weights are newly drawn, and so are for rows as they are trained on

    _sklearn = SklearnMLPClassifier
    _takes_targets = True
    _parameter_constraints = {
        **DESCENT_CONSTRAINTS,
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(_kernels.ACTIVATIONS))],
        "solver": [StrOptions({"lbfgs", *optimizers.BY_NAME}), optimizers.Optimizer],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [StrOptions({"invscaling", "adaptive", *schedules.BY_NAME}), callable],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"xavier", "he"})],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] | Array = (100,),
        activation: Activation = "relu",
        *,
        solver: optimizers.Name | Literal["lbfgs"] | optimizers.Optimizer = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] | None = "auto",
        learning_rate: Literal["invscaling", "adaptive"] | schedules.Name | schedules.Schedule = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: RandomState = None,
        tol: float | None = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        init: Literal["xavier", "he"] = "xavier",
        dropout: float = 0.0,
        standardize: bool = False,
        l1_ratio: float = 0.0,
        class_weight: ClassWeight = None,
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        max_norm: float | None = None,
        n_threads: int | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )
        self.init = init
        self.dropout = dropout
        self.standardize = standardize
        self.l1_ratio = l1_ratio
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.clip_norm = clip_norm
        self.max_norm = max_norm
        self.n_threads = n_threads

    # ---- training ----------------------------------------------------------------------------------

    @checks_parameters
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        eval_set: EvalSet | None = None,
        callback: Callable[[Epoch], object] | None = None,
        batch_callback: Callable[[Batch], object] | None = None,
    ) -> Self:
        """Train on X and y.

        Parameters
        ----------
        X : (N, D) array-like or sparse matrix
            As in :meth:`softline.SoftmaxClassifier.fit`: read where it lies, in its own dtype. Sparse
            matrices are left to scikit-learn's own code, which has no `eval_set` and no callbacks.
        y : (N,) array-like or (N, K) array-like
            Labels of any type. Or, for rows that may have several of K labels, a matrix of 0 and 1, as in
            scikit-learn. Or, as floats that are not all 0 or 1, targets: a row of K probabilities for each
            row of X; `classes_` is then 0..K-1, and accuracy is that of the most probable class.
        sample_weight : (N,) array-like or None
            Counts relative to the sum over each batch, as in scikit-learn; rows of weight 0 are left out.
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
        goes_on = self.warm_start and hasattr(self, "coefs_")
        because = self._why_trained_by_sklearn(X, y, goes_on)
        if because is not None:
            given = {"eval_set": eval_set, "callback": callback, "batch_callback": batch_callback}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(OWN.format(name, because))
            return self._train_by_sklearn(because, "fit", X, y, sample_weight=sample_weight)
        X, y = self._validate(X, y, reset=not goes_on)
        given = X.array, y, sample_weight
        classes, codes = labels.classes_of(y)
        if goes_on and not np.array_equal(classes, self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                f"Previously got {self.classes_}, `y` has {classes}"
            )
        stream = Stream(X.shape[1], len(classes))
        weight = self._row_weights(X, codes, classes, sample_weight, stream)
        rng = check_random_state(self.random_state)
        if not goes_on:
            self._begin(X, y, classes, rng)
        samples, validation = self._split(Samples(X, self._encode(y, "y"), weight), eval_set, rng)
        trainer, samples = self._trainer(samples, self._layers(), stream, rng, drawn=self._drawn)
        accuracy = None
        if validation is not None:
            accuracy = partial(trainer.accuracy, validation.standardised_as(samples.X))
            self.validation_scores_ = self.validation_scores_ or []
        loop = FitLoop(self, given, samples, lambda: self._keep(trainer, samples.X), accuracy, callback)
        if self.solver == "lbfgs":
            self._to_the_minimum(trainer, samples, loop, batch_callback)
            return self
        best = np.inf if self.early_stopping or self.best_loss_ is None else self.best_loss_
        rule = StoppingRule(self.tol, self.n_iter_no_change + 1, ties=True, best=best)
        converged = loop.descend(trainer, samples, rule, batch_callback, goes_on)
        if not (loop.stopped or converged or self.tol is None):
            self._warn_of_max_iter()
        return self

    def _why_trained_by_sklearn(self, X: Any, y: Any, goes_on: bool) -> str | None:
        """Reason why scikit-learn's code must train, or None; a model that `goes_on` stays with its code."""
        because = self._why_left(X, y)
        if not goes_on:
            return because
        if because is not None and self._left_because is None:
            raise ValueError(
                f"{because}, and scikit-learn's code cannot go on from weights that softline trained; pass "
                "dense rows, or fit without warm_start"
            )
        return self._left_because

    def _train_by_sklearn(self, because: str, method: str, X: Any, y: Any, **optional: Any) -> Self:
        """Train by scikit-learn's `fit` or `partial_fit`."""
        if not issparse(y) and labels.n_columns(y) > 1 and not np.isin(y, (0, 1)).all():
            raise ValueError(OWN.format("a y of floats, which are probabilities,", because))
        self.epoch_seconds_, self.learning_rate_ = [], None
        if self.solver == "lbfgs":  # scikit-learn keeps no history of it
            self.loss_curve_, self.validation_scores_ = [], None
            self.best_loss_ = self.best_validation_score_ = None
        if hasattr(self, "coefs_"):  # scikit-learn steps in place, but memory maps are read-only
            self.coefs_ = [np.require(coef, requirements="W") for coef in self.coefs_]
            self.intercepts_ = [np.require(intercept, requirements="W") for intercept in self.intercepts_]
        return self._leave(because, method, X, y, **optional)

    def _has_epochs(self) -> bool:
        """Whether the solver trains by epochs; if not, AttributeError says why there is no `partial_fit`."""
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit takes one epoch of descent; solver='lbfgs' has none")
        return True

    @available_where(_has_epochs)
    @checks_parameters
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on these rows, from the present weights.

        What the optimizer remembers goes on from call to call, and from `fit`.

        Parameters
        ----------
        X : (N, D) array-like
        y : (N,) array-like or (N, K) array-like
            As in `fit`.
        sample_weight : (N,) array-like or None
        classes : (C,) array-like or None
            All the labels there will be; needed on the first call, unless y is a matrix.

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
            raise ValueError("partial_fit does not support early_stopping=True")
        first_call = not hasattr(self, "coefs_")
        because = self._why_trained_by_sklearn(X, y, not first_call)
        if because is not None:
            optional = {"sample_weight": sample_weight, "classes": classes}
            return self._train_by_sklearn(because, "partial_fit", X, y, **optional)
        X, y = self._validate(X, y, reset=first_call)
        classes = labels.classes_of_stream(None if first_call else self.classes_, y, classes, fewest=1)
        stream = (None if first_call else self._stream) or Stream(X.shape[1], len(classes))
        weight = self._row_weights(X, labels.encode(y, classes, "y"), classes, sample_weight, stream)
        rng = check_random_state(self.random_state)
        if first_call:
            self._begin(X, y, classes, rng)
        samples = Samples(X, self._encode(y, "y"), weight)
        options = {"resume": True, "drawn": self._drawn}
        self._train_on(*self._trainer(samples, self._layers(), stream, rng, **options))
        return self

    def _row_weights(
        self, X: Rows, y: Array, classes: Array, sample_weight: ArrayLike | None, stream: Stream
    ) -> Array | None:
        """Product of sample and class weights, counted by the stream; y holds codes or a matrix."""
        if labels.holds_indicators(y):
            for name in ("class_weight", "label_smoothing"):
                if getattr(self, name):
                    raise ValueError(f"{name} is for one label a row, and y has several")
        return labels.row_weights(X, y, classes, sample_weight, self.class_weight, stream.seen)

    def _begin(self, X: Rows, y: Array, classes: Array, rng: np.random.RandomState) -> None:
        """Draw the initial weights, and clear the history."""
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes, dtype=object)).tolist()
        if not all(isinstance(n, Integral) and int(n) > 0 for n in hidden):
            raise ValueError(
                f"hidden_layer_sizes must be > 0, whole numbers of units; got {self.hidden_layer_sizes!r}"
            )
        self.classes_ = classes
        several = labels.holds_indicators(y)
        # The kernels' logistic output takes neither targets nor smoothed labels.
        mixed = y.ndim == 2 or (self.label_smoothing > 0 and len(classes) == 2)
        n_outputs = 1 if len(classes) <= 2 and not mixed else len(classes)
        coefs, intercepts = [], []
        for n_in, n_out in pairwise([X.shape[1], *hidden, n_outputs]):
            if self.init == "he":
                coef, intercept = rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out)), np.zeros(n_out)
            else:
                bound = np.sqrt((2 if self.activation == "logistic" else 6) / (n_in + n_out))
                coef = rng.uniform(-bound, bound, (n_in, n_out))
                intercept = rng.uniform(-bound, bound, n_out)
            coefs.append(coef.astype(X.dtype))
            intercepts.append(intercept.astype(X.dtype))
        self._adopt(coefs, intercepts, "logistic" if several or n_outputs == 1 else "softmax")
        self._drawn, self._left_because = True, None

    def _adopt(
        self, coefs: list[Array], intercepts: list[Array], out_activation: Literal["softmax", "logistic"]
    ) -> None:
        """Set the weights of a network, and clear the history."""
        self.coefs_, self.intercepts_, self.out_activation_ = coefs, intercepts, out_activation
        self.n_layers_, self.n_outputs_ = len(coefs) + 1, len(intercepts[-1])
        self.n_iter_ = self.t_ = 0
        self.loss_curve_, self.epoch_seconds_, self.validation_scores_ = [], [], None
        self._stream, self._drawn = None, False
        self._summarise()

    @property
    def _several(self) -> bool:
        """Whether rows may have several labels."""
        return getattr(self, "out_activation_", None) == "logistic" and self.n_outputs_ > 1

    def _strata(self, y: Array) -> Array | None:
        return y if self.n_outputs_ == 1 else None  # as in scikit-learn

    @property
    def _stops_early(self) -> bool:
        return self.early_stopping and self.solver != "lbfgs"

    def _summarise(self, best_score: float | None = None) -> None:
        losses, scores = self.loss_curve_, self.validation_scores_
        self.loss_ = losses[-1] if losses else None
        self.best_loss_ = min(losses) if losses and not self._stops_early else None
        self.best_validation_score_ = (
            best_score if best_score is not None else max(scores or [], default=None)
        )

    def _options(self) -> TrainerOptions:
        """Options of the trainer; a stream keeps its learning rate from call to call."""
        rate = None if self._stream is None else self._stream.rate
        schedule = "constant" if self.learning_rate in ("invscaling", "adaptive") else self.learning_rate
        return TrainerOptions(
            float(self.learning_rate_init) if rate is None else rate,
            self._rule(),
            schedules.get(schedule),
            batch_size=200 if self.batch_size == "auto" else self.batch_size,
            penalty_of_batch=True,
            reshuffle=True,
            activation=self.activation,
            dropout=float(self.dropout),
            # With one class the uniform distribution is the label itself.
            **self._shared_options() | ({"label_smoothing": 0.0} if len(self.classes_) == 1 else {}),
        )

    def _loss_and_gradient(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, rng: np.random.RandomState
    ) -> Differentiable:
        """See :mod:`softline.gradient_check`; dropout leaves out the same units each time."""
        fitted = hasattr(self, "coefs_")
        X, y = self._validate(X, y, reset=not fitted)
        X = Rows(X.array, dtype=np.float64)
        if not fitted:
            self._begin(X, y, labels.classes_of(y)[0], rng)
        stream = Stream(X.shape[1], len(self.classes_))
        y = y if labels.holds_indicators(y) or y.ndim == 1 else y.astype(float)
        codes = labels.encode(y, self.classes_, "y")
        weight = self._row_weights(X, codes, self.classes_, sample_weight, stream)
        samples = Samples(X, self._encode(y, "y"), weight)
        trainer, samples = self._trainer(samples, self._layers(), stream, rng, drawn=self._drawn)

        def named(layers: Sequence[Layer]) -> dict[str, Array]:
            return {f"coefs_[{i}]": W.T for i, (W, _) in enumerate(layers)} | {
                f"intercepts_[{i}]": b for i, (_, b) in enumerate(layers)
            }

        return NetworkObjective(trainer, samples).differentiable(named)

    def _epoch_flops(self, n_rows: int) -> int | None:
        if self.solver == "lbfgs":  # its steps take any number of passes over the rows
            return None
        return epoch_flops(n_rows, *(coef.size for coef in self.coefs_))

    def _rule(self) -> optimizers.Optimizer:
        momentum = min(float(self.momentum), np.nextafter(1, 0))  # because the optimizer takes no 1
        match self.solver:
            case "sgd" | "momentum" | "nesterov":
                nesterov = self.nesterovs_momentum if self.solver == "sgd" else self.solver == "nesterov"
                return (optimizers.Nesterov if nesterov else optimizers.Momentum)(momentum)
            case "adam" | "adamw":
                adam = optimizers.Adam if self.solver == "adam" else optimizers.AdamW
                return adam(
                    float(self.beta_1), float(self.beta_2), float(self.epsilon), eps_hat=self.solver == "adam"
                )
            case "lbfgs":
                return optimizers.SGD()
        return optimizers.get(self.solver)

    @property
    def _keeps_rate(self) -> bool:
        return self.learning_rate != "invscaling" or self.solver == "adam"

    def _after_epochs(self, trainer: Trainer, n_rows: int) -> None:
        self.t_ += n_rows
        if not self._keeps_rate:
            self._set_rate(trainer, self.learning_rate_init / (self.t_ + 1) ** self.power_t)

    def _goes_on(self, trainer: Trainer) -> bool:
        """Lower the rate if it is "adaptive"; return whether it was."""
        if self.learning_rate != "adaptive" or self.solver == "adam" or trainer.rate <= LEAST_RATE:
            return False
        self._set_rate(trainer, trainer.rate / 5)
        return True

    def _set_rate(self, trainer: Trainer, rate: float) -> None:
        """Change the learning rate; moments are rescaled, because scikit-learn's velocity contains it."""
        if isinstance(trainer.options.optimizer, optimizers.Momentum):
            for state in trainer.states:
                state.W *= trainer.rate / rate
                state.b *= trainer.rate / rate
        trainer.rate = self.learning_rate_ = rate

    def _to_the_minimum(
        self,
        trainer: Trainer,
        samples: Samples,
        loop: FitLoop,
        batch_callback: Callable[[Batch], object] | None,
    ) -> None:
        """Fit by L-BFGS, which sees all rows at each step."""
        for given, what in (
            (self.dropout > 0, "needs the same loss each time; dropout"),
            (self.l1_ratio > 0, "needs a smooth loss; l1_ratio"),
            (self.clip_norm is not None, "chooses its steps; clip_norm"),
            (self.max_norm is not None, "chooses its steps; max_norm"),
            (batch_callback is not None, "has no batches; batch_callback"),
        ):
            if given:
                raise ValueError(f"solver='lbfgs' {what} needs another solver")
        objective, start = NetworkObjective(trainer, samples), time.perf_counter()
        first = reached = objective.vector
        result = None

        def after_step(intermediate_result: Any) -> None:
            nonlocal start, reached
            seconds, loss = time.perf_counter() - start, float(intermediate_result.fun)
            objective.vector = reached = intermediate_result.x.copy()
            loop.tell(loss, self._record([loss], seconds, loop.accuracy), seconds)
            start = time.perf_counter()
            if loop.stopped:
                raise StopIteration

        with loop:
            try:
                result = scipy.optimize.minimize(
                    objective,
                    first,
                    method="L-BFGS-B",
                    jac=True,
                    callback=after_step,
                    options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol or 0.0},
                )
                reached = result.x
            finally:
                objective.vector = reached  # the line search may have left a trial point
                if not (trainer.finite and (result is None or np.isfinite(result.fun))):
                    objective.vector = first
                    self._keep(trainer, samples.X)
                    raise DivergenceError("the loss is not finite; scale the data, or pass standardize=True")
                self._keep(trainer, samples.X)
        if result is not None and not (loop.stopped or result.success):
            self._warn_of_max_iter()

    # ---- weights -----------------------------------------------------------------------------------

    def _layers(self) -> list[Layer]:
        """Weights (W, b) of each layer as the kernels take them, for rows as they came."""
        return [(coef.T, intercept) for coef, intercept in zip(self.coefs_, self.intercepts_, strict=True)]

    def _put(self, layers: Sequence[Layer]) -> None:
        self.coefs_ = [np.ascontiguousarray(W).T for W, _ in layers]
        self.intercepts_ = [b for _, b in layers]
        self._drawn = False

    def _fitted(self) -> dict[str, Any]:
        return {"coefs_": self.coefs_, "intercepts_": self.intercepts_}

    # ---- validation --------------------------------------------------------------------------------

    def _check_matrix(self, y: Array, dtype: np.dtype[Any], reset: bool) -> Array:
        """Check targets, or 0 and 1 of any dtype; a fitted model knows which of them y must hold."""
        return labels.check_targets_or_indicators(y, dtype, None if reset else self._several)

    def _encode(self, y: Array, name: str) -> Array:
        """Labels as the kernels take them."""
        if labels.holds_indicators(y) != self._several:
            raise ValueError(f"{name} has shape {y.shape}; the classes are {self.classes_}")
        codes = labels.encode(y, self.classes_, name)
        if self.n_outputs_ < len(self.classes_) and (y.ndim == 2 or self.label_smoothing > 0):
            raise ValueError(
                f"targets and label_smoothing need an output for each class; the model has {self.n_outputs_} "
                f"for {len(self.classes_)} classes: fit it anew"
            )
        return codes[:, None] if self.n_outputs_ == 1 else codes

    # ---- prediction --------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Floats:
        """Scores (N, n_outputs_), a new array."""
        check_is_fitted(self, "coefs_")
        layers = self._layers()
        if issparse(X):
            X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
            (W, b), *layers = layers
            hidden = np.ascontiguousarray(X @ W.T + b)
            if not layers:
                return hidden
            _kernels.activate(hidden, self.activation, self.n_threads)
            X = Rows(hidden)
        else:
            X = self._validate(X, reset=False)
        dtype = np.result_type(X.dtype, self.coefs_[0])
        X = Rows(X.array, dtype=dtype)
        weights = [(np.ascontiguousarray(W, dtype), np.ascontiguousarray(b, dtype)) for W, b in layers]
        scores = np.empty((len(X), self.n_outputs_), dtype)
        if not _kernels.network_scores(X, None, weights, self.activation, scores, self.n_threads):
            self._raise_if_not_finite(X)
        return scores

    def _largest(self, X: Any, names: Array) -> Array:
        return largest_of(self._outputs(X), names)

    def _probabilities(self, X: Any, log: bool = False) -> Floats:
        scores = self._outputs(X)
        if self.n_outputs_ == 1:
            scores = scores * np.array([-0.5, 0.5], scores.dtype)
        (_kernels.log_softmax if log else _kernels.softmax)(scores, self.n_threads)
        return scores

    def decision_function(self, X: MatrixLike) -> Floats:
        """Scores: what the last layer puts out.

        Parameters
        ----------
        X : (N, D) array-like or sparse matrix

        Returns
        -------
        scores : (N, C) ndarray; for two classes (N,), the log-odds of ``classes_[1]``
        """
        scores = self._outputs(X)
        if self.n_outputs_ == 1:
            return scores[:, 0]
        return scores[:, 1] - scores[:, 0] if self.n_outputs_ == 2 and not self._several else scores

    @as_fitted
    def predict(self, X: MatrixLike) -> Array:
        """The class of the largest score.

        Parameters
        ----------
        X : (N, D) array-like or sparse matrix

        Returns
        -------
        y : (N,) ndarray of type ``classes_.dtype``; a matrix (N, K) of 0 and 1 where rows have several labels
        """
        if self._several:
            return (self._outputs(X) > 0).astype(int)
        return super().predict(cast(ArrayLike, X))

    @as_fitted
    def predict_proba(self, X: MatrixLike) -> Floats:
        """Probabilities of the classes.

        Parameters
        ----------
        X : (N, D) array-like or sparse matrix

        Returns
        -------
        probabilities : (N, C) ndarray
            Columns in the order of ``classes_``. Where rows have several labels, of each by itself.
        """
        if not self._several:
            return super().predict_proba(cast(ArrayLike, X))
        scores = self._outputs(X)
        _kernels.activate(scores, "logistic", self.n_threads)
        return scores

    @as_fitted
    def predict_log_proba(self, X: MatrixLike) -> Floats:
        """Logarithms of the probabilities.

        Parameters
        ----------
        X : (N, D) array-like or sparse matrix

        Returns
        -------
        log_probabilities : (N, C) ndarray
            Finite where a probability underflows to 0.
        """
        if not self._several:
            return super().predict_log_proba(cast(ArrayLike, X))
        return -np.logaddexp(0, -self._outputs(X))

    @property
    def _output(self) -> Output:
        return self.out_activation_

    def _restore(self, layers: list[Layer], history: dict[str, Any]) -> None:
        """Set weights and history of a model that has its `classes_` and `out_activation_`."""
        coefs = [np.ascontiguousarray(W).T for W, _ in layers]  # as a fit leaves them
        self._adopt(coefs, [b for _, b in layers], self.out_activation_)
        for name, value in history.items():
            setattr(self, f"{name}_", value)
        self._summarise()
