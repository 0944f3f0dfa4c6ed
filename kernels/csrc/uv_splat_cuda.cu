// UV splatting on CUDA, second half: the sums, and their gradient. Meaning: kernels/reference.py uv_splat.
//
// Forward: a group of 8, 16 or 32 lanes owns a patch of 4 x 4 texels of one level and a run of channels, four
// to a lane. It runs through the points of the 5 x 5 cells around the patch, sorted as they are, so that the
// corner sums of a cell stay in registers until another cell begins; then they go to the patch, in shared
// memory, which is written out once. A patch of a coarse level has many points: several groups of the block
// share them out and add up their patches at the end, always in one order. Blocks run region by region, all
// levels of a region one after the other, so that the coarser ones find the values in the L2 cache.
// Backward: a group gathers one point's gradient from four texels of every level.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "uv_splat.cuh"

namespace {

using omega::Atoms;
using omega::kWholeWarp;

constexpr uint32_t kNobody = ~0u;
constexpr int kThreads = 256;
constexpr int kPatch = 4;          // texels along the side of a group's patch
constexpr int kCells = kPatch + 1; // cells along that side
constexpr int kMaxLevels = 12;
constexpr int kAhead = 4;          // rows of values in flight for each group

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

template <int V>
__device__ void add_scaled(Pack<V>& to, float weight, const Pack<V>& values) {
    if (weight == 0.0f) return;  // so that a NaN stays in the texels it belongs to
#pragma unroll
    for (int k = 0; k < V; k++) to.at[k] += weight * values.at[k];
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

// Which patches of which level a block works on.
struct Regions {
    int side;       // of a region, in patches of level 0
    int across, down;
    int blocks;     // of a region, for one run of channels

    __host__ __device__ Regions(const Levels& levels, int groups) {
        side = max(4, 1 << (levels.count - 1));
        across = (levels.at[0].W + side * kPatch - 1) / (side * kPatch);
        down = (levels.at[0].H + side * kPatch - 1) / (side * kPatch);
        blocks = 0;
        for (int level = 0; level < levels.count; level++) blocks += blocks_of(level, groups);
    }
    __host__ __device__ static int helpers(int level, int groups) {  // groups that share one patch
        return level > 2 ? groups : min(groups, 1 << (2 * level));
    }
    __host__ __device__ int blocks_of(int level, int groups) const {
        const int patches = (side >> level) * (side >> level);
        return (patches * helpers(level, groups) + groups - 1) / groups;
    }
};

constexpr int kNowhere = kPatch * kPatch;  // the slot for corners that belong to another patch

// A point as its cell's four corners see it. The two columns of a cell alternate between two register sets,
// even columns in set 0; share[2 set + row], slot likewise (a byte each).
struct __align__(16) Entry {
    float share[4];
    uint32_t point, slots;
};

// Shared memory of one group.
template <int L, int V>
struct Bench {
    Pack<V> patch[kPatch * kPatch + 1][L];
    Entry entries[L];
    uint32_t ends[L];   // of each of L runs of points, in the list of them all
    uint32_t shift[L];  // from a place in that list to a place in `order`
};

// Where the corners of cell (x, y) of a patch go: cell (x, y) reaches columns x - 1, x and rows y - 1, y.
__device__ uint32_t slots_of(int x, int y) {
    uint32_t slots = 0;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        const int set = c / 2, row = y - 1 + c % 2, column = ((x - 1) & 1) == set ? x - 1 : x;
        const bool inside = row >= 0 && row < kPatch && column >= 0 && column < kPatch;
        slots |= (uint32_t)(inside ? row * kPatch + column : kNowhere) << (8 * c);
    }
    return slots;
}

template <typename T, int V, int L>
class Splatter {
  public:
    __device__ Splatter(const Points& points, const T* values, Bench<L, V>& bench, float* extra_patch, int channel,
                        bool with_extra)
        : points(points), values(values), bench(bench), extra_patch(extra_patch), lane(threadIdx.x % L),
          channel(channel), has_channel(channel < points.C), with_extra(with_extra) {
        for (int texel = 0; texel <= kPatch * kPatch; texel++) {
            bench.patch[texel][lane] = {};
            if (with_extra) extra_patch[texel * L + lane] = 0.0f;
        }
    }

