// Mesh z-buffer: the nearest face at every pixel centre. Meaning: kernels/reference.py mesh_raster.
//
// Faces are set up once, binned into bands of rows, and each band is drawn by one thread in face
// order with a strict depth test. Every pixel therefore sees the same faces in the same order for any
// number of threads. Barycentrics are worked out afterwards, for the winning face only.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "wide.h"

namespace {

using omega::clamp;

constexpr int kBandRows = 16;
constexpr float kNear = 0.01f;

// Edge k runs opposite corner k: value(x, y) = dx * (y - y0) - dy * (x - x0), times the sign that
// makes the inside positive. Measuring from the lower-numbered vertex, two faces that share an edge
// compute exactly opposite numbers there, and no pixel falls between them.
struct Edge {
    float x0, y0, dx, dy;
};

struct Face {
    Edge edge[3];
    float inverse_w[3];
    float z_over_w[3];
    int x_first, x_last, y_first, y_last;  // pixels; empty when first > last
};

// False for an index out of range; faces that cannot be seen come back with an empty box.
OMEGA_INLINE bool set_up_face(const float* clip, int64_t V, const int64_t* corner, int H, int W, Face& face) {
    face.x_first = face.y_first = 1;
    face.x_last = face.y_last = 0;
    float x[3], y[3];
    bool drawable = true;
    for (int k = 0; k < 3; k++) {
        if (corner[k] < 0 || corner[k] >= V) return false;
        const float* p = clip + 4 * corner[k];
        if (!omega::is_finite(p[0]) || !omega::is_finite(p[1]) || !omega::is_finite(p[2]) ||
            !omega::is_finite(p[3]) || p[2] <= kNear) {
            drawable = false;
            continue;
        }
        x[k] = p[0] / p[3];
        y[k] = p[1] / p[3];
        face.inverse_w[k] = 1.0f / p[3];
        face.z_over_w[k] = p[2] / p[3];
        drawable = drawable && omega::is_finite(x[k]) && omega::is_finite(y[k]);
    }
    if (!drawable) return true;
    const float area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0]);
    if (std::fabs(area) <= 1e-12f) return true;
    for (int k = 0; k < 3; k++) {
        int start = (k + 1) % 3, end = (k + 2) % 3;
        const bool flipped = corner[start] > corner[end];
        if (flipped) std::swap(start, end);
        // A sign flip of dx and dy flips the value exactly: the arithmetic is symmetric in sign.
        const float sign = flipped == (area > 0) ? -1.0f : 1.0f;
        face.edge[k] = {x[start], y[start], sign * (x[end] - x[start]), sign * (y[end] - y[start])};
    }
    const float lowest_x = std::min({x[0], x[1], x[2]}), highest_x = std::max({x[0], x[1], x[2]});
    const float lowest_y = std::min({y[0], y[1], y[2]}), highest_y = std::max({y[0], y[1], y[2]});
    face.x_first = (int)std::ceil(clamp(lowest_x - 0.5f, 0.0f, (float)W));
    face.x_last = (int)std::floor(clamp(highest_x - 0.5f, -1.0f, (float)(W - 1)));
    face.y_first = (int)std::ceil(clamp(lowest_y - 0.5f, 0.0f, (float)H));
    face.y_last = (int)std::floor(clamp(highest_y - 0.5f, -1.0f, (float)(H - 1)));
    return true;
}


OMEGA_INLINE float edge_row(const Edge& e, float y) { return e.dx * (y - e.y0); }

// Eight neighbouring pixels at a time. Lanes past a face's box are rejected by the edge tests, and
// lanes past the image land in the padding of the band's own buffers.
constexpr int kStep = 8;
struct Band {
    int y_first, y_last, stride;  // stride: image width plus kStep of padding
    std::vector<float> depth;
    std::vector<float> winner;  // face number, -1 for none: exact in a float up to 2^24

    explicit Band(int width) : stride(width + kStep), depth(kBandRows * stride), winner(kBandRows * stride) {}

    void reset(int first, int last) {
        y_first = first, y_last = last;
        std::fill(depth.begin(), depth.end(), std::numeric_limits<float>::max());
        std::fill(winner.begin(), winner.end(), -1.0f);
    }
};

