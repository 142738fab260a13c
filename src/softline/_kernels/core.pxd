# What the modules of this package share: the C contract, checked arrays, threads, and the region that runs a
# kernel. See csrc/softline.h for what the fields mean.
from libc.stdint cimport int32_t, uint32_t


cdef extern from "team.h" nogil:
    ctypedef struct softline_share:
        double slept
    ctypedef struct softline_team:
        int threads, may_leave, members
        double begun, ended, computed
        softline_share *shares
    ctypedef struct softline_solo:
        softline_team team
        softline_share share
    bint softline_is_late(double lost, double seconds, int members)
    double softline_time()
    double softline_processor_time()

cdef extern from "softline.h" nogil:
    enum:
        SOFTLINE_BLOCK
        SOFTLINE_STATS_ROWS
        SOFTLINE_STATS_FEATURES
    enum:
        SOFTLINE_F32
        SOFTLINE_F64
        SOFTLINE_F16
        SOFTLINE_BF16
        SOFTLINE_U8
        SOFTLINE_I8
    enum:
        SOFTLINE_SGD
        SOFTLINE_MOMENTUM
        SOFTLINE_NESTEROV
        SOFTLINE_SCALED
        SOFTLINE_ADAM
        SOFTLINE_AVERAGE
    enum:
        SOFTLINE_SCORES
        SOFTLINE_PROBABILITIES
        SOFTLINE_LOGARITHMS
        SOFTLINE_CLASSES
        SOFTLINE_TASK_STRIPS
    enum:
        SOFTLINE_GRAM_ROWS
        SOFTLINE_GRAM_OUTPUTS
        SOFTLINE_GRAM_FEATURES
    enum:
        SOFTLINE_IDENTITY
        SOFTLINE_RELU
        SOFTLINE_LEAKY_RELU
        SOFTLINE_TANH
        SOFTLINE_LOGISTIC
    enum:
        SOFTLINE_LABELS
        SOFTLINE_TARGETS
        SOFTLINE_HINGE
        SOFTLINE_OUTPUTS
    ptrdiff_t softline_part(ptrdiff_t D, ptrdiff_t lanes)
    ptrdiff_t softline_packed(ptrdiff_t D, ptrdiff_t lanes)
    ptrdiff_t softline_slab(ptrdiff_t D, ptrdiff_t lanes)

    ctypedef struct softline_rows:
        const char *data
        ptrdiff_t row_bytes, column_bytes
        const void *shift
        const void *scale
        int dtype
    ctypedef struct softline_matrix:
        void *at
        ptrdiff_t rows, columns, ld
    ctypedef struct softline_rates:
        pass
    ctypedef struct softline_rule:
        int kind, decoupled, eps_hat
        void *m
        void *v
        void *mb
        void *vb
        ptrdiff_t ld
        double beta, keep, take, epsilon, t0, t
        ptrdiff_t models, outputs
        softline_rates *of
    void softline_next_step(softline_rule *rule, const double *learning_rates, const double *alphas,
                            const double *l1s)
    ctypedef struct softline_layer:
        ptrdiff_t n_in, n_out, ldw, lddw
        void *W
        void *b
        softline_rule rule
        void *dW
        void *db
        ptrdiff_t strip
        void *packed
        void *out
        void *delta
        void *lane_db
        double *slab_squares
    ctypedef struct softline_epoch:
        const softline_rows *X
        const ptrdiff_t *order
        ptrdiff_t n, batch_size
        const int32_t *labels
        softline_matrix targets
        ptrdiff_t models
        const void *const *row_weight
        const void *scales
        const double *rates
        const double *alphas
        const double *l1s
        softline_layer *layers
        int n_layers, activation, loss, steps, fit_intercept
        double smoothing, dropout, clip_norm, max_norm
        uint32_t seed, t
        const void *shift
        const void *metric
        double *losses
        double *square_norms
        ptrdiff_t chunk_strips, group, tasks
        void *parts
        void *soft
        void *row_losses
        void *weight
        int32_t *codes
        double *strip_losses
        double *squares
        double *clip
        void *drift
    ctypedef struct softline_pass:
        const softline_rows *X
        const ptrdiff_t *idx
        ptrdiff_t n, D, K, ldw
        const int32_t *labels
        const void *row_weight
        const void *W
        const void *b
        double scale
        double *dW
        double *db
        double *loss
        ptrdiff_t lddw, chunk_strips, task_blocks, depth
        double *nodes
        double *stack
        void *room
        ptrdiff_t room_size
    ctypedef struct softline_stats:
        const softline_rows *X
        const ptrdiff_t *idx
        ptrdiff_t n, D
        const void *row_weight
        ptrdiff_t task_blocks, depth
        double *nodes
        double *stack
        void *room
        ptrdiff_t room_size
    enum:
        SOFTLINE_NEWTON_ROWS
        SOFTLINE_SEARCHING
        SOFTLINE_CONVERGED
        SOFTLINE_STUCK
    ptrdiff_t softline_newton_node(ptrdiff_t R, ptrdiff_t width)
    ptrdiff_t softline_columns_room(ptrdiff_t n, ptrdiff_t D, ptrdiff_t R, ptrdiff_t most)
    double softline_duality_gap(ptrdiff_t R, ptrdiff_t width, const double *Z, double value,
                                const double *G, const double *l2, const double *l1)
    ctypedef struct softline_newton:
        const softline_rows *X
        const ptrdiff_t *idx
        ptrdiff_t n, D, C, R
        const int32_t *labels
        const double *row_weight
        double scale
        const double *l2
        double *l1
        double boost
        int fit_intercept, by_columns
        ptrdiff_t most_support
        double ridge, slack, tol
        ptrdiff_t max_iter, until
        double *Z
        double *best
        double value, best_value, gap, lower
        ptrdiff_t n_iter, trials
        int status, done, paused
        double *trial
        double *gradient
        double *trial_gradient
        double *step
        double *roots
        double *hessian
        double *copy
        double *vectors
        ptrdiff_t task_blocks, depth
        double *nodes
        double *stack
        void *room
        ptrdiff_t room_size
    ctypedef struct softline_candidates:
        const softline_rows *X
        const ptrdiff_t *idx
        ptrdiff_t n, D, K, candidates, ldw
        const int32_t *labels
        const void *row_weight
        const void *W
        const void *b
        double scale
        double *losses
        ptrdiff_t chunk_strips
        double *sums
        void *room
        ptrdiff_t room_size
    ctypedef struct softline_call:
        const softline_rows *X
        const ptrdiff_t *idx
        ptrdiff_t n, D
        softline_matrix A, B, out
        const void *b
        void *db
        ptrdiff_t by_output, by_input
        const int32_t *labels
        softline_matrix targets
        const void *weight
        void *losses
        double smoothing, number
        int loss, log, activation, fit_intercept
        uint32_t key
        const void *shift
        const void *metric
        softline_rule *rule
        softline_layer *layers
        int n_layers
        double *squares
        unsigned char *finite
        int wanted
        const char *names
        ptrdiff_t name_bytes
        char *classes
        ptrdiff_t strips
        void *shared
        void *room
        ptrdiff_t room_size

    # A function pointer in a struct needs its own `noexcept nogil`.
    ctypedef void softline_work(void *operands, softline_team *team, int thread) noexcept nogil
    ctypedef struct softline_kernels:
        softline_work *epoch
        softline_work *run_pass "pass"
        softline_work *candidates
        softline_work *column_stats
        softline_work *newton
        void (*first_loop)(ptrdiff_t M, ptrdiff_t count, const double *steps, const double *changes,
                           const double *slopes, const ptrdiff_t *order, double *G,
                           double *shares) noexcept nogil
        void (*second_loop)(ptrdiff_t M, ptrdiff_t count, const double *steps, const double *changes,
                            const double *slopes, const ptrdiff_t *order, double *D,
                            const double *shares) noexcept nogil
        softline_work *predictions
        softline_work *softmax
        softline_work *losses
        softline_work *gradient
        softline_work *gram
        softline_work *precondition
        softline_work *step
        softline_work *squares
        softline_work *project
        softline_work *affine
        softline_work *activate
        softline_work *activation_gradient
        softline_work *dropout
        softline_work *network_scores
        void (*pack)(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col, ptrdiff_t D,
                     void *out, ptrdiff_t strip) noexcept nogil
        void (*part_scores)(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col,
                            ptrdiff_t D, void *packed, ptrdiff_t strip, const void *W, ptrdiff_t ldw,
                            ptrdiff_t K, void *S) noexcept nogil
        void (*add_parts)(const void *S, ptrdiff_t part, ptrdiff_t parts, const void *b, ptrdiff_t K,
                          void *out) noexcept nogil

