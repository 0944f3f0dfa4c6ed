// Gaussians carried along by a deforming surface, forward only. Meaning: omega_cli/gaussians/binding.py,
// whose torch code runs wherever a gradient is wanted.

#include <algorithm>
#include <cmath>

#include "common.h"

namespace {

constexpr int kRow = 16;  // of the vertex table: position 3, rotation quaternion 4, squared stretch 6, unused 3
constexpr float kTiny = 1e-12f;

struct Vec {
    float x, y, z;
};

OMEGA_INLINE float dot(const Vec& a, const Vec& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
OMEGA_INLINE Vec add(const Vec& a, const Vec& b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
OMEGA_INLINE Vec times(float s, const Vec& a) { return {s * a.x, s * a.y, s * a.z}; }
OMEGA_INLINE Vec cross(const Vec& a, const Vec& b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

// Unit quaternion of a rotation with rows r; the best conditioned of the four classic formulas.
OMEGA_INLINE void quaternion_of(const Vec* r, float* q) {
    const float xx = r[0].x, yy = r[1].y, zz = r[2].z;
    const float squares[4] = {1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz};
    int best = 0;
    for (int k = 1; k < 4; k++)
        if (squares[k] > squares[best]) best = k;
    const float a0 = r[2].y - r[1].z, a1 = r[0].z - r[2].x, a2 = r[1].x - r[0].y;
    const float b0 = r[1].x + r[0].y, b1 = r[0].z + r[2].x, b2 = r[2].y + r[1].z;
    const float rows[4][4] = {{squares[0], a0, a1, a2},
                              {a0, squares[1], b0, b1},
                              {a1, b0, squares[2], b2},
                              {a2, b1, b2, squares[3]}};
    const float* row = rows[best];
    const float scale = 1.0f / std::sqrt(row[0] * row[0] + row[1] * row[1] + row[2] * row[2] + row[3] * row[3]);
    for (int k = 0; k < 4; k++) q[k] = row[k] * scale;
}

struct Surface {
    const float* posed;       // [V, 3]
    const int64_t* offsets;   // [V]: where each vertex's stencil starts
    const int64_t* columns;   // its neighbours
    const float *weights_t, *weights_b;
    const float* frame;       // [V, 3, 3], columns: tangent, tangent, normal
    const float* products;    // [V, 4, 6]
    const uint8_t* usable;    // [V]
    int64_t vertices, entries;
};

OMEGA_INLINE void measure_vertex(const Surface& s, int64_t i, float* out) {
    for (int k = 0; k < 3; k++) out[k] = s.posed[3 * i + k];
    Vec u = {0, 0, 0}, v = {0, 0, 0};
    const int64_t end = i + 1 < s.vertices ? s.offsets[i + 1] : s.entries;
    for (int64_t k = s.offsets[i]; k < end; k++) {
        const float* p = s.posed + 3 * s.columns[k];
        const Vec at = {p[0], p[1], p[2]};
        u = add(u, times(s.weights_t[k], at)), v = add(v, times(s.weights_b[k], at));
    }
    const Vec normal = cross(u, v);
    const float area = std::sqrt(dot(normal, normal));
    float coefficients[4] = {1, 0, 1, 1};
    float* q = out + 3;
    if (s.usable[i] && area > 1e-9f) {
        const float uu = dot(u, u), uv = dot(u, v), vv = dot(v, v);
        const Vec n = times(1.0f / area, normal), along = times(1.0f / std::sqrt(std::max(uu, kTiny)), u);
        const float c0 = uu + area, s0 = -uv, scale = 1.0f / std::sqrt(c0 * c0 + s0 * s0);
        const Vec t = add(times(c0 * scale, along), times(s0 * scale, cross(n, along))), b = cross(n, t);
        const float* F = s.frame + 9 * i;  // R = [t b n] F^T
        Vec rows[3];
        for (int c = 0; c < 3; c++) {
            const float T = F[3 * c], B = F[3 * c + 1], N = F[3 * c + 2];
            const Vec column = add(add(times(T, t), times(B, b)), times(N, n));
            float* const target[3] = {&rows[0].x + c, &rows[1].x + c, &rows[2].x + c};
            *target[0] = column.x, *target[1] = column.y, *target[2] = column.z;
        }
        quaternion_of(rows, q);
        coefficients[0] = uu, coefficients[1] = uv, coefficients[2] = vv, coefficients[3] = area;
    } else {
        q[0] = 1, q[1] = q[2] = q[3] = 0;
    }
    const float* P = s.products + 24 * i;
    for (int k = 0; k < 6; k++) {
        out[7 + k] = 0;
        for (int c = 0; c < 4; c++) out[7 + k] += coefficients[c] * P[6 * c + k];
    }
    out[13] = out[14] = out[15] = 0;
}

template <int>
OMEGA_INLINE void measure_range_of(const Surface& s, int64_t begin, int64_t end, float* table) {
    for (int64_t i = begin; i < end; i++) measure_vertex(s, i, table + kRow * i);
}

OMEGA_VERSIONS(void, measure_range, (const Surface& s, int64_t begin, int64_t end, float* table),
               (s, begin, end, table))

struct Bound {
    const int32_t* corners;    // [N, 3]
    const float* barycentric;  // [N, 3]
    const float* shift;        // [N, 3] or null
    const float *quats, *scales;
};

OMEGA_INLINE Vec rotated(const float* q, const Vec& a) {
    const Vec v = {q[1], q[2], q[3]}, t = times(2.0f, cross(v, a));
    return add(add(a, times(q[0], t)), cross(v, t));
}

OMEGA_INLINE void pose_one(const Bound& g, const float* table, int64_t i, float* mean, float* quat, float* scale) {
    const float* rows[3];
    float weights[3];
    for (int k = 0; k < 3; k++) {
        rows[k] = table + (int64_t)kRow * g.corners[3 * i + k];
        weights[k] = g.barycentric[3 * i + k];
    }
    // q and -q are one rotation, but blend to nothing: each corner's sign is made to agree with the first's
    float blended[kRow];
    const float* first = rows[0] + 3;
    for (int c = 0; c < kRow; c++) blended[c] = weights[0] * rows[0][c];
    for (int k = 1; k < 3; k++) {
        const float* q = rows[k] + 3;
        const float agree = q[0] * first[0] + q[1] * first[1] + q[2] * first[2] + q[3] * first[3];
        const float turn_weight = agree < 0 ? -weights[k] : weights[k];
        for (int c = 0; c < kRow; c++) blended[c] += (c >= 3 && c < 7 ? turn_weight : weights[k]) * rows[k][c];
    }
    float* q = blended + 3;
    const float* C = blended + 7;
    const float unit = 1.0f / std::sqrt(std::max(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3], kTiny));
    for (int k = 0; k < 4; k++) q[k] *= unit;
    const float* p = g.quats + 4 * i;
    quat[0] = q[0] * p[0] - q[1] * p[1] - q[2] * p[2] - q[3] * p[3];
    quat[1] = q[0] * p[1] + q[1] * p[0] + q[2] * p[3] - q[3] * p[2];
    quat[2] = q[0] * p[2] - q[1] * p[3] + q[2] * p[0] + q[3] * p[1];
    quat[3] = q[0] * p[3] + q[1] * p[2] - q[2] * p[1] + q[3] * p[0];
    const float length2 = std::max(p[0] * p[0] + p[1] * p[1] + p[2] * p[2] + p[3] * p[3], kTiny);
    const float w = p[0], x = p[1], y = p[2], z = p[3], two = 2.0f / length2;
    const Vec axes[3] = {{1 - two * (y * y + z * z), two * (x * y + w * z), two * (x * z - w * y)},
                         {two * (x * y - w * z), 1 - two * (x * x + z * z), two * (y * z + w * x)},
                         {two * (x * z + w * y), two * (y * z - w * x), 1 - two * (x * x + y * y)}};
    for (int k = 0; k < 3; k++) {
        const Vec& a = axes[k];
        const float stretch = C[0] * a.x * a.x + C[1] * a.y * a.y + C[2] * a.z * a.z +
                              2 * (C[3] * a.x * a.y + C[4] * a.x * a.z + C[5] * a.y * a.z);
        scale[k] = g.scales[3 * i + k] * std::sqrt(std::max(stretch, kTiny));
    }
    Vec moved = {0, 0, 0};
    if (g.shift) {
        const float* s = g.shift + 3 * i;
        const float size = std::sqrt(std::max((C[0] + C[1] + C[2]) / 3, kTiny));
        moved = times(size, rotated(q, {s[0], s[1], s[2]}));
    }
    mean[0] = blended[0] + moved.x, mean[1] = blended[1] + moved.y, mean[2] = blended[2] + moved.z;
}

template <int>
OMEGA_INLINE void pose_range_of(const Bound& g, const float* table, int64_t begin, int64_t end, float* means,
                                float* quats, float* scales) {
    for (int64_t i = begin; i < end; i++) pose_one(g, table, i, means + 3 * i, quats + 4 * i, scales + 3 * i);
}

OMEGA_VERSIONS(void, pose_range,
               (const Bound& g, const float* table, int64_t begin, int64_t end, float* means, float* quats,
                float* scales),
               (g, table, begin, end, means, quats, scales))

}  // namespace

// Rotation and stretch at V vertices, then N Gaussians blended from the corners of their faces.
// table [V, 16] is scratch; shift may be null; corners must be in range.
OMEGA_EXPORT void omega_gaussian_pose(int64_t V, int64_t entries, const float* posed, const int64_t* offsets,
                                      const int64_t* columns, const float* weights_t, const float* weights_b,
                                      const float* frame, const float* products, const uint8_t* usable, int64_t N,
                                      const int32_t* corners, const float* barycentric, const float* shift,
                                      const float* quats, const float* scales, int threads, float* table,
                                      float* posed_means, float* posed_quats, float* posed_scales) {
    const Surface surface = {posed, offsets, columns, weights_t, weights_b, frame, products, usable, V, entries};
    const Bound bound = {corners, barycentric, shift, quats, scales};
    const int64_t chunk = 512;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int64_t i = 0; i < V; i += chunk) measure_range(surface, i, std::min(V, i + chunk), table);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < N; i += chunk)
            pose_range(bound, table, i, std::min(N, i + chunk), posed_means, posed_quats, posed_scales);
    }
}
