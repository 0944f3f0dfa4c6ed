// Bilinear splatting of points into a UV map, and its gradients. Meaning: kernels/reference.py uv_splat.
//
// The map is cut into bands of rows, small enough to stay in a core's own cache. Points are dealt to the
// bands in their own order (a point between two bands to both), and a band is summed by one thread: every
// texel gets its points in their order, the same bits for any number of threads, and no atomics. Within a
// band the values are read in the order of memory, which is what makes scattered uv affordable.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "common.h"
#include "huge.h"

namespace {

constexpr int64_t kBandBytes = 512 << 10;  // of the map at once: half of a usual second-level cache
constexpr int kChannels = 128;             // of a point at once, about
constexpr int kChunks = 32;                // of the points, for dealing them in parallel
constexpr int kShares = 4;                 // a thread: a band of several rows has at most one share of the points
constexpr int kAhead = 12;                 // points between a prefetch and its use

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

OMEGA_INLINE void prefetch(const float* from, int count) {
    for (int k = 0; k < count; k += 16) __builtin_prefetch(from + k);
}

struct Dealt {
    int64_t point;
    Place at;
};

struct Bands {
    std::vector<int> first_row;          // of each band, and H
    std::vector<int> of_row;             // band of each row
    std::vector<int64_t> starts;         // of each band's points, and the end
    std::unique_ptr<Dealt[]> points;
};

// Rows to bands: at most as many rows as fit the cache, at most a share of the points.
void cut(const std::vector<int64_t>& points_of_row, int64_t total, int64_t row_bytes, int H, int threads, Bands& out) {
    const int most_rows = (int)std::max<int64_t>(1, kBandBytes / std::max<int64_t>(row_bytes, 1));
    const int64_t most_points = total / (kShares * threads) + 1;
    out.first_row.clear();
    out.of_row.resize(H);
    int64_t held = 0;
    for (int row = 0; row < H; row++) {
        const bool full =
            row == 0 || row - out.first_row.back() >= most_rows || held + points_of_row[row + 1] > most_points;
        if (full) out.first_row.push_back(row), held = 0;
        held += points_of_row[row + 1];
        out.of_row[row] = (int)out.first_row.size() - 1;
    }
    out.first_row.push_back(H);
}

// Calls use(band) for the one or two bands that a point above row `row` + 1 reaches.
template <class Use>
OMEGA_INLINE void bands_of(const Bands& bands, int row, int H, Use use) {
    const int upper = row >= 0 ? bands.of_row[row] : -1, lower = row + 1 < H ? bands.of_row[row + 1] : -1;
    if (upper >= 0) use(upper);
    if (lower >= 0 && lower != upper) use(lower);
}

void deal(const float* uv, int64_t P, int H, int W, int64_t row_bytes, int threads, Bands& out) {
    const int chunks = (int)std::min<int64_t>(kChunks, P / 512 + 1), rows = H + 1;  // row -1 comes first
    std::vector<int64_t> counts((size_t)chunks * rows, 0);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        int64_t* mine = counts.data() + (size_t)chunk * rows;
        Place at;
        for (int64_t p = P * chunk / chunks; p < P * (chunk + 1) / chunks; p++)
            if (locate(uv + 2 * p, H, W, at)) mine[at.row + 1]++;
    }
    std::vector<int64_t> points_of_row(rows, 0);
    int64_t total = 0;
    for (int chunk = 0; chunk < chunks; chunk++)
        for (int row = 0; row < rows; row++) points_of_row[row] += counts[(size_t)chunk * rows + row];
    for (const int64_t count : points_of_row) total += count;
    cut(points_of_row, total, row_bytes, H, threads, out);

