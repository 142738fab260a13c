# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""What training runs: an epoch of any stack of layers, and passes over all rows.

Each is one call, the GIL released, in one parallel region: see csrc/epoch.c and csrc/passes.c. Here arrays
are checked, the work is cut so that it stays in cache, which changes no bit, and room is made.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, uint32_t
from libc.string cimport memcpy, memset
from softline._kernels.core cimport (
    SOFTLINE_BLOCK, SOFTLINE_CONVERGED, SOFTLINE_HINGE, SOFTLINE_LABELS, SOFTLINE_NEWTON_ROWS,
    SOFTLINE_OUTPUTS, SOFTLINE_SEARCHING, SOFTLINE_STATS_FEATURES, SOFTLINE_STATS_ROWS, SOFTLINE_STUCK,
    SOFTLINE_TARGETS, aligned, check_length, doubles, labels_of, matrix, optional, real_bytes, rows_in,
    rows_of, run, softline_candidates,
    softline_columns_room, softline_epoch, softline_layer, softline_matrix, softline_newton,
    softline_newton_node, softline_packed, softline_part, softline_pass, softline_rates, softline_rows,
    softline_slab, softline_stats, table, threads_for, threads_for_epoch, vector,
)
from softline._kernels.dense cimport (
    activation_code, check_dropout, check_smoothing, checked, layers_of, line, real_of, rule_of, seed_of,
)

import numpy as np

from softline._kernels.rows import as_rows

# Bytes of a chunk of an epoch, of packed rows for each thread and of scores: with the next rows on their way
# and the weights, packed rows fit in a level-2 cache.
cdef ptrdiff_t PACKED_BYTES = 400 << 10
cdef ptrdiff_t SCORE_BYTES = 1 << 20
# The same of a chunk of a pass, beside which a thread has W and its gradient.
cdef ptrdiff_t PASS_PACKED_BYTES = 384 << 10
cdef ptrdiff_t PASS_SCORE_BYTES = 256 << 10
# Of the scores of a chunk for all candidates: enough rows for each time that the weights pass by.
cdef ptrdiff_t CANDIDATE_BYTES = 2 << 20
# Tasks of a pass for each thread, unless their sums together were larger than these bytes.
cdef ptrdiff_t TASKS_PER_THREAD = 16
cdef ptrdiff_t NODE_BYTES = 64 << 20
# Most weights with a Hessian of their own in a search by columns.
cdef ptrdiff_t MOST_SUPPORT = 512

STATUSES = {SOFTLINE_SEARCHING: "searching", SOFTLINE_CONVERGED: "converged", SOFTLINE_STUCK: "stuck"}
LOSSES = {"cross_entropy": SOFTLINE_LABELS, "hinge": SOFTLINE_HINGE, "outputs": SOFTLINE_OUTPUTS}


class Arena:
    """Room for the buffers of an epoch, kept from call to call."""

    def __init__(self):
        self.bytes = np.empty(0, np.uint8)

    def room(self, n):
        """At least n bytes, and a cache line to spare."""
        if len(self.bytes) < n + 64:
            self.bytes = np.empty(n + 64, np.uint8)
        return self.bytes


# The next n elements of `item` bytes of an arena at `base`, on 64 bytes; `used` counts bytes. Without a base
# it only counts.
cdef void *reserve(char *base, ptrdiff_t *used, ptrdiff_t n, ptrdiff_t item) noexcept:
    cdef ptrdiff_t at = used[0]
    used[0] += (n * item + 63) // 64 * 64
    return NULL if base == NULL else base + at


# ---- the epoch -----------------------------------------------------------------------------------------

# Numbers of each batch for each of several models as one vector, a view; None: of one, a vector already.
cdef object of_batches(a, str name, ptrdiff_t n_steps, models):
    if models is None:
        return a
    if not isinstance(a, np.ndarray) or a.shape != (n_steps, models) or not a.flags.c_contiguous:
        raise ValueError(f"{name} must be a contiguous array of shape ({n_steps}, {models}); got "
                         f"{getattr(a, 'shape', type(a).__name__)}")
    return a.reshape(-1)


