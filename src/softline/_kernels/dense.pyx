# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""The kernels one by one: check, make room, and let the threads of a region do what csrc/ says.

Every function has a NumPy twin of the same name and argument order in :mod:`softline.reference`, which
defines what is right and documents the arguments. All compute in float32 or float64 (one per call), write
into arrays that the caller allocated, and give the same bits for any `n_threads`. X is anything that
:class:`softline._kernels.rows.Rows` takes, or such rows themselves: it is packed bit by bit, never copied.
`n_threads` None means: what the process may use, less where the work is small.
"""

from libc.math cimport sqrt
from libc.stdint cimport uint32_t, uintptr_t
from libc.string cimport memset
from softline._kernels.core cimport (
    SOFTLINE_ADAM, SOFTLINE_AVERAGE, SOFTLINE_HINGE, SOFTLINE_IDENTITY, SOFTLINE_LABELS,
    SOFTLINE_CLASSES, SOFTLINE_GRAM_FEATURES, SOFTLINE_GRAM_OUTPUTS, SOFTLINE_GRAM_ROWS,
    SOFTLINE_LEAKY_RELU, SOFTLINE_LOGARITHMS, SOFTLINE_LOGISTIC, SOFTLINE_MOMENTUM,
    SOFTLINE_NESTEROV, SOFTLINE_PROBABILITIES, SOFTLINE_RELU, SOFTLINE_SCALED, SOFTLINE_SCORES, SOFTLINE_SGD,
    SOFTLINE_TANH, SOFTLINE_TARGETS, SOFTLINE_TASK_STRIPS, aligned, check_length, doubles,
    labels_of, matrix, optional, real_bytes, rows_in, rows_of, run, softline_call, softline_layer,
    softline_matrix, softline_next_step, softline_packed, softline_part, softline_rates, softline_rows,
    softline_rule, softline_slab, softline_work, table,
    threads_for, vector,
)

import numpy as np

from softline._kernels.rows import as_rows

ACTIVATIONS = {
    "identity": SOFTLINE_IDENTITY,
    "relu": SOFTLINE_RELU,
    "leaky_relu": SOFTLINE_LEAKY_RELU,
    "tanh": SOFTLINE_TANH,
    "logistic": SOFTLINE_LOGISTIC,
}

# Most bytes of the rows of one task: packed, with the next rows on their way and a block of W, they share the
# level-2 cache.
cdef enum:
    TASK_BYTES = 400 << 10


# ---- what calls share ----------------------------------------------------------------------------------

cdef ptrdiff_t real_of(A, str name) except -1:
    if not isinstance(A, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array; got {type(A).__name__}")
    return real_bytes(A.dtype)


# Elements of up to a multiple of a cache line.
cdef ptrdiff_t line(ptrdiff_t n, ptrdiff_t real) noexcept:
    return (n * real + 63) // 64 * 64 // real


# Room for `threads` x n elements of real, zero, in `call`; the caller keeps the array.
cdef object make_room(softline_call *call, int threads, ptrdiff_t n, ptrdiff_t real):
    # Not a multiple of 4 KiB apart: threads' rooms would share a few sets of the L1 cache.
    call.room_size = line(n, real)
    if call.room_size * real % 4096 == 0:
        call.room_size += 128 // real
    memory = np.zeros(threads * call.room_size * real + 64, np.uint8)
    call.room = aligned(memory)
    return memory


cdef softline_call new_call() noexcept:
    cdef softline_call call
    memset(&call, 0, sizeof(call))
    return call


cdef int activation_code(activation) except -1:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
    return ACTIVATIONS[activation]


cdef int check_smoothing(double label_smoothing) except -1:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1]; got {label_smoothing}")
    return 0


cdef uint32_t seed_of(seed, str name) except? 0:
    if not 0 <= seed < 2**32:
        raise ValueError(f"{name} must be in [0, 2**32); got {seed}")
    return seed


cdef int check_dropout(double rate) except -1:
    if not 0 <= rate < 1:
        raise ValueError(f"dropout must be in [0, 1); got {rate}")
    return 0


# ---- products ------------------------------------------------------------------------------------------

def scores(X, idx, W, b, out, n_threads=None):
    """out = X[idx] W^T + b; idx None means all rows, b None means 0. Whether all scores are finite."""
    return predict(X, idx, W, b, None, out, SOFTLINE_SCORES, n_threads)


def probabilities(X, W, b, out, n_threads=None, *, log=False):
    """out = softmax(X W^T + b), or its logarithm. Whether all scores are finite."""
    wanted = SOFTLINE_LOGARITHMS if log else SOFTLINE_PROBABILITIES
    return predict(X, None, W, b, None, out, wanted, n_threads)


def classes(X, W, b, names, out, n_threads=None):
    """out = the name of the largest score of each row. Whether all scores are finite."""
    return predict(X, None, W, b, names, out, SOFTLINE_CLASSES, n_threads)


# The n elements of a vector of any dtype that is no Python object.
cdef char *bytes_of(a, str name, ptrdiff_t n, bint written) except? NULL:
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array; got {type(a).__name__}")
    if a.ndim != 1 or a.dtype.hasobject or not a.flags.c_contiguous:
        raise ValueError(f"{name} must be a contiguous vector without Python objects")
    if written and not a.flags.writeable:
        raise ValueError(f"{name} is read-only, and would be written to")
    check_length(name, len(a), n, "elements")
    cdef uintptr_t at = a.ctypes.data
    return <char *>at


# Run a kernel that says of each thread whether all it saw was finite; whether all of them did.
cdef bint finds_finite(softline_work *work, softline_call *call, int threads, n_threads) except -1:
    finite = np.ones(threads + 64, np.uint8)
    call.finite = <unsigned char *>aligned(finite)
    memset(call.finite, 1, threads)
    run(work, call, threads, n_threads)
    cdef int i
    for i in range(threads):
        if not call.finite[i]:
            return False
    return True


cdef bint predict(X, idx, W, b, names, out, int wanted, n_threads) except -1:
    X = as_rows(X)
    cdef ptrdiff_t real = real_of(W, "W"), lanes = 64 // real, n = X.shape[0], D = X.shape[1], C, strips, part
    cdef ptrdiff_t size, strip_bytes
    cdef softline_call call = new_call()
    if idx is not None:
        call.idx = rows_in(idx, n)
        n = len(idx)
    call.n, call.D, call.wanted = n, D, wanted
    call.A = matrix(W, "W", real, -1, D)
    C = call.A.rows
    if wanted == SOFTLINE_CLASSES:
        call.names = bytes_of(names, "names", 2 if C == 1 else C, False)
        call.classes = bytes_of(out, "out", n, True)
        if names.dtype != out.dtype:
            raise ValueError(f"out must be of the dtype of names, {names.dtype}; got {out.dtype}")
        call.name_bytes = names.dtype.itemsize
    else:
        call.out = matrix(out, "out", real, n, 2 if C == 1 and wanted != SOFTLINE_SCORES else C, True)
    b = np.zeros(C, W.dtype) if b is None else b
    call.b = vector(b, "b", real, C)
    if n == 0 or C == 0:
        return True
    cdef softline_rows rows = rows_of(X, real)
    call.X = &rows
    cdef int threads = threads_for(n_threads, <double>n * C * D)
    strip_bytes = lanes * max(D, <ptrdiff_t>1) * <ptrdiff_t>X.array.itemsize
    strips = max(<ptrdiff_t>1, min(<ptrdiff_t>SOFTLINE_TASK_STRIPS, TASK_BYTES // strip_bytes))
    call.strips = min(strips, (n + lanes - 1) // lanes)
    part = softline_part(D, lanes)
    size = (call.strips + 1) * softline_packed(part, lanes)
    size += (max(<ptrdiff_t>1, (D + part - 1) // part) * call.strips + 2) * lanes * C
    _memory = make_room(&call, threads, size, real)
    return finds_finite(table(real).predictions, &call, threads, n_threads)


def gradient(X, idx, dscores, dW, db, n_threads=None):
    """dW = dscores^T X[idx] and db = column sums of dscores; idx None means all rows."""
    X = as_rows(X)
    cdef ptrdiff_t real = real_of(dW, "dW"), lanes = 64 // real, D = X.shape[1], n, C, strips
    cdef softline_call call = new_call()
    idx = np.arange(X.shape[0]) if idx is None else idx
    call.idx = rows_in(idx, X.shape[0])
    call.n = n = len(idx)
    call.D = D
    call.out = matrix(dW, "dW", real, -1, D, True)
    C = call.out.rows
    call.A = matrix(dscores, "dscores", real, n, C)
    call.db = vector(db, "db", real, C, True)
    if n == 0 or C == 0:
        dW[...] = 0
        db[...] = 0
        return
    cdef softline_rows rows = rows_of(X, real)
    call.X = &rows
    cdef int threads = threads_for(n_threads, <double>n * C * D)
    strips = (n + lanes - 1) // lanes
    _memory = make_room(
        &call, threads, SOFTLINE_TASK_STRIPS * softline_packed(softline_slab(D, lanes), lanes), real)
    _shared = np.empty((strips + 1) * C * 64 + 64, np.uint8)
    call.shared = aligned(_shared)
    run(table(real).gradient, &call, threads, n_threads)


def gram(X, idx, weight, last, out, n_threads=None):
    """The upper triangle of out = sum of weight[i] z z^T, z being row idx[i] of X, then the number `last`."""
    X = as_rows(X)
    cdef ptrdiff_t real = real_of(out, "out"), lanes = 64 // real, D = X.shape[1]
    cdef softline_call call = new_call()
    idx = np.arange(X.shape[0]) if idx is None else idx
    call.idx = rows_in(idx, X.shape[0])
    call.n, call.D, call.number = len(idx), D, last
    call.weight = vector(weight, "weight", real, call.n)
    call.out = matrix(out, "out", real, D + 1, D + 1, True)
    if call.n == 0:
        out[...] = 0
        return
    cdef softline_rows rows = rows_of(X, real)
    call.X = &rows
    cdef int threads = threads_for(n_threads, 0.5 * call.n * (D + 1) * (D + 1))
    cdef ptrdiff_t size = SOFTLINE_GRAM_ROWS * SOFTLINE_GRAM_OUTPUTS
    size += SOFTLINE_GRAM_ROWS // lanes * softline_packed(SOFTLINE_GRAM_FEATURES + lanes, lanes)
    _memory = make_room(&call, threads, size, real)
    run(table(real).gram, &call, threads, n_threads)


def precondition(G, mean, roots, inverse_root, out, n_threads=None):
    """out = G times the inverse of a curvature, row by row: see AverageCurvature.

    G and out (R, n), mean (n - 1) and roots (n) are float64; inverse_root (n, n) is upper triangular, or
    None: the identity.
    """
    cdef ptrdiff_t real = 8 if inverse_root is None else real_of(inverse_root, "inverse_root")
    cdef ptrdiff_t lanes = 64 // real, n, R, strips
    cdef softline_call call = new_call()
    cdef softline_rows rows
    call.A = matrix(G, "G", 8, -1, -1)
    call.n = n = call.A.columns
    R = call.A.rows
    call.out = matrix(out, "out", 8, R, n, True)
    call.metric = doubles(roots, "roots", n)
    call.shift = doubles(mean, "mean", max(n - 1, 0))
    if np.may_share_memory(G, out):
        raise ValueError("out must not share memory with G")
    if R == 0 or n == 0:
        return
    strips = (n + lanes - 1) // lanes
    idx = np.arange(n)
    _room = _shared = None
    cdef int threads = 1
    if inverse_root is not None:
        matrix(inverse_root, "inverse_root", real, n, n)
        rows = rows_of(as_rows(inverse_root), real)
        call.X = &rows
        call.idx = rows_in(idx, n)
        threads = threads_for(n_threads, <double>n * n * R)
        # packed rows: of a task of both products
        call.strips = max(SOFTLINE_TASK_STRIPS * softline_packed(softline_slab(n, lanes), lanes),
                          softline_packed(n, lanes))
        _room = make_room(&call, threads, call.strips + R * lanes, real)
        _shared = np.empty(2 * R * strips * 64 + 64, np.uint8)
        call.shared = aligned(_shared)
    run(table(real).precondition, &call, threads, n_threads)


# ---- softmax and losses --------------------------------------------------------------------------------

cdef int softmax_rows(scores, bint log, n_threads) except -1:
    cdef ptrdiff_t real = real_of(scores, "scores")
    cdef softline_call call = new_call()
    call.A = matrix(scores, "scores", real, -1, -1, True)
    call.log = log
    if call.A.rows == 0 or call.A.columns == 0:
        return 0
    # exp and its sums cost about 20 multiply-adds an element
    cdef int threads = threads_for(n_threads, 20.0 * call.A.rows * call.A.columns)
    _memory = make_room(&call, threads, call.A.columns * 64 // real, real)
    return run(table(real).softmax, &call, threads, n_threads)


def softmax(scores, n_threads=None):
    """Rows of scores become probabilities, in place."""
    softmax_rows(scores, False, n_threads)


def log_softmax(scores, n_threads=None):
    """Rows of scores become logarithms of probabilities, in place."""
    softmax_rows(scores, True, n_threads)


def cross_entropy(scores, y, losses, n_threads=None, *, label_smoothing=0.0):
    """losses[i] = -log softmax(scores[i])[y[i]], or the cross-entropy with targets y (n, C)."""
    losses_of(scores, False, y, None, losses, n_threads, label_smoothing, SOFTLINE_LABELS)


def cross_entropy_gradient(scores, y, weight, losses, n_threads=None, *, label_smoothing=0.0):
    """The same losses, and scores[i] = weight[i] (softmax(scores[i]) - onehot(y[i])) in place."""
    losses_of(scores, True, y, weight, losses, n_threads, label_smoothing, SOFTLINE_LABELS)


def hinge_gradient(scores, y, weight, losses, n_threads=None):
    """losses[i] = sum_j max(0, s_j - s_y + 1) over j != y[i], and scores[i] = weight[i] dL_i/ds in place."""
    losses_of(scores, True, y, weight, losses, n_threads, 0, SOFTLINE_HINGE)


# The losses, and where it is `written` the gradient.
cdef int losses_of(scores, bint written, y, weight, losses, n_threads, double label_smoothing,
                   int loss) except -1:
    cdef ptrdiff_t real = real_of(scores, "scores"), n, C
    cdef softline_call call = new_call()
    call.A = call.out = matrix(scores, "scores", real, -1, -1, written)
    n, C = call.A.rows, call.A.columns
    call.smoothing = label_smoothing
    call.loss = loss
    check_smoothing(label_smoothing)
    if getattr(y, "ndim", 1) == 2 and loss == SOFTLINE_LABELS:
        call.targets = matrix(y, "y", real, n, C)
        call.loss = SOFTLINE_TARGETS
    else:
        call.labels = labels_of(y, n, C)
        if label_smoothing > 0:
            call.loss = SOFTLINE_TARGETS
    if written:
        call.weight = vector(weight, "weight", real, n)
    call.losses = vector(losses, "losses", real, n, True)
    if n == 0 or C == 0:
        return 0
    cdef int threads = threads_for(n_threads, 20.0 * n * C)
    _memory = make_room(&call, threads, 2 * C * 64 // real, real)
    return run(table(real).losses, &call, threads, n_threads)


# ---- steps ---------------------------------------------------------------------------------------------

# Rules by name: the kind of step, and how many moments it remembers.
RULES = {
    "sgd": (SOFTLINE_SGD, 0),
    "momentum": (SOFTLINE_MOMENTUM, 1),
    "nesterov": (SOFTLINE_NESTEROV, 1),
    "adam": (SOFTLINE_ADAM, 2),
    "adamw": (SOFTLINE_ADAM, 2),
    "rmsprop": (SOFTLINE_SCALED, 1),
    "adagrad": (SOFTLINE_SCALED, 1),
    "asgd": (SOFTLINE_AVERAGE, 1),
}


# An optimizer and its state, on weights (C, D); None is plain descent. The caller keeps both.
cdef int rule_of(softline_rule *rule, optimizer, state, ptrdiff_t real, ptrdiff_t C,
                 ptrdiff_t D) except -1:
    cdef softline_matrix m
    cdef ptrdiff_t n_moments, k
    cdef void *at[2]
    cdef void *at_b[2]
    memset(rule, 0, sizeof(rule[0]))
    name = "sgd" if optimizer is None else getattr(optimizer, "rule", None)
    if not isinstance(name, str) or name not in RULES:
        raise TypeError(f"optimizer must be one of softline.optimizers or None; got {optimizer!r}")
    if state is not None:
        for attribute in ("t", "W", "b"):
            if not hasattr(state, attribute):
                raise TypeError(f"state must be a softline.optimizers.State or None; got {state!r}")
    numbers = {} if optimizer is None else vars(optimizer)
    rule.kind, n_moments = RULES[name]
    rule.decoupled = name == "adamw"
    rule.beta = numbers.get("beta1", numbers.get("momentum", 0))
    rule.keep = numbers.get("beta2", numbers.get("rho", 1))
    rule.take = 1 if name == "adagrad" else 1 - rule.keep
    rule.epsilon = numbers.get("eps", 0)
    rule.eps_hat = numbers.get("eps_hat", False)
    rule.t0 = numbers.get("t0", 0)
    rule.models, rule.outputs = 1, C
    if n_moments > 0 and state is None:
        raise ValueError(f"{name} needs a state; got None")
    if state is not None:
        rule.t = state.t
    if n_moments == 0:
        return 0
    check_length("state.W", len(state.W), n_moments, "matrices")
    check_length("state.b", len(state.b), n_moments, "vectors")
    for k in range(n_moments):
        m = matrix(state.W[k], "state.W", real, C, D, True)
        if k > 0 and C > 1 and D > 0 and m.ld != rule.ld:
            raise ValueError("the matrices of state.W must have rows equally far apart")
        rule.ld = m.ld
        at[k], at_b[k] = m.at, vector(state.b[k], "state.b", real, C, True)
    if rule.kind == SOFTLINE_SCALED:
        rule.v, rule.vb = at[0], at_b[0]
    else:
        rule.m, rule.mb = at[0], at_b[0]
        if n_moments == 2:
            rule.v, rule.vb = at[1], at_b[1]
    return 0


def step(W, b, dW, db, double learning_rate, double alpha, shift, metric, fit_intercept, n_threads=None, *,
         optimizer=None, state=None, double l1=0.0):
    """One step of an optimizer (None: plain descent) on W and b, in place."""
    cdef ptrdiff_t real = real_of(W, "W"), lanes = 64 // real, C, D, slab
    cdef softline_call call = new_call()
    cdef softline_rule rule
    cdef softline_rates of
    call.A = matrix(W, "W", real, -1, -1, True)
    C, D = call.A.rows, call.A.columns
    call.B = matrix(dW, "dW", real, C, D)
    call.db, call.b = vector(b, "b", real, C, True), vector(db, "db", real, C)
    call.shift, call.metric = optional(shift, "shift", real, D), optional(metric, "metric", real, D)
    call.fit_intercept = bool(fit_intercept)
    rule_of(&rule, optimizer, state, real, C, D)
    call.rule = &rule
    rule.of = &of
    softline_next_step(&rule, &learning_rate, &alpha, &l1)
    slab = softline_slab(D, lanes)
    _shared = np.empty((D + slab - 1) // slab * C * 64 + 64 if shift is not None else 64, np.uint8)
    call.shared = aligned(_shared)
    cdef int threads = threads_for(n_threads, <double>C * D)
    if C > 0:
        run(table(real).step, &call, threads, n_threads)
    if state is not None:
        state.t += 1


def clip_gradient(dW, db, double clip_norm, shift, metric, n_threads=None):
    """A gradient longer than clip_norm is scaled down to it, in place; returns its norm."""
    cdef ptrdiff_t real = real_of(dW, "dW"), C, D
    cdef softline_call call = new_call()
    call.A = matrix(dW, "dW", real, -1, -1, True)
    C, D = call.A.rows, call.A.columns
    call.b = vector(db, "db", real, C, True)
    call.shift, call.metric = optional(shift, "shift", real, D), optional(metric, "metric", real, D)
    squares = np.zeros(C)
    call.squares = doubles(squares, "squares", C)
    cdef int threads = threads_for(n_threads, <double>C * D)
    if C > 0:
        run(table(real).squares, &call, threads, n_threads)
    norm = 0.0
    for square, g in zip(squares.tolist(), db.astype(float).tolist()):
        norm += square + g * g
    norm = sqrt(norm)
    # As in torch.nn.utils.clip_grad_norm_.
    scale = clip_norm / (norm + 1e-6)
    if scale < 1:
        dW *= dW.dtype.type(scale)
        db *= db.dtype.type(scale)
    return norm


def project_rows(W, b, double max_norm, shift, n_threads=None):
    """Rows of W longer than max_norm are scaled down to it, in place; scores of `shift` stay."""
    cdef ptrdiff_t real = real_of(W, "W"), C, D
    cdef softline_call call = new_call()
    call.A = matrix(W, "W", real, -1, -1, True)
    C, D = call.A.rows, call.A.columns
    call.db = vector(b, "b", real, C, True)
    call.shift = optional(shift, "shift", real, D)
    call.number = max_norm
    cdef int threads = threads_for(n_threads, <double>C * D)
    if C > 0 and D > 0:
        run(table(real).project, &call, threads, n_threads)


# ---- between the layers of a network -------------------------------------------------------------------

def affine(A, W, b, out, n_threads=None):
    """out = A W^T + b; b None means 0. W may be the transpose of a matrix."""
    cdef ptrdiff_t real = real_of(A, "A"), lanes = 64 // real, n, n_in, n_out
    cdef softline_call call = new_call()
    call.A = matrix(A, "A", real, -1, -1)
    n, n_in = call.A.rows, call.A.columns
    if not isinstance(W, np.ndarray) or W.ndim != 2:
        raise TypeError("W must be a NumPy array of 2 dimensions")
    n_out = W.shape[0]
    if W.strides[1] == real or n_in <= 1:
        call.B = matrix(W, "W", real, n_out, n_in)
        call.by_output, call.by_input = call.B.ld, 1
    else:
        call.B = matrix(W.T, "W", real, n_in, n_out)
        call.by_output, call.by_input = 1, call.B.ld
    call.out = matrix(out, "out", real, n, n_out, True)
    call.b = optional(b, "b", real, n_out)
    call.n = n
    if n == 0 or n_out == 0:
        return
    cdef int threads = threads_for(n_threads, <double>n * n_in * n_out)
    call.strips = min(<ptrdiff_t>SOFTLINE_TASK_STRIPS, (n + lanes - 1) // lanes)
    _memory = make_room(&call, threads, call.strips * lanes * (n_in + n_out), real)
    run(table(real).affine, &call, threads, n_threads)


def activate(Z, activation, n_threads=None):
    """Z becomes f(Z), in place."""
    cdef ptrdiff_t real = real_of(Z, "Z")
    cdef softline_call call = new_call()
    call.A = matrix(Z, "Z", real, -1, -1, True)
    call.activation = activation_code(activation)
    if call.A.rows == 0 or call.A.columns == 0:
        return
    cdef int threads = threads_for(n_threads, 20.0 * call.A.rows * call.A.columns)
    _memory = make_room(&call, threads, call.A.columns * 64 // real, real)
    run(table(real).activate, &call, threads, n_threads)


def activation_gradient(A, activation, dA, n_threads=None, *, double keep=1.0):
    """dA is multiplied with f'(z), where f(z) = keep A, in place."""
    cdef ptrdiff_t real = real_of(A, "A")
    cdef softline_call call = new_call()
    call.A = matrix(dA, "dA", real, -1, -1, True)
    call.B = matrix(A, "A", real, call.A.rows, call.A.columns)
    call.activation = activation_code(activation)
    call.number = keep
    if call.A.rows == 0 or call.A.columns == 0:
        return
    cdef int threads = threads_for(n_threads, 20.0 * call.A.rows * call.A.columns)
    _memory = make_room(&call, threads, 2 * call.A.columns * 64 // real, real)
    run(table(real).activation_gradient, &call, threads, n_threads)


def dropout(A, double rate, key, n_threads=None):
    """Elements of A become 0 with probability `rate`, and are else divided by 1 - rate, in place."""
    cdef ptrdiff_t real = real_of(A, "A")
    cdef softline_call call = new_call()
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be in [0, 1); got {rate}")
    call.A = matrix(A, "A", real, -1, -1, True)
    call.key = seed_of(key, "key")
    call.number = rate
    if call.A.rows == 0 or call.A.columns == 0:
        return
    cdef int threads = threads_for(n_threads, 20.0 * call.A.rows * call.A.columns)
    _memory = make_room(&call, threads, call.A.columns * 64 // real, real)
    run(table(real).dropout, &call, threads, n_threads)


# The layers (W, b) of a network of D features, the first `real` of which tells the dtype.
cdef int layers_of(softline_layer *layers, list weights, ptrdiff_t n_features, ptrdiff_t real,
                   bint written) except -1:
    cdef softline_matrix W
    cdef ptrdiff_t n_in = n_features, i
    for i in range(len(weights)):
        W = matrix(weights[i][0], f"W of layer {i}", real, -1, n_in, written)
        layers[i].b = vector(weights[i][1], f"b of layer {i}", real, W.rows, written)
        layers[i].W, layers[i].ldw = W.at, W.ld
        layers[i].n_in, layers[i].n_out = n_in, W.rows
        if W.rows == 0 or n_in == 0:
            raise ValueError(f"layer {i} has {n_in} inputs and {W.rows} outputs; each needs one")
        n_in = W.rows
    return 0


# The layers as a list of pairs.
cdef list checked(weights):
    layers = [(W, b) for W, b in weights]
    if not layers:
        raise ValueError("a network needs at least one layer; weights is empty")
    return layers


def network_scores(X, idx, weights, activation, out, n_threads=None):
    """out = the scores of the rows idx; whether all of the first layer's are finite."""
    X = as_rows(X)
    weights = checked(weights)
    cdef ptrdiff_t real = real_of(weights[0][0], "W of layer 0"), lanes = 64 // real, D = X.shape[1], n, part
    cdef ptrdiff_t size, i
    cdef double operations = 0
    cdef softline_call call = new_call()
    idx = np.arange(X.shape[0]) if idx is None else idx
    call.idx = rows_in(idx, X.shape[0])
    call.n = n = len(idx)
    call.D = D
    call.n_layers = <int>len(weights)
    of_layers = np.zeros(call.n_layers * sizeof(softline_layer) + 64, np.uint8)
    call.layers = <softline_layer *>aligned(of_layers)
    layers_of(call.layers, weights, D, real, False)
    call.activation = activation_code(activation)
    call.out = matrix(out, "out", real, n, call.layers[call.n_layers - 1].n_out, True)
    if n == 0:
        return True
    cdef softline_rows rows = rows_of(X, real)
    call.X = &rows
    call.strips = min(<ptrdiff_t>SOFTLINE_TASK_STRIPS, (n + lanes - 1) // lanes)
    part = softline_part(D, lanes)
    size = call.strips * softline_packed(part, lanes)
    size += (D + part - 1) // part * call.strips * lanes * call.layers[0].n_out
    for i in range(call.n_layers):
        operations += <double>n * call.layers[i].n_in * call.layers[i].n_out
        size += call.strips * lanes * call.layers[i].n_out
    cdef int threads = threads_for(n_threads, operations)
    _memory = make_room(&call, threads, size, real)
    own_layers = np.zeros(threads * call.n_layers * sizeof(softline_layer) + 64, np.uint8)
    call.shared = aligned(own_layers)
    return finds_finite(table(real).network_scores, &call, threads, n_threads)