cdef extern from "neighbors.h" nogil:
    enum:
        SOFTLINE_L1
        SOFTLINE_L2
        SOFTLINE_BYTES_PAD
    ctypedef struct softline_filter:
        void (*differences)(int metric, const float *packed, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,
                            const float *Q, ptrdiff_t ldq, ptrdiff_t C, float *S, int add) noexcept nogil
        void (*square_norms)(const float *packed, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D, float *sums,
                             int add) noexcept nogil
        ptrdiff_t (*candidates)(const float *S, ptrdiff_t C, float scale, const float *low,
                                const float *limit, int32_t *found) noexcept nogil
        ptrdiff_t (*candidates_i32)(const int32_t *S, ptrdiff_t C, const int32_t *low, const int32_t *limit,
                                    int32_t *found) noexcept nogil
        void (*byte_sums)(int metric, const softline_rows *X, ptrdiff_t first, ptrdiff_t n, ptrdiff_t D,
                          const void *Q, ptrdiff_t q_bytes, ptrdiff_t C, int32_t *S) noexcept nogil
        int (*byte_query_width)(int metric) noexcept nogil
        int32_t (*byte_norm)(const char *x, ptrdiff_t D) noexcept nogil
    ctypedef struct softline_exact:
        void (*differences)(int metric, const double *packed, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,
                            const double *Q, ptrdiff_t ldq, ptrdiff_t C, double *S, int add) noexcept nogil
        double (*pair)(int metric, const softline_rows *X, ptrdiff_t i, const softline_rows *Q, ptrdiff_t j,
                       ptrdiff_t D) noexcept nogil

