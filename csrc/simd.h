/* The vector type and its few operations; the only file with intrinsics or #ifs on the ISA.
 *
 * A `vec` is 64 bytes on every ISA, in as many registers as that takes: the lanes, and so the order
 * of every sum, do not depend on the ISA. The kernels are compiled once per ISA and dtype; the
 * build defines SOFTLINE_ISA_* and, for float64, SOFTLINE_DOUBLE. Arithmetic is the compilers'
 * vector extension (GCC, Clang): + - * / and comparisons work on a `reg`, lane by lane. */
#ifndef SOFTLINE_SIMD_H
#define SOFTLINE_SIMD_H

#include <math.h> /* INFINITY, sqrt */
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
/* A loop of constant length, written out: its arrays become registers. */
#ifdef __clang__
#define UNROLL(i, n) _Pragma("clang loop unroll(full)") for (int i = 0; i < (n); i++)
#else
#define UNROLL(i, n) _Pragma("GCC unroll 32") for (int i = 0; i < (n); i++)
#endif

#ifdef SOFTLINE_DOUBLE
typedef double real;
typedef int64_t bits;
typedef uint64_t whole_bits;
#define MANTISSA_BITS 52
#define EXP_LOWEST -708.396 /* exp of less is below the smallest normal number */
#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW 0x1.a39ef35793c76p-33
#define LOG_TERMS 12
#define EXP_TERMS 13 /* of Taylor's series; the next is under 2^-54 for |r| <= ln(2)/2 */
#define PS_OR_PD(op) op##_pd
#else
typedef float real;
typedef int32_t bits;
typedef uint32_t whole_bits;
#define MANTISSA_BITS 23
#define EXP_LOWEST -87.336f
#define LN2_HIGH 0x1.62e4p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#define LOG_TERMS 6
#define EXP_TERMS 7
#define PS_OR_PD(op) op##_ps
#endif

/* Per ISA: bytes of a register, fused multiply-add, and the register tiles of products.c: as many
 * accumulators as fit beside what they are made from. */
#if defined(SOFTLINE_ISA_AVX512)
#include <immintrin.h>
#define REG_BYTES 64
#define r_fma PS_OR_PD(_mm512_fmadd)
#define r_max PS_OR_PD(_mm512_max)
#define r_sqrt PS_OR_PD(_mm512_sqrt)
#define TILE_ROWS 4
#define TILE_OUTPUTS 5
#define FOR_TILE_ROWS(F) F(1) F(2) F(3) F(4)
#define FOR_TILE_OUTPUTS(F) F(1) F(2) F(3) F(4) F(5)
#define GRADIENT_OUTPUTS 10
#define GRADIENT_VECS 2
#define FOR_GRADIENT_TILES(F) F(10, 2) F(5, 2) F(3, 2) F(2, 2) F(1, 2)
#define FOR_EDGE_TILES(F) F(10, 1) F(5, 1) F(3, 1) F(2, 1) F(1, 1)
#elif defined(SOFTLINE_ISA_AVX2)
#include <immintrin.h>
#define REG_BYTES 32
#define r_fma PS_OR_PD(_mm256_fmadd)
#define r_max PS_OR_PD(_mm256_max)
#define r_sqrt PS_OR_PD(_mm256_sqrt)
#define TILE_ROWS 3
#define TILE_OUTPUTS 2
#define FOR_TILE_ROWS(F) F(1) F(2) F(3)
#define FOR_TILE_OUTPUTS(F) F(1) F(2)
#define GRADIENT_OUTPUTS 5
#define GRADIENT_VECS 1
#define FOR_GRADIENT_TILES(F) F(5, 1) F(3, 1) F(2, 1) F(1, 1)
#elif defined(SOFTLINE_ISA_NEON)
#include <arm_neon.h>
#define REG_BYTES 16
#ifdef SOFTLINE_DOUBLE
#define r_fma(a, b, c) vfmaq_f64(c, a, b)
#define r_max vmaxq_f64
#define r_sqrt vsqrtq_f64
#else
#define r_fma(a, b, c) vfmaq_f32(c, a, b)
#define r_max vmaxq_f32
#define r_sqrt vsqrtq_f32
#endif
#define TILE_ROWS 2
#define TILE_OUTPUTS 3
#define FOR_TILE_ROWS(F) F(1) F(2)
#define FOR_TILE_OUTPUTS(F) F(1) F(2) F(3)
#define GRADIENT_OUTPUTS 5
#define GRADIENT_VECS 1
#define FOR_GRADIENT_TILES(F) F(5, 1) F(3, 1) F(2, 1) F(1, 1)
#else /* baseline: what every processor of the architecture has (SSE2 on x86-64) */
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#define REG_BYTES 16
#define r_fma(a, b, c) ((a) * (b) + (c))
#define r_max(a, b) r_select((a) > (b), a, b)
#define TILE_ROWS 1
#define TILE_OUTPUTS 2
#define FOR_TILE_ROWS(F) F(1)
#define FOR_TILE_OUTPUTS(F) F(1) F(2)
#define GRADIENT_OUTPUTS 2
#define GRADIENT_VECS 1
#define FOR_GRADIENT_TILES(F) F(2, 1) F(1, 1)
#endif
#if GRADIENT_VECS == 1
#define FOR_EDGE_TILES FOR_GRADIENT_TILES
#endif