    // Add `count` staged entries, the same number in every lane of the warp.
    __device__ void add(int count) {
        for (int first = 0; first < count; first += kAhead) {
            Pack<V> ahead[kAhead];
            float extra_ahead[kAhead];
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                const uint32_t point = bench.entries[first + k].point;
                const bool there = point != kNobody;
                extra_ahead[k] = 0.0f;
                if (there && has_channel) ahead[k] = load<T, V>(values + (int64_t)point * points.C + channel);
                if (there && with_extra) extra_ahead[k] = points.extra[(int64_t)point * points.E + lane];
            }
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                const Entry entry = bench.entries[first + k];
                if (entry.slots != slots) move_to(entry.slots);
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    add_scaled<V>(corner[c], entry.share[c], ahead[k]);
                    if (with_extra && entry.share[c] != 0.0f) extra_corner[c] += entry.share[c] * extra_ahead[k];
                }
            }
        }
    }

    // What is still in registers goes to the patch.
    __device__ void finish() { move_to(kNowhere * 0x01010101u); }

  private:
    const Points& points;
    const T* values;
    Bench<L, V>& bench;
    float* extra_patch;
    const int lane, channel;
    const bool has_channel, with_extra;
    uint32_t slots = kNowhere * 0x01010101u;
    Pack<V> corner[4] = {};
    float extra_corner[4] = {};

    __device__ void move_to(uint32_t next) {
        const uint32_t changed = slots ^ next;
        if (changed & 0x0000ffffu) flush(0), flush(1);
        if (changed & 0xffff0000u) flush(2), flush(3);
        slots = next;
    }

    __device__ void flush(int c) {
        const int slot = slots >> (8 * c) & 0xff;
        Pack<V>& to = bench.patch[slot][lane];
        Pack<V> sum = to;
#pragma unroll
        for (int k = 0; k < V; k++) sum.at[k] += corner[c].at[k];
        to = sum;
        corner[c] = {};
        if (with_extra) extra_patch[slot * L + lane] += extra_corner[c];
        extra_corner[c] = 0.0f;
    }
};

