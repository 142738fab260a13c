# What the epoch shares with the kernels one by one.
from libc.stdint cimport uint32_t
from softline._kernels.core cimport softline_layer, softline_rule

cdef ptrdiff_t real_of(A, str name) except -1
cdef ptrdiff_t line(ptrdiff_t n, ptrdiff_t real) noexcept
cdef int activation_code(activation) except -1
cdef int check_smoothing(double label_smoothing) except -1
cdef int check_dropout(double rate) except -1
cdef int rule_of(softline_rule *rule, optimizer, state, ptrdiff_t real, ptrdiff_t C,
                 ptrdiff_t D) except -1
cdef int layers_of(softline_layer *layers, list weights, ptrdiff_t n_features, ptrdiff_t real,
                   bint written) except -1
cdef list checked(weights)
cdef uint32_t seed_of(seed, str name) except? 0
