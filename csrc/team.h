/* The threads of one region, and how they share out the tasks of a phase.
 *
 * Each thread takes the tasks of its own range, so that its data stay in its cache, then what
 * others have not begun. A phase is over when its tasks are done, whoever did them: on a busy
 * machine a thread that has lost its core holds up the others by the task it was at, and no more.
 */
#ifndef SOFTLINE_TEAM_H
#define SOFTLINE_TEAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#ifdef _WIN32
#include <windows.h>
#define YIELD() SwitchToThread()
#else
#include <sched.h>
#define YIELD() sched_yield()
#endif
#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("isb")
#else
#define PAUSE() (void)0
#endif

/* Of one thread's range: the phase in the upper half, the tasks taken in the lower. */
typedef struct softline_share {
    _Alignas(64) _Atomic uint64_t taken;
} softline_share;

/* All zero at first. */
typedef struct softline_team {
    _Atomic uint32_t phase;
    _Atomic ptrdiff_t done;
    int threads;
    softline_share *shares; /* (threads) */
} softline_team;

/* The next of the `total` tasks of a phase, or -1 if none is left. */
static inline ptrdiff_t softline_take(softline_team *team, int thread, uint32_t phase,
                                      ptrdiff_t total) {
    const int threads = team->threads;
    for (int i = 0; i < threads; i++) {
        const int owner = thread + i < threads ? thread + i : thread + i - threads;
        _Atomic uint64_t *taken = &team->shares[owner].taken;
        const ptrdiff_t first = total * owner / threads;
        const ptrdiff_t count = total * (owner + 1) / threads - first;
        uint64_t seen = atomic_load_explicit(taken, memory_order_relaxed);
        while (seen >> 32 == phase && (ptrdiff_t)(uint32_t)seen < count) {
            if (threads == 1)
                atomic_store_explicit(taken, seen + 1, memory_order_relaxed);
            else if (!atomic_compare_exchange_weak_explicit(
                         taken, &seen, seen + 1, memory_order_relaxed, memory_order_relaxed))
                continue;
            return first + (uint32_t)seen;
        }
    }
    return -1;
}

/* Reports `mine` tasks as done; true for the thread that reports the last of `total`: it alone
 * calls softline_next. */
static inline int softline_done(softline_team *team, ptrdiff_t mine, ptrdiff_t total) {
    if (mine == 0 || mine == total) return mine == total;
    return atomic_fetch_add_explicit(&team->done, mine, memory_order_acq_rel) + mine == total;
}

/* Opens the phase after `phase`. */
static inline void softline_next(softline_team *team, uint32_t phase) {
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    for (int i = 0; i < team->threads; i++)
        atomic_store_explicit(&team->shares[i].taken, (uint64_t)(phase + 1) << 32,
                              memory_order_relaxed);
    atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
}

/* Returns once `phase` is over; what was written in it is then visible. Spins, because a phase is
 * shorter than a sleep, then yields: the thread that is waited for may need this core. */
static inline void softline_wait(softline_team *team, uint32_t phase) {
    for (int spins = 0;
         (int32_t)(atomic_load_explicit(&team->phase, memory_order_acquire) - phase) <= 0;
         spins++) {
        if (spins < 2000)
            PAUSE();
        else
            YIELD();
    }
}

#endif