typedef real reg __attribute__((vector_size(REG_BYTES)));
typedef bits mask __attribute__((vector_size(REG_BYTES)));
typedef whole_bits umask __attribute__((vector_size(REG_BYTES))); /* whose sums wrap around */
typedef real loose_reg __attribute__((vector_size(REG_BYTES), aligned(sizeof(real)), may_alias));

#define LANES ((ptrdiff_t)(64 / sizeof(real)))
#define REG_LANES ((ptrdiff_t)(REG_BYTES / sizeof(real)))
#define REGS (64 / REG_BYTES)

typedef struct vec {
    reg r[REGS];
} vec;

/* Lanes picked by constant indices from the concatenation of a and b. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define r_shuffle(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef r_shuffle
#define r_shuffle(a, b, ...) __builtin_shuffle(a, b, (mask){__VA_ARGS__})
#endif

INLINE reg r_load(const real *p) { return *(const loose_reg *)p; }
INLINE void r_store(real *p, reg a) { *(loose_reg *)p = a; }
/* A value that stays in its register: GCC would rather load it anew for each use. */
INLINE reg r_keep(reg a) {
#ifdef SOFTLINE_ISA_NEON
    __asm__("" : "+w"(a));
#else
    __asm__("" : "+x"(a));
#endif
    return a;
}
INLINE reg r_set1(real a) { return a - (reg){0}; }

#ifndef r_sqrt
INLINE reg r_sqrt(reg a) {
    UNROLL(i, REG_LANES) a[i] = (real)sqrt(a[i]); /* rounded once: right for float, too */
    return a;
}
#endif

INLINE reg r_abs(reg a) {
    const bits all = sizeof(real) == 4 ? (bits)INT32_MAX : (bits)INT64_MAX;
    return (reg)((mask)a & ((mask){0} + all));
}

INLINE reg r_select(mask m, reg yes, reg no) { return (reg)((m & (mask)yes) | (~m & (mask)no)); }

/* Lanes below n. */
INLINE mask r_first(ptrdiff_t n) {
    mask lane;
    UNROLL(i, REG_LANES) lane[i] = i;
    return lane < (mask){0} + (bits)n;
}

INLINE reg r_load_n(const real *p, ptrdiff_t n) {
    if (n >= REG_LANES) return r_load(p);
    if (n <= 0) return (reg){0};
#if defined(SOFTLINE_ISA_AVX512) && defined(SOFTLINE_DOUBLE)
    return _mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#elif defined(SOFTLINE_ISA_AVX512)
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(SOFTLINE_ISA_AVX2)
    return PS_OR_PD(_mm256_maskload)(p, (__m256i)r_first(n));
#else
    reg a = {0};
    UNROLL(i, REG_LANES)
        if (i < n) a[i] = p[i];
    return a;
#endif
}

