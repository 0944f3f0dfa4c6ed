// Mesh z-buffer on CUDA: the nearest face at every pixel centre. Meaning: kernels/reference.py mesh_raster.
//
// draw: a block sets up 128 faces in shared memory and shares out the pixels of all their boxes evenly
// among its threads (a prefix sum over the boxes, then a binary search per pixel), so a face as large as
// the image does not wait for one thread. Each covered pixel goes into a 64-bit buffer, depth above face
// number, with one atomicMin: the nearest face wins, among equals the lower number, in any order of
// arrival. resolve: barycentrics of the winners only.

#include "cuda_common.cuh"

namespace {

constexpr int kFaces = 128;  // faces, and threads, of a block
constexpr float kNear = 0.01f;
constexpr unsigned long long kEmpty = ~0ull;

// See mesh_raster_cpu.cpp: measured from the lower-numbered vertex, two faces that share an edge compute
// exactly opposite numbers there.
struct Edge {
    float x0, y0, dx, dy;
};

struct Face {
    Edge edge[3];
    float inverse_w[3];
    float z_over_w[3];
    int x_first, y_first, width, count;  // pixels of the box; count 0: not drawn
};

__device__ float edge_value(const Edge& e, float x, float y) { return e.dx * (y - e.y0) - e.dy * (x - e.x0); }

__device__ void set_up_face(const float4* clip, int64_t V, const int64_t* corner, int H, int W, Face& face) {
    face.count = 0;
    float x[3], y[3];
    for (int k = 0; k < 3; k++) {
        if (corner[k] < 0 || corner[k] >= V) return;
        const float4 p = clip[corner[k]];
        if (!(isfinite(p.x) && isfinite(p.y) && isfinite(p.z) && isfinite(p.w)) || p.z <= kNear) return;
        x[k] = p.x / p.w;
        y[k] = p.y / p.w;
        face.inverse_w[k] = 1.0f / p.w;
        face.z_over_w[k] = p.z / p.w;
        if (!isfinite(x[k]) || !isfinite(y[k])) return;
    }
    const float area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0]);
    if (!(fabsf(area) > 1e-12f)) return;
    for (int k = 0; k < 3; k++) {
        const int a = (k + 1) % 3, b = (k + 2) % 3;
        const bool flipped = corner[a] > corner[b];
        const float x0 = flipped ? x[b] : x[a], y0 = flipped ? y[b] : y[a];
        const float x1 = flipped ? x[a] : x[b], y1 = flipped ? y[a] : y[b];
        const float sign = flipped == (area > 0) ? -1.0f : 1.0f;
        face.edge[k] = {x0, y0, sign * (x1 - x0), sign * (y1 - y0)};
    }
    const float low_x = fminf(x[0], fminf(x[1], x[2])), high_x = fmaxf(x[0], fmaxf(x[1], x[2]));
    const float low_y = fminf(y[0], fminf(y[1], y[2])), high_y = fmaxf(y[0], fmaxf(y[1], y[2]));
    const int x_first = (int)ceilf(fminf(fmaxf(low_x - 0.5f, 0.0f), (float)W));
    const int x_last = (int)floorf(fminf(fmaxf(high_x - 0.5f, -1.0f), (float)(W - 1)));
    const int y_first = (int)ceilf(fminf(fmaxf(low_y - 0.5f, 0.0f), (float)H));
    const int y_last = (int)floorf(fminf(fmaxf(high_y - 0.5f, -1.0f), (float)(H - 1)));
    if (x_first > x_last || y_first > y_last) return;
    face.x_first = x_first;
    face.y_first = y_first;
    face.width = x_last - x_first + 1;
    face.count = face.width * (y_last - y_first + 1);
}

