# What _epoch.pyx shares with _kernels.pyx: the C tables, called by dtype, and how work is split.
from libc.math cimport sqrt
from libc.stdint cimport int32_t, uint32_t
from libc.string cimport memset
from softline._team cimport softline_team

ctypedef fused real:
    float
    double

# A function pointer in a struct needs its own `noexcept nogil`.
cdef extern from "softline.h" nogil:
    enum:
        SOFTLINE_F32
        SOFTLINE_F64
        SOFTLINE_F16
        SOFTLINE_BF16
        SOFTLINE_U8
        SOFTLINE_I8
    ctypedef struct softline_rows:
        const char *data
        ptrdiff_t row_bytes, column_bytes
        const void *shift
        const void *scale
        int dtype
    ctypedef struct softline_ahead:
        const softline_rows *X
        const ptrdiff_t *idx
        ptrdiff_t n, col, D
    enum:
        SOFTLINE_SGD
        SOFTLINE_MOMENTUM
        SOFTLINE_NESTEROV
        SOFTLINE_SCALED
        SOFTLINE_ADAM
        SOFTLINE_AVERAGE
    enum:
        SOFTLINE_IDENTITY
        SOFTLINE_RELU
        SOFTLINE_LEAKY_RELU
        SOFTLINE_TANH
        SOFTLINE_LOGISTIC
    ctypedef struct softline_rule:
        int kind
        void *m
        void *v
        void *mb
        void *vb
        ptrdiff_t ld
        double beta, keep, take, eps, root, decay, share, l1
    ctypedef struct softline_f32_update:
        float *W
        ptrdiff_t ldw
        const float *db
        const float *shift
        const float *metric
        float step, alpha
        float *drift
        const softline_rule *rule
        ptrdiff_t col
    ctypedef struct softline_f64_update:
        double *W
        ptrdiff_t ldw
        const double *db
        const double *shift
        const double *metric
        double step, alpha
        double *drift
        const softline_rule *rule
        ptrdiff_t col
    ctypedef struct softline_f32:
        void (*pack)(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col, ptrdiff_t D,
                     float *out, ptrdiff_t strip) noexcept nogil
        void (*scores)(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col, ptrdiff_t D,
                       float *packed, ptrdiff_t strip, const float *W, ptrdiff_t ldw, ptrdiff_t C,
                       float *S, const softline_ahead *ahead) noexcept nogil
        void (*add_scores)(const float *S, ptrdiff_t part, ptrdiff_t parts, const float *b, ptrdiff_t C,
                           float *out) noexcept nogil
        void (*load_strip)(const float *M, ptrdiff_t ldm, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t C,
                           float *S) noexcept nogil
        void (*store_strip)(const float *S, ptrdiff_t n, ptrdiff_t C, float *M, ptrdiff_t ldm) noexcept nogil
        void (*softmax)(float *S, ptrdiff_t C, int log) noexcept nogil
        void (*cross_entropy)(const float *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y,
                              float *losses) noexcept nogil
        void (*cross_entropy_gradient)(float *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y,
                                       const float *weight, float *losses) noexcept nogil
        void (*hinge_gradient)(float *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y, const float *weight,
                               float *losses) noexcept nogil
        void (*soft_cross_entropy)(float *S, ptrdiff_t n, ptrdiff_t C, const float *T, float smoothing,
                                   const float *weight, float *losses) noexcept nogil
        void (*bias_gradient)(const float *dS, ptrdiff_t n, ptrdiff_t C, float *sums, float *db,
                              int add) noexcept nogil
        void (*gradient)(const float *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D, ptrdiff_t slab,
                         const float *dS, ptrdiff_t C, float *dW, ptrdiff_t ldw, int add,
                         const softline_f32_update *update, const softline_ahead *ahead) noexcept nogil
        void (*update)(const softline_f32_update *update, const float *dW, ptrdiff_t lddw, float scale,
                       ptrdiff_t C, ptrdiff_t D) noexcept nogil
        void (*bias_update)(const softline_f32_update *update, ptrdiff_t slabs, ptrdiff_t C,
                            float *b) noexcept nogil
        float (*square_norm)(const float *dW, ptrdiff_t D, float db, const float *shift,
                             const float *metric) noexcept nogil
        void (*project)(float *W, ptrdiff_t D, float *b, float most, const float *shift, float *mean,
                        float *mean_b, float share) noexcept nogil
        void (*column_stats)(const float *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D, const float *weight,
                             double share, float *mean, float *squares, float *low,
                             float *high) noexcept nogil
    ctypedef struct softline_f64:
        void (*pack)(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col, ptrdiff_t D,
                     double *out, ptrdiff_t strip) noexcept nogil
        void (*scores)(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col, ptrdiff_t D,
                       double *packed, ptrdiff_t strip, const double *W, ptrdiff_t ldw, ptrdiff_t C,
                       double *S, const softline_ahead *ahead) noexcept nogil
        void (*add_scores)(const double *S, ptrdiff_t part, ptrdiff_t parts, const double *b, ptrdiff_t C,
                           double *out) noexcept nogil
        void (*load_strip)(const double *M, ptrdiff_t ldm, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t C,
                           double *S) noexcept nogil
        void (*store_strip)(const double *S, ptrdiff_t n, ptrdiff_t C, double *M,
                            ptrdiff_t ldm) noexcept nogil
        void (*softmax)(double *S, ptrdiff_t C, int log) noexcept nogil
        void (*cross_entropy)(const double *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y,
                              double *losses) noexcept nogil
        void (*cross_entropy_gradient)(double *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y,
                                       const double *weight, double *losses) noexcept nogil
        void (*hinge_gradient)(double *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y, const double *weight,
                               double *losses) noexcept nogil
        void (*soft_cross_entropy)(double *S, ptrdiff_t n, ptrdiff_t C, const double *T, double smoothing,
                                   const double *weight, double *losses) noexcept nogil
        void (*bias_gradient)(const double *dS, ptrdiff_t n, ptrdiff_t C, double *sums, double *db,
                              int add) noexcept nogil
        void (*gradient)(const double *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D, ptrdiff_t slab,
                         const double *dS, ptrdiff_t C, double *dW, ptrdiff_t ldw, int add,
                         const softline_f64_update *update, const softline_ahead *ahead) noexcept nogil
        void (*update)(const softline_f64_update *update, const double *dW, ptrdiff_t lddw, double scale,
                       ptrdiff_t C, ptrdiff_t D) noexcept nogil
        void (*bias_update)(const softline_f64_update *update, ptrdiff_t slabs, ptrdiff_t C,
                            double *b) noexcept nogil
        double (*square_norm)(const double *dW, ptrdiff_t D, double db, const double *shift,
                              const double *metric) noexcept nogil
        void (*project)(double *W, ptrdiff_t D, double *b, double most, const double *shift, double *mean,
                        double *mean_b, double share) noexcept nogil
        void (*column_stats)(const double *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,
                             const double *weight, double share, double *mean, double *squares, double *low,
                             double *high) noexcept nogil
    ctypedef struct softline_network_f32:
        void (*affine)(const float *S, ptrdiff_t n, ptrdiff_t n_in, const float *W, ptrdiff_t by_output,
                       ptrdiff_t by_input, const float *b, ptrdiff_t n_out, float *out) noexcept nogil
        void (*activate)(float *S, ptrdiff_t units, int activation) noexcept nogil
        void (*activation_gradient)(const float *A, ptrdiff_t units, int activation, float keep,
                                    float *dS) noexcept nogil
        void (*dropout)(float *S, ptrdiff_t units, double rate, uint32_t key, uint32_t row) noexcept nogil
    ctypedef struct softline_network_f64:
        void (*affine)(const double *S, ptrdiff_t n, ptrdiff_t n_in, const double *W, ptrdiff_t by_output,
                       ptrdiff_t by_input, const double *b, ptrdiff_t n_out, double *out) noexcept nogil
        void (*activate)(double *S, ptrdiff_t units, int activation) noexcept nogil
        void (*activation_gradient)(const double *A, ptrdiff_t units, int activation, double keep,
                                    double *dS) noexcept nogil
        void (*dropout)(double *S, ptrdiff_t units, double rate, uint32_t key, uint32_t row) noexcept nogil

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

