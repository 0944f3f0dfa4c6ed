// Depth-ordered lists of the splats that touch each 16 x 16 tile.
//
// Splats are radix-sorted by depth once (stable: equal depths keep their order), then dealt to the
// tiles in that order. Each thread deals to its own rows of tiles, so the lists do not depend on the
// number of threads.

#include <numeric>
#include <vector>

#include "gaussian_splat.h"

namespace {

using omega::kTile;
using omega::Splat;
using omega::TileRect;

constexpr int kDigitBits = 11, kDigits = 1 << kDigitBits;

// Indices of the seen splats, nearest first. Depths are positive, so their bits sort as integers.
std::vector<int32_t> depth_order(const Splat* splats, int64_t N) {
    std::vector<int32_t> order, moved;
    std::vector<uint32_t> keys, moved_keys;
    order.reserve(N), keys.reserve(N);
    for (int64_t i = 0; i < N; i++) {
        if (!splats[i].seen()) continue;
        uint32_t bits;
        std::memcpy(&bits, &splats[i].depth, 4);
        order.push_back((int32_t)i), keys.push_back(bits);
    }
    const size_t count = order.size();
    moved.resize(count), moved_keys.resize(count);
    for (int shift = 0; shift < 32; shift += kDigitBits) {
        std::vector<uint32_t> next(kDigits + 1, 0);
        for (size_t i = 0; i < count; i++) next[((keys[i] >> shift) & (kDigits - 1)) + 1]++;
        std::partial_sum(next.begin(), next.end(), next.begin());
        for (size_t i = 0; i < count; i++) {
            const uint32_t to = next[(keys[i] >> shift) & (kDigits - 1)]++;
            moved[to] = order[i], moved_keys[to] = keys[i];
        }
        order.swap(moved), keys.swap(moved_keys);
    }
    return order;
}

struct Grid {
    int H, W, columns, rows;

    Grid(int64_t height, int64_t width)
        : H((int)height), W((int)width), columns((W + kTile - 1) / kTile), rows((H + kTile - 1) / kTile) {}
};

}  // namespace

// Number of (tile, splat) pairs; starts [tiles + 1] receives where each tile's list begins.
OMEGA_EXPORT int64_t omega_gaussian_bin_count(int64_t N, const float* splats, int64_t height, int64_t width,
                                              int64_t* starts) {
    const Grid grid(height, width);
    const Splat* s = reinterpret_cast<const Splat*>(splats);
    const int tiles = grid.columns * grid.rows;
    std::fill_n(starts, tiles + 1, 0);
    for (int64_t i = 0; i < N; i++) {
        if (!s[i].seen()) continue;
        const TileRect r = omega::tiles_of(s[i], grid.H, grid.W);
        for (int y = r.y0; y <= r.y1; y++)
            for (int x = r.x0; x <= r.x1; x++) starts[y * grid.columns + x + 1]++;
    }
    std::partial_sum(starts, starts + tiles + 1, starts);
    return starts[tiles];
}

// entries [starts[tiles]]: splat indices, tile by tile, nearest first.
OMEGA_EXPORT void omega_gaussian_bin_fill(int64_t N, const float* splats, int64_t height, int64_t width, int threads,
                                          const int64_t* starts, int32_t* entries) {
    const Grid grid(height, width);
    const Splat* s = reinterpret_cast<const Splat*>(splats);
    const std::vector<int32_t> order = depth_order(s, N);
    struct Seen {
        TileRect rect;
        int32_t index;
    };
    std::vector<Seen> nearest_first(order.size());
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t k = 0; k < (int64_t)order.size(); k++)
            nearest_first[k] = {omega::tiles_of(s[order[k]], grid.H, grid.W), order[k]};
        std::vector<int64_t> next;
#pragma omp for schedule(static, 1)
        for (int part = 0; part < threads; part++) {
            const int y_begin = grid.rows * part / threads, y_end = grid.rows * (part + 1) / threads;
            next.assign(starts + y_begin * grid.columns, starts + y_end * grid.columns);
            for (const Seen& seen : nearest_first)
                for (int y = std::max(seen.rect.y0, y_begin); y <= std::min(seen.rect.y1, y_end - 1); y++)
                    for (int x = seen.rect.x0; x <= seen.rect.x1; x++)
                        entries[next[(y - y_begin) * grid.columns + x]++] = seen.index;
        }
    }
}
