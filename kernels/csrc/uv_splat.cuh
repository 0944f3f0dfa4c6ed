// UV splatting on CUDA: what its two files share.
//
// Sums by gathering, not by atomics: the points are sorted by the place where they land (a radix sort, so
// that points of one place keep their order and the sum has the same bits in every run), then every texel
// adds up its own. One sort serves all levels of a pyramid.
//
// A "cell" is the square between four texel centres: its points reach those four texels. The cell borders of
// level l >= 1 lie on texel borders of level l - 1, those of level 0 on half texels, so half texels of level
// 0 ("atoms") tile the cells of every level. One level alone has its cells as atoms.

#pragma once

#include "cuda_common.cuh"

namespace omega {

struct Atoms {
    int width, height;  // of the grid, a border included for points that reach the map from outside
    int border, per_cell_shift;
    bool single;

    __host__ __device__ Atoms(int H, int W, int levels) {
        single = levels == 1;
        border = single ? 1 : 1 << (levels - 1);
        width = single ? W + 1 : 2 * (W + border);
        height = single ? H + 1 : 2 * (H + border);
        per_cell_shift = single ? 0 : 1;
    }
    __host__ __device__ int64_t count() const { return (int64_t)width * height; }
    // Atom of a coordinate u in [0, 1], as a float (which may be far outside, or NaN). No contraction: the
    // same product must round the same way here and in Cell.
    __device__ float column_of(float u, int W) const { return place(u, W); }
    __device__ float row_of(float v, int H) const { return place(v, H); }
    // Atoms along one axis of cell `cell` (-1 .. texels - 1) of level `level`: first, and how many.
    __host__ __device__ int first(int cell, int level) const {
        return single ? cell + 1 : (2 * cell + 1) * (1 << level) + border;
    }
    __host__ __device__ int per_cell(int level) const { return single ? 1 : 2 << level; }

  private:
    __device__ float place(float u, int texels) const {
        const float at = __fmul_rn(u, (float)texels);
        return single ? floorf(at - 0.5f) + 1.0f : floorf(2.0f * at) + (float)border;
    }
};

// Bytes that sort_points needs.
int64_t sort_workspace(int64_t B, int64_t P, int H, int W, int levels);

// Queue the sort. order [points]: point numbers b P + p by atom (row-major, view by view), points that land
// nowhere last; starts [B atoms + 1]: where each atom's points begin. Both lie in the workspace.
cudaError_t sort_points(int64_t B, int64_t P, const float* uv, const float* weight, int H, int W, int levels,
                        char* workspace, cudaStream_t queue, const uint32_t** order, const uint32_t** starts);

}  // namespace omega