cdef extern from "softline.h" nogil:
    ctypedef struct softline_isa:
        const char *name
        const softline_f32 *f32
        const softline_f64 *f64
        const softline_network_f32 *network_f32
        const softline_network_f64 *network_f64
        const softline_filter *filter
        const softline_exact *exact
    ptrdiff_t softline_block(ptrdiff_t D, ptrdiff_t lanes)
    ptrdiff_t softline_packed(ptrdiff_t D, ptrdiff_t lanes)
    uint32_t softline_mix(uint32_t x)

cdef const softline_isa *isa

# An optimizer: the rule of its steps, what the step number makes of it, and whose state it holds. A step
# changes `now`; plain descent needs no rule.
cdef struct optimizer_rule:
    softline_rule now
    bint plain, decoupled, eps_hat
    double t, t0, eps
    double first  # the learning rate is multiplied with it

cdef int rule_of(optimizer_rule *rule, str update, dict numbers, state, const real[:, :] W,
                 double l1) except -1
cdef void next_step(optimizer_rule *rule, double learning_rate, double alpha) noexcept nogil
cdef softline_rows rows_of(X, real unused) except *
cdef real[::1] room(ptrdiff_t n, make, real unused)
cdef real *aligned(real[::1] room) noexcept
cdef real[:, :] matrix(ptrdiff_t n_rows, ptrdiff_t n_features, make, real unused)
cdef ptrdiff_t row_stride(const real[:, :] A, str name) except? -1
cdef const ptrdiff_t[::1] indices(const ptrdiff_t[::1] idx, ptrdiff_t n_rows) except *
cdef int check_length(str name, ptrdiff_t given, ptrdiff_t wanted, str why) except -1
cdef int check_indices(const ptrdiff_t[::1] idx, ptrdiff_t n_rows) except -1
cdef int check_labels(const int32_t[::1] y, ptrdiff_t n_classes) except -1
cdef ptrdiff_t check_targets(const real[:, :] targets, ptrdiff_t n, ptrdiff_t C) except -1
cdef int check_smoothing(double label_smoothing) except -1
cdef int check_geometry(const real[::1] shift, const real[::1] metric, ptrdiff_t D) except -1
cdef int threads_for(n_threads, double operations) except -1
cpdef int threads_for_epoch(n_threads, double n_rows, double batch_size, double operations) except -1
cdef void region_over(softline_team *team) noexcept
cdef ptrdiff_t slab_of(ptrdiff_t n_features, real unused) noexcept nogil


