# Threads that share out the tasks of phases: see team.h.
from libc.stdint cimport uint8_t, uint32_t, uintptr_t

import numpy as np

cdef extern from "team.h" nogil:
    ctypedef struct softline_share:
        pass
    ctypedef struct softline_team:
        int threads
        softline_share *shares
    ptrdiff_t softline_take(softline_team *team, int thread, uint32_t phase, ptrdiff_t total)
    bint softline_done(softline_team *team, ptrdiff_t mine, ptrdiff_t total)
    void softline_next(softline_team *team, uint32_t phase)
    void softline_wait(softline_team *team, uint32_t phase)


# Room for a team, all zero; and the team in it.
cdef inline uint8_t[::1] team_room(int threads):
    return np.zeros(sizeof(softline_team) + (threads + 1) * sizeof(softline_share), np.uint8)


cdef inline softline_team *team_in(uint8_t[::1] room, int threads) noexcept:
    cdef softline_team *team = <softline_team *>&room[0]
    team.threads = threads
    team.shares = <softline_share *>(
        (<uintptr_t>(team + 1) + sizeof(softline_share) - 1) & ~<uintptr_t>(sizeof(softline_share) - 1))
    return team
