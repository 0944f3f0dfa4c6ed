// Gradients of the splat, gathered: each point reads its four texels. Meaning: kernels/reference.py.
//
// A texel of the finest level is a part of one texel of every coarser level: its gradient is the sum of theirs,
// which is made once, before the points read it.

#include <algorithm>
#include <memory>
#include <vector>

#include "huge.h"
#include "uv_splat.h"

namespace {

using omega::Place;
using omega::Points;

// The gradient of one view's finest map.
struct Map {
    int H, W;
    const float *sums, *extras;
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

// to = weight * (the gradient at a place); with kMoves also adds up its products with `from`.
template <bool kMoves>
OMEGA_INLINE void gather(const Corners& corners, const Place& place, const float* from, int count, float weight,
                         float* to, Moves& moves) {
    const float *a = corners.at[0], *b = corners.at[1], *d = corners.at[2], *e = corners.at[3];
    const float fx = place.fx, fy = place.fy;
    float by_x = 0, by_y = 0, by_weight = 0;
OMEGA_INDEPENDENT
    for (int c = 0; c < count; c++) {
        const float across = b[c] - a[c], below = e[c] - d[c];
        const float upper = a[c] + fx * across, down = d[c] + fx * below - upper;
        const float here = upper + fy * down;
        to[c] = weight * here;
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
OMEGA_INLINE void gather_range(const Points& points, int64_t begin, int64_t end, const Map& map,
                               const Gradients& out) {
    const int C = points.C, E = points.E, H = map.H, W = map.W, most = std::max(C, E);
    const std::vector<float> nothing(most, 0.0f);
    std::vector<float> unwanted(2 * most), clean(2 * most);
    for (int64_t p = begin; p < end; p++) {
        float x, y;
        if (p + omega::kAhead < end && omega::locate(points.uv + 2 * (p + omega::kAhead), H, W, x, y)) {
            const Place at = omega::place_of(x, y);
            const int column = omega::clamp(at.column, 0, W - 1), past = std::min(column + 2, W);
            for (int row = std::max(at.row, 0); row <= std::min(at.row + 1, H - 1); row++)
                omega::prefetch(map.sums + ((int64_t)row * W + column) * C, (past - column) * C);
        }
        float* to = out.values ? out.values + p * C : unwanted.data();
        float* extra_to = out.extra ? out.extra + p * E : unwanted.data() + most;
        Moves moves{0, 0, 0};
        const float weight = points.weight ? points.weight[p] : 1.0f;
        if (omega::locate(points.uv + 2 * p, H, W, x, y)) {
            const float *from = points.values + p * C, *extra_from = points.extra + p * E;
            if (kMoves && weight == 0.0f)
                from = finite(from, C, clean.data()), extra_from = finite(extra_from, E, clean.data() + most);
            const Place at = omega::place_of(x, y);
            gather<kMoves>(Corners(map.sums, at, H, W, C, nothing.data()), at, from, C, weight, to, moves);
            if (E)
                gather<kMoves>(Corners(map.extras, at, H, W, E, nothing.data()), at, extra_from, E, weight, extra_to,
                               moves);
        } else {
            std::fill_n(to, C, 0.0f);
            std::fill_n(extra_to, E, 0.0f);
        }
        if (out.uv) out.uv[2 * p] = weight * (float)W * moves.x, out.uv[2 * p + 1] = weight * (float)H * moves.y;
        if (out.weight) out.weight[p] = moves.weight;
    }
}

template <int>
OMEGA_INLINE void gather_points_of(const Points& points, int64_t begin, int64_t end, const Map& map,
                                   const Gradients& out) {
    if (out.uv || out.weight)
        gather_range<true>(points, begin, end, map, out);
    else
        gather_range<false>(points, begin, end, map, out);
}

OMEGA_VERSIONS(void, gather_points,
               (const Points& points, int64_t begin, int64_t end, const Map& map, const Gradients& out),
               (points, begin, end, map, out))

// Adds a row of a coarser level, a texel for each `step` of the finest, to a row of the finest.
template <int>
OMEGA_INLINE void spread_row_of(const float* from, int64_t texels, int step, int columns, float* to) {
    for (int64_t x = 0; x < texels; x++) {
        const float* coarse = from + x / step * columns;
        float* out = to + x * columns;
OMEGA_INDEPENDENT
        for (int c = 0; c < columns; c++) out[c] += coarse[c];
    }
}

OMEGA_VERSIONS(void, spread_row, (const float* from, int64_t texels, int step, int columns, float* to),
               (from, texels, step, columns, to))

// The gradients of all levels of a view as one of the finest, [H, W, columns].
void add_up(const float* const* grads, int64_t view, int height, int width, int levels, int columns, int threads,
            float* to) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int row = 0; row < height; row++) {
        float* out = to + (int64_t)row * width * columns;
        std::copy_n(grads[0] + (view * height + row) * width * columns, (int64_t)width * columns, out);
        for (int level = 1; level < levels; level++) {
            const int64_t coarse_row = view * (height >> level) + (row >> level);
            spread_row(grads[level] + coarse_row * (width >> level) * columns, width, 1 << level, columns, out);
        }
    }
}

}  // namespace

// grads[l] [B, H >> l, W >> l, C] and extra_grads[l] [.., E] of every level l -> grad_values [B, P, C], grad_uv
// [B, P, 2], grad_weight [B, P], grad_extra [B, P, E], overwritten; null where not wanted.
OMEGA_EXPORT void omega_uv_splat_backward(int64_t B, int64_t P, int64_t C, int64_t E, const float* values,
                                          const float* uv, const float* weight, const float* extra, int64_t height,
                                          int64_t width, int levels, int threads, const float* const* grads,
                                          const float* const* extra_grads, float* grad_values, float* grad_uv,
                                          float* grad_weight, float* grad_extra) {
    const Points all{P, (int)C, (int)E, values, uv, weight, extra};
    const int64_t chunk = 256, chunks = (P + chunk - 1) / chunk, texels = height * width;
    if (grad_values) omega::prefer_huge_pages(grad_values, B * P * C * (int64_t)sizeof(float));
    std::unique_ptr<float[]> added;
    if (levels > 1) {
        added.reset(new float[texels * (C + E)]);
        omega::prefer_huge_pages(added.get(), texels * (C + E) * (int64_t)sizeof(float));
    }
    for (int64_t b = 0; b < B; b++) {
        Map map{(int)height, (int)width, grads[0] + b * texels * C, E ? extra_grads[0] + b * texels * E : nullptr};
        if (levels > 1) {
            float *const sums = added.get(), *const extras = sums + texels * C;
            add_up(grads, b, map.H, map.W, levels, (int)C, threads, sums);
            if (E) add_up(extra_grads, b, map.H, map.W, levels, (int)E, threads, extras);
            map.sums = sums, map.extras = extras;
        }
        const auto of_view = [&](float* grad, int64_t columns) { return grad ? grad + b * P * columns : nullptr; };
        const Gradients out{of_view(grad_values, C), of_view(grad_uv, 2), of_view(grad_weight, 1), of_view(grad_extra, E)};
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t k = 0; k < chunks; k++)
            gather_points(all.view(b), k * chunk, std::min(P, (k + 1) * chunk), map, out);
    }
}
