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

constexpr int kThreads = 256;
constexpr int kPatch = 4;                 // texels along the side of a group's patch
constexpr int kCells = kPatch + 1;        // cells along that side
constexpr int kNowhere = kPatch * kPatch; // the slot for corners that belong to another patch
constexpr int kRuns = 128;                // at least four for each cell, a power of two
constexpr int kMaxLevels = 12;
constexpr int kAhead = 4;                 // rows of values in flight for each group

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

// A region is a square of patches of level 0 with the patches of all levels over it. Blocks along x: the
// regions of a row, in each the blocks of its levels (coarsest first), in each the runs of channels.
struct Regions {
    int side_bits;  // of a region, in patches of level 0: 2^side_bits
    int across, down;
    int blocks;     // of a region, for one run of channels

    __host__ __device__ Regions(const Levels& levels, int groups) {
        side_bits = max(2, levels.count - 1);
        const int texels = kPatch << side_bits;
        across = (levels.at[0].W + texels - 1) / texels;
        down = (levels.at[0].H + texels - 1) / texels;
        blocks = 0;
        for (int level = 0; level < levels.count; level++) blocks += blocks_of(level, groups);
    }
    // Groups that share one patch of a level, as a power of two.
    __host__ __device__ static int helper_bits(int level, int groups) {
        const int most = groups >= 32 ? 5 : groups >= 16 ? 4 : 3;
        return min(most, 2 * level);
    }
    __host__ __device__ int blocks_of(int level, int groups) const {
        const int wanted = 1 << (2 * (side_bits - level) + helper_bits(level, groups));
        return (wanted + groups - 1) / groups;
    }
};

// A point as its cell's four corners see it. The two columns of a cell alternate between two register sets,
// even columns in set 0; share[2 set + row], slots likewise (a byte each). Points that are not there have no
// share, and the first row of values to read.
struct __align__(8) Entry {
    uint32_t row, slots;  // values[row ..] and, times E / C, extra: the point's number
};

// Shared memory of one group.
template <int L, int V>
struct Bench {
    Pack<V> patch[kPatch * kPatch + 1][L];
    float4 shares[L];
    Entry entries[L];
    uint32_t ends[kRuns];   // of each run of points, in the list of them all
    uint32_t shift[kRuns];  // from a place in that list to a place in `order`
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

// The sums of one group: in registers those of the cell at hand, in shared memory those of the patch. X: there
// are extra columns, one to a lane.
template <typename T, int V, int L, bool X>
class Splatter {
  public:
    __device__ Splatter(const T* values, const float* extra, int C, int E, Bench<L, V>& bench, float* extra_patch)
        : values(values), extra(extra), C(C), E(E), bench(bench), extra_patch(extra_patch), lane(threadIdx.x % L) {
#pragma unroll
        for (int texel = 0; texel <= kPatch * kPatch; texel++) {
            bench.patch[texel][lane] = {};
            if (X) extra_patch[texel * L + lane] = 0.0f;
        }
    }

    // Add `count` staged entries, the same number in every lane of the warp.
    __device__ void add(int count) {
        for (int first = 0; first < count; first += kAhead) {
            Pack<V> ahead[kAhead];
            float extra_ahead[kAhead];
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                const uint32_t point = bench.entries[first + k].row;
                ahead[k] = load<T, V>(values + (uint64_t)point * (uint32_t)C);
                if (X) extra_ahead[k] = lane < E ? extra[(uint64_t)point * (uint32_t)E] : 0.0f;
            }
#pragma unroll
            for (int k = 0; k < kAhead; k++) {
                const uint32_t next = bench.entries[first + k].slots;
                if (next != slots) move_to(next);
                const float4 shares = bench.shares[first + k];
                const float share[4] = {shares.x, shares.y, shares.z, shares.w};
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    if (share[c] == 0.0f) continue;  // so that a NaN stays in the texels it belongs to
#pragma unroll
                    for (int v = 0; v < V; v++) corner[c].at[v] += share[c] * ahead[k].at[v];
                    if (X) extra_corner[c] += share[c] * extra_ahead[k];
                }
            }
        }
    }

    // What is still in registers goes to the patch.
    __device__ void finish() { move_to(kNowhere * 0x01010101u); }

  private:
    const T* values;     // of this lane's channels
    const float* extra;  // of this lane's column
    const int C, E;
    Bench<L, V>& bench;
    float* extra_patch;
    const int lane;
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
        Pack<V> sum = bench.patch[slot][lane];
#pragma unroll
        for (int v = 0; v < V; v++) sum.at[v] += corner[c].at[v];
        bench.patch[slot][lane] = sum;
        corner[c] = {};
        if (X) extra_patch[slot * L + lane] += extra_corner[c];
        extra_corner[c] = 0.0f;
    }
};

