// Front-to-back blending of splats, tile by tile, and its gradients. Meaning:
// kernels/gaussian_reference.py blend.
//
// Sixteen neighbouring pixels are one value (wide.h). Forward: each row of a tile walks its own list of
// splats with the transmittance in a register, leaves the weights in a small buffer, and the colours
// are then a little matrix product of that buffer, whatever their number. Backward: splat by splat in
// the same order; what lies behind a splat is the finished image minus what has been laid so far.
//
// Tiles are independent and each splat's gradient is summed over its tiles in a fixed order, so the
// results do not depend on the number of threads.

#include <memory>
#include <numeric>
#include <vector>

#include "gaussian_splat.h"
#include "huge.h"
#include "wide.h"

namespace {

using omega::kTile;
using omega::Splat;

template <int L>
using Row = omega::Wide<kTile, L>;

constexpr float kMinAlpha = 1.0f / 255.0f, kMaxAlpha = 0.999f, kMinTransmittance = 1e-4f;
constexpr float kLog2E = 1.44269504f;
constexpr int kBatch = 64;  // splats of a row weighted before their colours are added

template <int L>
OMEGA_INLINE Row<L> load_row(const float* from) {
    return omega::load<kTile, L>(from);
}

template <int L>
OMEGA_INLINE Row<L> filled(float value) {
    return omega::wide<kTile, L>(value);
}

// A splat as the inner loops want it: exponents in powers of two, measured from the tile's corner.
struct Packed {
    float x, y, half_a, b, half_c, opacity;
    int32_t index, row_first, row_last;
};

OMEGA_INLINE bool all_finite(const float* values, int count) {
    int finite = 1;
    for (int k = 0; k < count; k++) finite &= omega::is_finite(values[k]);
    return finite;
}

// A colour that is not finite leaves no row to draw on: a weight of 0 would not keep a NaN out of the sums.
OMEGA_INLINE Packed pack(const Splat& s, float opacity, const float* color, int C, int32_t index, int tile_x,
                         int tile_y) {
    Packed p;
    p.x = s.x - (float)(tile_x * kTile), p.y = s.y - (float)(tile_y * kTile);
    p.half_a = -0.5f * kLog2E * s.a, p.b = -kLog2E * s.b, p.half_c = -0.5f * kLog2E * s.c;
    p.opacity = opacity, p.index = index;
    p.row_first = (int)std::ceil(omega::clamp(p.y - s.extent_y - 0.5f, 0.0f, (float)kTile));
    p.row_last = (int)std::floor(omega::clamp(p.y + s.extent_y - 0.5f, -1.0f, (float)(kTile - 1)));
    if (!all_finite(color, C)) p.row_first = kTile, p.row_last = -1;
    return p;
}

// Alpha of one splat over one row: 0 below the cut, at most kMaxAlpha. dx: pixel centres minus p.x.
template <int L>
OMEGA_INLINE Row<L> alpha_row(const Packed& p, int row, const Row<L>& dx) {
    const float dy = row + 0.5f - p.y;
    const Row<L> exponent = dx * (dx * p.half_a + p.b * dy) + p.half_c * dy * dy;
    const Row<L> alpha = smaller(exp2_of_negative(exponent) * p.opacity, filled<L>(kMaxAlpha));
    return if_less(alpha, filled<L>(kMinAlpha), filled<L>(0.0f), alpha);
}

// Blend weight of this splat; T is the transmittance, negative once a pixel is finished: the splat
// that would take it to kMinTransmittance or below is not laid, and nothing after it.
template <int L>
OMEGA_INLINE Row<L> lay(const Row<L>& alpha, Row<L>& T) {
    const Row<L> next = T - T * alpha, stop = filled<L>(kMinTransmittance);
    const Row<L> weight = if_less(stop, next, alpha * T, filled<L>(0.0f));
    T = if_less(stop, next, next, smaller(T, 0.0f - T));
    return weight;
}

// Add weights times colours of `count` splats to kChannels rows of sums.
template <int L, int kChannels>
OMEGA_INLINE void add_colors(const float* weights, const float* const* colors, int count, int first, float* sums) {
    Row<L> sum[kChannels];
    for (int c = 0; c < kChannels; c++) sum[c] = load_row<L>(sums + c * kTile);
    for (int k = 0; k < count; k++) {
        const Row<L> weight = load_row<L>(weights + k * kTile);
        const float* color = colors[k] + first;
        for (int c = 0; c < kChannels; c++) sum[c] = sum[c] + weight * color[c];
    }
    for (int c = 0; c < kChannels; c++) omega::store<kTile, L>(sums + c * kTile, sum[c]);
}

template <int L>
OMEGA_INLINE void add_all_colors(const float* weights, const float* const* colors, int count, int C, float* sums) {
    int c = 0;
    for (; c + 8 <= C; c += 8) add_colors<L, 8>(weights, colors, count, c, sums + c * kTile);
    for (; c + 3 <= C; c += 3) add_colors<L, 3>(weights, colors, count, c, sums + c * kTile);
    for (; c < C; c++) add_colors<L, 1>(weights, colors, count, c, sums + c * kTile);
}

struct Workspace {
    std::vector<Packed> packed;
    std::vector<int32_t> row_list[kTile];
    std::vector<float> sums;     // [C, kTile]
    std::vector<float> weights;  // [kBatch, kTile]
    const float* colors[kBatch];
};

struct Image {
    int H, W, C, columns, rows;

