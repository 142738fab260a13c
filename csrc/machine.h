/* What a processor can do at most, for `softline bench`: loops that do nothing but multiply and
 * add, and loops that do nothing but read. One thread each, one table per ISA and dtype. */
#ifndef SOFTLINE_MACHINE_H
#define SOFTLINE_MACHINE_H

#include <stddef.h>
#include <string.h>

/* Data to read are aligned to 64 bytes, and a multiple of this long. */
#define SOFTLINE_READ_BYTES 4096

typedef struct softline_machine {
    /* Multiply-adds in registers, `rounds` times; returns the floating-point operations, two each.
     */
    double (*multiply_add)(ptrdiff_t rounds);
    /* Reads all of `data`, `rounds` times. */
    void (*read)(const void *data, ptrdiff_t bytes, ptrdiff_t rounds);
} softline_machine;

#define SOFTLINE_DECLARE_MACHINE(isa)                                                              \
    extern const softline_machine softline_machine_##isa##_f32, softline_machine_##isa##_f64;
#ifdef SOFTLINE_X86
SOFTLINE_DECLARE_MACHINE(avx512)
SOFTLINE_DECLARE_MACHINE(avx2)
#endif
#ifdef SOFTLINE_ARM64
SOFTLINE_DECLARE_MACHINE(neon)
#endif
SOFTLINE_DECLARE_MACHINE(baseline)

/* The table of an ISA that softline_dispatch chose. */
static inline const softline_machine *softline_machine_of(const char *isa, int is_double) {
#define SOFTLINE_MACHINE_IF(name)                                                                  \
    if (!strcmp(isa, #name))                                                                       \
        return is_double ? &softline_machine_##name##_f64 : &softline_machine_##name##_f32;
#ifdef SOFTLINE_X86
    SOFTLINE_MACHINE_IF(avx512)
    SOFTLINE_MACHINE_IF(avx2)
#endif
#ifdef SOFTLINE_ARM64
    SOFTLINE_MACHINE_IF(neon)
#endif
    SOFTLINE_MACHINE_IF(baseline)
    return NULL;
}

#endif