template <typename T, int V, int L>
__global__ void __launch_bounds__(kThreads, 3) splat(Points points, const T* values, Levels levels,
                                                     const uint32_t* order, const uint32_t* starts) {
    extern __shared__ float4 memory[];
    constexpr int kGroups = kThreads / L, kSlots = kPatch * kPatch + 1;
    const int lane = threadIdx.x % L, group = threadIdx.x / L;
    auto* benches = reinterpret_cast<Bench<L, V>*>(memory);
    auto* extra_patches = reinterpret_cast<float*>(benches + kGroups);

    // Which level, patch and share of its points are mine.
    const int chunks = max(1, (points.C + L * V - 1) / (L * V));
    const int chunk = (int)blockIdx.x % chunks;
    const Regions regions(levels, kGroups);
    const int region = blockIdx.x / chunks / regions.blocks, view = region / (regions.across * regions.down);
    int block = blockIdx.x / chunks % regions.blocks, depth = levels.count - 1;
    for (; block >= regions.blocks_of(depth, kGroups); depth--) block -= regions.blocks_of(depth, kGroups);
    const Level& level = levels.at[depth];
    const int helpers = Regions::helpers(depth, kGroups), helper = group % helpers;
    const int number = (block * kGroups + group) / helpers, side = regions.side >> depth;
    const int top = (region / regions.across % regions.down * side + number / side) * kPatch;
    const int start = (region % regions.across * side + number % side) * kPatch;
    const bool exists = number < side * side && top < level.H && start < level.W;
    const Atoms atoms(levels.at[0].H, levels.at[0].W, levels.count);

    const int channel = (chunk * L + lane) * V;
    const bool with_extra = chunk == 0 && lane < points.E;
    Bench<L, V>& bench = benches[group];
    Splatter<T, V, L> splatter(points, values, bench, extra_patches + group * kSlots * L, channel, with_extra);

    // The atoms of the patch's cells: rows of them, in each of which the points are contiguous.
    const int all_rows = exists ? min(kCells, level.H - top + 1) * atoms.per_cell(depth) : 0;
    const int across = min(kCells, level.W - start + 1) * atoms.per_cell(depth);
    const int last_row = all_rows * (helper + 1) / helpers;
    const uint32_t* first = starts + view * atoms.count() + (int64_t)atoms.first(top - 1, depth) * atoms.width +
                            atoms.first(start - 1, depth);
    const int rows = last_row - all_rows * helper / helpers, most_rows = __reduce_max_sync(kWholeWarp, rows);
    for (int begin = 0; begin < most_rows; begin += L) {
        uint32_t from = 0, length = 0;
        if (begin + lane < rows) {
            const uint32_t* at = first + (int64_t)(last_row - rows + begin + lane) * atoms.width;
            from = at[0];
            length = at[across] - from;
        }
        uint32_t ends = length;
#pragma unroll
        for (int reach = 1; reach < L; reach *= 2) {
            const uint32_t before = __shfl_up_sync(kWholeWarp, ends, reach, L);
            if (lane >= reach) ends += before;
        }
        const uint32_t total = __shfl_sync(kWholeWarp, ends, L - 1, L);
        __syncwarp();
        bench.ends[lane] = ends;
        bench.shift[lane] = from - (ends - length);
        __syncwarp();
        const uint32_t most = __reduce_max_sync(kWholeWarp, total);
        for (uint32_t base = 0; base < most; base += L) {
            const uint32_t place = base + lane;
            Entry entry{{0.0f, 0.0f, 0.0f, 0.0f}, kNobody, kNowhere * 0x01010101u};
            if (place < total) {
                int run = 0;  // the first one that ends beyond this place
#pragma unroll
                for (int reach = L / 2; reach > 0; reach /= 2)
                    if (bench.ends[run + reach - 1] <= place) run += reach;
                entry.point = order[place + bench.shift[run]];
                const float2 at = points.uv[entry.point];
                const float weight = points.weight ? points.weight[entry.point] : 1.0f;
                const float x = __fmul_rn(at.x, (float)level.W) - 0.5f - (float)(start - 1);
                const float y = __fmul_rn(at.y, (float)level.H) - 0.5f - (float)(top - 1);
                const int cell_x = min(max((int)floorf(x), 0), kCells - 1);
                const int cell_y = min(max((int)floorf(y), 0), kCells - 1);
                const float fx = fminf(fmaxf(x - (float)cell_x, 0.0f), 1.0f);
                const float fy = fminf(fmaxf(y - (float)cell_y, 0.0f), 1.0f);
                const bool swapped = cell_x % 2 == 0;  // the left column, x - 1, is odd: set 1
                const float even = swapped ? fx : 1.0f - fx, odd = swapped ? 1.0f - fx : fx;
                entry.share[0] = weight * (even * (1.0f - fy));
                entry.share[1] = weight * (even * fy);
                entry.share[2] = weight * (odd * (1.0f - fy));
                entry.share[3] = weight * (odd * fy);
                entry.slots = slots_of(cell_x, cell_y);
            }
            __syncwarp();
            bench.entries[lane] = entry;
            __syncwarp();
            splatter.add((int)min(most - base, (uint32_t)L));
        }
    }
    splatter.finish();
    if (helpers > 1) __syncthreads();
    for (int texel = helper; exists && texel < kPatch * kPatch; texel += helpers) {
        const int y = top + texel / kPatch, x = start + texel % kPatch;
        if (y >= level.H || x >= level.W) continue;
        const int64_t to = (view * (int64_t)level.H + y) * level.W + x;
        Pack<V> sum = {};
        float extra_sum = 0.0f;
        for (int other = group - helper; other < group - helper + helpers; other++) {
            const Pack<V> part = benches[other].patch[texel][lane];
#pragma unroll
            for (int k = 0; k < V; k++) sum.at[k] += part.at[k];
            if (with_extra) extra_sum += extra_patches[(other * kSlots + texel) * L + lane];
        }
        if (channel < points.C) store<float, V>(level.sums + to * points.C + channel, sum);
        if (with_extra) level.extras[to * points.E + lane] = extra_sum;
    }
}

