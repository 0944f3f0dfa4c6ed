// UV splatting on CUDA, second half: the sums, and their gradient. Meaning: kernels/reference.py uv_splat.
//
// Forward: a block owns 8 x 8 texels of one level and a run of channels. Eight lanes together add up one
// cell: its points are read once, into four sums, one for each corner. The corner sums meet in shared
// memory, where each texel takes one from each of its four cells, and the map is written once. Nothing is
// added atomically. Backward: eight lanes gather one point's gradient from four texels of every level.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "uv_splat.cuh"

namespace {

using omega::Atoms;
using omega::kWholeWarp;

constexpr int kLanes = 8;             // that share a cell (forward) or a point (backward)
constexpr int kThreads = 256;
constexpr int kGroups = kThreads / kLanes;
constexpr int kTile = 8;              // texels along the side of a block's tile
constexpr int kCells = kTile + 1;     // cells along that side
constexpr int kMaxLevels = 12;
constexpr int kAhead = 4;             // rows of values in flight for each group
constexpr uint32_t kNobody = ~0u;

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
    int H, W, tiles_x, tiles;  // tiles: of one view
    int64_t first_block;
    float *sums, *extras;              // forward: outputs
    const float *grad, *extra_grad;    // backward: inputs
};

struct Levels {
    Level at[kMaxLevels];  // coarsest first: their blocks have the most points to read
    int count;
};

struct Points {
    int64_t B, P;
    int C, E;
    const float2* uv;
    const float* weight;  // [B, P] or null
    const float* extra;   // [B, P, E] or null
};

