// Gaussians carried along by a deforming surface, on CUDA, forward only. The CPU's twin is
// gaussian_pose_cpu.cpp; what it means is said in omega_cli/gaussians/binding.py.
//
// Two launches. measure: a thread a vertex writes a row of 16 floats, so that the second kernel fetches a
// corner with four 16-byte loads. pose: a thread a Gaussian blends the rows of its face's corners. The table
// (V x 64 bytes, half a megabyte) stays in the L2 cache between the two.

#include "cuda_common.cuh"

namespace {

constexpr int kRow = 16;  // position 3, rotation quaternion 4, squared stretch 6, unused 3
constexpr float kTiny = 1e-12f;
constexpr int kVertexThreads = 64;  // few vertices: small blocks reach more processors
constexpr int kGaussianThreads = 128;

__device__ float3 operator+(float3 a, float3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
__device__ float3 operator*(float s, float3 a) { return {s * a.x, s * a.y, s * a.z}; }
__device__ float dot(float3 a, float3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
__device__ float3 cross(float3 a, float3 b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
__device__ float3 load3(const float* p) { return {p[0], p[1], p[2]}; }
__device__ void store3(float* p, float3 a) { p[0] = a.x, p[1] = a.y, p[2] = a.z; }

// Unit quaternion (w, x, y, z) of the rotation with these columns; the best conditioned of the four classic
// formulas, chosen by value so that nothing is indexed at run time (that would leave the registers).
__device__ float4 quaternion_of(float3 cx, float3 cy, float3 cz) {
    const float xx = cx.x, yy = cy.y, zz = cz.z;
    const float sw = 1 + xx + yy + zz, sx = 1 + xx - yy - zz, sy = 1 - xx + yy - zz, sz = 1 - xx - yy + zz;
    const float a0 = cy.z - cz.y, a1 = cz.x - cx.z, a2 = cx.y - cy.x;
    const float b0 = cx.y + cy.x, b1 = cz.x + cx.z, b2 = cy.z + cz.y;
    float4 row = make_float4(sw, a0, a1, a2);
    float best = sw;
    if (sx > best) best = sx, row = make_float4(a0, sx, b0, b1);
    if (sy > best) best = sy, row = make_float4(a1, b0, sy, b2);
    if (sz > best) best = sz, row = make_float4(a2, b1, b2, sz);
    const float scale = rsqrtf(row.x * row.x + row.y * row.y + row.z * row.z + row.w * row.w);
    return make_float4(row.x * scale, row.y * scale, row.z * scale, row.w * scale);
}

struct Surface {
    const float* posed;      // [V, 3]
    const int64_t* offsets;  // [V]: where each vertex's stencil starts
    const int64_t* columns;  // its neighbours
    const float *weights_t, *weights_b;
    const float* frame;     // [V, 3, 3], columns: tangent, tangent, normal
    const float* products;  // [V, 4, 6]
    const uint8_t* usable;  // [V]
    int64_t vertices, entries;
};

__global__ void __launch_bounds__(kVertexThreads) measure(Surface s, float4* __restrict__ table) {
    const int64_t i = (int64_t)blockIdx.x * kVertexThreads + threadIdx.x;
    if (i >= s.vertices) return;
    float3 u = {0, 0, 0}, v = {0, 0, 0};
    const int64_t end = i + 1 < s.vertices ? s.offsets[i + 1] : s.entries;
    for (int64_t k = s.offsets[i]; k < end; k++) {
        const float3 at = load3(s.posed + 3 * s.columns[k]);
        u = u + s.weights_t[k] * at, v = v + s.weights_b[k] * at;
    }
    const float3 normal = cross(u, v);
    const float area = sqrtf(dot(normal, normal));
    float coefficients[4] = {1, 0, 1, 1};
    float4 q = make_float4(1, 0, 0, 0);
    if (s.usable[i] && area > 1e-9f) {
        const float uu = dot(u, u), uv = dot(u, v), vv = dot(v, v);
        const float3 n = (1.0f / area) * normal, along = rsqrtf(fmaxf(uu, kTiny)) * u;
        const float c0 = uu + area, s0 = -uv, scale = rsqrtf(c0 * c0 + s0 * s0);
        const float3 t = (c0 * scale) * along + (s0 * scale) * cross(n, along), b = cross(n, t);
        const float* F = s.frame + 9 * i;  // R = [t b n] F^T
        q = quaternion_of(F[0] * t + F[1] * b + F[2] * n, F[3] * t + F[4] * b + F[5] * n,
                          F[6] * t + F[7] * b + F[8] * n);
        coefficients[0] = uu, coefficients[1] = uv, coefficients[2] = vv, coefficients[3] = area;
    }
    const float* P = s.products + 24 * i;
    float C[6];
#pragma unroll
    for (int k = 0; k < 6; k++) {
        C[k] = 0;
#pragma unroll
        for (int c = 0; c < 4; c++) C[k] += coefficients[c] * P[6 * c + k];
    }
    const float3 at = load3(s.posed + 3 * i);
    float4* row = table + (kRow / 4) * i;
    row[0] = make_float4(at.x, at.y, at.z, q.x);
    row[1] = make_float4(q.y, q.z, q.w, C[0]);
    row[2] = make_float4(C[1], C[2], C[3], C[4]);
    row[3] = make_float4(C[5], 0, 0, 0);
}

struct Row {
    float3 at;
    float4 q;
    float C[6];
};

__device__ Row load_row(const float4* __restrict__ table, int corner) {
    const float4* p = table + (kRow / 4) * (int64_t)corner;
    const float4 a = p[0], b = p[1], c = p[2];
    return {{a.x, a.y, a.z}, make_float4(a.w, b.x, b.y, b.z), {b.w, c.x, c.y, c.z, c.w, p[3].x}};
}

__device__ void add_row(Row& sum, const Row& row, float weight, float turn_weight) {
    sum.at = sum.at + weight * row.at;
    sum.q.x += turn_weight * row.q.x, sum.q.y += turn_weight * row.q.y;
    sum.q.z += turn_weight * row.q.z, sum.q.w += turn_weight * row.q.w;
#pragma unroll
    for (int k = 0; k < 6; k++) sum.C[k] += weight * row.C[k];
}

struct Bound {
    const int32_t* corners;    // [N, 3]
    const float* barycentric;  // [N, 3]
    const float* shift;        // [N, 3] or null
    const float4* quats;       // [N], wxyz in .x .y .z .w
    const float* scales;       // [N, 3]
    int64_t count;
};

__device__ float stretch_along(const float* C, float3 a) {
    const float squared = C[0] * a.x * a.x + C[1] * a.y * a.y + C[2] * a.z * a.z +
                          2 * (C[3] * a.x * a.y + C[4] * a.x * a.z + C[5] * a.y * a.z);
    return sqrtf(fmaxf(squared, kTiny));
}

__global__ void __launch_bounds__(kGaussianThreads)
    pose(Bound g, const float4* __restrict__ table, float* __restrict__ means, float4* __restrict__ quats,
         float* __restrict__ scales) {
    const int64_t i = (int64_t)blockIdx.x * kGaussianThreads + threadIdx.x;
    if (i >= g.count) return;
    const int32_t* corner = g.corners + 3 * i;
    const float3 weight = load3(g.barycentric + 3 * i);
    const Row first = load_row(table, corner[0]);
    Row sum = {{0, 0, 0}, make_float4(0, 0, 0, 0), {0, 0, 0, 0, 0, 0}};
    add_row(sum, first, weight.x, weight.x);
    // q and -q are one rotation, but blend to nothing: each corner's sign is made to agree with the first's
#pragma unroll
    for (int k = 1; k < 3; k++) {
        const Row row = load_row(table, corner[k]);
        const float w = k == 1 ? weight.y : weight.z;
        const float agree = row.q.x * first.q.x + row.q.y * first.q.y + row.q.z * first.q.z + row.q.w * first.q.w;
        add_row(sum, row, w, agree < 0 ? -w : w);
    }
    float4 q = sum.q;
    const float unit = rsqrtf(fmaxf(q.x * q.x + q.y * q.y + q.z * q.z + q.w * q.w, kTiny));
    q = make_float4(q.x * unit, q.y * unit, q.z * unit, q.w * unit);
    const float4 p = g.quats[i];
    const float w = p.x, x = p.y, y = p.z, z = p.w;
    quats[i] = make_float4(q.x * w - q.y * x - q.z * y - q.w * z, q.x * x + q.y * w + q.z * z - q.w * y,
                           q.x * y - q.y * z + q.z * w + q.w * x, q.x * z + q.y * y - q.z * x + q.w * w);
    const float two = 2.0f / fmaxf(w * w + x * x + y * y + z * z, kTiny);
    const float3 own = load3(g.scales + 3 * i);
    store3(scales + 3 * i,
           {own.x * stretch_along(sum.C, {1 - two * (y * y + z * z), two * (x * y + w * z), two * (x * z - w * y)}),
            own.y * stretch_along(sum.C, {two * (x * y - w * z), 1 - two * (x * x + z * z), two * (y * z + w * x)}),
            own.z * stretch_along(sum.C, {two * (x * z + w * y), two * (y * z - w * x), 1 - two * (x * x + y * y)})});
    float3 mean = sum.at;
    if (g.shift) {
        const float3 shift = load3(g.shift + 3 * i), axis = {q.y, q.z, q.w};
        const float3 t = 2.0f * cross(axis, shift);
        const float size = sqrtf(fmaxf((sum.C[0] + sum.C[1] + sum.C[2]) / 3, kTiny));
        mean = mean + size * (shift + q.x * t + cross(axis, t));
    }
    store3(means + 3 * i, mean);
}

}  // namespace

// Rotation and stretch at V vertices, then N Gaussians blended from the corners of their faces.
// table [V, 16] is scratch; shift may be null; corners must be in range; table, quats and posed_quats must
// lie at multiples of 16 bytes.
OMEGA_EXPORT int omega_cuda_gaussian_pose(int64_t V, int64_t entries, const float* posed, const int64_t* offsets,
                                          const int64_t* columns, const float* weights_t, const float* weights_b,
                                          const float* frame, const float* products, const uint8_t* usable,
                                          int64_t N, const int32_t* corners, const float* barycentric,
                                          const float* shift, const float* quats, const float* scales, float* table,
                                          float* posed_means, float* posed_quats, float* posed_scales, void* stream) {
    const Surface surface = {posed, offsets, columns, weights_t, weights_b, frame, products, usable, V, entries};
    const Bound bound = {corners, barycentric, shift, (const float4*)quats, scales, N};
    const cudaStream_t queue = (cudaStream_t)stream;
    if (V > 0) measure<<<omega::blocks_for(V, kVertexThreads), kVertexThreads, 0, queue>>>(surface, (float4*)table);
    if (N > 0)
        pose<<<omega::blocks_for(N, kGaussianThreads), kGaussianThreads, 0, queue>>>(
            bound, (const float4*)table, posed_means, (float4*)posed_quats, posed_scales);
    return omega::launched();
}