INLINE void r_store_n(real *p, reg a, ptrdiff_t n) {
    if (n >= REG_LANES) {
        r_store(p, a);
        return;
    }
    if (n <= 0) return;
#if defined(SOFTLINE_ISA_AVX512) && defined(SOFTLINE_DOUBLE)
    _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), a);
#elif defined(SOFTLINE_ISA_AVX512)
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
#elif defined(SOFTLINE_ISA_AVX2)
    PS_OR_PD(_mm256_maskstore)(p, (__m256i)r_first(n), a);
#else
    UNROLL(i, REG_LANES)
        if (i < n) p[i] = a[i];
#endif
}

/* A function of vec from an expression of reg, register by register. */
#define LANEWISE(expression)                                                                       \
    vec out;                                                                                       \
    UNROLL(i, REGS) out.r[i] = (expression);                                                       \
    return out

INLINE vec vset1(real a) { LANEWISE(r_set1(a)); }
INLINE vec vload(const real *p) { LANEWISE(r_load(p + i * REG_LANES)); }
INLINE vec vadd(vec a, vec b) { LANEWISE(a.r[i] + b.r[i]); }
INLINE vec vsub(vec a, vec b) { LANEWISE(a.r[i] - b.r[i]); }
INLINE vec vmul(vec a, vec b) { LANEWISE(a.r[i] * b.r[i]); }
INLINE vec vdiv(vec a, vec b) { LANEWISE(a.r[i] / b.r[i]); }
INLINE vec vfma(vec a, vec b, vec c) { LANEWISE(r_fma(a.r[i], b.r[i], c.r[i])); }
INLINE vec vsqrt(vec a) { LANEWISE(r_sqrt(a.r[i])); }
INLINE vec vabs(vec a) { LANEWISE(r_abs(a.r[i])); }
/* a b, and 0 where a is 0, whatever b. */
INLINE vec vmul_or_0(vec a, vec b) {
    LANEWISE(r_select(a.r[i] == r_set1(0), a.r[i], a.r[i] * b.r[i]));
}
/* Maximum and minimum; either operand where one is NaN. */
INLINE vec vmax(vec a, vec b) { LANEWISE(r_max(a.r[i], b.r[i])); }
INLINE vec vmin(vec a, vec b) { LANEWISE(r_select(a.r[i] < b.r[i], a.r[i], b.r[i])); }

/* yes where a is negative (or positive), else no; NaN is neither. */
INLINE vec vselect_negative(vec a, vec yes, vec no) {
    LANEWISE(r_select(a.r[i] < r_set1(0), yes.r[i], no.r[i]));
}
INLINE vec vselect_positive(vec a, vec yes, vec no) {
    LANEWISE(r_select(a.r[i] > r_set1(0), yes.r[i], no.r[i]));
}
INLINE vec vminus_abs(vec a) { return vselect_negative(a, a, vsub(vset1(0), a)); }

/* The first n lanes from memory, the rest from `fill`; nothing past n is read. */
INLINE vec vload_n(const real *p, ptrdiff_t n, real fill) {
    LANEWISE(r_select(r_first(n - i * REG_LANES), r_load_n(p + i * REG_LANES, n - i * REG_LANES),
                      r_set1(fill)));
}

INLINE void vstore(real *p, vec a) {
    UNROLL(i, REGS) r_store(p + i * REG_LANES, a.r[i]);
}

INLINE void vstore_n(real *p, vec a, ptrdiff_t n) {
    UNROLL(i, REGS) r_store_n(p + i * REG_LANES, a.r[i], n - i * REG_LANES);
}

/* The bits of a half as a float: shifted into place, the exponent is 112 too small. */
INLINE float half_to_float(uint16_t h) {
    union {
        uint32_t u;
        float f;
    } x = {(uint32_t)(h & 0x7fff) << 13}, two_to_112 = {0x77800000};
    if (x.u >= 0x0f800000) /* infinity, NaN */
        x.u |= 0x7f800000;
    else
        x.f *= two_to_112.f;
    x.u |= (uint32_t)(h & 0x8000) << 16;
    return x.f;
}

