/* The loops of machine.h. Compiled once per ISA and dtype, as products.c is. */
#include "machine.h"
#include "simd.h"

/* As many sums as a register tile of products.c: more than multiply-adds are in flight at once. The
 * baseline, whose multiply-add is two operations in a row, has room for more than its tile. */
#define SUMS (TILE_ROWS * TILE_OUTPUTS > 3 ? TILE_ROWS * TILE_OUTPUTS : 3)
/* Reading at several places at once gets more out of a cache, or memory, than at one. */
#define STREAMS 4
#define STREAM_REGS 2

/* The compiler must take it that *p is used here, and changes. */
#define USE_AND_CHANGE(p) __asm__ volatile("" : : "r"(p) : "memory")

static double multiply_add(ptrdiff_t rounds) {
    real lanes[SUMS * 64 / sizeof(real)] = {0};
    vec sum[SUMS];
    USE_AND_CHANGE(lanes); /* or it would find out that all sums are the same */
    UNROLL(i, SUMS) sum[i] = vload(lanes + i * LANES);
    /* Towards 1/2, and there to stay: never infinite, never subnormal. */
    const vec factor = vset1((real)0.5), term = vset1((real)0.25);
    for (ptrdiff_t k = 0; k < rounds; k++)
        UNROLL(i, SUMS) sum[i] = vfma(sum[i], factor, term);
    UNROLL(i, SUMS) vstore(lanes + i * LANES, sum[i]);
    USE_AND_CHANGE(lanes);
    return 2. * SUMS * LANES * rounds;
}

static void read_all(const void *data, ptrdiff_t bytes, ptrdiff_t rounds) {
    const ptrdiff_t part = bytes / STREAMS / (ptrdiff_t)sizeof(real);
    reg sum[STREAMS * STREAM_REGS], sums[STREAMS * STREAM_REGS];
    UNROLL(i, STREAMS * STREAM_REGS) sum[i] = (reg){0};
    for (ptrdiff_t k = 0; k < rounds; k++) {
        const real *x = data;
        USE_AND_CHANGE(x);
        for (ptrdiff_t d = 0; d < part; d += STREAM_REGS * REG_LANES)
            UNROLL(i, STREAMS * STREAM_REGS)
                sum[i] += *(const loose_reg *)(x + i / STREAM_REGS * part + d +
                                               i % STREAM_REGS * REG_LANES);
    }
    /* A copy: had `sum` itself an address, every round would store and load it. */
    UNROLL(i, STREAMS * STREAM_REGS) sums[i] = sum[i];
    USE_AND_CHANGE(sums);
}

const softline_machine SOFTLINE_MACHINE = {multiply_add, read_all};