// Stage a point for a patch whose first cell is (column, row).
__device__ void stage(const Points& points, const Level& level, int column, int row, uint32_t point, float4& shares,
                      Entry& entry) {
    const float2 at = points.uv[point];
    const float weight = points.weight ? points.weight[point] : 1.0f;
    const float x = __fmul_rn(at.x, (float)level.W) - 0.5f - (float)column;
    const float y = __fmul_rn(at.y, (float)level.H) - 0.5f - (float)row;
    const int cell_x = min(max((int)floorf(x), 0), kCells - 1), cell_y = min(max((int)floorf(y), 0), kCells - 1);
    const float fx = fminf(fmaxf(x - (float)cell_x, 0.0f), 1.0f), fy = fminf(fmaxf(y - (float)cell_y, 0.0f), 1.0f);
    const bool swapped = cell_x % 2 == 0;  // the left column, x - 1, is odd: set 1
    const float even = swapped ? fx : 1.0f - fx, odd = swapped ? 1.0f - fx : fx;
    shares.x = weight * (even * (1.0f - fy));
    shares.y = weight * (even * fy);
    shares.z = weight * (odd * (1.0f - fy));
    shares.w = weight * (odd * fy);
    entry = {point, slots_of(cell_x, cell_y)};
}

// Lists the points of the cells from (column, row) on as runs in sorted order, all lanes of the group together,
// of cells (of one level alone: rows of cells) first .. last only. Fills ends and shift, see Bench, to `most`
// (a power of two) and returns how many points there are.
template <int L>
__device__ uint32_t list_runs(const Atoms& atoms, const uint32_t* starts, int column, int row, int depth,
                              const Level& level, int first, int last, int most, uint32_t* ends, uint32_t* shift) {
    const int lane = threadIdx.x % L;
    // cells beyond the last one of the level belong to no texel, and may lie beyond the last atom
    const int down = min(kCells, level.H - row), across = min(kCells, level.W - column);
    uint32_t before = 0;  // points of the cells so far
    for (int begin = 0; 4 * begin < most; begin += L) {
        const int cell = first + begin + lane;
        uint32_t from[4] = {}, length[4] = {};
        if (atoms.levels == 1) {
            if (cell < last && cell < down) {
                const uint32_t* at = starts + (int64_t)(row + cell + 1) * atoms.width + column + 1;
                from[0] = at[0];
                length[0] = at[across] - from[0];
            }
        } else if (cell < last && cell / kCells < down && cell % kCells < across) {
            int64_t block[4];
            atoms.blocks(column + cell % kCells, row + cell / kCells, depth, block);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                from[k] = starts[block[k]];
                length[k] = starts[block[k] + (1ll << (2 * depth))] - from[k];
            }
        }
        const uint32_t own = length[0] + length[1] + length[2] + length[3];
        uint32_t end = own;
#pragma unroll
        for (int reach = 1; reach < L; reach *= 2) {
            const uint32_t left = __shfl_up_sync(kWholeWarp, end, reach, L);
            if (lane >= reach) end += left;
        }
        uint32_t at = before + end - own;
        if (4 * (begin + lane) < most) {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                shift[4 * (begin + lane) + k] = from[k] - at;
                ends[4 * (begin + lane) + k] = at += length[k];
            }
        }
        before += __shfl_sync(kWholeWarp, end, L - 1, L);
    }
    __syncwarp();
    return before;
}

