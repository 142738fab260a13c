# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""An epoch of any stack of layers in one call: forward, backward and update, in one parallel region.

As in :mod:`softline._epoch` a batch is taken in chunks of strips of rows, and a chunk has three phases, whose
tasks the threads share out:
1. rows are packed, and scored by the first layer, by blocks of features x groups of strips;
2. groups of strips go up through the other layers to the loss, and its gradient comes down: rows do not
   meet, so a thread does all of it while they are in its cache;
3. gradients to the weights, and with the last chunk of a batch the step: a task is a piece of the inputs of
   each layer, and sums the rows in a fixed order.
The weights change in phase 3 only, when all gradients to hidden units are known. Hidden units lie in strips,
as scores do, and as inputs of the next layer also in packed tiles, as X does. All buffers lie in one arena.
Neither the number of threads nor the size of a chunk changes a bit of the result.
"""

from cython.parallel cimport parallel, prange, threadid
from libc.math cimport isfinite
from libc.stdint cimport int32_t, uint8_t, uint32_t
from softline._kernels cimport (
    SOFTLINE_IDENTITY, SOFTLINE_LEAKY_RELU, SOFTLINE_LOGISTIC, SOFTLINE_RELU, SOFTLINE_TANH, activate_of,
    activation_gradient_of, add_scores_of, affine_of, aligned, bias_gradient_of, bias_update_of,
    check_indices, check_labels, check_length, cross_entropy_gradient_of, dropout_of, gradient_of,
    gradient_step, indices, load_strip_of, matrix, next_step, optimizer_rule, real, region_over,
    row_stride, rows_of, rule_of, scores_by_blocks, scores_of, slab_of, softline_ahead, softline_block,
    softline_mix, softline_packed, softline_rows, softline_rule, store_strip_of, threads_for,
    threads_for_epoch,
)
from softline._team cimport (
    softline_come, softline_done, softline_go, softline_next, softline_take, softline_team, softline_wait,
    team_in, team_room,
)

import numpy as np

from softline.rows import as_rows

# Bytes of the rows of a chunk for each thread, beside which the weights count, too: a chunk reads and writes
# the gradient to all weights, so that rows may leave the level-2 cache where weights are as large.
cdef ptrdiff_t ROW_BYTES = 400 << 10
# Strips of a task in prediction.
cdef enum:
    TASK_STRIPS = 4

ACTIVATIONS = {
    "identity": SOFTLINE_IDENTITY,
    "relu": SOFTLINE_RELU,
    "leaky_relu": SOFTLINE_LEAKY_RELU,
    "tanh": SOFTLINE_TANH,
    "logistic": SOFTLINE_LOGISTIC,
}


# ---- layers --------------------------------------------------------------------------------------------

# Pointers are to `real`. Strips lie one after the other, packed ones `strip` elements apart.
cdef struct layer:
    ptrdiff_t n_in, n_out, ldw, slab, strip, lddw
    void *W
    void *b
    void *packed  # its inputs, as tiles
    void *out  # its outputs, as strips; of the last layer the scores
    void *delta  # the gradient to its outputs, before their activation
    void *dW
    void *db
    void *lane_db
    optimizer_rule rule

cdef struct network:
    layer *layers
    int n_layers, activation
    bint logistic  # each output by itself, instead of a softmax
    double rate  # of dropout


# Layers of (W, b), whose arrays the caller keeps, in `room`.
cdef int layers_of(network *net, uint8_t[::1] room, list weights, ptrdiff_t n_features, str activation,
                   real unused) except -1:
    cdef const real[:, :] W
    cdef const real[::1] b
    cdef layer *at
    cdef ptrdiff_t n_in = n_features
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
    net.layers = <layer *>&room[0]
    net.n_layers = <int>len(weights)
    net.activation = ACTIVATIONS[activation]
    for i, (of_W, of_b) in enumerate(weights):
        W, b, at = of_W, of_b, &net.layers[i]
        check_length(f"W of layer {i}", W.shape[1], n_in, "columns")
        check_length(f"b of layer {i}", b.shape[0], W.shape[0], "elements")
        if W.shape[0] == 0 or n_in == 0:
            raise ValueError(f"layer {i} has {n_in} inputs and {W.shape[0]} outputs; each needs one")
        at.n_in, at.n_out, at.ldw = n_in, W.shape[0], row_stride(W, f"W of layer {i}")
        at.W, at.b = <void *>&W[0, 0], <void *>&b[0]
        at.slab = slab_of(n_in, <real>0)
        n_in = at.n_out
    return 0


# The layers, and the dtype to compute in.
cdef tuple checked(weights):
    layers = [(W, b) for W, b in weights]
    if not layers:
        raise ValueError("a network needs at least one layer; weights is empty")
    return layers, layers[0][0].dtype


cdef uint8_t[::1] layer_room(list weights):
    return np.zeros(len(weights) * sizeof(layer), np.uint8)


class Arena:
    """Room for the buffers of a network, kept from call to call."""

    def __init__(self):
        self.array = np.empty(0, np.float32)

    def room(self, n, dtype):
        """At least n elements."""
        if self.array.dtype != dtype or len(self.array) < n:
            self.array = np.empty(n, dtype)
        return self.array


# The next n elements of an arena at `base`, on 64 bytes; `used` counts. Without a base it only counts.
cdef void *reserve(real *base, ptrdiff_t *used, ptrdiff_t n) noexcept:
    cdef ptrdiff_t lanes = 64 // sizeof(real), at = used[0]
    used[0] += (n + lanes - 1) // lanes * lanes
    return NULL if base == NULL else base + at


# ---- strips up and down --------------------------------------------------------------------------------

# Strips first to last of a chunk: from the outputs of the first layer to the scores. The chunk begins with
# row number `row` of its batch.
cdef inline void forward(const network *net, ptrdiff_t first, ptrdiff_t last, uint32_t key, ptrdiff_t row,
                         real unused) noexcept nogil:
    cdef ptrdiff_t lanes = 64 // sizeof(real), s, k
    cdef const layer *at
    cdef const layer *above
    cdef real *out
    cdef int i
    for i in range(net.n_layers - 1):
        at, above = &net.layers[i], &net.layers[i + 1]
        for s in range(first, last):
            out = <real *>at.out + s * lanes * at.n_out
            activate_of(out, at.n_out, net.activation)
            if net.rate > 0:
                dropout_of(out, at.n_out, net.rate, softline_mix(key + i), <uint32_t>(row + s * lanes))
            if above.packed != NULL:
                for k in range((at.n_out + lanes - 1) // lanes):
                    store_strip_of(<const real *>(out + k * lanes * lanes), lanes,
                                   min(lanes, at.n_out - k * lanes),
                                   <real *>above.packed + s * above.strip + softline_packed(k * lanes, lanes),
                                   lanes)
        affine_of(<const real *>at.out + first * lanes * at.n_out, (last - first) * lanes, at.n_out,
                  <const real *>above.W, above.ldw, 1, <const real *>above.b, above.n_out,
                  <real *>above.out + first * lanes * above.n_out)


# Gradients from the scores down to the first layer.
cdef inline void backward(const network *net, ptrdiff_t first, ptrdiff_t last, uint32_t key, ptrdiff_t row,
                          real unused) noexcept nogil:
    cdef ptrdiff_t lanes = 64 // sizeof(real), s
    cdef const layer *at
    cdef const layer *below
    cdef real *delta
    cdef int i
    for i in range(net.n_layers - 1, 0, -1):
        at, below = &net.layers[i], &net.layers[i - 1]
        affine_of(<const real *>at.delta + first * lanes * at.n_out, (last - first) * lanes, at.n_out,
                  <const real *>at.W, 1, at.ldw, <const real *>NULL, at.n_in,
                  <real *>below.delta + first * lanes * at.n_in)
        for s in range(first, last):
            delta = <real *>below.delta + s * lanes * at.n_in
            if net.rate > 0:
                dropout_of(delta, at.n_in, net.rate, softline_mix(key + i - 1),
                           <uint32_t>(row + s * lanes))
            activation_gradient_of(<const real *>below.out + s * lanes * at.n_in, at.n_in, net.activation,
                                   1 - net.rate, delta)


# Losses of n <= L rows, and the gradient in place, where each of the outputs is a class by itself or not:
# a softmax over 0 and its score. `y` has the C outputs of row 0 of X first.
cdef inline void logistic_gradient(real *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y, const ptrdiff_t *idx,
                                   const real *weight, real *losses) noexcept nogil:
    cdef ptrdiff_t lanes = 64 // sizeof(real), c, r
    cdef real pair[32]
    cdef real loss[16]
    cdef int32_t labels[16]
    for r in range(n):
        losses[r] = 0
    for c in range(C):
        for r in range(lanes):
            pair[r], pair[lanes + r] = 0, S[c * lanes + r]
        for r in range(n):
            labels[r] = y[idx[r] * C + c]
        cross_entropy_gradient_of(&pair[0], n, 2, &labels[0], weight, &loss[0])
        for r in range(n):
            losses[r] += loss[r]
        for r in range(lanes):
            S[c * lanes + r] = pair[lanes + r]


# ---- the epoch -----------------------------------------------------------------------------------------

def network_epoch(X, y, sample_weight, order, weights, learning_rates, batch_size, alpha, activation,
                  n_threads=None, *, optimizer=None, states=None, dropout=0.0, seed=0, arena=None):
    """One pass over the rows `order`; the weights change in place; returns the mean loss of each batch."""
    update, numbers = ("sgd_update", {}) if optimizer is None else (optimizer.update, vars(optimizer))
    weights, dtype = checked(weights)
    if states is not None:
        check_length("states", len(states), len(weights), "elements")
    args = (as_rows(X), y, sample_weight, order, weights, learning_rates, batch_size, alpha, activation,
            n_threads, update, numbers, states, dropout, seed, states[0].t if states else 0, None,
            arena or Arena())
    losses = epoch[float](*args) if dtype == np.float32 else epoch[double](*args)
    for state in states or ():
        state.t += len(losses)
    return losses


def network_gradient(X, y, sample_weight, idx, weights, activation, gradients, n_threads=None, *,
                     dropout=0.0, seed=0, t=0, arena=None):
    """Mean loss of the rows idx; its gradient is written into the pairs (dW, db) of `gradients`."""
    X = as_rows(X)
    idx = np.arange(len(X)) if idx is None else idx
    weights, dtype = checked(weights)
    check_length("gradients", len(gradients), len(weights), "elements")
    args = (X, y, sample_weight, idx, weights, np.zeros(1), max(1, len(idx)), 0.0, activation,
            n_threads, "sgd_update", {}, None, dropout, seed, t, list(gradients), arena or Arena())
    losses = epoch[float](*args) if dtype == np.float32 else epoch[double](*args)
    return float(losses[0])


def batch_weights(sample_weight, order, batch_size):
    """Sums of the weights of the rows of each batch; without weights, how many rows it has."""
    weight = np.ones(len(order)) if sample_weight is None else sample_weight[order].astype(float)
    return np.add.reduceat(weight, np.arange(0, len(order), batch_size)) if len(order) else np.zeros(0)


cdef epoch(X, y, const real[::1] sample_weight, const ptrdiff_t[::1] order, list weights,
           const double[::1] learning_rates, ptrdiff_t batch_size, double alpha, str activation, n_threads,
           str update, dict numbers, list states, double dropout, uint32_t seed, ptrdiff_t t, list gradients,
           arena):
    cdef ptrdiff_t N = X.shape[0], D = X.shape[1], n = order.shape[0], i
    cdef network net
    cdef uint8_t[::1] rooms_of_layers = layer_room(weights)
    layers_of(&net, rooms_of_layers, weights, D, activation, <real>0)
    cdef layer *bottom = &net.layers[0]
    cdef layer *top = &net.layers[net.n_layers - 1]
    cdef layer *at
    cdef ptrdiff_t C = top.n_out, H = bottom.n_out
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1); got {dropout}")
    batch_size = max(1, min(batch_size, n))
    cdef ptrdiff_t n_steps = (n + batch_size - 1) // batch_size
    net.logistic = y.ndim == 2
    net.rate = dropout
    cdef const int32_t[::1] codes = np.ascontiguousarray(y).reshape(-1)
    check_length("y", len(y), N, "rows" if net.logistic else "elements")
    if net.logistic:
        check_length("y", y.shape[1], C, "columns")
    check_labels(codes, 2 if net.logistic else C)
    check_length("learning_rates", learning_rates.shape[0], n_steps, "elements")
    if sample_weight is not None:
        check_length("sample_weight", sample_weight.shape[0], N, "elements")
    check_indices(order, N)
    cdef bint steps = gradients is None
    cdef real[:, :] W  # may be written to
    cdef real[::1] b
    cdef real[:, :] dW
    cdef real[::1] db
    for i in range(net.n_layers):
        at, W, b = &net.layers[i], weights[i][0], weights[i][1]
        if steps:
            at.b = &b[0]
            rule_of(&at.rule, update, numbers, states[i] if states else None, W, 0)
        else:
            dW, db = gradients[i]
            check_length(f"dW of layer {i}", dW.shape[0], at.n_out, "rows")
            check_length(f"dW of layer {i}", dW.shape[1], at.n_in, "columns")
            check_length(f"db of layer {i}", db.shape[0], at.n_out, "elements")
            at.lddw = row_stride(dW, f"dW of layer {i}")
            at.dW, at.db = &dW[0, 0], &db[0]
    losses = np.zeros(n_steps if steps else 1)
    if n == 0:
        for of_W, of_b in gradients or ():
            of_W[...], of_b[...] = 0, 0
        return losses
    cdef const double[::1] batch_weight = batch_weights(
        None if sample_weight is None else np.asarray(sample_weight), np.asarray(order), batch_size)
    for i in range(n_steps):
        if not batch_weight[i] > 0:
            raise ValueError(f"sample_weight must have a positive sum in each batch; in batch {i} it is "
                             f"{batch_weight[i]}")
    cdef softline_rows rows = rows_of(X, <real>0)

    cdef ptrdiff_t lanes = 64 // sizeof(real)
    cdef ptrdiff_t block = softline_block(D, lanes), n_blocks = (D + block - 1) // block
    cdef double operations = 0
    cdef ptrdiff_t strip_bytes = 0, weight_bytes = 0, most_slabs = 1
    for i in range(net.n_layers):
        at = &net.layers[i]
        # With a tile to spare, so that strips do not fall on the same sets of the L1 cache.
        at.strip = softline_packed(at.n_in + lanes, lanes)
        operations += <double>at.n_in * at.n_out
        strip_bytes += (at.strip + 2 * at.n_out * lanes) * <ptrdiff_t>sizeof(real)
        weight_bytes += at.n_out * at.ldw * <ptrdiff_t>sizeof(real)
        most_slabs = max(most_slabs, (at.n_in + at.slab - 1) // at.slab)
    cdef int threads = threads_for_epoch(n_threads, n, batch_size, operations)
    cdef ptrdiff_t n_tasks = min(most_slabs, <ptrdiff_t>2 * threads) if threads > 1 else 1  # of phase 3
    cdef ptrdiff_t batch_strips = (batch_size + lanes - 1) // lanes
    cdef ptrdiff_t most_strips = max(<ptrdiff_t>1, (threads * ROW_BYTES + weight_bytes) // strip_bytes)
    cdef ptrdiff_t n_chunks = (batch_strips + most_strips - 1) // most_strips
    cdef ptrdiff_t chunk_strips = (batch_strips + n_chunks - 1) // n_chunks  # equal chunks
    # Groups of an even number of strips, of which the kernels take two at a time.
    cdef ptrdiff_t group = chunk_strips
    if threads > 1:
        group = (chunk_strips + 4 * threads - 1) // (4 * threads) * 2
    cdef ptrdiff_t chunk = chunk_strips * lanes, part = chunk * H

    # The arena is measured, then given out.
    cdef real *base = NULL
    cdef ptrdiff_t used
    cdef real *parts = NULL
    cdef real *row_losses = NULL
    cdef real *weight = NULL
    cdef int32_t[::1] labels = np.empty(chunk, np.int32)
    cdef real[::1] memory
    for _ in range(2):
        used = 0
        parts = <real *>reserve(base, &used, n_blocks * part)  # scores of the first layer, by block
        row_losses = <real *>reserve(base, &used, chunk)
        weight = <real *>reserve(base, &used, chunk)
        for i in range(net.n_layers):
            at = &net.layers[i]
            at.packed = reserve(base, &used, chunk_strips * at.strip)
            at.out = reserve(base, &used, chunk * at.n_out)
            at.delta = at.out if i == net.n_layers - 1 else reserve(base, &used, chunk * at.n_out)
            at.lane_db = reserve(base, &used, at.n_out * lanes)
            if steps:
                at.db = reserve(base, &used, at.n_out)
                at.lddw = at.ldw
                if batch_size > chunk:
                    at.dW = reserve(base, &used, at.n_out * at.ldw)
        if base == NULL:
            memory = arena.room(used + lanes, np.float32 if real is float else np.float64)
            base = aligned(memory)
    cdef double[::1] strip_losses = np.empty(chunk_strips), step_losses = losses

    # From here on, what a thread assigns is its own.
    cdef uint8_t[::1] room = team_room(threads)
    cdef softline_team *team = team_in(room, threads, n_threads)
    cdef network *all = &net
    cdef int thread, j
    cdef uint32_t phase, key
    cdef ptrdiff_t mine, step, batch_first, batch_last, chunk_first, n_rows, strips, groups, s, col, count
    cdef ptrdiff_t first, end, k, r, n_slabs
    cdef const ptrdiff_t *idx
    cdef softline_ahead ahead
    cdef layer *here
    cdef bint add, last
    with nogil, parallel(num_threads=threads, use_threads_if=threads > 1):
        thread = threadid()
        softline_come(team, thread)
        phase = 0
        for step in range(n_steps):
            batch_first = step * batch_size
            batch_last = min(batch_first + batch_size, n)
            chunk_first = batch_first
            key = softline_mix(softline_mix(seed) + <uint32_t>(t + step))
            while chunk_first < batch_last:
                n_rows = min(chunk, batch_last - chunk_first)
                add = chunk_first > batch_first
                last = chunk_first + n_rows == batch_last
                strips = (n_rows + lanes - 1) // lanes
                groups = (strips + group - 1) // group
                idx = &order[chunk_first]

                mine = 0
                k = softline_take(team, thread, phase, n_blocks * groups)
                while k >= 0:
                    s = k % groups * group
                    col = k // groups * block
                    scores_of(&rows, idx + s * lanes, min(group * lanes, n_rows - s * lanes), col,
                              min(block, D - col),
                              <real *>bottom.packed + s * bottom.strip + softline_packed(col, lanes),
                              bottom.strip, <const real *>bottom.W + col, bottom.ldw, H,
                              parts + k // groups * part + s * lanes * H)
                    mine = mine + 1
                    k = softline_take(team, thread, phase, n_blocks * groups)
                if softline_done(team, mine, n_blocks * groups):
                    softline_next(team, thread, phase)
                softline_wait(team, thread, phase)
                phase = phase + 1

                mine = 0
                k = softline_take(team, thread, phase, groups)
                while k >= 0:
                    first = k * group
                    end = min(first + group, strips)
                    for s in range(first, end):
                        add_scores_of(<const real *>(parts + s * lanes * H), part, n_blocks,
                                      <const real *>bottom.b, H, <real *>bottom.out + s * lanes * H)
                    forward(all, first, end, key, chunk_first - batch_first, <real>0)
                    for s in range(first, end):
                        count = min(lanes, n_rows - s * lanes)
                        for r in range(s * lanes, s * lanes + count):
                            weight[r] = <real>(1 / batch_weight[step])
                            if sample_weight is not None:
                                weight[r] = <real>(sample_weight[idx[r]] / batch_weight[step])
                        if net.logistic:
                            logistic_gradient(<real *>top.delta + s * lanes * C, count, C, &codes[0],
                                              idx + s * lanes, <const real *>(weight + s * lanes),
                                              row_losses + s * lanes)
                        else:
                            for r in range(s * lanes, s * lanes + count):
                                labels[r] = codes[idx[r]]
                            cross_entropy_gradient_of(
                                <real *>top.delta + s * lanes * C, count, C,
                                <const int32_t *>&labels[s * lanes], <const real *>(weight + s * lanes),
                                row_losses + s * lanes)
                        strip_losses[s] = 0
                        for r in range(s * lanes, s * lanes + count):
                            strip_losses[s] = strip_losses[s] + <double>weight[r] * row_losses[r]
                    backward(all, first, end, key, chunk_first - batch_first, <real>0)
                    mine = mine + 1
                    k = softline_take(team, thread, phase, groups)
                if softline_done(team, mine, groups):
                    for s in range(strips):
                        step_losses[step] = step_losses[step] + strip_losses[s]
                    for j in range(net.n_layers):
                        here = &net.layers[j]
                        bias_gradient_of(<const real *>here.delta, n_rows, here.n_out,
                                         <real *>here.lane_db, <real *>here.db, add)
                        if last and steps:
                            next_step(&here.rule, learning_rates[step], alpha / batch_weight[step])
                            bias_update_of(<const real *>here.db, here.rule.first * learning_rates[step],
                                           <const real *>NULL, <real *>NULL, 0, rule_at(here), here.n_out,
                                           <real *>here.b)
                    softline_next(team, thread, phase)
                softline_wait(team, thread, phase)
                phase = phase + 1

                mine = 0
                k = softline_take(team, thread, phase, n_tasks)
                while k >= 0:
                    for j in range(net.n_layers):
                        here = &net.layers[j]
                        n_slabs = (here.n_in + here.slab - 1) // here.slab
                        col = n_slabs * k // n_tasks * here.slab
                        count = min(n_slabs * (k + 1) // n_tasks * here.slab, here.n_in) - col
                        ahead = softline_ahead(
                            &rows, idx + n_rows, min(n_rows, n - chunk_first - n_rows), col, count)
                        if count > 0:
                            weight_gradient(
                                here, col, count, n_rows, add, last and steps, learning_rates[step],
                                alpha / batch_weight[step],
                                &ahead if j == 0 else <const softline_ahead *>NULL, <real>0)
                    mine = mine + 1
                    k = softline_take(team, thread, phase, n_tasks)
                if softline_done(team, mine, n_tasks):
                    softline_next(team, thread, phase)
                softline_wait(team, thread, phase)
                phase = phase + 1
                chunk_first = chunk_first + n_rows
        softline_go(team, thread)
    region_over(team)
    return losses


cdef inline const softline_rule *rule_at(const layer *at) noexcept nogil:
    return NULL if at.rule.plain else &at.rule.now


# The gradient to the weights of `count` inputs from `col` on; or at once the step.
cdef inline void weight_gradient(const layer *at, ptrdiff_t col, ptrdiff_t count, ptrdiff_t n_rows, bint add,
                                 bint steps, double learning_rate, double alpha, const softline_ahead *ahead,
                                 real unused) noexcept nogil:
    cdef ptrdiff_t lanes = 64 // sizeof(real)
    cdef const real *packed = <const real *>at.packed + softline_packed(col, lanes)
    cdef real *dW = NULL if at.dW == NULL else <real *>at.dW + col
    if steps:
        gradient_step(packed, at.strip, n_rows, count, at.slab, <const real *>at.delta, at.n_out, dW, at.lddw,
                      add, <real *>at.W + col, at.ldw, <const real *>at.db, at.rule.first * learning_rate,
                      0 if at.rule.decoupled else alpha, <const real *>NULL, <const real *>NULL,
                      <real *>NULL, rule_at(at), col, ahead)
    else:
        gradient_of(packed, at.strip, n_rows, count, <const real *>at.delta, at.n_out, dW, at.lddw, add,
                    ahead)


# ---- prediction ----------------------------------------------------------------------------------------

def network_scores(X, idx, weights, activation, out, n_threads=None):
    """out = the scores of the rows idx; whether all of the first layer's are finite."""
    weights, dtype = checked(weights)
    args = as_rows(X), idx, weights, activation, out, n_threads
    if dtype == np.float32:
        return bool(all_scores[float](*args))
    return bool(all_scores[double](*args))