INLINE float bfloat_to_float(uint16_t b) {
    union {
        uint32_t u;
        float f;
    } x = {(uint32_t)b << 16};
    return x.f;
}

#ifndef SOFTLINE_DOUBLE
/* REG_LANES integers of a smaller type, from p. GCC takes __builtin_convertvector apart. */
#if defined(SOFTLINE_ISA_AVX512)
INLINE mask r_widen_u8(const void *p) { return (mask)_mm512_cvtepu8_epi32(_mm_loadu_si128(p)); }
INLINE mask r_widen_i8(const void *p) { return (mask)_mm512_cvtepi8_epi32(_mm_loadu_si128(p)); }
INLINE mask r_widen_u16(const void *p) {
    return (mask)_mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
}
#elif defined(SOFTLINE_ISA_AVX2)
INLINE mask r_widen_u8(const void *p) { return (mask)_mm256_cvtepu8_epi32(_mm_loadl_epi64(p)); }
INLINE mask r_widen_i8(const void *p) { return (mask)_mm256_cvtepi8_epi32(_mm_loadl_epi64(p)); }
INLINE mask r_widen_u16(const void *p) { return (mask)_mm256_cvtepu16_epi32(_mm_loadu_si128(p)); }
#else
#define WIDEN(type)                                                                                \
    type small __attribute__((vector_size(REG_LANES * sizeof(type))));                             \
    __builtin_memcpy(&small, p, sizeof small);                                                     \
    return __builtin_convertvector(small, mask)
INLINE mask r_widen_u8(const void *p) { WIDEN(uint8_t); }
INLINE mask r_widen_i8(const void *p) { WIDEN(int8_t); }
INLINE mask r_widen_u16(const void *p) { WIDEN(uint16_t); }
#endif

INLINE vec vload_u8(const char *p) {
    LANEWISE(__builtin_convertvector(r_widen_u8(p + i * REG_LANES), reg));
}
INLINE vec vload_i8(const char *p) {
    LANEWISE(__builtin_convertvector(r_widen_i8(p + i * REG_LANES), reg));
}
INLINE vec vload_bf16(const char *p) { LANEWISE((reg)(r_widen_u16(p + 2 * i * REG_LANES) << 16)); }

/* half_to_float, lane by lane */
INLINE reg r_half(mask h) {
    const mask magnitude = (h & 0x7fff) << 13, huge = magnitude >= 0x0f800000;
    const reg scaled = (reg)magnitude * r_set1(0x1p112f);
    return (reg)((huge & (magnitude | 0x7f800000)) | (~huge & (mask)scaled) | ((h & 0x8000) << 16));
}
INLINE vec vload_f16(const char *p) { LANEWISE(r_half(r_widen_u16(p + 2 * i * REG_LANES))); }
#endif

/* Integers, exact in any order. Of a register: bytes widened to 16 bits each; sums by lane of 32
 * bits of a product of 16-bit elements, or of differences of bytes; whether a lane is not 0. Where
 * there is r_dot8, and the processor HAS_DOT8: products of unsigned with signed bytes. */
