# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""What the processor can do at most, on any number of threads: the loops of csrc/machine.c.

The loops are those of the ISA in use. The caller times them: see :mod:`softline._kernels.machine_limits`.
"""

from cython.parallel cimport prange
from libc.stdint cimport uint8_t
from softline._kernels.core cimport SOFTLINE_READ_BYTES, isa, softline_machine, threads_for


def multiply_add(bint double_precision, ptrdiff_t rounds, n_threads):
    """Multiply and add, `rounds` times on each thread; return the floating-point operations of all."""
    cdef const softline_machine *machine = isa.machine_f64 if double_precision else isa.machine_f32
    cdef int threads = threads_for(n_threads, 0), _thread
    cdef double operations = 0
    with nogil:
        for _thread in prange(threads, num_threads=threads, use_threads_if=threads > 1, schedule="static"):
            operations += machine.multiply_add(rounds)
    return operations


def read(const uint8_t[::1] data not None, ptrdiff_t rounds, n_threads):
    """Read `data`, each thread an equal part, `rounds` times; return the bytes read.

    `data` start on 64 bytes. A remainder of less than 4 KiB a thread is left out.
    """
    cdef const softline_machine *machine = isa.machine_f32
    cdef int threads = threads_for(n_threads, 0), thread
    cdef ptrdiff_t part = data.shape[0] // threads // SOFTLINE_READ_BYTES * SOFTLINE_READ_BYTES
    if part == 0:
        return 0
    with nogil:
        for thread in prange(threads, num_threads=threads, use_threads_if=threads > 1, schedule="static"):
            machine.read(&data[thread * part], part, rounds)
    return threads * part * rounds