cdef bint all_scores(X, const ptrdiff_t[::1] idx, list weights, str activation, real[:, :] out,
                     n_threads) except -1:
    idx = indices(idx, X.shape[0])
    cdef ptrdiff_t D = X.shape[1], n = idx.shape[0], lanes = 64 // sizeof(real), i
    cdef network net
    cdef uint8_t[::1] rooms_of_layers = layer_room(weights)
    layers_of(&net, rooms_of_layers, weights, D, activation, <real>0)
    cdef layer *bottom = &net.layers[0]
    cdef layer *top = &net.layers[net.n_layers - 1]
    cdef ptrdiff_t H = bottom.n_out, C = top.n_out, ldo = row_stride(out, "out")
    check_length("out", out.shape[0], n, "rows")
    check_length("out", out.shape[1], C, "columns")
    if n == 0:
        return True
    cdef softline_rows rows = rows_of(X, <real>0)
    cdef double operations = 0
    for i in range(net.n_layers):
        operations += <double>n * net.layers[i].n_in * net.layers[i].n_out
    cdef int threads = threads_for(n_threads, operations), thread, j
    cdef ptrdiff_t block = softline_block(D, lanes), n_blocks = (D + block - 1) // block
    cdef ptrdiff_t strips = min(<ptrdiff_t>TASK_STRIPS, (n + lanes - 1) // lanes)
    cdef ptrdiff_t strip = softline_packed(block, lanes), part = strips * lanes * H
    cdef ptrdiff_t size = strips * strip + n_blocks * part
    for i in range(net.n_layers):
        size += strips * lanes * net.layers[i].n_out
    cdef real[:, :] scratch = matrix(threads, size, np.zeros, <real>0)
    # Each thread has a network of its own, of the same weights.
    cdef network own
    cdef uint8_t[:, ::1] rooms = np.tile(rooms_of_layers, (threads, 1))
    cdef uint8_t[::1] finite = np.ones(threads, np.uint8)
    cdef real *packed
    cdef real *parts
    cdef real *free
    cdef layer *here
    cdef ptrdiff_t task, first, count, k, r, c
    net.rate = 0
    with nogil:
        for task in prange((n + strips * lanes - 1) // (strips * lanes), num_threads=threads,
                           use_threads_if=threads > 1, schedule="static"):
            thread = threadid()
            first = task * strips * lanes
            count = min(strips * lanes, n - first)
            packed = &scratch[thread, 0]
            parts = packed + strips * strip
            free = parts + n_blocks * part
            own = net
            own.layers = <layer *>&rooms[thread, 0]
            for j in range(net.n_layers):
                here = &own.layers[j]
                here.out = free
                free = free + strips * lanes * here.n_out
            scores_by_blocks(&rows, &idx[first], count, min(strips * lanes, n - first - count), D, packed,
                             <const real *>bottom.W, bottom.ldw, H, parts, part)
            for k in range((count + lanes - 1) // lanes):
                free = <real *>own.layers[0].out + k * lanes * H
                add_scores_of(<const real *>(parts + k * lanes * H), part, n_blocks, <const real *>bottom.b,
                              H, free)
                for c in range(H):
                    for r in range(min(lanes, count - k * lanes)):
                        if not isfinite(free[c * lanes + r]):
                            finite[thread] = False
            forward(&own, 0, (count + lanes - 1) // lanes, 0, 0, <real>0)
            for k in range((count + lanes - 1) // lanes):
                store_strip_of(<const real *>own.layers[net.n_layers - 1].out + k * lanes * C,
                               min(lanes, count - k * lanes), C, &out[first + k * lanes, 0], ldo)
    return np.asarray(finite).all()


# ---- the kernels by themselves -------------------------------------------------------------------------

def affine(A, const real[:, :] W, const real[::1] b, real[:, :] out, n_threads=None):
    """out = A W^T + b; b None means 0. W may be the transpose of a matrix."""
    cdef const real[:, :] inputs = A
    cdef ptrdiff_t n = inputs.shape[0], n_in = inputs.shape[1], n_out = W.shape[0]
    cdef ptrdiff_t lanes = 64 // sizeof(real), lda = row_stride(inputs, "A"), ldo = row_stride(out, "out")
    check_length("W", W.shape[1], n_in, "columns")
    check_length("out", out.shape[0], n, "rows")
    check_length("out", out.shape[1], n_out, "columns")
    if b is not None:
        check_length("b", b.shape[0], n_out, "elements")
    if n == 0 or n_out == 0:
        return
    cdef int threads = threads_for(n_threads, <double>n * n_in * n_out), thread
    cdef ptrdiff_t strips = min(<ptrdiff_t>TASK_STRIPS, (n + lanes - 1) // lanes), task, first, count, k
    cdef real[:, :] S = matrix(threads, strips * lanes * n_in, np.zeros, <real>0)
    cdef real[:, :] T = matrix(threads, strips * lanes * n_out, np.empty, <real>0)
    cdef ptrdiff_t by_output = W.strides[0] // <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t by_input = W.strides[1] // <ptrdiff_t>sizeof(real)
    with nogil:
        for task in prange((n + strips * lanes - 1) // (strips * lanes), num_threads=threads,
                           use_threads_if=threads > 1, schedule="static"):
            thread = threadid()
            first = task * strips * lanes
            count = min(strips * lanes, n - first)
            for k in range((count + lanes - 1) // lanes):
                load_strip_of(&inputs[first + k * lanes, 0], lda, NULL, min(lanes, count - k * lanes), n_in,
                              &S[thread, k * lanes * n_in])
            affine_of(<const real *>&S[thread, 0], count, n_in, &W[0, 0], by_output, by_input,
                      &b[0] if b is not None else <const real *>NULL, n_out, &T[thread, 0])
            for k in range((count + lanes - 1) // lanes):
                store_strip_of(<const real *>&T[thread, k * lanes * n_out], min(lanes, count - k * lanes),
                               n_out, &out[first + k * lanes, 0], ldo)


def activate(real[:, :] Z, str activation, n_threads=None):
    """Z becomes f(Z), in place."""
    by_strips[real](Z, None, ACTIVATIONS[activation], 1, 0, 0, n_threads)


def activation_gradient(real[:, :] A, str activation, real[:, :] dA, n_threads=None, *, double keep=1.0):
    """dA is multiplied with f'(z), where f(z) = keep A, in place."""
    check_length("A", A.shape[0], dA.shape[0], "rows")
    check_length("A", A.shape[1], dA.shape[1], "columns")
    by_strips[real](dA, A, ACTIVATIONS[activation], keep, 0, 0, n_threads)


def dropout(real[:, :] A, double rate, uint32_t key, n_threads=None):
    """Elements of A become 0 with probability `rate`, and are else divided by 1 - rate, in place."""
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be in [0, 1); got {rate}")
    by_strips[real](A, None, -1, 1, rate, key, n_threads)


# Strip by strip of S: dropout if there is a rate, the gradient of an activation with its outputs A, or else
# the activation.
cdef int by_strips(real[:, :] S, const real[:, :] A, int activation, double keep, double rate, uint32_t key,
                   n_threads) except -1:
    cdef ptrdiff_t n = S.shape[0], units = S.shape[1], lanes = 64 // sizeof(real), task, first, count
    cdef ptrdiff_t lds = row_stride(S, "the matrix"), lda = row_stride(A, "A") if A is not None else 0
    if n == 0 or units == 0:
        return 0
    cdef int threads = threads_for(n_threads, 20.0 * n * units), thread
    cdef real[:, :] strips = matrix(threads, units * lanes, np.zeros, <real>0)
    cdef real[:, :] outputs = matrix(threads, units * lanes if A is not None else 0, np.zeros, <real>0)
    with nogil:
        for task in prange((n + lanes - 1) // lanes, num_threads=threads, use_threads_if=threads > 1,
                           schedule="static"):
            thread = threadid()
            first = task * lanes
            count = min(lanes, n - first)
            load_strip_of(<const real *>&S[first, 0], lds, NULL, count, units, &strips[thread, 0])
            if rate > 0:
                dropout_of(&strips[thread, 0], units, rate, key, <uint32_t>first)
            elif A is not None:
                load_strip_of(&A[first, 0], lda, NULL, count, units, &outputs[thread, 0])
                activation_gradient_of(<const real *>&outputs[thread, 0], units, activation, keep,
                                       &strips[thread, 0])
            else:
                activate_of(&strips[thread, 0], units, activation)
            store_strip_of(<const real *>&strips[thread, 0], count, units, &S[first, 0], lds)
    return 0
