// What the splat on the CPU and its gradient share: points, levels, and where a point falls.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common.h"

namespace omega {

constexpr int kMostLevels = 12;
constexpr int kAhead = 12;  // points between a prefetch and its use

// Of one view.
struct Points {
    int64_t count;
    int C, E;
    const float *values, *uv, *weight, *extra;  // [count, C], [count, 2], [count] or null, [count, E] or null

    Points view(int64_t b) const {
        const int64_t first = b * count;
        return {count, C, E, values + first * C, uv + first * 2, weight ? weight + first : nullptr,
                extra ? extra + first * E : nullptr};
    }
};

// The texel up and to the left of a point, and how far beyond its centre the point lies.
struct Place {
    int column, row;  // from -1 to size - 1 where the point reaches the map
    float fx, fy;
};

// x, y: in texels of level 0; scale: 2^-level, so that the products are exact and the same in every version.
OMEGA_INLINE Place place_of(float x, float y, float scale) {
    const float at_x = x * scale - 0.5f, at_y = y * scale - 0.5f;
    const float floor_x = std::floor(at_x), floor_y = std::floor(at_y);
    return {(int)floor_x, (int)floor_y, at_x - floor_x, at_y - floor_y};
}

// False: NaN, infinite, or half a texel of the coarsest level outside the map. x, y: in texels of level 0.
OMEGA_INLINE bool locate(const float* uv, int H, int W, int levels, float& x, float& y) {
    if (!is_finite(uv[0]) || !is_finite(uv[1])) return false;
    x = uv[0] * (float)W, y = uv[1] * (float)H;
    const float border = 0.5f * (float)(1 << (levels - 1));
    return x > -border && x < (float)W + border && y > -border && y < (float)H + border;
}

OMEGA_INLINE void prefetch(const float* from, int count) {
    for (int k = 0; k < count; k += 16) __builtin_prefetch(from + k);
}

}  // namespace omega
