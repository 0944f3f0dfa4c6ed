// UV splatting on CUDA, second step: the sums. Meaning: kernels/reference.py uv_splat.
//
// A group of 8, 16 or 32 lanes owns a patch of 4 x 4 texels of one level and a run of channels, four
// to a lane. It runs through the points of the 5 x 5 cells around the patch, sorted as they are, so that the
// corner sums of a cell stay in registers until another cell begins; then they go to the patch, in shared
// memory, which is written out once. A patch of a coarse level has many points: several groups of the block
// share them out and add up their patches at the end, always in one order. Blocks run region by region, all
// levels of a region one after the other, so that the coarser ones find the values in the L2 cache.

#include "uv_splat_patch.cuh"

namespace {

using namespace omega;

constexpr int kThreads = kSplatThreads;

template <typename T, int V, int L, bool X>
__global__ void __launch_bounds__(kThreads, 2) splat(Points points, const T* values, Levels levels, int chunks,
                                                     const uint32_t* order, const uint32_t* starts) {
    extern __shared__ float4 memory[];
    __shared__ uint32_t slots[kCells * kCells];
    constexpr int kGroups = kThreads / L;
    if (threadIdx.x < kCells * kCells) slots[threadIdx.x] = slots_of(threadIdx.x % kCells, threadIdx.x / kCells);
    __syncthreads();
    const int lane = threadIdx.x % L, group = threadIdx.x / L;
    auto* benches = reinterpret_cast<Bench<L, V>*>(memory);
    auto* extra_benches = reinterpret_cast<ExtraBench*>(benches + kGroups);

    // Which level, patch and share of its points are mine.
    const Regions regions(levels, kGroups);
    const int view = blockIdx.z, chunk = (int)blockIdx.x % chunks, region = (int)blockIdx.x / chunks / regions.blocks;
    int block = (int)blockIdx.x / chunks % regions.blocks, depth = levels.count - 1;
    for (; block >= regions.blocks_of(depth, kGroups); depth--) block -= regions.blocks_of(depth, kGroups);
    const Level& level = levels.at[depth];
    const int helper_bits = Regions::helper_bits(depth, kGroups), helpers = 1 << helper_bits;
    const int helper = group & (helpers - 1), number = (block * kGroups + group) >> helper_bits;
    const int bits = regions.side_bits - depth;
    const int top = (((int)blockIdx.y << bits) + (number >> bits)) * kPatch;
    const int start = ((region << bits) + (number & ((1 << bits) - 1))) * kPatch;
    const bool exists = number < 1 << (2 * bits) && top < level.H && start < level.W;
    const Atoms atoms(levels.at[0].H, levels.at[0].W, levels.count);

    const int channel = (chunk * L + lane) * V, read = channel < points.C ? channel : 0;
    Bench<L, V>& bench = benches[group];
    Splatter<T, V, L, X> splatter(values + read, points.C, bench, extra_benches + group);

    const int cells = exists ? (levels.count == 1 ? kCells : kCells * kCells) : 0;
    const int first = cells * helper >> helper_bits, last = cells * (helper + 1) >> helper_bits;
    int most_runs = 32;  // a power of two, four for each cell that a group of this block may have
    while (most_runs < 4 * ((kCells * kCells >> helper_bits) + 1) && levels.count > 1) most_runs *= 2;
    const uint32_t total = list_runs<L>(atoms, starts + view * atoms.count(), start - 1, top - 1, depth, level, first,
                                        last, most_runs, bench.ends, bench.shift);
    const uint32_t most = __reduce_max_sync(kWholeWarp, total);
    // A point's number is read two rounds ahead, its place one: each waits for the other, and for memory.
    const auto point_at = [&](uint32_t place) {
        if (place >= total) return kNobody;
        int run = 0;  // the first one that ends beyond this place
        for (int reach = most_runs / 2; reach > 0; reach /= 2)
            if (bench.ends[run + reach - 1] <= place) run += reach;
        return order[place + bench.shift[run]];
    };
    uint32_t point = point_at(lane), next = point_at(L + lane);
    float2 at = point != kNobody ? points.uv[point] : float2{};
    float weight = point != kNobody && points.weight ? points.weight[point] : 1.0f;
    for (uint32_t base = 0; base < most; base += L) {
        const uint32_t later = point_at(base + 2 * L + lane);
        const float2 next_at = next != kNobody ? points.uv[next] : float2{};
        const float next_weight = next != kNobody && points.weight ? points.weight[next] : 1.0f;
        float4 shares = {};
        Entry entry{0, kNowhere * 0x01010101u};
        if (point != kNobody) stage(at, weight, point, level, start - 1, top - 1, slots, shares, entry);
        __syncwarp();
        bench.shares[lane] = shares;
        bench.entries[lane] = entry;
        if (X)
            for (int e = 0; e < points.E; e++)
                extra_benches[group].columns[lane][e] = points.extra[(int64_t)entry.point * points.E + e];
        __syncwarp();
        splatter.add((int)min(most - base, (uint32_t)L));
        point = next, next = later, at = next_at, weight = next_weight;
    }
    splatter.finish();
    if (helpers > 1) __syncthreads();
    if (!exists) return;
    const int64_t corner = (view * (int64_t)level.H + top) * level.W + start;
    float* const sums = level.sums + corner * points.C + channel;
    const int others = group - helper;
#pragma unroll 4
    for (int texel = helper; texel < kPatch * kPatch; texel += helpers) {
        const int y = texel / kPatch, x = texel % kPatch;
        if (top + y >= level.H || start + x >= level.W) continue;
        const int64_t to = (int64_t)y * level.W + x;
        Pack<V> sum = benches[others].patch[texel][lane];
        for (int other = others + 1; other < others + helpers; other++) {
            const Pack<V> part = benches[other].patch[texel][lane];
#pragma unroll
            for (int v = 0; v < V; v++) sum.at[v] += part.at[v];
        }
        if (channel < points.C) store<float, V>(sums + to * points.C, sum);
        if (X && chunk == 0 && lane < points.E) {
            float extra_sum = 0.0f;
            for (int other = others; other < others + helpers; other++) extra_sum += extra_benches[other].patch[texel][lane];
            level.extras[(corner + to) * points.E + lane] = extra_sum;
        }
    }
}

template <typename T, int V, int L, bool X>
cudaError_t launch_splat(const Points& points, const void* values, const Levels& levels, const uint32_t* order,
                         const uint32_t* starts, cudaStream_t queue) {
    if (points.B == 0) return cudaSuccess;
    const Regions regions(levels, kThreads / L);
    const size_t memory = kThreads / L * (sizeof(Bench<L, V>) + (X ? sizeof(ExtraBench) : 0));
    cudaFuncSetAttribute(splat<T, V, L, X>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)memory);
    const int chunks = max(1, (points.C + L * V - 1) / (L * V));
    const dim3 blocks(regions.across * regions.blocks * chunks, regions.down, (unsigned)points.B);
    splat<T, V, L, X><<<blocks, kThreads, memory, queue>>>(points, (const T*)values, levels, chunks, order, starts);
    return cudaGetLastError();
}

