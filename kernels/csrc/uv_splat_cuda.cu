// UV splatting on CUDA, second step: the sums. Meaning: kernels/reference.py uv_splat and pool.
//
// A group of 8, 16 or 32 lanes owns a patch of 4 x 4 texels of the finest level and a run of channels, four
// to a lane. It runs through the points of the 5 x 5 cells around the patch, sorted as they are, so that the
// corner sums of a cell stay in registers until another cell begins; then they go to the patch, in shared
// memory, which is written out once, and with it what it is at the next two levels: sums of its own texels.
// Levels beyond are small: a second kernel adds them up from the one before.

#include <algorithm>

#include "uv_splat_patch.cuh"

namespace {

using namespace omega;

constexpr int kThreads = kSplatThreads;

template <typename T, int V, int L, bool X>
__global__ void __launch_bounds__(kThreads, 2) splat(Points points, const T* values, Maps maps, int chunks,
                                                     const uint32_t* order, const uint32_t* starts) {
    extern __shared__ float4 memory[];
    __shared__ uint32_t slots[kCells * kCells];
    constexpr int kGroups = kThreads / L, kSide = kAcross<kGroups>;
    if (threadIdx.x < kCells * kCells) slots[threadIdx.x] = slots_of(threadIdx.x % kCells, threadIdx.x / kCells);
    __syncthreads();
    const int lane = threadIdx.x % L, group = threadIdx.x / L;
    Bench<L, V>& bench = reinterpret_cast<Bench<L, V>*>(memory)[group];
    ExtraBench<L>* extra = reinterpret_cast<ExtraBench<L>*>(reinterpret_cast<Bench<L, V>*>(memory) + kGroups) + group;

    const int view = blockIdx.z, chunk = (int)blockIdx.x % chunks;
    const int start = ((int)blockIdx.x / chunks * kSide + group % kSide) * kPatch;
    const int top = ((int)blockIdx.y * (kGroups / kSide) + group / kSide) * kPatch;
    const bool exists = top < maps.H && start < maps.W;
    const Cells cells(maps.H, maps.W);

    const int channel = (chunk * L + lane) * V, read = channel < points.C ? channel : 0;
    Splatter<T, V, L, X> splatter(values + read, points.C, bench, extra);

    const uint32_t total =
        list_runs<L>(cells, starts + view * cells.count(), start, top, exists, bench.ends, bench.shift);
    const uint32_t most = __reduce_max_sync(kWholeWarp, total);
    // A point's number is read two rounds ahead, its place one: each waits for the other, and for memory.
    const auto point_at = [&](uint32_t place) {
        if (place >= total) return kNobody;
        int run = 0;  // the first one that ends beyond this place
#pragma unroll
        for (int reach = kRuns / 2; reach > 0; reach /= 2)
            if (bench.ends[run + reach - 1] <= place) run += reach;
        return order[place + bench.shift[run]];
    };
    Held held = fetch<X>(points, point_at(lane));
    uint32_t next = point_at(L + lane);
    for (uint32_t base = 0; base < most; base += L) {
        const uint32_t later = point_at(base + 2 * L + lane);
        const Held ahead = fetch<X>(points, next);
        float4 shares = {};
        Entry entry{0, kNowhere * 0x01010101u};
        if (held.point != kNobody) stage(held, maps, start - 1, top - 1, slots, shares, entry);
        __syncwarp();
        bench.shares[lane] = shares;
        bench.entries[lane] = entry;
        if (X) {
#pragma unroll
            for (int e = 0; e < kMostExtra; e++) extra->columns[lane][e] = held.extra[e];
        }
        __syncwarp();
        splatter.add((int)min(most - base, (uint32_t)L));
        held = ahead, next = later;
    }
    splatter.finish();
    if (!exists) return;
    if (channel < points.C)
        write_patch<V>(maps, maps.sums, points.C, channel, view, top, start,
                       [&](int texel) { return bench.patch[texel][lane]; });
    if (X && chunk == 0 && lane < points.E)
        write_patch<1>(maps, maps.extras, points.E, lane, view, top, start,
                       [&](int texel) { return Pack<1>{extra->patch[texel][lane]}; });
}

// One row of W texels, from two by two texels each of the next finer level. Rows are counted through all views.
template <int V>
__device__ void pool_row(const float* fine, float* coarse, int64_t row, int W, int columns) {
    const int packs = columns / V, n = (int)(blockIdx.y * kThreads + threadIdx.x);
    if (n >= W * packs) return;
    const int x = n / packs, column = n % packs * V;
    const int64_t down = 2 * (int64_t)W * columns;  // from a texel of the finer level to the one below it
    const float* at = fine + 2 * row * down + 2 * (int64_t)x * columns + column;
    Pack<V> sum = load<float, V>(at);
    sum += load<float, V>(at + columns);
    sum += load<float, V>(at + down);
    sum += load<float, V>(at + down + columns);
    store<float, V>(coarse + (row * W + x) * columns + column, sum);
}

// A level from the one before: a row for each block along x, the extra columns by those of the second z.
template <int V>
__global__ void __launch_bounds__(kThreads) pool(Maps maps, int level, int C, int E) {
    if (blockIdx.z == 0)
        pool_row<V>(maps.sums[level - 1], maps.sums[level], blockIdx.x, maps.W >> level, C);
    else
        pool_row<1>(maps.extras[level - 1], maps.extras[level], blockIdx.x, maps.W >> level, E);
}

cudaError_t launch_pools(const Points& points, const Maps& maps, cudaStream_t queue) {
    for (int level = 3; level < maps.levels; level++) {
        const int V = points.C % 4 == 0 ? 4 : 1;
        const int64_t across = (int64_t)(maps.W >> level) * std::max(points.C / V, points.E);
        const dim3 blocks((unsigned)(points.B * (maps.H >> level)), omega::blocks_for(across, kThreads),
                          points.E > 0 ? 2 : 1);
        (V == 4 ? pool<4> : pool<1>)<<<blocks, kThreads, 0, queue>>>(maps, level, points.C, points.E);
    }
    return cudaGetLastError();
}

template <typename T, int V, int L, bool X>
cudaError_t launch_splat(const Points& points, const void* values, const Maps& maps, const uint32_t* order,
                         const uint32_t* starts, cudaStream_t queue) {
    if (points.B == 0) return cudaSuccess;
    constexpr int kGroups = kThreads / L, kSide = kAcross<kGroups>;
    const size_t memory = kGroups * (sizeof(Bench<L, V>) + (X ? sizeof(ExtraBench<L>) : 0));
    cudaFuncSetAttribute(splat<T, V, L, X>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)memory);
    const int chunks = max(1, (points.C + L * V - 1) / (L * V));
    const dim3 blocks(omega::blocks_for(maps.W, kPatch * kSide) * chunks,
                      omega::blocks_for(maps.H, kPatch * kGroups / kSide), (unsigned)points.B);
    splat<T, V, L, X><<<blocks, kThreads, memory, queue>>>(points, (const T*)values, maps, chunks, order, starts);
    return launch_pools(points, maps, queue);
}

