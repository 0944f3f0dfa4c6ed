// What the Gaussian kernels share: a splat, and the tiles that it touches.
#pragma once

#include <algorithm>
#include <cmath>

#include "common.h"

namespace omega {

constexpr int kTile = 16;  // pixels on a side; also the width of a SIMD row

// One Gaussian in the image. Eight floats, the row of a [N, 8] tensor.
struct Splat {
    float x, y;                // centre, px
    float a, b, c;             // conic (inverse covariance): exponent -(a dx^2 + c dy^2) / 2 - b dx dy
    float depth;               // m
    float extent_x, extent_y;  // half size of the box in which alpha reaches 1/255, px; 0: not seen

    bool seen() const { return extent_x > 0; }
};

struct TileRect {
    int32_t x0, y0, x1, y1;  // tiles, both ends included; empty when x1 < x0
};

// Tiles that hold a pixel centre within the box of a seen splat.
OMEGA_INLINE TileRect tiles_of(const Splat& s, int H, int W) {
    const int first_x = (int)std::ceil(clamp(s.x - s.extent_x - 0.5f, 0.0f, (float)W));
    const int first_y = (int)std::ceil(clamp(s.y - s.extent_y - 0.5f, 0.0f, (float)H));
    const int last_x = (int)std::floor(clamp(s.x + s.extent_x - 0.5f, -1.0f, (float)(W - 1)));
    const int last_y = (int)std::floor(clamp(s.y + s.extent_y - 0.5f, -1.0f, (float)(H - 1)));
    if (last_x < first_x || last_y < first_y) return {0, 0, -1, -1};
    return {first_x / kTile, first_y / kTile, last_x / kTile, last_y / kTile};
}

}  // namespace omega
