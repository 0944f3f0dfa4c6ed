// Bilinear splatting of points into a UV map, and its gradients. Meaning: kernels/reference.py uv_splat.
//
// Points are sorted by the row of texels above them (a counting sort, stable). A thread owns a range of
// map rows and adds to no other, so every texel is summed by one thread, by row and then in the order of
// the points: the same bits for any number of threads, and no atomics.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "common.h"

namespace {

// Where a point falls: the texel up and to the left of it, and how far beyond that centre it lies.
struct Place {
    int column, row;  // from -1 to size - 1
    float fx, fy;
};

// False: NaN, infinite, or more than half a texel outside the map.
OMEGA_INLINE bool locate(const float* uv, int H, int W, Place& place) {
    if (!omega::is_finite(uv[0]) || !omega::is_finite(uv[1])) return false;
    const float x = uv[0] * (float)W - 0.5f, y = uv[1] * (float)H - 0.5f;
    if (!(x > -1.0f && x < (float)W && y > -1.0f && y < (float)H)) return false;
    const float floor_x = std::floor(x), floor_y = std::floor(y);
    place = {(int)floor_x, (int)floor_y, x - floor_x, y - floor_y};
    return true;
}

struct Sorted {
    std::vector<int32_t> points;   // indices, by row
    std::vector<int64_t> starts;   // of row -1, 0, .. H - 1, and the end: H + 2 numbers
};

void sort_by_row(const float* uv, int64_t P, int H, int W, int threads, std::vector<int32_t>& row_of, Sorted& out) {
    row_of.resize(P);
    out.points.resize(P);
    out.starts.assign(H + 2, 0);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t p = 0; p < P; p++) {
        Place place;
        row_of[p] = locate(uv + 2 * p, H, W, place) ? place.row + 1 : -1;
    }
    for (int64_t p = 0; p < P; p++)
        if (row_of[p] >= 0) out.starts[row_of[p] + 1]++;
    std::partial_sum(out.starts.begin(), out.starts.end(), out.starts.begin());
    std::vector<int64_t> next(out.starts.begin(), out.starts.end() - 1);
    for (int64_t p = 0; p < P; p++)
        if (row_of[p] >= 0) out.points[next[row_of[p]]++] = (int32_t)p;
}

OMEGA_INLINE void add_scaled(float* to, const float* from, float weight, int C) {
OMEGA_INDEPENDENT
    for (int c = 0; c < C; c++) to[c] += weight * from[c];
}

// Points of the sorted range [begin, end) into map rows y_first .. y_past - 1 of out [H, W, C].
template <int>
OMEGA_INLINE void splat_points_of(const float* values, const float* uv, const int32_t* points, int64_t begin, int64_t end, int C, int H,
                  int W, int y_first, int y_past, float* out) {
    for (int64_t k = begin; k < end; k++) {
        const int64_t p = points[k];
        Place at = {};
        locate(uv + 2 * p, H, W, at);
        const float* from = values + p * C;
        for (int dy = 0; dy < 2; dy++) {
            const int row = at.row + dy;
            if (row < y_first || row >= y_past) continue;
            const float wy = dy ? at.fy : 1.0f - at.fy;
            for (int dx = 0; dx < 2; dx++) {
                const int column = at.column + dx;
                const float weight = wy * (dx ? at.fx : 1.0f - at.fx);
                // a zero weight is skipped, so that a NaN stays in the texels it belongs to
                if (column < 0 || column >= W || weight == 0.0f) continue;
                add_scaled(out + ((int64_t)row * W + column) * C, from, weight, C);
            }
        }
    }
}

OMEGA_VERSIONS(void, splat_points,
               (const float* values, const float* uv, const int32_t* points, int64_t begin, int64_t end, int C, int H,
                int W, int y_first, int y_past, float* out),
               (values, uv, points, begin, end, C, H, W, y_first, y_past, out))

