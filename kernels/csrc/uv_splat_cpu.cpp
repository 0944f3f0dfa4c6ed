// Bilinear splatting of points into a UV map, and its coarser levels. Meaning: kernels/reference.py uv_splat and pool.
//
// The map is cut into bands of rows, small enough to stay in a core's own cache. Each point belongs to one
// band, and a band's points are dealt to it in their own order; one thread reads each of them once. The row
// below a band belongs to the next: what a band has for it is left in a row of its own (the halo), and added
// at the end. The bands do not depend on the number of threads, hence neither do the bits; and no atomics.
// Of the coarser levels every texel is the sum of two by two of the finer one.

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "huge.h"
#include "uv_splat.h"

namespace {

using omega::Place;
using omega::Points;

constexpr int64_t kBandBytes = 512 << 10;  // of the map at once: half of a usual second-level cache
constexpr int kChannels = 128;             // of a point at once, about
constexpr int kChunks = 32;                // of the points, for dealing them in parallel
constexpr int kShares = 32;                // a band of several rows has at most one share of the points

struct Dealt {
    int32_t point;
    float x, y;  // in texels
    float weight;
};

struct Bands {
    std::vector<int> first_row;   // of each band, and H
    std::vector<int> of_row;      // band of each row
    std::vector<int64_t> starts;  // of each band's points, and the end
    std::unique_ptr<Dealt[]> points;
    int64_t room = 0;  // for points

    int count() const { return (int)first_row.size() - 1; }
};

// One level of one view.
struct Map {
    int H, W, C, E;
    float *sums, *extras;
};

// Rows to bands: at most as many rows as fit the cache, at most a share of the points.
void cut(const std::vector<int64_t>& points_of_row, int64_t total, int64_t row_bytes, int H, Bands& out) {
    const int most_rows = (int)std::max<int64_t>(1, kBandBytes / std::max<int64_t>(row_bytes, 1));
    const int64_t most_points = total / kShares + 1;
    out.first_row.clear();
    out.of_row.resize(H);
    int64_t held = 0;
    for (int row = 0; row < H; row++) {
        const bool full =
            row == 0 || row - out.first_row.back() >= most_rows || held + points_of_row[row] > most_points;
        if (full) out.first_row.push_back(row), held = 0;
        held += points_of_row[row];
        out.of_row[row] = out.count();
    }
    out.first_row.push_back(H);
}

// Calls use(point, x, y, row, weight) for the points that reach the map, with the row above them.
template <class Use>
OMEGA_INLINE void each_point(const Points& points, int64_t begin, int64_t end, int H, int W, Use use) {
    for (int64_t p = begin; p < end; p++) {
        const float weight = points.weight ? points.weight[p] : 1.0f;
        float x, y;
        if (weight == 0.0f || !omega::locate(points.uv + 2 * p, H, W, x, y)) continue;
        use(p, x, y, y < 1.5f ? 0 : std::min((int)(y - 0.5f), H - 1), weight);
    }
}

void deal(const Points& points, int H, int W, int64_t row_bytes, int threads, Bands& out) {
    const int64_t P = points.count;
    const int chunks = (int)std::min<int64_t>(kChunks, P / 512 + 1);
    std::vector<int64_t> counts((size_t)chunks * H, 0);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        int64_t* mine = counts.data() + (size_t)chunk * H;
        each_point(points, P * chunk / chunks, P * (chunk + 1) / chunks, H, W,
                   [&](int64_t, float, float, int row, float) { mine[row]++; });
    }
    std::vector<int64_t> points_of_row(H, 0);
    for (int chunk = 0; chunk < chunks; chunk++)
        for (int row = 0; row < H; row++) points_of_row[row] += counts[(size_t)chunk * H + row];
    int64_t total = 0;
    for (const int64_t count : points_of_row) total += count;
    cut(points_of_row, total, row_bytes, H, out);

    // For each chunk the place of its first point in every band: chunks one after the other.
    const int bands = out.count();
    std::vector<int64_t> next((size_t)chunks * bands, 0);
    for (int chunk = 0; chunk < chunks; chunk++)
        for (int row = 0; row < H; row++)
            next[(size_t)chunk * bands + out.of_row[row]] += counts[(size_t)chunk * H + row];
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
    if (out.room < total) out.points.reset(new Dealt[total]), out.room = total;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        int64_t* mine = next.data() + (size_t)chunk * bands;
        each_point(points, P * chunk / chunks, P * (chunk + 1) / chunks, H, W,
                   [&](int64_t p, float x, float y, int row, float weight) {
                       out.points[mine[out.of_row[row]]++] = {(int32_t)p, x, y, weight};
                   });
    }
}

// Where a band writes: rows first .. first + count - 1 of the map, the last of them perhaps in the halo.
struct Target {
    int first, count, width;
    std::vector<float*> rows, extra_rows;
};

