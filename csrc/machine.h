/* What a processor can do at most, for `softline bench`: loops that do nothing but multiply and
 * add, and loops that do nothing but read. One thread each, one table per ISA and dtype, which
 * softline_isa has. */
#ifndef SOFTLINE_MACHINE_H
#define SOFTLINE_MACHINE_H

#include <stddef.h>

/* Data to read are aligned to 64 bytes, and a multiple of this long. */
#define SOFTLINE_READ_BYTES 4096

typedef struct softline_machine {
    /* Multiply-adds in registers, `rounds` times; returns the floating-point operations, two each.
     */
    double (*multiply_add)(ptrdiff_t rounds);
    /* Reads all of `data`, `rounds` times. */
    void (*read)(const void *data, ptrdiff_t bytes, ptrdiff_t rounds);
} softline_machine;

#endif