# The weights of the rows for each model: one array for all, or a list.
cdef int row_weights_of(const void **of_models, row_weight, ptrdiff_t models, ptrdiff_t real,
                        ptrdiff_t N) except -1:
    cdef ptrdiff_t i
    several = isinstance(row_weight, (list, tuple))
    if several:
        check_length("row_weight", len(row_weight), models, "elements")
    for i in range(models):
        of_models[i] = optional(row_weight[i] if several else row_weight, "row_weight", real, N)
    return 0


def epoch(X, y, row_weight, order, layers, learning_rates, batch_size, alphas, scales, n_threads=None, *,
          loss="cross_entropy", label_smoothing=0.0, optimizer=None, states=None, l1s=None, clip_norm=None,
          max_norm=None, shift=None, metric=None, fit_intercept=True, activation="relu", dropout=0.0, seed=0,
          square_norms=None, starts=None, arena=None):
    """Passes over the rows, one for each row of `starts`; the layers change in place; returns the mean loss
    of each batch."""
    layers = checked(layers)
    if states is not None:
        check_length("states", len(states), len(layers), "elements")
    losses = descend(X, y, row_weight, order, layers, learning_rates, batch_size, alphas, scales, n_threads,
                     loss, label_smoothing, optimizer, states, l1s, clip_norm or INFINITY,
                     max_norm or INFINITY, shift, metric, fit_intercept, activation, dropout, seed,
                     getattr(states[0], "t", 0) if states else 0, square_norms, starts, None, arena)
    for state in states or ():
        state.t += len(losses)
    return losses


def gradients(X, y, row_weight, idx, layers, out, scale, n_threads=None, *, loss="cross_entropy",
              label_smoothing=0.0, activation="relu", dropout=0.0, seed=0, t=0, arena=None):
    """The loss of the rows idx, times scale; its gradient is written into the pairs (dW, db) of `out`."""
    X, layers = as_rows(X), checked(layers)
    idx = np.arange(len(X)) if idx is None else idx
    check_length("out", len(out), len(layers), "elements")
    real_of(layers[0][0], "W of layer 0")  # whose dtype scales have
    n = len(idx)
    zeros, scales = np.zeros(1 if n else 0), np.full(1 if n else 0, scale, layers[0][0].dtype)
    losses = descend(X, y, row_weight, idx, layers, zeros, max(1, n), zeros, scales, n_threads, loss,
                     label_smoothing, None, None, None, INFINITY, INFINITY, None, None, True, activation,
                     dropout, seed, t, None, None, list(out), arena)
    return float(losses[0]) if len(losses) else 0.0