// N floats that need no alignment.
template <int N>
struct Some {
    typedef float Floats __attribute__((vector_size(4 * N), aligned(4), may_alias));
};

// Vectors of L, then of L/2 and so on for what is left over: exact for every count, without a scalar loop.
template <int L>
OMEGA_INLINE void add_to_corners(const float* from, int count, float* const to[4], const float weight[4]) {
    typedef typename Some<L>::Floats Floats;
    int c = 0;
    for (; c + L <= count; c += L) {
        const Floats value = *(const Floats*)(from + c);
        Floats &a = *(Floats*)(to[0] + c), &b = *(Floats*)(to[1] + c), &d = *(Floats*)(to[2] + c),
               &e = *(Floats*)(to[3] + c);
        a += weight[0] * value, b += weight[1] * value, d += weight[2] * value, e += weight[3] * value;
    }
    if constexpr (L > 1) {
        if (c == count) return;
        float* const rest[4] = {to[0] + c, to[1] + c, to[2] + c, to[3] + c};
        add_to_corners<L / 2>(from + c, count - c, rest, weight);
    }
}

// The four texels of a point. nowhere takes what falls outside the map or has no weight: a value that is not
// finite must not reach a texel in which its weight is zero.
OMEGA_INLINE void find_corners(const Target& target, float* const* rows, int C, const Place& at, const float weight[4],
                               float* nowhere, float* to[4]) {
    const int row = at.row - target.first, count = target.count;
    if (row >= 0 && row + 1 < count && at.column >= 0 && at.column + 1 < target.width && weight[3] != 0.0f) {
        const int64_t column = (int64_t)at.column * C;
        to[0] = rows[row] + column, to[1] = to[0] + C;
        to[2] = rows[row + 1] + column, to[3] = to[2] + C;
        return;
    }
    for (int k = 0; k < 4; k++) {
        const int y = row + (k >> 1), x = at.column + (k & 1);
        const bool used = y >= 0 && y < count && x >= 0 && x < target.width && weight[k] != 0.0f;
        to[k] = used ? rows[y] + (int64_t)x * C : nowhere;
    }
}

// Channels c_first .. c_first + count - 1 of a band's points, and their extra columns if E > 0.
// nowhere: max(count, E) floats.
template <int L>
OMEGA_INLINE void splat_band_of(const Points& from, const Dealt* points, int64_t many, int c_first, int count, int E,
                                const Target& target, float* nowhere) {
    const float* values = from.values + c_first;
    for (int64_t k = 0; k < many; k++) {
        if (k + omega::kAhead < many) {
            const int64_t later = points[k + omega::kAhead].point;
            omega::prefetch(values + later * from.C, count);
            if (E) __builtin_prefetch(from.extra + later * E);
        }
        const Dealt& point = points[k];
        const Place at = omega::place_of(point.x, point.y);
        const float upper = point.weight * (1.0f - at.fy), lower = point.weight * at.fy;
        const float weight[4] = {upper * (1.0f - at.fx), upper * at.fx, lower * (1.0f - at.fx), lower * at.fx};
        float* to[4];
        find_corners(target, target.rows.data(), from.C, at, weight, nowhere, to);
        add_to_corners<L>(values + (int64_t)point.point * from.C, count, to, weight);
        if (!E) continue;
        find_corners(target, target.extra_rows.data(), E, at, weight, nowhere, to);
        add_to_corners<2>(from.extra + (int64_t)point.point * E, E, to, weight);
    }
}

OMEGA_VERSIONS(void, splat_band,
               (const Points& from, const Dealt* points, int64_t many, int c_first, int count, int E,
                const Target& target, float* nowhere),
               (from, points, many, c_first, count, E, target, nowhere))

// What bands have for the row below them: a row each, as [W, C] and [W, E].
struct Halo {
    std::unique_ptr<float[]> sums, extras;
    int64_t room = 0;

    void make_room(int64_t texels, const Map& map) {
        if (texels <= room) return;
        sums.reset(new float[texels * map.C]), extras.reset(new float[texels * map.E]);
        omega::prefer_huge_pages(sums.get(), texels * map.C * (int64_t)sizeof(float));
        room = texels;
    }
};

void clear(float* row, int64_t width, int C, int count) {
    if (count == C)
        std::fill_n(row, width * C, 0.0f);
    else
        for (int64_t x = 0; x < width; x++) std::fill_n(row + x * C, count, 0.0f);
}

