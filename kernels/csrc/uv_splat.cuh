// UV splatting on CUDA: what its files share.
//
// Sums by gathering, not by atomics: the points are sorted by the place where they land (a radix sort, so
// that points of one place keep their order and the sum has the same bits in every run), then every texel
// adds up its own. One sort serves all levels of a pyramid.
//
// A "cell" is the square between four texel centres: its points reach those four texels. The cell borders of
// level l >= 1 lie on texel borders of level l - 1, those of level 0 on half texels. So the half texels of
// level 0, "atoms", tile the cells of every level; a cell of level l is two by two blocks of 2^l by 2^l atoms.
// Within tiles as large as the coarsest level's blocks the atoms are numbered along Morton's curve, which
// makes every block of every level one run of atoms, and of sorted points. One level alone has its cells as
// atoms, numbered row by row, so that the cells of a row are one run.

#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_common.cuh"

namespace omega {

constexpr int kMaxLevels = 12;
constexpr int kSplatThreads = 256;
constexpr uint32_t kNobody = ~0u;

struct Atoms {
    int levels, tile_bits, border;  // a tile has 2^tile_bits atoms along its side
    int width, height;              // atoms, a border included for points that reach the map from outside

    __host__ __device__ Atoms(int H, int W, int levels) : levels(levels) {
        tile_bits = levels - 1;
        border = 1 << tile_bits;
        width = levels == 1 ? W + 1 : 2 * (W + border);
        height = levels == 1 ? H + 1 : 2 * (H + border);
    }
    __host__ __device__ int64_t count() const { return (int64_t)width * height; }

    // Atom along one axis of a coordinate in [0, 1], as a float: it may be far outside, or NaN.
    __device__ float place(float coordinate, int texels) const {
        const float at = __fmul_rn(coordinate, (float)texels);
        return levels == 1 ? floorf(at - 0.5f) + 1.0f : floorf(2.0f * at) + (float)border;
    }

    // Number of the first atom of a block of 2^level x 2^level atoms; x, y in blocks.
    __device__ int64_t number(int x, int y, int level) const {
        const int bits = tile_bits - level, mask = (1 << bits) - 1;
        const int64_t tile = (int64_t)(y >> bits) * (width >> tile_bits) + (x >> bits);
        return (tile << (2 * tile_bits)) + ((int64_t)(spread(x & mask) | spread(y & mask) << 1) << (2 * level));
    }

    // The four blocks of cell (column, row) of a level, as numbers of their first atoms; several levels only.
    __device__ void blocks(int column, int row, int level, int64_t first[4]) const {
        const int bits = tile_bits - level, mask = (1 << bits) - 1, x = 2 * column + 1 + (border >> level),
                  y = 2 * row + 1 + (border >> level);
        int64_t across[2], down[2];
#pragma unroll
        for (int k = 0; k < 2; k++) {
            across[k] = ((int64_t)(x + k >> bits) << (2 * tile_bits)) + ((int64_t)spread(x + k & mask) << (2 * level));
            down[k] = ((int64_t)(y + k >> bits) * (width >> tile_bits) << (2 * tile_bits)) +
                      ((int64_t)spread(y + k & mask) << (2 * level + 1));
        }
#pragma unroll
        for (int k = 0; k < 4; k++) first[k] = across[k % 2] + down[k / 2];
    }

  private:
    // Bits apart: abc -> a0b0c.
    __device__ static uint32_t spread(uint32_t x) {
        x = (x | x << 8) & 0x00ff00ffu;
        x = (x | x << 4) & 0x0f0f0f0fu;
        x = (x | x << 2) & 0x33333333u;
        return (x | x << 1) & 0x55555555u;
    }
};

// V neighbouring channels as floats, from any of the three feature types.
template <int V>
struct Pack {
    float at[V];
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

struct Level {
    int H, W;
    float *sums, *extras;            // forward: outputs
    const float *grad, *extra_grad;  // backward: inputs
};

struct Levels {
    Level at[kMaxLevels];  // finest first
    int count;
};

struct Points {
    int64_t B, P;
    int C, E;
    const float2* uv;
    const float* weight;  // [B, P] or null
    const float* extra;   // [B, P, E] or null
};

inline Levels describe(int H, int W, int count, float* const* sums, float* const* extras) {
    Levels levels;
    levels.count = count;
    for (int depth = 0; depth < count; depth++) {
        Level& level = levels.at[depth];
        level.H = H >> depth;
        level.W = W >> depth;
        level.grad = level.sums = sums[depth];
        level.extra_grad = level.extras = extras ? extras[depth] : nullptr;
    }
    return levels;
}

// Bytes that sort_points needs.
int64_t sort_workspace(int64_t B, int64_t P, int H, int W, int levels);

// Queue the sort. order [points]: point numbers b P + p by atom, view by view, points that land
// nowhere last; starts [B atoms + 1]: where each atom's points begin. Both lie in the workspace.
cudaError_t sort_points(int64_t B, int64_t P, const float* uv, const float* weight, int H, int W, int levels,
                        char* workspace, cudaStream_t queue, const uint32_t** order, const uint32_t** starts);

}  // namespace omega
