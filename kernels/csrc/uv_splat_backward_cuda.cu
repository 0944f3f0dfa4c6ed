// The gradient of UV splatting on CUDA: a group of lanes gathers one point's from four texels.
//
// A texel of the finest level is a part of one texel of every coarser level: its gradient is the sum of theirs.

#include "uv_splat.cuh"

namespace {

using namespace omega;

constexpr int kThreads = kSplatThreads;

struct Gradients {
    void* values;  // [B, P, C] in the features' type
    float2* uv;    // these three may be null
    float* weight;
    float* extra;
};

template <typename T, int V, int L>
__global__ void __launch_bounds__(kThreads) gather(Points points, const T* values, Maps grads, Gradients out) {
    const int lane = threadIdx.x % L;
    const int64_t point = ((int64_t)blockIdx.x * kThreads + threadIdx.x) / L;
    const bool exists = point < points.B * points.P;
    const int64_t view = exists ? point / points.P : 0;
    const float2 at = exists ? points.uv[point] : make_float2(0.0f, 0.0f);
    const float weight = exists && points.weight ? points.weight[point] : 1.0f;
    const float x = __fmul_rn(at.x, (float)grads.W) - 0.5f, y = __fmul_rn(at.y, (float)grads.H) - 0.5f;
    const float x_floor = floorf(x), y_floor = floorf(y), fx = x - x_floor, fy = y - y_floor;
    // NaN and infinity fail these comparisons
    const bool lands = exists && x_floor >= -1.0f && x_floor < (float)grads.W && y_floor >= -1.0f && y_floor < (float)grads.H;
    const int column = lands ? (int)x_floor : 0, row = lands ? (int)y_floor : 0;
    const bool moves = out.uv || out.weight;  // these need the values as well
    float by_x = 0, by_y = 0, by_weight = 0, extra_sum = 0;
    for (int begin = 0; begin == 0 || begin < points.C; begin += L * V) {
        const int channel = begin + lane * V;
        const bool active = exists && channel < points.C, has_extra = begin == 0 && lane < points.E;
        Pack<V> own = {}, sum = {};
        if (active && moves) own = load<T, V>(values + point * points.C + channel);
        float own_extra = exists && has_extra && moves ? points.extra[point * points.E + lane] : 0.0f;
        if (weight == 0.0f) {  // such a point is not there, not even where it is NaN
#pragma unroll
            for (int k = 0; k < V; k++) own.at[k] = isfinite(own.at[k]) ? own.at[k] : 0.0f;
            own_extra = isfinite(own_extra) ? own_extra : 0.0f;
        }
        Pack<V> grad[4] = {};
        float extra_grad[4] = {};
        for (int level = 0; lands && level < grads.levels; level++) {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int tx = column + (c & 1), ty = row + (c >> 1);
                if (tx < 0 || tx >= grads.W || ty < 0 || ty >= grads.H) continue;
                const int64_t texel = grads.texel(view, ty >> level, tx >> level, level);
                if (active) grad[c] += load<float, V>(grads.sums[level] + texel * points.C + channel);
                if (has_extra) extra_grad[c] += grads.extras[level][texel * points.E + lane];
            }
        }
#pragma unroll
        for (int c = 0; lands && c < 4; c++) {
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
            by_x += weight * (right ? wy * dot : -wy * dot);
            by_y += weight * (below ? wx * dot : -wx * dot);
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
        if (out.uv) out.uv[point] = make_float2((float)grads.W * by_x, (float)grads.H * by_y);
        if (out.weight) out.weight[point] = by_weight;
    }
}

template <typename T, int V, int L>
cudaError_t launch_gather(const Points& points, const void* values, const Maps& grads, const Gradients& out,
                          cudaStream_t queue) {
    if (points.B * points.P == 0) return cudaSuccess;
    gather<T, V, L><<<omega::blocks_for(points.B * points.P * L, kThreads), kThreads, 0, queue>>>(
        points, (const T*)values, grads, out);
    return cudaGetLastError();
}

template <typename T>
cudaError_t gather_type(const Points& points, const void* values, const Maps& grads, const Gradients& out,
                        cudaStream_t queue) {
    const auto launch = points.C % 4 != 0 ? (points.C <= 8 ? launch_gather<T, 1, 8> : launch_gather<T, 1, 32>)
                        : points.C <= 32  ? launch_gather<T, 4, 8>
                        : points.C <= 64  ? launch_gather<T, 4, 16>
                                          : launch_gather<T, 4, 32>;
    return launch(points, values, grads, out, queue);
}

}  // namespace

// Gradients of the same: grads[l] [B, H >> l, W >> l, C] and extra_grads[l] -> grad_values [B, P, C] of
// `type`, grad_uv [B, P, 2], grad_weight [B, P], grad_extra [B, P, E]; null where it is not wanted.
OMEGA_EXPORT int omega_cuda_uv_splat_backward(int type, int64_t B, int64_t P, int64_t C, int64_t E, const void* values,
                                              const float* uv, const float* weight, const float* extra,
                                              int64_t height, int64_t width, int levels, float* const* grads,
                                              float* const* extra_grads, void* grad_values, float* grad_uv,
                                              float* grad_weight, float* grad_extra, void* stream) {
    const Points points{B, P, (int)C, (int)E, (const float2*)uv, weight, extra};
    const Maps maps(height, width, levels, grads, E ? extra_grads : nullptr);
    const Gradients out{grad_values, (float2*)grad_uv, grad_weight, grad_extra};
    const auto run = type == 0 ? gather_type<float> : type == 1 ? gather_type<__half> : gather_type<__nv_bfloat16>;
    return (int)run(points, values, maps, out, (cudaStream_t)stream);
}