    Image(int64_t height, int64_t width, int64_t channels)
        : H((int)height), W((int)width), C((int)channels), columns((W + kTile - 1) / kTile),
          rows((H + kTile - 1) / kTile) {}
};

template <int L>
OMEGA_INLINE void blend_tile_of(const Image& im, int tile, const Splat* splats, const float* opacities,
                                const float* colors, const int32_t* entries, int64_t count, Workspace& ws,
                                float* image, float* alpha) {
    const int tile_x = tile % im.columns, tile_y = tile / im.columns;
    const int lanes = std::min(kTile, im.W - tile_x * kTile), tile_rows = std::min(kTile, im.H - tile_y * kTile);
    const int64_t plane = (int64_t)im.H * im.W;
    ws.packed.resize(count);
    for (auto& list : ws.row_list) list.clear();
    for (int64_t k = 0; k < count; k++) {
        const int32_t index = entries[k];
        const float* color = colors + (int64_t)im.C * index;
        const Packed p = pack(splats[index], opacities[index], color, im.C, index, tile_x, tile_y);
        ws.packed[k] = p;
        for (int row = p.row_first; row <= p.row_last; row++) ws.row_list[row].push_back((int32_t)k);
    }
    const Row<L> centres = omega::ramp<kTile, L>(0.5f);
    for (int row = 0; row < tile_rows; row++) {
        Row<L> T = filled<L>(1.0f);
        std::fill(ws.sums.begin(), ws.sums.end(), 0.0f);
        const std::vector<int32_t>& list = ws.row_list[row];
        for (size_t start = 0; start < list.size(); start += kBatch) {
            const int batch = (int)std::min<size_t>(kBatch, list.size() - start);
            for (int k = 0; k < batch; k++) {
                const Packed& p = ws.packed[list[start + k]];
                const Row<L> weight = lay<L>(alpha_row<L>(p, row, centres - p.x), T);
                omega::store<kTile, L>(ws.weights.data() + k * kTile, weight);
                ws.colors[k] = colors + (int64_t)im.C * p.index;
            }
            add_all_colors<L>(ws.weights.data(), ws.colors, batch, im.C, ws.sums.data());
            if (largest(T) <= 0.0f) break;
        }
        const int64_t pixel = (int64_t)(tile_y * kTile + row) * im.W + tile_x * kTile;
        for (int c = 0; c < im.C; c++)
            omega::store_part<kTile, L>(image + c * plane + pixel, load_row<L>(ws.sums.data() + c * kTile), lanes);
        omega::store_part<kTile, L>(alpha + pixel, 1.0f - larger(T, 0.0f - T), lanes);
    }
}

OMEGA_VERSIONS(void, blend_tile,
               (const Image& im, int tile, const Splat* splats, const float* opacities, const float* colors,
                const int32_t* entries, int64_t count, Workspace& ws, float* image, float* alpha),
               (im, tile, splats, opacities, colors, entries, count, ws, image, alpha))

// Gradient of one splat within one tile: six numbers (x, y, a, b, c, opacity), then its C colours.
constexpr int kShape = 6;

struct BackwardWorkspace {
    std::vector<float> grad;  // [kTile rows, C, kTile] of the image
    float T[kTile][kTile], behind[kTile][kTile], tail[kTile][kTile];
    float weights[kTile][kTile];  // of one splat

