"""Twins have the signatures of :mod:`softline.reference`; the others are of the machine and its threads."""

from typing import Any

from numpy.typing import DTypeLike

from softline._typing import Activation, Array, Metric
from softline.reference import activate as activate
from softline.reference import activation_gradient as activation_gradient
from softline.reference import affine as affine
from softline.reference import candidate_losses as candidate_losses
from softline.reference import classes as classes
from softline.reference import clip_gradient as clip_gradient
from softline.reference import column_stats as column_stats
from softline.reference import coordinate_descent as coordinate_descent
from softline.reference import cross_entropy as cross_entropy
from softline.reference import cross_entropy_gradient as cross_entropy_gradient
from softline.reference import distances as distances
from softline.reference import dropout as dropout
from softline.reference import duality_gap as duality_gap
from softline.reference import epoch as epoch
from softline.reference import first_loop as first_loop
from softline.reference import gradient as gradient
from softline.reference import gradients as gradients
from softline.reference import gram as gram
from softline.reference import hinge_gradient as hinge_gradient
from softline.reference import invert_factor as invert_factor
from softline.reference import log_softmax as log_softmax
from softline.reference import loss_gradient as loss_gradient
from softline.reference import nearest as nearest
from softline.reference import network_scores as network_scores
from softline.reference import newton as newton
from softline.reference import precondition as precondition
from softline.reference import probabilities as probabilities
from softline.reference import project_rows as project_rows
from softline.reference import scores as scores
from softline.reference import second_loop as second_loop
from softline.reference import softmax as softmax
from softline.reference import step as step

MOST_THREADS: int
ACTIVATIONS: dict[Activation, int]
LOSSES: dict[str, int]
METRICS: tuple[Metric, ...]
RULES: dict[str, tuple[int, int]]  # the code of a rule, and its moments

class Arena:
    """Room for the buffers of an epoch, kept from call to call."""

    bytes: Array
    def __init__(self) -> None: ...
    def room(self, n: int) -> Array: ...

def isas() -> dict[str, bool]: ...
def isa_name() -> str: ...
def _use_isa(wanted: str | None = None) -> None: ...
def config() -> dict[str, Any]: ...
def max_threads() -> int: ...
def threads_for_epoch(n_threads: int | None, n_rows: float, batch_size: float, operations: float) -> int: ...
def take_fewer_threads(threads: int, seconds: float) -> int: ...
def members_after(members: int, lost: float, seconds: float) -> int: ...
def padded(n_rows: int, n_features: int, dtype: DTypeLike) -> Array: ...
def multiply_add(double_precision: bool, rounds: int, n_threads: int | None) -> float: ...
def read(data: Array, rounds: int, n_threads: int | None) -> int: ...
