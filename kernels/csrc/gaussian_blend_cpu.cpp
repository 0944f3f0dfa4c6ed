// Front-to-back blending of splats, tile by tile, and its gradients. Meaning:
// kernels/gaussian_reference.py blend.
//
// Sixteen neighbouring pixels are one SIMD value. Forward: each row of a tile walks its own list of
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

namespace {

using omega::kTile;
using omega::Splat;

typedef float Row __attribute__((vector_size(4 * kTile)));
typedef float HalfRow __attribute__((vector_size(2 * kTile)));
typedef float QuarterRow __attribute__((vector_size(kTile)));
typedef int32_t RowInts __attribute__((vector_size(4 * kTile)));

constexpr float kMinAlpha = 1.0f / 255.0f, kMaxAlpha = 0.999f, kMinTransmittance = 1e-4f;
constexpr float kLog2E = 1.44269504f;
constexpr int kBatch = 64;  // splats of a row weighted before their colours are added

OMEGA_INLINE Row load_row(const float* from) {
    Row row;
    std::memcpy(&row, from, sizeof(Row));
    return row;
}

OMEGA_INLINE void store_row(float* to, const Row& row) { std::memcpy(to, &row, sizeof(Row)); }

// The first `count` lanes from memory, the rest zero; and back.
OMEGA_INLINE Row load_part(const float* from, int count) {
    if (count == kTile) return load_row(from);
    Row row = {};
    std::memcpy(&row, from, 4 * count);
    return row;
}

OMEGA_INLINE void store_part(float* to, const Row& row, int count) {
    if (count == kTile)
        store_row(to, row);
    else
        std::memcpy(to, &row, 4 * count);
}

OMEGA_INLINE float sum_row(const Row& row) {
    HalfRow half[2];
    std::memcpy(half, &row, sizeof(Row));
    const HalfRow sum = half[0] + half[1];
    QuarterRow quarter[2];
    std::memcpy(quarter, &sum, sizeof(HalfRow));
    const QuarterRow last = quarter[0] + quarter[1];
    return (last[0] + last[2]) + (last[1] + last[3]);
}

OMEGA_INLINE float max_row(const Row& row) {
    float most = row[0];
    for (int i = 1; i < kTile; i++) most = std::max(most, row[i]);
    return most;
}

// 2^x for x <= 0 to 1e-7 relative: nearest integer into the exponent bits, a polynomial for the rest.
OMEGA_INLINE Row exp2_row(Row x) {
    x = x < -126.0f ? -126.0f + Row{} : x;
    const RowInts whole = __builtin_convertvector(x - 0.5f, RowInts);  // truncates towards zero
    const Row f = x - __builtin_convertvector(whole, Row);
    Row p = 0.00134004322f * f + 0.0096760371f;
    p = p * f + 0.0555032721f;
    p = p * f + 0.240221074f;
    p = p * f + 0.693147207f;
    p = p * f + 1.00000008f;
    const RowInts power = (whole + 127) << 23;
    Row scale;
    std::memcpy(&scale, &power, sizeof(Row));
    return p * scale;
}

// A splat as the inner loops want it: exponents in powers of two, measured from the tile's corner.
struct Packed {
    float x, y, half_a, b, half_c, opacity;
    int32_t index, row_first, row_last;
};

OMEGA_INLINE Packed pack(const Splat& s, float opacity, int32_t index, int tile_x, int tile_y) {
    Packed p;
    p.x = s.x - (float)(tile_x * kTile), p.y = s.y - (float)(tile_y * kTile);
    p.half_a = -0.5f * kLog2E * s.a, p.b = -kLog2E * s.b, p.half_c = -0.5f * kLog2E * s.c;
    p.opacity = opacity, p.index = index;
    p.row_first = (int)std::ceil(omega::clamp(p.y - s.extent_y - 0.5f, 0.0f, (float)kTile));
    p.row_last = (int)std::floor(omega::clamp(p.y + s.extent_y - 0.5f, -1.0f, (float)(kTile - 1)));
    return p;
}

OMEGA_INLINE Row pixel_ramp() {
    return Row{0.5f, 1.5f, 2.5f,  3.5f,  4.5f,  5.5f,  6.5f,  7.5f,
               8.5f, 9.5f, 10.5f, 11.5f, 12.5f, 13.5f, 14.5f, 15.5f};
}

// Alpha of one splat over one row: 0 below the cut, at most kMaxAlpha.
OMEGA_INLINE Row alpha_row(const Packed& p, int row, const Row& dx) {
    const float dy = row + 0.5f - p.y;
    const Row exponent = p.half_c * dy * dy + dx * (p.b * dy + p.half_a * dx);
    Row alpha = p.opacity * exp2_row(exponent);
    alpha = alpha > kMaxAlpha ? kMaxAlpha + Row{} : alpha;
    return alpha < kMinAlpha ? Row{} : alpha;
}

// Blend weight of this splat; T is the transmittance, negative once a pixel is finished: the splat
// that would take it to kMinTransmittance or below is not laid, and nothing after it.
OMEGA_INLINE Row lay(const Row& alpha, Row& T) {
    const Row next = T - T * alpha;
    const Row weight = next <= kMinTransmittance ? Row{} : alpha * T;
    T = next <= kMinTransmittance ? (T < 0.0f ? T : -T) : next;
    return weight;
}

// Add weights times colours of `count` splats to kChannels rows of sums.
template <int kChannels>
OMEGA_INLINE void add_colors(const float* weights, const float* const* colors, int count, int first, float* sums) {
    Row sum[kChannels];
    for (int c = 0; c < kChannels; c++) sum[c] = load_row(sums + c * kTile);
    for (int k = 0; k < count; k++) {
        const Row weight = load_row(weights + k * kTile);
        const float* color = colors[k] + first;
        for (int c = 0; c < kChannels; c++) sum[c] += weight * color[c];
    }
    for (int c = 0; c < kChannels; c++) store_row(sums + c * kTile, sum[c]);
}

OMEGA_INLINE void add_all_colors(const float* weights, const float* const* colors, int count, int C, float* sums) {
    int c = 0;
    for (; c + 8 <= C; c += 8) add_colors<8>(weights, colors, count, c, sums + c * kTile);
    for (; c + 3 <= C; c += 3) add_colors<3>(weights, colors, count, c, sums + c * kTile);
    for (; c < C; c++) add_colors<1>(weights, colors, count, c, sums + c * kTile);
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

OMEGA_CLONES
void blend_tile(const Image& im, int tile, const Splat* splats, const float* opacities, const float* colors,
                const int32_t* entries, int64_t count, Workspace& ws, float* image, float* alpha) {
    const int tile_x = tile % im.columns, tile_y = tile / im.columns;
    const int lanes = std::min(kTile, im.W - tile_x * kTile), tile_rows = std::min(kTile, im.H - tile_y * kTile);
    const int64_t plane = (int64_t)im.H * im.W;
    ws.packed.resize(count);
    for (auto& list : ws.row_list) list.clear();
    for (int64_t k = 0; k < count; k++) {
        const Packed p = pack(splats[entries[k]], opacities[entries[k]], entries[k], tile_x, tile_y);
        ws.packed[k] = p;
        for (int row = p.row_first; row <= p.row_last; row++) ws.row_list[row].push_back((int32_t)k);
    }
    const Row ramp = pixel_ramp();
    for (int row = 0; row < tile_rows; row++) {
        Row T = Row{} + 1.0f;
        std::fill(ws.sums.begin(), ws.sums.end(), 0.0f);
        const std::vector<int32_t>& list = ws.row_list[row];
        for (size_t start = 0; start < list.size(); start += kBatch) {
            const int batch = (int)std::min<size_t>(kBatch, list.size() - start);
            for (int k = 0; k < batch; k++) {
                const Packed& p = ws.packed[list[start + k]];
                const Row weight = lay(alpha_row(p, row, ramp - p.x), T);
                store_row(ws.weights.data() + k * kTile, weight);
                ws.colors[k] = colors + (int64_t)im.C * p.index;
            }
            add_all_colors(ws.weights.data(), ws.colors, batch, im.C, ws.sums.data());
            if (max_row(T) <= 0.0f) break;
        }
        const int64_t pixel = (int64_t)(tile_y * kTile + row) * im.W + tile_x * kTile;
        for (int c = 0; c < im.C; c++)
            store_part(image + c * plane + pixel, load_row(ws.sums.data() + c * kTile), lanes);
        store_part(alpha + pixel, 1.0f - (T < 0.0f ? -T : T), lanes);
    }
}

// Gradient of one splat within one tile: six numbers (x, y, a, b, c, opacity), then its C colours.
constexpr int kShape = 6;

struct BackwardWorkspace {
    std::vector<float> grad;    // [kTile rows, C, kTile] of the image
    std::vector<float> colors;  // [C, kTile] sums for one splat
    float T[kTile][kTile], behind[kTile][kTile], tail[kTile][kTile];

    explicit BackwardWorkspace(int C) : grad((size_t)C * kTile * kTile), colors((size_t)C * kTile) {}
};

struct BackwardInputs {
    const Splat* splats;
    const float *opacities, *colors, *image, *alpha, *grad_image, *grad_alpha;
};

// kFixed: the number of channels where it is known, so that their sums stay in registers; else 0.
template <int kFixed>
OMEGA_INLINE void backward_of_tile(const Image& im, int tile, const BackwardInputs& in, const int32_t* entries,
                                   const int32_t* slots, int64_t count, BackwardWorkspace& ws, float* slot_grads) {
    const int C = kFixed ? kFixed : im.C, width = kShape + C;
    const int tile_x = tile % im.columns, tile_y = tile / im.columns;
    const int lanes = std::min(kTile, im.W - tile_x * kTile), tile_rows = std::min(kTile, im.H - tile_y * kTile);
    const int64_t plane = (int64_t)im.H * im.W;
    for (int row = 0; row < tile_rows; row++) {
        const int64_t pixel = (int64_t)(tile_y * kTile + row) * im.W + tile_x * kTile;
        Row total = {};
        for (int c = 0; c < C; c++) {
            const Row g = load_part(in.grad_image + c * plane + pixel, lanes);
            store_row(ws.grad.data() + ((int64_t)row * C + c) * kTile, g);
            total += g * load_part(in.image + c * plane + pixel, lanes);
        }
        store_row(ws.behind[row], total);
        const Row left = 1.0f - load_part(in.alpha + pixel, lanes);
        store_row(ws.tail[row], load_part(in.grad_alpha + pixel, lanes) * left);
        store_row(ws.T[row], Row{} + 1.0f);
    }
    const Row ramp = pixel_ramp();
    bool finished = false;
    for (int64_t k = 0; k < count; k++) {
        float* out = slot_grads + (int64_t)width * slots[k];
        if (finished) {
            std::fill_n(out, width, 0.0f);
            continue;
        }
        const Splat& s = in.splats[entries[k]];
        const Packed p = pack(s, in.opacities[entries[k]], entries[k], tile_x, tile_y);
        const float* color = in.colors + (int64_t)C * entries[k];
        Row color_sum[kFixed ? kFixed : 1] = {};
        if (!kFixed) std::fill(ws.colors.begin(), ws.colors.end(), 0.0f);
        const Row dx = ramp - p.x;
        Row m = {}, mx = {}, my = {}, mxx = {}, mxy = {}, myy = {};  // moments of dL/d exponent
        for (int row = p.row_first; row <= std::min(p.row_last, tile_rows - 1); row++) {
            const Row a = alpha_row(p, row, dx);
            Row T = load_row(ws.T[row]);
            const Row before = T, weight = lay(a, T);
            store_row(ws.T[row], T);
            const float* g = ws.grad.data() + (int64_t)row * C * kTile;
            Row dot = {};
            for (int c = 0; c < C; c++) {
                const Row gc = load_row(g + c * kTile);
                dot += gc * color[c];
                if (kFixed)
                    color_sum[kFixed ? c : 0] += weight * gc;
                else
                    store_row(ws.colors.data() + c * kTile, load_row(ws.colors.data() + c * kTile) + weight * gc);
            }
            const Row behind = load_row(ws.behind[row]) - weight * dot;
            store_row(ws.behind[row], behind);
            const Row d_alpha = before * dot - (behind - load_row(ws.tail[row])) / (1.0f - a);
            // A product of two choices: gcc takes an `and` of two comparisons apart, lane by lane.
            const Row d = (weight > 0.0f ? d_alpha : Row{}) * (a < kMaxAlpha ? a : Row{});
            const float dy = row + 0.5f - p.y;
            const Row d_dx = d * dx;
            m += d, mx += d_dx, mxx += d_dx * dx;
            my += d * dy, mxy += d_dx * dy, myy += d * (dy * dy);
        }
        const float sum_x = sum_row(mx), sum_y = sum_row(my);
        out[0] = s.a * sum_x + s.b * sum_y;
        out[1] = s.c * sum_y + s.b * sum_x;
        out[2] = -0.5f * sum_row(mxx);
        out[3] = -sum_row(mxy);
        out[4] = -0.5f * sum_row(myy);
        out[5] = sum_row(m) / p.opacity;
        for (int c = 0; c < C; c++)
            out[kShape + c] = sum_row(kFixed ? color_sum[kFixed ? c : 0] : load_row(ws.colors.data() + c * kTile));
        if (k % 32 == 31) {
            Row most = load_row(ws.T[0]);
            for (int row = 1; row < tile_rows; row++) {
                const Row T = load_row(ws.T[row]);
                most = T > most ? T : most;
            }
            finished = max_row(most) <= 0.0f;
        }
    }
}

OMEGA_CLONES
void blend_tile_backward(const Image& im, int tile, const BackwardInputs& in, const int32_t* entries,
                         const int32_t* slots, int64_t count, BackwardWorkspace& ws, float* slot_grads) {
    if (im.C == 3)
        backward_of_tile<3>(im, tile, in, entries, slots, count, ws, slot_grads);
    else
        backward_of_tile<0>(im, tile, in, entries, slots, count, ws, slot_grads);
}

// Sum each splat's slots, which lie side by side in the order of the tiles.
OMEGA_CLONES
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
#pragma GCC ivdep
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