// Gather: gradients of one range of points from the gradient of the map [H, W, C].
template <int>
OMEGA_INLINE void gather_points_of(const float* values, const float* uv, int64_t begin, int64_t end, int C, int H, int W,
                   const float* grad, float* grad_values, float* grad_uv) {
    for (int64_t p = begin; p < end; p++) {
        float* to = grad_values + p * C;
        std::fill_n(to, C, 0.0f);
        grad_uv[2 * p] = grad_uv[2 * p + 1] = 0.0f;
        Place at;
        if (!locate(uv + 2 * p, H, W, at)) continue;
        const float* from = values + p * C;
        float by_x = 0, by_y = 0;
        for (int dy = 0; dy < 2; dy++) {
            const int row = at.row + dy;
            if (row < 0 || row >= H) continue;
            const float wy = dy ? at.fy : 1.0f - at.fy;
            for (int dx = 0; dx < 2; dx++) {
                const int column = at.column + dx;
                if (column < 0 || column >= W) continue;
                const float wx = dx ? at.fx : 1.0f - at.fx, weight = wx * wy;
                const float* g = grad + ((int64_t)row * W + column) * C;
                float dot = 0;
OMEGA_INDEPENDENT
                for (int c = 0; c < C; c++) {
                    to[c] += weight * g[c];
                    dot += from[c] * g[c];
                }
                by_x += dx ? wy * dot : -wy * dot;
                by_y += dy ? wx * dot : -wx * dot;
            }
        }
        grad_uv[2 * p] = by_x * (float)W;
        grad_uv[2 * p + 1] = by_y * (float)H;
    }
}

OMEGA_VERSIONS(void, gather_points,
               (const float* values, const float* uv, int64_t begin, int64_t end, int C, int H, int W,
                const float* grad, float* grad_values, float* grad_uv),
               (values, uv, begin, end, C, H, W, grad, grad_values, grad_uv))

}  // namespace

// values [B, P, C], uv [B, P, 2] -> out [B, H, W, C], overwritten.
OMEGA_EXPORT void omega_uv_splat(int64_t B, int64_t P, int64_t C, const float* values, const float* uv, int64_t height,
                                 int64_t width, int threads, float* out) {
    const int H = (int)height, W = (int)width;
    std::vector<int32_t> row_of;
    Sorted sorted;
    for (int64_t b = 0; b < B; b++) {
        const float* v = values + b * P * C;
        const float* at = uv + b * P * 2;
        float* map = out + b * H * W * C;
        sort_by_row(at, P, H, W, threads, row_of, sorted);
        // More parts than threads, cut where the points are, so that a crowded corner is shared out.
        const int parts = std::min(H, 8 * threads);
        const int64_t total = sorted.starts[H + 1];
        std::vector<int> cuts(parts + 1, H);
        for (int k = 0; k < parts; k++) {
            // a part costs its points, and a little for each row to be cleared
            const double share = (double)k / parts;
            int row = 0;
            while (row < H && (double)sorted.starts[row] + (double)row * W / 4 < share * ((double)total + (double)H * W / 4)) row++;
            cuts[k] = row;
        }
        cuts[0] = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (int k = 0; k < parts; k++) {
            const int y_first = cuts[k], y_past = cuts[k + 1];
            if (y_first >= y_past) continue;
            std::fill(map + (int64_t)y_first * W * C, map + (int64_t)y_past * W * C, 0.0f);
            // rows y_first - 1 .. y_past - 1 reach into this part; starts[] counts from row -1
            splat_points(v, at, sorted.points.data(), sorted.starts[y_first], sorted.starts[y_past + 1], (int)C, H, W,
                         y_first, y_past, map);
        }
    }
}

// grad_out [B, H, W, C] -> grad_values [B, P, C], grad_uv [B, P, 2], overwritten.
OMEGA_EXPORT void omega_uv_splat_backward(int64_t B, int64_t P, int64_t C, const float* values, const float* uv,
                                          const float* grad_out, int64_t height, int64_t width, int threads,
                                          float* grad_values, float* grad_uv) {
    const int H = (int)height, W = (int)width;
    const int64_t chunk = 256, chunks = (P + chunk - 1) / chunk;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t k = 0; k < B * chunks; k++) {
        const int64_t b = k / chunks, begin = (k % chunks) * chunk;
        gather_points(values + b * P * C, uv + b * P * 2, begin, std::min(P, begin + chunk), (int)C, H, W,
                      grad_out + b * H * W * C, grad_values + b * P * C, grad_uv + b * P * 2);
    }
}