// The points of one cell, as a list run over by eight lanes: its atoms lie in a few rows, contiguous in each.
template <typename T, int V>
__device__ void sum_cell(const Points& points, const T* values, const Level& level, int number, const Atoms& atoms,
                         const uint32_t* order, const uint32_t* starts, int64_t view, int row, int column, bool wanted,
                         int channel, bool with_extra, Pack<V> corner[4], float extra_corner[4]) {
    const int lane = threadIdx.x % kLanes;
    const int rows = atoms.per_cell(number);
    const int x_first = atoms.first(column, number), y_first = atoms.first(row, number);
    const float height = (float)level.H, width = (float)level.W;
    for (int begin = 0; begin < rows; begin += kLanes) {
        uint32_t from = 0, length = 0;
        if (wanted && begin + lane < rows) {
            const uint32_t* at = starts + view * atoms.count() + (int64_t)(y_first + begin + lane) * atoms.width + x_first;
            from = at[0];
            length = at[rows] - from;
        }
        uint32_t ends = length;  // of my row, in the list of all these rows
#pragma unroll
        for (int reach = 1; reach < kLanes; reach *= 2) {
            const uint32_t before = __shfl_up_sync(kWholeWarp, ends, reach, kLanes);
            if (lane >= reach) ends += before;
        }
        const uint32_t total = __shfl_sync(kWholeWarp, ends, kLanes - 1, kLanes);
        const uint32_t shift = from - (ends - length);
        const uint32_t most = __reduce_max_sync(kWholeWarp, total);
        for (uint32_t base = 0; base < most; base += kLanes) {
            const uint32_t mine = base + lane;
            uint32_t where = mine + __shfl_sync(kWholeWarp, shift, 0, kLanes);
#pragma unroll
            for (int k = 1; k < kLanes; k++) {
                const uint32_t passed = __shfl_sync(kWholeWarp, ends, k - 1, kLanes);
                const uint32_t next = __shfl_sync(kWholeWarp, shift, k, kLanes);
                if (mine >= passed) where = mine + next;
            }
            uint32_t point = kNobody;
            float fx = 0, fy = 0, weight = 0;
            if (mine < total) {
                point = order[where];
                const float2 at = points.uv[point];
                fx = fminf(fmaxf(__fmul_rn(at.x, width) - 0.5f - (float)column, 0.0f), 1.0f);
                fy = fminf(fmaxf(__fmul_rn(at.y, height) - 0.5f - (float)row, 0.0f), 1.0f);
                weight = points.weight ? points.weight[point] : 1.0f;
            }
            const int batch = (int)min(most - base, (uint32_t)kLanes);
            for (int q = 0; q < batch; q += kAhead) {
                Pack<V> ahead[kAhead];
                float extra[kAhead];
                uint32_t ids[kAhead];
#pragma unroll
                for (int k = 0; k < kAhead; k++) {
                    ids[k] = __shfl_sync(kWholeWarp, point, q + k, kLanes);
                    extra[k] = 0;
                    if (ids[k] != kNobody && channel < points.C) ahead[k] = load<T, V>(values + (int64_t)ids[k] * points.C + channel);
                    if (ids[k] != kNobody && with_extra) extra[k] = points.extra[(int64_t)ids[k] * points.E + lane];
                }
#pragma unroll
                for (int k = 0; k < kAhead; k++) {
                    const float x1 = __shfl_sync(kWholeWarp, fx, q + k, kLanes), x0 = 1.0f - x1;
                    const float y1 = __shfl_sync(kWholeWarp, fy, q + k, kLanes), y0 = 1.0f - y1;
                    const float w = __shfl_sync(kWholeWarp, weight, q + k, kLanes);
                    if (ids[k] == kNobody) continue;
                    const float share[4] = {w * (x0 * y0), w * (x1 * y0), w * (x0 * y1), w * (x1 * y1)};
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        if (channel < points.C) add_scaled<V>(corner[c], share[c], ahead[k]);
                        if (with_extra && share[c] != 0.0f) extra_corner[c] += share[c] * extra[k];
                    }
                }
            }
        }
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(kThreads, 3) splat(Points points, const T* values, Levels levels, int finest_H,
                                                  int finest_W, const uint32_t* order, const uint32_t* starts) {
    extern __shared__ float4 memory[];
    const int chunks = max(1, (points.C + kLanes * V - 1) / (kLanes * V));
    const int64_t block = blockIdx.x / chunks;
    const int chunk = blockIdx.x % chunks;
    int slot = 0;
    while (slot + 1 < levels.count && block >= levels.at[slot + 1].first_block) slot++;
    const Level& level = levels.at[slot];
    const int number = levels.count - 1 - slot;
    const int64_t tile = block - level.first_block, view = tile / level.tiles;
    const int tile_y = (int)(tile % level.tiles) / level.tiles_x * kTile;
    const int tile_x = (int)(tile % level.tiles) % level.tiles_x * kTile;
    const Atoms atoms(finest_H, finest_W, levels.count);

    const int lane = threadIdx.x % kLanes, group = threadIdx.x / kLanes;
    const int channel = (chunk * kLanes + lane) * V;
    const bool with_extra = chunk == 0 && lane < points.E;
    auto* corners = reinterpret_cast<Pack<V>*>(memory);                       // [cells, 4, lanes]
    auto* extra_corners = reinterpret_cast<float*>(corners + kCells * kCells * 4 * kLanes);  // the same

    for (int cell = group; cell - group < kCells * kCells; cell += kGroups) {
        const int row = tile_y - 1 + cell / kCells, column = tile_x - 1 + cell % kCells;
        const bool wanted = cell < kCells * kCells && row < level.H && column < level.W;
        Pack<V> corner[4] = {};
        float extra_corner[4] = {};
        sum_cell<T, V>(points, values, level, number, atoms, order, starts, view, row, column, wanted, channel,
                       with_extra, corner, extra_corner);
        if (cell >= kCells * kCells) continue;
#pragma unroll
        for (int c = 0; c < 4; c++) {
            corners[(cell * 4 + c) * kLanes + lane] = corner[c];
            if (with_extra) extra_corners[(cell * 4 + c) * kLanes + lane] = extra_corner[c];
        }
    }
    __syncthreads();
    for (int texel = group; texel < kTile * kTile; texel += kGroups) {
        const int row = texel / kTile, column = texel % kTile, y = tile_y + row, x = tile_x + column;
        if (y >= level.H || x >= level.W) continue;
        // this texel is corner 3, 2, 1, 0 of the cells above left, above, left and its own
        const int cell = row * kCells + column;
        const int from[4] = {cell * 4 + 3, (cell + 1) * 4 + 2, (cell + kCells) * 4 + 1, (cell + kCells + 1) * 4};
        const int64_t to = (view * level.H + y) * level.W + x;
        if (channel < points.C) {
            Pack<V> sum = {};
#pragma unroll
            for (int c = 0; c < 4; c++)
#pragma unroll
                for (int k = 0; k < V; k++) sum.at[k] += corners[from[c] * kLanes + lane].at[k];
            store<float, V>(level.sums + to * points.C + channel, sum);
        }
        if (with_extra) {
            float sum = 0;
#pragma unroll
            for (int c = 0; c < 4; c++) sum += extra_corners[from[c] * kLanes + lane];
            level.extras[to * points.E + lane] = sum;
        }
    }
}

struct Gradients {
    void* values;  // [B, P, C] in the features' type
    float2* uv;    // these three may be null
    float* weight;
    float* extra;
};

template <typename T, int V>
__global__ void __launch_bounds__(kThreads) gather(Points points, const T* values, Levels levels, Gradients out) {
    const int lane = threadIdx.x % kLanes;
    const int64_t point = ((int64_t)blockIdx.x * kThreads + threadIdx.x) / kLanes;
    const bool exists = point < points.B * points.P;
    const int64_t view = exists ? point / points.P : 0;
    const float2 at = exists ? points.uv[point] : make_float2(0.0f, 0.0f);
    const float weight = exists && points.weight ? points.weight[point] : 1.0f;
    const bool places = exists && isfinite(at.x) && isfinite(at.y);
    const bool moves = out.uv || out.weight;  // these need the values as well
    float by_x = 0, by_y = 0, by_weight = 0;
    float extra_sum = 0;
    for (int channel = lane * V; channel - lane * V < points.C || channel == lane * V; channel += kLanes * V) {
        const bool active = exists && channel < points.C;
        Pack<V> own = {}, sum = {};
        if (active && moves) own = load<T, V>(values + point * points.C + channel);
        for (int slot = 0; slot < levels.count; slot++) {
            const Level& level = levels.at[slot];
            if (!places) break;
            const float x = __fmul_rn(at.x, (float)level.W) - 0.5f, y = __fmul_rn(at.y, (float)level.H) - 0.5f;
            const float x_floor = floorf(x), y_floor = floorf(y), fx = x - x_floor, fy = y - y_floor;
            if (!(x_floor >= -1.0f && x_floor < (float)level.W && y_floor >= -1.0f && y_floor < (float)level.H)) continue;
            const int column = (int)x_floor, row = (int)y_floor;
            float slope_x = 0, slope_y = 0;
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int right = c & 1, below = c >> 1, tx = column + right, ty = row + below;
                if (tx < 0 || tx >= level.W || ty < 0 || ty >= level.H) continue;
                const int64_t texel = (view * level.H + ty) * level.W + tx;
                const float wx = right ? fx : 1.0f - fx, wy = below ? fy : 1.0f - fy, share = wx * wy;
                float dot = 0;
                if (active) {
                    const Pack<V> grad = load<float, V>(level.grad + texel * points.C + channel);
#pragma unroll
                    for (int k = 0; k < V; k++) {
                        sum.at[k] += weight * share * grad.at[k];
                        dot += own.at[k] * grad.at[k];
                    }
                }
                if (channel == lane * V && lane < points.E) {
                    const float grad = level.extra_grad[texel * points.E + lane];
                    extra_sum += weight * share * grad;
                    if (moves) dot += points.extra[point * points.E + lane] * grad;
                }
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
    for (int reach = kLanes / 2; reach > 0; reach /= 2) {
        by_x += __shfl_down_sync(kWholeWarp, by_x, reach, kLanes);
        by_y += __shfl_down_sync(kWholeWarp, by_y, reach, kLanes);
        by_weight += __shfl_down_sync(kWholeWarp, by_weight, reach, kLanes);
    }
    if (exists && lane == 0) {
        if (out.uv) out.uv[point] = make_float2(by_x, by_y);
        if (out.weight) out.weight[point] = by_weight;
    }
}

Levels describe(int64_t B, int H, int W, int count, float* const* sums, float* const* extras) {
    Levels levels;
    levels.count = count;
    int64_t block = 0;
    for (int slot = 0; slot < count; slot++) {
        const int number = count - 1 - slot;
        Level& level = levels.at[slot];
        level.H = H >> number;
        level.W = W >> number;
        level.tiles_x = (level.W + kTile - 1) / kTile;
        level.tiles = level.tiles_x * ((level.H + kTile - 1) / kTile);
        level.first_block = block;
        block += B * level.tiles;
        level.sums = sums[number];
        level.grad = sums[number];
        level.extras = extras ? extras[number] : nullptr;
        level.extra_grad = level.extras;
    }
    return levels;
}

int64_t all_tiles(int64_t B, const Levels& levels) {
    const Level& last = levels.at[levels.count - 1];
    return last.first_block + B * last.tiles;
}

template <typename T, int V>
cudaError_t launch_splat(const Points& points, const void* values, const Levels& levels, int H, int W,
                         const uint32_t* order, const uint32_t* starts, cudaStream_t queue) {
    if (all_tiles(points.B, levels) == 0) return cudaSuccess;
    constexpr int kSums = kCells * kCells * 4 * kLanes;
    const size_t memory = kSums * (sizeof(Pack<V>) + (points.E > 0 ? sizeof(float) : 0));
    cudaFuncSetAttribute(splat<T, V>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)memory);
    const int64_t chunks = max(1, (points.C + kLanes * V - 1) / (kLanes * V));
    splat<T, V><<<(unsigned)(all_tiles(points.B, levels) * chunks), kThreads, memory, queue>>>(
        points, (const T*)values, levels, H, W, order, starts);
    return cudaGetLastError();
}

template <typename T, int V>
cudaError_t launch_gather(const Points& points, const void* values, const Levels& levels, const Gradients& out,
                          cudaStream_t queue) {
    if (points.B * points.P == 0) return cudaSuccess;
    gather<T, V><<<omega::blocks_for(points.B * points.P * kLanes, kThreads), kThreads, 0, queue>>>(
        points, (const T*)values, levels, out);
    return cudaGetLastError();
}

// Runs `LAUNCH<T, V>` for the feature type (0 float, 1 half, 2 bfloat16) and the widest vector that C allows.
#define OMEGA_FOR_TYPE(T, LAUNCH, ...)                      \
    (points.C % 4 == 0   ? LAUNCH<T, 4>(__VA_ARGS__)        \
     : points.C % 2 == 0 ? LAUNCH<T, 2>(__VA_ARGS__)        \
                         : LAUNCH<T, 1>(__VA_ARGS__))
#define OMEGA_DISPATCH(LAUNCH, ...)                                             \
    (type == 0   ? OMEGA_FOR_TYPE(float, LAUNCH, __VA_ARGS__)                   \
     : type == 1 ? OMEGA_FOR_TYPE(__half, LAUNCH, __VA_ARGS__)                  \
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
    const Levels all = describe(B, (int)height, (int)width, levels, sums, extras);
    return (int)OMEGA_DISPATCH(launch_splat, points, values, all, (int)height, (int)width, order, starts, queue);
}

// Gradients of the same: grads[l] [B, H >> l, W >> l, C] and extra_grads[l] -> grad_values [B, P, C] of
// `type`, grad_uv [B, P, 2], grad_weight [B, P], grad_extra [B, P, E]; null where it is not wanted.
OMEGA_EXPORT int omega_cuda_uv_splat_backward(int type, int64_t B, int64_t P, int64_t C, int64_t E, const void* values,
                                              const float* uv, const float* weight, const float* extra,
                                              int64_t height, int64_t width, int levels, float* const* grads,
                                              float* const* extra_grads, void* grad_values, float* grad_uv,
                                              float* grad_weight, float* grad_extra, void* stream) {
    const Points points{B, P, (int)C, (int)E, (const float2*)uv, weight, extra};
    const Levels all = describe(B, (int)height, (int)width, levels, grads, extra_grads);
    const Gradients out{grad_values, (float2*)grad_uv, grad_weight, grad_extra};
    return (int)OMEGA_DISPATCH(launch_gather, points, values, all, out, (cudaStream_t)stream);
}
