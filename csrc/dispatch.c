/* Which ISA runs: asked once, at import. */
#include <string.h>

#include "machine.h"
#include "neighbors.h"
#include "softline.h"

#define DECLARE(isa)                                                                               \
    extern const softline_kernels softline_##isa##_f32, softline_##isa##_f64;                      \
    extern const softline_filter softline_neighbors_##isa##_f32;                                   \
    extern const softline_exact softline_neighbors_##isa##_f64;                                    \
    extern const softline_machine softline_machine_##isa##_f32, softline_machine_##isa##_f64;
#define TABLES(isa)                                                                                \
    {#isa,                                                                                         \
     &softline_##isa##_f32,                                                                        \
     &softline_##isa##_f64,                                                                        \
     &softline_neighbors_##isa##_f32,                                                              \
     &softline_neighbors_##isa##_f64,                                                              \
     &softline_machine_##isa##_f32,                                                                \
     &softline_machine_##isa##_f64}

#ifdef SOFTLINE_BUILT_AVX512
DECLARE(avx512)
#endif
#ifdef SOFTLINE_BUILT_AVX2
DECLARE(avx2)
#endif
#ifdef SOFTLINE_BUILT_NEON
DECLARE(neon)
#endif
DECLARE(baseline)

static const softline_isa built[] = {
#ifdef SOFTLINE_BUILT_AVX512
    TABLES(avx512),
#endif
#ifdef SOFTLINE_BUILT_AVX2
    TABLES(avx2),
#endif
#ifdef SOFTLINE_BUILT_NEON
    TABLES(neon),
#endif
    TABLES(baseline),
};

/* The compilers' cpuid also asks whether the operating system saves the registers. */
static int can_run(const char *isa) {
#ifdef SOFTLINE_BUILT_AVX2
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!strcmp(isa, "avx2")) return avx2;
    if (!strcmp(isa, "avx512"))
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
#else
    (void)isa;
#endif
    return 1;
}

const softline_isa *softline_built(int i, int *runs) {
    if (i < 0 || i >= (int)(sizeof built / sizeof *built)) return NULL;
    *runs = can_run(built[i].name);
    return &built[i];
}

const softline_isa *softline_dispatch(const char *name) {
    const softline_isa *isa;
    int runs = 0;
    for (int i = 0; (isa = softline_built(i, &runs)); i++)
        if (runs && (!name || !strcmp(isa->name, name))) return isa;
    return NULL;
}
