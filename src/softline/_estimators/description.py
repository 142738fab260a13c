"""Description of a fitted model, for model files, exports, reports, pictures and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.sparse import issparse

from softline._typing import Layer

Output: TypeAlias = Literal["softmax", "logistic", "one versus rest", "scores", "votes"]

# Attributes that tell of the training, without the _ at their end.
HISTORY = ("n_iter", "learning_rate", "loss_curve", "validation_scores", "epoch_seconds", "t")


@dataclass(frozen=True)
class Description:
    """Layers, output and training of a fitted model.

    Attributes
    ----------
    layers : list of (W, b)
        Weights W (n_out, n_in) of rows as they come, and intercepts b (n_out,). Nearest neighbours have none.
    output : {"softmax", "logistic", "one versus rest", "scores", "votes"}
        What `predict_proba` makes of the scores; "scores" means that there are no probabilities.
    activation : str or None
        Of the hidden units of a network; None of other models.
    several : bool
        Whether a row may have several labels.
    history : dict
        Attributes of `HISTORY` that the model has.
    n_threads : int or None
    feature_names : list of str or None
    """

    layers: list[Layer]
    output: Output
    activation: str | None = None
    several: bool = False
    history: dict[str, Any] = field(default_factory=dict)
    n_threads: int | None = None
    feature_names: list[str] | None = None

    @property
    def has_probabilities(self) -> bool:
        return self.output != "scores"

    @property
    def training(self) -> dict[str, str]:
        """Summary of the training, under "epochs" or "steps"; empty for models without iterations."""
        n_iter = self.history.get("n_iter")
        if n_iter is None:
            return {}
        if "loss_curve" not in self.history:
            return {"steps": str(np.max(n_iter))}
        losses, rate = self.history["loss_curve"], self.history["learning_rate"]
        loss = f", loss {losses[-1]:.4f}" if losses else ""
        return {"epochs": f"{n_iter}{loss}" + ("" if rate is None else f", learning rate {rate:.3g}")}


def layers_of(model: Any) -> list[Layer]:
    """Layers of a fitted classifier, softline's or scikit-learn's; an empty list if it has no weights."""
    if hasattr(model, "coefs_"):
        return [(W.T, b) for W, b in zip(model.coefs_, model.intercepts_, strict=True)]
    if not (hasattr(model, "coef_") and hasattr(model, "classes_")):
        return []
    W = model.coef_.toarray() if issparse(model.coef_) else np.atleast_2d(model.coef_)
    return [(W, np.ravel(model.intercept_))]


def history_of(model: Any) -> dict[str, Any]:
    """Attributes of `HISTORY` that a model has, by name."""
    return {name: vars(model)[f"{name}_"] for name in HISTORY if f"{name}_" in vars(model)}