#ifndef SOFTLINE_DOUBLE
#if defined(SOFTLINE_ISA_AVX512)
INLINE mask r_bytes16(const void *p) {
    return (mask)_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)p));
}
INLINE mask r_dot16(mask a, mask b, mask sum) {
    return sum + (mask)_mm512_madd_epi16((__m512i)a, (__m512i)b);
}
INLINE mask r_sad(mask a, mask b, mask sum) {
    return sum + (mask)_mm512_sad_epu8((__m512i)a, (__m512i)b);
}
INLINE int r_any(mask m) { return _mm512_movepi32_mask((__m512i)m) != 0; }
#define HAS_DOT8 __builtin_cpu_supports("avx512vnni")
INLINE mask r_dot8(mask a, mask b, mask sum) {
    __asm__("vpdpbusd {%2, %1, %0|%0, %1, %2}" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}
#elif defined(SOFTLINE_ISA_AVX2)
INLINE mask r_bytes16(const void *p) {
    return (mask)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p));
}
INLINE mask r_dot16(mask a, mask b, mask sum) {
    return sum + (mask)_mm256_madd_epi16((__m256i)a, (__m256i)b);
}
INLINE mask r_sad(mask a, mask b, mask sum) {
    return sum + (mask)_mm256_sad_epu8((__m256i)a, (__m256i)b);
}
INLINE int r_any(mask m) { return _mm256_movemask_ps((__m256)m) != 0; }
#elif defined(SOFTLINE_ISA_NEON)
INLINE mask r_bytes16(const void *p) { return (mask)vmovl_u8(vld1_u8(p)); }
INLINE mask r_dot16(mask a, mask b, mask sum) {
    const int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
    sum = (mask)vmlal_s16((int32x4_t)sum, vget_low_s16(x), vget_low_s16(y));
    return (mask)vmlal_high_s16((int32x4_t)sum, x, y);
}
INLINE mask r_sad(mask a, mask b, mask sum) {
    return (mask)vpadalq_u16((uint32x4_t)sum, vpaddlq_u8(vabdq_u8((uint8x16_t)a, (uint8x16_t)b)));
}
INLINE int r_any(mask m) { return vmaxvq_u32((uint32x4_t)m) != 0; }
#elif defined(__SSE2__)
INLINE mask r_bytes16(const void *p) {
    return (mask)_mm_unpacklo_epi8(_mm_loadl_epi64(p), _mm_setzero_si128());
}
INLINE mask r_dot16(mask a, mask b, mask sum) {
    return sum + (mask)_mm_madd_epi16((__m128i)a, (__m128i)b);
}
INLINE mask r_sad(mask a, mask b, mask sum) {
    return sum + (mask)_mm_sad_epu8((__m128i)a, (__m128i)b);
}
INLINE int r_any(mask m) { return _mm_movemask_ps((__m128)m) != 0; }
#else
INLINE mask r_bytes16(const void *p) {
    typedef int16_t halves __attribute__((vector_size(REG_BYTES)));
    typedef uint8_t small __attribute__((vector_size(REG_BYTES / 2)));
    small bytes;
    __builtin_memcpy(&bytes, p, sizeof bytes);
    return (mask) __builtin_convertvector(bytes, halves);
}
INLINE mask r_dot16(mask a, mask b, mask sum) {
    /* the upper and the lower half of each lane, signed */
    return sum + (a >> 16) * (b >> 16) + (a << 16 >> 16) * (b << 16 >> 16);
}
INLINE mask r_sad(mask a, mask b, mask sum) {
    UNROLL(i, 4) {
        const mask d = (a >> 8 * i & 255) - (b >> 8 * i & 255), negative = d < 0;
        sum += (d ^ negative) - negative;
    }
    return sum;
}
INLINE int r_any(mask m) {
    bits any = 0;
    UNROLL(i, REG_LANES) any |= m[i];
    return any != 0;
}
#endif
INLINE mask r_load_bits(const void *p) {
    mask a;
    __builtin_memcpy(&a, p, sizeof a);
    return a;
}
INLINE int32_t r_sum_bits(mask a) {
    int32_t sum = 0;
    UNROLL(i, REG_LANES) sum += a[i];
    return sum;
}
#endif

/* FOLD_<lanes of a register>_<half>(o): of the concatenation of two registers, the first (o = 0) or
 * the second (o = half) half of every run of 2 * half lanes. */
#define FOLD_16_8(o)                                                                               \
    0 + o, 1 + o, 2 + o, 3 + o, 4 + o, 5 + o, 6 + o, 7 + o, 16 + o, 17 + o, 18 + o, 19 + o,        \
        20 + o, 21 + o, 22 + o, 23 + o
