/* A barrier for the threads of one region: spins, because the wait between two phases of a step is
 * shorter than a sleep, then yields, because on a busy machine the last thread may need this core.
 */
#ifndef SOFTLINE_BARRIER_H
#define SOFTLINE_BARRIER_H

#include <stdatomic.h>
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

typedef struct softline_barrier {
    atomic_int arrived, generation; /* both start at 0 */
} softline_barrier;

/* Returns once all `threads` threads are here; what they wrote before is then visible to each. */
static inline void softline_wait(softline_barrier *barrier, int threads) {
    if (threads == 1) return;
    const int generation = atomic_load_explicit(&barrier->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == threads - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->generation, generation + 1, memory_order_release);
        return;
    }
    for (int spins = 0;
         atomic_load_explicit(&barrier->generation, memory_order_acquire) == generation; spins++) {
        if (spins < 2000)
            PAUSE();
        else
            YIELD();
    }
}

#endif