// As few lanes as hold all channels.
template <typename T, bool X>
cudaError_t choose_splat(const Points& points, const void* values, const Levels& levels, const uint32_t* order,
                         const uint32_t* starts, cudaStream_t queue) {
    const auto launch = points.C % 4 != 0 ? (points.C <= 8 ? launch_splat<T, 1, 8, X> : launch_splat<T, 1, 32, X>)
                        : points.C <= 32  ? launch_splat<T, 4, 8, X>
                        : points.C <= 64  ? launch_splat<T, 4, 16, X>
                                          : launch_splat<T, 4, 32, X>;
    return launch(points, values, levels, order, starts, queue);
}

template <typename T>
cudaError_t splat_type(const Points& points, const void* values, const Levels& levels, const uint32_t* order,
                       const uint32_t* starts, cudaStream_t queue) {
    return points.E > 0 ? choose_splat<T, true>(points, values, levels, order, starts, queue)
                        : choose_splat<T, false>(points, values, levels, order, starts, queue);
}

}  // namespace

OMEGA_EXPORT int64_t omega_cuda_uv_splat_workspace(int64_t B, int64_t P, int64_t height, int64_t width, int levels) {
    return omega::sort_workspace(B, P, (int)height, (int)width, levels);
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
    const cudaError_t sorted = omega::sort_points(B, P, uv, weight, (int)height, (int)width, levels, (char*)workspace,
                                                  queue, &order, &starts);
    if (sorted != cudaSuccess) return (int)sorted;
    const Points points{B, P, (int)C, (int)E, (const float2*)uv, weight, extra};
    const Levels all = describe((int)height, (int)width, levels, sums, extras);
    const auto run = type == 0 ? splat_type<float> : type == 1 ? splat_type<__half> : splat_type<__nv_bfloat16>;
    return (int)run(points, values, all, order, starts, queue);
}