#define FOLD_16_4(o)                                                                               \
    0 + o, 1 + o, 2 + o, 3 + o, 8 + o, 9 + o, 10 + o, 11 + o, 16 + o, 17 + o, 18 + o, 19 + o,      \
        24 + o, 25 + o, 26 + o, 27 + o
#define FOLD_16_2(o)                                                                               \
    0 + o, 1 + o, 4 + o, 5 + o, 8 + o, 9 + o, 12 + o, 13 + o, 16 + o, 17 + o, 20 + o, 21 + o,      \
        24 + o, 25 + o, 28 + o, 29 + o
#define FOLD_16_1(o)                                                                               \
    0 + o, 2 + o, 4 + o, 6 + o, 8 + o, 10 + o, 12 + o, 14 + o, 16 + o, 18 + o, 20 + o, 22 + o,     \
        24 + o, 26 + o, 28 + o, 30 + o
#define FOLD_8_4(o) 0 + o, 1 + o, 2 + o, 3 + o, 8 + o, 9 + o, 10 + o, 11 + o
#define FOLD_8_2(o) 0 + o, 1 + o, 4 + o, 5 + o, 8 + o, 9 + o, 12 + o, 13 + o
#define FOLD_8_1(o) 0 + o, 2 + o, 4 + o, 6 + o, 8 + o, 10 + o, 12 + o, 14 + o
#define FOLD_4_2(o) 0 + o, 1 + o, 4 + o, 5 + o
#define FOLD_4_1(o) 0 + o, 2 + o, 4 + o, 6 + o
#define FOLD_2_1(o) 0 + o, 2 + o
#define FOLD_ADD(a, b, fold, half) (r_shuffle(a, b, fold(0)) + r_shuffle(a, b, fold(half)))

/* ZIP_<lanes of a register>_<lanes of 16 bytes>(o): of every 16 bytes of two registers the lower (o
 * = 0) or upper (o = half) halves, lane by lane in turn: one instruction. */
#define ZIP_16_4(o)                                                                                \
    0 + o, 16 + o, 1 + o, 17 + o, 4 + o, 20 + o, 5 + o, 21 + o, 8 + o, 24 + o, 9 + o, 25 + o,      \
        12 + o, 28 + o, 13 + o, 29 + o
#define ZIP_8_4(o) 0 + o, 8 + o, 1 + o, 9 + o, 4 + o, 12 + o, 5 + o, 13 + o
#define ZIP_8_2(o) 0 + o, 8 + o, 2 + o, 10 + o, 4 + o, 12 + o, 6 + o, 14 + o
#define ZIP_4_4(o) 0 + o, 4 + o, 1 + o, 5 + o
#define ZIP_4_2(o) 0 + o, 4 + o, 2 + o, 6 + o
#define ZIP_2_2(o) 0 + o, 2 + o
/* MEET_<lanes of a register>_<half>(o): of every run of 2 * half lanes the first (o = 0) or second
 * (o = half) halves, those of two registers in turn. */
#define MEET_16_8 FOLD_16_8
#define MEET_16_4(o)                                                                               \
    0 + o, 1 + o, 2 + o, 3 + o, 16 + o, 17 + o, 18 + o, 19 + o, 8 + o, 9 + o, 10 + o, 11 + o,      \
        24 + o, 25 + o, 26 + o, 27 + o
#define MEET_8_4 FOLD_8_4
#define MEET_8_2(o) 0 + o, 1 + o, 8 + o, 9 + o, 4 + o, 5 + o, 12 + o, 13 + o
#define MEET_4_2 FOLD_4_2
#if REG_BYTES == 64 && !defined(SOFTLINE_DOUBLE)
#define ZIP ZIP_16_4
#define FOR_MEETINGS(F) F(MEET_16_4, 4) F(MEET_16_8, 8)
#elif REG_BYTES == 64
#define ZIP ZIP_8_2
#define FOR_MEETINGS(F) F(MEET_8_2, 2) F(MEET_8_4, 4)
#elif REG_BYTES == 32 && !defined(SOFTLINE_DOUBLE)
#define ZIP ZIP_8_4
#define FOR_MEETINGS(F) F(MEET_8_4, 4)
#elif REG_BYTES == 32
#define ZIP ZIP_4_2
#define FOR_MEETINGS(F) F(MEET_4_2, 2)
#elif !defined(SOFTLINE_DOUBLE)
#define ZIP ZIP_4_4
#define FOR_MEETINGS(F)
#else
#define ZIP ZIP_2_2
#define FOR_MEETINGS(F)
#endif

