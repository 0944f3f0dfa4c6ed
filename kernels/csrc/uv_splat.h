// What the splat on the CPU and its gradient share: points, and where they fall.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "common.h"

namespace omega {

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

// x, y: in texels.
OMEGA_INLINE Place place_of(float x, float y) {
    const float floor_x = std::floor(x - 0.5f), floor_y = std::floor(y - 0.5f);
    return {(int)floor_x, (int)floor_y, x - 0.5f - floor_x, y - 0.5f - floor_y};
}

// False: NaN, infinite, or half a texel outside the map. x, y: in texels.
OMEGA_INLINE bool locate(const float* uv, int H, int W, float& x, float& y) {
    if (!is_finite(uv[0]) || !is_finite(uv[1])) return false;
    x = uv[0] * (float)W, y = uv[1] * (float)H;
    return x > -0.5f && x < (float)W + 0.5f && y > -0.5f && y < (float)H + 0.5f;
}

OMEGA_INLINE void prefetch(const float* from, int count) {
    for (int k = 0; k < count; k += 16) __builtin_prefetch(from + k);
}

}  // namespace omega