    explicit BackwardWorkspace(int C) : grad((size_t)C * kTile * kTile) {}
};

struct BackwardInputs {
    const Splat* splats;
    const float *opacities, *colors, *image, *alpha, *grad_image, *grad_alpha;
};

// Gradients of kChannels colours of one splat: its weights times the image's gradient, over its rows.
template <int L, int kChannels>
OMEGA_INLINE void color_grads(const BackwardWorkspace& ws, int row_first, int row_last, int C, int first, float* out) {
    Row<L> total[kChannels];
    for (int c = 0; c < kChannels; c++) total[c] = filled<L>(0.0f);
    for (int row = row_first; row <= row_last; row++) {
        const Row<L> weight = load_row<L>(ws.weights[row]);
        const float* g = ws.grad.data() + ((int64_t)row * C + first) * kTile;
        for (int c = 0; c < kChannels; c++) total[c] = total[c] + weight * load_row<L>(g + c * kTile);
    }
    for (int c = 0; c < kChannels; c++) out[c] = sum(total[c]);
}

template <int L>
OMEGA_INLINE void start_backward(const Image& im, int tile_x, int tile_y, int lanes, int tile_rows,
                                 const BackwardInputs& in, BackwardWorkspace& ws) {
    const int64_t plane = (int64_t)im.H * im.W;
    for (int row = 0; row < tile_rows; row++) {
        const int64_t pixel = (int64_t)(tile_y * kTile + row) * im.W + tile_x * kTile;
        Row<L> total = filled<L>(0.0f);
        for (int c = 0; c < im.C; c++) {
            const Row<L> g = omega::load_part<kTile, L>(in.grad_image + c * plane + pixel, lanes);
            omega::store<kTile, L>(ws.grad.data() + ((int64_t)row * im.C + c) * kTile, g);
            total = total + g * omega::load_part<kTile, L>(in.image + c * plane + pixel, lanes);
        }
        const Row<L> left = 1.0f - omega::load_part<kTile, L>(in.alpha + pixel, lanes);
        const Row<L> tail = left * omega::load_part<kTile, L>(in.grad_alpha + pixel, lanes);
        omega::store<kTile, L>(ws.behind[row], total);
        omega::store<kTile, L>(ws.tail[row], tail);
        omega::store<kTile, L>(ws.T[row], filled<L>(1.0f));
    }
}

template <int L>
OMEGA_INLINE void blend_tile_backward_of(const Image& im, int tile, const BackwardInputs& in, const int32_t* entries,
                                         const int32_t* slots, int64_t count, BackwardWorkspace& ws,
                                         float* slot_grads) {
    const int tile_x = tile % im.columns, tile_y = tile / im.columns, C = im.C, width = kShape + C;
    const int lanes = std::min(kTile, im.W - tile_x * kTile), tile_rows = std::min(kTile, im.H - tile_y * kTile);
    start_backward<L>(im, tile_x, tile_y, lanes, tile_rows, in, ws);
    const Row<L> centres = omega::ramp<kTile, L>(0.5f), none = filled<L>(0.0f);
    bool finished = false;
    for (int64_t k = 0; k < count; k++) {
        float* out = slot_grads + (int64_t)width * slots[k];
        if (finished) {
            std::fill_n(out, width, 0.0f);
            continue;
        }
        const Splat& s = in.splats[entries[k]];
        const float* color = in.colors + (int64_t)C * entries[k];
        const Packed p = pack(s, in.opacities[entries[k]], color, C, entries[k], tile_x, tile_y);
        const int row_last = std::min(p.row_last, tile_rows - 1);
        const Row<L> dx = centres - p.x;
        Row<L> m = none, mx = none, my = none, mxx = none, mxy = none, myy = none;  // moments of dL/d exponent
        for (int row = p.row_first; row <= row_last; row++) {
            const Row<L> a = alpha_row<L>(p, row, dx), before = load_row<L>(ws.T[row]);
            Row<L> T = before;
            const Row<L> weight = lay<L>(a, T);
            omega::store<kTile, L>(ws.T[row], T);
            omega::store<kTile, L>(ws.weights[row], weight);
            const float* g = ws.grad.data() + (int64_t)row * C * kTile;
            Row<L> dot = none;
            for (int c = 0; c < C; c++) dot = dot + load_row<L>(g + c * kTile) * color[c];
            const Row<L> behind = load_row<L>(ws.behind[row]) - weight * dot;
            omega::store<kTile, L>(ws.behind[row], behind);
            const Row<L> d_alpha = before * dot - (behind - load_row<L>(ws.tail[row])) / (1.0f - a);
            // nothing where the splat was not laid, nor where its alpha was clamped
            const Row<L> d = if_less(none, weight, d_alpha, none) * if_less(a, filled<L>(kMaxAlpha), a, none);
            const float dy = row + 0.5f - p.y;
            const Row<L> d_dx = d * dx;
            m = m + d, mx = mx + d_dx, mxx = mxx + d_dx * dx;
            my = my + d * dy, mxy = mxy + d_dx * dy, myy = myy + d * (dy * dy);
        }
        const float sum_x = sum(mx), sum_y = sum(my);
        out[0] = s.a * sum_x + s.b * sum_y;
        out[1] = s.c * sum_y + s.b * sum_x;
        out[2] = -0.5f * sum(mxx);
        out[3] = -sum(mxy);
        out[4] = -0.5f * sum(myy);
        out[5] = sum(m) / p.opacity;
        int c = 0;
        for (; c + 3 <= C; c += 3) color_grads<L, 3>(ws, p.row_first, row_last, C, c, out + kShape + c);
        for (; c < C; c++) color_grads<L, 1>(ws, p.row_first, row_last, C, c, out + kShape + c);
        if (k % 32 == 31) {
            Row<L> most = load_row<L>(ws.T[0]);
            for (int row = 1; row < tile_rows; row++) most = larger(load_row<L>(ws.T[row]), most);
            finished = largest(most) <= 0.0f;
        }
    }
}

OMEGA_VERSIONS(void, blend_tile_backward,
               (const Image& im, int tile, const BackwardInputs& in, const int32_t* entries, const int32_t* slots,
                int64_t count, BackwardWorkspace& ws, float* slot_grads),
               (im, tile, in, entries, slots, count, ws, slot_grads))

// Sum each splat's slots, which lie side by side in the order of the tiles.
void gather_slots(int64_t begin, int64_t end, int C, const int64_t* first, const float* slot_grads, Splat* grad_splats,
                  float* grad_opacities, float* grad_colors) {
    const int width = kShape + C;
    for (int64_t i = begin; i < end; i++) {
        float shape[kShape] = {};
        float* color = grad_colors + i * C;
        std::fill_n(color, C, 0.0f);
        for (int64_t slot = first[i]; slot < first[i + 1]; slot++) {
            const float* from = slot_grads + slot * width;
            for (int k = 0; k < kShape; k++) shape[k] += from[k];
OMEGA_INDEPENDENT
            for (int c = 0; c < C; c++) color[c] += from[kShape + c];
        }
        grad_splats[i] = {shape[0], shape[1], shape[2], shape[3], shape[4], 0.0f, 0.0f, 0.0f};
        grad_opacities[i] = shape[5];
    }
}

}  // namespace

