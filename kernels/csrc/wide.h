// Several neighbouring pixels as one value, cut into vectors of the size that the processor has.
//
// N: pixels; L: floats in a machine register (16, 8 or 4, see OMEGA_VERSIONS in common.h). gcc's vector
// types also exist in sizes beyond the machine's, but their comparisons are then done lane by lane
// (measured on AVX2: 2.4 times slower blending). Hence the recursive halves, and no masks: a comparison is
// always the condition of one choice, since gcc takes an `and` of two apart, lane by lane, too.
#pragma once

#include "common.h"

namespace omega {

template <int L>
struct Register;

#define OMEGA_REGISTER(L)                                             \
    template <>                                                       \
    struct Register<L> {                                              \
        typedef float Floats __attribute__((vector_size(4 * L)));     \
        typedef int32_t Ints __attribute__((vector_size(4 * L)));     \
    };
OMEGA_REGISTER(4)
OMEGA_REGISTER(8)
OMEGA_REGISTER(16)
#undef OMEGA_REGISTER

template <int N, int L>
struct Wide {
    Wide<N / 2, L> lo, hi;
};

template <int L>
struct Wide<L, L> {
    typename Register<L>::Floats v;
};

#define OMEGA_WIDE_OPERATOR(op)                                                     \
    template <int N, int L>                                                                \
    OMEGA_INLINE Wide<N, L> operator op(const Wide<N, L>& a, const Wide<N, L>& b) {          \
        if constexpr (N == L)                                                  \
            return {a.v op b.v};                                                    \
        else                                                                        \
            return {a.lo op b.lo, a.hi op b.hi};                                    \
    }                                                                               \
    template <int N, int L>                                                                \
    OMEGA_INLINE Wide<N, L> operator op(const Wide<N, L>& a, float b) {                   \
        if constexpr (N == L)                                                  \
            return {a.v op b};                                                      \
        else                                                                        \
            return {a.lo op b, a.hi op b};                                          \
    }                                                                               \
    template <int N, int L>                                                                \
    OMEGA_INLINE Wide<N, L> operator op(float a, const Wide<N, L>& b) {                   \
        if constexpr (N == L)                                                  \
            return {a op b.v};                                                      \
        else                                                                        \
            return {a op b.lo, a op b.hi};                                          \
    }
OMEGA_WIDE_OPERATOR(+)
OMEGA_WIDE_OPERATOR(-)
OMEGA_WIDE_OPERATOR(*)
OMEGA_WIDE_OPERATOR(/)
#undef OMEGA_WIDE_OPERATOR

template <int N, int L>
OMEGA_INLINE Wide<N, L> wide(float value) {
    if constexpr (N == L)
        return {value + typename Register<L>::Floats{}};
    else
        return {wide<N / 2, L>(value), wide<N / 2, L>(value)};
}

// first, first + 1, first + 2, ...
template <int N, int L>
OMEGA_INLINE Wide<N, L> ramp(float first) {
    if constexpr (N == L) {
        typename Register<L>::Floats steps;
        for (int i = 0; i < L; i++) steps[i] = (float)i;
        return {first + steps};
    } else {
        return {ramp<N / 2, L>(first), ramp<N / 2, L>(first + N / 2)};
    }
}

// Register by register: a copy of the whole would pass through memory in pieces of another size.
template <int N, int L>
OMEGA_INLINE Wide<N, L> load(const float* from) {
    if constexpr (N == L) {
        Wide<L, L> out;
        std::memcpy(&out.v, from, sizeof(out.v));
        return out;
    } else {
        return {load<N / 2, L>(from), load<N / 2, L>(from + N / 2)};
    }
}

template <int N, int L>
OMEGA_INLINE void store(float* to, const Wide<N, L>& value) {
    if constexpr (N == L) {
        std::memcpy(to, &value.v, sizeof(value.v));
    } else {
        store<N / 2, L>(to, value.lo);
        store<N / 2, L>(to + N / 2, value.hi);
    }
}

// The first `count` lanes from memory, the rest zero; and back.
template <int N, int L>
OMEGA_INLINE Wide<N, L> load_part(const float* from, int count) {
    if (count == N) return load<N, L>(from);
    float lanes[N] = {};
    for (int i = 0; i < count; i++) lanes[i] = from[i];
    return load<N, L>(lanes);
}

template <int N, int L>
OMEGA_INLINE void store_part(float* to, const Wide<N, L>& value, int count) {
    if (count == N) return store<N, L>(to, value);
    float lanes[N];
    store<N, L>(lanes, value);
    for (int i = 0; i < count; i++) to[i] = lanes[i];
}

// a < b ? yes : no
template <int N, int L>
OMEGA_INLINE Wide<N, L> if_less(const Wide<N, L>& a, const Wide<N, L>& b, const Wide<N, L>& yes, const Wide<N, L>& no) {
    if constexpr (N == L)
        return {a.v < b.v ? yes.v : no.v};
    else
        return {if_less(a.lo, b.lo, yes.lo, no.lo), if_less(a.hi, b.hi, yes.hi, no.hi)};
}

template <int N, int L>
OMEGA_INLINE Wide<N, L> smaller(const Wide<N, L>& a, const Wide<N, L>& b) {
    return if_less(a, b, a, b);
}

template <int N, int L>
OMEGA_INLINE Wide<N, L> larger(const Wide<N, L>& a, const Wide<N, L>& b) {
    return if_less(a, b, b, a);
}

template <int N, int L>
OMEGA_INLINE float sum(const Wide<N, L>& a) {
    if constexpr (N > L) {
        return sum<N / 2, L>(a.lo + a.hi);
    } else if constexpr (L > 4) {
        Wide<L, L / 2> halves;  // the same lanes as two smaller registers
        std::memcpy(&halves, &a, sizeof(a));
        return sum<L / 2, L / 2>(halves.lo + halves.hi);
    } else {
        return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]);
    }
}

template <int N, int L>
OMEGA_INLINE float largest(const Wide<N, L>& a) {
    float lanes[N], most;
    store<N, L>(lanes, a);
    most = lanes[0];
    for (int i = 1; i < N; i++) most = lanes[i] > most ? lanes[i] : most;
    return most;
}

// 2^x for x <= 0 to 1e-7 relative: nearest integer into the exponent bits, a polynomial for the rest.
template <int N, int L>
OMEGA_INLINE Wide<N, L> exp2_of_negative(const Wide<N, L>& a) {
    if constexpr (N == L) {
        using Floats = typename Register<L>::Floats;
        using Ints = typename Register<L>::Ints;
        const Floats x = a.v < -126.0f ? -126.0f + Floats{} : a.v;
        const Ints whole = __builtin_convertvector(x - 0.5f, Ints);  // truncates towards zero
        const Floats f = x - __builtin_convertvector(whole, Floats);
        Floats p = 0.00134004322f * f + 0.0096760371f;
        p = p * f + 0.0555032721f;
        p = p * f + 0.240221074f;
        p = p * f + 0.693147207f;
        p = p * f + 1.00000008f;
        const Ints power = (whole + 127) << 23;
        Floats scale;
        std::memcpy(&scale, &power, sizeof(Floats));
        return {p * scale};
    } else {
        return {exp2_of_negative(a.lo), exp2_of_negative(a.hi)};
    }
}

}  // namespace omega