// As few lanes as hold all channels.
template <typename T, bool X>
cudaError_t choose_splat(const Points& points, const void* values, const Maps& maps, const uint32_t* order,
                         const uint32_t* starts, cudaStream_t queue) {
    const auto launch = points.C % 4 != 0 ? (points.C <= 8 ? launch_splat<T, 1, 8, X> : launch_splat<T, 1, 32, X>)
                        : points.C <= 32  ? launch_splat<T, 4, 8, X>
                        : points.C <= 64  ? launch_splat<T, 4, 16, X>
                                          : launch_splat<T, 4, 32, X>;
    return launch(points, values, maps, order, starts, queue);
}

template <typename T>
cudaError_t splat_type(const Points& points, const void* values, const Maps& maps, const uint32_t* order,
                       const uint32_t* starts, cudaStream_t queue) {
    return points.E > 0 ? choose_splat<T, true>(points, values, maps, order, starts, queue)
                        : choose_splat<T, false>(points, values, maps, order, starts, queue);
}

}  // namespace

OMEGA_EXPORT int64_t omega_cuda_uv_splat_workspace(int64_t B, int64_t P, int64_t height, int64_t width) {
    return omega::sort_workspace(B, P, (int)height, (int)width);
}

// values [B, P, C] of `type`, uv [B, P, 2], weight [B, P] or null, extra [B, P, E <= 2] or null -> for each
// level l (a host array of device pointers each, finest first): sums[l] [B, H >> l, W >> l, C] and extras[l]
// [.., E], overwritten. values and sums must be 16-byte aligned.
OMEGA_EXPORT int omega_cuda_uv_splat(int type, int64_t B, int64_t P, int64_t C, int64_t E, const void* values,
                                     const float* uv, const float* weight, const float* extra, int64_t height,
                                     int64_t width, int levels, void* workspace, float* const* sums,
                                     float* const* extras, void* stream) {
    const auto queue = (cudaStream_t)stream;
    const uint32_t *order, *starts;
    const cudaError_t sorted = omega::sort_points(B, P, uv, weight, (int)height, (int)width, (char*)workspace, queue,
                                                  &order, &starts);
    if (sorted != cudaSuccess) return (int)sorted;
    const Points points{B, P, (int)C, (int)E, (const float2*)uv, weight, extra};
    const Maps maps(height, width, levels, sums, E ? extras : nullptr);
    const auto run = type == 0 ? splat_type<float> : type == 1 ? splat_type<__half> : splat_type<__nv_bfloat16>;
    return (int)run(points, values, maps, order, starts, queue);
}