cdef descend(X, y, row_weight, order, list layers, learning_rates, batch_size, alphas, scales, n_threads,
             loss, double label_smoothing, optimizer, states, l1s, double clip_norm, double max_norm,
             shift, metric, fit_intercept, activation, double dropout, seed, t, square_norms, starts, out,
             arena):
    X = as_rows(X)
    cdef ptrdiff_t real = real_of(layers[0][0], "W of layer 0"), N = X.shape[0], D = X.shape[1], i, K
    cdef ptrdiff_t n = len(order), n_epochs = 1, n_weights = 0, n_steps, n_numbers
    cdef softline_epoch e
    cdef softline_layer *at
    cdef softline_matrix dW, of_starts
    memset(&e, 0, sizeof(e))
    e.n_layers, e.steps, e.n = <int>len(layers), out is None, n
    of_layers = np.zeros(e.n_layers * sizeof(softline_layer) + 64, np.uint8)
    e.layers = <softline_layer *>aligned(of_layers)
    layers_of(e.layers, layers, D, real, e.steps)
    models = learning_rates.shape[1] if getattr(learning_rates, "ndim", 1) == 2 else None
    e.models = 1 if models is None else models
    K = e.layers[e.n_layers - 1].n_out
    if e.models < 1 or K % e.models or (e.models > 1 and e.n_layers > 1):
        raise ValueError(f"learning_rates are of {models} models, which one layer must have as many outputs "
                         f"of each; there are {e.n_layers} layers, the last of {K} outputs")
    K //= e.models
    if starts is not None:
        for i in range(e.n_layers):
            n_weights += e.layers[i].n_out * e.layers[i].n_in
        of_starts = matrix(starts, "starts", real, -1, n_weights, True)
        n_epochs = of_starts.rows
        if n_epochs < 1 or n % n_epochs:
            raise ValueError(f"starts must have a row for each epoch of as many rows; got {n_epochs} for {n}")
        n //= n_epochs
        e.n = n
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    e.batch_size = max(1, min(batch_size, n))
    n_steps = n_epochs * ((n + e.batch_size - 1) // e.batch_size)

    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {loss!r}")
    e.loss, e.smoothing = LOSSES[loss], label_smoothing
    check_smoothing(label_smoothing)
    ndim = getattr(y, "ndim", 0)
    if e.loss != SOFTLINE_LABELS and (label_smoothing > 0 or ndim != 1 + (e.loss == SOFTLINE_OUTPUTS)):
        raise ValueError(f"loss={loss!r} needs labels y "
                         f"{'(n, K)' if e.loss == SOFTLINE_OUTPUTS else '(n,)'} and no label_smoothing")
    if e.loss == SOFTLINE_OUTPUTS:
        check_length("y", y.shape[0], N, "rows")
        check_length("y", y.shape[1], K, "columns")
        y = np.ascontiguousarray(y)
        e.labels = labels_of(y.reshape(-1), N * K, 2)
    elif ndim == 2:
        e.targets, e.loss = matrix(y, "y", real, N, K), SOFTLINE_TARGETS
    else:
        e.labels = labels_of(y, N, K)
        if label_smoothing > 0:
            e.loss = SOFTLINE_TARGETS

    row_weights = np.zeros(e.models * sizeof(void *) + 64, np.uint8)
    row_weights_of(<const void **>aligned(row_weights), row_weight, e.models, real, N)
    e.row_weight = <const void *const *>aligned(row_weights)
    e.order = rows_in(order, N)
    n_numbers = n_steps * e.models
    learning_rates = of_batches(learning_rates, "learning_rates", n_steps, models)
    e.rates = doubles(learning_rates, "learning_rates", n_numbers)
    alphas, scales = (of_batches(alphas, "alphas", n_steps, models),
                      of_batches(scales, "scales", n_steps, models))
    e.alphas, e.scales = doubles(alphas, "alphas", n_numbers), vector(scales, "scales", real, n_numbers)
    if l1s is not None:
        l1s = of_batches(l1s, "l1s", n_steps, models)
        e.l1s = doubles(l1s, "l1s", n_numbers)
    e.shift, e.metric = optional(shift, "shift", real, D), optional(metric, "metric", real, D)
    if square_norms is not None:
        square_norms = of_batches(square_norms, "square_norms", n_steps, models)
        e.square_norms = doubles(square_norms, "square_norms", n_numbers, True)
    e.clip_norm, e.max_norm, e.fit_intercept = clip_norm, max_norm, bool(fit_intercept)
    check_dropout(dropout)
    e.activation, e.dropout = activation_code(activation), dropout
    e.seed, e.t = seed_of(seed, "seed"), seed_of(t % 2**32, "t")
    of_models = np.zeros(e.models * sizeof(softline_rates) + 64, np.uint8)
    for i in range(e.n_layers):
        at = &e.layers[i]
        rule_of(&at.rule, optimizer, states[i] if states else None, real, at.n_out, at.n_in)
        at.rule.models, at.rule.outputs = e.models, at.n_out // e.models
        at.rule.of = <softline_rates *>aligned(of_models)  # the same for all layers
        if not e.steps:
            dW = matrix(out[i][0], f"dW of layer {i}", real, at.n_out, at.n_in, True)
            at.dW, at.lddw = dW.at, dW.ld
            at.db = vector(out[i][1], f"db of layer {i}", real, at.n_out, True)
    losses = np.zeros(n_steps if models is None else (n_steps, models))
    e.losses = doubles(losses.reshape(-1), "losses", n_numbers)
    if square_norms is not None:
        square_norms[:] = 0
    cdef softline_rows rows
    cdef int threads = 1
    if n > 0:
        rows = rows_of(X, real)
        e.X = &rows
        threads = cut(&e, n_threads, real)
        _memory = room_for(&e, arena if arena is not None else Arena(), real)
    for i in range(n_epochs):
        if starts is not None:
            copy_weights(&e, real, <char *>of_starts.at + i * of_starts.ld * real)
        if n > 0:
            run(table(real).epoch, &e, threads, n_threads)
        go_on(&e, n_steps // n_epochs, real)
    if n == 0 and out is not None:
        for of_W, of_b in out:
            of_W[...], of_b[...] = 0, 0
    return losses


# W of all layers, one after the other.
cdef void copy_weights(const softline_epoch *e, ptrdiff_t real, char *to) noexcept:
    cdef ptrdiff_t i, k
    cdef const softline_layer *at
    for i in range(e.n_layers):
        at = &e.layers[i]
        for k in range(at.n_out):
            memcpy(to, <const char *>at.W + k * at.ldw * real, at.n_in * real)
            to += at.n_in * real


# The next epoch: what each row and each batch has lies behind what the last epoch had.
cdef void go_on(softline_epoch *e, ptrdiff_t n_steps, ptrdiff_t real) noexcept:
    cdef ptrdiff_t n_numbers = n_steps * e.models
    e.order += e.n
    e.t += <uint32_t>n_steps
    e.rates += n_numbers
    e.alphas += n_numbers
    e.scales = <const char *>e.scales + n_numbers * real
    if e.l1s != NULL:
        e.l1s += n_numbers
    if e.square_norms != NULL:
        e.square_norms += n_numbers
    e.losses += n_numbers


# Chunks that stay in cache, and tasks for all threads; returns how many threads.
cdef int cut(softline_epoch *e, n_threads, ptrdiff_t real) except -1:
    cdef ptrdiff_t lanes = 64 // real, strip_bytes = 0, weight_bytes = 0, slabs = 1, most, chunks, i
    cdef double operations = 0
    cdef softline_layer *at
    for i in range(e.n_layers):
        at = &e.layers[i]
        # With a tile to spare, so that strips do not fall on the same sets of the L1 cache.
        at.strip = softline_packed(at.n_in + lanes, lanes)
        operations += <double>at.n_in * at.n_out
        strip_bytes += at.strip * real
        if e.n_layers > 1:
            strip_bytes += 2 * at.n_out * 64
        weight_bytes += at.n_out * max(at.ldw, at.n_in) * real
        slabs = max(slabs, (at.n_in + softline_slab(at.n_in, lanes) - 1) // softline_slab(at.n_in, lanes))
    cdef int threads = threads_for_epoch(n_threads, e.n, e.batch_size, operations)
    cdef ptrdiff_t strips = (e.batch_size + lanes - 1) // lanes
    if e.n_layers > 1:
        # A chunk reads and writes the gradient to all weights, so that rows may leave the level-2 cache where
        # weights are as large.
        most = (threads * PACKED_BYTES + weight_bytes) // strip_bytes
    else:
        most = min(threads * PACKED_BYTES // strip_bytes, SCORE_BYTES // (64 * e.layers[0].n_out))
    most = max(<ptrdiff_t>1, most)
    chunks = (strips + most - 1) // most
    e.chunk_strips = (strips + chunks - 1) // chunks  # equal chunks
    e.tasks = min(slabs, <ptrdiff_t>2 * threads) if threads > 1 else 1
    # Of a network groups of an even number of strips, of which the kernels take two at a time.
    e.group = 1
    if e.n_layers > 1:
        e.group = e.chunk_strips
        if threads > 1:
            e.group = (e.chunk_strips + 4 * threads - 1) // (4 * threads) * 2
    return threads


# The arena is measured, then given out.
cdef object room_for(softline_epoch *e, arena, ptrdiff_t real):
    cdef ptrdiff_t lanes = 64 // real, used, i, K = e.layers[e.n_layers - 1].n_out, outputs, slabs
    cdef ptrdiff_t rows = e.chunk_strips * lanes, D = e.layers[0].n_in, H = e.layers[0].n_out
    cdef ptrdiff_t part = softline_part(D, lanes), parts = (D + part - 1) // part
    cdef bint several = e.batch_size > rows or e.clip_norm < INFINITY
    cdef char *base = NULL
    cdef softline_layer *at
    memory = None
    while True:
        used = outputs = 0
        e.parts = reserve(base, &used, parts * rows * H, real)
        e.soft = reserve(base, &used, rows * K if e.loss == SOFTLINE_TARGETS else 0, real)
        e.row_losses = reserve(base, &used, rows, real)
        e.weight = reserve(base, &used, rows, real)
        e.codes = <int32_t *>reserve(base, &used, rows, 4)
        e.strip_losses = <double *>reserve(base, &used, e.chunk_strips * e.models, 8)
        for i in range(e.n_layers):
            at = &e.layers[i]
            outputs += at.n_out
            slabs = (at.n_in + softline_slab(at.n_in, lanes) - 1) // softline_slab(at.n_in, lanes)
            at.packed = reserve(base, &used, e.chunk_strips * at.strip, real)
            at.out = reserve(base, &used, rows * at.n_out, real)
            at.delta = at.out
            if i < e.n_layers - 1:
                at.delta = reserve(base, &used, rows * at.n_out, real)
            at.lane_db = reserve(base, &used, at.n_out * lanes, real)
            at.slab_squares = <double *>reserve(base, &used, slabs * e.models, 8)
            if i == 0 and e.shift != NULL:
                e.drift = reserve(base, &used, slabs * at.n_out * lanes, real)
            if e.steps:
                at.db = reserve(base, &used, at.n_out, real)
                at.lddw = line(at.n_in, real)
                if at.lddw * real % 4096 == 0:
                    at.lddw += 2 * lanes
                at.dW = reserve(base, &used, at.n_out * at.lddw, real) if several else NULL
        e.squares = <double *>reserve(base, &used, outputs, 8)
        e.clip = <double *>reserve(base, &used, e.models, 8)
        if base != NULL:
            return memory
        memory = arena.room(used)
        base = <char *>aligned(memory)


# ---- passes over all rows ------------------------------------------------------------------------------

cdef double total_weight(row_weight, ptrdiff_t n, ptrdiff_t real) except? -1:
    cdef const void *weight = optional(row_weight, "sample_weight", real, n)
    cdef double total = n
    cdef ptrdiff_t i
    if weight != NULL:
        total = 0
        for i in range(n):
            total += (<const float *>weight)[i] if real == 4 else (<const double *>weight)[i]
    if not total > 0:
        raise ValueError(f"there must be rows, and their weights have a positive sum; it is {total}")
    return total


# The blocks of a task, a power of 2, and the nodes of `size` doubles that a thread keeps for its subtree;
# returns how many tasks there are.
cdef ptrdiff_t tasks_of(ptrdiff_t blocks, int threads, ptrdiff_t size, ptrdiff_t *task_blocks,
                        ptrdiff_t *depth) noexcept:
    cdef ptrdiff_t most = min(TASKS_PER_THREAD * threads, max(<ptrdiff_t>threads, NODE_BYTES // (8 * size)))
    task_blocks[0], depth[0] = 1, 2
    while task_blocks[0] * most < blocks:
        task_blocks[0] *= 2
        depth[0] += 1
    return (blocks + task_blocks[0] - 1) // task_blocks[0]


def loss_gradient(X, y, sample_weight, W, b, dW, db, n_threads=None):
    """Mean cross-entropy of all rows; its gradient is written into dW and db, float64."""
    X = as_rows(X)
    cdef ptrdiff_t real = real_of(W, "W"), lanes = 64 // real, n = X.shape[0], D = X.shape[1], K, blocks, size
    cdef ptrdiff_t strip, part, chunk, tasks
    cdef softline_pass p
    cdef softline_matrix of_W, of_dW
    cdef double loss = 0
    memset(&p, 0, sizeof(p))
    of_W = matrix(W, "W", real, -1, D)
    p.n, p.D, p.K, p.W, p.ldw = n, D, of_W.rows, of_W.at, of_W.ld
    K = p.K
    p.b, p.labels = vector(b, "b", real, K), labels_of(y, n, K)
    of_dW = matrix(dW, "dW", 8, K, D, True)
    p.dW, p.lddw, p.db = <double *>of_dW.at, of_dW.ld, doubles(db, "db", K, True)
    p.scale = 1 / total_weight(sample_weight, n, real)
    p.row_weight = optional(sample_weight, "sample_weight", real, n)
    idx = np.arange(n)
    p.idx = rows_in(idx, n)
    cdef softline_rows rows = rows_of(X, real)
    p.X, p.loss = &rows, &loss

    blocks = (n + SOFTLINE_BLOCK - 1) // SOFTLINE_BLOCK
    cdef int threads = <int>min(<ptrdiff_t>threads_for(n_threads, 2.0 * n * K * D), blocks)
    size = K * (D + 1) + 1
    tasks = tasks_of(blocks, threads, size, &p.task_blocks, &p.depth)
    strip, part = softline_packed(D + lanes, lanes), softline_part(D, lanes)
    p.chunk_strips = min(PASS_PACKED_BYTES // (strip * real), PASS_SCORE_BYTES // (64 * K))
    p.chunk_strips = max(<ptrdiff_t>1, min(p.chunk_strips, (min(n, SOFTLINE_BLOCK) + lanes - 1) // lanes))
    chunk = p.chunk_strips * lanes * K
    p.room_size = line(p.chunk_strips * strip + (max((D + part - 1) // part, 1) + 1) * chunk
                       + K * line(D, real) + K * lanes + line(K, real) + 2 * lanes, real)
    nodes, stack = np.empty(tasks * size), np.empty(threads * p.depth * size)
    p.nodes, p.stack = doubles(nodes, "nodes", -1), doubles(stack, "stack", -1)
    memory = np.zeros(threads * p.room_size * real + 64, np.uint8)
    p.room = aligned(memory)
    run(table(real).run_pass, &p, threads, n_threads)
    return loss


def candidate_losses(X, y, sample_weight, Ws, bs, losses, n_threads=None):
    """Mean cross-entropy of all rows for each of K candidates, written into `losses`, float64."""
    X = as_rows(X)
    for name, array, ndim in (("Ws", Ws, 3), ("bs", bs, 2)):
        if not isinstance(array, np.ndarray) or array.ndim != ndim:
            raise ValueError(f"{name} must be a NumPy array of {ndim} dimensions")
    cdef ptrdiff_t real = real_bytes(Ws.dtype), lanes = 64 // real, n = X.shape[0], D = X.shape[1]
    cdef ptrdiff_t K = Ws.shape[1], models = Ws.shape[0], outputs = models * K, part, blocks, parts
    cdef softline_candidates p
    cdef softline_matrix of_W
    memset(&p, 0, sizeof(p))
    check_length("bs", bs.shape[0], models, "rows")
    check_length("bs", bs.shape[1], K, "columns")
    # The candidates one below the other: rows of one matrix, which is a view if the strides allow.
    W, b = Ws.reshape(outputs, Ws.shape[2]), np.ascontiguousarray(bs).reshape(-1)
    of_W = matrix(W, "Ws", real, outputs, D)
    p.n, p.D, p.K, p.candidates, p.W, p.ldw = n, D, K, models, of_W.at, of_W.ld
    p.b, p.labels = vector(b, "bs", real, outputs), labels_of(y, n, K)
    p.losses = doubles(losses, "losses", models, True)
    p.scale = 1 / total_weight(sample_weight, n, real)
    p.row_weight = optional(sample_weight, "sample_weight", real, n)
    if outputs == 0:
        return
    idx = np.arange(n)
    p.idx = rows_in(idx, n)
    cdef softline_rows rows = rows_of(X, real)
    p.X = &rows

    blocks = (n + SOFTLINE_BLOCK - 1) // SOFTLINE_BLOCK
    cdef int threads = <int>min(<ptrdiff_t>threads_for(n_threads, 1.0 * n * outputs * D), blocks)
    part = softline_part(D, lanes)
    parts = max((D + part - 1) // part, 1)
    p.chunk_strips = min(PASS_PACKED_BYTES // (softline_packed(part, lanes) * real),
                         CANDIDATE_BYTES // (64 * parts * outputs))
    p.chunk_strips = max(<ptrdiff_t>1, min(p.chunk_strips, (min(n, SOFTLINE_BLOCK) + lanes - 1) // lanes))
    p.room_size = line(p.chunk_strips * softline_packed(part, lanes)
                       + parts * p.chunk_strips * lanes * outputs + outputs * lanes + lanes, real)
    sums = np.empty(blocks * models)
    p.sums = doubles(sums, "sums", -1)
    memory = np.zeros(threads * p.room_size * real + 64, np.uint8)
    p.room = aligned(memory)
    run(table(real).candidates, &p, threads, n_threads)


def column_stats(X, idx, weight, n_threads=None):
    """(mean, squared deviations from it, minimum, maximum) of the columns of X[idx], in one pass."""
    X = as_rows(X)
    cdef ptrdiff_t real = real_bytes(X.dtype), lanes = 64 // real, n, D = X.shape[1], blocks, slab, ld, tasks
    cdef softline_stats p
    memset(&p, 0, sizeof(p))
    idx = np.arange(X.shape[0]) if idx is None else idx
    p.idx, p.D = rows_in(idx, X.shape[0]), D
    p.n = n = len(idx)
    p.row_weight = optional(weight, "weight", real, n)
    if n == 0 or D == 0:
        return np.zeros(D), np.zeros(D), np.full(D, np.inf, X.dtype), np.full(D, -np.inf, X.dtype)
    cdef softline_rows rows = rows_of(X, real)
    p.X = &rows

    blocks = (n + SOFTLINE_BLOCK - 1) // SOFTLINE_BLOCK
    cdef int threads = <int>min(<ptrdiff_t>threads_for(n_threads, 8.0 * n * D), blocks)
    tasks = tasks_of(blocks, threads, 4 * D + 1, &p.task_blocks, &p.depth)
    p.depth += 1
    ld = line(D, real)
    slab = min(ld, <ptrdiff_t>SOFTLINE_STATS_FEATURES)
    p.room_size = SOFTLINE_STATS_ROWS // lanes * softline_packed(slab, lanes) + 4 * ld
    nodes, stack = np.empty((tasks, 4 * D + 1)), np.empty(threads * p.depth * (4 * D + 1))
    p.nodes, p.stack = doubles(nodes.reshape(-1), "nodes", -1), doubles(stack, "stack", -1)
    memory = np.zeros(threads * p.room_size * real + 64, np.uint8)
    p.room = aligned(memory)
    run(table(real).column_stats, &p, threads, n_threads)
    mean, squares, low, high = nodes[0, 1:].reshape(4, D)
    return mean.copy(), squares.copy(), low.astype(X.dtype), high.astype(X.dtype)


def newton(X, y, sample_weight, l2, l1, fit_intercept, Z, double tol, max_iter, n_threads=None, *,
           double ridge=0.0, by_columns=False, callback=None):
    """Newton's method from Z on; Z becomes the best of where it has been."""
    X = as_rows(X)
    cdef ptrdiff_t n = X.shape[0], D = X.shape[1], M, H, blocks, size, tasks, width
    cdef softline_newton p
    cdef softline_matrix of_Z
    memset(&p, 0, sizeof(p))
    of_Z = matrix(Z, "Z", 8, -1, D + 1, True)
    p.n, p.D, p.R, p.C = n, D, of_Z.rows, max(<ptrdiff_t>2, of_Z.rows)
    width, M = D + 1, p.R * (D + 1)
    if p.R < 1 or p.R == 2 or not max_iter >= 0:
        raise ValueError(f"Z must have a row for each class, or one for two classes, and max_iter must be at "
                         f"least 0; got {p.R} rows and max_iter={max_iter}")
    p.labels = labels_of(y, n, p.C)
    p.scale = 1 / total_weight(sample_weight, n, 8)
    p.row_weight = <double *>optional(sample_weight, "sample_weight", 8, n)
    optional(l1, "l1", 8, width)
    l1 = None if l1 is None else np.array(l1)  # changes for a while
    p.l2, p.l1, p.boost = doubles(l2, "l2", width), <double *>optional(l1, "l1", 8, width), 1
    p.fit_intercept, p.ridge, p.tol, p.max_iter = bool(fit_intercept), ridge, tol, min(max_iter, 2**62)
    p.slack = 8 * 2.0**-52
    p.best_value = p.gap = INFINITY
    p.lower = -INFINITY
    idx = np.arange(n)
    p.idx = rows_in(idx, n)
    cdef softline_rows rows = rows_of(X, 8)
    p.X = &rows

    if by_columns and l1 is None:
        raise ValueError("by_columns=True needs l1; got None")
    p.by_columns = bool(by_columns)
    p.most_support = min(M, MOST_SUPPORT)
    blocks = (n + SOFTLINE_BLOCK - 1) // SOFTLINE_BLOCK
    H = 0 if by_columns else M  # rows of a Hessian of all weights
    size = 1 + M if by_columns else softline_newton_node(p.R, width)
    cdef double operations = <double>n * size
    cdef int threads = 1 if by_columns else <int>min(<ptrdiff_t>threads_for(n_threads, operations), blocks)
    tasks = tasks_of(blocks, threads, size, &p.task_blocks, &p.depth)
    if by_columns:
        p.room_size = softline_columns_room(n, D, p.R, p.most_support)
    else:
        p.room_size = SOFTLINE_NEWTON_ROWS // 8 * softline_packed(width + 8, 8)
        p.room_size += SOFTLINE_NEWTON_ROWS * (line(width, 8) + p.C + p.R + 8 + 1)
    vectors = [np.zeros(M) for _ in range(6)]
    p.best, p.trial, p.gradient, p.trial_gradient, p.step, p.roots = (
        doubles(vectors[0], "", M), doubles(vectors[1], "", M), doubles(vectors[2], "", M),
        doubles(vectors[3], "", M), doubles(vectors[4], "", M), doubles(vectors[5], "", M))
    at, hessian, copy = np.array(Z).reshape(-1), np.empty(H * H), np.empty(H * (H + 4))
    p.Z, p.hessian, p.copy = doubles(at, "", M), doubles(hessian, "", H * H), doubles(copy, "", H * (H + 4))
    scratch = np.empty(5 * M)
    p.vectors = doubles(scratch, "", 5 * M)
    nodes, stack = np.empty(tasks * size), np.empty(threads * p.depth * size)
    p.nodes, p.stack = doubles(nodes, "", tasks * size), doubles(stack, "", threads * p.depth * size)
    memory = np.zeros(threads * p.room_size * 8 + 64, np.uint8)
    p.room = aligned(memory)
    stopped = False
    while True:
        vectors[1][:] = at
        p.trials, p.done, p.paused = -1, 0, 0
        p.until = p.n_iter + 1 if callback is not None else -1
        run(table(8).newton, &p, threads, n_threads)
        if not p.paused:
            break
        if callback(at.reshape(Z.shape), p.value, p.n_iter):
            stopped = True
            break
    Z[...] = (at if stopped else vectors[0]).reshape(Z.shape)
    value = p.value if stopped else p.best_value
    return value, (p.gap if l1 is None else value - p.lower), p.n_iter, STATUSES[p.status]
