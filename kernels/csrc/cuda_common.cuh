// What every CUDA file shares: the exported C interface, error passing, launch arithmetic.
//
// Every function takes raw device pointers, sizes and a stream, allocates nothing, never waits for the
// device, and returns a cudaError_t as int (0: launched).

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#define OMEGA_EXPORT extern "C" __attribute__((visibility("default")))

namespace omega {

constexpr unsigned kWholeWarp = 0xffffffffu;

inline int blocks_for(int64_t items, int threads) { return (int)((items + threads - 1) / threads); }

inline int launched() { return (int)cudaGetLastError(); }

}  // namespace omega
