# What _epoch.pyx shares with _kernels.pyx: the C tables, and how work is split.
from libc.stdint cimport int32_t

ctypedef fused real:
    float
    double

# A function pointer in a struct needs its own `noexcept nogil`.
cdef extern from "softline.h" nogil:
    ctypedef struct softline_f32:
        void (*scores)(const float *X, ptrdiff_t ldx, const ptrdiff_t *idx, const ptrdiff_t *next,
                       ptrdiff_t n, ptrdiff_t D, const float *W, ptrdiff_t ldw, const float *b, ptrdiff_t C,
                       float *S, ptrdiff_t lds) noexcept nogil
        void (*softmax)(float *S, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C, int log) noexcept nogil
        void (*cross_entropy)(const float *S, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C,
                              const int32_t *y, float *losses) noexcept nogil
        void (*cross_entropy_gradient)(float *S, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C,
                                       const int32_t *y, const float *weight,
                                       float *losses) noexcept nogil
        void (*gradient)(const float *X, ptrdiff_t ldx, const ptrdiff_t *idx, const ptrdiff_t *next,
                         ptrdiff_t n, ptrdiff_t D,
                         const float *dS, ptrdiff_t lds, ptrdiff_t C,
                         float *dW, ptrdiff_t ldw, int add) noexcept nogil
        void (*bias_gradient)(const float *dS, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C,
                              float *db, int add) noexcept nogil
        void (*sgd_update)(float *W, ptrdiff_t ldw, const float *dW, ptrdiff_t lddw, const float *db,
                           ptrdiff_t C, ptrdiff_t D, float step, float alpha,
                           const float *shift, const float *metric, float *drift) noexcept nogil
        void (*column_stats)(const float *X, ptrdiff_t ldx, const ptrdiff_t *idx, ptrdiff_t n,
                             ptrdiff_t D, const float *weight,
                             float *sum, float *low, float *high) noexcept nogil
    ctypedef struct softline_f64:
        void (*scores)(const double *X, ptrdiff_t ldx, const ptrdiff_t *idx, const ptrdiff_t *next,
                       ptrdiff_t n, ptrdiff_t D, const double *W, ptrdiff_t ldw, const double *b, ptrdiff_t C,
                       double *S, ptrdiff_t lds) noexcept nogil
        void (*softmax)(double *S, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C, int log) noexcept nogil
        void (*cross_entropy)(const double *S, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C,
                              const int32_t *y, double *losses) noexcept nogil
        void (*cross_entropy_gradient)(double *S, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C,
                                       const int32_t *y, const double *weight,
                                       double *losses) noexcept nogil
        void (*gradient)(const double *X, ptrdiff_t ldx, const ptrdiff_t *idx, const ptrdiff_t *next,
                         ptrdiff_t n, ptrdiff_t D,
                         const double *dS, ptrdiff_t lds, ptrdiff_t C,
                         double *dW, ptrdiff_t ldw, int add) noexcept nogil
        void (*bias_gradient)(const double *dS, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C,
                              double *db, int add) noexcept nogil
        void (*sgd_update)(double *W, ptrdiff_t ldw, const double *dW, ptrdiff_t lddw, const double *db,
                           ptrdiff_t C, ptrdiff_t D, double step, double alpha,
                           const double *shift, const double *metric, double *drift) noexcept nogil
        void (*column_stats)(const double *X, ptrdiff_t ldx, const ptrdiff_t *idx, ptrdiff_t n,
                             ptrdiff_t D, const double *weight,
                             double *sum, double *low, double *high) noexcept nogil
    ctypedef struct softline_isa:
        const char *name
        const softline_f32 *f32
        const softline_f64 *f64
    ptrdiff_t softline_block(ptrdiff_t D, ptrdiff_t lanes)

cdef const softline_isa *isa

# Rows of one task when rows are split over threads; fixed, so that sums by task are the same for any
# number of threads.
cdef enum:
    TASK_ROWS = 16

cdef ptrdiff_t row_stride(const real[:, :] A, str name) except? -1
cdef int check_length(str name, ptrdiff_t given, ptrdiff_t wanted, str why) except -1
cdef int check_indices(const ptrdiff_t[::1] idx, ptrdiff_t n_rows) except -1
cdef int check_labels(const int32_t[::1] y, ptrdiff_t n_classes) except -1
cdef int threads_for(n_threads, double operations) except -1
cdef ptrdiff_t slab_of(ptrdiff_t n_features, real unused) noexcept nogil
