/* The threads of one region, and how they share out the tasks of a phase.
 *
 * Each thread takes the tasks of its own range, so that its data stay in its cache, then what
 * others have not begun. A phase is over when its tasks are done, whoever did them: on a busy
 * machine a thread that has lost its core holds up the others by the task it was at, and no more.
 * Those sleep meanwhile. A thread that has held them up by more than it has done leaves the team.
 */
#ifndef SOFTLINE_TEAM_H
#define SOFTLINE_TEAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#ifdef _WIN32
#include <windows.h>
#define YIELD() SwitchToThread()
#else
#include <sched.h>
#define YIELD() sched_yield()
#endif
/* SLEEP: until `word` is no longer `value`, or for a while. WAKE: all that sleep so. */
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#define SLEEP(word, value) syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0)
#define WAKE(word) syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0)
#else
#define SLEEP(word, value) YIELD()
#define WAKE(word) (void)0
#endif
#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("isb")
#else
#define PAUSE() (void)0
#endif

/* A thread that waits spins for some microseconds, the time of a meeting; offers its core to others
 * for a tenth of a millisecond or so, if nobody wants it; and sleeps. */
enum { SPINS = 200, YIELDS = 200 };

/* Of one thread. */
typedef struct softline_share {
    _Alignas(64) _Atomic uint64_t taken; /* phase; in the lower half tasks taken of its range */
    _Atomic int left;
    double begun, computed, slept; /* when it came; its processor time then; its sleep since, s */
} softline_share;

/* All zero at first, but for what is set when a region begins. */
typedef struct softline_team {
    _Atomic uint32_t phase;
    _Atomic ptrdiff_t done;
    _Atomic int sleepers; /* threads that wait for the end of a phase, asleep */
    _Atomic int members;  /* threads, less those that have left */
    int threads, may_leave;
    double begun, ended;    /* when the region began, and when its first thread was done, s */
    double computed;        /* processor time of the first thread when it began, s */
    softline_share *shares; /* (threads) */
} softline_team;

/* A team of one, which needs no room for others. */
typedef struct softline_solo {
    softline_team team;
    softline_share share;
} softline_solo;

/* Seconds since some moment. */
static inline double softline_time(void) {
    struct timespec t;
#ifdef CLOCK_MONOTONIC
    clock_gettime(CLOCK_MONOTONIC, &t);
#else
    timespec_get(&t, TIME_UTC);
#endif
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds that this thread has had a processor; where nobody counts them, seconds. */
static inline double softline_processor_time(void) {
#ifdef CLOCK_THREAD_CPUTIME_ID
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
#else
    return softline_time();
#endif
}

/* The next of the `total` tasks of a phase, or -1 if none is left. */
static inline ptrdiff_t softline_take(softline_team *team, int thread, uint32_t phase,
                                      ptrdiff_t total) {
    const int threads = team->threads;
    if (team->shares[thread].left) return -1;
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

/* Whether a team of so many had better have one thread less, where one was without a processor for
 * `lost` of `seconds`: all wait for it, and what it brings is one share of the work. At half of
 * that, because others must be woken, too. */
static inline int softline_is_late(double lost, double seconds, int members) {
    return 2 * members * lost > seconds;
}

/* Wakes those who had to sleep until this thread was done. If it is too late too often, a thread
 * leaves: this one, or in place of the first, whose region it is, the last. */
static inline void softline_wake(softline_team *team, int thread) {
    WAKE(&team->phase);
    if (!team->may_leave) return;
    const softline_share *mine = &team->shares[thread];
    const double seconds = softline_time() - mine->begun;
    const double lost = seconds - mine->slept - (softline_processor_time() - mine->computed);
    if (!softline_is_late(lost, seconds, atomic_load(&team->members))) return;
    int leaves = thread;
    if (thread == 0)
        for (leaves = team->threads - 1; leaves > 0 && team->shares[leaves].left;) leaves--;
    if (leaves > 0 && !atomic_exchange(&team->shares[leaves].left, 1))
        atomic_fetch_sub(&team->members, 1);
}

/* Opens the phase after `phase`. */
static inline void softline_next(softline_team *team, int thread, uint32_t phase) {
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    for (int i = 0; i < team->threads; i++)
        atomic_store_explicit(&team->shares[i].taken, (uint64_t)(phase + 1) << 32,
                              memory_order_relaxed);
    if (team->threads == 1) {
        atomic_store_explicit(&team->phase, phase + 1, memory_order_relaxed);
        return;
    }
    atomic_store(&team->phase, phase + 1);
    if (atomic_load(&team->sleepers) > 0) softline_wake(team, thread);
}

/* Returns once `phase` is over; what was written in it is then visible. A thread that has left
 * waits for nobody. */
static inline void softline_wait(softline_team *team, int thread, uint32_t phase) {
    if (team->shares[thread].left) return;
    for (int waits = 0; waits < SPINS + YIELDS; waits++) {
        if (atomic_load_explicit(&team->phase, memory_order_acquire) != phase) return;
        if (waits < SPINS)
            PAUSE();
        else
            YIELD();
    }
    const double start = softline_time();
    atomic_fetch_add(&team->sleepers, 1);
    while (atomic_load(&team->phase) == phase) SLEEP(&team->phase, phase);
    atomic_fetch_sub(&team->sleepers, 1);
    team->shares[thread].slept += softline_time() - start;
}

/* ---- what a thread of a team is at ------------------------------------------------------------
 */

/* A phase reads
 *     for (ptrdiff_t k; softline_next_task(&w, tasks, &k);) ...;
 *     if (softline_finish(&w, tasks)) ...;   what one thread does when all tasks are done
 *     softline_go_on(&w);
 * in every thread alike, with at least one task. */
typedef struct softline_worker {
    softline_team *team;
    int thread, last;
    uint32_t phase;
    ptrdiff_t mine; /* tasks of this phase that it has done */
} softline_worker;

static inline softline_worker softline_join(softline_team *team, int thread) {
    if (team->threads > 1) {
        team->shares[thread].begun = softline_time();
        team->shares[thread].computed = softline_processor_time();
    }
    return (softline_worker){.team = team, .thread = thread};
}

static inline int softline_next_task(softline_worker *w, ptrdiff_t total, ptrdiff_t *task) {
    *task = softline_take(w->team, w->thread, w->phase, total);
    w->mine += *task >= 0;
    return *task >= 0;
}

/* Whether this thread was the last of those that had tasks. */
static inline int softline_finish(softline_worker *w, ptrdiff_t total) {
    return w->last = softline_done(w->team, w->mine, total);
}

static inline void softline_go_on(softline_worker *w) {
    if (w->last) softline_next(w->team, w->thread, w->phase);
    softline_wait(w->team, w->thread, w->phase);
    w->phase++;
    w->mine = 0;
}

/* The end of a region that has no phase to come. */
static inline void softline_leave(softline_worker *w) {
    if (w->thread == 0 && w->team->may_leave) w->team->ended = softline_time();
}

/* The end of a last phase. */
static inline void softline_end(softline_worker *w, ptrdiff_t total) {
    softline_finish(w, total);
    softline_go_on(w);
    softline_leave(w);
}

#endif
