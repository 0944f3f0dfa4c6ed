// UV splatting on CUDA: what its files share.
//
// Sums by gathering, not by atomics: the points are sorted by the cell where they land (a radix sort, so that
// points of one cell keep their order and the sum has the same bits in every run), then every texel adds up
// its own. A "cell" is the square between four texel centres: its points reach those four texels. Only the
// finest level of a pyramid is splatted; each texel of a coarser one is the sum of two by two of the finer.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_common.cuh"

namespace omega {

constexpr int kMaxLevels = 12;
constexpr int kSplatThreads = 256;
constexpr uint32_t kNobody = ~0u;

// Cells are numbered row by row, so that neighbours of a row are one run of sorted points. The first and the
// last of a row or column lie half outside the map.
struct Cells {
    int width, height;

    __host__ __device__ Cells(int H, int W) : width(W + 1), height(H + 1) {}
    __host__ __device__ int64_t count() const { return (int64_t)width * height; }

    // Cell along one axis of a coordinate in [0, 1], as a float: it may be far outside, or NaN.
    __device__ static float place(float coordinate, int texels) {
        return floorf(__fmul_rn(coordinate, (float)texels) - 0.5f) + 1.0f;
    }
};

// V neighbouring channels as floats, from any of the three feature types.
template <int V>
struct Pack {
    float at[V];

    __device__ Pack& operator+=(const Pack& other) {
#pragma unroll
        for (int k = 0; k < V; k++) at[k] += other.at[k];
        return *this;
    }
};

template <typename T>
__device__ float to_float(T value) {
    return (float)value;
}

template <typename T, int V>
__device__ Pack<V> load(const T* from) {
    struct alignas(V * sizeof(T)) Raw {
        T at[V];
    };
    const Raw raw = *reinterpret_cast<const Raw*>(from);
    Pack<V> out;
#pragma unroll
    for (int k = 0; k < V; k++) out.at[k] = to_float(raw.at[k]);
    return out;
}

template <typename T, int V>
__device__ void store(T* to, const Pack<V>& values) {
    struct alignas(V * sizeof(T)) Raw {
        T at[V];
    };
    Raw raw;
#pragma unroll
    for (int k = 0; k < V; k++) raw.at[k] = (T)values.at[k];
    *reinterpret_cast<Raw*>(to) = raw;
}

// The maps of a pyramid, finest first, or their gradients: level l is [B, H >> l, W >> l, C or E].
struct Maps {
    int H, W, levels;
    float *sums[kMaxLevels], *extras[kMaxLevels];

    Maps(int64_t H, int64_t W, int levels, float* const* sums, float* const* extras)
        : H((int)H), W((int)W), levels(levels), sums{}, extras{} {
        for (int level = 0; level < levels; level++) {
            this->sums[level] = sums[level];
            this->extras[level] = extras ? extras[level] : nullptr;
        }
    }
    // Number of a texel of one level.
    __device__ int64_t texel(int64_t view, int row, int column, int level) const {
        return (view * (H >> level) + row) * (W >> level) + column;
    }
};

struct Points {
    int64_t B, P;
    int C, E;
    const float2* uv;
    const float* weight;  // [B, P] or null
    const float* extra;   // [B, P, E] or null
};

// Bytes that sort_points needs.
int64_t sort_workspace(int64_t B, int64_t P, int H, int W);

// Queue the sort. order [points]: point numbers b P + p by cell, view by view, points that land nowhere last;
// starts [B cells + 1]: where each cell's points begin. Both lie in the workspace.
cudaError_t sort_points(int64_t B, int64_t P, const float* uv, const float* weight, int H, int W, char* workspace,
                        cudaStream_t queue, const uint32_t** order, const uint32_t** starts);

}  // namespace omega
