// Shared by every CPU kernel: export macro, one version of a hot function per x86 generation, and number
// tests that survive -ffast-math (which lets the compiler assume that NaN and infinity do not exist).
#pragma once

#include <cstdint>
#include <cstring>

#define OMEGA_EXPORT extern "C" __attribute__((visibility("default")))

// Before a loop whose rounds do not touch each other's memory.
#if defined(__clang__)
#define OMEGA_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define OMEGA_INDEPENDENT _Pragma("GCC ivdep")
#endif

#define OMEGA_INLINE static inline __attribute__((always_inline))

namespace omega {

// True for neither NaN nor infinity; by bits, since x == x is folded to true.
OMEGA_INLINE int is_finite(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

// Written as bits for the same reason.
OMEGA_INLINE void set_infinity(float* to) {
    const uint32_t bits = 0x7f800000u;
    std::memcpy(to, &bits, 4);
}

OMEGA_INLINE float clamp(float value, float low, float high) {
    return value < low ? low : (value > high ? high : value);
}

OMEGA_INLINE int clamp(int value, int low, int high) {
    return value < low ? low : (value > high ? high : value);
}

}  // namespace omega

// OMEGA_VERSIONS(result, name, (parameters), (arguments)): from `template <int L> OMEGA_INLINE result
// name##_of(parameters)` make a plain function `name` that runs the version for this processor; L is the
// floats in one of its vector registers. Written out rather than left to gcc's target_clones, which
// clang and non-glibc systems lack and which cannot give each clone its own vector width.
#if defined(__x86_64__)
#define OMEGA_AVX2 "avx2,fma,bmi,bmi2,lzcnt,popcnt"
#define OMEGA_AVX512 OMEGA_AVX2 ",avx512f,avx512vl,avx512bw,avx512dq,avx512cd"

namespace omega {

// The widest version allowed; lowered by the tests alone, so that one machine runs all that it can.
inline int vector_width_limit = 16;

inline int vector_width() {
    static const int width = [] {
        __builtin_cpu_init();
        if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2"))
            return 4;
        const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512cd");
        return wide ? 16 : 8;
    }();
    return width < vector_width_limit ? width : vector_width_limit;
}

}  // namespace omega

#define OMEGA_VERSIONS(result, name, parameters, arguments)                                            \
    __attribute__((target(OMEGA_AVX512))) result name##_avx512 parameters { return name##_of<16> arguments; } \
    __attribute__((target(OMEGA_AVX2))) result name##_avx2 parameters { return name##_of<8> arguments; }      \
    result name##_sse parameters { return name##_of<4> arguments; }                                    \
    result name parameters {                                                                           \
        const int width = omega::vector_width();                                                       \
        if (width == 16) return name##_avx512 arguments;                                               \
        if (width == 8) return name##_avx2 arguments;                                                  \
        return name##_sse arguments;                                                                   \
    }
#else
namespace omega {

inline int vector_width_limit = 4;

inline int vector_width() { return 4; }

}  // namespace omega

#define OMEGA_VERSIONS(result, name, parameters, arguments) \
    result name parameters { return name##_of<4> arguments; }
#endif