template <typename T, int V, int L, bool X>
__global__ void __launch_bounds__(kThreads, 2) splat(Points points, const T* values, Levels levels, int chunks,
                                                     const uint32_t* order, const uint32_t* starts) {
    extern __shared__ float4 memory[];
    constexpr int kGroups = kThreads / L, kSlots = kPatch * kPatch + 1;
    const int lane = threadIdx.x % L, group = threadIdx.x / L;
    auto* benches = reinterpret_cast<Bench<L, V>*>(memory);
    auto* extra_patches = reinterpret_cast<float*>(benches + kGroups);

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
    const bool with_extra = X && chunk == 0 && lane < points.E;
    Bench<L, V>& bench = benches[group];
    float* extra_patch = extra_patches + group * kSlots * L;
    Splatter<T, V, L, X> splatter(values + read, X ? points.extra + lane : nullptr, points.C,
                                  with_extra ? points.E : 0, bench, extra_patch);

    const int cells = exists ? (levels.count == 1 ? kCells : kCells * kCells) : 0;
    const int first = cells * helper >> helper_bits, last = cells * (helper + 1) >> helper_bits;
    int most_runs = 32;  // a power of two, four for each cell that a group of this block may have
    while (most_runs < 4 * ((kCells * kCells >> helper_bits) + 1) && levels.count > 1) most_runs *= 2;
    const uint32_t total = list_runs<L>(atoms, starts + view * atoms.count(), start - 1, top - 1, depth, level, first,
                                        last, most_runs, bench.ends, bench.shift);
    const uint32_t most = __reduce_max_sync(kWholeWarp, total);
    for (uint32_t base = 0; base < most; base += L) {
        const uint32_t place = base + lane;
        float4 shares = {};
        Entry entry{0, kNowhere * 0x01010101u};
        if (place < total) {
            int run = 0;  // the first one that ends beyond this place
            for (int reach = most_runs / 2; reach > 0; reach /= 2)
                if (bench.ends[run + reach - 1] <= place) run += reach;
            stage(points, level, start - 1, top - 1, order[place + bench.shift[run]], shares, entry);
        }
        __syncwarp();
        bench.shares[lane] = shares;
        bench.entries[lane] = entry;
        __syncwarp();
        splatter.add((int)min(most - base, (uint32_t)L));
    }
    splatter.finish();
    if (helpers > 1) __syncthreads();
    if (!exists) return;
    const int64_t corner = (view * (int64_t)level.H + top) * level.W + start;
    float* const sums = level.sums + corner * points.C + channel;
    float* const extras = X ? level.extras + corner * points.E + lane : nullptr;
#pragma unroll 4
    for (int texel = helper; texel < kPatch * kPatch; texel += helpers) {
        const int y = texel / kPatch, x = texel % kPatch;
        if (top + y >= level.H || start + x >= level.W) continue;
        Pack<V> sum = bench.patch[texel][lane];
        float extra_sum = X ? extra_patch[texel * L + lane] : 0.0f;
        if (helpers > 1) {
            sum = {}, extra_sum = 0.0f;
            for (int other = group - helper; other < group - helper + helpers; other++) {
                const Pack<V> part = benches[other].patch[texel][lane];
#pragma unroll
                for (int v = 0; v < V; v++) sum.at[v] += part.at[v];
                if (X) extra_sum += extra_patches[(other * kSlots + texel) * L + lane];
            }
        }
        const int64_t to = (int64_t)y * level.W + x;
        if (channel < points.C) store<float, V>(sums + to * points.C, sum);
        if (with_extra) extras[to * points.E] = extra_sum;
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

template <typename T, int V, int L, bool X>
cudaError_t launch_splat(const Points& points, const void* values, const Levels& levels, const uint32_t* order,
                         const uint32_t* starts, cudaStream_t queue) {
    if (points.B == 0) return cudaSuccess;
    const Regions regions(levels, kThreads / L);
    const size_t memory = kThreads / L * (sizeof(Bench<L, V>) + (X ? (kPatch * kPatch + 1) * L * sizeof(float) : 0));
    cudaFuncSetAttribute(splat<T, V, L, X>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)memory);
    const int chunks = max(1, (points.C + L * V - 1) / (L * V));
    const dim3 blocks(regions.across * regions.blocks * chunks, regions.down, (unsigned)points.B);
    splat<T, V, L, X><<<blocks, kThreads, memory, queue>>>(points, (const T*)values, levels, chunks, order, starts);
    return cudaGetLastError();
}

template <typename T, int V, int L>
cudaError_t choose_splat(const Points& points, const void* values, const Levels& levels, const uint32_t* order,
                         const uint32_t* starts, cudaStream_t queue) {
    return points.E > 0 ? launch_splat<T, V, L, true>(points, values, levels, order, starts, queue)
                        : launch_splat<T, V, L, false>(points, values, levels, order, starts, queue);
}

template <typename T, int V, int L>
cudaError_t launch_gather(const Points& points, const void* values, const Levels& levels, const Gradients& out,
                          cudaStream_t queue) {
    if (points.B * points.P == 0) return cudaSuccess;
    gather<T, V, L><<<omega::blocks_for(points.B * points.P * L, kThreads), kThreads, 0, queue>>>(
        points, (const T*)values, levels, out);
    return cudaGetLastError();
}

// Runs LAUNCH<T, V, L> for the feature type (0 float, 1 half, 2 bfloat16), four channels to a lane where C
// allows it, and as many lanes as have a channel to hold.
#define OMEGA_FOR_TYPE(T, LAUNCH, ...)                    \
    (points.C % 4 != 0    ? (points.C <= 8 ? LAUNCH<T, 1, 8>(__VA_ARGS__) : LAUNCH<T, 1, 32>(__VA_ARGS__)) \
     : points.C <= 8 * 4  ? LAUNCH<T, 4, 8>(__VA_ARGS__)  \
     : points.C <= 16 * 4 ? LAUNCH<T, 4, 16>(__VA_ARGS__) \
                          : LAUNCH<T, 4, 32>(__VA_ARGS__))
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
    return (int)OMEGA_DISPATCH(choose_splat, points, values, all, order, starts, queue);
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
