// Gaussians to image splats: EWA projection, forward and backward, pinhole and orthographic.
// Meaning: kernels/gaussian_reference.py project; the formulas follow gsplat's conventions.
//
// Work goes in blocks of arrays (structure of arrays on the stack) whose loops have no branches, so
// that the compiler turns each into SIMD code.

#include <algorithm>
#include <cmath>

#include "gaussian_splat.h"

namespace {

using omega::clamp;
using omega::Splat;

constexpr int kBlock = 64;
constexpr float kNearestAlpha = 1.0f / 255.0f;

struct View {
    float R[9], t[3];
    float fx, fy, cx, cy;
    float low_u, high_u, low_v, high_v;  // range of x / z, y / z in the Jacobian
    float width, height, near_plane, blur;
    bool ortho;
};

View make_view(const float* viewmat, const float* K, int64_t height, int64_t width, int ortho, float near_plane,
               float blur) {
    View v;
    for (int r = 0; r < 3; r++) {
        for (int c = 0; c < 3; c++) v.R[3 * r + c] = viewmat[4 * r + c];
        v.t[r] = viewmat[4 * r + 3];
    }
    v.fx = K[0], v.fy = K[4], v.cx = K[2], v.cy = K[5];
    v.width = (float)width, v.height = (float)height;
    // Beyond 1.3 times the field of view the linearisation grows without bound: held there, as gsplat.
    const float margin_u = 0.15f * v.width / v.fx, margin_v = 0.15f * v.height / v.fy;
    v.low_u = -v.cx / v.fx - margin_u, v.high_u = (v.width - v.cx) / v.fx + margin_u;
    v.low_v = -v.cy / v.fy - margin_v, v.high_v = (v.height - v.cy) / v.fy + margin_v;
    v.near_plane = near_plane, v.blur = blur, v.ortho = ortho != 0;
    return v;
}

// Everything between a Gaussian and its 2D covariance that the backward pass needs again.
struct Chain {
    float x, y, z, inverse_z, u, v;  // camera position; u, v: clamped x / z, y / z
    float q[4], inverse_norm;        // unit quaternion wxyz
    float R[9];                      // its rotation
    float J[6];                      // d pixel / d camera position, 2 x 3
    float U[6];                      // J times the camera rotation
    float Q[6];                      // U R diag(scales); covariance = Q Q^T + blur
    float A, B, D;                   // covariance (blurred): [[A, B], [B, D]]
};

OMEGA_INLINE void rotation_of(const float* q, float* R) {
    const float w = q[0], x = q[1], y = q[2], z = q[3];
    R[0] = 1 - 2 * (y * y + z * z), R[1] = 2 * (x * y - w * z), R[2] = 2 * (x * z + w * y);
    R[3] = 2 * (x * y + w * z), R[4] = 1 - 2 * (x * x + z * z), R[5] = 2 * (y * z - w * x);
    R[6] = 2 * (x * z - w * y), R[7] = 2 * (y * z + w * x), R[8] = 1 - 2 * (x * x + y * y);
}

template <bool kOrtho>
OMEGA_INLINE void run_chain(const View& v, const float* m, const float* quat, const float* s, Chain& c) {
    c.x = v.R[0] * m[0] + v.R[1] * m[1] + v.R[2] * m[2] + v.t[0];
    c.y = v.R[3] * m[0] + v.R[4] * m[1] + v.R[5] * m[2] + v.t[1];
    c.z = v.R[6] * m[0] + v.R[7] * m[1] + v.R[8] * m[2] + v.t[2];
    c.inverse_norm = 1.0f / std::sqrt(quat[0] * quat[0] + quat[1] * quat[1] + quat[2] * quat[2] + quat[3] * quat[3]);
    for (int k = 0; k < 4; k++) c.q[k] = quat[k] * c.inverse_norm;
    rotation_of(c.q, c.R);
    if (kOrtho) {
        c.inverse_z = 1.0f, c.u = c.v = 0.0f;
        c.J[0] = v.fx, c.J[2] = 0.0f, c.J[4] = v.fy, c.J[5] = 0.0f;
    } else {
        c.inverse_z = 1.0f / c.z;
        c.u = clamp(c.x * c.inverse_z, v.low_u, v.high_u);
        c.v = clamp(c.y * c.inverse_z, v.low_v, v.high_v);
        c.J[0] = v.fx * c.inverse_z, c.J[2] = -v.fx * c.u * c.inverse_z;
        c.J[4] = v.fy * c.inverse_z, c.J[5] = -v.fy * c.v * c.inverse_z;
    }
    c.J[1] = c.J[3] = 0.0f;
    for (int k = 0; k < 3; k++) {
        c.U[k] = c.J[0] * v.R[k] + c.J[2] * v.R[6 + k];
        c.U[3 + k] = c.J[4] * v.R[3 + k] + c.J[5] * v.R[6 + k];
    }
    for (int k = 0; k < 3; k++) {
        c.Q[k] = (c.U[0] * c.R[k] + c.U[1] * c.R[3 + k] + c.U[2] * c.R[6 + k]) * s[k];
        c.Q[3 + k] = (c.U[3] * c.R[k] + c.U[4] * c.R[3 + k] + c.U[5] * c.R[6 + k]) * s[k];
    }
    c.A = c.Q[0] * c.Q[0] + c.Q[1] * c.Q[1] + c.Q[2] * c.Q[2] + v.blur;
    c.B = c.Q[0] * c.Q[3] + c.Q[1] * c.Q[4] + c.Q[2] * c.Q[5];
    c.D = c.Q[3] * c.Q[3] + c.Q[4] * c.Q[4] + c.Q[5] * c.Q[5] + v.blur;
}

// ln(x) for 1 <= x <= 255 to 1e-3, from above: it only sizes boxes, the exact cut is made per pixel.
OMEGA_INLINE float rough_log(float x) {
    int32_t bits;
    std::memcpy(&bits, &x, 4);
    const float exponent = (float)((bits >> 23) - 127);
    bits = (bits & 0x007fffff) | 0x3f800000;
    float m;
    std::memcpy(&m, &bits, 4);
    const float log2_m = (((-0.08001f * m + 0.63551f) * m - 2.0994f) * m + 4.04962f) * m - 2.50561f;
    return 0.69314718f * (exponent + log2_m) + 1e-3f;
}

template <bool kOrtho>
OMEGA_INLINE void project_block(const View& v, const float* means, const float* quats, const float* scales,
                                const float* opacities, Splat* out) {
    float px[kBlock], py[kBlock], z[kBlock], a[kBlock], b[kBlock], c[kBlock], ex[kBlock], ey[kBlock];
    int32_t seen[kBlock];
OMEGA_INDEPENDENT
    for (int i = 0; i < kBlock; i++) {
        Chain k;
        run_chain<kOrtho>(v, means + 3 * i, quats + 4 * i, scales + 3 * i, k);
        px[i] = v.fx * k.x * k.inverse_z + v.cx;
        py[i] = v.fy * k.y * k.inverse_z + v.cy;
        z[i] = k.z;
        const float determinant = k.A * k.D - k.B * k.B, inverse = 1.0f / determinant;
        a[i] = k.D * inverse, b[i] = -k.B * inverse, c[i] = k.A * inverse;
        const float opacity = opacities[i];
        const float reach2 = 2.0f * rough_log(std::max(255.0f * opacity, 1.0f));
        ex[i] = std::sqrt(reach2 * k.A) + 0.01f, ey[i] = std::sqrt(reach2 * k.D) + 0.01f;
        seen[i] = omega::is_finite(px[i]) & omega::is_finite(py[i]) & omega::is_finite(z[i]) &
                  omega::is_finite(a[i]) & omega::is_finite(b[i]) & omega::is_finite(c[i]) &
                  omega::is_finite(ex[i]) & omega::is_finite(ey[i]) & omega::is_finite(opacity) &
                  (z[i] >= v.near_plane) & (opacity >= kNearestAlpha) & (determinant > 0.0f) &
                  (px[i] + ex[i] > 0.5f) & (px[i] - ex[i] < v.width - 0.5f) & (py[i] + ey[i] > 0.5f) &
                  (py[i] - ey[i] < v.height - 0.5f);
    }
    for (int i = 0; i < kBlock; i++)
        out[i] = seen[i] ? Splat{px[i], py[i], a[i], b[i], c[i], z[i], ex[i], ey[i]} : Splat{};
}

template <int>
OMEGA_INLINE void project_range_of(const View& v, const float* means, const float* quats, const float* scales,
                       const float* opacities, Splat* out) {
    if (v.ortho)
        project_block<true>(v, means, quats, scales, opacities, out);
    else
        project_block<false>(v, means, quats, scales, opacities, out);
}

OMEGA_VERSIONS(void, project_range,
               (const View& v, const float* means, const float* quats, const float* scales, const float* opacities,
                Splat* out),
               (v, means, quats, scales, opacities, out))

// The last, incomplete block, filled up: all Gaussians go through the same instructions, so that what
// becomes of one does not depend on its place in the list.
void project_rest(const View& v, const float* means, const float* quats, const float* scales, const float* opacities,
                  int count, Splat* out) {
    float padded_means[3 * kBlock] = {}, padded_quats[4 * kBlock] = {}, padded_scales[3 * kBlock] = {};
    float padded_opacities[kBlock] = {};
    Splat splats[kBlock];
    std::copy_n(means, 3 * count, padded_means);
    std::copy_n(quats, 4 * count, padded_quats);
    std::copy_n(scales, 3 * count, padded_scales);
    std::copy_n(opacities, count, padded_opacities);
    project_range(v, padded_means, padded_quats, padded_scales, padded_opacities, splats);
    std::copy_n(splats, count, out);
}

// Gradients of one Gaussian from the gradients of its splat (x, y, a, b, c, depth).
template <bool kOrtho>
OMEGA_INLINE void project_backward_one(const View& v, const float* mean, const float* quat, const float* s,
                                       const Splat& g, float* g_mean, float* g_quat, float* g_scale) {
    Chain k;
    run_chain<kOrtho>(v, mean, quat, s, k);
    // conic X = cov^-1, so dL/dcov = -X G X with the symmetric G of (a, b, c); b stands for both sides.
    const float inverse = 1.0f / (k.A * k.D - k.B * k.B);
    const float a = k.D * inverse, b = -k.B * inverse, c = k.A * inverse, half_b = 0.5f * g.b;
    const float p00 = a * g.a + b * half_b, p01 = a * half_b + b * g.c;
    const float p10 = b * g.a + c * half_b, p11 = b * half_b + c * g.c;
    const float c00 = -(p00 * a + p01 * b), c01 = -(p00 * b + p01 * c), c11 = -(p10 * b + p11 * c);
    float g_Q[6], g_RS[9], g_U[6];
    for (int i = 0; i < 3; i++) {
        g_Q[i] = 2 * (c00 * k.Q[i] + c01 * k.Q[3 + i]);
        g_Q[3 + i] = 2 * (c01 * k.Q[i] + c11 * k.Q[3 + i]);
    }
    for (int r = 0; r < 3; r++) {
        g_U[r] = g_U[3 + r] = 0.0f;
        for (int i = 0; i < 3; i++) {
            g_RS[3 * r + i] = k.U[r] * g_Q[i] + k.U[3 + r] * g_Q[3 + i];
            g_U[r] += g_Q[i] * k.R[3 * r + i] * s[i];
            g_U[3 + r] += g_Q[3 + i] * k.R[3 * r + i] * s[i];
        }
    }
    float R[9];  // gradient of the rotation
    for (int i = 0; i < 3; i++) {
        g_scale[i] = g_RS[i] * k.R[i] + g_RS[3 + i] * k.R[3 + i] + g_RS[6 + i] * k.R[6 + i];
        for (int r = 0; r < 3; r++) R[3 * r + i] = g_RS[3 * r + i] * s[i];
    }
    const float w = k.q[0], x = k.q[1], y = k.q[2], z = k.q[3];
    const float unit[4] = {
        2 * (x * (R[7] - R[5]) + y * (R[2] - R[6]) + z * (R[3] - R[1])),
        2 * (y * (R[1] + R[3]) + z * (R[2] + R[6]) + w * (R[7] - R[5]) - 2 * x * (R[4] + R[8])),
        2 * (x * (R[1] + R[3]) + z * (R[5] + R[7]) + w * (R[2] - R[6]) - 2 * y * (R[0] + R[8])),
        2 * (x * (R[2] + R[6]) + y * (R[5] + R[7]) + w * (R[3] - R[1]) - 2 * z * (R[0] + R[4])),
    };
    const float along = w * unit[0] + x * unit[1] + y * unit[2] + z * unit[3];
    for (int i = 0; i < 4; i++) g_quat[i] = (unit[i] - k.q[i] * along) * k.inverse_norm;

    float g_x, g_y, g_z = g.depth;
    if (kOrtho) {
        g_x = v.fx * g.x, g_y = v.fy * g.y;
    } else {
        float J00 = 0, J02 = 0, J11 = 0, J12 = 0;  // gradient of the Jacobian = g_U times R^T
        for (int i = 0; i < 3; i++) {
            J00 += g_U[i] * v.R[i], J02 += g_U[i] * v.R[6 + i];
            J11 += g_U[3 + i] * v.R[3 + i], J12 += g_U[3 + i] * v.R[6 + i];
        }
        const float iz = k.inverse_z, iz2 = iz * iz;
        const float u = k.x * iz, w_ = k.y * iz;
        const bool free_u = u > v.low_u && u < v.high_u, free_v = w_ > v.low_v && w_ < v.high_v;
        const float g_u = v.fx * g.x + (free_u ? -v.fx * iz * J02 : 0.0f);
        const float g_v = v.fy * g.y + (free_v ? -v.fy * iz * J12 : 0.0f);
        g_x = g_u * iz, g_y = g_v * iz;
        g_z += -g_u * u * iz - g_v * w_ * iz - v.fx * iz2 * J00 - v.fy * iz2 * J11 + v.fx * k.u * iz2 * J02 +
               v.fy * k.v * iz2 * J12;
    }
    for (int i = 0; i < 3; i++) g_mean[i] = v.R[i] * g_x + v.R[3 + i] * g_y + v.R[6 + i] * g_z;
}

template <int>
OMEGA_INLINE void project_backward_range_of(const View& v, const float* means, const float* quats, const float* scales,
                            const Splat* splats, const Splat* grads, int64_t begin, int64_t end, float* g_means,
                            float* g_quats, float* g_scales) {
    for (int64_t i = begin; i < end; i++) {
        if (!splats[i].seen()) {
            std::fill_n(g_means + 3 * i, 3, 0.0f);
            std::fill_n(g_quats + 4 * i, 4, 0.0f);
            std::fill_n(g_scales + 3 * i, 3, 0.0f);
        } else if (v.ortho) {
            project_backward_one<true>(v, means + 3 * i, quats + 4 * i, scales + 3 * i, grads[i], g_means + 3 * i,
                                       g_quats + 4 * i, g_scales + 3 * i);
        } else {
            project_backward_one<false>(v, means + 3 * i, quats + 4 * i, scales + 3 * i, grads[i], g_means + 3 * i,
                                        g_quats + 4 * i, g_scales + 3 * i);
        }
    }
}

OMEGA_VERSIONS(void, project_backward_range,
               (const View& v, const float* means, const float* quats, const float* scales, const Splat* splats,
                const Splat* grads, int64_t begin, int64_t end, float* g_means, float* g_quats, float* g_scales),
               (v, means, quats, scales, splats, grads, begin, end, g_means, g_quats, g_scales))

}  // namespace

