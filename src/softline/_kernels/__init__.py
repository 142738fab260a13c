"""The compiled kernels; their twins in :mod:`softline.reference` define what each computes."""

from softline._kernels.core import (
    MOST_THREADS,
    _use_isa,
    config,
    isa_name,
    isas,
    max_threads,
    members_after,
    padded,
    take_fewer_threads,
    threads_for_epoch,
)
from softline._kernels.dense import (
    ACTIVATIONS,
    RULES,
    activate,
    activation_gradient,
    affine,
    classes,
    clip_gradient,
    cross_entropy,
    cross_entropy_gradient,
    dropout,
    gradient,
    gram,
    hinge_gradient,
    log_softmax,
    network_scores,
    precondition,
    probabilities,
    project_rows,
    scores,
    softmax,
    step,
)
from softline._kernels.descent import coordinate_descent, duality_gap, first_loop, invert_factor, second_loop
from softline._kernels.machine import multiply_add, read
from softline._kernels.neighbors import METRICS, distances, nearest
from softline._kernels.training import (
    LOSSES,
    Arena,
    candidate_losses,
    column_stats,
    epoch,
    gradients,
    loss_gradient,
    newton,
)