// splats [N, 8], opacities [N], colors [N, C], tile lists -> image [C, H, W], alpha [H, W].
OMEGA_EXPORT void omega_gaussian_blend(int64_t C, const float* splats, const float* opacities, const float* colors,
                                       const int64_t* starts, const int32_t* entries, int64_t height, int64_t width,
                                       int threads, float* image, float* alpha) {
    const Image im(height, width, C);
    const Splat* s = reinterpret_cast<const Splat*>(splats);
    omega::prefer_huge_pages(image, C * height * width * (int64_t)sizeof(float));
#pragma omp parallel num_threads(threads)
    {
        Workspace ws;
        ws.sums.resize(C * kTile), ws.weights.resize(kBatch * kTile);
#pragma omp for schedule(dynamic, 1)
        for (int tile = 0; tile < im.columns * im.rows; tile++)
            blend_tile(im, tile, s, opacities, colors, entries + starts[tile], starts[tile + 1] - starts[tile], ws,
                       image, alpha);
    }
}

// Gradients of the above from grad_image [C, H, W] and grad_alpha [H, W]; outputs are overwritten.
OMEGA_EXPORT void omega_gaussian_blend_backward(int64_t N, int64_t C, const float* splats, const float* opacities,
                                                const float* colors, const int64_t* starts, const int32_t* entries,
                                                const float* image, const float* alpha, const float* grad_image,
                                                const float* grad_alpha, int64_t height, int64_t width, int threads,
                                                float* grad_splats, float* grad_opacities, float* grad_colors) {
    const Image im(height, width, C);
    const BackwardInputs in = {
        reinterpret_cast<const Splat*>(splats), opacities, colors, image, alpha, grad_image, grad_alpha};
    const int tiles = im.columns * im.rows;
    const int64_t pairs = starts[tiles];
    // One slot for each (tile, splat) pair, side by side for each splat.
    std::vector<int64_t> first(N + 1, 0);
    for (int64_t k = 0; k < pairs; k++) first[entries[k] + 1]++;
    std::partial_sum(first.begin(), first.end(), first.begin());
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    std::vector<int32_t> slots(pairs);
    for (int64_t k = 0; k < pairs; k++) slots[k] = (int32_t)next[entries[k]]++;
    std::unique_ptr<float[]> slot_grads(new float[pairs * (kShape + C)]);
    omega::prefer_huge_pages(slot_grads.get(), pairs * (kShape + C) * (int64_t)sizeof(float));
    omega::prefer_huge_pages(grad_colors, N * C * (int64_t)sizeof(float));
#pragma omp parallel num_threads(threads)
    {
        BackwardWorkspace ws((int)C);
#pragma omp for schedule(dynamic, 1)
        for (int tile = 0; tile < tiles; tile++)
            blend_tile_backward(im, tile, in, entries + starts[tile], slots.data() + starts[tile],
                                starts[tile + 1] - starts[tile], ws, slot_grads.get());
#pragma omp for schedule(static)
        for (int64_t i = 0; i < N; i += 1024)
            gather_slots(i, std::min(N, i + 1024), (int)C, first.data(), slot_grads.get(),
                         reinterpret_cast<Splat*>(grad_splats), grad_opacities, grad_colors);
    }
}