// means [N, 3], quats [N, 4], scales [N, 3], opacities [N] -> splats [N, 8] (all zero: not seen).
OMEGA_EXPORT void omega_gaussian_project(int64_t N, const float* means, const float* quats, const float* scales,
                                         const float* opacities, const float* viewmat, const float* K,
                                         int64_t height, int64_t width, int ortho, float near_plane, float blur,
                                         int threads, float* splats) {
    const View view = make_view(viewmat, K, height, width, ortho, near_plane, blur);
    Splat* out = reinterpret_cast<Splat*>(splats);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < N; i += kBlock) {
        if (N - i >= kBlock)
            project_range(view, means + 3 * i, quats + 4 * i, scales + 3 * i, opacities + i, out + i);
        else
            project_rest(view, means + 3 * i, quats + 4 * i, scales + 3 * i, opacities + i, (int)(N - i), out + i);
    }
}

OMEGA_EXPORT void omega_gaussian_project_backward(int64_t N, const float* means, const float* quats,
                                                  const float* scales, const float* viewmat, const float* K,
                                                  int64_t height, int64_t width, int ortho, float near_plane,
                                                  float blur, int threads, const float* splats,
                                                  const float* grad_splats, float* grad_means, float* grad_quats,
                                                  float* grad_scales) {
    const View view = make_view(viewmat, K, height, width, ortho, near_plane, blur);
    const Splat* seen = reinterpret_cast<const Splat*>(splats);
    const Splat* grads = reinterpret_cast<const Splat*>(grad_splats);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < N; i += 1024)
        project_backward_range(view, means, quats, scales, seen, grads, i, std::min(N, i + 1024), grad_means,
                               grad_quats, grad_scales);
}