/* Lane j of register i becomes lane i of register j. Squares of 16 bytes are transposed first, by
 * zipping the two halves of their registers until each has met each; then these change places. */
INLINE void r_transpose(reg *x) {
    enum { SQUARE = 16 / sizeof(real) };
    for (int left = SQUARE; left > 1; left /= 2) {
        reg y[REG_LANES];
        UNROLL(k, REG_LANES / 2) {
            const int first = k / (SQUARE / 2) * SQUARE, i = first + k % (SQUARE / 2);
            y[first + 2 * (i - first)] = r_shuffle(x[i], x[i + SQUARE / 2], ZIP(0));
            y[first + 2 * (i - first) + 1] = r_shuffle(x[i], x[i + SQUARE / 2], ZIP(SQUARE / 2));
        }
        UNROLL(i, REG_LANES) x[i] = y[i];
    }
#define MEETING(meet, half)                                                                        \
    UNROLL(k, REG_LANES / 2) {                                                                     \
        const int i = k / (half) * 2 * (half) + k % (half);                                        \
        const reg a = x[i], b = x[i + (half)];                                                     \
        x[i] = r_shuffle(a, b, meet(0));                                                           \
        x[i + (half)] = r_shuffle(a, b, meet(half));                                               \
    }
    FOR_MEETINGS(MEETING)
}

/* Sums of the lanes of `count` (constant once inlined) vecs, each in a fixed tree: lane i with
 * i + LANES/2, then with i + LANES/4, and so on. Two vecs share a register after the first step,
 * then four, ... Whole registers are written to `out`: masked stores are slow, and what they wrote
 * is slow to load. */
INLINE void vsums_of_register(const vec *sums, const int count, real *out) {
    reg x[REG_LANES];
    UNROLL(i, count) {
        vec a = sums[i];
        for (int half = REGS / 2; half; half /= 2)
            UNROLL(j, half) a.r[j] += a.r[j + half];
        x[i] = a.r[0];
    }
    int n = count;
#define FOLD_LEVEL(fold, half)                                                                     \
    UNROLL(i, (n + 1) / 2)                                                                         \
        x[i] = FOLD_ADD(x[2 * i], x[2 * i + 1 < n ? 2 * i + 1 : 2 * i], fold, half);               \
    n = (n + 1) / 2;
#if REG_BYTES == 64 && !defined(SOFTLINE_DOUBLE)
    FOLD_LEVEL(FOLD_16_8, 8)
    FOLD_LEVEL(FOLD_16_4, 4)
    FOLD_LEVEL(FOLD_16_2, 2)
    FOLD_LEVEL(FOLD_16_1, 1)
#elif REG_BYTES == 64 || (REG_BYTES == 32 && !defined(SOFTLINE_DOUBLE))
    FOLD_LEVEL(FOLD_8_4, 4)
    FOLD_LEVEL(FOLD_8_2, 2)
    FOLD_LEVEL(FOLD_8_1, 1)
#elif REG_BYTES == 32 || !defined(SOFTLINE_DOUBLE)
    FOLD_LEVEL(FOLD_4_2, 2)
    FOLD_LEVEL(FOLD_4_1, 1)
#else
    FOLD_LEVEL(FOLD_2_1, 1)
#endif
    r_store(out, x[0]);
}
INLINE void vsums(const vec *sums, const int count, real *out) {
    UNROLL(i, (count + REG_LANES - 1) / REG_LANES) {
        const int first = i * REG_LANES, left = count - first;
        vsums_of_register(sums + first, left < REG_LANES ? left : REG_LANES, out + first);
    }
}

