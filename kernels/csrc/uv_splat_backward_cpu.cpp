// Gradients of the splat, gathered: each point reads its texels of every level. Meaning: kernels/reference.py.

#include <algorithm>
#include <vector>

#include "huge.h"
#include "uv_splat.h"

namespace {

using omega::Place;
using omega::Points;

// The gradients of one view's maps.
struct Maps {
    int levels, H, W;
    const float* sums[omega::kMostLevels];
    const float* extras[omega::kMostLevels];
};

// Null where not wanted.
struct Gradients {
    float *values, *uv, *weight, *extra;
};

// How the loss changes with a point's place (in texels) and with its weight.
struct Moves {
    float x, y, weight;
};

// The four texels around a point; `nothing` stands for those outside the map.
struct Corners {
    const float* at[4];

    Corners(const float* map, const Place& place, int H, int W, int C, const float* nothing) {
        for (int k = 0; k < 4; k++) {
            const int row = place.row + (k >> 1), column = place.column + (k & 1);
            const bool inside = row >= 0 && row < H && column >= 0 && column < W;
            at[k] = inside ? map + ((int64_t)row * W + column) * C : nothing;
        }
    }
};

// to = base + weight * (the gradient at a place); with kMoves also adds up its products with `from`.
template <bool kMoves>
OMEGA_INLINE void gather(const Corners& corners, const Place& place, const float* from, int count, float weight,
                         const float* base, float* to, Moves& moves) {
    const float *a = corners.at[0], *b = corners.at[1], *d = corners.at[2], *e = corners.at[3];
    const float fx = place.fx, fy = place.fy;
    float by_x = 0, by_y = 0, by_weight = 0;
OMEGA_INDEPENDENT
    for (int c = 0; c < count; c++) {
        const float across = b[c] - a[c], below = e[c] - d[c];
        const float upper = a[c] + fx * across, down = d[c] + fx * below - upper;
        const float here = upper + fy * down;
        to[c] = base[c] + weight * here;
        if (kMoves) {
            by_x += from[c] * (across + fy * (below - across));
            by_y += from[c] * down;
            by_weight += from[c] * here;
        }
    }
    moves.x += by_x, moves.y += by_y, moves.weight += by_weight;
}

// A copy of a row with zeros for what is not finite: a point of weight 0 adds nothing, not even a NaN.
OMEGA_INLINE const float* finite(const float* from, int count, float* to) {
    for (int c = 0; c < count; c++) to[c] = omega::is_finite(from[c]) ? from[c] : 0.0f;
    return to;
}

template <bool kMoves>
OMEGA_INLINE void gather_range(const Points& points, int64_t begin, int64_t end, const Maps& maps,
                               const Gradients& out) {
    const int C = points.C, E = points.E, most = std::max(C, E);
    const std::vector<float> nothing(most, 0.0f);
    std::vector<float> unwanted(2 * most), clean(2 * most);
    for (int64_t p = begin; p < end; p++) {
        float x, y;
        if (p + omega::kAhead < end &&
            omega::locate(points.uv + 2 * (p + omega::kAhead), maps.H, maps.W, maps.levels, x, y)) {
            for (int level = 0; level < maps.levels; level++) {
                const int H = maps.H >> level, W = maps.W >> level;
                const Place at = omega::place_of(x, y, 1.0f / (float)(1 << level));
                const int column = omega::clamp(at.column, 0, W - 1), past = std::min(column + 2, W);
                for (int row = std::max(at.row, 0); row <= std::min(at.row + 1, H - 1); row++)
                    omega::prefetch(maps.sums[level] + ((int64_t)row * W + column) * C, (past - column) * C);
            }
        }
        float* to = out.values ? out.values + p * C : unwanted.data();
        float* extra_to = out.extra ? out.extra + p * E : unwanted.data() + most;
        Moves sum{0, 0, 0};
        const float weight = points.weight ? points.weight[p] : 1.0f;
        if (omega::locate(points.uv + 2 * p, maps.H, maps.W, maps.levels, x, y)) {
            const float *from = points.values + p * C, *extra_from = points.extra + p * E;
            if (kMoves && weight == 0.0f)
                from = finite(from, C, clean.data()), extra_from = finite(extra_from, E, clean.data() + most);
            for (int level = 0; level < maps.levels; level++) {
                const int H = maps.H >> level, W = maps.W >> level;
                const Place at = omega::place_of(x, y, 1.0f / (float)(1 << level));
                Moves moves{0, 0, 0};
                gather<kMoves>(Corners(maps.sums[level], at, H, W, C, nothing.data()), at, from, C, weight,
                               level ? to : nothing.data(), to, moves);
                if (E)
                    gather<kMoves>(Corners(maps.extras[level], at, H, W, E, nothing.data()), at, extra_from, E, weight,
                                   level ? extra_to : nothing.data(), extra_to, moves);
                sum.x += moves.x * (float)W, sum.y += moves.y * (float)H, sum.weight += moves.weight;
            }
        } else {
            std::fill_n(to, C, 0.0f);
            std::fill_n(extra_to, E, 0.0f);
        }
        if (out.uv) out.uv[2 * p] = weight * sum.x, out.uv[2 * p + 1] = weight * sum.y;
        if (out.weight) out.weight[p] = sum.weight;
    }
}

template <int>
OMEGA_INLINE void gather_points_of(const Points& points, int64_t begin, int64_t end, const Maps& maps,
                                   const Gradients& out) {
    if (out.uv || out.weight)
        gather_range<true>(points, begin, end, maps, out);
    else
        gather_range<false>(points, begin, end, maps, out);
}

OMEGA_VERSIONS(void, gather_points,
               (const Points& points, int64_t begin, int64_t end, const Maps& maps, const Gradients& out),
               (points, begin, end, maps, out))

}  // namespace

// grads[l] [B, H >> l, W >> l, C] and extra_grads[l] [.., E] of every level l -> grad_values [B, P, C], grad_uv
// [B, P, 2], grad_weight [B, P], grad_extra [B, P, E], overwritten; null where not wanted.
OMEGA_EXPORT void omega_uv_splat_backward(int64_t B, int64_t P, int64_t C, int64_t E, const float* values,
                                          const float* uv, const float* weight, const float* extra, int64_t height,
                                          int64_t width, int levels, int threads, const float* const* grads,
                                          const float* const* extra_grads, float* grad_values, float* grad_uv,
                                          float* grad_weight, float* grad_extra) {
    const Points all{P, (int)C, (int)E, values, uv, weight, extra};
    const int64_t chunk = 256, chunks = (P + chunk - 1) / chunk;
    if (grad_values) omega::prefer_huge_pages(grad_values, B * P * C * (int64_t)sizeof(float));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t k = 0; k < B * chunks; k++) {
        const int64_t b = k / chunks, begin = (k % chunks) * chunk;
        Maps maps{levels, (int)height, (int)width, {}, {}};
        for (int level = 0; level < levels; level++) {
            const int64_t texels = b * (height >> level) * (width >> level);
            maps.sums[level] = grads[level] + texels * C;
            maps.extras[level] = E ? extra_grads[level] + texels * E : nullptr;
        }
        const auto of_view = [&](float* grad, int64_t columns) { return grad ? grad + b * P * columns : nullptr; };
        gather_points(all.view(b), begin, std::min(P, begin + chunk), maps,
                      {of_view(grad_values, C), of_view(grad_uv, 2), of_view(grad_weight, 1), of_view(grad_extra, E)});
    }
}
