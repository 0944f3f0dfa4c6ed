// Shared by every CPU kernel: export macro, per-processor clones, and number tests that survive
// -ffast-math (which lets the compiler assume that NaN and infinity do not exist).
#pragma once

#include <cstdint>
#include <cstring>

#define OMEGA_EXPORT extern "C" __attribute__((visibility("default")))

// One copy of a hot function per x86 generation, chosen when the library is loaded. Needs GNU ifunc:
// gcc on glibc x86-64. Elsewhere the plain build is used (aarch64 has NEON in its baseline anyway).
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11 && defined(__GLIBC__)
#define OMEGA_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define OMEGA_CLONES
#endif

#define OMEGA_INLINE static inline __attribute__((always_inline))

namespace omega {

// True for neither NaN nor infinity; by bits, since x == x is folded to true.
OMEGA_INLINE bool is_finite(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

OMEGA_INLINE float clamp(float value, float low, float high) {
    return value < low ? low : (value > high ? high : value);
}

OMEGA_INLINE int clamp(int value, int low, int high) {
    return value < low ? low : (value > high ? high : value);
}

}  // namespace omega
