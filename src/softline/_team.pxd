# Threads that share out the tasks of phases: see team.h.
from libc.stdint cimport uint8_t, uint32_t, uintptr_t

import numpy as np

cdef extern from "<omp.h>" nogil:
    double omp_get_wtime()

cdef extern from "team.h" nogil:
    ctypedef struct softline_share:
        double slept
    ctypedef struct softline_team:
        int threads, may_leave, members
        double begun, ended, computed
        softline_share *shares
    bint softline_is_late(double lost, double seconds, int members)
    double softline_processor_time()
    void softline_come(softline_team *team, int thread)
    void softline_go(softline_team *team, int thread)
    ptrdiff_t softline_take(softline_team *team, int thread, uint32_t phase, ptrdiff_t total)
    bint softline_done(softline_team *team, ptrdiff_t mine, ptrdiff_t total)
    void softline_next(softline_team *team, int thread, uint32_t phase)
    void softline_wait(softline_team *team, int thread, uint32_t phase)


# Room for a team, all zero; and the team in it.
cdef inline uint8_t[::1] team_room(int threads):
    return np.zeros(sizeof(softline_team) + (threads + 1) * sizeof(softline_share), np.uint8)


# A region begins; threads that were not asked for by number may leave it. Without shares it is only timed.
cdef inline softline_team *region_begins(softline_team *team, int threads, n_threads) noexcept:
    team.threads = team.members = threads
    team.may_leave = n_threads is None and threads > 1
    team.shares = NULL
    if team.may_leave:
        team.begun = team.ended = omp_get_wtime()
        team.computed = softline_processor_time()
    return team


cdef inline softline_team *team_in(uint8_t[::1] room, int threads, n_threads) noexcept:
    cdef softline_team *team = region_begins(<softline_team *>&room[0], threads, n_threads)
    team.shares = <softline_share *>(
        (<uintptr_t>(team + 1) + sizeof(softline_share) - 1) & ~<uintptr_t>(sizeof(softline_share) - 1))
    return team