template <int L>
OMEGA_INLINE void draw_band_of(const Face* faces, const int* members, int64_t count, Band& band) {
    constexpr int kRegister = L < kStep ? L : kStep;
    using Pixels = omega::Wide<kStep, kRegister>;
    const Pixels nowhere = omega::wide<kStep, kRegister>(std::numeric_limits<float>::max()), zero = omega::wide<kStep, kRegister>(0.0f);
    const Pixels centres = omega::ramp<kStep, kRegister>(0.5f);
    for (int64_t k = 0; k < count; k++) {
        const int32_t id = members[k];
        const Face& f = faces[id];
        const Pixels number = omega::wide<kStep, kRegister>((float)id);
        const int y_begin = std::max(f.y_first, band.y_first), y_end = std::min(f.y_last, band.y_last);
        for (int row = y_begin; row <= y_end; row++) {
            const float y = row + 0.5f;
            const float r0 = edge_row(f.edge[0], y), r1 = edge_row(f.edge[1], y), r2 = edge_row(f.edge[2], y);
            float* depth_row = band.depth.data() + (row - band.y_first) * band.stride;
            float* winner_row = band.winner.data() + (row - band.y_first) * band.stride;
            for (int column = f.x_first; column <= f.x_last; column += kStep) {
                const Pixels x = centres + (float)column;
                const Pixels e0 = r0 - (x - f.edge[0].x0) * f.edge[0].dy;
                const Pixels e1 = r1 - (x - f.edge[1].x0) * f.edge[1].dy;
                const Pixels e2 = r2 - (x - f.edge[2].x0) * f.edge[2].dy;
                const Pixels above = e0 * f.z_over_w[0] + e1 * f.z_over_w[1] + e2 * f.z_over_w[2];
                const Pixels below = e0 * f.inverse_w[0] + e1 * f.inverse_w[1] + e2 * f.inverse_w[2];
                Pixels z = if_less(zero, below, above / below, nowhere);
                z = if_less(smaller(e0, smaller(e1, e2)), zero, nowhere, z);
                const Pixels depth = omega::load<kStep, kRegister>(depth_row + column);
                const Pixels winner = omega::load<kStep, kRegister>(winner_row + column);
                omega::store<kStep, kRegister>(winner_row + column, if_less(z, depth, number, winner));
                omega::store<kStep, kRegister>(depth_row + column, if_less(z, depth, z, depth));
            }
        }
    }
}

OMEGA_VERSIONS(void, draw_band, (const Face* faces, const int* members, int64_t count, Band& band),
               (faces, members, count, band))

void resolve_band(const Face* faces, const Band& band, int W, int64_t* face_index, float* barycentric,
                  float* depth) {
    for (int row = band.y_first; row <= band.y_last; row++) {
        const float y = row + 0.5f;
        const int64_t local = (int64_t)(row - band.y_first) * band.stride;
        for (int column = 0; column < W; column++) {
            const int64_t pixel = (int64_t)row * W + column;
            const int32_t id = (int32_t)band.winner[local + column];
            face_index[pixel] = id;
            float* b = barycentric + 3 * pixel;
            if (id < 0) {
                b[0] = b[1] = b[2] = 0.0f;
                omega::set_infinity(depth + pixel);
                continue;
            }
            const Face& f = faces[id];
            const float x = column + 0.5f;
            float e[3], total = 0.0f;
            for (int k = 0; k < 3; k++) {
                e[k] = (edge_row(f.edge[k], y) - f.edge[k].dy * (x - f.edge[k].x0)) * f.inverse_w[k];
                total += e[k];
            }
            const float scale = 1.0f / total;
            for (int k = 0; k < 3; k++) b[k] = e[k] * scale;
            depth[pixel] = band.depth[local + column];
        }
    }
}

// Face ids of every band, in face order: starts[band] .. starts[band + 1] of `members`.
void bin_faces(const std::vector<Face>& faces, int bands, std::vector<int64_t>& starts, std::vector<int>& members) {
    starts.assign(bands + 1, 0);
    auto visible = [](const Face& f) { return f.x_first <= f.x_last && f.y_first <= f.y_last; };
    for (const Face& f : faces)
        if (visible(f))
            for (int b = f.y_first / kBandRows; b <= f.y_last / kBandRows; b++) starts[b + 1]++;
    for (int b = 0; b < bands; b++) starts[b + 1] += starts[b];
    members.resize(starts[bands]);
    std::vector<int64_t> next(starts.begin(), starts.end() - 1);
    for (size_t id = 0; id < faces.size(); id++)
        if (visible(faces[id]))
            for (int b = faces[id].y_first / kBandRows; b <= faces[id].y_last / kBandRows; b++)
                members[next[b]++] = (int)id;
}

}  // namespace

// clip_vertices [V, 4], faces [F, 3] -> face_index [H, W], barycentric [H, W, 3], depth [H, W].
// Returns 0, or 1 when a face names a vertex that does not exist.
OMEGA_EXPORT int omega_mesh_raster(const float* clip_vertices, int64_t V, const int64_t* faces, int64_t F,
                                   int64_t height, int64_t width, int threads, int64_t* face_index,
                                   float* barycentric, float* depth) {
    const int H = (int)height, W = (int)width, bands = (H + kBandRows - 1) / kBandRows;
    std::vector<Face> prepared(F);
    int bad = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : bad)
    for (int64_t f = 0; f < F; f++) bad |= !set_up_face(clip_vertices, V, faces + 3 * f, H, W, prepared[f]);
    if (bad) return 1;

    std::vector<int64_t> starts;
    std::vector<int> members;
    bin_faces(prepared, bands, starts, members);
#pragma omp parallel num_threads(threads)
    {
        Band band(W);
#pragma omp for schedule(dynamic, 1)
        for (int b = 0; b < bands; b++) {
            band.reset(b * kBandRows, std::min(H, (b + 1) * kBandRows) - 1);
            draw_band(prepared.data(), members.data() + starts[b], starts[b + 1] - starts[b], band);
            resolve_band(prepared.data(), band, W, face_index, barycentric, depth);
        }
    }
    return 0;
}