    // For each chunk the place of its first point in every band: chunks one after the other.
    const int bands = (int)out.first_row.size() - 1;
    std::vector<int64_t> next((size_t)chunks * bands, 0);
    for (int chunk = 0; chunk < chunks; chunk++)
        for (int row = -1; row < H; row++)
            bands_of(out, row, H, [&](int band) {
                next[(size_t)chunk * bands + band] += counts[(size_t)chunk * rows + row + 1];
            });
    out.starts.assign(1, 0);
    int64_t place = 0;
    for (int band = 0; band < bands; band++) {
        for (int chunk = 0; chunk < chunks; chunk++) {
            const int64_t count = next[(size_t)chunk * bands + band];
            next[(size_t)chunk * bands + band] = place;
            place += count;
        }
        out.starts.push_back(place);
    }
    out.points.reset(new Dealt[place]);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        int64_t* mine = next.data() + (size_t)chunk * bands;
        Place at;
        for (int64_t p = P * chunk / chunks; p < P * (chunk + 1) / chunks; p++)
            if (locate(uv + 2 * p, H, W, at))
                bands_of(out, at.row, H, [&](int band) { out.points[mine[band]++] = {p, at}; });
    }
}

// The four texels of a point and its weight in each; -1 where there is no texel to write.
struct Corners {
    int64_t texel[4];
    float weight[4];
    bool all;  // four texels, four weights that are not zero
};

OMEGA_INLINE Corners corners_of(const Place& at, int W, int y_first, int y_past) {
    Corners out;
    out.all = true;
    for (int k = 0; k < 4; k++) {
        const int row = at.row + (k >> 1), column = at.column + (k & 1);
        out.weight[k] = (k >> 1 ? at.fy : 1.0f - at.fy) * (k & 1 ? at.fx : 1.0f - at.fx);
        const bool inside = row >= y_first && row < y_past && column >= 0 && column < W;
        out.texel[k] = inside ? (int64_t)row * W + column : -1;
        out.all = out.all && inside && out.weight[k] != 0.0f;
    }
    return out;
}

// Channels c_first .. c_first + count - 1 of a band's points into rows y_first .. y_past - 1 of out [H, W, C].
template <int>
OMEGA_INLINE void splat_band_of(const float* values, const Dealt* points, int64_t many, int C, int c_first, int count,
                                int W, int y_first, int y_past, float* out) {
    for (int64_t k = 0; k < many; k++) {
        if (k + kAhead < many) prefetch(values + points[k + kAhead].point * C + c_first, count);
        const float* from = values + points[k].point * C + c_first;
        const Corners at = corners_of(points[k].at, W, y_first, y_past);
        if (at.all) {
            float *a = out + at.texel[0] * C + c_first, *b = a + C;
            float *d = out + at.texel[2] * C + c_first, *e = d + C;
            const float wa = at.weight[0], wb = at.weight[1], wd = at.weight[2], we = at.weight[3];
OMEGA_INDEPENDENT
            for (int c = 0; c < count; c++) {
                const float value = from[c];
                a[c] += wa * value, b[c] += wb * value;
                d[c] += wd * value, e[c] += we * value;
            }
            continue;
        }
        for (int corner = 0; corner < 4; corner++) {
            // a zero weight is skipped, so that a NaN stays in the texels it belongs to
            if (at.texel[corner] < 0 || at.weight[corner] == 0.0f) continue;
            float* to = out + at.texel[corner] * C + c_first;
            const float weight = at.weight[corner];
OMEGA_INDEPENDENT
            for (int c = 0; c < count; c++) to[c] += weight * from[c];
        }
    }
}

OMEGA_VERSIONS(void, splat_band,
               (const float* values, const Dealt* points, int64_t many, int C, int c_first, int count, int W,
                int y_first, int y_past, float* out),
               (values, points, many, C, c_first, count, W, y_first, y_past, out))