cdef extern from "machine.h" nogil:
    ctypedef struct softline_machine:
        double (*multiply_add)(ptrdiff_t rounds) noexcept nogil
        void (*read)(const void *data, ptrdiff_t bytes, ptrdiff_t rounds) noexcept nogil
    const ptrdiff_t SOFTLINE_READ_BYTES

cdef extern from "softline.h" nogil:
    ctypedef struct softline_isa:
        const char *name
        const softline_kernels *f32
        const softline_kernels *f64
        const softline_filter *filter
        const softline_exact *exact
        const softline_machine *machine_f32
        const softline_machine *machine_f64

cdef const softline_isa *isa

# Bytes of an element, 4 or 8, stand for the dtype that a kernel computes in.
cdef ptrdiff_t real_bytes(dtype) except -1
cdef const softline_kernels *table(ptrdiff_t real) noexcept nogil

# ---- checked arrays: C trusts what these give ----
cdef int check_length(str name, ptrdiff_t given, ptrdiff_t wanted, str why) except -1
cdef softline_matrix matrix(A, str name, ptrdiff_t real, ptrdiff_t rows, ptrdiff_t columns,
                            bint written=*) except *
cdef void *vector(a, str name, ptrdiff_t real, ptrdiff_t n, bint written=*) except? NULL
cdef void *optional(a, str name, ptrdiff_t real, ptrdiff_t n, bint written=*) except? NULL
cdef double *doubles(a, str name, ptrdiff_t n, bint written=*) except? NULL
cdef const int32_t *labels_of(y, ptrdiff_t n, ptrdiff_t n_classes) except? NULL
cdef const ptrdiff_t *rows_in(idx, ptrdiff_t n_rows) except? NULL
cdef softline_rows rows_of(X, ptrdiff_t real) except *

# ---- threads ----
cdef int threads_for(n_threads, double operations) except -1
cpdef int threads_for_epoch(n_threads, double n_rows, double batch_size, double operations) except -1
cdef int run(softline_work *work, void *operands, int threads, n_threads) except -1
cdef void *aligned(room) except? NULL