# The targets of labels, as a strip.
cdef inline void onehot(const int32_t *y, ptrdiff_t n, ptrdiff_t C, real *T) noexcept nogil:
    cdef ptrdiff_t lanes = 64 // sizeof(real), i
    memset(T, 0, C * lanes * sizeof(real))
    for i in range(n):
        T[y[i] * lanes + i] = 1


# Norm of a gradient from the squares of the rows of dW, and what it is multiplied with to be clipped, as in
# torch.nn.utils.clip_grad_norm_.
cdef inline double gradient_norm(const double *squares, const real *db, ptrdiff_t C) noexcept nogil:
    cdef double total = 0
    cdef ptrdiff_t c
    for c in range(C):
        total += squares[c] + <double>db[c] * db[c]
    return sqrt(total)


cdef inline double clip_scale(double norm, double clip_norm) noexcept nogil:
    return min(1.0, clip_norm / (norm + 1e-6))


# ---- the kernels of softline.h, for the dtype of their arguments ---------------------------------------


cdef inline void pack_of(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col,
                         ptrdiff_t D, real *out, ptrdiff_t strip) noexcept nogil:
    if real is float:
        isa.f32.pack(X, idx, n, col, D, out, strip)
    else:
        isa.f64.pack(X, idx, n, col, D, out, strip)


cdef inline void scores_of(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col,
                           ptrdiff_t D, real *packed, ptrdiff_t strip, const real *W, ptrdiff_t ldw,
                           ptrdiff_t C, real *S,
                           const softline_ahead *ahead=NULL) noexcept nogil:
    if real is float:
        isa.f32.scores(X, idx, n, col, D, packed, strip, W, ldw, C, S, ahead)
    else:
        isa.f64.scores(X, idx, n, col, D, packed, strip, W, ldw, C, S, ahead)


