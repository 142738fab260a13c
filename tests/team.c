/* Threads of one team, over and over: every task is done once, and what a phase wrote is seen in
 * the next. Compiled with a thread sanitizer by test_team.py, because OpenMP's runtime is not
 * instrumented. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "team.h"

enum { THREADS = 5, PHASES = 300, MOST_TASKS = 23, TEAMS = 20 };

static softline_team team;
static softline_share shares[THREADS];
static long done[MOST_TASKS], sums[PHASES]; /* plain: only a phase's end makes them visible */

static void *work(void *number) {
    softline_worker w = softline_join(&team, (int)(size_t)number);
    for (int phase = 0; phase < PHASES; phase++) {
        const ptrdiff_t tasks = 1 + phase % MOST_TASKS;
        for (ptrdiff_t k; softline_next_task(&w, tasks, &k);) done[k] += k + phase;
        if (softline_finish(&w, tasks))
            for (ptrdiff_t k = 0; k < tasks; k++) {
                sums[phase] += done[k];
                done[k] = 0;
            }
        softline_go_on(&w);
    }
    softline_leave(&w);
    return NULL;
}

int main(void) {
    for (int round = 0; round < TEAMS; round++) {
        pthread_t threads[THREADS];
        team = (softline_team){
            .threads = THREADS, .members = THREADS, .may_leave = round % 2, .shares = shares};
        for (int i = 0; i < THREADS; i++) shares[i] = (softline_share){0};
        for (int i = 0; i < PHASES; i++) sums[i] = 0;
        team.begun = team.ended = softline_time();
        for (size_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)i);
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
        for (int phase = 0; phase < PHASES; phase++) {
            const long tasks = 1 + phase % MOST_TASKS,
                       right = tasks * phase + tasks * (tasks - 1) / 2;
            if (sums[phase] != right) {
                printf("phase %d: %ld instead of %ld\n", phase, sums[phase], right);
                return 1;
            }
        }
    }
    return 0;
}