// Gather: gradients of one range of points from the gradient of the map [H, W, C].
template <int>
OMEGA_INLINE void gather_points_of(const float* values, const float* uv, int64_t begin, int64_t end, int C, int H,
                                   int W, const float* grad, float* grad_values, float* grad_uv) {
    for (int64_t p = begin; p < end; p++) {
        Place at;
        if (p + kAhead < end && locate(uv + 2 * (p + kAhead), H, W, at)) {
            const int column = std::max(at.column, 0), most = (column + 1 < W ? 2 : 1) * C;
            for (int row = std::max(at.row, 0); row <= std::min(at.row + 1, H - 1); row++)
                prefetch(grad + ((int64_t)row * W + column) * C, most);
        }
        float* to = grad_values + p * C;
        grad_uv[2 * p] = grad_uv[2 * p + 1] = 0.0f;
        if (!locate(uv + 2 * p, H, W, at)) {
            std::fill_n(to, C, 0.0f);
            continue;
        }
        const float* from = values + p * C;
        const Corners corners = corners_of(at, W, 0, H);
        float dot[4] = {};
        if (corners.texel[0] >= 0 && corners.texel[1] >= 0 && corners.texel[2] >= 0 && corners.texel[3] >= 0) {
            const float *a = grad + corners.texel[0] * C, *b = a + C, *d = grad + corners.texel[2] * C, *e = d + C;
            const float wa = corners.weight[0], wb = corners.weight[1], wd = corners.weight[2], we = corners.weight[3];
            float dot_a = 0, dot_b = 0, dot_d = 0, dot_e = 0;
OMEGA_INDEPENDENT
            for (int c = 0; c < C; c++) {
                to[c] = wa * a[c] + wb * b[c] + wd * d[c] + we * e[c];
                dot_a += from[c] * a[c], dot_b += from[c] * b[c];
                dot_d += from[c] * d[c], dot_e += from[c] * e[c];
            }
            dot[0] = dot_a, dot[1] = dot_b, dot[2] = dot_d, dot[3] = dot_e;
        } else {
            std::fill_n(to, C, 0.0f);
            for (int k = 0; k < 4; k++) {
                if (corners.texel[k] < 0) continue;
                const float* g = grad + corners.texel[k] * C;
                const float weight = corners.weight[k];
                float sum = 0;
OMEGA_INDEPENDENT
                for (int c = 0; c < C; c++) to[c] += weight * g[c], sum += from[c] * g[c];
                dot[k] = sum;
            }
        }
        grad_uv[2 * p] = ((1.0f - at.fy) * (dot[1] - dot[0]) + at.fy * (dot[3] - dot[2])) * (float)W;
        grad_uv[2 * p + 1] = ((1.0f - at.fx) * (dot[2] - dot[0]) + at.fx * (dot[3] - dot[1])) * (float)H;
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
    const int slices = (int)std::max<int64_t>(1, (C + kChannels / 2) / kChannels);
    const int64_t slice = (C + slices - 1) / slices;
    omega::prefer_huge_pages(out, B * H * W * C * (int64_t)sizeof(float));
    Bands bands;
    for (int64_t b = 0; b < B; b++) {
        const float* v = values + b * P * C;
        float* map = out + b * H * W * C;
        deal(uv + b * P * 2, P, H, W, W * slice * (int64_t)sizeof(float), threads, bands);
        const int tasks = slices * ((int)bands.first_row.size() - 1);
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (int task = 0; task < tasks; task++) {
            const int band = task / slices, c_first = (int)(task % slices * slice);
            const int count = (int)std::min<int64_t>(slice, C - c_first);
            const int y_first = bands.first_row[band], y_past = bands.first_row[band + 1];
            if (count == C)
                std::fill(map + (int64_t)y_first * W * C, map + (int64_t)y_past * W * C, 0.0f);
            else
                for (int64_t texel = (int64_t)y_first * W; texel < (int64_t)y_past * W; texel++)
                    std::fill_n(map + texel * C + c_first, count, 0.0f);
            splat_band(v, bands.points.get() + bands.starts[band], bands.starts[band + 1] - bands.starts[band], (int)C,
                       c_first, count, W, y_first, y_past, map);
        }
    }
}

// grad_out [B, H, W, C] -> grad_values [B, P, C], grad_uv [B, P, 2], overwritten.
OMEGA_EXPORT void omega_uv_splat_backward(int64_t B, int64_t P, int64_t C, const float* values, const float* uv,
                                          const float* grad_out, int64_t height, int64_t width, int threads,
                                          float* grad_values, float* grad_uv) {
    const int H = (int)height, W = (int)width;
    const int64_t chunk = 256, chunks = (P + chunk - 1) / chunk;
    omega::prefer_huge_pages(grad_values, B * P * C * (int64_t)sizeof(float));
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t k = 0; k < B * chunks; k++) {
        const int64_t b = k / chunks, begin = (k % chunks) * chunk;
        gather_points(values + b * P * C, uv + b * P * 2, begin, std::min(P, begin + chunk), (int)C, H, W,
                      grad_out + b * H * W * C, grad_values + b * P * C, grad_uv + b * P * 2);
    }
}