# Scores of the first `count` rows of idx, by blocks of features that lie `part` elements apart in `parts`;
# what is packed is not kept. Meanwhile the `left` rows after them come into the cache.
cdef inline void scores_by_blocks(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t count,
                                  ptrdiff_t left, ptrdiff_t D, real *packed, const real *W, ptrdiff_t ldw,
                                  ptrdiff_t C, real *parts, ptrdiff_t part) noexcept nogil:
    cdef ptrdiff_t lanes = 64 // sizeof(real), block = softline_block(D, lanes), k, col, begin
    cdef ptrdiff_t n_blocks = (D + block - 1) // block
    cdef softline_ahead ahead
    for k in range(n_blocks):
        col = k * block
        begin = left * k // n_blocks
        ahead = softline_ahead(X, idx + count + begin, left * (k + 1) // n_blocks - begin, 0, D)
        scores_of(X, idx, count, col, min(block, D - col), packed, softline_packed(block, lanes), W + col,
                  ldw, C, parts + k * part, &ahead if left > 0 else <const softline_ahead *>NULL)


cdef inline void add_scores_of(const real *S, ptrdiff_t part, ptrdiff_t parts, const real *b, ptrdiff_t C,
                               real *out) noexcept nogil:
    if real is float:
        isa.f32.add_scores(S, part, parts, b, C, out)
    else:
        isa.f64.add_scores(S, part, parts, b, C, out)


cdef inline void load_strip_of(const real *M, ptrdiff_t ldm, const ptrdiff_t *idx, ptrdiff_t n,
                               ptrdiff_t C, real *S) noexcept nogil:
    if real is float:
        isa.f32.load_strip(M, ldm, idx, n, C, S)
    else:
        isa.f64.load_strip(M, ldm, idx, n, C, S)


cdef inline void store_strip_of(const real *S, ptrdiff_t n, ptrdiff_t C, real *M,
                                ptrdiff_t ldm) noexcept nogil:
    if real is float:
        isa.f32.store_strip(S, n, C, M, ldm)
    else:
        isa.f64.store_strip(S, n, C, M, ldm)


cdef inline void softmax_of(real *S, ptrdiff_t C, int log) noexcept nogil:
    if real is float:
        isa.f32.softmax(S, C, log)
    else:
        isa.f64.softmax(S, C, log)


cdef inline void cross_entropy_of(const real *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y,
                                  real *losses) noexcept nogil:
    if real is float:
        isa.f32.cross_entropy(S, n, C, y, losses)
    else:
        isa.f64.cross_entropy(S, n, C, y, losses)


cdef inline void cross_entropy_gradient_of(real *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y,
                                           const real *weight, real *losses) noexcept nogil:
    if real is float:
        isa.f32.cross_entropy_gradient(S, n, C, y, weight, losses)
    else:
        isa.f64.cross_entropy_gradient(S, n, C, y, weight, losses)


cdef inline void hinge_gradient_of(real *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y, const real *weight,
                                   real *losses) noexcept nogil:
    if real is float:
        isa.f32.hinge_gradient(S, n, C, y, weight, losses)
    else:
        isa.f64.hinge_gradient(S, n, C, y, weight, losses)


cdef inline void soft_cross_entropy_of(real *S, ptrdiff_t n, ptrdiff_t C, const real *T, double smoothing,
                                       const real *weight, real *losses) noexcept nogil:
    if real is float:
        isa.f32.soft_cross_entropy(S, n, C, T, <float>smoothing, weight, losses)
    else:
        isa.f64.soft_cross_entropy(S, n, C, T, smoothing, weight, losses)


cdef inline void bias_gradient_of(const real *dS, ptrdiff_t n, ptrdiff_t C, real *sums, real *db,
                                  int add) noexcept nogil:
    if real is float:
        isa.f32.bias_gradient(dS, n, C, sums, db, add)
    else:
        isa.f64.bias_gradient(dS, n, C, sums, db, add)


cdef inline void column_stats_of(const real *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,
                                 const real *weight, double share, real *mean, real *squares, real *low,
                                 real *high) noexcept nogil:
    if real is float:
        isa.f32.column_stats(X, strip, n, D, weight, share, mean, squares, low, high)
    else:
        isa.f64.column_stats(X, strip, n, D, weight, share, mean, squares, low, high)


cdef inline double square_norm_of(const real *dW, ptrdiff_t D, real db, const real *shift,
                                  const real *metric) noexcept nogil:
    if real is float:
        return isa.f32.square_norm(dW, D, db, shift, metric)
    else:
        return isa.f64.square_norm(dW, D, db, shift, metric)


cdef inline void project_of(real *W, ptrdiff_t D, real *b, double most, const real *shift, real *mean,
                            real *mean_b, double share) noexcept nogil:
    if real is float:
        isa.f32.project(W, D, b, <float>most, shift, mean, mean_b, <float>share)
    else:
        isa.f64.project(W, D, b, most, shift, mean, mean_b, share)


cdef inline void update_of(real *W, ptrdiff_t ldw, const real *dW, ptrdiff_t lddw, const real *db,
                           double scale, ptrdiff_t C, ptrdiff_t D, double step, double alpha,
                           const real *shift, const real *metric, real *drift, const softline_rule *rule,
                           ptrdiff_t col) noexcept nogil:
    cdef softline_f32_update f32
    cdef softline_f64_update f64
    if real is float:
        f32 = softline_f32_update(
            W, ldw, db, shift, metric, <float>step, <float>alpha, drift, rule, col)
        isa.f32.update(&f32, dW, lddw, <float>scale, C, D)
    else:
        f64 = softline_f64_update(W, ldw, db, shift, metric, step, alpha, drift, rule, col)
        isa.f64.update(&f64, dW, lddw, scale, C, D)


cdef inline void bias_update_of(const real *db, double step, const real *shift, real *drift, ptrdiff_t slabs,
                                const softline_rule *rule, ptrdiff_t C, real *b) noexcept nogil:
    cdef softline_f32_update f32
    cdef softline_f64_update f64
    if real is float:
        f32 = softline_f32_update(NULL, 0, db, shift, NULL, <float>step, 0, drift, rule, 0)
        isa.f32.bias_update(&f32, slabs, C, b)
    else:
        f64 = softline_f64_update(NULL, 0, db, shift, NULL, step, 0, drift, rule, 0)
        isa.f64.bias_update(&f64, slabs, C, b)


cdef inline void gradient_of(const real *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D, const real *dS,
                             ptrdiff_t C, real *dW, ptrdiff_t lddw, bint add,
                             const softline_ahead *ahead) noexcept nogil:
    if real is float:
        isa.f32.gradient(X, strip, n, D, D, dS, C, dW, lddw, add, NULL, ahead)
    else:
        isa.f64.gradient(X, strip, n, D, D, dS, C, dW, lddw, add, NULL, ahead)


# The gradient and at once the step that it makes.
cdef inline void gradient_step(const real *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D, ptrdiff_t slab,
                               const real *dS, ptrdiff_t C, real *dW, ptrdiff_t lddw, bint add, real *W,
                               ptrdiff_t ldw, const real *db, double step, double alpha, const real *shift,
                               const real *metric, real *drift, const softline_rule *rule, ptrdiff_t col,
                               const softline_ahead *ahead) noexcept nogil:
    cdef softline_f32_update f32
    cdef softline_f64_update f64
    if real is float:
        f32 = softline_f32_update(
            W, ldw, db, shift, metric, <float>step, <float>alpha, drift, rule, col)
        isa.f32.gradient(X, strip, n, D, slab, dS, C, dW, lddw, add, &f32, ahead)
    else:
        f64 = softline_f64_update(W, ldw, db, shift, metric, step, alpha, drift, rule, col)
        isa.f64.gradient(X, strip, n, D, slab, dS, C, dW, lddw, add, &f64, ahead)


cdef inline void affine_of(const real *S, ptrdiff_t n, ptrdiff_t n_in, const real *W, ptrdiff_t by_output,
                           ptrdiff_t by_input, const real *b, ptrdiff_t n_out, real *out) noexcept nogil:
    if real is float:
        isa.network_f32.affine(S, n, n_in, W, by_output, by_input, b, n_out, out)
    else:
        isa.network_f64.affine(S, n, n_in, W, by_output, by_input, b, n_out, out)


cdef inline void activate_of(real *S, ptrdiff_t units, int activation) noexcept nogil:
    if real is float:
        isa.network_f32.activate(S, units, activation)
    else:
        isa.network_f64.activate(S, units, activation)


cdef inline void activation_gradient_of(const real *A, ptrdiff_t units, int activation, double keep,
                                        real *dS) noexcept nogil:
    if real is float:
        isa.network_f32.activation_gradient(A, units, activation, <float>keep, dS)
    else:
        isa.network_f64.activation_gradient(A, units, activation, keep, dS)


cdef inline void dropout_of(real *S, ptrdiff_t units, double rate, uint32_t key,
                            uint32_t row) noexcept nogil:
    if real is float:
        isa.network_f32.dropout(S, units, rate, key, row)
    else:
        isa.network_f64.dropout(S, units, rate, key, row)