__global__ void draw(const float4* clip, int64_t V, const int64_t* faces, int64_t F, int H, int W,
                     unsigned long long* buffer) {
    __shared__ Face prepared[kFaces];
    __shared__ int64_t ends[kFaces];  // pixels of faces 0 .. k
    const int64_t view = blockIdx.y, first = (int64_t)blockIdx.x * kFaces, own = first + threadIdx.x;
    clip += view * V;
    buffer += view * H * W;
    Face& mine = prepared[threadIdx.x];
    if (own < F)
        set_up_face(clip, V, faces + 3 * own, H, W, mine);
    else
        mine.count = 0;
    ends[threadIdx.x] = mine.count;
    __syncthreads();
    for (int reach = 1; reach < kFaces; reach *= 2) {
        const int64_t before = (int)threadIdx.x >= reach ? ends[threadIdx.x - reach] : 0;
        __syncthreads();
        ends[threadIdx.x] += before;
        __syncthreads();
    }
    const int64_t total = ends[kFaces - 1];
    for (int64_t item = threadIdx.x; item < total; item += kFaces) {
        int low = 0;  // the first face whose pixels end beyond this item
        for (int reach = kFaces / 2; reach > 0; reach /= 2)
            if (ends[low + reach - 1] <= item) low += reach;
        const Face& f = prepared[low];
        const int local = (int)(item - (ends[low] - f.count));
        const int row = f.y_first + local / f.width, column = f.x_first + local % f.width;
        const float x = column + 0.5f, y = row + 0.5f;
        const float e0 = edge_value(f.edge[0], x, y), e1 = edge_value(f.edge[1], x, y);
        const float e2 = edge_value(f.edge[2], x, y);
        if (!(fminf(e0, fminf(e1, e2)) >= 0.0f)) continue;
        const float below = e0 * f.inverse_w[0] + e1 * f.inverse_w[1] + e2 * f.inverse_w[2];
        if (!(below > 0.0f)) continue;
        const float z = (e0 * f.z_over_w[0] + e1 * f.z_over_w[1] + e2 * f.z_over_w[2]) / below;
        const unsigned long long key = (unsigned long long)__float_as_uint(z) << 32 | (unsigned)(first + low);
        unsigned long long* pixel = buffer + (int64_t)row * W + column;
        if (key < *pixel) atomicMin(pixel, key);  // a stale read only costs a needless atomic
    }
}

__global__ void resolve(const float4* clip, int64_t V, const int64_t* faces, int H, int W,
                        const unsigned long long* buffer, int64_t* face_index, float* barycentric, float* depth) {
    const int64_t view = blockIdx.y, inside = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (inside >= (int64_t)H * W) return;
    const int64_t pixel = view * H * W + inside;
    const unsigned long long key = buffer[pixel];
    float b[3] = {0.0f, 0.0f, 0.0f};
    if (key == kEmpty) {
        face_index[pixel] = -1;
        depth[pixel] = __int_as_float(0x7f800000);
    } else {
        const int64_t id = (int64_t)(key & 0xffffffffu);
        Face f;
        set_up_face(clip + view * V, V, faces + 3 * id, H, W, f);
        const float x = inside % W + 0.5f, y = inside / W + 0.5f;
        float total = 0.0f;
        for (int k = 0; k < 3; k++) total += b[k] = edge_value(f.edge[k], x, y) * f.inverse_w[k];
        for (int k = 0; k < 3; k++) b[k] /= total;
        face_index[pixel] = id;
        depth[pixel] = __uint_as_float((unsigned)(key >> 32));
    }
    for (int k = 0; k < 3; k++) barycentric[3 * pixel + k] = b[k];
}

}  // namespace

// clip_vertices [B, V, 4] (16-byte aligned), faces [F, 3] -> face_index [B, H, W], barycentric [B, H, W, 3],
// depth [B, H, W]; buffer [B, H, W] of 8 bytes is scratch. A face that names a vertex that does not exist
// is not drawn.
OMEGA_EXPORT int omega_cuda_mesh_raster(int64_t B, const float* clip_vertices, int64_t V, const int64_t* faces,
                                        int64_t F, int64_t height, int64_t width, void* buffer,
                                        int64_t* face_index, float* barycentric, float* depth, void* stream) {
    const int H = (int)height, W = (int)width;
    const auto queue = (cudaStream_t)stream;
    auto* keys = (unsigned long long*)buffer;
    const auto* clip = (const float4*)clip_vertices;
    cudaMemsetAsync(keys, 0xff, sizeof(*keys) * B * H * W, queue);
    if (F > 0 && V > 0) draw<<<dim3(omega::blocks_for(F, kFaces), B), kFaces, 0, queue>>>(clip, V, faces, F, H, W, keys);
    resolve<<<dim3(omega::blocks_for((int64_t)H * W, 256), B), 256, 0, queue>>>(clip, V, faces, H, W, keys, face_index,
                                                                                barycentric, depth);
    return omega::launched();
}
