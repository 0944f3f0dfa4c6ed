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

// Number of (tile, splat) pairs. rects [N, 4] receives each splat's tiles, starts [tiles + 1] where each
// tile's list begins.
OMEGA_EXPORT int64_t omega_gaussian_bin_count(int64_t N, const float* splats, int64_t height, int64_t width,
                                              int threads, int32_t* rects, int64_t* starts) {
    const Grid grid(height, width);
    const Splat* s = reinterpret_cast<const Splat*>(splats);
    TileRect* rect = reinterpret_cast<TileRect*>(rects);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < N; i++)
        rect[i] = s[i].seen() ? omega::tiles_of(s[i], grid.H, grid.W) : TileRect{0, 0, -1, -1};
    const int tiles = grid.columns * grid.rows;
    std::fill_n(starts, tiles + 1, 0);
    for (int64_t i = 0; i < N; i++)
        for (int y = rect[i].y0; y <= rect[i].y1; y++)
            for (int x = rect[i].x0; x <= rect[i].x1; x++) starts[y * grid.columns + x + 1]++;
    std::partial_sum(starts, starts + tiles + 1, starts);
    return starts[tiles];
}

// entries [starts[tiles]]: splat indices, tile by tile, nearest first. The rectangles are read, not
// computed again: a last bit that fell otherwise would write outside the lists.
OMEGA_EXPORT void omega_gaussian_bin_fill(int64_t N, const float* splats, int64_t height, int64_t width, int threads,
                                          const int32_t* rects, const int64_t* starts, int32_t* entries) {
    const Grid grid(height, width);
    const TileRect* rect = reinterpret_cast<const TileRect*>(rects);
    const std::vector<int32_t> order = depth_order(reinterpret_cast<const Splat*>(splats), N);
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        const int y_begin = grid.rows * part / threads, y_end = grid.rows * (part + 1) / threads;
        std::vector<int64_t> next(starts + y_begin * grid.columns, starts + y_end * grid.columns);
        for (const int32_t index : order) {
            const TileRect& r = rect[index];
            for (int y = std::max(r.y0, y_begin); y <= std::min(r.y1, y_end - 1); y++)
                for (int x = r.x0; x <= r.x1; x++) entries[next[(y - y_begin) * grid.columns + x]++] = index;
        }
    }
}
