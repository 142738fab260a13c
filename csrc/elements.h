/* Elements of X as they came, read as `real`. */
#ifndef SOFTLINE_ELEMENTS_H
#define SOFTLINE_ELEMENTS_H

#include <string.h>

#include "simd.h"
#include "softline.h"

#define TILE (LANES * (LANES + 1)) /* see softline_packed */
#define REAL_DTYPE (sizeof(real) == 4 ? SOFTLINE_F32 : SOFTLINE_F64)
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define STEPS(n, size) (((n) + (size) - 1) / (size))

/* For the vectors of a row of n elements: `i` is the first element, `count` how many there are. */
#define FOR_VECS(n, i, count)                                                                      \
    for (ptrdiff_t i = 0, count = MIN(LANES, n); i < (n); i += LANES, count = MIN(LANES, (n) - i))

INLINE real element(const int dtype, const char *p) {
    union {
        float f32;
        double f64;
        uint16_t u16;
        uint8_t u8;
        int8_t i8;
    } x;
    switch (dtype) {
    case SOFTLINE_F32: memcpy(&x, p, 4); return (real)x.f32;
    case SOFTLINE_F64: memcpy(&x, p, 8); return (real)x.f64;
    case SOFTLINE_F16: memcpy(&x, p, 2); return (real)half_to_float(x.u16);
    case SOFTLINE_BF16: memcpy(&x, p, 2); return (real)bfloat_to_float(x.u16);
    case SOFTLINE_U8: memcpy(&x, p, 1); return x.u8;
    default: memcpy(&x, p, 1); return x.i8;
    }
}

/* LANES adjacent elements from p. */
INLINE vec vload_as(const int dtype, const char *p) {
#ifdef SOFTLINE_DOUBLE
    if (dtype == SOFTLINE_F64) return vload((const real *)p);
#else
    switch (dtype) {
    case SOFTLINE_F32: return vload((const real *)p);
    case SOFTLINE_F16: return vload_f16(p);
    case SOFTLINE_BF16: return vload_bf16(p);
    case SOFTLINE_U8: return vload_u8(p);
    case SOFTLINE_I8: return vload_i8(p);
    default: break;
    }
#endif
    static const int bytes[] = SOFTLINE_DTYPE_BYTES;
    real lanes[64 / sizeof(real)];
    for (ptrdiff_t i = 0; i < LANES; i++) lanes[i] = element(dtype, p + i * bytes[dtype]);
    return vload(lanes);
}

/* `width` <= LANES elements `column_bytes` apart, from p; the other lanes are 0. */
INLINE vec vload_elements(const int dtype, const char *p, ptrdiff_t column_bytes, ptrdiff_t width) {
    static const int bytes[] = SOFTLINE_DTYPE_BYTES;
    if (width == LANES && column_bytes == bytes[dtype]) return vload_as(dtype, p);
    if (dtype == REAL_DTYPE && column_bytes == sizeof(real))
        return vload_n((const real *)p, width, 0);
    real lanes[64 / sizeof(real)] = {0};
    for (ptrdiff_t i = 0; i < width; i++) lanes[i] = element(dtype, p + i * column_bytes);
    return vload(lanes);
}

#endif