INLINE real vsum(vec a) {
    real out[REG_BYTES / sizeof(real)];
    vsums(&a, 1, out);
    return out[0];
}

/* The largest lane; any of them if one is NaN. */
INLINE real vlargest(vec a) {
    real lanes[64 / sizeof(real)], largest = -INFINITY;
    vstore(lanes, a);
    UNROLL(i, LANES) largest = lanes[i] > largest ? lanes[i] : largest;
    return largest;
}

/* For exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2)/2: 2^n as `power`, r, and the end of
 * Taylor's series, 1 + r/k (1 + r/(k+1) (1 + ...)): exp(r) itself for all `terms`, (exp(r) - 1)/r
 * for one less. Adding `round_to_integer` leaves n in the low bits of the mantissa. */
INLINE reg exp_series(reg x, const int terms, reg *r, reg *power) {
    const real round_to_integer = (real)3 * (real)((bits)1 << (MANTISSA_BITS - 1));
    reg shifted = r_fma(x, r_set1((real)1.4426950408889634), r_set1(round_to_integer));
    reg n = shifted - r_set1(round_to_integer);
    *r = r_fma(n, r_set1(-LN2_LOW), r_fma(n, r_set1(-LN2_HIGH), x));
    *power = (reg)(((umask)shifted << MANTISSA_BITS) + (umask)r_set1(1));
    reg series = r_set1(1);
    UNROLL(k, terms) series = r_fma(*r * r_set1((real)(1. / (EXP_TERMS - k))), series, r_set1(1));
    return series;
}

/* exp for x <= 0, within 2 ulp. 0 where exp(x) would be subnormal, so for -inf too; NaN for NaN. */
INLINE vec vexp(vec x) {
    vec out;
    UNROLL(i, REGS) {
        reg power, r;
        reg series = exp_series(x.r[i], EXP_TERMS, &r, &power);
        out.r[i] = r_select(x.r[i] < r_set1(EXP_LOWEST), (reg){0}, series * power);
    }
    return out;
}

/* exp(x) - 1 for x <= 0, within 3 ulp, however near 0 x is: with exp(x) = 2^n exp(r) as above it is
 * 2^n (exp(r) - 1) + (2^n - 1). NaN for NaN. */
INLINE vec vexpm1(vec x) {
    vec out;
    UNROLL(i, REGS) {
        reg power, r;
        reg series = exp_series(x.r[i], EXP_TERMS - 1, &r, &power);
        reg less_1 = r_fma(power, r * series, power - r_set1(1));
        out.r[i] = r_select(x.r[i] < r_set1(EXP_LOWEST), r_set1(-1), less_1);
    }
    return out;
}

/* log for finite x >= 1, within 2 ulp, NaN for NaN: x = 2^n m, 3/4 <= m < 3/2,
 * log m = 2 atanh(t) = 2 (t + t^3/3 + t^5/5 + ...), t = (m - 1) / (m + 1), |t| <= 1/5. */
INLINE vec vlog(vec x) {
    vec out;
    UNROLL(i, REGS) {
        const mask one = (mask)r_set1(1), three_quarters = (mask)r_set1((real)0.75);
        const mask n = (mask)((umask)x.r[i] - (umask)three_quarters) >> MANTISSA_BITS;
        const reg m = (reg)((umask)x.r[i] - ((umask)n << MANTISSA_BITS));
        const reg t = (m - (reg)one) / (m + (reg)one);
        reg series = {0};
        UNROLL(k, LOG_TERMS)
            series = r_fma(series, t * t, r_set1((real)(2. / (2 * (LOG_TERMS - k) - 1))));
        const reg nr = __builtin_convertvector(n, reg);
        const reg small = r_fma(nr, r_set1(LN2_LOW), series * t);
        out.r[i] = r_fma(nr, r_set1(LN2_HIGH), small) + (x.r[i] - x.r[i]);
    }
    return out;
}

#endif