struct Gradients {
    void* values;  // [B, P, C] in the features' type
    float2* uv;    // these three may be null
    float* weight;
    float* extra;
};

template <typename T, int V, int L>
__global__ void __launch_bounds__(kThreads) gather(Points points, const T* values, Levels levels, Gradients out) {
    const int lane = threadIdx.x % L;
    const int64_t point = ((int64_t)blockIdx.x * kThreads + threadIdx.x) / L;
    const bool exists = point < points.B * points.P;
    const int64_t view = exists ? point / points.P : 0;
    const float2 at = exists ? points.uv[point] : make_float2(0.0f, 0.0f);
    const float weight = exists && points.weight ? points.weight[point] : 1.0f;
    const bool places = exists && isfinite(at.x) && isfinite(at.y);
    const bool moves = out.uv || out.weight;  // these need the values as well
    float by_x = 0, by_y = 0, by_weight = 0, extra_sum = 0;
    for (int begin = 0; begin == 0 || begin < points.C; begin += L * V) {
        const int channel = begin + lane * V;
        const bool active = exists && channel < points.C, has_extra = begin == 0 && lane < points.E;
        Pack<V> own = {}, sum = {};
        if (active && moves) own = load<T, V>(values + point * points.C + channel);
        const float own_extra = exists && has_extra && moves ? points.extra[point * points.E + lane] : 0.0f;
        for (int slot = 0; places && slot < levels.count; slot++) {
            const Level& level = levels.at[slot];
            const float x = __fmul_rn(at.x, (float)level.W) - 0.5f, y = __fmul_rn(at.y, (float)level.H) - 0.5f;
            const float x_floor = floorf(x), y_floor = floorf(y), fx = x - x_floor, fy = y - y_floor;
            if (!(x_floor >= -1.0f && x_floor < (float)level.W && y_floor >= -1.0f && y_floor < (float)level.H)) continue;
            const int column = (int)x_floor, row = (int)y_floor;
            Pack<V> grad[4] = {};
            float extra_grad[4] = {};
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int tx = column + (c & 1), ty = row + (c >> 1);
                if (tx < 0 || tx >= level.W || ty < 0 || ty >= level.H) continue;
                const int64_t texel = (view * level.H + ty) * level.W + tx;
                if (active) grad[c] = load<float, V>(level.grad + texel * points.C + channel);
                if (has_extra) extra_grad[c] = level.extra_grad[texel * points.E + lane];
            }
            float slope_x = 0, slope_y = 0;
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const bool right = c & 1, below = c >> 1;
                const float wx = right ? fx : 1.0f - fx, wy = below ? fy : 1.0f - fy, share = wx * wy;
                float dot = own_extra * extra_grad[c];
#pragma unroll
                for (int k = 0; k < V; k++) {
                    sum.at[k] += weight * share * grad[c].at[k];
                    dot += own.at[k] * grad[c].at[k];
                }
                extra_sum += weight * share * extra_grad[c];
                by_weight += share * dot;
                slope_x += right ? wy * dot : -wy * dot;
                slope_y += below ? wx * dot : -wx * dot;
            }
            by_x += weight * (float)level.W * slope_x;
            by_y += weight * (float)level.H * slope_y;
        }
        if (active && out.values) store<T, V>((T*)out.values + point * points.C + channel, sum);
    }
    if (exists && out.extra && lane < points.E) out.extra[point * points.E + lane] = extra_sum;
    if (!moves) return;
#pragma unroll
    for (int reach = L / 2; reach > 0; reach /= 2) {
        by_x += __shfl_down_sync(kWholeWarp, by_x, reach, L);
        by_y += __shfl_down_sync(kWholeWarp, by_y, reach, L);
        by_weight += __shfl_down_sync(kWholeWarp, by_weight, reach, L);
    }
    if (exists && lane == 0) {
        if (out.uv) out.uv[point] = make_float2(by_x, by_y);
        if (out.weight) out.weight[point] = by_weight;
    }
}