// One band, channels c_first .. c_first + count - 1; the extra columns go with the first of them.
void run_band(const Points& points, const Bands& bands, int band, const Halo& halo, const Map& map, int c_first,
              int count) {
    const int E = c_first == 0 ? map.E : 0, first = bands.first_row[band], past = bands.first_row[band + 1];
    Target target{first, std::min(past + 1, map.H) - first, map.W, {}, {}};
    for (int row = first; row < first + target.count; row++) {
        const bool own = row < past;
        const int64_t texel = (int64_t)(own ? row : band) * map.W;
        target.rows.push_back((own ? map.sums : halo.sums.get()) + texel * map.C + c_first);
        clear(target.rows.back(), map.W, map.C, count);
        if (!E) continue;
        target.extra_rows.push_back((own ? map.extras : halo.extras.get()) + texel * E);
        clear(target.extra_rows.back(), map.W, E, E);
    }
    std::vector<float> nowhere(std::max(count, E), 0.0f);
    splat_band(points, bands.points.get() + bands.starts[band], bands.starts[band + 1] - bands.starts[band], c_first,
               count, E, target, nowhere.data());
}

void add_row(float* to, const float* from, int64_t count) {
OMEGA_INDEPENDENT
    for (int64_t k = 0; k < count; k++) to[k] += from[k];
}

// The halo of the band above goes into a band's first row.
void collect(const Bands& bands, const Halo& halo, const Map& map, int band) {
    const int64_t from = (int64_t)(band - 1) * map.W, to = (int64_t)bands.first_row[band] * map.W;
    add_row(map.sums + to * map.C, halo.sums.get() + from * map.C, (int64_t)map.W * map.C);
    if (map.E) add_row(map.extras + to * map.E, halo.extras.get() + from * map.E, (int64_t)map.W * map.E);
}

// A row of texels with `columns` each, from the two rows of the finer level that it covers.
template <int>
OMEGA_INLINE void pool_row_of(const float* upper, const float* lower, int64_t texels, int columns, float* to) {
    for (int64_t x = 0; x < texels; x++) {
        const float *a = upper + 2 * x * columns, *b = a + columns, *d = lower + 2 * x * columns, *e = d + columns;
        float* out = to + x * columns;
OMEGA_INDEPENDENT
        for (int c = 0; c < columns; c++) out[c] = (a[c] + b[c]) + (d[c] + e[c]);
    }
}

OMEGA_VERSIONS(void, pool_row, (const float* upper, const float* lower, int64_t texels, int columns, float* to),
               (upper, lower, texels, columns, to))

// One row of a level from the finer one.
void pool(const Map& fine, const Map& map, int row) {
    const int64_t upper = (int64_t)2 * row * fine.W, lower = upper + fine.W, to = (int64_t)row * map.W;
    pool_row(fine.sums + upper * map.C, fine.sums + lower * map.C, map.W, map.C, map.sums + to * map.C);
    if (map.E)
        pool_row(fine.extras + upper * map.E, fine.extras + lower * map.E, map.W, map.E, map.extras + to * map.E);
}

}  // namespace

// values [B, P, C], uv [B, P, 2], weight [B, P] or null, extra [B, P, E] or null -> for each level l, finest
// first: sums[l] [B, H >> l, W >> l, C] and extras[l] [.., E], overwritten.
OMEGA_EXPORT void omega_uv_splat(int64_t B, int64_t P, int64_t C, int64_t E, const float* values, const float* uv,
                                 const float* weight, const float* extra, int64_t height, int64_t width, int levels,
                                 int threads, float* const* sums, float* const* extras) {
    const Points all{P, (int)C, (int)E, values, uv, weight, extra};
    const int slices = (int)std::max<int64_t>(1, (C + kChannels / 2) / kChannels);
    const int slice = (int)((C + slices - 1) / slices);
    const auto level_of = [&](int64_t b, int level) {
        const int H = (int)height >> level, W = (int)width >> level;
        const int64_t texels = b * H * W;
        return Map{H, W, (int)C, (int)E, sums[level] + texels * C, E ? extras[level] + texels * E : nullptr};
    };
    for (int level = 0; level < levels; level++)
        omega::prefer_huge_pages(sums[level], B * (height >> level) * (width >> level) * C * (int64_t)sizeof(float));
    Bands bands;
    Halo halo;
    for (int64_t b = 0; b < B; b++) {
        const Points points = all.view(b);
        Map map = level_of(b, 0);
        deal(points, map.H, map.W, width * slice * (int64_t)sizeof(float), threads, bands);
        halo.make_room((int64_t)bands.count() * map.W, map);
        const int tasks = slices * bands.count();
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
        for (int task = 0; task < tasks; task++) {
            const int c_first = task % slices * slice;
            run_band(points, bands, task / slices, halo, map, c_first, std::min(slice, (int)C - c_first));
        }
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int band = 1; band < bands.count(); band++) collect(bands, halo, map, band);
        for (int level = 1; level < levels; level++) {
            const Map fine = map;
            map = level_of(b, level);
#pragma omp parallel for schedule(static) num_threads(threads)
            for (int row = 0; row < map.H; row++) pool(fine, map, row);
        }
    }
}
