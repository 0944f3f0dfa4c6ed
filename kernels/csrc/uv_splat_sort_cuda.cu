// UV splatting on CUDA, first step: sort the points by where they land. See uv_splat.cuh.

#include <cub/device/device_radix_sort.cuh>

#include "uv_splat.cuh"

namespace {

using omega::Cells;

// Which cell each point falls into; the key behind the last one for points that land nowhere.
__global__ void name_cells(const float2* uv, const float* weight, int64_t B, int64_t P, int H, int W, uint32_t* keys,
                           uint32_t* order) {
    const int64_t n = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= B * P) return;
    const Cells cells(H, W);
    const float2 at = uv[n];
    const float x = Cells::place(at.x, W), y = Cells::place(at.y, H);
    // NaN and infinity fail these comparisons; a weight of NaN must not hide, so it is kept
    const bool lands = x >= 0.0f && x < (float)cells.width && y >= 0.0f && y < (float)cells.height &&
                       !(weight && weight[n] == 0.0f);
    const int64_t cell = n / P * cells.count() + (int64_t)y * cells.width + (int64_t)x;
    keys[n] = (uint32_t)(lands ? cell : B * cells.count());
    order[n] = (uint32_t)n;
}

// starts[k]: how many points have a key below k, for k = 0 .. cells. Every point fills the gap between the
// key before its own and its own; wide gaps are filled by the warp together.
__global__ void mark_starts(const uint32_t* keys, int64_t count, int64_t cells, uint32_t* starts) {
    const int64_t n = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int64_t from = 0, past = 0;  // starts[from .. past) = n
    if (n <= count) {
        from = n == 0 ? 0 : (int64_t)keys[n - 1] + 1;
        past = n == count ? cells + 1 : (int64_t)keys[n] + 1;
    }
    const bool wide = past - from > 16;
    if (!wide)
        for (int64_t k = from; k < past; k++) starts[k] = (uint32_t)n;
    for (unsigned left = __ballot_sync(omega::kWholeWarp, wide); left; left &= left - 1) {
        const int lane = __ffs(left) - 1;
        const int64_t a = __shfl_sync(omega::kWholeWarp, from, lane), b = __shfl_sync(omega::kWholeWarp, past, lane);
        const uint32_t value = (uint32_t)__shfl_sync(omega::kWholeWarp, n, lane);
        for (int64_t k = a + threadIdx.x % 32; k < b; k += 32) starts[k] = value;
    }
}

int bits_for(int64_t largest) {
    int bits = 1;
    while (bits < 32 && (largest >> bits) != 0) bits++;
    return bits;
}

// Byte offsets within the workspace: two buffers each of keys and order, starts, CUB's own.
struct Plan {
    int64_t keys[2], order[2], starts, sorter, bytes;
    size_t sorter_bytes;

    Plan(int64_t points, int64_t cells) {
        int64_t at = 0;
        auto take = [&](int64_t wanted) {
            const int64_t here = at;
            at += (wanted + 255) / 256 * 256;
            return here;
        };
        for (int k = 0; k < 2; k++) keys[k] = take(4 * points), order[k] = take(4 * points);
        starts = take(4 * (cells + 1));
        sorter_bytes = 0;
        cub::DoubleBuffer<uint32_t> none(nullptr, nullptr);
        cub::DeviceRadixSort::SortPairs(nullptr, sorter_bytes, none, none, points, 0, bits_for(cells));
        sorter = take((int64_t)sorter_bytes);
        bytes = at;
    }
};

}  // namespace

namespace omega {

int64_t sort_workspace(int64_t B, int64_t P, int H, int W) { return Plan(B * P, B * Cells(H, W).count()).bytes; }

cudaError_t sort_points(int64_t B, int64_t P, const float* uv, const float* weight, int H, int W, char* workspace,
                        cudaStream_t queue, const uint32_t** order, const uint32_t** starts) {
    const int64_t points = B * P, total = B * Cells(H, W).count();
    const Plan plan(points, total);
    cub::DoubleBuffer<uint32_t> keys((uint32_t*)(workspace + plan.keys[0]), (uint32_t*)(workspace + plan.keys[1]));
    cub::DoubleBuffer<uint32_t> ids((uint32_t*)(workspace + plan.order[0]), (uint32_t*)(workspace + plan.order[1]));
    auto* first = (uint32_t*)(workspace + plan.starts);
    if (points > 0) {
        name_cells<<<blocks_for(points, 256), 256, 0, queue>>>((const float2*)uv, weight, B, P, H, W, keys.Current(),
                                                               ids.Current());
        size_t sorter_bytes = plan.sorter_bytes;
        const cudaError_t sorted = cub::DeviceRadixSort::SortPairs(workspace + plan.sorter, sorter_bytes, keys, ids,
                                                                   points, 0, bits_for(total), queue);
        if (sorted != cudaSuccess) return sorted;
    }
    mark_starts<<<blocks_for(points + 1, 256), 256, 0, queue>>>(keys.Current(), points, total, first);
    *order = ids.Current();
    *starts = first;
    return cudaGetLastError();
}

}  // namespace omega