Levels describe(int H, int W, int count, float* const* sums, float* const* extras) {
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

template <typename T, int V, int L>
cudaError_t launch_splat(const Points& points, const void* values, const Levels& levels, const uint32_t* order,
                         const uint32_t* starts, cudaStream_t queue) {
    if (points.B == 0) return cudaSuccess;
    const Regions regions(levels, kThreads / L);
    const size_t extra = points.E > 0 ? (kPatch * kPatch + 1) * L * sizeof(float) : 0;
    const size_t memory = kThreads / L * (sizeof(Bench<L, V>) + extra);
    cudaFuncSetAttribute(splat<T, V, L>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)memory);
    const int64_t chunks = max(1, (points.C + L * V - 1) / (L * V));
    const int64_t blocks = points.B * regions.across * regions.down * regions.blocks * chunks;
    splat<T, V, L><<<(unsigned)blocks, kThreads, memory, queue>>>(points, (const T*)values, levels, order, starts);
    return cudaGetLastError();
}

template <typename T, int V, int L>
cudaError_t launch_gather(const Points& points, const void* values, const Levels& levels, const Gradients& out,
                          cudaStream_t queue) {
    if (points.B * points.P == 0) return cudaSuccess;
    gather<T, V, L><<<omega::blocks_for(points.B * points.P * L, kThreads), kThreads, 0, queue>>>(
        points, (const T*)values, levels, out);
    return cudaGetLastError();
}

// Runs LAUNCH<T, V, L> for the feature type (0 float, 1 half, 2 bfloat16), the widest vector that C allows
// and as many lanes as have a channel to hold.
#define OMEGA_FOR_LANES(T, V, LAUNCH, ...)                \
    (points.C <= 8 * V    ? LAUNCH<T, V, 8>(__VA_ARGS__)  \
     : points.C <= 16 * V ? LAUNCH<T, V, 16>(__VA_ARGS__) \
                          : LAUNCH<T, V, 32>(__VA_ARGS__))
#define OMEGA_FOR_TYPE(T, LAUNCH, ...)                               \
    (points.C % 4 == 0   ? OMEGA_FOR_LANES(T, 4, LAUNCH, __VA_ARGS__) \
     : points.C % 2 == 0 ? OMEGA_FOR_LANES(T, 2, LAUNCH, __VA_ARGS__) \
                         : OMEGA_FOR_LANES(T, 1, LAUNCH, __VA_ARGS__))
#define OMEGA_DISPATCH(LAUNCH, ...)                            \
    (type == 0   ? OMEGA_FOR_TYPE(float, LAUNCH, __VA_ARGS__)  \
     : type == 1 ? OMEGA_FOR_TYPE(__half, LAUNCH, __VA_ARGS__) \
                 : OMEGA_FOR_TYPE(__nv_bfloat16, LAUNCH, __VA_ARGS__))

}  // namespace

OMEGA_EXPORT int64_t omega_cuda_uv_splat_workspace(int64_t B, int64_t P, int64_t height, int64_t width, int levels) {
    return omega::sort_workspace(B, P, (int)height, (int)width, levels);
}

// values [B, P, C] of `type`, uv [B, P, 2], weight [B, P] or null, extra [B, P, E <= 8] or null -> for each
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
    return (int)OMEGA_DISPATCH(launch_splat, points, values, all, order, starts, queue);
}

// Gradients of the same: grads[l] [B, H >> l, W >> l, C] and extra_grads[l] -> grad_values [B, P, C] of
// `type`, grad_uv [B, P, 2], grad_weight [B, P], grad_extra [B, P, E]; null where it is not wanted.
OMEGA_EXPORT int omega_cuda_uv_splat_backward(int type, int64_t B, int64_t P, int64_t C, int64_t E, const void* values,
                                              const float* uv, const float* weight, const float* extra,
                                              int64_t height, int64_t width, int levels, float* const* grads,
                                              float* const* extra_grads, void* grad_values, float* grad_uv,
                                              float* grad_weight, float* grad_extra, void* stream) {
    const Points points{B, P, (int)C, (int)E, (const float2*)uv, weight, extra};
    const Levels all = describe((int)height, (int)width, levels, grads, extra_grads);
    const Gradients out{grad_values, (float2*)grad_uv, grad_weight, grad_extra};
    return (int)OMEGA_DISPATCH(launch_gather, points, values, all, out, (cudaStream_t)stream);
}
